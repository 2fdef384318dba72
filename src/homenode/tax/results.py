"""What the measurements say together: medians, costs beside the best case, and the document."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.estimate import Estimate, estimate
from homenode.tax.protocol import CASES, Case

VERSION = 1


class Measure(NamedTuple):
    """What is measured: its name in the document, what people call it, and its unit.

    `act` is the sentence's subject: what costs so much more.
    """

    name: str
    title: str
    unit: str
    act: str
    more_is_better: bool


WALK = Measure("walk_ns", "walk", "ns a step", "a walk over a list in random order", False)  # noqa: FBT003 - a row of a table
COPY = Measure("copy_gb_s", "copy", "GB/s", "a copy of a large buffer", True)  # noqa: FBT003 - as above
MEASURES = (WALK, COPY)


class Sample(NamedTuple):
    """One measurement: the round and copies it was of, its figures by the names of measures.

    `memory_kib` is where its pages were seen, `ran_on` the nodes where it was seen to run, and
    `flaw` why it is not counted.
    """

    round: int
    copies: int
    case: Case
    figures: Mapping[str, float]
    memory_kib: Mapping[int, int]
    ran_on: NodeMap = NodeMap()
    flaw: str | None = None


class Figure(NamedTuple):
    """The figures of a case: median, lowest, highest, all of them, and what it costs.

    `cost_percent` is how much longer the same work takes than in the best case of the same round:
    the mean over the rounds, with half of its 95 % interval. None: there is nothing to compare.
    """

    middle: float
    low: float
    high: float
    values: tuple[float, ...]
    cost_percent: Estimate | None


class Row(NamedTuple):
    """A case with so many copies: where its memory was, where it ran, and its figures."""

    case: Case
    copies: int
    memory_kib: Mapping[int, int]
    ran_on: NodeMap
    figures: Mapping[str, Figure]
    left_out: tuple[tuple[int, str], ...]


def summarised(samples: Sequence[Sample], measures: Sequence[Measure]) -> tuple[Row, ...]:
    """Return a row for each number of copies and case, in the order of the protocol."""
    rows = []
    for copies in sorted({sample.copies for sample in samples}):
        of_copies = [sample for sample in samples if sample.copies == copies]
        best = {
            sample.round: sample
            for sample in of_copies
            if sample.case.name == "best" and sample.flaw is None
        }
        for name in CASES:
            own = [sample for sample in of_copies if sample.case.name == name]
            if own:
                rows.append(_row(own, best, measures))
    return tuple(rows)


def _row(samples: Sequence[Sample], best: Mapping[int, Sample], measures: Sequence[Measure]) -> Row:
    counted = [sample for sample in samples if sample.flaw is None]
    memory: dict[int, int] = {}
    for sample in counted or samples:
        for node, kib in sample.memory_kib.items():
            memory[node] = memory.get(node, 0) + kib
    figures = {}
    for measure in measures if counted else ():
        values = tuple(sample.figures[measure.name] for sample in counted)
        costs = [
            cost_percent(measure, sample.figures[measure.name], beside.figures[measure.name])
            for sample in counted
            if (beside := best.get(sample.round)) is not None
        ]
        figures[measure.name] = Figure(
            median(values), min(values), max(values), values, estimate(costs) if costs else None
        )
    return Row(
        samples[0].case,
        samples[0].copies,
        {node: kib // len(counted or samples) for node, kib in sorted(memory.items())},
        NodeMap(node for sample in samples for node in sample.ran_on),
        figures,
        tuple((sample.round, sample.flaw) for sample in samples if sample.flaw is not None),
    )


def cost_percent(measure: Measure, value: float, best: float) -> float:
    """Return how much longer the same work takes than in the best case, in percent.

    Negative: it takes less time.
    """
    longer = best / value if measure.more_is_better else value / best
    return 100 * (longer - 1)


def sentences(rows: Sequence[Row], measures: Sequence[Measure], *, home: int) -> list[str]:
    """Return what is to be said of the results: a sentence for each number of copies."""
    told = []
    for copies in sorted({row.copies for row in rows}):
        by_name = {row.case.name: row for row in rows if row.copies == copies}
        worst, best = by_name.get("worst"), by_name.get("best")
        if worst is None or best is None or not (worst.figures and best.figures):
            told.append(f"{_with(copies)}the worst case cannot be compared with the best one")
            continue
        costs = "; ".join(_clause(one, worst.figures, best.figures) for one in measures)
        where = f"memory on {(worst.case.memory or NodeMap()).named} instead of node {home}"
        told.append(f"{_with(copies)}on this machine, {where} costs: {costs}")
    return told


def _with(copies: int) -> str:
    return "" if copies == 1 else f"{copies} copies at once: "


def _clause(measure: Measure, worst: Mapping[str, Figure], best: Mapping[str, Figure]) -> str:
    cost = worst[measure.name].cost_percent
    if cost is None:
        return f"{measure.act}, nobody knows"
    if cost.margin is not None and abs(cost.mean) <= cost.margin:
        return f"{measure.act} nothing that these runs can tell from chance"
    longer = "more" if cost.mean >= 0 else "less"
    clause = f"{measure.act} {abs(cost.mean):.0f} % {longer} time"
    if measure is WALK:
        more_ns = worst[measure.name].middle - best[measure.name].middle
        clause += f" ({more_ns:+.0f} ns a step)"
    return clause


def document(rows: Sequence[Row], measures: Sequence[Measure]) -> dict[str, object]:
    """Return the part of the document that has the results."""
    return {
        "measures": [
            {
                "name": measure.name,
                "title": measure.title,
                "unit": measure.unit,
                "more_is_better": measure.more_is_better,
            }
            for measure in measures
        ],
        "results": [_row_document(row) for row in rows],
    }


def _row_document(row: Row) -> dict[str, object]:
    return {
        "case": row.case.name,
        "copies": row.copies,
        "cpus": None if row.case.cpus is None else str(row.case.cpus),
        "memory": None if row.case.memory is None else list(row.case.memory),
        "memory_seen": [{"node": node, "kib": kib} for node, kib in row.memory_kib.items()],
        "ran_on": list(row.ran_on),
        "figures": {name: _figure_document(figure) for name, figure in row.figures.items()},
        "left_out": [{"round": number, "reason": reason} for number, reason in row.left_out],
    }


def _figure_document(figure: Figure) -> dict[str, object]:
    cost = figure.cost_percent
    margin = None if cost is None or cost.margin is None else round(cost.margin, 2)
    return {
        "median": _rounded(figure.middle),
        "low": _rounded(figure.low),
        "high": _rounded(figure.high),
        "values": [_rounded(value) for value in figure.values],
        "cost_percent": None if cost is None else round(cost.mean, 2),
        "cost_margin_percent": margin,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
