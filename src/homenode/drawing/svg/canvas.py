"""An SVG element to draw into, and how wide words become on it.

Nobody can ask a font here. Widths are those of DejaVu Sans, which is wider than what browsers
take for system-ui on other systems, rounded up: words that fit by them fit in truth.
"""

from collections.abc import Callable
from typing import NamedTuple
from unicodedata import east_asian_width
from xml.etree import ElementTree as ET  # only written here, never read

from homenode.drawing import printable

_SIZES = {"title": 20.0, "head": 14.0, "small": 10.0, "tiny": 8.0}
_BOLD = frozenset(("title", "head", "strong"))

_WIDTHS = {
    **dict.fromkeys("iljI.,:;'|! ", 0.34),
    **dict.fromkeys('ftr()[]{}/\\-"`', 0.47),
    **dict.fromkeys("mwMWQO@%~+=<>#…", 1.0),
}  # fmt: skip
_SMALL_LETTER, _CAPITAL, _OTHER = 0.64, 0.78, 1.05


def font_size(style: str) -> float:
    """Return the size in pixels of words of these classes."""
    return next((_SIZES[name] for name in style.split() if name in _SIZES), 12.0)


def text_width(words: str, style: str = "") -> float:
    """Return how many pixels wide `words` become at most, in these classes."""
    bold = 1.13 if _BOLD & set(style.split()) else 1.0
    return sum(map(_letter_width, words)) * font_size(style) * bold


def _letter_width(letter: str) -> float:
    if letter in _WIDTHS:
        return _WIDTHS[letter]
    if not letter.isascii():
        wide = east_asian_width(letter) in "WF" or ord(letter) > 0x24F
        return _OTHER if wide else _CAPITAL
    return _CAPITAL if letter.isupper() else _SMALL_LETTER


def fit(words: str, width: float, style: str = "") -> str:
    """Return `words`, cut with an ellipsis if they are wider than `width`."""
    if text_width(words, style) <= width:
        return words
    room = width - text_width("…", style)
    used, at = 0.0, 0
    for at, letter in enumerate(words):  # noqa: B007 - how far it comes is what is wanted
        used += text_width(letter, style)
        if used > room:
            break
    return words[:at].rstrip() + "…"


def wrap(words: str, width: float, style: str = "") -> list[str]:
    """Return `words` in lines of at most `width`.

    They are broken at spaces, words that are longer than a line after commas, or else anywhere.
    """
    lines = [""]
    for word in words.split(" "):
        fits = text_width(word, style) <= width
        for at, piece in enumerate([word] if fits else _pieces(word, width, style)):
            space = "" if at or not lines[-1] else " "
            if text_width(lines[-1] + space + piece, style) <= width:
                lines[-1] += space + piece
            else:
                lines.append(piece)
    return [line for line in lines if line]


def _pieces(word: str, width: float, style: str) -> list[str]:
    """Return a long word, such as a list of cpus, in pieces of at most `width`."""
    pieces = []
    for item in word.split(","):
        piece = ""
        for letter in f"{item},":
            if piece and text_width(piece + letter, style) > width:
                pieces.append(piece)
                piece = ""
            piece += letter
        pieces.append(piece)
    pieces[-1] = pieces[-1].removesuffix(",")
    return pieces


class Block(NamedTuple):
    """Something to be drawn: its height, and how, given a canvas and its upper left corner."""

    height: float
    draw: Callable[["Canvas", float, float], None]


class Canvas:
    """An SVG element to draw into."""

    __slots__ = ("element",)

    def __init__(self, element: ET.Element) -> None:
        self.element = element

    def group(self, title: str) -> "Canvas":
        """Return a group with words of its own."""
        made = Canvas(ET.SubElement(self.element, "g"))
        made.title(title)
        return made

    def title(self, words: str) -> None:
        """Say in words what this is: what screen readers read, and mice show."""
        ET.SubElement(self.element, "title").text = printable(words)

    def text(self, x: float, y: float, words: str, style: str = "text", *, fill: str = "") -> None:
        """Write `words` from (x, y), the left end of their base line."""
        attributes = {"x": number(x), "y": number(y)}
        if style:
            attributes["class"] = style
        if fill:
            attributes["fill"] = fill
        ET.SubElement(self.element, "text", attributes).text = printable(words)

    def box(  # noqa: PLR0913 - a rectangle has four numbers, and a look
        self, x: float, y: float, *, width: float, height: float, style: str = "", fill: str = "",
        radius: float = 0,
    ) -> "Canvas":  # fmt: skip
        """Draw a rectangle with its upper left corner at (x, y), and return it."""
        attributes = {"x": x, "y": y, "width": width, "height": height}
        written = {name: number(value) for name, value in attributes.items()}
        if radius:
            written["rx"] = number(radius)
        if style:
            written["class"] = style
        if fill:
            written["fill"] = fill
        return Canvas(ET.SubElement(self.element, "rect", written))

    def path(self, x: float, y: float, shape: str, style: str) -> None:
        """Draw an SVG path whose coordinates count from (x, y)."""
        moved = f"translate({number(x)} {number(y)})"
        ET.SubElement(self.element, "path", {"d": shape, "transform": moved, "class": style})


def number(value: float) -> str:
    """Return a coordinate, to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def define_hatch(root: ET.Element) -> None:
    """Add the pattern that `fill="url(#hatch)"` refers to."""
    size = {"width": "6", "height": "6"}
    pattern = ET.SubElement(
        ET.SubElement(root, "defs"),
        "pattern",
        {**size, "id": "hatch", "patternUnits": "userSpaceOnUse",
         "patternTransform": "rotate(45)"},
    )  # fmt: skip
    ET.SubElement(pattern, "rect", {**size, "class": "hatch"})
    line = {"x1": "0", "y1": "0", "x2": "0", "y2": "6", "class": "hatch-line"}
    ET.SubElement(pattern, "line", line)
