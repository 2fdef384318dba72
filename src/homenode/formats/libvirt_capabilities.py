"""A machine as libvirt describes it: ``virsh capabilities``, and what is free of it.

What is read (libvirt, src/conf/capabilities.c, virCapabilitiesHostNUMAFormat()):

- nodes: ``<cell>``; one without ``<memory>`` has none; of ``<pages>`` the smallest size is the
  ordinary one, and the others are pools of huge pages, of which the total is stated;
- cpus: those of the cells, with socket, die and core; the siblings are the cpus of a core;
- the last-level cache: the ``<bank>`` of the highest level (2 or more);
- distances: ``<sibling>``, from the cell to the one that is named;
- latency (ns) and bandwidth: ``<interconnects>`` of reading, else of all accesses, to memory and
  not to a cache. libvirt writes 1024 times the kernel's number, and calls it KiB.

``<memory_bandwidth>`` is what can be kept from guests (resctrl), not what there is: not read.
Free memory is no part of the capabilities. ``virsh freepages --all`` prints the free pages of
each size and node.
"""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element  # only its type; homenode.formats.xml_tree reads

from homenode.bitmap import LARGEST_MEMBER, CpuMap, NodeMap
from homenode.errors import HomenodeError, ParseError
from homenode.formats import xml_tree
from homenode.formats.described import (
    claimed_twice,
    node_kinds,
    number_caches,
    pair_table,
    refuse_too_many,
    thread_in,
    with_consistent_cores,
)
from homenode.formats.doubts import with_doubts
from homenode.formats.table import LARGEST_NUMBER
from homenode.host import Cpu, Host, Node, PagePool

ROOT = "capabilities"

FreePages = Mapping[int, Mapping[int, int]]
"""Free pages by their size in KiB, by node."""

_MOST_FREE_LINES = 100_000
_SIZES = {"B": -10, "BYTES": -10, "KIB": 0, "K": 0, "MIB": 10, "M": 10, "GIB": 20, "G": 20}


def parse(text: str, *, source: str, free: FreePages | None = None) -> Host:
    """Return the host that `text` describes; `free` is what `parse_free_pages` returns.

    Raises `ParseError` for what is no such document.
    """
    return parse_root(xml_tree.parse(text, source=source), source=source, free=free)


def parse_root(root: Element, *, source: str, free: FreePages | None = None) -> Host:
    """Return the host that a document describes which is read already; see `parse`."""
    if root.tag != ROOT:
        raise ParseError(f"is no libvirt capabilities, but <{root.tag:.40}>", source=source)
    cells = root.findall("host/topology/cells/cell")
    if not cells:
        hint = "this driver of libvirt does not tell; ask the one of the hypervisor"
        raise ParseError("describes no cells of the host", source=source, hint=hint)
    reader = _Reader(root, cells, source)
    if elsewhere := NodeMap(free or ()) - NodeMap(reader.numbers):
        reader.notes.append(f"free pages are told of nodes {elsewhere}, which are not described")
    cpus = reader.cpus()
    latency, bandwidth = reader.performance()
    kinds = node_kinds(
        reader.numbers,
        {},
        with_cpus=NodeMap(cpu.node for cpu in cpus if cpu.node is not None),
        bandwidth=bandwidth,
    )
    host = Host(
        cpus=cpus,
        nodes=[
            reader.node(node, (free or {}).get(node, {}))._replace(kind=kinds[node])
            for node in reader.numbers
        ],
        distances=reader.distances(),
        latency_ns=latency,
        bandwidth_mb_s=bandwidth,
        source=source,
        hypervisor=_hypervisor(root),
        notes=reader.notes,
    )
    return with_doubts(host)


def _hypervisor(root: Element) -> str:
    """Return the hypervisor that libvirt can make guests of, the fastest first."""
    types = {domain.get("type") for domain in root.iterfind("guest/arch/domain")}
    for kind, name in (("kvm", "KVM"), ("xen", "Xen"), ("qemu", "QEMU")):
        if kind in types:
            return f"{name} by libvirt"
    return "libvirt"


