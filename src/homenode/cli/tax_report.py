"""What `homenode tax` prints: the plan, the table, and the document that can be shared."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from homenode import __version__
from homenode.bitmap import NodeMap
from homenode.cli.guest_text import print_table
from homenode.tax import results
from homenode.tax.protocol import Case, Turn
from homenode.tax.results import Measure, Row
from homenode.units import format_memory


class Report(NamedTuple):
    """All that came of it."""

    by: str
    machine: dict[str, object]
    protocol: dict[str, object]
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]
    sentences: list[str]
    notes: list[str]


def document_text(report: Report) -> str:
    """Return the document, as a text of JSON."""
    document = {
        "version": results.VERSION,
        "kind": "tax",
        "homenode": __version__,
        "date": datetime.now(UTC).date().isoformat(),
        "by": report.by,
        "machine": report.machine,
        "protocol": report.protocol,
        **results.document(report.rows, report.measures),
        "sentences": report.sentences,
        "notes": report.notes,
    }
    return json.dumps(document, indent=2) + "\n"


def plan_document(
    order: Sequence[Turn], protocol: dict[str, object], lines: list[str]
) -> dict[str, object]:
    """Return the plan as JSON has it."""
    return {
        "version": results.VERSION,
        "kind": "tax plan",
        "protocol": protocol,
        "order": [
            {
                "round": turn.round,
                "copies": turn.copies,
                "case": turn.case.name,
                "cpus": None if turn.case.cpus is None else str(turn.case.cpus),
                "memory": None if turn.case.memory is None else list(turn.case.memory),
            }
            for turn in order
        ],
        "text": lines,
    }


def turn_text(turn: Turn) -> str:
    """Return a measurement in words."""
    several = f", {turn.copies} copies" if turn.copies > 1 else ""
    return f"round {turn.round}, {turn.case.name}{several}"


def order_lines(cases: Sequence[Case], order: Sequence[Turn]) -> list[str]:
    """Return the cases, and the order in which they would be measured."""
    lines = [f"{case.name:<8} {_cpus(case)}, {_memory(case)}" for case in cases]
    for number in sorted({turn.round for turn in order}):
        names = [_short(turn) for turn in order if turn.round == number]
        lines.append(f"round {number}: {', '.join(names)}")
    return lines


def _short(turn: Turn) -> str:
    return turn.case.name + (f" x{turn.copies}" if turn.copies > 1 else "")


def _cpus(case: Case) -> str:
    return "any cpu" if case.cpus is None else f"cpus {case.cpus}"


def _memory(case: Case) -> str:
    if case.memory is None:
        return "memory as it comes"
    spread = "memory spread over" if len(case.memory) > 1 else "memory of"
    return f"{spread} {case.memory.named}"


def print_report(report: Report) -> None:
    """Print the table, what it means, and what makes it uncertain."""
    print(_headline(report))
    for copies in sorted({row.copies for row in report.rows}):
        if copies > 1:
            print(f"\n{copies} copies at once")
        rows = [row for row in report.rows if row.copies == copies]
        print_table(_table(rows, report.measures), wrapped=("Seen",))
    print()
    for sentence in report.sentences:
        print(sentence[:1].upper() + sentence[1:] + ".")
    own = report.protocol.get("own_ns")
    if own is not None:
        print(f"(Of each step, {own} ns are the walk's own, memory or not.)")
    for row in report.rows:
        for number, reason in row.left_out:
            print(f"not counted: round {number}, {row.case.name}: {reason}")
    for note in report.notes:
        print(f"note: {note}")


def _headline(report: Report) -> str:
    machine, protocol = report.machine, report.protocol
    words = [machine["vendor"], machine["product"], machine["cpu"]]
    what = ", ".join(str(word) for word in words if word) or "a machine"
    nodes = machine["nodes"]
    count = len(nodes) if isinstance(nodes, list) else 0
    size = protocol["size_kib"]
    on = f", {format_memory(size)} each" if isinstance(size, int) else ""
    return (
        f"{what}: {count} nodes, {machine['cpus']} cpus\n"
        f"home is node {protocol['home']}, farthest is node {protocol['farthest']}, distance"
        f" {protocol['distance']}; {protocol['runs']} rounds{on}\n"
    )


def _table(rows: Sequence[Row], measures: Sequence[Measure]) -> list[list[str]]:
    head = ["Case", "Cpus", "Memory", "Seen"]
    for measure in measures:
        head += [f"{measure.title.capitalize()}, {measure.unit}", "Low-high", "Cost"]
    table = [head]
    for row in rows:
        case = row.case
        line = [
            case.name,
            "any" if case.cpus is None else str(case.cpus),
            "any" if case.memory is None else str(case.memory),
            seen_text(row),
        ]
        for measure in measures:
            line += _cells(row, measure)
        table.append(line)
    return table


def seen_text(row: Row) -> str:
    """Return where the memory was seen, in percent: ``100 % on 0``, ``25 % on 0-3 each``."""
    total = sum(row.memory_kib.values())
    if not total:
        return "?"
    nodes: dict[int, list[int]] = {}
    for node, kib in row.memory_kib.items():
        nodes.setdefault(round(kib * 100 / total), []).append(node)
    return ", ".join(
        f"{share} % on {NodeMap(nodes[share])}" + (" each" if len(nodes[share]) > 1 else "")
        for share in sorted(nodes, reverse=True)
        if share
    )


def _cells(row: Row, measure: Measure) -> list[str]:
    figure = row.figures.get(measure.name)
    if figure is None:
        return ["-", "-", "not counted"]
    spread = f"{figure.low:.4g}-{figure.high:.4g}"
    cost = figure.cost_percent
    if row.case.name == "best" or cost is None:
        return [f"{figure.middle:.4g}", spread, "-"]
    margin = "" if cost.margin is None else f" \u00b1 {cost.margin:.0f}"
    return [f"{figure.middle:.4g}", spread, f"{round(cost.mean):+d}{margin} %"]
