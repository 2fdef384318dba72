"""What ``homenode replay`` prints and draws."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from homenode import __version__
from homenode.cli.common import print_json
from homenode.cli.guest_text import print_table
from homenode.drawing import printable
from homenode.errors import HomenodeError
from homenode.fleet.policies import fleet_policy
from homenode.fleet.summary import MEASURES, Measure, Row, rows_of

if TYPE_CHECKING:
    from homenode.estimate import Estimate
    from homenode.fleet.cell import CellResult

_SHOWN = {
    "refused": "Refused", "vcpus_refused": "Vcpus", "placed_first": "Until one is",
    "touched": "Hosts", "hosts_mean": "In use",
    "vcpus_packed": "Cpus packed", "memory_packed": "Memory", "fragments": "FR(16)",
    "vcpus_stranded": "Cpus stranded", "memory_stranded": "Memory stranded", "narrow": "Narrow",
    "distance": "Distance", "room": "Room",
}  # fmt: skip
"""The numbers of the table that matter most, and their headings there."""

_MOST_KINDS = 5


def print_text(results: "Sequence[CellResult]", *, everything: bool) -> None:
    """Print a table for each trace and fleet; a row for each policy, and one for the bounds."""
    rows = rows_of(results)
    shown = {measure.name: measure.name for measure in MEASURES} if everything else _SHOWN
    measures = [measure for measure in MEASURES if measure.name in shown]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cell = row.results[0].cell
        groups.setdefault((str(cell.trace), str(cell.fleet)), []).append(row)
    for at, own in enumerate(groups.values()):
        if at:
            print()
        _print_group(own, measures, shown)


def _print_group(rows: Sequence[Row], measures: Sequence[Measure], shown: dict[str, str]) -> None:
    first = rows[0].results[0]
    seeds = len(rows[0].results)
    print(
        f"{printable(first.trace)} on {printable(first.fleet)}: {first.guests} guests,"
        f" {first.hosts} hosts" + (f", {seeds} seeds" if seeds > 1 else "")
        + (", until the first refusal" if first.cell.stay else "")
    )  # fmt: skip
    for sentence in first.synthetic:
        print(f"synthetic: {printable(sentence)}")
    table = [["Policy", *(shown[measure.name] for measure in measures), "Decisions/s"]]
    table += [
        [
            row.policy,
            *(_cell(row.values[measure.name], measure) for measure in measures),
            "" if row.decisions_per_s is None else f"{row.decisions_per_s:,.0f}",
        ]
        for row in rows
    ]
    bounds = rows[0].bounds
    table.append(
        ["no better than", *(_bound(bounds[measure.name], measure) for measure in measures), ""]
    )
    print_table(table, wrapped=())
    for row in rows:
        refused = _refused_of(row)
        if refused:
            kinds = sorted(refused.items(), key=lambda one: (-one[1], one[0]))
            listed = ", ".join(
                f"{count} of {printable(name)}" for name, count in kinds[:_MOST_KINDS]
            )
            more = f" and of {len(kinds) - _MOST_KINDS} kinds more" * (len(kinds) > _MOST_KINDS)
            print(f"refused by {row.policy}: {listed}{more}")


def _refused_of(row: Row) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in row.results:
        for name, count in one.outcome.refused_of.items():
            found[name] = found.get(name, 0) + count
    return found


def _cell(value: "Estimate | None", measure: Measure) -> str:
    if value is None:
        return "-"
    text = _number(value.mean, measure)
    if value.margin is None or not value.margin:
        return text
    return f"{text} ±{_number(value.margin, measure)}"


def _bound(value: float | None, measure: Measure) -> str:
    return "" if value is None else _number(value, measure)


def _number(value: float, measure: Measure) -> str:
    if measure.unit == "share":
        return f"{100 * value:.1f} %"
    if measure.name in ("hosts_mean", "distance", "distance_wide") or value != round(value):
        return f"{value:.1f}"
    return f"{value:.0f}"


def print_document(results: "Sequence[CellResult]") -> None:
    """Print the JSON document."""
    rows = [_row_document(row) for row in rows_of(results)]
    print_json({"version": 1, "homenode": __version__, "rows": rows})


def _row_document(row: Row) -> dict[str, object]:
    first = row.results[0]
    policy = fleet_policy(row.policy)
    least = () if first.cell.stay else first.bounds.hosts_over_time
    return {
        "trace": row.trace,
        "trace_file": str(first.cell.trace),
        "fleet": row.fleet,
        "fleet_file": str(first.cell.fleet),
        "policy": row.policy,
        "host_order": [str(term) for term in policy.host.terms],
        "node_order": [str(term) for term in policy.node.terms],
        "seeds": [one.cell.rules.seed for one in row.results],
        "guests": first.guests,
        "hosts": first.hosts,
        "synthetic": list(first.synthetic),
        "values": {
            name: None if value is None else {"mean": value.mean, "margin": value.margin}
            for name, value in row.values.items()
        },
        "bounds": {name: value for name, value in row.bounds.items() if value is not None},
        "refused_of": _refused_of(row),
        "decisions_per_s": row.decisions_per_s,
        "over_time": [
            {**reading._asdict(), "hosts_least": least[at] if at < len(least) else None}
            for at, reading in enumerate(first.outcome.readings)
        ],
    }


def make_ready(folder: Path) -> None:
    """Make sure that pictures can be drawn into `folder`, before the work is done and not after."""
    from homenode.fleet.pictures import find_libraries  # noqa: PLC0415 - only here

    find_libraries()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomenodeError(f"{folder}: cannot make this folder: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise HomenodeError(f"{folder}: cannot write into this folder")


def draw(folder: Path, results: "Sequence[CellResult]") -> None:
    """Draw pictures into `folder`: of several traces or fleets into a folder each below it.

    Of several seeds the first one is drawn.
    """
    from homenode.fleet.pictures import Common, Pictured, write_pictures  # noqa: PLC0415 - only here
    from homenode.fleet.sweep import host_names  # noqa: PLC0415 - the same

    groups: dict[tuple[str, str], list[CellResult]] = {}
    for row in rows_of(results):
        cell = row.results[0].cell
        groups.setdefault((str(cell.trace), str(cell.fleet)), []).append(row.results[0])
    for number, own in enumerate(groups.values(), 1):
        first = own[0]
        title = f"{first.trace} on {first.fleet}"
        # Names may be alike where files are not.
        below = f"{number} {title}".replace("/", "_")
        times = [reading.time_ms for reading in first.outcome.readings]
        common = Common(
            title,
            host_names(first.cell),
            None if first.cell.stay else first.bounds,
            () if first.cell.stay else times,
            first.synthetic,
        )
        pictured = [Pictured(one.cell.policy, one.outcome) for one in own]
        write_pictures(folder if len(groups) == 1 else folder / below, pictured, common)
