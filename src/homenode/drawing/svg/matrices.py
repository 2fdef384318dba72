"""The tables from node to node, shaded from near to far."""

from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.drawing.hierarchy import nodes_words
from homenode.drawing.svg.canvas import Canvas, text_width, wrap
from homenode.drawing.svg.node import Scene
from homenode.drawing.svg.style import LINE, MARGIN, SHADES
from homenode.drawing.tables import (
    NodeTable,
    grouped,
    is_flat,
    is_telling,
    node_tables,
    pair_words,
)
from homenode.drawing.words import label_text
from homenode.host import Host

MOST_SINGLE = 24
"""Nodes beyond which those that are alike share a row, if that makes the table smaller."""

MOST_CELLS = 96
"""Rows of the largest table; of larger ones the different values are counted."""

_LEAST_WIDTH = 250
_GAP = 36
_LONGEST = 12
"""Letters of the name of a row."""

_TEXT_SIZES = (("", 34), ("small", 26), ("tiny", 16))
"""Classes of text, and how wide a cell with it is, if it need not be wider."""

_MEANINGS = {
    "distance": "from the row's node to the column's, as the firmware states them",
    "latency": "in ns, for the row's node to read the column's",
    "bandwidth": "in GB/s, for the row's node to read the column's",
}
_HEADINGS = {"distance": "Distances", "latency": "Latency", "bandwidth": "Bandwidth"}


class _Grid(NamedTuple):
    """A table with its place: the side of a cell, the class of its text, and the lines above.

    Where no number fits a cell, `numbers` is false and colours alone tell.
    """

    table: NodeTable
    cell: float
    style: str
    numbers: bool
    above: list[str]

    @property
    def left(self) -> float:
        """The width of the names of the rows."""
        return _left(self.table, self.style)

    @property
    def width(self) -> float:
        """Of the cells and the names of the rows; the lines above may be wider."""
        return max(_LEAST_WIDTH, self.left + len(self.table.groups) * self.cell)

    @property
    def head(self) -> float:
        """The height of what is above the cells."""
        return 18 + len(self.above) * LINE + 22

    @property
    def height(self) -> float:
        """Of all of it."""
        return self.head + len(self.table.reading) * self.cell


def draw_tables(canvas: Canvas, scene: Scene, top: float) -> float:
    """Draw the tables, side by side where they fit; return where the next thing goes."""
    host = scene.host
    if len(host.nodes) < 2:
        return top
    x, y, height = float(MARGIN), top + 18, 0.0
    tables = node_tables(host)
    for table in tables:
        grid = _grid(_smaller(table, host), scene.room, alone=len(tables) == 1)
        if grid is None:
            y, x, height = y + height + (_GAP / 2 if height else 0), float(MARGIN), 0.0
            y = _draw_words(canvas, table, scene.room, y)
            continue
        if x > MARGIN and x + grid.width > scene.width - MARGIN:
            x, y, height = float(MARGIN), y + height + _GAP / 2, 0.0
        _draw_grid(canvas, grid, (x, y))
        x += grid.width + _GAP
        height = max(height, grid.height)
    return y + height


def _smaller(table: NodeTable, host: Host) -> NodeTable:
    if len(table.groups) <= MOST_SINGLE:
        return table
    smaller = grouped(table, host.nodes)
    fewer = len(smaller.groups) <= len(table.groups) // 2
    return smaller if fewer or len(table.groups) > MOST_CELLS else table


def _grid(table: NodeTable, room: float, *, alone: bool) -> _Grid | None:
    """Return the place of a table's cells; None if there is nothing to see, or too much.

    The largest text is taken with which the cells fit; `alone` are those without a neighbour.
    """
    if not is_telling(table) or len(table.groups) > MOST_CELLS:
        return None
    grid = next(filter(None, (_sized(table, room, *size) for size in _TEXT_SIZES)), None)
    if grid is None:
        cell = (room - _left(table, "tiny")) / len(table.groups)
        grid = _Grid(table, cell, "tiny", numbers=False, above=[])
    above = [_MEANINGS[table.noun], *_remarks(grid)]
    width = room if alone else grid.width
    return grid._replace(above=[part for line in above for part in wrap(line, width, "quiet")])


def _sized(table: NodeTable, room: float, style: str, usual: int) -> _Grid | None:
    """Return the grid with text of this class, its cells as wide as usual, or as needed."""
    numbers = max(text_width(words, style) for words in _cells(table)) + 1
    names = max(text_width(str(group), style) for group in table.groups) + 4
    wanted = max(usual, numbers + 5, min(usual + 12, names))
    cell = min(wanted, (room - _left(table, style)) / len(table.groups))
    return _Grid(table, cell, style, numbers=True, above=[]) if numbers <= cell else None


