"""A host as one SVG document, for a report: sockets, nodes, cpus, memory, guests, distances.

The document needs nothing but itself, is the same for the same host and guests, follows the
reader's light or dark colours, and says in words (title, desc, a title of each part) what it
shows. A cpu is coloured where a guest's vcpu was last seen there.
"""

from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple
from xml.etree import ElementTree as ET  # only written here, never read

from homenode.bitmap import NodeMap
from homenode.drawing import (
    Cores,
    PartKind,
    SocketGroup,
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

_WIDTH = 1120
_MARGIN = 24
_GAP = 12
_PAD = 12
_LINE = 16
_LONGEST_LINE = 160  # characters that fit the width even where they are wide
MOST_DETAILED = 16
"""Nodes of a host beyond which they are drawn small, without their guests' figures."""

MOST_CELLS = 96
"""Rows of the largest heat map; of larger hosts, nodes that are alike share a row."""

_COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377",
    "#ee7733", "#009988", "#9977dd", "#997700", "#cc6699", "#44aa99",
)  # fmt: skip
_CONTROL_COLOUR = "#5f4b8b"
_MEANINGS: dict[PartKind, str] = {
    "used": "used, nobody says by whom",
    "reclaimable": "reclaimable",
    "reserved": "free, but not for guests",
    "free": "free",
}

# Shades from near to far, light enough for dark numbers up to the fourth.
_SHADES = ("#e8f1fa", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#084594")

_STYLE = """
svg { font-family: system-ui, "DejaVu Sans", Helvetica, Arial, sans-serif; font-size: 12px }
.paper { fill: #ffffff } .text { fill: #1f2328 } .quiet { fill: #59636e }
.socket { fill: #f6f8fa; stroke: #d1d9e0 } .node { fill: #ffffff; stroke: #afb8c1 }
.llc { fill: none; stroke: #c4ccd4 } .core { fill: #eaeef2; stroke: none }
.thread { fill: #b6c0ca } .frame { fill: none; stroke: #59636e }
.used { fill: #8c959f } .reclaimable { fill: #d1d9e0 } .free { fill: #ffffff }
.hatch { fill: #fff1d6 } .hatch-line { stroke: #bf8700; stroke-width: 2 }
.title { font-size: 20px; font-weight: 600 } .head { font-size: 14px; font-weight: 600 }
.strong { font-weight: 600 } .small { font-size: 10px } .tiny { font-size: 8px }
.on-light { fill: #1f2328 } .on-dark { fill: #ffffff } .self { fill: #d8dee4 }
.middle { text-anchor: middle } .end { text-anchor: end }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } .text { fill: #e6edf3 } .quiet { fill: #9198a1 }
.socket { fill: #151b23; stroke: #3d444d } .node { fill: #0d1117; stroke: #656c76 }
.llc { stroke: #3d444d } .core { fill: #212830 } .thread { fill: #4b535d }
.frame { stroke: #9198a1 } .used { fill: #656c76 } .reclaimable { fill: #3d444d }
.free { fill: #0d1117 } .hatch { fill: #3a2f14 } .hatch-line { stroke: #d29922 }
}
"""


class _Sizes(NamedTuple):
    """How large nodes and what is in them are drawn."""

    node: int
    thread: int
    bar: int
    text: str
    line: int
    detailed: bool


_LARGE = _Sizes(node=234, thread=9, bar=18, text="", line=_LINE, detailed=True)
_SMALL = _Sizes(node=110, thread=5, bar=9, text="small", line=13, detailed=False)


class _Scene(NamedTuple):
    """What is drawn: the host, its guests, cores by node, and guests by the cpus they are on."""

    host: Host
    guests: Sequence[Guest]
    cores: dict[int, Cores]
    seen: dict[int, int]


class _Canvas:
    """An SVG element to draw into."""

    __slots__ = ("element",)

    def __init__(self, element: ET.Element) -> None:
        self.element = element

    def group(self, title: str) -> "_Canvas":
        """Return a group with words of its own."""
        made = _Canvas(ET.SubElement(self.element, "g"))
        ET.SubElement(made.element, "title").text = printable(title)
        return made

    def text(self, x: float, y: float, words: str, style: str = "") -> None:
        """Write `words` from (x, y), the left end of their base line."""
        attributes = {"x": _number(x), "y": _number(y), "class": style or "text"}
        ET.SubElement(self.element, "text", attributes).text = printable(words)

    def box(  # noqa: PLR0913 - a rectangle has four numbers, and a look
        self, x: float, y: float, *, width: float, height: float, style: str = "", fill: str = "",
        radius: float = 0,
    ) -> ET.Element:  # fmt: skip
        """Draw a rectangle with its upper left corner at (x, y)."""
        attributes = {"x": x, "y": y, "width": width, "height": height}
        written = {name: _number(value) for name, value in attributes.items()}
        if radius:
            written["rx"] = _number(radius)
        if style:
            written["class"] = style
        if fill:
            written["fill"] = fill
        return ET.SubElement(self.element, "rect", written)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def topology(host: Host, guests: Sequence[Guest]) -> str:
    """Return the SVG document that shows `host` and `guests`."""
    guests = [guest._replace(name=name_text(guest.name)) for guest in guests]
    root = ET.Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-labelledby": "title desc"},
    )
    ET.SubElement(root, "title", {"id": "title"}).text = f"Host {printable(host.name)}"
    ET.SubElement(root, "desc", {"id": "desc"}).text = _description(host, guests)
    ET.SubElement(root, "style").text = _STYLE
    _define_hatch(root)
    canvas = _Canvas(root)
    paper = canvas.box(0, 0, width=_WIDTH, height=0, style="paper")
    y = _draw_heading(canvas, host)
    scene = _Scene(host, guests, cores_by_node(host), _last_seen(guests))
    y = _draw_sockets(canvas, scene, y)
    y = _draw_legend(canvas, host, guests, y)
    y = _draw_distances(canvas, host, y)
    height = _number(y + _MARGIN)
    paper.set("height", height)
    root.set("viewBox", f"0 0 {_WIDTH} {height}")
    root.set("width", str(_WIDTH))
    root.set("height", height)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _define_hatch(root: ET.Element) -> None:
    size = {"width": "6", "height": "6"}
    pattern = ET.SubElement(
        ET.SubElement(root, "defs"),
        "pattern",
        {**size, "id": "hatch", "patternUnits": "userSpaceOnUse",
         "patternTransform": "rotate(45)"},
    )  # fmt: skip
    ET.SubElement(pattern, "rect", {**size, "class": "hatch"})
    line = {"x1": "0", "y1": "0", "x2": "0", "y2": "6", "class": "hatch-line"}
    ET.SubElement(pattern, "line", line)


