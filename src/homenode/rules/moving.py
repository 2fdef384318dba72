"""Before the pages of a running guest are moved: what would go wrong, and what to know.

libvirt answers 0 to a move onto a node that is too small, and the kernel then kills the guest;
``migratepages`` stops half-way (both seen with Linux 6.1). So room is made sure of before the first
page is touched: for ordinary pages by who claims it, for huge pages here, for they come from the
pools of the nodes.
"""

from collections.abc import Mapping
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.formats.numa_maps import Mapped
from homenode.host import ORDINARY_PAGE_KIB, Host
from homenode.placement.decision import Warned
from homenode.units import format_memory, format_page

_BLOCK_KIB = 2048
_MOST_PINNED = 90
"""In percent: a guest with more of its memory pinned is not moved at all."""


class Asked(NamedTuple):
    """A guest whose memory (`own`) is to be on `nodes`, and what is measured of it.

    `pinned_kib` cannot move, for a device has its address (VFIO); `transparent_kib` are in
    transparent huge pages. `free_blocks` has, by node, the free pieces of 2 MiB.
    """

    guest: str
    own: tuple[Mapped, ...]
    nodes: NodeMap
    pinned_kib: int = 0
    transparent_kib: int = 0
    free_blocks: Mapping[int, int] = {}

    def away_kib(self, page_kib: int | None = None) -> int:
        """Return what is to move, in all or in pages of that size."""
        return sum(
            kib
            for mapped in self.own
            if page_kib is None or mapped.page_kib == page_kib
            for node, kib in mapped.kib.items()
            if node not in self.nodes
        )


class Refusal(NamedTuple):
    """Why a guest is not moved, and what to do about it."""

    text: str
    hint: str


def refusal(asked: Asked, host: Host) -> Refusal | None:
    """Return why the memory cannot be moved; None if it can."""
    name = repr(asked.guest)
    for node in asked.nodes:
        there = host.nodes_by_id.get(node)
        if there is None or not there.present_kib:
            what = "has no memory" if there is not None else "is not there"
            return Refusal(f"{name} is not moved: node {node} {what}", "homenode topology")
    total_kib = sum(sum(mapped.kib.values()) for mapped in asked.own)
    if asked.away_kib() and asked.pinned_kib * 100 > total_kib * _MOST_PINNED:
        return Refusal(
            f"{name} is not moved: {format_memory(asked.pinned_kib)} of its"
            f" {format_memory(total_kib)} are pinned for a device",
            "shut it down and start it on the other nodes",
        )
    return _short_pool(asked, host)


def _short_pool(asked: Asked, host: Host) -> Refusal | None:
    for page_kib in sorted({mapped.page_kib for mapped in asked.own}):
        if page_kib <= ORDINARY_PAGE_KIB:
            continue
        coming_kib = asked.away_kib(page_kib)
        room = {
            node: host.nodes_by_id[node].usable_in_pages_kib(page_kib) or 0 for node in asked.nodes
        }
        if coming_kib > sum(room.values()):
            short = -(-(coming_kib - sum(room.values())) // page_kib)
            first = asked.nodes.first
            return Refusal(
                f"{asked.guest!r} is not moved: {format_memory(coming_kib)} are in pages of"
                f" {format_page(page_kib)}, and {asked.nodes.named} has"
                f" {format_memory(sum(room.values()))} of such pages free",
                f"add {short} to /sys/devices/system/node/node{first}/hugepages/"
                f"hugepages-{page_kib}kB/nr_hugepages",
            )
    return None


def beforehand(asked: Asked) -> tuple[Warned, ...]:
    """Return what to know before the first page moves."""
    warnings = []
    if asked.pinned_kib and asked.away_kib():
        text = f"{format_memory(asked.pinned_kib)} of it are pinned for a device and stay"
        warnings.append(Warned("memory-pinned", text))
    free_kib = sum(asked.free_blocks.get(node, 0) for node in asked.nodes) * _BLOCK_KIB
    coming_kib = min(asked.transparent_kib, asked.away_kib())
    if asked.free_blocks and coming_kib > free_kib:
        text = (
            f"{format_memory(coming_kib)} are in transparent huge pages, and {asked.nodes.named}"
            f" has {format_memory(free_kib)} in free pieces of 2 MiB: others are split"
        )
        warnings.append(Warned("huge-pages-split", text))
    return tuple(warnings)


def remarks(moved_kib: int, stuck_kib: Mapping[str, int], split: int) -> tuple[Warned, ...]:
    """Return what to know after a move: what stayed, and huge pages that were split."""
    warnings = []
    for why, kib in sorted(stuck_kib.items()):
        text = f"{format_memory(kib)} stayed where they were: {why}"
        warnings.append(Warned("pages-stayed", text))
    if split and moved_kib:
        pages = (
            "1 transparent huge page was" if split == 1 else f"{split} transparent huge pages were"
        )
        warnings.append(Warned("huge-pages-split", f"{pages} split by the move"))
    return tuple(warnings)
