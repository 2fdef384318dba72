"""Domain XML of libvirt, read into a record of what decides where a guest goes.

The elements mean what they mean to libvirt 9.0 (src/conf/domain_conf.c, numa_conf.c), and one
is homenode's own, which libvirt keeps and does not look at::

    <metadata>
      <homenode:placement xmlns:homenode="urn:homenode:placement:1" nodes="auto" policy="packed"
        exclude="3" apart="db1,db2" devices="required" spill="yes" tier="cxl:8GiB"
        virtual-nodes="auto"/>
    </metadata>

What libvirt refuses is refused here with its line, in so far as it decides on the placement. Beyond
that, this reader refuses what libvirt passes over without a word and what leaves open what is
meant: an element that is there twice, and an attribute of homenode's own that there is not.
Nothing is known of a host here: sets of cpus and nodes are checked by who knows one.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree.ElementTree import Element

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats.libvirt_elements import Elements
from homenode.formats.xml_tree import Document, document

NAMESPACE = "urn:homenode:placement:1"
"""The namespace of homenode's own element in ``<metadata>``."""

LARGEST_TEXT = 4 << 20
"""Characters of a domain's XML; one with 512 vcpus and a hundred disks has some 200,000."""

MOST_VCPUS = 16_384
"""libvirt's VIR_DOMAIN_CPUMASK_LEN."""

MOST_CELLS = 128
"""QEMU's MAX_NODES (include/sysemu/numa.h)."""

MODES = ("strict", "preferred", "interleave", "restrictive")
WISHES = ("nodes", "policy", "exclude", "apart", "devices", "spill", "tier", "virtual-nodes")

LOCAL_DISTANCE = 10
REMOTE_DISTANCE = 20
_FARTHEST = 255


class PageSize(NamedTuple):
    """Huge pages (`kib` None: of the host's default size), for some cells or (None) for all."""

    kib: int | None
    cells: NodeMap | None
    line: int


class MemoryNodes(NamedTuple):
    """``<numatune><memory>``; `nodes` None is ``placement="auto"``: numad's to choose.

    `mode` is None where none is written, which libvirt takes for ``strict``.
    """

    mode: str | None
    nodes: NodeMap | None
    line: int


class CellNodes(NamedTuple):
    """``<numatune><memnode>``: where the memory of one cell comes from."""

    cell: int
    mode: str
    nodes: NodeMap
    line: int


class Cell(NamedTuple):
    """A cell of ``<cpu><numa>``; `distances` are those that it states itself."""

    id: int
    vcpus: CpuMap
    memory_kib: int
    distances: Mapping[int, int]
    line: int


class Module(NamedTuple):
    """A memory module (``<devices><memory>``) of the guest, and the cell that it is in."""

    kib: int
    cell: int | None
    line: int


class AssignedDevice(NamedTuple):
    """A device of the host that the guest gets, by its PCI address (``0000:41:00.0``)."""

    address: str
    line: int


class DomainXml(NamedTuple):
    """A guest as libvirt describes it; None is "not said".

    `memory_kib` is all of the guest's memory, modules included, and `current_kib` what the balloon
    leaves it; `vcpus` are all that it may have and `online_vcpus` those that it starts with.
    `cpuset` is ``<vcpu cpuset>``, and `pins` are of single vcpus, which outrank it.
    `iothreads` are the ids of its I/O threads. All memory of a guest is allocated when it starts if
    QEMU fills it then (`filled_at_start`) or the kernel pins it (`pinned_at_start`); else huge
    pages are filled then, and other memory is allocated when it is touched. `wishes` are the
    attributes of homenode's element.
    `lines` has the line of what is there, by the names of elements (``memory``, ``vcpupin 3``).
    """

    source: str
    text: str
    document: Document
    lines: Mapping[str, int]
    name: str
    type: str
    uuid: str | None
    memory_kib: int
    current_kib: int
    max_kib: int | None
    vcpus: int
    online_vcpus: int
    vcpus_placed_by_numad: bool
    cpuset: CpuMap | None
    pins: Mapping[int, CpuMap]
    emulator_pin: CpuMap | None
    iothreads: tuple[int, ...]
    iothread_pins: Mapping[int, CpuMap]
    memory_nodes: MemoryNodes | None
    cell_nodes: tuple[CellNodes, ...]
    huge_pages: tuple[PageSize, ...]
    filled_at_start: bool
    pinned_at_start: bool
    threads: int
    cells: tuple[Cell, ...]
    modules: tuple[Module, ...]
    devices: tuple[AssignedDevice, ...]
    wishes: Mapping[str, str]

    def error(
        self, message: str, *, at: str | int | None = None, hint: str | None = None
    ) -> ParseError:
        """Return an error about this guest, placed at an element's name or at a line."""
        line = self.lines.get(at) if isinstance(at, str) else at
        return ParseError(message, source=self.source, line=line, hint=hint)


