"""All kinds of parts that guests were cut into, and which of them fit on a node.

Kinds are bits of an int. What a node can hold is three comparisons for each kind, all with numbers
of the node; so kinds are sorted by what they are compared by, and a set of them is the first so
many of an order: a look in a list for each comparison, however many kinds there are.
"""

from bisect import bisect_right
from collections.abc import Callable

from homenode.fleet.demand import Part


class _Order:
    """Kinds by a number of each: which of them have no more than a limit."""

    __slots__ = ("_kinds", "_numbers", "_of", "_sets")

    def __init__(self, of: Callable[[Part], int]) -> None:
        self._of = of
        self._kinds: list[tuple[Part, int]] = []
        self._numbers: list[int] = []
        self._sets: list[int] | None = None

    def add(self, part: Part, bit: int) -> None:
        self._kinds.append((part, bit))
        self._sets = None

    def look_anew(self) -> None:
        self._sets = None

    def up_to(self, limit: int) -> int:
        sets = self._sets or self._sorted()
        return sets[bisect_right(self._numbers, limit)]

    def _sorted(self) -> list[int]:
        numbered = sorted((self._of(part), bit) for part, bit in self._kinds)
        self._numbers = [number for number, _ in numbered]
        sets = [0]
        for _, bit in numbered:
            sets.append(sets[-1] | bit)
        self._sets = sets
        return sets


class Parts:
    """The kinds of parts; of each there may be one more that fits without waste alone.

    A node is wasted on where vcpus are left without as much memory as is `typical`.
    """

    __slots__ = ("_bits", "_by_kib", "_by_surplus", "_by_vcpus", "_plain", "of", "typical")

    def __init__(self) -> None:
        self.of: list[Part] = []
        self.typical = Part(1, 0)
        self._bits: dict[tuple[Part, bool], int] = {}
        self._plain = 0
        self._by_vcpus = _Order(lambda part: part.vcpus)
        self._by_kib = _Order(lambda part: part.kib)
        self._by_surplus = _Order(self._surplus)

    def bit_of(self, part: Part, *, thrifty: bool) -> tuple[int, bool]:
        """Return the bit of a kind, and whether it is a new one."""
        known = self._bits.get((part, thrifty))
        if known is not None:
            return known, False
        bit = self._bits[part, thrifty] = 1 << len(self.of)
        self.of.append(part)
        self._by_vcpus.add(part, bit)
        self._by_kib.add(part, bit)
        if thrifty:
            self._by_surplus.add(part, bit)
        else:
            self._plain |= bit
        return bit, True

    def set_typical(self, typical: Part) -> None:
        """Say how much memory goes with vcpus."""
        self.typical = typical
        self._by_surplus.look_anew()

    def fitting(self, seats: int, vcpus: int, kib: int) -> int:
        """Return the kinds that fit on a node with so much free; `seats` for one guest's vcpus."""
        typical = self.typical
        # As many vcpus have memory with them as before, less the guest's: cross-multiplied.
        spare = kib * typical.vcpus - self.usable(vcpus, kib) * typical.kib
        thrifty = self._plain | self._by_surplus.up_to(spare)
        return self._by_vcpus.up_to(seats) & self._by_kib.up_to(kib) & thrifty

    def does_fit(self, bit: int, seats: int, vcpus: int, kib: int) -> bool:
        """Return the same of one kind."""
        part = self.of[bit.bit_length() - 1]
        if part.vcpus > seats or part.kib > kib:
            return False
        return bool(bit & self._plain) or (
            self._surplus(part)
            <= kib * self.typical.vcpus - self.usable(vcpus, kib) * self.typical.kib
        )

    def usable(self, vcpus: int, kib: int) -> int:
        """Return how many of the free `vcpus` of a node have memory with them that is typical."""
        # Where any number may share a cpu, more than all may be given away.
        vcpus, typical = max(0, vcpus), self.typical
        return min(vcpus, kib * typical.vcpus // typical.kib) if typical.kib else vcpus

    def _surplus(self, part: Part) -> int:
        # What a part wants beyond the memory that is typical for its vcpus.
        return (
            part.kib * self.typical.vcpus - part.vcpus * self.typical.kib if self.typical.kib else 0
        )
