"""The search: the best set of nodes under a policy, without looking at all of them.

Branch and bound, one size of set after the other. A step holds the nodes chosen so far (`Part`)
and those that may still join; it is cut off when even the bounds of the facts, compared in the
order of the policy, cannot beat the best set known. Three further rules keep hosts small:

* nodes without which the guest can no longer fit must join, and nodes with which it cannot may
  not (`Weights.squeeze`);
* nodes that alone would push a fact beyond the best are dropped (`Fact.within`);
* of two interchangeable nodes, the one that is no better in any fact joins only after the other.

The best value is found first, in an order that finds good sets early; then, if anything equal was
passed over, the lexicographically first set of that value, which is the answer that going through
all sets would have given. Both passes are the same walk.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from homenode.placement.facts import (
    FACTS,
    Distance,
    DistanceMean,
    FarthestPair,
    Nodes,
    Part,
    Ratio,
    Value,
)
from homenode.placement.policies import Policy, Term, order_for
from homenode.placement.problem import Problem
from homenode.placement.weights import positions

Vector = list[Value]


class Found(NamedTuple):
    """The best set of positions (None: nothing fits), its values in the order of the policy.

    `proved` is False if time was up; then `bound` holds for each term the least value that could
    still have been found, in so far as the terms before it are equal. If it is no less than the
    values, only a lexicographically earlier set of the same values may have been missed.
    """

    chosen: int | None
    vector: Vector
    proved: bool
    bound: Vector


class _TimeIsUpError(Exception):
    pass


class _BoundTerm:
    """A term of the policy with its fact's bounds, turned so that smaller is better."""

    __slots__ = ("exact", "fact", "lower", "term")

    def __init__(self, term: Term, problem: Problem) -> None:
        self.term = term
        self.fact = FACTS[term.fact].make(problem)
        self.exact = term.step is None and term.sign > 0
        bound = self.fact.lower if term.sign > 0 else self.fact.upper
        if self.exact:
            self.lower: Callable[[Part, int, int], Value] = bound
        else:
            self.lower = lambda part, rest, missing: term.value(bound(part, rest, missing))

    def floor(self, count: int) -> Value | None:
        raw = self.fact.floor(count) if self.term.sign > 0 else None
        return None if raw is None else self.term.value(raw)

    def singles(self, ats: Sequence[int]) -> list[int] | list[Ratio] | list[int | Ratio] | Value:
        raw, term = self.fact.singles(ats), self.term
        if self.exact:
            return raw
        return term.value(raw) if isinstance(raw, int) else list(map(term.value, raw))


