"""Hosts by a number of each, and which of many have the least: kept true change by change.

What a policy compares hosts by changes for the one or two hosts that a guest comes to or leaves.
`Ranking` keeps a set of hosts for each value; those that have changed are looked at again when they
come into question, and not before.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Any, Protocol

from homenode.fleet.hosts import Fleet
from homenode.placement.weights import positions


class Comparable(Protocol):
    """What hosts are compared by; smaller is better. Only values of one fact are compared."""

    def __lt__(self, other: Any, /) -> bool: ...  # noqa: ANN401 - int has it so


_FEW = 6
"""So few hosts are compared one by one."""

_BLOCKS = 16
"""Whole numbers are in so many blocks, so that most of them are passed over at once."""


class _Block:
    """The hosts with values of one block, by value; `hosts` are all of them."""

    __slots__ = ("by_value", "hosts", "values")

    def __init__(self) -> None:
        self.hosts = 0
        self.values: list[Comparable] = []
        self.by_value: dict[Comparable, int] = {}

    def add(self, bit: int, value: Comparable) -> None:
        self.hosts |= bit
        if value in self.by_value:
            self.by_value[value] |= bit
        else:
            self.by_value[value] = bit
            insort(self.values, value)

    def drop(self, bit: int, value: Comparable) -> None:
        self.hosts ^= bit
        left = self.by_value[value] ^ bit
        if left:
            self.by_value[value] = left
        else:
            del self.by_value[value]
            del self.values[bisect_left(self.values, value)]


class Ranking:
    """The hosts of `fleet` by ``value(host)``, which hangs on the state of that host.

    If something else changes values, `look_anew` has to be called.
    """

    __slots__ = ("_blocks", "_fleet", "_numbers", "_seen", "_stale", "_value", "_values", "_width")

    def __init__(self, fleet: Fleet, value: Callable[[int], Any]) -> None:
        self._fleet = fleet
        self._value = value
        self._values: list[Comparable | None] = [None] * fleet.count
        self._blocks: dict[int, _Block] = {}
        self._numbers: list[int] = []
        self._width = 0
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
        if among.bit_count() <= _FEW:
            return self._least_of_few(among)
        stale = self._stale & among
        if stale:
            self._stale ^= stale
            self._look_again(stale)
        for number in self._numbers:
            block = self._blocks[number]
            if block.hosts & among:
                for value in block.values:
                    found = block.by_value[value] & among
                    if found:
                        return found
        raise AssertionError("every host has a value")

    def _least_of_few(self, among: int) -> int:
        least: Comparable | None = None
        found = 0
        while among:
            bit = among & -among
            among ^= bit
            value = self._value(bit.bit_length() - 1)
            if least is None or value < least:
                least, found = value, bit
            elif value == least:
                found |= bit
        return found

    def _look_again(self, stale: int) -> None:
        values = self._values
        if not self._width:
            self._width = self._width_of(stale)
        while stale:
            bit = stale & -stale
            stale ^= bit
            host = bit.bit_length() - 1
            new, old = self._value(host), values[host]
            if new == old:
                continue
            values[host] = new
            if old is not None:
                self._blocks[self._number(old)].drop(bit, old)
            number = self._number(new)
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = _Block()
                insort(self._numbers, number)
            block.add(bit, new)

    def _width_of(self, hosts: int) -> int:
        # By the values that there are at first.
        values = [self._value(host) for host in positions(hosts)]
        numbers = [value for value in values if isinstance(value, int)]
        return max(1, (max(numbers) - min(numbers)) // _BLOCKS) if numbers else 1

    def _number(self, value: Comparable) -> int:
        return value // self._width if isinstance(value, int) else 0