def _remarks(grid: _Grid) -> list[str]:
    table = grid.table
    remarks = []
    if table.is_grouped:
        remarks.append(f"a row stands for nodes that are alike; to itself {table.own_words()}")
    if is_flat(table):
        remarks.append("all the same: nothing is told apart")
    silent = set(range(len(table.groups))) - set(table.reading)
    if silent:
        nodes = NodeMap(node for at in silent for node in table.groups[at])
        remarks.append(f"nothing is told from {nodes_words(nodes)}")
    if not grid.numbers and table.others:
        ends = sorted((table.others[0], table.others[-1]), reverse=table.noun == "bandwidth")
        light, dark = (table.cell(value) for value in ends)
        remarks.append(f"shades from {light} to {dark} {table.unit}".rstrip())
    return remarks


def _left(table: NodeTable, style: str) -> float:
    return max(text_width(label_text(group, _LONGEST), style) for group in table.groups) + 8


def _cells(table: NodeTable) -> set[str]:
    return {table.cell(value) for row in table.values for value in row}


def _draw_words(canvas: Canvas, table: NodeTable, room: float, top: float) -> float:
    """Say in words what is no table: unknown, or too large."""
    canvas.text(MARGIN, top + 14, _HEADINGS[table.noun], "text head")
    unit = f" in {table.unit}" if table.unit else ""
    words = f"Values{unit}, and how many pairs of nodes have them: {pair_words(table)}"
    if not is_telling(table):
        words = "Unknown."
    y = top + 18
    for line in wrap(words, room):
        y += LINE
        canvas.text(MARGIN, y - 2, line, "quiet")
    return y + 10


def _draw_grid(canvas: Canvas, grid: _Grid, place: tuple[float, float]) -> None:
    left, top = place
    canvas.text(left, top + 14, _HEADINGS[grid.table.noun], "text head")
    for at, line in enumerate(grid.above):
        canvas.text(left, top + 18 + (at + 1) * LINE - 4, line, "quiet")
    x, y = left + grid.left, top + grid.head
    _draw_names(canvas, grid, (x, y - 4))
    shades = _shades(grid.table)
    for at, row in enumerate(grid.table.reading):
        _draw_row(canvas, grid, row, (x, y + at * grid.cell, shades))


def _draw_names(canvas: Canvas, grid: _Grid, place: tuple[float, float]) -> None:
    """Draw the names of the columns: of all, or of every second, if no more have room."""
    x, y = place
    style = f"quiet middle {grid.style}".strip()
    names = [str(group) for group in grid.table.groups]
    short = [label_text(group, 0) for group in grid.table.groups]
    names = [
        name if text_width(name, style) < grid.cell else other
        for name, other in zip(names, short, strict=True)
    ]
    step = 1
    while step < len(names) and max(text_width(name, style) for name in names) >= step * grid.cell:
        step *= 2
    for column in range(0, len(names), step):
        canvas.text(x + (column + 0.5) * grid.cell, y, names[column], style)


def _draw_row(
    canvas: Canvas,
    grid: _Grid,
    row: int,
    place: tuple[float, float, dict[int | None, int]],
) -> None:
    x, y, shades = place
    table = grid.table
    name = label_text(table.groups[row], _LONGEST)
    line = canvas.group(f"{_HEADINGS[table.noun]} from {nodes_words(table.groups[row])}")
    base = y + 0.5 * grid.cell + (4 if not grid.style else 3)
    line.text(x - 8, base, name, f"quiet end {grid.style}".strip())
    for column, value in enumerate(table.values[row]):
        own = row == column and len(table.groups[row]) == 1
        style, tone = "unknown", "quiet"
        if value is not None:
            shade = shades.get(value, 0)
            style = "self" if own else f"shade{shade}"
            tone = "text" if own else "on-far" if shade > 3 else "on-near"
        box = line.box(x + column * grid.cell + 0.5, y + 0.5, width=grid.cell - 1,
                       height=grid.cell - 1, style=style)  # fmt: skip
        if grid.numbers:
            line.text(x + (column + 0.5) * grid.cell, base, table.cell(value),
                      f"{tone} middle {grid.style}".strip())  # fmt: skip
        else:
            box.title(f"to {nodes_words(table.groups[column])}: {table.cell(value)} {table.unit}")


def _shades(table: NodeTable) -> dict[int | None, int]:
    """Return the shade of every value: by its place among them, the nearest lightest."""
    known = table.others
    if table.noun == "bandwidth":
        known = known[::-1]
    steps = max(1, len(known) - 1)
    span = SHADES - 1 if len(known) > 3 else min(SHADES - 1, 2 * steps)
    return {value: at * span // steps for at, value in enumerate(known)}
