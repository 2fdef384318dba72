"""A node's card: what it is, its cores, its memory, who is there, what hangs on it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.drawing import name_text
from homenode.drawing.devices import DeviceGroup, count_words, devices_by_node
from homenode.drawing.hierarchy import (
    Nearness,
    Package,
    cache_sharers,
    nearest_nodes,
    nodes_words,
    packages_by_node,
)
from homenode.drawing.memory import MEANINGS, guests_on, memory_parts
from homenode.drawing.svg.canvas import Block, Canvas, fit, text_width, wrap
from homenode.drawing.svg.cores import Look, cores_block
from homenode.drawing.svg.style import (
    GLYPHS,
    MARGIN,
    WIDTH,
    guest_colour,
    ink_on,
    kind_style,
)
from homenode.drawing.words import (
    cpu_words,
    device_words,
    memory_words,
    page_words,
    place_words,
    tier_word,
)
from homenode.guest import Guest
from homenode.host import DeviceKind, Host, Node, NodeKind
from homenode.units import format_memory

_GLYPH = 16  # a glyph of ten pixels, and room
_GIB_KIB = 1 << 20


class Sizes(NamedTuple):
    """How large nodes and what is in them are drawn; small ones without their guests' figures.

    `named`: the names of guests stand in what they have of the memory, where there is room.
    """

    node: int
    pad: int
    thread: int
    bar: int
    text: str
    line: int
    detailed: bool
    named: bool = False

    @property
    def inner(self) -> int:
        """The width within a card."""
        return self.node - 2 * self.pad


class Scene(NamedTuple):
    """What is drawn, what was found out about it, and how wide the picture is, in pixels."""

    host: Host
    guests: Sequence[Guest]
    packages: Mapping[int, Sequence[Package]]
    nearest: dict[int, Nearness]
    devices: Mapping[int | None, Sequence[DeviceGroup]]
    sharers: Mapping[int, NodeMap]
    seen: Mapping[int, tuple[str, str]]
    kinds_differ: bool
    width: int = WIDTH

    @property
    def room(self) -> int:
        """The width within the margins."""
        return self.width - 2 * MARGIN


def scene_of(host: Host, guests: Sequence[Guest]) -> Scene:
    """Return what is drawn of `host` and `guests`; a cpu is coloured where a vcpu was last seen."""
    shown = guest_names(guests)
    seen = {
        vcpu.cpu: (guest_colour(at, shown), guest.name)
        for at, guest in enumerate(shown)
        for vcpu in guest.vcpus
        if vcpu.cpu is not None and vcpu.online
    }
    return Scene(
        host,
        shown,
        packages=packages_by_node(host),
        nearest=nearest_nodes(host),
        devices=devices_by_node(host),
        sharers=cache_sharers(host),
        seen=seen,
        kinds_differ=len({node.kind for node in host.nodes}) > 1,
    )


def node_sentence(scene: Scene, node: Node) -> str:
    """Return the node in words."""
    kind = f" ({'of unknown kind' if node.kind is None else node.kind})"
    parts = [f"{len(scene.host.cpus_by_node[node.id])} cpus", *memory_words(node)]
    place = place_words(scene.host, node, scene.nearest)
    if place:
        parts.insert(1, place)
    devices = count_words(scene.devices.get(node.id, ()))
    parts += page_words(node) + ([f"devices: {devices}"] if devices else [])
    return f"Node {node.id}{kind if node.kind != 'dram' else ''}: {', '.join(parts)}"


def node_card(scene: Scene, node: Node, sizes: Sizes) -> Block:
    """Return the card of a node, `sizes.node` wide; it is stretched to the height it is given."""
    blocks = _detailed(scene, node, sizes) if sizes.detailed else _small(scene, node, sizes)
    blocks = [block for block in blocks if block.height]
    height = sum(block.height for block in blocks) + sizes.pad - 3

    def draw(canvas: Canvas, x: float, y: float) -> None:
        for block in blocks:
            block.draw(canvas, x + sizes.pad, y)
            y += block.height

    return Block(height, draw)


def is_tagged(scene: Scene, node: Node) -> bool:
    """Return whether the kind of a node's memory is to be shown."""
    return scene.kinds_differ or node.kind != "dram"


