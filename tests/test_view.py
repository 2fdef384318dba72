"""A view as it would be if something else were so: guests gone, memory freed, nothing running."""

import pytest

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import Guest, GuestRequest, MemoryByNode, VirtualNode
from homenode.host import Cpu, Host, Node, PagePool
from homenode.placement.view import View, commitment_kib, equal_shares
from homenode.rules.xen import memory_shares

HUGE = 2048


def node_of(number, **more):
    return Node(number, **{"present_kib": 1000, "free_kib": 500, **more})


def view_of(*nodes, guests=(), **more):
    host = Host(cpus=[Cpu(node.id, node.id) for node in nodes], nodes=nodes)
    return View(host, tuple(guests), **more)


def guest_of(name, kib, **more):
    memory = None if kib is None else MemoryByNode(kib, "made up")
    return Guest(name, **{"memory_by_node": memory, "id": 3, **more})


def nodes_of(view):
    return view.host.nodes


# -- shares --


@pytest.mark.parametrize(
    ("kib", "usable", "shares"),
    [
        (9, [9, 9, 9], [3, 3, 3]),
        (10, [9, 9, 9], [3, 3, 4]),
        (12, [2, 9, 9], [2, 5, 5]),
        (12, [9, 1, 9], [5, 1, 6]),
        (5, [9], [5]),
    ],
)
def test_memory_is_spread_equally_and_past_what_is_full(kib, usable, shares):
    assert equal_shares(GuestRequest("new", 1, kib), usable) == shares


def test_huge_pages_are_dealt_out_whole_and_ordinary_ones_of_64_kib_are_not():
    huge = GuestRequest("new", 1, 3 * HUGE, page_kib=HUGE)
    assert equal_shares(huge, [5 * HUGE, 5 * HUGE]) == [HUGE, 2 * HUGE]
    assert equal_shares(huge, [2 * HUGE - 1, 5 * HUGE]) == [HUGE, 2 * HUGE]
    assert equal_shares(huge._replace(memory_kib=3 * HUGE - 1), [9 * HUGE] * 2) == [HUGE, 2 * HUGE]
    ordinary = GuestRequest("new", 1, 3 * 64, page_kib=64)
    assert equal_shares(ordinary, [999, 999]) == [96, 96]


# -- what is usable, owed, unknown --


def test_promised_memory_is_no_room_but_libxl_knows_nothing_of_it():
    view = view_of(
        node_of(0, pages=(PagePool(HUGE, 9, 4),)),
        outstanding_kib={0: 200},
        outstanding_huge_kib={(0, HUGE): HUGE},
    )
    assert (view.usable_kib(0), view.owed_kib(0), view.room_kib(0)) == (500, 200, 300)
    assert (view.owed_kib(0, as_libxl=True), view.room_kib(0, as_libxl=True)) == (0, 500)
    assert (view.owed_kib(0, HUGE), view.room_kib(0, HUGE)) == (HUGE, 3 * HUGE)
    assert view.room_kib(0, HUGE, as_libxl=True) == 3 * HUGE
    assert view._replace(outstanding_kib={0: 501}).room_kib(0) == 0
    assert (view.owed_kib(0, 64), view.room_kib(0, 64, as_libxl=True)) == (200, 500)
    assert view_of(node_of(0)).owed_kib(0) == view_of(node_of(0)).owed_kib(0, HUGE) == 0


def test_nodes_of_which_nobody_tells_how_much_is_free_are_unknown_and_give_nothing():
    view = view_of(
        node_of(0, free_kib=None), node_of(1), node_of(2, pages=(PagePool(HUGE, 9, None),))
    )
    assert view.unknown_nodes() == NodeMap([0])
    assert view.unknown_nodes(HUGE) == NodeMap([0, 1, 2])
    assert view.usable_kib(0) == view.usable_kib(0, as_libxl=True) == view.usable_kib(2, HUGE) == 0


def test_a_guest_is_where_its_memory_is_and_where_it_is_to_come_from():
    view = view_of(node_of(0), node_of(1), node_of(2))
    assert view.nodes_of_guest(guest_of("g", {0: 5, 1: 0})) == NodeMap([0])
    assert view.nodes_of_guest(guest_of("g", {0: 5}, node_affinity=NodeMap([2]))) == NodeMap([0, 2])
    assert view.nodes_of_guest(guest_of("g", None, node_affinity=NodeMap([1]))) == NodeMap([1])
    # To be allowed everywhere is no place.
    assert view.nodes_of_guest(guest_of("g", None, node_affinity=NodeMap([0, 1, 2]))) is None
    assert view.nodes_of_guest(guest_of("g", {1: 0})) is None


