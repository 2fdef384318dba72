"""What the memory of nodes is used for, and of what kinds it is."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from homenode.bitmap import NodeMap
from homenode.guest import Guest
from homenode.host import Host, Node, NodeKind

PartKind = Literal["guest", "used", "pages", "reclaimable", "reserved", "free"]

MEANINGS: dict[PartKind, str] = {
    "used": "used, nobody says by whom",
    "pages": "huge pages, free",
    "reclaimable": "reclaimable",
    "reserved": "free, but not for guests",
    "free": "free",
}
"""What the parts are that are no guest's, in the order in which they are drawn."""


class Part(NamedTuple):
    """A part of a node's memory: a guest's (`guest` is its index), or of another kind."""

    kind: PartKind
    kib: int
    guest: int | None = None


class Presence(NamedTuple):
    """A guest on a node: its index, and what it has there (None: it may, nobody knows)."""

    guest: int
    kib: int | None


class Tier(NamedTuple):
    """The nodes whose memory is of one kind (None: nobody tells), and how much they have."""

    kind: NodeKind | None
    nodes: NodeMap
    present_kib: int | None


class PageSum(NamedTuple):
    """The huge pages of one size on all nodes that have some; `free` is None if unknown of any."""

    page_kib: int
    total: int
    free: int | None
    nodes: NodeMap


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
    rest = max(0, node.present_kib - sum(part.kib for part in parts) - node.free_kib)
    # Pools are no part of what is free: the kernel counts them as used.
    pages = min(rest, sum((pool.free or 0) * pool.page_kib for pool in node.pages))
    reclaimable = min(node.reclaimable_kib or 0, rest - pages)
    parts += [
        Part("used", rest - pages - reclaimable),
        Part("pages", pages),
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


def sum_known(values: Sequence[int | None]) -> int | None:
    """Return the sum, or None if any of them is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def tiers(host: Host) -> list[Tier]:
    """Return the kinds of memory that `host` has, in the order in which its nodes have them."""
    members: dict[NodeKind | None, list[Node]] = {}
    for node in host.nodes:
        members.setdefault(node.kind, []).append(node)
    return [
        Tier(
            kind,
            NodeMap(node.id for node in nodes),
            sum_known([node.present_kib for node in nodes]),
        )
        for kind, nodes in members.items()
    ]


def page_sums(host: Host) -> list[PageSum]:
    """Return the host's huge pages by their size; pools without a page are left out."""
    sums: dict[int, PageSum] = {}
    for node in host.nodes:
        for pool in node.pages:
            if pool.total:
                old = sums.get(pool.page_kib, PageSum(pool.page_kib, 0, 0, NodeMap()))
                sums[pool.page_kib] = old._replace(
                    total=old.total + pool.total,
                    free=sum_known([old.free, pool.free]),
                    nodes=old.nodes | NodeMap([node.id]),
                )
    return [sums[size] for size in sorted(sums)]
