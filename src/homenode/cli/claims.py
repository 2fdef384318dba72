"""``homenode claims``: the memory that is promised and not yet seen."""

from argparse import ArgumentParser

from homenode.claims import Claim, outstanding_kib
from homenode.cli.common import add_connection, connect, parser, print_json
from homenode.cli.guest_text import memory_document, memory_text, print_table
from homenode.drawing import name_text
from homenode.errors import ExitStatus, HomenodeError
from homenode.guest import Guest
from homenode.ledger import document

_EXAMPLES = """\
  homenode claims -c sim:try
  homenode claims -c sim:try --json

A pending claim is for a guest that is being created; a seen one holds what its guest has, and
weighs only while the guest has less; a moving one is on the nodes that its guest is moved to. A
pending claim ends when its guest is there, when its creator (a process) gives up, or when it
expires (seconds since the epoch). The document:
  {"version": 1, "claims": [{"uuid", "name", "vcpus", "memory": [{"node", "kib"}], "page_kib",
   "outstanding": [{"node", "kib"}], "state": "pending"|"moving"|"seen", "expires_at",
   "boot_id", "after_id", "creator"}], "outstanding": [{"node", "kib"}]}
"""

_HEADINGS = ("Name", "State", "Claimed", "Not yet seen", "Expires", "UUID")


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("claims", "Show the memory that is promised to guests.", examples=_EXAMPLES)
    add_connection(made)
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    driver = connect(chosen.connect)
    ledger = driver.ledger
    if ledger is None:
        raise HomenodeError(f"{driver.uri} is read-only: nothing is claimed there")
    guests = driver.snapshot().guests
    claims = ledger.holding(guests)
    if chosen.json:
        print_json(
            {
                "version": 1,
                "claims": [_document(claim, guests) for claim in claims],
                "outstanding": memory_document(outstanding_kib(claims, guests)),
            }
        )
    elif claims:
        now = ledger.clock()
        rows = [_HEADINGS, *(_row(claim, guests, now) for claim in claims)]
        print_table(rows, wrapped=("Claimed", "Not yet seen", "Expires"))
    else:
        print("nothing is claimed")
    return ExitStatus.DONE


def _document(claim: Claim, guests: tuple[Guest, ...]) -> dict[str, object]:
    outstanding = memory_document(outstanding_kib([claim], guests))
    return {**document(claim), "outstanding": outstanding}


def _row(claim: Claim, guests: tuple[Guest, ...], now: float) -> tuple[str, ...]:
    ends = {
        "pending": f"in {max(0, claim.expires_at - now):.0f} s",
        "moving": "when it is moved",
        "seen": "with its guest",
    }
    return (
        name_text(claim.name),
        claim.state,
        memory_text(claim.memory_kib),
        memory_text(outstanding_kib([claim], guests)),
        ends[claim.state],
        claim.uuid or "not known yet",
    )
