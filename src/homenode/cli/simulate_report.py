"""What ``homenode simulate`` prints, writes and draws."""

import csv
import sys
from typing import TYPE_CHECKING

from homenode.cli.common import colours_wanted
from homenode.cli.guest_text import print_table
from homenode.drawing import name_text, printable
from homenode.errors import HomenodeError
from homenode.scheduler.codes import Kind
from homenode.simulation.run import GuestOutcome
from homenode.units import format_time

if TYPE_CHECKING:
    from homenode.estimate import Estimate
    from homenode.simulation.comparison import Comparison, GuestResult, VariantResult
    from homenode.simulation.run import Recorded
    from homenode.simulation.scenario import Scenario, Variant

_GUEST_HEADINGS = (
    "Guest", "Done/s", "Work", "Cpu", "Waited", "Longest", "Moves/s", "Node moves/s", "Resident",
    "Local", "Response",
)  # fmt: skip

_MOST_GUESTS = 40
"""Guests of a table for people; programs get all."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WIDE = 100
_LOCAL = 0.5


def document(compared: "Comparison") -> dict[str, object]:
    """Return the JSON document."""
    scenario = compared.scenario
    return {
        "version": 1,
        "scenario": scenario.name,
        "host": scenario.host.name,
        "duration_s": scenario.duration_ns / 1e9,
        "seeds": list(scenario.seeds),
        "variants": [
            {
                "name": result.name,
                "scheduler": str(result.variant.scheduler),
                "affinity": result.variant.affinity,
                "memory": result.variant.memory,
                "policy": result.variant.policy or None,
                "keeper": result.variant.keeper,
                "values": _values(result.values),
                "guests": [
                    {"name": guest.name, "vcpus": guest.vcpus, "values": _values(guest.values)}
                    for guest in result.guests
                ],
            }
            for result in compared.results
        ],
    }


def _values(values: "dict[str, Estimate]") -> dict[str, dict[str, float | None]]:
    return {name: {"mean": one.mean, "margin": one.margin} for name, one in values.items()}


def print_text(compared: "Comparison") -> None:
    """Print the comparison for people."""
    scenario = compared.scenario
    print(
        f"{printable(scenario.name)}: {_count(len(scenario.guests), 'guest')} on"
        f" {name_text(scenario.host.name)},"
        f" {format_time(scenario.duration_ns)} simulated, {_count(len(scenario.seeds), 'seed')}\n"
    )
    first = compared.results[0]
    rows = [("Variant", "Scheduler", "Work done", "Beside first", "Busy", "Resident", "Local",
             "Fairness")]  # fmt: skip
    rows += [
        (
            printable(result.name),
            _scheduler(result.variant),
            f"{_with_margin(result.values.get('work'))} cpus",
            "-" if result is first else _gain(result.values.get("gain")),
            _percent(result.values.get("busy")),
            _percent(result.values.get("residency")),
            _percent(result.values.get("locality")),
            _plain(result.values.get("fairness")),
        )
        for result in compared.results
    ]
    print_table(rows, wrapped=("Variant",))
    print("\nWork done: cpus' worth of work, each for itself with local memory; with its 95 %"
          " confidence interval.\n")  # fmt: skip
    for result in compared.results:
        _print_guests(compared, result)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _scheduler(variant: "Variant") -> str:
    return f"{variant.scheduler}{', keeper' if variant.keeper else ''}"


def _print_guests(compared: "Comparison", result: "VariantResult") -> None:
    rows: list[tuple[str, ...]] = [_GUEST_HEADINGS]
    seconds = compared.scenario.duration_ns / 1e9
    rows += [_guest_row(guest, seconds) for guest in result.guests[:_MOST_GUESTS]]
    print(f"{printable(result.name)} ({_scheduler(result.variant)}):")
    print_table([*rows], wrapped=("Guest",))
    if len(result.guests) > _MOST_GUESTS:
        print(f"... and {len(result.guests) - _MOST_GUESTS} more: --json or --csv has all")
    print()


def _guest_row(guest: "GuestResult", seconds: float) -> tuple[str, ...]:
    values = guest.values
    response = values.get("response_s")
    ended = values.get("ended_s")
    last = "-" if response is None else format_time(response.mean * 1e9)
    if ended is not None:
        last = f"ends {format_time(ended.mean * 1e9)}"
    return (
        name_text(guest.name),
        _with_margin(values.get("throughput")),
        f"{values['work'].mean / seconds:.2f}",
        f"{values['cpu_s'].mean / seconds:.2f}",
        f"{values['wait_s'].mean / seconds:.2f}",
        format_time(values["longest_wait_s"].mean * 1e9),
        f"{values['cpu_moves'].mean:.3g}",
        f"{values['node_moves'].mean:.3g}",
        _percent(values.get("residency")),
        _percent(values.get("locality")),
        last,
    )


def _with_margin(one: "Estimate | None") -> str:
    if one is None:
        return "-"
    margin = "" if one.margin is None else f" ±{_two_digits(one.margin)}"
    return f"{one.mean:.4g}{margin}"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):g}"


def _plain(one: "Estimate | None") -> str:
    return "-" if one is None else f"{one.mean:.3f}"


def _percent(one: "Estimate | None") -> str:
    return "-" if one is None else f"{one.mean:.0%}"


def _gain(one: "Estimate | None") -> str:
    if one is None:
        return "-"
    margin = "" if one.margin is None else f" ±{_two_digits(100 * one.margin)}"
    return f"{100 * one.mean:+.1f}{margin} %"


def write_csv(path: str, compared: "Comparison") -> None:
    """Write a line for each run and guest."""
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - as elsewhere
            written = csv.writer(file)
            written.writerow(("variant", "seed", *GuestOutcome._fields))
            for outcome in compared.outcomes:
                for guest in outcome.guests:
                    written.writerow(
                        (outcome.variant, outcome.seed, *("" if v is None else v for v in guest))
                    )
    except OSError as error:
        raise HomenodeError(f"{path}: {error.strerror}") from None


def write_bars(path: str, compared: "Comparison") -> None:
    """Draw the comparison: the work in all, locality, and what each guest gets done."""
    from homenode.drawing.svg.bars import Bar, Panel, bars  # noqa: PLC0415 - one of several forms

    def panel(title: str, name: str, words: str, at: int | None = None) -> Panel:
        drawn = []
        for result in compared.results:
            values = result.values if at is None else _named(result, compared, at)
            if (one := values.get(name)) is not None:
                told = words.format(one.mean)
                if one.margin is not None:
                    told += f" ±{_two_digits(one.margin * (100 if '%' in words else 1))}"
                drawn.append(Bar(result.name, one.mean, one.margin, told))
        return Panel(title, tuple(drawn))

    panels = [
        panel("Work done, cpus' worth", "work", "{:.3g}"),
        panel("Locality", "locality", "{:.1%}"),
    ]
    for at, guest in enumerate(compared.scenario.guests[:_MOST_GUESTS]):
        if guest.doing.kind != Kind.IDLE:
            panels.append(panel(f"{guest.name}: done in a second", "throughput", "{:.4g}", at))
    _write(path, bars(compared.scenario.name, [one for one in panels if one.bars]))


def _named(result: "VariantResult", compared: "Comparison", at: int) -> "dict[str, Estimate]":
    # A variant may be without some of the guests.
    name = compared.scenario.guests[at].name
    return next((guest.values for guest in result.guests if guest.name == name), {})


def draw_timeline(
    path: str,
    scenario: "Scenario",
    variant: "Variant",
    recorded: "Recorded",
    window: tuple[int, int],
) -> None:
    """Draw which cpu ran which vcpu, as SVG, or as text to the terminal if `path` is -."""
    title = f"{scenario.name}: {variant.name} ({variant.scheduler})"
    if path == "-":
        _print_timeline(title, recorded, window)
    else:
        _write(path, timeline_svg(title, recorded, window))


def timeline_svg(title: str, recorded: "Recorded", window: tuple[int, int]) -> str:
    """Return the SVG document that shows which cpu ran which vcpu, and who waited."""
    from homenode.drawing.svg.timeline import (  # noqa: PLC0415 - only for pictures
        Row,
        Stretch,
        Waited,
        Window,
        timeline,
    )
    from homenode.simulation.watching import stretches, waits  # noqa: PLC0415 - the same

    ground = recorded.arrangement.ground
    rows = [
        Row(f"cpu {cpu}", f"node {ground.node_ids[ground.node[at]]}")
        for at, cpu in enumerate(ground.cpu_ids)
    ]
    drawn = [
        Stretch(one.cpu, one.begin, one.end, name_text(one.name), one.locality,
                name_text(one.guest))
        for one in stretches(recorded, *window)
    ]  # fmt: skip
    waited = [Waited(name_text(one.name), one.begin, one.end) for one in waits(recorded, *window)]
    return timeline(title, rows, drawn, waited, Window(*window))


def _print_timeline(title: str, recorded: "Recorded", window: tuple[int, int]) -> None:
    from homenode.simulation.watching import stretches  # noqa: PLC0415 - only for pictures

    begin, end = window
    arranged = recorded.arrangement
    ground = arranged.ground
    letters = [_LETTERS[at % len(_LETTERS)] for at in range(len(arranged.guests))]
    drawn = [["·"] * _WIDE for _ in range(ground.cpus)]
    step = (end - begin) / _WIDE
    guest_of = [task.guest for task in arranged.tasks]
    for one in stretches(recorded, begin, end):
        letter = letters[guest_of[one.vcpu]]
        if one.locality < _LOCAL:
            letter = letter.upper()
        first = int((max(one.begin, begin) - begin) / step)
        last = int((min(one.end, end) - begin) / step)
        for at in range(first, min(_WIDE, max(last, first + 1))):
            drawn[one.cpu][at] = letter
    green, red, off = ("\x1b[32m", "\x1b[31m", "\x1b[0m") if colours_wanted() else ("", "", "")
    print(printable(title))
    print(f"{format_time(begin)} to {format_time(end)}, {format_time(step)} a letter")
    shown = None
    for at, row in enumerate(drawn):
        node = ground.node_ids[ground.node[at]]
        label = f"node {node}" if node != shown else ""
        shown = node
        text = "".join(
            f"{red if cell.isupper() else green}{cell}{off}" if cell.isalpha() and off else cell
            for cell in row
        )
        print(f"{label:<8} cpu {ground.cpu_ids[at]:<4} {text}")
    names = ", ".join(
        f"{letter} {name_text(guest.name)}"
        for letter, guest in zip(letters, arranged.guests, strict=True)
    )
    print(f"{names}\ncapital: most of its memory is on other nodes; ·: idle")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - as elsewhere
            file.write(text)
    except OSError as error:
        raise HomenodeError(f"{path}: {error.strerror}") from None
    print(f"wrote {path}", file=sys.stderr)
