"""Where sockets and nodes stand: sockets in rows, their nodes in columns, near memory below."""

from collections.abc import Sequence
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.drawing.hierarchy import SocketGroup, Stack, nodes_words, socket_groups
from homenode.drawing.svg.canvas import Block, Canvas, fit, text_width
from homenode.drawing.svg.node import Scene, Sizes, is_tagged, node_card, node_sentence
from homenode.drawing.svg.style import MARGIN, WIDTH, kind_style
from homenode.host import Node

_GAP = 12
_INDENT = 14
"""How far memory stands in below the node that it is near to."""
_SMALL_INDENT = 8

MOST_DETAILED = 16
"""Nodes of a host beyond which they are drawn without their guests' figures."""

_MOST_WIDE = 2
_MOST_MIDDLING = 32

_WIDE = Sizes(node=506, pad=12, thread=11, bar=18, text="", line=16, detailed=True)
_LARGE = Sizes(node=234, pad=12, thread=9, bar=18, text="", line=16, detailed=True)
_MIDDLING = Sizes(node=150, pad=8, thread=7, bar=11, text="small", line=14, detailed=False)
_SMALL = Sizes(node=116, pad=7, thread=5, bar=9, text="small", line=13, detailed=False)


class _Card(NamedTuple):
    """A node's card, and where it stands in its socket."""

    node: Node
    block: Block
    sizes: Sizes
    x: float
    y: float
    height: float
    link: float | None
    """How far up the node is to which a line leads, for memory below it."""


class _Panel(NamedTuple):
    """A socket with its cards, its size, and its left edge."""

    group: SocketGroup
    cards: list[_Card]
    width: float
    height: float
    x: float


def sizes_for(groups: Sequence[SocketGroup], width: int = WIDTH) -> Sizes:
    """Return how large nodes are drawn on a host with these, in a picture that wide."""
    count = sum(len(group.nodes) for group in groups)
    if count > MOST_DETAILED:
        return _MIDDLING if count <= _MOST_MIDDLING else _SMALL
    columns = sum(len(group.stacks) for group in groups)
    return _WIDE if columns <= _MOST_WIDE and width >= WIDTH else _LARGE


def draw_sockets(canvas: Canvas, scene: Scene, top: float) -> float:
    """Draw the sockets in rows; return where the next thing goes."""
    groups = socket_groups(scene.host)
    sizes = sizes_for(groups, scene.width)
    rows: list[list[_Panel]] = []
    x = float(MARGIN)
    for group in groups:
        panel = _panel(scene, group, sizes)
        if not rows or x + panel.width > scene.width - MARGIN:
            x = float(MARGIN)
            rows.append([])
        rows[-1].append(panel._replace(x=x))
        x += panel.width + _GAP
    for row in rows:
        height = max(panel.height for panel in row)
        for panel in row:
            _draw_panel(canvas, scene, panel, (top, height))
        top += height + _GAP
    return top


