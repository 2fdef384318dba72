"""Virtual nodes onto nodes: which sets of nodes can hold them, and which goes where.

Each virtual node (a cell) has its vcpus and its memory on one node, and no two share one. Whether
and where that works is a bipartite matching, cells on one side and nodes on the other: found by
augmenting paths in polynomial time, however many nodes there are, where going through all ordered
choices takes n!/(n-k)! steps. `match` is that; a set of nodes is an int as everywhere in the
search.

The sets of nodes that can hold all cells are the bases of a transversal matroid (Edmonds and
Fulkerson, "Transversals and matroid partition", 1965): a part of a set can be completed exactly if
its nodes can be matched to different cells and there are enough matches among what may still
join. So the search for the best set (`Cells.extendable`) never goes into a blind alley,
and a policy that only adds numbers of nodes up (the first that fit, the fullest, the emptiest)
needs no search at all (`Cells.basis`).

Distances between cells then say which cell goes to which node of the set: cells that are near each
other to nodes that are near each other. In general that is a quadratic assignment, which nobody
can do in polynomial time. It is done exactly, by branch and bound: at once where cells and nodes
form trees, as they do on most machines, and within `MOST_WORK` for whatever distances of up to
seven cells. Where that did not suffice it is said.
"""

from collections.abc import Sequence

from homenode.placement.weights import positions, twins_of

MOST_WORK = 100_000
"""Sums for a cell and a node after which the best arrangement so far is taken: some 50 ms of a
Zen 3 core, which is what a decision may take."""


def match(fits: Sequence[int]) -> list[int] | None:
    """Return a position for each cell, all different, or None if there is no such choice.

    Bit n of ``fits[cell]`` says that the cell fits on the node at position n. Takes at most
    cells x cells x nodes steps.
    """
    return _matched(fits)[0]


def surplus(fits: Sequence[int]) -> tuple[list[int], int]:
    """Return cells that fit on fewer nodes than they are, and those nodes; ([], 0) if none.

    By Hall's theorem there are such cells exactly if there is no matching.
    """
    found, cells, nodes = _matched(fits)
    return ([], 0) if found is not None else (sorted(cells), nodes)


def greedy(fits: Sequence[int]) -> list[int]:
    """Return the indexes of those that can be matched together with those before them."""
    chosen = [0] * len(fits)
    owner: dict[int, int] = {}
    taken, kept = 0, []
    for one, mine in enumerate(fits):
        bit = mine & ~taken & -(mine & ~taken)
        if bit:
            chosen[one] = bit
            owner[bit] = one
        else:
            bit = _augmented(one, fits, chosen, owner, taken)[2]
        if bit:
            taken |= bit
            kept.append(one)
    return kept


def _matched(fits: Sequence[int]) -> tuple[list[int] | None, list[int], int]:
    # The matching, or the cells and nodes that an unmatched cell reaches.
    chosen = [0] * len(fits)
    owner: dict[int, int] = {}
    taken = 0
    for cell, mine in enumerate(fits):
        free = mine & ~taken
        if free:
            bit = free & -free
            chosen[cell] = bit
            owner[bit] = cell
            taken |= bit
            continue
        reached, nodes, bit = _augmented(cell, fits, chosen, owner, taken)
        if not bit:
            return None, reached, nodes
        taken |= bit
    return [bit.bit_length() - 1 for bit in chosen], [], 0


def _augmented(
    cell: int, fits: Sequence[int], chosen: list[int], owner: dict[int, int], taken: int
) -> tuple[list[int], int, int]:
    """Find a place for `cell` by having others change theirs; the third is the node gained."""
    came_from: dict[int, int] = {}
    queue, seen = [cell], 0
    for at in queue:
        new = fits[at] & ~seen
        free = new & ~taken
        if free:
            bit = gained = free & -free
            while True:
                before, chosen[at] = chosen[at], bit
                owner[bit] = at
                if at == cell:
                    return [], 0, gained
                bit = before
                at = came_from[bit]  # noqa: PLW2901 - back along the path
        seen |= new
        while new:
            bit = new & -new
            new ^= bit
            came_from[bit] = at
            queue.append(owner[bit])
    return queue, seen, 0


def first_match(fits: Sequence[int]) -> list[int] | None:
    """Return the matching whose positions are lexicographically first, in the order of cells."""
    if match(fits) is None:
        return None
    left, found = list(fits), []
    for cell in range(len(fits)):
        for at in positions(left[cell]):
            rest = [mine & ~(1 << at) for mine in left[cell + 1 :]]
            if match(rest) is not None:
                found.append(at)
                left[cell + 1 :] = rest
                break
    return found


