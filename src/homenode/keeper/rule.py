"""The keeper's rule: which vcpus are held at home, which spread and how far, which come back.

A pure function of measurements: `decide` takes what the vcpus of one cpupool did in a round and
what was decided before, and returns what to do. It knows no hypervisor, no clock and no mask.

*Demand* of a vcpu is the share of time that it ran or waited for a cpu, averaged. A node has *room*
for it if what all the others want there leaves enough: vcpus that spin (`whole_cpus`) fill a cpu
each, and the rest may be filled up to `room_share`. It is *saturated* where the same sum is above
`saturated_share`. The distance between the two, and that a vcpu must be *starved* before it
leaves, keep a steady load steady; the times for which a vcpu stays where it is (`spread_after_s`,
`return_after_s`, which is doubled if coming back was in vain) keep an unsteady one from moving it
to and fro.

In the order in which they are decided:

====== ===================================================================================
yield  a stranger leaves a node that is saturated and whose own vcpus starve
return a vcpu comes back, for home has room
spread a vcpu gets the nearest node with room beside its saturated home, if it starves there
       or home is overdrawn by about as much as it wants
hold   a vcpu that was not held is held, at home if that has room, else as if it spread
====== ===================================================================================
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from math import exp
from typing import Literal, NamedTuple

from homenode.bitmap import NodeMap
from homenode.keeper.settings import Settings

Key = tuple[str, int]
"""A vcpu: the guest that it is of, and its number there."""

Kind = Literal["yield", "return", "spread", "hold"]

LONG_AGO_S = float("-inf")


class Ground(NamedTuple):
    """The nodes of one cpupool: how many cpus for guests each has, and how far they are apart."""

    cpus: Mapping[int, int]
    distances: Mapping[int, Mapping[int, int]]


class Watched(NamedTuple):
    """What a vcpu did in one round.

    `home` are the nodes of its memory, `may` those where it may run at all. `ran` and `waited` are
    shares of the round; `node` is where it was seen, None if nobody says.
    """

    key: Key
    home: NodeMap
    may: NodeMap
    ran: float
    waited: float
    node: int | None = None


class Measured(NamedTuple):
    """What was measured in one round of `seconds`, which ended at `now_s`.

    `others` are the cpus that something else used on each node: the host, guests that are not kept.
    """

    now_s: float
    seconds: float
    vcpus: Sequence[Watched]
    others: Mapping[int, float] = {}


class Kept(NamedTuple):
    """What is known of a vcpu: its averages, and where it is held.

    `reach` are the nodes that it is held to, None if it is not held. `since_s` is when that was
    decided.
    """

    ran: float
    waited: float
    reach: NodeMap | None = None
    since_s: float = LONG_AGO_S

    @property
    def demand(self) -> float:
        """The cpus that it wants."""
        return min(1.0, self.ran + self.waited)


class Stay(NamedTuple):
    """For how long vcpus of a home stay away at least, and when one came back last.

    It is the home's, and not each vcpu's: else one after the other would go and come back.
    """

    seconds: float
    returned_s: float = LONG_AGO_S


class State(NamedTuple):
    """What was decided so far: of every vcpu and home, and when guests were changed lately."""

    vcpus: Mapping[Key, Kept] = {}
    stays: Mapping[NodeMap, Stay] = {}
    changed_s: tuple[float, ...] = ()

    def of(self, guests: Container[str]) -> "State":
        """Return the state of these guests alone."""
        vcpus = {key: kept for key, kept in self.vcpus.items() if key[0] in guests}
        return self if len(vcpus) == len(self.vcpus) else self._replace(vcpus=vcpus)

    def without(self, moves: "Iterable[Move]", *, now_s: float) -> "State":
        """Return the state in which `moves` were decided and could not be made."""
        vcpus = dict(self.vcpus)
        for move in moves:
            if move.key in vcpus:
                vcpus[move.key] = vcpus[move.key]._replace(reach=move.was, since_s=now_s)
        return self._replace(vcpus=vcpus)


class Move(NamedTuple):
    """A vcpu that is held to `reach` from now on, after `was` (None: it was not held)."""

    key: Key
    kind: Kind
    reach: NodeMap
    was: NodeMap | None
    why: str


class Decision(NamedTuple):
    """The state after a round, and what is to be done."""

    state: State
    moves: tuple[Move, ...]


def decide(state: State, measured: Measured, ground: Ground, settings: Settings) -> Decision:
    """Decide what to do after a round, for the vcpus of one cpupool."""
    kept = _averaged(state, measured, settings)
    book = _Book(kept, measured, ground, settings)
    moves = [*_yields(book), *_returns(book, state.stays), *_spreads(book), *_holds(book)]
    changed = tuple(at for at in state.changed_s if at > measured.now_s - 60.0)
    allowed = max(0, int(settings.changes_per_minute) - len(changed))
    made, guests = _first_guests(moves, allowed)
    for move in made:
        kept[move.key] = kept[move.key]._replace(reach=move.reach, since_s=measured.now_s)
    homes = {vcpu.key: vcpu.home for vcpu in measured.vcpus}
    stays = _stays(state.stays, made, homes, measured.now_s, settings)
    return Decision(State(kept, stays, changed + (measured.now_s,) * guests), tuple(made))


def nearest(ground: Ground, home: NodeMap) -> tuple[int, ...]:
    """Return the nodes with cpus that are not home, the nearest first."""
    away = [node for node, cpus in ground.cpus.items() if cpus and node not in home]
    distance = {node: sum(ground.distances[one][node] for one in home) for node in away}
    return tuple(sorted(away, key=lambda node: (distance[node], node)))


def _averaged(state: State, measured: Measured, settings: Settings) -> dict[Key, Kept]:
    damping_s = settings.damping_s
    new = 1.0 if damping_s <= 0 else 1.0 - exp(-measured.seconds / damping_s)
    known = state.vcpus
    # Who was not measured this time is not forgotten: see `State.of`.
    kept = dict(known)
    for vcpu in measured.vcpus:
        before = known.get(vcpu.key)
        ran, waited = vcpu.ran, vcpu.waited
        if before is None:
            kept[vcpu.key] = Kept(ran, waited)
        elif ran == before.ran and waited == before.waited:
            kept[vcpu.key] = before
        else:
            kept[vcpu.key] = Kept(
                before.ran + new * (ran - before.ran),
                before.waited + new * (waited - before.waited),
                before.reach,
                before.since_s,
            )
    return kept


class _Load:
    """What is wanted of some nodes: spinning vcpus, and the rest in cpus."""

    __slots__ = ("rest", "whole")

    def __init__(self) -> None:
        self.whole = 0
        self.rest = 0.0


class _Book:
    """Who wants how much of which node, as it is and as it becomes while a round is decided."""

    def __init__(
        self, kept: Mapping[Key, Kept], measured: Measured, ground: Ground, settings: Settings
    ) -> None:
        self.kept = kept
        self.measured = measured
        self.ground = ground
        self.settings = settings
        self._loads = {node: _Load() for node in ground.cpus}
        self._at: dict[Key, int] = {}
        self._nearest: dict[NodeMap, tuple[int, ...]] = {}
        self._used = dict.fromkeys(ground.cpus, 0.0)
        for node, cpus in measured.others.items():
            if node in self._loads:
                # As far as they fill cpus they are as good as vcpus that spin.
                whole = int(cpus + settings.tolerance_cpus)
                self._loads[node].whole += whole
                self._loads[node].rest += max(0.0, cpus - whole)
                self._used[node] += cpus
        for vcpu in measured.vcpus:
            seen = kept[vcpu.key]
            if seen.ran == 0.0 and seen.waited == 0.0:
                continue
            here = self._node_of(vcpu, seen)
            if here is not None:
                self._add(here, seen.demand, 1)
                self._at[vcpu.key] = here
                self._used[here] += vcpu.ran

    def _node_of(self, vcpu: Watched, seen: Kept) -> int | None:
        """Return the node that a vcpu's demand is counted at: where it was seen, if it may be."""
        reach = seen.reach or vcpu.may
        if vcpu.node in self._loads and (seen.reach is None or vcpu.node in reach):
            return vcpu.node
        return next((node for node in reach if node in self._loads), None)

    def _add(self, node: int, demand: float, sign: int) -> None:
        load = self._loads[node]
        if demand >= self.settings.whole_cpus:
            load.whole += sign
        else:
            load.rest += sign * demand

    def moved(self, vcpu: Watched, node: int) -> None:
        """Count a vcpu at `node` from now on."""
        demand = self.kept[vcpu.key].demand
        before = self._at.get(vcpu.key)
        if before is not None:
            self._add(before, demand, -1)
        self._add(node, demand, 1)
        self._at[vcpu.key] = node

    def left(self, vcpu: Watched) -> None:
        """Count a vcpu nowhere, until it is said where."""
        before = self._at.pop(vcpu.key, None)
        if before is not None:
            self._add(before, self.kept[vcpu.key].demand, -1)

    def at(self, vcpu: Watched) -> int | None:
        """Return the node that a vcpu is counted at; None for an idle one."""
        return self._at.get(vcpu.key)

    def nearest(self, home: NodeMap) -> tuple[int, ...]:
        """Return the nodes that are not home, the nearest first."""
        if home not in self._nearest:
            self._nearest[home] = nearest(self.ground, home)
        return self._nearest[home]

    def cpus(self, nodes: Iterable[int]) -> int:
        """Return how many cpus for guests there are."""
        return sum(self.ground.cpus.get(node, 0) for node in nodes)

    def is_saturated(self, nodes: Iterable[int]) -> bool:
        """Return whether more is wanted there than can be had without waiting."""
        return not self._holds(nodes, 0.0, self.settings.saturated_share)

    def has_room(self, nodes: Iterable[int], vcpu: Watched) -> bool:
        """Return whether a vcpu fits there, beside the others."""
        here = tuple(nodes)
        demand = self.kept[vcpu.key].demand
        before = self._at.get(vcpu.key)
        if before in here and before is not None:
            self._add(before, demand, -1)
            try:
                return self._holds(here, demand, self.settings.room_share)
            finally:
                self._add(before, demand, 1)
        return self._holds(here, demand, self.settings.room_share)

    def _holds(self, nodes: Iterable[int], demand: float, share: float) -> bool:
        cpus, whole, rest = 0, 0, 0.0
        for node in nodes:
            if node in self._loads:
                load = self._loads[node]
                cpus += self.ground.cpus[node]
                whole += load.whole
                rest += load.rest
        if demand >= self.settings.whole_cpus:
            whole += 1
        else:
            rest += demand
        return rest <= share * (cpus - whole) + self.settings.tolerance_cpus

    def wanted(self, nodes: Iterable[int]) -> float:
        """Return the cpus that are wanted there."""
        loads = [self._loads[node] for node in nodes if node in self._loads]
        return sum(load.whole + load.rest for load in loads)

    def is_used_up(self, nodes: Iterable[int]) -> bool:
        """Return whether the cpus there were really busy in this round.

        Else who waits, waits for something else: a cap, for example.
        """
        here = tuple(nodes)
        used = sum(self._used.get(node, 0.0) for node in here)
        return (
            used >= self.settings.saturated_share * self.cpus(here) - self.settings.tolerance_cpus
        )

    def starves(self, vcpu: Watched) -> bool:
        """Return whether a vcpu waits for more of its time than being away would cost."""
        seen = self.kept[vcpu.key]
        wanted = seen.ran + seen.waited
        return wanted >= self.settings.busy_cpus and (
            seen.waited >= self.settings.starved_share * wanted
        )

    def is_overdrawn(self, vcpu: Watched) -> bool:
        """Return whether so much too much is wanted at home that one like this had better leave.

        Of nine that spin on eight cpus none starves, and a ninth of the work is lost all the same.
        """
        demand = self.kept[vcpu.key].demand
        if demand < self.settings.busy_cpus:
            return False
        surplus = self.wanted(vcpu.home) - self.cpus(vcpu.home)
        return surplus >= self.settings.overdrawn_share * demand

    def refuge(self, vcpu: Watched) -> int | None:
        """Return the nearest node with room for a vcpu; None if there is none."""
        for node in self.nearest(vcpu.home):
            if node in vcpu.may and self.has_room((node,), vcpu):
                return node
        return None