def parse(text: str, *, source: str = "domain XML") -> DomainXml:
    """Read a domain's XML; `ParseError` with source and line for what libvirt would refuse."""
    if len(text) > LARGEST_TEXT:
        raise ParseError(f"too long for a domain: {len(text)} characters", source=source)
    found = document(text, source=source)
    return parse_element(found.root, found, text, source=source)


def parse_element(root: Element, within: Document, text: str, *, source: str) -> DomainXml:
    """Read a domain that is an element of a document, and that `text` is the text of."""
    found = Document(root, within.places)
    reader = Elements(found, source)
    if root.tag != "domain":
        raise reader.error(
            f"this is <{root.tag[:40]}>, no domain of libvirt", root, hint="virsh dumpxml has one"
        )
    vcpu = _vcpus(reader)
    cells = _cells(reader, vcpu.most)
    modules = tuple(_modules(reader))
    memory_kib, current_kib, max_kib = _memory(reader, cells, modules)
    cell_nodes = _cell_nodes(reader, len(cells))
    tune = _Tune(reader, vcpu.most)
    return DomainXml(
        source=source,
        text=text,
        document=found,
        name=_name(reader),
        type=reader.word(root, "type"),
        uuid=_uuid(reader),
        memory_kib=memory_kib,
        current_kib=current_kib,
        max_kib=max_kib,
        vcpus=vcpu.most,
        online_vcpus=vcpu.online,
        vcpus_placed_by_numad=vcpu.placed_by_numad,
        cpuset=vcpu.cpuset,
        pins=tune.pins,
        emulator_pin=tune.emulator_pin,
        iothreads=_iothreads(reader),
        iothread_pins=tune.iothread_pins,
        memory_nodes=_memory_nodes(reader, cell_nodes, numad=vcpu.placed_by_numad),
        cell_nodes=cell_nodes,
        huge_pages=tuple(_huge_pages(reader, len(cells))),
        filled_at_start=_filled_at_start(reader),
        pinned_at_start=_pinned_at_start(reader),
        threads=_threads(reader),
        cells=cells,
        modules=modules,
        devices=tuple(_devices(reader)),
        wishes=_wishes(reader),
        lines=reader.lines,
    )


def _name(reader: Elements) -> str:
    element = reader.only("name")
    name = (element.text or "") if element is not None else ""
    if not name.strip():
        at = reader.root if element is None else element
        raise reader.error("the guest has no name", at, hint="add <name>...</name>")
    if element is not None and ("/" in name or "\n" in name):
        raise reader.error(f"libvirt takes no such name: {name[:40]!r}", element)
    return name


def _uuid(reader: Elements) -> str | None:
    element = reader.only("uuid")
    if element is None:
        return None
    text = (element.text or "").strip().lower()
    digits = text.replace("-", "")
    if len(digits) != 32 or digits.strip("0123456789abcdef"):
        raise reader.error(f"not a uuid: {text[:40]!r}", element)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


# --- vcpus ---


class _Vcpus(NamedTuple):
    most: int
    online: int
    cpuset: CpuMap | None
    placed_by_numad: bool


def _vcpus(reader: Elements) -> _Vcpus:
    element = reader.only("vcpu")
    if element is None:
        return _Vcpus(1, 1, None, placed_by_numad=False)
    most = reader.number(element, least=1, most=MOST_VCPUS)
    online = most
    if element.get("current") is not None:
        online = reader.number(element, "current", least=1, most=most)
    auto = reader.choice(element, "placement", ("static", "auto")) == "auto"
    # With placement="auto" libvirt does not look at the cpuset.
    cpuset = None if auto else reader.set(element, "cpuset", CpuMap)
    return _Vcpus(most, online, cpuset, placed_by_numad=auto)


