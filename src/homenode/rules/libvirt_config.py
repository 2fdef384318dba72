"""A placement as libvirt's XML of a guest has it: written in, for libvirt to do.

What is written, and why. Each behaviour was seen with libvirt 9.0, QEMU 7.2 and Linux 6.1 on a
real NUMA kernel, by ``numa_maps`` and the threads' affinities:

- *vcpus*: ``<vcpu cpuset>`` if all have one set of cpus, else a ``<vcpupin>`` for each; QEMU's own
  threads beside them (``<emulatorpin>``, ``<iothreadpin>``). libvirt has no soft affinity, so
  cpus that a guest prefers become the cpus of whole nodes, which it is pinned to.
- *memory of one node*: ``preferred``. A guest larger than what is free on the node gets the rest
  elsewhere and lives; ``strict`` ends in an out-of-memory kill when such a guest touches its
  memory, months later perhaps.
- *memory of several nodes*: ``interleave``, half and half, and what does not fit goes elsewhere.
  ``preferred`` takes the first node of a set alone; ``strict`` took all of a small guest from one
  of them, the first one time and the second another.
- *memory that is allocated when the guest starts* (huge pages, ``<allocation mode="immediate"/>``,
  ``<locked/>``, devices of the host): ``strict`` on one node, and on several that give unequal
  shares. What is short is then found out at once; huge pages would be taken from another node's
  pool (``preferred`` and ``interleave`` both did). QEMU's own threads, which fill the memory, are
  pinned to some cpus of each of its nodes: QEMU 7.2 sends them there, or does not start.
- *nodes without cpus*: QEMU does not start a guest whose memory it has to fill there ("The nodes
  select no CPUs"), but with ``restrictive``. That binds threads and not memory: of a guest with
  virtual nodes all memory came to lie on one node. So for these there is no such mode, and
  `written` says so.
- *virtual nodes*: a ``<memnode>`` for each, and no ``<memory>`` beside them, which would bind the
  heap of QEMU too, and gains nothing: without it every cell's pages lay where they should.
- *memory that spills from nodes with cpus*: ``preferred`` for the one, ``interleave`` for several
  (the kernel goes on by distance, which `libvirt_remarks` tells of where others are nearer), and
  all of the nodes in homenode's own ``nodes``.
- *a tier*: a virtual node without vcpus; memory of two kinds cannot be told apart otherwise. If all
  of the guest is to be there, ``<memory>`` names these nodes.
- *huge pages that the guest's file does not ask for*: ``<hugepages>``, of their size.

What the user wrote and the decision agrees with stays as it is. So does a mode that the user
chose, and an emulator pinned to cpus of the user's choice: pins to all cpus of other nodes are
taken for those of an earlier placement.
"""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats.libvirt_xml import NAMESPACE, DomainXml, parse
from homenode.formats.xml_edit import New, XmlEdits
from homenode.guest import GuestRequest, VirtualNode
from homenode.host import ORDINARY_PAGE_KIB, Host
from homenode.placement.decision import Decision, MemoryShare
from homenode.rules.libvirt_request import default_huge_page_kib
from homenode.rules.qemu import in_pages_kib
from homenode.rules.xen_config import masks_of
from homenode.units import format_memory, format_page

_ORDER = (
    "name", "uuid", "genid", "title", "description", "metadata", "maxMemory", "memory",
    "currentMemory", "memoryBacking", "blkiotune", "memtune", "vcpu", "vcpus", "iothreads",
    "iothreadids", "cputune", "numatune", "resource", "sysinfo", "bootloader", "os", "features",
    "cpu", "clock",
)  # fmt: skip
"""The order in which libvirt writes what is in a domain (domain_conf.c)."""

_BEFORE_PINS = ("shares", "period", "quota", "global_period", "global_quota", "vcpupin")


