"""Recorded decisions of a real service's requests, made again: `homenode.fleet` beside them.

    python -m proof.recorded

VMAgent's episodes (``traces/huawei-east-1`` in ``HOMENODE_DATA``): requests of Huawei-East-1 on
five two-node servers, with the decision and what was free on every node after it. First fit is
first fit. Their "best fit" is not: it takes the node with the most left of what is scarcer there,
counted after the guest is placed for the first node of a server, and before for the second.
"""

import csv
import os
import sys
from pathlib import Path
from typing import NamedTuple

from homenode.fleet import Fleet, FleetHost, fleet_policy
from homenode.fleet.choosing import Chooser
from homenode.fleet.demand import Alternative
from homenode.fleet.hosts import Place
from homenode.formats import host_toml
from homenode.guest import GuestRequest

GIB = 1 << 20
SERVERS, CPUS, MEMORY_GIB = 5, 40, 90


class Recorded(NamedTuple):
    """An episode: creations, those decided alike, events, those after which all nodes are alike."""

    creations: int
    same: int
    events: int
    equal: int


class MostLeft:
    """Nodes as VMAgent's "best fit" took them when its episodes were recorded."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def place(self, host: int, wanted: Alternative) -> Place | None:
        """Return the place with the most left; the first of equal ones."""
        return self._best(host, wanted)[1]

    def value(self, host: int, wanted: Alternative) -> int:
        """Return what is left there, turned so that smaller is better."""
        return self._best(host, wanted)[0]

    def _best(self, host: int, wanted: Alternative) -> tuple[int, Place | None]:
        found: list[tuple[int, int]] = []
        first = self._fleet.first[host]
        for at, state in enumerate(self._fleet.states[first : self._fleet.first[host + 1]]):
            if state.fits & wanted.bits[0]:
                vcpus = state.vcpus - wanted.vcpus * (at == 0)
                kib = state.kib - wanted.kib * (at == 0)
                # min(vcpus / CPUS, kib / MEMORY), without fractions.
                found.append((-min(vcpus * MEMORY_GIB * GIB, kib * CPUS), at))
        if not found:
            return 1, None
        value, at = min(found)
        return value, Place(host, (at,), wanted)


def replay(path: Path, *, most_left: bool) -> Recorded:
    """Return how many decisions and states of an episode come out as recorded."""
    server = host_toml.parse(
        f'nodes = 2\ncores = {CPUS}\nmemory = "{MEMORY_GIB}GiB"\n', source="server"
    )
    fleet = Fleet([FleetHost(f"server-{at}", server) for at in range(SERVERS)])
    policy = fleet_policy("flat/first-fit" if most_left else "first/first-fit")
    chooser = Chooser(fleet, policy, MostLeft(fleet) if most_left else None)
    places: dict[str, Place] = {}
    creations = same = events = equal = 0
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            events += 1
            if row["type"] == "create":
                place = chooser.choose(fleet.demand(_request(row)))
                creations += 1
                if place is None:
                    break
                same += place.host * 2 + place.ats[0] == int(row["action"])
                fleet.take(place)
                places[row["vm"]] = place
            else:
                fleet.give(places.pop(row["vm"]))
            equal += all(
                (state.vcpus, state.kib / GIB)
                == (int(row[f"s{at // 2}n{at % 2}_cpu"]), float(row[f"s{at // 2}n{at % 2}_mem"]))
                for at, state in enumerate(fleet.states)
            )
    return Recorded(creations, same, events, equal)


def _request(row: dict[str, str]) -> GuestRequest:
    kib = int(float(row["mem_gb"]) * GIB)
    return GuestRequest(f"{row['cpu']}x{row['mem_gb']}", int(row["cpu"]), kib, node_count=1)


def main() -> int:
    """Print both episodes."""
    folder = os.environ.get("HOMENODE_DATA")
    if folder is None:
        print("HOMENODE_DATA names no folder: there is nothing to compare with")
        return 2
    held = True
    for name, most_left in (("firstfit", False), ("bestfit", True)):
        path = Path(folder) / f"traces/huawei-east-1/vmagent_{name}_episode.csv"
        found = replay(path, most_left=most_left)
        held &= found.same == found.creations and found.equal == found.events
        print(
            f"{name:<10} {found.same} of {found.creations} decisions alike,"
            f" {found.equal} of {found.events} states equal"
        )
    return not held


if __name__ == "__main__":
    sys.exit(main())
