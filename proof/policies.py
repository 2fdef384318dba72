"""Which policy? Five real request sequences on 1,710 real hosts, by all policies.

    python -m proof.policies [--only alone,groups,shuffled]

Huawei's topology-aware data (``traces/topology-aware`` in ``HOMENODE_DATA``): two-node hosts with
what is free on them, requests for one node or two, nobody goes. ``alone`` ignores groups;
``groups`` honours affinity (a group on one host), anti-affinity (different hosts) and fault domains
(different racks); how these are to be read is not documented with the data. ``shuffled`` is
``alone`` with the requests of each set in three other orders, the refusals and hosts of all three
together: whether it was luck. A cell is refusals/hosts touched.

The target: the default policy refuses nobody and touches fewer hosts than first fit, on each.
"""

import argparse
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from homenode.fleet import Fleet, fleet_policy
from homenode.fleet.bounds import bounds
from homenode.fleet.choosing import Chooser
from homenode.fleet.demand import Alternative
from homenode.fleet.fleet_file import FleetPlan
from homenode.fleet.hosts import Place
from homenode.fleet.nodes import Nodes
from homenode.fleet.policies import DEFAULT
from homenode.fleet.reading.recognising import read_trace
from homenode.fleet.reading.rules import Rules
from homenode.fleet.replay import Outcome, Replay
from homenode.fleet.sweep import plan_of
from homenode.fleet.trace import Trace

SETS = ("c1", "c2", "c3", "c4", "c5")
FIRST_FIT = "first/first-fit"
ORDERS = 3
DEFAULT_NAME = f"{DEFAULT}/balanced"
POLICIES = (
    FIRST_FIT,
    "-together/first-fit",
    "pack/balanced",
    "pack/best-fit",
    "spread/balanced",
    "breaks_wide,empty/balanced",
    "wastes,breaks_wide,empty/balanced",
    "breaks_scarce,empty,wastes,memory/balanced",
    "breaks_scarce,empty/balanced",
    "breaks_scarce,empty,wastes/balanced",
    "preserve/best-fit",
    DEFAULT_NAME,
)


class CpusLeft:
    """The best node of the whole fleet by the vcpus that are left on it: best or worst fit."""

    def __init__(self, fleet: Fleet, sign: int) -> None:
        self._fleet = fleet
        self._sign = sign

    def place(self, host: int, wanted: Alternative) -> Place | None:
        """Return the best place on `host`; the first of equal ones."""
        return self._best(host, wanted)[1]

    def value(self, host: int, wanted: Alternative) -> tuple[int, int]:
        """Return what is left there, summed over its nodes, by which hosts are compared."""
        return self._best(host, wanted)[0]

    def _best(self, host: int, wanted: Alternative) -> tuple[tuple[int, int], Place | None]:
        first, last = self._fleet.first[host], self._fleet.first[host + 1]
        states = self._fleet.states[first:last]
        able = [at for at, state in enumerate(states) if state.fits & wanted.bits[0]]
        count = len(wanted.parts)
        if len(able) < count:
            return (1, 0), None
        able.sort(key=lambda at: (self._sign * states[at].vcpus, at))
        ats = tuple(sorted(able[:count]))
        left = sum(states[at].vcpus for at in ats) - wanted.vcpus
        return (0, self._sign * left), Place(host, ats, wanted)


class Cell(NamedTuple):
    """What came of one set by one policy."""

    refused: int
    touched: int

    def __str__(self) -> str:
        return f"{self.refused}/{self.touched}"


def _of(outcome: Outcome) -> Cell:
    return Cell(outcome.refused, outcome.touched)


def folder() -> Path | None:
    """Return where the data is, None without."""
    data = os.environ.get("HOMENODE_DATA")
    return None if data is None else Path(data) / "traces/topology-aware"


def fleet_plan(where: Path) -> FleetPlan:
    """Return the hosts."""
    return plan_of(where / "pm_res.csv")[0]


def replayed(
    trace: Trace,
    plan: FleetPlan,
    policy: str,
    nodes: Callable[[Fleet], Nodes] | None = None,
) -> Cell:
    """Return what comes of `trace` by `policy`, or by its order on hosts and other `nodes`."""
    fleet = Fleet(plan.hosts)
    chooser = Chooser(fleet, fleet_policy(policy), nodes(fleet) if nodes is not None else None)
    return _of(Replay(trace, fleet, chooser).run())


