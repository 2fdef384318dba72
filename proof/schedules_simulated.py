"""The simulator beside what real Xen ran (`proof.schedules`): shares, residency, first difference.

    python -m proof.schedules_simulated [--only NAME,...]

The simulator is given the guests, when they started and on which cpu, and how long they ran before
they slept; who runs where from then on is its own. It runs once for each of five delays of timers,
from none to 60 us: which vcpu is where depends on the order of events a few us apart. Shares are
means, with the range; a vcpu is near if Xen's share is within two points of the mean, and within
reach if it is within two points of the range.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from homenode.bitmap import CpuMap
from homenode.formats import xl_info
from homenode.host import Host, Node
from homenode.scheduler.codes import Happening, Kind
from homenode.scheduler.credit import Credit
from homenode.scheduler.credit2 import Credit2
from homenode.scheduler.engine import Engine
from homenode.scheduler.tasks import Share, Task, ground
from homenode.scheduler.versions import credit_version
from proof.schedules import CAPTURES, GONE_NS, MS, Run, TracedGuest

CREDIT_VERSION = "4.13"
"""What the lab's 4.17 is, for credit: 4.18 changed it next."""

HISTORY_NS = 3_000 * MS
"""So long guests are there and paused before they start: credit2's averages forget in a second."""

NEAR = 0.02
DELAYS_US = (0, 5, 15, 30, 60)

_Vcpu = tuple[int, int]
"""A guest's id, and the number of its vcpu."""


class Had(NamedTuple):
    """The share of the time that a vcpu ran, and of that the part on its home."""

    ran: float
    at_home: float


class Both(NamedTuple):
    """What a vcpu had on Xen and in the simulator; `has_home` is whether it prefers any cpus."""

    vcpu: str
    has_home: bool
    real: Had
    simulated: Had
    least: Had
    most: Had

    @property
    def is_near(self) -> bool:
        """Whether Xen's is within two points of the mean."""
        return self._is_within(self.simulated, self.simulated)

    @property
    def is_in_reach(self) -> bool:
        """Whether Xen's is within two points of the range."""
        return self._is_within(self.least, self.most)

    def _is_within(self, least: Had, most: Had) -> bool:
        pairs = list(zip(least, self.real, most, strict=True))
        shown = pairs if self.has_home else pairs[:1]
        return all(low - NEAR <= real <= high + NEAR for low, real, high in shown)


class Compared(NamedTuple):
    """A scenario on both sides: `same` starts of vcpus, and where they `parted` then."""

    name: str
    vcpus: tuple[Both, ...]
    same: int
    parted: str


