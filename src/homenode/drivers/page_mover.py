"""Moving the pages of a running guest to other nodes, in batches: move_pages(2).

The kernel copies each page while the guest runs on (Linux, mm/migrate.c, do_pages_move()). It gives
a page no other node than the one asked for and calls no out-of-memory killer for it: what does not
fit is refused page by page, and then all that was moved is moved back. What cannot move is counted:
pages that are pinned for a device, or that something else holds.

Pages that the kernel's NUMA balancing has marked, to see who touches them next, are none to
move_pages (seen with Linux 6.1: status EFAULT, for all of an idle guest). So where the page table
has a page and the kernel knows none, one byte of it is read first, which takes the mark away.

A transparent huge page moves as one, if the node has a free block for it; else the kernel splits
it. So the first page of each block is asked for before the others.

libc has no move_pages of its own and libnuma may be absent, so the system call is made by number.
"""

import ctypes
import errno
import os
import platform
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic, sleep
from typing import NamedTuple

from homenode.drivers.trees import FolderTree
from homenode.errors import HomenodeError, HypervisorError
from homenode.formats import numa_maps
from homenode.formats.numa_maps import Mapped
from homenode.guest import MemoryByNode

NUMA_MAPS = "page tables"
"""The source of memory that was found by `memory_of_guest`."""

BATCH_KIB = 16 << 10
"""How much is asked for in one call: some milliseconds of copying."""

_NUMBERS = {"x86_64": 279, "aarch64": 239, "riscv64": 239, "ppc64le": 301, "s390x": 310}
"""The system call move_pages (Linux, arch/*/entry/syscalls, include/uapi/asm-generic/unistd.h)."""

_BLOCK = 2 << 20
_SMALL = os.sysconf("SC_PAGE_SIZE")
_ENTRY = 8
"""Bytes of /proc/PID/pagemap for each ordinary page."""

_MOVE = 2  # MPOL_MF_MOVE
_TRIES = 3
_PAUSE_S = 0.02


class Moved(NamedTuple):
    """What became of a move, in KiB: `moved`, and `stuck` by the reason that the kernel gave.

    `split` are transparent huge pages that are none any more.
    """

    moved_kib: int
    stuck_kib: Mapping[str, int]
    split: int


class NoRoomError(HypervisorError):
    """A node had no room for more pages; `moved_kib` had been moved until then."""

    def __init__(self, message: str, moved_kib: int) -> None:
        super().__init__(message)
        self.moved_kib = moved_kib


def mappings_of(process: int, *, root: str = "/") -> tuple[Mapped, ...]:
    """Return the mappings of a process; `HypervisorError` if it is gone or not ours to look at."""
    texts = []
    for name in ("numa_maps", "maps"):
        path = os.path.join(root, f"proc/{process}/{name}")  # noqa: PTH118 - pathlib costs 5 ms
        try:
            with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
                texts.append(file.read())
        except OSError as error:
            raise HypervisorError(
                f"{path}: cannot read it: {error.strerror}",
                hint="root may, where the guest runs and the kernel has CONFIG_NUMA",
            ) from None
    return numa_maps.parse(*texts, source=f"/proc/{process}/numa_maps")


def memory_of_guest(
    process: int, sizes_kib: Iterable[int] = (), *, root: str = "/"
) -> MemoryByNode:
    """Return where a guest's memory is by the page tables of its QEMU, whose own is left out.

    `sizes_kib` are those of the parts of its memory.
    """
    found = numa_maps.of_guest(mappings_of(process, root=root), frozenset(sizes_kib))
    return MemoryByNode(numa_maps.sum_kib(found), NUMA_MAPS)


class Process(NamedTuple):
    """A process that is known by its number and by when it was started: numbers are reused."""

    number: int
    started: str
    root: str = "/"

    @classmethod
    def of(cls, number: int, *, root: str = "/") -> "Process":
        """Return the process with that number; `HypervisorError` if there is none."""
        started = _started(number, root)
        if started is None:
            raise HypervisorError(f"process {number} is gone")
        return cls(number, started, root)

    def text(self, name: str) -> str:
        """Return a file of it below ``/proc``; empty if it cannot be read."""
        return FolderTree(self.root).text(f"proc/{self.number}/{name}") or ""

    def check(self) -> None:
        """Raise `HypervisorError` if it has ended."""
        if _started(self.number, self.root) != self.started:
            raise HypervisorError(f"process {self.number} of the guest is gone")


def _started(number: int, root: str) -> str | None:
    text = FolderTree(root).text(f"proc/{number}/stat")
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else None


