"""What lies in what: sockets, nodes, dies, last-level caches, cores; and memory beside its node.

A node without cpus is drawn with the nodes that are nearest to it, so that near and far memory
can be told apart: `nearest_nodes` says which these are.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.host import Cpu, Host, Node


class Nearness(NamedTuple):
    """The nodes with cpus that are nearest to a node without: none, if nobody tells.

    `distance` is what the firmware states from them to it, None where it states none.
    """

    nodes: NodeMap
    distance: int | None


class Stack(NamedTuple):
    """A node, and the nodes without cpus whose nearest it alone is."""

    node: Node
    near: tuple[Node, ...] = ()


class SocketGroup(NamedTuple):
    """Nodes that are drawn together, and what they have in common.

    `shared` are nodes without cpus that are as near to several of the group's nodes.
    """

    label: str
    stacks: tuple[Stack, ...]
    shared: tuple[Node, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of the group, those with cpus first."""
        own = (stack.node for stack in self.stacks)
        near = (node for stack in self.stacks for node in stack.near)
        return (*own, *near, *self.shared)


class Cache(NamedTuple):
    """Cores (the cpus of each) that share a last-level cache; None if nobody says what they do."""

    llc: int | None
    cores: tuple[tuple[int, ...], ...]


class Package(NamedTuple):
    """A node's cores in one die (or in one socket of undivided ones).

    `label` is empty where the host has nothing to tell apart by it.
    """

    label: str
    caches: tuple[Cache, ...]


def nearest_nodes(host: Host) -> dict[int, Nearness]:
    """Return the nearest nodes of every node that has no cpus, online or not.

    By distance as the firmware states it; of equally near ones those with the lowest latency, then
    with the highest bandwidth, where these are known: of a node without cpus, Linux and hwloc tell
    them of the nearest nodes alone (ACPI HMAT, ``access0/initiators``).
    """
    at = {node.id: place for place, node in enumerate(host.nodes)}
    owners = {cpu.node for cpu in host.cpus}
    with_cpus = [at[node.id] for node in host.nodes if node.id in owners]
    return {
        node.id: _nearness(host, at[node.id], with_cpus)
        for node in host.nodes
        if node.id not in owners
    }


def _nearness(host: Host, place: int, with_cpus: Sequence[int]) -> Nearness:
    nearest, told = list(with_cpus), False
    for table, best in ((host.distances, min), (host.latency_ns, min), (host.bandwidth_mb_s, max)):
        known = {one: table[one][place] for one in nearest} if table else {}
        values = [value for value in known.values() if value is not None]
        if values:
            nearest = [one for one in nearest if known[one] == best(values)]
            told = True
    if not told:
        return Nearness(NodeMap(), None)
    far = host.distances[nearest[0]][place]
    return Nearness(NodeMap(host.nodes[one].id for one in nearest), far)


def nearness_words(host: Host, near: Nearness) -> str:
    """Return where a node without cpus is, such as ``17 from node 0``; empty if nobody tells."""
    if not near.nodes:
        return ""
    everywhere = len(near.nodes) > 1 and all(
        near.nodes.bits >> node.id & 1 for node in host.nodes if host.cpus_by_node[node.id]
    )
    which = "every node" if everywhere else nodes_words(near.nodes)
    return f"nearest to {which}" if near.distance is None else f"{near.distance} from {which}"


def nodes_words(nodes: NodeMap) -> str:
    """Return ``node 3`` or ``nodes 0-3``."""
    return f"node{'s' * (len(nodes) > 1)} {nodes}"


def socket_groups(host: Host) -> list[SocketGroup]:
    """Return the nodes of every socket, each with the nodes without cpus that are near it.

    Then the nodes whose socket nobody states, and those without cpus that are no socket's.
    """
    sockets_of: dict[int, set[int]] = {}
    for cpu in host.cpus:
        if cpu.node is not None:
            known = sockets_of.setdefault(cpu.node, set())
            known |= set() if cpu.socket is None else {cpu.socket}
    members: dict[tuple[bool, tuple[int, ...]], list[Node]] = {}
    for node in host.nodes:
        if node.id in sockets_of:
            sockets = tuple(sorted(sockets_of[node.id]))
            members.setdefault((not sockets, sockets), []).append(node)
    nearest = nearest_nodes(host)
    groups, placed = [], set()
    for (_, sockets), nodes in sorted(members.items()):
        made = _socket(host, _socket_label(sockets), nodes, nearest)
        placed |= {node.id for node in made.nodes}
        groups.append(made)
    return groups + _homeless(host, nearest, placed)


