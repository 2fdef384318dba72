import os
from pathlib import Path

import pytest
from hypothesis import given, settings

from homenode.drawing import printable, svg
from homenode.drawing.hierarchy import nearest_nodes
from homenode.drivers.capture import CaptureDriver
from homenode.errors import HomenodeError
from homenode.formats import host_toml
from homenode.guest import Guest, MemoryByNode
from homenode.host import Cpu, Device, Host, Node, PagePool
from pictures import (
    CAPTURES,
    EXAMPLES,
    SVG,
    assert_tidy,
    capture,
    cards,
    example,
    furnished_machines,
    host_with_tables,
    inside,
    moderate,
    parsed,
    rectangles,
)

DATA = os.environ.get("HOMENODE_DATA")
REAL = sorted(Path(DATA or "no-data").glob("topologies/hwloc-*/*"))


def words_of(picture):
    return [text.text for text in picture.iter(f"{SVG}text")]


def drawn(host, guests=()):
    return parsed(svg.topology(host, guests))


def flat_host(count, **other):
    return Host(
        cpus=[Cpu(at, at, core=0, socket=at) for at in range(count)],
        nodes=[Node(at, present_kib=1 << 24, free_kib=1 << 23) for at in range(count)],
        **other,
    )


@moderate
@given(furnished_machines())
def test_the_picture_is_one_document_that_shows_every_cpu_and_distance_and_never_changes(machine):
    host, guests = machine
    text = svg.topology(host, guests)
    assert text == svg.topology(host, guests)
    picture = parsed(text)
    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert titles[0].startswith("Host ")
    assert picture.get("role") == "img"
    assert picture.get("aria-labelledby") == "title desc"
    assert not list(picture.iter(f"{SVG}script"))
    cpus = {title.split(":")[0] for title in titles if title.startswith("cpu ")}
    assert cpus == {f"cpu {cpu}" for own in host.cpus_by_node.values() for cpu in own}
    stated = [["?" if far is None else str(far) for far in row] for row in host.distances]
    known = {far for at, row in enumerate(host.distances) for to, far in enumerate(row) if at != to}
    told = [
        [item.text for item in row.findall(f"{SVG}text")][1:]
        for row in picture.iter(f"{SVG}g")
        if row[0].text.startswith("Distances from")
    ]
    assert told == (stated if known - {None} else [])
    assert ("Unknown." in words_of(picture)) or told or len(host.nodes) == 1


@moderate
@given(furnished_machines())
def test_nothing_in_the_picture_lies_over_anything_else_or_outside_of_its_parent(machine):
    host, guests = machine
    assert_tidy(drawn(host, guests), nodes=len(host.nodes))


@settings(moderate, max_examples=8)
@given(furnished_machines(most_nodes=40))
def test_large_hosts_are_tidy_too(machine):
    host, guests = machine
    assert_tidy(drawn(host, guests), nodes=len(host.nodes))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_tidy(path):
    host = host_toml.parse(path.read_text(), source=path.name)
    assert_tidy(drawn(host), nodes=len(host.nodes))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.parent.name)
def test_every_capture_of_xen_is_tidy(path):
    seen = CaptureDriver(str(path)).snapshot()
    assert_tidy(drawn(*seen), nodes=len(seen.host.nodes))


@pytest.mark.skipif(not REAL, reason="HOMENODE_DATA names no folder with topologies")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_every_real_host_is_tidy(path):
    try:
        seen = CaptureDriver(str(path)).snapshot()
    except HomenodeError:
        pytest.skip("no description that can be read")
    assert_tidy(drawn(*seen), nodes=len(seen.host.nodes))


