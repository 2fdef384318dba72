"""The hosts of a fleet: what is free on each node, and at once which hosts can hold what.

Hosts are numbered in the order of the fleet, and a set of them is an int: bit h is host h. Nodes
with cpus are numbered through all hosts; the first one of host h is ``first[h]``, and the position
of a node is its place among those of its host. Nodes without cpus give nothing here.

The index is kept true with every change: for each kind of part that was ever asked for, the hosts
on which at least one node can hold it, at least two, and so on. So "which hosts can hold this
guest" is one look, whatever the number of hosts. A node goes from one `NodeState` to another, of
which there are few, and each of them knows what fits there.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple

from homenode.errors import HomenodeError
from homenode.fleet.demand import Alternative, Demand, Part, demand_of
from homenode.fleet.groups import Group, Membership
from homenode.fleet.parts import Parts
from homenode.guest import GuestRequest
from homenode.host import Host
from homenode.placement.view import View

LONGEST_LOG = 1 << 16
"""Changes that are kept for those who rank hosts; who has not looked for so long looks anew."""

_MANY = 16
"""Of so many changes or more, some are of the same host."""

MOST_STATES = 1 << 15
"""States of one kind of node that are kept."""


class OverCommit(NamedTuple):
    """How much of each resource is given away for one that is there; vcpus None: any number."""

    vcpus: Fraction | None = Fraction(1)
    memory: Fraction = Fraction(1)


class FleetHost(NamedTuple):
    """A host of a fleet: its name, what it is, and its rack (None: one of its own).

    A host that runs has a `view` of it, on which its own engine decides; then `guests` are there
    already, and `used` is what they have of each node with cpus.
    """

    name: str
    host: Host
    rack: str | None = None
    view: View | None = None
    guests: int = 0
    used: tuple[Part, ...] = ()


class Place(NamedTuple):
    """Where a guest is: a host, and by position on it the node of each of its parts."""

    host: int
    ats: tuple[int, ...]
    wanted: Alternative


class NodeState:
    """What is free on a node, and which of all parts fit there, as their bits.

    Nodes in one state share it. `less` and `more` lead, by the bit of a part, to the state with
    that part taken and given back.
    """

    __slots__ = ("fits", "kib", "kind", "less", "more", "vcpus")

    def __init__(self, kind: "_NodeKind", vcpus: int, kib: int, fits: int) -> None:
        self.kind = kind
        self.vcpus = vcpus
        self.kib = kib
        self.fits = fits
        self.less: dict[int, NodeState] = {}
        self.more: dict[int, NodeState] = {}

    @property
    def is_touched(self) -> bool:
        """Whether anybody is there."""
        return (self.vcpus, self.kib) != (self.kind.vcpus, self.kind.kib)


class _NodeKind(NamedTuple):
    """Nodes with the same cpus and capacity, and the states that they were in."""

    cpus: int
    vcpus: int
    kib: int
    states: dict[tuple[int, int], NodeState]


class Fleet:
    """Hosts with what is free on them. `take` and `give` change it; nobody else may.

    `states` has the state of every node, `fits` the parts that fit there; `guests` how many are on
    a host, `used` the hosts that have any, `vcpus` and `kib` what is free there. `changes` counts
    all changes, for `changed_since`; `followers` are kept for those who follow them. `came` is how
    many guests came, `counts` how many of each kind.
    """

    def __init__(self, hosts: Sequence[FleetHost], over_commit: OverCommit | None = None) -> None:
        self.hosts = tuple(hosts)
        self.over_commit = over_commit or OverCommit()
        self.count = len(self.hosts)
        self.everywhere = (1 << self.count) - 1
        self.bit = [1 << number for number in range(self.count)]
        self.kinds, self.kind_of = _kinds(self.hosts, self.over_commit)
        self.most_nodes = max((len(kind.ids) for kind in self.kinds), default=0)
        # The index. Every kind of part has a bit, and another one where it fits without waste. By
        # level (on one node at least, on two...): the parts that each host can hold, the hosts that
        # can hold each part, and the parts that anybody asks for on so many nodes.
        self.parts = Parts()
        self._held: list[list[int]] = []
        self._holders: list[dict[int, int]] = []
        self._asked: list[int] = []
        self._numbers: dict[int, int] = {}
        self.first: list[int] = []
        self.states: list[NodeState] = []
        self._node_kinds: dict[tuple[int, int, int], _NodeKind] = {}
        self._kind_of_node: list[_NodeKind] = []
        for kind in self.kind_of:
            self.first.append(len(self.states))
            for node in zip(self.kinds[kind].cpus, *self.kinds[kind].capacity, strict=True):
                own = self._node_kinds.setdefault(node, _NodeKind(*node, {}))
                self._kind_of_node.append(own)
                self.states.append(self._state(own, own.vcpus, own.kib))
        self.first.append(len(self.states))
        self.fits = [0] * len(self.states)
        self.guests = [host.guests for host in self.hosts]
        self.used = sum(bit for bit, guests in zip(self.bit, self.guests, strict=True) if guests)
        self.vcpus = [sum(self.kinds[kind].capacity.vcpus) for kind in self.kind_of]
        self.kib = [sum(self.kinds[kind].capacity.kib) for kind in self.kind_of]
        for number, one in enumerate(self.hosts):
            self._use(number, one.used)
        self.racks, self.rack_of = _racks(self.hosts)
        self.followers: dict[object, object] = {}
        self._groups: dict[str, Group] = {}
        self._demands: dict[GuestRequest, Demand] = {}
        self.counts: dict[Alternative, int] = {}
        self.came = 0
        self.changes = 0
        self._changed: list[int] = []

    def _use(self, host: int, used: Sequence[Part]) -> None:
        for node, (vcpus, kib) in enumerate(used, self.first[host]):
            own, state = self._kind_of_node[node], self.states[node]
            self.states[node] = self._state(own, state.vcpus - vcpus, state.kib - kib)
            self.vcpus[host] -= vcpus
            self.kib[host] -= kib

    # -- what is asked for --

    def demand(self, request: GuestRequest) -> Demand:
        """Return what `request` wants; the same object for equal requests."""
        known = self._demands.get(request)
        if known is None:
            known = self._demands[request] = demand_of(request, self.most_nodes)
        return known

    def holders(self, wanted: Alternative) -> int:
        """Return the hosts that can hold the parts of `wanted`.

        If it is not nested, some of them may turn out not to.
        """
        (bit, count), *others = wanted.counts or self._learn(wanted)
        found = self._holders[count - 1][bit]
        for bit, count in others:
            found &= self._holders[count - 1][bit]
        return found

    def holders_of(self, part: Part, count: int) -> int:
        """Return the hosts on which at least `count` nodes can hold `part`: looks at every node."""
        found = 0
        for host in range(self.count):
            fitting = sum(
                part.kib <= self.states[node].kib
                and part.vcpus <= self._seats(self._kind_of_node[node], self.states[node].vcpus)
                for node in range(self.first[host], self.first[host + 1])
            )
            if fitting >= count:
                found |= self.bit[host]
        return found

    def thrifty(self, wanted: Alternative) -> Alternative:
        """Return `wanted` where it fits without waste alone.

        Which nodes these are hangs on `set_typical`.
        """
        if wanted.thrifty is None:
            wanted.thrifty = Alternative(wanted.parts, wanted.request, plain=wanted)
        return wanted.thrifty

    def set_typical(self, typical: Part) -> None:
        """Say how much memory goes with vcpus: what is fit without waste hangs on it."""
        self.parts.set_typical(typical)
        for kind in self._node_kinds.values():
            for state in kind.states.values():
                state.fits = self._fitting(kind, state.vcpus, state.kib)
        self.fits = [state.fits for state in self.states]
        for host in range(self.count):
            self._settle(host, -1)

    def _learn(self, wanted: Alternative) -> tuple[tuple[int, int], ...]:
        # Something is asked for that was not before: what fits where is found out, once.
        thrifty = wanted.plain is not wanted
        found = [self.parts.bit_of(part, thrifty=thrifty) for part in wanted.parts]
        new = [bit for bit, is_new in found if is_new]
        if new:
            for kind in self._node_kinds.values():
                for state in kind.states.values():
                    self._add(new, kind, state)
            self.fits = [state.fits for state in self.states]
        wanted.name_parts([bit for bit, _ in found])
        for bit, count in wanted.counts:
            self._count(bit, count)
        return wanted.counts

    def _add(self, new: Sequence[int], kind: _NodeKind, state: NodeState) -> None:
        seats = self._seats(kind, state.vcpus)
        fits = state.fits
        for bit in new:
            if self.parts.does_fit(bit, seats, state.vcpus, state.kib):
                fits |= bit
        if fits != state.fits:
            state.fits = self._numbers.setdefault(fits, fits)

    def _count(self, bit: int, count: int) -> None:
        """Find out which hosts can hold that kind of part on so many nodes."""
        while len(self._asked) < count:
            self._asked.append(0)
            self._held.append([0] * self.count)
            self._holders.append({})
        level = count - 1
        if self._asked[level] & bit:
            return
        self._asked[level] |= bit
        holders = 0
        for host, held in enumerate(self._held[level]):
            own = self.fits[self.first[host] : self.first[host + 1]]
            if sum([fits & bit != 0 for fits in own]) >= count:
                self._held[level][host] = held | bit
                holders |= self.bit[host]
        self._holders[level][bit] = holders

    def _fitting(self, kind: _NodeKind, vcpus: int, kib: int) -> int:
        fits = self.parts.fitting(self._seats(kind, vcpus), vcpus, kib)
        # One object for each number: they are looked at all the time, and stay near at hand.
        return self._numbers.setdefault(fits, fits)

    def _seats(self, kind: _NodeKind, vcpus: int) -> int:
        # However much is given away, no two vcpus of a guest share a cpu.
        return kind.cpus if self.over_commit.vcpus is None else min(vcpus, kind.cpus)

    def _state(self, kind: _NodeKind, vcpus: int, kib: int) -> NodeState:
        known = kind.states.get((vcpus, kib))
        if known is None:
            if len(kind.states) >= MOST_STATES:
                self._forget(kind)
                self._numbers.clear()
            known = NodeState(kind, vcpus, kib, self._fitting(kind, vcpus, kib))
            kind.states[vcpus, kib] = known
        return known

    def _forget(self, kind: _NodeKind) -> None:
        used = {id(state) for state in self.states}
        for key, state in list(kind.states.items()):
            state.less.clear()
            state.more.clear()
            if id(state) not in used:
                del kind.states[key]

    def count_in(self, request: GuestRequest) -> None:
        """Count a guest that is there already, as `take` counts those that come."""
        demand = self.demand(request)
        wanted = next((one for one in demand.alternatives if self.holders(one)), None)
        wanted = wanted or demand.alternatives[0]
        self.counts[wanted] = self.counts.get(wanted, 0) + 1
        self.came += 1

    # -- groups --

    def group(self, membership: Membership) -> Group:
        """Return the group of that name, new if there is none.

        Raises `HomenodeError` if it has another rule.
        """
        known = self._groups.get(membership.group)
        if known is None:
            known = self._groups[membership.group] = Group(
                membership.rule, self.rack_of, self.racks
            )
        elif known.rule != membership.rule:
            raise HomenodeError(
                f"group {membership.group!r} is {known.rule} and {membership.rule}",
                hint="a group has one rule",
            )
        return known

    # -- changes --

    def take(self, place: Place) -> None:
        """Take what a guest needs at `place`."""
        host, ats, wanted = place
        states, fits, first, flipped = self.states, self.fits, self.first[host], 0
        for at, bit in zip(ats, wanted.bits):  # noqa: B905 - made as many; it costs a tenth
            node = first + at
            before = states[node]
            after = before.less.get(bit) or self.step(before, bit)
            states[node] = after
            fits[node] = after.fits
            flipped |= before.fits ^ after.fits
        self.vcpus[host] -= wanted.vcpus
        self.kib[host] -= wanted.kib
        self.guests[host] += 1
        if self.guests[host] == 1:
            self.used |= self.bit[host]
        self.counts[wanted] = self.counts.get(wanted, 0) + 1
        self.came += 1
        self.changes += 1
        self._changed.append(host)
        if flipped:
            self._settle(host, flipped)

    def give(self, place: Place) -> None:
        """Give it back."""
        host, ats, wanted = place
        states, fits, first, flipped = self.states, self.fits, self.first[host], 0
        for at, bit in zip(ats, wanted.bits):  # noqa: B905 - made as many; it costs a tenth
            node = first + at
            before = states[node]
            after = before.more.get(bit) or self.step(before, bit, 1)
            states[node] = after
            fits[node] = after.fits
            flipped |= before.fits ^ after.fits
        self.vcpus[host] += wanted.vcpus
        self.kib[host] += wanted.kib
        self.guests[host] -= 1
        if not self.guests[host]:
            self.used ^= self.bit[host]
        self.changes += 1
        self._changed.append(host)
        if flipped:
            self._settle(host, flipped)

    def _settle(self, host: int, flipped: int) -> None:
        """Bring the index up to date with the nodes of `host`, on some of which `flipped` fit anew.

        Or fit no more.
        """
        own = self.fits[self.first[host] : self.first[host + 1]]
        if len(self._asked) == 1:
            held = 0
            for fits in own:
                held |= fits
            changed = (held ^ self._held[0][host]) & self._asked[0]
            if changed:
                self._note(0, host, changed)
            return
        levels = [0] * len(self._asked)
        for fits in own:
            left = fits & flipped
            for level, held in enumerate(levels):
                levels[level] = held | left
                left &= held
                if not left:
                    break
        for level, held in enumerate(levels):
            changed = (held ^ self._held[level][host]) & flipped & self._asked[level]
            if changed:
                self._note(level, host, changed)

    def _note(self, level: int, host: int, changed: int) -> None:
        self._held[level][host] ^= changed
        holders, own = self._holders[level], self.bit[host]
        while changed:
            bit = changed & -changed
            changed ^= bit
            holders[bit] ^= own

    def changed_since(self, changes: int) -> int:
        """Return the hosts that changed since there were so many `changes`."""
        found = 0
        bit = self.bit
        for host in self.hosts_since(changes):
            found |= bit[host]
        return found

    def hosts_since(self, changes: int) -> Iterable[int]:
        """Return the same as their numbers, perhaps some more than once."""
        count = self.changes - changes
        if not count:
            return ()
        log = self._changed
        if len(log) > LONGEST_LOG:
            del log[: -LONGEST_LOG // 2]
        if count > len(log):
            return range(self.count)
        return log[-count:] if count < _MANY else set(log[-count:])

    def step(self, state: NodeState, bit: int, sign: int = -1) -> NodeState:
        """Return the state with that part taken, or with `sign` 1 given back."""
        part = self.parts.of[bit.bit_length() - 1]
        vcpus, kib = state.vcpus + sign * part.vcpus, state.kib + sign * part.kib
        after = self._state(state.kind, vcpus, kib)
        (state.less if sign < 0 else state.more)[bit] = after
        return after


class Capacity(NamedTuple):
    """What each node with cpus can give when it is empty, over-commitment included."""

    vcpus: tuple[int, ...]
    kib: tuple[int, ...]


class HostKind(NamedTuple):
    """What like hosts have in common: the model, and of each node with cpus number and size."""

    host: Host
    ids: tuple[int, ...]
    cpus: tuple[int, ...]
    capacity: Capacity


def _kinds(hosts: Iterable[FleetHost], over_commit: OverCommit) -> tuple[list[HostKind], list[int]]:
    kinds: list[HostKind] = []
    numbers: dict[int, int] = {}
    kind_of = []
    for one in hosts:
        number = numbers.get(id(one.host))
        if number is None:
            number = numbers[id(one.host)] = len(kinds)
            kinds.append(_kind(one, over_commit))
        kind_of.append(number)
    return kinds, kind_of


def _kind(one: FleetHost, over_commit: OverCommit) -> HostKind:
    host = one.host
    ids = tuple(host.nodes_of(host.cpu_map))
    usable = [host.nodes_by_id[node].usable_kib for node in ids]
    if one.view is None and (not ids or None in usable):
        what = "has no nodes with cpus" if not ids else "does not tell what memory is free"
        raise HomenodeError(f"host {one.name!r} {what}", hint="a fleet's hosts have both")
    cpus = tuple(len(host.cpus_by_node[node]) for node in ids)
    vcpus = tuple(floor(own * (over_commit.vcpus or 1)) for own in cpus)
    kib = tuple(floor((own or 0) * over_commit.memory) for own in usable)
    return HostKind(host, ids, cpus, Capacity(vcpus, kib))


def _racks(hosts: Sequence[FleetHost]) -> tuple[dict[int, int], list[int]]:
    numbers: dict[tuple[str, ...], int] = {}
    rack_of = [
        numbers.setdefault(("host", one.name) if one.rack is None else (one.rack,), len(numbers))
        for one in hosts
    ]
    racks: dict[int, int] = {}
    for host, rack in enumerate(rack_of):
        racks[rack] = racks.get(rack, 0) | 1 << host
    return racks, rack_of
