"""Numbers attached to nodes, and quick bounds on sums of them.

Sets of nodes are ints here: bit i stands for the node at position i of a `Problem`. Everything
that the search asks thousands of times a second is in this file or in `facts`.
"""

from collections.abc import Iterator, Sequence


def positions(nodes: int) -> Iterator[int]:
    """Yield the positions in a set of nodes, ascending."""
    while nodes:
        lowest = nodes & -nodes
        yield lowest.bit_length() - 1
        nodes ^= lowest


class Weights:
    """One integer for each node, with the least and greatest sums over some of them."""

    __slots__ = ("ascending", "descending", "of", "uniform")

    def __init__(self, of: Sequence[int]) -> None:
        self.of = of
        order = sorted(range(len(of)), key=of.__getitem__)
        self.ascending = [(1 << at, of[at]) for at in order]
        self.descending = self.ascending[::-1]
        self.uniform = of[0] if of and self.ascending[0][1] == self.ascending[-1][1] else None

    def total(self, nodes: int) -> int:
        """Return the sum over `nodes`."""
        of = self.of
        if self.uniform is not None:
            return self.uniform * nodes.bit_count()
        return sum([of[at] for at in positions(nodes)])

    def least(self, nodes: int, count: int) -> int:
        """Return the least sum over `count` of `nodes` (which has at least as many)."""
        return self._extreme(self.ascending, nodes, count)

    def most(self, nodes: int, count: int) -> int:
        """Return the greatest sum over `count` of `nodes`."""
        return self._extreme(self.descending, nodes, count)

    def _extreme(self, order: list[tuple[int, int]], nodes: int, count: int) -> int:
        if self.uniform is not None:
            return self.uniform * count
        total = 0
        if count:
            for bit, weight in order:
                if nodes & bit:
                    total += weight
                    count -= 1
                    if not count:
                        break
        return total

    def squeeze(self, nodes: int, count: int, needed: int) -> tuple[int, int]:
        """Return which of `nodes` can, and which must, be among `count` that reach `needed`.

        The first is -1 if no `count` of them (there are as many) reach it.
        """
        if self.uniform is not None:
            return (nodes if self.uniform * count >= needed else -1), 0
        there = [pair for pair in self.descending if nodes & pair[0]]
        slack = sum([weight for _, weight in there[:count]]) - needed
        if slack < 0 or len(there) <= count:
            return (nodes, nodes) if slack >= 0 else (-1, 0)
        last, following = there[count - 1][1], there[count][1]
        can = must = 0
        for bit, weight in there:
            if weight > following + slack:
                must |= bit
            if weight < last - slack:
                break
            can |= bit
        return can, must

    def least_maximum(self, nodes: int, count: int) -> int:
        """Return the smallest possible maximum over `count` of `nodes`: the count-th smallest."""
        for bit, weight in self.ascending:
            if nodes & bit:
                count -= 1
                if count <= 0:
                    return weight
        return 0


class Pairs:
    """One integer for each pair of nodes, symmetric, and quick bounds on sums over pairs.

    `twins` groups nodes that can be exchanged without changing any pair: same numbers to every
    third node. Bounds are computed once for a group, which is what keeps large regular hosts fast.
    """

    __slots__ = ("least_pair", "least_reach", "most_pair", "of", "rings", "twins")

    def __init__(self, of: Sequence[Sequence[int]], twins: Sequence[int] | None = None) -> None:
        self.of = of
        size = len(of)
        between = [value for at, row in enumerate(of) for value in row[:at]]
        self.least_pair = min(between, default=0)
        self.most_pair = max(between, default=0)
        self.rings = [self._rings(at) for at in range(size)]
        self.least_reach = self._least_reach()
        self.twins = list(twins) if twins is not None else [1 << at for at in range(size)]

    def _rings(self, at: int) -> list[tuple[int, int]]:
        by_value: dict[int, int] = {}
        for other, value in enumerate(self.of[at]):
            if other != at:
                by_value[value] = by_value.get(value, 0) | 1 << other
        return sorted(by_value.items())

    def _least_reach(self) -> list[int]:
        # least_reach[n]: some node has n nodes, itself among them, within this number.
        reach = [min([row[at] for at, row in enumerate(self.of)], default=0)] * 2
        for rings in self.rings:
            count = 1
            for value, ring in rings:
                for _ in range(ring.bit_count()):
                    count += 1
                    if count == len(reach):
                        reach.append(value)
                    elif value < reach[count]:
                        reach[count] = value
        return reach

    def costs(self, added: Sequence[int], rest: int, missing: int) -> "Costs":
        """Return what each node of `rest` adds at least, if `missing` (2 or more) of it join.

        `added[i]` is the sum of the pairs between node i and the nodes chosen so far. A node pays
        for its pairs with the chosen ones, and half of those with the `missing` - 1 others that
        it is taken with, at best the nearest of `rest`.
        """
        if len(self.twins) == len(self.of) and rest.bit_count() <= _FEW * missing:
            return self._shared_costs(added, rest, missing)
        costs = []
        for twins in self.twins:
            alike = twins & rest
            if not alike:
                continue
            at = (alike & -alike).bit_length() - 1
            cost, wanted = 2 * added[at], missing - 1
            for value, ring in self.rings[at]:
                if not wanted:
                    break
                found = min(wanted, (ring & rest).bit_count())
                cost += value * found
                wanted -= found
            costs.append((cost, alike))
        return Costs(2, costs, missing)

    def _shared_costs(self, added: Sequence[int], rest: int, missing: int) -> "Costs":
        # A tighter bound where no nodes are alike: what a node pays for the chosen ones is charged
        # half to itself and half, in equal parts, to those that it is taken with, so that dear
        # neighbours are told from cheap ones. In units of 1 / (2 * others), to stay whole.
        ats = list(positions(rest))
        others = missing - 1
        costs = []
        for at in ats:
            row = self.of[at]
            pairs = sorted([others * row[other] + added[other] for other in ats if other != at])
            costs.append((others * added[at] + sum(pairs[:others]), 1 << at))
        return Costs(2 * others, costs, missing)


class Costs:
    """Least costs of nodes: (cost in units of 1/`scale`, the nodes that cost it), ascending.

    `least` is what the cheapest `missing` of them cost together, and `dearest` what the last of
    those does, in the same units.
    """

    __slots__ = ("dearest", "each", "least", "scale")

    def __init__(self, scale: int, each: list[tuple[int, int]], missing: int) -> None:
        self.scale = scale
        self.each = sorted(each)
        self.least = self.dearest = 0
        for cost, alike in self.each:
            taken = min(missing, alike.bit_count())
            self.least += cost * taken
            missing -= taken
            self.dearest = cost
            if not missing:
                break


_FEW = 4
"""The tighter bound takes the square of the nodes left: where these are at most four for each
that is missing, it saves more than it costs (measured on 16 to 64 nodes with random distances)."""


def twins_of(matrices: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """Group the nodes whose rows agree in all `matrices` (symmetric): interchangeable ones.

    Two nodes agree if every third node is equally far from both. A row is compared with its own
    entry replaced by its smallest other one, so only twins that are each other's nearest are
    found; the others stay apart, which costs time and never the answer.
    """
    groups: dict[tuple[tuple[int, ...], ...], int] = {}
    for at in range(len(matrices[0])):
        key = []
        for matrix in matrices:
            row = list(matrix[at])
            own, row[at] = row[at], min(row[:at] + row[at + 1 :], default=0)
            key.append((own, *row))
        groups[tuple(key)] = groups.get(tuple(key), 0) | 1 << at
    return list(groups.values())
