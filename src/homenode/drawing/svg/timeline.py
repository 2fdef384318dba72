"""Cpus over time, with the vcpus that they ran coloured by how local their memory was there."""

from collections.abc import Sequence
from typing import NamedTuple

from homenode.drawing.svg.bars import picture, written
from homenode.drawing.svg.canvas import Canvas, fit, text_width
from homenode.drawing.svg.style import LINE, MARGIN, WIDTH
from homenode.units import format_time

_ROW = 16
_NAME = 96
_NODE_GAP = 10

_COLOURS = ("#c0392b", "#dd7a3a", "#e0b03c", "#8fb04e", "#2e8b57")
"""From all memory remote to all of it local."""


class Stretch(NamedTuple):
    """A time in which a cpu ran a vcpu; times in ns, `locality` the share of its memory there."""

    row: int
    begin: int
    end: int
    name: str
    locality: float


class Row(NamedTuple):
    """One cpu, and the node that it is on."""

    name: str
    node: str


def shade(locality: float) -> int:
    """Return which of five shades stands for a locality from 0 to 1."""
    return min(len(_COLOURS) - 1, max(0, round(locality * (len(_COLOURS) - 1))))


def timeline(
    title: str, rows: Sequence[Row], stretches: Sequence[Stretch], begin: int, end: int
) -> str:
    """Return the SVG document for the time from `begin` to `end`, in ns."""
    nodes = len({row.node for row in rows})
    height = MARGIN * 4 + len(rows) * _ROW + nodes * _NODE_GAP + 3 * LINE
    busy = sum(min(one.end, end) - max(one.begin, begin) for one in stretches)
    share = busy / max(1, (end - begin) * len(rows))
    words = (
        f"{len(rows)} cpus from {format_time(begin)} to {format_time(end)}, {share:.0%} busy; "
        "each stretch is a vcpu, from red (all of its memory is remote) to green (all is local)"
    )
    root, canvas = picture(title, words, height)
    left = MARGIN + _NAME
    scale = (WIDTH - MARGIN - left) / max(1, end - begin)
    y_of = []
    y = MARGIN + 40.0
    before = None
    for row in rows:
        if row.node != before:
            y += _NODE_GAP
            before = row.node
            canvas.text(MARGIN, y + 11, fit(row.node, _NAME / 2), "quiet small")
        canvas.text(MARGIN + _NAME / 2, y + 11, fit(row.name, _NAME / 2), "text small")
        canvas.box(left, y, width=WIDTH - MARGIN - left, height=_ROW - 2, style="core")
        y_of.append(y)
        y += _ROW
    for one in stretches:
        x = left + (max(one.begin, begin) - begin) * scale
        width = (min(one.end, end) - max(one.begin, begin)) * scale
        if width > 0:
            _draw(canvas, one, x, y_of[one.row], width)
    _draw_axis(canvas, begin, end, y + 4)
    return written(root)


def _draw(canvas: Canvas, one: Stretch, x: float, y: float, width: float) -> None:
    drawn = canvas.box(x, y, width=width, height=_ROW - 2, fill=_COLOURS[shade(one.locality)])
    drawn.title(
        f"{one.name}: {format_time(one.begin)} to {format_time(one.end)}, "
        f"{one.locality:.0%} of its memory here"
    )
    if width > text_width(one.name, "small") + 4:
        canvas.text(x + 2, y + 10, one.name, "on-far small")


def _draw_axis(canvas: Canvas, begin: int, end: int, y: float) -> None:
    left = MARGIN + _NAME
    for step in range(6):
        x = left + (WIDTH - MARGIN - left) * step / 5
        words = format_time(begin + (end - begin) * step / 5)
        canvas.text(min(x, WIDTH - MARGIN - text_width(words, "small")), y + 12, words,
                    "quiet small")  # fmt: skip
    x = float(left)
    for at, colour in enumerate(_COLOURS):
        canvas.box(x, y + LINE + 6, width=14, height=10, fill=colour)
        words = f"{at * 100 // (len(_COLOURS) - 1)} % local"
        canvas.text(x + 18, y + LINE + 15, words, "quiet small")
        x += 30 + text_width(words, "small")