def written(config: DomainXml, request: GuestRequest, decision: Decision, host: Host) -> str:
    """Return the text of the guest's XML with the decision in it; all else stays, byte for byte.

    Written again it is the same text, and read again it names the same nodes. Raises
    `HomenodeError` for a decision that libvirt cannot be told of.
    """
    if not decision.fits:
        return config.text
    _refuse_broken_pages(config, request)
    _refuse_mixed_tier(config, request, decision)
    filled = config.filled_at_start or request.page_kib > ORDINARY_PAGE_KIB
    config = config._replace(filled_at_start=filled)
    edits = _Edits(config)
    _write_huge_pages(edits, request, host)
    if request.uuid and config.uuid is None:
        edits.put((), [New("uuid", {}, text=request.uuid)])
    if decision.virtual_nodes and not config.cells:
        _write_cells(edits, decision.virtual_nodes)
    masks = wanted_masks(decision, request, host)
    _write_vcpus(edits, masks, host)
    home = _home(config, request, decision, masks, host)
    _write_threads(edits, home, decision, host)
    named = _write_memory(edits, request, decision, host)
    _write_wishes(edits, _wishes(edits.config, request, decision, host, named=named))
    return edits.finished()


def named(config: DomainXml, request: GuestRequest) -> DomainXml:
    """Return the guest's file with the uuid of the request, and nothing of a decision."""
    if config.uuid is not None or not request.uuid:
        return config
    edits = _Edits(config)
    edits.put((), [New("uuid", {}, text=request.uuid)])
    return parse(edits.finished(), source=config.source)


def without_nodes(config: DomainXml) -> DomainXml:
    """Return the guest's file without nodes and cpus: those of another host, or of another time.

    Virtual nodes stay; so do nodes that homenode's own attributes leave open.
    """
    edits = _Edits(config)
    root = config.document.root
    for path in ("numatune", "cputune/vcpupin", "cputune/emulatorpin", "cputune/iothreadpin"):
        for element in root.findall(path):
            edits.remove(element)
    vcpu = root.find("vcpu")
    if vcpu is not None and vcpu.get("cpuset") is not None:
        edits.set_attributes(vcpu, {"cpuset": None})
    bare = parse(edits.edited(), source=config.source)
    stated = config.wishes.get("nodes", "auto").strip()
    if stated == "auto" or (stated.partition(" ")[0].isdecimal() and " " in stated):
        return bare
    return bare._replace(wishes={**bare.wishes, "nodes": "auto"})


def names_nodes(config: DomainXml) -> bool:
    """Return whether a guest's file has the number of any node or cpu of its host."""
    stated = config.memory_nodes
    return bool(
        (stated is not None and stated.nodes is not None)
        or config.cell_nodes
        or config.cpuset is not None
        or config.pins
        or config.emulator_pin is not None
        or config.iothread_pins
    )


def wanted_masks(decision: Decision, request: GuestRequest, host: Host) -> list[CpuMap | None]:
    """Return the cpus that each vcpu is to be pinned to; None is any."""
    hard = masks_of(decision, request.vcpus, soft=False) or [None] * request.vcpus
    soft = masks_of(decision, request.vcpus, soft=True) or [None] * request.vcpus
    masks: list[CpuMap | None] = []
    for held, preferred in zip(hard, soft, strict=True):
        mask = held if preferred is None else preferred
        if held is not None and preferred is not None:
            mask = (held & preferred) or held
        masks.append(None if mask is None or mask >= host.cpu_map else mask)
    return masks


class _Edits(XmlEdits):
    """Edits of one guest's XML; new elements are gathered by where they go."""

    def __init__(self, config: DomainXml) -> None:
        super().__init__(config.text, config.document)
        self.config = config
        self.root = config.document.root
        self._gathered: dict[tuple[str, ...], list[New]] = {}

    def put(self, path: tuple[str, ...], news: Sequence[New]) -> None:
        """Have elements put into what is at a path below the domain, which is made if need be."""
        self._gathered.setdefault(path, []).extend(news)

    def finished(self) -> str:
        """Return the text with all edits and all new elements in it."""
        for_domain: list[New] = []
        for path, news in self._gathered.items():
            parent, rest = self.root, list(path)
            while rest and (child := parent.find(rest[0])) is not None:
                parent = child
                del rest[0]
            made = tuple(news)
            for tag in reversed(rest):
                made = (New(tag, {}, made),)
            if parent is self.root:
                for_domain += made
            else:
                self._put_into(parent, made)
        for new in sorted(for_domain, key=lambda new: _ORDER.index(new.tag)):
            self._put_into_domain(new)
        return self.edited()

    def _put_into(self, parent: Element, news: tuple[New, ...]) -> None:
        # Pins of vcpus go before those of other threads.
        pins = tuple(new for new in news if new.tag == "vcpupin")
        known = [child for child in parent if child.tag in _BEFORE_PINS]
        if pins and known:
            self.add(parent, pins, after=known[-1])
        elif pins and len(parent):
            self.add(parent, pins, before=parent[0])
        else:
            pins = ()
        others = tuple(new for new in news if new not in pins)
        if others:
            self.add(parent, others)

    def _put_into_domain(self, new: New) -> None:
        """Put an element where libvirt has it."""
        before = _ORDER[: _ORDER.index(new.tag)]
        anchors = [child for child in self.root if child.tag in before]
        if anchors:
            self.add(self.root, (new,), after=anchors[-1])
        else:
            self.add(self.root, (new,), before=self.root[0])


