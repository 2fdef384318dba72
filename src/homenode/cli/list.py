"""``homenode list``: the guests of a host, where they are, and where they run."""

import time
from argparse import ArgumentParser

from homenode.bitmap import CpuMap
from homenode.cli.common import add_connection, parser, print_json
from homenode.cli.guest_text import (
    guest_document,
    match_text,
    memory_text,
    nodes_text,
    print_table,
)
from homenode.cli.looking import SAMPLE_S, add_looking, look
from homenode.drawing import name_text
from homenode.errors import ExitStatus
from homenode.guest import Guest
from homenode.host import Host
from homenode.residency import Residency
from homenode.units import format_memory

_EXAMPLES = """\
  homenode list
  homenode list -c xen+ssh://root@xen1/ --pages
  homenode list -c capture:FOLDER --json

Nodes are those that a guest's memory comes from; held and prefers are the nodes of its hard and
soft affinity (cpus, where they are no whole nodes), (kept) where homenode keep holds it. Match is
the share of its memory that is on its nodes; resident the share of its running time on nodes that
hold its memory, and local that of time and memory together, both watched for a moment; a guest
that did not run is idle. Where memory is, xl does not tell: what homenode saw when it created a
guest is shown with its age, and --pages has Xen count, which holds up the host for some
milliseconds per GiB. What nobody says is ?, and null in the document:
  {"version": 1, "guests": [{"name", "id", "uuid", "state", "type", "pool", "vcpus", "memory_kib",
   "node_affinity": [node], "memory": [{"node", "kib"}], "memory_source", "memory_taken_at",
   "match": percent, "residency": percent, "locality": percent, "held": [node],
   "kept": bool, "devices": [address]}]}
"""

_HEADINGS = (
    "Name", "ID", "Vcpus", "Memory", "Nodes", "Held", "Prefers", "Memory by node", "Match",
    "Resident", "Local", "Pool", "State",
)  # fmt: skip
_RECENT_S = 60.0


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("list", "List the guests of a host and where they are.", examples=_EXAMPLES)
    add_connection(made)
    add_looking(made, sample_s=SAMPLE_S)
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    _, seen, ran = look(chosen)
    if chosen.json:
        print_json(
            {
                "version": 1,
                "guests": [guest_document(guest, _of(guest, ran)) for guest in seen.guests],
            }
        )
    elif not seen.guests:
        print("no guests are known here")
    else:
        now = time.time()
        rows = [_row(guest, seen.host, ran, now) for guest in seen.guests]
        print_table([_HEADINGS, *rows], wrapped=("Memory by node",))
    return ExitStatus.DONE


def _of(guest: Guest, ran: dict[int, Residency]) -> Residency | None:
    return None if guest.id is None else ran.get(guest.id)


def _row(guest: Guest, host: Host, ran: dict[int, Residency], now: float) -> tuple[str, ...]:
    own = _of(guest, ran)
    idle = own is not None and not own.run_ns
    return (
        name_text(guest.name),
        "?" if guest.id is None else str(guest.id),
        str(len(guest.vcpus)),
        format_memory(guest.memory_kib),
        nodes_text(guest.node_affinity),
        _mask_text(host, [vcpu.hard for vcpu in guest.vcpus]) + (" (kept)" if guest.kept else ""),
        _mask_text(host, [vcpu.soft for vcpu in guest.vcpus]),
        _memory_text(guest, now),
        match_text(guest),
        "idle" if idle else _percent(None if own is None else own.residency),
        "idle" if idle else _percent(None if own is None else own.locality),
        "?" if guest.pool is None else name_text(guest.pool),
        guest.state,
    )


def _mask_text(host: Host, masks: list[CpuMap]) -> str:
    """Return masks as nodes; as cpus, where they are none; - for no restriction."""
    if not masks:
        return "?"
    together = CpuMap.union(masks)
    if together >= host.cpu_map:
        return "-"
    nodes = host.nodes_of(together)
    return str(nodes) if host.cpus_of(nodes) == together else f"cpus {together}"


def _percent(number: int | None) -> str:
    return "?" if number is None else f"{number} %"


def _memory_text(guest: Guest, now: float) -> str:
    memory = guest.memory_by_node
    if memory is None:
        return "?"
    text = memory_text(memory.kib)
    age_s = None if memory.taken_at is None else now - memory.taken_at
    if age_s is None or age_s < _RECENT_S:
        return text
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= seconds:
            return f"{text} ({age_s // seconds:.0f} {unit} ago)"
    return text