def _yields(book: _Book) -> list[Move]:
    """Have strangers leave nodes whose own vcpus starve: for another, or home."""
    now_s, settings = book.measured.now_s, book.settings
    strangers: dict[int, list[Watched]] = {}
    starving = set()
    for vcpu in book.measured.vcpus:
        seen, node = book.kept[vcpu.key], book.at(vcpu)
        if node is None or seen.reach is None:
            continue
        if node not in vcpu.home:
            if now_s - seen.since_s >= settings.spread_after_s:
                strangers.setdefault(node, []).append(vcpu)
        elif book.starves(vcpu):
            starving.add(node)
    moves = []
    for node in sorted(starving & strangers.keys()):
        for vcpu in strangers[node]:
            if not book.is_saturated((node,)):
                break
            other = book.refuge(vcpu)
            was = book.kept[vcpu.key].reach
            reach = vcpu.home if other is None else vcpu.home | NodeMap([other])
            why = f"the vcpus at home on node {node} starve"
            moves.append(Move(vcpu.key, "yield", reach, was, why))
            book.moved(vcpu, vcpu.home.first if other is None else other)
    return moves


def _returns(book: _Book, stays: Mapping[NodeMap, Stay]) -> list[Move]:
    now_s = book.measured.now_s
    # Of a home that nobody had to leave yet, who is away was found to be so at the start.
    first = Stay(book.settings.spread_after_s)
    away = [
        vcpu
        for vcpu in book.measured.vcpus
        if (seen := book.kept[vcpu.key]).reach is not None
        and seen.reach != vcpu.home
        and now_s - seen.since_s >= stays.get(vcpu.home, first).seconds
    ]
    # Who wants least first: so the most fit.
    moves = []
    for vcpu in sorted(away, key=lambda vcpu: (book.kept[vcpu.key].demand, vcpu.key)):
        seen = book.kept[vcpu.key]
        if not book.has_room(vcpu.home, vcpu):
            continue
        wanted, cpus = book.wanted(vcpu.home), book.cpus(vcpu.home)
        why = f"{wanted:.1f} of {cpus} cpus are wanted on {vcpu.home.named}"
        moves.append(Move(vcpu.key, "return", vcpu.home, seen.reach, why))
        book.moved(vcpu, vcpu.home.first)
    return moves


