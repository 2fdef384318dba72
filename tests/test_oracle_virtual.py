"""The oracle of virtual nodes itself, on hosts small enough to see the answer."""

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import Guest, GuestRequest, MemoryByNode, NearDevice, VirtualNode
from homenode.host import Cpu, Host, Node, PagePool, Reservation
from homenode.placement.policies import policy
from homenode.placement.view import View
from oracle_virtual import least_misfit, node_sets, ways

BALANCED = policy("balanced")


def view_of(*memory_kib, cpus=4, **others):
    """A host of nodes with that much memory, and `cpus` hyperthreads each."""
    host = Host(
        cpus=[Cpu(n, n // cpus, core=n // 2, thread=n % 2) for n in range(cpus * len(memory_kib))],
        nodes=[Node(at, present_kib=999, free_kib=kib) for at, kib in enumerate(memory_kib)],
    )
    return View(host, **others)


def guest_of(*cells, overhead_kib=0, **others):
    """A guest of cells given as (vcpus, memory in KiB) or (vcpus, memory, page size)."""
    made, first = [], 0
    for at, (vcpus, kib, *page) in enumerate(cells):
        numbers = CpuMap(range(first, first + vcpus))
        made.append(VirtualNode(at, numbers, kib, page_kib=page[0] if page else None))
        first += vcpus
    needed = sum(cell.memory_kib for cell in made) + overhead_kib
    return GuestRequest("new", first, needed, virtual_nodes=tuple(made), **others)


def found(view, request, by=BALANCED):
    return list(ways(view, request, by))


def sets(view, request):
    return node_sets(view, request, BALANCED)


def test_each_cell_has_a_node_of_its_own():
    assert found(view_of(100, 100), guest_of((1, 10), (1, 10))) == [(0, 1), (1, 0)]
    assert found(view_of(100), guest_of((1, 10), (1, 10))) == []


def test_cells_of_unequal_memory_lie_where_there_is_enough_of_it():
    view = view_of(30, 100, 20)
    assert found(view, guest_of((1, 20), (1, 100))) == [(0, 1), (2, 1)]
    assert sets(view, guest_of((1, 20), (1, 30))) == {
        frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2}),
    }  # fmt: skip


def test_the_overhead_lies_with_the_cells_that_have_vcpus():
    assert found(view_of(12, 11), guest_of((1, 10), (1, 11), overhead_kib=2)) == [(1, 0)]
    assert found(view_of(11, 10), guest_of((1, 10), (1, 10), overhead_kib=2)) == []
    assert found(view_of(11, 10), guest_of((1, 10), (1, 10), overhead_kib=1)) == [(0, 1)]
    assert found(view_of(11, 10), guest_of((0, 10), (1, 10), overhead_kib=1)) == [(1, 0)]


def test_a_cell_needs_its_vcpus_on_one_node_and_cores_where_it_wants_whole_ones():
    view = view_of(99, 99)
    assert found(view, guest_of((5, 1))) == []
    assert found(view, guest_of((4, 1))) == [(0,), (1,)]
    assert found(view, guest_of((3, 1), whole_cores=True)) == []
    assert found(view, guest_of((2, 1), whole_cores=True)) == [(0,), (1,)]


def test_hard_affinity_and_excluded_nodes_restrict_the_nodes():
    view = view_of(99, 99, 99)
    hard = (CpuMap(range(4, 12)),)
    assert found(view, guest_of((1, 1), hard=hard)) == [(1,), (2,)]
    assert found(view, guest_of((1, 1), hard=hard, excluded=NodeMap([1]))) == [(2,)]


def test_each_vcpu_of_a_cell_may_run_on_its_node():
    hard = (CpuMap(range(4)), CpuMap(range(8)), CpuMap(range(4, 8)))
    assert found(view_of(9, 9), guest_of((2, 1), (1, 1), hard=hard)) == [(0, 1)]
    assert found(view_of(9, 9), guest_of((1, 1), (2, 1), hard=hard)) == [(0, 1)]
    assert found(view_of(9, 9), guest_of((3, 1), hard=hard)) == []