class Capture:
    """One recording: the host, the guests, and what every cpu ran."""

    def __init__(self, path: Path) -> None:
        with gzip.open(path, "rt") as file:
            stated = json.load(file)
        self.name = path.name.removesuffix(".json.gz")
        self.scheduler: str = stated["scheduler"]
        info = xl_info.parse(stated["host"])
        nodes = [Node(node.id) for node in info.nodes]
        self.host = Host(cpus=info.cpus, nodes=nodes, distances=info.distances)
        self.floor = ground(self.host)
        self.guests: dict[int, TracedGuest] = {
            one.pop("id"): TracedGuest(**one) for one in stated["guests"]
        }
        runs = (Run(*run) for run in stated["ran"])
        self.runs = sorted(
            (run for run in runs if run.guest in self.guests), key=lambda run: run.begin_ns
        )

    @cached_property
    def vcpus(self) -> list[_Vcpu]:
        """All vcpus, in the order of the simulator's numbers."""
        return [(id_, at) for id_, guest in self.guests.items() for at in range(guest.vcpus)]

    @cached_property
    def zero_ns(self) -> int:
        """When the first one began."""
        return self.runs[0].begin_ns

    @cached_property
    def window(self) -> tuple[int, int]:
        """From when all have started, and those that go are gone, to the end."""
        starts = [self.start_ns(id_) for id_ in self.guests]
        gone = [id_ for id_, guest in self.guests.items() if guest.sleep_ns >= GONE_NS]
        ends = [run.end_ns for run in self.runs if run.guest in gone]
        return max(*starts, *ends), max(run.end_ns for run in self.runs)

    def start_ns(self, id_: int) -> int:
        """Return when a guest began."""
        return min(run.begin_ns for run in self.runs if run.guest == id_)

    def first_cpu(self, vcpu: _Vcpu) -> int:
        """Return where a vcpu ran first, in the simulator's numbers."""
        cpu = next(run.cpu for run in self.runs if (run.guest, run.vcpu) == vcpu)
        return self.floor.cpu_ids.index(cpu)

    def cpus(self, text: str) -> CpuMap:
        """Return what a mask of a guest's file means."""
        if text == "all":
            return self.host.cpu_map
        if text.startswith("node:"):
            return self.host.cpus_by_node[int(text.removeprefix("node:"))]
        return CpuMap.parse(text)

    def home(self, id_: int) -> set[int]:
        """Return the nodes that a guest prefers, in the simulator's numbers."""
        cpus = self.cpus(self.guests[id_].soft)
        return {self.floor.node_ids.index(node) for node in self.host.nodes_of(cpus)}

    def burst_ns(self, id_: int) -> int:
        """Return how long a vcpu of a guest ran before it slept, in the mean.

        The lab's exact time is that of all cpus together: the more of them are busy, the less
        exactly the guests keep to the time that they are told to run.
        """
        guest = self.guests[id_]
        total = slept = 0
        for at in range(guest.vcpus if guest.run_ns else 0):
            own = [run for run in self.runs if (run.guest, run.vcpu) == (id_, at)]
            for run, after in pairwise(own):
                total += run.end_ns - run.begin_ns
                slept += after.begin_ns - run.end_ns >= 0.95 * guest.sleep_ns
        return total // slept if slept else guest.run_ns

    def had(self) -> dict[_Vcpu, Had]:
        """Return what every vcpu had on Xen."""
        begin, end = self.window
        time = dict.fromkeys(self.vcpus, 0)
        home = dict.fromkeys(self.vcpus, 0)
        for run in self.runs:
            length = max(0, min(run.end_ns, end) - max(run.begin_ns, begin))
            time[run.guest, run.vcpu] += length
            if self.floor.node[self.floor.cpu_ids.index(run.cpu)] in self.home(run.guest):
                home[run.guest, run.vcpu] += length
        return {
            vcpu: Had(own / (end - begin), home[vcpu] / own if own else 0.0)
            for vcpu, own in time.items()
        }

    def simulator(self, delay_us: int = 0, seed: int = 1) -> Engine:
        """Return the simulator with the same guests, as they were at the beginning."""
        tasks = []
        for number, (id_, guest) in enumerate(self.guests.items()):
            hard, soft = (self.floor.bits(self.cpus(text)) for text in (guest.hard, guest.soft))
            kind = Kind.CYCLE if guest.run_ns else Kind.SPIN
            one = Task(number, hard, soft, kind, self.burst_ns(id_), guest.sleep_ns,
                       start_ns=HISTORY_NS + self.start_ns(id_) - self.zero_ns)  # fmt: skip
            tasks += [one] * guest.vcpus
        shares = [Share(guest.weight, guest.cap) for guest in self.guests.values()]
        engine: Engine
        if self.scheduler == "credit":
            version = credit_version(CREDIT_VERSION)
            engine = Credit(
                self.floor, tasks, shares, version=version, timer_delay_us=delay_us, seed=seed,
                record=True,
            )  # fmt: skip
        else:
            engine = Credit2(
                self.floor, tasks, shares, timer_delay_us=delay_us, seed=seed, record=True
            )
        engine.begin()
        for number, vcpu in enumerate(self.vcpus):
            # Which cpu Xen had for it first follows from what ran before. The first call brings it
            # to the run queue, the second to the cpu.
            for _ in range(2):
                engine.move(number, self.first_cpu(vcpu))
        return engine


