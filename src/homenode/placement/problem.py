"""One guest on one host, prepared for the search: arrays over the nodes that come into question.

Position i of every array is the i-th suitable node in ascending order of node numbers, so that
the order of positions is the order of nodes.
"""

from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import Guest, GuestRequest
from homenode.host import LEVELS, UNREACHABLE_DISTANCE, Host
from homenode.placement.view import View
from homenode.placement.weights import Pairs, Weights, positions, twins_of

_MACHINE = len(LEVELS) - 1


class Problem(NamedTuple):
    """The nodes that can be cpu nodes of the guest, and what the facts are made from.

    `seats` are the vcpus that a node can take (cpus, or cores where each vcpu wants its own);
    `memory` is what a node can give, in KiB, and `unclaimed` what it could if nothing were
    promised to others: what the hypervisor, which knows no claims, spreads a guest over;
    `claimed` are the nodes where the two differ; `alone` are the vcpus at home on that node only,
    `across` those at home on several, as (nodes, vcpus), `at_home` both. `holes` is the memory
    of a node that no guest is on yet, 0 for the others. `levels` and `distances` are over pairs.
    """

    view: View
    request: GuestRequest
    as_libxl: bool
    ids: tuple[int, ...]
    cpus: tuple[CpuMap, ...]
    seats: Weights
    memory: Weights
    unclaimed: tuple[int, ...]
    claimed: int
    cores: Weights
    alone: Weights
    across: tuple[tuple[int, int], ...]
    at_home: tuple[int, ...]
    holes: Weights
    distances: Pairs
    levels: Pairs
    local: Weights
    to_devices: tuple[tuple[int, ...], ...]

    @property
    def everything(self) -> int:
        """All nodes in question."""
        return (1 << len(self.ids)) - 1

    @property
    def memory_word(self) -> str:
        """What `memory` is called: libxl looks at what is free, not at what is usable."""
        return "free" if self.as_libxl else "usable"

    @property
    def seat_word(self) -> str:
        """What `seats` are called."""
        return "cores" if self.request.whole_cores else "cpus"

    def nodes(self, chosen: int) -> NodeMap:
        """Return the node numbers of a set of positions."""
        return NodeMap(self.ids[at] for at in positions(chosen))

    def chosen(self, nodes: NodeMap) -> int:
        """Return the positions of those of `nodes` that are in question."""
        return sum(1 << at for at, node in enumerate(self.ids) if node in nodes)

    def fits(self, chosen: int) -> bool:
        """Return whether the guest's vcpus and memory fit on the chosen nodes."""
        return self.seats.total(chosen) >= self.request.vcpus and self.fits_memory(chosen)

    def fits_memory(self, chosen: int) -> bool:
        """Return whether each node covers the share that the hypervisor will take from it.

        libxl looks at the sum alone.
        """
        needed = self.request.memory_kib
        if self.memory.total(chosen) < needed:
            return False
        if self.as_libxl or not chosen & (chosen - 1):
            return True
        shares, memory = self.shares_kib(chosen), self.memory.of
        return sum(shares) >= needed and all(
            kib <= memory[at] for at, kib in zip(positions(chosen), shares, strict=True)
        )

    def shares_kib(self, chosen: int) -> list[int]:
        """Return the memory that comes from each chosen node, ascending; they must suffice."""
        given = [self.unclaimed[at] for at in positions(chosen)]
        return list(self.view.share_rule(self.request, given))


def suitable_cpus(view: View, request: GuestRequest, *, as_libxl: bool = False) -> CpuMap:
    """Return the cpus that the guest may run on: its pool's, AND its hard affinity's.

    libxl computes that AND and then searches without it (libxl_dom.c, numa_place_domain()).
    Cpus that exclusive guests have for themselves are out, which libxl knows nothing of.
    """
    bits = view.host.pool(request.pool).cpus.bits & view.host.cpu_map.bits
    if request.hard:
        bits &= CpuMap.union(request.hard).bits
    pools = _pools(view.host)
    for guest in view.guests:
        if request.exclusive or (guest.exclusive and not as_libxl):
            bits &= ~_pinned(guest, pools.get(guest.pool or "", view.host.cpu_map.bits))
    return CpuMap.from_bits(bits)


def _pools(host: Host) -> dict[str, int]:
    return {pool.name: pool.cpus.bits for pool in host.pools}


def _pinned(guest: Guest, pool: int) -> int:
    # The cpus of vcpus that are held to a part of their pool; who may run on all of it holds none.
    bits = 0
    for vcpu in guest.vcpus:
        if pool & ~vcpu.hard.bits:
            bits |= vcpu.hard.bits & pool
    return bits


