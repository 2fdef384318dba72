"""What a fleet has to keep room for: guests that need several nodes, and memory for every vcpu.

Wide guests are the first to be refused: one-node guests break the room for them node by node, while
there is plenty left in all. So it counts how many of them still fit on a host, and what a placement
takes of that. Which sizes to expect is learned from the guests that came; nothing of this looks
ahead.

Of a node without memory its free vcpus are of no use. What is usable of a node are the vcpus that
have as much memory with them as guests want for one in the mean, over all that came.
"""

from homenode.fleet.demand import Alternative, Part
from homenode.fleet.hosts import Fleet, NodeState, Place
from homenode.fleet.measures import most_alike
from homenode.placement.weights import positions


class _Wide:
    """One size of wide guests: how many fit on nodes in some states."""

    def __init__(self, wanted: Alternative) -> None:
        self.part = wanted.parts[0]
        self.nodes = len(wanted.parts)
        self._fits: dict[NodeState, int] = {}
        self._alike: dict[tuple[int, ...], int] = {}

    def room(self, states: list[NodeState]) -> int:
        fits = self._fits
        own = tuple([fits[one] if one in fits else self._fit(one) for one in states])
        if len(own) == 2 == self.nodes:
            return min(own)
        known = self._alike.get(own)
        if known is None:
            known = self._alike[own] = most_alike(own, self.nodes)
        return known

    def _fit(self, state: NodeState) -> int:
        found = self._fits[state] = _fits(self.part, state.vcpus, state.kib)
        return found

    def held_by(self, wanted: Alternative) -> int:
        """Return how many of these a guest with the same number of nodes takes the room of."""
        if len(wanted.parts) != self.nodes:
            return 0
        return min(_fits(self.part, part.vcpus, part.kib) for part in wanted.parts)


def _fits(part: Part, vcpus: int, kib: int) -> int:
    return max(0, min(vcpus // part.vcpus, kib // part.kib))


class Outlook:
    """What `fleet` is to keep room for; `epoch` grows when that changes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._commonest: _Wide | None = None
        self._wides: dict[Alternative, _Wide] = {}
        self._mean = Part(1, 0)
        self._usable: dict[NodeState, int] = {}
        self._look_at_mean = 0
        self._wide_taken = 0
        self._room = [0] * fleet.count
        self._vcpus = [0] * fleet.count
        self._rooms = self._vcpus_usable = 0
        self._seen = -1
        self._is_scarce = False
        self.epoch = 0

    def renew(self) -> None:
        """Learn from what came since the last time."""
        fleet = self._fleet
        if fleet.vcpus_taken >= self._look_at_mean:
            # Every eighth more; what was known of all hosts is lost when it changes.
            self._look_at_mean = fleet.vcpus_taken * 9 // 8 + 1
            self._learn_mean()
        if fleet.wide_taken != self._wide_taken:
            self._wide_taken = fleet.wide_taken
            self._learn_commonest()

    def _learn_mean(self) -> None:
        known, now = self._mean, Part(self._fleet.vcpus_taken, self._fleet.kib_taken)
        # By more than an eighth: cross-multiplied.
        change = abs(now.kib * known.vcpus - known.kib * now.vcpus) * 8
        if now.vcpus and change > known.kib * now.vcpus:
            self._mean = now
            self._usable.clear()
            self._renewed()

    def _learn_commonest(self) -> None:
        counts = self._fleet.wide_counts
        for wanted in counts:
            if wanted not in self._wides:
                self._wides[wanted] = _Wide(wanted)
                self.epoch += 1
        # The first one to have come so often: a tie does not change what room is kept for.
        most = self._wides[max(counts, key=counts.__getitem__)]
        if most is not self._commonest:
            self._commonest = most
            self._renewed()

    def _renewed(self) -> None:
        self.epoch += 1
        self._seen = -1

    # -- of one placement --

    def wasted(self, place: Place) -> int:
        """Return the vcpus that become useless: their memory goes to this guest. At least 0."""
        lost = 0
        for before, after in self._fleet.steps(place):
            lost += self._usable_of(before) - self._usable_of(after)
        return max(0, lost - place.wanted.vcpus)

    def wide_lost(self, place: Place) -> int:
        """Return how many of the commonest wide guests fit on the host no more, beyond this one.

        At least 0.
        """
        return 0 if self._commonest is None else self._lost(self._commonest, place)

    def wide_lost_all(self, place: Place) -> int:
        """Return the same, summed over all sizes of wide guests that came."""
        return sum([self._lost(wide, place) for wide in self._wides.values()])

    def _lost(self, wide: _Wide, place: Place) -> int:
        fleet = self._fleet
        first = fleet.first[place.host]
        states = fleet.states[first : fleet.first[place.host + 1]]
        before = wide.room(states)
        if not before:
            return 0
        for at, (_, after) in zip(place.ats, fleet.steps(place), strict=True):
            states[at] = after
        return max(0, before - wide.room(states) - wide.held_by(place.wanted))

    def _usable_of(self, state: NodeState) -> int:
        known = self._usable.get(state)
        if known is None:
            mean = self._mean
            known = state.vcpus
            if mean.kib:
                known = min(known, state.kib * mean.vcpus // mean.kib)
            self._usable[state] = known
        return known

    # -- of the fleet --

    def is_scarce(self) -> bool:
        """Return whether room for wide guests is short: half of what the demand would ask for.

        That is, whether the share of the usable vcpus that wide guests of the commonest size could
        have is below half of the share of the vcpus that wide guests had of all that came.
        """
        fleet, wide = self._fleet, self._commonest
        if wide is None:
            return False
        self._count_room(wide)
        vcpus = wide.part.vcpus * wide.nodes * self._rooms
        scarce = fleet.wide_taken * self._vcpus_usable > 2 * vcpus * fleet.vcpus_taken
        if scarce != self._is_scarce:
            self._is_scarce = scarce
            self.epoch += 1
        return scarce

    def _count_room(self, wide: _Wide) -> None:
        fleet = self._fleet
        changed = fleet.everywhere if self._seen < 0 else fleet.changed_since(self._seen)
        self._seen = fleet.changes
        for host in positions(changed):
            states = fleet.states[fleet.first[host] : fleet.first[host + 1]]
            room = wide.room(states)
            vcpus = sum([self._usable_of(state) for state in states])
            self._rooms += room - self._room[host]
            self._vcpus_usable += vcpus - self._vcpus[host]
            self._room[host], self._vcpus[host] = room, vcpus


def outlook_of(fleet: Fleet) -> Outlook:
    """Return the outlook of `fleet`, made once."""
    known = fleet.followers.get(Outlook)
    if not isinstance(known, Outlook):
        known = fleet.followers[Outlook] = Outlook(fleet)
    return known
