"""This machine, as its own ``/sys`` and ``/proc`` describe it: ``local:///``, read-only."""

import os
import stat
import time
from collections.abc import Callable, Iterator

from homenode.drivers.base import Look, ReadOnly, Snapshot
from homenode.errors import HomenodeError
from homenode.formats import sysfs
from homenode.placement.view import ShareRule, equal_shares

LARGEST_FILE = 4 << 20
"""In bytes; the longest file that is read, proc/zoneinfo, has some 10 KiB for each node."""

_SINGLE_FILES = (
    *(sysfs.NODES + name for name in ("online", "possible", "has_memory")),
    *(sysfs.CPUS + name for name in ("online", "present")),
    "proc/meminfo",
    "proc/zoneinfo",
    "proc/sys/kernel/hostname",
    "sys/hypervisor/type",
)
_NODE_FILES = ("cpulist", "cpumap", "distance", "meminfo")
_TOPOLOGY_FILES = (
    "physical_package_id", "die_id", "core_id",
    "thread_siblings_list", "thread_siblings", "core_cpus_list", "core_cpus",
)  # fmt: skip
_CACHE_FILES = ("level", "shared_cpu_list", "shared_cpu_map")
_HUGE_PAGE_FILES = ("nr_hugepages", "free_hugepages")


class LocalDriver(ReadOnly):
    """This machine's hardware; it has no guests that homenode knows of."""

    def __init__(
        self, uri: str = "local:///", *, root: str = "/", clock: Callable[[], float] = time.time
    ) -> None:
        self.uri = uri
        self._root = root
        self._clock = clock

    @property
    def share_rule(self) -> ShareRule:
        """Equal shares: what a guest is given that is spread over nodes by interleaving."""
        return equal_shares

    def snapshot(self, look: Look = "full") -> Snapshot:  # noqa: ARG002 - there is one way to look
        """Look at the machine."""
        taken_at = self._clock()
        host = sysfs.parse(read_tree(self._root), source=self._root)
        return Snapshot(host.replace(taken_at=taken_at), ())


def read_tree(root: str) -> dict[str, str]:
    """Return the files below `root` that describe a machine, as texts by their path below it.

    `root` is ``/``, or a folder into which ``sys`` and ``proc`` of another machine were saved.
    Files that are not there or cannot be read are left out. Raises `HomenodeError` if `root` is
    no folder or a file is longer than `LARGEST_FILE`.
    """
    if not os.path.isdir(root):  # noqa: PTH112 - pathlib costs 5 ms at start
        raise HomenodeError(f"{root}: is no folder", hint="name one that has sys/ and proc/ in it")
    files = {}
    for path in _paths(root):
        text = _read(root, path)
        if text is not None:
            files[path] = text
    return files


def _paths(root: str) -> Iterator[str]:
    yield from _SINGLE_FILES
    for folder in _folders(root, sysfs.NODES, "node"):
        yield from (folder + name for name in _NODE_FILES)
        for pages in _folders(root, folder + "hugepages/", "hugepages-"):
            yield from (pages + name for name in _HUGE_PAGE_FILES)
    for folder in _folders(root, sysfs.CPUS, "cpu"):
        yield folder + "online"
        yield from (f"{folder}topology/{name}" for name in _TOPOLOGY_FILES)
        for cache in _folders(root, folder + "cache/", "index"):
            yield from (cache + name for name in _CACHE_FILES)
    for pages in _folders(root, sysfs.HUGE_PAGES, "hugepages-"):
        yield from (pages + name for name in _HUGE_PAGE_FILES)
    for device in _folders(root, sysfs.PCI_DEVICES, ""):
        yield device + "numa_node"


def _folders(root: str, parent: str, prefix: str) -> list[str]:
    """Return the paths, with a slash at the end, of what in `parent` begins with `prefix`."""
    try:
        names = os.listdir(os.path.join(root, parent))  # noqa: PTH118, PTH208 - as above
    except OSError:
        return []
    digits = prefix in ("node", "cpu", "index")
    return [
        f"{parent}{name}/"
        for name in sorted(names)
        if name.startswith(prefix) and (not digits or name[len(prefix) :].isdecimal())
    ]


def _read(root: str, path: str) -> str | None:
    try:
        # Without O_NONBLOCK a named pipe in a saved tree would keep us waiting.
        handle = os.open(os.path.join(root, path), os.O_RDONLY | os.O_NONBLOCK)  # noqa: PTH118 - as above
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError:
        return None
    finally:
        os.close(handle)
    if len(content) > LARGEST_FILE:
        raise HomenodeError(f"{root}/{path}: is too long for a file of /sys or /proc")
    return content.decode("utf-8", errors="replace")
