import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from homenode.cli.main import main
from homenode.drawing import alike_nodes, memory_parts, printable, socket_groups, svg, terminal
from homenode.formats import host_toml, snapshot
from homenode.guest import Guest, MemoryByNode
from homenode.host import Cpu, Host, Node
from strategies import hosts, machines

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples" / "hosts").glob("*.toml"))
GUESTS = Path(__file__).parent / "data" / "xen-captures" / "n8" / "guests"
SVG = "{http://www.w3.org/2000/svg}"
NASTY = 'a<b>&"c"\x1b[31m\x00\n\ud800[red]'

moderate = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def example(name):
    text = (ROOT / "examples" / "hosts" / f"{name}.toml").read_text()
    return host_toml.parse(text, source=name)


def parsed(text):
    return ET.fromstring(text)  # noqa: S314 - it is our own document


def rectangles(picture, style):
    """Return (left, top, right, bottom) of the rectangles of a style."""
    found = []
    for box in picture.iter(f"{SVG}rect"):
        if box.get("class") == style:
            x, y, width, height = (float(box.get(key)) for key in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def inside(one, other):
    return other[0] <= one[0] and other[1] <= one[1] and one[2] <= other[2] and one[3] <= other[3]


@moderate
@given(machines())
def test_the_parts_of_a_nodes_memory_make_up_the_node_or_are_unknown(machine):
    host, guests = machine
    for node in host.nodes:
        parts = memory_parts(node, guests)
        if node.present_kib is None or node.free_kib is None:
            assert parts == []
        else:
            assert sum(part.kib for part in parts) == node.present_kib
            assert all(part.kib > 0 for part in parts)
            free = sum(part.kib for part in parts if part.kind in ("free", "reserved"))
            assert free <= node.free_kib


@moderate
@given(hosts())
def test_a_group_of_alike_nodes_tells_every_distance(host):
    groups = alike_nodes(host)
    assert sorted(node for group in groups for node in group) == list(host.node_map)
    for one in groups:
        for other in groups:
            told = {host.distance(row, column) for row in one for column in other if row != column}
            assert len(told) <= 1


def test_alike_nodes_are_the_sockets_of_a_regular_machine_and_none_of_an_irregular_one():
    assert [str(group) for group in alike_nodes(example("epyc-7763-2s-nps4"))] == ["0-3", "4-7"]
    assert len(alike_nodes(example("tree-64n"))) == 16
    assert len(alike_nodes(example("opteron-6272-8n"))) == 8


@moderate
@given(machines(), st.integers(60, 130))
def test_the_terminals_picture_keeps_to_its_width_and_names_every_node_and_guest(machine, width):
    host, guests = machine
    picture = terminal.topology(host, guests, colours=False, width=width)
    assert max(cell_len(line) for line in picture.splitlines()) <= width
    assert "\x1b" not in picture
    for node in host.nodes:
        assert f"node {node.id}" in picture
    for group in socket_groups(host):
        assert group.label in picture
    for guest in guests:
        lies = guest.memory_by_node
        if (lies is None and guest.node_affinity) or (lies and any(lies.kib.values())):
            assert f" {guest.name}" in picture
    coloured = terminal.topology(host, guests, colours=True, width=width)
    stripped = "\n".join(line.rstrip() for line in Text.from_ansi(coloured).plain.splitlines())
    assert stripped == picture.rstrip("\n")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_legible_at_80_columns(path):
    host = host_toml.parse(path.read_text(), source=path.name)
    lines = terminal.topology(host, (), colours=False, width=80).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert len(lines) < 2 * len(host.nodes) + 40


def test_a_large_hosts_distances_are_told_once_for_nodes_that_are_alike():
    picture = terminal.topology(example("tree-64n"), (), colours=False, width=80)
    row = next(line for line in picture.splitlines() if line.split()[:1] == ["60-63"])
    assert row.split()[1:] == ["40"] * 12 + ["20"] * 3 + ["12"]
    assert "to itself 10" in picture


def test_what_is_unknown_is_a_question_mark_and_no_zero():
    host = Host(cpus=[Cpu(0, 0), Cpu(1, 1)], nodes=[Node(0), Node(1, present_kib=4096)])
    picture = terminal.topology(host, (), colours=False, width=80)
    assert "? free of ?" in picture
    assert "? free of 4 MiB" in picture
    assert "distances: unknown" in picture
    assert "0 MiB" not in picture
    assert "? free of ?" in svg.topology(host, ())


def test_names_can_neither_steer_the_terminal_nor_break_the_document():
    guest = Guest(NASTY, id=1, memory_by_node=MemoryByNode({0: 1024}, "x"))
    host = Host(
        cpus=[Cpu(0, 0)],
        nodes=[Node(0, present_kib=4096, free_kib=2048)],
        name=NASTY,
        notes=[NASTY],
    )
    picture = terminal.topology(host, (guest,), colours=False, width=80)
    assert "\x1b" not in picture
    assert "[red]" in picture
    document = parsed(svg.topology(host, (guest,)))
    texts = [text.text for text in document.iter(f"{SVG}text")]
    assert printable(NASTY) in texts
    assert 'a<b>&"c"' in printable(NASTY)


@moderate
@given(machines())
def test_the_svg_is_one_document_that_shows_every_cpu_and_distance_and_never_changes(machine):
    host, guests = machine
    text = svg.topology(host, guests)
    assert text == svg.topology(host, guests)
    picture = parsed(text)
    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert titles[0].startswith("Host ")
    assert picture.get("role") == "img"
    assert picture.get("aria-labelledby") == "title desc"
    cpus = {title.split(":")[0] for title in titles if title.startswith("cpu ")}
    assert cpus == {f"cpu {cpu}" for own in host.cpus_by_node.values() for cpu in own}
    if len(host.nodes) > 1:
        cells = [group for group in picture.iter(f"{SVG}g") if "distances" in group[0].text]
        told = [[item.text for item in row.findall(f"{SVG}text")][1:] for row in cells]
        stated = [["?" if far is None else str(far) for far in row] for row in host.distances]
        assert told == stated


@moderate
@given(machines())
def test_nodes_in_the_svg_lie_in_sockets_side_by_side_within_the_picture(machine):
    assert_tidy(parsed(svg.topology(*machine)), nodes=len(machine[0].nodes))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_tidy_as_svg(path):
    host = host_toml.parse(path.read_text(), source=path.name)
    assert_tidy(parsed(svg.topology(host, ())), nodes=len(host.nodes))


def assert_tidy(picture, *, nodes):
    _, _, width, height = map(float, picture.get("viewBox").split())
    boxes, sockets = rectangles(picture, "node"), rectangles(picture, "socket")
    assert len(boxes) == nodes
    for kind in (boxes, sockets):
        for at, one in enumerate(kind):
            assert inside(one, (0, 0, width, height))
            assert not any(overlap(one, other) for other in kind[at + 1 :])
    assert all(any(inside(box, socket) for socket in sockets) for box in boxes)
    for style in ("core", "thread", "frame", "self"):
        found = rectangles(picture, style)
        assert all(inside(box, (0, 0, width, height)) for box in found)
        if style == "core":
            assert all(any(inside(core, box) for box in boxes) for core in found)


def run(capsys, *arguments):
    status = main(["topology", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_real_capture_is_drawn_with_its_guests_and_its_notes(capsys):
    status, out, err = run(capsys, "-c", f"capture:{GUESTS}")
    assert (status, err) == (0, "")
    assert "Xen 4.17.7, 8 nodes" in out
    assert "g 604 MiB" in out
    assert "g 440 MiB" in out
    assert "note: " in out.splitlines()[-1]
    assert "\x1b" not in out


def test_what_is_saved_is_read_again_the_same(capsys, tmp_path):
    saved, again = tmp_path / "host.json", tmp_path / "again.json"
    assert run(capsys, "-c", f"capture:{GUESTS}", "--save", str(saved))[0] == 0
    assert run(capsys, "-c", f"capture:{saved}", "--save", str(again))[0] == 0
    read, first = (snapshot.parse(path.read_text(), source="x") for path in (again, saved))
    assert read[1] == first[1]
    assert read[0].nodes == first[0].nodes
    out = run(capsys, "-c", f"capture:{saved}", "--json")[1]
    assert json.loads(out)["version"] == 1
    assert snapshot.parse(out, source="x")[1] == first[1]


def test_a_picture_goes_to_a_file(capsys, tmp_path):
    path = tmp_path / "host.svg"
    status, out, _ = run(capsys, "-c", f"capture:{GUESTS}", "--format", "svg", "-o", str(path))
    assert (status, out) == (0, "")
    assert parsed(path.read_text()).tag == f"{SVG}svg"


def test_a_file_that_cannot_be_written_is_named_in_one_line(capsys, tmp_path):
    missing = tmp_path / "no" / "host.svg"
    status, out, err = run(capsys, "-c", f"capture:{GUESTS}", "-o", str(missing))
    assert (status, out) == (2, "")
    assert err == f"homenode: {missing}: No such file or directory\n"


def test_a_terminal_that_has_ascii_alone_gets_ascii():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "homenode.cli.main", "topology", "-c", f"capture:{GUESTS}"],
        capture_output=True,
        env=environment,
        check=True,
    )
    lines = done.stdout.decode("ascii").splitlines()
    assert lines[1].startswith("+- socket 0 ---")
    assert done.stderr == b""
