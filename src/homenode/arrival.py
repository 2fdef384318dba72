"""What came true: where a guest's memory went, beside where it should have gone."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
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


class Expected(NamedTuple):
    """A new guest, where it was to go, and what it needs with all that the hypervisor adds."""

    guest: Guest
    decision: Decision
    most_kib: int


def arrived(
    before: Snapshot, after: Snapshot, guest: Guest, *, had: MemoryByNode
) -> MemoryByNode | None:
    """Return where the memory of a guest is that was moved, and that `had` its memory there.

    As `arrived_together`, with what it gave back.
    """
    size_kib = guest.memory_kib or 0
    there = _taken(before, after, {guest.uuid}, least_kib=size_kib, most_kib=size_kib, had=had)
    return None if there is None else MemoryByNode(there, FREE_MEMORY, after.host.taken_at)


def arrived_together(
    before: Snapshot, after: Snapshot, new: Sequence[Expected]
) -> dict[str | None, MemoryByNode]:
    """Return the memory of new guests, by uuid, as what the nodes have less of than before.

    That is cheap, and true only if nothing else happened in between: nothing is returned if
    another guest came, went, or has another size, or if the sum is not what the guests have, to
    what they need with all that the hypervisor adds. Of several guests only the sum is seen: they
    are where they were to go if each node has less by what was planned, else unknown. Whether
    anyone else was building a guest, the caller has to know.
    """
    uuids = {one.guest.uuid for one in new}
    least_kib = sum(one.guest.memory_kib or 0 for one in new)
    most_kib = sum(one.most_kib for one in new)
    taken = _taken(before, after, uuids, least_kib=least_kib, most_kib=most_kib)
    if taken is None:
        return {}
    seen_at = after.host.taken_at
    if len(new) == 1:
        return {new[0].guest.uuid: MemoryByNode(taken, FREE_MEMORY, seen_at)}
    planned: dict[int, int] = {}
    shares = {one.guest.uuid: _shares_kib(one) for one in new}
    for by_node in shares.values():
        for node, kib in by_node.items():
            planned[node] = planned.get(node, 0) + kib
    slack_kib = most_kib - least_kib + _UNCOUNTED_KIB
    if any(
        abs(taken.get(node, 0) - planned.get(node, 0)) > slack_kib
        for node in taken.keys() | planned.keys()
    ):
        return {}
    return {uuid: MemoryByNode(kib, FREE_MEMORY, seen_at) for uuid, kib in shares.items()}


def _shares_kib(one: Expected) -> dict[int, int]:
    """Return the guest's own memory, dealt out as all that it needs was planned."""
    planned = {share.node: share.kib for share in one.decision.memory}
    total, own = sum(planned.values()), one.guest.memory_kib or 0
    return {node: own * kib // total for node, kib in planned.items()} if total else {}


def _taken(  # noqa: PLR0913 - two looks, and what to expect
    before: Snapshot,
    after: Snapshot,
    uuids: AbstractSet[str | None],
    *,
    least_kib: int,
    most_kib: int,
    had: MemoryByNode | None = None,
) -> dict[int, int] | None:
    """Return what the nodes have less of; None if it is not all of it those guests' doing."""
    if _others(before, uuids) != _others(after, uuids):
        return None
    taken: dict[int, int] = {}
    for node in before.host.nodes:
        then = after.host.nodes_by_id.get(node.id)
        if node.free_kib is None or then is None or then.free_kib is None:
            return None
        given_back = 0 if had is None else had.kib.get(node.id, 0)
        taken[node.id] = node.free_kib - then.free_kib + given_back
    slack_kib = _ROUNDED_KIB * len(taken)
    total_kib = sum(taken.values())
    if min(taken.values(), default=0) < -_ROUNDED_KIB:
        return None
    if not least_kib - slack_kib <= total_kib <= most_kib + slack_kib + _UNCOUNTED_KIB:
        return None
    return {node: kib for node, kib in taken.items() if kib > _ROUNDED_KIB}


def _others(
    seen: Snapshot, uuids: AbstractSet[str | None]
) -> set[tuple[str | None, int | None, int | None]]:
    return {
        (other.uuid, other.id, other.memory_kib) for other in seen.guests if other.uuid not in uuids
    }


def newcomers(before: Snapshot, after: Snapshot, known: set[str | None]) -> tuple[Guest, ...]:
    """Return the guests that came meanwhile, but for those whose uuid is `known`."""
    there = {(guest.uuid, guest.id) for guest in before.guests}
    return tuple(
        guest
        for guest in after.guests
        if (guest.uuid, guest.id) not in there and guest.uuid not in known
    )


def gone_elsewhere(guest: Guest, decision: Decision, *, slack_kib: int = 0) -> tuple[Warned, ...]:
    """Return the warning of memory that did not come from the nodes of `decision`, if any.

    Up to `slack_kib` may be the hypervisor's own for the guest, which goes anywhere.
    """
    planned = NodeMap(share.node for share in decision.memory)
    elsewhere_kib = landed(guest, planned).elsewhere_kib
    if not elsewhere_kib or sum(elsewhere_kib.values()) <= slack_kib:
        return ()
    went = ", ".join(f"{format_memory(kib)} on node {node}" for node, kib in elsewhere_kib.items())
    return (
        Warned("memory-elsewhere", f"not all memory came from {planned.named} as planned: {went}"),
    )
