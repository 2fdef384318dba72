"""Hosts in use over time beside the lower bound, and what is given away of what there is."""

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt
from altair.typing import ChartType

from homenode.fleet.pictures import Common, Picture, Pictured, Row
from homenode.fleet.pictures.lines import Clock, Lines, clock, reading_rows, thinned, turn_words
from homenode.fleet.pictures.look import INK, WIDTH, Paper, colours, literal_colour, shown_names

_HEIGHT, _LABEL = 300, 19
_GAP, _LOW = 64, 120
_ZERO_UP_TO = 0.6
"""If the least of all is above this part of the most, the axis of hosts does not begin at zero."""

_LINEAR_UP_TO = 50
"""Hosts beyond the lower bound from which on their axis is logarithmic."""

_BOUND = "lower bound"
_BOUND_WORDS = (
    "The dashed line is a lower bound: the hosts that all who come would need at the least,"
    " were nobody refused and could guests be cut up at will."
)

_SHARES = (
    ("vcpus", "Vcpus given away", "all vcpus"),
    ("memory", "Memory given away", "all memory"),
    ("vcpus_packed", "Vcpus given away on the hosts in use", "their vcpus"),
    ("memory_packed", "Memory given away on the hosts in use", "their memory"),
)


class _End(NamedTuple):
    """The end of a line, and the words beside it."""

    words: str
    colour: str
    time: float
    value: float


class _Hosts(NamedTuple):
    """The axis of hosts, from `low` to `high`."""

    low: float
    high: float
    height: int

    def pixel(self, value: float) -> float:
        """Return how far below the top a number of hosts is."""
        return self.height * (self.high - value) / (self.high - self.low)

    def value(self, pixel: float) -> float:
        """Return which number of hosts is so far below the top."""
        return self.high - (self.high - self.low) * pixel / self.height

    def up(self, field: str) -> alt.Y:
        """Return the encoding of numbers of hosts."""
        title = "hosts in use (does not begin at 0)" if self.low else "hosts in use"
        scale = alt.Scale(domain=[self.low, self.high], nice=False, zero=False)
        return alt.Y(
            f"{field}:Q", scale=scale, axis=alt.Axis(title=title, tickMinStep=1, format=",d")
        )


def use_picture(pictured: Sequence[Pictured], common: Common) -> Picture:
    """Return the picture of hosts in use, and of what is given away."""
    axis = clock([one.outcome for one in pictured])
    bound = _bound_rows(common, axis)
    paper = Paper("Hosts in use over time, by policy", _sentences(pictured, bound), common)
    names = shown_names(pictured)
    rows = reading_rows(pictured, names, axis)
    lines = Lines(paper, names, axis, _with_beyond(rows, bound) if bound else rows)
    size = (WIDTH - _GAP) // 2, _LOW
    small = [lines.shares(*share, size=size) for share in _SHARES]
    parts: list[ChartType] = [
        _hosts_panel(lines, bound, _ends(pictured, names, axis, bound, common)),
        *([_beyond_panel(lines)] if bound else []),
        alt.hconcat(*small[:2], spacing=_GAP, bounds="flush"),
        alt.hconcat(*small[2:], spacing=_GAP, bounds="flush"),
    ]
    return paper.picture(parts)


def _sentences(pictured: Sequence[Pictured], bound: Sequence[Row]) -> list[str]:
    said = ["A host is in use while a guest is on it."]
    if bound:
        said.append(_BOUND_WORDS)
    if len({one.outcome.readings[-1].time_ms for one in pictured}) > 1:
        said.append("A line that goes on in dots belongs to a replay that ended there.")
    return said + turn_words(len(pictured))


def _bound_rows(common: Common, axis: Clock) -> list[Row]:
    if common.bounds is None:
        return []
    # Replays that end with the first refusal may end long before the trace does.
    return [
        {"time": axis.at(time), "hosts": hosts}
        for time, hosts in zip(common.times_ms, common.bounds.hosts_over_time, strict=True)
        if axis.at(time) <= axis.end
    ]


def _with_beyond(rows: Sequence[Row], bound: Sequence[Row]) -> list[Row]:
    # The bound is known at the times that it was asked for, and not at the end of a replay that
    # ended between two of them.
    least = {row["time"]: row["hosts"] for row in bound}
    return [
        {**row, "beyond": row["hosts"] - least[row["time"]] if row["time"] in least else None}
        for row in rows
    ]


