"""Candidates: sets of cpu nodes with the memory shares that they imply, and their facts."""

from homenode.bitmap import CpuMap
from homenode.guest import GuestRequest
from homenode.placement.decision import Candidate, MemoryShare, VcpuAffinity
from homenode.placement.facts import FACTS, Part, Ratio
from homenode.placement.problem import Problem
from homenode.placement.weights import positions


def memory_of(problem: Problem, chosen: int) -> tuple[MemoryShare, ...]:
    """Return the memory shares on the chosen nodes, which must fit; nodes that give none left out.

    On Xen node affinity is a preference and never a guarantee, hence "preferred".
    """
    shares = problem.shares_kib(chosen)
    page_kib = problem.request.page_kib
    return tuple(
        MemoryShare(problem.ids[at], kib, page_kib, "preferred")
        for at, kib in zip(positions(chosen), shares, strict=True)
        if kib
    )


def facts_of(problem: Problem, part: Part) -> tuple[tuple[str, int | float], ...]:
    """Return all facts of a set, as people read them: name and number."""
    found = []
    for name, kind in FACTS.items():
        value = kind.make(problem).lower(part, 0, 0)
        shown = round(value.above / value.below, 3) if isinstance(value, Ratio) else value
        found.append((name, shown))
    return tuple(found)


def candidate_of(problem: Problem, part: Part) -> Candidate:
    """Return the candidate that a set of nodes, which must fit, stands for."""
    return Candidate(
        problem.nodes(part.chosen), memory_of(problem, part.chosen), facts_of(problem, part)
    )


def affinities_of(problem: Problem, chosen: int) -> tuple[VcpuAffinity, ...]:
    """Return the masks of the vcpus on the chosen nodes.

    Vcpus prefer the cpus of the nodes, those of a virtual node the cpus of its own, unless the
    guest says what they prefer; what they are held to is what the guest says. An exclusive guest
    gets a cpu (or core) for each vcpu.
    """
    request = problem.request
    home = CpuMap()
    for at in positions(chosen):
        home |= problem.cpus[at]
    pins = _pins(problem, chosen) if request.exclusive else list(request.hard)
    softs: list[CpuMap] = list(request.soft) or [
        home if node is None else problem.view.host.cpus_by_node[node]
        for node in _own_nodes(request)
    ]
    return tuple(_runs(request, pins, softs))


def _own_nodes(request: GuestRequest) -> list[int | None]:
    # The node of each vcpu whose virtual node has one.
    nodes: list[int | None] = [None] * request.vcpus
    for cell in request.virtual_nodes:
        for vcpu in cell.vcpus:
            nodes[vcpu] = cell.node
    return nodes


def _pins(problem: Problem, chosen: int) -> list[CpuMap]:
    pins: list[CpuMap] = []
    for at in positions(chosen):
        own = problem.cpus[at]
        if problem.request.whole_cores:
            pins += [core for core in problem.view.host.cores if core <= own]
        else:
            pins += [CpuMap([cpu]) for cpu in own]
    return pins[: problem.request.vcpus]


def _runs(request: GuestRequest, pins: list[CpuMap], softs: list[CpuMap]) -> list[VcpuAffinity]:
    # Neighbouring vcpus with equal masks are one line.
    runs: list[VcpuAffinity] = []
    first = 0
    masks = [
        (_at(pins, vcpu), None if request.exclusive else _at(softs, vcpu))
        for vcpu in range(request.vcpus)
    ]
    for vcpu in range(1, request.vcpus + 1):
        if vcpu == request.vcpus or masks[vcpu] != masks[first]:
            last = vcpu - 1
            name = str(first) if first == last else f"{first}-{last}"
            runs.append(VcpuAffinity(name, *masks[first]))
            first = vcpu
    return runs


def _at(masks: list[CpuMap], vcpu: int) -> CpuMap | None:
    # One map may stand for all vcpus.
    if not masks:
        return None
    return masks[vcpu] if vcpu < len(masks) else masks[-1]
