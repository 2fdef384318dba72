"""Guests of KVM by the files of libvirt and the kernel, beside what virsh and numastat said."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.linux_guests import memory_of, running_guests
from homenode.drivers.page_mover import mappings_of, memory_of_guest
from homenode.drivers.trees import FolderTree, read_tree
from homenode.errors import ParseError
from homenode.formats import cgroup, libvirt_status, numa_maps, sysfs
from homenode.guest import Guest, MemoryByNode, VirtualNode
from homenode.host import Host, Node
from homenode.placement.view import commitment_kib
from homenode.rules.qemu import overhead_kib
from homenode.rules.qemu_guest import with_commitments
from kvm_tree import GUESTS, numastat_mib, process_of, unpacked

MIB = 1024


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return unpacked(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def host(root):
    return sysfs.parse(read_tree(FolderTree(str(root))), source="test")


@pytest.fixture(scope="module")
def guests(root, host):
    running = running_guests(host, root=str(root))
    assert running.doubts == ()
    return {guest.name: guest for guest in running.guests}


def test_the_guests_are_those_that_virsh_lists(root, guests):
    rows = [line.split() for line in (root / "virsh-list.txt").read_text().splitlines()[2:]]
    listed = [(int(row[0]), row[1], row[2]) for row in rows if row]
    assert [(guest.id, guest.name, guest.state) for guest in guests.values()] == listed


@pytest.mark.parametrize("name", GUESTS)
def test_masks_are_what_virsh_says(root, guests, name):
    rows = [line.split() for line in (root / f"vcpupin-{name}.txt").read_text().splitlines()]
    assert [str(vcpu.hard) for vcpu in guests[name].vcpus] == [row[1] for row in rows if row]


@pytest.mark.parametrize("name", GUESTS)
def test_node_affinity_is_what_virsh_says(root, host, guests, name):
    text = (root / f"numatune-{name}.txt").read_text()
    told = re.search(r"numa_nodeset *: *(\S*)", text)[1]
    cells = {"cells": "0-1"}.get(name, "")
    assert guests[name].node_affinity == NodeMap.parse_libvirt(told or cells or str(host.node_map))


def test_memory_by_control_group_is_what_numastat_counts(root, guests):
    # numastat counts files that are mapped, too, and not the page tables of others.
    for name in ("strict", "auto", "cells"):
        told = numastat_mib(root, name, "Private")
        found = guests[name].memory_by_node.kib
        for node, mib in told.items():
            assert abs(found.get(node, 0) / MIB - mib) < 24, (name, node)


def test_memory_by_page_tables_is_the_guests_own_and_all_of_it(root):
    pages = {
        "strict": ([300 * MIB], {2: 300 * MIB}),
        "huge": ([64 * MIB], {3: 64 * MIB}),
        "cells": ([64 * MIB], {0: 64 * MIB, 1: 64 * MIB}),
    }
    for name, (sizes, by_node) in pages.items():
        found = memory_of_guest(process_of(root, name), sizes, root=str(root))
        assert found.kib == by_node, name


def test_huge_pages_are_found_where_the_control_group_does_not_count_them(root, guests):
    assert guests["huge"].page_kib == 2048
    assert guests["huge"].memory_by_node.kib == {3: 64 * MIB}
    told = numastat_mib(root, "huge", "Huge")
    assert told[3] == 64


def test_cells_know_their_nodes(guests):
    assert [cell.node for cell in guests["cells"].virtual_nodes] == [0, 1]


def test_what_a_guest_has_not_touched_is_committed_where_it_will_come_from(host, guests):
    lazy = guests["lazy"]
    seen = sum(lazy.memory_by_node.kib.values())
    assert seen < 60 * MIB
    alone = with_commitments(host, [lazy])
    before = {node.id: node.usable_kib for node in host.nodes}
    after = {node.id: node.usable_kib for node in alone.nodes}
    taken = {node: before[node] - after[node] for node in before}
    assert taken[1] > 330 * MIB
    assert [node for node, kib in taken.items() if kib] == [1]


def test_a_status_that_is_damaged_is_a_doubt_and_hides_no_other(host, tmp_path):
    other = unpacked(tmp_path)
    (other / "run/libvirt/qemu/strict.xml").write_text("<domstatus state='running'")
    (other / "run/libvirt/qemu/more.xml").write_text("<domain/>")
    running = running_guests(host, root=str(other))
    assert len(running.guests) == len(GUESTS) - 1
    assert len(running.doubts) == 2


def test_memory_of_a_process_without_a_group_of_its_own_is_unknown(root):
    text = (root / "run/libvirt/qemu/strict.xml").read_text()
    config = libvirt_status.parse(text, source="status").domain
    assert memory_of(99999, config, root=str(root)) is None


@pytest.mark.parametrize(
    "text",
    ["", "<domain/>", "<domstatus/>", "<domstatus state='odd'><domain/></domstatus>"],
)
def test_what_is_no_status_is_refused(text):
    with pytest.raises(ParseError):
        libvirt_status.parse(text, source="status")


def test_version_1_of_control_groups_counts_pages():
    text = (
        "total=100 N0=60 N1=40\nfile=50 N0=50 N1=0\nanon=50 N0=10 N1=40\nunevictable=0 N0=0 N1=0\n"
        "hierarchical_total=100 N0=60 N1=40\nhierarchical_file=50 N0=50 N1=0\n"
        "hierarchical_anon=50 N0=11 N1=39\nhierarchical_unevictable=2 N0=2 N1=0\n"
    )
    assert cgroup.memory_kib(text) == {0: 13 * 4, 1: 39 * 4}


def test_what_is_no_number_of_a_control_group_is_passed_over():
    long = "9" * 5000
    assert cgroup.memory_kib(f"anon N0=4096 N1={long} N{long}=1 N٣=4096\n") == {0: 4}


def test_groups_of_both_versions_are_found():
    text = "4:cpuset:/machine/a\n3:memory,cpu:/machine/b\n0::/c\nnonsense\n"
    assert cgroup.paths(text) == {
        "cpuset": "/machine/a",
        "memory": "/machine/b",
        "cpu": "/machine/b",
        "": "/c",
    }


def test_mappings_are_those_of_the_file(root):
    found = mappings_of(process_of(root, "strict"), root=str(root))
    ram = [mapped for mapped in found if mapped.policy == "bind:2"]
    assert [(mapped.size_kib, mapped.kib) for mapped in ram] == [(300 * MIB, {2: 300 * MIB})]
    assert all(mapped.end > mapped.start for mapped in found)
    # Programs and libraries are a file's.
    assert not [mapped for mapped in found if mapped.is_own and mapped.kib == {}]


def test_a_policy_may_have_a_blank_in_it():
    line = "7f00 prefer (many):2 anon=5 dirty=5 N1=2 N2=3 kernelpagesize_kB=4\n"
    (mapped,) = numa_maps.parse(line, "7f00-8f00 rw-p 0 00:00 0\n")
    assert (mapped.policy, mapped.kib) == ("prefer (many):2", {1: 8, 2: 12})


@pytest.mark.parametrize(("maps", "numa"), [("x", "7f00 default N0=1"), ("7f00-8f00 r", "zz y")])
def test_what_is_no_mapping_is_refused(maps, numa):
    with pytest.raises(ParseError):
        numa_maps.parse(numa, maps)


@given(st.text(alphabet="Nn0123456789= \nabcf-:", max_size=200))
def test_no_text_of_a_kernel_breaks_a_reader(text):
    for read in (cgroup.memory_kib, cgroup.paths, numa_maps.free_blocks):
        read(text)
    numa_maps.value_kib(text, "N0")
    with contextlib.suppress(ParseError):
        numa_maps.parse(text, text)


def test_free_blocks_count_what_larger_ones_hold():
    text = (
        "Node 0, zone   Normal  9 9 9 9 9 9 9 9 9  3  2\n"
        "Node 0, zone    DMA32  9 9 9 9 9 9 9 9 9  1  0\n"
        "Node 1, zone   Normal  0 0 0 0 0 0 0 0 0  0  1\n"
    )
    assert numa_maps.free_blocks(text) == {0: 3 + 4 + 1, 1: 2}


# --- what may still be touched ---


def two_nodes(**changes):
    nodes = [Node(0, free_kib=1000, present_kib=2000), Node(1, free_kib=1000, present_kib=2000)]
    return Host(cpus=[], nodes=[node._replace(**changes) for node in nodes])


shares = st.dictionaries(st.integers(0, 3), st.integers(0, 1000), max_size=4)


@given(shares, st.integers(0, 4000), st.sets(st.integers(0, 3)))
def test_a_guest_is_committed_to_all_that_it_may_have_and_keeps_what_it_has(here, most, homes):
    host = Host(cpus=[], nodes=[Node(node) for node in range(4)])
    memory = MemoryByNode(here, "a test")
    guest = Guest("g", memory_by_node=memory, max_memory_kib=most, node_affinity=NodeMap(homes))
    committed = commitment_kib(guest, host)
    assert all(committed.get(node, 0) >= kib for node, kib in here.items())
    total = sum(committed.values())
    least = max(most, sum(here.values()))
    assert least <= total <= least + 4
    beyond = {node for node, kib in committed.items() if kib > here.get(node, 0)}
    assert beyond <= (homes or set(range(4)))


def test_each_virtual_node_is_committed_to_its_node():
    cells = (VirtualNode(0, CpuMap([0]), 300, node=1), VirtualNode(1, CpuMap([1]), 100, node=0))
    guest = Guest("g", max_memory_kib=400, virtual_nodes=cells, node_affinity=NodeMap([0, 1]))
    assert commitment_kib(guest, two_nodes()) == {1: 300, 0: 100}


def test_usable_memory_leaves_out_what_is_still_to_be_touched_and_nothing_twice():
    guest = Guest(
        "g",
        max_memory_kib=600,
        memory_by_node=MemoryByNode({0: 200}, "a test"),
        node_affinity=NodeMap([0]),
    )
    host = with_commitments(two_nodes(), [guest])
    extra = overhead_kib(600, 4)
    assert host.nodes_by_id[0].committed_kib == 600 + extra
    assert host.nodes_by_id[0].touched_kib == 200
    assert host.nodes_by_id[0].usable_kib == max(0, 1000 - 400 - extra)
    assert host.nodes_by_id[1].usable_kib == 1000


def test_where_nobody_tells_what_guests_have_it_is_not_counted_twice():
    guest = Guest("g", max_memory_kib=900, node_affinity=NodeMap([0]))
    # It has all of it: the node has 1000 of 2000 free, and the guest is what is missing.
    host = with_commitments(two_nodes(), [guest])
    extra = overhead_kib(900, 4)
    assert host.nodes_by_id[0].touched_kib is None
    assert host.nodes_by_id[0].usable_kib == max(0, min(1000, 2000 - 900 - extra))
    assert host.nodes_by_id[1].usable_kib == 1000
