"""Findings about the host itself, whatever runs on it: its nodes, its pools, what is promised."""

from collections.abc import Sequence

from homenode.bitmap import CpuMap, NodeMap
from homenode.doctor.finding import Finding, some
from homenode.guest import Guest
from homenode.host import Host
from homenode.units import format_memory, format_page


def examine_host(host: Host, guests: Sequence[Guest]) -> list[Finding | None]:
    """Return what there is to say of a host and the guests that were seen there."""
    return [
        _nodes(host), _lacking(host), _described(host), _pools(host), _room(host),
        _apart(host, guests), _devices(host, guests),
    ]  # fmt: skip


def _nodes(host: Host) -> Finding:
    count = len(host.nodes)
    if count < 2:
        text = "one node: there is nothing to place; firmware may hide nodes (interleaving)"
        return Finding("one-node", "know", text, "look for node interleaving in the firmware")
    return Finding("one-node", "fine", f"{count} nodes")


def _lacking(host: Host) -> Finding:
    without_cpus = host.node_map - host.nodes_of(host.cpu_map)
    without_memory = NodeMap(node.id for node in host.nodes if node.present_kib == 0)
    if not without_cpus and not without_memory:
        return Finding("lacking-nodes", "fine", "every node has cpus and memory")
    parts = []
    if without_cpus:
        parts.append(f"{without_cpus.named} without cpus (CXL, HBM): memory only if asked for")
    if without_memory:
        parts.append(f"{without_memory.named} without memory: guests there have all of it remote")
    remedy = "homenode topology; populate the memory channels" if without_memory else ""
    return Finding("lacking-nodes", "know", "; ".join(parts), remedy)


def _described(host: Host) -> Finding:
    notes = host.notes
    if not notes:
        return Finding("odd-description", "fine", "distances and cpus are described plausibly")
    more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
    text = f"{notes[0]}{more}: what is near may be told wrongly"
    return Finding("odd-description", "know", text, "homenode topology shows all; update firmware")


def _pools(host: Host) -> Finding | None:
    totals: dict[int, dict[int, int]] = {}
    for node in host.nodes:
        for pool in node.pages:
            if pool.total:
                totals.setdefault(pool.page_kib, {})[node.id] = pool.total
    able = NodeMap(node.id for node in host.nodes if node.present_kib)
    for page_kib, by_node in sorted(totals.items()):
        if len(by_node) == 1 and len(able) > 1:
            ((number, total),) = by_node.items()
            text = (
                f"all {total} huge pages of {format_page(page_kib)} are on node {number}: guests in"
                " them fit there alone"
            )
            each = total // len(able)
            remedy = (
                f"echo {each} >/sys/devices/system/node/nodeN/hugepages/hugepages-{page_kib}kB/"
                f"nr_hugepages, for each of {able.named}"
            )
            return Finding("pool-on-one-node", "mend", text, remedy)
    return Finding("pool-on-one-node", "fine", "no pool of huge pages is on one node alone")


def _room(host: Host) -> Finding:
    over = {
        node.id: (node.committed_kib or 0) - (node.present_kib or 0)
        for node in host.nodes
        if node.committed_kib is not None and node.committed_kib > (node.present_kib or 0)
    }
    if not over:
        return Finding("over-committed", "fine", "no node is promised to more than it holds")
    node, kib = max(over.items(), key=lambda item: item[1])
    text = f"node {node} is promised {format_memory(kib)} more than it has: memory goes elsewhere,"
    text += " or bound guests are killed"
    return Finding("over-committed", "mend", text, "homenode check; move a guest away")


def pinned(host: Host, guests: Sequence[Guest]) -> tuple[str, ...]:
    """Return the names of guests whose vcpus may not run everywhere."""
    every = host.cpu_map
    return tuple(
        guest.name
        for guest in guests
        if not guest.is_control and any(vcpu.hard & every < every for vcpu in guest.vcpus)
    )


def _apart(host: Host, guests: Sequence[Guest]) -> Finding:
    apart = []
    for guest in guests:
        cpus = CpuMap(cpu for vcpu in guest.vcpus for cpu in vcpu.hard & host.cpu_map)
        memory = guest.memory_by_node
        nodes = (
            guest.node_affinity
            if memory is None
            else NodeMap(n for n, k in memory.kib.items() if k)
        )
        if cpus and nodes and not guest.is_control and host.nodes_of(cpus).isdisjoint(nodes):
            apart.append(guest.name)
    if not apart:
        return Finding("guests-apart", "fine", "no guest is kept away from all of its memory")
    text = f"vcpus may not run where the memory is, of {some(apart)}: all of it is remote, for good"
    return Finding("guests-apart", "mend", text, "homenode check tells how to mend each")


def _devices(host: Host, guests: Sequence[Guest]) -> Finding | None:
    at = {device.address: device.node for device in host.devices if device.node is not None}
    remote = [
        f"{guest.name} has {address} of node {at[address]}"
        for guest in guests
        for address in guest.devices
        if address in at and guest.node_affinity and at[address] not in guest.node_affinity
    ]
    if not at or not any(guest.devices for guest in guests):
        return None
    if not remote:
        return Finding("device-remote", "fine", "guests are on the nodes of their devices")
    text = f"{some(remote)}, and its memory elsewhere: what the device reads and writes goes far"
    return Finding("device-remote", "know", text, "homenode affinity GUEST NODE")
