"""The tables from node to node, shaded from near to far."""

from collections.abc import Sequence
from typing import NamedTuple

from homenode.drawing.svg.canvas import Canvas, text_width, wrap
from homenode.drawing.svg.style import LINE, MARGIN, SHADES, WIDTH
from homenode.drawing.tables import (
    NodeTable,
    count_words,
    grouped,
    is_flat,
    is_telling,
    node_tables,
)
from homenode.drawing.words import label_text
from homenode.host import Host

MOST_SINGLE = 24
"""Nodes beyond which those that are alike share a row, if that makes the table smaller."""

MOST_CELLS = 96
"""Rows of the largest table; of larger ones the different values are counted."""

_ROOM = WIDTH - 2 * MARGIN
_LEAST_WIDTH = 250
_GAP = 36
_CELL = 34
_MEANINGS = {
    "distance": "from the node of the row to the node of the column, as the firmware states them",
    "latency": "in nanoseconds, when a cpu of the row's node reads memory of the column's",
    "bandwidth": "in GB/s, when cpus of the row's node read memory of the column's",
}
_HEADINGS = {"distance": "Distances", "latency": "Latency", "bandwidth": "Bandwidth"}


class _Grid(NamedTuple):
    """A table with its place: the side of a cell, the class of its text, and the lines above."""

    table: NodeTable
    cell: float
    style: str
    rows: list[str]
    columns: list[str]
    above: list[str]

    @property
    def left(self) -> float:
        """The width of the numbers of the rows."""
        return max(text_width(label, self.style) for label in self.rows) + 8

    @property
    def width(self) -> float:
        return max(_LEAST_WIDTH, self.left + len(self.rows) * self.cell)

    @property
    def head(self) -> float:
        """The height of what is above the cells."""
        return 18 + len(self.above) * LINE + 22

    @property
    def height(self) -> float:
        return self.head + len(self.rows) * self.cell


def draw_tables(canvas: Canvas, host: Host, top: float) -> float:
    """Draw the tables, side by side where they fit; return where the next thing goes."""
    if len(host.nodes) < 2:
        return top
    x, y, height = float(MARGIN), top + 8, 0.0
    for table in node_tables(host):
        grid = _grid(_smaller(table, host), len(host.nodes))
        if grid is None:
            y, x, height = y + height + (_GAP / 2 if height else 0), float(MARGIN), 0.0
            y = _draw_words(canvas, table, y)
            continue
        if x > MARGIN and x + grid.width > WIDTH - MARGIN:
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


def _grid(table: NodeTable, nodes: int) -> _Grid | None:
    """Return the place of a table's cells; None if there is nothing to see, or too much."""
    if not is_telling(table) or len(table.groups) > MOST_CELLS:
        return None
    above = [_MEANINGS[table.noun]]
    if table.is_grouped:
        above.append(f"a row stands for nodes that are alike; to itself {table.own_words()}")
    if is_flat(table):
        above.append("all the same: nothing is told apart")
    for style, largest in (("", _CELL), ("small", 28), ("tiny", 18)):
        rows = [label_text(group, 12) for group in table.groups]
        left = max(text_width(label, style) for label in rows) + 8
        cell = min(float(largest), (_ROOM - left) / len(rows))
        columns = [str(group) for group in table.groups]
        columns = [
            words if text_width(words, style) <= cell - 2 else label_text(group, 0)
            for words, group in zip(columns, table.groups, strict=True)
        ]
        widest = max(text_width(words, style) for words in [*columns, *_cells(table)])
        if widest <= largest and cell < widest + 2 <= (_ROOM - left) / len(rows):
            cell = widest + 2
        if widest + 1 <= cell:
            width = max(_LEAST_WIDTH, left + len(rows) * cell)
            lines = [part for line in above for part in wrap(line, width, "quiet")]
            return _Grid(table, cell, style, rows, columns, lines)
    return None


def _cells(table: NodeTable) -> set[str]:
    return {table.cell(value) for row in table.values for value in row}


def _draw_words(canvas: Canvas, table: NodeTable, top: float) -> float:
    """Say in words what is no table: unknown, or too large."""
    canvas.text(MARGIN, top + 14, _HEADINGS[table.noun], "text head")
    unit = f" in {table.unit}" if table.unit else ""
    words = f"values{unit}, and how many pairs of nodes have them: {count_words(table)}"
    if not is_telling(table):
        words = "unknown"
    y = top + 18
    for line in wrap(words, _ROOM):
        y += LINE
        canvas.text(MARGIN, y - 2, line, "quiet")
    return y + 10


def _draw_grid(canvas: Canvas, grid: _Grid, place: tuple[float, float]) -> None:
    left, top = place
    canvas.text(left, top + 14, _HEADINGS[grid.table.noun], "text head")
    for at, line in enumerate(grid.above):
        canvas.text(left, top + 18 + (at + 1) * LINE - 4, line, "quiet")
    x, y = left + grid.left, top + grid.head
    for column, label in enumerate(grid.columns):
        style = f"quiet middle {grid.style}".strip()
        canvas.text(x + (column + 0.5) * grid.cell, y - 4, label, style)
    shades = _shades(grid.table)
    for row in range(len(grid.rows)):
        _draw_row(canvas, grid, row, (x, y + row * grid.cell, shades))


def _draw_row(
    canvas: Canvas,
    grid: _Grid,
    row: int,
    place: tuple[float, float, dict[int | None, int]],
) -> None:
    x, y, shades = place
    table = grid.table
    noun = "distances" if table.noun == "distance" else table.noun
    line = canvas.group(f"{noun} from {grid.rows[row]}")
    base = y + 0.5 * grid.cell + (4 if not grid.style else 3)
    line.text(x - 8, base, grid.rows[row], f"quiet end {grid.style}".strip())
    for column, value in enumerate(table.values[row]):
        own = row == column and len(table.groups[row]) == 1
        style, tone = "unknown", "quiet"
        if value is not None:
            shade = shades.get(value, 0)
            style = "self" if own else f"shade{shade}"
            tone = "text" if own else "on-far" if shade > 3 else "on-near"
        line.box(x + column * grid.cell + 0.5, y + 0.5, width=grid.cell - 1,
                 height=grid.cell - 1, style=style)  # fmt: skip
        line.text(x + (column + 0.5) * grid.cell, base, table.cell(value),
                  f"{tone} middle {grid.style}".strip())  # fmt: skip


def _shades(table: NodeTable) -> dict[int | None, int]:
    """Return the shade of every value: by its place among them, the nearest lightest."""
    known: Sequence[int] = table.others
    if table.noun == "bandwidth":
        known = known[::-1]
    steps = max(1, len(known) - 1)
    span = SHADES - 1 if len(known) > 3 else min(SHADES - 1, 2 * steps)
    return {value: at * span // steps for at, value in enumerate(known)}
