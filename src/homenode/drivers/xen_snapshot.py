"""A Xen host and its guests, put together from what ``xl`` prints.

Pure: the texts are keyed by the names of files that they are saved in (`OUTPUTS`), whether they
come from a folder or from commands that were just run. Only ``xl info -n`` has to be there; what
the others would have told is unknown without them. Where two of them tell the same thing, the
finer one counts: pages outrank MiB. What does not fit together is a note of the host, as
a snapshot of several commands is never of one moment; what cannot be true of any moment is
refused.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.base import Snapshot
from homenode.errors import HomenodeError, ParseError
from homenode.formats import xen_debug_keys, xl_info
from homenode.formats.columns import whole_number
from homenode.formats.doubts import with_doubts
from homenode.formats.xen_debug_keys import DomainPages, NumaDump
from homenode.formats.xl_info import XlInfo
from homenode.guest import Guest, GuestState, MemoryByNode, Vcpu
from homenode.host import Cpu, Cpupool, Device, Host, Node, Reservation
from homenode.rules import xen as rules
from homenode.units import format_memory

if TYPE_CHECKING:
    from homenode.formats.xl_list import ConfiguredGuest, ListedGuest
else:
    # A name in quotes would be compiled when the record is made, and the first compilation of a
    # process takes a millisecond.
    ConfiguredGuest = ListedGuest = object

INFO = "xl-info-n.txt"
LIST = "xl-list-v-c-n.txt"
LIST_NODES = "xl-list-n.txt"
LIST_POOLS = "xl-list-c.txt"
LIST_CONFIGURED = "xl-list-l.json"
CLAIMS = "xl-claims.txt"
VCPUS = "xl-vcpu-list.txt"
POOL_CPUS = "xl-cpupool-list-c.txt"
POOLS = "xl-cpupool-list.txt"
DUMP_NUMA = "debug-keys-u.txt"
DUMP_HEAP = "debug-keys-H.txt"

OUTPUTS: Mapping[str, str] = {
    INFO: "xl info -n",
    LIST: "xl list -v -c -n",
    LIST_NODES: "xl list -n",
    LIST_POOLS: "xl list -c",
    LIST_CONFIGURED: "xl list -l",
    CLAIMS: "xl claims",
    VCPUS: "xl vcpu-list",
    POOL_CPUS: "xl cpupool-list -c",
    POOLS: "xl cpupool-list",
    DUMP_NUMA: "xl debug-keys u; xl dmesg",
    DUMP_HEAP: "xl debug-keys H; xl dmesg",
}
"""The file of each output, and the command that prints it."""

MOST_ASSUMED_VCPUS = 1 << 18
"""A bound on what a few words of a damaged file can make us hold in memory."""

_DEFAULT_POOL = "Pool-0"

_Row = TypeVar("_Row", ListedGuest, ConfiguredGuest)


class _Outputs:
    """The texts, the names under which complaints show them, and the notes on the way."""

    __slots__ = ("assumed_vcpus", "cpus", "notes", "several", "source", "texts")

    def __init__(self, texts: dict[str, str], source: str) -> None:
        self.texts = texts
        self.source = source
        self.notes: list[str] = []
        self.several = len(texts) > 1
        self.cpus = CpuMap()
        """All cpus of the host, those offline too."""
        self.assumed_vcpus = 0

    def __contains__(self, name: str) -> bool:
        return name in self.texts

    def text(self, name: str) -> str:
        return self.texts.get(name, "")

    def place(self, name: str) -> str:
        """Return how complaints name the file: its folder before it, if there are more of them."""
        return f"{self.source}/{name}" if self.several else self.source

    def drop(self, name: str) -> None:
        """Go on as if there were no such output."""
        del self.texts[name]

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def snapshot_of(outputs: Mapping[str, str], *, source: str) -> Snapshot:
    """Return the host and the guests that `outputs` describe (texts by the names in `OUTPUTS`).

    `source` is where they are from: a folder, a host, or the one file there is. Raises
    `HomenodeError` for what cannot be read, or contradicts itself.
    """
    given = _Outputs({name: text for name, text in outputs.items() if name in OUTPUTS}, source)
    if INFO not in given:
        raise HomenodeError(f"{source}: {INFO} is missing", hint=f"save `{OUTPUTS[INFO]}` there")
    info = xl_info.parse(given.text(INFO), source=given.place(INFO))
    dump = xen_debug_keys.parse_numa(given.text(DUMP_NUMA))
    if DUMP_NUMA in given and not dump.nodes and not dump.domains:
        given.note(f"there is no dump in {DUMP_NUMA}")
        given.drop(DUMP_NUMA)
    nodes = _nodes(info, dump, given)
    cpus = _cpus(info, dump, given)
    given.cpus = CpuMap(cpu.id for cpu in cpus)
    pools = _pools(info, cpus, given)
    try:
        host = Host(
            cpus=cpus,
            nodes=nodes,
            distances=info.distances,
            name=info.head.get("host") or "host",
            source=source,
            hypervisor=" ".join(["Xen", info.head.get("xen_version", "")]).strip(),
            pools=pools,
            devices=_devices(info),
        )
    except HomenodeError as error:
        raise ParseError(error.message, source=given.place(INFO), hint=error.hint) from None
    guests = _guests(host, dump, given)
    return Snapshot(with_doubts(host.replace(notes=given.notes)), guests)


def _nodes(info: XlInfo, dump: NumaDump, given: _Outputs) -> list[Node]:
    free_kib, spans = {}, {}
    start = 0
    for node in info.nodes:
        seen = dump.nodes.get(node.id)
        if seen is None and DUMP_NUMA in given:
            given.note(
                f"{DUMP_NUMA} does not tell of node {node.id}: its free memory is in whole MiB"
            )
        # Without their addresses, nodes are taken to follow one another.
        span = rules.NodeSpan(start, node.spanned_kib // rules.PAGE_KIB)
        spans[node.id] = rules.NodeSpan(seen.start, seen.spanned) if seen else span
        free_kib[node.id] = seen.free * rules.PAGE_KIB if seen else node.free_kib
        start = spans[node.id].start_page + spans[node.id].pages
    for unknown in dump.nodes.keys() - free_kib.keys():
        raise ParseError(
            f"tells of node {unknown}, which {INFO} has not",
            source=given.place(DUMP_NUMA),
            hint="are they from the same host?",
        )
    _note_holes(info, given)
    low = _low_memory(info, spans, free_kib, given)
    dirty = xen_debug_keys.parse_unscrubbed(given.text(DUMP_HEAP))
    with_cpus = {cpu.node for cpu in info.cpus}
    return [
        Node(
            node.id,
            kind="dram" if node.id in with_cpus else None,
            present_kib=spans[node.id].pages * rules.PAGE_KIB,
            free_kib=free_kib[node.id],
            reserved=_reserved(node.id, free_kib[node.id], low, dirty.get(node.id, 0)),
        )
        for node in info.nodes
    ]


def _reserved(
    node: int, free_kib: int, low: rules.LowMemory, dirty_pages: int
) -> tuple[Reservation, ...]:
    low_kib = low.free_kib[node]
    unscrubbed_kib = rules.unscrubbed_kib(dirty_pages, free_kib - low_kib)
    reserved = (
        Reservation(low_kib, f"{_below(low)}, which Xen hands out last"),
        Reservation(unscrubbed_kib, rules.UNSCRUBBED),
    )
    # None of the low memory free is a fact too, and unlike not knowing.
    return tuple(one for one in reserved if one.kib or one.reason != rules.UNSCRUBBED)


def _low_memory(
    info: XlInfo,
    spans: Mapping[int, rules.NodeSpan],
    free_kib: Mapping[int, int],
    given: _Outputs,
) -> rules.LowMemory:
    low = rules.low_memory(
        spans,
        free_kib,
        zones=xen_debug_keys.parse_heap(given.text(DUMP_HEAP)),
        width_bits=_told_width(info),
    )
    if low.assumed:
        plural = "s" if len(low.assumed) > 1 else ""
        given.note(
            f"{_below(low)} is handed out last by Xen, and is assumed to be"
            f" all free on node{plural} {low.assumed}; `{OUTPUTS[DUMP_HEAP]}` would tell"
        )
    return low


def _told_width(info: XlInfo) -> int | None:
    """Return what ``dma_bits=`` sets (page_alloc.c, parse_dma_bits(): up to 13 is ignored)."""
    widths = [whole_number(value) for value in _told_options(info, "dma_bits")]
    heeded = [width for width in widths if width is not None and width > rules.PAGE_BITS + 1]
    return heeded[-1] if heeded else None


def _told_options(info: XlInfo, wanted: str) -> list[str]:
    """Return what such options on Xen's command line say, the last one last."""
    options = [word.partition("=") for word in info.head.get("xen_commandline", "").split()]
    return [value for key, equals, value in options if key == wanted and equals]