class Search:
    """The search of one problem under one policy; made once, `find` may be called again."""

    def __init__(self, problem: Problem, policy: Policy) -> None:
        self.problem = problem
        self.policy = policy
        self.order = order_for(policy, problem.request)
        self.terms = [_BoundTerm(term, problem) for term in self.order]
        self.root = Part(0, 0, 0, [0] * len(problem.ids), 0, 0)
        facts = [term.fact for term in self.terms]
        self._near = next((fact for fact in facts if isinstance(fact, Distance)), None)
        self._spatial = any(isinstance(fact, _SPATIAL) for fact in facts)
        self._clock: Callable[[], float] | None = None
        self._deadline = 0.0
        self._start_anew()

    def _start_anew(self) -> None:
        self._best: Vector | None = None
        self._best_chosen: int | None = None
        self._exactly: Vector | None = None
        self._tied = False
        self._worse: list[int] = []
        self._rank: list[int] = []

    def find(self, *, clock: Callable[[], float] | None = None, time_limit_s: float = 0.0) -> Found:
        """Return the best set of nodes for the guest.

        With a `clock` (seconds), the best set found in `time_limit_s` is returned, proved or not.
        """
        self._clock = clock
        self._deadline = clock() + time_limit_s if clock is not None else 0.0
        self._start_anew()
        if self.problem.is_hopeless:
            return Found(None, [], proved=True, bound=[])
        at_once = self._without_search()
        if at_once is not None:
            return at_once
        sizes = self._sizes()
        size = 0
        try:
            for size in sizes:
                if self._best is not None and self._hopeless_from(size):
                    break
                self._best_of_size(size)
        except _TimeIsUpError:
            return self._unproved(sizes[sizes.index(size) :])
        if self._best is None:
            return Found(None, [], proved=True, bound=[])
        proved = not self._tied or self._first_of_the_best(sizes)
        return Found(self._best_chosen, self._best, proved, self._best)

    def _without_search(self) -> Found | None:
        """Return the best nodes for virtual nodes, if all that counts adds up over nodes."""
        cells = self.problem.cells
        if cells is None or self.problem.required:
            return None
        rows: list[Sequence[int]] = []
        for term in self.terms:
            of = term.fact.addends() if term.term.step is None else None
            if of is None:
                return None
            rows.append(of if term.term.sign > 0 else [-value for value in of])
        ats = range(len(self.problem.ids))
        order = sorted(ats, key=lambda at: [of[at] for of in rows])
        chosen = cells.basis(order)
        vector: Vector = [sum([of[at] for at in positions(chosen)]) for of in rows]
        return Found(chosen, vector, proved=True, bound=vector)

    def vector(self, part: Part) -> Vector:
        """Return the values of one set in the order of the policy, as `find` compares them."""
        return [term.lower(part, 0, 0) for term in self.terms]

    def values_alone(self, at: int) -> tuple[Value, ...]:
        """Return the values of the set of one node, at position `at`, as `find` compares them."""
        found = [term.singles([at]) for term in self.terms]
        return tuple(values[0] if isinstance(values, list) else values for values in found)

    def part_of(self, chosen: int) -> Part:
        """Return a set of positions with what is added up over it."""
        part = self.root
        for at in positions(chosen):
            part = self._join(part, at)
        return part

    # -- sizes --

    def _sizes(self) -> range:
        problem, request = self.problem, self.problem.request
        count = len(problem.ids)
        exactly = request.node_count if problem.cells is None else problem.cells.count
        if exactly is not None:
            return range(exactly, min(exactly, count) + 1)
        if request.split:
            count = min(count, request.vcpus)
        least = 1 if self._one_node_is_enough() else 2
        while 1 < least <= count and not self._can_fit(least):
            least += 1
        return range(least, count + 1)

    def _one_node_is_enough(self) -> bool:
        # No node can hold the guest if the largest cpus and the largest memory together cannot.
        seats, memory = self.problem.seats, self.problem.memory
        return (
            bool(memory.of)
            and memory.descending[0][1] >= self.problem.needed_kib
            and seats.descending[0][1] >= self.problem.request.vcpus
        )

    def _can_fit(self, size: int) -> bool:
        problem, everything = self.problem, self.problem.everything
        return (
            problem.seats.most(everything, size) >= problem.request.vcpus
            and problem.memory.most(everything, size) >= problem.needed_kib
        )

    def _hopeless_from(self, size: int) -> bool:
        # Whether no set of this size or more can be better than the best.
        assert self._best is not None  # noqa: S101 - for the type checker
        for term, best in zip(self.terms, self._best, strict=True):
            floor = term.floor(size)
            if floor is None or floor < best:
                return False
            if floor > best:
                return True
        self._tied = True
        return True

    def _best_of_size(self, size: int) -> None:
        if size == 1:
            self._best_single()
            return
        if size == len(self.problem.ids):
            self._reached(self.part_of(self.problem.everything))
            return
        if not self._rank:
            self._prepare(earlier_only=False)
        self._walk(self.root, self.problem.everything, size)

    # -- one node: the common case, without a walk --

    def _best_single(self) -> None:
        fitting = self.problem.fitting_alone()
        if not fitting:
            return
        vector: Vector = []
        for term in self.terms:
            values = term.singles(fitting)
            if not isinstance(values, list):
                vector.append(values)
                continue
            least = min(values)
            vector.append(least)
            if len(fitting) > 1:
                fitting = [at for at, value in zip(fitting, values, strict=True) if value == least]
        self._best, self._best_chosen = vector, 1 << fitting[0]

    # -- the walk --

    def _prepare(self, *, earlier_only: bool) -> None:
        self._worse = self._dominated(earlier_only=earlier_only)
        self._rank = list(range(len(self.problem.ids))) if earlier_only else self._ranks()

    def _walk(self, part: Part, open_nodes: int, missing: int) -> bool:
        # Whether the set that was looked for (`_exactly`) has been found.
        if self._clock is not None and self._clock() > self._deadline:
            raise _TimeIsUpError
        rest: int | None = open_nodes
        while rest is not None and rest.bit_count() >= missing:
            rest, must = self._squeezed(part, rest, missing)
            if rest is not None:
                rest = self._narrowed(part, rest, missing)
            if rest is None or must & ~rest:
                return False
            at = self._next(part, rest, must or rest, missing)
            joined = self._join(part, at)
            rest &= ~(1 << at)
            if missing == 1:
                if self._reached(joined):
                    return True
            elif self._walk(joined, rest, missing - 1):
                return True
            if rest & self._worse[at]:
                self._tied = True
                rest &= ~self._worse[at]
        return False

    def _reached(self, part: Part) -> bool:
        if not self.problem.fits(part.chosen):
            return False
        if self._exactly is not None:
            if self.vector(part) != self._exactly:
                return False
            self._best_chosen = part.chosen
            return True
        if self._narrowed(part, 0, 0) is not None:
            self._keep(part)
        return False

    def _squeezed(self, part: Part, rest: int, missing: int) -> tuple[int | None, int]:
        """Return which of `rest` can, and which must, join if the guest is to fit (None: never)."""
        problem, request = self.problem, self.problem.request
        must = 0
        for near in problem.required:
            if not near & part.chosen:
                if not near & rest:
                    return None, 0
                must |= near & rest if (near & rest).bit_count() == 1 else 0
        if problem.cells is not None:
            can_hold = problem.cells.extendable(part.chosen, rest)
            return (rest, must) if can_hold and must.bit_count() <= missing else (None, 0)
        for weights, needed in (
            (problem.seats, request.vcpus),
            (problem.memory, problem.needed_kib),
        ):
            can, needs = weights.squeeze(rest, missing, needed - weights.total(part.chosen))
            if can < 0 or can.bit_count() < missing:
                return None, 0
            rest = can
            must |= needs
        return rest, must

    def _narrowed(self, part: Part, rest: int, missing: int) -> int | None:
        """Return those of `rest` that may join a set worth finding; None: there is no such set.

        In the first pass that is one better than the best, in the second one of `_exactly` these
        values.
        """
        limit = self._exactly or self._best
        if limit is None:
            return rest
        for place, (term, best) in enumerate(zip(self.terms, limit, strict=True)):
            before = -1
            while rest != before:
                value = term.lower(part, rest, missing)
                if value > best:
                    return None
                before, rest = rest, self._within(place, part, rest, missing)
                if rest.bit_count() < missing:
                    return None
            if value < best and self._exactly is None:
                return rest
        if self._exactly is not None:
            return rest
        self._tied = True
        return None

    def _within(self, place: int, part: Part, rest: int, missing: int) -> int:
        # Drop the nodes that alone would push the fact at `place` beyond the limit.
        term = self.terms[place]
        limit = (self._exactly or self._best or [])[place]
        if not missing or not term.exact or not isinstance(limit, int):
            return rest
        if isinstance(term.fact, _WITH_LIMITS) and term.lower(part, rest, missing) < limit:
            limit -= self._loses_on_a_tie(place, part, rest, missing)
        return term.fact.within(part, rest, missing, limit)

    def _loses_on_a_tie(self, place: int, part: Part, rest: int, missing: int) -> bool:
        # Whether a set as good as the best in the terms up to `place` is no better in the others.
        if self._exactly is not None or self._best is None:
            return False
        for term, best in zip(self.terms[place + 1 :], self._best[place + 1 :], strict=True):
            value = term.lower(part, rest, missing)
            if value != best:
                return value > best
        self._tied = True
        return True

    def _next(self, part: Part, rest: int, among: int, missing: int) -> int:
        # In the second pass the first one; else the one that adds least to the distance, if that
        # counts, and of equal ones that which ranks first.
        if self._exactly is not None:
            return (among & -among).bit_length() - 1
        rank, added = self._rank, part.added
        if not self._spatial:
            return min(positions(among), key=rank.__getitem__)
        if self._near is not None and missing > 1:
            for _, alike in self._near.costs(part, rest, missing).each:
                if alike & among:
                    return min(positions(alike & among), key=rank.__getitem__)
        return min(positions(among), key=lambda at: (added[at], rank[at]))

    def _join(self, part: Part, at: int) -> Part:
        distances = self.problem.distances.of[at]
        levels = self.problem.levels.of[at]
        level, farthest = max(part.level, levels[at]), max(part.farthest, distances[at])
        for other in positions(part.chosen):
            level = max(level, levels[other])
            farthest = max(farthest, distances[other])
        added = [one + other for one, other in zip(part.added, distances, strict=True)]
        distance = part.distance + part.added[at]
        return Part(part.chosen | 1 << at, part.count + 1, distance, added, level, farthest)

    def _keep(self, part: Part) -> None:
        vector = self.vector(part)
        if self._best is None or vector < self._best:
            self._best, self._best_chosen, self._tied = vector, part.chosen, False

    # -- rank and dominance --

    def _attributes(self) -> list[tuple[Sequence[int], int]] | None:
        problem = self.problem
        found: list[tuple[Sequence[int], int]] = []
        for term in self.terms:
            own = term.fact.attributes()
            if own is None:
                return None
            found += [(of, sign * term.term.sign) for of, sign in own]
        room = [problem.seats.of, problem.memory.of, problem.unclaimed]
        able = [*problem.required, *(problem.cells.kinds if problem.cells else ())]
        room += [[nodes >> at & 1 for at in range(len(problem.ids))] for nodes in able]
        return [*found, *((of, -1) for of in room)]

    def _ranks(self) -> list[int]:
        attributes = self._attributes() or [(self.problem.memory.of, -1)]
        keys = [
            tuple(sign * of[at] for of, sign in attributes) for at in range(len(self.problem.ids))
        ]
        ranks = [0] * len(keys)
        for place, at in enumerate(sorted(range(len(keys)), key=keys.__getitem__)):
            ranks[at] = place
        return ranks

    def _dominated(self, *, earlier_only: bool) -> list[int]:
        # worse[i]: the twins of node i that are never a better choice than i.
        count = len(self.problem.ids)
        worse = [0] * count
        attributes = self._attributes()
        if attributes is None:
            return worse
        keys = [[sign * of[at] for of, sign in attributes] for at in range(count)]
        for twins in self.problem.distances.twins:
            alike = list(positions(twins))
            for one in alike:
                if self.problem.claimed >> one & 1:
                    # It may be given a larger share than it has left; another one might not.
                    continue
                for other in alike:
                    if one == other or (one > other and (earlier_only or keys[one] == keys[other])):
                        continue
                    if all(a <= b for a, b in zip(keys[one], keys[other], strict=True)):
                        worse[one] |= 1 << other
        return worse

    # -- after the walk --

    def _first_of_the_best(self, sizes: range) -> bool:
        """Find the lexicographically first set with the best value; False if time was up."""
        best, chosen = self._best, self._best_chosen
        assert best is not None  # noqa: S101 - for the type checker
        assert chosen is not None  # noqa: S101 - the same
        self._exactly = best
        self._prepare(earlier_only=True)
        firsts = [chosen]
        try:
            for size in self._equal_sizes(sizes, best):
                if self._walk(self.root, self.problem.everything, size):
                    assert self._best_chosen is not None  # noqa: S101 - for the type checker
                    firsts.append(self._best_chosen)
        except _TimeIsUpError:
            self._best_chosen = chosen
            return False
        self._best_chosen = min(firsts, key=lambda nodes: list(positions(nodes)))
        return True

    def _equal_sizes(self, sizes: range, best: Vector) -> list[int]:
        for term, value in zip(self.terms, best, strict=True):
            if isinstance(term.fact, Nodes) and isinstance(value, int) and term.term.step is None:
                return [abs(value)]
        return list(sizes)

    def _unproved(self, open_sizes: range) -> Found:
        bound = self._lower_from(open_sizes)
        if self._best is None:
            self._fall_back()
        if self._best is None:
            return Found(None, [], proved=False, bound=[])
        return Found(self._best_chosen, self._best, proved=False, bound=min(self._best, bound))

    def _lower_from(self, sizes: range) -> Vector:
        # The bound of all sets of these sizes; where fewer nodes win anyway, of the first size.
        rest = self.problem.everything
        if isinstance(self.terms[0].fact, Nodes) and self.terms[0].exact:
            sizes = sizes[:1]
        return min([term.lower(self.root, rest, size) for term in self.terms] for size in sizes)

    def _fall_back(self) -> None:
        # Time was up with nothing found: take nodes by rank until the guest fits.
        part, rest = self.root, self.problem.everything
        count = self._sizes()[0] if self.problem.cells else self.problem.request.node_count
        while rest and part.count != count:
            at = self._next(part, rest, rest, 1)
            part = self._join(part, at)
            rest &= ~(1 << at)
            if count in (None, part.count) and self.problem.fits(part.chosen):
                self._keep(part)
                return


_SPATIAL = (Distance, DistanceMean, FarthestPair)
_WITH_LIMITS = (Distance, FarthestPair)