def _description(host: Host, guests: Sequence[Guest]) -> str:
    parts = [f"{_facts(host)}."]
    for node in host.nodes:
        present = [
            f"{guests[presence.guest].name} {format_memory(presence.kib)}"
            for presence in guests_on(node, guests)
        ]
        parts.append(f"{_node_words(host, node)}{'; ' if present else ''}{', '.join(present)}.")
    return printable(" ".join(parts))


def _node_words(host: Host, node: Node) -> str:
    return (
        f"Node {node.id}: {len(host.cpus_by_node[node.id])} cpus, "
        f"{format_memory(node.free_kib)} free of {format_memory(node.present_kib)}"
    )


def _facts(host: Host) -> str:
    present = [node.present_kib for node in host.nodes]
    free = [node.free_kib for node in host.nodes]
    cpus = len(host.cpu_map)
    facts = [
        host.hypervisor or "",
        f"{len(host.nodes)} node" + "s" * (len(host.nodes) != 1),
        f"{len(host.cores)} cores, {cpus} cpus" if len(host.cores) != cpus else f"{cpus} cpus",
        f"{format_memory(_sum(free))} free of {format_memory(_sum(present))}",
    ]
    return ", ".join(fact for fact in facts if fact)


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _colour(at: int, guests: Sequence[Guest]) -> str:
    if guests[at].is_control:
        return _CONTROL_COLOUR
    before = sum(not guest.is_control for guest in guests[:at])
    return _COLOURS[before % len(_COLOURS)]


def _draw_heading(canvas: _Canvas, host: Host) -> float:
    canvas.text(_MARGIN, _MARGIN + 16, host.name, "text title")
    canvas.text(_MARGIN, _MARGIN + 38, _facts(host), "quiet")
    return _MARGIN + 54


class _Socket(NamedTuple):
    """A socket's place: its columns, the heights of its rows of nodes, and its left edge."""

    group: SocketGroup
    columns: int
    rows: list[float]
    x: float

    def width(self, sizes: _Sizes) -> float:
        return self.columns * (sizes.node + _GAP) - _GAP + 2 * _PAD

    def height(self) -> float:
        return sum(self.rows) + _GAP * (len(self.rows) - 1) + _PAD + 28


