"""What guests would get done under each policy: the fleet of a replay, put into the simulator.

    python -m proof.predicted [--hosts 12] [--guests 60000] [--busy 0.6]

Azure's arrivals (``traces/azure-v1`` in ``HOMENODE_DATA``) are replayed on two-node and eight-node
hosts until the fleet is as full as it is going to be; then of some hosts in use, evenly spaced over
the fleet, what runs there is simulated: guests prefer the cpus of their nodes, their memory lies
there, every vcpu wants a cpu for `--busy` of its time. A cell is the work that was done, as a share
of what the guests would have done each on cpus of its own with local memory, and how much of the
running was local. The scheduler is Xen's credit2; what the guests want of memory is ``plain``.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.estimate import estimate
from homenode.fleet import Fleet, fleet_policy
from homenode.fleet.choosing import Chooser
from homenode.fleet.fleet_file import FleetPlan
from homenode.fleet.hosts import Place
from homenode.fleet.reading.recognising import read_trace
from homenode.fleet.reading.rules import Rules
from homenode.fleet.replay import Replay
from homenode.fleet.sweep import plan_of
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.simulation.live import scenario_of
from homenode.simulation.run import run

POLICIES = (
    "first/first-fit", "pack/best-fit", "pack/balanced", "spread/balanced", "preserve/best-fit",
    "preserve/worst-fit", "preserve/balanced",
)  # fmt: skip
FLEET = Path(__file__).parent.parent / "examples/fleets/two-and-eight.toml"
DURATION_NS = 1_000_000_000
SEEDS = (1, 2)


class Predicted(NamedTuple):
    """Of one host: how full it is, work done as a share of what was wanted, and locality."""

    full: float
    work: float
    locality: float


def guests_on(fleet: Fleet, host: int, places: list[Place]) -> list[Guest]:
    """Return the guests of a host as they would be seen there."""
    kind = fleet.kinds[fleet.kind_of[host]]
    model = kind.host
    found = []
    for number, place in enumerate(places):
        vcpus: list[Vcpu] = []
        for at, part in zip(place.ats, place.wanted.parts, strict=True):
            own = model.cpus_by_node[kind.ids[at]]
            first = len(vcpus)
            vcpus += [Vcpu(first + one, model.cpu_map, CpuMap(own)) for one in range(part.vcpus)]
        memory = {
            kind.ids[at]: part.kib for at, part in zip(place.ats, place.wanted.parts, strict=True)
        }
        found.append(
            Guest(f"guest-{number}", tuple(vcpus), memory_kib=place.wanted.kib,
                  memory_by_node=MemoryByNode(memory, "replay"),
                  node_affinity=NodeMap(memory))
        )  # fmt: skip
    return found


def predicted(fleet: Fleet, host: int, places: list[Place], busy: float) -> Predicted:
    """Simulate a host."""
    model = fleet.kinds[fleet.kind_of[host]].host.replace(hypervisor="xen")
    guests = guests_on(fleet, host, places)
    made = scenario_of(
        model, guests, guests, 0, duration_ns=DURATION_NS, seeds=SEEDS, assume_busy=busy
    )
    outcomes = [run(made, made.variants[0], seed).outcome for seed in SEEDS]
    vcpus = sum(len(guest.vcpus) for guest in guests)
    wanted = vcpus * busy * DURATION_NS / 1e9
    local = [
        (guest.cpu_s, guest.locality)
        for outcome in outcomes
        for guest in outcome.guests
        if guest.locality is not None
    ]
    ran = sum(cpu_s for cpu_s, _ in local)
    return Predicted(
        vcpus / len(model.cpus),
        mean(outcome.work for outcome in outcomes) / wanted,
        sum(cpu_s * locality for cpu_s, locality in local) / ran if ran else 1.0,
    )


def of_policy(
    name: str, plan: FleetPlan, trace_path: Path, asked: argparse.Namespace
) -> Iterator[Predicted]:
    """Yield what comes of some hosts in use, once the trace was replayed by a policy."""
    trace = read_trace(trace_path, Rules(wide=(8, 2), first=asked.guests))
    # As many as there are at the end of the arrivals: nobody goes after the last one came.
    last = max(at for at, event in enumerate(trace.events) if event >= 0)
    trace = trace._replace(events=trace.events[: last + 1], times_ms=trace.times_ms[: last + 1])
    fleet = Fleet(plan.hosts)
    replay = Replay(trace, fleet, Chooser(fleet, fleet_policy(name)))
    replay.run()
    by_host: dict[int, list[Place]] = {}
    for place in replay.places:
        if place is not None:
            by_host.setdefault(place.host, []).append(place)
    used = sorted(by_host)
    for at in range(asked.hosts):
        host = used[at * len(used) // asked.hosts]
        yield predicted(fleet, host, by_host[host], asked.busy)


def main() -> int:
    """Print a row for each policy."""
    made = argparse.ArgumentParser(description="work done, by policy")
    made.add_argument("--hosts", type=int, default=12)
    made.add_argument("--guests", type=int, default=60_000)
    made.add_argument("--busy", type=float, default=0.6)
    asked = made.parse_args()
    data = os.environ.get("HOMENODE_DATA")
    if data is None:
        print("HOMENODE_DATA names no folder: there is nothing to replay")
        return 2

    plan = plan_of(FLEET)[0]
    path = Path(data) / "traces/azure-v1/azure_v1_test.csv.gz"
    print(f"{'policy':<20} {'vcpus for a cpu':>16} {'work done':>16} {'local':>16}")
    for name in POLICIES:
        found = list(of_policy(name, plan, path, asked))
        cells = [estimate([100 * value for value in column]) for column in zip(*found, strict=True)]
        print(
            f"{name:<20}",
            *(f"{one.mean:>7.1f} ±{one.margin or 0:>4.1f} %" for one in cells),
            sep="  ",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
