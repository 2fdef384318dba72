"""The facts of a candidate: what a policy can rank sets of nodes by.

A fact is a number that belongs to a set of cpu nodes. It knows its exact value, and bounds on
the value of every set that can still grow out of a part: `Fact.lower` and `Fact.upper`, exact
once nothing is missing. The better the bound, the less is searched; a fact that knows none
returns a trivial one, and the answer is the same.

`FACTS` is the table that the help, the JSON and the documentation are made from.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, Self

from homenode.placement.problem import Problem
from homenode.placement.weights import Costs, Pairs, Weights, positions

Attribute = tuple[Sequence[int], int]
"""A number for each node, and whether a fact can only gain if it is smaller (+1), larger (-1)."""


class Ratio:
    """A fraction that is compared by cross-multiplication: no floating point decides anything."""

    __slots__ = ("above", "below")

    def __init__(self, above: int, below: int) -> None:
        self.above = above
        self.below = below

    def __lt__(self, other: Self) -> bool:
        return self.above * other.below < other.above * self.below

    def __gt__(self, other: Self) -> bool:
        return other < self

    def __le__(self, other: Self) -> bool:
        return not other < self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ratio) and self.above * other.below == other.above * self.below

    def __hash__(self) -> int:
        return hash(self.above / self.below)

    def __neg__(self) -> "Ratio":
        return Ratio(-self.above, self.below)

    def __str__(self) -> str:
        return f"{self.above / self.below:.3f}".rstrip("0").rstrip(".")


class Value(Protocol):
    """What a fact is: an int or a `Ratio`. Only values of the same fact are compared."""

    def __lt__(self, other: Any, /) -> bool: ...  # noqa: ANN401 - int has it so

    def __gt__(self, other: Any, /) -> bool: ...  # noqa: ANN401 - the same

    def __neg__(self) -> Any: ...  # noqa: ANN401 - the same


class Part:
    """Nodes chosen so far, and what has been added up over them.

    `distance` is over their pairs, `added[i]` over the pairs of node i with each of them;
    `level` and `farthest` are the largest of their pairs.
    """

    __slots__ = ("added", "chosen", "count", "distance", "farthest", "level")

    def __init__(  # noqa: PLR0913, PLR0917 - made once in each step of the search
        self, chosen: int, count: int, distance: int, added: list[int], level: int, farthest: int
    ) -> None:
        self.chosen = chosen
        self.count = count
        self.distance = distance
        self.added = added
        self.level = level
        self.farthest = farthest


class Fact(ABC):
    """A number that belongs to a set of nodes. The plain class knows only trivial bounds."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @abstractmethod
    def lower(self, part: Part, rest: int, missing: int) -> int | Ratio:
        """Return at most the value of any set made of `part` and `missing` nodes of `rest`."""

    @abstractmethod
    def upper(self, part: Part, rest: int, missing: int) -> int | Ratio:
        """Return at least that value."""

    def floor(self, count: int) -> int | None:  # noqa: ARG002 - most facts have none
        """Return at most the value of any set of `count` or more nodes; None: no idea."""
        return None

    def within(self, part: Part, rest: int, missing: int, limit: int) -> int:  # noqa: ARG002 - the interface
        """Return those of `rest` that may join without taking the value beyond `limit`."""
        return rest

    @abstractmethod
    def singles(self, ats: Sequence[int]) -> list[int] | list[Ratio] | int:
        """Return the exact values of sets of one node, those at `ats`; one int if all are equal.

        A guest on one node is what is asked for most: this is its way around the search.
        """

    def addends(self) -> Sequence[int] | None:
        """Return a number of each node, if the value of a set is their sum and nothing else."""
        return None

    def attributes(self) -> Sequence[Attribute] | None:
        """Return the per-node numbers that the value hangs on, apart from `Problem.twins`.

        If one of two twins is no worse in all of them, it is never the worse choice. None: the
        fact cannot say.
        """
        return ()


