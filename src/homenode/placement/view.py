"""What a decision is made from: a host, its guests, and what is promised and not yet seen."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from homenode.guest import Guest, GuestRequest
from homenode.host import Host

ShareRule = Callable[[GuestRequest, Sequence[int]], Sequence[int]]
"""How a hypervisor spreads memory: (request, KiB usable on each node of the set, in ascending order
of nodes) to the KiB that come from each of them. Called only if they suffice together; what the
shares lack of what is needed would come from nodes outside of the set."""


def equal_shares(request: GuestRequest, usable_kib: Sequence[int]) -> list[int]:
    """Spread memory equally; where a node is full, the others take its part (a `ShareRule`)."""
    shares, left = [0] * len(usable_kib), request.memory_kib
    smallest_first = sorted(range(len(usable_kib)), key=lambda at: (usable_kib[at], at))
    for done, at in enumerate(smallest_first):
        shares[at] = min(usable_kib[at], left // (len(usable_kib) - done))
        left -= shares[at]
    return shares


class View(NamedTuple):
    """A host and its guests as they were seen together, and the claims upon them.

    `outstanding_kib` is the memory by node that claims promise and that no guest has yet.
    """

    host: Host
    guests: tuple[Guest, ...] = ()
    outstanding_kib: Mapping[int, int] = {}
    share_rule: ShareRule = equal_shares

    def without(self, gone: Collection[Guest]) -> "View":
        """Return the view as it would be if those guests were gone and their memory free."""
        freed, committed = self.freed_kib(gone), _committed_kib(gone)
        nodes = [
            node._replace(
                free_kib=_plus(node.free_kib, freed.get(node.id, 0)),
                committed_kib=_plus(node.committed_kib, -committed.get(node.id, 0)),
            )
            for node in self.host.nodes
        ]
        left = tuple(guest for guest in self.guests if guest not in gone)
        return self._replace(host=self.host.replace(nodes=nodes), guests=left)

    def with_free(self, node: int, kib: int) -> "View":
        """Return the view as it would be with that much more memory free on `node`."""
        nodes = [
            one._replace(free_kib=_plus(one.free_kib, kib)) if one.id == node else one
            for one in self.host.nodes
        ]
        return self._replace(host=self.host.replace(nodes=nodes))

    @staticmethod
    def freed_kib(gone: Collection[Guest]) -> dict[int, int]:
        """Return the memory by node that those guests have, in so far as that is known."""
        freed: dict[int, int] = {}
        for guest in gone:
            for node, kib in guest.memory_by_node.kib.items() if guest.memory_by_node else ():
                freed[node] = freed.get(node, 0) + kib
        return freed


def _plus(kib: int | None, more: int) -> int | None:
    return None if kib is None else max(0, kib + more)


def _committed_kib(gone: Collection[Guest]) -> dict[int, int]:
    # What a guest may grow to is committed where its memory is, in proportion.
    committed: dict[int, int] = {}
    for guest in gone:
        by_node = guest.memory_by_node.kib if guest.memory_by_node else {}
        total = sum(by_node.values())
        for node, kib in by_node.items():
            most = kib * (guest.max_memory_kib or total) // total if total else 0
            committed[node] = committed.get(node, 0) + most
    return committed