class Arrangement:
    """The position of each cell, and whether no other order of them is better."""

    __slots__ = ("ats", "optimal")

    def __init__(self, ats: list[int], *, optimal: bool = True) -> None:
        self.ats = ats
        self.optimal = optimal


class Cells:
    """The virtual nodes of one guest on one host: where each fits, and how far they are apart.

    `fits[cell]` are the positions where it fits. `distances` are between cells (empty: not
    stated, so that none is nearer than another), and `pairs` between positions.
    """

    __slots__ = ("_arranged", "_by_node", "count", "distances", "fits", "kinds", "pairs")

    def __init__(
        self,
        fits: Sequence[int],
        distances: Sequence[Sequence[int]] = (),
        pairs: Sequence[Sequence[int]] = (),
    ) -> None:
        self.count = len(fits)
        self.fits = tuple(fits)
        self.distances = distances
        self.pairs = pairs
        self._arranged: dict[int, Arrangement | None] = {}
        self.kinds = sorted(set(fits))
        everywhere = 0
        for mine in fits:
            everywhere |= mine
        self._by_node = {
            1 << at: sum(1 << cell for cell, mine in enumerate(fits) if mine >> at & 1)
            for at in positions(everywhere)
        }

    @property
    def can_be_matched(self) -> bool:
        """Whether there is any set of nodes that can hold the cells."""
        return match(self.fits) is not None

    def holds(self, chosen: int) -> bool:
        """Return whether these nodes, one for each cell, can hold them."""
        return (
            chosen.bit_count() == self.count
            and match([mine & chosen for mine in self.fits]) is not None
        )

    def extendable(self, chosen: int, rest: int) -> bool:
        """Return whether `chosen` with some of `rest` can hold the cells, a node for each."""
        if match([mine & (chosen | rest) for mine in self.fits]) is None:
            return False
        by_node = self._by_node
        return match([by_node.get(1 << at, 0) for at in positions(chosen)]) is not None

    def basis(self, order: Sequence[int]) -> int:
        """Return a set that holds the cells: of the positions in `order`, those that come first.

        As in every matroid, taking what can still be taken finds the set of least weight, whatever
        weights they are ordered by.
        """
        taken = greedy([self._by_node.get(1 << at, 0) for at in order])
        return sum([1 << order[one] for one in taken])

    def among(self, chosen: int) -> "Cells":
        """Return the same cells on the chosen positions alone."""
        return Cells([mine & chosen for mine in self.fits], self.distances, self.pairs)

    def arranged(self, chosen: int) -> Arrangement | None:
        """Return which cell goes where among `chosen`; None if they cannot hold them.

        Without distances between cells, the first cell gets the first position that leaves the
        others theirs, and so on. The answer is kept.
        """
        if chosen not in self._arranged:
            self._arranged[chosen] = self._arrange(chosen)
        return self._arranged[chosen]

    def _arrange(self, chosen: int) -> Arrangement | None:
        fits = [mine & chosen for mine in self.fits]
        first = first_match(fits)
        if first is None:
            return None
        apart = {far for a, row in enumerate(self.distances) for b, far in enumerate(row) if a != b}
        if len(apart) < 2:
            return Arrangement(first)
        return _Arranging(fits, self.distances, self.pairs).best(first)


