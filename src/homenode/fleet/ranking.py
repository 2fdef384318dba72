"""Hosts by a number of each, and which of many have the least: kept true change by change.

What a policy compares hosts by changes for the one or two hosts that a guest comes to or leaves;
those are looked at again when they come into question, and not before.

Numbers are kept bit by bit: for each bit the set of hosts whose number has it. The least of a set
of hosts is then found from the highest bit down, by leaving out those that have it while there are
others: a step for each bit, however many hosts there are.
"""

from collections.abc import Callable
from typing import Any, Protocol

from homenode.fleet.hosts import Fleet
from homenode.placement.weights import positions


class Comparable(Protocol):
    """What hosts are compared by; smaller is better. Only values of one fact are compared."""

    def __lt__(self, other: Any, /) -> bool: ...  # noqa: ANN401 - int has it so


class Ranking:
    """The hosts of `fleet` by ``value(host)``, a whole number that hangs on that host's state.

    If something else changes values, `look_anew` has to be called.
    """

    __slots__ = ("_fleet", "_having", "_low", "_places", "_seen", "_stale", "_value", "_values")

    def __init__(self, fleet: Fleet, value: Callable[[int], int]) -> None:
        self._fleet = fleet
        self._value = value
        self._values = [0] * fleet.count
        # By place of a bit: the hosts whose value, less `_low`, has it; and the places, highest
        # first, that any value ever had.
        self._having: dict[int, int] = {}
        self._places: list[int] = []
        self._low = 0
        self._stale = fleet.everywhere
        self._seen = fleet.changes

    def look_anew(self) -> None:
        """Look at every host again before it is compared."""
        self._stale = self._fleet.everywhere

    def least(self, among: int) -> int:
        """Return those of `among` (not empty) whose value is the least of them."""
        fleet = self._fleet
        if self._seen != fleet.changes:
            self._stale |= fleet.changed_since(self._seen)
            self._seen = fleet.changes
        stale = self._stale & among
        if stale:
            self._stale ^= stale
            self._look_again(stale)
        having = self._having
        for place in self._places:
            these = among & having[place]
            if these and these != among:
                among ^= these
        return among

    def _look_again(self, stale: int) -> None:
        values, having = self._values, self._having
        while stale:
            own = stale & -stale
            stale ^= own
            host = own.bit_length() - 1
            new = self._value(host) - self._low
            if new < 0:
                self._lower(new)
                values, having = self._values, self._having
                new = self._value(host) - self._low
            changed = new ^ values[host]
            values[host] = new
            while changed:
                place = changed & -changed
                changed ^= place
                if place in having:
                    having[place] ^= own
                else:
                    having[place] = own
                    self._places = sorted(having, reverse=True)

    def _lower(self, below: int) -> None:
        # Bits are of numbers from 0: all are moved up, with some room for what is lower still.
        shift = max(self._values) + 1 - below
        self._low -= shift
        self._values = [value + shift for value in self._values]
        self._having = {}
        for value, own in zip(self._values, self._fleet.bit, strict=True):
            for at in positions(value):
                self._having[1 << at] = self._having.get(1 << at, 0) | own
        self._places = sorted(self._having, reverse=True)


class Comparison:
    """The same for values of any kind that can be compared: they are, one by one."""

    __slots__ = ("_fleet", "_seen", "_stale", "_value", "_values")

    def __init__(self, fleet: Fleet, value: Callable[[int], Comparable]) -> None:
        self._fleet = fleet
        self._value = value
        self._values: dict[int, Comparable] = {}
        self._stale = fleet.everywhere
        self._seen = fleet.changes

    def look_anew(self) -> None:
        """Look at every host again before it is compared."""
        self._stale = self._fleet.everywhere

    def least(self, among: int) -> int:
        """Return those of `among` (not empty) whose value is the least of them."""
        fleet, values = self._fleet, self._values
        self._stale |= fleet.changed_since(self._seen)
        self._seen = fleet.changes
        stale = self._stale & among
        self._stale ^= stale
        for host in positions(stale):
            values[host] = self._value(host)
        least: Comparable | None = None
        found = 0
        for host in positions(among):
            value = values[host]
            if least is None or value < least:
                least, found = value, fleet.bit[host]
            elif not least < value:
                found |= fleet.bit[host]
        return found
