"""A host of QEMU and KVM through libvirt: ``qemu:///system``, ``qemu+ssh://host/system``.

What libvirt tells is asked of it: guests, their files as they run, the cpus that each vcpu may use
and where it runs. What it does not tell is read from this machine's own files, where the daemon is
this machine's: the memory that could be had at once, caches, and on which nodes the memory of each
guest is (`homenode.drivers.linux_guests`). Of a host elsewhere that stays unknown.

A guest that is created is defined by the file as its user wrote it, and started from one with the
decision in it: libvirt keeps the two apart (virDomainCreateXML of a guest that is defined), so the
next start, here or on another host, is decided anew.

What is said here of libvirt was tried with 9.0.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import time
from typing import TYPE_CHECKING

from homenode.bitmap import CpuMap, NodeMap
from homenode.claims import unclaimed
from homenode.drivers.base import Abilities, Look, Masks, Moving, Shrunk, Snapshot
from homenode.drivers.cpuset import Cpuset
from homenode.drivers.libvirt_link import Link, MissingError, opened
from homenode.errors import HomenodeError, HypervisorError, ParseError, Undone
from homenode.formats import libvirt_capabilities, libvirt_xml, sysfs
from homenode.formats.libvirt_xml import DomainXml
from homenode.guest import Guest, GuestRequest, GuestState, MemoryByNode, Vcpu
from homenode.host import Host
from homenode.ledger import Entries, Ledger, recalled
from homenode.placement.decision import Decision, Warned
from homenode.placement.view import ShareRule, equal_shares
from homenode.rules.qemu_guest import guest_of, part_sizes_kib, with_commitments

if TYPE_CHECKING:
    import libvirt

    from homenode.drivers.watching import Watcher
    from homenode.formats.guest_file import GuestFile

STATE = "/run/homenode"
"""The folder of homenode's own files on a host: they need not outlive its next boot."""

LOCK_S = 60.0
"""How long to wait for others that decide: each takes as long as a look at the host."""

STATUS_FOLDER = "run/libvirt/qemu"
"""Where libvirt keeps what it knows of the guests that run, below the root."""

_TRIES = 3
_RUNNING, _BLOCKED, _PAUSED, _SHUTDOWN, _CRASHED = 1, 2, 3, 4, 6
_STARTING_UP = 11
"""Of virDomainState and virDomainPausedReason (libvirt-domain.h)."""


_Memory = Callable[[int, DomainXml], MemoryByNode | None]
"""A way to find out where the memory of a process is, that is a guest with that file."""