def prepare(
    view: View, request: GuestRequest, *, as_libxl: bool = False, also: NodeMap | None = None
) -> Problem:
    """Prepare the search for `request` on `view`.

    `as_libxl` counts memory and vcpus as libxl does (free memory as it is stated; a vcpu on
    every node that it may use). `also` adds nodes without suitable cpus, for explicit wishes.
    """
    host = view.host
    suitable = suitable_cpus(view, request, as_libxl=as_libxl)
    wanted = host.nodes_of(suitable)
    if also is not None:
        wanted |= also & host.node_map
    ids = tuple(wanted)
    cpus = tuple(host.cpus_by_node[node] & suitable for node in ids)
    cores = [_cores(host, own.bits, whole=False) for own in cpus]
    unclaimed = [_memory_kib(view, node, as_libxl=as_libxl) for node in ids]
    owed = [0 if as_libxl else view.outstanding_kib.get(node, 0) for node in ids]
    memory = [max(0, kib - claim) for kib, claim in zip(unclaimed, owed, strict=True)]
    alone, across = _vcpus_at_home(view, ids, suitable, as_libxl=as_libxl)
    occupied = _occupied(view)
    rows = [at for at, node in enumerate(host.nodes) if node.id in wanted]
    distances = _symmetric(host, rows)
    levels = _levels(host, ids)
    twins = twins_of((distances, levels))
    return Problem(
        view=view,
        request=request,
        as_libxl=as_libxl,
        ids=ids,
        cpus=cpus,
        seats=Weights(_seats(host, request, cpus, cores)),
        memory=Weights(memory),
        unclaimed=tuple(unclaimed),
        claimed=sum(1 << at for at, kib in enumerate(memory) if kib < unclaimed[at]),
        cores=Weights(cores),
        alone=Weights(alone),
        across=across,
        at_home=tuple(
            own + sum(vcpus for home, vcpus in across if home >> at & 1)
            for at, own in enumerate(alone)
        ),
        holes=Weights(
            [0 if node in occupied else kib for node, kib in zip(ids, memory, strict=True)]
        ),
        distances=Pairs(distances, twins),
        levels=Pairs(levels, twins),
        local=Weights([row[at] for at, row in enumerate(distances)]),
        to_devices=tuple(
            tuple(host.distance(node, device.node) for node in ids)
            for device in request.devices
            if device.node in host.node_map
        ),
    )


def _memory_kib(view: View, node: int, *, as_libxl: bool) -> int:
    found = view.host.nodes_by_id[node]
    return (found.free_kib if as_libxl else found.usable_kib) or 0


def _cores(host: Host, cpus: int, *, whole: bool) -> int:
    if whole:
        return sum(1 for core in host.cores if core.bits & cpus == core.bits)
    return sum(1 for core in host.cores if core.bits & cpus)


def _seats(
    host: Host, request: GuestRequest, cpus: tuple[CpuMap, ...], cores: list[int]
) -> list[int]:
    if request.whole_cores and request.exclusive:
        return [_cores(host, own.bits, whole=True) for own in cpus]
    return cores if request.whole_cores else [len(own) for own in cpus]


def _vcpus_at_home(
    view: View, ids: tuple[int, ...], suitable: CpuMap, *, as_libxl: bool
) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    own_cpus = [view.host.cpus_by_node[node].bits for node in ids]
    counts: dict[int, int] = {}
    for (reach, affine), count in _reaches(view, suitable, as_libxl=as_libxl).items():
        running = sum(1 << at for at, cpus in enumerate(own_cpus) if cpus & reach)
        affine_here = sum(1 << at for at, node in enumerate(ids) if affine >> node & 1)
        home = running & affine_here
        if not home and not as_libxl:
            # Held away from its memory it still runs where it runs.
            home = running
        counts[home] = counts.get(home, 0) + count
    alone = [0] * len(ids)
    across = []
    for home, count in counts.items():
        if as_libxl or home.bit_count() == 1:
            for at in positions(home):
                alone[at] += count
        elif home:
            across.append((home, count))
    return alone, tuple(sorted(across))


def _reaches(view: View, suitable: CpuMap, *, as_libxl: bool) -> dict[tuple[int, int], int]:
    """Count the vcpus by (cpus that they may use, or prefer to; nodes of their guest's memory)."""
    pools = _pools(view.host)
    counts: dict[tuple[int, int], int] = {}
    for guest in view.guests:
        pool = pools.get(guest.pool or "", view.host.cpu_map.bits)
        affine = guest.node_affinity.bits if guest.node_affinity else -1
        for vcpu in guest.vcpus:
            held = vcpu.hard.bits & pool
            reach = held & suitable.bits if as_libxl else held & vcpu.soft.bits or held
            counts[reach, affine] = counts.get((reach, affine), 0) + 1
    return counts


def _occupied(view: View) -> NodeMap:
    bits = 0
    for node, kib in view.outstanding_kib.items():
        bits |= (kib > 0) << node
    for guest in view.guests:
        if guest.is_control:
            continue
        if guest.memory_by_node is not None:
            for node, kib in guest.memory_by_node.kib.items():
                bits |= (kib > 0) << node
        elif guest.node_affinity is not None and guest.node_affinity != view.host.node_map:
            bits |= guest.node_affinity.bits
    return NodeMap.from_bits(bits)


def _symmetric(host: Host, rows: list[int]) -> list[list[int]]:
    # Of two directions the longer one counts; what is not known is far.
    def stated(one: int, other: int) -> int:
        value = host.distances[one][other]
        return UNREACHABLE_DISTANCE if value is None else value

    return [[max(stated(one, other), stated(other, one)) for other in rows] for one in rows]


def _levels(host: Host, ids: tuple[int, ...]) -> list[list[int]]:
    # units[i][level]: the llc, die, socket that has all cpus of node i; None if there is none.
    seen: dict[int, list[set[object]]] = {node: [set(), set(), set()] for node in ids}
    for cpu in host.cpus:
        if cpu.online and cpu.node in seen:
            die = None if cpu.die is None else (cpu.socket, cpu.die)
            for level, unit in enumerate((cpu.llc, die, cpu.socket)):
                seen[cpu.node][level].add(unit)
    units = [
        [next(iter(found)) if len(found) == 1 else None for found in seen[node]] for node in ids
    ]
    return [[_common_level(one, other) for other in units] for one in units]


def _common_level(one: list[object], other: list[object]) -> int:
    for level, (unit, same) in enumerate(zip(one, other, strict=True)):
        if unit is not None and unit == same:
            return level
    return _MACHINE
