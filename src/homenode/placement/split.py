"""Virtual nodes for a guest that has none and fits no single node: one for each of its nodes.

A guest over several nodes that sees a single one cannot keep its programs near their memory.
Given a virtual node on each of its nodes, with their distances, its own kernel can. The virtual
nodes are alike as far as the nodes let them: memory and vcpus are dealt out evenly, and where a
node is full the others take its part. Memory of nodes without cpus is in virtual nodes without
vcpus.
"""

from collections.abc import Sequence

from homenode.bitmap import CpuMap
from homenode.guest import VirtualNode
from homenode.host import Host
from homenode.placement.problem import Problem
from homenode.placement.weights import positions

LOCAL_DISTANCE = 10
FARTHEST_DISTANCE = 255
"""What a guest's table of distances can hold (ACPI 6.5, 5.2.17, SLIT; libvirt and Xen alike)."""


def split(problem: Problem, chosen: int) -> tuple[VirtualNode, ...] | None:
    """Return virtual nodes for the guest of `problem`, one on each node that it has memory on.

    None if some node would get no vcpu or no memory, or memory does not come out in whole units.
    """
    request, ats = problem.request, list(positions(chosen))
    unit = problem.split_unit_kib
    far = problem.far_shares_kib(chosen)
    own_kib = request.guest_memory_kib or request.memory_kib
    guest_kib = own_kib - sum(far.values())
    beside_kib = problem.split_beside_kib(len(ats))
    room = [problem.memory.of[at] - beside_kib for at in ats]
    memory = _dealt(guest_kib // unit, [kib // unit for kib in room])
    vcpus = _dealt(request.vcpus, [problem.seats.of[at] for at in ats])
    if memory is None or vcpus is None or not all(memory) or not all(vcpus):
        return None
    sizes = [units * unit for units in memory]
    odd_kib = guest_kib % unit
    if odd_kib:
        roomy = [at for at, kib in enumerate(sizes) if kib + odd_kib <= room[at]]
        if not roomy:
            return None
        sizes[roomy[-1]] += odd_kib
    ids = [problem.ids[at] for at in ats]
    ids += [problem.far.nodes[at] for at in far]
    distances = _distances(problem.view.host, ids)
    cells, first = [], 0
    for number, kib in enumerate(sizes):
        own = CpuMap(range(first, first + vcpus[number]))
        first += vcpus[number]
        row = distances[number] if distances else ()
        cells.append(VirtualNode(number, own, kib, row, ids[number], request.page_kib))
    for number, kib in enumerate(far.values(), start=len(cells)):
        row = distances[number] if distances else ()
        cells.append(VirtualNode(number, CpuMap(), kib, row, ids[number], request.page_kib))
    return tuple(cells)


def _dealt(count: int, room: Sequence[int]) -> list[int] | None:
    """Deal `count` things out as evenly as `room` allows; None if there is too little of it."""
    dealt, left = [0] * len(room), count
    smallest_first = sorted(range(len(room)), key=lambda at: (room[at], at))
    for done, at in enumerate(smallest_first):
        dealt[at] = min(max(0, room[at]), left // (len(room) - done))
        left -= dealt[at]
    return None if left else dealt


def _distances(host: Host, ids: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the table of the virtual nodes' distances; none where the host's is not believable.

    The longer way counts where two directions differ.
    """
    rows = []
    for one in ids:
        row = []
        for other in ids:
            far = max(host.distance(one, other), host.distance(other, one))
            if one != other and not LOCAL_DISTANCE < far < FARTHEST_DISTANCE:
                return []
            row.append(LOCAL_DISTANCE if one == other else far)
        rows.append(tuple(row))
    return rows
