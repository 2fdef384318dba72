"""What a fleet has to keep room for: guests that are hard to place, and memory for every vcpu.

Guests on several nodes, or on most of one, are the first to be refused: others break the room for
them piece by piece while there is plenty left in all. So it counts how many guests of each kind
still fit, and what a placement takes of that. A kind is scarce if less than half of the usable
vcpus could go to guests of it, measured by the share of the vcpus that went to guests as hard to
place so far. Nothing of this looks ahead.

Of a node without memory its free vcpus are of no use. What is usable of a node are the vcpus that
have as much memory with them as guests want for one in the mean, over all that came.
"""

from collections.abc import Iterable, Sequence

from homenode.fleet.demand import Alternative, Part
from homenode.fleet.hosts import MOST_STATES, Fleet, NodeState, Place
from homenode.fleet.measures import most_alike

SCARCE = 2
"""How many times as much room a kind of guests has to have as half of its share of what came."""

_CHANGES = 8
"""After one change for so many hosts it is counted again what is scarce."""

_MOST_KINDS = 64
"""Of more kinds of guests those are taken together that are as large to the next power of two."""

_LANE = 48
"""Bits for each sum over the fleet; see `_Rooms`."""


class _Kind:
    """One kind of guests: how many of them fit on nodes in some states."""

    def __init__(self, key: "_Key") -> None:
        self.nodes, self.part = key
        self.vcpus = self.part.vcpus * self.nodes
        self._fits: dict[NodeState, int] = {}
        self._alike: dict[tuple[int, ...], int] = {}

    def fit(self, state: NodeState) -> int:
        """Return how many parts of such guests a node holds."""
        known = self._fits.get(state)
        if known is None:
            vcpus, kib = self.part
            known = 0
            if vcpus <= state.kind.cpus:
                known = max(0, min(state.vcpus // vcpus, state.kib // kib))
            if len(self._fits) >= MOST_STATES:
                self._fits.clear()
            self._fits[state] = known
        return known

    def room(self, states: Sequence[NodeState]) -> int:
        """Return how many such guests a host with nodes in these states holds."""
        own = tuple([self.fit(state) for state in states])
        if self.nodes == 1:
            return sum(own)
        if len(own) == 2 == self.nodes:
            return min(own)
        known = self._alike.get(own)
        if known is None:
            if len(self._alike) >= MOST_STATES:
                self._alike.clear()
            known = self._alike[own] = most_alike(own, self.nodes)
        return known

    def is_as_hard_as(self, other: "_Kind") -> bool:
        """Return whether room for one of these is room for one of `other` as well."""
        return (
            self.nodes >= other.nodes
            and self.part.vcpus >= other.part.vcpus
            and self.part.kib >= other.part.kib
        )

    def held_by(self, wanted: Alternative) -> int:
        """Return how many of these a guest on as many nodes takes the room of in any case."""
        if len(wanted.parts) != self.nodes:
            return 0
        least = wanted.parts[-1]
        return min(least.vcpus // self.part.vcpus, least.kib // self.part.kib)


class _Rooms:
    """How many guests of each kind fit in the whole fleet, and the usable vcpus there.

    What is summed over nodes is summed at once for all kinds: the numbers of a node are parts of
    one integer, `_LANE` bits each, the usable vcpus first.
    """

    def __init__(self, fleet: Fleet, kinds: Sequence[_Kind]) -> None:
        self._fleet = fleet
        self._single = [kind for kind in kinds if kind.nodes == 1]
        self._several = [kind for kind in kinds if kind.nodes > 1]
        self._lanes: dict[NodeState, int] = {}
        self._of_host = [0] * fleet.count
        self._sum = 0
        self._seen = 0
        self._look(range(fleet.count))

    def renew(self) -> None:
        """Look at the hosts that changed."""
        self._look(self._fleet.hosts_since(self._seen))

    def _look(self, hosts: Iterable[int]) -> None:
        fleet = self._fleet
        self._seen = fleet.changes
        lanes, many = self._lanes, len(self._single) + 1
        for host in hosts:
            states = fleet.states[fleet.first[host] : fleet.first[host + 1]]
            own = sum([lanes[one] if one in lanes else self._lanes_of(one) for one in states])
            for at, kind in enumerate(self._several, many):
                own += kind.room(states) << at * _LANE
            self._sum += own - self._of_host[host]
            self._of_host[host] = own

    def _lanes_of(self, state: NodeState) -> int:
        own = self._fleet.parts.usable(state.vcpus, state.kib)
        for at, kind in enumerate(self._single, 1):
            own += kind.fit(state) << at * _LANE
        if len(self._lanes) >= MOST_STATES:
            self._lanes.clear()
        self._lanes[state] = own
        return own

    def usable(self) -> int:
        """Return the usable vcpus of the fleet."""
        return self._sum & (1 << _LANE) - 1

    def of_kinds(self) -> list[tuple[_Kind, int]]:
        """Return how many guests of each kind fit."""
        mask = (1 << _LANE) - 1
        kinds = [*self._single, *self._several]
        return [(kind, self._sum >> at * _LANE & mask) for at, kind in enumerate(kinds, 1)]


_Key = tuple[int, Part]
"""What kinds of guests are told apart by: on how many nodes they are, and their largest part."""


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


class Outlook:
    """What `fleet` is to keep room for; `epoch` grows when that changes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._look_at_mean = 1
        self._kinds: dict[_Key, _Kind] = {}
        self._counted = 0
        self._is_rounded = False
        self._as_hard: dict[_Kind, list[_Key]] = {}
        self._wide: list[_Kind] = []
        self._scarce: list[_Kind] = []
        self._rooms: _Rooms | None = None
        self._look_at_rooms = 0
        self.epoch = 0

    def renew(self) -> None:
        """Learn from what came since the last time."""
        fleet = self._fleet
        if fleet.came >= self._look_at_mean:
            # Every eighth more; what was known of all hosts is lost when it changes.
            self._look_at_mean = fleet.came * 9 // 8 + 1
            self._learn_mean()
        if len(fleet.counts) != self._counted:
            self._learn_kinds()
        if fleet.changes >= self._look_at_rooms:
            self._look_at_rooms = fleet.changes + max(1, fleet.count // _CHANGES)
            self._learn_scarce()

    def _learn_mean(self) -> None:
        counts = self._fleet.counts.items()
        vcpus = sum([wanted.vcpus * count for wanted, count in counts])
        kib = sum([wanted.kib * count for wanted, count in counts])
        # If it changed by more than an eighth.
        known = self._fleet.parts.typical
        if abs(kib * known.vcpus - known.kib * vcpus) * 8 > known.kib * vcpus:
            self._fleet.set_typical(Part(vcpus, kib))
            self._rooms = None
            self.epoch += 1

    def _learn_kinds(self) -> None:
        counts = self._fleet.counts
        self._counted = len(counts)
        keys = {self._key(wanted) for wanted in counts}
        if len(keys) > _MOST_KINDS and not self._is_rounded:
            self._is_rounded = True
            self._kinds = {}
            keys = {self._key(wanted) for wanted in counts}
        new = [key for key in keys if key not in self._kinds]
        if not new:
            return
        self._kinds |= {key: _Kind(key) for key in sorted(new)}
        kinds = self._kinds.values()
        self._wide = [kind for kind in kinds if kind.nodes > 1]
        self._as_hard = {
            kind: [key for key, one in self._kinds.items() if one.is_as_hard_as(kind)]
            for kind in kinds
        }
        self._rooms = None
        self._scarce = []
        self._look_at_rooms = 0
        self.epoch += 1

    def _key(self, wanted: Alternative) -> "_Key":
        part = wanted.parts[0]
        if self._is_rounded:
            part = Part(_power_of_two(part.vcpus), _power_of_two(part.kib))
        return len(wanted.parts), part

    def _learn_scarce(self) -> None:
        fleet = self._fleet
        if self._rooms is None:
            self._rooms = _Rooms(fleet, list(self._kinds.values()))
        self._rooms.renew()
        usable = self._rooms.usable()
        vcpus: dict[_Key, int] = {}
        for wanted, count in fleet.counts.items():
            key = self._key(wanted)
            vcpus[key] = vcpus.get(key, 0) + count * wanted.vcpus
        came = sum(vcpus.values())
        scarce = [
            kind
            for kind, room in self._rooms.of_kinds()
            if sum([vcpus.get(key, 0) for key in self._as_hard[kind]]) * usable
            > SCARCE * room * kind.vcpus * came
        ]
        if scarce != self._scarce:
            self._scarce = scarce
            self.epoch += 1

    @property
    def has_wide(self) -> bool:
        """Whether any guest on several nodes came."""
        return bool(self._wide)

    @property
    def has_scarce(self) -> bool:
        """Whether room is short for any kind of guest."""
        return bool(self._scarce)

    def breaks_wide(self, place: Place) -> bool:
        """Return whether fewer guests on several nodes fit on the host then, beyond this one.

        Of any kind that came.
        """
        return any(self._is_lost(kind, place) for kind in self._wide)

    def breaks_scarce(self, place: Place) -> bool:
        """Return the same of the kinds that are scarce, on however many nodes."""
        return any(self._is_lost(kind, place) for kind in self._scarce)

    def _is_lost(self, kind: _Kind, place: Place) -> bool:
        fleet = self._fleet
        first = fleet.first[place.host]
        states = fleet.states[first : fleet.first[place.host + 1]]
        before = kind.room(states)
        if not before:
            return False
        for at, bit in zip(place.ats, place.wanted.bits, strict=True):
            states[at] = states[at].less.get(bit) or fleet.step(states[at], bit)
        held = kind.held_by(place.wanted)
        if not held and self._kinds.get(self._key(place.wanted)) is kind:
            # Rounded up it is larger than itself.
            held = 1
        return before - kind.room(states) > held


def outlook_of(fleet: Fleet) -> Outlook:
    """Return the outlook of `fleet`, made once."""
    known = fleet.followers.get(Outlook)
    if not isinstance(known, Outlook):
        known = fleet.followers[Outlook] = Outlook(fleet)
    return known
