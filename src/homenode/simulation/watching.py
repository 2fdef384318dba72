"""From the record of a run to what pictures of it are made of."""

from collections.abc import Iterator
from typing import NamedTuple

from homenode.scheduler.codes import Happening
from homenode.simulation.run import Recorded


class Ran(NamedTuple):
    """A stretch of time in which a cpu ran a vcpu; times in ns, `locality` from 0 to 1."""

    cpu: int
    begin: int
    end: int
    vcpu: int
    name: str
    locality: float
    guest: str


class Wait(NamedTuple):
    """A stretch of time in which a vcpu waited for a cpu; times in ns."""

    vcpu: int
    begin: int
    end: int
    name: str


def stretches(recorded: Recorded, begin: int, end: int) -> Iterator[Ran]:
    """Yield what every cpu ran between two times, in the order in which it ended."""
    arranged = recorded.arrangement
    names = _names(recorded)

    def ran(cpu: int, since: int, to: int, vcpu: int) -> Ran:
        share = arranged.appetites[vcpu].shares[arranged.ground.node[cpu]]
        guest = arranged.guests[arranged.tasks[vcpu].guest].name
        return Ran(cpu, since, to, vcpu, names[vcpu], share, guest)

    runs: dict[int, tuple[int, int]] = {}
    for time, what, cpu, vcpu in recorded.happenings:
        if what != Happening.RUN:
            continue
        if time > end:
            break
        if cpu in runs:
            since, who = runs.pop(cpu)
            if time > begin:
                yield ran(cpu, since, time, who)
        if vcpu >= 0:
            runs[cpu] = time, vcpu
    for cpu, (since, who) in runs.items():
        yield ran(cpu, since, end, who)


def waits(recorded: Recorded, begin: int, end: int) -> Iterator[Wait]:
    """Yield who waited when between two times: with work, not parked, and on no cpu."""
    names = _names(recorded)
    seen = _Seen()
    since: dict[int, int] = {}
    for time, what, cpu, vcpu in recorded.happenings:
        if time > end:
            break
        for touched in seen.follow(what, cpu, vcpu):
            if seen.is_waiting(touched):
                since.setdefault(touched, time)
            elif touched in since:
                begun = max(since.pop(touched), begin)
                if time > begun:
                    yield Wait(touched, begun, time, names[touched])
    for waiting, begun in sorted(since.items()):
        if end > max(begun, begin):
            yield Wait(waiting, max(begun, begin), end, names[waiting])


class _Seen:
    """What the record says of vcpus until a moment."""

    def __init__(self) -> None:
        self._ready: set[int] = set()
        self._parked: set[int] = set()
        self._on_cpu: dict[int, int] = {}

    def is_waiting(self, vcpu: int) -> bool:
        is_running = vcpu in self._on_cpu.values()
        return vcpu in self._ready and vcpu not in self._parked and not is_running

    def follow(self, what: int, cpu: int, vcpu: int) -> list[int]:
        """Take the next happening; return the vcpus that it may have changed."""
        if what == Happening.RUN:
            before = self._on_cpu.pop(cpu, -1)
            if vcpu >= 0:
                self._on_cpu[cpu] = vcpu
            return [one for one in (before, vcpu) if one >= 0]
        if what in (Happening.WAKE, Happening.BLOCK):
            (self._ready.add if what == Happening.WAKE else self._ready.discard)(vcpu)
        elif what in (Happening.PARK, Happening.UNPARK):
            (self._parked.add if what == Happening.PARK else self._parked.discard)(vcpu)
        else:
            return []
        return [vcpu]


def _names(recorded: Recorded) -> list[str]:
    return [
        guest.name if guest.vcpus == 1 else f"{guest.name}.{number}"
        for guest in recorded.arrangement.guests
        for number in range(guest.vcpus)
    ]
