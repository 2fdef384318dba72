"""One guest on one host, prepared for the search: arrays over the nodes that come into question.

Position i of every array is the i-th suitable node in ascending order of node numbers, so that
the order of positions is the order of nodes.
"""

from typing import TYPE_CHECKING, NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import Guest, GuestRequest, NearDevice
from homenode.host import LEVELS, ORDINARY_PAGE_KIB, UNREACHABLE_DISTANCE, Host
from homenode.placement.far import Far, far_of
from homenode.placement.view import View, equal_shares
from homenode.placement.weights import Pairs, Weights, positions, twins_of
from homenode.units import format_page

if TYPE_CHECKING:
    from homenode.placement.virtual import Arrangement, Cells
else:
    # A name in quotes would be compiled when the record is made, and the first compilation of a
    # process takes a millisecond.
    Cells = object

_MACHINE = len(LEVELS) - 1


class Problem(NamedTuple):
    """The nodes that can be cpu nodes of the guest, and what the facts are made from.

    `seats` are the vcpus that a node can take (cpus, or cores where each vcpu wants its own);
    `memory` is what a node can give, in KiB, and `unclaimed` what it could if nothing were
    promised to others: what the hypervisor, which knows no claims, spreads a guest over;
    `claimed` are the nodes where the two differ; `alone` are the vcpus at home on that node only,
    `across` those at home on several, as (nodes, vcpus), `at_home` both. `holes` is the memory
    of a node that no guest is on yet, 0 for the others. `levels` and `distances` are over pairs.

    `home_kib` is what comes from the cpu nodes, `needed_kib` what a set of them must have at least
    (less, if some may spill); `far` are the nodes without cpus. `required` are sets of which each
    has to have a node among the chosen, `scarce` are devices that the guest has no use for.
    `cells` are its virtual nodes, if they are to be matched.
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
    home_kib: int
    needed_kib: int
    far: Far
    required: tuple[int, ...]
    scarce: Weights
    cells: Cells | None

    @property
    def everything(self) -> int:
        """All nodes in question."""
        return (1 << len(self.ids)) - 1

    @property
    def memory_word(self) -> str:
        """What `memory` is called: libxl looks at what is free, not at what is usable."""
        return self.memory_word_of(self.request.page_kib)

    def memory_word_of(self, page_kib: int) -> str:
        """Return what memory in pages of that size is called."""
        if page_kib > ORDINARY_PAGE_KIB:
            return f"in free pages of {format_page(page_kib)}"
        return "free" if self.as_libxl else "usable"

    @property
    def unknown_nodes(self) -> NodeMap:
        """The nodes of the host of which nobody tells how much of such memory is free."""
        return self.view.unknown_nodes(self.request.page_kib)

    @property
    def free_word(self) -> str:
        """What it is of a node that may be unknown."""
        page_kib = self.request.page_kib
        huge = page_kib > ORDINARY_PAGE_KIB
        return f"number of free pages of {format_page(page_kib)}" if huge else "free memory"

    def room_kib(self, node: int, page_kib: int) -> int:
        """Return what a node can give in pages of that size, less what is promised of it."""
        return self.view.room_kib(node, page_kib, as_libxl=self.as_libxl)

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

    def asked(self, request: GuestRequest) -> "Problem":
        """Return the problem of a request that differs in vcpus or in memory alone."""
        home_kib = max(0, request.memory_kib - self.far.tier_kib)
        needed_kib = max(0, home_kib - self.far.spill_room_kib)
        return self._replace(request=request, home_kib=home_kib, needed_kib=needed_kib)

    @property
    def split_unit_kib(self) -> int:
        """Virtual nodes that are made have whole units of this."""
        return split_unit_kib(self.request)

    def split_beside_kib(self, count: int) -> int:
        """Return what is needed beside each of `count` virtual nodes that are made."""
        request = self.request
        own_kib = request.guest_memory_kib or request.memory_kib
        return -(-max(0, request.memory_kib - own_kib) // count)

    @property
    def is_hopeless(self) -> bool:
        """Whether it is plain without a search that no set of nodes can hold the guest."""
        cells_fit = self.cells is None or self.cells.can_be_matched
        return not cells_fit or not all(self.required) or self.far.is_short

    def fits(self, chosen: int) -> bool:
        """Return whether the guest fits on the chosen nodes: vcpus, memory, and devices."""
        if self.far.is_short or any(not chosen & near for near in self.required):
            return False
        if self.cells is not None:
            return self.cells.holds(chosen)
        return self.seats.total(chosen) >= self.request.vcpus and self.fits_memory(chosen)

    def fitting_alone(self) -> list[int]:
        """Return the positions that can hold the guest alone: `fits`, for one node at a time."""
        seats, memory = self.seats.of, self.memory.of
        needed, vcpus = self.needed_kib, self.request.vcpus
        if self.cells is not None and self.cells.count == 1 and not self.required:
            return list(positions(self.cells.fits[0]))
        if self.required or self.cells is not None or self.far.is_short:
            return [at for at in range(len(self.ids)) if self.fits(1 << at)]
        return [at for at in range(len(self.ids)) if memory[at] >= needed and seats[at] >= vcpus]

    def fits_memory(self, chosen: int) -> bool:
        """Return whether each node covers the share that the hypervisor will take from it.

        libxl looks at the sum alone.
        """
        if self.memory.total(chosen) < self.needed_kib:
            return False
        if self.as_libxl or not chosen & (chosen - 1) or self.spilled_kib(chosen):
            return True
        shares, memory = self.shares_kib(chosen), self.memory.of
        return sum(shares) >= self.home_kib and all(
            kib <= memory[at] for at, kib in zip(positions(chosen), shares, strict=True)
        )

    def shares_kib(self, chosen: int) -> list[int]:
        """Return the memory that comes from each chosen node, ascending; they must suffice."""
        if self.cells is not None:
            return self._cell_shares_kib(chosen)
        if self.spilled_kib(chosen):
            return [self.memory.of[at] for at in positions(chosen)]
        if self.request.split and chosen & (chosen - 1):
            # Each virtual node has its memory from its node alone, in whole units.
            beside_kib, unit_kib = self.split_beside_kib(chosen.bit_count()), self.split_unit_kib
            own = [max(0, self.memory.of[at] - beside_kib) for at in positions(chosen)]
            room = [kib // unit_kib * unit_kib + beside_kib for kib in own]
            return equal_shares(self.request._replace(memory_kib=self.home_kib), room)
        given = [self.unclaimed[at] for at in positions(chosen)]
        return list(self.view.share_rule(self.request._replace(memory_kib=self.home_kib), given))

    def spilled_kib(self, chosen: int) -> int:
        """Return what the chosen nodes have too little of, and nodes without cpus give."""
        if not self.far.for_spill:
            return 0
        return max(0, self.home_kib - self.memory.total(chosen))

    def far_shares_kib(self, chosen: int) -> dict[int, int]:
        """Return the memory by index of `far` that comes from nodes without cpus."""
        return self.far.shares_kib(chosen, self.spilled_kib(chosen))

    def arranged(self, chosen: int) -> "Arrangement | None":
        """Return which virtual node goes where among `chosen`; None if they do not fit there."""
        return None if self.cells is None else self.cells.arranged(chosen)

    def _cell_shares_kib(self, chosen: int) -> list[int]:
        from homenode.placement.cells import cells_kib  # noqa: PLC0415 - only with virtual nodes

        arranged = self.arranged(chosen)
        if arranged is None:
            return [0] * chosen.bit_count()
        needs = cells_kib(self.request)
        by_position = dict(zip(arranged.ats, needs, strict=True))
        return [by_position[at] for at in positions(chosen)]


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
    barred = NodeMap() if also is not None else barred_nodes(view, request)
    wanted = host.nodes_of(suitable) - barred
    far_named = NodeMap()
    if also is not None:
        wanted |= also & host.node_map
        if request.tier is not None or request.spill:
            # Named beside nodes with cpus, nodes without are where the tier is, or what spills.
            with_cpus = host.nodes_of(host.cpu_map)
            far_named = (
                NodeMap() if also.isdisjoint(with_cpus) else also & host.node_map - with_cpus
            )
            wanted -= far_named
    if any(not cell.vcpus for cell in request.virtual_nodes):
        wanted |= host.node_map - host.nodes_of(host.cpu_map) - barred
    page_kib = request.page_kib
    unit_kib = split_unit_kib(request) if request.split else 1
    if request.split and also is None:
        # Each of its nodes is to give a virtual node vcpus and memory.
        wanted = NodeMap(node for node in wanted if view.usable_kib(node, page_kib) >= unit_kib)
    ids = tuple(wanted)
    cpus = tuple(host.cpus_by_node[node] & suitable for node in ids)
    cores = [_cores(host, own.bits, whole=False) for own in cpus]
    unclaimed = [view.usable_kib(node, page_kib, as_libxl=as_libxl) for node in ids]
    owed = [view.owed_kib(node, page_kib, as_libxl=as_libxl) for node in ids]
    memory = [max(0, kib - claim) for kib, claim in zip(unclaimed, owed, strict=True)]
    alone, across = _vcpus_at_home(view, ids, suitable, as_libxl=as_libxl)
    occupied = _occupied(view)
    rows = [at for at, node in enumerate(host.nodes) if node.id in wanted]
    distances = _symmetric(host, rows)
    levels = _levels(host, ids)
    twins = twins_of((distances, levels))
    seats = _seats(host, request, cpus, cores)
    far = far_of(
        host,
        request,
        ids,
        barred=host.node_map - far_named if far_named else barred,
        named=bool(far_named),
        usable_kib=lambda node: view.room_kib(node, page_kib) // unit_kib * unit_kib,
    )
    home_kib = request.memory_kib - far.tier_kib
    return Problem(
        view=view,
        request=request,
        as_libxl=as_libxl,
        ids=ids,
        cpus=cpus,
        seats=Weights(seats),
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
        home_kib=home_kib,
        needed_kib=max(0, home_kib - far.spill_room_kib),
        far=far,
        required=tuple(_at_device(host, ids, device.node) for device in required_devices(request)),
        scarce=Weights(_scarce_devices(host, request, ids)),
        cells=_cells(view, request, (ids, cpus, seats, distances), as_libxl=as_libxl),
    )


def _cells(
    view: View,
    request: GuestRequest,
    places: tuple[tuple[int, ...], tuple[CpuMap, ...], list[int], list[list[int]]],
    *,
    as_libxl: bool,
) -> Cells | None:
    if not request.virtual_nodes:
        return None
    from homenode.placement.cells import Places, cells_of  # noqa: PLC0415 - few guests have any

    return cells_of(view, request, Places(*places), as_libxl=as_libxl)


def split_unit_kib(request: GuestRequest) -> int:
    """Return the unit in which a guest's memory is split: a MiB, as xl has it, or a huge page."""
    return max(1024, request.page_kib)


