"""Lines over time, one for each policy.

Policies often do the same, so lines lie on each other. Each is drawn whole, and then all of them
once more in pieces that take turns in time: where they are one line, it has all of their colours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt
from altair.typing import ChartType

from homenode.fleet.measures import Reading
from homenode.fleet.pictures import Pictured, Row
from homenode.fleet.pictures.look import Paper, colour_by_policy
from homenode.fleet.replay import Outcome

MOST_READINGS = 400
"""Points of a line that are drawn."""

_TURNS = "Where lines lie on each other, their colours take turns."

_UNITS = (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000), ("seconds", 1000))
_LEAST = 2
"""Of a unit, the least that the axis is as long as."""

_TURN = 14
"""About how many pixels wide a piece is."""

_LEAST_SHARE = 0.01
"""A chart of shares ends no lower: less than that is not blown up."""
_TICKS = 5


class Clock(NamedTuple):
    """The axis of time: its unit, and where it begins and ends in it."""

    unit: str
    unit_ms: int
    begin: float
    end: float

    def at(self, time_ms: int) -> float:
        """Return a time in the unit."""
        return time_ms / self.unit_ms

    def across(self) -> alt.X:
        """Return the encoding of times."""
        scale = alt.Scale(domain=[self.begin, self.end], nice=False, zero=False)
        title = f"{self.unit} since the trace began"
        return alt.X(
            "time:Q",
            scale=scale,
            axis=alt.Axis(title=title, grid=False, tickCount=8, labelFlush=False),
        )


def clock(outcomes: Sequence[Outcome]) -> Clock:
    """Return the axis for all readings of these replays."""
    times = [reading.time_ms for outcome in outcomes for reading in outcome.readings]
    begin, end = min(times, default=0), max(times, default=0)
    if begin * 10 <= end:
        begin = min(begin, 0)
    end = max(end, begin + 1)
    unit, unit_ms = next(
        ((unit, ms) for unit, ms in _UNITS if end - begin >= _LEAST * ms), ("milliseconds", 1)
    )
    return Clock(unit, unit_ms, begin / unit_ms, end / unit_ms)


def thinned(count: int) -> list[int]:
    """Return which of `count` points are drawn: evenly spread, and the last one."""
    step = -(-count // MOST_READINGS)
    return sorted({*range(0, count, step), count - 1}) if count else []


def reading_rows(pictured: Sequence[Pictured], names: Sequence[str], axis: Clock) -> list[Row]:
    """Return the readings as rows, policy after policy."""
    return [
        {"policy": name, "time": axis.at(reading.time_ms), **_without_time(reading)}
        for name, one in zip(names, pictured, strict=True)
        for reading in (one.outcome.readings[at] for at in thinned(len(one.outcome.readings)))
    ]


def _without_time(reading: Reading) -> Row:
    return {name: value for name, value in reading._asdict().items() if name != "time_ms"}


def turn_rows(rows: Sequence[Row], *, width: int) -> list[Row]:
    """Return the rows again in pieces that take turns, for a chart so wide; a piece has a number.

    All policies are read at the same times, so that their readings go with each other.
    """
    by_policy: dict[str, list[Row]] = {}
    for row in rows:
        by_policy.setdefault(row["policy"], []).append(row)
    most = max(map(len, by_policy.values()), default=0)
    per_turn = max(1, round(most * _TURN / width))
    pieces: list[Row] = []
    for number, own in enumerate(by_policy.values()):
        for turn in range(number, -(-len(own) // per_turn), len(by_policy)):
            first = turn * per_turn
            # A piece reaches to where the next one begins.
            pieces += ({**row, "piece": turn} for row in own[first : first + per_turn + 1])
    return pieces


def turn_words(policies: int) -> list[str]:
    """Return the sentence about lines that lie on each other, if there can be any."""
    return [_TURNS] if policies > 1 else []


class Lines(NamedTuple):
    """Lines on `paper`, one for each of `names`, through what `reading_rows` returned."""

    paper: Paper
    names: Sequence[str]
    axis: Clock
    rows: Sequence[Row]

    def chart(self, field: str, up: alt.Y, *, width: int, format_: str) -> ChartType:
        """Return the lines through `field`, in a chart that wide."""
        told = [
            alt.Tooltip("policy:N"),
            alt.Tooltip("time:Q", format=",.2f", title=self.axis.unit),
            alt.Tooltip(f"{field}:Q", format=format_, title=field.replace("_", " ")),
        ]
        mark = alt.MarkDef(type="line", interpolate="step-after", strokeWidth=2)
        parts = {f"lines-{field}": self.paper.chart("readings", mark, self.rows)}
        if len(self.names) > 1:
            rows = turn_rows(self.rows, width=width)
            turns = self.paper.chart(f"turns-{width}", mark, rows)
            parts[f"turns-{field}"] = turns.encode(detail="piece:N")
        colour = colour_by_policy(self.names)
        return alt.layer(
            *(
                part.encode(x=self.axis.across(), y=up, color=colour, tooltip=told).properties(
                    name=name
                )
                for name, part in parts.items()
            )
        )

    def shares(self, field: str, title: str, unit: str, *, size: tuple[int, int]) -> ChartType:
        """Return one small chart of shares of `unit`."""
        most = max([_LEAST_SHARE, *(row[field] for row in self.rows)])
        scale = alt.Scale(domain=[0, most], nice=_TICKS)
        axis = alt.Axis(title=f"share of {unit}", format="~%", tickCount=_TICKS)
        up = alt.Y(f"{field}:Q", scale=scale, axis=axis)
        chart = self.chart(field, up, width=size[0], format_=".2%")
        return chart.properties(width=size[0], height=size[1], title=title)
