"""Made-up hosts, from a short TOML file.

A two-socket machine with eight nodes, 128 cores and 256 threads::

    name = "epyc"
    hypervisor = "xen"
    sockets = 2
    nodes = 8                    # in all; or their numbers: "0-3,8-11"
    cores = 16                   # of each node
    threads_per_core = 2
    cores_per_llc = 8            # cores that share a last-level cache
    memory = "64GiB"             # of each node
    free = "60GiB"               # of each node; all of it, if not said

    [distances]
    local = 10                   # a node to itself
    socket = 12                  # to the other nodes of its socket
    machine = 32                 # to the rest

=================== ============================================== =====================
key                 meaning                                        if not said
=================== ============================================== =====================
name                the host's name                                the file's
hypervisor          what runs it, such as "xen 4.17"               unknown
sockets             how many; nodes are spread evenly over them    1
nodes               how many, or a list of their numbers           1 for each socket
cores               of each node                                   1
threads_per_core    hardware threads of a core                     1
threads             how cpus are numbered: "adjacent", "split"     "adjacent"
cores_per_llc       cores that share a last-level cache            unknown
cores_per_die       cores of a die; a die stays within its node    unknown
memory, free        of each node: a size with its unit             unknown; all free
huge_pages          of each node: pages in a pool, by their size   none
distances           a table of levels, of groups, or a matrix      unknown
=================== ============================================== =====================

``threads = "adjacent"`` numbers the threads of a core one after the other (core 0 has cpus 0 and
1), as Xen does, which sorts cpus by node, socket, core and thread (xen/arch/x86/setup.c,
normalise_cpu_order()). ``"split"`` numbers the first threads of all cores and then the second
ones (core 0 of 128 has cpus 0 and 128), as most Linux machines do.

Distances are one of three. By level, as above: ``local`` (10), ``socket`` (as ``machine``),
``machine``. By groups of nodes, from near to far, counted in ascending order of their numbers:
``groups = [[4, 12], [16, 20], [64, 40]]`` is 12 among four, 20 among sixteen, 40 among all
(and ``local``). Or as the firmware states them, a row for each node::

    distances = [[10, 16], [16, 10]]

Nodes that differ are told apart, each with what it has of its own::

    [[node]]
    id = 8
    socket = 0
    cores = 0                    # memory without cpus
    memory = "256GiB"
    free = "200GiB"
    kind = "cxl"                 # dram, cxl, hbm, gpu, pmem
    huge_pages = {"2MiB" = 512}  # a pool of so many pages, all free; part of ``memory``

Such a node may be one beyond those that ``nodes`` names. Nodes that name no socket of their own
are spread evenly over all sockets. Then there may be cpupools (``cpus`` or ``nodes``) and
devices::

    [[cpupool]]
    name = "Pool-0"
    nodes = "0-3"
    scheduler = "credit2"

    [[device]]
    address = "0000:41:00.0"
    node = 2
    kind = "network"             # accelerator, display, network, storage, chipset, other

Unknown keys are errors. A host has at most 1024 nodes and 8192 cpus.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple, get_args

from homenode.bitmap import LARGEST_MEMBER, CpuMap, NodeMap
from homenode.errors import HomenodeError, ParseError
from homenode.formats.doubts import with_doubts
from homenode.formats.table import LARGEST_NUMBER, Table
from homenode.formats.toml_text import document
from homenode.host import Cpu, Cpupool, Device, DeviceKind, Host, Node, NodeKind, PagePool
from homenode.units import parse_memory_kib

LARGEST_TEXT = 8 << 20
MOST_NODES = 1024
MOST_CPUS = 8192

_PER_NODE = ("cores", "memory", "free", "cores_per_llc", "cores_per_die", "huge_pages")
KEYS = (
    *_PER_NODE, "name", "hypervisor", "sockets", "nodes", "threads_per_core", "threads",
    "distances", "node", "cpupool", "device",
)  # fmt: skip
"""The keys of a table that describes a host."""
_NODE = (*_PER_NODE, "id", "socket", "kind")


class _Shape(NamedTuple):
    """What one node is made of, by its own table or else by the host's."""

    id: int
    socket: int
    cores: int
    cores_per_llc: int | None
    cores_per_die: int | None
    memory_kib: int | None
    free_kib: int | None
    kind: NodeKind
    pages: tuple[PagePool, ...]


def parse(text: str, *, source: str) -> Host:
    """Return the host that `text` describes; `ParseError` says what is wrong with it and where."""
    return host_of(_document(text, source))


