"""The nodes of one host for a guest: the engine for single hosts, asked many times.

What `homenode.placement` decides on one host hangs on the numbers of its nodes alone, and these
come again and again: hosts are alike, and so are guests. So its answers are kept: for a guest on
one node what the policy says of a node in that state, for one on several the nodes that were
chosen on a host in that state.
"""

from collections.abc import Sequence
from typing import Protocol

from homenode.fleet.demand import Alternative
from homenode.fleet.hosts import Fleet, HostKind, NodeState, Place
from homenode.fleet.ranking import Comparable
from homenode.placement.policies import Policy
from homenode.placement.problem import Problem, prepare
from homenode.placement.search import Search
from homenode.placement.view import View
from homenode.placement.virtual import Cells
from homenode.placement.weights import Pairs, Weights

MOST_KEPT = 1 << 18
"""Answers that are kept of one kind of guest on one kind of host."""

_State = tuple[NodeState, ...]


class Nodes(Protocol):
    """Chooses the nodes on a host that can hold the guest.

    Where the guest is to fit without waste alone, the place is that of the plain one.
    """

    def place(self, host: int, wanted: Alternative) -> Place | None:
        """Return where on `host` the guest goes; None if it does not fit there after all."""

    def value(self, host: int, wanted: Alternative) -> Comparable:
        """Return how good that place is, to be compared with other hosts': smaller is better."""


class EngineNodes:
    """Chooses nodes by a policy of `homenode.placement`."""

    __slots__ = ("_engines", "_fleet", "_policy")

    def __init__(self, fleet: Fleet, policy: Policy) -> None:
        self._fleet = fleet
        self._policy = policy
        # By kind of guest, and then by kind of host.
        self._engines: dict[Alternative, list[_OneNode | _Several | None]] = {}

    def place(self, host: int, wanted: Alternative) -> Place | None:
        """Return where on `host` the guest goes."""
        return self._engine(host, wanted).place(host)

    def value(self, host: int, wanted: Alternative) -> Comparable:
        """Return the values of the policy's terms there; more than any if it does not fit."""
        return self._engine(host, wanted).value(host)

    def _engine(self, host: int, wanted: Alternative) -> "_OneNode | _Several":
        fleet = self._fleet
        engines = self._engines.get(wanted)
        if engines is None:
            engines = self._engines[wanted] = [None] * len(fleet.kinds)
        kind = fleet.kind_of[host]
        engine = engines[kind]
        if engine is None:
            make = _OneNode if len(wanted.parts) == 1 else _Several
            engine = engines[kind] = make(fleet, fleet.kinds[kind], wanted, self._policy)
        return engine


class _OneNode:
    """Guests on one node: the values of the policy for each node by its state."""

    def __init__(self, fleet: Fleet, kind: HostKind, wanted: Alternative, policy: Policy) -> None:
        self._fleet = fleet
        self._wanted = wanted.plain
        self._bit = wanted.bits[0]
        self._policy = policy
        self._problem = prepare(View(kind.host), wanted.request)
        self._alone = [_restricted(self._problem, at) for at in range(len(kind.ids))]
        alike: dict[object, dict[NodeState, tuple[Comparable, ...]]] = {}
        self._known = [
            alike.setdefault(_lasting(self._problem, at), {}) for at in range(len(kind.ids))
        ]
        self._ats = [(at,) for at in range(len(kind.ids))]

    def place(self, host: int) -> Place | None:
        fleet, bit, known = self._fleet, self._bit, self._known
        best: tuple[Comparable, ...] | None = None
        chosen = -1
        first, last = fleet.first[host], fleet.first[host + 1]
        states = fleet.states
        for node, fits in enumerate(fleet.fits[first:last], first):
            if fits & bit:
                state, at = states[node], node - first
                values = known[at].get(state) or self._learn(host, at, state)
                if best is None or values < best:
                    best, chosen = values, at
        return None if best is None else Place(host, self._ats[chosen], self._wanted)

    def value(self, host: int) -> Comparable:
        place = self.place(host)
        if place is None:
            return (1,)
        at = place.ats[0]
        state = self._fleet.states[self._fleet.first[host] + at]
        return (0, *(self._known[at].get(state) or self._learn(host, at, state)))

    def _learn(self, host: int, at: int, state: NodeState) -> tuple[Comparable, ...]:
        known = self._known[at]
        if len(known) >= MOST_KEPT:
            known.clear()
        # Of the other nodes of the host nothing hangs: one node is a smaller problem.
        kind = self._fleet.kinds[self._fleet.kind_of[host]]
        capacity = kind.capacity.vcpus[at]
        problem = in_state(self._alone[at], [state], [capacity], [kind.cpus[at]])
        values = known[state] = Search(problem, self._policy).values_alone(0)
        return values


