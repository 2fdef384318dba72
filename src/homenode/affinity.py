"""Changing, while a guest runs, where its vcpus may run and where its new memory comes from.

Whether memory that a guest has comes along is the hypervisor's to say: Xen moves none on-line, and
only `move` brings it, in the way that the host can; with KVM it follows, if it is to.

Memory that is to come along is claimed on its new nodes first, in one critical section with the
look that says there is room; so nobody else is given it meanwhile.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from homenode.arrival import arrived
from homenode.bitmap import CpuMap, NodeMap
from homenode.claims import PENDING_S, Claim, outstanding_huge_kib, outstanding_kib
from homenode.drivers.base import Abilities, Driver, Masks, Moving, Snapshot
from homenode.errors import Conflict, DoesNotFit, HomenodeError, HypervisorError
from homenode.guest import Guest
from homenode.holding import DRIFTING
from homenode.host import ORDINARY_PAGE_KIB
from homenode.ledger import Ledger, Remembered
from homenode.placement import View
from homenode.placement.decision import Warned
from homenode.rules.qemu import overhead_kib
from homenode.units import format_memory, format_page

Kind = Literal["hard", "soft"]


def named_nodes(text: str, seen: Snapshot) -> NodeMap:
    """Return the nodes of the host that a user names for a guest (``0-1``, ``0-3,^2``, ``all``).

    Raises `HomenodeError` for what is no list, for nodes that are not there, and for none.
    """
    if text == "all":
        return seen.host.node_map
    nodes = NodeMap.parse_libvirt(text, within=seen.host.node_map)
    if not nodes:
        raise HomenodeError(f"{text!r} leaves no node", hint="all prefers nothing")
    return nodes


class Change(NamedTuple):
    """What the masks of a guest's vcpus are to become, in their order.

    `held` are the nodes that homenode holds it to then, `replaced` the hard masks that come back
    when it lets go. `by_default` is whether it is held without anybody having asked for that.
    """

    guest: Guest
    nodes: NodeMap
    masks: tuple[Masks, ...]
    held: NodeMap | None
    replaced: tuple[CpuMap, ...]
    warnings: tuple[Warned, ...]
    by_default: bool = False


def change(  # noqa: PLR0913 - what, and how
    seen: Snapshot,
    guest: Guest,
    nodes: NodeMap,
    *,
    kind: Kind | None = None,
    vcpus: CpuMap | None = None,
    abilities: Abilities = Abilities(),  # noqa: B008 - immutable
) -> Change:
    """Return the change that homes `vcpus` (all of them, if None) of a guest on `nodes`.

    ``soft`` has them prefer the cpus of the nodes that are in its cpupool, ``hard`` holds them to
    these as well. None is hard for a guest that homenode holds already, else soft; ``soft`` for
    such a guest gives its hard masks back. Where vcpus can prefer nothing, all are held. Raises
    `HomenodeError` for vcpus that it has not, and nodes without a cpu for it.
    """
    if kind == "soft" and not abilities.prefers:
        raise HomenodeError(
            f"{guest.name!r}: no soft affinity here: vcpus are held, or run anywhere",
            hint="leave out --soft; --open gives back what homenode holds",
        )
    home = _home(seen, guest, nodes)
    everywhere = nodes >= seen.host.nodes_of(seen.host.cpu_map)
    chosen = CpuMap(vcpu.id for vcpu in guest.vcpus) if vcpus is None else vcpus
    unknown = chosen - CpuMap(vcpu.id for vcpu in guest.vcpus)
    if unknown:
        raise HomenodeError(
            f"{guest.name!r} has no vcpu {unknown}",
            hint=f"it has {CpuMap(vcpu.id for vcpu in guest.vcpus)}",
        )
    hard = kind == "hard" or (kind is None and guest.held is not None) or not abilities.prefers
    replaced = _replaced(seen, guest)
    masks = []
    for vcpu, old in zip(guest.vcpus, replaced, strict=True):
        if vcpu.id not in chosen:
            masks.append(Masks(vcpu.hard, vcpu.soft))
            continue
        soft = seen.host.cpu_map if everywhere or not abilities.prefers else home
        # What it only prefers leaves the keeper's masks to the keeper.
        other = vcpu.hard if guest.kept and not hard else old
        masks.append(Masks(home if hard and not everywhere else other, soft))
    holds = hard and not everywhere
    unasked = kind is None and vcpus is None and (guest.held is None or guest.held_by_default)
    return Change(
        guest,
        nodes,
        tuple(masks),
        nodes if holds else None,
        replaced if holds else (),
        _warnings(seen, guest, masks, nodes, kind="hard" if hard else "soft"),
        by_default=holds and unasked,
    )


def opened(seen: Snapshot, guest: Guest) -> Change:
    """Return the change that gives a guest the hard masks that homenode replaced.

    Raises `Conflict` if its hard masks are not homenode's.
    """
    if guest.held is None and guest.kept:
        raise Conflict(
            f"the keeper holds {guest.name!r}", hint="homenode keep --release, once it has ended"
        )
    if guest.held is None:
        raise Conflict(
            f"homenode does not hold {guest.name!r}: its hard masks are not homenode's",
            hint="xl vcpu-pin or virsh vcpupin changes them",
        )
    masks = [
        Masks(old, vcpu.soft) for vcpu, old in zip(guest.vcpus, _replaced(seen, guest), strict=True)
    ]
    nodes = guest.held
    warnings = _warnings(seen, guest, masks, nodes, kind="soft")
    return Change(guest, nodes, tuple(masks), None, (), warnings)


def apply(
    driver: Driver, wanted: Change, moving: Moving | None = None
) -> tuple[Guest, tuple[Warned, ...]]:
    """Make the change, for its memory as well if that is to be moved; return the guest then.

    The warnings are the change's own, and what did not become as it was wanted. Raises `DoesNotFit`
    before anything is changed if there is no room for the memory.
    """
    guest = wanted.guest
    told: tuple[Warned, ...] = ()
    if moving is not None:
        before = driver.snapshot("guests")
        told = _moved(driver, wanted, moving)
    else:
        driver.pin(guest, wanted.masks)
    try:
        after = driver.snapshot("guests")
    except HypervisorError as error:
        done = "moved" if moving is not None else "pinned"
        text = f"{guest.name!r} is {done} as it was to be, and then: {error.message}"
        raise HypervisorError(text, hint=error.hint) from None
    now = after.again(guest)
    if now is None:
        raise Conflict(f"{guest.name!r} is gone", hint="see homenode list")
    if moving is not None and now.memory_by_node is None and guest.memory_by_node is not None:
        now = now._replace(memory_by_node=arrived(before, after, now, had=guest.memory_by_node))
    if driver.ledger is not None and now.uuid is not None:
        with driver.ledger.lock():
            _remember(driver.ledger, now, wanted, moved=moving is not None)
        now = now._replace(held=wanted.held, replaced=wanted.replaced)
        if driver.abilities.moves:
            now = driver.snapshot("guests").again(now) or now
    return now, wanted.warnings + told + _not_so(now, wanted)


def _moved(driver: Driver, wanted: Change, moving: Moving) -> tuple[Warned, ...]:
    """Move the guest with its memory, which is claimed where it goes as long as that takes."""
    guest, ledger = wanted.guest, driver.ledger
    if ledger is None or not driver.abilities.moves or guest.uuid is None:
        return driver.move(guest, wanted.masks, moving)
    with ledger.lock():
        seen = driver.snapshot("creation")
        claims = ledger.holding(seen.guests)
        view = View(
            seen.host,
            seen.guests,
            outstanding_kib(claims, seen.guests),
            outstanding_huge_kib=outstanding_huge_kib(claims, seen.guests),
        )
        shares = _coming(view, seen.again(guest) or guest, wanted.nodes)
        others = [claim for claim in claims if claim.uuid != guest.uuid]
        ledger.replace((*others, _claim(ledger, guest, shares)))
    try:
        return driver.move(guest, wanted.masks, moving._replace(shares=shares))
    except BaseException:
        with suppress(HomenodeError), ledger.lock():
            kept = [claim for claim in ledger.read() if claim.uuid != guest.uuid]
            ledger.replace((*kept, *(claim for claim in claims if claim.uuid == guest.uuid)))
        raise


def _coming(view: View, guest: Guest, nodes: NodeMap) -> dict[int, int]:
    """Return the KiB that the guest is to have on each of `nodes`, all that it may grow to.

    What is there stays; the rest makes the shares as equal as room allows, as interleaving would.
    Raises `DoesNotFit` if there is not enough of it.
    """
    here = guest.memory_by_node.kib if guest.memory_by_node else {}
    shares = {node: here.get(node, 0) for node in nodes}
    most_kib = guest.max_memory_kib or guest.memory_kib or sum(here.values())
    if guest.page_kib <= ORDINARY_PAGE_KIB:
        most_kib += overhead_kib(most_kib, guest.page_kib)
    coming_kib = max(0, most_kib - sum(shares.values()))
    room = {node: view.room_kib(node, guest.page_kib) for node in nodes}
    if coming_kib > sum(room.values()):
        pages = "" if guest.page_kib <= ORDINARY_PAGE_KIB else f" in {format_page(guest.page_kib)}"
        raise DoesNotFit(
            f"{guest.name!r} is not moved: {format_memory(coming_kib)} would come to {nodes.named},"
            f" where {format_memory(sum(room.values()))}{pages} is usable",
            hint="homenode topology shows where there is room",
        )
    return _levelled(shares, room, coming_kib)


def _levelled(there: dict[int, int], room: dict[int, int], coming_kib: int) -> dict[int, int]:
    """Return what is there with what is coming, such that the lowest are filled up first."""

    def filled(level: int) -> dict[int, int]:
        return {node: kib + min(room[node], max(0, level - kib)) for node, kib in there.items()}

    total = sum(there.values()) + coming_kib
    low, high = 0, max(kib + room[node] for node, kib in there.items()) + 1
    while high - low > 1:
        level = (low + high) // 2
        low, high = (level, high) if sum(filled(level).values()) <= total else (low, level)
    shares, above = filled(low), filled(low + 1)
    left = total - sum(shares.values())
    for node in [node for node in shares if above[node] > shares[node]][:left]:
        shares[node] += 1
    return shares


def _claim(ledger: Ledger, guest: Guest, shares: dict[int, int]) -> Claim:
    return Claim(
        guest.uuid,
        guest.name,
        len(guest.vcpus),
        shares,
        ledger.boot_id,
        ledger.clock() + PENDING_S,
        page_kib=guest.page_kib,
        state="moving",
        creator=ledger.creator,
    )


def _remember(ledger: Ledger, now: Guest, wanted: Change, *, moved: bool) -> None:
    known = ledger.entries().of(now.uuid) or Remembered(str(now.uuid))
    masks = tuple(mask.hard for mask in wanted.masks) if wanted.held else ()
    known = known._replace(
        held=wanted.held, masks=masks, replaced=wanted.replaced, by_default=wanted.by_default
    )
    if moved:
        known = known._replace(id=now.id, memory=now.memory_by_node, memory_kib=now.memory_kib)
        ledger.move(now)
    ledger.remember(known)


def _home(seen: Snapshot, guest: Guest, nodes: NodeMap) -> CpuMap:
    host = seen.host
    unknown = nodes - host.node_map
    if unknown or not nodes:
        raise HomenodeError(
            f"cannot set the node affinity of {guest.name!r} to {str(nodes)!r}",
            hint=f"the host has nodes {host.node_map}",
        )
    pool = host.pool(guest.pool)
    home = host.cpus_of(nodes) & pool.cpus
    if not home:
        whose = f" in its cpupool {pool.name!r}" if host.pools else ""
        raise HomenodeError(
            f"no cpus on {nodes.named}{whose}: the vcpus of {guest.name!r} cannot run there",
            hint=f"it has cpus on {host.nodes_of(pool.cpus).named}",
        )
    return home


def _replaced(seen: Snapshot, guest: Guest) -> tuple[CpuMap, ...]:
    """Return the hard masks that are not homenode's: those under a hold, or those that are."""
    if guest.held is None and not guest.kept:
        return tuple(vcpu.hard for vcpu in guest.vcpus)
    earlier = guest.replaced or (seen.host.cpu_map,)
    return tuple(
        earlier[at] if at < len(earlier) else earlier[-1] for at in range(len(guest.vcpus))
    )


