"""``homenode topology``: draw a host, its nodes, cpus, memory, distances and guests."""

import io
import shutil
import sys
from argparse import ArgumentParser

from homenode.cli.common import add_connection, colours_wanted, connect, parser
from homenode.drivers.base import Snapshot
from homenode.errors import ExitStatus, HomenodeError
from homenode.formats import snapshot

_EXAMPLES = """\
  homenode topology -c capture:host.txt                draw the host behind `xl info -n`
  homenode topology -c sim:try
  homenode topology -c local:/// --format svg -o host.svg
  homenode topology -c capture:host.tar.bz2            a saved /sys and /proc, in one archive
  homenode topology -c capture:lstopo.xml              hwloc's XML, or that of virsh capabilities
  homenode topology -c capture:host.txt --save host.json
  homenode topology -c capture:host.json --json        what --save wrote, read again

--json prints a snapshot ("format": "homenode-snapshot", "version": 1): the host's name,
hypervisor, cpus, nodes, distances, pools, devices and notes, and its guests; memory in KiB, maps
as lists (0-3,8), unknown is null. --save writes the same, and -c capture:FILE reads it.
"""

_WIDEST = 120

_PLAIN = str.maketrans("╭╮╰╯─│·▒░…", "++++-|.#:.")
"""What stands for the lines and shades on a terminal that has ASCII alone."""


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("topology", "Draw a host and its guests.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument(
        "--format",
        choices=("text", "svg", "json"),
        default="text",
        help="for people, a picture for a report, or for programs (default: text)",
    )
    made.add_argument(
        "-o", "--output", metavar="FILE", help="write to FILE instead of standard output"
    )
    made.add_argument("--save", metavar="FILE", help="write a snapshot to FILE, too")
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    seen = connect(chosen.connect).snapshot()
    if chosen.save:
        _write(chosen.save, snapshot.dump(*seen) + "\n")
    picture = _picture(seen, "json" if chosen.json else chosen.format, to_file=bool(chosen.output))
    if chosen.output:
        _write(chosen.output, picture)
    else:
        _print(picture)
    return ExitStatus.DONE


def _picture(seen: Snapshot, form: str, *, to_file: bool) -> str:
    if form == "json":
        return snapshot.dump(*seen) + "\n"
    if form == "svg":
        from homenode.drawing import svg  # noqa: PLC0415 - one of three

        return svg.topology(seen.host, seen.guests)
    from homenode.drawing import printable, terminal  # noqa: PLC0415 - brings in rich

    width = min(_WIDEST, shutil.get_terminal_size((80, 24)).columns)
    colours = colours_wanted() and not to_file
    picture = terminal.topology(seen.host, seen.guests, colours=colours, width=width)
    return picture + "".join(f"note: {printable(note)}\n" for note in seen.host.notes)


def _print(picture: str) -> None:
    if picture.startswith("<"):
        # Readers of XML take it for UTF-8, whatever the locale is.
        picture = picture.encode("ascii", errors="xmlcharrefreplace").decode()
    if isinstance(sys.stdout, io.TextIOWrapper):
        try:
            picture.encode(sys.stdout.encoding)
        except UnicodeEncodeError:
            picture = picture.translate(_PLAIN)
        # For the rest, a name with a letter that it cannot show must be no error.
        sys.stdout.reconfigure(errors="replace")
    print(picture, end="")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - as in read_text
            file.write(text)
    except OSError as error:
        raise HomenodeError(f"{path}: {error.strerror}") from None
