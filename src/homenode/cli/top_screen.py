"""The screen of ``homenode top``: nodes with their loads, guests, and what the keeper did."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from homenode.drawing import name_text
from homenode.keeper.board import Board, GuestRow, NodeRow
from homenode.units import format_memory

_BAR = 20
_FULL = 0.9
_LOW = 0.8


def screen(
    board: Board, events: Sequence[str], *, title: str, most_guests: int | None = None
) -> RenderableType:
    """Return what is drawn; of the guests the first so many."""
    parts: list[RenderableType] = [Text(title, style="bold"), _nodes(board.nodes)]
    shown = board.guests[:most_guests]
    parts.append(_guests(shown))
    if len(shown) < len(board.guests):
        parts.append(Text(f"  and {len(board.guests) - len(shown)} more guests", style="dim"))
    if events:
        parts.append(Text("what the keeper did", style="bold"))
        parts += [Text(f"  {line}", overflow="ellipsis", no_wrap=True) for line in events]
    return Group(*parts)


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="")
    for heading in headings:
        right = heading not in ("Guest", "Load", "Runs on")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    return table


def _nodes(nodes: Sequence[NodeRow]) -> Table:
    table = _table("Node", "Cpus", "Busy", "Load", "Memory free", "At home")
    for node in nodes:
        share = node.busy / node.cpus if node.cpus else 0.0
        filled = round(share * _BAR)
        style = "red" if share >= _FULL else "green"
        load = Text("#" * filled, style=style).append("." * (_BAR - filled), style="dim")
        table.add_row(
            str(node.id), str(node.cpus), f"{node.busy:.2f}", load if node.cpus else Text("-"),
            f"{format_memory(node.free_kib)} of {format_memory(node.present_kib)}",
            str(node.guests),
        )  # fmt: skip
    return table


def _guests(guests: Sequence[GuestRow]) -> Table:
    table = _table(
        "Guest", "Vcpus", "Home", "Held", "Runs", "Waits", "Resident", "Overall", "Runs on"
    )
    for guest in guests:
        held = "-" if guest.held is None else str(guest.held)
        where = ", ".join(f"{node}: {ran:.2f}" for node, ran in sorted(guest.by_node.items()))
        table.add_row(
            name_text(guest.name), str(guest.vcpus),
            "?" if guest.home is None else str(guest.home),
            f"{held} (kept)" if guest.kept else held,
            f"{guest.ran:.2f}", f"{guest.waited:.2f}",
            _share(guest, guest.residency), _share(guest, guest.residency_total), where,
        )  # fmt: skip
    return table


def _share(guest: GuestRow, share: float | None) -> Text:
    if share is None:
        return Text("?" if guest.ran else "idle", style="dim")
    return Text(f"{share:.0%}", style="red" if share < _LOW else "")
