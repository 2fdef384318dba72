"""What a libvirt domain asks for, as the decision understands it.

The elements mean what they mean to libvirt 9.0 with QEMU, and homenode's own are the attributes
of its element in ``<metadata>`` (`homenode.formats.libvirt_xml`)::

    nodes="auto" | "0-1,^3" | "all" | "2 nodes"     policy="packed" | any policy
    exclude="3"         nodes that give neither cpus nor memory
    apart="db1,db2"     guests whose nodes are not for this one
    devices="required" | "preferred" | "ignored"    being near the host's devices that it has
    spill="yes" | "no"  memory that does not fit may come from nodes without cpus
    tier="cxl:8GiB"     memory that is wanted from such nodes
    virtual-nodes="auto" | "none"   if it fits no single node, it is given some

Nodes that the user names are taken, not searched, and the first of these that names any holds:
``nodes``, ``<memnode>``, the nodeset of ``<numatune><memory>``, ``<vcpupin>`` of every vcpu.
``<vcpu cpuset>`` only says where vcpus may run. What numad would choose (``placement="auto"``) is
homenode's to choose. Contradictions are warnings.
"""

from collections.abc import Mapping
from typing import NamedTuple

from homenode.bitmap import Bitmap, CpuMap, NodeMap
from homenode.errors import HomenodeError, ParseError
from homenode.formats.libvirt_xml import LOCAL_DISTANCE, REMOTE_DISTANCE, Cell, DomainXml
from homenode.guest import ExplicitNodes, GuestRequest, NearDevice, Tier, VirtualNode
from homenode.host import ORDINARY_PAGE_KIB, Host
from homenode.rules.qemu import in_pages_kib, overhead_kib
from homenode.rules.wishes import (
    Requested,
    anywhere,
    device_wish,
    guest_names,
    listed_nodes,
    near_devices,
    nodes_or_count,
    tier_of,
)
from homenode.units import format_memory, format_page

_DEFAULT_HUGE_PAGE_KIB = 2048
_ORDINARY_KIB = 4

_Oddities = list[tuple[str, str]]
"""Pairs of a stable code and a sentence."""


def request(config: DomainXml, host: Host) -> Requested:
    """Return what `config` asks for on `host`; `ParseError` with source and line if it cannot be.

    `GuestRequest.vcpus` are all that the guest may ever have. `memory_kib` is the guest's memory
    and, but for huge pages, which are from pools of their own, QEMU's overhead.
    """
    warnings: _Oddities = []
    pages = _page_sizes(config, host, warnings)
    cells = _virtual_nodes(config, host, pages)
    page_kib = _common_page_kib(pages)
    masks = _masks(config, host)
    memory_kib = in_pages_kib(config.memory_kib, page_kib)
    if cells:
        memory_kib = sum(in_pages_kib(cell.memory_kib, cell.page_kib or page_kib) for cell in cells)
    if any(size <= ORDINARY_PAGE_KIB for size in pages.values()):
        memory_kib += overhead_kib(config.memory_kib, _ORDINARY_KIB)
    asked = GuestRequest(
        name=config.name,
        vcpus=config.vcpus,
        memory_kib=memory_kib,
        guest_memory_kib=config.memory_kib,
        max_memory_kib=config.max_kib or config.memory_kib,
        uuid=config.uuid,
        type=config.type,
        hard=masks.hard,
        soft=masks.soft,
        policy=config.wishes.get("policy"),
        virtual_nodes=cells,
        page_kib=page_kib,
        devices=_devices(config, host, warnings),
        excluded=_excluded(config, host),
        apart_from=_apart_from(config),
        spill=_yes(config, "spill"),
        tier=_tier(config, warnings),
        split=_split(config),
    )
    if asked.tier is not None:
        # libvirt can be told of it as a virtual node without vcpus alone.
        asked = asked._replace(split=True)
    asked = _with_wishes(config, asked, host, warnings)
    warnings += _ignored_pins(config) + _away(asked, host)
    return Requested(asked, tuple(warnings))


# --- vcpus ---


class _Masks(NamedTuple):
    hard: tuple[CpuMap, ...]
    soft: tuple[CpuMap, ...]


def page_kib_of(config: DomainXml, host: Host) -> int:
    """Return the size of a guest's pages, in KiB; of several, that of ordinary ones."""
    return _common_page_kib(_page_sizes(config, host, []))


def virtual_nodes_of(config: DomainXml, host: Host) -> tuple[VirtualNode, ...]:
    """Return the virtual nodes of a guest; `ParseError` for nodes that the host has not."""
    return _virtual_nodes(config, host, _page_sizes(config, host, []))


