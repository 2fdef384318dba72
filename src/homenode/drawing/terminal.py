"""A host in the terminal: sockets, nodes, memory, guests and devices, and the distances.

Without colours it is plain text that says the same. Up to `MOST_DETAILED` nodes are drawn one by
one with their guests' figures; larger hosts get one line for each node, and one row of distances
for nodes that are alike. Memory without cpus is told below the node that it is nearest to.
"""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import NamedTuple

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from homenode.bitmap import NodeMap
from homenode.drawing import name_text, printable
from homenode.drawing.devices import DeviceGroup, count_words, devices_by_node
from homenode.drawing.hierarchy import (
    Nearness,
    Package,
    SocketGroup,
    cache_sharers,
    nearest_nodes,
    nodes_words,
    packages_by_node,
    socket_groups,
)
from homenode.drawing.memory import MEANINGS, Part, Presence, guests_on, memory_parts
from homenode.drawing.tables import (
    NodeTable,
    grouped,
    is_flat,
    is_telling,
    node_tables,
    pair_words,
)
from homenode.drawing.words import (
    cpu_words,
    device_words,
    host_sentences,
    host_words,
    memory_words,
    page_words,
    place_words,
    tier_word,
    tiers_words,
)
from homenode.guest import Guest
from homenode.host import Host, Node
from homenode.units import format_memory

MOST_DETAILED = 16
_MOST_COLUMNS = 16

_COLOURS = ("blue", "green", "magenta", "cyan", "yellow", "red",
            "bright_blue", "bright_green", "bright_magenta", "bright_cyan")  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FILLS = {"used": "▒", "pages": "=", "reclaimable": "░", "reserved": "x", "free": "·"}
_INDENT = "  "


class _Scene(NamedTuple):
    """What is told, and what was found out about it."""

    host: Host
    guests: Sequence[Guest]
    packages: Mapping[int, Sequence[Package]]
    nearest: dict[int, Nearness]
    devices: Mapping[int | None, Sequence[DeviceGroup]]
    sharers: Mapping[int, NodeMap]


