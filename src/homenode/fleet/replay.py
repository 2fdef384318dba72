"""Replaying a trace on a fleet: every guest is placed when it comes, or refused for good."""

from collections.abc import Callable
from typing import NamedTuple

from homenode.fleet.choosing import Chooser
from homenode.fleet.demand import Demand
from homenode.fleet.hosts import Fleet, Place
from homenode.fleet.measures import Gauge, NodeReading, Reading, least_part, node_readings, room_for
from homenode.fleet.trace import NO_MEMBERSHIP, Trace

READINGS = 200
"""How often the fleet is looked at, evenly over the time of the trace."""

_PROGRESS = 4096


class Outcome(NamedTuple):
    """What came of a replay.

    `placed` and `refused` are guests, `vcpus_refused` the vcpus that the latter wanted;
    `impossible` of them would not fit on any host of the fleet were it empty. `placed_first` were
    placed before the first refusal, when `vcpus_first` and `memory_first` of the fleet were given
    away (None: nobody was refused). `narrow` is the share of the placed guests that have the fewest
    nodes that any empty host of the fleet would let them have; `distance` the mean over placed
    guests of the mean distance between their nodes (a node to itself included), and `distance_wide`
    that of guests on several nodes alone (None: there are none). `touched` are hosts that ever had
    a guest, `hosts_most` the most that had one at once, `hosts_mean` their mean over time. `room`
    is how many more of the largest guest would fit at the end. `readings` are taken evenly over
    time; `nodes` is the fleet at the end.
    """

    placed: int
    refused: int
    vcpus_refused: int
    impossible: int
    placed_first: int
    vcpus_first: float | None
    memory_first: float | None
    narrow: float
    distance: float
    distance_wide: float | None
    touched: int
    hosts_most: int
    hosts_mean: float
    room: int
    readings: tuple[Reading, ...]
    nodes: tuple[NodeReading, ...]
    refused_of: dict[str, int]