def _draw_sockets(canvas: _Canvas, scene: _Scene, top: float) -> float:
    """Draw the sockets in rows; return where the next thing goes."""
    sizes = _LARGE if len(scene.host.nodes) <= MOST_DETAILED else _SMALL
    for row in _socket_rows(scene, sizes):
        height = max(socket.height() for socket in row)
        for socket in row:
            _draw_socket(canvas, scene, sizes, socket, (top, height))
        top += height + _GAP
    return top


def _socket_rows(scene: _Scene, sizes: _Sizes) -> list[list[_Socket]]:
    per_row = (_WIDTH - 2 * _MARGIN - 2 * _PAD + _GAP) // (sizes.node + _GAP)
    rows: list[list[_Socket]] = []
    x = float(_MARGIN)
    for group in socket_groups(scene.host):
        columns = _columns(len(group.nodes), per_row, sizes)
        heights = [_node_height(scene, node, sizes) for node in group.nodes]
        lines = [max(heights[at : at + columns]) for at in range(0, len(heights), columns)]
        socket = _Socket(group, columns, lines, x)
        if not rows or x + socket.width(sizes) > _WIDTH - _MARGIN:
            x = float(_MARGIN)
            socket = socket._replace(x=x)
            rows.append([])
        rows[-1].append(socket)
        x += socket.width(sizes) + _GAP
    return rows


def _draw_socket(
    canvas: _Canvas,
    scene: _Scene,
    sizes: _Sizes,
    socket: _Socket,
    place: tuple[float, float],
) -> None:
    top, height = place
    nodes = socket.group.nodes
    part = canvas.group(f"{socket.group.label}: nodes {NodeMap(node.id for node in nodes)}")
    part.box(socket.x, top, width=socket.width(sizes), height=height, style="socket", radius=8)
    part.text(socket.x + _PAD, top + 19, socket.group.label, "text head")
    for at, node in enumerate(nodes):
        row, column = divmod(at, socket.columns)
        x = socket.x + _PAD + column * (sizes.node + _GAP)
        y = top + 28 + sum(socket.rows[:row]) + row * _GAP
        words = part.group(_node_words(scene.host, node))
        _draw_node(words, scene, node, sizes, (x, y, socket.rows[row]))


def _columns(count: int, per_row: int, sizes: _Sizes) -> int:
    if sizes.detailed:
        return max(1, min(count, per_row))
    # Small nodes stand in squares, so that the sockets of a large host make rows.
    square = next(side for side in range(1, count + 1) if side * side >= count)
    return max(1, min(square, per_row))


def _last_seen(guests: Sequence[Guest]) -> dict[int, int]:
    return {
        vcpu.cpu: at
        for at, guest in enumerate(guests)
        for vcpu in guest.vcpus
        if vcpu.cpu is not None and vcpu.online
    }


def _core_rows(cores: Cores, sizes: _Sizes) -> list[list[tuple[int | None, list[int]]]]:
    """Return the cores in rows that fit the node's width; a last-level cache begins a new row."""
    widest = sizes.node - 2 * _PAD
    rows: list[list[tuple[int | None, list[int]]]] = []
    used = 0.0
    for llc, core in cores:
        width = _core_width(core, sizes)
        if not rows or used + width > widest or rows[-1][-1][0] != llc:
            rows.append([])
            used = 0
        rows[-1].append((llc, core))
        used += width
    return rows


def _core_width(core: list[int], sizes: _Sizes) -> float:
    return len(core) * (sizes.thread + 1) + 5


def _node_height(scene: _Scene, node: Node, sizes: _Sizes) -> float:
    cores = len(_core_rows(scene.cores[node.id], sizes)) * (sizes.thread + 8)
    lines = 1 + len(guests_on(node, scene.guests)) if sizes.detailed else 1
    lines += sizes.detailed and node.usable_kib != node.free_kib
    return (
        24 + (sizes.line if sizes.detailed else 0) + cores + 6 + sizes.bar + lines * sizes.line + 8
    )


