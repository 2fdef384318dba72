"""Cpus over time with the vcpus that they ran, and the vcpus that waited meanwhile.

What ran is coloured by how local its memory was there, or by guest where that tells nothing: on a
host of one node, and where all memory is striped over all nodes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from homenode.drawing.svg.bars import picture, written
from homenode.drawing.svg.canvas import Canvas, fit, text_width
from homenode.drawing.svg.style import GUEST_COLOURS, LINE, MARGIN, ink_on
from homenode.units import format_time

_WIDTH = 800
_ROW = 19
_NODE = 58
_NAME = _NODE + 54
_NODE_GAP = 8
_LEFT = MARGIN + _NAME
_RIGHT = _WIDTH - MARGIN

_COLOURS = ("#a83c00", "#dd8a3c", "#dcc765", "#7fb9a4", "#10705f")
"""From all memory remote to all of it local; they stay apart for the colour-blind."""

_GAP_FROM = 3
"""Stretches at least so wide are kept apart by a pixel."""

MOST_WAITING = 12
"""Rows of vcpus that waited; of more, the rest is said in a sentence."""

_SEEN_FROM = 0.002
"""Who waited for less than this part of the picture's time has no row."""


class Stretch(NamedTuple):
    """A time in which a cpu ran a vcpu; times in ns, `locality` the share of its memory there."""

    row: int
    begin: int
    end: int
    name: str
    locality: float
    guest: str


class Waited(NamedTuple):
    """A time in which a vcpu waited for a cpu; times in ns."""

    name: str
    begin: int
    end: int


class Row(NamedTuple):
    """One cpu, and the node that it is on."""

    name: str
    node: str


class Window(NamedTuple):
    """The time that is drawn, in ns."""

    begin: int
    end: int

    def across(self, time: float) -> float:
        """Return where a moment is."""
        inside = min(max(time, self.begin), self.end) - self.begin
        return _LEFT + (_RIGHT - _LEFT) * inside / max(1, self.end - self.begin)


class _Key(NamedTuple):
    """The colour of a stretch, and what the colours mean."""

    colour: Callable[[Stretch], str]
    entries: list[tuple[str, str]]
    words: str


def shade(locality: float) -> int:
    """Return which of five shades stands for a locality from 0 to 1."""
    return min(len(_COLOURS) - 1, max(0, round(locality * (len(_COLOURS) - 1))))


def timeline(
    title: str,
    rows: Sequence[Row],
    stretches: Sequence[Stretch],
    waited: Sequence[Waited],
    window: Window,
) -> str:
    """Return the SVG document for that time."""
    waiting = _waiting(waited, window)
    shown, more = waiting[:MOST_WAITING], len(waiting[MOST_WAITING:])
    nodes = len({row.node for row in rows})
    key = _key(stretches, nodes)
    height = MARGIN + 40.0 + len(rows) * _ROW + nodes * _NODE_GAP + 44 + MARGIN
    if shown:
        height += _NODE_GAP + (len(shown) + bool(more)) * _ROW
    root, canvas = picture(title, _words(rows, stretches, waiting, window, key), height, _WIDTH)
    y_of, y = _draw_rows(canvas, rows)
    for one in stretches:
        _draw(canvas, one, window, y_of[one.row], key.colour(one))
    if shown:
        y = _draw_waiting(canvas, shown, more, window, y)
    _draw_axis(canvas, window, y + 4)
    _draw_key(canvas, key, y + LINE + 12)
    return written(root)


def _words(
    rows: Sequence[Row], stretches: Sequence[Stretch], waiting: Sequence[list[Waited]],
    window: Window, key: _Key,
) -> str:  # fmt: skip
    busy = sum(min(one.end, window.end) - max(one.begin, window.begin) for one in stretches)
    share = busy / max(1, (window.end - window.begin) * len(rows))
    words = (
        f"{len(rows)} cpus from {format_time(window.begin)} to {format_time(window.end)}, "
        f"{share:.0%} busy; each stretch is a vcpu, {key.words}"
    )
    if waiting:
        words += f"; waiting meanwhile: {', '.join(own[0].name for own in waiting)}"
    return words


