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


def stretches(recorded: Recorded, begin: int, end: int) -> Iterator[Ran]:
    """Yield what every cpu ran between two times, in the order in which it ended."""
    arranged = recorded.arrangement
    names = [
        guest.name if guest.vcpus == 1 else f"{guest.name}.{number}"
        for guest in arranged.guests
        for number in range(guest.vcpus)
    ]

    def ran(cpu: int, since: int, to: int, vcpu: int) -> Ran:
        share = arranged.appetites[vcpu].shares[arranged.ground.node[cpu]]
        return Ran(cpu, since, to, vcpu, names[vcpu], share)

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