def _spreads(book: _Book) -> list[Move]:
    now_s, settings = book.measured.now_s, book.settings
    waiting = [
        vcpu
        for vcpu in book.measured.vcpus
        if (seen := book.kept[vcpu.key]).reach is not None
        and book.at(vcpu) in vcpu.home
        and now_s - seen.since_s >= settings.spread_after_s
        and seen.waited > 0
        and vcpu.ran + vcpu.waited >= settings.busy_cpus  # its averages outlive it
        and book.is_used_up(vcpu.home)
    ]
    moves = []
    # Who may be away already goes first: so the fewest are.
    for vcpu in sorted(waiting, key=lambda vcpu: _urgency(vcpu, book.kept[vcpu.key])):
        if not book.is_saturated(vcpu.home):
            continue
        if not (book.starves(vcpu) or book.is_overdrawn(vcpu)):
            continue
        node = book.refuge(vcpu)
        if node is None:
            continue
        seen = book.kept[vcpu.key]
        reach = vcpu.home | NodeMap([node])
        if reach == seen.reach:
            continue  # it may go there already: whoever schedules it has not noticed yet
        wanted, cpus = book.wanted(vcpu.home), book.cpus(vcpu.home)
        why = (
            f"{wanted:.1f} of {cpus} cpus are wanted on {vcpu.home.named}; it waited for"
            f" {_wait_share(seen):.0%} of its time"
        )
        moves.append(Move(vcpu.key, "spread", reach, seen.reach, why))
        book.moved(vcpu, node)
    return moves


