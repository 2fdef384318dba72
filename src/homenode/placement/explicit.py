"""Nodes that the user named: taken as they are, and checked.

Only memory is checked: to have more vcpus than cpus there is the user's to choose. Virtual nodes
that have no node yet are matched to those that were named; where that cannot be done they share
nodes, dealt out onto them in turn or, if that is too much for one, as there is room. A guest that
is to be split gets one on each of them.
"""

from collections.abc import Sequence
from itertools import cycle, islice

from homenode.bitmap import NodeMap
from homenode.guest import ExplicitNodes, GuestRequest, VirtualNode
from homenode.placement.candidates import (
    Measures,
    affinities_of,
    cell_shares,
    is_to_be_split,
    memory_of,
    virtual_nodes_on,
)
from homenode.placement.cells import cells_kib
from homenode.placement.decision import Decision, MemoryShare, Warned
from homenode.placement.policies import Policy
from homenode.placement.problem import (
    Problem,
    barred_nodes,
    prepare,
    required_devices,
)
from homenode.placement.remarks import not_split, view_warnings
from homenode.placement.search import Search
from homenode.placement.shortage import shortages, tier_short
from homenode.placement.view import View
from homenode.placement.weights import positions
from homenode.units import format_memory


def decide_explicit(
    view: View,
    request: GuestRequest,
    policy: Policy,
    wish: ExplicitNodes,
    *,
    reason: str | None = None,
) -> Decision:
    """Return the decision to take the nodes of `wish`, or the refusal that says what is short.

    The `reason` is that the user named them, if it is none other.
    """
    alone = wish.nodes.isdisjoint(view.host.nodes_of(view.host.cpu_map))
    overruled = _overruled_tier(request, wish) if alone and request.tier is not None else ()
    if alone:
        request = request._replace(tier=None, spill=False, split=False)
    problem = prepare(view, request, as_libxl=policy.admission == "libxl", also=wish.nodes)
    chosen = problem.chosen(wish.nodes)
    to_split = is_to_be_split(problem, chosen)
    cells = virtual_nodes_on(problem, chosen) if to_split else _placed(problem, chosen)
    # One that cannot have a virtual node on each of them has its memory as if it wanted none.
    request = request._replace(virtual_nodes=cells, split=bool(to_split and cells))
    problem = problem._replace(request=request, cells=None)
    short = tier_short(problem)
    short = short or (_short_of_cells(problem, cells) if cells else _short(problem, chosen))
    reason = reason or f"explicit: {wish.setting} names {wish.nodes.named}"
    has_cpus = sum(1 << at for at in range(len(problem.ids)) if problem.cpus[at]) & chosen
    memory = cell_shares(request, cells) if cells else () if short else memory_of(problem, chosen)
    return Decision(
        guest=request.name,
        policy=policy.name,
        fits=not short,
        optimal=True,
        nodes=problem.nodes(has_cpus),
        memory=() if short else memory,
        vcpus=() if short else affinities_of(problem, chosen, cells),
        memory_needed_kib=request.memory_kib,
        reason=f"{reason}, but it does not fit: {short}" if short else reason,
        facts=Measures(problem).of(Search(problem, policy).part_of(chosen)),
        virtual_nodes=cells,
        warnings=overruled
        + view_warnings(view, request)
        + _few_cpus(problem, chosen, wish)
        + _against_wishes(problem, chosen, wish)
        + _not_split(problem, chosen, failed=to_split and not cells and not short),
    )


def _overruled_tier(request: GuestRequest, wish: ExplicitNodes) -> tuple[Warned, ...]:
    kind = "" if request.tier is None else request.tier.kind
    text = f"{wish.setting} names {wish.nodes.named} for all of its memory, not {kind} memory alone"
    return (Warned("tier-overruled", text),)


def _not_split(problem: Problem, chosen: int, *, failed: bool) -> tuple[Warned, ...]:
    return (not_split(problem, chosen),) if failed else ()


