"""Before pages are moved, and what can be seen of moving on any machine."""

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.affinity import _coming
from homenode.bitmap import NodeMap
from homenode.drivers.page_mover import PageMover, Process, mappings_of, memory_of_guest
from homenode.errors import DoesNotFit, HypervisorError
from homenode.formats.numa_maps import Mapped
from homenode.guest import Guest, MemoryByNode
from homenode.host import Host, Node, PagePool
from homenode.placement import View
from homenode.rules import moving

GIB = 1 << 20


def host(*nodes):
    return Host(cpus=[], nodes=nodes)


def ram(pages, page_kib=4):
    size = sum(pages.values()) * page_kib << 10
    return Mapped(0, size, "bind:0", pages, page_kib=page_kib)


def test_a_node_without_memory_or_that_is_not_there_is_refused():
    there = host(Node(0, present_kib=GIB), Node(1, present_kib=0))
    for node, words in ((1, "has no memory"), (5, "is not there")):
        asked = moving.Asked("g", (ram({0: 10}),), NodeMap([node]))
        assert words in moving.refusal(asked, there).text
    assert moving.refusal(moving.Asked("g", (ram({0: 10}),), NodeMap([0])), there) is None


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([2048, 1 << 20]))
def test_huge_pages_move_only_where_a_pool_has_as_many(free, wanted, page_kib):
    pools = (PagePool(page_kib, 40, free),)
    there = host(Node(0, present_kib=GIB), Node(1, present_kib=GIB, pages=pools))
    asked = moving.Asked("g", (ram({0: wanted, 1: 3}, page_kib),), NodeMap([1]))
    refusal = moving.refusal(asked, there)
    assert (refusal is None) == (free >= wanted)
    if refusal is not None:
        assert f"add {wanted - free} to" in refusal.hint
        assert f"hugepages-{page_kib}kB" in refusal.hint


def test_memory_that_is_pinned_for_a_device_is_told_of_or_refused():
    there = host(Node(0, present_kib=GIB), Node(1, present_kib=GIB))
    own = (ram({0: 1000}),)
    some = moving.Asked("g", own, NodeMap([1]), pinned_kib=400)
    assert moving.refusal(some, there) is None
    assert [warned.code for warned in moving.beforehand(some)] == ["memory-pinned"]
    nearly_all = some._replace(pinned_kib=3900)
    assert "pinned for a device" in moving.refusal(nearly_all, there).text
    # What is there already need not move.
    assert moving.refusal(nearly_all._replace(nodes=NodeMap([0])), there) is None


def test_huge_pages_that_will_be_split_are_told_of_beforehand():
    asked = moving.Asked(
        "g", (ram({0: 1 << 18}),), NodeMap([1]), transparent_kib=GIB // 2, free_blocks={1: 3}
    )
    assert [warned.code for warned in moving.beforehand(asked)] == ["huge-pages-split"]
    enough = asked._replace(free_blocks={1: 512})
    assert moving.beforehand(enough) == ()


def test_what_stayed_and_what_was_split_is_told_after_a_move():
    said = moving.remarks(4096, {"pinned": 2048}, 1)
    assert [warned.text for warned in said] == [
        "2 MiB stayed where they were: pinned",
        "1 transparent huge page was split by the move",
    ]
    assert [warned.text for warned in moving.remarks(8192, {}, 3)] == [
        "3 transparent huge pages were split by the move"
    ]
    assert moving.remarks(0, {}, 3) == ()


nodes_kib = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), min_size=2, max_size=5)


@given(nodes_kib, st.integers(1, 3000), st.data())
def test_shares_of_a_move_fit_and_are_as_equal_as_they_can_be(state, size, data):
    here = {node: kib for node, (kib, _) in enumerate(state)}
    view = View(
        host(*(Node(n, present_kib=GIB, free_kib=free) for n, (_, free) in enumerate(state)))
    )
    targets = data.draw(st.sets(st.sampled_from(sorted(here)), min_size=1))
    # Pages of 16 MiB have no overhead in the sum; a pool has what is free.
    guest = Guest(
        "g", max_memory_kib=size, memory_by_node=MemoryByNode(here, "test"), page_kib=16384
    )
    pooled = [
        Node(n, present_kib=GIB, pages=(PagePool(16384, 99, free),))
        for n, (_, free) in enumerate(state)
    ]
    view = View(host(*pooled))
    room = {node: view.room_kib(node, 16384) for node in targets}
    there = {node: here[node] for node in targets}
    coming = max(0, size - sum(there.values()))
    if coming > sum(room.values()):
        with pytest.raises(DoesNotFit):
            _coming(view, guest, NodeMap(targets))
        return
    shares = _coming(view, guest, NodeMap(targets))
    assert set(shares) == targets
    assert sum(shares.values()) == sum(there.values()) + coming
    assert all(there[node] <= shares[node] <= there[node] + room[node] for node in targets)
    # Nothing could be taken from a larger share and given to a smaller one.
    for more in targets:
        for less in targets:
            if shares[more] > there[more] and shares[less] < there[less] + room[less]:
                assert shares[more] - shares[less] <= len(targets)


# --- on this machine ---

CHILD = """
import mmap, sys
memory = mmap.mmap(-1, 8 << 20)
memory.write(b"x" * (8 << 20))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child():
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    yield process.pid
    process.communicate()


def _needs_numa():
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("this kernel has no /proc/self/numa_maps")


def test_memory_of_a_process_is_found_in_its_page_tables(child):
    _needs_numa()
    found = memory_of_guest(child, [8 << 10])
    assert sum(found.kib.values()) == 8 << 10


def test_pages_that_are_where_they_should_be_stay(child):
    _needs_numa()
    own = tuple(one for one in mappings_of(child) if one.size_kib == 8 << 10)
    told = []
    here = {node: 9 << 10 for mapped in own for node in mapped.pages}
    moved = PageMover(Process.of(child), progress=lambda *done: told.append(done)).move(own, here)
    assert (moved.moved_kib, dict(moved.stuck_kib)) == (0, {})


def test_a_process_that_is_gone_is_told_of(child):
    with pytest.raises(HypervisorError, match="gone"):
        Process.of(2**22 + 5)
    other = Process.of(child)._replace(started="1")
    with pytest.raises(HypervisorError, match="gone"):
        other.check()


def test_a_page_of_ours_is_found_by_its_address():
    memory = mmap.mmap(-1, 1 << 16)
    memory.write(b"x" * (1 << 16))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    mover = PageMover(Process.of(os.getpid()))
    pages = range(address, address + (1 << 16), mmap.PAGESIZE)
    assert all(node >= 0 for node in mover._unmarked(pages))
