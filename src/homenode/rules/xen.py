"""What Xen does with memory and affinity, in numbers.

Each function names the place in Xen's source (4.17, unless said) whose behaviour it states; the
constants were checked against captures of a real Xen. Pages are of 4 KiB.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import GuestRequest
from homenode.host import Host

PAGE_KIB = 4
PAGE_BITS = 12
EXTENT_KIB = 2048
"""What the builder of a pv guest asks for at a time while it can (xg_dom_x86.c, meminit_pv())."""

LARGE_EXTENT_KIB = 1 << 20
"""The same for pvh and hvm guests (xg_dom_x86.c, meminit_hvm())."""

_EXTENT_SIZES_KIB = (LARGE_EXTENT_KIB, EXTENT_KIB, PAGE_KIB)
_LARGEST_BUDDY_KIB = 4 << 20

UNSCRUBBED = "memory that Xen is still scrubbing, and passes over until it has"
"""Why `unscrubbed_kib` is reserved."""
_HIGHEST_ZONE = 40
_PAGES_BELOW_4_GIB = 1 << (32 - PAGE_BITS)


def memory_needed_kib(  # noqa: PLR0913 - one argument for each setting that counts
    *,
    target_kib: int,
    max_kib: int,
    vcpus: int,
    type: str,  # noqa: A002 - the setting's own name in xl.cfg
    shadow_kib: int | None = None,
    hap: bool = True,
    iommu_kib: int = 0,
) -> int:
    """Return the KiB that have to be free for a guest, Xen's own overhead included.

    `target_kib` is what it starts with (``memory``), `max_kib` what it may grow to (``maxmem``),
    `vcpus` the most it may have (``maxvcpus``), `shadow_kib` the config's ``shadow_memory`` if it
    has one. A device model in a stub domain is not counted.

    Source: tools/libs/light/libxl_mem.c, libxl__domain_need_memory_calculate(), and
    libxl_create.c, libxl__get_required_paging_memory() for the default of `shadow_kib`.
    """
    if shadow_kib is None:
        kib_per_mib = 2 if type != "pv" and not hap else 1
        shadow_kib = 4 * (256 * vcpus + kib_per_mib * (max_kib // 1024))
    needed = target_kib + shadow_kib + iommu_kib + (1024 if type == "pv" else 2048)
    return -(-needed // EXTENT_KIB) * EXTENT_KIB


class Overhead(NamedTuple):
    """What Xen takes for a guest besides its memory, in KiB.

    `first_kib` come from all nodes in turn, before the guest has a node affinity; `affine_kib`
    from its own nodes, before its memory; `elsewhere_kib` from nodes that follow no rule (those
    of the cpus that dom0 happens to run on).
    """

    first_kib: int
    affine_kib: int
    elsewhere_kib: int


def overhead(
    *,
    needed_kib: int,
    target_kib: int,
    vcpus: int,
    type: str | None,  # noqa: A002 - the setting's own name in xl.cfg
) -> Overhead:
    """Return what of `needed_kib` (`memory_needed_kib`) Xen really takes for itself.

    A pv guest has no paging pool: of what libxl adds for it, next to nothing is ever taken. The
    structures of a guest were measured (4.17, up to 32 vcpus), to within 50 KiB. Source:
    xen/arch/x86/mm.c, create_perdomain_mapping() (two tables of a pv guest);
    xen/arch/x86/mm/hap/hap.c, hap_enable() (1 MiB at first); libxl_x86.c,
    libxl__arch_domain_create() (the rest of the pool).
    """
    if type == "pv":
        return Overhead(2 * PAGE_KIB, 0, 56 + 13 * vcpus)
    paging_kib = max(0, needed_kib - target_kib - 2048)
    first_kib = min(1024, paging_kib)
    return Overhead(first_kib, paging_kib - first_kib, 152 + 37 * vcpus)


def extent_kib(type: str | None) -> int:  # noqa: A002 - the setting's own name
    """Return the largest piece in which the memory of a guest of that type is asked for."""
    return EXTENT_KIB if type == "pv" else LARGE_EXTENT_KIB


def keeps_dirty_log(capabilities: Iterable[str], type: str | None) -> bool:  # noqa: A002 - the setting's own name
    """Return whether this Xen can note which pages a guest writes to; a live migration wants it.

    `capabilities` are the words of ``virt_caps``. Source: xen/arch/x86/mm/paging.c,
    paging_log_dirty_enable(): by shadow page tables for PV, by those or HAP for others. Some
    builds of 4.17 are without shadow paging, and say so. Before 4.16 (whose words of grant tables
    show it) neither may be told, and it is taken to be there.
    """
    told = set(capabilities)
    if not any(word.startswith("gnttab") for word in told):
        return True
    return "shadow" in told or (type != "pv" and "hap" in told)


def node_affinity(
    hard: Iterable[CpuMap], soft: Iterable[CpuMap], *, pool_cpus: CpuMap, host: Host
) -> NodeMap:
    """Return the nodes that a guest's memory comes from if nobody set its node affinity.

    `hard` and `soft` are the masks of its vcpus, `pool_cpus` the cpus of its cpupool. These are
    the nodes of the cpus that the soft masks leave within the hard ones, or, if they leave none,
    of the hard masks. Source: xen/common/sched/core.c, domain_update_node_aff().
    """
    allowed = CpuMap.union(hard) & pool_cpus
    preferred = CpuMap.union(soft) & allowed
    return host.nodes_of(preferred or allowed)


class NodeSpan(NamedTuple):
    """The page frames between the first and the last page of a node, holes included."""

    start_page: int
    pages: int


class LowMemory(NamedTuple):
    """The memory that Xen hands out last: that below ``2**width_bits`` bytes.

    `free_kib` is how much of it is free, by node; `assumed` are the nodes for which that is not
    seen but taken for granted (all that may lie there is free: the cautious side). `width_bits`
    is 0 if no memory is held back.
    """

    width_bits: int
    free_kib: dict[int, int]
    assumed: NodeMap


def dma_width_bits(start_page: int, spanned_pages: int) -> int:
    """Return the width of addresses for which Xen saves memory, on a host of several nodes.

    The arguments are those of the first node that has memory below 4 GiB. "Domain heap
    initialised DMA width 28 bits", says Xen's boot log. Source: xen/arch/x86/numa.c,
    arch_get_dma_bitsize(); its subtraction wraps, so a node of less than 4 pages gives 32.
    """
    last = start_page + spanned_pages // 4 - 1
    return 32 if last < 0 else min(32, last.bit_length() + PAGE_BITS)


def low_memory(
    spans: Mapping[int, NodeSpan],
    free_kib: Mapping[int, int],
    *,
    zones: Mapping[int, Mapping[int, int]] | None = None,
    width_bits: int | None = None,
) -> LowMemory:
    """Return how much of each node's free memory Xen hands out last.

    `spans` and `free_kib` are for every online node. `zones` are the free pages by node and
    zone (``xl debug-keys H``); zone n ends below page ``2**n``. `width_bits` is the width if it
    is known (``dma_bits=`` on Xen's command line).

    Source: xen/common/page_alloc.c, end_boot_allocator() (no DMA zone on a host of one node)
    and alloc_domheap_pages() (the zones above it come first).
    """
    if width_bits is None:
        width_bits = _default_width_bits(spans)
    if not width_bits or width_bits - PAGE_BITS >= _HIGHEST_ZONE:
        return LowMemory(0, dict.fromkeys(free_kib, 0), NodeMap())
    low_zones = range(width_bits - PAGE_BITS + 1)
    low, assumed = {}, []
    for node, free in free_kib.items():
        seen = (zones or {}).get(node, {})
        if all(zone in seen for zone in low_zones):
            pages = sum(seen[zone] for zone in low_zones)
        else:
            pages = _pages_below(spans.get(node, NodeSpan(0, 0)), 1 << (width_bits - PAGE_BITS))
            if pages:
                assumed.append(node)
        low[node] = min(free, pages * PAGE_KIB)
    return LowMemory(width_bits, low, NodeMap(assumed))


def unscrubbed_kib(dirty_pages: int, free_kib: int) -> int:
    """Return how much of a node's free memory Xen passes over while it is being scrubbed.

    `dirty_pages` are those of guests that are gone, not scrubbed yet (``xl debug-keys H``). An
    extent comes from such memory only when no other node has a clean one. What is passed over is
    each free block of up to 4 GiB that has a dirty page in it: seen on a real Xen, a guest of
    3900 MiB that was started right after another of that size got 1366 MiB elsewhere, with 1322
    MiB left to scrub. Here the dirty pages are taken to lie together.

    Source: xen/common/page_alloc.c, get_free_buddy() and alloc_heap_pages().
    """
    if not dirty_pages:
        return 0
    blocks = dirty_pages * PAGE_KIB // _LARGEST_BUDDY_KIB + 2
    return min(free_kib, blocks * _LARGEST_BUDDY_KIB)


def _default_width_bits(spans: Mapping[int, NodeSpan]) -> int:
    if len(spans) < 2:
        return 0
    for _, span in sorted(spans.items()):
        if span.pages and span.start_page < _PAGES_BELOW_4_GIB:
            return dma_width_bits(*span)
    return 0


def _pages_below(span: NodeSpan, end: int) -> int:
    return max(0, min(end, span.start_page + span.pages) - span.start_page)


def memory_shares(request: GuestRequest, usable_kib: Sequence[int]) -> list[int]:
    """Return the KiB of a guest that come from each node of its node affinity.

    The `ShareRule` of Xen: extents from one node after the other, a full node is passed over, and
    single pages at the end. Whole GiB that a pvh or hvm guest asks for and that these nodes have
    not come from elsewhere, before anything smaller from here: then the shares are less than what
    is needed. Source: as `allocate`.
    """
    needed_kib = request.memory_kib
    if len(usable_kib) == 1:
        return [min(needed_kib, usable_kib[0])]
    shares, left = [0] * len(usable_kib), needed_kib
    for extent_kib in (LARGE_EXTENT_KIB, EXTENT_KIB, PAGE_KIB, 1):
        wanted = left // extent_kib
        if extent_kib == LARGE_EXTENT_KIB:
            wanted = 0 if request.type == "pv" else request.guest_memory_kib // extent_kib
        room = [
            (usable - share) // extent_kib for usable, share in zip(usable_kib, shares, strict=True)
        ]
        taken, _ = _round_robin(wanted, room)
        shares = [
            share + extents * extent_kib for share, extents in zip(shares, taken, strict=True)
        ]
        left -= (wanted if extent_kib == LARGE_EXTENT_KIB else sum(taken)) * extent_kib
        if left <= 0:
            break
    return shares


class Allocation(NamedTuple):
    """Where a guest's memory was taken from, in KiB by node; `short_kib` was nowhere to be had.

    `low_kib` is the part that came from the memory which Xen hands out last, `last` the node that
    gave the last of all.
    """

    high_kib: dict[int, int]
    low_kib: dict[int, int]
    short_kib: int
    last: int = -1

    @property
    def by_node(self) -> dict[int, int]:
        """KiB by node, nodes with none left out."""
        nodes = sorted({*self.high_kib, *self.low_kib})
        taken = {node: self.high_kib.get(node, 0) + self.low_kib.get(node, 0) for node in nodes}
        return {node: kib for node, kib in taken.items() if kib}


def allocate(  # noqa: PLR0913 - what is wanted, from where, and what there is
    wanted_kib: int,
    extent_kib: int = EXTENT_KIB,
    *,
    affine: NodeMap,
    high_kib: Mapping[int, int],
    low_kib: Mapping[int, int],
    last: int = -1,
) -> Allocation:
    """Return where Xen takes `wanted_kib` from, for a guest whose node affinity is `affine`.

    `high_kib` and `low_kib` are the free memory of every online node, above and below the DMA
    width; `last` is the node that gave the guest something before. For each extent: the affine
    nodes one after the other; if all are full, the lowest of the other nodes; and only if all of
    these are full the same once more for low memory. What does not come in extents of
    `extent_kib` comes in smaller ones, and what is wanted is rounded up to a page.

    So a whole extent elsewhere comes before smaller ones at home: a pvh guest of 1200 MiB was seen
    to get 1024 of them from another node, with 1470 MiB free at home and no whole GiB.

    Source: xen/common/page_alloc.c, alloc_domheap_pages() and get_free_buddy(); extents:
    tools/libs/guest/xg_dom_x86.c. Xen may find free memory too scattered for a whole extent
    (dumps do not tell), which is not modelled: free memory is taken to lie together.
    """
    free = ({**high_kib}, {**low_kib})
    taken: tuple[dict[int, int], dict[int, int]] = ({}, {})
    left = -(-wanted_kib // PAGE_KIB) * PAGE_KIB
    smaller = [size for size in _EXTENT_SIZES_KIB if size < extent_kib]
    for size in (extent_kib, *smaller):
        for zone_free, zone_taken in zip(free, taken, strict=True):
            extents, last = _take(left // size, zone_free, affine=affine, size=size, last=last)
            for node, count in extents.items():
                zone_free[node] -= count * size
                zone_taken[node] = zone_taken.get(node, 0) + count * size
                left -= count * size
    return Allocation(*taken, short_kib=left, last=last)


def _take(
    extents: int, free_kib: Mapping[int, int], *, affine: NodeMap, size: int, last: int
) -> tuple[dict[int, int], int]:
    """Take from one kind of zone; return extents by node and the node that gave the last one."""
    nodes = sorted(node for node in free_kib if node in affine)
    start = sum(node <= last for node in nodes)
    counts, last_at = _round_robin(extents, [free_kib[node] // size for node in nodes], start=start)
    taken = {node: count for node, count in zip(nodes, counts, strict=True) if count}
    if last_at is not None:
        last = nodes[last_at]
    left = extents - sum(counts)
    for node in sorted(free_kib):
        count = min(left, free_kib[node] // size) if node not in affine else 0
        if count > 0:
            taken[node] = count
            left -= count
            last = node
    return taken, last


def _round_robin(
    extents: int, room: Sequence[int], *, start: int = 0
) -> tuple[list[int], int | None]:
    """Deal `extents` out in turn, beginning at `start`; return how many each got, and who last."""
    taken, last = [0] * len(room), None
    turn = [*range(start, len(room)), *range(start)]
    while turn := [at for at in turn if taken[at] < room[at]]:
        rounds = min(*(room[at] - taken[at] for at in turn), extents // len(turn))
        given = turn if rounds else turn[:extents]
        for at in given:
            taken[at] += rounds or 1
        if given:
            last = given[-1]
        extents -= rounds * len(turn)
        if not rounds:
            break
    return taken, last
