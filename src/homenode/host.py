"""The host: a snapshot of a machine's cpus, nodes, distances and pools.

Every reader in `homenode.formats` makes this one model, and everything after it reads nothing
else. What a source does not tell is None, never 0. Node numbers may have holes; a node may lack
cpus, or memory, or both; distances are what the firmware states, true or not.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, NoReturn, Self

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import HomenodeError

NodeKind = Literal["dram", "cxl", "hbm", "gpu", "pmem"]
"""What a node's memory is: ordinary, behind CXL, high-bandwidth, a GPU's, or persistent."""

DeviceKind = Literal["accelerator", "display", "network", "storage", "chipset", "other"]
"""What a device is for; ``chipset`` is what every machine has, and no guest asks for."""

LEVELS = ("llc", "die", "socket", "machine")
"""What a set of nodes can have in common, from near to far."""

UNREACHABLE_DISTANCE = 255
"""What ACPI writes for "no way" (SLIT), and what an unknown distance counts as."""


class Cpu(NamedTuple):
    """One physical cpu (a hardware thread). Numbers are those of the source; None is unknown.

    `core` is unique within its die, `die` within its socket, `llc` within the host.
    """

    id: int
    node: int | None
    core: int | None = None
    socket: int | None = None
    thread: int | None = None
    die: int | None = None
    llc: int | None = None
    online: bool = True


ORDINARY_PAGE_KIB = 64
"""Pages of up to this size are a kernel's ordinary ones (64 KiB on some arm64 and POWER)."""


class Reservation(NamedTuple):
    """Memory of a node that is free and yet not for guests, and why."""

    kib: int
    reason: str


class PagePool(NamedTuple):
    """The huge pages of one size on one node; `free` is None where the source does not tell."""

    page_kib: int
    total: int
    free: int | None


class Node(NamedTuple):
    """One NUMA node's memory, in KiB. Its cpus are `Host.cpus_by_node`.

    `kind` is None where the source does not tell. `free_kib` is what the source calls free;
    `reclaimable_kib` could be freed at once; `reserved` is free but not for guests;
    `committed_kib` is the sum of the maxima of the guests homed here, where memory is touched
    lazily, and `touched_kib` what they have of it already, which is not free any more. `pages` are
    pools of huge pages, which are part of what is present and never of what is free.
    """

    id: int
    kind: NodeKind | None = "dram"
    present_kib: int | None = None
    free_kib: int | None = None
    reclaimable_kib: int | None = None
    reserved: tuple[Reservation, ...] = ()
    committed_kib: int | None = None
    touched_kib: int | None = None
    pages: tuple[PagePool, ...] = ()

    @property
    def reserved_kib(self) -> int:
        """Free memory that is not for guests."""
        return sum(reservation.kib for reservation in self.reserved)

    @property
    def usable_kib(self) -> int | None:
        """What a new guest can get here (None if unknown): free memory is not what fits."""
        if self.free_kib is None:
            return None
        usable = self.free_kib + (self.reclaimable_kib or 0) - self.reserved_kib
        if self.committed_kib is not None and self.touched_kib is not None:
            usable -= max(0, self.committed_kib - self.touched_kib)
        elif self.committed_kib is not None and self.present_kib is not None:
            # What the host itself has of it is not known to be beside the guests'.
            pooled = sum(pool.page_kib * pool.total for pool in self.pages)
            kept = self.reserved_kib + pooled + self.committed_kib
            usable = min(usable, self.present_kib - kept)
        return max(0, usable)

    def usable_in_pages_kib(self, page_kib: int) -> int | None:
        """Return what a new guest can get here in pages of that size (None if unknown).

        Ordinary memory is what is usable; huge pages are those that are free in the node's pool.
        """
        if page_kib <= ORDINARY_PAGE_KIB:
            return self.usable_kib
        for pool in self.pages:
            if pool.page_kib == page_kib:
                return None if pool.free is None else pool.free * pool.page_kib
        return 0 if self.pages else None