class Nodes(Fact):
    """How many nodes."""

    def lower(self, part: Part, rest: int, missing: int) -> int:  # noqa: ARG002 - the interface
        return part.count + missing

    upper = lower

    def floor(self, count: int) -> int:
        return count

    def singles(self, ats: Sequence[int]) -> int:  # noqa: ARG002 - the interface
        return 1

    def addends(self) -> Sequence[int]:
        return [1] * len(self.problem.ids)


class Sum(Fact):
    """The sum of a number of each node."""

    weights: Weights

    def lower(self, part: Part, rest: int, missing: int) -> int:
        return self.weights.total(part.chosen) + self.weights.least(rest, missing)

    def upper(self, part: Part, rest: int, missing: int) -> int:
        return self.weights.total(part.chosen) + self.weights.most(rest, missing)

    def singles(self, ats: Sequence[int]) -> list[int] | int:
        if self.weights.uniform is not None:
            return self.weights.uniform
        of = self.weights.of
        return [of[at] for at in ats]

    def addends(self) -> Sequence[int]:
        return self.weights.of


class Usable(Sum):
    """Memory that the nodes can give, together."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.weights = problem.memory

    def lower(self, part: Part, rest: int, missing: int) -> int:
        found = super().lower(part, rest, missing)
        return max(found, self.problem.needed_kib) if missing and not self.problem.cells else found

    def attributes(self) -> Sequence[Attribute]:
        return ((self.weights.of, 1),)


class Vcpus(Fact):
    """Vcpus of other guests that are at home on the nodes, each counted once."""

    def _across(self, nodes: int) -> int:
        return sum([count for home, count in self.problem.across if home & nodes])

    def lower(self, part: Part, rest: int, missing: int) -> int:
        alone = self.problem.alone
        return alone.total(part.chosen) + alone.least(rest, missing) + self._across(part.chosen)

    def upper(self, part: Part, rest: int, missing: int) -> int:
        alone = self.problem.alone
        reach = part.chosen | rest if missing else part.chosen
        return alone.total(part.chosen) + alone.most(rest, missing) + self._across(reach)

    def singles(self, ats: Sequence[int]) -> list[int]:
        at_home = self.problem.at_home
        return [at_home[at] for at in ats]

    def attributes(self) -> Sequence[Attribute]:
        homes = [
            ([home >> at & 1 for at in range(len(self.problem.ids))], sign)
            for home, _ in self.problem.across
            for sign in (1, -1)
        ]
        return ((self.problem.alone.of, 1), *homes)


class VcpusPerCore(Fact):
    """Vcpus at home on the nodes, this guest's own included, for each core there."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.others = Vcpus(problem)

    def lower(self, part: Part, rest: int, missing: int) -> Ratio:
        vcpus = self.others.lower(part, rest, missing) + self.problem.request.vcpus
        cores = self.problem.cores
        return Ratio(vcpus, max(1, cores.total(part.chosen) + cores.most(rest, missing)))

    def upper(self, part: Part, rest: int, missing: int) -> Ratio:
        vcpus = self.others.upper(part, rest, missing) + self.problem.request.vcpus
        cores = self.problem.cores
        return Ratio(vcpus, max(1, cores.total(part.chosen) + cores.least(rest, missing)))

    def singles(self, ats: Sequence[int]) -> list[Ratio]:
        own, cores, at_home = (
            self.problem.request.vcpus,
            self.problem.cores.of,
            self.problem.at_home,
        )
        return [Ratio(at_home[at] + own, cores[at] or 1) for at in ats]

    def attributes(self) -> Sequence[Attribute]:
        return (*self.others.attributes(), (self.problem.cores.of, -1))


