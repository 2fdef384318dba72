"""A machine as hwloc describes it: XML of versions 2 and 3 (``lstopo --of xml``).

Objects lie in one another as the parts of the machine do. What is read:

- nodes: ``NUMANode``, which lies beside the parts whose memory it is, not around them. Several may
  be near the same cpus (DRAM and HBM): then the cpus are of the one that is ordinary memory, else
  the nearest, else the first, and the others are nodes of memory alone;
- cpus: ``PU`` by ``os_index``; socket, die and core are the ``Package``, ``Die`` and ``Core``
  around it, the last-level cache the largest of level 2 or more around it (a memory-side cache
  is none). Cpus of ``complete_cpuset`` that have no place in ``cpuset`` are offline, or were not
  allowed to who ran lstopo; hwloc does not tell these apart;
- memory: ``local_memory`` (bytes) and the pools of huge pages from ``page_type``; which hwloc
  leaves out where it is 0, so what is not there is unknown. How much is free it never tells;
- distances: the first ``distances2`` of nodes whose kind has the bit for latency, from row to
  column (hwloc/distances.h, HWLOC_DISTANCES_KIND_MEANS_LATENCY);
- latency in ns and bandwidth: ``memattr`` of reading, else of all accesses, from the cpus that are
  named to the node. hwloc calls it MiB a second, but hands on the kernel's number as it is (seen
  on one machine read both ways), which is in millions of bytes; so does this;
- kinds: ``subtype`` and what the node says about its DAX device;
- PCI devices: the node of the first object around them that has exactly one with cpus.

Sets are masks in words of 32 bits, highest first; an empty word is 0, and ``0xf...f`` at the
beginning stands for all bits above (hwloc/bitmap.c, hwloc_bitmap_sscanf()).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.etree.ElementTree import Element  # only its type; homenode.formats.xml_tree reads

from homenode.bitmap import LARGEST_MEMBER, CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats import xml_tree
from homenode.formats.described import (
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
from homenode.formats.table import LARGEST_NUMBER
from homenode.host import Cpu, Device, Host, Node, NodeKind, PagePool

ROOT = "topology"
VERSIONS = ("2", "3")

_LATENCY = 4
_INFINITE = "0xf...f"
_HEX = frozenset("0123456789abcdefABCDEF")
_MOST_INITIATORS = 4096
_ALL = (1 << LARGEST_MEMBER + 1) - 1
_CACHES = {f"L{level}Cache": level for level in range(2, 6)}
_HINT = "write it again with hwloc 2 or 3: lstopo --of xml FILE"
_KINDS: tuple[tuple[str, NodeKind], ...] = (
    ("CXL", "cxl"),  # also CXL-DRAM, CXL-HBM, CXL-NVM: how far away it is matters most
    ("DRAM", "dram"),
    ("HBM", "hbm"),
    ("MCDRAM", "hbm"),
    ("NVM", "pmem"),
    ("GPUMemory", "gpu"),
)


class _Memory(NamedTuple):
    """A NUMANode: its cpus (bits) are those it is near to."""

    id: int
    gp_index: str | None
    cpus: int
    all_cpus: int
    kind: NodeKind | None
    node: Node


class _Place(NamedTuple):
    """What lies around an object."""

    socket: Element | None = None
    die: Element | None = None
    core: Element | None = None
    cache: Element | None = None
    around: Element | None = None
    """The nearest object around it that has a set of nodes."""


class _Reader:
    """The objects of a document by their kind, and where they are."""

    def __init__(self, root: Element, source: str) -> None:
        self.root = root
        self.source = source
        self.notes: list[str] = []
        self.memories: list[_Memory] = []
        self.cpus: dict[int, _Place] = {}
        self.devices: list[tuple[Element, _Place]] = []
        self._masks: dict[str, int] = {"": 0}
        for element, place in self._objects(root):
            kind = element.get("type")
            if kind == "NUMANode":
                self.memories.append(self._memory(element))
                refuse_too_many(self.memories, source)
            elif kind == "PU":
                cpu = self.number(element, "os_index", most=LARGEST_MEMBER)
                if cpu in self.cpus:
                    raise self.error(f"describes cpu {cpu} twice")
                self.cpus[cpu] = place
            elif kind == "PCIDev":
                self.devices.append((element, place))
        self.memories.sort(key=lambda memory: memory.id)
        for one, other in pairwise(self.memories):
            if one.id == other.id:
                raise self.error(f"describes node {one.id} twice")

    def error(self, message: str) -> ParseError:
        """Return a refusal of this document."""
        return ParseError(message, source=self.source)

    def _objects(self, root: Element) -> Iterator[tuple[Element, _Place]]:
        left = [(child, _Place()) for child in root if child.tag == "object"][::-1]
        while left:
            element, place = left.pop()
            yield element, place
            within = self._within(element, place)
            left += [(child, within) for child in element if child.tag == "object"][::-1]

    def _within(self, element: Element, place: _Place) -> _Place:
        kind = element.get("type", "")
        if element.get("nodeset"):
            place = place._replace(around=element)
        if kind == "Package":
            return place._replace(socket=element)
        if kind == "Die":
            return place._replace(die=element)
        if kind == "Core":
            return place._replace(core=element)
        if kind in _CACHES and element.get("subtype") != "MemorySideCache":
            around = place.cache
            if around is None or _CACHES[kind] > _CACHES[around.get("type", "")]:
                return place._replace(cache=element)
        return place

    def _memory(self, element: Element) -> _Memory:
        node = self.number(element, "os_index", most=LARGEST_MEMBER)
        memory = element.get("local_memory")
        return _Memory(
            node,
            element.get("gp_index"),
            self.mask(element, "cpuset"),
            self.mask(element, "complete_cpuset"),
            _stated_kind(element),
            Node(
                node,
                present_kib=None if memory is None else self.number(element, "local_memory") >> 10,
                pages=self._pages(element),
            ),
        )

    def _pages(self, element: Element) -> tuple[PagePool, ...]:
        count = {
            self.number(page, "size") >> 10: self.number(page, "count")
            for page in element.findall("page_type")
        }
        # The smallest are the ordinary ones: also where there are pools of 64 KiB pages.
        return tuple(
            PagePool(kib, total, None if total else 0)
            for kib, total in sorted(count.items())
            if kib > min(count)
        )

    def number(self, element: Element, name: str, *, most: int = LARGEST_NUMBER) -> int:
        """Return an attribute as a number; raises `ParseError` if it is not there, or is none."""
        text = element.get(name, "")
        what = f"{element.get('type') or element.tag}: {name}"
        if not text.isascii() or not text.isdecimal() or len(text) > 20:
            raise self.error(f"{what} is no number: {text!r:.40}")
        if int(text) > most:
            raise self.error(f"{what} is more than {most}: {text}")
        return int(text)

    def maybe_index(self, element: Element | None) -> int | None:
        """Return the number that the system gives an object; None if it gives none."""
        if element is None or element.get("os_index") is None:
            return None
        number = self.number(element, "os_index")
        return None if number == 2**32 - 1 else number  # HWLOC_UNKNOWN_INDEX

    def mask(self, element: Element, name: str) -> int:
        """Return an attribute that is a set, as bits; 0 if it is not there."""
        text = element.get(name, "")
        if text not in self._masks:
            bits = self._read_mask(text)
            if bits is None:
                raise self.error(f"{element.get('type')}: {name} is no set: {text!r:.40}")
            self._masks[text] = bits
        return self._masks[text]

    def _read_mask(self, text: str) -> int | None:
        words = text.split(",")
        endless = words[0] == _INFINITE
        if endless:
            words = words[1:]
        if len(words) * 32 > LARGEST_MEMBER + 1:
            return None
        digits = "".join(word.removeprefix("0x").rjust(8, "0") for word in words)
        if len(digits) != len(words) * 8 or not _HEX.issuperset(digits):
            return None
        bits = int(digits or "0", 16)
        return bits | (_ALL ^ ((1 << 32 * len(words)) - 1)) if endless else bits

    def offline(self) -> CpuMap:
        """Return the cpus that the machine has beside those in the tree."""
        machine = next((one for one in self.root if one.tag == "object"), None)
        if machine is None:
            return CpuMap()
        complete = self.mask(machine, "complete_cpuset")
        if complete >> LARGEST_MEMBER:  # "all there are" tells nothing
            return CpuMap()
        return CpuMap.from_bits(complete & ~self.mask(machine, "cpuset")) - CpuMap(self.cpus)


def parse(text: str, *, source: str) -> Host:
    """Return the host that `text` describes; its notes say what is odd in it.

    Raises `ParseError` for what is no such document, and for other versions of it.
    """
    return parse_root(xml_tree.parse(text, source=source), source=source)


def parse_root(root: Element, *, source: str) -> Host:
    """Return the host that a document describes which is read already; see `parse`."""
    if root.tag != ROOT:
        raise ParseError(f"is no hwloc XML, but <{root.tag:.40}>", source=source)
    version = root.get("version", "1")
    if version.partition(".")[0] not in VERSIONS:
        message = f"is hwloc XML of version {version:.10}, which is not read"
        raise ParseError(message, source=source, hint=_HINT)
    reader = _Reader(root, source)
    if not reader.memories:
        raise ParseError("describes no node (NUMANode)", source=source, hint=_HINT)
    node_of = _homes(reader)
    numbers = [memory.id for memory in reader.memories]
    own = _cpus_by_node(numbers, node_of, reader)
    latency, bandwidth = _performance(reader, numbers, own)
    kinds = node_kinds(
        numbers,
        {memory.id: memory.kind for memory in reader.memories},
        with_cpus=NodeMap(node_of.values()),
        bandwidth=bandwidth,
    )
    host = Host(
        cpus=_cpus(reader, node_of),
        nodes=[memory.node._replace(kind=kinds[memory.id]) for memory in reader.memories],
        distances=_distances(reader, numbers),
        latency_ns=latency,
        bandwidth_mb_s=bandwidth,
        name=_host_name(root),
        source=source,
        devices=_devices(reader, own),
        notes=reader.notes,
    )
    return with_doubts(host)


def _stated_kind(element: Element) -> NodeKind | None:
    subtype = element.get("subtype", "")
    for begin, kind in _KINDS:
        if subtype.startswith(begin):
            return kind
    infos = {info.get("name"): info.get("value", "") for info in element.findall("info")}
    if infos.get("DAXType") == "NVM":
        return "pmem"
    return dax_kind(infos.get("DAXParent", ""))


def _host_name(root: Element) -> str:
    for info in root.iter("info"):
        if info.get("name") == "HostName":
            return info.get("value", "")[:64] or "host"
    return "host"


def _homes(reader: _Reader) -> dict[int, int]:
    """Return the node of every cpu, offline ones too: see the top of this module."""
    ranked = sorted(
        reader.memories,
        key=lambda memory: (
            memory.kind not in (None, "dram"),
            (memory.cpus | memory.all_cpus).bit_count(),
            memory.id,
        ),
    )
    left = CpuMap(reader.cpus).bits | reader.offline().bits
    node_of: dict[int, int] = {}
    for memory in ranked:
        own = (memory.cpus | memory.all_cpus) & left
        left ^= own
        node_of.update(dict.fromkeys(CpuMap.from_bits(own), memory.id))
    return node_of


def _cpus_by_node(
    numbers: Sequence[int], node_of: Mapping[int, int], reader: _Reader
) -> dict[int, int]:
    """Return the online cpus of every node, as bits."""
    own = dict.fromkeys(numbers, 0)
    for cpu in reader.cpus:
        if cpu in node_of:
            own[node_of[cpu]] |= 1 << cpu
    return own


def _cpus(reader: _Reader, node_of: Mapping[int, int]) -> list[Cpu]:
    siblings, llcs = _core_siblings(reader), _llcs(reader)
    numbers = {cpu: reader.maybe_index(place.core) for cpu, place in reader.cpus.items()}
    if any(number is None and siblings[cpu] for cpu, number in numbers.items()):
        numbers = {cpu: own.first if own else None for cpu, own in siblings.items()}
    read = [
        Cpu(
            cpu,
            node_of.get(cpu),
            core=numbers[cpu],
            socket=reader.maybe_index(place.socket),
            thread=thread_in(siblings[cpu], cpu),
            die=reader.maybe_index(place.die),
            llc=llcs.get(cpu),
        )
        for cpu, place in reader.cpus.items()
    ]
    offline = reader.offline()
    if offline:
        reader.notes.append(f"cpus {offline} are offline, or were not allowed to who ran lstopo")
    return [
        *with_consistent_cores(read, siblings, reader.notes),
        *(Cpu(cpu, node_of.get(cpu), online=False) for cpu in offline),
    ]


def _core_siblings(reader: _Reader) -> dict[int, CpuMap]:
    """Return the cpus of every cpu's core, none where there is no core around it."""
    bits: dict[int, int] = {}
    for cpu, place in reader.cpus.items():
        bits[id(place.core)] = bits.get(id(place.core), 0) | 1 << cpu
    return {
        cpu: CpuMap.from_bits(bits[id(place.core)]) if place.core is not None else CpuMap()
        for cpu, place in reader.cpus.items()
    }


