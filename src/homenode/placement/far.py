"""Memory of nodes without cpus: what a guest is given there beside its cpu nodes.

Such nodes (CXL, HBM in flat mode, a GPU's) give memory in two ways. A *tier* is wanted there: so
much of that kind, whatever the cpu nodes have. *Spill* is what the cpu nodes have too little of. In
both cases the nodes that are nearest to the cpu nodes give first, the tier before the spill; that
is a rule and is never searched. HBM and a GPU's memory are given only where they are asked for by
that name: there is little of them, for who needs it.
"""

from collections.abc import Callable, Sequence

from homenode.bitmap import NodeMap
from homenode.guest import GuestRequest, Tier
from homenode.host import Host, Node
from homenode.placement.weights import positions

_PRECIOUS = ("hbm", "gpu")


class Far:
    """The nodes without cpus that a guest may have memory from.

    `kib` is what each can give, `reach[i]` the distances from the i-th of them to the positions
    of the problem; `for_tier` and `for_spill` are sets of them (bit i), `tier_kib` what is wanted.
    """

    __slots__ = ("for_spill", "for_tier", "kib", "nodes", "reach", "tier_kib")

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        nodes: tuple[int, ...] = (),
        kib: tuple[int, ...] = (),
        reach: tuple[tuple[int, ...], ...] = (),
        *,
        for_tier: int = 0,
        for_spill: int = 0,
        tier_kib: int = 0,
    ) -> None:
        self.nodes = nodes
        self.kib = kib
        self.reach = reach
        self.for_tier = for_tier
        self.for_spill = for_spill
        self.tier_kib = tier_kib

    @property
    def tier_room_kib(self) -> int:
        """What nodes of the wanted kind have."""
        return sum([self.kib[at] for at in positions(self.for_tier)])

    @property
    def is_short(self) -> bool:
        """Whether the tier cannot be had, whichever cpu nodes are chosen."""
        return self.tier_kib > self.tier_room_kib

    @property
    def spill_room_kib(self) -> int:
        """What is left for spill once the tier has its part."""
        if not self.for_spill:
            return 0
        room = sum([self.kib[at] for at in positions(self.for_spill)])
        elsewhere = sum([self.kib[at] for at in positions(self.for_tier & ~self.for_spill)])
        return room - max(0, self.tier_kib - elsewhere)

    def shares_kib(self, chosen: int, spilled_kib: int) -> dict[int, int]:
        """Return the KiB that come from each far node (by index), given the chosen positions."""
        if not self.tier_kib and not spilled_kib:
            return {}
        near = {at: self.distance(at, chosen) for at in range(len(self.nodes))}
        order = sorted(near, key=lambda at: (near[at], at))
        shares: dict[int, int] = {}
        for wanted_kib, among in (
            (self.tier_kib, self.for_tier),
            (spilled_kib, self.for_spill),
        ):
            left = wanted_kib
            for at in order:
                if left and among >> at & 1:
                    given = min(left, self.kib[at] - shares.get(at, 0))
                    left -= given
                    if given:
                        shares[at] = shares.get(at, 0) + given
        return shares

    def distance(self, at: int, chosen: int) -> int:
        """Return how far a far node is from the nearest of the chosen positions."""
        row = self.reach[at]
        return min([row[one] for one in positions(chosen)], default=0)


NOTHING = Far()


def far_of(  # noqa: PLR0913 - what is asked for, of which nodes
    host: Host,
    request: GuestRequest,
    ids: Sequence[int],
    *,
    barred: NodeMap,
    named: bool,
    usable_kib: Callable[[int], int],
) -> Far:
    """Return the nodes without cpus that `request` may have memory from; `barred` ones are out.

    `ids` are the cpu nodes in question, in the order of positions; `named` is whether the user
    named all nodes that are not barred, so that none is too precious.
    """
    tier = request.tier
    if tier is None and not request.spill:
        return NOTHING
    precious = () if named else _PRECIOUS
    wanted = [
        node
        for node in host.nodes
        if not host.cpus_by_node[node.id]
        and node.id not in barred
        and node.id not in ids
        and ((request.spill and node.kind not in precious) or _is_of(node, tier, precious))
        and usable_kib(node.id)
    ]
    return Far(
        nodes=tuple(node.id for node in wanted),
        kib=tuple(usable_kib(node.id) for node in wanted),
        reach=tuple(tuple(_apart(host, node.id, one) for one in ids) for node in wanted),
        for_tier=sum(1 << at for at, node in enumerate(wanted) if _is_of(node, tier, precious)),
        for_spill=sum(
            1 << at for at, node in enumerate(wanted) if request.spill and node.kind not in precious
        ),
        tier_kib=0 if tier is None else _in_whole_pages(tier, request),
    )


def _in_whole_pages(tier: Tier, request: GuestRequest) -> int:
    page_kib = request.page_kib
    return min(-(-tier.kib // page_kib) * page_kib, request.memory_kib)


def _is_of(node: Node, tier: Tier | None, precious: Sequence[str]) -> bool:
    if tier is None:
        return False
    return node.kind not in precious if tier.kind == "any" else node.kind == tier.kind


def _apart(host: Host, one: int, other: int) -> int:
    # Of two directions the longer one counts, as between cpu nodes.
    return max(host.distance(one, other), host.distance(other, one))