class CoresShort(Fact):
    """Vcpus of this guest beyond the cores of the nodes: those that share a core."""

    def lower(self, part: Part, rest: int, missing: int) -> int:
        cores = self.problem.cores
        found = cores.total(part.chosen) + cores.most(rest, missing)
        return max(0, self.problem.request.vcpus - found)

    def upper(self, part: Part, rest: int, missing: int) -> int:
        cores = self.problem.cores
        found = cores.total(part.chosen) + cores.least(rest, missing)
        return max(0, self.problem.request.vcpus - found)

    def singles(self, ats: Sequence[int]) -> list[int]:
        cores, own = self.problem.cores.of, self.problem.request.vcpus
        return [own - cores[at] if cores[at] < own else 0 for at in ats]

    def attributes(self) -> Sequence[Attribute]:
        return ((self.problem.cores.of, -1),)


class Hole(Fact):
    """Memory of the largest node that no guest is on yet and that this one would break into."""

    def lower(self, part: Part, rest: int, missing: int) -> int:
        holes = self.problem.holes
        largest = max([holes.of[at] for at in positions(part.chosen)], default=0)
        return max(largest, holes.least_maximum(rest, missing)) if missing else largest

    def upper(self, part: Part, rest: int, missing: int) -> int:
        reach = part.chosen | rest if missing else part.chosen
        return max([self.problem.holes.of[at] for at in positions(reach)], default=0)

    def singles(self, ats: Sequence[int]) -> list[int]:
        holes = self.problem.holes.of
        return [holes[at] for at in ats]

    def attributes(self) -> Sequence[Attribute]:
        return ((self.problem.holes.of, 1),)


class FarthestPair(Fact):
    """The largest number of any pair of the nodes, or of one with itself."""

    pairs: Pairs

    @abstractmethod
    def _of(self, part: Part) -> int: ...

    def lower(self, part: Part, rest: int, missing: int) -> int:  # noqa: ARG002 - the interface
        if not missing:
            return self._of(part)
        return max(self._of(part), self.pairs.least_reach[part.count + missing])

    def upper(self, part: Part, rest: int, missing: int) -> int:  # noqa: ARG002 - the interface
        if not missing:
            return self._of(part)
        return max(self.pairs.most_pair, *(row[at] for at, row in enumerate(self.pairs.of)))

    def floor(self, count: int) -> int:
        return self.pairs.least_reach[count]

    def singles(self, ats: Sequence[int]) -> list[int]:
        of = self.pairs.of
        return [of[at][at] for at in ats]

    def within(self, part: Part, rest: int, missing: int, limit: int) -> int:  # noqa: ARG002 - the interface
        for at in positions(part.chosen):
            for value, ring in self.pairs.rings[at]:
                if value > limit:
                    rest &= ~ring
        return rest


class Level(FarthestPair):
    """How far apart the nodes are at most: in one llc, die or socket, or only in one machine."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.pairs = problem.levels

    def _of(self, part: Part) -> int:
        return part.level


class DistanceMax(FarthestPair):
    """The largest distance between two of the nodes; a node's own distance if it is one."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.pairs = problem.distances

    def _of(self, part: Part) -> int:
        return part.farthest