def _llcs(reader: _Reader) -> dict[int, int]:
    """Return the number of the last-level cache of every cpu that has one around it."""
    first: dict[int, int] = {}
    cached = [(cpu, place.cache) for cpu, place in reader.cpus.items() if place.cache is not None]
    for cpu, cache in cached:
        first[id(cache)] = min(cpu, first.get(id(cache), cpu))
    return number_caches({cpu: first[id(cache)] for cpu, cache in cached})


def _distances(reader: _Reader, numbers: Sequence[int]) -> list[list[int | None]] | None:
    for element in reader.root:
        if element.tag != "distances2" or element.get("type") != "NUMANode":
            continue
        is_of_nodes = element.get("name", "NUMALatency") == "NUMALatency"
        if is_of_nodes and reader.number(element, "kind") & _LATENCY:
            return _distance_table(reader, element, numbers)
    return None


def _distance_table(
    reader: _Reader, element: Element, numbers: Sequence[int]
) -> list[list[int | None]]:
    indexes = _numbers(reader, element, "indexes")
    values = _numbers(reader, element, "u64values")
    size = len(indexes)
    if size != reader.number(element, "nbobjs") or len(values) != size * size:
        raise reader.error(f"distances2: {len(values)} distances of {size} nodes are no table")
    if element.get("indexing") == "gp":
        by_index = {memory.gp_index: memory.id for memory in reader.memories}
        ids = [by_index.get(str(index)) for index in indexes]
    else:
        ids = list(indexes)
    at = {node: place for place, node in enumerate(ids)}
    return [
        [
            values[at[row] * size + at[column]] if row in at and column in at else None
            for column in numbers
        ]
        for row in numbers
    ]


