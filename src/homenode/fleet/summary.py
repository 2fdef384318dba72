"""Results of replays side by side: what each number is called, and its mean over the seeds."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from homenode.estimate import Estimate, estimate
from homenode.fleet.cell import CellResult


class Measure(NamedTuple):
    """A number of a result: name, unit, what it means, and how to get it (None: there is none).

    `bound` is what it cannot be better than, if there is such a number.
    """

    name: str
    unit: str
    meaning: str
    of: Callable[[CellResult], float | None]
    bound: Callable[[CellResult], float | None] = lambda _: None


def _readings(name: str) -> Callable[[CellResult], float | None]:
    def mean(result: CellResult) -> float | None:
        values = [getattr(reading, name) for reading in result.outcome.readings]
        return sum(values) / len(values) if values else None

    return mean


def _empty(hosts: float, result: CellResult) -> float:
    return 1 - hosts / result.hosts if result.hosts else 0.0


def _of_all(bound: Callable[[CellResult], float]) -> Callable[[CellResult], float | None]:
    # What it is a bound for is that all who come are there: not so where some were refused, or
    # where a fleet was filled until the first refusal and never saw the others.
    def found(result: CellResult) -> float | None:
        return None if result.cell.stay or result.outcome.refused else bound(result)

    return found


def _unless_filled(bound: Callable[[CellResult], float]) -> Callable[[CellResult], float | None]:
    return lambda result: None if result.cell.stay else bound(result)


MEASURES: tuple[Measure, ...] = (
    Measure("placed", "guests", "guests that were placed", lambda one: one.outcome.placed),
    Measure(
        "refused", "guests", "guests that no host could hold when they came",
        lambda one: one.outcome.refused, _unless_filled(lambda one: one.bounds.refused),
    ),
    Measure("vcpus_refused", "vcpus", "that these guests wanted",
            lambda one: one.outcome.vcpus_refused),
    Measure(
        "placed_first", "guests", "guests placed before the first refusal for want of room",
        lambda one: one.outcome.placed_first, lambda one: one.bounds.placed_first,
    ),
    Measure(
        "vcpus_first", "share", "of the fleet's vcpus, given away at that refusal",
        lambda one: one.outcome.vcpus_first,
    ),
    Measure(
        "memory_first", "share", "of the fleet's memory, given away at that refusal",
        lambda one: one.outcome.memory_first,
    ),
    Measure("touched", "hosts", "hosts that ever had a guest",
            lambda one: one.outcome.touched, _of_all(lambda one: one.bounds.hosts)),
    Measure("hosts_most", "hosts", "the most hosts that had guests at one time",
            lambda one: one.outcome.hosts_most, _of_all(lambda one: one.bounds.hosts)),
    Measure("hosts_mean", "hosts", "hosts that had guests, mean over time",
            lambda one: one.outcome.hosts_mean, _of_all(lambda one: one.bounds.hosts_mean)),
    Measure("empty", "share", "of the hosts, that had no guest, mean over time",
            lambda one: _empty(one.outcome.hosts_mean, one),
            _of_all(lambda one: _empty(one.bounds.hosts_mean, one))),
    Measure("vcpus_packed", "share", "of the vcpus of hosts with guests, given away",
            _readings("vcpus_packed")),
    Measure("memory_packed", "share", "of the memory of hosts with guests, given away",
            _readings("memory_packed")),
    Measure("fragments", "share", "of the free vcpus, below a multiple of 16 on a node: FR(16)",
            _readings("fragments")),
    Measure("vcpus_stranded", "share", "of all vcpus, free on nodes without memory for any guest",
            _readings("vcpus_stranded")),
    Measure("memory_stranded", "share", "of all memory, free on nodes without vcpus for any guest",
            _readings("memory_stranded")),
    Measure("narrow", "share", "of the placed guests, on the fewest nodes that any host allows",
            lambda one: one.outcome.narrow),
    Measure("distance", "", "mean distance between the nodes of a guest, itself included",
            lambda one: one.outcome.distance),
    Measure("distance_wide", "", "the same of guests on several nodes",
            lambda one: one.outcome.distance_wide),
    Measure("room", "guests", "of the largest kind that would still fit at the end",
            lambda one: one.outcome.room),
)  # fmt: skip
"""All numbers of a result, in the order in which they are shown."""


class Row(NamedTuple):
    """One trace on one fleet by one policy: estimates over the seeds, and the bounds, by name."""

    trace: str
    fleet: str
    policy: str
    values: dict[str, Estimate | None]
    bounds: dict[str, float | None]
    decisions_per_s: float | None
    results: tuple[CellResult, ...]


def rows_of(results: Sequence[CellResult]) -> list[Row]:
    """Return a row for each trace, fleet and policy, in the order in which they come."""
    grouped: dict[tuple[str, str, str], list[CellResult]] = {}
    for one in results:
        cell = one.cell
        grouped.setdefault((str(cell.trace), str(cell.fleet), cell.policy), []).append(one)
    return [
        Row(
            own[0].trace,
            own[0].fleet,
            policy,
            {measure.name: _estimate([measure.of(one) for one in own]) for measure in MEASURES},
            {measure.name: _mean([measure.bound(one) for one in own]) for measure in MEASURES},
            _mean([one.decisions_per_s for one in own]),
            tuple(own),
        )
        for (_, _, policy), own in grouped.items()
    ]


def _estimate(values: Sequence[float | None]) -> Estimate | None:
    known = [value for value in values if value is not None]
    return estimate(known) if known else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = _estimate(values)
    return None if known is None else known.mean
