"""Draw every description of a host below a folder into one HTML page, to look at them all.

python examples/gallery.py [FOLDER] [-o gallery.html]

FOLDER is by default the topologies of $HOMENODE_DATA. Whatever `-c capture:PATH` reads is drawn;
what it does not read is left out, with a line that says why. The page needs nothing but itself.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

from homenode.drawing import printable, svg
from homenode.drawing.words import host_words
from homenode.drivers.base import Snapshot
from homenode.drivers.capture import CaptureDriver
from homenode.errors import HomenodeError

_STYLE = """
:root { color-scheme: light dark }
body { font-family: system-ui, sans-serif; margin: 2em auto; max-width: 1140px; padding: 0 1em }
svg { max-width: 100%; height: auto; display: block }
section { margin: 3em 0 } h2 { overflow-wrap: anywhere }
@media print { section { break-before: page } }
"""


class Drawn(NamedTuple):
    """A description by its path below the folder, and what it describes."""

    name: str
    seen: Snapshot


def main() -> int:
    """Write the page."""
    data = os.environ.get("HOMENODE_DATA")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", metavar="FOLDER",
                        default=data and str(Path(data) / "topologies"))  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE", default="gallery.html")
    chosen = parser.parse_args()
    if chosen.folder is None:
        parser.error("name a folder, or set HOMENODE_DATA")
    folder = Path(chosen.folder)
    if not folder.is_dir():
        parser.error(f"{folder} is no folder")
    drawn, skipped = _read(folder)
    Path(chosen.output).write_text(_page(folder, drawn, skipped), encoding="utf-8")
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    print(f"{chosen.output}: {len(drawn)} hosts, {len(skipped)} skipped")
    return 0


def _read(folder: Path) -> tuple[list[Drawn], list[str]]:
    drawn, skipped = [], []
    for path in _descriptions(folder):
        try:
            seen = CaptureDriver(str(path)).snapshot()
        except HomenodeError as error:
            skipped.append(printable(str(error)))
            continue
        drawn.append(Drawn(printable(str(path.relative_to(folder))), seen))
    return drawn, skipped


def _descriptions(folder: Path) -> Iterator[Path]:
    """Yield what may describe a host: files, and folders that are one description."""
    if (folder / "sys/devices/system").is_dir() or (folder / "xl-info-n.txt").is_file():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _descriptions(path)
        elif path.is_file():
            yield path


def _page(folder: Path, drawn: list[Drawn], skipped: list[str]) -> str:
    title = escape(printable(f"Hosts below {folder.name or folder}"))
    entries = "".join(
        f'<li><a href="#host-{at}">{escape(item.name)}</a>: '
        f"{escape(host_words(item.seen.host))}</li>"
        for at, item in enumerate(drawn)
    )
    left_out = "".join(f"<li>{escape(line)}</li>" for line in skipped)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n<ol>{entries}</ol>\n"
        + "".join(_section(at, item) for at, item in enumerate(drawn))
        + (f"<section><h2>Skipped</h2><ul>{left_out}</ul></section>\n" if skipped else "")
        + "</body></html>\n"
    )


def _section(at: int, item: Drawn) -> str:
    notes = "".join(f"<li>{escape(printable(note))}</li>" for note in item.seen.host.notes)
    return (
        f'<section id="host-{at}"><h2>{escape(item.name)}</h2>\n'
        + (f"<ul>{notes}</ul>\n" if notes else "")
        + svg.topology(item.seen.host, item.seen.guests, prefix=f"host-{at}-")
        + "</section>\n"
    )


if __name__ == "__main__":
    sys.exit(main())
