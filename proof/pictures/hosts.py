"""Every policy for hosts with the same guests on the same four hosts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.drawing.svg.multiples import Panel, multiples, whole
from homenode.fleet import Fleet, FleetHost, fleet_policy, place
from homenode.fleet.demand import Part
from homenode.fleet.policies import HOST_POLICIES
from homenode.formats import host_toml
from homenode.guest import Guest, GuestRequest, MemoryByNode, Vcpu
from homenode.host import Host
from proof.pictures import EXAMPLES

GIB = 1 << 20
THERE = (
    (Part(1, 3 * GIB), Part(2, 3 * GIB)),
    (Part(2, 4 * GIB), Part(2, 2 * GIB)),
    (Part(3, 3 * GIB), Part(0, 0)),
    (Part(0, 0), Part(0, 0)),
)
"""Vcpus and memory of guests that are on the four hosts before, by node."""


class Wish(NamedTuple):
    """A guest that comes."""

    name: str
    vcpus: int
    gib: int


STREAM = (
    Wish("a", 12, 16), Wish("b", 4, 5), Wish("c", 4, 5), Wish("d", 4, 5), Wish("e", 12, 16),
    Wish("f", 12, 16),
)  # fmt: skip

Came = dict[str, tuple[int, dict[int, int]]]
"""By guest: its host, and its vcpus by node there."""


NAMES = ("host-policies.svg", *(f"host-policy-{name}.svg" for name in HOST_POLICIES))


def pictures() -> Iterator[tuple[str, str]]:
    """Yield the names and texts of the pictures of policies for hosts."""
    host = host_toml.parse(
        (EXAMPLES / "policies" / "pair.toml").read_text(encoding="utf-8"), source="pair.toml"
    )
    empty = panel("before", host, {})
    panels = {name: panel(f"after, by {name}", host, came_by(name, host)) for name in HOST_POLICIES}
    key = [(f"{one.name}: {one.vcpus} vcpus, {one.gib} GiB", at) for at, one in enumerate(STREAM)]
    yield (
        "host-policies.svg",
        multiples("The same six guests by each policy for hosts", [empty, *panels.values()], key),
    )
    for name, own in panels.items():
        yield f"host-policy-{name}.svg", multiples(f"Policy {name}", [empty, own], key)


def came_by(policy: str, host: Host) -> Came:
    """Return what became of the stream; who is refused is not in it."""
    fleet = Fleet(
        [
            FleetHost(f"host {at + 1}", host, guests=any(part.vcpus for part in used), used=used)
            for at, used in enumerate(THERE)
        ]
    )
    came: Came = {}
    for one in STREAM:
        request = GuestRequest(one.name, one.vcpus, one.gib * GIB, one.gib * GIB)
        choice = place(fleet, request, fleet_policy(policy), clock=None)
        if choice.place is None:
            continue
        fleet.take(choice.place)
        vcpus: dict[int, int] = {}
        for at, part in zip(choice.place.ats, choice.place.wanted.parts, strict=True):
            vcpus[at] = vcpus.get(at, 0) + part.vcpus
        came[one.name] = choice.place.host, vcpus
    return came


def panel(title: str, host: Host, came: Came) -> Panel:
    """Return a picture of the four hosts."""
    frames = []
    for number, used in enumerate(THERE):
        free = [node.free_kib or 0 for node in host.nodes]
        cpus = [list(host.cpus_by_node[node.id]) for node in host.nodes]
        taken = {}
        for at, part in enumerate(used):
            free[at] -= part.kib
            taken |= dict.fromkeys((cpus[at].pop(0) for _ in range(part.vcpus)), "before")
        guests = [_guest(one, number, came, free, cpus) for one in STREAM]
        nodes = [node._replace(free_kib=kib) for node, kib in zip(host.nodes, free, strict=True)]
        frames.append(whole(f"host {number + 1}", host.replace(nodes=nodes), guests, taken))
    told = [
        f"{one.name} on host {came[one.name][0] + 1}" if one.name in came else f"{one.name} nowhere"
        for one in STREAM
    ]
    return Panel(title, ", ".join(told) if came else "", frames)


def _guest(one: Wish, host: int, came: Came, free: list[int], cpus: Sequence[list[int]]) -> Guest:
    # The guest with what it has on that host, which is taken from what is free there.
    where, vcpus = came.get(one.name, (-1, {}))
    kib: dict[int, int] = {}
    seen: list[int] = []
    for at, count in vcpus.items() if where == host else ():
        kib[at] = one.gib * GIB * count // one.vcpus
        free[at] -= kib[at]
        seen += [cpus[at].pop(0) for _ in range(count)]
    every = CpuMap()
    return Guest(
        one.name, tuple(Vcpu(at, every, every, cpu=cpu) for at, cpu in enumerate(seen)),
        memory_kib=one.gib * GIB, memory_by_node=MemoryByNode(kib, "the replay"),
        node_affinity=NodeMap(kib),
    )  # fmt: skip