def _waiting(waited: Sequence[Waited], window: Window) -> list[list[Waited]]:
    # By vcpu, those that can be seen.
    by_name: dict[str, list[Waited]] = {}
    for one in waited:
        by_name.setdefault(one.name, []).append(one)
    least = (window.end - window.begin) * _SEEN_FROM
    return [
        own
        for own in by_name.values()
        if sum(min(one.end, window.end) - max(one.begin, window.begin) for one in own) >= least
    ]


def _key(stretches: Sequence[Stretch], nodes: int) -> _Key:
    seen = {one.locality for one in stretches}
    if nodes < 2 or (len(seen) == 1 and not seen & {0.0, 1.0}):
        guests = sorted({one.guest for one in stretches})
        colours = {guest: GUEST_COLOURS[at % len(GUEST_COLOURS)] for at, guest in enumerate(guests)}
        entries = [(colours[guest], guest) for guest in guests]
        return _Key(lambda one: colours[one.guest], entries, "in its guest's colour")
    steps = len(_COLOURS) - 1
    entries = [(colour, f"{at * 100 // steps} % local") for at, colour in enumerate(_COLOURS)]
    words = "from orange (all of its memory is remote) to green (all is local)"
    return _Key(lambda one: _COLOURS[shade(one.locality)], entries, words)


def _draw_rows(canvas: Canvas, rows: Sequence[Row]) -> tuple[list[float], float]:
    """Draw the cpus, each with nothing to do; return where each is, and where they end."""
    y_of = []
    y = MARGIN + 32.0
    before = None
    for row in rows:
        if row.node != before:
            y += _NODE_GAP
            before = row.node
            canvas.text(MARGIN, y + 13, fit(row.node, _NODE - 4), "quiet")
        canvas.text(MARGIN + _NODE, y + 13, fit(row.name, _NAME - _NODE - 4), "text")
        canvas.box(_LEFT, y, width=_RIGHT - _LEFT, height=_ROW - 2, style="core")
        y_of.append(y)
        y += _ROW
    return y_of, y


def _draw(canvas: Canvas, one: Stretch, window: Window, y: float, colour: str) -> None:
    x = window.across(one.begin)
    width = window.across(one.end) - x
    if width <= 0:
        return
    apart = 1 if width >= _GAP_FROM else 0
    drawn = canvas.box(x, y, width=width - apart, height=_ROW - 2, fill=colour)
    drawn.title(
        f"{one.name}: {format_time(one.begin)} to {format_time(one.end)}, "
        f"{one.locality:.0%} of its memory here"
    )
    if width > text_width(one.name) + 5:
        canvas.text(x + 3, y + 13, one.name, "", fill=ink_on(colour))


def _draw_waiting(
    canvas: Canvas, waiting: Sequence[list[Waited]], more: int, window: Window, y: float
) -> float:
    y += _NODE_GAP
    canvas.text(MARGIN, y + 13, "waiting", "quiet")
    for own in waiting:
        name = own[0].name
        canvas.text(MARGIN + _NODE, y + 13, fit(name, _NAME - _NODE - 4), "text")
        for one in own:
            x = window.across(one.begin)
            box = canvas.box(x, y + 4, width=window.across(one.end) - x, height=_ROW - 10,
                             style="used")  # fmt: skip
            box.title(f"{name} waits: {format_time(one.begin)} to {format_time(one.end)}")
        y += _ROW
    if more:
        words = f"and {more} more vcpus that waited"
        canvas.text(_LEFT, y + 13, words, "quiet")
        y += _ROW
    return y


def _draw_axis(canvas: Canvas, window: Window, y: float) -> None:
    for step in range(6):
        later = (window.end - window.begin) * step / 5
        moment = window.begin + later
        words = f"+{format_time(later)}" if step else format_time(moment)
        x = min(window.across(moment), _RIGHT - text_width(words))
        canvas.text(x, y + 12, words, "quiet")


def _draw_key(canvas: Canvas, key: _Key, y: float) -> None:
    x = float(_LEFT)
    for colour, words in key.entries:
        if x + 20 + text_width(words) > _RIGHT:
            return
        canvas.box(x, y, width=14, height=12, fill=colour)
        canvas.text(x + 20, y + 11, words, "quiet")
        x += 34 + text_width(words)
