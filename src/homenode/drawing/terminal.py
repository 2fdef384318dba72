"""A host in the terminal: sockets, nodes, memory and guests, and the distances.

Without colours it is plain text that says the same. Up to `MOST_DETAILED` nodes are drawn one by
one with their guests' figures; larger hosts get one line for each node, and one row of distances
for nodes that are alike.
"""

from collections.abc import Sequence
from io import StringIO

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from homenode.bitmap import CpuMap, NodeMap
from homenode.drawing import (
    Cores,
    Part,
    Presence,
    alike_nodes,
    cores_by_node,
    guests_on,
    memory_parts,
    name_text,
    printable,
    socket_groups,
)
from homenode.guest import Guest
from homenode.host import Host, Node
from homenode.units import format_memory

MOST_DETAILED = 16
_MOST_COLUMNS = 16

_COLOURS = ("blue", "green", "magenta", "cyan", "yellow", "red",
            "bright_blue", "bright_green", "bright_magenta", "bright_cyan")  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FILLS = {"used": "▒", "reclaimable": "░", "reserved": "x", "free": "·"}
_MEANINGS = {
    "used": "used, nobody says by whom",
    "reclaimable": "reclaimable",
    "reserved": "free, but not for guests",
    "free": "free",
}


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
    console.print(_heading(host))
    if len(host.nodes) <= MOST_DETAILED:
        cores = cores_by_node(host)
        for group in socket_groups(host):
            lines = [
                line
                for node in group.nodes
                for line in _detailed_node(node, cores[node.id], guests, console.width - 4)
            ]
            console.print(Panel(Group(*lines), title=group.label, title_align="left", box=ROUNDED))
    else:
        console.print(_compact_nodes(host, guests, console.width))
    _print_legend(console, host, guests)
    if len(host.nodes) > 1:
        console.print(_distances(host))
    printed = console.file.getvalue() if isinstance(console.file, StringIO) else ""
    return "\n".join(line.rstrip() for line in printed.splitlines()) + "\n"


def _heading(host: Host) -> Text:
    threads = len(host.cpu_map)
    present = [node.present_kib for node in host.nodes]
    free = [node.free_kib for node in host.nodes]
    facts = [
        host.hypervisor and printable(host.hypervisor),
        f"{len(host.nodes)} node{'s' * (len(host.nodes) != 1)}",
        f"{len(host.cores)} cores, {threads} cpus"
        if len(host.cores) != threads
        else f"{threads} cpus",
        f"{format_memory(_sum(free))} free of {format_memory(_sum(present))}",
    ]
    text = Text(printable(host.name), style="bold")
    return text.append(": " + ", ".join(fact for fact in facts if fact), style="not bold")


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _style(guest: int) -> str:
    return _COLOURS[guest % len(_COLOURS)]


def _letters(guests: Sequence[Guest]) -> list[str]:
    """Return the letter of each guest in the bars; 0 is Xen's dom0."""
    letters, used = [], 0
    for guest in guests:
        letters.append("0" if guest.is_control else _LETTERS[used % len(_LETTERS)])
        used += not guest.is_control
    return letters


def _detailed_node(node: Node, cores: Cores, guests: Sequence[Guest], width: int) -> list[Text]:
    head = Text.assemble((_node_label(node), "bold"), "  ", _cpu_words(cores))
    facts = _memory_facts(node)
    memory = ", ".join(facts)
    lines = [head]
    if head.cell_len + 2 + len(memory) <= width:
        head.append(" " * (width - head.cell_len - len(memory)) + memory)
    else:
        lines += _filled([Text(fact) for fact in facts], width)
    if node.present_kib != 0:
        lines.append(Text("  ").append_text(_bar(node, guests, width - 2)))
    letters = _letters(guests)
    words = [
        _guest_words(presence, guests[presence.guest], letters)
        for presence in guests_on(node, guests)
    ]
    return lines + _filled(words, width)


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
    return f"node {node.id}" + (f" ({node.kind})" if node.kind != "dram" else "")


def _cpu_words(cores: Cores) -> str:
    cpus = CpuMap(cpu for _, core in cores for cpu in core)
    if not cpus:
        return "no cpus"
    words = f"cpus {cpus}"
    if len(cores) != len(cpus):
        words += f", {len(cores)} cores"
    caches = {llc for llc, _ in cores if llc is not None}
    if len(caches) > 1:
        words += f", {len(caches)} last-level caches"
    return words


