"""What nodes lack for a guest, in a few words and by how much."""

from homenode.bitmap import CpuMap, NodeMap
from homenode.host import ORDINARY_PAGE_KIB
from homenode.placement.problem import Problem, required_devices
from homenode.placement.virtual import surplus
from homenode.placement.weights import positions
from homenode.units import format_memory, format_page


def what_is_short(problem: Problem) -> str:
    """Return in a few words what the nodes in question lack together."""
    request, everything = problem.request, problem.everything
    if not problem.ids:
        return "no node has a cpu that the guest may use"
    special = _device_out_of_reach(problem) or tier_short(problem) or _cells_short(problem)
    if special:
        return special
    if NodeMap(problem.ids) <= problem.unknown_nodes:
        return f"the {problem.free_word} of {problem.nodes(everything).named} is unknown"
    seats, memory = problem.seats.total(everything), problem.memory.total(everything)
    short = shortages(problem, seats=seats, memory_kib=memory)
    if short:
        return short
    nodes = "set of nodes has" if request.node_count is None else f"{request.node_count} nodes have"
    if problem.required:
        nodes = nodes.replace("nodes ha", "nodes with its devices ha", 1)
    return f"no {nodes} enough {problem.seat_word} and memory together"


def _device_out_of_reach(problem: Problem) -> str:
    for device, near in zip(required_devices(problem.request), problem.required, strict=True):
        if not near:
            text = f"device {device.address} is on node {device.node}"
            return f"{text}, where the guest cannot have cpus, and has to be near"
    return ""


def tier_short(problem: Problem) -> str:
    """Return what is short of the memory that is wanted on nodes without cpus."""
    far, tier = problem.far, problem.request.tier
    if tier is None or not far.is_short:
        return ""
    if not far.for_tier:
        page_kib = problem.request.page_kib
        pages = f" in pages of {format_page(page_kib)}" if page_kib > ORDINARY_PAGE_KIB else ""
        return f"no node without cpus has {tier.kind} memory{pages} for it"
    return (
        f"{format_memory(far.tier_kib - far.tier_room_kib)} of {tier.kind} memory short "
        f"({format_memory(far.tier_room_kib)} usable on "
        f"{NodeMap(far.nodes[at] for at in positions(far.for_tier)).named}, "
        f"{format_memory(far.tier_kib)} wanted)"
    )


def _cells_short(problem: Problem) -> str:
    """Name virtual nodes that fit on fewer nodes than they are (Hall's theorem has some)."""
    if problem.cells is None:
        return ""
    cells, nodes = surplus(problem.cells.fits)
    if not cells:
        return ""
    which = str(CpuMap(problem.request.virtual_nodes[cell].id for cell in cells))
    if len(cells) == 1:
        return f"virtual node {which} ({_size_of(problem, cells[0])}) fits on no node"
    where = problem.nodes(nodes)
    sizes = {_size_of(problem, cell) for cell in cells}
    each = f" ({sizes.pop()} each)" if len(sizes) == 1 else ""
    fit = f"fit on {where.named} alone" if where else "fit on no node"
    return f"virtual nodes {which}{each} {fit}, and need {len(cells)} nodes"


def _size_of(problem: Problem, cell: int) -> str:
    own = problem.request.virtual_nodes[cell]
    vcpus = f"{len(own.vcpus)} vcpu{'s' * (len(own.vcpus) != 1)}"
    page_kib = own.page_kib or problem.request.page_kib
    pages = f" in pages of {format_page(page_kib)}" if page_kib > ORDINARY_PAGE_KIB else ""
    return f"{format_memory(own.memory_kib)}{pages}, {vcpus}"


def shortages(problem: Problem, *, seats: int, memory_kib: int) -> str:
    """Return what is short, and by how much, where there are these seats and this memory."""
    request, short = problem.request, []
    needed_kib, spill_kib = problem.home_kib, problem.far.spill_room_kib
    if memory_kib + spill_kib < needed_kib:
        word = problem.memory_word
        there = f"{format_memory(memory_kib)} {word}"
        if spill_kib:
            there += f" and {format_memory(spill_kib)} on nodes without cpus"
        short.append(
            f"{format_memory(needed_kib - memory_kib - spill_kib)} of memory short "
            f"({there}, {format_memory(needed_kib)} needed)"
        )
    if seats < request.vcpus:
        word = problem.seat_word
        short.append(f"{request.vcpus - seats} {word} short ({seats} for {request.vcpus} vcpus)")
    return "; ".join(short)
