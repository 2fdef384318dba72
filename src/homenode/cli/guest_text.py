"""Guests as the verbs print them: documents for programs, tables for people."""

import sys
from collections.abc import Collection, Mapping, Sequence

from homenode.arrival import landed
from homenode.bitmap import NodeMap
from homenode.cli.common import colours_wanted
from homenode.guest import Guest
from homenode.residency import Residency
from homenode.units import format_memory

_WIDEST = 10_000
MOST_SHARES = 4
"""Sizes that a line tells apart when it says where memory is; the rest is summed up."""


def guest_document(guest: Guest, ran: Residency | None = None) -> dict[str, object]:
    """Return a guest as ``--json`` prints it: null is unknown, shares are in percent.

    `ran` is where it ran, if that was watched.
    """
    memory = guest.memory_by_node
    return {
        "name": guest.name,
        "id": guest.id,
        "uuid": guest.uuid,
        "state": guest.state,
        "type": guest.type,
        "pool": guest.pool,
        "vcpus": len(guest.vcpus),
        "memory_kib": guest.memory_kib,
        "node_affinity": None if guest.node_affinity is None else list(guest.node_affinity),
        "memory": None if memory is None else memory_document(memory.kib),
        "memory_source": None if memory is None else memory.source,
        "memory_taken_at": None if memory is None else memory.taken_at,
        "match": landed(guest).match,
        "residency": None if ran is None else ran.residency,
        "locality": None if ran is None else ran.locality,
        "held": None if guest.held is None else list(guest.held),
        "kept": guest.kept,
        "devices": list(guest.devices),
    }


def memory_document(by_node: Mapping[int, int]) -> list[dict[str, int]]:
    """Return KiB by node as ``--json`` prints it."""
    return [{"node": node, "kib": kib} for node, kib in sorted(by_node.items())]


def nodes_text(nodes: NodeMap | None) -> str:
    """Return nodes as people read them; unknown is ?."""
    return "?" if nodes is None else str(nodes) or "none"


def node_words(nodes: NodeMap | None) -> str:
    """Return nodes as a sentence names them: ``node 0``, ``nodes 0-1``."""
    return "nodes ?" if nodes is None else nodes.named


def memory_text(by_node: Mapping[int, int] | None) -> str:
    """Return where memory is, the largest parts first: ``604 MiB on 0, 440 MiB on 2``."""
    if by_node is None:
        return "?"
    nodes: dict[int, list[int]] = {}
    for node, kib in by_node.items():
        if kib:
            nodes.setdefault(kib, []).append(node)
    parts = [
        f"{format_memory(kib)} on {NodeMap(nodes[kib])}" + (" each" if len(nodes[kib]) > 1 else "")
        for kib in sorted(nodes, reverse=True)
    ]
    if len(parts) > MOST_SHARES:
        rest = [kib * len(nodes[kib]) for kib in sorted(nodes, reverse=True)[MOST_SHARES:]]
        parts[MOST_SHARES:] = [f"{format_memory(sum(rest))} elsewhere"]
    return ", ".join(parts) or "none"


def match_text(guest: Guest) -> str:
    """Return the share of the guest's memory that is on the nodes of its affinity."""
    match = landed(guest).match
    return "?" if match is None else f"{match} %"


def print_table(rows: Sequence[Sequence[str]], *, wrapped: Collection[str]) -> None:
    """Print rows, headings first: to fit the terminal, or aligned text where it is none.

    Only the columns with the headings `wrapped` get narrower, and only between words: a terminal
    that is narrower still breaks the lines itself, and shows all of a name.
    """
    if not sys.stdout.isatty():
        print("\n".join(_aligned(rows)))
        return
    from rich.console import Console  # noqa: PLC0415 - only where something is drawn
    from rich.measure import Measurement  # noqa: PLC0415 - the same
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    colours = colours_wanted()
    table = Table(box=None, pad_edge=False, header_style="bold" if colours else "")
    for heading in rows[0]:
        table.add_column(heading, no_wrap=heading not in wrapped)
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    console = Console(color_system="auto" if colours else None)
    wide = console.options.update(width=_WIDEST)
    needed = Measurement.get(console, wide, table)
    console.width = max(console.width, needed.minimum if wrapped else needed.maximum)
    console.print(table)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