def test_a_host_of_512_nodes_is_tidy_and_tells_its_distances_in_words():
    far = [
        [10 if a == b else 16 if a // 4 == b // 4 else 36 for b in range(512)] for a in range(512)
    ]
    picture = drawn(flat_host(512, distances=far))
    assert len(rectangles(picture, "node")) == 512
    assert "10 (512), 16 (1536), 36 (260096)" in "".join(words_of(picture))


def test_what_is_unknown_is_drawn_as_unknown():
    pages = (PagePool(2048, 2, None),)
    nodes = [Node(0, kind=None), Node(1, kind=None, present_kib=4096, pages=pages)]
    devices = [Device("0000:01:00.0", 0), Device("0000:02:00.0", None, "storage")]
    picture = drawn(Host(cpus=[Cpu(0, 0), Cpu(1, 1)], nodes=nodes, devices=devices))
    words = words_of(picture)
    assert "? free of ?" in words
    assert words.count("kind ?") == 2
    assert "? of 2 pages of 2 MiB free" in words
    assert "1 device of unknown kind:" in " ".join(words)
    assert "Devices whose node nobody states" in words
    assert "Unknown." in words  # the distances
    assert not any("0 MiB" in each for each in words)


def test_memory_without_cpus_stands_below_the_node_that_it_is_nearest_to():
    host = host_with_tables()
    picture = drawn(host)
    places = {}
    for card in cards(picture):
        number = int(card[0].text.split(":")[0].split()[1])
        places[number] = rectangles(card, "node")[0]
    for far, near in ((4, 0), (9, 0), (5, 2)):
        assert places[far][1] > places[near][3]
        assert places[near][0] < places[far][0] < places[far][2] <= places[near][2]
    sockets = rectangles(picture, "socket")
    assert any(all(inside(places[n], box) for n in (0, 1, 4, 6, 9)) for box in sockets)
    assert any(all(inside(places[n], box) for n in (2, 3, 5, 7)) for box in sockets)
    # What both sockets have in common is in neither; what is a socket's is as wide as its nodes.
    assert not any(inside(places[8], box) and inside(places[0], box) for box in sockets)
    assert (places[6][0], places[6][2]) == (places[0][0], places[1][2])
    words = words_of(picture)
    assert "no cpus, 13 from node 0" in words
    assert "no cpus, 14 from nodes 2-3" in words
    assert "no cpus, 24 from every node" in words
    assert nearest_nodes(host)[8].distance == 24


def test_devices_are_on_their_nodes_and_those_of_the_chipset_only_counted():
    words = " ".join(words_of(drawn(host_with_tables())))
    assert "1 accelerator: 0000:17:00.0" in words
    assert "2 of the chipset" in words
    assert "0000:00:1f.0" not in words


def test_pools_of_huge_pages_are_told_and_drawn_as_part_of_the_memory():
    pages = (PagePool(2048, 1000, 400), PagePool(1 << 20, 0, 0))
    node = Node(0, present_kib=8 << 20, free_kib=2 << 20, pages=pages)
    picture = drawn(Host(cpus=[Cpu(0, 0)], nodes=[node]))
    assert "400 of 1000 pages of 2 MiB free" in words_of(picture)
    assert not any("1 GiB" in words for words in words_of(picture))
    [pool, _legend] = rectangles(picture, "pages")
    [frame, *_legend] = rectangles(picture, "frame")
    share = (pool[2] - pool[0]) / (frame[2] - frame[0])
    assert share == pytest.approx(400 * 2048 / (8 << 20), abs=0.001)


def test_latency_and_bandwidth_stand_beside_the_distances_and_say_what_nobody_tells():
    words = words_of(drawn(host_with_tables()))
    assert [each for each in words if each in ("Distances", "Latency", "Bandwidth")] == [
        "Distances", "Latency", "Bandwidth",
    ]  # fmt: skip
    assert "224" in words  # ns
    assert "95.2" in words  # GB/s
    assert words.count("nothing is told from nodes 4-9") == 2


def test_what_is_nearer_is_never_drawn_darker():
    picture = drawn(host_with_tables())
    for heading, nearest_first in (("Distances", False), ("Latency", False), ("Bandwidth", True)):
        cells = [
            (float(words.text), int(box.get("class").removeprefix("shade")))
            for row in picture.iter(f"{SVG}g")
            if row[0].text.startswith(f"{heading} from")
            for box, words in zip(
                row.findall(f"{SVG}rect"), row.findall(f"{SVG}text")[1:], strict=True
            )
            if box.get("class").startswith("shade")
        ]
        shades = [shade for _, shade in sorted(cells, key=lambda cell: cell[0])]
        assert shades == sorted(shades, reverse=nearest_first)
        assert {0, 6} <= set(shades)


def test_a_table_that_tells_nothing_apart_says_so():
    assert "all the same: nothing is told apart" in words_of(
        drawn(flat_host(4, distances=[[10] * 4] * 4))
    )
    honest = [[10 if a == b else 20 for b in range(4)] for a in range(4)]
    assert not any(
        "all the same" in words for words in words_of(drawn(flat_host(4, distances=honest)))
    )


def test_of_64_nodes_those_that_are_alike_share_a_row():
    words = words_of(drawn(example("tree-64n")))
    assert "a row stands for nodes that are alike; to itself 10" in words
    assert words.count("40") == 16 * 12


def test_a_large_table_whose_numbers_have_no_room_is_told_by_shades():
    slow = [[1000 + (7 * a + 3 * b) % 900 for b in range(64)] for a in range(64)]
    picture = drawn(flat_host(64, latency_ns=slow))
    assert_tidy(picture, nodes=64)
    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert f"to node 3: {slow[5][3]} ns" in titles
    assert any(words.startswith("shades from 10") for words in words_of(picture))


def test_names_cannot_break_the_document():
    nasty = 'a<b>&"c"\x1b[31m\x00\n\ud800[red]'
    guest = Guest(nasty, id=1, memory_by_node=MemoryByNode({0: 1024}, "x"))
    host = Host(
        cpus=[Cpu(0, 0)],
        nodes=[Node(0, present_kib=4096, free_kib=2048)],
        name=nasty,
        hypervisor=nasty,
        devices=[Device(nasty, 0, "network"), Device(nasty, None)],
        notes=[nasty],
    )
    picture = drawn(host, (guest,))
    words = words_of(picture)
    assert printable(nasty) in words
    assert f"1 network: {printable(nasty)}" in words
    assert picture.find(f"{SVG}title").text == f"Host {printable(nasty)}"


def test_pictures_on_one_page_have_names_of_their_own():
    seen = capture("n2/guests")
    pictures = [parsed(svg.topology(*seen, prefix=prefix)) for prefix in ("a-", "b-")]
    names = [
        item.get("id") for picture in pictures for item in picture.iter() if "title" in item.tag
        or "desc" in item.tag
    ]  # fmt: skip
    names = [name for name in names if name]
    assert sorted(names) == ["a-desc", "a-title", "b-desc", "b-title"]


@pytest.mark.parametrize("name", ["uneven", "opteron-6272-8n"])
def test_a_narrower_picture_is_as_tidy(name):
    host = example(name)
    picture = parsed(svg.topology(host, (), width=800))
    assert picture.get("width") == "800"
    assert_tidy(picture, nodes=len(host.nodes))