def _urgency(vcpu: Watched, seen: Kept) -> tuple[bool, float, Key]:
    return seen.reach == vcpu.home, -_wait_share(seen), vcpu.key


def _wait_share(seen: Kept) -> float:
    return seen.waited / (seen.ran + seen.waited)


def _holds(book: _Book) -> list[Move]:
    new = [vcpu for vcpu in book.measured.vcpus if book.kept[vcpu.key].reach is None]
    # Where they happen to run now tells nothing of where there is room once they are held.
    seen_at = {vcpu.key: book.at(vcpu) for vcpu in new}
    for vcpu in new:
        book.left(vcpu)
    moves, left = [], []
    # Those that are home stay there before others come, and strangers come last of all.
    for vcpu in sorted(new, key=lambda vcpu: (seen_at[vcpu.key] not in vcpu.home, vcpu.key)):
        idle = book.kept[vcpu.key].demand < book.settings.busy_cpus
        if not idle and not book.has_room(vcpu.home, vcpu):
            left.append(vcpu)
            continue
        if seen_at[vcpu.key] is not None:
            book.moved(vcpu, vcpu.home.first)
        moves.append(Move(vcpu.key, "hold", vcpu.home, None, "its memory is there"))
    for vcpu in left:
        node, runs_on = book.refuge(vcpu), seen_at[vcpu.key]
        if node is not None:
            book.moved(vcpu, node)
            reach = vcpu.home | NodeMap([node])
            why = f"{vcpu.home.named} has no room for it"
            moves.append(Move(vcpu.key, "hold", reach, None, why))
        elif runs_on is not None:
            book.moved(vcpu, runs_on)  # it goes on as it is, until there is room somewhere
    return moves


