"""What the colours and shapes mean, and what is to be said in sentences."""

from collections.abc import Callable
from typing import NamedTuple

from homenode.drawing.devices import KINDS
from homenode.drawing.memory import MEANINGS, memory_parts, tiers
from homenode.drawing.svg.canvas import Canvas, fit, text_width, wrap
from homenode.drawing.svg.node import Scene, device_lines, draw_glyph, is_tagged
from homenode.drawing.svg.style import LINE, MARGIN, guest_colour, kind_style
from homenode.drawing.words import host_sentences
from homenode.host import DeviceKind, NodeKind
from homenode.units import format_memory

_SWATCH = 20


class _Entry(NamedTuple):
    """A swatch, drawn into a square of 14 pixels with this upper left corner, and its words."""

    draw: Callable[[Canvas, float, float], None]
    words: str


def draw_legend(canvas: Canvas, scene: Scene, top: float) -> float:
    """Draw devices on no node, the legend, and sentences; return where the next thing goes."""
    y = _draw_devices(canvas, scene, top)
    x, y = float(MARGIN), y + 3
    entries = [
        *_memory(scene),
        *_guests(scene),
        *_kinds(scene),
        *_hierarchy(scene),
        *_devices(scene),
    ]
    for entry in entries:
        words = fit(entry.words, scene.room - _SWATCH)
        width = _SWATCH + text_width(words)
        if x > MARGIN and x + width > scene.width - MARGIN:
            x, y = float(MARGIN), y + 20
        entry.draw(canvas, x, y)
        canvas.text(x + _SWATCH, y + 11, words)
        x += width + 14
    y += 38 if entries else 14
    lines = [
        f"{words[0].upper()}{words[1:]}." for words in host_sentences(scene.host, scene.guests)
    ]
    if scene.seen:
        lines.append("A coloured cpu: a vcpu of that guest was last seen there.")
    lines += [f"Note: {note}" for note in scene.host.notes]
    for line in (part for sentence in lines for part in wrap(sentence, scene.room)):
        canvas.text(MARGIN, y, line, "quiet")
        y += LINE
    return y - LINE


def _draw_devices(canvas: Canvas, scene: Scene, top: float) -> float:
    """Draw the devices of which nobody says on which node they hang."""
    groups = scene.devices.get(None, ())
    if not groups:
        return top
    part = canvas.group("devices whose node nobody states")
    part.text(MARGIN, top + 12, "Devices whose node nobody states", "text strong")
    y = top + 20
    for block in device_lines(groups, scene.room):
        block.draw(part, MARGIN, y)
        y += block.height
    return y + 6


def _box(*, style: str = "", fill: str = "") -> Callable[[Canvas, float, float], None]:
    def draw(canvas: Canvas, x: float, y: float) -> None:
        canvas.box(x, y, width=14, height=14, style=style, fill=fill)
        canvas.box(x, y, width=14, height=14, style="frame")

    return draw


def _memory(scene: Scene) -> list[_Entry]:
    kinds = {part.kind for node in scene.host.nodes for part in memory_parts(node, scene.guests)}
    return [
        _Entry(_box(fill="url(#hatch)") if kind == "reserved" else _box(style=kind), words)
        for kind, words in MEANINGS.items()
        if kind in kinds
    ]


def _guests(scene: Scene) -> list[_Entry]:
    return [
        _Entry(
            _box(fill=guest_colour(at, scene.guests)),
            f"{guest.name}, {format_memory(guest.memory_kib)}",
        )
        for at, guest in enumerate(scene.guests)
    ]


def _kinds(scene: Scene) -> list[_Entry]:
    """Return the kinds of memory, which the edge of a card tells."""
    if not any(is_tagged(scene, node) for node in scene.host.nodes):
        return []

    def entry(kind: NodeKind | None) -> _Entry:
        def draw(canvas: Canvas, x: float, y: float) -> None:
            canvas.box(x + 5, y, width=4, height=14, style=kind_style(kind))

        return _Entry(draw, "memory of unknown kind" if kind is None else f"{kind} memory")

    return [entry(tier.kind) for tier in tiers(scene.host)]


def _outline(style: str) -> Callable[[Canvas, float, float], None]:
    def draw(canvas: Canvas, x: float, y: float) -> None:
        canvas.box(x, y + 1, width=14, height=12, style=style, radius=3)

    return draw


def _core(canvas: Canvas, x: float, y: float) -> None:
    canvas.box(x - 2, y + 1, width=18, height=12, style="core", radius=2)
    canvas.box(x, y + 3, width=7, height=8, style="thread", radius=1)
    canvas.box(x + 8, y + 3, width=6, height=8, style="thread", radius=1)


def _hierarchy(scene: Scene) -> list[_Entry]:
    packages = [one for own in scene.packages.values() for one in own]
    caches = [cache for package in packages for cache in package.caches]
    entries = []
    if any(len(core) > 1 for cache in caches for core in cache.cores):
        entries.append(_Entry(_core, "core with its threads"))
    if any(cache.llc is not None for cache in caches):
        entries.append(_Entry(_outline("llc"), "last-level cache"))
    if any(len(own) > 1 for own in scene.packages.values()):
        entries.append(_Entry(_outline("package"), "die or socket within a node"))
    return entries


def _devices(scene: Scene) -> list[_Entry]:
    def entry(kind: DeviceKind | None) -> _Entry:
        words = "device of unknown kind" if kind is None else f"{kind} device"
        return _Entry(lambda canvas, x, y: draw_glyph(canvas, x + 2, y + 2, kind), words)

    there = {group.kind for groups in scene.devices.values() for group in groups}
    return [entry(kind) for kind in KINDS if kind in there and kind != "chipset"]