def _memory_facts(node: Node) -> list[str]:
    if node.present_kib == 0:
        return ["no memory"]
    facts = [f"{format_memory(node.free_kib)} free of {format_memory(node.present_kib)}"]
    if node.reclaimable_kib:
        facts.append(f"{format_memory(node.reclaimable_kib)} reclaimable")
    if node.reserved_kib:
        facts.append(f"{format_memory(node.reserved_kib)} not for guests")
    if node.committed_kib is not None:
        facts.append(f"{format_memory(node.committed_kib)} committed")
    if node.usable_kib != node.free_kib:
        facts.append(f"{format_memory(node.usable_kib)} usable")
    return facts + [
        f"{'unknown' if pool.free is None else pool.free} of {pool.total} pages of "
        f"{format_memory(pool.page_kib)} free"
        for pool in node.pages
        if pool.total
    ]


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


def _compact_nodes(host: Host, guests: Sequence[Guest], width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("node", justify="right", no_wrap=True)
    table.add_column("cpus", overflow="fold", max_width=18)
    table.add_column("memory", no_wrap=True)
    table.add_column("free", justify="right", no_wrap=True)
    table.add_column("of", justify="right", no_wrap=True)
    table.add_column("guests", overflow="fold", ratio=1)
    letters = _letters(guests)
    for group in socket_groups(host):
        for node in group.nodes:
            names = Text()
            for presence in guests_on(node, guests):
                name = name_text(guests[presence.guest].name)
                names.append(" " if names else "").append(
                    f"{letters[presence.guest]}:{name}", style=_style(presence.guest)
                )
            table.add_row(
                f"{node.id}" + (f" {node.kind}" if node.kind != "dram" else ""),
                str(host.cpus_by_node[node.id]) or "none",
                _bar(node, guests, max(12, width // 5)),
                format_memory(node.free_kib),
                format_memory(node.present_kib),
                names,
            )
        table.add_section()
    return table


def _print_legend(console: Console, host: Host, guests: Sequence[Guest]) -> None:
    parts = [part for node in host.nodes for part in memory_parts(node, guests)]
    kinds = {part.kind for part in parts}
    meanings = [f"{_FILLS[kind]} {text}" for kind, text in _MEANINGS.items() if kind in kinds]
    if "guest" in kinds:
        meanings.insert(0, "a letter for each guest")
    if meanings:
        console.print(Text("memory: " + ", ".join(meanings), style="dim"))
    for pool in host.pools:
        words = f"cpupool {printable(pool.name)}: cpus {str(pool.cpus) or 'none'}"
        scheduler = f", {printable(pool.scheduler)}" if pool.scheduler else ""
        console.print(Text(words + scheduler, style="dim"))
    reasons = {kept.reason: None for node in host.nodes for kept in node.reserved if kept.kib}
    for reason in reasons:
        console.print(Text(f"not for guests: {printable(reason)}", style="dim"))
    lost = [
        name_text(guest.name)
        for guest in guests
        if guest.memory_by_node is None and guest.node_affinity is None
    ]
    if lost:
        console.print(Text(f"where nobody says: {', '.join(lost)}", style="dim"))


def _distances(host: Host) -> RenderableType:
    if all(
        far is None for at, row in enumerate(host.distances) for far in row[:at] + row[at + 1 :]
    ):
        return Text("distances: unknown")
    groups = [[node.id] for node in host.nodes]
    if len(groups) > _MOST_COLUMNS:
        groups = [list(group) for group in alike_nodes(host)]
    if len(groups) > _MOST_COLUMNS:
        return _distance_counts(host)
    at = {node.id: place for place, node in enumerate(host.nodes)}
    labels = [str(NodeMap(group)) for group in groups]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("distance", justify="right", no_wrap=True)
    for label in labels if max(map(len, labels)) < 4 else [group[0] for group in groups]:
        table.add_column(str(label), justify="right", no_wrap=True)
    for label, row in zip(labels, groups, strict=True):
        cells = []
        for column in groups:
            other = column[-1] if column is row else column[0]
            far = host.distances[at[row[0]]][at[other]]
            text = "?" if far is None else str(far)
            cells.append(Text(text, style="bold" if row is column else ""))
        table.add_row(label, *cells)
    if any(len(group) > 1 for group in groups):
        local = sorted({host.distances[place][place] or 0 for place in at.values()})
        table.caption = f"rows stand for nodes that are alike; to itself {local[0]}"
        table.caption_justify = "left"
    return table


def _distance_counts(host: Host) -> Text:
    counts: dict[int | None, int] = {}
    for row in host.distances:
        for far in row:
            counts[far] = counts.get(far, 0) + 1
    known = sorted((far, count) for far, count in counts.items() if far is not None)
    words = [f"{far} ({count})" for far, count in known]
    if None in counts:
        words.append(f"unknown ({counts[None]})")
    return Text(f"distances (and how many pairs of nodes have them): {', '.join(words)}")
