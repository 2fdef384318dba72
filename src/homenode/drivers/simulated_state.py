"""What a simulated host is made of, how it comes to be, and how it is written down.

The host is kept as it was made, beside what each guest has taken since: what is free follows from
the two, so memory is neither made nor lost. See `homenode.drivers.simulated` for the driver.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from homenode.bitmap import LARGEST_MEMBER, CpuMap, NodeMap
from homenode.drivers.base import Snapshot
from homenode.errors import Conflict, HomenodeError, ParseError
from homenode.formats import snapshot as snapshot_format
from homenode.formats.table import Table
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.host import Cpupool, Host, Node, Reservation
from homenode.rules import xen
from homenode.state_file import StateFile

DOM0_KIB = 512 << 10
DOM0_VCPUS = 4
DOM0_UUID = "00000000-0000-0000-0000-000000000000"

NOTHING = xen.Allocation({}, {}, 0)
"""No memory."""

NONE_PROMISED: Mapping[int, int] = MappingProxyType({})

_SOURCE = "simulated"
_DMA_ZONE = "Xen hands out memory below its DMA width last"


class Held(NamedTuple):
    """What a guest has taken from the host: its own memory, and Xen's overhead for it."""

    memory: xen.Allocation
    overhead: xen.Allocation = NOTHING

    def kib(self, node: int, *, low: bool) -> int:
        """Return what it holds of one node, above or below the DMA width."""
        return sum(
            (part.low_kib if low else part.high_kib).get(node, 0)
            for part in (self.memory, self.overhead)
        )


class State(NamedTuple):
    """A simulated host: as it was made, its guests, and what they hold (by uuid)."""

    boot_id: str
    made_from: str
    next_id: int
    host: Host
    guests: tuple[Guest, ...]
    held: Mapping[str, Held]

    def current(self) -> Host:
        """Return the host with what is free now."""
        return self.host.replace(nodes=[self._now(node) for node in self.host.nodes])

    def _now(self, node: Node) -> Node:
        high = sum(held.kib(node.id, low=False) for held in self.held.values())
        low = sum(held.kib(node.id, low=True) for held in self.held.values())
        return node._replace(
            free_kib=(node.free_kib or 0) - high - low, reserved=_less(node.reserved, low)
        )

    def allocate(  # noqa: PLR0913 - how much, and from where
        self,
        kib: int,
        extent_kib: int = xen.EXTENT_KIB,
        *,
        affine: NodeMap,
        exactly: bool = False,
        last: int = -1,
        promised_kib: Mapping[int, int] = NONE_PROMISED,
    ) -> xen.Allocation:
        """Return where Xen takes `kib` from; `exactly` from `affine` alone (MEMF_exact_node).

        `promised_kib` are left on each node.
        """
        nodes = [
            node._replace(free_kib=max(0, (node.free_kib or 0) - promised_kib.get(node.id, 0)))
            for node in self.current().nodes
            if not exactly or node.id in affine
        ]
        low = {node.id: min(node.free_kib or 0, node.reserved_kib) for node in nodes}
        high = {node.id: (node.free_kib or 0) - low[node.id] for node in nodes}
        return xen.allocate(kib, extent_kib, affine=affine, high_kib=high, low_kib=low, last=last)

    def find(self, name: str) -> Guest:
        """Return the guest of that name; `Conflict` if there is none."""
        for guest in self.guests:
            if guest.name == name:
                return guest
        there = ", ".join(guest.name for guest in self.guests[:8])
        raise Conflict(f"there is no guest {name!r} here", hint=f"there are {there}")

    def with_guest(self, guest: Guest, held: Held) -> "State":
        """Return the state in which `guest` is as given, new or not, and holds `held`."""
        guest = guest._replace(memory_by_node=MemoryByNode(held.memory.by_node, _SOURCE))
        others = tuple(other for other in self.guests if other.uuid != guest.uuid)
        guests = tuple(sorted((*others, guest), key=lambda one: one.id or 0))
        return self._replace(guests=guests, held={**self.held, str(guest.uuid): held})

    def without(self, guest: Guest) -> "State":
        """Return the state in which `guest` is gone and its memory is free."""
        return self._replace(
            guests=tuple(other for other in self.guests if other.uuid != guest.uuid),
            held={uuid: held for uuid, held in self.held.items() if uuid != guest.uuid},
        )