class _Reader:
    """The cells of a document by their number."""

    def __init__(self, root: Element, cells: Sequence[Element], source: str) -> None:
        self.root = root
        self.source = source
        self.notes: list[str] = []
        self.cells = {self.number(cell, "id", most=LARGEST_MEMBER): cell for cell in cells}
        if len(self.cells) != len(cells):
            raise self.error("describes a cell twice")
        refuse_too_many(self.cells, source)
        self.numbers = sorted(self.cells)

    def error(self, message: str) -> ParseError:
        """Return a refusal of this document."""
        return ParseError(message, source=self.source)

    def number(self, element: Element, name: str, *, most: int = LARGEST_NUMBER) -> int:
        """Return an attribute as a number; raises `ParseError` if it is not there, or is none."""
        return self._checked(element.get(name, ""), f"<{element.tag}>: {name}", most)

    def maybe_number(self, element: Element, name: str) -> int | None:
        """Return an attribute as a number; None if it is not there, or minus one."""
        return None if element.get(name, "-1") == "-1" else self.number(element, name)

    def _checked(self, text: str, what: str, most: int) -> int:
        text = text.strip()
        if not text.isascii() or not text.isdecimal() or len(text) > 20:
            raise self.error(f"{what}: no number: {text!r:.40}")
        if int(text) > most:
            raise self.error(f"{what}: more than {most}: {text}")
        return int(text)

    def _kib(self, element: Element, number: int) -> int:
        shift = _SIZES.get(element.get("unit", "KiB").upper())
        if shift is None:
            raise self.error(f"<{element.tag}>: unknown unit {element.get('unit')!r:.40}")
        kib = number << shift if shift >= 0 else number >> -shift
        if kib > LARGEST_NUMBER:
            raise self.error(f"<{element.tag}>: more than there can be: {number}")
        return kib

    def node(self, node: int, free: Mapping[int, int]) -> Node:
        """Return a cell as a node; `free` are its free pages by their size."""
        present = self._present_kib(node)
        total = self._pages(node)
        ordinary = min(total, default=min(free, default=4))
        free_kib = 0 if present == 0 else None
        if ordinary in free:
            free_kib = min(free[ordinary] * ordinary, present)
        return Node(
            node,
            present_kib=present,
            free_kib=free_kib,
            pages=tuple(
                PagePool(size, count, _free_of(size, count, free))
                for size, count in sorted(total.items())
                if size != ordinary
            ),
        )

    def _present_kib(self, node: int) -> int:
        memory = self.cells[node].find("memory")
        if memory is None:
            return 0
        return self._kib(memory, self._checked(memory.text or "", "<memory>", LARGEST_NUMBER))

    def _pages(self, node: int) -> dict[int, int]:
        """Return how many pages of each size in KiB a cell has."""
        return {
            self._kib(one, self.number(one, "size")): self._checked(
                one.text or "", "<pages>", LARGEST_NUMBER
            )
            for one in self.cells[node].findall("pages")
        }

    def cpus(self) -> list[Cpu]:
        """Return the cpus of all cells; one in two cells counts for the first."""
        found: dict[int, Cpu] = {}
        siblings: dict[int, CpuMap] = {}
        twice: dict[int, None] = {}
        for node in self.numbers:
            for one in self.cells[node].findall("cpus/cpu"):
                cpu = self.number(one, "id", most=LARGEST_MEMBER)
                if cpu in found:
                    twice[cpu] = None
                    continue
                stated = self._map(one, "siblings")
                siblings[cpu] = stated if cpu in stated else CpuMap()
                found[cpu] = Cpu(
                    cpu,
                    node,
                    core=self.maybe_number(one, "core_id"),
                    socket=self.maybe_number(one, "socket_id"),
                    thread=thread_in(stated, cpu),
                    die=self.maybe_number(one, "die_id"),
                )
        self.notes += claimed_twice(twice)
        llcs = self._llcs(CpuMap(found))
        read = [cpu._replace(llc=llcs.get(cpu.id)) for cpu in found.values()]
        return with_consistent_cores(read, siblings, self.notes)

    def _map(self, element: Element, name: str) -> CpuMap:
        text = element.get(name, "").strip()
        try:
            return CpuMap.parse_libvirt(text) if text else CpuMap()
        except HomenodeError as error:
            raise self.error(f"<{element.tag}>: {name}: {error}") from None

    def _llcs(self, known: CpuMap) -> dict[int, int]:
        banks = [
            (self.number(bank, "level"), self._map(bank, "cpus"))
            for bank in self.root.findall("host/cache/bank")
        ]
        first_of: dict[int, int] = {}
        left = known
        for level, shared in sorted(banks, key=lambda bank: bank[0], reverse=True):
            if level >= 2:
                first_of.update(dict.fromkeys(shared & left, shared.first if shared else 0))
                left -= shared
        return number_caches(first_of)

    def distances(self) -> list[list[int | None]] | None:
        """Return the distances of the cells; None if none are stated."""
        pairs = {
            (node, self.number(one, "id")): self.number(one, "value")
            for node in self.numbers
            for one in self.cells[node].findall("distances/sibling")
        }
        return pair_table(self.numbers, pairs)

    def performance(
        self,
    ) -> tuple[list[list[int | None]] | None, list[list[int | None]] | None]:
        """Return latency and bandwidth from the nodes of cpus to each node, None where none is."""
        tables: dict[tuple[str, str], dict[tuple[int, int], int]] = {}
        for one in self.root.iterfind("host/topology/interconnects/*"):
            if one.tag not in ("latency", "bandwidth") or one.get("cache") is not None:
                continue
            value = self.number(one, "value")
            if one.tag == "bandwidth":
                value = self._kib(one, value) >> 10
            pair = self.number(one, "initiator"), self.number(one, "target")
            if value:
                tables.setdefault((one.tag, one.get("type", "access")), {})[pair] = value
        latency, bandwidth = (
            pair_table(self.numbers, tables.get((tag, "read")) or tables.get((tag, "access"), {}))
            for tag in ("latency", "bandwidth")
        )
        return latency, bandwidth


def _free_of(size: int, count: int, free: Mapping[int, int]) -> int | None:
    """Return how many pages of a pool are free; of none, none are."""
    if size in free or not count:
        return min(free.get(size, 0), count)
    return None


def parse_free_pages(text: str, *, source: str) -> dict[int, dict[int, int]]:
    """Read what ``virsh freepages --all`` prints: ``Node 0:``, then lines ``2048KiB: 512``."""
    free: dict[int, dict[int, int]] = {}
    node: dict[int, int] | None = None
    for line, words in enumerate(text.splitlines()[:_MOST_FREE_LINES], start=1):
        name, colon, count = (part.strip() for part in words.partition(":"))
        if not name and not colon:
            continue
        number = name.removeprefix("Node ")
        is_node = name != number and not count and _are_numbers(number)
        if is_node and int(number) <= LARGEST_MEMBER:
            node = free.setdefault(int(number), {})
            continue
        size = name.removesuffix("KiB")
        if node is None or not _are_numbers(size, count) or not name.endswith("KiB"):
            message = f"not a number of free pages: {words!r:.60}"
            raise ParseError(message, source=source, line=line, hint="virsh freepages --all")
        node[int(size)] = int(count)
    return free


def _are_numbers(*texts: str) -> bool:
    return all(text.isascii() and text.isdecimal() and len(text) < 16 for text in texts)
