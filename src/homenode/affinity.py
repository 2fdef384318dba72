"""Changing, while a guest runs, where its vcpus may run and where its new memory comes from.

Memory that a guest has stays where it is: Xen moves none. Only `move` brings it along, in the way
that the host can.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from homenode.arrival import arrived
from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.base import Driver, Masks, Snapshot
from homenode.errors import Conflict, HomenodeError
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest
from homenode.holding import DRIFTING
from homenode.ledger import Ledger, Remembered
from homenode.placement.decision import Warned

Kind = Literal["hard", "soft"]


class Change(NamedTuple):
    """What the masks of a guest's vcpus are to become, in their order.

    `held` are the nodes that homenode holds it to then, `replaced` the hard masks that come back
    when it lets go.
    """

    guest: Guest
    nodes: NodeMap
    masks: tuple[Masks, ...]
    held: NodeMap | None
    replaced: tuple[CpuMap, ...]
    warnings: tuple[Warned, ...]


def change(
    seen: Snapshot,
    guest: Guest,
    nodes: NodeMap,
    *,
    kind: Kind | None = None,
    vcpus: CpuMap | None = None,
) -> Change:
    """Return the change that homes `vcpus` (all of them, if None) of a guest on `nodes`.

    ``soft`` has them prefer the cpus of the nodes that are in its cpupool, ``hard`` holds them to
    these as well. None is hard for a guest that homenode holds already, else soft; ``soft`` for
    such a guest gives its hard masks back. Raises `HomenodeError` for vcpus that it has not, and
    nodes without a cpu for it.
    """
    home = _home(seen, guest, nodes)
    everywhere = nodes >= seen.host.nodes_of(seen.host.cpu_map)
    chosen = CpuMap(vcpu.id for vcpu in guest.vcpus) if vcpus is None else vcpus
    unknown = chosen - CpuMap(vcpu.id for vcpu in guest.vcpus)
    if unknown:
        raise HomenodeError(
            f"{guest.name!r} has no vcpu {unknown}",
            hint=f"it has {CpuMap(vcpu.id for vcpu in guest.vcpus)}",
        )
    hard = kind == "hard" or (kind is None and guest.held is not None)
    replaced = _replaced(seen, guest)
    masks = []
    for vcpu, old in zip(guest.vcpus, replaced, strict=True):
        if vcpu.id not in chosen:
            masks.append(Masks(vcpu.hard, vcpu.soft))
            continue
        soft = seen.host.cpu_map if everywhere else home
        masks.append(Masks(home if hard and not everywhere else old, soft))
    holds = hard and not everywhere
    return Change(
        guest,
        nodes,
        tuple(masks),
        nodes if holds else None,
        replaced if holds else (),
        _warnings(seen, guest, masks, nodes, kind="hard" if hard else "soft"),
    )


def opened(seen: Snapshot, guest: Guest) -> Change:
    """Return the change that gives a guest the hard masks that homenode replaced.

    Raises `Conflict` if its hard masks are not homenode's.
    """
    if guest.held is None:
        raise Conflict(
            f"homenode does not hold {guest.name!r}: its hard masks are not homenode's",
            hint="xl vcpu-pin changes them",
        )
    masks = [
        Masks(old, vcpu.soft) for vcpu, old in zip(guest.vcpus, _replaced(seen, guest), strict=True)
    ]
    nodes = guest.held
    warnings = _warnings(seen, guest, masks, nodes, kind="soft")
    return Change(guest, nodes, tuple(masks), None, (), warnings)


def apply(
    driver: Driver, wanted: Change, *, move: bool = False, config: GuestConfig | None = None
) -> tuple[Guest, tuple[Warned, ...]]:
    """Make the change, with `move` for its memory as well; return the guest as it is then.

    `config` is the guest's, where it has to be moved and homenode has not created it. The
    warnings are the change's own, and what did not become as it was wanted.
    """
    guest = wanted.guest
    if move:
        before = driver.snapshot("guests")
        driver.move(guest, wanted.masks, config)
    else:
        driver.pin(guest, wanted.masks)
    after = driver.snapshot("guests")
    now = after.again(guest)
    if now is None:
        raise Conflict(f"{guest.name!r} is gone", hint="see homenode list")
    if move and now.memory_by_node is None and guest.memory_by_node is not None:
        now = now._replace(memory_by_node=arrived(before, after, now, had=guest.memory_by_node))
    if driver.ledger is not None and now.uuid is not None:
        with driver.ledger.lock():
            _remember(driver.ledger, now, wanted, moved=move)
        now = now._replace(held=wanted.held, replaced=wanted.replaced)
    return now, wanted.warnings + _not_so(now, wanted)


def _remember(ledger: Ledger, now: Guest, wanted: Change, *, moved: bool) -> None:
    known = ledger.entries().of(now.uuid) or Remembered(str(now.uuid))
    masks = tuple(mask.hard for mask in wanted.masks) if wanted.held else ()
    known = known._replace(held=wanted.held, masks=masks, replaced=wanted.replaced)
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
            f"no cpus on {nodes.named}{whose}, and Xen gives a guest memory where its cpus are",
            hint=f"it has cpus on {host.nodes_of(pool.cpus).named}",
        )
    return home


def _replaced(seen: Snapshot, guest: Guest) -> tuple[CpuMap, ...]:
    """Return the hard masks that are not homenode's: those under a hold, or those that are."""
    if guest.held is None:
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
        text = f"vcpu {away} may not run on {nodes.named}, and Xen gives memory where the cpus are"
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
        text = f"the masks of vcpu {differing} are not as they were set: another may be at them"
        warnings.append(Warned("masks-differ", text))
    elif not wanted.warnings and now.node_affinity and not now.node_affinity <= wanted.nodes:
        text = (
            f"new memory still comes from {now.node_affinity.named}: its node affinity was fixed"
            " when it was created (libxl placed it), or vcpus may run elsewhere"
        )
        warnings.append(Warned("node-affinity-stays", text))
    return tuple(warnings)
