"""Why this candidate, why not the others, and what is missing when nothing fits.

A rival's place in the order is its vector's, from the same search that decided.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from math import comb
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.guest import GuestRequest
from homenode.placement.candidates import Measures, memory_on
from homenode.placement.decision import Candidate, Decision, Rejected, Remedy
from homenode.placement.facts import FACTS, Part
from homenode.placement.policies import Policy
from homenode.placement.problem import (
    Problem,
    barred_nodes,
    prepare,
    required_devices,
    split_unit_kib,
    suitable_cpus,
)
from homenode.placement.remedies import remedies_for
from homenode.placement.search import Search, Vector
from homenode.placement.shortage import shortages
from homenode.placement.view import View
from homenode.placement.weights import positions

MOST_SETS = 2_000
"""Rivals are all sets of the chosen size up to this many; beyond, those that differ by a node."""


class Explanation(NamedTuple):
    """A decision with its rivals, the nodes that cannot hold the guest alone, and remedies.

    `candidates` begin with the chosen one, and `lost_by` says of each why it is not the first;
    `ranked_by` are the facts of the policy, in its order.
    """

    decision: Decision
    candidates: tuple[Candidate, ...] = ()
    lost_by: tuple[str, ...] = ()
    ranked_by: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    remedies: tuple[Remedy, ...] = ()


class _Rival(NamedTuple):
    vector: Vector
    places: list[int]
    part: Part


def explain(  # noqa: PLR0913 - what was decided, from what, and how much to tell
    view: View,
    request: GuestRequest,
    policy: Policy,
    decision: Decision,
    *,
    limit: int | None = 5,
    clock: Callable[[], float] | None = None,
) -> Explanation:
    """Explain `decision`; at most `limit` rivals and rejected nodes each (None: all).

    With a `clock` (seconds) nothing that is tried takes longer than a decision may.
    """
    problem = prepare(view, request, as_libxl=policy.admission == "libxl")
    if _was_placed_whole(problem, decision):
        request = request._replace(split=False)
        problem = prepare(view, request, as_libxl=policy.admission == "libxl")
    search = Search(problem, policy)
    rivals = _ranked(search, decision, limit) if decision.fits and not request.explicit else []
    shown = rivals[:limit]
    measures = Measures(problem)
    candidates = tuple(
        Candidate(
            problem.nodes(rival.part.chosen),
            memory_on(problem, rival.part.chosen) if place else decision.memory,
            measures.of(rival.part),
        )
        for place, rival in enumerate(shown)
    )
    rejected = _alone_too_small(view, request, problem, decision)[:limit]
    remedies = () if decision.fits else tuple(remedies_for(view, request, policy, clock=clock))
    return Explanation(
        decision,
        candidates,
        lost_by=tuple(_lost_by(search, shown[0], rival) for rival in shown),
        ranked_by=tuple(term.fact for term in policy.terms),
        rejected=tuple(rejected),
        remedies=remedies,
    )


def _was_placed_whole(problem: Problem, decision: Decision) -> bool:
    # A guest that was to be split, and could not be: on nodes that could not have a part of it.
    request = problem.request
    fewer = len(decision.nodes) <= request.vcpus and decision.nodes <= NodeMap(problem.ids)
    return request.split and decision.fits and not fewer


# -- rivals --


def _ranked(search: Search, decision: Decision, limit: int | None) -> list[_Rival]:
    problem = search.problem
    winner = problem.chosen(decision.nodes)
    sets = (some for some in _sets(problem, winner, limit) if some != winner and problem.fits(some))
    rivals = []
    for chosen in sets:
        part = search.part_of(chosen)
        rivals.append(_Rival(search.vector(part), list(positions(chosen)), part))
    rivals.sort(key=lambda rival: rival[:2])
    part = search.part_of(winner)
    return [_Rival(search.vector(part), list(positions(winner)), part), *rivals]


def _sets(problem: Problem, winner: int, limit: int | None) -> Iterator[int]:
    count, size = len(problem.ids), winner.bit_count()
    free = limit is None and problem.request.node_count is None and 2**count <= MOST_SETS
    for wanted in range(1, count + 1) if free else (size,):
        if comb(count, wanted) <= MOST_SETS:
            yield from (sum(1 << at for at in some) for some in combinations(range(count), wanted))
        else:
            for out in positions(winner):
                for into in positions(problem.everything & ~winner):
                    yield winner & ~(1 << out) | 1 << into


def _lost_by(search: Search, chosen: _Rival, rival: _Rival) -> str:
    if rival is chosen:
        return "chosen"
    for bound, best, value in zip(search.terms, chosen.vector, rival.vector, strict=True):
        if value == best:
            continue
        term = bound.term
        raw = FACTS[term.fact].make(search.problem)
        plain = term._replace(sign=1, step=None)
        exact = [raw.lower(one.part, 0, 0) for one in (rival, chosen)]
        theirs, mine = map(plain.spoken, exact)
        if theirs == mine and FACTS[term.fact].unit == "KiB":
            theirs, mine = (f"{amount} KiB" for amount in exact)
        step = f", in steps of {term.step_text}" if term.step_text else ""
        if value < best:
            return f"its {term.fact} is {theirs}, better than {mine}: found too late"
        return f"its {term.fact} is {theirs}, not {mine}{step}"
    return "as good, but later in the order of nodes"


# -- what single nodes lack --


def _alone_too_small(
    view: View, request: GuestRequest, problem: Problem, decision: Decision
) -> list[Rejected]:
    """Say of each node that is not taken why it cannot hold the guest alone, and by how much."""
    found = []
    taken = decision.nodes | NodeMap(share.node for share in decision.memory)
    for node in view.host.nodes:
        reason = "" if node.id in taken else _what_a_node_lacks(view, problem, node.id)
        if reason and not (request.explicit and node.id in request.explicit.nodes):
            found.append(Rejected(NodeMap([node.id]), reason))
    return found


def _what_a_node_lacks(view: View, problem: Problem, node: int) -> str:
    if node not in problem.ids:
        return _why_unsuitable(view, problem, node)
    at = problem.ids.index(node)
    tier = problem.request.tier
    if tier is not None and problem.far.is_short:
        return f"there is too little {tier.kind} memory for it, on whichever cpus"
    away = [
        device.address
        for device, near in zip(required_devices(problem.request), problem.required, strict=True)
        if not near >> at & 1
    ]
    if away:
        return f"it is not where device {', '.join(away)} is"
    if problem.cells is not None:
        held = [cell for cell, fits in enumerate(problem.cells.fits) if fits >> at & 1]
        return "" if held else "none of the virtual nodes fits there"
    if node in problem.unknown_nodes:
        return f"its {problem.free_word} is unknown"
    short = shortages(problem, seats=problem.seats.of[at], memory_kib=problem.memory.of[at])
    return f"alone it is {short}" if short else ""


def _why_unsuitable(view: View, problem: Problem, node: int) -> str:
    request = problem.request
    if node in request.excluded:
        return "it is excluded"
    if node in barred_nodes(view, request):
        return "a guest is there that it is to be kept apart from"
    if view.host.cpus_by_node[node] and node in problem.unknown_nodes:
        return f"its {problem.free_word} is unknown"
    return _why_without_cpus(view, request, node)


def _why_without_cpus(view: View, request: GuestRequest, node: int) -> str:
    cpus = view.host.cpus_by_node[node]
    if not cpus:
        return "it has no cpus"
    pool = view.host.pool(request.pool)
    if cpus.isdisjoint(pool.cpus):
        return f"it has no cpu in cpupool {pool.name}"
    nobody_else = view._replace(guests=())
    if cpus.isdisjoint(suitable_cpus(nobody_else, request)):
        return "cpus= leaves the guest none of its cpus"
    if request.split and view.usable_kib(node, request.page_kib) < split_unit_kib(request):
        return "it has no memory for a virtual node"
    return "other guests have its cpus for themselves, or are pinned to them"
