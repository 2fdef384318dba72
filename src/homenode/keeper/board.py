"""What is to be seen of a host at one moment: nodes and guests, with what they did since before.

Pure: a look goes in, and what was added up before; rows come out. ``homenode top`` draws them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.watching import Lodger, Sight
from homenode.keeper.lodging import homes_of


class Total(NamedTuple):
    """Seconds of cpu time that a guest ran since it was first seen, and those of them at home."""

    ran_s: float = 0.0
    home_s: float = 0.0


class NodeRow(NamedTuple):
    """A node: its cpus and how many of them are in use, its memory, and how many call it home."""

    id: int
    cpus: int
    busy: float
    free_kib: int | None
    present_kib: int | None
    guests: int


class GuestRow(NamedTuple):
    """A guest since the look before: `ran` and `waited` in cpus, `by_node` where it ran.

    `home` is where its memory is (None: nobody knows), `held` the nodes that its vcpus are held to
    (None: any). `residency` is the share of running time at home now, and `residency_total` since
    it was first seen; None if it did not run or has no home. `kept` is whether the keeper holds it.
    """

    name: str
    vcpus: int
    home: NodeMap | None
    held: NodeMap | None
    ran: float
    waited: float
    by_node: Mapping[int, float]
    residency: float | None
    residency_total: float | None
    kept: bool


class Board(NamedTuple):
    """Everything that is drawn."""

    nodes: tuple[NodeRow, ...]
    guests: tuple[GuestRow, ...]
    totals: Mapping[str, Total]


def board(
    sight: Sight,
    totals: Mapping[str, Total],
    *,
    kept: Mapping[str, Mapping[int, CpuMap]],
    home_share: float,
) -> Board:
    """Return the rows of a look; `kept` are the masks of the keeper's, by guest and vcpu."""
    rows, new_totals = [], {}
    at_home = dict.fromkeys(sight.host.nodes_by_id, 0)
    for lodger in sight.lodgers:
        homes = homes_of(lodger.guest, sight.host, home_share)
        if lodger.guest.is_control:
            homes = None
        row, total = _guest(sight, lodger, homes, totals.get(lodger.key, Total()))
        own = kept.get(lodger.key)
        if own:
            held = sight.host.nodes_of(CpuMap.union(own.values()))
            row = row._replace(kept=True, held=held)
        for node in row.home or ():
            at_home[node] += 1
        rows.append(row)
        new_totals[lodger.key] = total
    nodes = tuple(
        NodeRow(
            node.id,
            len(sight.host.cpus_by_node[node.id]),
            sight.busy.get(node.id, 0.0),
            node.free_kib,
            node.present_kib,
            at_home[node.id],
        )
        for node in sight.host.nodes
    )
    return Board(nodes, tuple(rows), new_totals)


def _guest(
    sight: Sight, lodger: Lodger, homes: Mapping[int, NodeMap] | None, total: Total
) -> tuple[GuestRow, Total]:
    guest, every = lodger.guest, sight.host.cpu_map
    ran = waited = home = 0.0
    by_node: dict[int, float] = {}
    for vcpu in guest.vcpus:
        use = sight.uses.get((lodger.key, vcpu.id))
        if use is None:
            continue
        ran += use.ran
        waited += use.waited
        if use.node is not None and use.ran:
            by_node[use.node] = by_node.get(use.node, 0.0) + use.ran
        if homes is not None and use.node in homes.get(vcpu.id, ()):
            home += use.ran
    total = Total(total.ran_s + ran * sight.seconds, total.home_s + home * sight.seconds)
    known = homes is not None
    together = CpuMap.union(vcpu.hard for vcpu in guest.vcpus)
    row = GuestRow(
        guest.name,
        len(guest.vcpus),
        NodeMap.union(homes.values()) if homes is not None else None,
        None if together >= every or not together else sight.host.nodes_of(together),
        ran,
        waited,
        by_node,
        home / ran if known and ran else None,
        total.home_s / total.ran_s if known and total.ran_s else None,
        kept=False,
    )
    return row, total
