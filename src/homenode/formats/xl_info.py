"""The host as ``xl info -n`` prints it: a head of ``key : value``, then three tables.

Source: Xen, tools/xl/xl_info.c, output_topologyinfo() and output_numainfo(). Two things to know:

- ``memsize`` is what a node *spans*, holes in the address space included.
- The row of distances has a place for every node number up to the highest, also for numbers
  that no line describes; a distance that is not known is printed as -1.
"""

from itertools import pairwise
from typing import NamedTuple

from homenode.bitmap import LARGEST_MEMBER
from homenode.errors import ParseError
from homenode.formats.columns import LARGEST_MIB, Line, Row, lines_of, whole_number
from homenode.host import Cpu, Device

_HEADINGS = {"cpu_topology": "cpu:", "device topology": "device", "numa_info": "node:"}
_UNKNOWN = ("-1", "4294967295")
_LARGEST_DISTANCE = 1 << 16


class NodeInfo(NamedTuple):
    """One line of ``numa_info``; `distances` are by node number. Sizes are rounded to MiB."""

    id: int
    spanned_kib: int
    free_kib: int
    distances: tuple[int | None, ...]


class XlInfo(NamedTuple):
    """What ``xl info -n`` says, as it says it."""

    head: dict[str, str]
    cpus: tuple[Cpu, ...]
    nodes: tuple[NodeInfo, ...]
    devices: tuple[Device, ...]

    def told(self, key: str) -> int | None:
        """Return a number of the head (``nr_cpus``, ``total_memory`` in MiB), None if unknown."""
        return whole_number(self.head.get(key, ""))

    @property
    def distances(self) -> list[list[int | None]]:
        """The distances between the nodes that are described, in their order."""
        return [[node.distances[other.id] for other in self.nodes] for node in self.nodes]


class _Table:
    __slots__ = ("columns", "lines")

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.lines: list[Line] = []


def parse_head(text: str) -> dict[str, str]:
    """Return the head alone, which is all that plain ``xl info`` prints."""
    return _split(text)[0]


def parse(text: str, *, source: str = "xl info -n") -> XlInfo:
    """Read the output of ``xl info -n``; lines that it does not know are passed over.

    Raises `ParseError` if the tables of cpus or nodes are missing, cut off, or not as the head
    counts them.
    """
    head, tables = _split(text)
    for title in ("cpu_topology", "numa_info"):
        if not tables[title].columns:
            raise ParseError(
                f"has no section {title!r}",
                source=source,
                hint="save the output of `xl info -n`, with the -n",
            )
    if not text.endswith("\n") and any(
        table.lines and table.lines[-1].number == text.count("\n") + 1 for table in tables.values()
    ):
        raise ParseError("is cut off within a table", source=source, line=text.count("\n") + 1)
    info = XlInfo(
        head,
        tuple(_cpu(row) for row in _rows(tables["cpu_topology"], source)),
        tuple(_node(row) for row in _rows(tables["numa_info"], source)),
        tuple(_device(row) for row in _rows(tables["device topology"], source)),
    )
    _check(info, source)
    return info


def _split(text: str) -> tuple[dict[str, str], dict[str, _Table]]:
    head: dict[str, str] = {}
    tables = {title: _Table() for title in _HEADINGS}
    title = ""
    for line in lines_of(text):
        key, colon, value = line.text.partition(":")
        key = key.strip()
        words = line.text.split()
        if key in tables and not value.strip():
            title = key
        elif title and words and words[0] == _HEADINGS[title]:
            tables[title].columns = words
        elif title and tables[title].columns and _is_row(title, words):
            tables[title].lines.append(line)
        elif colon:
            head.setdefault(key, value.strip())
    return head, tables


def _is_row(title: str, words: list[str]) -> bool:
    if title == "device topology":
        return len(words) == 2 and words[0].count(":") == 2 and "." in words[0]
    return bool(words) and words[0].endswith(":") and words[0][0].isdigit()


def _rows(table: _Table, source: str) -> list[Row]:
    return [
        Row(line, table.columns, source=source, words=line.text.split()) for line in table.lines
    ]


def _id(row: Row) -> int:
    number = whole_number(row.words[0].removesuffix(":"))
    if number is None or number > LARGEST_MEMBER:
        raise row.error("the line begins with no number of a cpu or node")
    return number


def _maybe(row: Row, column: str) -> int | None:
    if row.word(column) in _UNKNOWN:
        return None
    return row.number(column, most=LARGEST_MEMBER)


def _cpu(row: Row) -> Cpu:
    return Cpu(
        _id(row), _maybe(row, "node"), core=_maybe(row, "core"), socket=_maybe(row, "socket")
    )


def _node(row: Row) -> NodeInfo:
    spanned_mib = row.number("memsize", most=LARGEST_MIB)
    free_mib = row.number("memfree", most=LARGEST_MIB)
    if free_mib > spanned_mib:
        raise row.error("more memory is free than there is")
    node = NodeInfo(_id(row), spanned_mib << 10, free_mib << 10, _distances(row))
    if node.id >= len(node.distances):
        raise row.error(f"no distance of node {node.id} to itself")
    return node


def _distances(row: Row) -> tuple[int | None, ...]:
    read = []
    for word in row.word("distances").split(","):
        number = whole_number(word)
        if word not in _UNKNOWN and (number is None or number > _LARGEST_DISTANCE):
            raise row.error(f"{word[:20]!r} is no distance")
        read.append(None if word in _UNKNOWN else number)
    return tuple(read)


def _device(row: Row) -> Device:
    return Device(row.word("device"), _maybe(row, "node"))


def _check(info: XlInfo, source: str) -> None:
    _check_lines("cpu_topology", [cpu.id for cpu in info.cpus], source)
    _check_lines("numa_info", [node.id for node in info.nodes], source)
    # More cpus than nr_cpus are fine: present, and not online.
    cpus, nodes = info.told("nr_cpus"), info.told("nr_nodes")
    if cpus is not None and len(info.cpus) < cpus:
        raise _count_error("cpu_topology", len(info.cpus), f"nr_cpus is {cpus}", source)
    if nodes is not None and len(info.nodes) != nodes:
        raise _count_error("numa_info", len(info.nodes), f"nr_nodes is {nodes}", source)
    if len({len(node.distances) for node in info.nodes}) != 1:
        raise ParseError("numa_info has rows of distances of different lengths", source=source)


def _count_error(title: str, lines: int, told: str, source: str) -> ParseError:
    return ParseError(
        f"{title} has {lines} lines, and {told}", source=source, hint="is it cut off?"
    )


def _check_lines(title: str, numbers: list[int], source: str) -> None:
    if not numbers:
        raise ParseError(f"{title} is empty", source=source)
    for number, following in pairwise(sorted(numbers)):
        if number == following:
            raise ParseError(f"{title} has two lines for {number}", source=source)
