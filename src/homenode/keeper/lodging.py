"""Which guests are kept, where their home is, and which cpus they may use; and why others are not.

Pure: a guest as it was seen before the keeper touched it, and the host, go in.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.watching import Lodger
from homenode.guest import Guest, Vcpu
from homenode.host import Host


class Kept(NamedTuple):
    """A guest that is kept: the home of each vcpu, and the cpus that it may use at all."""

    lodger: Lodger
    homes: Mapping[int, NodeMap]
    may: Mapping[int, CpuMap]


class LeftAlone(NamedTuple):
    """A guest that is not kept, and why. `is_told` is whether anybody has to know."""

    lodger: Lodger
    why: str
    is_told: bool = True


def exclusive_cpus(lodgers: Iterable[Lodger], host: Host) -> CpuMap:
    """Return the cpus that guests have for themselves."""
    return CpuMap.union(
        vcpu.hard
        for lodger in lodgers
        if lodger.guest.exclusive
        for vcpu in lodger.guest.vcpus
        if not host.pool(lodger.guest.pool).cpus <= vcpu.hard
    )


def lodged(
    lodger: Lodger, host: Host, *, usual: CpuMap, taken: CpuMap, home_share: float
) -> Kept | LeftAlone:
    """Return how a guest is kept, or why it is not.

    `usual` are the cpus that a vcpu may use if nobody says otherwise, `taken` those that exclusive
    guests have. The guest's masks are those of its user (or of homenode, in his name).
    """
    guest = lodger.guest
    if guest.is_control:
        return LeftAlone(lodger, "it runs this host", is_told=False)
    if guest.state not in ("running", "paused"):
        return LeftAlone(lodger, f"it is {guest.state}", is_told=False)
    pool = host.pool(guest.pool).cpus & usual
    cpus = pool - taken
    nodes = host.nodes_of(cpus)
    homes = homes_of(guest, host, home_share)
    why = _pinned(lodger, host, pool) or _homeless(homes, nodes)
    if why is not None or homes is None:
        return LeftAlone(lodger, why or "")
    may = {vcpu.id: cpus for vcpu in guest.vcpus}
    return Kept(lodger, {vcpu: home & nodes for vcpu, home in homes.items()}, may)


def _homeless(homes: Mapping[int, NodeMap] | None, nodes: NodeMap) -> str | None:
    """Return why there is no home to keep a guest at, None if there is."""
    if homes is None:
        return "nobody knows where its memory is"
    if all(home >= nodes for home in homes.values()):
        return "its memory is on all nodes where it may run"
    if any(home.isdisjoint(nodes) for home in homes.values()):
        return "there is no cpu for it where its memory is"
    return None


def _pinned(lodger: Lodger, host: Host, pool: CpuMap) -> str | None:
    """Return what to say of a guest whose masks are its user's; None if they are not."""
    guest = lodger.guest
    if guest.exclusive:
        return "it has cpus of its own"
    narrow = CpuMap(vcpu.id for vcpu in guest.vcpus if not pool <= vcpu.hard)
    if narrow and not (guest.held is not None and guest.held_by_default):
        return f"its user has pinned {narrow.named_vcpus}"
    if lodger.kind == "hard":
        return None
    prefers = CpuMap(vcpu.id for vcpu in guest.vcpus if not host.cpu_map & pool <= vcpu.soft)
    if prefers:
        verb = "prefer" if len(prefers) > 1 else "prefers"
        return f"{prefers.named_vcpus} {verb} cpus already, and the scheduler heeds that"
    return None


def homes_of(guest: Guest, host: Host, home_share: float) -> dict[int, NodeMap] | None:
    """Return the home of each vcpu: the nodes of its virtual node, or of its guest's memory.

    A node is home if it holds `home_share` of what the node with the most holds. Where nobody says
    where the memory is, or most of it is not touched yet, the node affinity counts, unless that is
    every node. None is unknown.
    """
    whole = _home(guest, host, home_share)
    homes: dict[int, NodeMap] = {}
    for vcpu in guest.vcpus:
        home = _cell_home(guest, vcpu, host) or whole
        if home is None:
            return None
        homes[vcpu.id] = home
    return homes


def _cell_home(guest: Guest, vcpu: Vcpu, host: Host) -> NodeMap | None:
    for cell in guest.virtual_nodes:
        if vcpu.id in cell.vcpus and cell.node in host.node_map and cell.node is not None:
            return NodeMap([cell.node])
    return None


def _home(guest: Guest, host: Host, home_share: float) -> NodeMap | None:
    seen = {} if guest.memory_by_node is None else guest.memory_by_node.kib
    affinity = guest.node_affinity
    if affinity is not None and affinity >= host.nodes_of(host.cpu_map):
        affinity = None
    touched = 2 * sum(seen.values()) >= (guest.memory_kib or 0)
    if not any(seen.values()) or (affinity is not None and not touched):
        return None if affinity is None else affinity & host.node_map or None
    most = max(seen.values())
    return NodeMap(
        node for node, kib in seen.items() if kib >= home_share * most and node in host.node_map
    )
