"""Sentences about a host that both pictures say."""

from collections.abc import Sequence

from homenode.bitmap import CpuMap, NodeMap
from homenode.drawing import name_text, printable
from homenode.drawing.devices import DeviceGroup, count_words
from homenode.drawing.hierarchy import (
    Nearness,
    Package,
    cpus_of_packages,
    nearness_words,
    nodes_words,
)
from homenode.drawing.memory import page_sums, sum_known, tiers
from homenode.guest import Guest
from homenode.host import Host, Node, NodeKind
from homenode.units import format_memory, format_page


def plural(count: int, noun: str) -> str:
    """Return ``1 node``, ``2 nodes``."""
    return f"{count} {noun}" + "s" * (count != 1)


def host_words(host: Host) -> str:
    """Return what runs the host, how many nodes, cores and cpus it has, and how much memory."""
    cpus, cores = len(host.cpu_map), len(host.cores)
    offline = sum(not cpu.online for cpu in host.cpus)
    free = format_memory(sum_known([node.free_kib for node in host.nodes]))
    present = format_memory(sum_known([node.present_kib for node in host.nodes]))
    facts = [
        printable(host.hypervisor or ""),
        plural(len(host.nodes), "node"),
        f"{plural(cores, 'core')}, {plural(cpus, 'cpu')}" if cores != cpus else plural(cpus, "cpu"),
        f"{offline} offline" if offline else "",
        f"{free} free of {present}",
    ]
    return ", ".join(fact for fact in facts if fact)


def tier_word(kind: NodeKind | None) -> str:
    """Return the word for a kind of memory."""
    return "kind ?" if kind is None else kind


def tiers_words(host: Host) -> str:
    """Return how much memory of each kind there is; empty if it is all ordinary."""
    found = tiers(host)
    if [tier.kind for tier in found] in ([], ["dram"]):
        return ""
    return "; ".join(
        f"{'of unknown kind' if tier.kind is None else tier.kind} "
        f"{format_memory(tier.present_kib)} on {nodes_words(tier.nodes)}"
        for tier in found
    )


def cpu_words(host: Host, node: Node, packages: Sequence[Package]) -> list[str]:
    """Return what there is to say of a node's cpus, if it has any."""
    cpus = cpus_of_packages(packages)
    offline = CpuMap(cpu.id for cpu in host.cpus if cpu.node == node.id and not cpu.online)
    if not cpus:
        return [f"no cpu online of {offline}" if offline else "no cpus"]
    cores = sum(len(cache.cores) for package in packages for cache in package.caches)
    words = [f"cpus {cpus}"]
    if cores != len(cpus):
        words.append(plural(cores, "core"))
    if offline:
        words.append(f"offline {offline}")
    if len(packages) == 1 and packages[0].label:
        words.append(packages[0].label)
    return words


def place_words(host: Host, node: Node, nearest: dict[int, Nearness]) -> str:
    """Return where a node without cpus is; empty for one with cpus."""
    if node.id not in nearest:
        return ""
    return nearness_words(host, nearest[node.id]) or "nearest node unknown"


def memory_words(node: Node) -> list[str]:
    """Return the amounts of a node's memory, the pools of huge pages left out."""
    if node.present_kib == 0:
        return ["no memory"]
    words = [f"{format_memory(node.free_kib)} free of {format_memory(node.present_kib)}"]
    if node.reclaimable_kib:
        words.append(f"{format_memory(node.reclaimable_kib)} reclaimable")
    if node.reserved_kib:
        words.append(f"{format_memory(node.reserved_kib)} not for guests")
    if node.committed_kib is not None:
        words.append(f"{format_memory(node.committed_kib)} committed")
    if node.usable_kib != node.free_kib:
        words.append(f"{format_memory(node.usable_kib)} usable")
    return words


def page_words(node: Node) -> list[str]:
    """Return the huge pages of a node; pools without a page are left out."""
    return [
        f"{_count(pool.free)} of {pool.total} pages of {format_page(pool.page_kib)} free"
        for pool in node.pages
        if pool.total
    ]


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def device_words(group: DeviceGroup) -> tuple[str, list[str]]:
    """Return how many devices of what kind, and their addresses with how many are left out."""
    count = len(group.addresses)
    noun = plural(count, "device")
    head = f"{noun} of unknown kind" if group.kind is None else count_words([group])
    addresses = [name_text(address) for address in group.shown]
    if group.hidden:
        addresses.append(f"{group.hidden} more")
    return head, addresses


def host_sentences(host: Host, guests: Sequence[Guest]) -> list[str]:
    """Return what is to be said below the nodes, one sentence a line."""
    lines = []
    reasons = {kept.reason: None for node in host.nodes for kept in node.reserved if kept.kib}
    lines += [f"not for guests: {printable(reason)}" for reason in reasons]
    for pages in page_sums(host) if len(host.nodes) > 1 else ():
        lines.append(
            f"pages of {format_page(pages.page_kib)}: {_count(pages.free)} of {pages.total} free, "
            f"on {nodes_words(pages.nodes)}"
        )
    for pool in host.pools:
        scheduler = f", {printable(pool.scheduler)}" if pool.scheduler else ""
        lines.append(f"cpupool {printable(pool.name)}: cpus {str(pool.cpus) or 'none'}{scheduler}")
    lost = CpuMap(cpu.id for cpu in host.cpus if cpu.node is None)
    if lost:
        lines.append(f"on no node that is described: cpus {lost}")
    nowhere = [
        name_text(guest.name)
        for guest in guests
        if guest.memory_by_node is None and guest.node_affinity is None
    ]
    if nowhere:
        lines.append(f"where nobody says: {', '.join(nowhere)}")
    return lines


def label_text(nodes: NodeMap, longest: int) -> str:
    """Return the numbers of nodes, or where they are too long, the first with an ellipsis."""
    words = str(nodes)
    return words if len(words) <= longest else f"{next(iter(nodes))}…"