class _Arranging:
    """Branch and bound over the orders of the cells of one set.

    What is minimised is the sum over pairs of cells of their nearness (the largest distance
    between cells less theirs) times the distance of their nodes: by the rearrangement inequality
    that is least where the nearest cells have the nearest nodes.

    A part of an arrangement is bounded by what it costs, by the least that each open cell pays for
    its pairs with those that have a node, and by the least product of the nearness of the open
    pairs with the distances of the free ones, the greatest with the smallest. Where both tables are
    trees (sockets, and groups of cells that fit them) the first arrangement reaches that bound and
    is proved at once.
    """

    def __init__(
        self,
        fits: Sequence[int],
        distances: Sequence[Sequence[int]],
        pairs: Sequence[Sequence[int]],
    ) -> None:
        self.count = count = len(fits)
        most = max(max(row) for row in distances)
        # The nearer way counts where the two directions differ: both cells want it.
        near = [
            [most - min(distances[a][b], distances[b][a]) for b in range(count)]
            for a in range(count)
        ]
        self.order = _nearest_first(near)
        self.fits = [fits[cell] for cell in self.order]
        self.near = [[near[a][b] for b in self.order] for a in self.order]
        apart = [[most - near for near in row] for row in self.near]
        self.earlier = _earlier_twins(self.fits, apart)
        self.pairs = pairs
        # The nearness of the pairs among the cells from each one on, greatest first.
        self.open_pairs = [
            sorted(
                [self.near[a][b] for b in range(first, count) for a in range(first, b)],
                reverse=True,
            )
            for first in range(count + 1)
        ]
        self.work = 0
        self.least: int | None = None
        self.found: list[int] = []

    def best(self, first: list[int]) -> Arrangement:
        ats = [first[cell] for cell in self.order]
        self.found = ats
        self.least = sum(self._added(ats[:cell], ats[cell]) for cell in range(self.count))
        everything = sum(1 << at for at in first)
        nothing = [dict.fromkeys(first, 0) for _ in range(self.count)]
        optimal = self._walk([], everything, 0, nothing)
        found = [0] * self.count
        for cell, at in zip(self.order, self.found, strict=True):
            found[cell] = at
        return Arrangement(found, optimal=optimal)

    def _added(self, before: Sequence[int], at: int) -> int:
        near, row = self.near[len(before)], self.pairs[at]
        return sum([near[cell] * row[other] for cell, other in enumerate(before)])

    def _walk(self, ats: list[int], free: int, cost: int, owed: list[dict[int, int]]) -> bool:
        """Try all arrangements that begin with `ats`; whether none of them was passed over unseen.

        `owed[cell][at]` is what an open cell pays at a node for its pairs with those in `ats`.
        """
        cell = len(ats)
        if cell == self.count:
            if self.least is None or cost < self.least:
                self.least, self.found = cost, ats
            return True
        open_to_it, twin = self.fits[cell] & free, self.earlier[cell]
        if twin is not None:
            open_to_it &= -2 << ats[twin]
        options = sorted([(owed[cell][at], at) for at in positions(open_to_it)])
        proved = True
        for more, at in options:
            left = free & ~(1 << at)
            ahead = self._ahead(cell, at, left, owed)
            if self.least is not None and cost + more + self._bound(cell + 1, left, ahead) >= (
                self.least
            ):
                continue
            if self.work > MOST_WORK:
                return False
            proved = self._walk([*ats, at], left, cost + more, ahead) and proved
        return proved

    def _ahead(
        self, cell: int, at: int, left: int, owed: list[dict[int, int]]
    ) -> list[dict[int, int]]:
        # What open cells owe once `cell` is at `at`.
        self.work += (self.count - cell) ** 2
        near, row, free = self.near[cell], self.pairs[at], list(positions(left))
        return [
            {place: owed[other][place] + near[other] * row[place] for place in free}
            if other > cell
            else owed[other]
            for other in range(self.count)
        ]

    def _bound(self, first: int, left: int, owed: list[dict[int, int]]) -> int:
        fits, total = self.fits, 0
        for cell in range(first, self.count):
            costs = [cost for at, cost in owed[cell].items() if fits[cell] >> at & 1]
            total += min(costs, default=0)
        free = list(positions(left))
        apart = sorted([self.pairs[a][b] for place, a in enumerate(free) for b in free[:place]])
        pairs = zip(self.open_pairs[first], apart, strict=True)
        return total + sum([near * far for near, far in pairs])


def _earlier_twins(fits: Sequence[int], apart: Sequence[Sequence[int]]) -> list[int | None]:
    """Return for each cell the last one before it that can change places with it, None if none.

    Of cells that can, the earlier one has the earlier node: any other order is as good as that.
    """
    earlier: list[int | None] = [None] * len(fits)
    for twins in twins_of([apart]):
        last: dict[int, int] = {}
        for cell in positions(twins):
            earlier[cell] = last.get(fits[cell])
            last[fits[cell]] = cell
    return earlier


def _nearest_first(near: Sequence[Sequence[int]]) -> list[int]:
    """Order the cells so that each is as near as can be to those before it."""
    count = len(near)
    order = [max(range(count), key=lambda cell: (sum(near[cell]), -cell))]
    while len(order) < count:
        rest = (cell for cell in range(count) if cell not in order)
        order.append(max(rest, key=lambda cell: (sum([near[cell][one] for one in order]), -cell)))
    return order
