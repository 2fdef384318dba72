"""Every node of the fleet at the end, a cell each, a panel for each policy.

Hosts follow each other like words in a text: the cells of a host side by side, a little room
before the next one, as many to a row as fit. So a host is at the same place in every panel, and
hosts with two nodes and with eight go together.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import altair as alt
from altair.typing import ChartType

from homenode.drawing import name_text, printable
from homenode.drawing.svg.canvas import text_width
from homenode.fleet.measures import NodeReading
from homenode.fleet.pictures import Common, Picture, Pictured, Row
from homenode.fleet.pictures.look import (
    EMPTY,
    FULLNESS,
    QUIET,
    STRANDED_MEMORY,
    STRANDED_VCPUS,
    TEXT_WIDTH,
    Entry,
    Paper,
    literal_colour,
    pixels_across,
    pixels_down,
    shown_names,
)

MOST_PANELS = 8
MOST_NODES = 10_000
"""In one panel; of a larger fleet every second host is drawn, or every third..."""

_GAP, _NAMES, _NAME_LINE = 24, 76, 14
_HIGHEST = 340
_PITCHES = range(16, 3, -1)
"""From the edge of one cell to that of the next one, in pixels; a pixel of it is free."""

_WORDS = (
    "Each cell is a node. The cells of a host are side by side; hosts go on in the next row, which"
    " begins with the one named. Blue: how much of the node is given away, the larger of the shares"
    " of vcpus and of memory. Stranded memory is free where vcpus are too few for any guest,"
    " stranded vcpus where memory is too little."
)

MUCH = 0.25
"""The share of a node's memory or vcpus from which on what is stranded there is a lot."""

EMPTY_HOST = Entry("empty host", *EMPTY)
FULL = list(map(Entry, ("under 25%", "from 25%", "from 50%", "from 75%", "full"), FULLNESS))
MEMORY = list(map(Entry, ("memory stranded", "25% or more"), STRANDED_MEMORY))
VCPUS = list(map(Entry, ("vcpus stranded", "25% or more"), STRANDED_VCPUS))


class _Layout(NamedTuple):
    """Where the cells are: their upper left corners in order, and the rows by their first host."""

    width: int
    height: int
    pitch: int
    corners: list[tuple[int, int]]
    rows: list[tuple[int, int]]


