"""What no policy can do better: bounds from the trace and the fleet alone.

They look at each resource by itself and at guests on several nodes by themselves, as if guests
could be cut up otherwise. So what a policy reaches may be the best that there is and still be off
its bound.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from homenode.fleet.demand import Demand
from homenode.fleet.hosts import Fleet
from homenode.fleet.measures import most_alike
from homenode.fleet.trace import Trace


class Bounds(NamedTuple):
    """Bounds for one trace on one fleet, if nobody is refused for other reasons than room.

    `hosts` is the least number of hosts in use at the worst moment, `hosts_mean` its mean over
    time, `hosts_over_time` at the times that were asked for. `placed_first` is how many guests at
    the most can come before the first one is refused for want of room; `refused` how many are at
    the least, those included that no empty host could hold.
    """

    hosts: int
    hosts_mean: float
    hosts_over_time: tuple[int, ...]
    placed_first: int
    refused: int


class _Scale:
    """How many hosts at the least give so much of one thing: the largest ones first."""

    def __init__(self, capacities: Sequence[int]) -> None:
        self._sums = list(accumulate(sorted(capacities, reverse=True)))
        self.whole = self._sums[-1] if self._sums else 0

    def hosts(self, amount: int) -> int:
        """Return that number; all of them if even they do not give it."""
        if amount <= 0:
            return 0
        return min(len(self._sums), bisect_left(self._sums, amount) + 1)


class _Load:
    """What is asked for at a moment, by resource and by kind of wide guest."""

    def __init__(self, fleet: Fleet, demands: Sequence[Demand]) -> None:
        kinds = [fleet.kinds[kind] for kind in fleet.kind_of]
        self.demands = demands
        self.vcpus = self.kib = 0
        self.of_vcpus = _Scale([sum(kind.capacity.vcpus) for kind in kinds])
        self.of_kib = _Scale([sum(kind.capacity.kib) for kind in kinds])
        self.impossible = {
            number
            for number, demand in enumerate(demands)
            if not any(fleet.holders(wanted) for wanted in demand.alternatives)
        }
        self.wide: dict[int, int] = {}
        self.of_wide: dict[int, _Scale] = {}
        for number, demand in enumerate(demands):
            if demand.nodes is not None and demand.nodes > 1:
                self.wide[number] = 0
                self.of_wide[number] = _Scale(_room_by_host(fleet, demand))

    def come(self, number: int, sign: int) -> None:
        demand = self.demands[number]
        self.vcpus += sign * demand.vcpus
        self.kib += sign * demand.memory_kib
        if number in self.wide:
            self.wide[number] += sign

    def hosts(self) -> int:
        """Return the least number of hosts that this takes."""
        return max(
            self.of_vcpus.hosts(self.vcpus),
            self.of_kib.hosts(self.kib),
            *(self.of_wide[number].hosts(count) for number, count in self.wide.items()),
        )

    def is_too_much(self) -> bool:
        return (
            self.vcpus > self.of_vcpus.whole
            or self.kib > self.of_kib.whole
            or any(count > self.of_wide[number].whole for number, count in self.wide.items())
        )


def _room_by_host(fleet: Fleet, demand: Demand) -> list[int]:
    wanted = demand.alternatives[0]
    part = wanted.parts[-1]
    room_of = []
    for kind in fleet.kinds:
        fits = [
            min(vcpus // part.vcpus, kib // part.kib) if part.vcpus <= cpus else 0
            for cpus, vcpus, kib in zip(kind.cpus, *kind.capacity, strict=True)
        ]
        room_of.append(most_alike(fits, len(wanted.parts)))
    return [room_of[kind] for kind in fleet.kind_of]


def bounds(trace: Trace, fleet: Fleet, times_ms: Sequence[int], *, stay: bool = False) -> Bounds:
    """Return the bounds of `trace` on `fleet` as it is when empty; `stay`: nobody ever goes.

    `times_ms` ascend. Of the loads at one time the one after all that happens then counts.
    """
    demands = [fleet.demand(request) for request in trace.requests]
    load = _Load(fleet, demands)
    wanted = trace.wanted
    came = most = lacking = area = impossible = 0
    placed_first: int | None = None
    over_time: list[int] = []
    hosts = last_ms = 0
    begin_ms = trace.times_ms[0] if trace.times_ms else 0
    end_ms = begin_ms
    changed = False
    last_ms = begin_ms
    for event, time_ms in zip(trace.events, trace.times_ms, strict=True):
        if time_ms > last_ms:
            if changed:
                hosts, changed = load.hosts(), False
                most = max(most, hosts)
            area += hosts * (time_ms - last_ms)
            while len(over_time) < len(times_ms) and times_ms[len(over_time)] < time_ms:
                over_time.append(hosts)
            last_ms = end_ms = time_ms
        if event >= 0:
            if wanted[event] in load.impossible:
                impossible += 1
                continue
            load.come(wanted[event], 1)
            came += 1
            if placed_first is None and load.is_too_much():
                placed_first = came - 1
            lacking = max(lacking, load.vcpus - load.of_vcpus.whole)
        elif not stay and wanted[~event] not in load.impossible:
            load.come(wanted[~event], -1)
        else:
            continue
        changed = True
    hosts = load.hosts()
    most = max(most, hosts)
    over_time += [hosts] * (len(times_ms) - len(over_time))
    largest = max((demand.vcpus for demand in demands), default=1)
    return Bounds(
        most,
        area / (end_ms - begin_ms) if end_ms > begin_ms else float(hosts),
        tuple(over_time),
        came if placed_first is None else placed_first,
        impossible - (-max(0, lacking) // largest),
    )
