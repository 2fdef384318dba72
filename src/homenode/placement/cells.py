"""The virtual nodes of a request on a host: which of them fits on which node.

A virtual node fits on a node that has cpus for its vcpus, each of which may run there, and memory
in pages of its size, with its part of what the hypervisor needs beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from homenode.bitmap import CpuMap
from homenode.guest import GuestRequest, VirtualNode
from homenode.host import ORDINARY_PAGE_KIB
from homenode.placement.view import View
from homenode.placement.virtual import Cells

_ORDINARY_KIB = 4


class Places(NamedTuple):
    """The nodes in question, by position: numbers, cpus, vcpus that they take, distances."""

    ids: Sequence[int]
    cpus: Sequence[CpuMap]
    seats: Sequence[int]
    distances: Sequence[Sequence[int]]


def overheads_kib(request: GuestRequest, cells: Sequence[VirtualNode]) -> list[int]:
    """Return what is needed on the node of each virtual node beside its memory.

    It comes from the nodes where the guest has cpus, from one after the other (Xen), or from any
    of them (Linux): those of virtual nodes with vcpus give a like part each.
    """
    overhead_kib = max(0, request.memory_kib - sum(cell.memory_kib for cell in cells))
    giving = [place for place, cell in enumerate(cells) if cell.vcpus] or range(len(cells))
    parts = [0] * len(cells)
    for turn, place in enumerate(giving):
        parts[place] = (overhead_kib + len(giving) - 1 - turn) // len(giving)
    return parts


def cells_kib(request: GuestRequest) -> list[int]:
    """Return what each virtual node takes from its node, the overhead there included."""
    beside = overheads_kib(request, request.virtual_nodes)
    return [cell.memory_kib + kib for cell, kib in zip(request.virtual_nodes, beside, strict=True)]


def cells_of(view: View, request: GuestRequest, places: Places, *, as_libxl: bool) -> Cells | None:
    """Return the virtual nodes that are to be matched; None if there are none, or all have theirs.

    `as_libxl` counts free memory as it is stated.
    """
    cells = request.virtual_nodes
    if not cells or all(cell.node is not None for cell in cells):
        return None
    sizes = {cell.page_kib or request.page_kib for cell in cells} | {_ORDINARY_KIB}
    room = {
        (node, size): view.room_kib(node, size, as_libxl=as_libxl)
        for node in places.ids
        for size in sizes
    }
    fits = []
    for cell, beside_kib in zip(cells, overheads_kib(request, cells), strict=True):
        needs = _needs_kib(request, cell, beside_kib)
        fits.append(
            sum(
                1 << at
                for at, node in enumerate(places.ids)
                if cell.node in (None, node)
                and places.seats[at] >= len(cell.vcpus)
                and all(room[node, size] >= kib for size, kib in needs.items())
                and _may_run(request, cell, places.cpus[at])
            )
        )
    stated = all(len(cell.distances) == len(cells) for cell in cells)
    distances = [cell.distances for cell in cells] if stated else ()
    return Cells(fits, distances, places.distances)


def _needs_kib(request: GuestRequest, cell: VirtualNode, beside_kib: int) -> dict[int, int]:
    # What a virtual node takes, by size of page: what is needed beside it is never in huge ones.
    size = cell.page_kib or request.page_kib
    if size > ORDINARY_PAGE_KIB:
        return {size: cell.memory_kib, _ORDINARY_KIB: beside_kib}
    return {size: cell.memory_kib + beside_kib}


def _may_run(request: GuestRequest, cell: VirtualNode, cpus: CpuMap) -> bool:
    # Whether each vcpu of the cell is allowed on some of those cpus.
    hard = request.hard
    return not hard or all(
        not hard[min(vcpu, len(hard) - 1)].isdisjoint(cpus) for vcpu in cell.vcpus
    )