def topology(host: Host, guests: Sequence[Guest], *, colours: bool, width: int) -> str:
    """Return the picture of `host` and `guests` as text of at most `width` columns."""
    console = Console(
        file=StringIO(),
        width=max(40, width),
        force_terminal=colours,
        color_system="standard" if colours else None,
        no_color=not colours,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    scene = _Scene(
        host,
        guests,
        packages=packages_by_node(host),
        nearest=nearest_nodes(host),
        devices=devices_by_node(host),
        sharers=cache_sharers(host),
    )
    console.print(Text(printable(host.name), style="bold").append(": ").append(
        host_words(host), style="not bold"))  # fmt: skip
    if tiers := tiers_words(host):
        console.print(Text(f"memory: {tiers}"))
    if len(host.nodes) <= MOST_DETAILED:
        for group in socket_groups(host):
            lines = _socket_lines(scene, group, console.width - 4)
            console.print(Panel(Group(*lines), title=group.label, title_align="left", box=ROUNDED))
    else:
        console.print(_compact_nodes(scene, console.width))
        _print_devices(console, scene)
    _print_legend(console, scene)
    for table in node_tables(host) if len(host.nodes) > 1 else ():
        console.print(_table(table, host, console.width))
    printed = console.file.getvalue() if isinstance(console.file, StringIO) else ""
    return "\n".join(line.rstrip() for line in printed.splitlines()) + "\n"


def _style(guest: int) -> str:
    return _COLOURS[guest % len(_COLOURS)]


def _letters(guests: Sequence[Guest]) -> list[str]:
    """Return the letter of each guest in the bars; 0 is Xen's dom0."""
    letters, used = [], 0
    for guest in guests:
        letters.append("0" if guest.is_control else _LETTERS[used % len(_LETTERS)])
        used += not guest.is_control
    return letters


def _socket_lines(scene: _Scene, group: SocketGroup, width: int) -> list[Text]:
    lines = []
    for stack in group.stacks:
        lines += _detailed_node(scene, stack.node, width)
        for node in stack.near:
            near = _detailed_node(scene, node, width - len(_INDENT))
            lines += [Text(_INDENT).append_text(line) for line in near]
    for node in group.shared:
        lines += _detailed_node(scene, node, width)
    return lines


def _detailed_node(scene: _Scene, node: Node, width: int) -> list[Text]:
    head = Text.assemble((_node_label(node), "bold"), "  ", ", ".join(_cpu_facts(scene, node)))
    facts = memory_words(node)
    memory = ", ".join(facts)
    lines = [head]
    if head.cell_len + 2 + len(memory) <= width:
        head.append(" " * (width - head.cell_len - len(memory)) + memory)
    else:
        lines += _filled([Text(fact) for fact in facts], width)
    if node.present_kib != 0:
        lines.append(Text("  ").append_text(_bar(node, scene.guests, width - 2)))
    letters = _letters(scene.guests)
    words = [
        _guest_words(presence, scene.guests[presence.guest], letters)
        for presence in guests_on(node, scene.guests)
    ]
    lines += _filled(words, width)
    lines += _filled([Text(words) for words in page_words(node)], width)
    return lines + _device_lines(scene.devices.get(node.id, ()), width)


def _cpu_facts(scene: _Scene, node: Node) -> list[str]:
    packages = scene.packages[node.id]
    facts = cpu_words(scene.host, node, packages)
    caches = {cache.llc for package in packages for cache in package.caches} - {None}
    if len(packages) > 1:
        divided = any("die" in package.label for package in packages)
        facts.append(f"{len(packages)} {'dies' if divided else 'sockets'}")
    if len(caches) > 1:
        facts.append(f"{len(caches)} last-level caches")
    if node.id in scene.sharers:
        facts.append(f"last-level cache shared with {nodes_words(scene.sharers[node.id])}")
    place = place_words(scene.host, node, scene.nearest)
    return [*facts, place] if place else facts


def _device_lines(groups: Sequence[DeviceGroup], width: int) -> list[Text]:
    lines = []
    for group in groups:
        head, addresses = device_words(group)
        if addresses:
            addresses[0] = f"{head}: {addresses[0]}"
        first, *more = _filled([Text(words) for words in addresses or [head]], width - len(_INDENT))
        lines += [first, *(Text(_INDENT).append_text(line) for line in more)]
    return lines


def _filled(items: Sequence[Text], width: int) -> list[Text]:
    """Put items into lines, breaking only between them."""
    lines: list[Text] = []
    for item in items:
        if not lines or lines[-1].cell_len + 2 + item.cell_len > width:
            lines.append(Text("  "))
        elif lines[-1].cell_len > 2:
            lines[-1].append(", ")
        lines[-1].append_text(item)
    return lines


def _node_label(node: Node) -> str:
    return f"node {node.id}" + (f" ({tier_word(node.kind)})" if node.kind != "dram" else "")


def _guest_words(presence: Presence, guest: Guest, letters: Sequence[str]) -> Text:
    letter, name = letters[presence.guest], name_text(guest.name)
    words = Text(letter, style=_style(presence.guest))
    memory = "" if presence.kib is None else f" {format_memory(presence.kib)}"
    return words.append(("" if name == letter else f" {name}") + memory, style="default")


def _bar(node: Node, guests: Sequence[Guest], width: int) -> Text:
    """Draw the memory in `width` cells; every part of it that is not nothing gets at least one."""
    parts = memory_parts(node, guests)
    if not parts:
        return Text("?" if node.present_kib != 0 else "", style="dim")
    letters = _letters(guests)
    bar = Text("[")
    for part, cells in zip(parts, _cells(parts, width - 2), strict=True):
        if part.guest is not None:
            bar.append(letters[part.guest] * cells, style=f"reverse {_style(part.guest)}")
        else:
            bar.append(_FILLS[part.kind] * cells, style="dim")
    return bar.append("]")


def _cells(parts: list[Part], width: int) -> list[int]:
    total = sum(part.kib for part in parts)
    cells = [max(1, part.kib * width // total) for part in parts]
    largest = max(range(len(parts)), key=lambda at: parts[at].kib)
    cells[largest] = max(1, cells[largest] + width - sum(cells))
    return cells


def _compact_nodes(scene: _Scene, width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("node", justify="right", no_wrap=True)
    table.add_column("cpus", overflow="fold", max_width=18)
    if scene.nearest:
        table.add_column("near", overflow="fold", max_width=12)
    table.add_column("memory", no_wrap=True)
    table.add_column("free", justify="right", no_wrap=True)
    table.add_column("of", justify="right", no_wrap=True)
    table.add_column("guests", overflow="fold", ratio=1)
    letters = _letters(scene.guests)
    for group in socket_groups(scene.host):
        for node in group.nodes:
            names = Text()
            for presence in guests_on(node, scene.guests):
                name = name_text(scene.guests[presence.guest].name)
                names.append(" " if names else "").append(
                    f"{letters[presence.guest]}:{name}", style=_style(presence.guest)
                )
            near = scene.nearest.get(node.id)
            table.add_row(
                f"{node.id}" + (f" {tier_word(node.kind)}" if node.kind != "dram" else ""),
                str(scene.host.cpus_by_node[node.id]) or "none",
                *([str(near.nodes) or "?" if near else ""] if scene.nearest else ()),
                _bar(node, scene.guests, max(12, width // 5)),
                format_memory(node.free_kib),
                format_memory(node.present_kib),
                names,
            )
        if len(group.nodes) > 1:
            table.add_section()
    return table


def _print_devices(console: Console, scene: _Scene) -> None:
    """Print how many devices of what kind are where, a line for nodes that have the same."""
    members: dict[str, list[int]] = {}
    for node, groups in scene.devices.items():
        if node is not None:
            members.setdefault(count_words(groups), []).append(node)
    for words, nodes in members.items():
        each = "each " if len(nodes) > 1 else ""
        console.print(Text(f"devices on {nodes_words(NodeMap(nodes))}: {each}{words}"))


def _print_legend(console: Console, scene: _Scene) -> None:
    if None in scene.devices:
        console.print(Text("devices whose node nobody states:"))
        for line in _device_lines(scene.devices[None], console.width):
            console.print(line)
    parts = [part for node in scene.host.nodes for part in memory_parts(node, scene.guests)]
    kinds = {part.kind for part in parts}
    meanings = [f"{_FILLS[kind]} {text}" for kind, text in MEANINGS.items() if kind in kinds]
    if "guest" in kinds:
        meanings.insert(0, "a letter for each guest")
    if meanings:
        console.print(Text("memory: " + ", ".join(meanings), style="dim"))
    for sentence in host_sentences(scene.host, scene.guests):
        console.print(Text(sentence, style="dim"))


def _table(table: NodeTable, host: Host, width: int) -> RenderableType:
    """Return a table from node to node, or what there is to say instead of it."""
    if not is_telling(table):
        return Text(f"{table.noun}{'s' * (table.noun == 'distance')}: unknown")
    if _table_width(table) > width or len(table.groups) > _MOST_COLUMNS:
        smaller = grouped(table, host.nodes)
        if _table_width(smaller) > width or len(smaller.groups) > _MOST_COLUMNS:
            return Text(f"{table.heading} (and how many pairs of nodes): {pair_words(table)}")
        table = smaller
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    made.add_column(table.heading, justify="right", no_wrap=True)
    for label in _column_labels(table):
        made.add_column(label, justify="right", no_wrap=True)
    for row in table.reading:
        cells = [
            Text(table.cell(value), style="bold" if row == column else "")
            for column, value in enumerate(table.values[row])
        ]
        made.add_row(str(table.groups[row]), *cells)
    return Group(made, *map(Text, _remarks(table)))


def _remarks(table: NodeTable) -> list[str]:
    remarks = []
    if table.is_grouped:
        remarks.append(f"rows stand for nodes that are alike; to itself {table.own_words()}")
    if is_flat(table):
        remarks.append("all the same: nothing is told apart")
    return remarks


def _column_labels(table: NodeTable) -> list[str]:
    labels = [str(group) for group in table.groups]
    if max(map(len, labels)) < 4:
        return labels
    return [str(next(iter(group))) for group in table.groups]


def _table_width(table: NodeTable) -> int:
    column = max(table.longest, *map(len, _column_labels(table))) + 2
    names = max(len(table.heading), *(len(str(group)) for group in table.groups))
    return names + len(table.groups) * column