def _below(low: rules.LowMemory) -> str:
    return f"memory below {format_memory(1 << low.width_bits >> 10)}"


def _note_holes(info: XlInfo, given: _Outputs) -> None:
    spanned, total = sum(node.spanned_kib for node in info.nodes) >> 10, info.told("total_memory")
    # Each figure is rounded down by up to a MiB.
    if total is not None and spanned > total + len(info.nodes):
        given.note(
            f"the nodes span {spanned} MiB and the host has {total} MiB:"
            " what the nodes have counts holes in the address space"
        )
    if "xen_commandline" in info.head and not _told_options(info, "dom0_mem"):
        given.note(
            "dom0 has no dom0_mem= on Xen's command line: it gives up memory for guests as they"
            " come, from nodes of its own choice"
        )
    claimed = info.told("outstanding_claims")
    if claimed:
        given.note(f"{claimed} MiB of the free memory are claimed for guests that are being built")


def _cpus(info: XlInfo, dump: NumaDump, given: _Outputs) -> tuple[Cpu, ...]:
    """Return the cpus; where more are present than online, others have to tell which are."""
    told = info.told("nr_cpus")
    if told is None or told == len(info.cpus):
        return info.cpus
    online = dump.cpus
    if len(online) != told and info.told("free_cpus") == 0:
        online = CpuMap.union(cpus for _, cpus in _pool_cpus(given))
    if len(online) != told:
        given.note(
            f"{told} of {len(info.cpus)} cpus are online, and nothing tells which:"
            " all of them are taken for it"
        )
        return info.cpus
    return tuple(cpu._replace(online=cpu.id in online) for cpu in info.cpus)