def _less(reserved: tuple[Reservation, ...], kib: int) -> tuple[Reservation, ...]:
    left = []
    for reservation in reserved:
        taken = min(kib, reservation.kib)
        kib -= taken
        if taken < reservation.kib:
            left.append(reservation._replace(kib=reservation.kib - taken))
    return tuple(left)


def seated(hard: tuple[CpuMap, ...], soft: tuple[CpuMap, ...], *, online: int) -> tuple[Vcpu, ...]:
    """Put each of the first `online` vcpus on a cpu that it prefers, in turn."""
    vcpus = []
    known: dict[tuple[CpuMap, CpuMap], tuple[int, ...]] = {}  # most vcpus have the same masks
    for at, (may, prefers) in enumerate(zip(hard, soft, strict=True)):
        if (may, prefers) not in known:
            known[may, prefers] = tuple(may & prefers or may)
        seats = known[may, prefers]
        seat = seats[at % len(seats)] if seats and at < online else None
        vcpus.append(Vcpu(at, may, prefers, cpu=seat, time_ns=0, online=at < online))
    return tuple(vcpus)


def added(one: xen.Allocation, other: xen.Allocation) -> xen.Allocation:
    """Return what two allocations took together."""
    return xen.Allocation(
        _sums(one.high_kib, other.high_kib),
        _sums(one.low_kib, other.low_kib),
        one.short_kib + other.short_kib,
    )