class Distance(Fact):
    """The sum of the distances between the nodes, each pair once; the longer way if they differ."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._asked: tuple[Part | None, int, int] = (None, 0, 0)
        self._costs = Costs(1, [], 0)

    def costs(self, part: Part, rest: int, missing: int) -> Costs:
        """Return what each node of `rest` adds at least; the last answer is kept."""
        asked = (part, rest, missing)
        if asked != self._asked:
            self._asked = asked
            self._costs = self.problem.distances.costs(part.added, rest, missing)
        return self._costs

    def lower(self, part: Part, rest: int, missing: int) -> int:
        if not missing:
            return part.distance
        if missing == 1:
            return part.distance + min([part.added[at] for at in positions(rest)])
        costs = self.costs(part, rest, missing)
        return part.distance - (-costs.least // costs.scale)

    def upper(self, part: Part, rest: int, missing: int) -> int:  # noqa: ARG002 - the interface
        if not missing:
            return part.distance
        most = self.problem.distances.most_pair
        return part.distance + most * (missing * (missing - 1) // 2 + missing * part.count)

    def floor(self, count: int) -> int:
        return self.problem.distances.least_pair * (count * (count - 1) // 2)

    def singles(self, ats: Sequence[int]) -> int:  # noqa: ARG002 - the interface
        return 0

    def within(self, part: Part, rest: int, missing: int, limit: int) -> int:
        if missing < 2:
            return rest
        costs = self.costs(part, rest, missing)
        # A node that is not among the cheapest takes the place of the dearest of these.
        most = costs.scale * (limit - part.distance) - costs.least + costs.dearest
        for cost, alike in costs.each:
            if cost > most:
                rest &= ~alike
        return rest


class DistanceMean(Fact):
    """The mean distance over all ordered pairs of the nodes, each with itself included."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.pairs = Distance(problem)

    def lower(self, part: Part, rest: int, missing: int) -> Ratio:
        local = self.problem.local
        own = local.total(part.chosen) + local.least(rest, missing)
        return _mean(self.pairs.lower(part, rest, missing), own, part.count + missing)

    def upper(self, part: Part, rest: int, missing: int) -> Ratio:
        local = self.problem.local
        own = local.total(part.chosen) + local.most(rest, missing)
        return _mean(self.pairs.upper(part, rest, missing), own, part.count + missing)

    def singles(self, ats: Sequence[int]) -> list[Ratio]:
        local = self.problem.local.of
        return [Ratio(local[at], 1) for at in ats]


def _mean(pairs: int, own: int, count: int) -> Ratio:
    return Ratio(2 * pairs + own, max(1, count * count))


class DeviceDistance(Fact):
    """The distance from each of the guest's devices to the nearest of the nodes, summed."""

    def lower(self, part: Part, rest: int, missing: int) -> int:
        reach = part.chosen | rest if missing else part.chosen
        return self._from(reach)

    def upper(self, part: Part, rest: int, missing: int) -> int:  # noqa: ARG002 - the interface
        if part.chosen:
            return self._from(part.chosen)
        return sum(max(row, default=0) for row in self.problem.to_devices)

    def singles(self, ats: Sequence[int]) -> list[int] | int:
        rows = self.problem.to_devices
        return [sum([row[at] for row in rows]) for at in ats] if rows else 0

    def _from(self, nodes: int) -> int:
        return sum(
            min([row[at] for at in positions(nodes)], default=0) for row in self.problem.to_devices
        )

    def attributes(self) -> Sequence[Attribute]:
        return [(row, 1) for row in self.problem.to_devices]