def _devices(info: XlInfo) -> list[Device]:
    known = {node.id for node in info.nodes}
    return [
        device if device.node in known else device._replace(node=None) for device in info.devices
    ]


def _pool_cpus(given: _Outputs) -> tuple[tuple[str, CpuMap], ...]:
    if POOL_CPUS not in given:
        return ()
    from homenode.formats import xl_list  # noqa: PLC0415 - only where there are lists

    return xl_list.parse_cpupool_cpus(given.text(POOL_CPUS), source=given.place(POOL_CPUS))


def _pools(info: XlInfo, cpus: tuple[Cpu, ...], given: _Outputs) -> list[Cpupool]:
    online = CpuMap(cpu.id for cpu in cpus if cpu.online)
    pools, schedulers = _pool_cpus(given), {}
    _refuse_unknown_cpus(CpuMap.union(own for _, own in pools), given, POOL_CPUS)
    if POOLS in given:
        from homenode.formats import xl_list  # noqa: PLC0415 - only where there are lists

        rows = xl_list.parse_cpupools(given.text(POOLS), source=given.place(POOLS))
        schedulers = {row.name: row.scheduler for row in rows}
        if not pools and len(rows) == 1 and rows[0].cpus == len(online):
            pools = ((rows[0].name, online),)
        elif not pools:
            given.note(f"the cpus of cpupools are unknown; `{OUTPUTS[POOL_CPUS]}` would tell")
    if _DEFAULT_POOL not in schedulers and "xen_scheduler" in info.head:
        schedulers[_DEFAULT_POOL] = info.head["xen_scheduler"]
    told = _told_options(info, "sched-gran")
    granularity = told[-1] if told else None
    return [Cpupool(name, own & online, schedulers.get(name), granularity) for name, own in pools]


def _refuse_unknown_cpus(named: CpuMap, given: _Outputs, name: str) -> None:
    unknown = named - given.cpus
    if unknown:
        plural = "s" if len(unknown) > 1 else ""
        raise ParseError(
            f"names cpu{plural} {str(unknown)[:40]}, which this host has not",
            source=given.place(name),
            hint="are the files from the same host?",
        )