class LibvirtDriver:
    """The host behind the libvirt daemon at `uri`; `clock` gives seconds since the epoch.

    `root` is where the files of this machine are.
    """

    def __init__(self, uri: str, *, root: str = "/", clock: Callable[[], float] = time) -> None:
        self.uri = uri
        self.root = root
        self._clock = clock
        self._link: Link | None = None
        self._ledger: Ledger | None = None

    @property
    def link(self) -> Link:
        """The line to the daemon, opened when it is first needed."""
        if self._link is None:
            self._link = opened(self.uri)
        return self._link

    @property
    def abilities(self) -> Abilities:
        """What libvirt can do; that of this machine need not be asked about its guests."""
        waits = not (self.is_local and self._can_see_guests)
        return Abilities(files="libvirt", prefers=False, moves=True, waits=waits)

    @property
    def is_local(self) -> bool:
        """Whether the guests run on this machine, as the URI says."""
        scheme, _, rest = self.uri.partition("://")
        driver, _, transport = scheme.partition("+")
        return driver == "qemu" and transport in ("", "unix") and rest.startswith("/")

    @property
    def ledger(self) -> Ledger | None:
        """The ledger of the host, over there; None where it cannot be reached."""
        if self._ledger is None:
            self._ledger = self._ledger_here() if self.is_local else self._ledger_there()
        return self._ledger

    def _ledger_here(self) -> Ledger:
        from homenode.drivers.trees import FolderTree  # noqa: PLC0415 - as for the host

        boot = FolderTree(self.root).text("proc/sys/kernel/random/boot_id") or ""
        return Ledger(
            f"{STATE}/ledger.json",
            boot_id=boot.strip() or "unknown",
            clock=self._clock,
            wait_s=LOCK_S,
        )

    def _ledger_there(self) -> Ledger | None:
        scheme, _, rest = self.uri.partition("://")
        if scheme != "qemu+ssh":
            return None
        from homenode.drivers.ssh import SshGateway  # noqa: PLC0415 - only over ssh

        gateway = SshGateway(rest.partition("/")[0])
        boot = gateway.run(["cat", "/proc/sys/kernel/random/boot_id"])
        return Ledger(
            f"{STATE}/ledger.json",
            boot_id=boot.stdout.strip() or "unknown",
            clock=self._clock,
            wait_s=LOCK_S,
            storage=gateway.storage,
            creator=gateway.process(),
            lives=gateway.lives,
        )

    @property
    def share_rule(self) -> ShareRule:
        """Equal shares: what interleaving gives."""
        return equal_shares

    # --- looking ---

    def snapshot(self, look: Look = "full") -> Snapshot:
        """Look at the host and its guests, again if some came or went meanwhile.

        For a decision (``creation``) this machine's files are read, and libvirt is not asked:
        whoever decides has the ledger's lock, and libvirt keeps a guest locked while its hook, or
        who answers as numad, waits for that. Each would wait for the other.
        """
        if look == "creation" and self.is_local and self._can_see_guests:
            return self._seen_in_files()
        return self._seen(self._memory)

    @property
    def _can_see_guests(self) -> bool:
        path = os.path.join(self.root, STATUS_FOLDER)  # noqa: PTH118 - pathlib costs 5 ms
        return "/session" not in self.uri and os.access(path, os.R_OK)

    def _seen_in_files(self) -> Snapshot:
        from homenode.drivers.linux_guests import running_guests  # noqa: PLC0415 - only here

        host = self._this_machine()
        return self._as_promised(host, running_guests(host, root=self.root).guests)

    def pages(self, *, force: bool = False) -> Snapshot:  # noqa: ARG002 - it holds up no host
        """Look where every page of the guests' memory is, by the page tables of their processes.

        That takes some 10 ms for each GiB in ordinary pages, and holds up a guest that has new
        pages mapped meanwhile.
        """
        if not self.is_local:
            raise HomenodeError(
                f"{self.uri}: pages can be counted on the host itself only",
                hint="run homenode there, with -c qemu:///system",
            )
        return self._seen(self._pages)

    def _seen(self, memory: _Memory) -> Snapshot:
        for _ in range(_TRIES):
            before = self._domains()
            host = self._host()
            guests = [guest for one in before if (guest := self._guest(one, host, memory))]
            if {one.ID() for one in self._domains()} == {guest.id for guest in guests}:
                break
        return self._as_promised(host, guests)

    def _as_promised(self, host: Host, guests: Sequence[Guest]) -> Snapshot:
        entries = self._entries()
        counted = unclaimed(guests, entries.claims)
        host = with_commitments(host, counted).replace(taken_at=self._clock())
        return Snapshot(host, tuple(_at_home(recalled(guest, entries)) for guest in guests))

    def _entries(self) -> Entries:
        if self.ledger is None:
            return Entries()
        try:
            return self.ledger.entries()
        except HomenodeError:
            if not self.is_local or not os.geteuid():
                raise
            return Entries()  # it is root's, and whoever may ask libvirt may look all the same

    def vcpus(self) -> Mapping[int, Sequence[Vcpu]]:
        """Return the vcpus by the id of their guest, as they are at this moment."""
        listed: dict[int, Sequence[Vcpu]] = {}
        for domain in self._domains():
            runs = self._runs(domain)
            listed[domain.ID()] = [
                Vcpu(number, CpuMap(), CpuMap(), cpu, time_ns)
                for number, (cpu, time_ns) in sorted(runs.items())
            ]
        return listed

    def _domains(self) -> "list[libvirt.virDomain]":
        flags = self.link.binding.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        domains = self.link.do("list guests", lambda: self.link.connection.listAllDomains(flags))
        return sorted(domains, key=lambda domain: domain.ID())

    def _host(self) -> Host:
        if self.is_local:
            return self._this_machine()
        connection = self.link.connection
        text = self.link.do("look at the host", connection.getCapabilities)
        described = libvirt_capabilities.parse(text, source=self.uri)
        free = {}
        for node in described.nodes:
            sizes = [4, *(pool.page_kib for pool in node.pages)]
            pages = self.link.maybe(partial(connection.getFreePages, sizes, node.id, 1))
            if pages:
                free[node.id] = pages[node.id]
        return libvirt_capabilities.parse(text, source=self.uri, free=free)

    def _this_machine(self) -> Host:
        from homenode.drivers.trees import FolderTree, read_tree  # noqa: PLC0415 - only here

        host = sysfs.parse(read_tree(FolderTree(self.root)), source=self.uri)
        return host.replace(hypervisor="QEMU by libvirt")

    def _guest(
        self,
        domain: "libvirt.virDomain",
        host: Host,
        memory: _Memory,
    ) -> Guest | None:
        """Return a guest as it runs; None if it is gone."""
        try:
            text = self.link.do("look at a guest", lambda: domain.XMLDesc(0))
            state, reason = self.link.do("look at a guest", domain.state)[:2]
        except MissingError:
            return None
        name = domain.name()
        try:
            config = libvirt_xml.parse(text, source=f"{self.uri}: {name}")
        except ParseError:
            # One that we cannot read is there all the same, with its size.
            return self._bare_guest(domain)
        pins = self.link.maybe(lambda: domain.vcpuPinInfo(0))
        numa = self.link.maybe(lambda: domain.numaParameters(0)) or {}
        chosen = str(numa.get("numa_nodeset") or "")
        process = self.process_of(name)
        there = None if process is None else memory(process, config)
        guest = guest_of(
            config,
            host,
            id=domain.ID(),
            state=_state(state, reason),
            masks=None if pins is None else tuple(_cpus(pin) & host.cpu_map for pin in pins),
            chosen=NodeMap.parse_libvirt(chosen) if chosen else None,
            bound=None if process is None else Cpuset(process, root=self.root).bound,
            memory=there and there._replace(taken_at=self._clock()),
        )
        runs = self._runs(domain)
        vcpus = tuple(
            vcpu._replace(cpu=runs[vcpu.id][0], time_ns=runs[vcpu.id][1])
            if vcpu.id in runs
            else vcpu._replace(online=False)
            for vcpu in guest.vcpus
        )
        return guest._replace(vcpus=vcpus)

    def _bare_guest(self, domain: "libvirt.virDomain") -> Guest | None:
        info = self.link.maybe(domain.info)
        if info is None:
            return None
        return Guest(
            domain.name(),
            id=domain.ID(),
            uuid=domain.UUIDString(),
            memory_kib=info[2],
            max_memory_kib=info[1],
        )

    def _runs(self, domain: "libvirt.virDomain") -> dict[int, tuple[int | None, int]]:
        """Return the cpu that each vcpu was last seen on, and the nanoseconds that it ran."""
        told = self.link.maybe(domain.vcpus)
        return {number: (max(cpu, 0), ns) for number, _, ns, cpu in told[0]} if told else {}

    def process_of(self, guest: Guest | str) -> int | None:
        """Return the number of the guest's QEMU on this machine; None if it is elsewhere."""
        name = guest if isinstance(guest, str) else guest.name
        if not self.is_local or "/session" in self.uri:
            return None
        path = os.path.join(self.root, f"run/libvirt/qemu/{name}.pid")  # noqa: PTH118 - as below
        try:
            with open(path, encoding="ascii") as file:  # noqa: PTH123 - pathlib costs 5 ms
                return int(file.read(32))
        except (OSError, ValueError):
            return None

    def _memory(self, process: int, config: DomainXml) -> MemoryByNode | None:
        from homenode.drivers.linux_guests import memory_of  # noqa: PLC0415 - only on this machine

        return memory_of(process, config, root=self.root)

    def _pages(self, process: int, config: DomainXml) -> MemoryByNode | None:
        from homenode.drivers.page_mover import memory_of_guest  # noqa: PLC0415 - only where asked

        return memory_of_guest(process, part_sizes_kib(config), root=self.root)

    def watcher(self) -> "Watcher":
        """Return what watches the vcpus of this machine's guests for the keeper."""
        if not self.is_local or "/session" in self.uri:
            raise HomenodeError(
                f"{self.uri}: threads are watched on the host itself",
                hint="run homenode there, with -c qemu:///system",
            )
        if not self._can_see_guests:
            raise HomenodeError(f"{self.uri}: /{STATUS_FOLDER} cannot be read", hint="root may")
        from homenode.drivers.linux_watch import LinuxWatcher  # noqa: PLC0415 - only for the keeper

        def completing() -> Callable[[Guest], Guest]:
            entries = self._entries()
            return lambda guest: _at_home(recalled(guest, entries))

        return LinuxWatcher(root=self.root, completing=completing)

    # --- changing ---

    def uuid_of(self, name: str) -> str | None:
        """Return the uuid of a guest that is defined under that name."""
        domain = self.link.maybe(lambda: self.link.connection.lookupByName(name))
        return None if domain is None else str(domain.UUIDString())

    def create(
        self, request: GuestRequest, decision: Decision, config: "GuestFile", kept: "GuestFile"
    ) -> None:
        """Define the guest as `kept` and start it as `config`; if that fails it is as it was."""
        if not decision.fits or request.uuid is None:
            raise HomenodeError(f"{request.name!r} is not placed, so it is not created")
        if self.ledger is None:
            raise HomenodeError(
                f"{self.uri}: guests are created where homenode can keep its ledger",
                hint="qemu:///system on the host itself, or qemu+ssh://host/system",
            )
        connection = self.link.connection
        before = self._definition(request.name)
        what = f"create {request.name!r}"
        self.link.do(what, lambda: connection.defineXML(kept.text))
        try:
            self.link.do(what, lambda: connection.createXML(config.text, 0))
        except BaseException as error:
            left = self._restored(request, before)
            if left and isinstance(error, HomenodeError):
                raise Undone(f"{error}; {left}") from None
            raise

    def _definition(self, name: str) -> str | None:
        """Return the file of a guest that is defined, and not running; None if there is none."""
        inactive = (
            self.link.binding.VIR_DOMAIN_XML_INACTIVE | self.link.binding.VIR_DOMAIN_XML_SECURE
        )
        domain = self.link.maybe(lambda: self.link.connection.lookupByName(name))
        return None if domain is None else self.link.maybe(lambda: domain.XMLDesc(inactive))

    def _restored(self, request: GuestRequest, before: str | None) -> str | None:
        """Leave a guest that did not start as it was; return what of it stayed."""
        connection = self.link.connection
        domain = self.link.maybe(lambda: connection.lookupByUUIDString(str(request.uuid)))
        if domain is None:
            return None
        if self.link.maybe(domain.isActive):
            self.link.maybe(domain.destroy)
        if before is None:
            undefined = self.link.maybe(domain.undefine)
            return None if undefined == 0 else "it stays defined: virsh undefine takes it away"
        again = self.link.maybe(lambda: connection.defineXML(before))
        return None if again is not None else "its definition is the new one"

    def make_room(self, kib: int) -> Shrunk | None:  # noqa: ARG002 - the protocol's
        """Do nothing: Linux gives up what it has cached by itself."""
        return None

    def give_back(self, kib: int) -> None:
        """Do nothing."""

    def destroy(self, guest: Guest) -> None:
        """Stop the guest at once; what defines it stays."""
        self.link.do(f"destroy {guest.name!r}", self.domain(guest).destroy)

    def forget(self, uuid: str) -> None:
        """Undefine a guest that has ended; one that is not defined stays so."""
        connection = self.link.connection
        domain = self.link.maybe(lambda: connection.lookupByUUIDString(uuid))
        if domain is not None:
            flags = self.link.binding.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
            self.link.do(f"undefine {domain.name()!r}", lambda: domain.undefineFlags(flags))

    def domain(self, guest: Guest) -> "libvirt.virDomain":
        """Return the guest as libvirt has it; `MissingError` if that one is gone."""
        connection = self.link.connection
        if guest.id is None:
            raise MissingError(f"{self.uri}: {guest.name!r} does not run")
        return self.link.do(f"find {guest.name!r}", lambda: connection.lookupByID(guest.id))

    def file_of(self, guest: Guest) -> DomainXml:
        """Return the guest's file as it runs."""
        text = self.link.do(f"look at {guest.name!r}", lambda: self.domain(guest).XMLDesc(0))
        return libvirt_xml.parse(text, source=f"{self.uri}: {guest.name}")

    def pin(self, guest: Guest, masks: Sequence[Masks]) -> None:
        """Pin the vcpus, and QEMU's own threads beside them where those went with the vcpus."""
        self._pin(guest, [mask.hard for mask in masks])

    def _pin(self, guest: Guest, masks: Sequence[CpuMap]) -> None:
        host, domain = self._host(), self.domain(guest)
        before = [vcpu.hard for vcpu in guest.vcpus]
        steps = self._pin_steps(domain, host, before, masks)
        for at, (what, pin, new, _) in enumerate(steps):
            try:
                self.link.do(f"pin {what} of {guest.name!r}", partial(pin, new))
            except HypervisorError as error:
                if not at:
                    raise
                left = [
                    name
                    for name, undo, _, old in steps[:at]
                    if self.link.maybe(partial(undo, old)) is None
                ]
                if left:
                    raise HypervisorError(
                        f"{error}; {', '.join(left)} stay as they are now"
                    ) from None
                raise Undone(f"{error}; the pins are set back") from None

    def _pin_steps(
        self,
        domain: "libvirt.virDomain",
        host: Host,
        before: Sequence[CpuMap],
        masks: Sequence[CpuMap],
    ) -> list[tuple[str, Callable[[tuple[bool, ...]], int], tuple[bool, ...], tuple[bool, ...]]]:
        """Return what to pin: its name, how, the new cpus, and those that it had."""
        live = self.link.binding.VIR_DOMAIN_AFFECT_LIVE
        size = max(host.cpu_map, default=0) + 1
        steps = []
        for number, (old, new) in enumerate(zip(before, masks, strict=True)):
            if old != new:
                pin = _vcpu_pin(domain, number, live)
                steps.append((f"vcpu {number}", pin, _flags(new, size), _flags(old, size)))
        together, home = CpuMap.union(masks), CpuMap.union(before)
        emulator = self.link.maybe(lambda: domain.emulatorPinInfo(0))
        if emulator is not None and _goes_along(_cpus(emulator), home, host):
            steps.append(
                (
                    "the emulator",
                    lambda cpus: domain.pinEmulator(cpus, live),
                    _flags(together, size),
                    emulator,
                )
            )
        for number, _, cpus in _iothreads(self.link.maybe(lambda: domain.ioThreadInfo(0))):
            if _goes_along(_cpus(cpus), home, host):
                pin = _iothread_pin(domain, number, live)
                steps.append((f"I/O thread {number}", pin, _flags(together, size), cpus))
        return steps

    def move(
        self,
        guest: Guest,
        masks: Sequence[Masks],
        how: Moving = Moving(),  # noqa: B008 - immutable
    ) -> tuple[Warned, ...]:
        """Pin the guest and bring its memory along, page by page; see `libvirt_move`."""
        from homenode.drivers.libvirt_move import moved  # noqa: PLC0415 - only here

        return moved(self, guest, masks, how)

    def move_warning(self, guest: Guest) -> str | None:  # noqa: ARG002 - it runs on meanwhile
        """Return nothing: the guest runs on, a little slower."""
        return None


