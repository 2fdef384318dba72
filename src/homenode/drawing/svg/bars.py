"""Bars that compare variants: one panel for each measure, a bar for each variant, its margin."""

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET  # only written here, never read

from homenode.drawing import printable
from homenode.drawing.svg.canvas import Canvas, fit, number, text_width
from homenode.drawing.svg.style import GUEST_COLOURS, LINE, MARGIN, STYLE, WIDTH

_BAR = 18
_NAME = 240


class Bar(NamedTuple):
    """One variant's value with half of its confidence interval, if known, and as words."""

    name: str
    value: float
    margin: float | None
    words: str


class Panel(NamedTuple):
    """One measure, for all variants."""

    title: str
    bars: tuple[Bar, ...]


def picture(
    title: str, description: str, height: float, width: int = WIDTH, margin: int = MARGIN
) -> tuple[ET.Element, Canvas]:
    """Return an empty SVG document with its title, and the canvas to draw on."""
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "role": "img",
            "aria-labelledby": "title desc",
            "viewBox": f"0 0 {width} {number(height)}",
            "width": str(width),
            "height": number(height),
        },
    )
    ET.SubElement(root, "title", {"id": "title"}).text = printable(title)
    ET.SubElement(root, "desc", {"id": "desc"}).text = printable(description)
    ET.SubElement(root, "style").text = STYLE
    canvas = Canvas(root)
    canvas.box(0, 0, width=width, height=height, style="paper")
    heading = fit(printable(title), width - 2 * margin, "title")
    canvas.text(margin, MARGIN + 16, heading, "text title")
    return root, canvas


def written(root: ET.Element) -> str:
    """Return the document as text."""
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def bars(title: str, panels: Sequence[Panel]) -> str:
    """Return the SVG document."""
    height = MARGIN + 44.0 + sum(8 + len(panel.bars) * (_BAR + 4) + 2 * LINE for panel in panels)
    words = "; ".join(
        f"{panel.title}: " + ", ".join(f"{bar.name} {bar.words}" for bar in panel.bars)
        for panel in panels
    )
    root, canvas = picture(title, words, height)
    y = MARGIN + 44.0
    for panel in panels:
        canvas.text(MARGIN, y, panel.title, "text head")
        y += 8
        y = _draw_panel(canvas, panel, y) + 2 * LINE
    return written(root)


def _draw_panel(canvas: Canvas, panel: Panel, y: float) -> float:
    room = WIDTH - 2 * MARGIN - _NAME - 170
    most = max((bar.value + (bar.margin or 0) for bar in panel.bars), default=0) or 1
    for at, bar in enumerate(panel.bars):
        group = canvas.group(f"{bar.name}: {panel.title} {bar.words}")
        middle = y + _BAR / 2
        group.text(MARGIN, middle + 4, fit(printable(bar.name), _NAME - 12), "text")
        x = MARGIN + _NAME
        width = max(0.0, bar.value) / most * room
        colour = GUEST_COLOURS[at % len(GUEST_COLOURS)]
        group.box(x, y, width=width, height=_BAR - 4, fill=colour)
        if bar.margin:
            reach = bar.margin / most * room
            group.path(x + width, middle - 2, f"M{number(-reach)} 0 H{number(reach)}", "link")
        end = x + width + (bar.margin or 0) / most * room
        if end + 8 + text_width(bar.words) > WIDTH - MARGIN:
            end = WIDTH - MARGIN - text_width(bar.words) - 8
        group.text(end + 8, middle + 4, bar.words, "quiet")
        y += _BAR + 4
    return y
