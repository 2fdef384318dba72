"""From a view, a request and a policy to a decision."""

from collections.abc import Callable

from homenode.bitmap import NodeMap
from homenode.guest import ExplicitNodes, GuestRequest
from homenode.placement.candidates import affinities_of, facts_of, memory_of
from homenode.placement.decision import Decision, Gap, MemoryShare, Warned
from homenode.placement.policies import Policy
from homenode.placement.problem import Problem, prepare
from homenode.placement.search import Found, Search
from homenode.placement.view import View
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
    return Decision(
        guest=request.name,
        policy=policy.name,
        fits=True,
        optimal=found.proved,
        nodes=problem.nodes(found.chosen),
        memory=memory_of(problem, found.chosen),
        vcpus=affinities_of(problem, found.chosen),
        memory_needed_kib=request.memory_kib,
        reason=_reason(problem, policy, found.chosen, found),
        facts=facts_of(problem, search.part_of(found.chosen)),
        virtual_nodes=request.virtual_nodes,
        gap=_gap(policy, found),
        warnings=_warnings(view),
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
            return Gap(str(term), str(value), str(bound))
    return None


def _warnings(view: View) -> tuple[Warned, ...]:
    unknown = [node.id for node in view.host.nodes if node.free_kib is None]
    if not unknown:
        return ()
    text = f"free memory of node {NodeMap(unknown)} is unknown: nothing is placed there"
    return (Warned("free-memory-unknown", text),)


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
    short = []
    seats, memory = problem.seats.total(everything), problem.memory.total(everything)
    if seats < request.vcpus:
        what = "cores" if request.whole_cores else "cpus"
        short.append(f"it has {request.vcpus} vcpus, and there are {seats} {what} for it")
    if memory < request.memory_kib:
        short.append(
            f"it needs {format_memory(request.memory_kib)}, and {format_memory(memory)} is usable"
        )
    if short:
        return "; ".join(short)
    if request.node_count is not None:
        return f"no {request.node_count} nodes have enough cpus and memory together"
    return "no set of nodes has enough cpus and memory together"


def _explicit(view: View, request: GuestRequest, policy: Policy, wish: ExplicitNodes) -> Decision:
    problem = prepare(view, request, as_libxl=policy.admission == "libxl", also=wish.nodes)
    chosen = problem.chosen(wish.nodes)
    memory = _explicit_memory(problem, chosen, wish)
    warnings = list(_warnings(view))
    seats = problem.seats.total(chosen)
    if seats < request.vcpus:
        warnings.append(
            Warned(
                "fewer-cpus-than-vcpus",
                f"node {wish.nodes} has {seats} cpus for the guest's {request.vcpus} vcpus",
            )
        )
    reason = f"explicit: {wish.setting} names node {wish.nodes}"
    if memory is None:
        usable = format_memory(problem.memory.total(chosen))
        needed = format_memory(request.memory_kib)
        reason += f", but it does not fit: it needs {needed}, and {usable} is usable there"
    has_cpus = sum(1 << at for at in range(len(problem.ids)) if problem.cpus[at]) & chosen
    return Decision(
        guest=request.name,
        policy=policy.name,
        fits=memory is not None,
        optimal=True,
        nodes=problem.nodes(has_cpus),
        memory=memory or (),
        vcpus=affinities_of(problem, chosen),
        memory_needed_kib=request.memory_kib,
        reason=reason,
        facts=facts_of(problem, Search(problem, policy).part_of(chosen)),
        virtual_nodes=request.virtual_nodes,
        warnings=tuple(warnings),
    )


def _explicit_memory(
    problem: Problem, chosen: int, wish: ExplicitNodes
) -> tuple[MemoryShare, ...] | None:
    # None if it does not fit. A virtual node's memory comes from its own node.
    request = problem.request
    if wish.setting != "vnuma" or not request.virtual_nodes:
        if problem.memory.total(chosen) < request.memory_kib:
            return None
        return memory_of(problem, chosen)
    by_node: dict[int, int] = {}
    for cell in request.virtual_nodes:
        if cell.node is not None:
            by_node[cell.node] = by_node.get(cell.node, 0) + cell.memory_kib
    overhead = request.memory_kib - sum(by_node.values())
    if by_node and overhead > 0:
        by_node[min(by_node)] += overhead
    usable = dict(zip(problem.ids, problem.memory.of, strict=True))
    if any(kib > usable.get(node, 0) for node, kib in by_node.items()):
        return None
    return tuple(
        MemoryShare(node, kib, request.page_kib, "bound") for node, kib in sorted(by_node.items())
    )
