"""What every reader of hosts does with what it read: what follows from it.

A source says which cpus share a core, how fast memory is, how far nodes are from each other. What
that means is one thing, whether a kernel, hwloc or libvirt said it.
"""

from collections.abc import Iterable, Mapping, Sequence, Sized

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.host import Cpu, DeviceKind, NodeKind

MOST_NODES = 1024
"""Linux's own bound: NODES_SHIFT is at most 10. Tables are this number squared."""

FASTER_THAN_DRAM = 2
"""Memory that moves this many times the data of a node's own memory is high-bandwidth memory.

HBM beside DDR moves three times as much and more (Xeon Max and Xeon Phi four times); two nodes
of DDR differ by how many channels are filled, hardly ever by a factor of two.
"""

Table = Sequence[Sequence[int | None]]

_UNRENUMBERED = "core_id does not tell cores apart: cores are numbered by their first cpu"


def refuse_too_many(nodes: Sized, source: str) -> None:
    """Raise `ParseError` for more nodes than any kernel has."""
    if len(nodes) > MOST_NODES:
        raise ParseError(f"describes more than {MOST_NODES} nodes", source=source)


def claimed_twice(cpus: Iterable[int]) -> list[str]:
    """Return the note about cpus that more than one node claims; none without such cpus."""
    found = CpuMap(cpus)
    if not found:
        return []
    return [f"more than one node claims cpus {found}: each counts for the first that does"]


def pair_table(
    nodes: Sequence[int], pairs: Mapping[tuple[int, int], int]
) -> list[list[int | None]] | None:
    """Return the table with a row for each node, None where no pair is stated at all.

    The keys of `pairs` are (the node whose cpus read, the node that is read).
    """
    if not pairs:
        return None
    return [[pairs.get((reader, read)) for read in nodes] for reader in nodes]


def with_consistent_cores(
    cpus: Sequence[Cpu], siblings: Mapping[int, CpuMap], notes: list[str]
) -> list[Cpu]:
    """Renumber the cores by their first cpus where their numbers are not what `siblings` say.

    `siblings` are the cpus of a cpu's core, itself included, by its number; empty is unknown.
    """
    groups: dict[object, int] = {}
    for cpu in cpus:
        key = (cpu.node, cpu.socket, cpu.die, cpu.core)
        groups[key] = groups.get(key, 0) | 1 << cpu.id
    for cpu in cpus:
        group = groups[cpu.node, cpu.socket, cpu.die, cpu.core]
        if siblings[cpu.id] and cpu.core is not None and group != siblings[cpu.id].bits:
            break
    else:
        return list(cpus)
    notes.append(_UNRENUMBERED)
    return [
        cpu._replace(core=siblings[cpu.id].first if siblings[cpu.id] else cpu.id) for cpu in cpus
    ]


def thread_in(siblings: CpuMap, cpu: int) -> int | None:
    """Return which thread of its core a cpu is; None where its siblings are not known."""
    # Counted in bits: a core of all the cpus that there can be is no core, and no reason to wait.
    return (siblings.bits & ((1 << cpu) - 1)).bit_count() if cpu in siblings else None


def number_caches(first_of: Mapping[int, int]) -> dict[int, int]:
    """Return the number of every cpu's last-level cache, from the first cpu that shares it."""
    number_of = {first: number for number, first in enumerate(sorted(set(first_of.values())))}
    return {cpu: number_of[first] for cpu, first in first_of.items()}


def node_kinds(
    nodes: Sequence[int],
    stated: Mapping[int, NodeKind | None],
    *,
    with_cpus: NodeMap,
    bandwidth: Table | None,
) -> dict[int, NodeKind | None]:
    """Return what the memory of every node is, None where nothing tells.

    What the source itself says comes first. Else a node is high-bandwidth memory if the cpus that
    read it get `FASTER_THAN_DRAM` times what they get from their own node. Else a node with cpus
    is ordinary memory, which every processor has, and of one without nothing is known.
    """
    at = {node: index for index, node in enumerate(nodes)}
    kinds: dict[int, NodeKind | None] = {}
    for node in nodes:
        kinds[node] = stated.get(node)
        if kinds[node] is None and bandwidth is not None and _is_faster(bandwidth, at[node]):
            kinds[node] = "hbm"
        elif kinds[node] is None and node in with_cpus:
            kinds[node] = "dram"
    return kinds


def dax_kind(path: str) -> NodeKind | None:
    """Return what memory is by the buses on the path of its device (drivers/dax)."""
    for part in path.split("/"):
        if part.startswith("ndbus"):  # drivers/nvdimm/bus.c
            return "pmem"
        if part.startswith(("ACPI0017", "cxl", "dax_region")):  # drivers/cxl/core/region.c
            return "cxl"
    return None


def _is_faster(bandwidth: Table, read: int) -> bool:
    for reader, row in enumerate(bandwidth):
        own, there = row[reader], row[read]
        if reader != read and own and there and there >= FASTER_THAN_DRAM * own:
            return True
    return False


# PCI Code and ID Assignment Specification: classes that stand for themselves, then base classes.
_DEVICE_KINDS: dict[int, DeviceKind] = {
    0x0302: "accelerator",  # a 3D controller: a graphics card that has no screen
    0x0B40: "accelerator",  # a co-processor
    0x0C06: "network",  # InfiniBand, as a serial bus
}
_BASE_KINDS: dict[int, DeviceKind] = {
    0x01: "storage",
    0x02: "network",
    0x03: "display",
    0x06: "chipset",  # bridges
    0x08: "chipset",  # interrupt controllers, timers, IOMMUs
    0x0B: "chipset",  # processors
    0x0C: "chipset",  # USB, SMBus and other buses
    0x11: "chipset",  # counters of the processor's own
    0x12: "accelerator",
}


def device_kind(pci_class: int) -> DeviceKind:
    """Return what a device is for by its class and subclass (``0x0200``)."""
    return _DEVICE_KINDS.get(pci_class) or _BASE_KINDS.get(pci_class >> 8, "other")