def _masks(config: DomainXml, host: Host) -> _Masks:
    """Return the cpus that each vcpu may use and those that it prefers; none if that is any.

    libvirt has pins alone, so a placement is written as pins to whole nodes, by us as by others.
    They are taken for what vcpus prefer, which ``nodes`` outranks, if every vcpu has its own, or if
    ``<numatune>`` names the nodes of ``<vcpu cpuset>``. All other pins say what vcpus may use.
    """
    everywhere = host.cpu_map
    usual = everywhere if config.cpuset is None else config.cpuset
    _refuse_unknown(config, usual, everywhere, "<vcpu> cpuset", at="vcpu")
    for vcpu, cpus in config.pins.items():
        what = f"<vcpupin> cpuset of vcpu {vcpu}"
        _refuse_unknown(config, cpus, everywhere, what, at=f"vcpupin {vcpu}")
    masks = tuple(config.pins.get(vcpu, usual) for vcpu in range(config.vcpus))
    if all(cpus >= everywhere for cpus in masks):
        return _Masks((), ())
    distinct = set(masks)
    whole = all(host.cpus_of(host.nodes_of(cpus)) == cpus for cpus in distinct)
    home = host.nodes_of(CpuMap.union(distinct))
    named = NodeMap.union(one.nodes for one in config.cell_nodes)
    if config.memory_nodes is not None and config.memory_nodes.nodes is not None:
        named |= config.memory_nodes.nodes
    if whole and (len(config.pins) == config.vcpus or home == named & host.nodes_of(everywhere)):
        return _Masks((), masks)
    return _Masks(masks, ())


def _refuse_unknown(
    config: DomainXml, named: Bitmap, there: Bitmap, what: str, *, at: str | int
) -> None:
    unknown = type(named).from_bits(named.bits & ~there.bits)
    if unknown:
        verb = "are" if len(unknown) > 1 else "is"
        raise config.error(
            f"{what} names {unknown.named}, which {verb} not on this host",
            at=at,
            hint=f"it has {there.named}",
        )


def _ignored_pins(config: DomainXml) -> _Oddities:
    beyond = [
        name.partition(" ")[2]
        for name in config.lines
        if name.startswith("vcpupin ") and int(name.partition(" ")[2]) >= config.vcpus
    ]
    if not beyond:
        return []
    text = f"<vcpupin> of vcpu {', '.join(beyond[:8])} is ignored: the guest has {config.vcpus}"
    return [("vcpupin-ignored", text)]


# --- memory and cells ---


def _page_sizes(config: DomainXml, host: Host, warnings: _Oddities) -> Mapping[int, int]:
    """Return the size of the pages of each cell, in KiB; of a guest without cells, of cell 0."""
    numbers = [cell.id for cell in config.cells] or [0]
    sizes = dict.fromkeys(numbers, _ORDINARY_KIB)
    for page in sorted(config.huge_pages, key=lambda page: page.cells is not None):
        kib = page.kib
        if kib is None:
            kib = default_huge_page_kib(host)
            text = f"<hugepages> states no size: pages of {format_page(kib)} are assumed"
            warnings.append(("page-size-assumed", text))
        for number in numbers:
            if page.cells is None or number in page.cells:
                sizes[number] = kib
    memory = {cell.id: cell.memory_kib for cell in config.cells} or {0: config.memory_kib}
    for number, kib in sizes.items():
        if in_pages_kib(memory[number], kib) != memory[number]:
            whose = f"cell {number} has" if config.cells else "the guest has"
            text = f"{whose} {memory[number]} KiB, which is no whole number of huge pages of"
            text += f" {format_memory(kib)}: QEMU does not start it when it is bound to nodes"
            warnings.append(("memory-not-in-whole-pages", text))
    return sizes


def default_huge_page_kib(host: Host) -> int:
    """Return the size of huge pages where none is stated, as far as the pools of `host` tell.

    The kernel's default is in /proc/meminfo, which not every source has.
    """
    pools = {pool.page_kib for node in host.nodes for pool in node.pages if pool.total}
    if _DEFAULT_HUGE_PAGE_KIB in pools or not pools:
        return _DEFAULT_HUGE_PAGE_KIB
    return min(pools)


def _common_page_kib(pages: Mapping[int, int]) -> int:
    sizes = set(pages.values())
    return sizes.pop() if len(sizes) == 1 else _ORDINARY_KIB


def _virtual_nodes(
    config: DomainXml, host: Host, pages: Mapping[int, int]
) -> tuple[VirtualNode, ...]:
    nodes = _nodes_of_cells(config, host)
    plugged: dict[int, int] = {}
    for module in config.modules:
        cell = module.cell or 0
        if config.cells and cell >= len(config.cells):
            raise config.error(f"a memory module is in cell {cell}, which is not", at=module.line)
        plugged[cell] = plugged.get(cell, 0) + module.kib
    return tuple(
        VirtualNode(
            cell.id,
            cell.vcpus,
            cell.memory_kib + plugged.get(cell.id, 0),
            _distances(config.cells, cell),
            nodes.get(cell.id),
            pages[cell.id] if pages[cell.id] > ORDINARY_PAGE_KIB else None,
        )
        for cell in config.cells
    )


