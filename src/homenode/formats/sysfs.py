"""A Linux machine as its kernel describes it: files of ``/sys`` and ``/proc``.

`parse` takes the files as texts by their path below the root (``proc/meminfo``), so that this
machine and a saved tree of another one are read alike. What is read:

- nodes: the directories of ``sys/devices/system/node``; a kernel without them has one node, 0;
- cpus of a node: ``cpulist``, else ``cpumap``; a cpu in two tables counts for the first node;
- distances: as stated, true or not; what is missing or no number is unknown;
- memory: ``meminfo`` of each node. `Node.reclaimable_kib` is what the kernel itself counts as
  available beyond free memory: page cache (``Active(file)`` and ``Inactive(file)``) and
  ``SReclaimable``, each less half of it or the low watermark, whichever is smaller (Linux,
  mm/show_mem.c, si_mem_available()); half, where watermarks are unknown;
- the reservation of a node: the high watermark and the lowmem reserve of each of its zones, from
  ``proc/zoneinfo`` (mm/page_alloc.c, calculate_totalreserve_pages()). So the sum of the usable
  memory of all nodes is about the ``MemAvailable`` of ``/proc/meminfo``;
- huge pages: ``nr_hugepages`` and ``free_hugepages`` of each size;
- cpus: socket, die, core and siblings from ``topology``, the last-level cache (of level 2 or
  more) from ``cache``; minus one is the kernel's "unknown";
- PCI devices: ``numa_node``, and what they are by their ``class``;
- latency and bandwidth: ``access1`` of each node, which is about cpus, else ``access0``, which may
  be about devices too (Documentation/admin-guide/mm/numaperf.rst): from the nodes among its
  initiators to it, in ns and, as ACPI's HMAT has it, in millions of bytes a second; 0 is unknown;
- what a node's memory is, from what says so: NVIDIA's driver, the bus of the ``dax`` device that
  became the node (``ndbus`` is persistent memory, ``cxl`` is CXL; ``hmem`` is only "set apart"),
  the memory tiers, and then bandwidth (`homenode.formats.described.node_kinds`).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from homenode.bitmap import LARGEST_MEMBER, Bitmap, CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats.described import (
    claimed_twice,
    dax_kind,
    device_kind,
    node_kinds,
    number_caches,
    pair_table,
    refuse_too_many,
    thread_in,
    with_consistent_cores,
)
from homenode.formats.doubts import with_doubts
from homenode.host import Cpu, Device, DeviceKind, Host, Node, NodeKind, PagePool, Reservation
from homenode.units import format_memory

NODES = "sys/devices/system/node/"
CPUS = "sys/devices/system/cpu/"
HUGE_PAGES = "sys/kernel/mm/hugepages/"
PCI_DEVICES = "sys/bus/pci/devices/"
MEMORY_TIERS = "sys/devices/virtual/memory_tiering/"
DAX_DEVICES = "sys/bus/dax/devices/"
NVIDIA_GPUS = "proc/driver/nvidia/gpus/"
ACCESSES = ("access1", "access0")
ACCESS_FILES = ("read_latency", "read_bandwidth")

_DRAM_TIER = 4
"""The tier of ordinary memory: MEMTIER_ADISTANCE_DRAM >> MEMTIER_CHUNK_BITS, 576 >> 7 (Linux,
include/linux/memory-tiers.h). Lower numbers are faster, higher ones slower."""

_RESERVED = "watermarks and lowmem reserve, which Linux keeps"
_LARGEST_NUMBER = 2**53 - 1
_Map = TypeVar("_Map", bound=Bitmap)


class _Tree:
    """The files, and the notes about what is odd in them."""

    __slots__ = ("_names", "files", "notes", "source")

    def __init__(self, files: Mapping[str, str], source: str) -> None:
        self.files = files
        self.source = source
        self.notes: list[str] = []
        self._names: dict[str, dict[str, None]] = {}
        paths = set(files)
        while paths:
            parents = set()
            for path in sorted(paths):
                parent, slash, name = path.rpartition("/")
                self._names.setdefault(parent + slash, {})[name] = None
                parents.add(parent)
            paths = parents - {""}

    def names(self, parent: str, prefix: str = "") -> list[str]:
        """Return the names in the folder `parent` that begin with `prefix`."""
        return [name for name in self._names.get(parent, ()) if name.startswith(prefix)]

    def numbered(self, parent: str, prefix: str) -> list[int]:
        """Return the numbers of the names in `parent` that are `prefix` and a number."""
        tails = [name[len(prefix) :] for name in self.names(parent, prefix)]
        numbers = [int(tail) for tail in tails if _is_number(tail) and len(tail) < 6]
        return sorted(number for number in numbers if number <= LARGEST_MEMBER)

    def text(self, path: str) -> str:
        """Return a file without the blanks and NULs around it; empty if it is not there."""
        return self.files.get(path, "").strip(" \t\r\n\0")

    def integer(self, path: str) -> int | None:
        """Return the number in a file; None if it is not there, or minus one."""
        text = self.text(path)
        if not text or text == "-1":
            return None
        if not _is_number(text) or len(text) > 15:
            raise ParseError(f"{path}: not a number: {text!r:.40}", source=self.source)
        return int(text)

    def map(self, kind: type[_Map], *, listed: str = "", mask: str = "") -> _Map | None:
        """Return the map of a list file, else that of a mask file; None if there is neither."""
        found = None
        for path, parse_map in ((listed, kind.parse), (mask, kind.parse_mask)):
            text = self.text(path)
            if text:
                try:
                    return parse_map(text)
                except ParseError as error:
                    raise ParseError(f"{path}: {error.message}", source=self.source) from None
            if path in self.files:
                found = kind()
        return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def parse(files: Mapping[str, str], *, source: str) -> Host:
    """Return the host that the files describe; its notes say what is odd in them.

    Raises `ParseError`, which names the file, for one that is not of its form.
    """
    tree = _Tree(files, source)
    numbers = tree.numbered(NODES, "node")
    refuse_too_many(numbers, source)
    if not numbers and not tree.names(CPUS, "cpu") and "proc/meminfo" not in files:
        hint = f"it should have {NODES} or proc/meminfo"
        raise ParseError("no files of /sys or /proc of a Linux machine", source=source, hint=hint)
    if tree.text("sys/hypervisor/type") == "xen":
        tree.notes.append(
            "this is what a Xen guest (dom0 too) sees of the machine, not the machine: ask xl"
        )
    node_of, cpus = _node_of_cpus(tree, numbers), _cpu_map(tree, numbers)
    if not numbers:
        tree.notes.append("this kernel states no NUMA nodes: all of the machine is node 0")
        node_of = dict.fromkeys(cpus, 0)
    with_cpus = NodeMap(node_of.values())
    latency, bandwidth = _performance(tree, numbers, with_cpus=with_cpus)
    nodes = _nodes(tree, numbers, bandwidth, with_cpus=with_cpus)
    tree.notes += _missing_memory(tree, nodes)
    host = Host(
        cpus=_cpus(tree, cpus, node_of),
        nodes=nodes,
        distances=_distances(tree, numbers) if numbers else None,
        latency_ns=latency,
        bandwidth_mb_s=bandwidth,
        name=tree.text("proc/sys/kernel/hostname")[:64] or "host",
        source=source,
        devices=_devices(tree, NodeMap(numbers or [0])),
        notes=tree.notes,
    )
    return with_doubts(host)


def _node_of_cpus(tree: _Tree, numbers: list[int]) -> dict[int, int]:
    node_of: dict[int, int] = {}
    twice: dict[int, None] = {}
    for node in numbers:
        for cpu in _cpus_of_node(tree, node):
            if cpu in node_of:
                twice[cpu] = None
            node_of.setdefault(cpu, node)
    tree.notes += claimed_twice(twice)
    return node_of


def _cpus_of_node(tree: _Tree, node: int) -> CpuMap:
    folder = f"{NODES}node{node}/"
    return tree.map(CpuMap, listed=folder + "cpulist", mask=folder + "cpumap") or CpuMap()


def _cpu_map(tree: _Tree, numbers: list[int]) -> CpuMap:
    present = tree.map(CpuMap, listed=CPUS + "present") or CpuMap()
    online = tree.map(CpuMap, listed=CPUS + "online") or CpuMap()
    cpus = present | online
    if not cpus:
        cpus = CpuMap(tree.numbered(CPUS, "cpu"))
    for node in numbers:
        cpus |= _cpus_of_node(tree, node)
    return cpus


def _online(tree: _Tree, cpus: CpuMap) -> CpuMap:
    stated = tree.map(CpuMap, listed=CPUS + "online")
    if stated:
        return stated
    return CpuMap(cpu for cpu in cpus if tree.integer(f"{CPUS}cpu{cpu}/online") != 0)


def _cpus(tree: _Tree, cpus: CpuMap, node_of: Mapping[int, int]) -> list[Cpu]:
    online = _online(tree, cpus)
    siblings = {cpu: _siblings(tree, cpu) for cpu in cpus}
    read = [_cpu(tree, cpu, node_of.get(cpu), siblings[cpu]) for cpu in cpus]
    llcs = _llcs(tree, cpus)
    read = [cpu._replace(llc=llcs.get(cpu.id), online=cpu.id in online) for cpu in read]
    return with_consistent_cores(read, siblings, tree.notes)


def _siblings(tree: _Tree, cpu: int) -> CpuMap:
    folder = f"{CPUS}cpu{cpu}/topology/"
    for name in ("thread_siblings", "core_cpus"):  # the older name and the newer
        stated = tree.map(CpuMap, listed=f"{folder}{name}_list", mask=folder + name)
        if stated and cpu in stated:
            return stated
    return CpuMap()


def _cpu(tree: _Tree, cpu: int, node: int | None, siblings: CpuMap) -> Cpu:
    folder = f"{CPUS}cpu{cpu}/topology/"
    return Cpu(
        cpu,
        node,
        core=tree.integer(folder + "core_id"),
        socket=tree.integer(folder + "physical_package_id"),
        thread=thread_in(siblings, cpu),
        die=tree.integer(folder + "die_id"),
    )


def _llcs(tree: _Tree, cpus: CpuMap) -> dict[int, int]:
    """Return the number of the last-level cache of every cpu that states one."""
    first_of = {}
    for cpu in cpus:
        parent = f"{CPUS}cpu{cpu}/cache/"
        levels = {
            tree.integer(f"{parent}index{at}/level") or 0: f"{parent}index{at}/shared_cpu_"
            for at in tree.numbered(parent, "index")
        }
        if max(levels, default=0) >= 2:
            stem = levels[max(levels)]
            shared = tree.map(CpuMap, listed=stem + "list", mask=stem + "map")
            if shared and cpu in shared:
                first_of[cpu] = shared.first
    return number_caches(first_of)


def _nodes(
    tree: _Tree,
    numbers: list[int],
    bandwidth: list[list[int | None]] | None,
    *,
    with_cpus: NodeMap,
) -> list[Node]:
    reserves = _reserves(tree, numbers or [0])
    if not numbers:
        return [_flat_node(tree, reserves.get(0))]
    stated = _stated_kinds(tree, numbers)
    kinds = node_kinds(numbers, stated, with_cpus=with_cpus, bandwidth=bandwidth)
    return [_node(tree, node, reserves.get(node))._replace(kind=kinds[node]) for node in numbers]


def _missing_memory(tree: _Tree, nodes: list[Node]) -> list[str]:
    """Return a note if the nodes are clearly not all of the machine's memory.

    A node may be gone with its cpus; and a kernel that takes up memory only as it is needed counts
    what it has not taken up for the machine and not for the node. Old kernels differ by up to 3 %.
    """
    described = [node.present_kib for node in nodes if node.present_kib is not None]
    machine = _meminfo(tree, "proc/meminfo").get("MemTotal", 0)
    missing = machine - sum(described)
    if len(described) < len(nodes) or missing * 8 < machine or not missing:
        return []
    own = format_memory(sum(described))
    note = f"the nodes that are described have {own} of memory, and the machine has"
    return [f"{note} {format_memory(machine)}"]


def _stated_kinds(tree: _Tree, numbers: list[int]) -> dict[int, NodeKind | None]:
    """Return what the kernel itself calls the memory of a node; the surest word last."""
    kinds: dict[int, NodeKind | None] = {}
    tiers = tree.numbered(MEMORY_TIERS, "memory_tier")
    for tier in tiers:
        if tier <= _DRAM_TIER:  # of what is slower only another source knows what it is
            nodes = tree.map(NodeMap, listed=f"{MEMORY_TIERS}memory_tier{tier}/nodelist")
            kinds |= dict.fromkeys(nodes or (), "dram" if tier == _DRAM_TIER else "hbm")
    for name in tree.names(DAX_DEVICES, "dax"):
        node = tree.integer(f"{DAX_DEVICES}{name}/target_node")
        kind = dax_kind(tree.text(DAX_DEVICES + name))
        if node is not None and kind is not None:
            kinds[node] = kind
    for name in tree.names(NVIDIA_GPUS):
        for line in tree.text(f"{NVIDIA_GPUS}{name}/numa_status").splitlines():
            word, _, value = line.partition(":")
            if word.strip() == "Node" and _is_number(value.strip()) and len(value) < 15:
                kinds[int(value)] = "gpu"
    return {node: kinds.get(node) for node in numbers}


def _performance(
    tree: _Tree, numbers: list[int], *, with_cpus: NodeMap
) -> tuple[list[list[int | None]] | None, list[list[int | None]] | None]:
    """Return latency and bandwidth from the nodes of cpus to each node, None where none is."""
    tables: list[dict[tuple[int, int], int]] = [{}, {}]
    for node in numbers:
        for access in ACCESSES:
            folder = f"{NODES}node{node}/{access}/initiators/"
            initiators = [one for one in tree.numbered(folder, "node") if one in with_cpus]
            for table, name in zip(tables, ACCESS_FILES, strict=True):
                value = tree.integer(folder + name)
                if value:
                    for initiator in initiators:
                        table.setdefault((initiator, node), value)
    latency, bandwidth = (pair_table(numbers, table) for table in tables)
    return latency, bandwidth


def _node(tree: _Tree, node: int, reserve: "_Reserve | None") -> Node:
    folder = f"{NODES}node{node}/"
    memory = _meminfo(tree, folder + "meminfo")
    return _node_of_memory(tree, node, memory, reserve)._replace(
        pages=_huge_pages(tree, folder + "hugepages/")
    )


def _flat_node(tree: _Tree, reserve: "_Reserve | None") -> Node:
    memory = _meminfo(tree, "proc/meminfo")
    return _node_of_memory(tree, 0, memory, reserve)._replace(pages=_huge_pages(tree, HUGE_PAGES))


def _node_of_memory(
    tree: _Tree, node: int, memory: Mapping[str, int], reserve: "_Reserve | None"
) -> Node:
    present, free = memory.get("MemTotal"), memory.get("MemFree")
    if present is not None and free is not None and free > present:
        tree.notes.append(f"node {node} states more free memory than it has")
        free = present
    return Node(
        node,
        present_kib=present,
        free_kib=free,
        reclaimable_kib=_reclaimable_kib(memory, reserve),
        reserved=(Reservation(reserve.kib, _RESERVED),) if reserve and reserve.kib else (),
    )


def _reclaimable_kib(memory: Mapping[str, int], reserve: "_Reserve | None") -> int | None:
    if "Active(file)" not in memory or "Inactive(file)" not in memory:
        return None
    cache = memory["Active(file)"] + memory["Inactive(file)"]
    slab = memory.get("SReclaimable", 0)
    low = None if reserve is None else reserve.low_kib
    return sum(part - (part // 2 if low is None else min(part // 2, low)) for part in (cache, slab))


def _meminfo(tree: _Tree, path: str) -> dict[str, int]:
    """Read ``Node 0 MemTotal:  8192 kB`` and ``MemTotal:  8192 kB``: KiB by name."""
    values = {}
    for line, text in enumerate(tree.text(path).splitlines(), start=1):
        name, colon, value = text.partition(":")
        words = value.split()
        if not colon or not words or words[1:] != ["kB"]:
            continue
        if not _is_number(words[0]) or len(words[0]) > 15:
            raise ParseError(
                f"{path}: line {line}: not an amount of memory: {text!r:.60}", source=tree.source
            )
        values[name.split()[-1] if name.split() else ""] = int(words[0])
    return values


def _huge_pages(tree: _Tree, parent: str) -> tuple[PagePool, ...]:
    pools = []
    for name in tree.names(parent, "hugepages-"):
        size = name.removeprefix("hugepages-").removesuffix("kB")
        total = tree.integer(f"{parent}{name}/nr_hugepages")
        free = tree.integer(f"{parent}{name}/free_hugepages")
        if _is_number(size) and len(size) < 15 and total is not None and free is not None:
            pools.append(PagePool(int(size), total, free))
    return tuple(sorted(pools))


class _Reserve(NamedTuple):
    """What the kernel keeps of a node, and the sum of the low watermarks of its zones."""

    kib: int
    low_kib: int


class _Zone(NamedTuple):
    """A zone of ``/proc/zoneinfo``, in pages."""

    node: int
    low: int
    high: int
    managed: int
    protection: int


def _reserves(tree: _Tree, numbers: list[int]) -> dict[int, _Reserve]:
    zones = list(_zones(tree.text("proc/zoneinfo")))
    paths = [f"{NODES}node{node}/meminfo" for node in numbers]
    memory = sum(_meminfo(tree, path).get("MemTotal", 0) for path in paths)
    memory = memory or _meminfo(tree, "proc/meminfo").get("MemTotal", 0)
    page_kib = _page_kib(memory, sum(zone.managed for zone in zones))
    reserves: dict[int, _Reserve] = {}
    for zone in zones:
        kept = min(zone.managed, zone.high + zone.protection) * page_kib
        kib, low_kib = reserves.get(zone.node, _Reserve(0, 0))
        reserves[zone.node] = _Reserve(kib + kept, low_kib + zone.low * page_kib)
    return reserves


def _page_kib(memory_kib: int, pages: int) -> int:
    """Return the page size, which no file states: 16 or 64 where that makes the memory, else 4."""
    for size in (16, 64):
        if abs(size * pages - memory_kib) * 10 < memory_kib:
            return size
    return 4


def _zones(text: str) -> Iterator[_Zone]:
    zone = None
    for line in text.splitlines():
        words = line.replace(",", " ").replace("(", " ").replace(")", " ").split()
        if words[:1] == ["Node"] and words[2:3] == ["zone"] and _is_number(words[1]):
            if zone:
                yield zone
            zone = _Zone(min(int(words[1][:6]), LARGEST_MEMBER), 0, 0, 0, 0)
        elif zone and len(words) > 1 and all(_is_number(word) for word in words[1:]):
            largest = min(max(int(word[:16]) for word in words[1:]), _LARGEST_NUMBER)
            # The same words with a colon are those of the per-cpu page lists.
            if words[0] in ("low", "high", "managed"):
                zone = zone._replace(**{words[0]: largest})
            elif words[0] == "protection:":
                zone = zone._replace(protection=largest)
    if zone:
        yield zone


def _distances(tree: _Tree, numbers: list[int]) -> list[list[int | None]]:
    matrix = []
    lengths = {}
    for node in numbers:
        words = tree.text(f"{NODES}node{node}/distance").split()
        row = [int(word) if _is_number(word) and len(word) < 10 else None for word in words]
        columns = _columns(tree, numbers, len(row))
        lengths[node] = len(row)
        if len(row) == len(numbers) and None in row:
            tree.notes.append(f"a distance of node {node} is no number: {' '.join(words):.60}")
        stated = dict(zip(columns, row, strict=False))
        matrix.append([stated.get(other) for other in numbers])
    tree.notes += _wrong_lengths(lengths, len(numbers))
    return matrix


def _wrong_lengths(lengths: Mapping[int, int], right: int) -> list[str]:
    nodes_by_length: dict[int, list[int]] = {}
    for node, length in lengths.items():
        if length != right:
            nodes_by_length.setdefault(length, []).append(node)
    for_nodes = f"for {right} node{'s' * (right != 1)}"
    return [
        f"{NodeMap(nodes).named} state{'s' * (len(nodes) == 1)} {length} distances {for_nodes}"
        for length, nodes in sorted(nodes_by_length.items())
    ]


def _columns(tree: _Tree, numbers: list[int], length: int) -> list[int]:
    """Return the nodes that the columns of a row of that many distances stand for.

    The kernel writes a column for each online node (drivers/base/node.c, node_read_distance()).
    """
    if length <= len(numbers):
        return numbers
    for name in ("online", "has_memory", "possible"):
        stated = tree.map(NodeMap, listed=NODES + name)
        if stated and len(stated) == length:
            return list(stated)
    return []


def _devices(tree: _Tree, node_map: NodeMap) -> list[Device]:
    devices: list[Device] = []
    elsewhere: dict[int, None] = {}
    for address in sorted(tree.names(PCI_DEVICES)):
        node = tree.integer(f"{PCI_DEVICES}{address}/numa_node")
        if node is not None and node not in node_map:
            elsewhere[node] = None
            node = None
        devices.append(Device(address, node, _device_kind(tree, address)))
    for node in elsewhere:
        tree.notes.append(f"devices are stated to hang on node {node}, which is not described")
    return devices


def _device_kind(tree: _Tree, address: str) -> DeviceKind | None:
    """Return what a device is by its class, subclass and interface: ``0x020000``."""
    digits = tree.text(f"{PCI_DEVICES}{address}/class").removeprefix("0x")
    try:
        return device_kind(int(digits, 16) >> 8) if len(digits) == 6 else None
    except ValueError:
        return None