def host_of(host: Table) -> Host:
    """Return the host that a table describes, which may be part of a larger document.

    It may have other keys than `KEYS`, too. Raises `ParseError` as `parse` does.
    """
    source = host.source
    shapes = _shapes(host)
    nodes = [
        Node(
            shape.id,
            kind=shape.kind,
            present_kib=shape.memory_kib,
            free_kib=shape.free_kib,
            pages=shape.pages,
        )
        for shape in shapes
    ]
    node_map = NodeMap(shape.id for shape in shapes)
    cpus = _cpus(host, shapes)
    try:
        made = Host(
            cpus=cpus,
            nodes=nodes,
            distances=_distances(host, shapes),
            name=host.maybe_text("name") or _stem(source),
            source=source,
            hypervisor=host.maybe_text("hypervisor"),
            pools=_pools(host, cpus, node_map),
            devices=_devices(host, node_map),
        )
        return with_doubts(made)
    except ParseError:
        raise
    except HomenodeError as error:
        raise ParseError(error.message, source=source, hint=error.hint) from None


def _document(text: str, source: str) -> Table:
    if len(text) > LARGEST_TEXT:
        raise ParseError("too long for the description of a host", source=source)
    # Anything may have been taken for TOML: its reader says what else is read, too.
    hint = "a host is described in TOML, by `xl info -n`, or by a snapshot of homenode"
    return Table(document(text, source=source, hint=hint), KEYS, path="", source=source)


def _stem(source: str) -> str:
    return source.rpartition("/")[2].removesuffix(".toml") or "host"


def _shapes(host: Table) -> list[_Shape]:
    own = {}
    for table in host.tables("node", _NODE, most=MOST_NODES):
        number = table.integer("id", most=LARGEST_MEMBER)
        if number in own:
            raise table.error("id", f"node {number} is described twice")
        own[number] = table
    sockets = host.maybe_integer("sockets", least=1, most=MOST_NODES) or 1
    numbers = _numbers(host, sockets) | NodeMap(own)
    if len(numbers) > MOST_NODES:
        raise host.error("nodes", f"{len(numbers)} nodes; a host has at most {MOST_NODES}")
    spread = [number for number in numbers if number not in own or "socket" not in own[number]]
    if len(spread) % sockets:
        raise host.error(
            "nodes",
            f"{len(spread)} nodes do not spread evenly over {sockets} sockets",
            hint="name the socket of some of them: [[node]] id = N, socket = N",
        )
    shapes, placed = [], 0
    for number in numbers:
        override = own.get(number)
        socket = None if override is None else override.maybe_integer("socket", most=sockets - 1)
        if socket is None:
            socket = placed * sockets // len(spread)
            placed += 1
        shapes.append(_shape(number, socket, host=host, own=override))
    return shapes


def _numbers(host: Table, sockets: int) -> NodeMap:
    value = host.value("nodes")
    if isinstance(value, str):
        return host.map("nodes", NodeMap)
    if value is None and "node" in host and "sockets" not in host:
        return NodeMap()
    return NodeMap.full(host.maybe_integer("nodes", least=1, most=MOST_NODES) or sockets)


def _shape(number: int, socket: int, *, host: Table, own: Table | None) -> _Shape:
    def count(key: str, least: int) -> int | None:
        stated = own.maybe_integer(key, least=least, most=MOST_CPUS) if own is not None else None
        return (
            stated if stated is not None else host.maybe_integer(key, least=least, most=MOST_CPUS)
        )

    memory = _size(own, "memory") if own is not None else None
    free = _size(own, "free") if own is not None else None
    if memory is None:
        memory = _size(host, "memory")
        # What is free of another amount of memory would say nothing about this one.
        free = _size(host, "free") if free is None else free
    pages = _huge_pages(own if own is not None and "huge_pages" in own else host)
    pooled = sum(pool.page_kib * pool.total for pool in pages)
    if pooled > (memory or 0):
        raise (own or host).error("huge_pages", f"node {number} has less memory than its pools")
    if free is not None and free > (memory or 0) - pooled:
        raise (own or host).error("free", f"node {number} has less memory than is free")
    cores = count("cores", 0)
    return _Shape(
        id=number,
        socket=socket,
        cores=1 if cores is None else cores,
        cores_per_llc=count("cores_per_llc", 1),
        cores_per_die=count("cores_per_die", 1),
        memory_kib=memory,
        free_kib=free if free is not None or memory is None else memory - pooled,
        kind=own.word("kind", get_args(NodeKind), default="dram") if own is not None else "dram",
        pages=pages,
    )