def _distances(cells: tuple[Cell, ...], cell: Cell) -> tuple[int, ...]:
    """Return the row of distances as the guest sees it; none if no cell states any.

    What is not stated is as far as the way back, else 20 (numa_conf.c,
    virDomainNumaDefNodeDistanceParseXML(), virDomainNumaGetNodeDistance()).
    """
    if not any(one.distances for one in cells):
        return ()
    return tuple(
        LOCAL_DISTANCE
        if other.id == cell.id
        else cell.distances.get(other.id, other.distances.get(cell.id, REMOTE_DISTANCE))
        for other in cells
    )


def _nodes_of_cells(config: DomainXml, host: Host) -> dict[int, int]:
    """Return the node of each cell that is bound to one, by ``<memnode>`` or else by ``<memory>``.

    A cell that ``<memnode>`` says nothing of has its memory where that of the guest is.
    """
    if not config.cell_nodes:
        return {}
    nodes: dict[int, int] = {}
    whole = config.memory_nodes.nodes if config.memory_nodes else None
    if whole is not None and len(whole) == 1:
        nodes = dict.fromkeys((cell.id for cell in config.cells), whole.first)
    for bound in config.cell_nodes:
        _refuse_unknown(config, bound.nodes, host.node_map, "<memnode> nodeset", at=bound.line)
        nodes.pop(bound.cell, None)
        if len(bound.nodes) == 1 or bound.mode == "preferred":
            nodes[bound.cell] = bound.nodes.first
    return nodes


# --- homenode's own attributes ---


def _wish_error(config: DomainXml, name: str, error: HomenodeError) -> ParseError:
    return config.error(f"{name}: {error.message}", at="placement", hint=error.hint)


def _nodes(config: DomainXml, host: Host) -> NodeMap | int | None:
    """Return the nodes that ``nodes`` names, or how many it wants; None if it leaves it open."""
    try:
        return nodes_or_count(config.wishes.get("nodes", "auto"), host)
    except HomenodeError as error:
        raise _wish_error(config, "nodes", error) from None


def _excluded(config: DomainXml, host: Host) -> NodeMap:
    text = config.wishes.get("exclude", "")
    try:
        return listed_nodes(text, host) if text.strip() else NodeMap()
    except HomenodeError as error:
        raise _wish_error(config, "exclude", error) from None


def _apart_from(config: DomainXml) -> tuple[str, ...]:
    return guest_names(config.wishes.get("apart", ""))


def _yes(config: DomainXml, name: str) -> bool:
    return _choice(config, name, ("yes", "no"), default="no") == "yes"


def _choice(config: DomainXml, name: str, known: tuple[str, ...], *, default: str) -> str:
    value = config.wishes.get(name, default)
    if value not in known:
        hint = f"it is one of {', '.join(known)}"
        raise config.error(f"{name}={value[:40]!r} is not known", at="placement", hint=hint)
    return value


def _split(config: DomainXml) -> bool:
    # A guest that has cells has been given them, perhaps by us.
    wanted = _choice(config, "virtual-nodes", ("auto", "none"), default="none") == "auto"
    return wanted and not config.cells


def _tier(config: DomainXml, warnings: _Oddities) -> Tier | None:
    text = config.wishes.get("tier", "").strip()
    if not text:
        return None
    try:
        tier = tier_of(text, config.memory_kib)
    except HomenodeError as error:
        raise _wish_error(config, "tier", error) from None
    if config.cells:
        # Cells say already where memory lies, and a cell without cpus is what a tier becomes.
        if all(cell.vcpus for cell in config.cells):
            warnings.append(("tier-overruled", f"tier={text} is overruled by the guest's cells"))
        return None
    return tier


def _devices(config: DomainXml, host: Host, warnings: _Oddities) -> tuple[NearDevice, ...]:
    try:
        wish = device_wish(config.wishes.get("devices", "preferred"))
    except HomenodeError as error:
        raise _wish_error(config, "devices", error) from None
    found: list[NearDevice] = []
    for address, line in config.devices:
        try:
            near, oddities = near_devices([address], host, wish)
        except HomenodeError as error:
            raise config.error(error.message, at=line, hint=error.hint) from None
        found += near
        warnings += oddities
    return tuple(found)


# --- nodes that the user names ---


