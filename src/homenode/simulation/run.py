"""One run of one variant with one seed: from the arrangement to what came of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from homenode.scheduler.codes import Kind
from homenode.scheduler.credit import Credit
from homenode.scheduler.credit2 import Credit2
from homenode.scheduler.engine import Engine
from homenode.scheduler.ideal import Ideal
from homenode.scheduler.memory import Use, paces
from homenode.scheduler.versions import credit_version
from homenode.simulation.arranging import Arrangement, arrange
from homenode.simulation.keeping import Keeping
from homenode.simulation.scenario import Scenario, SchedulerChoice, Variant

RATELIMIT_US = 1000
SLICE_MS = 30
"""Xen's defaults: sched_ratelimit_us, sched_credit_tslice_ms."""

EPOCH_NS = 10_000_000
"""How often paces follow what is used of controllers and links: as often as credit ticks."""


class GuestOutcome(NamedTuple):
    """What a guest got; times in seconds of the simulated host, rates by its second.

    `throughput` counts what the guest does: rounds of run and sleep, requests, passes of a chain;
    for guests that run for ever or come to an end, seconds of work done. `work` is the latter for
    all: the seconds of a cpu of its own with local memory that would have done as much.
    `residency` is the share of its running time on nodes with its memory, `locality` the sum over
    nodes of run share times memory share; None if it never ran.
    """

    name: str
    vcpus: int
    throughput: float
    work: float
    cpu_s: float
    wait_s: float
    longest_wait_s: float
    cpu_moves: float
    node_moves: float
    residency: float | None
    locality: float | None
    response_s: float | None
    ended_s: float | None


class Outcome(NamedTuple):
    """What came of a run.

    `busy` is the share of all cpus' time, `fairness` Jain's index of what guests that had to wait
    got, each by its weight.
    """

    variant: str
    seed: int
    guests: tuple[GuestOutcome, ...]
    work: float
    busy: float
    residency: float | None
    locality: float | None
    fairness: float | None
    events: int


class Recorded(NamedTuple):
    """A run with its record: (time in ns, `Happening`, cpu, vcpu), for pictures and comparisons."""

    outcome: Outcome
    arrangement: Arrangement
    happenings: list[tuple[int, int, int, int]]


def engine_for(
    choice: SchedulerChoice, arranged: Arrangement, seed: int, *, record: bool = False
) -> Engine:
    """Return the simulator of a scheduler."""
    ground, tasks, shares, queues = (
        arranged.ground,
        arranged.tasks,
        arranged.shares,
        arranged.queues,
    )
    options = dict(choice.options)
    ratelimit_us = options.get("ratelimit_us", RATELIMIT_US)
    delay_us = options.get("timer_delay_us", 0)
    if choice.kind == "credit":
        version = credit_version(choice.variant)
        if "idle_first" in options:
            version = version._replace(tickles_idle_first=bool(options["idle_first"]))
        return Credit(
            ground, tasks, shares, queues, version=version, seed=seed, record=record,
            timer_delay_us=delay_us, ratelimit_us=ratelimit_us,
            slice_ms=options.get("slice_ms", SLICE_MS),
            migration_delay_us=options.get("migration_delay_us", 0),
        )  # fmt: skip
    if choice.kind == "credit2":
        return Credit2(
            ground, tasks, shares, queues, arrangement=choice.variant, seed=seed, record=record,
            timer_delay_us=delay_us, ratelimit_us=ratelimit_us,
        )  # fmt: skip
    return Ideal(ground, tasks, shares, queues, timer_delay_us=delay_us, seed=seed, record=record)