class _Tune:
    """What ``<cputune>`` pins."""

    def __init__(self, reader: Elements, vcpus: int) -> None:
        reader.only("cputune")
        self.pins = self._pins(reader, "vcpupin", "vcpu", MOST_VCPUS)
        self.pins = {vcpu: cpus for vcpu, cpus in self.pins.items() if vcpu < vcpus}
        self.iothread_pins = self._pins(reader, "iothreadpin", "iothread", 1 << 31)
        emulator = reader.only("cputune/emulatorpin")
        self.emulator_pin = None
        if emulator is not None:
            self.emulator_pin = reader.needed_set(emulator, "cpuset", CpuMap)

    @staticmethod
    def _pins(reader: Elements, tag: str, attribute: str, most: int) -> dict[int, CpuMap]:
        pins: dict[int, CpuMap] = {}
        for element in reader.all(f"cputune/{tag}"):
            number = reader.number(element, attribute, most=most)
            if number in pins:
                raise reader.error(f"{attribute} {number} is pinned twice", element)
            pins[number] = reader.needed_set(element, "cpuset", CpuMap)
            reader.lines[f"{tag} {number}"] = reader.line(element)
            reader.lines.setdefault(tag, reader.line(element))
        return pins


def _iothreads(reader: Elements) -> tuple[int, ...]:
    """Return the ids: those that are listed, and the first free ones for the rest of the count."""
    element = reader.only("iothreads")
    listed = [
        reader.number(one, "id", least=1, most=(1 << 31)) for one in reader.all("iothreadids/*")
    ]
    count = 0 if element is None else reader.number(element, most=4096)
    ids = dict.fromkeys(listed[:4096])
    number = 1
    while len(ids) < count:
        ids.setdefault(number)
        number += 1
    return tuple(sorted(ids))


def _threads(reader: Elements) -> int:
    element = reader.only("cpu/topology")
    if element is None or element.get("threads") is None:
        return 1
    return reader.number(element, "threads", least=1, most=MOST_VCPUS)


# --- memory ---


def _memory(
    reader: Elements, cells: tuple[Cell, ...], modules: tuple[Module, ...]
) -> tuple[int, int, int | None]:
    """Return what the guest has, what the balloon leaves it, and what it may grow to.

    Source: domain_conf.c, virDomainDefPostParseMemory(): the cells outrank ``<memory>``.
    """
    element = reader.only("memory")
    stated = 0 if element is None else reader.size_kib(element)
    plugged = sum(module.kib for module in modules)
    total = sum(cell.memory_kib for cell in cells)
    total = total + plugged if total else stated
    at = reader.root if element is None else element
    if total <= plugged:
        raise reader.error(
            "the guest has no memory", at, hint="add <memory unit='GiB'>4</memory>, or what it is"
        )
    if element is not None and cells and stated != total:
        raise reader.error(
            f"<memory> is {stated} KiB, but the cells and modules have {total} KiB",
            element,
            hint="libvirt would take the cells' and say nothing",
        )
    current = reader.only("currentMemory")
    current_kib = 0 if current is None else reader.size_kib(current)
    most = reader.only("maxMemory")
    max_kib = None if most is None else reader.size_kib(most)
    if most is not None and max_kib is not None and max_kib < total:
        raise reader.error(f"<maxMemory> is less than the memory, {total} KiB", most)
    return total, min(current_kib or total, total), max_kib


def _modules(reader: Elements) -> Iterator[Module]:
    for element in reader.all("devices/memory"):
        if element.get("model") not in ("dimm", "virtio-mem"):
            continue  # what is kept in a file takes no memory of the host
        size = element.find("target/size")
        if size is None:
            raise reader.error("a memory module has no <target><size>", element)
        cell = element.find("target/node")
        number = None if cell is None else reader.number(cell, most=MOST_CELLS - 1)
        yield Module(reader.size_kib(size), number, reader.line(element))


