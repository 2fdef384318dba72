"""What came true: where a guest's memory went, beside where it should have gone."""

from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.drivers.base import Snapshot
from homenode.guest import Guest, MemoryByNode
from homenode.placement import Decision
from homenode.placement.decision import Warned
from homenode.units import format_memory

FREE_MEMORY = "change of free memory"
"""The source of memory that was found by `arrived`."""

_ROUNDED_KIB = 1024
"""Free memory is told in whole MiB, so a difference of two may be off by one."""

_UNCOUNTED_KIB = 4096
"""What Xen may take for a guest beside all that is counted in advance."""


class Landed(NamedTuple):
    """Where a guest's memory is, beside where it should be.

    `match` is the share of its memory, in whole percent rounded down, that is on the nodes of its
    node affinity; `elsewhere_kib` the rest by node. Both are None where nobody says.
    """

    match: int | None
    elsewhere_kib: dict[int, int] | None


def landed(guest: Guest, nodes: NodeMap | None = None) -> Landed:
    """Return how much of the guest's memory is on `nodes`, or else on those of its affinity."""
    nodes = guest.node_affinity if nodes is None else nodes
    if guest.memory_by_node is None or nodes is None:
        return Landed(None, None)
    by_node = guest.memory_by_node.kib
    elsewhere = {node: kib for node, kib in sorted(by_node.items()) if kib and node not in nodes}
    total = sum(by_node.values())
    if not total:
        return Landed(None, None)
    return Landed((total - sum(elsewhere.values())) * 100 // total, elsewhere)


def arrived(
    before: Snapshot,
    after: Snapshot,
    guest: Guest,
    *,
    most_kib: int | None = None,
    had: MemoryByNode | None = None,
) -> MemoryByNode | None:
    """Return the memory of a guest that is new, or was moved, as what the nodes have less of.

    That is cheap, and true only if nothing else happened in between: None if another guest came,
    went, or has another size, or if the sum is not what the guest has, to `most_kib` with all that
    the hypervisor needs for it. `had` is what a moved guest gave back. Whether anyone else was
    building a guest, the caller has to know.
    """
    if _others(before, guest) != _others(after, guest) or guest.memory_kib is None:
        return None
    taken: dict[int, int] = {}
    for node in before.host.nodes:
        then = after.host.nodes_by_id.get(node.id)
        if node.free_kib is None or then is None or then.free_kib is None:
            return None
        given_back = 0 if had is None else had.kib.get(node.id, 0)
        taken[node.id] = node.free_kib - then.free_kib + given_back
    if min(taken.values(), default=0) < -_ROUNDED_KIB:
        return None
    slack_kib = _ROUNDED_KIB * len(taken)
    most_kib = guest.memory_kib if most_kib is None else most_kib
    total_kib = sum(taken.values())
    if not guest.memory_kib - slack_kib <= total_kib <= most_kib + slack_kib + _UNCOUNTED_KIB:
        return None
    there = {node: kib for node, kib in taken.items() if kib > _ROUNDED_KIB}
    return MemoryByNode(there, FREE_MEMORY, after.host.taken_at)


def _others(seen: Snapshot, guest: Guest) -> set[tuple[str | None, int | None, int | None]]:
    return {
        (other.uuid, other.id, other.memory_kib)
        for other in seen.guests
        if other.uuid != guest.uuid
    }


def newcomers(before: Snapshot, after: Snapshot, known: set[str | None]) -> tuple[Guest, ...]:
    """Return the guests that came meanwhile, but for those whose uuid is `known`."""
    there = {(guest.uuid, guest.id) for guest in before.guests}
    return tuple(
        guest
        for guest in after.guests
        if (guest.uuid, guest.id) not in there and guest.uuid not in known
    )


def gone_elsewhere(guest: Guest, decision: Decision) -> tuple[Warned, ...]:
    """Return the warning of memory that did not come from the nodes of `decision`, if any."""
    planned = NodeMap(share.node for share in decision.memory)
    elsewhere_kib = landed(guest, planned).elsewhere_kib
    if not elsewhere_kib:
        return ()
    went = ", ".join(f"{format_memory(kib)} on node {node}" for node, kib in elsewhere_kib.items())
    return (
        Warned("memory-elsewhere", f"not all memory came from {planned.named} as planned: {went}"),
    )
