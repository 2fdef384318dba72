"""The memory model: how fast a vcpu gets on, by where it runs and where its memory lies.

For vcpu v on node c whose memory has shares phi over the nodes n::

    pace = 1 / (1 - s + s * sum(phi[n] * L(c, n)))
    L(c, n) = idle latency(c, n) / idle latency(c, c) * max(g(controller n), g(link c to n))
    g(rho) = min(plateau, 1 + a * rho / (1 - rho))

where s is the share of its time that v waits for memory on a cpu that it has for itself, and rho
is how much of a controller or a link is used. Traffic depends on the pace and the pace on traffic:
`paces` iterates to a fixed point, in which nothing carries more than it can. Linear in the remote
share as CAMP (ASPLOS 2026) and SupMario (arXiv 2409.14317) found for hosts that are not saturated;
the loaded latencies of six machines fit g with a = 0.056 to 0.108 and a plateau of 2.6 to 4.4.

Not in the model: coherence and locks of shared data, shared caches, page tables, and what moving a
vcpu costs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from homenode.host import Host

LATENCY_PER_DISTANCE = 0.06
"""What one point of a firmware's distance above the local 10 adds to the latency, where nobody has
measured it: 11 is 1.06 and 21 is 1.66. Measured on 2x Platinum 8269CY in SNC2, whose firmware says
10, 11 and 21: 1.06 and 1.72. Firmware's distances are no measurement; see docs/simulation.md."""

LOADED_A = 0.08
"""The middle of the six machines that were measured."""

PLATEAU = 3.3
"""The same."""

_ROUNDS = 400
_CLOSE = 1e-7
_NOTHING = 1e-12
_FULL = 1 - 1e-6


class Machine(NamedTuple):
    """What memory of a host can do; tables are indexed by node, as a simulation numbers them.

    `latency[c][n]` is relative to what cpus of c wait for their own memory. `controllers` are the
    GB/s of each node's memory, `links` those from the cpus of c to the memory of n; None where
    nobody has measured, and nothing is ever full.
    """

    latency: tuple[tuple[float, ...], ...]
    controllers: tuple[float | None, ...]
    links: tuple[tuple[float | None, ...], ...]
    loaded_a: float = LOADED_A
    plateau: float = PLATEAU

    @property
    def can_fill(self) -> bool:
        """Whether anything is known that could be full."""
        return any(gb_s is not None for gb_s in self.controllers) or any(
            gb_s is not None for row in self.links for gb_s in row
        )

    def loaded(self, used: float) -> float:
        """Return g: what latency is multiplied by where so much of the capacity is used."""
        if used >= _FULL:
            return self.plateau
        return min(self.plateau, 1 + self.loaded_a * used / (1 - used))


class Appetite(NamedTuple):
    """What a vcpu wants of memory.

    `stall` is the share of its time that it waits for local memory, `gb_s` its traffic while it
    runs at pace 1, `shares` where its memory lies, by node.
    """

    stall: float
    gb_s: float
    shares: tuple[float, ...]


def machine_of(host: Host) -> Machine:
    """Return what is known of a host's memory from itself: latencies, else its distances."""
    count = len(host.nodes)
    if host.latency_ns is not None:
        latency = tuple(_relative(row, at) for at, row in enumerate(host.latency_ns))
    else:
        latency = tuple(
            tuple(
                1.0 if at == to or cell is None else 1 + LATENCY_PER_DISTANCE * max(0, cell - 10)
                for to, cell in enumerate(row)
            )
            for at, row in enumerate(host.distances)
        )
    table = host.bandwidth_mb_s
    links = tuple(
        tuple(None if at == to or table is None else _gb_s(table[at][to]) for to in range(count))
        for at in range(count)
    )
    controllers = tuple(None if table is None else _gb_s(table[at][at]) for at in range(count))
    return Machine(latency, controllers, links)


def _relative(row: Sequence[int | None], at: int) -> tuple[float, ...]:
    own = row[at] or min((cell for cell in row if cell), default=1)
    return tuple(1.0 if cell is None else cell / own for cell in row)


def _gb_s(mb_s: int | None) -> float | None:
    return mb_s / 1000 if mb_s else None


class Use(NamedTuple):
    """So many cpus of node `node` were used by vcpu `vcpu`."""

    vcpu: int
    node: int
    cpus: float


