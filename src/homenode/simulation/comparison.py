"""All variants with all seeds, on all cores, and what they differ in."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from typing import NamedTuple

from homenode.estimate import Estimate, estimate
from homenode.processes import processes
from homenode.simulation.run import GuestOutcome, Outcome, run
from homenode.simulation.scenario import Scenario, Variant


class GuestResult(NamedTuple):
    """What a guest got in a variant: estimates by the names of `GuestOutcome`'s fields."""

    name: str
    vcpus: int
    values: dict[str, Estimate]


class VariantResult(NamedTuple):
    """What came of a variant: estimates by the names of `Outcome`'s fields, and each guest's.

    ``gain`` is how much more work than in the first variant is done, as a share of that.
    """

    name: str
    variant: Variant
    values: dict[str, Estimate]
    guests: tuple[GuestResult, ...]


class Comparison(NamedTuple):
    """All results, in the order of the variants."""

    scenario: Scenario
    results: tuple[VariantResult, ...]
    outcomes: tuple[Outcome, ...]


GUEST_VALUES = tuple(field for field in GuestOutcome._fields if field not in ("name", "vcpus"))
"""What is estimated of a guest."""

VALUES = tuple(field for field in Outcome._fields if field not in ("variant", "seed", "guests"))
"""What is estimated of a variant."""


def compare(
    scenario: Scenario,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Run every variant with every seed; `progress` is told how many of all runs are done."""
    wanted = [(variant, seed) for variant in scenario.variants for seed in scenario.seeds]
    found: list[Outcome | None] = [None] * len(wanted)
    with _runner(scenario, wanted, workers) as done:
        for count, (at, outcome) in enumerate(done, 1):
            found[at] = outcome
            if progress is not None:
                progress(count, len(wanted))
    outcomes = tuple(outcome for outcome in found if outcome is not None)
    by_variant = [
        [one for one in outcomes if one.variant == variant.name] for variant in scenario.variants
    ]
    results = tuple(
        _result(variant, own, by_variant[0])
        for variant, own in zip(scenario.variants, by_variant, strict=True)
    )
    return Comparison(scenario, results, outcomes)


@contextmanager
def _runner(
    scenario: Scenario, wanted: Sequence[tuple[Variant, int]], workers: int | None
) -> Iterator[Iterator[tuple[int, Outcome]]]:
    count = min(workers or len(os.sched_getaffinity(0)), len(wanted))
    if count <= 1:
        yield ((at, _run((scenario, *one))) for at, one in enumerate(wanted))
        return
    with processes(count, preload=__name__) as pool:
        futures = {pool.submit(_run, (scenario, *one)): at for at, one in enumerate(wanted)}
        yield ((futures[future], future.result()) for future in as_completed(futures))


def _run(asked: tuple[Scenario, Variant, int]) -> Outcome:
    return run(*asked).outcome


def _result(
    variant: Variant, outcomes: Sequence[Outcome], first: Sequence[Outcome]
) -> VariantResult:
    values = _estimates(VALUES, outcomes)
    # Seed by seed, since all variants have the same work for a seed.
    gains = [
        round(own.work / base.work - 1, 12)
        for own, base in zip(outcomes, first, strict=True)
        if base.work
    ]
    if gains:
        values["gain"] = estimate(gains)
    return VariantResult(
        variant.name,
        variant,
        values,
        tuple(
            GuestResult(guest.name, guest.vcpus, _estimates(
                GUEST_VALUES, [outcome.guests[at] for outcome in outcomes]
            ))
            for at, guest in enumerate(outcomes[0].guests)
        ),
    )  # fmt: skip


def _estimates(names: Sequence[str], outcomes: Sequence[tuple[object, ...]]) -> dict[str, Estimate]:
    estimates = {}
    for name in names:
        values = [value for one in outcomes if (value := getattr(one, name)) is not None]
        if values:
            estimates[name] = estimate(values)
    return estimates
