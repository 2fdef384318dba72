"""Where this process's memory comes from, and where its pages are: Linux's system calls.

libc has none of them and libnuma may be absent, so they are made by number.
"""

import ctypes
import errno
import os
import platform
from array import array
from collections.abc import Iterable, Sequence

from homenode.bitmap import NodeMap
from homenode.errors import HomenodeError

_SET_MEMPOLICY = {
    "x86_64": 238, "aarch64": 237, "riscv64": 237, "ppc64le": 261, "s390x": 270,
}  # fmt: skip
_MOVE_PAGES = {"x86_64": 279, "aarch64": 239, "riscv64": 239, "ppc64le": 301, "s390x": 310}
"""Numbers of the calls (Linux, arch/*/entry/syscalls, include/uapi/asm-generic/unistd.h)."""

_DEFAULT, _BIND, _INTERLEAVE = 0, 2, 3  # include/uapi/linux/mempolicy.h
_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)
_AT_ONCE = 1 << 16

PAGE = os.sysconf("SC_PAGE_SIZE")


def take_memory_from(nodes: NodeMap | None) -> None:
    """Have all new memory of this process come from `nodes`, by turns if there are several.

    None: from where the kernel takes it by itself. Raises `HomenodeError` if that is not allowed.
    """
    mode = _DEFAULT if nodes is None else _BIND if len(nodes) == 1 else _INTERLEAVE
    words = max(nodes or (0,)) // _BITS + 1
    mask = (ctypes.c_ulong * words)()
    for node in nodes or ():
        mask[node // _BITS] |= 1 << node % _BITS
    # The kernel takes one bit less than it is told of (mm/mempolicy.c, get_nodes()).
    size = ctypes.c_ulong(words * _BITS + 1 if nodes else 0)
    pointer = ctypes.byref(mask) if nodes else None
    failed = _call(_SET_MEMPOLICY, ctypes.c_int(mode), pointer, size)
    if failed:
        raise _refused(nodes, ctypes.get_errno())


def pages_by_node(addresses: Iterable[int]) -> dict[int, int]:
    """Return how many of this process's pages, by the addresses of these, each node has."""
    found: dict[int, int] = {}
    pages = array("Q", addresses)
    for start in range(0, len(pages), _AT_ONCE):
        for node in _nodes_of(pages[start : start + _AT_ONCE]):
            if node >= 0:
                found[node] = found.get(node, 0) + 1
    return dict(sorted(found.items()))


def _nodes_of(pages: "array[int]") -> Sequence[int]:
    status = array("i", [-errno.ENOENT]) * len(pages)
    failed = _call(
        _MOVE_PAGES,
        ctypes.c_int(0),
        ctypes.c_ulong(len(pages)),
        ctypes.c_void_p(pages.buffer_info()[0]),
        None,
        ctypes.c_void_p(status.buffer_info()[0]),
        ctypes.c_int(0),
    )
    if failed:
        number = ctypes.get_errno()
        raise HomenodeError(f"where pages are cannot be seen: {os.strerror(number)}")
    return status


def _call(numbers: dict[str, int], *arguments: object) -> int:
    number = numbers.get(platform.machine())
    if number is None:
        raise HomenodeError(
            f"memory cannot be placed on {platform.machine()}: the numbers of its calls are not"
            " known"
        )
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    result: int = call(ctypes.c_long(number), *arguments)
    return result


def _refused(nodes: NodeMap | None, number: int) -> HomenodeError:
    if number in (errno.EPERM, errno.ENOSYS):
        return HomenodeError(
            "this process may not choose where its memory comes from (set_mempolicy)",
            hint="containers forbid it: run it on the host, or with --cap-add SYS_NICE",
        )
    where = "anywhere" if nodes is None else f"from {nodes.named}"
    return HomenodeError(f"memory cannot be had {where}: {os.strerror(number)}")