def _first_guests(moves: Sequence[Move], most: int) -> tuple[list[Move], int]:
    """Return the moves of the first so many guests, and how many guests these are."""
    guests: dict[str, None] = {}
    made = []
    for move in moves:
        guest = move.key[0]
        if guest not in guests and len(guests) >= most:
            continue
        guests[guest] = None
        made.append(move)
    return made, len(guests)


def _stays(
    stays: Mapping[NodeMap, Stay],
    moves: Sequence[Move],
    homes: Mapping[Key, NodeMap],
    now_s: float,
    settings: Settings,
) -> Mapping[NodeMap, Stay]:
    """Return for how long strangers stay away from now on: longer, where they left too soon."""
    spread = {homes[move.key] for move in moves if move.kind == "spread"}
    returned = {homes[move.key] for move in moves if move.kind == "return"}
    if not spread and not returned:
        return stays
    usual_s = settings.return_after_s
    changed = dict(stays)
    for home in spread:
        stay = changed.get(home, Stay(usual_s))
        at_home_s = now_s - stay.returned_s
        if at_home_s < settings.soon_stays * stay.seconds:
            longest_s = max(settings.longest_stay_s, usual_s)
            changed[home] = stay._replace(seconds=min(2 * stay.seconds, longest_s))
        elif at_home_s >= settings.longest_stay_s:
            changed[home] = stay._replace(seconds=usual_s)
    for home in returned:
        changed[home] = changed.get(home, Stay(usual_s))._replace(returned_s=now_s)
    return changed
