"""Decisions a second over 1,000 hosts of 2, 4 and 8 nodes, and what ten million guests take.

    python bench/fleet.py [--guests N] [--policies P,P] [--memory]

Guests of 1 to 16 vcpus with 2, 4 or 8 GiB for each, which come and go so that the fleet is about
nine tenths full, all on one node. Every policy decides on the same events; departures are in the
time, which is cpu time. Beside them: the same events by a scan of all nodes with NumPy (best fit on
memory), the peer that has no index. ``--memory`` replays ten million guests by the default policy
and prints the most memory that the process ever had.
"""

import argparse
import gc
import heapq
import random
import resource
import time
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from homenode.fleet import Fleet, FleetHost, fleet_policy
from homenode.fleet.choosing import Chooser
from homenode.fleet.policies import DEFAULT
from homenode.fleet.replay import Replay
from homenode.fleet.trace import Trace
from homenode.formats import host_toml
from homenode.guest import GuestRequest

if TYPE_CHECKING:
    from homenode.fleet.hosts import Place

GIB = 1 << 20
CPUS, MEMORY_GIB, HOSTS, FULL = 32, 128, 1000, 0.93
SIZES = [(vcpus, vcpus * ratio) for vcpus in (1, 2, 4, 8, 16) for ratio in (2, 4, 8)]
POLICIES = ("first/first-fit", "first/balanced", "pack/balanced", f"{DEFAULT}/balanced",
            "flat/best-fit")  # fmt: skip


def hosts() -> list[FleetHost]:
    """Return a thousand hosts of 2, 4 and 8 nodes, in an order that is drawn once."""
    kinds = {
        nodes: host_toml.parse(
            f"nodes = {nodes}\nsockets = {max(1, nodes // 2)}\ncores = {CPUS}\n"
            f'memory = "{MEMORY_GIB}GiB"\n'
            "[distances]\nlocal = 10\nsocket = 12\nmachine = 20\n",
            source="host",
        )
        for nodes in (2, 4, 8)
    }
    drawn = random.Random(1)  # noqa: S311 - nothing secret
    return [FleetHost(f"host-{at}", kinds[drawn.choice((2, 4, 8))]) for at in range(HOSTS)]


def trace(fleet: Fleet, guests: int) -> Trace:
    """Return so many guests; in the mean as many are there as fill the fleet to `FULL`."""
    drawn = random.Random(2)  # noqa: S311 - nothing secret
    vcpus = sum(own for own, _ in SIZES) / len(SIZES)
    gib = sum(own for _, own in SIZES) / len(SIZES)
    there = FULL * min(sum(fleet.vcpus) / vcpus, sum(fleet.kib) / GIB / gib)
    wanted = array("I", bytes(4 * guests))
    events, times = array("q"), array("q")
    ends: list[tuple[int, int]] = []
    for guest in range(guests):
        now = int(guest * 1e6 / there)
        while ends and ends[0][0] <= now:
            at, gone = heapq.heappop(ends)
            events.append(~gone)
            times.append(at)
        wanted[guest] = drawn.randrange(len(SIZES))
        events.append(guest)
        times.append(now)
        heapq.heappush(ends, (now + int(drawn.expovariate(1e-6)), guest))
    requests = tuple(
        GuestRequest(f"{own}x{size}GiB", own, size * GIB, node_count=1) for own, size in SIZES
    )
    return Trace("drawn", "bench", requests, wanted, events, times)


def decided(made: Trace, fleet: Fleet, chooser: Chooser) -> int:
    """Decide on every event; return how many guests were refused."""
    demands = [fleet.demand(request) for request in made.requests]
    places: dict[int, Place] = {}
    refused = 0
    choose, take, give, wanted = chooser.choose, fleet.take, fleet.give, made.wanted
    for event in made.events:
        if event >= 0:
            place = choose(demands[wanted[event]])
            if place is None:
                refused += 1
            else:
                take(place)
                places[event] = place
        else:
            gone = places.pop(~event, None)
            if gone is not None:
                give(gone)
    return refused


def scanned(made: Trace, fleet: Fleet) -> int:
    """Do the same by NumPy: the node with the least memory that has room, of all."""
    import numpy as np  # noqa: PLC0415 - the peer's, not ours

    vcpus = np.array([state.vcpus for state in fleet.states])
    gib = np.array([state.kib // GIB for state in fleet.states])
    never = 1 << 30
    places: dict[int, int] = {}
    refused = 0
    for event in made.events:
        if event >= 0:
            need, size = SIZES[made.wanted[event]]
            left = np.where((vcpus >= need) & (gib >= size), gib, never)
            node = int(left.argmin())
            if left[node] == never:
                refused += 1
                continue
            places[event] = node
            vcpus[node] -= need
            gib[node] -= size
        elif (gone := places.pop(~event, None)) is not None:
            need, size = SIZES[made.wanted[~event]]
            vcpus[gone] += need
            gib[gone] += size
    return refused


def _timed(name: str, guests: int, run: Callable[[], int], base: float | None) -> float:
    begun = time.process_time()
    refused = run()
    rate = guests / (time.process_time() - begun)
    ratio = "" if base is None else f"  {rate / base:5.1f}x the scan"
    print(f"{name:<20} {rate:>9,.0f} decisions/s{ratio}  {refused} refused", flush=True)
    return rate


def _speed(asked: argparse.Namespace) -> None:
    there = hosts()
    made = trace(Fleet(there), asked.guests)
    print(f"{HOSTS} hosts, {len(Fleet(there).states)} nodes, {asked.guests:,} guests")
    few = made._replace(events=made.events[: len(made.events) // 10])
    came = sum(1 for event in few.events if event >= 0)
    try:
        base = _timed("NumPy scan", came, lambda: scanned(few, Fleet(there)), None)
    except ImportError:
        print("NumPy is not there: nothing to compare with")
        base = None
    for name in asked.policies.split(","):
        fleet = Fleet(there)
        chooser = Chooser(fleet, fleet_policy(name))
        _timed(name, asked.guests, lambda f=fleet, c=chooser: decided(made, f, c), base)


def _memory(asked: argparse.Namespace) -> None:
    fleet = Fleet(hosts())
    made = trace(fleet, asked.guests)
    drawn = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun = time.process_time()
    outcome = Replay(made, fleet, Chooser(fleet, fleet_policy(asked.policies.split(",")[0]))).run()
    rate = asked.guests / (time.process_time() - begun)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{asked.guests:,} guests replayed, {outcome.refused} refused: {rate:,.0f} decisions/s,"
        f" at most {most:,.0f} MiB ({drawn:,.0f} MiB of it before the replay)"
    )


def main() -> None:
    """Run the bench."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--guests", type=int)
    made.add_argument("--policies", default=",".join(POLICIES))
    made.add_argument("--memory", action="store_true")
    asked = made.parse_args()
    # As in the command: there are millions of tuples, and nothing among them to be collected.
    gc.disable()
    if asked.memory:
        asked.guests = asked.guests or 10_000_000
        _memory(asked)
    else:
        asked.guests = asked.guests or 300_000
        _speed(asked)


if __name__ == "__main__":
    main()