def _draw_node(
    canvas: _Canvas,
    scene: _Scene,
    node: Node,
    sizes: _Sizes,
    place: tuple[float, float, float],
) -> None:
    left, top, height = place
    canvas.box(left, top, width=sizes.node, height=height, style="node", radius=6)
    x, y = left + _PAD if sizes.detailed else left + 6, top + 17
    kind = f" ({node.kind})" if node.kind != "dram" else ""
    canvas.text(x, y, f"node {node.id}{kind}", f"text strong {sizes.text}")
    own = scene.host.cpus_by_node[node.id]
    cpus = str(own)
    words = f"cpus {cpus}" if cpus else "no cpus"
    if sizes.detailed:
        y += sizes.line
        canvas.text(x, y, words if len(words) < 38 else words[:36] + "…", "quiet")
    else:
        count = f"{len(own)} cpus"
        short = cpus if 0 < len(cpus) < 9 and not kind else count
        canvas.text(left + sizes.node - 6, y, short, "quiet small end")
    y = _draw_cores(canvas, scene, node, sizes, (x, y + 8))
    bar = sizes.node - (2 * _PAD if sizes.detailed else 12)
    _draw_bar(canvas, node, scene.guests, (x, y, bar, sizes.bar))
    y += sizes.bar + sizes.line - 2
    _draw_figures(canvas, node, scene.guests, sizes, (x, y))


def _draw_cores(
    canvas: _Canvas,
    scene: _Scene,
    node: Node,
    sizes: _Sizes,
    place: tuple[float, float],
) -> float:
    left, y = place
    for row in _core_rows(scene.cores[node.id], sizes):
        x = left
        for _, core in row:
            width = _core_width(core, sizes)
            canvas.box(x, y, width=width - 2, height=sizes.thread + 4, style="core", radius=2)
            for at, cpu in enumerate(core):
                guest = scene.seen.get(cpu)
                fill = _colour(guest, scene.guests) if guest is not None else ""
                thread = canvas.box(x + 2 + at * (sizes.thread + 1), y + 2, width=sizes.thread,
                                    height=sizes.thread, style="" if fill else "thread",
                                    fill=fill, radius=1)  # fmt: skip
                name = f": {scene.guests[guest].name}" if guest is not None else ""
                ET.SubElement(thread, "title").text = printable(f"cpu {cpu}{name}")
            x += width
        y += sizes.thread + 8
    return y + 4


def _draw_bar(
    canvas: _Canvas,
    node: Node,
    guests: Sequence[Guest],
    place: tuple[float, float, float, float],
) -> None:
    x, y, width, height = place
    parts = memory_parts(node, guests)
    at = x
    for part in parts:
        share = part.kib * width / (node.present_kib or 1)
        name = guests[part.guest].name if part.guest is not None else _MEANINGS[part.kind]
        fill = "" if part.guest is None else _colour(part.guest, guests)
        if part.kind == "reserved":
            fill = "url(#hatch)"
        style = part.kind if not fill else ""
        drawn = canvas.box(at, y, width=share, height=height, style=style, fill=fill)
        title = f"{name}: {format_memory(part.kib)}"
        ET.SubElement(drawn, "title").text = printable(title)
        at += share
    if node.present_kib != 0:
        canvas.box(x, y, width=width, height=height, style="frame")
    if not parts and node.present_kib != 0:
        canvas.text(x + width / 2, y + height - 4, "?", "quiet middle")


def _draw_figures(
    canvas: _Canvas,
    node: Node,
    guests: Sequence[Guest],
    sizes: _Sizes,
    place: tuple[float, float],
) -> None:
    x, y = place
    words = f"{format_memory(node.free_kib)} free of {format_memory(node.present_kib)}"
    if node.present_kib == 0:
        words = "no memory"
    elif not sizes.detailed:
        words = words.replace(" free of ", " / ")
    canvas.text(x, y, words, f"text {sizes.text}")
    if not sizes.detailed:
        return
    if node.usable_kib != node.free_kib:
        y += sizes.line
        canvas.text(x, y, f"{format_memory(node.usable_kib)} usable by a new guest", "quiet")
    for presence in guests_on(node, guests):
        y += sizes.line
        canvas.box(x, y - 9, width=10, height=10, fill=_colour(presence.guest, guests), radius=2)
        name = guests[presence.guest].name
        name = name if len(name) < 22 else name[:20] + "…"
        canvas.text(x + 16, y, name, "text")
        memory = "may be here" if presence.kib is None else format_memory(presence.kib)
        canvas.text(x + sizes.node - 2 * _PAD, y, memory, "text end")


