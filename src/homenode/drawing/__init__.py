"""A host as a picture: what both the terminal's and the report's show.

This module says what there is to see, `homenode.drawing.terminal` and `homenode.drawing.svg` how
it looks. Nothing here decides or measures: what the host does not tell is drawn as unknown.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from homenode.bitmap import NodeMap
from homenode.guest import Guest
from homenode.host import Host, Node

PartKind = Literal["guest", "used", "reclaimable", "reserved", "free"]

MOST_GROUPED = 256
"""Nodes of a host beyond which nobody looks for groups among them."""

LONGEST_NAME = 40
"""Characters of a name that are shown."""


class Part(NamedTuple):
    """A part of a node's memory: a guest's (`guest` is its index), or of another kind."""

    kind: PartKind
    kib: int
    guest: int | None = None


class SocketGroup(NamedTuple):
    """Nodes that are drawn together, and what they share."""

    label: str
    nodes: tuple[Node, ...]


class Presence(NamedTuple):
    """A guest on a node: its index, and what it has there (None: it may, nobody knows)."""

    guest: int
    kib: int | None


def printable(text: str) -> str:
    """Return `text` without what would steer a terminal or break a document."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def name_text(name: str) -> str:
    """Return a name as people are shown it: printable, and cut if it is very long."""
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 3] + "..."


def guests_on(node: Node, guests: Sequence[Guest]) -> list[Presence]:
    """Return the guests that have memory on `node`, and those whose new memory comes from it.

    The latter only where nobody knows where a guest's memory lies.
    """
    found = []
    for at, guest in enumerate(guests):
        if guest.memory_by_node is not None:
            if kib := guest.memory_by_node.kib.get(node.id):
                found.append(Presence(at, kib))
        elif guest.node_affinity is not None and node.id in guest.node_affinity:
            found.append(Presence(at, None))
    return found


def memory_parts(node: Node, guests: Sequence[Guest]) -> list[Part]:
    """Return what a node's memory is used for, adding up to `Node.present_kib`.

    Empty where that, or what is free of it, is unknown. "used" is by whom nobody says: the
    hypervisor, or guests whose memory nobody has looked for. Parts that together are more than
    there is (seen at different moments) are cut, the latter first.
    """
    if node.present_kib is None or node.free_kib is None:
        return []
    reserved = min(node.reserved_kib, node.free_kib)
    parts = [
        Part("guest", presence.kib, presence.guest)
        for presence in guests_on(node, guests)
        if presence.kib is not None
    ]
    known = sum(part.kib for part in parts) + node.free_kib
    reclaimable = min(node.reclaimable_kib or 0, max(0, node.present_kib - known))
    parts += [
        Part("used", max(0, node.present_kib - known - reclaimable)),
        Part("reclaimable", reclaimable),
        Part("reserved", reserved),
        Part("free", node.free_kib - reserved),
    ]
    left, fitted = node.present_kib, []
    for part in parts:
        kib = min(part.kib, left)
        left -= kib
        if kib:
            fitted.append(part._replace(kib=kib))
    return fitted


def socket_groups(host: Host) -> list[SocketGroup]:
    """Return the nodes of every socket; nodes without cpus, whose socket nobody states, last."""
    sockets_of: dict[int, set[int]] = {node.id: set() for node in host.nodes}
    for cpu in host.cpus:
        if cpu.node is not None and cpu.socket is not None:
            sockets_of[cpu.node].add(cpu.socket)
    members: dict[tuple[int, tuple[int, ...]], list[Node]] = {}
    for node in host.nodes:
        rank = 2 if not host.cpus_by_node[node.id] else 0 if sockets_of[node.id] else 1
        members.setdefault((rank, tuple(sorted(sockets_of[node.id]))), []).append(node)
    return [
        SocketGroup(_group_label(rank, sockets), tuple(nodes))
        for (rank, sockets), nodes in sorted(members.items())
    ]


def _group_label(rank: int, sockets: tuple[int, ...]) -> str:
    if sockets:
        numbers = ", ".join(map(str, sockets))
        return f"socket {numbers}" if len(sockets) == 1 else f"sockets {numbers}"
    return "without cpus" if rank == 2 else "socket unknown"


Cores = Sequence[tuple[int | None, list[int]]]
"""The cores of a node: the last-level cache of each (None if unknown), and its online cpus."""


def cores_by_node(host: Host) -> dict[int, Cores]:
    """Return the cores of every node by its number; a core of two nodes is drawn on both."""
    llcs = {cpu.id: cpu.llc for cpu in host.cpus}
    node_of = {cpu.id: cpu.node for cpu in host.cpus}
    cores: dict[int, list[tuple[int | None, list[int]]]] = {node.id: [] for node in host.nodes}
    for core in host.cores:
        own: dict[int, list[int]] = {}
        for cpu in core:
            node = node_of[cpu]
            if node is not None:
                own.setdefault(node, []).append(cpu)
        for node, cpus in own.items():
            cores[node].append((llcs[cpus[0]], cpus))
    return dict(cores)


def alike_nodes(host: Host) -> list[NodeMap]:
    """Return the nodes in groups whose members have the same distances to all the others.

    Within a group every distance to another member is the same, too: so one row can stand for
    all. Ungrouped (each node alone) beyond `MOST_GROUPED` nodes.
    """
    count = len(host.nodes)
    rows = [list(row) for row in host.distances]
    columns = [list(column) for column in zip(*host.distances, strict=True)]
    groups: list[list[int]] = []
    for at in range(count):
        group = None
        if count <= MOST_GROUPED:
            group = next(
                (
                    group
                    for group in groups
                    if _swappable(rows, group[0], at) and _swappable(columns, group[0], at)
                    and rows[at][group[0]] == rows[group[0]][group[-1] if len(group) > 1 else at]
                ),
                None,
            )  # fmt: skip
        if group is None:
            groups.append([at])
        else:
            group.append(at)
    return [NodeMap(host.nodes[at].id for at in group) for group in groups]


def _swappable(lines: list[list[int | None]], one: int, other: int) -> bool:
    """Return whether two lines of the table are the same but for the two nodes themselves."""
    swapped = lines[other].copy()
    swapped[one], swapped[other] = swapped[other], swapped[one]
    return swapped == lines[one]