def _placed(problem: Problem, chosen: int) -> tuple[VirtualNode, ...]:
    """Return the virtual nodes of the guest, each with its node among the chosen."""
    cells = problem.request.virtual_nodes
    ats = list(positions(chosen))
    if problem.cells is None or not ats:
        return cells
    arranged = problem.cells.among(chosen).arranged(chosen)
    if arranged is not None:
        return _onto(problem, arranged.ats)
    in_turn = _onto(problem, list(islice(cycle(ats), len(cells))))
    if not _short_of_cells(problem, in_turn):
        return in_turn
    packed = _onto(problem, _packed(problem, ats))
    return in_turn if _short_of_cells(problem, packed) else packed


def _onto(problem: Problem, ats: Sequence[int]) -> tuple[VirtualNode, ...]:
    cells = problem.request.virtual_nodes
    return tuple(cell._replace(node=problem.ids[at]) for cell, at in zip(cells, ats, strict=True))


def _packed(problem: Problem, ats: Sequence[int]) -> list[int]:
    # The largest first, to where most is left: finds most ways to share nodes that there are.
    request, needs = problem.request, cells_kib(problem.request)
    sizes = [cell.page_kib or request.page_kib for cell in request.virtual_nodes]
    left = {
        (at, size): problem.room_kib(problem.ids[at], size) for at in ats for size in set(sizes)
    }
    places = [0] * len(needs)
    for cell in sorted(range(len(needs)), key=lambda cell: -needs[cell]):
        places[cell] = max(ats, key=lambda at: (left[at, sizes[cell]], -at))
        left[places[cell], sizes[cell]] -= needs[cell]
    return places


def _few_cpus(problem: Problem, chosen: int, wish: ExplicitNodes) -> tuple[Warned, ...]:
    seats, vcpus = problem.seats.total(chosen), problem.request.vcpus
    if seats >= vcpus or not seats:
        return ()  # where there are none at all, the nodes are for its memory alone
    text = f"{wish.nodes.named}: {seats} {problem.seat_word} for the guest's {vcpus} vcpus"
    return (Warned("fewer-cpus-than-vcpus", text),)


def _against_wishes(problem: Problem, chosen: int, wish: ExplicitNodes) -> tuple[Warned, ...]:
    """Say which of the guest's other wishes the named nodes go against."""
    request, found = problem.request, []
    barred = barred_nodes(problem.view, request) & wish.nodes
    if barred:
        text = f"{wish.setting} names {barred.named}, which it is to be kept off"
        found.append(Warned("excluded-overruled", text))
    for device, near in zip(required_devices(request), problem.required, strict=True):
        if not near & chosen:
            text = f"{device.address} is required to be near and is on node {device.node}"
            found.append(Warned("device-away", f"{text}, but {wish.setting} names {wish.nodes}"))
    return tuple(found)


def _short(problem: Problem, chosen: int) -> str:
    """Return what is short on the chosen nodes; nothing if the guest fits."""
    memory = problem.memory.total(chosen)
    seats = problem.request.vcpus
    return shortages(problem, seats=seats, memory_kib=memory) or _uncovered(problem, chosen)


def _short_of_cells(problem: Problem, cells: Sequence[VirtualNode]) -> str:
    short = [
        _lacking(problem, share, usable_kib)
        for share in cell_shares(problem.request, cells)
        if share.kib > (usable_kib := problem.room_kib(share.node, share.page_kib))
    ]
    return "; ".join(short)


def _lacking(problem: Problem, share: MemoryShare, usable_kib: int) -> str:
    return (
        f"node {share.node} is {format_memory(share.kib - usable_kib)} short "
        f"({format_memory(usable_kib)} {problem.memory_word_of(share.page_kib)}, "
        f"{format_memory(share.kib)} needed)"
    )


def _uncovered(problem: Problem, chosen: int) -> str:
    # The nodes have enough together, and yet the hypervisor would take it otherwise.
    if problem.fits_memory(chosen):
        return ""
    shares = problem.shares_kib(chosen)
    over = [
        at for at, kib in zip(positions(chosen), shares, strict=True) if kib > problem.memory.of[at]
    ]
    if over:
        nodes = NodeMap(problem.ids[at] for at in over)
        return f"its share of {nodes.named} is promised to guests that are being built"
    missing = format_memory(problem.request.memory_kib - sum(shares))
    return f"{missing} would come from other nodes, in pieces that these have not whole"