def _panel(scene: Scene, group: SocketGroup, sizes: Sizes) -> _Panel:
    per_row = int((scene.room - 2 * sizes.pad + _gap(sizes)) // (sizes.node + _gap(sizes)))
    count = len(group.stacks)
    columns = max(1, min(count if sizes.detailed else _square(count), per_row))
    label = text_width(group.label, _label_style(sizes))
    if columns == 1:
        sizes = sizes._replace(node=max(sizes.node, min(int(label) + 1, scene.width // 2)))
    cards: list[_Card] = []
    y = 28.0 if sizes.detailed else 24.0
    stacks = [*group.stacks]
    for at in range(0, len(stacks), columns):
        y = _add_row(scene, stacks[at : at + columns], sizes, (cards, y))
    inner = columns * (sizes.node + _gap(sizes)) - _gap(sizes)
    y = _add_shared(scene, group.shared, sizes._replace(node=inner), (cards, y))
    width = min(max(inner, label) + 2 * sizes.pad, scene.room)
    return _Panel(group, cards, width, y - _gap(sizes) + sizes.pad, 0)


def _label_style(sizes: Sizes) -> str:
    return "head" if sizes.detailed else "strong"


def _gap(sizes: Sizes) -> int:
    return _GAP if sizes.detailed else 8


def _square(count: int) -> int:
    """Return how many small nodes stand side by side, so that large hosts' sockets make rows."""
    return next(side for side in range(1, count + 1) if side * side >= count)


def _add_row(
    scene: Scene, stacks: Sequence[Stack], sizes: Sizes, place: tuple[list[_Card], float]
) -> float:
    """Add the cards of a row of stacks; return where the next row begins."""
    cards, top = place
    blocks = [node_card(scene, stack.node, sizes) for stack in stacks]
    height = max(block.height for block in blocks)
    bottoms = []
    for column, (stack, block) in enumerate(zip(stacks, blocks, strict=True)):
        x = sizes.pad + column * (sizes.node + _gap(sizes))
        cards.append(_Card(stack.node, block, sizes, x, top, height, None))
        bottoms.append(_add_near(scene, stack.near, sizes, (cards, x, top + height)))
    return max(bottoms) + _gap(sizes)


def _add_near(
    scene: Scene, nodes: Sequence[Node], sizes: Sizes, place: tuple[list[_Card], float, float]
) -> float:
    """Add cards of memory below a node, side by side where they fit; return where they end."""
    cards, x, bottom = place
    y = bottom
    for row in _memory_rows(nodes, sizes._replace(node=sizes.node - _indent(sizes))):
        y += _near_gap(sizes)
        left = x + _indent(sizes)
        link: float | None = y - bottom
        blocks = [node_card(scene, node, own) for node, own in row]
        height = max(block.height for block in blocks)
        for (node, own), block in zip(row, blocks, strict=True):
            cards.append(_Card(node, block, own, left, y, height, link))
            left += own.node + _near_gap(sizes)
            link = None
        y += height
    return y


def _add_shared(
    scene: Scene, nodes: Sequence[Node], sizes: Sizes, place: tuple[list[_Card], float]
) -> float:
    """Add cards of memory that is near to several nodes, as wide as these together."""
    cards, y = place
    for row in _memory_rows(nodes, sizes):
        left = float(sizes.pad)
        blocks = [node_card(scene, node, own) for node, own in row]
        height = max(block.height for block in blocks)
        for (node, own), block in zip(row, blocks, strict=True):
            cards.append(_Card(node, block, own, left, y, height, None))
            left += own.node + _near_gap(sizes)
        y += height + _gap(sizes)
    return y


def _memory_rows(nodes: Sequence[Node], sizes: Sizes) -> list[list[tuple[Node, Sizes]]]:
    """Return nodes in rows as wide as `sizes.node`, with the sizes of each one's card."""
    gap = _near_gap(sizes)
    least = _LARGE.node - _INDENT if sizes.detailed else _SMALL.node - _SMALL_INDENT
    columns = max(1, min(len(nodes), (sizes.node + gap) // (least + gap)))
    own = sizes._replace(node=(sizes.node + gap) // columns - gap)
    return [
        [(node, own) for node in nodes[at : at + columns]] for at in range(0, len(nodes), columns)
    ]


def _indent(sizes: Sizes) -> int:
    return _INDENT if sizes.detailed else _SMALL_INDENT


def _near_gap(sizes: Sizes) -> int:
    return 8 if sizes.detailed else 5


def _draw_panel(canvas: Canvas, scene: Scene, panel: _Panel, place: tuple[float, float]) -> None:
    top, height = place
    numbers = NodeMap(node.id for node in panel.group.nodes)
    part = canvas.group(f"{panel.group.label}: {nodes_words(numbers)}")
    part.box(panel.x, top, width=panel.width, height=height, style="socket", radius=8)
    pad = panel.cards[0].sizes.pad
    style = _label_style(panel.cards[0].sizes)
    label = fit(panel.group.label, panel.width - 2 * pad, style)
    part.text(panel.x + pad, top + (19 if style == "head" else 16), label, f"text {style}")
    for card in panel.cards:
        x, y = panel.x + card.x, top + card.y
        if card.link is not None:
            _draw_link(part, card, (x, y))
        drawn = part.group(node_sentence(scene, card.node))
        drawn.box(x, y, width=card.sizes.node, height=card.height, style="node", radius=6)
        if is_tagged(scene, card.node):
            drawn.box(x, y + 6, width=4, height=card.height - 12, style=kind_style(card.node.kind))
        card.block.draw(drawn, x, y)


def _draw_link(canvas: Canvas, card: _Card, place: tuple[float, float]) -> None:
    x, y = place
    half = _indent(card.sizes) / 2
    down = (card.link or 0) + 14
    canvas.path(x - half, y - (card.link or 0), f"M0 0 V{down:.0f} H{half:.0f}", "link")