def run(
    scenario: Scenario,
    variant: Variant,
    seed: int,
    *,
    record: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Recorded:
    """Run it; `progress` is told the share that is done."""
    arranged = arrange(scenario, variant, seed)
    engine = engine_for(variant.scheduler, arranged, seed, record=record)
    memory = _Memory(scenario, arranged, engine)
    keeping = Keeping(scenario, arranged) if variant.keeper else None
    engine.begin()
    end = scenario.warmup_ns + scenario.duration_ns
    before: _Counters | None = None
    now = 0
    while now < end:
        to = end if before is not None else max(scenario.warmup_ns, now)
        if memory.is_shared:
            to = min(to, now + EPOCH_NS)
        if keeping is not None:
            to = min(to, keeping.next_ns)
        if progress is not None:
            to = min(to, now + max(1, end // 100))
        engine.run(to)
        now = to
        memory.follow()
        if keeping is not None and now >= keeping.next_ns:
            keeping.round(engine)
        if before is None and now >= scenario.warmup_ns:
            before = _Counters.of(engine)
        if progress is not None:
            progress(now / end)
    after = _Counters.of(engine)
    outcome = _outcome(variant, seed, arranged, before or after, after)
    return Recorded(outcome, arranged, engine.happenings() if record else [])


class _Memory:
    """The paces of all vcpus, which follow what they use where that can fill anything."""

    def __init__(self, scenario: Scenario, arranged: Arrangement, engine: Engine) -> None:
        self._machine = scenario.machine
        self._appetites = arranged.appetites
        self._nodes = arranged.ground.nodes
        self._engine = engine
        self._seen = [0] * (len(arranged.tasks) * self._nodes)
        self._at = 0
        self.is_shared = self._machine.can_fill and any(
            appetite.gb_s for appetite in self._appetites
        )
        self._set([])

    def follow(self) -> None:
        """Let the paces follow what was used since the last time."""
        now = self._engine.now
        passed = now - self._at
        if not self.is_shared or passed <= 0:
            return
        ran = self._engine.numbers("node_ns")
        uses = [
            Use(at // self._nodes, at % self._nodes, (ran[at] - self._seen[at]) / passed)
            for at in range(len(ran))
            if ran[at] > self._seen[at]
        ]
        self._seen = ran
        self._at = now
        self._set(uses)

    def _set(self, uses: Sequence[Use]) -> None:
        found = paces(self._machine, self._appetites, uses)
        self._engine.set_pace([pace for row in found.pace for pace in row])


class _Counters(NamedTuple):
    """What has been counted until a moment."""

    now: int
    cpu_ns: list[int]
    node_ns: list[int]
    work: list[float]
    wait_ns: list[int]
    longest: list[int]
    finished: list[int]
    ended_at: list[int]
    cpu_moves: list[int]
    node_moves: list[int]
    response_ns: list[int]
    responses: list[int]
    events: int

    @classmethod
    def of(cls, engine: Engine) -> "_Counters":
        numbers = engine.numbers
        waits = numbers("wait_ns")
        for vcpu, since in enumerate(numbers("wait_since")):
            if since >= 0:
                waits[vcpu] += engine.now - since
        return cls(
            engine.now, numbers("cpu_ns"), numbers("node_ns"), engine.reals("work"), waits,
            numbers("longest_wait"), numbers("finished"), numbers("ended_at"),
            numbers("cpu_moves"), numbers("node_moves"), numbers("response_ns"),
            numbers("responses"), engine.events,
        )  # fmt: skip


def _outcome(
    variant: Variant,
    seed: int,
    arranged: Arrangement,
    before: _Counters,
    after: _Counters,
) -> Outcome:
    seconds = (after.now - before.now) / 1e9 or 1.0
    guests = tuple(
        _guest_outcome(arranged, number, before, after, seconds)
        for number in range(len(arranged.guests))
    )
    ran = sum(guest.cpu_s for guest in guests)
    return Outcome(
        variant.name,
        seed,
        guests,
        sum(guest.work for guest in guests) / seconds,
        ran / seconds / arranged.ground.cpus,
        _mean([(guest.residency, guest.cpu_s) for guest in guests]),
        _mean([(guest.locality, guest.cpu_s) for guest in guests]),
        _fairness(arranged, guests),
        after.events,
    )


def _mean(values: Sequence[tuple[float | None, float]]) -> float | None:
    known = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _guest_outcome(
    arranged: Arrangement, number: int, before: _Counters, after: _Counters, seconds: float
) -> GuestOutcome:
    guest, own = arranged.guests[number], arranged.settled[number]
    vcpus = range(arranged.first[number], arranged.first[number] + guest.vcpus)
    nodes = arranged.ground.nodes

    def grown(name: str) -> float:
        new, old = getattr(after, name), getattr(before, name)
        return float(sum(new[vcpu] - old[vcpu] for vcpu in vcpus))

    by_node = [
        sum(after.node_ns[v * nodes + node] - before.node_ns[v * nodes + node] for v in vcpus)
        for node in range(nodes)
    ]
    ran = sum(by_node)
    work = grown("work") / 1e9
    counted = guest.doing.kind not in (Kind.SPIN, Kind.BATCH, Kind.IDLE, Kind.YIELD)
    response = None
    if guest.doing.kind == Kind.SERVE:
        queue = arranged.tasks[vcpus[0]].queue
        asked = after.responses[queue] - before.responses[queue]
        if asked:
            response = (after.response_ns[queue] - before.response_ns[queue]) / asked / 1e9
    ends = [after.ended_at[vcpu] for vcpu in vcpus]
    return GuestOutcome(
        guest.name,
        guest.vcpus,
        (grown("finished") if counted else work) / seconds,
        work,
        ran / 1e9,
        grown("wait_ns") / 1e9,
        max(after.longest[vcpu] for vcpu in vcpus) / 1e9,
        grown("cpu_moves") / seconds,
        grown("node_moves") / seconds,
        sum(t for t, share in zip(by_node, own.shares, strict=True) if share) / ran
        if ran
        else None,
        sum(t * share for t, share in zip(by_node, own.shares, strict=True)) / ran if ran else None,
        response,
        max(ends) / 1e9 if guest.doing.kind == Kind.BATCH and min(ends) >= 0 else None,
    )


def _fairness(arranged: Arrangement, guests: Sequence[GuestOutcome]) -> float | None:
    # Who never waits has what it wants; among the others, cpu time is to be as the weights.
    got = [
        outcome.cpu_s / guest.weight
        for outcome, guest in zip(guests, arranged.guests, strict=True)
        if outcome.wait_s > 0.01 * (outcome.cpu_s + outcome.wait_s) and not guest.cap
    ]
    if not got or not any(got):
        return None
    return sum(got) ** 2 / (len(got) * sum(value * value for value in got))
