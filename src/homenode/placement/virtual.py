"""Virtual nodes onto nodes: which sets of nodes can hold them, and which goes where.

Each virtual node (a cell) has its vcpus and its memory on one node, and no two share one. Whether
and where that works is a bipartite matching, cells on one side and nodes on the other: found by
augmenting paths in polynomial time, however many nodes there are, where going through all ordered
choices takes n!/(n-k)! steps. `match` is that; a set of nodes is an int as everywhere in the
search.

The sets of nodes that can hold all cells are the bases of a transversal matroid (Edmonds and
Fulkerson, "Transversals and matroid partition", 1965): a part of a set can be completed exactly if
its nodes can be matched to different cells and there are enough matches among what may still
join. So the search for the best set (`Cells.extendable`) never goes into a blind alley.

Distances between cells then say which cell goes to which node of the set: cells that are near each
other to nodes that are near each other. In general that is a quadratic assignment, which nobody
can do in polynomial time; it is done exactly by branch and bound within `MOST_STEPS`, enough for
any order of seven cells, and said if that did not suffice.
"""

from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from homenode.placement.weights import positions, twins_of

MOST_STEPS = 20_000
"""Partial arrangements of eight cells that are looked at before the best so far is taken; of more
cells fewer, since each takes longer: always about a quarter of a second."""

_STEP = 8**2
"""What a step takes with eight cells, in steps with one."""


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


class Arrangement(NamedTuple):
    """The position of each cell, and whether no other order of them is better."""

    ats: list[int]
    optimal: bool = True


class Cells:
    """The virtual nodes of one guest on one host: where each fits, and how far they are apart.

    `fits[cell]` are the positions where it fits. `distances` are between cells (empty: not
    stated, so that none is nearer than another).
    """

    __slots__ = ("_by_node", "_last", "count", "distances", "fits", "kinds")

    def __init__(self, fits: Sequence[int], distances: Sequence[Sequence[int]] = ()) -> None:
        self.count = len(fits)
        self.fits = tuple(fits)
        self.distances = distances
        self.kinds = sorted(set(fits))
        self._last: tuple[int, Arrangement | None] | None = None
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

    def arranged(self, chosen: int, pairs: Sequence[Sequence[int]]) -> Arrangement | None:
        """Return which cell goes where among `chosen`; None if they cannot hold them.

        `pairs` are the distances between positions, in every call the same. Without distances
        between cells, the first cell gets the first position that leaves the others theirs, and so
        on. The last answer is kept: shares, masks and facts of a set all hang on it.
        """
        if self._last is None or self._last[0] != chosen:
            self._last = chosen, self._arranged(chosen, pairs)
        return self._last[1]

    def _arranged(self, chosen: int, pairs: Sequence[Sequence[int]]) -> Arrangement | None:
        fits = [mine & chosen for mine in self.fits]
        first = first_match(fits)
        if first is None:
            return None
        apart = {far for a, row in enumerate(self.distances) for b, far in enumerate(row) if a != b}
        if len(apart) < 2:
            return Arrangement(first)
        return _Arranging(fits, self.distances, pairs).best(first)


class _Arranging:
    """Branch and bound over the orders of the cells of one set.

    What is minimised is the sum over pairs of cells of their nearness (the largest distance
    between cells less theirs) times the distance of their nodes: by the rearrangement inequality
    that is least where the nearest cells have the nearest nodes.

    Inside, nodes are places: the n-th of the set. A row of `paid` has what a cell pays at each
    place for its pairs with the cells that have a place already.
    """

    def __init__(
        self,
        fits: Sequence[int],
        distances: Sequence[Sequence[int]],
        pairs: Sequence[Sequence[int]],
    ) -> None:
        cells = range(len(fits))
        chosen = 0
        for mine in fits:
            chosen |= mine
        self.ats = list(positions(chosen))
        self.fits = [
            sum(1 << place for place, at in enumerate(self.ats) if mine >> at & 1) for mine in fits
        ]
        self.lengths = [[pairs[one][other] for other in self.ats] for one in self.ats]
        most = max(max(row) for row in distances)
        # The nearer way counts where the two directions differ: both cells want it.
        apart = [[min(distances[a][b], distances[b][a]) for b in cells] for a in cells]
        self.near = [[most - far for far in row] for row in apart]
        self.earlier = _earlier_twins(fits, apart)
        self.among_open = self._least_among_open()
        self.left = MOST_STEPS * _STEP // max(1, len(fits) ** 2)
        self.least: int | None = None
        self.found: list[int] = []

    def best(self, first: list[int]) -> Arrangement:
        nothing = [[0] * len(self.ats) for _ in self.fits]
        places = [self.ats.index(at) for at in first]
        paid, self.least = nothing, 0
        for cell, place in enumerate(places):
            self.least += paid[cell][place]
            paid = self._paid(paid, cell, place)
        self.found = places
        optimal = self._walk([], 0, 0, nothing)
        return Arrangement([self.ats[place] for place in self.found], optimal)

    def _paid(self, paid: list[list[int]], cell: int, place: int) -> list[list[int]]:
        """Return `paid` once `cell` has that place."""
        then, lengths = paid[: cell + 1], self.lengths[place]
        for row, near in zip(paid[cell + 1 :], self.near[cell][cell + 1 :], strict=True):
            if near:
                row = [cost + near * far for cost, far in zip(row, lengths, strict=True)]  # noqa: PLW2901 - a new one
            then.append(row)
        return then

    def _walk(self, places: list[int], taken: int, cost: int, paid: list[list[int]]) -> bool:
        # Whether all orders that begin with `places` are known to be no better than the best.
        cell = len(places)
        if cell == len(self.fits):
            if self.least is None or cost < self.least:
                self.least, self.found = cost, places
            return True
        free = self.fits[cell] & ~taken
        twin = self.earlier[cell]
        if twin is not None:
            free &= -2 << places[twin]
        proved = True
        for total, place in sorted((cost + paid[cell][at], at) for at in positions(free)):
            self.left -= 1
            if self.left < 0:
                return False
            then, now_taken = self._paid(paid, cell, place), taken | 1 << place
            least = total + self._at_least(then, cell + 1, now_taken)
            if self.least is not None and least >= self.least:
                continue
            proved = self._walk([*places, place], now_taken, total, then) and proved
        return proved

    def _at_least(self, paid: list[list[int]], cell: int, taken: int) -> int:
        # What each open cell pays at least for its pairs with those that have a place, and all of
        # them among themselves.
        total = self.among_open[cell]
        for row, mine in zip(paid[cell:], self.fits[cell:], strict=True):
            total += min([row[place] for place in positions(mine & ~taken)], default=0)
        return total

    def _least_among_open(self) -> list[int]:
        # By the rearrangement inequality: the nearest pairs of cells at the shortest distances.
        count = len(self.fits)
        lengths = sorted(self.lengths[a][b] for a in range(len(self.ats)) for b in range(a))
        least = []
        for cell in range(count + 1):
            near = [self.near[a][b] for a in range(cell, count) for b in range(a + 1, count)]
            near.sort(reverse=True)
            least.append(sum(map(mul, near, lengths)))
        return least


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
