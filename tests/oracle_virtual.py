"""Where virtual nodes can lie, found by going through every way to lay cells on nodes.

Written from the definitions alone and without a line of the search or the matching: a cell lies
on one node, no two cells on the same one, and a node holds a cell if it has the cpus and, in pages
of the cell's size, the memory. Ways are tuples of node numbers in the order of the cells.
"""

from collections.abc import Iterator
from itertools import permutations

from homenode.guest import GuestRequest, VirtualNode
from homenode.host import ORDINARY_PAGE_KIB
from homenode.placement.policies import Policy
from homenode.placement.view import View
from oracle import seats, suitable

Way = tuple[int, ...]


def page_of(request: GuestRequest, cell: VirtualNode) -> int:
    return request.page_kib if cell.page_kib is None else cell.page_kib


def needed_kib(request: GuestRequest, at: int) -> int:
    """What cell `at` takes from its node: the hypervisor's overhead comes with the first one."""
    own = request.virtual_nodes[at].memory_kib
    if at > 0:
        return own
    cells = sum(cell.memory_kib for cell in request.virtual_nodes)
    return own + max(0, request.memory_kib - cells)


def left_kib(view: View, node: int, page_kib: int, policy: Policy) -> int:
    """What the node has for the guest in pages of that size, once promises are kept."""
    found = view.host.nodes_by_id[node]
    if policy.admission == "libxl" and page_kib <= ORDINARY_PAGE_KIB:
        return found.free_kib or 0
    usable = found.usable_in_pages_kib(page_kib) or 0
    claimed = 0 if policy.admission == "libxl" else view.outstanding_kib.get(node, 0)
    return max(0, usable - claimed)


def barred(view: View, request: GuestRequest) -> frozenset[int]:
    """The nodes that give this guest nothing: excluded ones, and those of guests it shuns."""
    found = set(request.excluded)
    for guest in view.guests:
        if guest.name not in request.apart_from:
            continue
        if guest.memory_by_node is not None:
            found |= {node for node, kib in guest.memory_by_node.kib.items() if kib > 0}
        elif guest.node_affinity is not None:
            found |= set(guest.node_affinity)
    return frozenset(found)


def nodes_of_cell(view: View, request: GuestRequest, policy: Policy, at: int) -> frozenset[int]:
    """The nodes that hold cell `at` if it is looked at alone."""
    host, cell = view.host, request.virtual_nodes[at]
    cpus = suitable(view, request, policy)
    found = set()
    for node in {one.id for one in host.nodes} - barred(view, request):
        own = set(host.cpus_by_node[node]) & cpus
        room = left_kib(view, node, page_of(request, cell), policy)
        wished = cell.node is None or cell.node == node
        seated = seats(host, request, own) >= len(cell.vcpus)
        if wished and seated and room >= needed_kib(request, at):
            found.add(node)
    return frozenset(found)


def ways(view: View, request: GuestRequest, policy: Policy) -> Iterator[Way]:
    """Yield every way to lay the cells, in lexicographic order of the node numbers."""
    cells = range(len(request.virtual_nodes))
    allowed = [nodes_of_cell(view, request, policy, at) for at in cells]
    near = {device.node for device in request.devices if device.required}
    for way in permutations(sorted(frozenset().union(*allowed)), len(allowed)):
        held = all(node in nodes for node, nodes in zip(way, allowed, strict=True))
        if held and near <= set(way):
            yield way


def node_sets(view: View, request: GuestRequest, policy: Policy) -> set[frozenset[int]]:
    """The sets of nodes that hold the guest in one way or another."""
    return {frozenset(way) for way in ways(view, request, policy)}