def test_a_cell_without_vcpus_can_lie_on_a_node_without_cpus_or_on_one_that_is_open():
    view = view_of(9, 9)
    nodes = (*view.host.nodes, Node(2, present_kib=9, free_kib=9))
    view = view._replace(host=view.host.replace(nodes=nodes, distances=None))
    request = guest_of((1, 1), (0, 1), hard=(CpuMap(range(4)),))
    assert found(view, request) == [(0, 2)]
    assert found(view, request._replace(hard=())) == [(0, 1), (0, 2), (1, 0), (1, 2)]


def test_nodes_of_a_guest_that_is_shunned_are_out():
    other = Guest("other", memory_by_node=MemoryByNode({0: 5, 1: 0}, "made up"))
    view = view_of(99, 99, guests=(other,))
    assert found(view, guest_of((1, 1), apart_from=("other",))) == [(1,)]


def test_claims_and_reserves_count_but_not_for_policy_xl():
    view = view_of(20, 20, outstanding_kib={0: 15})
    assert found(view, guest_of((1, 10))) == [(1,)]
    assert found(view, guest_of((1, 10)), policy("xl")) == [(0,), (1,)]
    kept = view.host.nodes[1]._replace(reserved=(Reservation(15, "kept"),))
    view = view._replace(host=view.host.replace(nodes=(view.host.nodes[0], kept)))
    assert found(view, guest_of((1, 10))) == []


def test_huge_pages_come_from_the_pool_of_their_size():
    view = view_of(99, 99)
    pooled = view.host.nodes[1]._replace(pages=(PagePool(2048, 8, 4),), present_kib=1 << 20)
    view = view._replace(host=view.host.replace(nodes=(view.host.nodes[0], pooled)))
    assert found(view, guest_of((1, 8192, 2048))) == [(1,)]
    assert found(view, guest_of((1, 8193, 2048))) == []
    assert found(view, guest_of((1, 8192), page_kib=2048)) == [(1,)]
    assert found(view, guest_of((1, 50, 4), (1, 2048), page_kib=2048)) == [(0, 1)]
    assert found(view, guest_of((1, 8192, 2048), overhead_kib=99)) == [(1,)]
    assert found(view, guest_of((1, 8192, 2048), overhead_kib=100)) == []


def test_a_node_that_a_cell_names_is_the_only_one_for_it():
    request = guest_of((1, 1), (1, 1))
    named = request.virtual_nodes[0]._replace(node=1)
    request = request._replace(virtual_nodes=(named, request.virtual_nodes[1]))
    assert found(view_of(9, 9, 9), request) == [(1, 0), (1, 2)]


def test_a_device_that_is_required_has_its_node_among_those_of_the_guest():
    near = (NearDevice("0000:41:00.0", 2, required=True),)
    assert sets(view_of(9, 9, 9), guest_of((1, 1), (1, 1), devices=near)) == {
        frozenset({0, 2}), frozenset({1, 2}),
    }  # fmt: skip


def test_a_device_on_a_node_without_cpus_is_near_the_nearest_nodes_that_have_some():
    view = view_of(9, 9)
    nodes = (*view.host.nodes, Node(2, present_kib=9, free_kib=9))
    distances = [[10, 20, 40], [20, 10, 30], [40, 30, 10]]
    view = view._replace(host=view.host.replace(nodes=nodes, distances=distances))
    near = (NearDevice("0000:41:00.0", 2, required=True),)
    assert found(view, guest_of((1, 1), devices=near)) == [(1,)]


def test_cells_that_are_near_each_other_misfit_least_on_nodes_that_are():
    view = view_of(9, 9, 9)
    distances = [[10, 20, 40], [20, 10, 30], [40, 30, 10]]
    view = view._replace(host=view.host.replace(distances=distances))
    request = guest_of((1, 1), (1, 1), (1, 1))
    rows = ((10, 30, 30), (30, 10, 12), (30, 12, 10))
    cells = (
        cell._replace(distances=row) for cell, row in zip(request.virtual_nodes, rows, strict=True)
    )
    request = request._replace(virtual_nodes=tuple(cells))
    everywhere = frozenset({0, 1, 2})
    # The second and the third cell, 18 nearer than the farthest, are on nodes that are 20 apart.
    assert least_misfit(view, request, BALANCED, everywhere) == 18 * 20
    assert least_misfit(view, request, BALANCED, frozenset({0, 1})) is None
