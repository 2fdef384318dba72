"""The same nodes several times, one picture below the other: before and after, by policy.

Nodes are drawn as `topology` draws those of large hosts, as small as can be read. Guests keep their
colours from panel to panel: all panels are given the same guests, those that are not there yet
without memory.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET  # only written here, never read

from homenode.drawing.hierarchy import socket_groups
from homenode.drawing.svg.bars import picture, written
from homenode.drawing.svg.canvas import Canvas, define_hatch, fit, text_width
from homenode.drawing.svg.node import Scene, Sizes, node_card, node_sentence, scene_of
from homenode.drawing.svg.style import guest_colour
from homenode.guest import Guest
from homenode.host import Host, Node

WIDTH = 800
_MARGIN = 12
_GAP = 5
_BETWEEN = 6
_LABEL = 22
_SIZES = Sizes(
    node=86, pad=5, thread=13, bar=16, text="", line=15, detailed=False, named=True
)  # fmt: skip

BEFORE = "#98876c"
"""Of cpus and memory of guests that were there before: unlike idle ones, in light and in dark."""


class Frame(NamedTuple):
    """Nodes in one frame: those of a socket, or of a host."""

    label: str
    scene: Scene
    nodes: Sequence[Node]


class Panel(NamedTuple):
    """One of the pictures: its title, a line of words, and what is in it."""

    title: str
    words: str
    frames: Sequence[Frame]


def sockets(host: Host, guests: Sequence[Guest], taken: Mapping[int, str]) -> list[Frame]:
    """Return a frame for each socket; `taken` are cpus of other guests, with what is said of them.

    What these others have of the memory is drawn as used, nobody says by whom.
    """
    scene = _with_taken(scene_of(host, guests), taken)
    return [
        Frame(group.label, scene, [stack.node for stack in group.stacks])
        for group in socket_groups(host)
    ]


def whole(label: str, host: Host, guests: Sequence[Guest], taken: Mapping[int, str]) -> Frame:
    """Return one frame for all nodes of a host; `taken` is as in `sockets`."""
    return Frame(label, _with_taken(scene_of(host, guests), taken), host.nodes)


def _with_taken(scene: Scene, taken: Mapping[int, str]) -> Scene:
    others = {cpu: (BEFORE, words) for cpu, words in taken.items()}
    return scene._replace(seen={**others, **scene.seen})


def multiples(title: str, panels: Sequence[Panel], guests: Sequence[tuple[str, int]]) -> str:
    """Return the SVG document; `guests` are the words of the key, and which guest they are of."""
    words = "; ".join(f"{panel.title}: {panel.words}" for panel in panels)
    drawn = [_rows(panel) for panel in panels]
    height = 52.0 + sum(own[1] for own in drawn) + 48
    root, canvas = picture(title, words, height, WIDTH, _MARGIN)
    ET.SubElement(root, "style").text = f".used {{ fill: {BEFORE} }}"
    define_hatch(root)
    y = 60.0
    for panel, (rows, tall) in zip(panels, drawn, strict=True):
        canvas.text(_MARGIN, y + 12, panel.title, "text head")
        left = _MARGIN + text_width(panel.title, "head") + 10
        canvas.text(left, y + 12, fit(panel.words, WIDTH - _MARGIN - left), "quiet")
        down = y + _LABEL
        for row in rows:
            down += _draw_row(canvas, row, down) + _BETWEEN
        y += tall
    _draw_key(canvas, panels[0].frames[0].scene.guests, guests, y + 4)
    return written(root)


def _rows(panel: Panel) -> tuple[list[list[Frame]], float]:
    """Return the frames in rows, and the height of the panel."""
    rows: list[list[Frame]] = []
    left = 0.0
    for frame in panel.frames:
        width = _width(frame)
        if not rows or left + width > WIDTH - 2 * _MARGIN:
            rows.append([])
            left = 0.0
        rows[-1].append(frame)
        left += width + _BETWEEN
    return rows, _LABEL + sum(_height(row) + _BETWEEN for row in rows) + 12


def _width(frame: Frame) -> float:
    return len(frame.nodes) * (_SIZES.node + _GAP) - _GAP + 2 * _GAP


def _height(row: Sequence[Frame]) -> float:
    cards = [node_card(frame.scene, node, _SIZES) for frame in row for node in frame.nodes]
    return max(card.height for card in cards) + _LABEL + _GAP


def _draw_row(canvas: Canvas, row: Sequence[Frame], y: float) -> float:
    height = _height(row)
    x = float(_MARGIN)
    for frame in row:
        part = canvas.group(frame.label)
        part.box(x, y, width=_width(frame), height=height, style="socket", radius=6)
        part.text(x + _GAP, y + 15, frame.label, "quiet")
        left = x + _GAP
        for node in frame.nodes:
            card = part.group(node_sentence(frame.scene, node))
            card.box(left, y + _LABEL, width=_SIZES.node, height=height - _LABEL - _GAP,
                     style="node", radius=4)  # fmt: skip
            node_card(frame.scene, node, _SIZES).draw(card, left, y + _LABEL)
            left += _SIZES.node + _GAP
        x += _width(frame) + _BETWEEN
    return height


def _draw_key(
    canvas: Canvas, guests: Sequence[Guest], told: Sequence[tuple[str, int]], y: float
) -> None:
    entries = [(guest_colour(at, guests), "", words) for words, at in told]
    entries += [("", "used", "there before"), ("url(#hatch)", "", "free, but not for guests")]
    x = float(_MARGIN)
    for fill, style, words in entries:
        wide = 20 + text_width(words) + 12
        if x > _MARGIN and x + wide > WIDTH - _MARGIN:
            x, y = float(_MARGIN), y + 20
        canvas.box(x, y, width=14, height=14, style=style, fill=fill)
        canvas.box(x, y, width=14, height=14, style="frame")
        canvas.text(x + 20, y + 11, words)
        x += wide