def _detailed(scene: Scene, node: Node, sizes: Sizes) -> list[Block]:
    packages = scene.packages[node.id]
    words = cpu_words(scene.host, node, packages)
    place = place_words(scene.host, node, scene.nearest)
    if node.id in scene.sharers:
        words.append(f"last-level cache shared with {nodes_words(scene.sharers[node.id])}")
    amounts, *more = memory_words(node)
    return [
        _title(scene, node, sizes),
        *_lines([*words, *([place] if place else [])], sizes, "quiet"),
        *_cores(scene, node, sizes),
        _space(6),
        _bar(scene, node, sizes),
        _space(2),
        *_lines([amounts], sizes, "text"),
        *_lines(more, sizes, "quiet"),
        *_lines(page_words(node), sizes, "quiet"),
        *_guests(scene, node, sizes),
        *_devices(scene.devices.get(node.id, ()), sizes),
    ]


def _small(scene: Scene, node: Node, sizes: Sizes) -> list[Block]:
    return [
        _title(scene, node, sizes),
        *_cores(scene, node, sizes),
        _space(4),
        _bar(scene, node, sizes),
        _space(1),
        *_lines([_free_words(node, sizes)], sizes, f"text {sizes.text}".strip()),
        _device_counts(scene.devices.get(node.id, ()), sizes),
    ]


def _free_words(node: Node, sizes: Sizes) -> str:
    if node.present_kib == 0:
        return "no memory"
    free, present = format_memory(node.free_kib), format_memory(node.present_kib)
    if sizes.named:
        # Beside each other, amounts compare best in one unit.
        return "?" if node.free_kib is None else f"{node.free_kib / _GIB_KIB:.1f} GiB"
    number, _, unit = free.partition(" ")
    return f"{number if present.endswith(' ' + unit) else free} / {present}"


def _space(height: float) -> Block:
    return Block(height, lambda _canvas, _x, _y: None)


def _lines(items: Sequence[str], sizes: Sizes, style: str) -> list[Block]:
    """Return lines of text with the items in them, broken between items where possible."""
    lines: list[str] = []
    for item in items:
        for part in _wrapped(item, sizes.inner, style):
            joined = f"{lines[-1]}, {part}" if lines else part
            if lines and part == item and text_width(joined + ",", style) <= sizes.inner:
                lines[-1] = joined
            else:
                lines.append(part)
    return [_line(line, sizes, style) for line in lines]


_MOST_LINES = 6
"""Of one item, such as a list of scattered cpus; the rest is in the words for screen readers."""


def _wrapped(words: str, width: float, style: str) -> list[str]:
    lines = wrap(words, width, style)
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], fit(f"{lines[_MOST_LINES - 1]} …", width, style)]
    return lines


def _line(words: str, sizes: Sizes, style: str) -> Block:
    return Block(sizes.line, lambda canvas, x, y: canvas.text(x, y + sizes.line - 4, words, style))


def _title(scene: Scene, node: Node, sizes: Sizes) -> Block:
    """Return the node's number, the kind of its memory, and on a small card, how many cpus."""
    height = sizes.line + (7 if sizes.detailed else 5)
    style = f"strong {sizes.text}".strip()
    name = f"node {node.id}"
    # Small cards have no room for what goes without saying.
    tagged = is_tagged(scene, node) and (sizes.detailed or node.kind != "dram")
    cpus = len(scene.host.cpus_by_node[node.id])
    count = "" if sizes.detailed else f"{cpus or 'no'} cpus"

    def draw(canvas: Canvas, x: float, y: float) -> None:
        base, end = y + height - 5, x + sizes.inner
        canvas.text(x, base, name, f"text {style}")
        if tagged:
            end = _draw_tag(canvas, node.kind, end, base)
        if text_width(name, style) + text_width(count, "small") + 4 <= end - x and count:
            canvas.text(end, base, count, "quiet small end")

    return Block(height, draw)


def _draw_tag(canvas: Canvas, kind: NodeKind | None, end: float, base: float) -> float:
    """Draw the kind of a node's memory, which ends at `end`; return where it begins."""
    words = tier_word(kind)
    width = text_width(words, "small") + 8
    canvas.box(end - width, base - 10, width=width, height=13, style=kind_style(kind), radius=3)
    tone = "text" if kind is None else "on-kind"
    canvas.text(end - width / 2, base, words, f"{tone} small middle")
    return end - width - 4


def _cores(scene: Scene, node: Node, sizes: Sizes) -> list[Block]:
    packages = scene.packages[node.id]
    if not packages:
        return []
    look = Look(sizes.thread, 3 if sizes.detailed else 2, scene.seen)
    return [_space(4), cores_block(packages, sizes.inner, look), _space(2)]


