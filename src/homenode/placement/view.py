"""What a decision is made from: a host, its guests, and what is promised and not yet seen."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.guest import Guest, GuestRequest
from homenode.host import ORDINARY_PAGE_KIB, Host, Node, PagePool

ShareRule = Callable[[GuestRequest, Sequence[int]], Sequence[int]]
"""How a hypervisor spreads memory: (request, KiB usable on each node of the set, in ascending order
of nodes) to the KiB that come from each of them. Called only if they suffice together; what the
shares lack of what is needed would come from nodes outside of the set."""


def equal_shares(request: GuestRequest, usable_kib: Sequence[int]) -> list[int]:
    """Spread memory equally; where a node is full, the others take its part (a `ShareRule`).

    Huge pages are dealt out whole.
    """
    unit = request.page_kib if request.page_kib > ORDINARY_PAGE_KIB else 1
    shares, left = [0] * len(usable_kib), -(-request.memory_kib // unit)
    smallest_first = sorted(range(len(usable_kib)), key=lambda at: (usable_kib[at], at))
    for done, at in enumerate(smallest_first):
        units = min(usable_kib[at] // unit, left // (len(usable_kib) - done))
        shares[at] = units * unit
        left -= units
    return shares


class View(NamedTuple):
    """A host and its guests as they were seen together, and the claims upon them.

    `outstanding_kib` is the ordinary memory by node that claims promise and that no guest has yet,
    `outstanding_huge_kib` the same in huge pages, by (node, size of the page in KiB).
    """

    host: Host
    guests: tuple[Guest, ...] = ()
    outstanding_kib: Mapping[int, int] = {}
    share_rule: ShareRule = equal_shares
    outstanding_huge_kib: Mapping[tuple[int, int], int] = {}

    def emptied(self) -> "View":
        """Return the view as it would be if no guest ran there: what is present is free.

        But for what is in pools of huge pages, and for dom0's memory, where that is known. Also of
        a host that does not tell what is free.
        """
        control = tuple(guest for guest in self.guests if guest.is_control)
        kept = self.freed_kib(control)
        nodes = [
            node._replace(
                free_kib=_plus(node.present_kib, -_pooled_kib(node) - kept.get(node.id, 0)),
                reclaimable_kib=None,
                committed_kib=None,
                touched_kib=None,
                pages=tuple(pool._replace(free=pool.total) for pool in node.pages),
            )
            for node in self.host.nodes
        ]
        return View(self.host.replace(nodes=nodes), control, {}, self.share_rule)

    def without(self, gone: Collection[Guest]) -> "View":
        """Return the view as it would be if those guests were gone and their memory free."""
        left = tuple(guest for guest in self.guests if guest not in gone)
        return self._replace(host=self.host.replace(nodes=self.nodes_without(gone)), guests=left)

    def nodes_without(self, gone: Collection[Guest]) -> list[Node]:
        """Return the nodes of the host as they would be then."""
        committed: dict[int, int] = {}
        for guest in gone:
            for node, kib in commitment_kib(guest, self.host).items():
                committed[node] = committed.get(node, 0) + kib
        touched = self.freed_kib([one for one in gone if one.page_kib <= ORDINARY_PAGE_KIB])
        nodes = {
            node.id: node._replace(
                committed_kib=_plus(node.committed_kib, -committed.get(node.id, 0)),
                touched_kib=_plus(node.touched_kib, -touched.get(node.id, 0)),
            )
            for node in self.host.nodes
        }
        for page_kib in {guest.page_kib for guest in gone}:
            freed = self.freed_kib([guest for guest in gone if guest.page_kib == page_kib])
            for node, kib in freed.items():
                if node in nodes:
                    nodes[node] = _freed(nodes[node], kib, page_kib)
        return list(nodes.values())

    def with_free(self, node: int, kib: int, page_kib: int = 4) -> "View":
        """Return the view as it would be with that much more memory free on `node`.

        Huge pages are made of its free memory, and added to its pool of that size.
        """
        nodes = [
            _with_free(one, kib, page_kib) if one.id == node else one for one in self.host.nodes
        ]
        return self._replace(host=self.host.replace(nodes=nodes))

    def usable_kib(self, node: int, page_kib: int = 4, *, as_libxl: bool = False) -> int:
        """Return what a new guest can get on `node` in pages of that size, unclaimed or not.

        What is unknown counts as nothing; libxl takes all that is free for it.
        """
        return usable_kib(self.host.nodes_by_id[node], page_kib, as_libxl=as_libxl)

    def unknown_nodes(self, page_kib: int = 4) -> NodeMap:
        """Return the nodes of which nobody tells how much of such memory is free."""
        return NodeMap(
            node.id for node in self.host.nodes if node.usable_in_pages_kib(page_kib) is None
        )

    def owed_kib(self, node: int, page_kib: int = 4, *, as_libxl: bool = False) -> int:
        """Return what of that is promised to guests that do not have it yet."""
        if page_kib <= ORDINARY_PAGE_KIB:
            return 0 if as_libxl else self.outstanding_kib.get(node, 0)
        return self.outstanding_huge_kib.get((node, page_kib), 0)

    def room_kib(self, node: int, page_kib: int = 4, *, as_libxl: bool = False) -> int:
        """Return the same less what is promised of it, of which libxl knows nothing."""
        owed = self.owed_kib(node, page_kib, as_libxl=as_libxl)
        return max(0, self.usable_kib(node, page_kib, as_libxl=as_libxl) - owed)

    def nodes_of_guest(self, guest: Guest) -> NodeMap | None:
        """Return the nodes where a guest is: those of its memory, and those it is to come from.

        None if nobody knows. Being allowed everywhere is no place.
        """
        bits = 0
        if guest.memory_by_node is not None:
            for node, kib in guest.memory_by_node.kib.items():
                bits |= (kib > 0) << node
        if guest.node_affinity is not None and guest.node_affinity != self.host.node_map:
            bits |= guest.node_affinity.bits
        return NodeMap.from_bits(bits) if bits else None

    @staticmethod
    def freed_kib(gone: Collection[Guest]) -> dict[int, int]:
        """Return the memory by node that those guests have, in so far as that is known."""
        freed: dict[int, int] = {}
        for guest in gone:
            for node, kib in guest.memory_by_node.kib.items() if guest.memory_by_node else ():
                freed[node] = freed.get(node, 0) + kib
        return freed


def usable_kib(node: Node, page_kib: int, *, as_libxl: bool) -> int:
    """Return what a new guest can get on a node; see `View.usable_kib`."""
    if as_libxl and page_kib <= ORDINARY_PAGE_KIB:
        return node.free_kib or 0
    return node.usable_in_pages_kib(page_kib) or 0


def _with_free(node: Node, kib: int, page_kib: int) -> Node:
    if page_kib <= ORDINARY_PAGE_KIB:
        return node._replace(free_kib=_plus(node.free_kib, kib))
    more = kib // page_kib
    others = tuple(pool for pool in node.pages if pool.page_kib != page_kib)
    there = [pool for pool in node.pages if pool.page_kib == page_kib]
    was = there[0] if there else PagePool(page_kib, 0, 0)
    pool = PagePool(page_kib, was.total + more, (was.free or 0) + more)
    return node._replace(
        free_kib=_plus(node.free_kib, -more * page_kib), pages=tuple(sorted((*others, pool)))
    )


def _freed(node: Node, kib: int, page_kib: int) -> Node:
    if page_kib <= ORDINARY_PAGE_KIB:
        return node._replace(free_kib=_plus(node.free_kib, kib))
    pools = (
        pool._replace(free=min(pool.total, pool.free + kib // page_kib))
        if pool.page_kib == page_kib and pool.free is not None
        else pool
        for pool in node.pages
    )
    return node._replace(pages=tuple(pools))


def _pooled_kib(node: Node) -> int:
    return sum(pool.page_kib * pool.total for pool in node.pages)


def _plus(kib: int | None, more: int) -> int | None:
    return None if kib is None else max(0, kib + more)


def commitment_kib(guest: Guest, host: Host) -> dict[int, int]:
    """Return the ordinary memory, by node, that a guest has or may come to have.

    What it has stays where it is. What it has not touched yet will come from the node of each
    virtual node, else in equal parts from the nodes of its affinity, else from all that have cpus.
    Huge pages are none of it: they are set aside when a guest starts.
    """
    if guest.page_kib > ORDINARY_PAGE_KIB:
        return {}
    here = dict(guest.memory_by_node.kib) if guest.memory_by_node else {}
    most_kib = guest.max_memory_kib or guest.memory_kib or 0
    left_kib = max(0, most_kib - sum(here.values()))
    if not left_kib:
        return here
    cells = [cell for cell in guest.virtual_nodes if cell.node in host.nodes_by_id]
    if cells and len(cells) == len(guest.virtual_nodes):
        wanted: dict[int, int] = {}
        for cell in cells:
            node = cell.node or 0
            wanted[node] = wanted.get(node, 0) + cell.memory_kib
        open_kib = {node: max(0, kib - here.get(node, 0)) for node, kib in wanted.items()}
        return _dealt(here, open_kib, left_kib)
    homes = (guest.node_affinity or NodeMap()) & host.node_map
    homes = homes or host.nodes_of(host.cpu_map) or host.node_map
    part_kib = -(-most_kib // max(1, len(homes)))
    open_kib = {node: max(0, part_kib - here.get(node, 0)) for node in homes}
    return _dealt(here, open_kib, left_kib)


def _dealt(here: dict[int, int], open_kib: dict[int, int], left_kib: int) -> dict[int, int]:
    """Return what is here with what is left dealt out where it is open, in proportion."""
    total_kib = sum(open_kib.values()) or 1
    for node, kib in open_kib.items():
        here[node] = here.get(node, 0) + -(-left_kib * kib // total_kib)
    return here
