"""``homenode destroy``: stop guests at once."""

from argparse import ArgumentParser

from homenode.cli.common import (
    add_connection,
    connect,
    end_as_interrupted,
    name_of,
    parser,
    print_json,
)
from homenode.cli.guest_text import guest_document, memory_text
from homenode.drawing import name_text
from homenode.errors import Conflict, ExitStatus
from homenode.guest import Guest
from homenode.lifecycle import destroy

_EXAMPLES = """\
  homenode destroy -c sim:try web1
  homenode destroy -c sim:try web1 web2 --dry-run

The document: {"version": 1, "dry_run": bool, "destroyed": [guest as of homenode list]}
"""


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("destroy", "Stop guests at once; their memory is free then.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument("--dry-run", action="store_true", help="only say what would be stopped")
    made.add_argument("names", nargs="+", metavar="NAME", help="the name of a guest")
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    end_as_interrupted()
    driver = connect(chosen.connect)
    seen = driver.snapshot("guests")
    names = dict.fromkeys(map(name_of, chosen.names))
    guests = [_there(seen.guest(name), name, driver.uri) for name in names]
    destroyed: list[Guest] = []
    try:
        for guest in guests:
            if not chosen.dry_run:
                destroy(driver, guest)
            destroyed.append(guest)
            if not chosen.json:
                print(_line(guest, "would be destroyed" if chosen.dry_run else "destroyed"))
    except (KeyboardInterrupt, BrokenPipeError):
        # Nobody reads on: the rest is not done, which is no success.
        raise KeyboardInterrupt("homenode list tells what is still there") from None
    finally:
        # What was done has been done, whatever became of the next one.
        if chosen.json:
            documents = [guest_document(guest) for guest in destroyed]
            print_json({"version": 1, "dry_run": chosen.dry_run, "destroyed": documents})
    return ExitStatus.DONE


def _there(guest: Guest | None, name: str, uri: str) -> Guest:
    if guest is None:
        raise Conflict(f"{uri}: there is no guest {name!r}", hint="see homenode list")
    return guest


def _line(guest: Guest, what: str) -> str:
    by_node = None if guest.memory_by_node is None else guest.memory_by_node.kib
    return f"{name_text(guest.name)}: {what}; it had {memory_text(by_node)}"
