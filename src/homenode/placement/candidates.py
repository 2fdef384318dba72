"""What a set of cpu nodes means for a guest: memory shares, masks of vcpus, and facts."""

from collections.abc import Sequence

from homenode.bitmap import CpuMap
from homenode.guest import GuestRequest, VirtualNode
from homenode.host import ORDINARY_PAGE_KIB
from homenode.placement.decision import MemoryShare, VcpuAffinity
from homenode.placement.facts import FACTS, Part, Ratio
from homenode.placement.problem import Problem
from homenode.placement.weights import positions


def memory_of(problem: Problem, chosen: int) -> tuple[MemoryShare, ...]:
    """Return the memory shares on the chosen nodes, which must fit; nodes that give none left out.

    Those of nodes without cpus come last. On Xen node affinity is a preference and never a
    guarantee, hence "preferred"; the memory of a virtual node comes from its node or not at all.
    """
    if problem.cells is not None:
        return cell_shares(problem.request, virtual_nodes_of(problem, chosen))
    shares = problem.shares_kib(chosen)
    page_kib = problem.request.page_kib
    far = problem.far_shares_kib(chosen)
    by_node = [
        *((problem.ids[at], kib) for at, kib in zip(positions(chosen), shares, strict=True)),
        *((problem.far.nodes[at], kib) for at, kib in sorted(far.items())),
    ]
    return tuple(MemoryShare(node, kib, page_kib, "preferred") for node, kib in by_node if kib)


def virtual_nodes_of(problem: Problem, chosen: int) -> tuple[VirtualNode, ...]:
    """Return the guest's virtual nodes with the nodes that they are matched to."""
    cells = problem.request.virtual_nodes
    arranged = problem.arranged(chosen)
    if arranged is None:
        return cells
    return tuple(
        cell._replace(node=problem.ids[at]) for cell, at in zip(cells, arranged.ats, strict=True)
    )


def cell_shares(request: GuestRequest, cells: Sequence[VirtualNode]) -> tuple[MemoryShare, ...]:
    """Return the memory of virtual nodes that have their nodes, by node and size of page.

    What the hypervisor needs beside it is ordinary memory.
    """
    from homenode.placement.cells import overheads_kib  # noqa: PLC0415 - only with virtual nodes

    by_place: dict[tuple[int, int], int] = {}
    for cell, beside_kib in zip(cells, overheads_kib(request, cells), strict=True):
        page_kib = cell.page_kib or request.page_kib
        beside_page_kib = page_kib if page_kib <= ORDINARY_PAGE_KIB else 4
        for size, kib in ((page_kib, cell.memory_kib), (beside_page_kib, beside_kib)):
            if cell.node is not None and kib:
                at = cell.node, size
                by_place[at] = by_place.get(at, 0) + kib
    return tuple(
        MemoryShare(node, kib, page_kib, "bound")
        for (node, page_kib), kib in sorted(by_place.items())
    )


def memory_on(problem: Problem, chosen: int) -> tuple[MemoryShare, ...]:
    """Return the guest's memory on the chosen nodes, its virtual nodes' if it has or gets some."""
    cells = virtual_nodes_on(problem, chosen)
    if cells and all(cell.node is not None for cell in cells):
        return cell_shares(problem.request, cells)
    return memory_of(problem, chosen)


def virtual_nodes_on(problem: Problem, chosen: int) -> tuple[VirtualNode, ...]:
    """Return the virtual nodes that the guest has, or gets, on the chosen nodes."""
    if is_to_be_split(problem, chosen):
        from homenode.placement.split import split  # noqa: PLC0415 - few guests are

        return split(problem, chosen) or ()
    return virtual_nodes_of(problem, chosen)


def is_to_be_split(problem: Problem, chosen: int) -> bool:
    """Return whether the guest of `problem` is to have virtual nodes on the chosen nodes.

    One on a single node needs none, but for a tier that is a part of its memory.
    """
    request, tier_kib = problem.request, problem.far.tier_kib
    if not request.split or request.virtual_nodes:
        return False
    in_part = 0 < tier_kib < (request.guest_memory_kib or request.memory_kib)
    several = bool(chosen & (chosen - 1)) and not (tier_kib and not in_part)
    return in_part or several