def _draw_legend(canvas: _Canvas, host: Host, guests: Sequence[Guest], top: float) -> float:
    kinds = {part.kind for node in host.nodes for part in memory_parts(node, guests)}
    entries: list[tuple[str, str, str]] = [
        (kind, "", words) for kind, words in _MEANINGS.items() if kind in kinds
    ]
    for at, guest in enumerate(guests):
        words = f"{guest.name}, {format_memory(guest.memory_kib)}"
        entries.append(("", _colour(at, guests), words))
    x, y = float(_MARGIN), top + 14
    for style, colour, words in entries:
        width = 34 + 6.8 * len(words)
        if x > _MARGIN and x + width > _WIDTH - _MARGIN:
            x, y = float(_MARGIN), y + 20
        fill = "url(#hatch)" if style == "reserved" else colour
        canvas.box(x, y - 11, width=14, height=14, style="" if fill else style, fill=fill)
        canvas.box(x, y - 11, width=14, height=14, style="frame")
        canvas.text(x + 20, y, words)
        x += width
    y += 20
    reasons = {kept.reason: None for node in host.nodes for kept in node.reserved if kept.kib}
    lines = [f"Not for guests: {reason}." for reason in reasons]
    for pool in host.pools if len(host.pools) > 1 else ():
        scheduler = f", {pool.scheduler}" if pool.scheduler else ""
        lines.append(f"Cpupool {pool.name}: cpus {str(pool.cpus) or 'none'}{scheduler}.")
    if _last_seen(guests):
        lines.append("A coloured cpu: a vcpu of that guest was last seen there.")
    lines += [f"Note: {note}" for note in host.notes]
    for line in (part for sentence in lines for part in wrap(sentence, _LONGEST_LINE)):
        canvas.text(_MARGIN, y, line, "quiet")
        y += _LINE
    return y


def _draw_distances(canvas: _Canvas, host: Host, top: float) -> float:
    groups = [[node.id] for node in host.nodes]
    if len(groups) > MOST_CELLS:
        groups = [list(group) for group in alike_nodes(host)]
    if len(groups) < 2 or len(groups) > MOST_CELLS:
        return top
    y = top + 22
    canvas.text(_MARGIN, y, "Distances", "text head")
    canvas.text(_MARGIN + 84, y, "from the node of the row to the node of the column, "
                "as the firmware states them", "quiet")  # fmt: skip
    cell = min(34.0, (_WIDTH - 2 * _MARGIN - 40) / len(groups))
    style = "tiny" if cell < 18 else "small" if cell < 28 else ""
    x, y = float(_MARGIN + 40), y + 26
    at = {node.id: place for place, node in enumerate(host.nodes)}
    ranks = _ranks(host)
    for column, group in enumerate(groups):
        canvas.text(x + (column + 0.5) * cell, y - 4, _label(group), f"quiet middle {style}")
    for row, group in enumerate(groups):
        line = canvas.group(f"distances from node {_label(group)}")
        base = y + (row + 0.5) * cell + (3 if style else 4)
        line.text(x - 8, base, _label(group), f"quiet end {style}")
        for column, other in enumerate(groups):
            far = host.distances[at[group[0]]][at[other[-1] if other is group else other[0]]]
            own = row == column and len(group) == 1
            shade = ranks.get(far, 0)
            line.box(x + column * cell, y + row * cell, width=cell - 1, height=cell - 1,
                     style="self" if own else "", fill="" if own else _SHADES[shade])  # fmt: skip
            tone = "on-dark" if shade > 3 and not own else "on-light"
            words = "?" if far is None else str(far)
            line.text(x + (column + 0.46) * cell, base, words, f"{tone} middle {style}")
    return y + len(groups) * cell + 4


def _label(group: list[int]) -> str:
    return str(group[0]) if len(group) == 1 else f"{group[0]}…"


def _ranks(host: Host) -> dict[int | None, int]:
    """Return the shade of every distance: by its place among them, the nearest lightest."""
    known = sorted(
        {
            far
            for at, row in enumerate(host.distances)
            for to, far in enumerate(row)
            if far is not None and at != to
        }
    )
    steps = max(1, len(known) - 1)
    last = len(_SHADES) - 1
    span = last if len(known) > 3 else min(last, 2 * steps)
    return {far: at * span // steps for at, far in enumerate(known)} | {None: 0}