def _refuse_broken_pages(config: DomainXml, request: GuestRequest) -> None:
    cells = request.virtual_nodes or (VirtualNode(0, CpuMap(), config.memory_kib),)
    for cell in cells:
        kib = cell.page_kib or request.page_kib
        if in_pages_kib(cell.memory_kib, kib) != cell.memory_kib:
            whose = f"virtual node {cell.id}" if request.virtual_nodes else "the guest"
            raise config.error(
                f"{whose} has {cell.memory_kib} KiB, and bound to nodes QEMU starts it only with"
                f" whole pages of {format_page(kib)}",
                at="memory",
                hint=f"make it {in_pages_kib(cell.memory_kib, kib)} KiB",
            )


def _refuse_mixed_tier(config: DomainXml, request: GuestRequest, decision: Decision) -> None:
    tier = request.tier
    if tier is not None and tier.kib < config.memory_kib and not decision.virtual_nodes:
        raise config.error(
            f"libvirt can be told of {format_memory(tier.kib)} of {tier.kind} memory as a virtual"
            " node alone, and the guest cannot have one on each of its nodes",
            at="memory",
            hint="do without the tier, or take as much as all of the guest's memory",
        )


def _write_huge_pages(edits: _Edits, request: GuestRequest, host: Host) -> None:
    """Write the size of pages that was asked for beside the file."""
    config, kib = edits.config, request.page_kib
    sizes = {page.kib or default_huge_page_kib(host) for page in config.huge_pages}
    if kib <= ORDINARY_PAGE_KIB:
        return
    if sizes == {kib}:
        _refuse_missed_cells(config, kib)
        return
    if sizes:
        raise config.error(
            f"pages of {format_page(kib)} are asked for, and <hugepages> has"
            f" {', '.join(map(format_page, sorted(sizes)))}",
            at="hugepages",
            hint="take it out of the file",
        )
    page = New("page", {"size": str(kib), "unit": "KiB"})
    edits.put(("memoryBacking",), [New("hugepages", {}, (page,))])


def _refuse_missed_cells(config: DomainXml, page_kib: int) -> None:
    covered = {page.cells for page in config.huge_pages}
    cells = NodeMap(cell.id for cell in config.cells)
    some = NodeMap.union(nodes for nodes in covered if nodes is not None)
    if None in covered or not cells or some >= cells:
        return
    raise config.error(
        f"pages of {format_page(page_kib)} are asked for all of the guest, and <hugepages> has them"
        f" for cell{'s' if len(some) > 1 else ''} {some} alone",
        at="hugepages",
        hint="take it out of the file, or do not ask for them beside it",
    )


def _write_cells(edits: _Edits, cells: Sequence[VirtualNode]) -> None:
    """Write the virtual nodes that the decision made."""
    config = edits.config
    plugged = sum(module.kib for module in config.modules)
    total = sum(cell.memory_kib for cell in cells)
    if total != config.memory_kib - plugged:
        raise config.error(
            f"virtual nodes of {total} KiB do not make the guest's {config.memory_kib - plugged}",
            at="memory",
        )
    news = []
    for cell in cells:
        attributes = {"id": str(cell.id)}
        if cell.vcpus:
            attributes["cpus"] = str(cell.vcpus)
        attributes |= {"memory": str(cell.memory_kib), "unit": "KiB"}
        siblings = tuple(
            New("sibling", {"id": str(other.id), "value": str(distance)})
            for other, distance in zip(cells, cell.distances, strict=False)
        )
        news.append(New("cell", attributes, (New("distances", {}, siblings),) if siblings else ()))
    edits.put(("cpu", "numa"), news)


# --- vcpus ---