def table(where: Path, *, groups: bool) -> Iterator[tuple[str, list[Cell]]]:
    """Yield the name of each rule, and what comes of each set by it."""
    plan = fleet_plan(where)
    traces = [read_trace(where / f"vm_data_{name}.csv", Rules(groups=groups)) for name in SETS]
    for policy in POLICIES:
        yield policy, [replayed(trace, plan, policy) for trace in traces]
    for name, sign in (("best fit by node", 1), ("worst fit by node", -1)):

        def nodes(fleet: Fleet, sign: int = sign) -> Nodes:
            return CpusLeft(fleet, sign)

        yield name, [replayed(trace, plan, "flat", nodes) for trace in traces]


def shuffled(where: Path) -> Iterator[tuple[str, list[Cell]]]:
    """Yield the same as `table`, summed over orders that are drawn, for a few policies."""
    plan = fleet_plan(where)
    drawn = random.Random(1)  # noqa: S311 - nothing secret
    traces = []
    for name in SETS:
        trace = read_trace(where / f"vm_data_{name}.csv", Rules(groups=False))
        orders = [drawn.sample(list(trace.wanted), trace.guests) for _ in range(ORDERS)]
        traces.append([trace._replace(wanted=order) for order in orders])
    for policy in (FIRST_FIT, "pack/balanced", "wastes,breaks_wide,empty/balanced", DEFAULT_NAME):
        cells = [[replayed(trace, plan, policy) for trace in own] for own in traces]
        yield policy, [Cell(*map(sum, zip(*own, strict=True))) for own in cells]


def least_hosts(where: Path) -> list[int]:
    """Return for each set how many hosts it takes at the least."""
    plan = fleet_plan(where)
    return [
        bounds(read_trace(where / f"vm_data_{name}.csv", Rules()), Fleet(plan.hosts), []).hosts
        for name in SETS
    ]


def _print_shuffled(where: Path) -> None:
    print(f"{'three other orders':<34}", *(f"{name:>9}" for name in SETS), "sum")
    for name, cells in shuffled(where):
        total = Cell(sum(one.refused for one in cells), sum(one.touched for one in cells))
        print(f"{name:<34}", *(f"{one!s:>9}" for one in cells), total, flush=True)


def _print(where: Path, *, groups: bool) -> bool:
    print(
        f"{'groups honoured' if groups else 'groups ignored':<34}",
        *(f"{n:>9}" for n in SETS),
        "sum",
    )
    found: dict[str, list[Cell]] = {}
    for name, cells in table(where, groups=groups):
        found[name] = cells
        total = Cell(sum(one.refused for one in cells), sum(one.touched for one in cells))
        print(f"{name:<34}", *(f"{one!s:>9}" for one in cells), total, flush=True)
    least = least_hosts(where)
    print(f"{'no fewer hosts than':<34}", *(f"{one:>9}" for one in least), sum(least))
    return groups or _holds(found[DEFAULT_NAME], found[FIRST_FIT])


def _holds(default: Sequence[Cell], first_fit: Sequence[Cell]) -> bool:
    held = True
    for name, own, other in zip(SETS, default, first_fit, strict=True):
        good = not own.refused and own.touched < other.touched
        held &= good
        print(f"  {name}: {DEFAULT_NAME} {own}, first fit {other}: {'holds' if good else 'FAILS'}")
    return held


def main() -> int:
    """Print the tables."""
    made = argparse.ArgumentParser(description="which policy?")
    made.add_argument("--only", default="alone,groups,shuffled")
    asked = made.parse_args().only.split(",")
    where = folder()
    if where is None:
        print("HOMENODE_DATA names no folder: there is nothing to replay")
        return 2
    held = True
    for name, groups in (("alone", False), ("groups", True)):
        if name in asked:
            held &= _print(where, groups=groups)
            print()
    if "shuffled" in asked:
        _print_shuffled(where)
    return not held


if __name__ == "__main__":
    sys.exit(main())
