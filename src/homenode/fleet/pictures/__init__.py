"""Replays compared, as pictures for a report: three charts, each of all policies.

============== ===================================================================
`use`          hosts in use over time beside the lower bound, what is given away
`stranding`    what no guest can use over time, and guests that were refused
`heat_map`     every node of the fleet at the end
`lines`        lines over time, which the first two are made from
`look`         paper, colours and fonts, which all three share
`writing`      a picture into a file
============== ===================================================================

Altair describes the charts and vl-convert draws them, without a browser; both are imported only
when something is drawn. The same input makes the same bytes on the same machine: how wide words
are, and so how wide the margins, is up to its fonts. An SVG needs nothing but itself, keeps text
as text and follows the reader's light or dark colours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from homenode.errors import HomenodeError
from homenode.fleet.bounds import Bounds
from homenode.fleet.replay import Outcome

if TYPE_CHECKING:
    from altair.typing import ChartType


class Pictured(NamedTuple):
    """What came of the replay by the policy of that name; names differ."""

    name: str
    outcome: Outcome


class Common(NamedTuple):
    """What the replays have in common.

    `title` names the trace and the fleet in a few words. `hosts` are the names of the hosts, in
    the order of the fleet. `bounds` were asked for at `times_ms` (None: there are none). `notes`
    are sentences for the foot of each picture, such as the rules of a trace that is synthetic in
    part.
    """

    title: str
    hosts: Sequence[str]
    bounds: Bounds | None = None
    times_ms: Sequence[int] = ()
    notes: Sequence[str] = ()


Row = dict[str, Any]
"""A row of what a chart is made from."""


class Picture(NamedTuple):
    """A chart, and by name the rows that it is made from."""

    chart: "ChartType"
    rows: Mapping[str, Sequence[Row]]


def pictures(pictured: Sequence[Pictured], common: Common) -> dict[str, Picture]:
    """Return the pictures by name: ``use``, ``stranding``, ``heat-map``.

    Raises `HomenodeError` if there is nothing to draw, or nothing to draw it with.
    """
    if not pictured:
        raise HomenodeError("there are no replays to make pictures of")
    find_libraries()
    from homenode.fleet.pictures.heat_map import heat_map_picture  # noqa: PLC0415 - needs altair
    from homenode.fleet.pictures.stranding import stranding_picture  # noqa: PLC0415 - the same
    from homenode.fleet.pictures.use import use_picture  # noqa: PLC0415 - the same

    return {
        "use": use_picture(pictured, common),
        "stranding": stranding_picture(pictured, common),
        "heat-map": heat_map_picture(pictured, common),
    }


def write_pictures(
    folder: str | Path, pictured: Sequence[Pictured], common: Common
) -> dict[str, Path]:
    """Write every picture as ``NAME.svg`` into `folder`, which is made; return the files by name.

    Raises `HomenodeError` if that cannot be done.
    """
    made = pictures(pictured, common)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomenodeError(f"{folder}: cannot make this folder: {error.strerror}") from None
    paths = {name: folder / f"{name}.svg" for name in made}
    for name, picture in made.items():
        write_picture(paths[name], picture)
    return paths


def write_picture(path: str | Path, picture: Picture) -> None:
    """Write a picture as what the ending of `path` says: ``.svg``, ``.png`` or ``.html``.

    The page shows the numbers of what the mouse is on; it needs no network either. The file is
    replaced wholly or not at all. Raises `HomenodeError` for other endings and for what cannot be
    written.
    """
    find_libraries()
    from homenode.fleet.pictures.writing import write  # noqa: PLC0415 - needs vl-convert

    write(Path(path), picture)


def find_libraries() -> None:
    """Raise `HomenodeError` if there is nothing to draw with."""
    try:
        import altair as alt  # noqa: F401, PLC0415 - only who draws needs them
        import vl_convert  # noqa: F401, PLC0415 - the same
    except ImportError:
        raise HomenodeError(
            "pictures of replays need altair and vl-convert",
            hint="pip install 'homenode[plots]'",
        ) from None
