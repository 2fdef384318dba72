"""A host as it runs, as a scenario: its guests with their masks and memory, doing what they did.

What a vcpu does is taken from its cpu time in two snapshots: one that ran all of the time runs for
ever, another runs and sleeps by turns, in the mean `BURST_NS` at a time. What its work wants of
memory is not told by any hypervisor; the kind of work ``plain`` is taken.
"""

import re
from collections.abc import Mapping, Sequence

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import HomenodeError, ParseError
from homenode.guest import Guest, Vcpu
from homenode.host import Host
from homenode.scheduler.codes import Kind
from homenode.scheduler.memory import machine_of
from homenode.scheduler.models import Work, work
from homenode.simulation.scenario import (
    Change,
    Doing,
    GuestPlan,
    Masked,
    Scenario,
    SchedulerChoice,
    Variant,
)
from homenode.simulation.scenario_file import scheduler_choice

BURST_NS = 5_000_000
"""How long a vcpu runs in the mean before it sleeps, where only its share of time is known."""

_BUSY = 0.97
_IDLE = 0.005

WHAT_IF = """\
affinity GUEST NODES   prefer those nodes; memory stays, and so does what it is held to
hold GUEST NODES       be held to those nodes; memory stays
move GUEST NODES       memory lies there, and the vcpus prefer them, held to nothing
free GUEST             run anywhere
without GUEST          not be there
scheduler NAME         credit VERSION, credit2 RUNQUEUE, ideal
keeper                 let homenode keep hold guests at home"""


def scenario_of(  # noqa: PLR0913 - what is assumed is named
    host: Host,
    before: Sequence[Guest],
    after: Sequence[Guest],
    seconds: float,
    *,
    duration_ns: int,
    seeds: Sequence[int],
    kind: Work | None = None,
    assume_busy: float | None = None,
) -> Scenario:
    """Return what runs on `host` as a scenario, with ``today`` as its one variant.

    `before` and `after` are the guests in two snapshots `seconds` apart. `assume_busy` is the
    share of its time that every vcpu wants a cpu, in place of what was seen.
    """
    first = {guest.uuid or guest.name: guest for guest in before}
    if assume_busy is None and seconds > 0 and not _has_run(first, after):
        raise HomenodeError(
            f"nothing ran on {host.name} between two looks", hint="--busy 1 says how busy it is"
        )
    guests = tuple(
        _plan(
            host,
            guest,
            _share(first.get(guest.uuid or guest.name), guest, seconds)
            if assume_busy is None
            else assume_busy,
            kind,
        )
        for guest in after
        if guest.state == "running" and guest.vcpus
    )
    if not guests:
        raise HomenodeError(f"no guest runs on {host.name}", hint="name a scenario's file instead")
    cpus = host.pool(None).cpus
    return Scenario(
        host.name, host, machine_of(host), guests,
        (Variant("today", _scheduler(host), "as-is", "as-is"),),
        duration_ns, duration_ns // 10, tuple(seeds), cpus,
    )  # fmt: skip


def with_times(guests: Sequence[Guest], vcpus: Mapping[int, Sequence[Vcpu]]) -> list[Guest]:
    """Return those guests that are in `vcpus`, which are by the id of their guest, timed by it."""
    timed = []
    for guest in guests:
        if guest.id is None or guest.id not in vcpus:
            continue
        times = {vcpu.id: vcpu.time_ns for vcpu in vcpus[guest.id]}
        own = tuple(vcpu._replace(time_ns=times.get(vcpu.id)) for vcpu in guest.vcpus)
        timed.append(guest._replace(vcpus=own))
    return timed


def _has_run(before: Mapping[str, Guest], after: Sequence[Guest]) -> bool:
    # What is read from files stands still.
    for guest in after:
        old = before.get(guest.uuid or guest.name)
        if old is None or [vcpu.time_ns for vcpu in old.vcpus] != [
            vcpu.time_ns for vcpu in guest.vcpus
        ]:
            return True
    return False


def _scheduler(host: Host) -> SchedulerChoice:
    # Xen's default where Xen does not say. Linux's scheduler is not modelled.
    named = host.pool(None).scheduler
    if named is None:
        named = "credit2" if "xen" in (host.hypervisor or "").lower() else "ideal"
    return scheduler_choice(named if named in ("credit", "credit2") else "ideal")