def _bar(scene: Scene, node: Node, sizes: Sizes) -> Block:
    if node.present_kib == 0:
        return _space(0)
    parts = memory_parts(node, scene.guests)

    def draw(canvas: Canvas, x: float, y: float) -> None:
        at = x
        for part in parts:
            share = part.kib * sizes.inner / (node.present_kib or 1)
            name, fill = MEANINGS.get(part.kind, ""), ""
            if part.guest is not None:
                name = scene.guests[part.guest].name
                fill = guest_colour(part.guest, scene.guests)
            elif part.kind == "reserved":
                fill = "url(#hatch)"
            style = "" if fill else part.kind
            drawn = canvas.box(at, y, width=share, height=sizes.bar, style=style, fill=fill)
            drawn.title(f"{name}: {format_memory(part.kib)}")
            if sizes.named and part.guest is not None and text_width(name) <= share:
                base = y + sizes.bar / 2 + 4
                canvas.text(at + share / 2, base, name, "middle strong", fill=ink_on(fill))
            at += share
        canvas.box(x, y, width=sizes.inner, height=sizes.bar, style="frame")
        if not parts:
            base = y + sizes.bar / 2 + (4 if sizes.detailed else 3)
            canvas.text(x + sizes.inner / 2, base, "?", f"quiet middle {sizes.text}".strip())

    return Block(sizes.bar, draw)


def _guests(scene: Scene, node: Node, sizes: Sizes) -> list[Block]:
    def line(guest: int, kib: int | None) -> Block:
        memory = "may be here" if kib is None else format_memory(kib)
        room = sizes.inner - 16 - 8 - text_width(memory)
        name = fit(scene.guests[guest].name, room)

        def draw(canvas: Canvas, x: float, y: float) -> None:
            base = y + sizes.line - 4
            colour = guest_colour(guest, scene.guests)
            canvas.box(x, base - 9, width=10, height=10, fill=colour, radius=2)
            canvas.text(x + 16, base, name)
            canvas.text(x + sizes.inner, base, memory, "text end")

        return Block(sizes.line, draw)

    return [line(*presence) for presence in guests_on(node, scene.guests)]


def draw_glyph(canvas: Canvas, x: float, y: float, kind: DeviceKind | None) -> None:
    """Draw what stands for a kind of device; (x, y) is the upper left corner of ten pixels."""
    if kind in GLYPHS:
        canvas.path(x, y, GLYPHS[kind], f"glyph {kind}" if kind == "accelerator" else "glyph")
    else:
        canvas.text(x + 5, y + 9, "?", "quiet strong middle")


def device_lines(groups: Sequence[DeviceGroup], width: float) -> list[Block]:
    """Return lines for devices: a glyph and a kind, and the addresses of as many as are told."""
    blocks = []
    for group in groups:
        head, addresses = device_words(group)
        words = f"{head}: {', '.join(addresses)}" if addresses else head
        for at, line in enumerate(wrap(words, width - _GLYPH, "quiet")):
            blocks.append(_device_line(line, None if at else group, indented=group.kind))
    return blocks


def _device_line(words: str, group: DeviceGroup | None, *, indented: DeviceKind | None) -> Block:
    def draw(canvas: Canvas, x: float, y: float) -> None:
        if group is not None and group.kind != "chipset":
            draw_glyph(canvas, x, y + 2, group.kind)
        canvas.text(x + (0 if indented == "chipset" else _GLYPH), y + 12, words, "quiet")

    return Block(16, draw)


def _devices(groups: Sequence[DeviceGroup], sizes: Sizes) -> list[Block]:
    if not groups:
        return []
    return [_space(4), *device_lines(groups, sizes.inner)]


def _device_counts(groups: Sequence[DeviceGroup], sizes: Sizes) -> Block:
    """Return glyphs with the number of devices of each kind, for a small card."""
    places: list[tuple[float, float, DeviceGroup]] = []
    x, y = 0.0, 0.0
    for group in groups:
        if group.kind == "chipset":
            continue
        width = 13 + text_width(str(len(group.addresses)), "small") + 6
        if x and x + width > sizes.inner:
            x, y = 0.0, y + sizes.line
        places.append((x, y, group))
        x += width
    if not places:
        return _space(0)

    def draw(canvas: Canvas, left: float, top: float) -> None:
        for right, down, group in places:
            part = canvas.group(count_words([group]))
            draw_glyph(part, left + right, top + down + 2, group.kind)
            part.text(left + right + 13, top + down + 11, str(len(group.addresses)), "quiet small")

    return Block(y + sizes.line + 2, draw)


def guest_names(guests: Sequence[Guest]) -> list[Guest]:
    """Return the guests with names that can be shown."""
    return [guest._replace(name=name_text(guest.name)) for guest in guests]
