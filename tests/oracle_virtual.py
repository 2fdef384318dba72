"""Where virtual nodes can lie, found by going through every way to lay cells on nodes.

Written from the definitions alone and without a line of the search or the matching: a cell lies
on one node, no two cells on the same one, and a node holds a cell if it has the cpus and, in pages
of the cell's size, the memory. Ways are tuples of node numbers in the order of the cells.
"""

from collections.abc import Iterator
from itertools import combinations, permutations

from homenode.guest import GuestRequest
from homenode.host import ORDINARY_PAGE_KIB, Host
from homenode.placement.policies import Policy
from homenode.placement.view import View
from oracle import pairwise, seats, suitable

Way = tuple[int, ...]

ORDINARY = 4


def needs_kib(request: GuestRequest, at: int) -> dict[int, int]:
    """What cell `at` takes from its node, by page size.

    The hypervisor's overhead comes in like parts (the first ones a KiB larger) from the nodes of
    the cells that have vcpus, and never in huge pages.
    """
    cell = request.virtual_nodes[at]
    page_kib = request.page_kib if cell.page_kib is None else cell.page_kib
    own = {page_kib if page_kib > ORDINARY_PAGE_KIB else ORDINARY: cell.memory_kib}
    running = [one for one in request.virtual_nodes if one.vcpus] or request.virtual_nodes
    if cell in running:
        cells = sum(one.memory_kib for one in request.virtual_nodes)
        each, odd = divmod(max(0, request.memory_kib - cells), len(running))
        part = each + (running.index(cell) < odd)
        own[ORDINARY] = own.get(ORDINARY, 0) + part
    return own


def left_kib(view: View, node: int, page_kib: int, policy: Policy) -> int:
    """What the node has for the guest in pages of that size, once promises are kept."""
    found = view.host.nodes_by_id[node]
    if page_kib > ORDINARY_PAGE_KIB:
        claims = view.outstanding_huge_kib
        claimed = claims.get((node, page_kib), 0)
    elif policy.admission == "libxl":
        return found.free_kib or 0
    else:
        claimed = view.outstanding_kib.get(node, 0)
    return max(0, (found.usable_in_pages_kib(page_kib) or 0) - claimed)


def barred(view: View, request: GuestRequest) -> frozenset[int]:
    """The nodes that give this guest nothing: excluded ones, and those of guests it shuns."""
    found = set(request.excluded)
    for guest in view.guests:
        if guest.name not in request.apart_from:
            continue
        if guest.memory_by_node is not None:
            found |= {node for node, kib in guest.memory_by_node.kib.items() if kib > 0}
        # To be allowed everywhere is to be nowhere in particular.
        if guest.node_affinity is not None and guest.node_affinity != view.host.node_map:
            found |= set(guest.node_affinity)
    return frozenset(found)


def seated(view: View, request: GuestRequest, policy: Policy, at: int, node: int) -> bool:
    """Whether the vcpus of cell `at` can run on the node, each of them.

    Without vcpus it asks for none, but still for a node that is not closed to the guest.
    """
    vcpus = set(request.virtual_nodes[at].vcpus)
    everything = set(view.host.cpus_by_node[node])
    own = everything & suitable(view, request, policy)
    if everything and not own:
        return False
    if request.hard and not all(set(request.hard[vcpu]) & own for vcpu in vcpus):
        return False
    return seats(view.host, request, own) >= len(vcpus)


def nodes_of_cell(view: View, request: GuestRequest, policy: Policy, at: int) -> frozenset[int]:
    """The nodes that hold cell `at` if it is looked at alone."""
    wished = request.virtual_nodes[at].node
    return frozenset(
        node
        for node in {one.id for one in view.host.nodes} - barred(view, request)
        if wished in (None, node)
        and seated(view, request, policy, at, node)
        and all(
            left_kib(view, node, page_kib, policy) >= kib
            for page_kib, kib in needs_kib(request, at).items()
        )
    )


def near_device(host: Host, node: int) -> frozenset[int]:
    """The nodes that are with a device on `node`: that one, or the nearest ones that have cpus."""
    with_cpus = [one for one, cpus in host.cpus_by_node.items() if cpus]
    if node in with_cpus:
        return frozenset({node})
    least = min((host.distance(one, node) for one in with_cpus), default=0)
    return frozenset(one for one in with_cpus if host.distance(one, node) == least)


def ways(view: View, request: GuestRequest, policy: Policy) -> Iterator[Way]:
    """Yield every way to lay the cells, in lexicographic order of the node numbers."""
    cells = range(len(request.virtual_nodes))
    allowed = [nodes_of_cell(view, request, policy, at) for at in cells]
    near = [near_device(view.host, one.node) for one in request.devices if one.required]
    for way in permutations(sorted(frozenset().union(*allowed)), len(allowed)):
        held = all(node in nodes for node, nodes in zip(way, allowed, strict=True))
        if held and all(nodes & set(way) for nodes in near):
            yield way


def node_sets(view: View, request: GuestRequest, policy: Policy) -> set[frozenset[int]]:
    """The sets of nodes that hold the guest in one way or another."""
    return {frozenset(way) for way in ways(view, request, policy)}


def misfit(view: View, request: GuestRequest, way: Way) -> int:
    """How badly the distances of the nodes fit those between the cells: 0 if none are stated.

    Over pairs of cells: how much nearer they are than the farthest, times how far their nodes are.
    """
    rows = [cell.distances for cell in request.virtual_nodes]
    if any(len(row) != len(rows) for row in rows):
        return 0
    most = max((far for row in rows for far in row), default=0)
    return sum(
        (most - min(rows[a][b], rows[b][a])) * pairwise(view.host, way[a], way[b])
        for a, b in combinations(range(len(rows)), 2)
    )


def least_misfit(
    view: View, request: GuestRequest, policy: Policy, nodes: frozenset[int]
) -> int | None:
    """The least misfit of the ways to lay the cells on exactly those nodes; None: there is none."""
    found = [way for way in ways(view, request, policy) if frozenset(way) == nodes]
    return min((misfit(view, request, way) for way in found), default=None)