def _numbers(reader: _Reader, element: Element, tag: str) -> list[int]:
    words = [word for part in element.iter(tag) for word in (part.text or "").split()]
    for word in words:
        if not word.isascii() or not word.isdecimal() or len(word) > 15:
            raise reader.error(f"distances2: {tag}: no number: {word!r:.40}")
    return [int(word) for word in words]


def _performance(
    reader: _Reader, numbers: Sequence[int], own: Mapping[int, int]
) -> tuple[list[list[int | None]] | None, list[list[int | None]] | None]:
    """Return latency and bandwidth from the nodes of cpus to each node, None where none is."""
    node_of_index = {memory.gp_index: memory.id for memory in reader.memories}
    tables: dict[str, dict[tuple[int, int], int]] = {}
    readers = _Initiators(reader, own)
    for attribute in reader.root:
        name = attribute.get("name", "")
        if attribute.tag != "memattr" or name in tables:
            continue
        if not name.endswith(("Latency", "Bandwidth")):
            continue
        table = tables.setdefault(name, {})
        for value in attribute.iter("memattr_value"):
            node = node_of_index.get(value.get("target_obj_gp_index"))
            if node is not None and (stated := reader.number(value, "value")):
                for initiator in readers.of(value):
                    table.setdefault((initiator, node), stated)
    latency, bandwidth = (
        pair_table(numbers, tables.get(f"Read{what}") or tables.get(what) or {})
        for what in ("Latency", "Bandwidth")
    )
    return latency, bandwidth


