"""What a decision is made from: a host, its guests, and what is promised and not yet seen."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from homenode.guest import Guest
from homenode.host import Host, Node

ShareRule = Callable[[int, Sequence[int]], Sequence[int]]
"""How a hypervisor spreads memory: (KiB needed, KiB usable on each node of the set, in ascending
order of nodes) to the KiB that come from each of them. Called only if they suffice together."""


def equal_shares(needed_kib: int, usable_kib: Sequence[int]) -> list[int]:
    """Spread memory equally; where a node is full, the others take its part (a `ShareRule`)."""
    shares = [0] * len(usable_kib)
    left = needed_kib
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

    def usable_kib(self, node: Node) -> int:
        """Return what a new guest can get on `node`: truth 1. Unknown counts as nothing."""
        return max(0, (node.usable_kib or 0) - self.outstanding_kib.get(node.id, 0))
