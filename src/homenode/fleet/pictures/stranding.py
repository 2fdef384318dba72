"""What is free and no guest can use, over time; and the guests that were refused."""

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt
from altair.typing import ChartType

from homenode.fleet.measures import FRAGMENT_VCPUS
from homenode.fleet.pictures import Common, Picture, Pictured, Row
from homenode.fleet.pictures.lines import Lines, clock, reading_rows, turn_words
from homenode.fleet.pictures.look import (
    INK,
    WIDTH,
    Entry,
    Paper,
    colour_by_policy,
    colours,
    shown_names,
)

_GAP, _HEIGHT = 64, 220
_BAR = 24
_NUMBERS = 190
"""Pixels for the names and numbers on both sides of bars, less the gap."""

_SHARES = (
    ("vcpus_stranded", "Vcpus stranded", "all vcpus"),
    ("memory_stranded", "Memory stranded", "all memory"),
    ("fragments", f"Fragments, FR({FRAGMENT_VCPUS})", "free vcpus"),
)

_WORDS = (
    "Vcpus are stranded if they are free on a node with less memory than any guest wants of one;"
    f" memory, if it is free where vcpus are too few. FR({FRAGMENT_VCPUS}) is, of the free vcpus,"
    f" those below a multiple of {FRAGMENT_VCPUS} on their node."
)


def stranding_picture(pictured: Sequence[Pictured], common: Common) -> Picture:
    """Return the picture of stranding and fragments, and of refusals if anybody was refused."""
    sentences = [_WORDS, *turn_words(len(pictured))]
    paper = Paper("What no guest can use, over time, by policy", sentences, common)
    names = shown_names(pictured)
    axis = clock([one.outcome for one in pictured])
    lines = Lines(paper, names, axis, reading_rows(pictured, names, axis))
    size = (WIDTH - 2 * _GAP) // 3, _HEIGHT
    panels = [lines.shares(*share, size=size) for share in _SHARES]
    key = paper.key(list(map(Entry, names, colours(names))))
    parts: list[ChartType] = [key, alt.hconcat(*panels, spacing=_GAP, bounds="flush")]
    if any(one.outcome.refused for one in pictured):
        parts.append(_refusals(paper, pictured, names, common))
    return paper.picture(parts)


class _Bars(NamedTuple):
    """A chart of numbers of guests by policy, and the bound on them with what it says."""

    name: str
    title: str
    rows: Sequence[Row]
    bound: int | None
    words: str


def _refusals(
    paper: Paper, pictured: Sequence[Pictured], names: Sequence[str], common: Common
) -> ChartType:
    refused: list[Row] = []
    first: list[Row] = []
    for name, one in zip(names, pictured, strict=True):
        outcome = one.outcome
        words = f"{outcome.refused:,}"
        if outcome.impossible:
            words += f", {outcome.impossible:,} fit no empty host"
        refused.append({"policy": name, "guests": outcome.refused, "words": words})
        words = f"{outcome.placed_first:,}" + ", all" * (not outcome.refused)
        first.append({"policy": name, "guests": outcome.placed_first, "words": words})
    fewest = most = None
    if common.bounds is not None:
        fewest, most = common.bounds.refused, common.bounds.placed_first
    title = "Guests placed before the first refusal"
    both = (
        _Bars("refused", "Guests refused", refused, fewest, "no policy refuses fewer than"),
        _Bars("placed-first", title, first, most, "no policy can place more than"),
    )
    return alt.hconcat(*(_drawn(paper, bars) for bars in both), spacing=_GAP)


def _drawn(paper: Paper, bars: _Bars) -> ChartType:
    names = [row["policy"] for row in bars.rows]
    width = WIDTH // 2 - _NUMBERS
    most = max(1, bars.bound or 0, *(row["guests"] for row in bars.rows))
    axis = alt.Axis(title="guests", tickCount=3, format=",d", tickMinStep=1)
    across = alt.X("guests:Q", scale=alt.Scale(domain=[0, most], nice=3), axis=axis)
    up = alt.Y("policy:N", sort=names, axis=alt.Axis(title=None, ticks=False, domain=False))
    chart = paper.chart(bars.name, alt.MarkDef(type="bar", height=_BAR - 8), bars.rows)
    words = paper.chart(bars.name, alt.MarkDef(type="text", align="left")).encode(
        x=alt.value(width + 10), y=up, text="words:N"
    )
    layers = [chart.encode(x=across, y=up, color=colour_by_policy(names))]
    layers.append(words.properties(name=f"{bars.name}-words"))
    title = alt.Title(bars.title)
    if bars.bound:
        name = f"{bars.name}-bound"
        mark = alt.MarkDef(type="rule", strokeDash=[6, 4], strokeWidth=1.6, color=INK)
        layers.append(paper.chart(name, mark, [{"guests": bars.bound}]).encode(x=across))
        title = alt.Title(bars.title, subtitle=f"dashed: {bars.words} {bars.bound:,}")
    return alt.layer(*layers, title=title, width=width, height=_BAR * len(names))