def _warnings(
    seen: Snapshot, guest: Guest, masks: Sequence[Masks], nodes: NodeMap, *, kind: Kind
) -> tuple[Warned, ...]:
    pool = seen.host.pool(guest.pool)
    there = seen.host.cpus_of(nodes) & pool.cpus
    warnings = []
    away = CpuMap(
        vcpu.id
        for vcpu, mask in zip(guest.vcpus, masks, strict=True)
        if mask.hard.isdisjoint(there)
    )
    if away:
        text = f"{away.named_vcpus} may not run on {nodes.named}: memory there is remote"
        warnings.append(Warned("vcpus-away-from-memory", text))
    narrow = there < pool.cpus
    if kind == "soft" and narrow and pool.scheduler in DRIFTING and not away:
        text = f"under {pool.scheduler} vcpus drift away from what they prefer; --hard holds them"
        warnings.append(Warned("soft-drifts", text))
    return tuple(warnings)


def _not_so(now: Guest, wanted: Change) -> tuple[Warned, ...]:
    """Return what did not become as it was wanted."""
    warnings = []
    differing = CpuMap(
        vcpu.id
        for vcpu, mask in zip(now.vcpus, wanted.masks, strict=False)
        if (vcpu.hard, vcpu.soft) != tuple(mask)
    )
    if differing:
        text = (
            f"the masks of {differing.named_vcpus} are not as they were set: another may be at them"
        )
        warnings.append(Warned("masks-differ", text))
    elif not wanted.warnings and now.node_affinity and not now.node_affinity <= wanted.nodes:
        text = (
            f"new memory still comes from {now.node_affinity.named}: its node affinity was fixed"
            " when it was created, or vcpus may run elsewhere"
        )
        warnings.append(Warned("node-affinity-stays", text))
    return tuple(warnings)