def _with_wishes(
    config: DomainXml, asked: GuestRequest, host: Host, warnings: _Oddities
) -> GuestRequest:
    nodes = _nodes(config, host)
    wishes = _wishes(config, asked, host, warnings)
    if isinstance(nodes, int):
        warnings += [
            _overruled(wish, f"nodes={nodes} nodes") for wish in wishes if wish.setting != "vcpupin"
        ]
        return anywhere(asked)._replace(node_count=nodes)
    if nodes is not None:
        wishes.insert(0, ExplicitNodes(nodes, "nodes"))
    if not wishes:
        return asked
    first, *others = wishes
    for wish in others:
        beyond = wish.nodes - first.nodes
        if asked.tier is not None or asked.spill:
            beyond &= host.nodes_of(host.cpu_map)  # the others are where the tier is
        if wish.setting != "vcpupin" and beyond:
            warnings.append(_overruled(wish, f"{first.setting}, which names {first.nodes}"))
    if first.setting == "nodes":
        asked = with_nodes(asked, first, host)
    return asked._replace(explicit=first)


def with_nodes(asked: GuestRequest, wish: ExplicitNodes, host: Host) -> GuestRequest:
    """Return the request for nodes that outrank all others, without what is of another placement.

    That is: the nodes of its virtual nodes, if some are others (they are dealt out anew); the cpus
    that its vcpus prefer, if some are of other nodes; and the hard affinity of vcpus that are held
    to all cpus of other nodes alone.
    """
    nodes = wish.nodes
    if not NodeMap(cell.node for cell in asked.virtual_nodes if cell.node is not None) <= nodes:
        asked = anywhere(asked)._replace(soft=asked.soft)
    soft = asked.soft if host.nodes_of(CpuMap.union(asked.soft)) <= nodes else ()
    home = host.cpus_of(nodes)
    hard = tuple(
        host.cpu_map
        if cpus.isdisjoint(home) and host.cpus_of(host.nodes_of(cpus)) == cpus
        else cpus
        for cpus in asked.hard
    )
    if not home:
        hard = asked.hard  # memory alone is wanted there, and vcpus are elsewhere anyway
    elif all(cpus >= host.cpu_map for cpus in hard):
        hard = ()
    return asked._replace(hard=hard, soft=soft, explicit=wish, node_count=None)


def _wishes(
    config: DomainXml, asked: GuestRequest, host: Host, warnings: _Oddities
) -> list[ExplicitNodes]:
    """Return the nodes that elements of libvirt's name, the strongest first."""
    wishes = []
    memory = _memory_nodes(config, host, warnings)
    bound = NodeMap.union(one.nodes for one in config.cell_nodes)
    open_cells = len(config.cells) - len(config.cell_nodes)
    if bound and open_cells and memory is None:
        text = f"<memnode> is for {len(config.cell_nodes)} of {len(config.cells)} cells"
        warnings.append(("memnode-for-some", f"{text}: the others are placed freely"))
    elif bound:
        nodes = bound if memory is None or not open_cells else bound | memory
        wishes.append(ExplicitNodes(nodes, "memnode"))
    if memory is not None:
        wishes.append(ExplicitNodes(memory, "numatune"))
    masks = asked.hard or asked.soft
    if masks and len(config.pins) == config.vcpus:
        wishes.append(ExplicitNodes(host.nodes_of(CpuMap.union(masks)), "vcpupin"))
    return wishes


def _memory_nodes(config: DomainXml, host: Host, warnings: _Oddities) -> NodeMap | None:
    stated = config.memory_nodes
    if stated is None or stated.nodes is None:
        return None
    name = "<numatune><memory> nodeset"
    _refuse_unknown(config, stated.nodes, host.node_map, name, at="numatune memory")
    if stated.mode == "preferred" and len(stated.nodes) > 1:
        # As libvirt 9.0 with QEMU 7.2 was seen to do: policy prefer:0 of nodeset 0-1.
        first = NodeMap([stated.nodes.first])
        text = f"mode='preferred' takes one node: of {stated.nodes.named}, {first.named}"
        warnings.append(("preferred-takes-one-node", text))
        return first
    return stated.nodes


def _overruled(wish: ExplicitNodes, by: str) -> tuple[str, str]:
    text = f"{wish.setting} names {wish.nodes.named}, but is overruled by {by}"
    return f"{wish.setting}-overruled", text


def _away(asked: GuestRequest, host: Host) -> _Oddities:
    """Tell of vcpus that cannot run on the nodes that their guest's memory is to be on."""
    masks = asked.hard or asked.soft
    if asked.explicit is None or not masks:
        return []
    nodes, setting = asked.explicit
    home = host.cpus_of(nodes)
    if not home:
        return []  # memory on nodes without cpus has its vcpus elsewhere
    away = CpuMap(vcpu for vcpu, cpus in enumerate(masks) if cpus.isdisjoint(home))
    if not away:
        return []
    text = f"{away.named_vcpus} cannot run on {nodes.named}, which {setting} names"
    text += ": memory there is remote"
    return [("vcpus-away-from-memory", text)]