def _lasting(problem: Problem, at: int) -> object:
    # What facts may know of a node alone beside its state: nodes alike in it have like values.
    if problem.far.nodes:
        return at
    return (
        len(problem.cpus[at]),
        problem.cores.of[at],
        problem.local.of[at],
        problem.scarce.of[at],
        problem.levels.of[at][at],
        problem.distances.of[at][at],
        *(row[at] for row in problem.to_devices),
    )


class _Several:
    """Guests on several nodes: the nodes that the search finds for each state of a host."""

    def __init__(self, fleet: Fleet, kind: HostKind, wanted: Alternative, policy: Policy) -> None:
        self._fleet = fleet
        self._wanted = wanted
        self._policy = policy
        self._problem = prepare(View(kind.host), wanted.request)
        self._known: dict[_State, tuple[tuple[int, ...], Comparable] | None] = {}

    def place(self, host: int) -> Place | None:
        found = self._found(host)
        return None if found is None else Place(host, found[0], self._wanted.plain)

    def value(self, host: int) -> Comparable:
        found = self._found(host)
        return (1,) if found is None else found[1]

    def _found(self, host: int) -> tuple[tuple[int, ...], Comparable] | None:
        fleet = self._fleet
        state = tuple(fleet.states[fleet.first[host] : fleet.first[host + 1]])
        if state not in self._known:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            self._known[state] = self._look(host)
        return self._known[state]

    def _look(self, host: int) -> tuple[tuple[int, ...], Comparable] | None:
        fleet = self._fleet
        states = fleet.states[fleet.first[host] : fleet.first[host + 1]]
        fits = [
            sum(1 << at for at, state in enumerate(states) if state.fits & bit)
            for bit in self._wanted.bits
        ]
        cells = Cells(fits, pairs=self._problem.distances.of)
        problem = problem_on(self._fleet, host, self._problem)._replace(cells=cells)
        found = Search(problem, self._policy).find()
        arranged = None if found.chosen is None else cells.arranged(found.chosen)
        return None if arranged is None else (tuple(arranged.ats), (0, *found.vector))


def problem_on(fleet: Fleet, host: int, problem: Problem) -> Problem:
    """Return `problem`, which was prepared for an empty host of that kind, in the state of `host`.

    Vcpus of a guest on several nodes are at home on one of them each.
    """
    kind = fleet.kinds[fleet.kind_of[host]]
    states = fleet.states[fleet.first[host] : fleet.first[host + 1]]
    return in_state(problem, states, kind.capacity.vcpus, kind.cpus)


def in_state(
    problem: Problem, states: Sequence[NodeState], capacity: Sequence[int], cpus: Sequence[int]
) -> Problem:
    """Return `problem` with its nodes in `states`; they have so many vcpus to give, and cpus."""
    memory = [state.kib for state in states]
    used = [own - state.vcpus for own, state in zip(capacity, states, strict=True)]
    seats = [min(state.vcpus, own) for state, own in zip(states, cpus, strict=True)]
    return problem._replace(
        seats=Weights(seats),
        memory=Weights(memory),
        unclaimed=tuple(memory),
        alone=Weights(used),
        at_home=tuple(used),
        holes=Weights([state.kib if not state.is_touched else 0 for state in states]),
    )


def _restricted(problem: Problem, at: int) -> Problem:
    # The problem as if its host had that node alone.
    return problem._replace(
        ids=(problem.ids[at],),
        cpus=(problem.cpus[at],),
        cores=Weights([problem.cores.of[at]]),
        distances=Pairs([[problem.distances.of[at][at]]]),
        levels=Pairs([[problem.levels.of[at][at]]]),
        local=Weights([problem.local.of[at]]),
        to_devices=tuple((row[at],) for row in problem.to_devices),
        scarce=Weights([problem.scarce.of[at]]),
    )
