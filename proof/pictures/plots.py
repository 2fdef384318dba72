"""Plots with axes: altair describes them, and they look as those of ``homenode replay``."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import altair as alt
from altair.typing import ChartType

from homenode.drawing.svg.canvas import wrap
from homenode.fleet.pictures import Picture, Row
from homenode.fleet.pictures.look import POLICY_COLOURS, QUIET, config
from homenode.fleet.pictures.writing import specification, svg

WIDTH = 640
"""Pixels within the axes: with what stands beside them, 800 at the most."""

TEXT_WIDTH = 740
BLUE, RED, BROWN, YELLOW, PURPLE, SKY, GREEN, VIOLET = POLICY_COLOURS


class Plot(NamedTuple):
    """A picture that is drawn when it is asked for, and the digest of all that it is drawn from."""

    digest: str
    draw: Callable[[], str]


def plot(title: str, sentence: str, parts: Sequence[ChartType], rows: dict[str, list[Row]]) -> Plot:
    """Return `parts` one below the other with a title, and in words what is seen."""
    words = wrap(sentence, TEXT_WIDTH)
    made = alt.VConcatChart(
        vconcat=list(parts),
        spacing=24,
        title=alt.Title(title, subtitle=words, fontSize=20, subtitlePadding=6),
        config=_config(),
        resolve=alt.Resolve(scale=alt.LegendResolveMap(color="independent")),
    )
    drawn_from = specification(Picture(made, rows))
    digest = digest_of(drawn_from)
    return Plot(digest, lambda: svg(drawn_from).decode().replace(">", f">{_mark(digest)}", 1))


def digest_of(drawn_from: dict[str, Any]) -> str:
    """Return a digest that differs where a picture is drawn from anything else."""
    # What altair writes of itself does not change what is seen.
    told = {name: value for name, value in drawn_from.items() if name != "$schema"}
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mark(digest: str) -> str:
    return f"<!-- drawn from {digest} -->"


def is_drawn_from(document: str, digest: str) -> bool:
    """Return whether an SVG document was drawn from that."""
    return _mark(digest) in document[:1000]


def _config() -> alt.Config:
    own = config()
    own.axis = {**own.axis, "labelFontSize": 13, "titleFontSize": 13}
    own.text = {**own.text, "fontSize": 13}
    own.title = {
        **own.title,
        "frame": "bounds",
        "fontSize": 14,
        "subtitleFontSize": 13,
        "subtitleLineHeight": 18,
    }
    own.legend = {
        "labelFontSize": 13, "titleFontSize": 13, "labelColor": QUIET, "titleColor": QUIET,
        "orient": "top", "title": None, "symbolSize": 120, "labelLimit": 400,
    }  # fmt: skip
    return own


def colour(field: str, colours: dict[str, str], *, key: bool = True) -> alt.Color:
    """Return the encoding of a field as colours, with a `key` above the chart."""
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", scale=scale, legend=alt.Legend(title=None) if key else None)


def rounded(value: float) -> float:
    """Return a value to five digits: the last ones are up to the machine's arithmetic."""
    return float(f"{value:.5g}")