def _write_vcpus(edits: _Edits, masks: Sequence[CpuMap | None], host: Host) -> None:
    config = edits.config
    element = config.document.root.find("vcpu")
    agreed = [_agrees(config, vcpu, mask, host) for vcpu, mask in enumerate(masks)]
    common = masks[0] if len(set(masks)) == 1 else None
    attributes: dict[str, str | None] = {}
    if config.vcpus_placed_by_numad:
        # A cpuset that numad's placement has kept silent must not speak up now.
        attributes = {"placement": "static", "cpuset": None}
    if not all(agreed) and common is not None:
        attributes |= {"placement": "static", "cpuset": str(common)}
    if element is None and attributes:
        stated = {name: value for name, value in attributes.items() if value is not None}
        edits.put((), [New("vcpu", stated, text=str(config.vcpus))])
    elif element is not None:
        edits.set_attributes(element, attributes)
    if not all(agreed):
        _write_pins(edits, masks, agreed, common)


def _agrees(config: DomainXml, vcpu: int, mask: CpuMap | None, host: Host) -> bool:
    have = config.pins.get(vcpu, config.cpuset)
    if mask is None:
        return have is None or have >= host.cpu_map
    return have is not None and have <= mask


def _write_pins(
    edits: _Edits,
    masks: Sequence[CpuMap | None],
    agreed: Sequence[bool],
    common: CpuMap | None,
) -> None:
    config, news = edits.config, []
    elements = {
        int(element.get("vcpu", "0")): element for element in edits.root.findall("cputune/vcpupin")
    }
    for vcpu, (mask, agrees) in enumerate(zip(masks, agreed, strict=True)):
        element = elements.get(vcpu)
        if element is not None and not agrees:
            if common is not None or mask is None:
                edits.remove(element)
            else:
                edits.set_attributes(element, {"cpuset": str(mask)})
        elif element is None and common is None and mask is not None:
            if agrees and config.cpuset is not None:
                continue
            news.append(New("vcpupin", {"vcpu": str(vcpu), "cpuset": str(mask)}))
    if common is None and not any(masks) and config.cpuset is not None:
        vcpu_element = edits.root.find("vcpu")
        if vcpu_element is not None:
            edits.set_attributes(vcpu_element, {"cpuset": None})
    if news:
        edits.put(("cputune",), news)


def _home(
    config: DomainXml,
    request: GuestRequest,
    decision: Decision,
    masks: Sequence[CpuMap | None],
    host: Host,
) -> CpuMap | None:
    """Return the cpus for QEMU's own threads; None if the vcpus may use any."""
    if not any(masks):
        return None
    if request.exclusive:
        home = host.cpus_of(decision.nodes)
    else:
        home = CpuMap.union(host.cpu_map if mask is None else mask for mask in masks)
    filling = cpus_that_fill(config, decision, host)
    missed = [cpus for cpus in filling if cpus.isdisjoint(home)]
    return CpuMap.union([home, *missed]) or None


def cpus_that_fill(config: DomainXml, decision: Decision, host: Host) -> list[CpuMap]:
    """Return sets of cpus of each of which QEMU's own threads need some, to fill memory at start.

    They go to the cpus of the nodes that the memory is bound to, and QEMU ends ("Setting CPU
    affinity failed") where the emulator is pinned to others alone.
    """
    cells = decision.virtual_nodes
    if cells and all(cell.node is not None for cell in cells):
        sets = [NodeMap([cell.node or 0]) for cell in cells if _is_filled(config, cell)]
    elif config.filled_at_start or any(_is_filled(config, cell) for cell in cells):
        sets = [NodeMap(share.node for share in decision.memory)]
    else:
        sets = []
    return [cpus for cpus in map(host.cpus_of, sets) if cpus]


def _is_filled(config: DomainXml, cell: VirtualNode) -> bool:
    """Return whether QEMU fills the memory of a virtual node when the guest starts."""
    return config.filled_at_start or (cell.page_kib or 0) > ORDINARY_PAGE_KIB


def _write_threads(edits: _Edits, home: CpuMap | None, decision: Decision, host: Host) -> None:
    if home is None:
        return
    config, news = edits.config, []
    emulator = edits.root.find("cputune/emulatorpin")
    if emulator is None:
        news.append(New("emulatorpin", {"cpuset": str(home)}))
    elif not emulator_pin_stays(config, decision, host):
        edits.set_attributes(emulator, {"cpuset": str(home)})
    elements = {
        int(element.get("iothread", "0")): element
        for element in edits.root.findall("cputune/iothreadpin")
    }
    for number in config.iothreads:
        if number not in elements:
            news.append(New("iothreadpin", {"iothread": str(number), "cpuset": str(home)}))
        elif _is_stale(config.iothread_pins.get(number), decision, host):
            edits.set_attributes(elements[number], {"cpuset": str(home)})
    if news:
        edits.put(("cputune",), news)