def _huge_pages(table: Table) -> tuple[PagePool, ...]:
    if "huge_pages" not in table:
        return ()
    sizes = table.value("huge_pages")
    pools = table.table("huge_pages", sizes if isinstance(sizes, dict) else ())
    found = []
    for size in sizes if isinstance(sizes, dict) else ():
        try:
            page_kib = parse_memory_kib(size)
        except ParseError as error:
            raise pools.error(size, error.message, hint=error.hint) from None
        if not 0 < page_kib <= LARGEST_NUMBER:
            raise pools.error(size, "not the size of a page")
        count = pools.integer(size, most=LARGEST_NUMBER // page_kib)
        found.append(PagePool(page_kib, count, count))
    return tuple(sorted(found))


def _size(table: Table, key: str) -> int | None:
    text = table.maybe_text(key)
    if text is None:
        return None
    try:
        size = parse_memory_kib(text)
    except ParseError as error:
        raise table.error(key, error.message, hint=error.hint) from None
    if size > LARGEST_NUMBER:
        raise table.error(key, "more memory than any machine has")
    return size


def _cpus(host: Table, shapes: list[_Shape]) -> list[Cpu]:
    threads = host.maybe_integer("threads_per_core", least=1, most=MOST_CPUS) or 1
    split = host.word("threads", ("adjacent", "split"), default="adjacent") == "split"
    count = sum(shape.cores for shape in shapes)
    if count * threads > MOST_CPUS:
        raise host.error("cores", f"{count * threads} cpus; a host has at most {MOST_CPUS}")
    return [
        core._replace(id=at + thread * count if split else at * threads + thread, thread=thread)
        for at, core in enumerate(_cores(shapes))
        for thread in range(threads)
    ]


def _cores(shapes: list[_Shape]) -> Iterator[Cpu]:
    llcs: dict[object, int] = {}
    dies: dict[object, dict[object, int]] = defaultdict(dict)
    cores: dict[object, int] = defaultdict(int)
    for shape in shapes:
        for at in range(shape.cores):
            llc = die = None
            if shape.cores_per_llc is not None:
                llc = llcs.setdefault((shape.id, at // shape.cores_per_llc), len(llcs))
            if shape.cores_per_die is not None:
                siblings = dies[shape.socket]
                die = siblings.setdefault((shape.id, at // shape.cores_per_die), len(siblings))
            core = cores[shape.socket, die]
            cores[shape.socket, die] += 1
            yield Cpu(at, shape.id, core=core, socket=shape.socket, die=die, llc=llc)


def _distances(host: Table, shapes: list[_Shape]) -> tuple[tuple[int | None, ...], ...] | None:
    if "distances" not in host:
        return None
    if isinstance(host.value("distances"), list):
        return host.matrix("distances", size=len(shapes))
    table = host.table("distances", ("local", "socket", "machine", "groups"))
    stated = table.maybe_integer("local")
    local = 10 if stated is None else stated
    if "groups" in table:
        if "socket" in table or "machine" in table:
            raise table.error("groups", "stands instead of socket and machine, not beside them")
        return _by_groups(table, len(shapes), local=local)
    machine = table.maybe_integer("machine")
    socket = table.maybe_integer("socket") if "socket" in table else machine
    return tuple(
        tuple(
            local if one is other else socket if one.socket == other.socket else machine
            for other in shapes
        )
        for one in shapes
    )


def _by_groups(table: Table, count: int, *, local: int) -> tuple[tuple[int, ...], ...]:
    groups: list[tuple[int, int]] = []
    for item in table.items("groups", most=MOST_NODES):
        match item:
            case [int(size), int(far)] if size > 0 and 0 <= far <= LARGEST_NUMBER:
                groups.append((size, far))
            case _:
                raise table.error("groups", f"a group is [nodes, distance], not {item!r:.40}")
    if not groups or groups != sorted(groups) or groups[-1][0] < count:
        raise table.error("groups", f"groups grow from near to far, the last to all {count} nodes")

    def distance(one: int, other: int) -> int:
        if one == other:
            return local
        return next(far for size, far in groups if one // size == other // size)

    return tuple(tuple(distance(one, other) for other in range(count)) for one in range(count))


def _pools(host: Table, cpus: list[Cpu], node_map: NodeMap) -> list[Cpupool]:
    pools = []
    there = CpuMap(cpu.id for cpu in cpus)
    known = ("name", "cpus", "nodes", "scheduler", "granularity")
    for table in host.tables("cpupool", known, most=MOST_CPUS):
        own = table.maybe_map("cpus", CpuMap, within=there)
        nodes = table.maybe_map("nodes", NodeMap, within=node_map)
        if (own is None) == (nodes is None):
            raise table.error("cpus", "a cpupool has either cpus or nodes")
        if own is None:
            own = CpuMap(cpu.id for cpu in cpus if cpu.node in (nodes or ()))
        pools.append(
            Cpupool(
                table.text("name"),
                own,
                scheduler=table.maybe_text("scheduler"),
                granularity=table.maybe_text("granularity"),
            )
        )
    return pools


def _devices(host: Table, node_map: NodeMap) -> list[Device]:
    devices = []
    for table in host.tables("device", Device._fields, most=LARGEST_MEMBER):
        node = table.maybe_integer("node", most=LARGEST_MEMBER)
        if node is not None and node not in node_map:
            raise table.error("node", f"there is no node {node}", hint=f"there are {node_map}")
        kind = table.maybe_word("kind", get_args(DeviceKind))
        devices.append(Device(table.text("address"), node, kind))
    return devices
