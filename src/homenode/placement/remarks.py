"""What the user should know of a decision beside the decision itself: its warnings."""

from homenode.guest import GuestRequest
from homenode.host import ORDINARY_PAGE_KIB
from homenode.placement.decision import MemoryShare, Warned
from homenode.placement.problem import Problem
from homenode.placement.view import View
from homenode.units import format_memory, format_page


def view_warnings(view: View, request: GuestRequest) -> tuple[Warned, ...]:
    """Return what the user should know of the host and the guests that it was decided on."""
    page_kib, host = request.page_kib, view.host
    huge = page_kib > ORDINARY_PAGE_KIB
    counted = host.node_map if _wants_far_nodes(request) else host.nodes_of(host.cpu_map)
    unknown = view.unknown_nodes(page_kib) & counted
    found: list[Warned] = []
    if unknown and huge:
        text = f"free pages of {format_page(page_kib)} of {unknown.named} are unknown"
        found.append(Warned("free-pages-unknown", f"{text}: nothing is placed there"))
    elif unknown:
        text = f"free memory of {unknown.named} is unknown: nothing is placed there"
        found.append(Warned("free-memory-unknown", text))
    for name in request.apart_from:
        others = [guest for guest in view.guests if guest.name == name]
        if not others:
            text = f"there is no guest {name[:40]!r} to be kept apart from"
            found.append(Warned("apart-from-nobody", text))
        elif any(view.nodes_of_guest(guest) is None for guest in others):
            text = f"nobody knows on which nodes {name[:40]} is: it cannot be kept apart from it"
            found.append(Warned("apart-unknown", text))
    return tuple(found)


def _wants_far_nodes(request: GuestRequest) -> bool:
    far_cells = any(not cell.vcpus for cell in request.virtual_nodes)
    return request.spill or request.tier is not None or request.explicit is not None or far_cells


def not_usable(problem: Problem, memory: tuple[MemoryShare, ...]) -> tuple[Warned, ...]:
    """Say where libxl plans on memory that is free and yet not to be had."""
    if not problem.as_libxl:
        return ()
    view, found = problem.view, []
    for share in memory:
        usable = view.host.nodes_by_id[share.node].usable_kib or 0
        lacking = share.kib - max(0, usable - view.outstanding_kib.get(share.node, 0))
        if lacking > 0:
            found.append(f"{format_memory(lacking)} of the share on node {share.node}")
    elsewhere = problem.request.memory_kib - sum(share.kib for share in memory)
    if elsewhere > 0:
        found.append(f"{format_memory(elsewhere)} that these nodes have not in whole pieces")
    if not found:
        return ()
    text = f"free is not usable: {', '.join(found)} will come from other nodes"
    return (Warned("free-not-usable", text),)


def not_split(problem: Problem, chosen: int) -> Warned:
    """Say that there are no virtual nodes where some were wanted."""
    nodes = problem.nodes(chosen)
    text = f"{nodes.named} cannot have a virtual node each, with vcpus and memory: it has none"
    return Warned("not-split", text)