class DeviceScarcity(Sum):
    """Devices on the nodes that this guest has no use for, and another one might."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.weights = problem.scarce

    def attributes(self) -> Sequence[Attribute]:
        return ((self.weights.of, 1),)


class Spilled(Fact):
    """Memory that the nodes have too little of, and nodes without cpus give."""

    def _beyond(self, kib: int) -> int:
        return max(0, self.problem.home_kib - kib) if self.problem.far.for_spill else 0

    def lower(self, part: Part, rest: int, missing: int) -> int:
        memory = self.problem.memory
        return self._beyond(memory.total(part.chosen) + memory.most(rest, missing))

    def upper(self, part: Part, rest: int, missing: int) -> int:
        memory = self.problem.memory
        return self._beyond(memory.total(part.chosen) + memory.least(rest, missing))

    def singles(self, ats: Sequence[int]) -> list[int] | int:
        if not self.problem.far.for_spill:
            return 0
        return [self._beyond(self.problem.memory.of[at]) for at in ats]

    def attributes(self) -> Sequence[Attribute]:
        return ((self.problem.memory.of, -1),)


class FarDistance(Fact):
    """The mean distance of the guest's memory on nodes without cpus from its cpu nodes."""

    def _of(self, chosen: int) -> int | Ratio:
        far = self.problem.far
        if not far.nodes:
            return 0
        shares = self.problem.far_shares_kib(chosen)
        apart = sum(kib * far.distance(at, chosen) for at, kib in shares.items())
        return Ratio(apart, sum(shares.values()) or 1)

    def lower(self, part: Part, rest: int, missing: int) -> int | Ratio:  # noqa: ARG002 - the interface
        if missing and self.problem.far.nodes:
            return Ratio(0, 1)
        return self._of(part.chosen)

    def upper(self, part: Part, rest: int, missing: int) -> int | Ratio:  # noqa: ARG002 - the interface
        far = self.problem.far
        if missing and far.nodes:
            return Ratio(max(max(row, default=0) for row in far.reach), 1)
        return self._of(part.chosen)

    def singles(self, ats: Sequence[int]) -> list[Ratio] | int:
        if not self.problem.far.nodes:
            return 0
        found = [self._of(1 << at) for at in ats]
        return [value for value in found if isinstance(value, Ratio)] or 0

    def attributes(self) -> Sequence[Attribute]:
        if not self.problem.far.nodes:
            return ()
        return [(self.problem.memory.of, -1), *((row, 1) for row in self.problem.far.reach)]


class ShareSkew(Fact):
    """The difference between the largest and the smallest memory share."""

    def lower(self, part: Part, rest: int, missing: int) -> int:  # noqa: ARG002 - the interface
        problem = self.problem
        if missing or (
            problem.cells is None and problem.memory.total(part.chosen) < problem.needed_kib
        ):
            return 0
        shares = problem.shares_kib(part.chosen)
        return max(shares) - min(shares)

    def upper(self, part: Part, rest: int, missing: int) -> int:
        if missing:
            return self.problem.request.memory_kib
        return self.lower(part, rest, missing)

    def singles(self, ats: Sequence[int]) -> int:  # noqa: ARG002 - the interface
        return 0

    def attributes(self) -> None:
        return None


class FactKind(NamedTuple):
    """A row of the table of facts."""

    name: str
    make: type[Fact]
    unit: str
    meaning: str


FACTS: Final[dict[str, FactKind]] = {
    kind.name: kind
    for kind in (
        FactKind("nodes", Nodes, "nodes", "how many cpu nodes"),
        FactKind(
            "level",
            Level,
            "level",
            "what the nodes have in common: an llc (0), die (1), socket (2), or the machine (3)",
        ),
        FactKind("distance", Distance, "", "sum of the distances between the nodes, over pairs"),
        FactKind("distance_max", DistanceMax, "", "the largest distance between two of them"),
        FactKind(
            "distance_mean", DistanceMean, "", "mean over ordered pairs, each with itself too"
        ),
        FactKind("vcpus", Vcpus, "vcpus", "vcpus of other guests at home there, each once"),
        FactKind(
            "vcpus_per_core",
            VcpusPerCore,
            "vcpus/core",
            "vcpus at home there with the guest's own, for each core",
        ),
        FactKind("cores_short", CoresShort, "vcpus", "vcpus of the guest beyond whole cores"),
        FactKind("usable", Usable, "KiB", "memory that the nodes can give"),
        FactKind("hole", Hole, "KiB", "memory of the largest untouched node that is broken into"),
        FactKind("device_distance", DeviceDistance, "", "from the guest's devices to the nodes"),
        FactKind(
            "device_scarcity",
            DeviceScarcity,
            "devices",
            "devices there that the guest has no use for",
        ),
        FactKind("spilled", Spilled, "KiB", "memory that nodes without cpus give for want of it"),
        FactKind(
            "far_distance",
            FarDistance,
            "",
            "mean, of its memory on nodes without cpus to the nodes",
        ),
        FactKind("share_skew", ShareSkew, "KiB", "largest less smallest memory share"),
    )
}