class Paces(NamedTuple):
    """The pace of every vcpu on every node, and how full everything is."""

    pace: tuple[tuple[float, ...], ...]
    controllers: tuple[float, ...]
    links: tuple[tuple[float, ...], ...]


def paces(machine: Machine, appetites: Sequence[Appetite], uses: Sequence[Use]) -> Paces:
    """Return the fixed point: how fast each vcpu gets on where, while `uses` go on."""
    nodes = range(len(machine.controllers))
    controllers = [_Resource(gb_s) for gb_s in machine.controllers]
    links = [[_Resource(gb_s) for gb_s in row] for row in machine.links]
    table = _table(machine, appetites, controllers, links)
    for _ in range(_ROUNDS if machine.can_fill else 0):
        at_nodes, over_links = _traffic(table, appetites, uses, len(nodes))
        change = 0.0
        for to in nodes:
            change += controllers[to].settle(at_nodes[to])
            for at in nodes:
                change += links[at][to].settle(over_links[at][to])
        table = _table(machine, appetites, controllers, links)
        if change < _CLOSE:
            break
    return Paces(
        table,
        tuple(one.used for one in controllers),
        tuple(tuple(one.used for one in row) for row in links),
    )


class _Resource:
    """A controller or a link, and the pressure on it: traffic falls as pressure rises.

    Up to 1 it is the share that is used; beyond, what is wanted is that many times too much, and is
    cut for all who want it alike.
    """

    def __init__(self, capacity: float | None) -> None:
        self._capacity = capacity
        self._pressure = 0.0
        self._step = 0.5
        self._was_above = False

    @property
    def used(self) -> float:
        return min(1.0, self._pressure)

    @property
    def cut(self) -> float:
        return 1 / max(1.0, self._pressure)

    def settle(self, traffic: float) -> float:
        # Goes some way to where traffic and pressure agree; less of it each time it was overshot.
        if self._capacity is None:
            return 0.0
        wanted = traffic / self._capacity
        if wanted < _NOTHING:
            change, self._pressure = self._pressure, 0.0
            return change
        if not self._pressure:
            self._pressure = min(1.0, wanted)
            return 1.0
        off = wanted / self.used
        above = off > 1
        self._step = self._step / 2 if above != self._was_above else min(0.5, self._step * 1.2)
        self._was_above = above
        self._pressure *= off**self._step
        return abs(off - 1)


def _traffic(
    table: Sequence[Sequence[float]], appetites: Sequence[Appetite], uses: Sequence[Use], count: int
) -> tuple[list[float], list[list[float]]]:
    at_nodes = [0.0] * count
    over_links = [[0.0] * count for _ in range(count)]
    for vcpu, node, cpus in uses:
        wanted = appetites[vcpu].gb_s
        if not wanted:
            continue
        gb_s = cpus * table[vcpu][node] * wanted
        for to, share in enumerate(appetites[vcpu].shares):
            if share:
                at_nodes[to] += gb_s * share
                over_links[node][to] += gb_s * share
    return at_nodes, over_links


def _table(
    machine: Machine,
    appetites: Sequence[Appetite],
    controllers: Sequence[_Resource],
    links: Sequence[Sequence[_Resource]],
) -> tuple[tuple[float, ...], ...]:
    nodes = range(len(controllers))
    factors = [
        [
            machine.latency[at][to]
            * max(machine.loaded(controllers[to].used), machine.loaded(links[at][to].used))
            for to in nodes
        ]
        for at in nodes
    ]
    cuts = [[min(controllers[to].cut, links[at][to].cut) for to in nodes] for at in nodes]
    known: dict[Appetite, tuple[float, ...]] = {}
    for appetite in appetites:
        if appetite not in known:
            known[appetite] = tuple(_pace(appetite, factors[at], cuts[at]) for at in nodes)
    return tuple(known[appetite] for appetite in appetites)


def _pace(appetite: Appetite, factors: Sequence[float], cuts: Sequence[float]) -> float:
    waits = sum(
        share * factor for share, factor in zip(appetite.shares, factors, strict=True) if share
    )
    pace = 1 / (1 - appetite.stall + appetite.stall * waits)
    if appetite.gb_s:
        pace *= min(
            (cut for cut, share in zip(cuts, appetite.shares, strict=True) if share), default=1.0
        )
    return pace
