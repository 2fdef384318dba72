"""What a guest wants of a fleet: parts, each of which goes onto a node of its own.

A guest on one node is one part. One on several has its vcpus and memory spread over them as
evenly as whole vcpus allow, as a virtual NUMA guest has; unlike virtual nodes are unlike parts.
Where nobody says how many nodes it has to have, the fewest that can hold it are taken: the
`Alternative` s of a `Demand` are tried in that order, over all hosts.
"""

from collections.abc import Sequence
from typing import NamedTuple

from homenode.bitmap import CpuMap
from homenode.guest import GuestRequest, VirtualNode
from homenode.placement.cells import cells_kib


class Part(NamedTuple):
    """What has to come from one node: vcpus, and memory in KiB."""

    vcpus: int
    kib: int


class Alternative:
    """Parts that a host has to hold together, the largest first, and the guest cut up like that.

    `is_nested`: each part wants no less than the next one of both, so that counting the nodes that
    can hold each is enough to know whether a host can hold all of them (Hall's theorem). A fleet
    names kinds of parts by a bit each: `bits`, in the order of the parts. `counts` are then on how
    many nodes at the least each kind has to fit, as (bit, nodes); both are empty before.
    `thrifty` is the same guest where it fits without waste alone, and `plain` of that one the
    guest itself.
    """

    __slots__ = (
        "bits",
        "counts",
        "is_nested",
        "kib",
        "parts",
        "plain",
        "request",
        "thrifty",
        "vcpus",
    )

    def __init__(
        self, parts: Sequence[Part], request: GuestRequest, plain: "Alternative | None" = None
    ) -> None:
        self.plain = plain or self
        self.thrifty: Alternative | None = None
        self.parts = tuple(sorted(parts, reverse=True))
        self.request = request
        self.vcpus = sum(part.vcpus for part in self.parts)
        self.kib = sum(part.kib for part in self.parts)
        pairs = zip(self.parts, self.parts[1:], strict=False)
        self.is_nested = all(one.kib >= other.kib for one, other in pairs)
        self.bits: tuple[int, ...] = ()
        self.counts: tuple[tuple[int, int], ...] = ()

    def name_parts(self, bits: Sequence[int]) -> None:
        """Take the bits of the parts, in their order."""
        self.bits = tuple(bits)
        counts: dict[int, int] = {}
        for place, bit in enumerate(bits, 1):
            # Where a larger part fits, this one does, too: on so many nodes one of them has to.
            counts[bit] = place if self.is_nested else counts.get(bit, 0) + 1
        self.counts = tuple(counts.items())


class Demand:
    """What one kind of guest wants of one fleet; see `homenode.fleet.hosts.Fleet.demand`."""

    __slots__ = ("alternatives", "memory_kib", "nodes", "request", "vcpus")

    def __init__(self, request: GuestRequest, alternatives: Sequence[Alternative]) -> None:
        self.request = request
        self.vcpus = request.vcpus
        self.memory_kib = request.memory_kib
        self.nodes = request.node_count
        self.alternatives = tuple(alternatives)


def demand_of(request: GuestRequest, most_nodes: int) -> Demand:
    """Return what `request` wants of hosts with up to `most_nodes` nodes with cpus."""
    if request.virtual_nodes:
        kib = cells_kib(request)
        parts = [
            Part(len(cell.vcpus), own) for cell, own in zip(request.virtual_nodes, kib, strict=True)
        ]
        return Demand(request, [Alternative(parts, request)])
    if request.node_count is not None:
        counts = range(request.node_count, request.node_count + 1)
    else:
        counts = range(1, max(1, min(most_nodes, request.vcpus)) + 1)
    return Demand(request, [_spread(request, count) for count in counts])


def _spread(request: GuestRequest, count: int) -> Alternative:
    if count == 1:
        return Alternative([Part(request.vcpus, request.memory_kib)], request)
    vcpus = [(request.vcpus + place) // count for place in reversed(range(count))]
    kib = [(request.memory_kib + place) // count for place in reversed(range(count))]
    first = [sum(vcpus[:place]) for place in range(count)]
    cells = [
        VirtualNode(place, CpuMap(range(first[place], first[place] + vcpus[place])), kib[place])
        for place in range(count)
    ]
    cut = request._replace(virtual_nodes=tuple(cells), node_count=count)
    return Alternative(list(map(Part, vcpus, kib)), cut)
