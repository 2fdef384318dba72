"""Tables from node to node: distances, latencies, bandwidths.

Rows are the nodes whose cpus read, columns those that are read. On large hosts one row stands
for nodes that are alike.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from homenode.bitmap import NodeMap
from homenode.host import Host, Node

Noun = Literal["distance", "latency", "bandwidth"]
Values = Sequence[Sequence[int | None]]

MOST_GROUPED = 256
"""Nodes of a host beyond which nobody looks for groups among them."""

_UNITS: dict[Noun, str] = {"distance": "", "latency": "ns", "bandwidth": "GB/s"}


class NodeTable(NamedTuple):
    """Values from groups of nodes to groups of nodes.

    In `values`, a group's value for itself is that from one of its nodes to another one; of a
    group of one node, to itself. `own` are all that nodes have to themselves.
    """

    noun: Noun
    groups: tuple[NodeMap, ...]
    values: tuple[tuple[int | None, ...], ...]
    own: tuple[int | None, ...]

    @property
    def is_grouped(self) -> bool:
        """Whether a row stands for more than one node."""
        return any(len(group) > 1 for group in self.groups)

    @property
    def unit(self) -> str:
        """What the words of the cells are in; empty for distances."""
        return _UNITS[self.noun]

    @property
    def heading(self) -> str:
        """The noun and its unit."""
        return f"{self.noun}, {self.unit}" if self.unit else self.noun

    @property
    def others(self) -> list[int]:
        """All different known values between two nodes, ascending."""
        return sorted(
            {
                value
                for at, row in enumerate(self.values)
                for to, value in enumerate(row)
                if value is not None and (at != to or len(self.groups[at]) > 1)
            }
        )

    @property
    def longest(self) -> int:
        """The number of letters of the longest cell."""
        return max(len(self.cell(value)) for row in self.values for value in row)

    @property
    def reading(self) -> list[int]:
        """The rows of which anything is told; all of them in a table of distances."""
        told = [at for at, row in enumerate(self.values) if any(v is not None for v in row)]
        return told if told and self.noun != "distance" else list(range(len(self.groups)))

    def cell(self, value: int | None) -> str:
        """Return the words of a cell."""
        if value is None:
            return "?"
        if self.noun != "bandwidth":
            return str(value)
        return f"{value / 1000:.1f}" if value < 99_950 else f"{value / 1000:.0f}"

    def own_words(self) -> str:
        """Return what nodes have to themselves: ``10``, ``10 to 12``."""
        known = sorted(value for value in self.own if value is not None)
        if not known:
            return "?"
        ends = dict.fromkeys((self.cell(known[0]), self.cell(known[-1])))
        return " to ".join(ends)


def node_tables(host: Host) -> list[NodeTable]:
    """Return the host's tables, a row for each node: distances first, the others where known."""
    stated: list[tuple[Noun, Values | None]] = [
        ("distance", host.distances),
        ("latency", host.latency_ns),
        ("bandwidth", host.bandwidth_mb_s),
    ]
    groups = tuple(NodeMap([node.id]) for node in host.nodes)
    return [
        NodeTable(
            noun,
            groups,
            tuple(tuple(row) for row in values),
            tuple(row[at] for at, row in enumerate(values)),
        )
        for noun, values in stated
        if values is not None
    ]


def grouped(table: NodeTable, nodes: Sequence[Node]) -> NodeTable:
    """Return a table of one row for each node with a row for nodes that are alike."""
    groups = alike_nodes(nodes, table.values)
    at = {node.id: place for place, node in enumerate(nodes)}
    first = [at[next(iter(group))] for group in groups]
    last = [at[list(group)[-1]] for group in groups]
    values = tuple(
        tuple(
            table.values[one][last[column] if row == column else first[column]]
            for column in range(len(groups))
        )
        for row, one in enumerate(first)
    )
    return table._replace(groups=tuple(groups), values=values)


def is_telling(table: NodeTable) -> bool:
    """Return whether anything at all is known between different nodes, or of a node itself."""
    return bool(table.others) or (table.noun != "distance" and table.own_words() != "?")


def is_flat(table: NodeTable) -> bool:
    """Return whether all that is known is one value: such a table tells nothing apart."""
    known = {value for row in table.values for value in row} - {None}
    return len(table.groups) > 1 and len(known | set(table.own) - {None}) == 1


def pair_words(table: NodeTable) -> str:
    """Return the different values and how many pairs of nodes have them, from near to far."""
    counts: dict[int | None, int] = {}
    for row in table.values:
        for value in row:
            counts[value] = counts.get(value, 0) + 1
    known = sorted(
        ((value, count) for value, count in counts.items() if value is not None),
        reverse=table.noun == "bandwidth",
    )
    words = [f"{table.cell(value)} ({count})" for value, count in known]
    if len(known) > _MOST_COUNTED:
        ends = (table.cell(known[at][0]) for at in (0, -1))
        words = [f"{len(known)} different ones, from {' to '.join(ends)}"]
    if None in counts:
        words.append(f"unknown ({counts[None]})")
    return ", ".join(words)


_MOST_COUNTED = 16


def alike_nodes(nodes: Sequence[Node], values: Values) -> list[NodeMap]:
    """Return the nodes in groups whose members have the same values to and from all the others.

    Within a group every value to another member is the same, too, and every one to itself: so
    one row can stand for all. Ungrouped (each node alone) beyond `MOST_GROUPED` nodes.
    """
    count = len(nodes)
    rows = [list(row) for row in values]
    columns = [list(column) for column in zip(*values, strict=True)]
    groups: list[list[int]] = []
    for at in range(count):
        group = None
        if count <= MOST_GROUPED:
            group = next((own for own in groups if _belongs(rows, columns, own, at)), None)
        if group is None:
            groups.append([at])
        else:
            group.append(at)
    return [NodeMap(nodes[at].id for at in group) for group in groups]


def _belongs(
    rows: list[list[int | None]], columns: list[list[int | None]], group: list[int], at: int
) -> bool:
    one = group[0]
    within = rows[one][group[-1] if len(group) > 1 else at]
    return rows[at][one] == within and _swappable(rows, one, at) and _swappable(columns, one, at)


def _swappable(lines: list[list[int | None]], one: int, other: int) -> bool:
    """Return whether two lines of the table are the same but for the two nodes themselves."""
    swapped = lines[other].copy()
    swapped[one], swapped[other] = swapped[other], swapped[one]
    return swapped == lines[one]