# -- without guests --


def test_memory_of_guests_that_are_gone_is_free_and_no_longer_committed():
    gone = guest_of("gone", {0: 100}, max_memory_kib=150, node_affinity=NodeMap([0]))
    stays = guest_of("stays", {0: 50})
    node = node_of(0, committed_kib=400, touched_kib=300)
    left = view_of(node, node_of(1), guests=(gone, stays)).without([gone])
    assert left.guests == (stays,)
    assert nodes_of(left)[1] == node_of(1)
    # Of what it may come to have, 150, nothing is to be kept any more; 100 of it was there.
    changed = nodes_of(left)[0]
    assert (changed.free_kib, changed.committed_kib, changed.touched_kib) == (600, 250, 200)


def test_huge_pages_of_guests_that_are_gone_go_back_to_their_pool_and_to_no_other():
    pools = (PagePool(HUGE, 10, 3), PagePool(1 << 20, 2, 0))
    gone = guest_of("gone", {0: 4 * HUGE}, page_kib=HUGE)
    left = view_of(node_of(0, pages=pools, committed_kib=7, touched_kib=7), guests=(gone,))
    changed = nodes_of(left.without([gone]))[0]
    assert changed.pages == (PagePool(HUGE, 10, 7), PagePool(1 << 20, 2, 0))
    assert (changed.free_kib, changed.committed_kib, changed.touched_kib) == (500, 7, 7)
    more = guest_of("more", {0: 9 * HUGE}, page_kib=HUGE)
    assert nodes_of(left.without([more]))[0].pages[0] == PagePool(HUGE, 10, 10), "never above all"
    unknown = view_of(node_of(0, pages=(PagePool(HUGE, 10, None),)), guests=(gone,))
    assert nodes_of(unknown.without([gone]))[0].pages == (PagePool(HUGE, 10, None),)


def test_guests_of_both_kinds_go_together_and_what_is_unknown_stays_unknown():
    ordinary = guest_of("ordinary", {0: 100, 1: 20})
    huge = guest_of("huge", {0: HUGE}, page_kib=HUGE)
    silent = guest_of("silent", None)
    view = view_of(
        node_of(0, pages=(PagePool(HUGE, 9, 1),)),
        node_of(1, free_kib=None),
        guests=(ordinary, huge, silent),
    )
    left = view.without([ordinary, huge, silent])
    assert left.guests == ()
    assert (nodes_of(left)[0].free_kib, nodes_of(left)[0].pages[0].free) == (600, 2)
    assert nodes_of(left)[1].free_kib is None
    assert View.freed_kib([ordinary, huge, silent]) == {0: 100 + HUGE, 1: 20}


def test_an_emptied_host_has_all_of_its_memory_but_pools_and_what_dom0_has():
    dom0 = guest_of("Domain-0", {0: 30}, id=0)
    other = guest_of("other", {0: 100})
    node = node_of(
        0, present_kib=9000, pages=(PagePool(HUGE, 2, 0),), reclaimable_kib=5,
        committed_kib=5, touched_kib=5,
    )  # fmt: skip
    view = view_of(node, node_of(1, present_kib=None), guests=(dom0, other)).emptied()
    assert view.guests == (dom0,)
    emptied, unknown = nodes_of(view)
    assert emptied.free_kib == 9000 - 2 * HUGE - 30
    assert emptied.pages == (PagePool(HUGE, 2, 2),)
    assert (emptied.reclaimable_kib, emptied.committed_kib, emptied.touched_kib) == (None,) * 3
    assert unknown.free_kib is None
    assert view.outstanding_kib == {}
    ruled = view_of(node_of(0), share_rule=memory_shares, outstanding_kib={0: 5})
    assert ruled.emptied().share_rule is memory_shares
    assert ruled.emptied().outstanding_kib == {}


# -- with more free memory --


