"""What a fleet looks like at a moment: how full, how broken up, and what can no longer be used.

The definitions are those of the literature on placing virtual machines, named at each.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import compress
from typing import NamedTuple

from homenode.fleet.demand import Alternative, Demand, Part
from homenode.fleet.hosts import Fleet

FRAGMENT_VCPUS = 16
"""What is left of a node below a multiple of this counts as a fragment (x of FR(x), VMR2L)."""


class Reading(NamedTuple):
    """The fleet at `time_ms`. Shares are from 0 to 1.

    `vcpus` and `memory` are the shares of all that is given away, `vcpus_packed` and
    `memory_packed` of the hosts that have a guest (packing density, Protean). `fragments` is FR(x):
    of the vcpus that are free, those below a multiple of `FRAGMENT_VCPUS` on their node.
    `vcpus_stranded` is the share of all vcpus that are free on nodes with less memory than the
    least that any guest wants of a node, and `memory_stranded` the same the other way round.
    """

    time_ms: int
    guests: int
    hosts: int
    vcpus: float
    memory: float
    vcpus_packed: float
    memory_packed: float
    fragments: float
    vcpus_stranded: float
    memory_stranded: float


class Gauge:
    """Takes readings of one fleet; `least` is the least that any guest wants of a node."""

    def __init__(self, fleet: Fleet, least: Part) -> None:
        self._fleet = fleet
        self._least = least
        capacity = [fleet.kinds[kind].capacity for kind in fleet.kind_of]
        self._vcpus = [sum(own.vcpus) for own in capacity]
        self._kib = [sum(own.kib) for own in capacity]

    def read(self, time_ms: int) -> Reading:
        """Return what the fleet looks like now."""
        fleet, least = self._fleet, self._least
        free_vcpus = free_kib = fragments = vcpus_stranded = kib_stranded = 0
        for state, count in Counter(fleet.states).items():
            free_vcpus += state.vcpus * count
            free_kib += state.kib * count
            fragments += state.vcpus % FRAGMENT_VCPUS * count
            if state.kib < least.kib:
                vcpus_stranded += state.vcpus * count
            if state.vcpus < least.vcpus:
                kib_stranded += state.kib * count
        vcpus, kib = sum(self._vcpus), sum(self._kib)
        used = [guests > 0 for guests in fleet.guests]
        # An empty host gives nothing away: all that is used is on the others.
        return Reading(
            time_ms,
            sum(fleet.guests),
            sum(used),
            _share(vcpus - free_vcpus, vcpus),
            _share(kib - free_kib, kib),
            _share(vcpus - free_vcpus, sum(compress(self._vcpus, used))),
            _share(kib - free_kib, sum(compress(self._kib, used))),
            _share(fragments, free_vcpus),
            _share(vcpus_stranded, vcpus),
            _share(kib_stranded, kib),
        )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


class NodeReading(NamedTuple):
    """One node: its host and position, shares used, and what is stranded there."""

    host: int
    at: int
    vcpus: float
    memory: float
    vcpus_stranded: int
    kib_stranded: int


def node_readings(fleet: Fleet, least: Part) -> list[NodeReading]:
    """Return how full every node is, in the order of the fleet."""
    found = []
    for host, kind in enumerate(fleet.kind_of):
        capacity = fleet.kinds[kind].capacity
        own = fleet.states[fleet.first[host] : fleet.first[host + 1]]
        for at, state in enumerate(own):
            found.append(
                NodeReading(
                    host,
                    at,
                    _share(capacity.vcpus[at] - state.vcpus, capacity.vcpus[at]),
                    _share(capacity.kib[at] - state.kib, capacity.kib[at]),
                    state.vcpus if state.kib < least.kib else 0,
                    state.kib if state.vcpus < least.vcpus else 0,
                )
            )
    return found


def least_part(demands: Iterable[Demand]) -> Part:
    """Return the least vcpus and the least memory that any of `demands` wants of a node."""
    parts = [part for demand in demands for part in demand.alternatives[0].parts]
    return Part(
        min((part.vcpus for part in parts), default=1), min((part.kib for part in parts), default=1)
    )


def room_for(fleet: Fleet, wanted: Alternative) -> int:
    """Return how many more guests like `wanted` fit, if nobody else comes: see `room_on`."""
    return sum(room_on(fleet, host, wanted) for host in range(fleet.count))


def room_on(fleet: Fleet, host: int, wanted: Alternative) -> int:
    """Return how many guests like `wanted` fit on `host`; unlike parts count as the largest."""
    part = wanted.parts[0]
    cpus = fleet.kinds[fleet.kind_of[host]].cpus
    own = fleet.states[fleet.first[host] : fleet.first[host + 1]]
    fits = [
        max(0, min(state.vcpus // part.vcpus, state.kib // part.kib)) if part.vcpus <= seats else 0
        for state, seats in zip(own, cpus, strict=True)
    ]
    return most_alike(fits, len(wanted.parts))


def most_alike(fits: Iterable[int], count: int) -> int:
    """Return how many guests with `count` like parts fit on nodes that hold `fits` parts each.

    That is the largest t with sum(min(k, t)) >= count * t, k one of `fits`: no guest has two parts
    on a node.
    """
    fits = list(fits)
    least, most = 0, sum(fits) // count
    while least < most:
        guess = (least + most + 1) // 2
        if sum(min(own, guess) for own in fits) >= count * guess:
            least = guess
        else:
            most = guess - 1
    return least