class _Seen(NamedTuple):
    """What the outputs say of one guest; None and () are not said."""

    listed: ListedGuest | None
    pooled: ListedGuest | None
    claiming: ListedGuest | None
    configured: ConfiguredGuest | None
    name: str | None
    vcpus: tuple[Vcpu, ...]
    pages: DomainPages | None


def _guests(host: Host, dump: NumaDump, given: _Outputs) -> tuple[Guest, ...]:
    listed = _listed(LIST if LIST in given else LIST_NODES, host, given)
    pooled = _listed(LIST if LIST in given else LIST_POOLS, host, given)
    claiming = _listed(CLAIMS, host, given)
    configured = _configured(given)
    names, vcpus = _vcpus(host, given)
    ids = listed.keys() | pooled.keys() | configured.keys() | names.keys()
    if ids:
        _note_strays(dump, ids, given)
    return tuple(
        _guest(number, host, given, _Seen(
            listed.get(number), pooled.get(number), claiming.get(number), configured.get(number),
            names.get(number), vcpus.get(number, ()), dump.domains.get(number),
        ))
        for number in sorted(ids or dump.domains)
    )  # fmt: skip


def _note_strays(dump: NumaDump, ids: Collection[int], given: _Outputs) -> None:
    for stray in sorted(dump.domains.keys() - ids):
        mib = dump.domains[stray].total * rules.PAGE_KIB >> 10
        given.note(f"domain {stray} has {mib} MiB in {DUMP_NUMA}, and is in no list of guests")
    whole = {number for number, pages in dump.domains.items() if pages.is_whole}
    if DUMP_NUMA in given and set(ids) - whole:
        numbers = ", ".join(str(number) for number in sorted(set(ids) - whole)[:8])
        given.note(f"{DUMP_NUMA} does not tell where all of the memory is of domain {numbers}")


def _listed(name: str, host: Host, given: _Outputs) -> "dict[int, ListedGuest]":
    if name not in given:
        return {}
    place = given.place(name)
    from homenode.formats import xl_list  # noqa: PLC0415 - only where there are lists

    rows = xl_list.parse_list(given.text(name), nodes=host.node_map, source=place)
    for row in rows:
        unknown = (row.node_affinity or NodeMap()) - host.node_map
        if unknown:
            raise ParseError(
                f"{row.name!r} is affine to nodes {str(unknown)[:40]}, which this host has not",
                source=place,
            )
    return _by_id(rows, place)


def _configured(given: _Outputs) -> "dict[int, ConfiguredGuest]":
    if LIST_CONFIGURED not in given:
        return {}
    place = given.place(LIST_CONFIGURED)
    from homenode.formats import xl_list  # noqa: PLC0415 - only where there are lists

    return _by_id(xl_list.parse_configured(given.text(LIST_CONFIGURED), source=place), place)


def _by_id(rows: tuple[_Row, ...], place: str) -> dict[int, _Row]:
    by_id: dict[int, _Row] = {}
    for row in rows:
        if row.id in by_id:
            raise ParseError(f"lists domain {row.id} twice", source=place)
        by_id[row.id] = row
    return by_id


def _vcpus(host: Host, given: _Outputs) -> tuple[dict[int, str], dict[int, tuple[Vcpu, ...]]]:
    if VCPUS not in given:
        return {}, {}
    place = given.place(VCPUS)
    from homenode.formats import xl_list  # noqa: PLC0415 - only where there are lists

    rows = xl_list.parse_vcpu_list(given.text(VCPUS), cpus=host.cpu_map, source=place)
    names: dict[int, str] = {}
    vcpus: dict[int, dict[int, Vcpu]] = {}
    for row in rows:
        vcpu = row.vcpu
        names[row.guest_id] = row.guest_name
        masks = vcpu.hard | vcpu.soft | CpuMap([vcpu.cpu] if vcpu.cpu is not None else [])
        _refuse_unknown_cpus(masks, given, VCPUS)
        if vcpu.id in vcpus.setdefault(row.guest_id, {}):
            raise ParseError(f"lists vcpu {vcpu.id} of {row.guest_name!r} twice", source=place)
        vcpus[row.guest_id][vcpu.id] = vcpu
    return names, {number: tuple(own.values()) for number, own in vcpus.items()}


