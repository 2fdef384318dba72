"""What the charts share: paper, colours for light and for dark readers, title, key, foot."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import altair as alt
from altair.typing import ChartType

from homenode.drawing import name_text, printable
from homenode.drawing.svg.canvas import text_width, wrap
from homenode.fleet.pictures import Common, Picture, Pictured, Row

WIDTH = 1000
"""Pixels for what has axes; what they and words beside them need is added."""

TEXT_WIDTH = 1120

FONT = 'system-ui, "DejaVu Sans", Helvetica, Arial, sans-serif'

# Those of the pictures that are drawn by hand (homenode.drawing.svg.style).
PAPER, INK, QUIET, RULE = "#ffffff", "#1f2328", "#59636e", "#d1d9e0"

POLICY_COLOURS = {
    "#0077bb": "#3d9bdc", "#ee6677": "#f07f8e", "#7a4a1e": "#b98a5b", "#c79a00": "#e0b93c",
    "#aa3377": "#cf6aa6", "#56b4e9": "#9ad4f7", "#228833": "#4fb862", "#9977dd": "#b49cf0",
}  # fmt: skip
"""On light and on dark paper. The first six stay apart for the colour-blind of every kind."""

EMPTY = {"#eaeef2": "#212830"}
FULLNESS = {
    "#c6dbef": "#153a5f", "#6baed6": "#2166a8", "#3a82bd": "#5ea1dc", "#1f68ac": "#8cc0ec",
    "#084594": "#c2e0f8",
}  # fmt: skip
STRANDED_MEMORY = {"#f2d58a": "#8a6a1a", "#d99a00": "#f2b134"}
STRANDED_VCPUS = {"#e58a98": "#9a4152", "#a81c3a": "#f0677c"}

_DARK = {
    PAPER: "#0d1117", INK: "#e6edf3", QUIET: "#9198a1", RULE: "#3d444d",
    **POLICY_COLOURS, **EMPTY, **FULLNESS, **STRANDED_MEMORY, **STRANDED_VCPUS,
}  # fmt: skip

DARK_STYLE: Final = (
    f"@media (prefers-color-scheme: dark) {{ body {{ background: {_DARK[PAPER]} }}"
    + "".join(
        f" .marks [{what}='{light}'] {{ {what}: {dark} }}"
        for light, dark in _DARK.items()
        for what in ("fill", "stroke")
    )
    + " }"
)
"""Vega writes colours as attributes of each shape; any style sheet wins over these."""

_LINE = 18


class Paper:
    """The rows that a picture is made from, by name; what is drawn refers to them.

    They are kept apart from the charts, because altair copies these with every step.
    """

    def __init__(self, title: str, sentences: Iterable[str], common: Common) -> None:
        self.rows: dict[str, Sequence[Row]] = {}
        self._title = title
        self._sentences = list(sentences)
        self._common = common

    def chart(self, name: str, mark: alt.MarkDef, rows: Sequence[Row] | None = None) -> alt.Chart:
        """Return a chart of `rows`, which become known by that name, or of those that are."""
        if rows is not None:
            self.rows[name] = rows
        data = alt.NamedData(name)
        return alt.Chart(data, mark=mark, name=name)

    def picture(self, parts: Sequence[ChartType]) -> Picture:
        """Return `parts` one below the other, with the title, what is seen in words, the notes."""
        common = self._common
        words = [common.title, *wrap(" ".join(self._sentences), TEXT_WIDTH)]
        title = alt.Title(
            self._title, subtitle=list(map(printable, words)), fontSize=20, subtitlePadding=6
        )
        notes = [line for note in common.notes for line in wrap(note, TEXT_WIDTH, "small")]
        foot = [self._foot(notes)] if notes else []
        # No scale is shared: each part says what its colours are.
        apart = alt.Resolve(
            scale=alt.LegendResolveMap(color="independent", strokeDash="independent")
        )
        chart = alt.VConcatChart(
            vconcat=[*parts, *foot], spacing=22, title=title, config=config(), resolve=apart
        )
        return Picture(chart, self.rows)

    def _foot(self, lines: Sequence[str]) -> alt.Chart:
        mark = alt.MarkDef(
            type="text", align="left", baseline="top", fontSize=10, lineHeight=14, color=QUIET
        )
        chart = self.chart("notes", mark, [{"words": list(map(printable, lines))}])
        chart = chart.encode(text="words:N", x=alt.value(0), y=alt.value(0))
        return chart.properties(width=WIDTH, height=14 * len(lines))

    def key(self, entries: Sequence["Entry"]) -> ChartType:
        """Return the key of some colours, in as many lines as it needs."""
        rows: list[Row] = []
        x, y = 0.0, _LINE / 2
        for one in entries:
            wide = 20 + text_width(one.words) + 12
            if x and x + wide > TEXT_WIDTH:
                x, y = 0.0, y + _LINE
            rows.append({"x": x, "right": x + 14, "words_x": x + 20, "y": y, **one._asdict()})
            x += wide
        height = y + _LINE / 2
        box = alt.MarkDef(type="rule", strokeWidth=12)
        down = pixels_down("y", height)
        boxes = self.chart("key", box, rows).encode(
            x=pixels_across("x", WIDTH), x2="right:Q", y=down, color=literal_colour()
        )
        words = self.chart("key", alt.MarkDef(type="text", align="left")).encode(
            x=pixels_across("words_x", WIDTH), y=down, text="words:N"
        )
        return alt.layer(boxes, words.properties(name="key-words"), width=WIDTH, height=height)


class Entry(NamedTuple):
    """What a colour stands for."""

    words: str
    colour: str


def shown_names(pictured: Sequence[Pictured]) -> list[str]:
    """Return the names of the policies as they are shown, no two alike."""
    names: list[str] = []
    for one in pictured:
        name = name_text(one.name)
        names.append(name if name not in names else f"{name} ({len(names) + 1})")
    return names


def colours(names: Sequence[str]) -> list[str]:
    """Return a colour for each policy; after the last one they come round again."""
    known = list(POLICY_COLOURS)
    return [known[at % len(known)] for at in range(len(names))]


def colour_by_policy(names: Sequence[str]) -> alt.Color:
    """Return the encoding of policies as colours."""
    return alt.Color("policy:N", scale=alt.Scale(domain=names, range=colours(names)), legend=None)


def literal_colour() -> alt.Color:
    """Return the encoding of a colour that the rows name."""
    return alt.Color("colour:N", scale=None)


def pixels_across(field: str, width: float) -> alt.X:
    """Return the encoding of places in pixels, counted from the left."""
    return alt.X(f"{field}:Q", axis=None, scale=alt.Scale(domain=[0, width], nice=False))


def pixels_down(field: str, height: float) -> alt.Y:
    """Return the encoding of places in pixels, counted from the top."""
    return alt.Y(f"{field}:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False))


def config() -> alt.Config:
    """Return fonts and colours of what is not a mark."""
    title = {
        "color": INK, "fontWeight": 600, "fontSize": 14, "anchor": "start", "frame": "group",
        "offset": 8, "subtitleColor": QUIET, "subtitleFontSize": 12, "subtitleLineHeight": 16,
    }  # fmt: skip
    axis = {
        "labelColor": QUIET, "labelFontSize": 11, "labelLimit": 320, "titleColor": QUIET,
        "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": RULE, "domainColor": QUIET,
        "tickColor": QUIET,
    }  # fmt: skip
    return alt.Config(
        aria=False, background=PAPER, font=FONT, padding=24, title=title, axis=axis,
        text={"color": INK, "fontSize": 12}, view={"stroke": None},
    )  # fmt: skip