def compare(path: Path, delays_us: Sequence[int] = DELAYS_US) -> Compared:
    """Run what was recorded in the simulator."""
    capture = Capture(path)
    begin, end = (HISTORY_NS + time - capture.zero_ns for time in capture.window)
    real = capture.had()
    found: dict[_Vcpu, list[Had]] = {vcpu: [] for vcpu in capture.vcpus}
    same, parted = -1, ""
    nodes = capture.floor.nodes
    for seed, delay_us in enumerate(delays_us, 1):
        engine = capture.simulator(delay_us, seed)
        engine.run(begin)
        before = engine.numbers("node_ns")
        engine.run(end)
        after = engine.numbers("node_ns")
        for at, vcpu in enumerate(capture.vcpus):
            ran = [after[at * nodes + node] - before[at * nodes + node] for node in range(nodes)]
            total = sum(ran)
            at_home = sum(ran[node] for node in capture.home(vcpu[0]))
            found[vcpu].append(Had(total / (end - begin), at_home / (total or 1)))
        steps, words = _first_difference(capture, engine)
        if steps > same:
            same, parted = steps, words
    both = tuple(
        Both(
            f"{capture.guests[vcpu[0]].name}.{vcpu[1]}",
            capture.guests[vcpu[0]].soft != "all",
            real[vcpu],
            *(
                Had(*(how(values) for values in zip(*found[vcpu], strict=True)))
                for how in (mean, min, max)
            ),
        )
        for vcpu in capture.vcpus
    )
    return Compared(capture.name, both, same, parted)


def _first_difference(capture: Capture, engine: Engine) -> tuple[int, str]:
    # Which vcpus begin to run where, one after the other, on both sides.
    real = [
        ((run.guest, run.vcpu), run.cpu, run.begin_ns - capture.zero_ns) for run in capture.runs
    ]
    simulated = [
        (capture.vcpus[vcpu], capture.floor.cpu_ids[cpu], time - HISTORY_NS)
        for time, what, cpu, vcpu in engine.happenings()
        if what == Happening.RUN and vcpu >= 0
    ]
    same = 0
    for one, other in zip(real, simulated, strict=False):
        if one[:2] != other[:2]:
            told = [
                f"{capture.guests[vcpu[0]].name}.{vcpu[1]} on cpu {cpu} at {time / MS:.2f} ms"
                for vcpu, cpu, time in (one, other)
            ]
            return same, f"then Xen runs {told[0]}, the simulator {told[1]}"
        same += 1
    return same, "and there are no more"


def _row(one: Both) -> str:
    cells = [one.vcpu]
    for at in range(2):
        if at and not one.has_home:
            cells += ["-", "-"]
            continue
        cells.append(f"{one.real[at]:.1%}")
        cells.append(f"{one.simulated[at]:.1%} ({one.least[at]:.0%} to {one.most[at]:.0%})")
    cells.append("ok" if one.is_near else "in reach" if one.is_in_reach else "**differs**")
    return " | ".join(cells)


def main(arguments: Sequence[str]) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="names, with commas between them")
    chosen = parser.parse_args(arguments)
    paths = sorted(CAPTURES.glob("*.json.gz"))
    if chosen.only:
        paths = [CAPTURES / f"{name}.json.gz" for name in chosen.only.split(",")]
    print("| scenario | vcpu | share: Xen | simulated | at home: Xen | simulated | |")
    print("|---|---|---|---|---|---|---|")
    parted = []
    for path in paths:
        compared = compare(path)
        parted.append(
            f"{compared.name}: {compared.same} starts of vcpus are the same, {compared.parted}"
        )
        for one in compared.vcpus:
            print(f"| {compared.name} | {_row(one)} |")
    print("\n" + "\n".join(parted))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
