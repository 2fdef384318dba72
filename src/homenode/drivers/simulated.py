"""``sim:NAME``: a simulated Xen host that lives in a small file, to try everything on a laptop.

======================== ==================================================================
URI                      meaning
======================== ==================================================================
``sim:NAME``             the host of that name; if there is none, the embedded default
                         (two sockets, eight nodes, 128 cores) is made
``sim:NAME?host=FILE``   made from any description that ``capture:FILE`` reads
``sim:NAME?fail=STEP``   fails at that step of whatever is asked of it; see `STEPS`
``sim:NAME?load=LOADS``  what its guests do while they are watched, such as ``busy`` or
                         ``web1:square/60,idle``; see `homenode.drivers.simulated_load`
======================== ==================================================================

It is the reference implementation of `homenode.drivers.base.Driver`, and does what
`homenode.rules.xen` says of Xen: memory comes in extents from the affine nodes in turn, then from
the other nodes, and from the DMA zone last; it stays where it was allocated; Xen's own overhead
for a guest is charged before the guest's memory. What is given back is clean at once, and free
memory lies together, where a real Xen has to scrub it first and may find it scattered. Masks are
read from the guest's config as xl reads them, and node affinity follows from the masks.

Each change is one replacement of the file: a change that fails, or a process that dies in it,
leaves the file as it was. `homenode.drivers.simulated_state` says what a description leaves out.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from homenode.bitmap import NodeMap
from homenode.claims import outstanding_kib
from homenode.drivers.base import Abilities, Look, Masks, Moving, Shrunk, Snapshot
from homenode.drivers.simulated_load import Load, idle, parse_load
from homenode.drivers.simulated_state import (
    NOTHING,
    Held,
    State,
    added,
    document,
    made,
    parse,
    seated,
    without_none,
)
from homenode.errors import Conflict, HomenodeError, HypervisorError, Undone
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest, GuestRequest, Vcpu
from homenode.host import Host
from homenode.keeper_record import Record, known, record_file
from homenode.ledger import Ledger
from homenode.placement.decision import Decision, Warned
from homenode.placement.view import ShareRule
from homenode.rules import xen, xen_request
from homenode.state_file import StateFile
from homenode.units import format_memory

if TYPE_CHECKING:
    from homenode.drivers.watching import Watcher
    from homenode.formats.guest_file import GuestFile

STEPS = (
    "create-domain", "set-affinity", "allocate", "start", "destroy", "move-memory", "write-state",
)  # fmt: skip
"""The steps at which a simulated host can be told to fail."""

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_LONGEST_NAME = 64


class SimulatedDriver:
    """A simulated host, kept in the file at `path`; the claims upon it lie beside it.

    `on_step` is called with the name of each step before it is done, and may raise to make it
    fail. `clock` gives seconds since the epoch. `load` is what the vcpus do while they are watched.
    """

    def __init__(
        self,
        path: str,
        *,
        uri: str = "sim:",
        on_step: Callable[[str], None] = lambda _step: None,
        clock: Callable[[], float] = time.time,
        load: Load = idle,
    ) -> None:
        self.uri = uri
        self._load = load
        self._file = StateFile(
            path, "simulated host", 1, "remove it, and an empty host is made in its place"
        )
        self._step = on_step
        self._clock = clock
        self._boot_id = ""

    abilities = Abilities()

    @property
    def ledger(self) -> Ledger:
        """The claims upon this host."""
        path = self._file.path.removesuffix(".json") + ".claims.json"
        self._boot_id = self._boot_id or self._read().boot_id
        return Ledger(path, boot_id=self._boot_id, clock=self._clock)

    @property
    def share_rule(self) -> ShareRule:
        """Xen's."""
        return xen.memory_shares

    def snapshot(self, look: Look = "full") -> Snapshot:  # noqa: ARG002 - nothing has a price
        """Look at the host and its guests."""
        state, entries = self._read(), self.ledger.entries()
        record = Record(record_file(self.ledger.path), boot_id=self._boot_id).read_or_nothing()
        guests = tuple(known(guest, entries, record) for guest in state.guests)
        return Snapshot(state.current().replace(taken_at=self._clock()), guests)

    def pages(self, *, force: bool = False) -> Snapshot:  # noqa: ARG002 - nothing has a price
        """Look where the memory is, which is known here all the time."""
        return self.snapshot()

    def vcpus(self) -> Mapping[int, Sequence[Vcpu]]:
        """Return the vcpus by the id of their guest; nothing runs on a simulated host."""
        return {guest.id: guest.vcpus for guest in self._read().guests if guest.id is not None}

    def watcher(self) -> "Watcher":
        """Return what watches the vcpus for the keeper."""
        from homenode.drivers.simulated_watch import SimulatedWatcher  # noqa: PLC0415 - only there

        return SimulatedWatcher(self, self._load, clock=self._clock)

    def written(self) -> tuple[int, int]:
        """Return what tells one state of the file from the next."""
        told = os.stat(self._file.path)  # noqa: PTH116 - as below
        return told.st_mtime_ns, told.st_ino

    def uuid_of(self, name: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return nothing: a guest that does not run is not known."""
        return None

    def create(
        self,
        request: GuestRequest,
        decision: Decision,
        config: "GuestFile",
        kept: "GuestFile",  # noqa: ARG002 - a guest that has ended is gone
    ) -> None:
        """Build and start the guest of `config`, which has the decision in it, as xl does.

        Raises `Conflict` for a name or uuid that is there already, `HypervisorError` if memory
        does not suffice, `Undone` if the guest was built and did not start.
        """
        if not isinstance(config, GuestConfig):
            raise HypervisorError(f"{self.uri}: a Xen host takes configs in xl's syntax")
        with self._file.lock():
            state = self._read()
            self._step("create-domain")
            guest = _domain(state, request, config, decision)
            self._step("set-affinity")
            self._step("allocate")
            held = _build(state, request, guest)
            try:
                self._step("start")
            except HypervisorError as error:
                raise Undone(
                    f"{request.name!r} was built and did not start, and is taken away again: "
                    f"{error.message}"
                ) from None
            state = state._replace(next_id=state.next_id + 1).with_guest(guest, held)
            self._write(state)

    def make_room(self, kib: int) -> Shrunk | None:  # noqa: ARG002 - the protocol's
        """Do nothing: a simulated dom0 has the memory that it has."""
        return None

    def give_back(self, kib: int) -> None:
        """Do nothing."""

    def destroy(self, guest: Guest) -> None:
        """Stop the guest at once."""
        with self._file.lock():
            state = self._read()
            if guest.is_control:
                raise HypervisorError(f"{guest.name!r} runs this host and cannot be destroyed")
            self._step("destroy")
            self._write(state.without(state.find(guest.name)))

    def forget(self, uuid: str) -> None:
        """Do nothing: nothing is kept."""

    def pin(self, guest: Guest, masks: Sequence[Masks]) -> None:
        """Set the masks of the guest's vcpus; its node affinity follows them."""
        with self._file.lock():
            before = self._read()
            there = before.find(guest.name)
            pinned = _pinned(there, masks, before.host)
            self._step("set-affinity")
            if pinned != there:
                self._write(before._replace(guests=_replaced(before.guests, pinned)))

    def move(
        self,
        guest: Guest,
        masks: Sequence[Masks],
        how: Moving = Moving(),  # noqa: ARG002, B008 - its memory moves by itself
    ) -> tuple[Warned, ...]:
        """Set the masks and bring memory to the nodes that follow, as far as there is room.

        What is promised to others is no room. Raises `Undone` if the memory could not be touched:
        then the masks are what they were.
        """
        # The ledger's lock comes first: who creates a guest has it while looking at the host.
        with self.ledger.lock(), self._file.lock():
            before = self._read()
            pinned = _pinned(before.find(guest.name), masks, before.host)
            promised_kib = outstanding_kib(self.ledger.holding(before.guests), before.guests)
            self._step("set-affinity")
            memory = before.held.get(str(pinned.uuid))
            if memory is None:
                raise HypervisorError(
                    f"nobody knows where the memory of {guest.name!r} is to move it"
                )
            state = before._replace(guests=_replaced(before.guests, pinned))
            try:
                self._step("move-memory")
            except HypervisorError as error:
                raise Undone(
                    f"the memory of {guest.name!r} did not move, and its masks are set back: "
                    f"{error.message}"
                ) from None
            nodes = pinned.node_affinity or before.host.node_map
            state = state.with_guest(pinned, _moved(state, memory, nodes, promised_kib))
            if state != before:
                self._write(state)
        return ()

    def move_warning(self, guest: Guest) -> str | None:  # noqa: ARG002 - it costs no guest anything
        """Return nothing: the guest does not notice."""
        return None

    def make(self, description: Snapshot, *, made_from: str) -> None:
        """Make the host as described, if there is none yet under this name.

        Raises `Conflict` if there is one that was made from something else.
        """
        with self._file.lock():
            content = self._file.read()
            if content is None:
                self._file.write(document(made(description, made_from=made_from)))
                return
            there = parse(content, self._file)
        if there.made_from != made_from:
            raise Conflict(
                f"{self.uri}: this host is there already, made from {there.made_from}",
                hint=f"choose another name, or remove {self._file.path}",
            )

    def exists(self) -> bool:
        """Return whether the host has been made."""
        return os.path.exists(self._file.path)  # noqa: PTH110 - pathlib costs 5 ms at start

    def _read(self) -> State:
        content = self._file.read()
        if content is None:
            raise HypervisorError(f"{self.uri}: the simulated host {self._file.path} is gone")
        return parse(content, self._file)

    def _write(self, state: State) -> None:
        self._step("write-state")
        self._file.write(document(state))


def _domain(state: State, request: GuestRequest, config: GuestConfig, decision: Decision) -> Guest:
    """Make the guest out of its config, without memory yet."""
    for other in state.guests:
        if other.name == request.name or (request.uuid and other.uuid == request.uuid):
            raise Conflict(f"guest {other.name!r} is there already, with the id {other.id}")
    if not request.uuid:
        raise HypervisorError(f"{request.name!r} has no uuid")
    pool = state.host.pool(request.pool)
    # To xl `nodes`, which records the decision, is nothing: only the masks count.
    bare = GuestConfig.parse(config.edited({"nodes": None}), source=config.source)
    read = xen_request.request(bare, state.host).request
    online = config.integer("vcpus") or request.vcpus
    every = (pool.cpus,) * request.vcpus
    hard = tuple(mask & pool.cpus for mask in read.hard) or every
    soft = read.soft or (state.host.cpu_map,) * request.vcpus
    if not all(hard):
        raise HypervisorError(f"a vcpu of {request.name!r} has no cpu in cpupool {pool.name!r}")
    affinity = xen.node_affinity(hard, soft, pool_cpus=pool.cpus, host=state.host)
    return Guest(
        request.name,
        vcpus=seated(hard, soft, online=online),
        id=state.next_id,
        uuid=request.uuid,
        type=request.type,
        memory_kib=request.guest_memory_kib,
        max_memory_kib=request.max_memory_kib or request.guest_memory_kib,
        node_affinity=affinity or decision.nodes,
        pool=pool.name,
        virtual_nodes=read.virtual_nodes,
        page_kib=request.page_kib,
        exclusive=request.exclusive,
    )


def _build(state: State, request: GuestRequest, guest: Guest) -> Held:
    affine = guest.node_affinity or state.host.node_map
    memory = NOTHING
    overhead, last = _overhead(state, request, guest, affine)
    for kib, nodes, exactly in _cells(guest, affine):
        part = state.with_guest(guest, Held(memory, overhead)).allocate(
            kib, xen.extent_kib(request.type), affine=nodes, exactly=exactly, last=last
        )
        memory, last = added(memory, part), part.last
    short_kib = memory.short_kib + overhead.short_kib
    if short_kib:
        raise HypervisorError(
            f"no memory for {request.name!r}: {format_memory(short_kib)} are not to be had",
            hint="`homenode list` shows who has it",
        )
    return Held(memory, overhead)


def _overhead(
    state: State, request: GuestRequest, guest: Guest, affine: NodeMap
) -> tuple[xen.Allocation, int]:
    """Take what Xen takes for itself; return it, and the node that the guest's memory is after."""
    first_kib, affine_kib, elsewhere_kib = xen.overhead(
        needed_kib=request.memory_kib,
        target_kib=request.guest_memory_kib,
        vcpus=request.vcpus,
        type=request.type,
    )
    everywhere = state.host.node_map
    taken = NOTHING
    last = 0  # a domain begins there (d->last_alloc_node), so node 1 comes first
    for kib, nodes in ((first_kib, everywhere), (affine_kib, affine)):
        part = state.with_guest(guest, Held(NOTHING, taken)).allocate(
            kib, xen.PAGE_KIB, affine=nodes, last=last
        )
        taken, last = added(taken, part), part.last
    part = state.with_guest(guest, Held(NOTHING, taken)).allocate(
        elsewhere_kib, xen.PAGE_KIB, affine=everywhere
    )
    return added(taken, part), last


def _cells(guest: Guest, affine: NodeMap) -> list[tuple[int, NodeMap, bool]]:
    """Return the guest's memory in parts: KiB, from where, and whether from nowhere else."""
    if not guest.virtual_nodes or any(cell.node is None for cell in guest.virtual_nodes):
        return [(guest.memory_kib or 0, affine, False)]
    return [
        (cell.memory_kib, NodeMap([cell.node]), True)
        for cell in guest.virtual_nodes
        if cell.node is not None
    ]


def _pinned(guest: Guest, masks: Sequence[Masks], host: Host) -> Guest:
    hard, soft = tuple(mask.hard for mask in masks), tuple(mask.soft for mask in masks)
    pool = host.pool(guest.pool)
    allowed = tuple(mask & pool.cpus for mask in hard)
    if not all(allowed):
        raise HypervisorError(f"a vcpu of {guest.name!r} has no cpu in cpupool {pool.name!r}")
    if all(
        tuple(mask) == (vcpu.hard, vcpu.soft) for vcpu, mask in zip(guest.vcpus, masks, strict=True)
    ):
        return guest
    affinity = xen.node_affinity(hard, soft, pool_cpus=pool.cpus, host=host)
    seats = seated(allowed, soft, online=len(hard))
    vcpus = tuple(
        vcpu._replace(hard=mask.hard, soft=mask.soft, cpu=seat.cpu if vcpu.online else None)
        for vcpu, seat, mask in zip(guest.vcpus, seats, masks, strict=True)
    )
    return guest._replace(vcpus=vcpus, node_affinity=affinity)


def _replaced(guests: tuple[Guest, ...], guest: Guest) -> tuple[Guest, ...]:
    return tuple(guest if other.uuid == guest.uuid else other for other in guests)


def _moved(state: State, held: Held, nodes: NodeMap, promised_kib: Mapping[int, int]) -> Held:
    """Take the guest's memory elsewhere to `nodes`, lowest nodes first, while there is room."""
    outside = sum(kib for node, kib in held.memory.by_node.items() if node not in nodes)
    kib = outside // xen.PAGE_KIB * xen.PAGE_KIB
    came = state.allocate(kib, affine=nodes, exactly=True, promised_kib=promised_kib)
    left = sum(came.by_node.values())
    memory = []
    for part, arrived in zip(held.memory[:2], came[:2], strict=True):
        stays = {}
        for node, kib in part.items():
            goes = min(left, kib) if node not in nodes else 0
            left -= goes
            stays[node] = kib - goes
        memory.append({node: stays.get(node, 0) + arrived.get(node, 0) for node in stays | arrived})
    high_kib, low_kib = (without_none(part) for part in memory)
    return held._replace(memory=xen.Allocation(high_kib, low_kib, 0))


def open_simulated(uri: str) -> SimulatedDriver:
    """Return the driver of ``sim:NAME``, with the options ``host=``, ``load=`` and ``fail=``.

    The host is made if there is none of that name. Raises `HomenodeError` for a malformed URI,
    `Conflict` if the host is there and was made from another description.
    """
    name, options = _parts(uri)
    path = f"{_state_home()}/homenode/sim/{name}.json"
    load = parse_load(options["load"]) if "load" in options else idle
    driver = SimulatedDriver(
        path, uri=f"sim:{name}", on_step=_failing_at(options.get("fail")), load=load
    )
    if "host" in options:
        _make_from_file(driver, options["host"])
    elif not driver.exists():
        driver.make(Snapshot(_default_host(), ()), made_from="the embedded default host")
    return driver


def _state_home() -> str:
    told = os.environ.get("XDG_STATE_HOME", "")
    # One that is not absolute is to be ignored (XDG Base Directory Specification).
    folder = told if told.startswith("/") else os.path.expanduser("~/.local/state")  # noqa: PTH111 - pathlib costs 5 ms at start
    if not folder.startswith("/"):
        raise HomenodeError("simulated hosts have no folder to be in", hint="set XDG_STATE_HOME")
    return folder


def _parts(uri: str) -> tuple[str, dict[str, str]]:
    from urllib.parse import unquote  # noqa: PLC0415 - only simulated hosts have options

    name, _, query = uri.removeprefix("sim:").partition("?")
    if not name or len(name) > _LONGEST_NAME or not _NAME.issuperset(name):
        raise HomenodeError(
            f"{uri!r}: {name!r} is no name for a simulated host",
            hint=f"write sim:NAME, with up to {_LONGEST_NAME} letters, digits, - and _",
        )
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        if key not in ("host", "fail", "load") or key in options or not value:
            raise HomenodeError(
                f"{uri!r}: no option of a simulated host: {part!r}",
                hint="there are host=FILE, load=LOADS and fail=STEP",
            )
        options[key] = unquote(value)
    return name, options


def _failing_at(step: str | None) -> Callable[[str], None]:
    if step is not None and step not in STEPS:
        raise HomenodeError(f"there is no step {step!r}", hint=f"there are {', '.join(STEPS)}")

    def on_step(reached: str) -> None:
        if reached == step:
            raise HypervisorError(f"told to fail at {step}")

    return on_step


def _make_from_file(driver: SimulatedDriver, path: str) -> None:
    from homenode.drivers.capture import CaptureDriver  # noqa: PLC0415 - only with host=
    from homenode.formats.snapshot import digest  # noqa: PLC0415 - the same

    description = CaptureDriver(path).snapshot()
    # However the file is called: `source` is the path as it was given.
    content = digest(description.host.replace(source=""), description.guests)
    made_from = f"{os.path.abspath(path)} ({content})"  # noqa: PTH100 - pathlib costs 5 ms at start
    driver.make(description, made_from=made_from)


def _default_host() -> Host:
    from importlib.resources import files  # noqa: PLC0415 - only when a host is made

    from homenode.formats import host_toml  # noqa: PLC0415 - the same

    resource = files("homenode.drivers") / "default_host.toml"
    return host_toml.parse(resource.read_text("utf-8"), source="default_host.toml")