def emulator_pin_stays(config: DomainXml, decision: Decision, host: Host) -> bool:
    """Return whether the emulator's pin stays: the user's, or ours that serves."""
    pin = config.emulator_pin
    if pin is None or _is_stale(pin, decision, host):
        return False
    if host.cpus_of(host.nodes_of(pin)) != pin:
        return True
    # Of whole nodes it may be ours from when memory was elsewhere, or not filled at the start.
    return not any(cpus.isdisjoint(pin) for cpus in cpus_that_fill(config, decision, host))


def _is_stale(pin: CpuMap | None, decision: Decision, host: Host) -> bool:
    """Return whether a pin is to all cpus of nodes that the decision has nothing to do with."""
    if pin is None:
        return True
    nodes = host.nodes_of(pin)
    return host.cpus_of(nodes) == pin and nodes.isdisjoint(decision.nodes)


# --- memory ---


def _write_memory(edits: _Edits, request: GuestRequest, decision: Decision, host: Host) -> NodeMap:
    """Write where memory comes from; return the nodes that are named by that."""
    cells = decision.virtual_nodes or request.virtual_nodes
    if cells and all(cell.node is not None for cell in cells):
        _write_cell_nodes(edits, cells, host)
        return NodeMap(cell.node for cell in cells if cell.node is not None)
    config, stated = edits.config, edits.config.memory_nodes
    if any(_is_filled(config, cell) for cell in cells):
        config = config._replace(filled_at_start=True)
    nodes = NodeMap(share.node for share in decision.memory)
    if request.tier is not None:
        nodes -= host.nodes_of(host.cpu_map)  # what QEMU itself takes is with its threads
    if not nodes or (stated is not None and stated.nodes == nodes):
        return nodes
    spills = may_spill(config, request, nodes, host)
    named = nodes & host.nodes_of(host.cpu_map) if spills else nodes
    even = _is_even([share for share in decision.memory if share.node in named], host)
    mode = _mode(config, named, host, even=even)
    if spills and stated is not None and stated.nodes == named and stated.mode == mode:
        return named
    element = edits.root.find("numatune/memory")
    if element is None:
        edits.put(("numatune",), [New("memory", {"mode": mode, "nodeset": str(named)})])
        return named
    if stated is not None and stated.mode is not None and not spills:
        mode = stated.mode if stated.mode != "preferred" or len(named) == 1 else mode
    static = None if element.get("placement") is None else "static"
    edits.set_attributes(element, {"mode": mode, "placement": static, "nodeset": str(named)})
    return named