def _huge_pages(reader: Elements, cells: int) -> Iterator[PageSize]:
    element = reader.only("memoryBacking/hugepages")
    if element is None:
        return
    sizes = element.findall("page")
    if not sizes:
        yield PageSize(None, None, reader.line(element))
    taken = 0
    for size in sizes:
        reader.word(size, "size")
        kib = reader.size_kib(size, "size")
        if kib < 4 or kib & (kib - 1):
            raise reader.error(f"there are no pages of {kib} KiB", size)
        nodes = reader.set(size, "nodeset", NodeMap)
        wanted = -1 if nodes is None else nodes.bits
        if nodes is not None and nodes.bits >> max(cells, 1):
            message = f"<page> nodeset {nodes} names cells that the guest has not"
            raise reader.error(message, size, hint=f"it has {cells}; they are not the host's nodes")
        if taken & wanted if nodes is not None else taken == -1:
            raise reader.error("two sizes of pages for one cell", size)
        taken |= 0 if nodes is None and len(sizes) > 1 else wanted
        yield PageSize(kib, nodes, reader.line(size))


def _filled_at_start(reader: Elements) -> bool:
    """Return whether QEMU writes to all memory before the guest starts."""
    allocation = reader.only("memoryBacking/allocation")
    if allocation is None:
        return False
    return reader.choice(allocation, "mode", ("immediate", "ondemand")) == "immediate"


def _pinned_at_start(reader: Elements) -> bool:
    """Return whether memory is locked: by the guest's own word, or by VFIO for a device of it."""
    if reader.only("memoryBacking/locked") is not None or next(_assigned(reader), None) is not None:
        return True
    return any(element.get("type") == "mdev" for element in reader.all("devices/hostdev"))


# --- nodes of the host, and cells of the guest ---


def _memory_nodes(
    reader: Elements, cell_nodes: tuple[CellNodes, ...], *, numad: bool
) -> MemoryNodes | None:
    element = reader.only("numatune/memory")
    if element is None:
        return None
    reader.lines["numatune memory"] = reader.line(element)
    mode = reader.choice(element, "mode", MODES)
    nodes = reader.set(element, "nodeset", NodeMap)
    placement = reader.choice(element, "placement", ("static", "auto"))
    if placement is None:
        placement = "static" if nodes is not None or not numad else "auto"
    if placement == "auto":
        if cell_nodes:
            raise reader.error("<memnode> does not go with placement='auto'", element)
        return MemoryNodes(mode, None, reader.line(element))
    if nodes is None:
        raise reader.error("<numatune><memory> has no nodeset", element)
    return MemoryNodes(mode, nodes, reader.line(element))


def _cell_nodes(reader: Elements, cells: int) -> tuple[CellNodes, ...]:
    found: dict[int, CellNodes] = {}
    for element in reader.all("numatune/memnode"):
        cell = reader.number(element, "cellid", most=1 << 31)
        if cell in found:
            raise reader.error(f"there are two <memnode> of cell {cell}", element)
        if cell >= cells:
            raise reader.error(f"<memnode> of cell {cell}, but the guest has {cells}", element)
        mode = reader.choice(element, "mode", MODES) or "strict"
        nodes = reader.needed_set(element, "nodeset", NodeMap)
        found[cell] = CellNodes(cell, mode, nodes, reader.line(element))
        reader.lines.setdefault("memnode", reader.line(element))
    return tuple(found[cell] for cell in sorted(found))


def _cells(reader: Elements, vcpus: int) -> tuple[Cell, ...]:
    numa = reader.only("cpu/numa")
    elements = [] if numa is None else numa.findall("cell")
    if len(elements) > MOST_CELLS:
        raise reader.error(f"more than {MOST_CELLS} cells", elements[MOST_CELLS])
    cells: dict[int, Cell] = {}
    seen = CpuMap()
    for index, element in enumerate(elements):
        cell = _cell(reader, element, index, len(elements))
        if cell.id in cells:
            raise reader.error(f"there are two cells {cell.id}", element)
        if cell.vcpus.bits >> vcpus:
            beyond = cell.vcpus - CpuMap.full(vcpus)
            message = f"cell {cell.id} has vcpu {beyond}, but the guest has {vcpus} vcpus"
            raise reader.error(message, element)
        if not seen.isdisjoint(cell.vcpus):
            raise reader.error(f"vcpu {seen & cell.vcpus} is in more than one cell", element)
        seen |= cell.vcpus
        cells[cell.id] = cell
    if cells and len(seen) < vcpus:
        # libvirt has the first cell take them (qemu_domain.c, qemuDomainDefNumaCPUsRectify()).
        first = cells[0]
        cells[0] = first._replace(vcpus=first.vcpus | (CpuMap.full(vcpus) - seen))
    return tuple(cells[number] for number in sorted(cells))