def _at_home(guest: Guest) -> Guest:
    """Return a guest that homenode holds, and that has nothing left to touch, as at home there.

    Its file goes on naming the nodes that it was started with, after it was moved.
    """
    have_kib = sum(guest.memory_by_node.kib.values()) if guest.memory_by_node else 0
    if guest.held is None or have_kib < (guest.max_memory_kib or 0):
        return guest
    return guest._replace(node_affinity=guest.held)


def _vcpu_pin(
    domain: "libvirt.virDomain", number: int, flags: int
) -> Callable[[tuple[bool, ...]], int]:
    return lambda cpus: domain.pinVcpuFlags(number, cpus, flags)


def _iothread_pin(
    domain: "libvirt.virDomain", number: int, flags: int
) -> Callable[[tuple[bool, ...]], int]:
    return lambda cpus: domain.pinIOThread(number, cpus, flags)


def _iothreads(told: object) -> list[tuple[int, object, tuple[bool, ...]]]:
    return [(number, None, cpus) for number, cpus in told] if isinstance(told, list) else []


def _goes_along(pin: CpuMap, home: CpuMap, host: Host) -> bool:
    """Return whether a thread of QEMU's own is where the vcpus are, or anywhere.

    One that its user has put elsewhere stays there.
    """
    pin &= host.cpu_map
    return pin == home or pin >= host.cpu_map or host.cpus_of(host.nodes_of(pin)) == pin


def _state(state: int, reason: int) -> GuestState:
    if state == _PAUSED:
        return "building" if reason == _STARTING_UP else "paused"
    return "dying" if state in (_SHUTDOWN, _CRASHED) else "running"


def _cpus(flags: Sequence[bool]) -> CpuMap:
    return CpuMap(number for number, there in enumerate(flags) if there)


def _flags(cpus: CpuMap, size: int) -> tuple[bool, ...]:
    return tuple(number in cpus for number in range(size))
