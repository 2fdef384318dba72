"""Virtual nodes are on nodes that hold them, the best ones, wherever there are any."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
import oracle_virtual
from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import ExplicitNodes, GuestRequest, NearDevice, Tier, VirtualNode
from homenode.host import Cpu, Host, Node, PagePool
from homenode.placement.deciding import place
from homenode.placement.explain import explain
from homenode.placement.policies import POLICIES, policy
from homenode.placement.problem import prepare
from homenode.placement.search import Search
from homenode.placement.view import View
from homenode.placement.virtual import Cells, first_match, match, surplus
from homenode.rules.xen import memory_shares
from test_search import orders, views

policies = st.one_of(st.sampled_from(sorted(POLICIES)), orders()).map(policy)
GIB = 1 << 20


def cells_of(*sizes, distances=(), page_kib=None):
    """Return virtual nodes from (vcpus, GiB)."""
    made, first = [], 0
    for at, (vcpus, gib) in enumerate(sizes):
        row = distances[at] if distances else ()
        own = CpuMap(range(first, first + vcpus))
        made.append(VirtualNode(at, own, gib * GIB, row, page_kib=page_kib))
        first += vcpus
    return tuple(made)


def host_of_mib(*free):
    return Host(
        cpus=[Cpu(at * 4 + n, at) for at in range(len(free)) for n in range(4)],
        nodes=[
            Node(at, present_kib=99 * GIB, free_kib=mib * 1024 + 513) for at, mib in enumerate(free)
        ],
    )


def wanted(*sizes, beside_kib=0, **more):
    cells = cells_of(*sizes, distances=more.pop("distances", ()), page_kib=more.pop("page", None))
    return GuestRequest(
        "new",
        vcpus=sum(len(cell.vcpus) for cell in cells),
        memory_kib=sum(cell.memory_kib for cell in cells) + beside_kib,
        guest_memory_kib=sum(cell.memory_kib for cell in cells),
        virtual_nodes=cells,
        **more,
    )


def host(*gib, cpus=4, distances=None, pages=()):
    """Return a host of nodes with so much free memory each."""
    return Host(
        cpus=[Cpu(at * cpus + n, at) for at in range(len(gib)) for n in range(cpus)],
        nodes=[
            Node(at, present_kib=99 * GIB, free_kib=free * GIB, pages=pages)
            for at, free in enumerate(gib)
        ],
        distances=distances,
    )


def nodes_of(decision):
    return [cell.node for cell in decision.virtual_nodes]


# -- the matching itself --

masks = st.lists(st.integers(0, 2**6 - 1), max_size=6)


def all_matchings(fits):
    ways = permutations(range(6), len(fits))
    return [way for way in ways if all(mine >> at & 1 for mine, at in zip(fits, way, strict=True))]


@given(masks)
def test_a_matching_is_found_exactly_where_there_is_one(fits):
    found = match(fits)
    if found is None:
        assert not all_matchings(fits)
        cells, nodes = surplus(fits)
        reach = 0
        for cell in cells:
            reach |= fits[cell]
        assert reach == nodes
        assert nodes.bit_count() < len(cells)
    else:
        assert tuple(found) in all_matchings(fits)
        assert surplus(fits) == ([], 0)
        assert tuple(first_match(fits)) == min(all_matchings(fits))


@given(masks, st.integers(0, 63), st.integers(0, 63))
def test_a_part_can_be_completed_exactly_if_the_matroid_says_so(fits, chosen, rest):
    rest &= ~chosen
    sets = {sum(1 << at for at in way) for way in all_matchings(fits)}
    possible = any(not chosen & ~whole and not whole & ~(chosen | rest) for whole in sets)
    assert Cells(fits).extendable(chosen, rest) == possible
    assert Cells(fits).holds(chosen) == (chosen in sets)


@st.composite
def tables(draw, size):
    """Distances of size x size: a tree, or anything, the two directions alike or not."""
    far = st.integers(11, 16)
    rows = [[10 if a == b else draw(far) for b in range(size)] for a in range(size)]
    group = draw(st.integers(0, 3))
    if group:
        rows = [[10 if a == b else 12 if a // group == b // group else 20 for b in range(size)]
                for a in range(size)]  # fmt: skip
    return rows


@settings(max_examples=150)
@given(st.data())
def test_cells_are_arranged_as_well_as_any_order_of_them(data):
    count = data.draw(st.integers(2, 5))
    size = data.draw(st.integers(count, 6))
    table, drawn = data.draw(tables(count)), data.draw(tables(size))
    pairs = [[max(drawn[a][b], drawn[b][a]) for b in range(size)] for a in range(size)]
    everywhere = (1 << size) - 1
    fits = data.draw(
        st.lists(
            st.sampled_from([everywhere, everywhere]) | st.integers(1, everywhere),
            min_size=count, max_size=count,
        )
    )  # fmt: skip
    chosen = sum(1 << at for at in data.draw(st.permutations(range(size)))[:count])
    most = max(map(max, table))

    def misfit(ats):
        return sum(
            (most - min(table[a][b], table[b][a])) * pairs[ats[a]][ats[b]]
            for a in range(count)
            for b in range(a)
        )

    ways = [
        ats
        for ats in permutations([at for at in range(size) if chosen >> at & 1])
        if all(mine >> at & 1 for mine, at in zip(fits, ats, strict=True))
    ]
    found = Cells(fits, table, pairs).arranged(chosen)
    if found is None:
        assert not ways
        return
    assert tuple(found.ats) in ways
    assert found.optimal
    assert misfit(found.ats) == min(map(misfit, ways))


@given(masks, st.permutations(range(6)))
def test_the_first_nodes_in_an_order_that_hold_the_cells_are_found_without_a_search(fits, order):
    sets = {frozenset(way) for way in all_matchings(fits)}
    if not sets:
        return
    first = min(sets, key=lambda nodes: sorted(map(order.index, nodes)))
    assert Cells(fits).basis(order) == sum(1 << at for at in first)


# -- decisions, against enumeration --


@st.composite
def requests_with_cells(draw, view):
    unit = view.host.nodes[0].present_kib // 16
    count = draw(st.integers(1, 4))
    alike = draw(st.booleans())
    table = draw(st.sampled_from(["none", "pairs", "any"]))
    cells, first = [], 0
    shape = (1, 1)
    for at in range(count):
        if not at or not alike:
            shape = draw(st.integers(0 if at else 1, 3)), draw(st.integers(0, 8))
        vcpus, units = shape
        huge = draw(st.integers(0, 4)) == 0
        row = tuple(
            10 if other == at
            else (15 if at // 2 == other // 2 else 40) if table == "pairs"
            else draw(st.integers(10, 60))
            for other in range(count)
        )  # fmt: skip
        cells.append(
            VirtualNode(
                at,
                CpuMap(range(first, first + vcpus)),
                units * (2048 if huge else unit),
                () if table == "none" else row,
                page_kib=2048 if huge else None,
                node=draw(st.sampled_from([None] * 9 + sorted(view.host.node_map)[:1]))
                if at
                else None,
            )
        )
        first += vcpus
    hard = ()
    if view.host.cpu_map and draw(st.integers(0, 4)) == 0:
        some = st.sets(st.sampled_from(list(view.host.cpu_map)), min_size=1).map(CpuMap)
        hard = tuple(draw(some) for _ in range(first))
    return GuestRequest(
        "new",
        vcpus=first,
        memory_kib=sum(cell.memory_kib for cell in cells) + draw(st.integers(0, 2)),
        virtual_nodes=tuple(cells),
        hard=hard,
        whole_cores=draw(st.integers(0, 4)) == 0,
        apart_from=("g",) if draw(st.integers(0, 5)) == 0 else (),
        devices=tuple(
            NearDevice(f"{node}:0", node, required=True)
            for node in draw(st.lists(st.sampled_from(list(view.host.node_map)), max_size=1))
            if draw(st.integers(0, 3)) == 0
        ),
    )


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_cells_go_onto_the_best_nodes_that_hold_them(data):
    view = data.draw(views())
    request, order = data.draw(requests_with_cells(view)), data.draw(policies)
    decision = place(view, request, order)
    sets = oracle_virtual.node_sets(view, request, order)
    count = len(request.virtual_nodes)
    problem = prepare(view, request, as_libxl=order.admission == "libxl")
    if not sets:
        assert not decision.fits or count > len(problem.ids)
        return
    assert decision.fits
    way = tuple(nodes_of(decision))
    assert way in set(oracle_virtual.ways(view, request, order))
    search = Search(problem, order)

    def rank(nodes):
        chosen = problem.chosen(NodeMap(nodes))
        return search.vector(search.part_of(chosen)), sorted(nodes)

    assert sorted(way) == min(map(rank, sets))[1]
    misfit = oracle_virtual.misfit(view, request, way)
    assert misfit == oracle_virtual.least_misfit(view, request, order, frozenset(way))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_memory_and_masks_follow_the_cells(data):
    view = data.draw(views())
    request = data.draw(requests_with_cells(view))
    decision = place(view, request, policy("balanced"))
    if not decision.fits or None in nodes_of(decision):
        return
    assert sum(share.kib for share in decision.memory) == request.memory_kib
    masks = {}
    for run in decision.vcpus:
        masks |= dict.fromkeys(CpuMap.parse(run.vcpus), run)
    for cell in decision.virtual_nodes:
        there = sum(share.kib for share in decision.memory if share.node == cell.node)
        assert there >= cell.memory_kib
        for vcpu in cell.vcpus:
            assert masks[vcpu].soft == view.host.cpus_by_node[cell.node]


# -- the oddities by name --


def test_unequal_cells_take_the_nodes_that_are_left_for_them():
    decision = place(View(host(4, 16, 8)), wanted((1, 7), (1, 15), (1, 3)), policy("balanced"))
    assert nodes_of(decision) == [2, 1, 0]


def test_what_is_missing_names_the_cells_that_are_too_many():
    request = wanted((1, 2), (1, 9), (1, 9))
    decision = place(View(host(4, 16, 8)), request, policy("balanced"))
    assert decision.reason == (
        "does not fit: virtual nodes 1-2 (9216 MiB, 1 vcpu each) fit on node 1 alone,"
        " and need 2 nodes"
    )
    told = explain(View(host(4, 16, 8)), request, policy("balanced"), decision)
    assert any("less" in remedy.text for remedy in told.remedies)


def test_a_cell_that_fits_nowhere_is_named():
    decision = place(View(host(4, 4)), wanted((1, 2), (9, 1)), policy("balanced"))
    assert "virtual node 1 (1024 MiB, 9 vcpus) fits on no node" in decision.reason


def test_cells_that_are_near_lie_on_nodes_that_are_near():
    # Sockets of two nodes, numbered crosswise; cells 0-1 and 2-3 are near each other.
    near, far = 12, 32
    crosswise = [[10 if a == b else near if (a - b) % 2 == 0 else far for b in range(4)]
                 for a in range(4)]  # fmt: skip
    table = [[10 if a == b else 15 if a // 2 == b // 2 else 40 for b in range(4)] for a in range(4)]
    request = wanted((1, 1), (1, 1), (1, 1), (1, 1), distances=table)
    found = nodes_of(
        place(View(host(8, 8, 8, 8, distances=crosswise)), request, policy("balanced"))
    )
    assert {frozenset(found[:2]), frozenset(found[2:])} == {frozenset({0, 2}), frozenset({1, 3})}


def test_seven_cells_in_any_order_are_proved():
    table = [[10 if a == b else 10 + (a * 5 + b * 5) % 7 * 3 for b in range(7)] for a in range(7)]
    request = wanted(*[(1, 1)] * 7, distances=table)
    odd = [[10 if a == b else 12 + (a * b) % 5 for b in range(7)] for a in range(7)]
    assert place(View(host(*[8] * 7, distances=odd)), request, policy("balanced")).optimal


@pytest.mark.parametrize("group", [2, 4, 8])
def test_cells_in_groups_are_proved_on_a_tree_whatever_their_number(group):
    order = [at * 7 % 16 for at in range(16)]
    tree = [[10 if a == b else 12 if order[a] // group == order[b] // group else 32
             for b in range(16)] for a in range(16)]  # fmt: skip
    table = [[10 if a == b else 15 if a // group == b // group else 40 for b in range(16)]
             for a in range(16)]  # fmt: skip
    request = wanted(*[(1, 1)] * 16, distances=table)
    decision = place(View(host(*[8] * 16, distances=tree)), request, policy("balanced"))
    assert decision.optimal
    nodes = nodes_of(decision)
    for first in range(0, 16, group):
        assert len({order[node] // group for node in nodes[first : first + group]}) == 1


@pytest.mark.parametrize("count", [8, 16])
def test_cells_in_blocks_that_are_alike_are_proved(count):
    table = [[10 if a == b else 20 if a // 4 == b // 4 else 30 for b in range(count)]
             for a in range(count)]  # fmt: skip
    uneven = [[10 if a == b else 16 + 6 * ((a ^ b).bit_count() > 2) for b in range(count)]
              for a in range(count)]  # fmt: skip
    request = wanted(*[(1, 1)] * count, distances=table)
    decision = place(View(host(*[8] * count, distances=uneven)), request, policy("balanced"))
    assert decision.optimal


def test_more_cells_than_can_be_gone_through_are_placed_and_said_not_to_be_proved():
    count = 16
    table = [[10 if a == b else 11 + a * b % 29 for b in range(count)] for a in range(count)]
    odd = [[10 if a == b else 11 + a * b % 31 for b in range(count)] for a in range(count)]
    request = wanted(*[(1, 1)] * count, distances=table)
    decision = place(View(host(*[8] * count, distances=odd)), request, policy("first-fit"))
    assert decision.fits
    assert not decision.optimal
    assert "virtual-nodes-not-proved" in {warned.code for warned in decision.warnings}


def test_the_overhead_counts_in_like_parts_with_the_cells_that_have_vcpus():
    """On Xen the cell that fills its node to the last MiB was seen to get nothing at all."""
    assert place(View(host(4, 4)), wanted((1, 4), (1, 3)), policy("balanced")).fits
    tight = wanted((1, 4), (1, 3), beside_kib=2)
    assert not place(View(host(4, 4)), tight, policy("balanced")).fits
    decision = place(View(host(4, 5)), tight, policy("balanced"))
    assert nodes_of(decision) == [1, 0]
    assert [(share.node, share.kib) for share in decision.memory] == [
        (0, 3 * GIB + 1),
        (1, 4 * GIB + 1),
    ]
    without = place(View(host(4, 5)), wanted((0, 4), (1, 4), beside_kib=2), policy("balanced"))
    assert [share.kib for share in without.memory] == [4 * GIB, 4 * GIB + 2]


def test_pages_of_a_cell_come_from_the_pool_of_its_node():
    pools = [Node(at, present_kib=99 * GIB, free_kib=free * GIB, pages=(PagePool(1 << 20, 4, gib),))
             for at, (free, gib) in enumerate([(9, 1), (9, 3)])]  # fmt: skip
    view = View(host(9, 9).replace(nodes=pools))
    huge = wanted((1, 1), (1, 3), page=1 << 20)
    decision = place(view, huge, policy("balanced"))
    assert nodes_of(decision) == [0, 1]
    assert {share.page_kib for share in decision.memory} == {1 << 20}
    assert not place(view, wanted((1, 2), (1, 2), page=1 << 20), policy("balanced")).fits


def test_more_cells_than_nodes_share_nodes():
    decision = place(View(host(8, 8)), wanted(*[(1, 1)] * 4), policy("balanced"))
    assert decision.fits
    assert "share nodes" in decision.reason
    assert set(nodes_of(decision)) <= {0, 1}


def test_named_nodes_are_matched_and_not_dealt_out_in_turn():
    request = wanted((1, 2), (1, 7))
    asked = request._replace(explicit=ExplicitNodes(NodeMap([0, 1]), "nodes"))
    assert nodes_of(place(View(host(8, 4, 9)), asked, policy("balanced"))) == [1, 0]


def test_pins_of_an_exclusive_guest_are_on_the_nodes_of_its_cells():
    request = wanted((3, 1), (1, 6), exclusive=True)
    decision = place(View(host(4, 8)), request, policy("balanced"))
    assert nodes_of(decision) == [0, 1]
    assert [str(run.hard) for run in decision.vcpus] == ["0", "1", "2", "4"]


# -- virtual nodes that are made --


def whole(vcpus, gib, **more):
    return GuestRequest("new", vcpus, gib * GIB, guest_memory_kib=gib * GIB, split=True, **more)


def test_a_guest_that_fits_a_node_is_not_split():
    decision = place(View(host(8, 8)), whole(4, 8), policy("balanced"))
    assert (len(decision.nodes), decision.virtual_nodes) == (1, ())


@pytest.mark.parametrize(("vcpus", "gib"), [(8, 4), (2, 12), (6, 12)])
def test_one_that_fits_none_gets_a_virtual_node_on_each_of_the_nearest(vcpus, gib):
    table = [[10 if a == b else 12 if a // 2 == b // 2 else 32 for b in range(4)] for a in range(4)]
    decision = place(View(host(4, 8, 7, 7, distances=table)), whole(vcpus, gib), policy("balanced"))
    assert decision.nodes == NodeMap([2, 3])
    cells = decision.virtual_nodes
    assert sum(cell.memory_kib for cell in cells) == gib * GIB
    assert CpuMap.union([cell.vcpus for cell in cells]) == CpuMap.full(vcpus)
    assert [cell.distances for cell in cells] == [(10, 12), (12, 10)]
    assert {cell.memory_kib for cell in cells} == {gib * GIB // 2}


def test_unequal_nodes_get_unequal_virtual_nodes():
    decision = place(View(host(3, 9, cpus=2)), whole(4, 11), policy("balanced"))
    sizes = {
        cell.node: (len(cell.vcpus), cell.memory_kib // GIB) for cell in decision.virtual_nodes
    }
    assert sizes == {0: (2, 3), 1: (2, 8)}
    turned = place(View(host(9, 3, cpus=2)), whole(4, 11), policy("balanced"))
    assert [cell.memory_kib // GIB for cell in turned.virtual_nodes] == [8, 3]


def test_whole_gib_that_no_node_has_are_no_hindrance_to_virtual_nodes():
    """Those of a guest without them would come from another node, and so it does not fit."""
    view = View(host_of_mib(999, 999), share_rule=memory_shares)
    request = whole(4, 1, type="hvm")._replace(memory_kib=GIB + 8192)
    assert not place(view, request._replace(split=False), policy("balanced")).fits
    cells = place(view, request, policy("balanced")).virtual_nodes
    assert [cell.memory_kib for cell in cells] == [GIB // 2, GIB // 2]


@settings(deadline=None)
@given(
    free=st.lists(st.integers(0, 40), min_size=2, max_size=4),
    spare=st.integers(0, 12),
    beside_kib=st.integers(0, 9000),
)
def test_what_is_made_leaves_room_for_what_the_hypervisor_needs_beside_it(free, spare, beside_kib):
    mib = max(1, sum(free) - spare)
    request = GuestRequest(
        "new", 9, mib * 1024 + beside_kib, guest_memory_kib=mib * 1024, split=True
    )
    view = View(host_of_mib(*free))
    decision = place(view, request, policy("balanced"))
    cells = decision.virtual_nodes
    for cell in cells:
        beside = -(-beside_kib // len(cells))
        assert cell.memory_kib % 1024 == 0
        assert cell.memory_kib + beside <= view.usable_kib(cell.node)
    assert "not-split" not in {warned.code for warned in decision.warnings} or not cells


def test_a_guest_of_one_vcpu_over_two_nodes_cannot_be_split_and_is_told():
    decision = place(View(host(8, 8)), whole(1, 12), policy("balanced"))
    assert (decision.fits, decision.virtual_nodes) == (True, ())
    assert "not-split" in {warned.code for warned in decision.warnings}


def test_a_host_that_lies_about_distances_gives_the_guest_none():
    lying = [[10, 10], [10, 10]]
    cells = place(View(host(8, 8, distances=lying)), whole(8, 12), policy("balanced")).virtual_nodes
    assert [cell.distances for cell in cells] == [(), ()]


def test_of_two_directions_the_guest_is_told_the_longer_and_nothing_that_cannot_be_reached():
    def told(there, back):
        table = [[10, there], [back, 10]]
        cells = place(
            View(host(8, 8, distances=table)), whole(8, 12), policy("balanced")
        ).virtual_nodes
        return [cell.distances for cell in cells]

    assert told(15, 20) == told(20, 15) == [(10, 20), (20, 10)]
    assert told(11, 254) == [(10, 254), (254, 10)]
    assert told(20, 255) == told(20, None) == told(None, None) == [(), ()]


def test_named_nodes_give_virtual_nodes_pages_of_their_size():
    pools = (PagePool(2048, 9, 2),)
    cells = tuple(
        cell._replace(memory_kib=2048 * (at + 1), page_kib=2048)
        for at, cell in enumerate(wanted((1, 0), (1, 0), (1, 0)).virtual_nodes)
    )
    request = GuestRequest(
        "new",
        3,
        6 * 2048,
        virtual_nodes=cells[:3],
        explicit=ExplicitNodes(NodeMap([0, 1]), "nodes"),
    )
    short = place(View(host(8, 8, pages=pools)), request, policy("balanced"))
    assert "node 0 is 4 MiB short (4 MiB in free pages of 2 MiB, 8 MiB needed)" in short.reason
    pools = (PagePool(2048, 9, 3),)
    decision = place(View(host(8, 8, pages=pools)), request, policy("balanced"))
    assert nodes_of(decision) == [1, 1, 0]
    assert {share.page_kib for share in decision.memory} == {2048}


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_what_is_made_could_have_been_asked_for(data):
    view = data.draw(views())
    unit = view.host.nodes[0].present_kib // 16
    kib = data.draw(st.integers(1, 24)) * unit
    request = GuestRequest("new", data.draw(st.integers(1, 10)), kib, guest_memory_kib=kib)
    made = place(view, request._replace(split=True), policy("balanced"))
    assert made.fits == (oracle.best(view, request, policy("balanced")) is not None)
    assert not made.fits or sum(share.kib for share in made.memory) == kib
    if not made.virtual_nodes:
        return
    asked = request._replace(virtual_nodes=tuple(c._replace(node=None) for c in made.virtual_nodes))
    assert tuple(nodes_of(made)) in set(oracle_virtual.ways(view, asked, policy("balanced")))
    fewer = request._replace(split=True, node_count=len(made.nodes) - 1)
    assert not place(view, fewer, policy("balanced")).fits


def test_twins_that_hold_different_cells_are_not_taken_for_each_other():
    pool = (PagePool(2048, 99, 99),)
    alike = host(8, 8, 8, 8)
    nodes = [node._replace(pages=pool if node.id > 1 else ()) for node in alike.nodes]
    request = wanted((1, 0), (1, 0))
    huge = tuple(cell._replace(page_kib=2048, memory_kib=2048) for cell in request.virtual_nodes)
    request = request._replace(virtual_nodes=huge, memory_kib=4096, guest_memory_kib=4096)
    decision = place(View(alike.replace(nodes=nodes)), request, policy("balanced"))
    assert nodes_of(decision) == [2, 3]


def test_a_tier_that_is_all_of_the_memory_leaves_nothing_to_split():
    view = View(
        host(8, 8).replace(
            nodes=(*host(8, 8).nodes, Node(2, "cxl", present_kib=99 * GIB, free_kib=9 * GIB)),
            distances=None,
        )
    )
    part = place(view, whole(8, 9, tier=Tier("cxl", 4 * GIB)), policy("balanced"))
    assert [(cell.node, len(cell.vcpus)) for cell in part.virtual_nodes] == [(0, 4), (1, 4), (2, 0)]
    assert [cell.memory_kib for cell in part.virtual_nodes] == [
        5 * GIB // 2, 5 * GIB // 2, 4 * GIB,
    ]  # fmt: skip
    everything = place(view, whole(8, 9, tier=Tier("cxl", 9 * GIB)), policy("balanced"))
    assert (everything.fits, everything.virtual_nodes, everything.warnings) == (True, (), ())
    beside = whole(8, 9, tier=Tier("cxl", 9 * GIB))._replace(memory_kib=9 * GIB + 4096)
    assert place(view, beside, policy("balanced")).virtual_nodes == ()


def test_virtual_nodes_that_are_made_have_the_pages_of_the_guest_in_whole():
    pool = (PagePool(2048, 99, 9),)
    request = GuestRequest(
        "new", 2, 13 * 2048, guest_memory_kib=13 * 2048, split=True, page_kib=2048
    )
    cells = place(View(host(1, 1, pages=pool)), request, policy("balanced")).virtual_nodes
    assert [(cell.memory_kib, cell.page_kib) for cell in cells] == [
        (6 * 2048, 2048),
        (7 * 2048, 2048),
    ]


def test_what_is_needed_beside_huge_pages_is_ordinary_memory():
    pool = (PagePool(2048, 9, 9),)
    beside = wanted((1, 0), (1, 0))
    cells = tuple(cell._replace(memory_kib=2048, page_kib=2048) for cell in beside.virtual_nodes)
    request = GuestRequest("new", 2, 4096 + 100, virtual_nodes=cells)
    decision = place(View(host(1, 1, pages=pool)), request, policy("balanced"))
    assert [(share.node, share.page_kib, share.kib) for share in decision.memory] == [
        (0, 4, 50), (0, 2048, 2048), (1, 4, 50), (1, 2048, 2048),
    ]  # fmt: skip
    plain = tuple(cell._replace(page_kib=64) for cell in cells)
    decision = place(View(host(1, 1)), request._replace(virtual_nodes=plain), policy("balanced"))
    assert [(share.page_kib, share.kib) for share in decision.memory] == [(64, 2098)] * 2


def test_what_is_no_whole_mib_lies_on_the_last_node_that_has_room_for_it():
    def made(kib, *free):
        tight = Host(
            cpus=[Cpu(at, at) for at in range(len(free))],
            nodes=[Node(at, present_kib=GIB, free_kib=mib) for at, mib in enumerate(free)],
        )
        request = GuestRequest("new", len(free), kib, guest_memory_kib=kib, split=True)
        return [
            cell.memory_kib
            for cell in place(View(tight), request, policy("balanced")).virtual_nodes
        ]

    assert made(4 * 1024 + 5, 3072, 2048 + 4) == [2048 + 5, 2048]
    assert made(4 * 1024 + 5, 3072, 3072) == [2048, 2048 + 5]
    assert made(4 * 1024, 3072, 3072) == [2048, 2048]
    assert made(4 * 1024 + 5, 3072, 2048 + 5) == [2048, 2048 + 5]


def test_what_is_needed_beside_made_virtual_nodes_is_needed_in_like_parts():
    request = GuestRequest("new", 2, 8 * GIB + 16 * 1024, guest_memory_kib=8 * GIB, split=True)
    tight = place(View(host_of_mib(4096 + 8, 4096 + 8)), request, policy("balanced"))
    assert [cell.memory_kib for cell in tight.virtual_nodes] == [4 * GIB, 4 * GIB]
    assert (
        place(View(host_of_mib(4096 + 8, 4096 + 7)), request, policy("balanced")).virtual_nodes
        == ()
    )


def test_named_nodes_are_given_to_virtual_nodes_by_their_distances():
    crosswise = [[10 if a == b else 12 if (a - b) % 2 == 0 else 32 for b in range(4)]
                 for a in range(4)]  # fmt: skip
    table = [[10 if a == b else 15 if a // 2 == b // 2 else 40 for b in range(4)] for a in range(4)]
    request = wanted((1, 1), (1, 1), (1, 1), (1, 1), distances=table)
    asked = request._replace(explicit=ExplicitNodes(NodeMap(range(4)), "nodes"))
    view = View(host(8, 8, 8, 8, distances=crosswise))
    assert nodes_of(place(view, asked, policy("balanced"))) == [0, 2, 1, 3]
