"""Why this candidate, why not the others, and what is missing when nothing fits.

A rival's place in the order is its vector's, from the same search that decided.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import GuestRequest
from homenode.host import LEVELS
from homenode.placement.candidates import candidate_of
from homenode.placement.decision import Candidate, Decision, Rejected, Remedy
from homenode.placement.facts import FACTS
from homenode.placement.policies import Policy, Term
from homenode.placement.problem import Problem, prepare
from homenode.placement.remedies import remedies_for
from homenode.placement.search import Search
from homenode.placement.view import View
from homenode.placement.weights import positions
from homenode.units import format_memory

MOST_SETS = 20_000
"""Rivals are all sets of the chosen size up to this many; beyond, those that differ by a node."""


class Explanation(NamedTuple):
    """A decision with its rivals (best first), what was passed over and why, and remedies."""

    decision: Decision
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    remedies: tuple[Remedy, ...]


def explain(
    view: View, request: GuestRequest, policy: Policy, decision: Decision, *, limit: int | None = 5
) -> Explanation:
    """Explain `decision`; at most `limit` rivals and rejected sets each (None: all)."""
    problem = prepare(view, request, as_libxl=policy.admission == "libxl")
    search = Search(problem, policy)
    rivals = _ranked(search, decision, limit) if decision.fits and not request.explicit else []
    candidates = tuple(candidate_of(problem, search.part_of(chosen)) for chosen in rivals[:limit])
    outranked = [
        Rejected(problem.nodes(chosen), _why_later(search, policy, rivals[0], chosen))
        for chosen in rivals[1:]
    ]
    rejected = outranked[:limit] + _too_small(view, request, problem)[:limit]
    remedies = () if decision.fits else tuple(remedies_for(view, request, policy))
    return Explanation(decision, candidates, tuple(rejected), remedies)


# -- rivals -------------------------------------------------------------------------------------


def _ranked(search: Search, decision: Decision, limit: int | None) -> list[int]:
    problem = search.problem
    winner = problem.chosen(decision.nodes)
    rivals = [
        chosen
        for chosen in _sets(problem, winner, limit)
        if chosen != winner and problem.fits(chosen)
    ]
    rivals.sort(key=lambda chosen: (search.vector(search.part_of(chosen)), list(positions(chosen))))
    return [winner, *rivals]


def _sets(problem: Problem, winner: int, limit: int | None) -> Iterator[int]:
    count, size = len(problem.ids), winner.bit_count()
    free = limit is None and problem.request.node_count is None and 2**count <= MOST_SETS
    sizes = range(1, count + 1) if free else (size,)
    for wanted in sizes:
        if comb(count, wanted) <= MOST_SETS:
            yield from (sum(1 << at for at in some) for some in combinations(range(count), wanted))
        else:
            for out in positions(winner):
                for into in positions(problem.everything & ~winner):
                    yield winner & ~(1 << out) | 1 << into


def _why_later(search: Search, policy: Policy, winner: int, other: int) -> str:
    raw = zip(
        policy.terms,
        search.vector(search.part_of(winner)),
        search.vector(search.part_of(other)),
        strict=True,
    )
    for term, best, value in raw:
        if value > best:
            step = f", in steps of {term.step_text}" if term.step_text else ""
            theirs, mine = _shown(search, term, other), _shown(search, term, winner)
            return f"fits, but its {term.fact} is {theirs}, not {mine}{step}"
    return "fits as well; the earlier nodes are taken"


def _shown(search: Search, term: Term, chosen: int) -> str:
    kind = FACTS[term.fact]
    value = kind.make(search.problem).lower(search.part_of(chosen), 0, 0)
    if term.fact == "level" and isinstance(value, int):
        return LEVELS[value]
    if kind.unit == "KiB" and isinstance(value, int):
        return format_memory(value)
    return str(value)


# -- what single nodes lack ---------------------------------------------------------------------


def _too_small(view: View, request: GuestRequest, problem: Problem) -> list[Rejected]:
    """Say of each node that cannot hold the guest alone what is short, and by how much."""
    found = []
    for node in view.host.nodes:
        reason = _what_a_node_lacks(view, request, problem, node.id)
        if reason:
            found.append(Rejected(NodeMap([node.id]), reason))
    return found


def _what_a_node_lacks(view: View, request: GuestRequest, problem: Problem, node: int) -> str:
    if node not in problem.ids:
        return _why_unsuitable(view, request, node)
    at = problem.ids.index(node)
    lacks = []
    seats, memory = problem.seats.of[at], problem.memory.of[at]
    if memory < request.memory_kib:
        lacks.append(
            f"{format_memory(request.memory_kib - memory)} of memory short "
            f"({format_memory(memory)} usable, {format_memory(request.memory_kib)} needed)"
        )
    if seats < request.vcpus:
        what = "cores" if request.whole_cores else "cpus"
        lacks.append(f"{request.vcpus - seats} {what} short ({seats} for {request.vcpus} vcpus)")
    return "; ".join(lacks)


def _why_unsuitable(view: View, request: GuestRequest, node: int) -> str:
    cpus = view.host.cpus_by_node[node]
    if not cpus:
        return "has no cpus"
    pool = view.host.pool(request.pool)
    if cpus.isdisjoint(pool.cpus):
        return f"has no cpu in cpupool {pool.name}"
    if request.hard and cpus.isdisjoint(_union(request.hard)):
        return "the guest's hard affinity (cpus=) excludes its cpus"
    return "its cpus belong to exclusive guests"


def _union(maps: Sequence[CpuMap]) -> CpuMap:
    union = CpuMap()
    for cpus in maps:
        union |= cpus
    return union