def _guest(number: int, host: Host, given: _Outputs, seen: _Seen) -> Guest:
    configured, row = seen.configured, seen.listed or seen.pooled
    name = (row and row.name) or seen.name or (configured and configured.name)
    awaited_kib = (seen.claiming and seen.claiming.claimed_kib) or 0
    uuid = (row and row.uuid) or (configured and configured.uuid)
    return Guest(
        name or f"domain {number}",
        vcpus=seen.vcpus or _assumed_vcpus(host, given, seen),
        id=number,
        uuid=uuid or None,
        type=configured.type if configured else None,
        state=_state(row, awaited_kib=awaited_kib),
        awaited_kib=awaited_kib,
        memory_kib=_memory_kib(seen),
        max_memory_kib=configured.max_kib if configured else None,
        memory_by_node=_memory_by_node(host, seen.pages),
        node_affinity=seen.listed.node_affinity if seen.listed else None,
        pool=_pool(host, given, seen),
        virtual_nodes=configured.virtual_nodes if configured else (),
    )


def _state(row: ListedGuest | None, *, awaited_kib: int) -> GuestState:
    if row is None:
        return "running"
    # Its vcpus come online at the very end (libxl_dom.c, libxl__build_post()).
    unfinished = row.state == "paused" and row.vcpus == 0
    return "building" if awaited_kib or unfinished else row.state


def _memory_kib(seen: _Seen) -> int | None:
    row = seen.listed or seen.pooled
    if seen.pages is not None:
        return seen.pages.total * rules.PAGE_KIB
    if row is not None:
        # What is claimed is counted as its memory by xl, and is not there yet.
        claimed_kib = (seen.claiming and seen.claiming.claimed_kib) or 0
        return max(0, row.memory_kib - claimed_kib)
    return seen.configured.target_kib if seen.configured else None


def _memory_by_node(host: Host, pages: DomainPages | None) -> MemoryByNode | None:
    if pages is None or not pages.is_whole or not pages.by_node.keys() <= host.nodes_by_id.keys():
        return None
    kib = {node: count * rules.PAGE_KIB for node, count in pages.by_node.items() if count}
    return MemoryByNode(kib, OUTPUTS[DUMP_NUMA].partition(";")[0])


def _pool(host: Host, given: _Outputs, seen: _Seen) -> str | None:
    known = [pool.name for pool in host.pools]
    if seen.pooled and seen.pooled.pool:
        if known and seen.pooled.pool not in known:
            raise ParseError(
                f"{seen.pooled.name!r} is in cpupool {seen.pooled.pool!r}, which is not listed",
                source=given.place(LIST_POOLS),
            )
        return seen.pooled.pool
    if seen.configured and seen.configured.pool in known:
        return seen.configured.pool
    if len(host.pools) > 1:
        given.note(f"which cpupool a guest is in is unknown; `{OUTPUTS[LIST_POOLS]}` would tell")
    return host.pools[0].name if len(host.pools) == 1 else None


def _assumed_vcpus(host: Host, given: _Outputs, seen: _Seen) -> tuple[Vcpu, ...]:
    """Return the vcpus of a guest that ``xl vcpu-list`` does not show, as its config has them."""
    configured, row = seen.configured, seen.listed or seen.pooled
    count = configured.vcpus if configured else None
    count = count if count is not None else row.vcpus if row else 0
    if not count:
        return ()
    given.assumed_vcpus += count
    if given.assumed_vcpus > MOST_ASSUMED_VCPUS:
        raise ParseError(
            f"the guests have more than {MOST_ASSUMED_VCPUS} vcpus", source=given.source
        )
    hard, soft = (configured.hard, configured.soft) if configured else ((), ())
    _refuse_unknown_cpus(CpuMap.union((*hard, *soft)), given, LIST_CONFIGURED)
    given.note(
        f"the masks of vcpus are those of the guests' configs; `{OUTPUTS[VCPUS]}` would tell"
    )
    return tuple(
        Vcpu(
            number,
            (hard[number] if number < len(hard) else CpuMap()) or host.cpu_map,
            (soft[number] if number < len(soft) else CpuMap()) or host.cpu_map,
        )
        for number in range(count)
    )