def _beyond_panel(lines: Lines) -> ChartType:
    beyond = [row["beyond"] for row in lines.rows if row["beyond"] is not None]
    low, high = min(0, *beyond), max(1, *beyond)
    title = "Hosts in use beyond the lower bound" + (
        " (below it: guests were refused)" if low < 0 else ""
    )
    axis = alt.Axis(title="hosts", format=",d", tickMinStep=1, tickCount=4)
    scale = alt.Scale(domain=[low, high], nice=False)
    if high - low > _LINEAR_UP_TO:
        # By one policy it is a host or two, by another one half of the fleet.
        powers = [10**power for power in range(len(str(high - low)))]
        values = [0, *powers, *(-power for power in powers)]
        axis.labelOverlap, axis.title = "greedy", "hosts, logarithmic"
        axis.values = [at for at in values if low <= at <= high]
        scale.type = "symlog"
    up = alt.Y("beyond:Q", scale=scale, axis=axis)
    chart = lines.chart("beyond", up, width=WIDTH, format_=",d")
    return chart.properties(width=WIDTH, height=_LOW, title=title)


def _ends(
    pictured: Sequence[Pictured], names: Sequence[str], axis: Clock, bound: Sequence[Row],
    common: Common,
) -> list[_End]:  # fmt: skip
    outcomes = [one.outcome for one in pictured]
    ends = {outcome.readings[-1].time_ms for outcome in outcomes}
    # Means over times that differ do not compare.
    comparable = len(ends | set(common.times_ms[-1:])) == 1
    found = []
    for name, colour, outcome in zip(names, colours(names), outcomes, strict=True):
        last = outcome.readings[-1]
        words = f"{name}, on average {outcome.hosts_mean:,.1f}" if comparable else name
        found.append(_End(words, colour, axis.at(last.time_ms), last.hosts))
    if common.bounds is not None and bound:
        words = f"{_BOUND}, on average {common.bounds.hosts_mean:,.1f}" if comparable else _BOUND
        found.append(_End(words, INK, bound[-1]["time"], bound[-1]["hosts"]))
    return found


def _hosts_panel(lines: Lines, bound: Sequence[Row], ends: Sequence[_End]) -> ChartType:
    seen = [row["hosts"] for row in [*lines.rows, *bound]]
    most, least = max(seen), min(seen)
    low = 0 if least <= _ZERO_UP_TO * most else least - max(1, (most - least) * 0.1)
    hosts = _Hosts(low, most + max(1, most - low) * 0.04, max(_HEIGHT, _LABEL * len(ends)))
    layers = [lines.chart("hosts", hosts.up("hosts"), width=WIDTH, format_=",d")]
    if bound:
        mark = alt.MarkDef(
            type="line", interpolate="step-after", strokeDash=[5, 3], strokeWidth=1.4, color=INK
        )
        dashed = lines.paper.chart("bound", mark, [bound[at] for at in thinned(len(bound))])
        layers.append(dashed.encode(x=lines.axis.across(), y=hosts.up("hosts")))
    layers += _labels(lines.paper, ends, hosts, lines.axis)
    return alt.layer(*layers, width=WIDTH, height=hosts.height)


def _labels(paper: Paper, ends: Sequence[_End], hosts: _Hosts, axis: Clock) -> list[alt.Chart]:
    # Each line is led to its words, which stand beside the chart in the order of the ends.
    order = sorted(ends, key=lambda end: -end.value)
    middles = spaced([hosts.pixel(end.value) for end in order], _LABEL, hosts.height)
    rows: list[Row] = [
        {**end._asdict(), "label": hosts.value(middle)}
        for end, middle in zip(order, middles, strict=True)
    ]
    edge, near, beside = (alt.value(WIDTH + more) for more in (0, 28, 34))
    level = paper.chart("ends", alt.MarkDef(type="rule", strokeDash=[1, 3]), rows)
    lead = paper.chart("ends", alt.MarkDef(type="rule", strokeWidth=2))
    words = paper.chart("ends", alt.MarkDef(type="text", align="left"))
    at_end, colour = hosts.up("value"), literal_colour()
    return [
        level.encode(x=axis.across(), x2=edge, y=at_end, color=colour).properties(name="levels"),
        lead.encode(x=edge, x2=near, y=at_end, y2="label:Q", color=colour),
        words.encode(x=beside, y=hosts.up("label"), text="words:N").properties(name="labels"),
    ]


def spaced(wanted: Sequence[float], gap: float, end: float) -> list[float]:
    """Return places near the `wanted` ones, which ascend, `gap` apart and from 0 to `end`."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap if places else 0))
    limit = end
    for at in reversed(range(len(places))):
        places[at] = limit = min(places[at], limit)
        limit -= gap
    return places