def test_more_free_memory_is_on_that_node_alone():
    view = view_of(node_of(0), node_of(1)).with_free(1, 70)
    assert [node.free_kib for node in nodes_of(view)] == [500, 570]
    assert nodes_of(view_of(node_of(0, free_kib=None)).with_free(0, 70))[0].free_kib is None
    assert nodes_of(view_of(node_of(0)).with_free(0, 70, 64))[0].free_kib == 570


def test_huge_pages_are_made_of_free_memory_and_added_to_the_pool_of_their_size():
    pools = (PagePool(HUGE, 2, 1), PagePool(1 << 20, 3, 3))
    made = nodes_of(view_of(node_of(0, free_kib=9000, pages=pools)).with_free(0, 2 * HUGE, HUGE))[0]
    assert made.pages == (PagePool(HUGE, 4, 3), PagePool(1 << 20, 3, 3))
    assert made.free_kib == 9000 - 2 * HUGE
    first = nodes_of(view_of(node_of(0, free_kib=9000)).with_free(0, 2 * HUGE + 1, HUGE))[0]
    assert (first.pages, first.free_kib) == ((PagePool(HUGE, 2, 2),), 9000 - 2 * HUGE)
    unknown = (PagePool(HUGE, 2, None),)
    made = nodes_of(view_of(node_of(0, free_kib=9000, pages=unknown)).with_free(0, HUGE, HUGE))[0]
    assert made.pages == (PagePool(HUGE, 3, 1),)
    poor = nodes_of(view_of(node_of(0, free_kib=100)).with_free(0, HUGE, HUGE))[0]
    assert poor.free_kib == 0


# -- what a guest may come to have --


def committed(guest, *nodes):
    return commitment_kib(guest, view_of(*(nodes or (node_of(0), node_of(1)))).host)


def test_what_a_guest_has_not_touched_yet_comes_in_equal_parts_from_its_nodes():
    lazy = guest_of("lazy", {0: 10}, max_memory_kib=100)
    assert committed(lazy._replace(node_affinity=NodeMap([1]))) == {0: 10, 1: 90}
    assert committed(lazy) == {0: 50, 1: 50}
    assert committed(lazy._replace(node_affinity=NodeMap([0, 1, 7]))) == {0: 50, 1: 50}
    assert committed(lazy._replace(max_memory_kib=None, memory_kib=30)) == {0: 15, 1: 15}
    assert committed(lazy._replace(max_memory_kib=10)) == {0: 10}
    assert committed(lazy._replace(max_memory_kib=5)) == {0: 10}
    assert committed(guest_of("silent", None, max_memory_kib=100)) == {0: 50, 1: 50}
    assert committed(guest_of("silent", None)) == {}
    assert committed(lazy._replace(page_kib=HUGE)) == {}
    assert committed(lazy._replace(page_kib=64)) == {0: 50, 1: 50}


def test_one_that_is_far_above_its_part_somewhere_gets_the_rest_where_it_is_below():
    uneven = guest_of("uneven", {0: 80}, max_memory_kib=120)
    assert committed(uneven) == {0: 80, 1: 40}


def test_where_nodes_have_no_cpus_memory_comes_from_those_that_have():
    host = Host(cpus=[Cpu(0, 0)], nodes=[node_of(0), node_of(1)])
    assert commitment_kib(guest_of("g", None, max_memory_kib=100), host) == {0: 100}
    bare = Host(cpus=[], nodes=[node_of(0), node_of(1)])
    assert commitment_kib(guest_of("g", None, max_memory_kib=100), bare) == {0: 50, 1: 50}


def test_virtual_nodes_say_where_the_rest_will_come_from_if_all_of_them_have_a_node():
    cells = (
        VirtualNode(0, CpuMap([0]), 60, node=0),
        VirtualNode(1, CpuMap([1]), 30, node=1),
        VirtualNode(2, CpuMap(), 10, node=1),
    )
    guest = guest_of("cells", {1: 10}, max_memory_kib=100, virtual_nodes=cells)
    assert committed(guest) == {0: 60, 1: 40}
    astray = (cells[0], cells[1]._replace(node=9))
    assert committed(guest._replace(virtual_nodes=astray)) == {1: 50, 0: 50}
    nowhere = (cells[0], cells[1]._replace(node=None))
    assert committed(guest._replace(virtual_nodes=nowhere)) == {1: 50, 0: 50}