def _plan(host: Host, guest: Guest, share: float, kind: Work | None) -> GuestPlan:
    masks = tuple(Masked(vcpu.hard, vcpu.soft) for vcpu in guest.vcpus)
    memory = _memory(host, guest)
    nodes = NodeMap(node for node, _ in memory)
    return GuestPlan(
        guest.name,
        len(guest.vcpus),
        guest.memory_kib or 0,
        _doing(share),
        kind or work("plain"),
        nodes=nodes if nodes and host.cpus_of(nodes) else None,
        memory=memory,
        masks=masks,
    )


def _memory(host: Host, guest: Guest) -> tuple[tuple[int, float], ...]:
    known = guest.memory_by_node
    total = 0 if known is None else sum(known.kib.values())
    if known is not None and total:
        return tuple((node, kib / total) for node, kib in sorted(known.kib.items()) if kib)
    nodes = guest.node_affinity
    if not nodes:
        soft = CpuMap.union([vcpu.soft & vcpu.hard for vcpu in guest.vcpus])
        nodes = host.nodes_of(soft) or host.node_map
    return tuple((node, 1 / len(nodes)) for node in nodes)


def _share(before: Guest | None, guest: Guest, seconds: float) -> float:
    if before is None or seconds <= 0:
        return 1.0
    old = {vcpu.id: vcpu.time_ns for vcpu in before.vcpus}
    ran = [
        (vcpu.time_ns - was) / (seconds * 1e9)
        for vcpu in guest.vcpus
        if vcpu.time_ns is not None and (was := old.get(vcpu.id)) is not None
    ]
    return max(0.0, min(1.0, sum(ran) / len(ran))) if ran else 1.0


def _doing(share: float) -> Doing:
    if share >= _BUSY:
        return Doing(Kind.SPIN)
    if share < _IDLE:
        return Doing(Kind.IDLE)
    return Doing(Kind.CYCLE, BURST_NS, int(BURST_NS * (1 - share) / share))


def what_if(scenario: Scenario, texts: Sequence[str]) -> Scenario:
    """Return the scenario with one more variant: its first one, with all these changes."""
    base = scenario.variants[0]
    scheduler, keeper = base.scheduler, base.keeper
    changes = list(base.changes)
    for text in texts:
        words = text.split()
        if words[:1] == ["scheduler"] and len(words) > 1:
            scheduler = scheduler_choice(" ".join(words[1:]))
        elif words == ["keeper"]:
            keeper = True
        else:
            changes.append(_change(scenario, text, words))
    changed = base._replace(
        name="; ".join(texts), scheduler=scheduler, keeper=keeper, changes=tuple(changes)
    )
    return scenario._replace(variants=(*scenario.variants, changed))


def _change(scenario: Scenario, text: str, words: Sequence[str]) -> Change:
    matched = re.fullmatch(r"(affinity|hold|move|free|without) (\S+)( \S+)?", " ".join(words))
    if matched is None or (matched.group(3) is None) != (matched.group(1) in ("free", "without")):
        known = ", ".join(line.split("  ")[0] for line in WHAT_IF.splitlines())
        raise HomenodeError(f"--what-if {text!r} is no change", hint=f"there are: {known}")
    kind, name, listed = matched.groups()
    if name not in [guest.name for guest in scenario.guests]:
        names = ", ".join(guest.name for guest in scenario.guests[:10])
        raise HomenodeError(f"--what-if: there is no guest {name!r}", hint=f"there are: {names}")
    nodes = None
    if listed is not None:
        try:
            nodes = NodeMap.parse(listed.strip(), within=scenario.host.node_map)
        except ParseError as error:
            raise HomenodeError(f"--what-if {text!r}: {error.message}", hint=error.hint) from None
        if not nodes or not nodes <= scenario.host.node_map or not scenario.host.cpus_of(nodes):
            raise HomenodeError(
                f"--what-if {text!r}: not nodes of {scenario.host.name} that have cpus",
                hint=f"it has {scenario.host.node_map}",
            )
    return Change(name, kind, nodes)  # type: ignore[arg-type]
