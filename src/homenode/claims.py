"""Claims: memory that is promised to a guest and not yet seen there.

Two requests that look at the same free memory must not both get it. So a decision is taken and
written down in one critical section (milliseconds: look, decide, append), before the guest is
built, which takes seconds to minutes:

* a *pending* claim ends when its guest is seen, when its creator gives up, or at its expiry if
  no guest of it has shown up by then;
* a *seen* claim ends when the guest is gone, not when a process ends. It holds what arrived, so
  that memory which a guest gives back for a while (ballooning) is still kept for it;
* a *moving* claim is of a guest that is there and is being moved to other nodes, however long that
  takes. When it has been moved, or who moves it has ended, it is a seen one.

A claim weighs ``max(0, claimed - seen)`` on each node: what a guest has already is missing from
the free memory of the node, and is not counted twice. Claims are written in a ledger
(`homenode.ledger`); this room is what they mean, and does no input or output.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from homenode.bitmap import NodeMap
from homenode.guest import Guest, Vcpu
from homenode.host import ORDINARY_PAGE_KIB, Host

ClaimState = Literal["pending", "moving", "seen"]

PENDING_S = 300.0
"""How long a claim waits for its guest to show up. Building may take longer than that."""


class Claim(NamedTuple):
    """Memory that one guest has been promised: KiB by node, in pages of `page_kib`.

    `uuid` is None where the guest is not known by it yet: then the first guest newer than
    `after_id` with the same number of vcpus and the same MiB is taken for it. `expires_at` is in
    seconds since the epoch and counts while the claim is pending. `creator` is the process (on
    the ledger's host) that creates or moves the guest, None where nobody knows.
    """

    uuid: str | None
    name: str
    vcpus: int
    memory_kib: dict[int, int]
    boot_id: str
    expires_at: float
    page_kib: int = 4
    state: ClaimState = "pending"
    after_id: int = -1
    creator: int | None = None


def outstanding_kib(claims: Iterable[Claim], guests: Iterable[Guest]) -> dict[int, int]:
    """Return the ordinary memory by node, in KiB, that `claims` promise and no guest has yet.

    The claims are those of `reconciled`. Where the memory of a guest is not known by node, what
    it lacks counts on all nodes of its claim in proportion while it is being built, and nothing
    afterwards: the free memory of the host lacks it by then. Guests that others are building
    count as well, as far as the hypervisor tells what they await.
    """
    by_uuid = {guest.uuid: guest for guest in guests if guest.uuid is not None}
    total: dict[int, int] = {}
    for claim in claims:
        guest = by_uuid.pop(claim.uuid, None) if claim.uuid is not None else None
        if claim.page_kib <= ORDINARY_PAGE_KIB:
            for node, kib in _owed_kib(guest, claim).items():
                total[node] = total.get(node, 0) + kib
    for guest in by_uuid.values():
        for node, kib in _awaited_kib(guest).items():
            total[node] = total.get(node, 0) + kib
    return total


def outstanding_huge_kib(
    claims: Iterable[Claim], guests: Iterable[Guest]
) -> dict[tuple[int, int], int]:
    """Return the same in huge pages, by (node, size of the page in KiB)."""
    by_uuid = {guest.uuid: guest for guest in guests if guest.uuid is not None}
    total: dict[tuple[int, int], int] = {}
    for claim in claims:
        if claim.page_kib > ORDINARY_PAGE_KIB:
            guest = None if claim.uuid is None else by_uuid.get(claim.uuid)
            for node, kib in _owed_kib(guest, claim).items():
                at = node, claim.page_kib
                total[at] = total.get(at, 0) + kib
    return total


def _owed_kib(guest: Guest | None, claim: Claim) -> dict[int, int]:
    owed = {node: kib - _seen_kib(guest, claim, node) for node, kib in claim.memory_kib.items()}
    return {node: kib for node, kib in owed.items() if kib > 0}


def _seen_kib(guest: Guest | None, claim: Claim, node: int) -> int:
    if guest is None:
        return 0
    claimed_kib = claim.memory_kib[node]
    if guest.memory_by_node is not None:
        return guest.memory_by_node.kib.get(node, 0)
    if guest.state != "building":
        return claimed_kib
    # Wherever the first part went, it is the rest that will be asked of this node.
    has_kib, all_kib = guest.memory_kib or 0, sum(claim.memory_kib.values())
    return min(claimed_kib, claimed_kib * has_kib // all_kib if all_kib else 0)


def _awaited_kib(guest: Guest) -> dict[int, int]:
    """Return what a guest without a claim still awaits, dealt out over its node affinity."""
    if not guest.awaited_kib or not guest.node_affinity:
        return {}
    each = -(-guest.awaited_kib // len(guest.node_affinity))
    return dict.fromkeys(guest.node_affinity, each)


def reconciled(
    claims: Iterable[Claim],
    guests: Sequence[Guest],
    *,
    now: float,
    boot_id: str,
    lives: Callable[[int], bool],
) -> tuple[Claim, ...]:
    """Return what holds of `claims`, given the guests that are there `now` (since the epoch).

    `lives` tells whether a process, the creator of a claim, still runs. Applied to its own result
    it changes nothing.
    """
    held = _exchanged([claim for claim in claims if claim.boot_id == boot_id], guests)
    taken = {claim.uuid for claim in held}
    by_size = _by_size([claim for claim in held if claim.uuid is None], guests, taken)
    kept = []
    for claim in held:
        uuid = claim.uuid or by_size.get(id(claim))
        guest = next((guest for guest in guests if uuid and guest.uuid == uuid), None)
        if guest is not None:
            kept.append(_met(claim._replace(uuid=guest.uuid), guest, lives))
        elif claim.state == "pending" and now < claim.expires_at:
            kept.append(claim)
    return tuple(kept)


def _exchanged(claims: list[Claim], guests: Sequence[Guest]) -> list[Claim]:
    """Let guests of one size whose claims are on each other's nodes exchange them.

    Who asks for a size (libvirt, in numad's place) may give the answer to another guest of that
    size; where each went is seen when it is there.
    """
    affinity = {guest.uuid: guest.node_affinity for guest in guests}
    claims = list(claims)
    for at, claim in enumerate(claims):
        home = affinity.get(claim.uuid) if claim.state == "pending" else None
        if claim.uuid is None or home is None or home == NodeMap(claim.memory_kib):
            continue
        for other_at, other in enumerate(claims):
            strange = affinity.get(other.uuid) != home
            same = other.state == "pending" and _size(other) == _size(claim)
            if other_at != at and strange and same and NodeMap(other.memory_kib) == home:
                claims[at] = claim._replace(memory_kib=other.memory_kib)
                claims[other_at] = other._replace(memory_kib=claim.memory_kib)
                break
    return claims


def _size(claim: Claim) -> tuple[int, int, int]:
    return claim.vcpus, claim.page_kib, sum(claim.memory_kib.values()) >> 10


def _by_size(
    claims: Sequence[Claim], guests: Sequence[Guest], taken: set[str | None]
) -> dict[int, str]:
    """Return the uuid of the guest that each claim without one is taken for, by its identity.

    The first guest of its size, but one that is on the claim's nodes before all others.
    """
    found: dict[int, str] = {}
    for exact in (True, False):
        for claim in claims:
            key = claim.vcpus, sum(claim.memory_kib.values()) >> 10
            for guest in guests if id(claim) not in found else ():
                there = not exact or guest.node_affinity == NodeMap(claim.memory_kib)
                new = guest.uuid is not None and guest.uuid not in taken
                if new and there and (guest.id or 0) > claim.after_id and _key(guest) == key:
                    found[id(claim)] = str(guest.uuid)
                    taken.add(guest.uuid)
                    break
    return found


def _key(guest: Guest) -> tuple[int, int]:
    return len(guest.vcpus), (guest.memory_kib or 0) >> 10


def _met(claim: Claim, guest: Guest, lives: Callable[[int], bool]) -> Claim:
    if claim.state == "seen" or guest.state == "building":
        return claim
    if claim.state == "moving" and (claim.creator is None or lives(claim.creator)):
        return claim
    if guest.memory_by_node is None:
        return claim._replace(state="seen")
    # What went elsewhere, or was the hypervisor's own overhead, is not coming any more.
    here = guest.memory_by_node.kib
    arrived = {node: min(kib, here.get(node, 0)) for node, kib in claim.memory_kib.items()}
    return claim._replace(state="seen", memory_kib=arrived)


def unclaimed(guests: Sequence[Guest], claims: Iterable[Claim]) -> tuple[Guest, ...]:
    """Return the guests but for those that are being built and have a claim.

    What such a guest still needs its claim says; counted as what it may come to have as well, it
    would be missing twice.
    """
    promised = {claim.uuid for claim in claims if claim.state == "pending"}
    return tuple(
        guest for guest in guests if guest.state != "building" or guest.uuid not in promised
    )


def awaited(claims: Sequence[Claim], host: Host, guests: Sequence[Guest]) -> tuple[Guest, ...]:
    """Return the guests that are promised memory and not there yet, as far as claims tell.

    Their vcpus will run where their memory is to be, which those decided on after them should
    know.
    """
    there = {guest.uuid for guest in guests}
    coming = []
    for claim in claims:
        nodes = NodeMap(claim.memory_kib) & host.node_map
        cpus = host.cpus_of(nodes)
        new = claim.uuid is None or claim.uuid not in there
        if claim.state == "pending" and new and cpus:
            vcpus = tuple(Vcpu(number, host.cpu_map, cpus) for number in range(claim.vcpus))
            coming.append(
                Guest(claim.name, vcpus, state="building", node_affinity=nodes, memory_kib=0)
            )
    return tuple(coming)


def moved(claims: Iterable[Claim], guest: Guest) -> tuple[Claim, ...]:
    """Return the claims after the memory of `guest` was moved: what it has is claimed there."""
    if guest.memory_by_node is None:
        return tuple(claims)
    here = dict(guest.memory_by_node.kib)
    return tuple(
        claim._replace(memory_kib=here, state="seen") if claim.uuid == guest.uuid else claim
        for claim in claims
    )