def _is_even(shares: Sequence[MemoryShare], host: Host) -> bool:
    """Return whether interleaving gives every node about its share, and does so without harm."""
    sizes = [share.kib for share in shares]
    if len(sizes) < 2 or (max(sizes) - min(sizes)) * 8 > max(sizes):
        return False
    # A huge page whose turn's pool is empty is taken from any other, named or not.
    turns = [in_pages_kib(-(-sum(sizes) // len(sizes)), share.page_kib) for share in shares]
    return all(
        share.page_kib <= ORDINARY_PAGE_KIB
        or (host.nodes_by_id[share.node].usable_in_pages_kib(share.page_kib) or 0) >= turn
        for share, turn in zip(shares, turns, strict=True)
    )


def may_spill(config: DomainXml, request: GuestRequest, nodes: NodeMap, host: Host) -> bool:
    """Return whether memory goes from nodes with cpus to others when it is first touched."""
    with_cpus = nodes & host.nodes_of(host.cpu_map)
    at_start = config.filled_at_start or config.pinned_at_start
    return request.spill and bool(with_cpus) and with_cpus != nodes and not at_start


def _mode(config: DomainXml, nodes: NodeMap, host: Host, *, even: bool = False) -> str:
    """Return the mode that does no harm and brings memory to `nodes`, in `even` shares perhaps."""
    if config.filled_at_start and not host.cpus_of(nodes):
        return "restrictive"
    if even:
        return "interleave"
    if config.filled_at_start or config.pinned_at_start:
        return "strict"
    return "interleave" if len(nodes) > 1 else "preferred"


def _write_cell_nodes(edits: _Edits, cells: Sequence[VirtualNode], host: Host) -> None:
    config, news = edits.config, []
    bound = {one.cell: one for one in config.cell_nodes}
    elements = {
        int(element.get("cellid", "0")): element
        for element in edits.root.findall("numatune/memnode")
    }
    for cell in cells:
        nodes = NodeMap([cell.node or 0])
        filled = _is_filled(config, cell)
        mode = _mode(config._replace(filled_at_start=filled), nodes, host)
        if cell.id in bound and bound[cell.id].nodes == nodes:
            continue
        if mode == "restrictive":
            hint = "have its memory allocated on demand, or choose a node with cpus"
            text = f"QEMU cannot fill the memory of virtual node {cell.id} on {nodes.named}"
            at = "hugepages" if config.huge_pages else "allocation"
            raise config.error(f"{text}, which has no cpus", at=at, hint=hint)
        if cell.id in bound:
            edits.set_attributes(elements[cell.id], {"mode": mode, "nodeset": str(nodes)})
            continue
        attributes = {"cellid": str(cell.id), "mode": mode, "nodeset": str(nodes)}
        news.append(New("memnode", attributes))
    _write_memory_beside_cells(edits, NodeMap(cell.node or 0 for cell in cells))
    if news:
        edits.put(("numatune",), news)


def _write_memory_beside_cells(edits: _Edits, nodes: NodeMap) -> None:
    """Have ``<memory>``, if it is there, allow what the cells are bound to."""
    element, stated = edits.root.find("numatune/memory"), edits.config.memory_nodes
    if element is None or stated is None:
        return
    # Beside cells, numad's placement and "restrictive" are refused; "preferred" is of one node.
    mode = stated.mode
    if mode == "restrictive" or (mode == "preferred" and len(nodes) > 1):
        mode = "interleave"
    if stated.nodes is not None and nodes <= stated.nodes and mode == stated.mode:
        return
    static = None if element.get("placement") is None else "static"
    edits.set_attributes(element, {"mode": mode, "placement": static, "nodeset": str(nodes)})


# --- homenode's own ---


def _wishes(
    config: DomainXml, request: GuestRequest, decision: Decision, host: Host, *, named: NodeMap
) -> dict[str, str]:
    """Return the attributes of homenode's own that say what nothing else in the file does.

    `named` are the nodes that memory is bound to; those of the decision are read from them.
    """
    cpu_nodes = host.nodes_of(host.cpu_map)
    nodes = decision.nodes | NodeMap(share.node for share in decision.memory)
    wishes: dict[str, str] = {}
    if request.tier is not None and not decision.virtual_nodes:
        # All of its memory is there, or it would be a virtual node.
        wishes["tier"] = request.tier.kind
    elif request.spill and nodes - named:
        wishes["spill"] = "yes"
    stated = config.wishes.get("nodes", "auto").strip()
    if stated == "auto":
        agrees = nodes == named and not wishes
    else:
        there = _named(stated, host) or NodeMap()
        # Nodes to spill to that it does not need now it may need when it grows.
        more = request.spill and nodes <= there and (there - nodes).isdisjoint(cpu_nodes)
        agrees = there == nodes or more
    if nodes and not agrees:
        wishes["nodes"] = str(nodes)
    return {name: value for name, value in wishes.items() if config.wishes.get(name) != value}


def _write_wishes(edits: _Edits, wishes: dict[str, str]) -> None:
    if not wishes:
        return
    metadata = edits.root.find("metadata")
    if metadata is not None and "placement" in edits.config.lines:
        line = edits.config.lines["placement"]
        places = edits.config.document.places
        ours = next(
            child
            for child in metadata
            if places[child].line == line and child.tag.rpartition(":")[2] == "placement"
        )
        edits.set_attributes(ours, dict(wishes))
        return
    attributes = {"xmlns:homenode": NAMESPACE, **wishes}
    edits.put(("metadata",), [New("homenode:placement", attributes)])


def _named(text: str, host: Host) -> NodeMap | None:
    if text.strip() == "all":
        return host.nodes_of(host.cpu_map)
    try:
        return NodeMap.parse_libvirt(text)
    except ParseError:
        return None
