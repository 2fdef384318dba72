"""The virtual nodes of a request on a host: which of them fits on which node.

A virtual node fits on a node that has cpus for its vcpus, each of which may run there, and memory
in pages of its size. What the hypervisor needs beside them counts with the first.
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


def overhead_kib(request: GuestRequest, cells: Sequence[VirtualNode]) -> int:
    """Return what is needed beside the memory of the virtual nodes."""
    return max(0, request.memory_kib - sum(cell.memory_kib for cell in cells))


def cells_kib(request: GuestRequest) -> list[int]:
    """Return what each virtual node takes from its node, the overhead with the first."""
    needs = [cell.memory_kib for cell in request.virtual_nodes]
    if needs:
        needs[0] += overhead_kib(request, request.virtual_nodes)
    return needs


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
    for number, cell in enumerate(cells):
        needs = _needs_kib(request, number)
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


def _needs_kib(request: GuestRequest, number: int) -> dict[int, int]:
    # What a virtual node takes, by size of page: the overhead is never in huge ones.
    cells = request.virtual_nodes
    size = cells[number].page_kib or request.page_kib
    needs = {size: cells[number].memory_kib}
    if not number:
        beside = _ORDINARY_KIB if size > ORDINARY_PAGE_KIB else size
        needs[beside] = needs.get(beside, 0) + overhead_kib(request, cells)
    return needs


def _may_run(request: GuestRequest, cell: VirtualNode, cpus: CpuMap) -> bool:
    # Whether each vcpu of the cell is allowed on some of those cpus.
    hard = request.hard
    return not hard or all(
        not hard[min(vcpu, len(hard) - 1)].isdisjoint(cpus) for vcpu in cell.vcpus
    )