class Cpupool(NamedTuple):
    """A Xen cpupool: cpus with a scheduler of their own; a guest is in exactly one."""

    name: str
    cpus: CpuMap
    scheduler: str | None = None
    granularity: str | None = None


class Device(NamedTuple):
    """A device and the node it hangs on (None if the firmware does not say).

    `address` is the PCI address (``0000:41:00.0``) where it has one. `kind` is None where the
    source does not tell.
    """

    address: str
    node: int | None
    kind: DeviceKind | None = None


class Host:
    """A machine as it was seen at one moment; immutable.

    `distances` has a row for each node, in the order of `nodes` (ascending numbers), of the
    distances from it to each of them; None is unknown or unreachable. `latency_ns` and
    `bandwidth_mb_s` (millions of bytes a second) are tables of that form, from the node whose cpus
    read to the node that is read, None where no source tells any. `notes` are sentences
    about what the source left out or got wrong, for the user. Raises `HomenodeError` for a
    description that contradicts itself.
    """

    __slots__ = (
        "bandwidth_mb_s",
        "cores",
        "cpu_map",
        "cpus",
        "cpus_by_node",
        "devices",
        "distances",
        "hypervisor",
        "latency_ns",
        "name",
        "node_map",
        "nodes",
        "nodes_by_id",
        "notes",
        "pools",
        "source",
        "taken_at",
    )

    name: str
    source: str
    hypervisor: str | None
    cpus: tuple[Cpu, ...]
    nodes: tuple[Node, ...]
    distances: tuple[tuple[int | None, ...], ...]
    latency_ns: tuple[tuple[int | None, ...], ...] | None
    bandwidth_mb_s: tuple[tuple[int | None, ...], ...] | None
    pools: tuple[Cpupool, ...]
    devices: tuple[Device, ...]
    notes: tuple[str, ...]
    taken_at: float | None

    cpu_map: CpuMap
    """The online cpus."""
    node_map: NodeMap
    nodes_by_id: Mapping[int, Node]
    cpus_by_node: Mapping[int, CpuMap]
    """The online cpus of every node; empty for a node without any."""
    cores: tuple[CpuMap, ...]
    """The online cpus grouped by physical core; one that is not known to share is alone."""

    def __init__(  # noqa: PLR0913 - the record of a machine; all but three are optional
        self,
        *,
        cpus: Iterable[Cpu],
        nodes: Iterable[Node],
        distances: Sequence[Sequence[int | None]] | None = None,
        latency_ns: Sequence[Sequence[int | None]] | None = None,
        bandwidth_mb_s: Sequence[Sequence[int | None]] | None = None,
        name: str = "host",
        source: str = "",
        hypervisor: str | None = None,
        pools: Iterable[Cpupool] = (),
        devices: Iterable[Device] = (),
        notes: Iterable[str] = (),
        taken_at: float | None = None,
    ) -> None:
        put = super().__setattr__
        put("name", name)
        put("source", source)
        put("hypervisor", hypervisor)
        put("cpus", tuple(sorted(cpus, key=lambda cpu: cpu.id)))
        put("nodes", tuple(sorted(nodes, key=lambda node: node.id)))
        put("distances", _matrix(distances, len(self.nodes)))
        for name_of_table, table in (
            ("latency_ns", latency_ns),
            ("bandwidth_mb_s", bandwidth_mb_s),
        ):
            put(name_of_table, None if table is None else _matrix(table, len(self.nodes)))
        put("pools", tuple(pools))
        put("devices", tuple(devices))
        put("notes", tuple(notes))
        put("taken_at", taken_at)
        _refuse_twice("node", [node.id for node in self.nodes])
        _refuse_twice("cpu", [cpu.id for cpu in self.cpus])
        _refuse_twice("cpupool", [pool.name for pool in self.pools])
        put("node_map", NodeMap(node.id for node in self.nodes))
        put("nodes_by_id", {node.id: node for node in self.nodes})
        put("cpu_map", CpuMap(cpu.id for cpu in self.cpus if cpu.online))
        put("cpus_by_node", self._group_by_node())
        put("cores", self._group_by_core())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Host is immutable; use replace()")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Host) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((self.name, self.cpus, self.nodes))

    def __reduce__(self) -> tuple[object, ...]:
        # What is derived is derived again; else what pickles would have to set attributes.
        return _rebuilt, (type(self), self._fields())

    def __repr__(self) -> str:
        return f"<Host {self.name!r}: {len(self.nodes)} nodes, {len(self.cpu_map)} cpus>"

    def _fields(self) -> dict[str, object]:
        return {
            field: getattr(self, field)
            for field in (
                "cpus", "nodes", "distances", "latency_ns", "bandwidth_mb_s", "name", "source",
                "hypervisor", "pools", "devices", "notes", "taken_at",
            )
        }  # fmt: skip

    def replace(self, **changes: object) -> Self:
        """Return a host that differs from this one in the given fields."""
        return type(self)(**{**self._fields(), **changes})  # type: ignore[arg-type]

    def _group_by_node(self) -> dict[int, CpuMap]:
        bits = dict.fromkeys((node.id for node in self.nodes), 0)
        for cpu in self.cpus:
            if cpu.node is not None and cpu.node not in bits:
                raise HomenodeError(f"cpu {cpu.id} is on node {cpu.node}, which is not described")
            if cpu.node is not None and cpu.online:
                bits[cpu.node] |= 1 << cpu.id
        return {node: CpuMap.from_bits(mask) for node, mask in bits.items()}

    def _group_by_core(self) -> tuple[CpuMap, ...]:
        bits: dict[object, int] = {}
        for cpu in self.cpus:
            if cpu.online:
                alone = cpu.core is None
                core = cpu.id if alone else (cpu.node, cpu.socket, cpu.die, cpu.core)
                bits[core] = bits.get(core, 0) | 1 << cpu.id
        return tuple(CpuMap.from_bits(mask) for mask in bits.values())

    def cpus_of(self, nodes: NodeMap) -> CpuMap:
        """Return the online cpus of `nodes`; numbers that are no node here add none."""
        bits = 0
        for node in nodes & self.node_map:
            bits |= self.cpus_by_node[node].bits
        return CpuMap.from_bits(bits)

    def nodes_of(self, cpus: CpuMap) -> NodeMap:
        """Return the nodes that have at least one of `cpus`."""
        return NodeMap(node for node, own in self.cpus_by_node.items() if own.bits & cpus.bits)

    def distance(self, one: int, other: int) -> int:
        """Return the distance from node `one` to node `other`; unknown counts as unreachable."""
        ids = [node.id for node in self.nodes]
        stated = self.distances[ids.index(one)][ids.index(other)]
        return UNREACHABLE_DISTANCE if stated is None else stated

    def pool(self, name: str | None) -> Cpupool:
        """Return the cpupool of that name; None is the first pool, or all cpus without pools."""
        if name is None:
            return self.pools[0] if self.pools else Cpupool("all cpus", self.cpu_map)
        for pool in self.pools:
            if pool.name == name:
                return pool
        known = ", ".join(pool.name for pool in self.pools) or "none"
        raise HomenodeError(f"there is no cpupool {name!r} on {self.name}", hint=f"it has: {known}")


def _rebuilt(kind: type[Host], fields: dict[str, object]) -> Host:
    return kind(**fields)  # type: ignore[arg-type]


def _matrix(
    rows: Sequence[Sequence[int | None]] | None, size: int
) -> tuple[tuple[int | None, ...], ...]:
    if rows is None:
        return tuple(
            tuple(10 if row == column else None for column in range(size)) for row in range(size)
        )
    if len(rows) != size or any(len(row) != size for row in rows):
        raise HomenodeError(
            f"the distances are no table of {size} x {size}: rows of {[len(row) for row in rows]}"
        )
    if any(value is not None and value < 0 for row in rows for value in row):
        raise HomenodeError("a distance is negative")
    return tuple(tuple(row) for row in rows)


def _refuse_twice(noun: str, names: Sequence[object]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise HomenodeError(f"{noun} {twice} is described twice")
