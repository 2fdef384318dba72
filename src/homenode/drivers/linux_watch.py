"""Watching the vcpus of this machine's guests of libvirt for the keeper, by files of the kernel.

libvirt tells which threads the vcpus are, in the file that it keeps of each guest that runs; the
kernel tells how long each ran and waited for a cpu (``schedstat``), and how busy each cpu was
(``/proc/stat``). Files are kept open: reading a thousand of them again costs some milliseconds.

Masks are set on the threads themselves. libvirt could set them as well, but it would write them
into the guest's file, and with that they would travel: a guest that is migrated takes its
``<vcpupin>`` along to a host whose cpus are others. So a mask of the keeper's is seen in ``virsh
vcpuinfo`` (cpu affinity), and not in ``virsh vcpupin``; who pins a vcpu through libvirt overrides
it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from time import monotonic, time_ns
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.linux_guests import STATUS, guest_of_status, memory_of, status_of
from homenode.drivers.trees import FolderTree, read_tree
from homenode.drivers.watching import Lodger, Sight, Use
from homenode.errors import HomenodeError, HypervisorError
from homenode.formats import sysfs
from homenode.formats.libvirt_status import DomainStatus
from homenode.formats.process_stat import busy_ticks, last_cpu, started_at
from homenode.guest import Guest
from homenode.host import Host

_ROUNDS_PER_MASK = 12
"""Once in so many rounds each mask is looked at, where nothing is about to be changed."""

_LONGEST_LINE = 1024

_TICK_NS = 100_000_000

_STILL = 0.002
"""Of a vcpu that ran less than that share of the time, nobody asks where."""


class _Thread(NamedTuple):
    """The thread of a vcpu, and its files, kept open."""

    number: int
    schedstat: int
    stat: int


class _Known(NamedTuple):
    """A guest by its files alone and with what else is known, when it was read, and its threads."""

    written: tuple[int, int]
    status: DomainStatus
    guest: Guest
    lodger: Lodger
    threads: Mapping[int, _Thread]


class LinuxWatcher:
    """Watches the guests whose files are below `root`; `clock` is in seconds, from anywhere.

    `completing` returns what adds to guests what is known elsewhere (the ledger); it is asked once
    for all that are looked at together.
    """

    def __init__(
        self,
        *,
        root: str = "/",
        clock: Callable[[], float] = monotonic,
        completing: Callable[[], Callable[[Guest], Guest]] = lambda: lambda guest: guest,
    ) -> None:
        self._root = root
        self._tree = FolderTree(root)
        self._clock = clock
        self._completing = completing
        self._complete: Callable[[Guest], Guest] = lambda guest: guest
        self._host: Host | None = None
        self._usual = CpuMap()
        self._node_of: dict[int, int] = {}
        self._guests: dict[str, _Known] = {}
        self._times: dict[tuple[str, int], tuple[int, int]] = {}
        self._files: dict[str, tuple[int, int]] = {}
        self._changed = -1
        self._fixed: dict[tuple[str, int], int] = {}
        self._busy: dict[int, int] = {}
        self._at_s = 0.0
        self._round = 0
        self._ticks_s = 1 / os.sysconf("SC_CLK_TCK")
        _allow_many_files()

    def look(self, *, wholly: bool) -> Sight:
        """Look at all vcpus, and at guests whose files have changed."""
        whole = wholly or self._host is None
        if whole or self._host is None:
            self._look_at_host()
        changed = self._look_at_guests(wholly=whole)
        host = self._host
        if host is None:
            raise HypervisorError("this machine does not tell of its nodes")
        now_s = self._clock()
        seconds = now_s - self._at_s if self._at_s else 0.0
        self._at_s = now_s
        uses = dict(self._uses(seconds))
        busy = self._busy_cpus(host, seconds)
        self._round += 1
        lodgers = tuple(known.lodger for known in self._guests.values())
        return Sight(seconds, host, lodgers, uses, busy, self._usual, whole or changed)

    def _look_at_host(self) -> None:
        host = sysfs.parse(read_tree(self._tree), source=self._root)
        self._host = host
        self._node_of = {cpu.id: cpu.node for cpu in host.cpus if cpu.node is not None}
        isolated = (self._tree.text("sys/devices/system/cpu/isolated") or "").strip()
        self._usual = host.cpu_map - (CpuMap.parse(isolated) if isolated else CpuMap())

    def _look_at_guests(self, *, wholly: bool) -> bool:
        """Look at the files of guests, and forget those that are gone; return whether any was."""
        there = self._written()
        changed = False
        if wholly or there.keys() != self._guests.keys():
            self._complete = self._completing()
        for name in self._guests.keys() - there.keys():
            self._forget(name)
            changed = True
        for name, written in there.items():
            known = self._guests.get(name)
            if known is not None and known.written == written:
                if wholly:
                    self._guests[name] = self._looked_again(known)
                continue
            if known is not None:
                self._forget(name)
            changed = self._meet(name, written) or changed
        return changed

    def _written(self) -> dict[str, tuple[int, int]]:
        """Return the files of guests, and what tells whether one was written since."""
        folder = os.path.join(self._root, STATUS)  # noqa: PTH118 - pathlib is slow
        try:
            changed = os.stat(folder).st_mtime_ns  # noqa: PTH116 - the same
        except OSError:
            return {}
        # libvirt puts a file in place of another, which changes the folder.
        if changed == self._changed:
            return self._files
        there = {}
        with suppress(OSError), os.scandir(folder) as files:
            for file in files:
                if file.name.endswith(".xml"):
                    with suppress(OSError):
                        told = file.stat()
                        there[file.name] = (told.st_mtime_ns, told.st_ino)
        # What happens in this very tick of the clock does not change its time again.
        self._changed = changed if abs(time_ns() - changed) > _TICK_NS else -1
        self._files = there
        return there

    def _meet(self, name: str, written: tuple[int, int]) -> bool:
        """Get to know a guest by its file; return whether it can be watched."""
        try:
            status = status_of(self._tree, f"{STATUS}/{name}")
        except HomenodeError:
            return False  # one that cannot be read is left alone; `doctor` and `list` say so
        text = None if status is None else self._tree.text(f"proc/{status.process}/stat")
        if status is None or text is None or self._host is None:
            return False
        guest = guest_of_status(status, self._host, self._root)
        threads = {}
        for vcpu, number in status.threads.items():
            thread = self._opened(status.process or 0, number)
            if thread is not None:
                threads[vcpu] = thread
        key, instance = guest.uuid or guest.name, f"{status.process}:{started_at(text)}"
        lodger = Lodger(key, instance, self._complete(self._as_held(guest, threads)))
        self._guests[name] = _Known(written, status, guest, lodger, threads)
        return True

    def _looked_again(self, known: _Known) -> _Known:
        """Return a guest with its memory and masks as they are now."""
        status = known.status
        memory = memory_of(status.process or 0, status.domain, root=self._root)
        guest = known.guest._replace(memory_by_node=memory or known.guest.memory_by_node)
        whole = self._complete(self._as_held(guest, known.threads))
        return known._replace(guest=guest, lodger=known.lodger._replace(guest=whole))

    def _as_held(self, guest: Guest, threads: Mapping[int, _Thread]) -> Guest:
        """Return a guest with the masks that its threads have, which its file need not say."""
        masks = {vcpu: self._mask(thread) for vcpu, thread in threads.items()}
        vcpus = tuple(vcpu._replace(hard=masks.get(vcpu.id) or vcpu.hard) for vcpu in guest.vcpus)
        return guest._replace(vcpus=vcpus)

    def _opened(self, process: int, number: int) -> _Thread | None:
        folder = os.path.join(self._root, f"proc/{process}/task/{number}")  # noqa: PTH118 - as above
        schedstat = -1
        try:
            schedstat = os.open(f"{folder}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            return _Thread(number, schedstat, os.open(f"{folder}/stat", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if schedstat >= 0:
                os.close(schedstat)
            if os.path.isdir(folder):  # noqa: PTH112 - as above
                raise HypervisorError(
                    f"{folder}: {error.strerror}",
                    hint="the kernel has to count waiting times (CONFIG_SCHED_INFO)",
                ) from None
            return None

    def _forget(self, name: str) -> None:
        known = self._guests.pop(name)
        for vcpu, thread in known.threads.items():
            os.close(thread.schedstat)
            os.close(thread.stat)
            self._times.pop((known.lodger.key, vcpu), None)
            self._fixed.pop((known.lodger.key, vcpu), None)

    def _uses(self, seconds: float) -> Iterator[tuple[tuple[str, int], Use]]:
        for number, known in enumerate(self._guests.values()):
            its_turn = (number + self._round) % _ROUNDS_PER_MASK == 0
            for vcpu, thread in known.threads.items():
                key = known.lodger.key, vcpu
                try:
                    ran_ns, waited_ns = os.pread(thread.schedstat, 64, 0).split()[:2]
                except (OSError, ValueError):
                    continue  # it ended
                now = int(ran_ns), int(waited_ns)
                before = self._times.get(key)
                self._times[key] = now
                if before is None or seconds <= 0:
                    continue
                ran = min(1.0, (now[0] - before[0]) / 1e9 / seconds)
                waited = min(1.0 - ran, (now[1] - before[1]) / 1e9 / seconds)
                mask = self._mask(thread) if its_turn else None
                if mask is not None:
                    self._fix(key, mask)
                yield key, Use(ran, waited, self._node(key, thread, ran), mask)

    def _fix(self, key: tuple[str, int], mask: CpuMap) -> None:
        """Know a vcpu whose mask is within one node to be there; to ask costs as much as times."""
        nodes = NodeMap() if self._host is None else self._host.nodes_of(mask)
        if len(nodes) == 1:
            self._fixed[key] = nodes.first
        else:
            self._fixed.pop(key, None)

    def _node(self, key: tuple[str, int], thread: _Thread, ran: float) -> int | None:
        fixed = self._fixed.get(key)
        if fixed is not None or ran < _STILL:
            return fixed
        try:
            cpu = last_cpu(os.pread(thread.stat, _LONGEST_LINE, 0))
        except OSError:
            return None
        return self._node_of.get(cpu)

    def _busy_cpus(self, host: Host, seconds: float) -> dict[int, float]:
        before, self._busy = self._busy, busy_ticks(self._tree.text("proc/stat") or "")
        busy = dict.fromkeys(host.nodes_by_id, 0.0)
        for cpu, ticks in self._busy.items():
            node = self._node_of.get(cpu)
            if node is not None and cpu in before and seconds > 0:
                busy[node] += min(1.0, (ticks - before[cpu]) * self._ticks_s / seconds)
        return busy

    def _mask(self, thread: _Thread) -> CpuMap | None:
        try:
            return CpuMap(os.sched_getaffinity(thread.number)) & self._every
        except OSError:
            return None

    @property
    def _every(self) -> CpuMap:
        return CpuMap() if self._host is None else self._host.cpu_map

    def masks(self, lodger: Lodger) -> Mapping[int, CpuMap] | None:
        """Return the masks of the guest's vcpus at this moment."""
        known = self._of(lodger)
        if known is None:
            return None
        masks = {vcpu: self._mask(thread) for vcpu, thread in known.threads.items()}
        return {vcpu: mask for vcpu, mask in masks.items() if mask is not None}

    def _of(self, lodger: Lodger) -> _Known | None:
        for known in self._guests.values():
            if (known.lodger.key, known.lodger.instance) == (lodger.key, lodger.instance):
                return known
        return None

    def set(self, lodger: Lodger, masks: Mapping[int, CpuMap]) -> None:
        """Set the masks of threads; if one fails, those before it are set back."""
        known = self._of(lodger)
        if known is None:
            raise HypervisorError(f"{lodger.guest.name!r} is gone")
        done: list[tuple[int, set[int]]] = []
        for vcpu, mask in masks.items():
            thread = known.threads[vcpu].number
            try:
                before = os.sched_getaffinity(thread)
                os.sched_setaffinity(thread, mask)
            except OSError as error:
                for earlier, old in done:
                    with suppress(OSError):
                        os.sched_setaffinity(earlier, old)
                hint = "root may" if isinstance(error, PermissionError) else None
                raise HypervisorError(
                    f"vcpu {vcpu} of {lodger.guest.name!r}: cannot set its cpus to {mask}:"
                    f" {error.strerror}",
                    hint=hint,
                ) from None
            done.append((thread, before))
            self._fix((lodger.key, vcpu), mask)


def _allow_many_files() -> None:
    """Have as many files open as we may: two for each vcpu."""
    import resource  # noqa: PLC0415 - only for the keeper

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