def _cell(reader: Elements, element: Element, index: int, count: int) -> Cell:
    number = index
    if element.get("id") is not None:
        number = reader.number(element, "id", most=count - 1)
    reader.word(element, "memory")
    distances: dict[int, int] = {}
    for sibling in element.findall("distances/sibling"):
        other = reader.number(sibling, "id", most=count - 1)
        distance = reader.number(sibling, "value", least=LOCAL_DISTANCE, most=_FARTHEST)
        if (other == number) != (distance == LOCAL_DISTANCE):
            message = f"the distance from cell {number} to cell {other} cannot be {distance}"
            raise reader.error(message, sibling, hint="10 is the distance to itself alone")
        distances[other] = distance
    return Cell(
        number,
        reader.set(element, "cpus", CpuMap) or CpuMap(),
        reader.size_kib(element, "memory"),
        distances,
        reader.line(element),
    )


# --- devices ---


def _assigned(reader: Elements) -> Iterator[Element]:
    for element in reader.all("devices/hostdev"):
        if element.get("mode", "subsystem") == "subsystem" and element.get("type") == "pci":
            yield element
    for element in reader.all("devices/interface"):
        if element.get("type") == "hostdev":
            yield element


def _devices(reader: Elements) -> Iterator[AssignedDevice]:
    for element in _assigned(reader):
        address = element.find("source/address")
        if address is None:
            raise reader.error(f"<{element.tag}> has no <source><address>", element)
        domain, bus, slot, function = (
            _address_part(reader, address, name, most)
            for name, most in (
                ("domain", 0xFFFFFFFF), ("bus", 0xFF), ("slot", 0x1F), ("function", 7),
            )
        )  # fmt: skip
        if not (domain or bus or slot):
            raise reader.error("the device's PCI address is 0000:00:00, which is none", address)
        yield AssignedDevice(
            f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}", reader.line(element)
        )


def _address_part(reader: Elements, element: Element, name: str, most: int) -> int:
    text = element.get(name, "0").strip()
    base = 16 if text[:2] in ("0x", "0X") else 8 if text[:1] == "0" else 10
    digits = text[2:] if base == 16 else text
    if not digits or digits.strip("0123456789abcdefABCDEF"[: base if base < 16 else None]):
        raise reader.error(f"{name}={text[:40]!r} of a PCI address is no number", element)
    if len(digits) > 12 or int(digits, base) > most:
        raise reader.error(f"{name}={text[:40]} of a PCI address is out of range", element)
    return int(digits, base)


# --- homenode's own element ---


def _wishes(reader: Elements) -> Mapping[str, str]:
    metadata = reader.only("metadata")
    found = [] if metadata is None else [
        element for element in metadata if _is_ours(reader, metadata, element)
    ]  # fmt: skip
    if len(found) > 1:
        raise reader.error("homenode's placement is there twice", found[1])
    if not found:
        return {}
    reader.lines["placement"] = reader.line(found[0])
    wishes = {name: value for name, value in found[0].items() if not _is_declaration(name)}
    for name in wishes:
        if name not in WISHES:
            hint = f"there are {', '.join(WISHES)}"
            raise reader.error(f"homenode's placement has no {name[:40]!r}", found[0], hint=hint)
    return wishes


def _is_declaration(name: str) -> bool:
    return name == "xmlns" or name.startswith("xmlns:")


def _is_ours(reader: Elements, metadata: Element, element: Element) -> bool:
    prefix, colon, local = element.tag.rpartition(":")
    declaration = f"xmlns:{prefix}" if colon else "xmlns"
    scopes = (element, metadata, reader.root)
    namespace = next((uri for scope in scopes if (uri := scope.get(declaration))), "")
    if namespace == NAMESPACE and local == "placement":
        return True
    if namespace.startswith("urn:homenode") or (prefix == "homenode" and not namespace):
        raise reader.error(
            f"<{element.tag[:40]}> of namespace {namespace[:60]!r} is not known",
            element,
            hint=f'it is <homenode:placement xmlns:homenode="{NAMESPACE}" .../>',
        )
    return False