class PageMover:
    """Moves pages of one process; `rate_kib_s` and `progress` as `drivers.base.Moving` has them."""

    def __init__(
        self,
        process: Process,
        *,
        rate_kib_s: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._process = process
        self._rate = rate_kib_s
        self._progress = progress
        self._call = _system_call()
        self._done_kib = 0
        self._all_kib = 0
        self._began = 0.0
        self._origins: list[tuple[list[int], int, int]] = []
        """What was moved: addresses, the node where they were, KiB of each."""

    def move(self, mappings: Sequence[Mapped], wanted: Mapping[int, int]) -> Moved:
        """Move pages that are not on the nodes of `wanted` there, up to so many KiB on each.

        Raises `NoRoomError` when a node is full, after all was moved back, or with what was not.
        Being interrupted moves back, too.
        """
        away = [
            (sum(kib for node, kib in mapped.kib.items() if node not in wanted), mapped)
            for mapped in mappings
        ]
        self._all_kib = sum(kib for kib, _ in away)
        self._began = monotonic()
        before = self._huge_kib()
        left = _open_kib(mappings, wanted)
        stuck: dict[str, int] = {}
        try:
            for kib, mapped in sorted(away, key=lambda one: (-one[0], one[1].start)):
                if kib:
                    self._move_mapping(mapped, wanted, left, kib, stuck)
        except _FullError as full:
            raise NoRoomError(self._taken_back(str(full)), self._done_kib) from None
        except HypervisorError as error:
            raise HypervisorError(self._taken_back(error.message), hint=error.hint) from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                self._taken_back("interrupted while its pages were moved")
            ) from None
        split = max(0, before - self._huge_kib()) // 2048
        return Moved(self._done_kib, stuck, split)

    def _move_mapping(
        self,
        mapped: Mapped,
        wanted: Mapping[int, int],
        left: dict[int, int],
        away_kib: int,
        stuck: dict[str, int],
    ) -> None:
        """Move one mapping: to one node if one has room for all of it, for it may be a cell."""
        whole = [node for node in left if left[node] >= away_kib]
        page = mapped.page_kib << 10
        per_batch = max(1, (BATCH_KIB << 10) // page) * page
        for start in range(mapped.start, mapped.end, per_batch):
            addresses = range(start, min(start + per_batch, mapped.end), page)
            where = self._unmarked(addresses)
            wrong = [
                (address, node)
                for address, node in zip(addresses, where, strict=True)
                if node >= 0 and node not in wanted
            ]
            while wrong:
                node = whole[0] if whole else max(left, key=lambda one: (left[one], -one))
                room = max(1, (left[node] << 10) // page) if left[node] > 0 else len(wrong)
                part, wrong = wrong[:room], wrong[room:]
                moved = self._move_pages(part, node, mapped.page_kib, stuck)
                left[node] -= moved
            self._pace()

    def _move_pages(
        self, pages: Sequence[tuple[int, int]], node: int, page_kib: int, stuck: dict[str, int]
    ) -> int:
        """Move pages to `node`; return the KiB that moved."""
        waiting = dict(pages)
        reasons: dict[int, int] = {}
        for attempt in range(_TRIES):
            if page_kib <= 64 and not attempt:
                heads = {address // _BLOCK: address for address in reversed(waiting)}
                self._ask([*heads.values()], node, reasons)
                self._settle(waiting, node, page_kib)
            if waiting:
                reasons.clear()
                self._ask(list(waiting), node, reasons)
                self._settle(waiting, node, page_kib)
            if not waiting or errno.ENOMEM in reasons.values():
                break
            sleep(_PAUSE_S * attempt)
        moved_kib = (len(pages) - len(waiting)) * page_kib
        if waiting and errno.ENOMEM in reasons.values():
            raise _FullError(f"node {node} has no room for more pages")
        for address in waiting:
            why = _REASONS.get(reasons.get(address, errno.EBUSY), "refused by the kernel")
            stuck[why] = stuck.get(why, 0) + page_kib
        return moved_kib

    def _settle(self, waiting: dict[int, int], node: int, page_kib: int) -> None:
        """Take from `waiting` what has moved to `node`, or is no more, and note it."""
        addresses = list(waiting)
        origins: dict[int, list[int]] = {}
        for address, now in zip(addresses, self._where(addresses), strict=True):
            if now == node:
                origins.setdefault(waiting.pop(address), []).append(address)
            elif now < 0:
                del waiting[address]  # the guest gave it back
        for origin, moved in origins.items():
            self._origins.append((moved, origin, page_kib))
            self._done_kib += len(moved) * page_kib

    def _taken_back(self, why: str) -> str:
        """Move everything back; return what is to be said of it."""
        reasons: dict[int, int] = {}
        staying = 0
        try:
            for addresses, origin, page_kib in reversed(self._origins):
                self._ask(addresses, origin, reasons)
                where = self._where(addresses)
                staying += sum(node >= 0 and node != origin for node in where) * page_kib
        except HypervisorError as error:
            return f"{why}; what had moved could not be moved back: {error.message}"
        self._origins.clear()
        if staying:
            return f"{why}; {staying >> 10} MiB of what had moved could not be moved back"
        return f"{why}; what had moved is moved back"

    def _pace(self) -> None:
        self._process.check()
        if self._progress is not None:
            try:
                self._progress(min(self._done_kib, self._all_kib), self._all_kib)
            except OSError:
                self._progress = None  # nobody looks any more: no reason to stop half-way
        if self._rate:
            due = self._began + self._done_kib / self._rate
            sleep(max(0.0, due - monotonic()))

    def _unmarked(self, addresses: range) -> "array[int]":
        """Return the node of each page, having taken the marks of NUMA balancing from them."""
        where = self._where(addresses)
        for step in (_BLOCK, addresses.step):
            hidden = [
                address
                for address, node, there in zip(
                    addresses, where, self._present(addresses, where), strict=True
                )
                if node < 0 and there
            ]
            if not hidden:
                break
            blocks = {address // step: address for address in hidden}
            self._touch([*blocks.values()])
            where = self._where(addresses)
        return where

    def _present(self, addresses: range, where: "array[int]") -> Sequence[int]:
        """Return, for each page, whether the page table has it; asked only if some are unknown."""
        if min(where, default=0) >= 0:
            return bytes(len(addresses))
        path = os.path.join(self._process.root, f"proc/{self._process.number}/pagemap")  # noqa: PTH118 - pathlib costs 5 ms
        per_page = addresses.step // _SMALL * _ENTRY
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
                file.seek(addresses.start // _SMALL * _ENTRY)
                entries = file.read(len(addresses) * per_page)
        except OSError:
            return bytes(len(addresses))
        # The highest bit of each entry (Linux, Documentation/admin-guide/mm/pagemap.rst).
        flags = entries[_ENTRY - 1 :: per_page]
        return [flag >> 7 for flag in flags.ljust(len(addresses), b"\0")]

    def _touch(self, addresses: list[int]) -> None:
        """Read one byte of each page, as its process would."""
        byte = ctypes.create_string_buffer(1)
        local = _Piece(ctypes.addressof(byte), 1)
        read = ctypes.CDLL(None, use_errno=True).process_vm_readv
        for address in addresses:
            remote = _Piece(address, 1)
            number = ctypes.c_int(self._process.number)
            one = ctypes.c_ulong(1)
            read(number, ctypes.byref(local), one, ctypes.byref(remote), one, ctypes.c_ulong(0))

    def _huge_kib(self) -> int:
        return numa_maps.value_kib(self._process.text("smaps_rollup"), "AnonHugePages")

    # --- the system call ---

    def _where(self, addresses: Sequence[int]) -> "array[int]":
        """Return the node of each page; negative: there is none."""
        if not addresses:
            return array("i")
        return self._called(array("Q", addresses), None)

    def _ask(self, addresses: list[int], node: int, reasons: dict[int, int]) -> None:
        """Have pages moved; note what was refused, as an errno by address."""
        if not addresses:
            return
        status = self._called(array("Q", addresses), array("i", [node]) * len(addresses))
        for address, state in zip(addresses, status, strict=True):
            if state < 0:
                reasons[address] = -state

    def _called(self, pages: "array[int]", nodes: "array[int] | None") -> "array[int]":
        count = len(pages)
        status = array("i", [-errno.EBUSY]) * count
        failed = self._call(
            ctypes.c_int(self._process.number),
            ctypes.c_ulong(count),
            ctypes.c_void_p(pages.buffer_info()[0]),
            ctypes.c_void_p(None if nodes is None else nodes.buffer_info()[0]),
            ctypes.c_void_p(status.buffer_info()[0]),
            ctypes.c_int(_MOVE),
        )
        if failed < 0:
            number = ctypes.get_errno()
            if number == errno.ENOMEM and nodes is not None:
                return array("i", [-errno.ENOMEM]) * count
            raise _refused(self._process.number, number)
        return status


def _open_kib(mappings: Sequence[Mapped], wanted: Mapping[int, int]) -> dict[int, int]:
    """Return what is to come to each node, beside what is there."""
    there = numa_maps.sum_kib(tuple(mappings))
    return {node: max(0, kib - there.get(node, 0)) for node, kib in wanted.items()}


class _Piece(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _FullError(Exception):
    """A node has no room."""


_REASONS = {
    errno.EBUSY: "pinned or in use",
    errno.EPERM: "pinned or in use",
    errno.EACCES: "shared with another process",
    errno.EFAULT: "not mapped",
}


def _refused(process: int, number: int) -> HomenodeError:
    if number == errno.ESRCH:
        return HypervisorError(f"process {process} of the guest is gone")
    if number == errno.EPERM:
        return HypervisorError(
            f"moving pages of process {process} is not permitted", hint="root may (CAP_SYS_NICE)"
        )
    if number == errno.EACCES:
        return HypervisorError(
            f"the control group of process {process} does not allow that node",
            hint="its cpuset.mems tells which",
        )
    if number == errno.ENODEV:
        return HypervisorError("there is no such node, or it has no memory")
    return HypervisorError(f"move_pages: {os.strerror(number)}")


def _system_call() -> Callable[..., int]:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise HypervisorError(
            f"pages cannot be moved on {platform.machine()}: the number of the call is not known"
        )
    library = ctypes.CDLL(None, use_errno=True)
    call = library.syscall
    call.restype = ctypes.c_long

    def made(*arguments: object) -> int:
        result: int = call(ctypes.c_long(number), *arguments)
        return result

    return made