class Measures:
    """All facts of sets of nodes, not only those of a policy, as people read them."""

    def __init__(self, problem: Problem) -> None:
        self._facts = [(name, kind.make(problem)) for name, kind in FACTS.items()]

    def of(self, part: Part) -> tuple[tuple[str, int | float], ...]:
        """Return name and number of each fact of one set."""
        found: list[tuple[str, int | float]] = []
        for name, fact in self._facts:
            value = fact.lower(part, 0, 0)
            shown = round(value.above / value.below, 3) if isinstance(value, Ratio) else value
            found.append((name, shown))
        return tuple(found)


def affinities_of(
    problem: Problem, chosen: int, cells: Sequence[VirtualNode]
) -> tuple[VcpuAffinity, ...]:
    """Return the masks of the vcpus on the chosen nodes; `cells` are the virtual nodes, placed.

    Vcpus prefer the cpus of the nodes, those of a virtual node the cpus of its own, unless the
    guest says what they prefer; what they are held to is what the guest says. An exclusive guest
    gets a cpu (or core) for each vcpu.
    """
    request = problem.request
    home = CpuMap()
    for at in positions(chosen):
        home |= problem.cpus[at]
    pins = _pins(problem, chosen, cells) if request.exclusive else list(request.hard)
    softs: list[CpuMap | None] = list(request.soft) or [
        (home or None) if node is None else problem.view.host.cpus_by_node[node]
        for node in _own_nodes(request, cells)
    ]
    return tuple(_runs(request, pins, softs))


def _own_nodes(request: GuestRequest, cells: Sequence[VirtualNode]) -> list[int | None]:
    # The node of each vcpu whose virtual node has one.
    nodes: list[int | None] = [None] * request.vcpus
    for cell in cells:
        for vcpu in cell.vcpus:
            if vcpu < request.vcpus:
                nodes[vcpu] = cell.node
    return nodes


def _pins(problem: Problem, chosen: int, cells: Sequence[VirtualNode]) -> list[CpuMap]:
    """Return a cpu, or a whole core, for each vcpu.

    Those of a virtual node are on its node; else as many on each node as memory is there.
    """
    places = [_places(problem, problem.cpus[at]) for at in positions(chosen)]
    own_nodes = _own_nodes(problem.request, cells)
    if cells and None not in own_nodes:
        by_node = dict(zip([problem.ids[at] for at in positions(chosen)], places, strict=True))
        left = {node: iter(own) for node, own in by_node.items()}
        everywhere = [
            problem.view.host.cpus_by_node[node] for node in own_nodes if node is not None
        ]
        return [
            next(left[node], cpus) if node in left else cpus
            for node, cpus in zip(own_nodes, everywhere, strict=True)
        ]
    shares = problem.shares_kib(chosen)
    taken = [0] * len(places)
    for _ in range(problem.request.vcpus):
        open_ones = [at for at, own in enumerate(places) if taken[at] < len(own)]
        if not open_ones:
            break  # explicit nodes may have fewer cpus than vcpus
        most = open_ones[0]
        for at in open_ones:
            # The one with the most memory for each vcpu, this one included.
            if shares[at] * (taken[most] + 1) > shares[most] * (taken[at] + 1):
                most = at
        taken[most] += 1
    return [pin for own, count in zip(places, taken, strict=True) for pin in own[:count]]


def _places(problem: Problem, cpus: CpuMap) -> list[CpuMap]:
    cores = [core & cpus for core in problem.view.host.cores if core.bits & cpus.bits]
    if problem.request.whole_cores:
        return [core for core in cores if core in problem.view.host.cores]
    # A thread of every core first, and only then the siblings.
    turns = sorted((turn, cpu) for core in cores for turn, cpu in enumerate(core))
    return [CpuMap([cpu]) for _, cpu in turns]


def _runs(
    request: GuestRequest, pins: Sequence[CpuMap], softs: Sequence[CpuMap | None]
) -> list[VcpuAffinity]:
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


def _at(masks: Sequence[CpuMap | None], vcpu: int) -> CpuMap | None:
    # One map may stand for all vcpus.
    if not masks:
        return None
    return masks[vcpu] if vcpu < len(masks) else masks[-1]