def heat_map_picture(pictured: Sequence[Pictured], common: Common) -> Picture:
    """Return the picture of all nodes at the end."""
    shown = pictured[:MOST_PANELS]
    nodes = shown[0].outcome.nodes
    step = max(1, -(-len(nodes) // MOST_NODES))
    columns = min(2, len(shown))
    width = (TEXT_WIDTH - (columns - 1) * _GAP) // columns - _NAMES
    layout = _best_layout(Counter(node.host for node in nodes if not node.host % step), width)
    sentences = [_WORDS, *_left_out(len(pictured), step)]
    paper = Paper("How full each node of the fleet is at the end", sentences, common)
    key = paper.key([EMPTY_HOST, *FULL, *MEMORY, *VCPUS])
    paper.rows["rows"] = _row_names(layout, common)
    panels = []
    for number, (name, one) in enumerate(zip(shown_names(shown), shown, strict=True)):
        cells = f"cells-{number}"
        paper.rows[cells] = _cells(one.outcome.nodes, step, layout, common)
        title = alt.Title(name, subtitle=_summary(one.outcome.nodes))
        panels.append(_panel(paper, cells, layout).properties(title=title))
    return paper.picture([key, alt.concat(*panels, columns=columns, spacing=_GAP)])


def _left_out(policies: int, step: int) -> Iterator[str]:
    if policies > MOST_PANELS:
        yield f"The first {MOST_PANELS} of {policies} policies are shown."
    if step > 1:
        yield f"Of every {step} hosts the first one is shown."


def _best_layout(counts: Mapping[int, int], width: int) -> _Layout:
    """Return the layout with the largest cells that is not too high, else the smallest ones.

    `counts` are the nodes of each host that is shown, in order.
    """
    layout = _laid_out(counts, width, _PITCHES[0])
    for pitch in _PITCHES[1:]:
        if layout.height <= _HIGHEST:
            break
        layout = _laid_out(counts, width, pitch)
    return layout


def _laid_out(counts: Mapping[int, int], width: int, pitch: int) -> _Layout:
    corners: list[tuple[int, int]] = []
    rows: list[tuple[int, int]] = []
    apart = 1 + pitch // 4
    x, y = width, -pitch - 1
    for host, count in counts.items():
        if x + min(count * pitch, width) > width:
            x, y = 0, y + pitch + 1
            rows.append((host, y))
        for _ in range(count):
            if x + pitch > width:
                x, y = 0, y + pitch + 1
            corners.append((x, y))
            x += pitch
        x += apart
    return _Layout(width, max(y, 0) + pitch, pitch, corners, rows)


def _row_names(layout: _Layout, common: Common) -> list[Row]:
    every = -(-_NAME_LINE // (layout.pitch + 1))
    rows = layout.rows[::every]
    names = [printable(common.hosts[host]) for host, _ in rows]
    if any(text_width(name, "small") > _NAMES - 8 for name in names):
        # Cut, they would all be the same.
        names = [f"host {host}" for host, _ in rows]
    return [
        {"words": name, "y": y + layout.pitch / 2} for name, (_, y) in zip(names, rows, strict=True)
    ]


def _cells(nodes: Sequence[NodeReading], step: int, layout: _Layout, common: Common) -> list[Row]:
    used = _hosts_in_use(nodes)
    shown = (node for node in nodes if not node.host % step)
    cells: list[Row] = []
    for node, (x, y) in zip(shown, layout.corners, strict=True):
        state = state_of(node) if node.host in used else EMPTY_HOST
        cells.append(
            {
                "x": x, "right": x + layout.pitch - 1, "y": y, "below": y + layout.pitch - 1,
                "colour": state.colour, "host": name_text(common.hosts[node.host]),
                "node": node.at, "vcpus": round(node.vcpus, 4), "memory": round(node.memory, 4),
            }
        )  # fmt: skip
    return cells


def _hosts_in_use(nodes: Sequence[NodeReading]) -> set[int]:
    return {node.host for node in nodes if node.vcpus or node.memory}


def state_of(node: NodeReading) -> Entry:
    """Return what the colour of a node says, of a host in use."""
    vcpus = 1 - node.vcpus if node.vcpus_stranded else 0.0
    memory = 1 - node.memory if node.kib_stranded else 0.0
    if vcpus or memory:
        # Where both are stranded it is little of both: the most of it is what counts.
        return (VCPUS if vcpus > memory else MEMORY)[max(vcpus, memory) >= MUCH]
    return FULL[int(max(node.vcpus, node.memory) * (len(FULL) - 1))]


def _summary(nodes: Sequence[NodeReading]) -> list[str]:
    memory = sum(node.kib_stranded > 0 for node in nodes)
    vcpus = sum(node.vcpus_stranded > 0 for node in nodes)
    hosts = len({node.host for node in nodes})
    return [
        f"{len(_hosts_in_use(nodes)):,} of {hosts:,} hosts in use",
        f"of {len(nodes):,} nodes {memory:,} with stranded memory, {vcpus:,} with stranded vcpus",
    ]


def _panel(paper: Paper, cells: str, layout: _Layout) -> ChartType:
    down = pixels_down("y", layout.height)
    told = [
        alt.Tooltip("host:N"),
        alt.Tooltip("node:N"),
        alt.Tooltip("vcpus:Q", format=".1%"),
        alt.Tooltip("memory:Q", format=".1%"),
    ]
    boxes = paper.chart(cells, alt.MarkDef(type="rect")).encode(
        x=pixels_across("x", layout.width), x2="right:Q", y=down, y2="below:Q",
        color=literal_colour(), tooltip=told,
    )  # fmt: skip
    mark = alt.MarkDef(type="text", align="right", baseline="middle", fontSize=10, color=QUIET)
    names = paper.chart("rows", mark).encode(x=alt.value(-8), y=down, text="words:N")
    names = names.properties(name=f"rows-of-{cells}")
    return alt.layer(boxes, names, width=layout.width, height=layout.height)
