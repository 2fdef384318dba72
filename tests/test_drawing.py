import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from homenode.cli.main import main
from homenode.drawing import printable, terminal
from homenode.drawing.devices import devices_by_node
from homenode.drawing.hierarchy import nearest_nodes, packages_by_node, socket_groups
from homenode.drawing.memory import memory_parts
from homenode.drawing.tables import alike_nodes
from homenode.formats import host_toml, snapshot
from homenode.guest import Guest, MemoryByNode
from homenode.host import Cpu, Device, Host, Node
from pictures import (
    EXAMPLES,
    ROOT,
    SVG,
    example,
    furnished_machines,
    host_with_tables,
    moderate,
    parsed,
)
from strategies import hosts, machines

GUESTS = Path(__file__).parent / "data" / "xen-captures" / "n8" / "guests"
NASTY = 'a<b>&"c"\x1b[31m\x00\n\ud800[red]'


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
            known = sum(part.kib for part in parts if part.kind == "guest") + node.free_kib
            if known <= node.present_kib:  # nothing had to be cut
                assert free == node.free_kib


@moderate
@given(hosts())
def test_a_group_of_alike_nodes_tells_every_distance(host):
    groups = alike_nodes(host.nodes, host.distances)
    assert sorted(node for group in groups for node in group) == list(host.node_map)
    for one in groups:
        for other in groups:
            told = {host.distance(row, column) for row in one for column in other if row != column}
            assert len(told) <= 1
        assert len({host.distance(node, node) for node in one}) == 1


def test_alike_nodes_are_the_sockets_of_a_regular_machine_and_none_of_an_irregular_one():
    def alike(name):
        host = example(name)
        return [str(group) for group in alike_nodes(host.nodes, host.distances)]

    assert alike("epyc-7763-2s-nps4") == ["0-3", "4-7"]
    assert len(alike("tree-64n")) == 16
    assert len(alike("opteron-6272-8n")) == 8


@moderate
@given(hosts())
def test_every_node_is_in_one_group_and_memory_without_cpus_with_the_nodes_nearest_to_it(host):
    groups = socket_groups(host)
    assert sorted(node.id for group in groups for node in group.nodes) == list(host.node_map)
    owners = {cpu.node for cpu in host.cpus}
    for group in groups:
        own = {stack.node.id for stack in group.stacks}
        for node, near_to in [
            *((node, {stack.node.id}) for stack in group.stacks for node in stack.near),
            *((node, own) for node in group.shared),
        ]:
            assert node.id not in owners
            assert near_to <= owners
            least = min(host.distance(one, node.id) for one in owners if one is not None)
            assert least in {host.distance(one, node.id) for one in near_to}
            assert nearest_nodes(host)[node.id].nodes <= type(host.node_map)(near_to)


def test_where_distances_tell_nothing_apart_latency_and_bandwidth_tell_what_is_near():
    host = Host(
        cpus=[Cpu(0, 0, socket=0), Cpu(1, 1, socket=1)],
        nodes=[Node(0), Node(1), Node(2, kind="hbm")],
        distances=[[10, 20, 20], [20, 10, 20], [20, 20, 10]],
    )
    assert [group.label for group in socket_groups(host)][
        -1
    ] == "without cpus, as near to every node"
    told = host.replace(latency_ns=[[80, None, None], [None, 80, 140], [None] * 3])
    assert [[node.id for node in group.nodes] for group in socket_groups(told)] == [[0], [1, 2]]
    told = host.replace(
        distances=None, bandwidth_mb_s=[[9000, None, 8000], [None, 9000, 700], [None] * 3]
    )
    assert [[node.id for node in group.nodes] for group in socket_groups(told)] == [[0, 2], [1]]
    nobody = host.replace(distances=None)
    assert socket_groups(nobody)[-1].label == "without cpus, nearest node unknown"


@moderate
@given(hosts())
def test_every_online_cpu_of_a_node_is_in_one_of_its_cores(host):
    for node, packages in packages_by_node(host).items():
        cpus = [
            c
            for package in packages
            for cache in package.caches
            for core in cache.cores
            for c in core
        ]
        assert sorted(cpus) == list(host.cpus_by_node[node])


def test_dies_are_told_apart_only_where_a_socket_has_some():
    host = example("memory-tiers")
    assert [p.label for p in packages_by_node(host)[1]] == ["die 1"]
    assert [p.label for p in packages_by_node(example("epyc-7763-2s-nps4"))[1]] == [""]
    one = Host(cpus=[Cpu(at, 0, core=0, socket=at) for at in range(2)], nodes=[Node(0)])
    assert [p.label for p in packages_by_node(one)[0]] == ["socket 0", "socket 1"]


def test_many_devices_of_a_kind_are_counted_and_the_first_of_them_told():
    devices = [Device(f"0000:3b:00.{at}", 0, "network") for at in range(64)]
    host = Host(cpus=[Cpu(0, 0)], nodes=[Node(0)], devices=[*devices, Device("x", 7)])
    found = devices_by_node(host)
    assert len(found[0][0].shown) + found[0][0].hidden == 64
    assert [group.addresses for group in found[None]] == [("x",)]  # there is no node 7
    picture = terminal.topology(host, (), colours=False, width=100)
    assert "64 network: 0000:3b:00.0, " in picture
    assert ", 56 more" in picture


@moderate
@given(furnished_machines(), st.integers(60, 130))
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
    assert len(lines) < 2 * len(host.nodes) + len(host.devices) + 40


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


def test_names_cannot_steer_the_terminal():
    guest = Guest(NASTY, id=1, memory_by_node=MemoryByNode({0: 1024}, "x"))
    host = Host(
        cpus=[Cpu(0, 0)],
        nodes=[Node(0, present_kib=4096, free_kib=2048)],
        name=NASTY,
        hypervisor=NASTY,
        devices=[Device(NASTY, 0, "network")],
        notes=[NASTY],
    )
    picture = terminal.topology(host, (guest,), colours=False, width=80)
    assert "\x1b" not in picture
    assert "[red]" in picture
    assert f"1 network: {printable(NASTY)}" in picture


def test_the_terminal_tells_kinds_nearness_pools_devices_and_tables():
    picture = terminal.topology(host_with_tables(), (), colours=False, width=90)
    for words in (
        "memory: dram 512 GiB on nodes 0-3; hbm 32 GiB on nodes 4-5;",
        "node 4 (hbm)  no cpus, 13 from node 0",
        "node 6 (cxl)  no cpus, 14 from nodes 0-1",
        "8192 of 8192 pages of 2 MiB free",
        "2 network: 0000:18:00.0, 0000:18:00.1",
        "2 of the chipset",
        "devices whose node nobody states:",
        "pages of 1 GiB: 16 of 16 free, on nodes 0-3",
        "latency, ns ",
        "bandwidth, GB/s ",
    ):
        assert words in picture
    assert "0000:00:1f.0" not in picture


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