def _socket(host: Host, label: str, nodes: list[Node], nearest: dict[int, Nearness]) -> SocketGroup:
    own = NodeMap(node.id for node in nodes)
    near: dict[NodeMap, list[Node]] = {}
    for number, nearness in nearest.items():
        if nearness.nodes and nearness.nodes <= own:
            near.setdefault(nearness.nodes, []).append(host.nodes_by_id[number])
    stacks = [Stack(node, tuple(near.pop(NodeMap([node.id]), ()))) for node in nodes]
    return SocketGroup(
        label, tuple(stacks), tuple(node for group in near.values() for node in group)
    )


def _homeless(host: Host, nearest: dict[int, Nearness], placed: set[int]) -> list[SocketGroup]:
    """Return the nodes without cpus that are no socket's, by what they are near to."""
    members: dict[NodeMap, list[Node]] = {}
    for node in host.nodes:
        if node.id not in placed:
            members.setdefault(nearest[node.id].nodes, []).append(node)
    with_cpus = NodeMap(node.id for node in host.nodes if node.id not in nearest)
    groups = []
    for nodes, own in members.items():
        where = "nearest node unknown"
        if nodes:
            where = "as near to every node" if nodes == with_cpus else f"near {nodes_words(nodes)}"
        groups.append(SocketGroup(f"without cpus, {where}", tuple(Stack(node) for node in own)))
    return groups


def _socket_label(sockets: tuple[int, ...]) -> str:
    if not sockets:
        return "socket unknown"
    return f"socket{'s' * (len(sockets) > 1)} {', '.join(map(str, sockets))}"


def packages_by_node(host: Host) -> dict[int, list[Package]]:
    """Return the online cpus of every node by die, last-level cache and core.

    A core that has cpus on two nodes is drawn on both.
    """
    cpus = {cpu.id: cpu for cpu in host.cpus}
    divided = _divided_sockets(host.cpus)
    found: dict[int, dict[tuple[int | None, int | None], dict[int | None, list[tuple[int, ...]]]]]
    found = {node.id: {} for node in host.nodes}
    for core in host.cores:
        own: dict[int, list[int]] = {}
        for number in core:
            node = cpus[number].node
            if node is not None:
                own.setdefault(node, []).append(number)
        for node, numbers in own.items():
            first = cpus[numbers[0]]
            die = first.die if first.socket in divided else None
            caches = found[node].setdefault((first.socket, die), {})
            caches.setdefault(first.llc, []).append(tuple(numbers))
    return {
        node: [
            Package(
                _package_label(socket, die, alone=len({one for one, _ in packages}) == 1),
                tuple(Cache(llc, tuple(cores)) for llc, cores in caches.items()),
            )
            for (socket, die), caches in sorted(packages.items(), key=_known_first)
        ]
        for node, packages in found.items()
    }


def _known_first(
    package: tuple[tuple[int | None, int | None], object],
) -> list[tuple[bool, int]]:
    return [(number is None, number or 0) for number in package[0]]


def _divided_sockets(cpus: Iterable[Cpu]) -> set[int | None]:
    """Return the sockets that have more than one die."""
    dies: dict[int | None, set[int]] = {}
    for cpu in cpus:
        if cpu.die is not None:
            dies.setdefault(cpu.socket, set()).add(cpu.die)
    return {socket for socket, own in dies.items() if len(own) > 1}


def _package_label(socket: int | None, die: int | None, *, alone: bool) -> str:
    parts = [] if alone else [f"socket {'?' if socket is None else socket}"]
    if die is not None:
        parts.append(f"die {die}")
    return ", ".join(parts)


def cache_sharers(host: Host) -> dict[int, NodeMap]:
    """Return, for nodes whose last-level caches serve other nodes too, which these are."""
    users: dict[int, set[int]] = {}
    for cpu in host.cpus:
        if cpu.llc is not None and cpu.node is not None and cpu.online:
            users.setdefault(cpu.llc, set()).add(cpu.node)
    found: dict[int, set[int]] = {}
    for nodes in users.values():
        if len(nodes) > 1:
            for node in nodes:
                found.setdefault(node, set()).update(nodes - {node})
    return {node: NodeMap(others) for node, others in found.items()}


def cpus_of_packages(packages: Sequence[Package]) -> CpuMap:
    """Return the cpus of a node's packages."""
    return CpuMap(
        cpu for package in packages for cache in package.caches for core in cache.cores
        for cpu in core
    )  # fmt: skip