class _Initiators:
    """The nodes whose cpus a value of an attribute is about."""

    def __init__(self, reader: _Reader, own: Mapping[int, int]) -> None:
        self._reader = reader
        self._own = own
        self._nodes: dict[int, list[int]] = {}
        self._sets: dict[str | None, Element] | None = None

    def of(self, value: Element) -> list[int]:
        """Return the nodes that are part of the initiator, or have it as a part."""
        cpus = self._reader.mask(value, "initiator_cpuset") or self._set_of_object(value)
        if cpus not in self._nodes:
            if len(self._nodes) > _MOST_INITIATORS:
                raise self._reader.error(f"memattr: more than {_MOST_INITIATORS} initiators")
            self._nodes[cpus] = [
                node for node, own in self._own.items() if own and own & cpus in (own, cpus)
            ]
        return self._nodes[cpus]

    def _set_of_object(self, value: Element) -> int:
        index = value.get("initiator_obj_gp_index")
        if index is None:
            return 0
        if self._sets is None:
            self._sets = {one.get("gp_index"): one for one in self._reader.root.iter("object")}
        named = self._sets.get(index)
        return 0 if named is None else self._reader.mask(named, "cpuset")


def _devices(reader: _Reader, own: Mapping[int, int]) -> list[Device]:
    devices = []
    described = NodeMap(own)
    for element, place in reader.devices:
        nodes = 0 if place.around is None else reader.mask(place.around, "nodeset")
        near = NodeMap.from_bits(nodes) & described
        with_cpus = [node for node in near if own[node]] or list(near)
        node = with_cpus[0] if len(with_cpus) == 1 else None
        digits = element.get("pci_type", "")[:4]
        is_class = len(digits) == 4 and _HEX.issuperset(digits)
        kind = device_kind(int(digits, 16)) if is_class else None
        devices.append(Device(element.get("pci_busid", "")[:64] or "unknown", node, kind))
    return sorted(devices, key=lambda device: device.address)
