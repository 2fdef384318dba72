"""From a view, a request and a policy to a decision."""

from collections.abc import Callable, Sequence

from homenode.bitmap import NodeMap
from homenode.guest import ExplicitNodes, GuestRequest, VirtualNode
from homenode.placement.candidates import (
    Measures,
    affinities_of,
    is_to_be_split,
    memory_on,
    virtual_nodes_on,
)
from homenode.placement.decision import Decision, Gap, Warned
from homenode.placement.policies import Policy, Term
from homenode.placement.problem import Problem, prepare
from homenode.placement.remarks import not_split, not_usable, view_warnings
from homenode.placement.search import Found, Search
from homenode.placement.view import View
from homenode.placement.weights import positions

TIME_LIMIT_S = 0.05
"""How long a decision may take on a very large host before the best so far is taken.

By a clock of the thread's own processor time (``time.thread_time``), so that what else a host does
decides on no placement."""


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
        from homenode.placement.explicit import decide_explicit  # noqa: PLC0415 - only then

        return decide_explicit(view, request, policy, request.explicit)
    problem = prepare(view, request, as_libxl=policy.admission == "libxl")
    if problem.cells is not None and (request.node_count or len(problem.ids)) < problem.cells.count:
        return _sharing(problem, policy, clock, time_limit_s)
    search = Search(problem, policy)
    found = search.find(clock=clock, time_limit_s=time_limit_s)
    if found.chosen is None:
        return _in_another_way(problem, policy, found, clock, time_limit_s)
    cells = virtual_nodes_on(problem, found.chosen)
    arrangement = problem.arranged(found.chosen)
    arranged = arrangement is None or arrangement.optimal
    memory = memory_on(problem, found.chosen)
    warnings = view_warnings(view, request) + not_usable(problem, memory)
    return Decision(
        guest=request.name,
        policy=policy.name,
        fits=True,
        optimal=found.proved and arranged,
        nodes=_cpu_nodes(problem, found.chosen),
        memory=memory,
        vcpus=affinities_of(problem, found.chosen, cells),
        memory_needed_kib=request.memory_kib,
        reason=_reason(problem, policy, found.chosen, found),
        facts=Measures(problem).of(search.part_of(found.chosen)),
        virtual_nodes=cells,
        gap=_gap(search.order, found),
        warnings=warnings + _virtual_warnings(problem, found.chosen, cells, arranged=arranged),
    )


def _virtual_warnings(
    problem: Problem, chosen: int, cells: Sequence[VirtualNode], *, arranged: bool
) -> tuple[Warned, ...]:
    if not arranged:
        text = "which virtual node goes where was not proved to suit their distances best"
        return (Warned("virtual-nodes-not-proved", text),)
    count = problem.request.node_count
    if problem.cells is not None and count not in (None, problem.cells.count):
        needed = problem.cells.count
        text = f"{count} nodes are asked for, and its {needed} virtual nodes need one each"
        return (Warned("node-count-overruled", text),)
    if is_to_be_split(problem, chosen) and not cells:
        return (not_split(problem, chosen),)
    return ()


def _cpu_nodes(problem: Problem, chosen: int) -> NodeMap:
    # Virtual nodes without vcpus may lie on nodes without cpus.
    own = sum(1 << at for at in positions(chosen) if problem.cpus[at])
    return problem.nodes(own if problem.cells is not None else chosen)


def _in_another_way(
    problem: Problem,
    policy: Policy,
    found: Found,
    clock: Callable[[], float] | None,
    time_limit_s: float,
) -> Decision:
    """Decide on a guest that was not found a place as it was wanted, or refuse it.

    One that was to be split and has fewer vcpus than it needs nodes is placed whole.
    """
    view, request = problem.view, problem.request
    if request.split and request.node_count is None and found.proved:
        whole = request._replace(split=False)
        decision = place(view, whole, policy, clock=clock, time_limit_s=time_limit_s)
        if not decision.fits:
            return decision  # what is short for all of it is what is short
        text = "the nodes that it needs cannot have vcpus and memory each: no virtual nodes"
        warned = Warned("not-split", text)
        return decision._replace(warnings=(*decision.warnings, warned))
    return _refused(problem, policy, found)


def _sharing(
    problem: Problem,
    policy: Policy,
    clock: Callable[[], float] | None,
    time_limit_s: float,
) -> Decision:
    """Decide on a guest with more virtual nodes than it may have nodes: they share nodes."""
    view, request = problem.view, problem.request
    whole = request._replace(virtual_nodes=())
    decision = place(view, whole, policy, clock=clock, time_limit_s=time_limit_s)
    if decision.fits:
        from homenode.placement.explicit import decide_explicit  # noqa: PLC0415 - only then

        wish = ExplicitNodes(decision.nodes, policy.name)
        reason = f"{decision.reason}; virtual nodes share nodes"
        return decide_explicit(view, request, policy, wish, reason=reason)
    return decision


def _reason(problem: Problem, policy: Policy, chosen: int, found: Found) -> str:
    size = chosen.bit_count()
    if problem.cells is not None:
        several = f"{size} nodes for its virtual nodes"
        which = several if size > 1 else "node for its virtual node"
        reason = f"the best {which} by {policy.name}"
        return reason if found.proved else f"{reason} that were found in time"
    alone = sum(problem.fits(1 << at) for at in range(len(problem.ids)))
    if size == alone == 1:
        reason = "the only node that it fits on"
    elif alone:
        nodes = "nodes" if size > 1 else "node"
        reason = f"the best {nodes} by {policy.name}; {alone} could hold it alone"
    else:
        reason = f"no node can hold it alone; the best {size} by {policy.name}"
    return reason if found.proved else f"{reason} that were found in time"


def _gap(order: Sequence[Term], found: Found) -> Gap | None:
    for term, value, bound in zip(order, found.vector, found.bound, strict=False):
        if value > bound:
            return Gap(term.fact, term.spoken(value), term.spoken(bound))
    return None


def _refused(problem: Problem, policy: Policy, found: Found) -> Decision:
    request = problem.request
    if not found.proved:
        reason = "nothing was found in time"
    else:
        from homenode.placement.shortage import what_is_short  # noqa: PLC0415 - only then

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
        warnings=view_warnings(problem.view, request),
    )