def barred_nodes(view: View, request: GuestRequest) -> NodeMap:
    """Return the nodes that the request is not to be on: excluded ones, and other guests'."""
    barred = request.excluded
    for guest in view.guests:
        if guest.name in request.apart_from:
            barred |= view.nodes_of_guest(guest) or NodeMap()
    return barred


def required_devices(request: GuestRequest) -> list[NearDevice]:
    """Return the devices that the guest has to be near, in the order of `Problem.required`."""
    return [device for device in request.devices if device.required]


def _at_device(host: Host, ids: tuple[int, ...], node: int) -> int:
    # Where no cpus are with the device, as near as cpus are to it.
    if host.cpus_by_node.get(node):
        return sum(1 << at for at, one in enumerate(ids) if one == node)
    if node not in host.node_map:
        return 0
    with_cpus = host.nodes_of(host.cpu_map)
    least = min((host.distance(one, node) for one in with_cpus), default=0)
    return sum(1 << at for at, one in enumerate(ids) if host.distance(one, node) == least)


def _scarce_devices(host: Host, request: GuestRequest, ids: tuple[int, ...]) -> list[int]:
    counts = dict.fromkeys(ids, 0)
    if not host.devices:
        return list(counts.values())
    own = {device.address for device in request.devices}
    for device in host.devices:
        if device.node in counts and device.kind != "chipset" and device.address not in own:
            counts[device.node] += 1
    return list(counts.values())


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
