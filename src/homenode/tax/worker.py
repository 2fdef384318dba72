"""One process that works: it walks a list in random order, and copies a buffer.

The walk is the latency of memory: objects that each refer to the next one, far more of them than
caches hold, in an order that no prefetcher guesses, so that each step waits for the one before. The
C code of `operator.attrgetter` follows a thousand references in one call, at some 20 ns a step
beside what memory takes (`own_ns` is what a step takes when all is in the nearest cache). Each step
reads an object and writes its reference count. The copy is the bandwidth: libc's memmove.

It takes orders on its standard input, a line of JSON each, and answers likewise.
"""

import ctypes
import gc
import json
import mmap
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain, repeat, starmap
from math import isqrt
from operator import attrgetter
from random import Random
from time import perf_counter

from homenode.bitmap import NodeMap
from homenode.errors import HomenodeError
from homenode.tax.memory_policy import PAGE, pages_by_node, take_memory_from

_STEPS = 1024
"""References that are followed in one call."""

_OBJECT_BYTES = 48
"""An object with one slot: 16 bytes for the collector, 24 of its own, in steps of 16."""

_FEW = 256
"""Objects that the nearest cache holds."""

_OWN_S = 0.05

_LEAST_HUGE = 32 << 20
"""Less is too little for transparent huge pages: a few of them cannot be spread evenly."""

_THP_DISABLE = 41  # PR_SET_THP_DISABLE (include/uapi/linux/prctl.h)


class Link:
    """An object that refers to the next one."""

    __slots__ = ("next",)
    next: "Link"


_follow = attrgetter(".".join(["next"] * _STEPS))


def ring(count: int) -> tuple[Link, set[int]]:
    """Return an object of a ring of `count`, and the pages that the objects are on.

    The order is that of slices: some hundreds of them in random order, each with steps of some
    hundreds of objects, so that no two neighbours in the ring are on one page.
    """
    objects = list(starmap(Link, repeat((), count)))
    step = max(1, isqrt(count))
    starts = list(range(step))
    Random(count).shuffle(starts)  # noqa: S311 - an order
    order = list(chain.from_iterable(objects[start::step] for start in starts))
    # Every page has some of them, so that not all need be looked at.
    pages = {id(one) & -PAGE for one in objects[:: PAGE // (2 * _OBJECT_BYTES)]}
    del objects
    put = vars(Link)["next"].__set__
    deque(map(put, order, order[1:]), maxlen=0)
    order[-1].next = order[0]
    return order[0], pages


def walk_ns(start: Link, seconds: float) -> float:
    """Follow the ring for so long; return the nanoseconds of a step."""
    began = now = perf_counter()
    steps = 0
    while now - began < seconds or not steps:
        start = _follow(start)
        steps += _STEPS
        now = perf_counter()
    return (now - began) * 1e9 / steps


class Buffer:
    """Memory whose first half is copied to its second."""

    def __init__(self, size: int) -> None:
        self.size = -(-size // (2 * PAGE)) * 2 * PAGE
        self._map = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if self.size >= _LEAST_HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        # Not zeroes only: what is read without having been written is one page of zeroes.
        ctypes.memset(self.address, 1, self.size)

    @property
    def pages(self) -> range:
        """The addresses of its pages."""
        return range(self.address, self.address + self.size, PAGE)

    def copy_gb_s(self, seconds: float) -> float:
        """Copy for so long; return 10^9 bytes a second, each read once and written once."""
        half = self.size // 2
        began = now = perf_counter()
        copied = 0
        while now - began < seconds or not copied:
            ctypes.memmove(self.address + half, self.address, half)
            copied += half
            now = perf_counter()
        return copied / (now - began) / 1e9


class Worker:
    """The memory of a case, and what is done with it."""

    def __init__(self, order: Mapping[str, object]) -> None:
        cpus, nodes = order["cpus"], order["memory"]
        self._seconds = float(str(order["seconds"]))
        if isinstance(cpus, list):
            os.sched_setaffinity(0, cpus)
        take_memory_from(NodeMap(nodes) if isinstance(nodes, list) else None)
        size = int(str(order["size_kib"])) << 10
        if size < _LEAST_HUGE:
            ctypes.CDLL(None).prctl(_THP_DISABLE, 1, 0, 0, 0)
        few, _ = ring(_FEW)
        self.own_ns = walk_ns(few, _OWN_S)
        self._ring, self._pages = ring(max(_FEW, size // _OBJECT_BYTES))
        self._buffer = Buffer(size)

    def memory_kib(self) -> dict[int, int]:
        """Return where the memory is that it works on, by node."""
        pages = pages_by_node(chain(self._pages, self._buffer.pages))
        return {node: count * PAGE >> 10 for node, count in pages.items()}

    def walk(self) -> float:
        """Return nanoseconds a step."""
        return walk_ns(self._ring, self._seconds)

    def copy(self) -> float:
        """Return 10^9 bytes a second."""
        return self._buffer.copy_gb_s(self._seconds)


def serve() -> None:
    """Take orders until there are no more."""
    # Ctrl-C goes to all processes of a terminal; the one that gives the orders ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    try:
        worker = Worker(json.loads(sys.stdin.readline()))
        _answer({"own_ns": worker.own_ns})
        acts: dict[str, Callable[[], float]] = {"walk": worker.walk, "copy": worker.copy}
        for line in sys.stdin:
            cpu = _cpu()
            value = acts[line.strip()]()
            # Where it is when all is done, for the kernel may move it meanwhile.
            _answer({"value": value, "cpus": [cpu, _cpu()], "memory": worker.memory_kib()})
    except (HomenodeError, OSError, MemoryError) as error:
        _answer({"error": str(error) or "there is not enough memory"})
    sys.stdout.flush()
    # Taking the ring apart, object by object, would take longer than walking it.
    os._exit(0)


def _answer(document: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _cpu() -> int:
    return int(ctypes.CDLL(None).sched_getcpu())
