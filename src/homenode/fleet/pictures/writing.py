"""A picture into a file, by the ending of its name."""

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import vl_convert

from homenode.errors import HomenodeError
from homenode.fleet.pictures import Picture
from homenode.fleet.pictures.look import DARK_STYLE
from homenode.state_file import LOCAL

_Spec = dict[str, Any]

_LESS = "\ue000"
_PNG_SCALE = 2.0
"""Pixels of a PNG for one of the chart."""


def write(path: Path, picture: Picture) -> None:
    """Write `picture` to `path`; see `homenode.fleet.pictures.write_picture`."""
    draw = _DRAWN.get(path.suffix.lower())
    if draw is None:
        raise HomenodeError(
            f"{path}: there are no pictures of that kind",
            hint=f"names of pictures end in {', '.join(_DRAWN)}",
        )
    LOCAL.replace(str(path), draw(specification(picture)))


def specification(picture: Picture) -> dict[str, Any]:
    """Return all that `picture` is drawn from, as Vega-Lite has it."""
    return {**picture.chart.to_dict(), "datasets": picture.rows}


def svg(spec: _Spec) -> bytes:
    """Return the SVG document of a specification."""
    text = vl_convert.vegalite_to_svg(spec)
    title, words = _said(spec)
    said = f"<title>{title}</title><desc>{words}</desc><style>{DARK_STYLE}</style>"
    return (text.replace(">", f">{said}", 1) + "\n").encode()


def _png(spec: _Spec) -> bytes:
    return vl_convert.vegalite_to_png(spec, scale=_PNG_SCALE)


def _html(spec: _Spec) -> bytes:
    # In a page the chart is part of a script, which a name must not end: "<" is written as an
    # escape there. Characters of private use are in no name that is shown.
    safe = json.dumps(spec).replace("<", _LESS)
    text = vl_convert.vegalite_to_html(safe, bundle=True, renderer="svg")
    text = text.replace(_LESS, r"\u003c")
    text = text.replace("<title>Chart</title>", f"<title>{_said(spec)[0]}</title>", 1)
    return text.replace("</style>", f"{DARK_STYLE}</style>", 1).encode()


def _said(spec: _Spec) -> tuple[str, str]:
    # What is seen in words, for those who listen to it.
    return escape(spec["title"]["text"]), escape(" ".join(spec["title"]["subtitle"]))


_DRAWN: dict[str, Callable[[_Spec], bytes]] = {".svg": svg, ".png": _png, ".html": _html}