def reading_times(trace: Trace, count: int = READINGS) -> list[int]:
    """Return `count` times, evenly from the first event to the last, ascending."""
    if not trace.times_ms:
        return []
    begin, end = trace.times_ms[0], trace.times_ms[-1]
    return sorted({begin + (end - begin) * at // count for at in range(1, count + 1)})


class _Locality:
    """How near together the nodes of the guests are."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._mean: dict[tuple[int, tuple[int, ...]], float] = {}
        self.sum = self.wide_sum = 0.0
        self.wide = 0

    def count(self, place: Place) -> None:
        key = self._fleet.kind_of[place.host], place.ats
        mean = self._mean.get(key)
        if mean is None:
            kind = self._fleet.kinds[key[0]]
            ids = [kind.ids[at] for at in place.ats]
            pairs = [kind.host.distance(one, other) for one in ids for other in ids]
            mean = self._mean[key] = sum(pairs) / len(pairs)
        self.sum += mean
        if len(place.ats) > 1:
            self.wide_sum += mean
            self.wide += 1


class Replay:
    """One trace, on one fleet, by one policy; `run` does it, once.

    With `stay` nobody ever goes, and it ends with the first refusal: fill until full. `places` is
    where each guest is, None if it has not come, is gone, or was refused.
    """

    def __init__(self, trace: Trace, fleet: Fleet, chooser: Chooser, *, stay: bool = False) -> None:
        self.trace = trace
        self.fleet = fleet
        self._chooser = chooser
        self._stay = stay
        self._demands = [fleet.demand(request) for request in trace.requests]
        self._fewest = [_fewest_nodes(fleet, demand) for demand in self._demands]
        self._least = least_part(self._demands)
        self._gauge = Gauge(fleet, self._least)
        self.places: list[Place | None] = [None] * trace.guests
        self._readings: list[Reading] = []
        self._locality = _Locality(fleet)
        self._touched = bytearray(fleet.count)
        self._placed = self._refused = self._impossible = self._narrow = 0
        self._vcpus_refused = 0
        self._first: tuple[int, Reading] | None = None
        self._hosts = self._hosts_most = self._area = 0
        self._refused_of: dict[str, int] = {}

    def run(self, progress: Callable[[int], None] | None = None) -> Outcome:
        """Replay it; `progress` is told now and then how many events have been dealt with."""
        trace = self.trace
        times = reading_times(trace)
        next_reading = 0
        last_ms = begin_ms = trace.times_ms[0] if trace.times_ms else 0
        for number, (event, time_ms) in enumerate(zip(trace.events, trace.times_ms, strict=True)):
            if time_ms > last_ms:
                while next_reading < len(times) and times[next_reading] < time_ms:
                    self._readings.append(self._gauge.read(times[next_reading]))
                    next_reading += 1
                self._area += self._hosts * (time_ms - last_ms)
                last_ms = time_ms
            if event >= 0:
                self._come(event)
                if self._stay and self._first is not None:
                    break
            elif not self._stay:
                self._go(~event)
            if progress is not None and not number % _PROGRESS:
                progress(number)
        self._readings.append(self._gauge.read(last_ms))
        return self._outcome(last_ms - begin_ms)

    def _come(self, guest: int) -> None:
        trace, fleet = self.trace, self.fleet
        wanted = trace.wanted[guest]
        membership = None
        if trace.membership and trace.membership[guest] != NO_MEMBERSHIP:
            membership = trace.memberships[trace.membership[guest]]
        place = self._chooser.choose(self._demands[wanted], membership)
        if place is None:
            self._refuse(wanted)
            return
        host = place.host
        if not fleet.guests[host]:
            self._hosts += 1
            self._hosts_most = max(self._hosts_most, self._hosts)
            self._touched[host] = 1
        fleet.take(place)
        if membership is not None:
            fleet.group(membership).join(host, membership.domain)
        self.places[guest] = place
        self._placed += 1
        self._narrow += len(place.ats) == self._fewest[wanted]
        self._locality.count(place)

    def _go(self, guest: int) -> None:
        place = self.places[guest]
        if place is None:
            return
        trace, fleet = self.trace, self.fleet
        self.places[guest] = None
        fleet.give(place)
        if not fleet.guests[place.host]:
            self._hosts -= 1
        if trace.membership and trace.membership[guest] != NO_MEMBERSHIP:
            membership = trace.memberships[trace.membership[guest]]
            fleet.group(membership).leave(place.host, membership.domain)

    def _refuse(self, wanted: int) -> None:
        self._refused += 1
        self._vcpus_refused += self._demands[wanted].vcpus
        name = self.trace.requests[wanted].name
        self._refused_of[name] = self._refused_of.get(name, 0) + 1
        if self._fewest[wanted] is None:
            self._impossible += 1
        elif self._first is None and not self._has_room(wanted):
            self._first = self._placed, self._gauge.read(0)

    def _has_room(self, wanted: int) -> bool:
        # Then it was its group that barred it.
        return any(self.fleet.holders(one) for one in self._demands[wanted].alternatives)

    def _outcome(self, lasted_ms: int) -> Outcome:
        placed, locality = self._placed, self._locality
        possible = [
            demand
            for demand, fewest in zip(self._demands, self._fewest, strict=True)
            if fewest is not None
        ]
        largest = max(possible, key=lambda demand: demand.vcpus, default=None)
        return Outcome(
            placed,
            self._refused,
            self._vcpus_refused,
            self._impossible,
            placed if self._first is None else self._first[0],
            None if self._first is None else self._first[1].vcpus,
            None if self._first is None else self._first[1].memory,
            self._narrow / placed if placed else 1.0,
            locality.sum / placed if placed else 0.0,
            locality.wide_sum / locality.wide if locality.wide else None,
            sum(self._touched),
            self._hosts_most,
            self._area / lasted_ms if lasted_ms else float(self._hosts),
            0 if largest is None else room_for(self.fleet, largest.alternatives[0]),
            tuple(self._readings),
            tuple(node_readings(self.fleet, self._least)),
            self._refused_of,
        )


def _fewest_nodes(fleet: Fleet, demand: Demand) -> int | None:
    # On how few nodes any host can have it as it is now, at the beginning: empty.
    for wanted in demand.alternatives:
        if fleet.holders(wanted):
            return len(wanted.parts)
    return None