def _sums(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    nodes = sorted({*one, *other})
    return without_none({node: one.get(node, 0) + other.get(node, 0) for node in nodes})


def without_none(kib: Mapping[int, int]) -> dict[int, int]:
    """Return KiB by node, ascending, nodes with none left out."""
    return {node: kib[node] for node in sorted(kib) if kib[node]}


def made(description: Snapshot, *, made_from: str) -> State:
    """Return the simulated host that a description asks for.

    A host of several nodes whose description reserves no memory has it one node after the other
    from address 0, and all that lies below the DMA width comes last. Without a dom0, one is
    added: if all memory is free and there are no guests, it gets `DOM0_KIB` (an eighth of a small
    host); else what is in use is Xen's and dom0's, and nobody knows whose. A guest whose memory
    by node is not described holds what the description lacks, and gives none back.

    Raises `HomenodeError` if the memory of a node is described neither as free nor as present.
    """
    host = description.host
    free = all(node.free_kib in (None, node.present_kib) for node in host.nodes)
    host = host.replace(
        nodes=_with_low_memory([_at_rest(node) for node in host.nodes]),
        pools=host.pools or (Cpupool("Pool-0", host.cpu_map, scheduler="credit2"),),
        hypervisor="xen (simulated)",
        notes=(),
        taken_at=None,
    )
    state = State(os.urandom(16).hex(), made_from, 1, host, (), {})
    for guest in description.guests:
        state = _taken_over(state, guest)
    if not any(guest.is_control for guest in state.guests):
        state = _with_dom0(state, has_memory=free and not description.guests)
    return state


def _at_rest(node: Node) -> Node:
    """Return the node as Xen would have it: what Linux could reclaim is free, all is scrubbed."""
    free_kib = node.present_kib if node.free_kib is None else node.free_kib
    if free_kib is None:
        raise HomenodeError(
            f"cannot simulate node {node.id}: its memory is not described", hint="give it a size"
        )
    return node._replace(
        free_kib=free_kib + (node.reclaimable_kib or 0),
        reclaimable_kib=None,
        committed_kib=None,
        reserved=tuple(one for one in node.reserved if one.reason != xen.UNSCRUBBED),
    )


def _with_low_memory(nodes: list[Node]) -> list[Node]:
    if any(node.reserved for node in nodes):
        return nodes
    spans, start = {}, 0
    for node in nodes:
        pages = (node.present_kib or node.free_kib or 0) // xen.PAGE_KIB
        spans[node.id] = xen.NodeSpan(start, pages)
        start += pages
    low = xen.low_memory(spans, {node.id: node.free_kib or 0 for node in nodes}).free_kib
    return [
        node._replace(reserved=(Reservation(low[node.id], _DMA_ZONE),)) if low[node.id] else node
        for node in nodes
    ]


def _taken_over(state: State, guest: Guest) -> State:
    """Add a guest that was described; its memory becomes what it holds, where that is known."""
    number = state.next_id if guest.id is None else guest.id
    uuid = guest.uuid or f"{DOM0_UUID[:-12]}{number:012d}"
    guest = guest._replace(id=number, uuid=uuid, pool=guest.pool or state.host.pools[0].name)
    if uuid in (other.uuid for other in state.guests):
        raise HomenodeError(f"guest {guest.name!r} has the uuid {uuid} of another one")
    state = state._replace(next_id=max(state.next_id, number + 1))
    if guest.memory_by_node is None:
        return state._replace(guests=(*state.guests, guest))
    kib = {node: kib for node, kib in guest.memory_by_node.kib.items() if kib}
    nodes = [
        node._replace(free_kib=(node.free_kib or 0) + kib.get(node.id, 0))
        for node in state.host.nodes
    ]
    held = Held(xen.Allocation(kib, {}, 0))
    return state._replace(host=state.host.replace(nodes=nodes)).with_guest(guest, held)


def _with_dom0(state: State, *, has_memory: bool) -> State:
    pool = state.host.pools[0]
    vcpus = min(DOM0_VCPUS, len(pool.cpus))
    every = state.host.cpu_map
    guest = Guest(
        "Domain-0",
        vcpus=seated((pool.cpus,) * vcpus, (every,) * vcpus, online=vcpus),
        id=0,
        uuid=DOM0_UUID,
        type="pv",
        node_affinity=state.host.node_map,
        pool=pool.name,
    )
    if not has_memory:
        return state._replace(guests=(guest, *state.guests))
    everything_kib = sum(node.free_kib or 0 for node in state.host.nodes)
    kib = min(DOM0_KIB, everything_kib // 8 // xen.PAGE_KIB * xen.PAGE_KIB)
    memory = state.allocate(kib, affine=state.host.node_map)
    held = Held(memory._replace(last=-1))
    return state.with_guest(guest._replace(memory_kib=kib, max_memory_kib=kib), held)


def document(state: State) -> dict[str, object]:
    """Return what is written down of a host; `parse` reads it."""
    return {
        "boot_id": state.boot_id,
        "made_from": state.made_from,
        "next_id": state.next_id,
        "snapshot": snapshot_format.document(state.host, state.guests),
        "held": [
            {"uuid": uuid, "memory": _written(held.memory), "overhead": _written(held.overhead)}
            for uuid, held in sorted(state.held.items())
        ],
    }


def _written(part: xen.Allocation) -> list[dict[str, int]]:
    return [
        {"node": node, "high_kib": part.high_kib.get(node, 0), "low_kib": part.low_kib.get(node, 0)}
        for node in part.by_node
    ]


def parse(content: dict[str, object], file: StateFile) -> State:
    """Return the host that `content` of `file` describes; `HomenodeError` if it describes none."""
    import json  # noqa: PLC0415 - `StateFile` has imported it by now

    known = ("kind", "version", "boot_id", "made_from", "next_id", "snapshot", "held")
    table = Table(content, known, path="", source=file.path)
    try:
        text = json.dumps(content.get("snapshot"))
        host, guests = snapshot_format.parse(text, source=file.path)
        listed = table.tables("held", ("uuid", "memory", "overhead"), most=len(guests))
        state = State(
            boot_id=table.text("boot_id"),
            made_from=table.text("made_from"),
            next_id=table.integer("next_id", least=1),
            host=host,
            guests=guests,
            held={
                item.text("uuid"): Held(_part(item, "memory"), _part(item, "overhead"))
                for item in listed
            },
        )
    except ParseError as error:
        raise file.broken(error.message) from None
    if not set(state.held) <= {guest.uuid for guest in guests}:
        raise file.broken("memory is held by a guest that is not there")
    if any((node.free_kib or 0) < 0 for node in state.current().nodes):
        raise file.broken("the guests hold more memory than there is")
    return state


def _part(table: Table, key: str) -> xen.Allocation:
    parts = table.tables(key, ("node", "high_kib", "low_kib"), most=LARGEST_MEMBER)
    high = {part.integer("node"): part.integer("high_kib") for part in parts}
    low = {part.integer("node"): part.integer("low_kib") for part in parts}
    return xen.Allocation(without_none(high), without_none(low), 0)
