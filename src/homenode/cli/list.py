"""``homenode list``: the guests of a host and where they are."""

from homenode.cli.common import add_connection, connect, parser, print_json
from homenode.cli.guest_text import (
    guest_document,
    match_text,
    memory_text,
    nodes_text,
    print_table,
)
from homenode.drawing import name_text
from homenode.errors import ExitStatus
from homenode.guest import Guest
from homenode.units import format_memory

_EXAMPLES = """\
  homenode list -c sim:try
  homenode list -c capture:FOLDER --json

Nodes are those that a guest's memory comes from; match is the share of its memory that is there.
What nobody says is ?, and null in the document:
  {"version": 1, "guests": [{"name", "id", "uuid", "state", "type", "pool", "vcpus", "memory_kib",
   "node_affinity": [node], "memory": [{"node", "kib"}], "match": percent}]}
"""

_HEADINGS = ("Name", "ID", "Vcpus", "Memory", "Nodes", "Memory by node", "Match", "Pool", "State")


def run(arguments: list[str]) -> int:
    """Run the verb."""
    made = parser("list", "List the guests of a host and where they are.", examples=_EXAMPLES)
    add_connection(made)
    chosen = made.parse_args(arguments)
    guests = connect(chosen.connect).snapshot().guests
    if chosen.json:
        print_json({"version": 1, "guests": [guest_document(guest) for guest in guests]})
    elif not guests:
        print("no guests are known here")
    else:
        print_table([_HEADINGS, *map(_row, guests)], wrapped=("Memory by node",))
    return ExitStatus.DONE


def _row(guest: Guest) -> tuple[str, ...]:
    by_node = None if guest.memory_by_node is None else guest.memory_by_node.kib
    return (
        name_text(guest.name),
        "?" if guest.id is None else str(guest.id),
        str(len(guest.vcpus)),
        format_memory(guest.memory_kib),
        nodes_text(guest.node_affinity),
        memory_text(by_node),
        match_text(guest),
        "?" if guest.pool is None else name_text(guest.pool),
        guest.state,
    )
