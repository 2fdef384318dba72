"""From a view, a request and a policy to a decision."""

from collections.abc import Callable

from homenode.bitmap import NodeMap
from homenode.guest import ExplicitNodes, GuestRequest
from homenode.placement.candidates import Measures, affinities_of, memory_of
from homenode.placement.decision import Decision, Gap, MemoryShare, Warned
from homenode.placement.policies import Policy
from homenode.placement.problem import Problem, prepare
from homenode.placement.search import Found, Search
from homenode.placement.view import View
from homenode.placement.weights import positions
from homenode.units import format_memory

TIME_LIMIT_S = 0.05
"""How long a decision may take on a very large host before the best so far is taken."""


def place(
    view: View,
    request: GuestRequest,
    policy: Policy,
    *,
    clock: Callable[[], float] | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> Decision:
    """Decide on which nodes the guest goes; an answer in any case, `Decision.fits` says which.

    Without a `clock` (seconds) the search goes on until the answer is proved. Raises
    `HomenodeError` if the request names a cpupool that the host lacks.
    """
    if request.explicit is not None:
        return _explicit(view, request, policy, request.explicit)
    problem = prepare(view, request, as_libxl=policy.admission == "libxl")
    search = Search(problem, policy)
    found = search.find(clock=clock, time_limit_s=time_limit_s)
    if found.chosen is None:
        return _refused(problem, policy, found)
    part = search.part_of(found.chosen)
    memory = memory_of(problem, found.chosen)
    return Decision(
        guest=request.name,
        policy=policy.name,
        fits=True,
        optimal=found.proved,
        nodes=problem.nodes(found.chosen),
        memory=memory,
        vcpus=affinities_of(problem, found.chosen),
        memory_needed_kib=request.memory_kib,
        reason=_reason(problem, policy, found.chosen, found),
        facts=Measures(problem).of(part),
        virtual_nodes=request.virtual_nodes,
        gap=_gap(policy, found),
        warnings=_warnings(view) + _not_usable(problem, memory),
    )


def _reason(problem: Problem, policy: Policy, chosen: int, found: Found) -> str:
    size = chosen.bit_count()
    alone = sum(problem.fits(1 << at) for at in range(len(problem.ids)))
    if size == alone == 1:
        reason = "the only node that it fits on"
    elif alone:
        nodes = "nodes" if size > 1 else "node"
        reason = f"the best {nodes} by {policy.name}; {alone} could hold it alone"
    else:
        reason = f"no node can hold it alone; the best {size} by {policy.name}"
    return reason if found.proved else f"{reason} that were found in time"


def _gap(policy: Policy, found: Found) -> Gap | None:
    for term, value, bound in zip(policy.terms, found.vector, found.bound, strict=False):
        if value > bound:
            return Gap(term.fact, term.spoken(value), term.spoken(bound))
    return None


def _warnings(view: View) -> tuple[Warned, ...]:
    unknown = [node.id for node in view.host.nodes if node.free_kib is None]
    if not unknown:
        return ()
    text = f"free memory of {NodeMap(unknown).named} is unknown: nothing is placed there"
    return (Warned("free-memory-unknown", text),)


def _not_usable(problem: Problem, memory: tuple[MemoryShare, ...]) -> tuple[Warned, ...]:
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


def _refused(problem: Problem, policy: Policy, found: Found) -> Decision:
    request = problem.request
    if not found.proved:
        reason = "nothing was found in time"
    else:
        reason = f"does not fit: {what_is_short(problem)}"
    return Decision(
        guest=request.name,
        policy=policy.name,
        fits=False,
        optimal=found.proved,
        nodes=NodeMap(),
        memory=(),
        vcpus=(),
        memory_needed_kib=request.memory_kib,
        reason=reason,
        warnings=_warnings(problem.view),
    )


def what_is_short(problem: Problem) -> str:
    """Return in a few words what the nodes in question lack together."""
    request, everything = problem.request, problem.everything
    if not problem.ids:
        return "no node has a cpu that the guest may use"
    seats, memory = problem.seats.total(everything), problem.memory.total(everything)
    short = shortages(problem, seats=seats, memory_kib=memory)
    if short:
        return short
    nodes = "set of nodes has" if request.node_count is None else f"{request.node_count} nodes have"
    return f"no {nodes} enough {problem.seat_word} and memory together"


def shortages(problem: Problem, *, seats: int, memory_kib: int) -> str:
    """Return what is short, and by how much, where there are these seats and this memory."""
    request, short = problem.request, []
    if memory_kib < request.memory_kib:
        short.append(
            f"{format_memory(request.memory_kib - memory_kib)} of memory short "
            f"({format_memory(memory_kib)} {problem.memory_word}, "
            f"{format_memory(request.memory_kib)} needed)"
        )
    if seats < request.vcpus:
        word = problem.seat_word
        short.append(f"{request.vcpus - seats} {word} short ({seats} for {request.vcpus} vcpus)")
    return "; ".join(short)


def _explicit(view: View, request: GuestRequest, policy: Policy, wish: ExplicitNodes) -> Decision:
    problem = prepare(view, request, as_libxl=policy.admission == "libxl", also=wish.nodes)
    chosen = problem.chosen(wish.nodes)
    short = _explicitly_short(problem, chosen)
    reason = f"explicit: {wish.setting} names {wish.nodes.named}"
    has_cpus = sum(1 << at for at in range(len(problem.ids)) if problem.cpus[at]) & chosen
    return Decision(
        guest=request.name,
        policy=policy.name,
        fits=not short,
        optimal=True,
        nodes=problem.nodes(has_cpus),
        memory=() if short else _explicit_memory(problem, chosen),
        vcpus=() if short else affinities_of(problem, chosen),
        memory_needed_kib=request.memory_kib,
        reason=f"{reason}, but it does not fit: {short}" if short else reason,
        facts=Measures(problem).of(Search(problem, policy).part_of(chosen)),
        virtual_nodes=request.virtual_nodes,
        warnings=_warnings(view) + _few_cpus(problem, chosen, wish),
    )


def _few_cpus(problem: Problem, chosen: int, wish: ExplicitNodes) -> tuple[Warned, ...]:
    # Explicit nodes are checked for memory alone: to overcommit cpus is the user's to choose.
    seats, vcpus = problem.seats.total(chosen), problem.request.vcpus
    if seats >= vcpus:
        return ()
    text = f"{wish.nodes.named}: {seats} {problem.seat_word} for the guest's {vcpus} vcpus"
    return (Warned("fewer-cpus-than-vcpus", text),)


def _explicitly_short(problem: Problem, chosen: int) -> str:
    """Return what is short on the nodes of an explicit wish; nothing if the guest fits."""
    if not _cells_have_nodes(problem.request):
        memory = problem.memory.total(chosen)
        short = shortages(problem, seats=problem.request.vcpus, memory_kib=memory)
        return short or _uncovered(problem, chosen)
    usable = dict(zip(problem.ids, problem.memory.of, strict=True))
    return "; ".join(
        f"node {node} is {format_memory(kib - usable.get(node, 0))} short "
        f"({format_memory(usable.get(node, 0))} {problem.memory_word}, {format_memory(kib)} needed)"
        for node, kib in _memory_of_cells(problem.request).items()
        if kib > usable.get(node, 0)
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


def _explicit_memory(problem: Problem, chosen: int) -> tuple[MemoryShare, ...]:
    if not _cells_have_nodes(problem.request):
        return memory_of(problem, chosen)
    page_kib = problem.request.page_kib
    return tuple(
        MemoryShare(node, kib, page_kib, "bound")
        for node, kib in sorted(_memory_of_cells(problem.request).items())
    )


def _cells_have_nodes(request: GuestRequest) -> bool:
    cells = request.virtual_nodes
    return bool(cells) and all(cell.node is not None for cell in cells)


def _memory_of_cells(request: GuestRequest) -> dict[int, int]:
    # A virtual node's memory comes from its own node; the overhead is put to the lowest.
    by_node: dict[int, int] = {}
    for cell in request.virtual_nodes:
        if cell.node is not None:
            by_node[cell.node] = by_node.get(cell.node, 0) + cell.memory_kib
    overhead_kib = request.memory_kib - sum(by_node.values())
    if by_node and overhead_kib > 0:
        by_node[min(by_node)] += overhead_kib
    return by_node
