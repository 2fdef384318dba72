"""Files of ``/sys`` and ``/proc``, in a folder or in an archive: which of them count, and how read.

`read_tree` knows the paths; a `Tree` knows how to look them up: `FolderTree` here, and
`homenode.drivers.archive.ArchiveTree`. What it returns is what `homenode.formats.sysfs` takes.
"""

import os
import stat
from collections.abc import Iterator
from typing import Protocol

from homenode.errors import HomenodeError
from homenode.formats import sysfs

LARGEST_FILE = 4 << 20
"""In bytes; the longest file that is read, proc/zoneinfo, has some 10 KiB for each node."""

_PART = 64 << 10

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
_DEVICE_FILES = ("numa_node", "class")


class Tree(Protocol):
    """What can be asked of saved files; paths are below the root, ``sys/devices/system``."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none if it is not there."""

    def text(self, path: str) -> str | None:
        """Return the text of a file; None if it is not there or cannot be read."""

    def link(self, path: str) -> str | None:
        """Return where a link leads, empty for what is no link; None if it is not there."""


def read_tree(tree: Tree) -> dict[str, str]:
    """Return the files that describe a machine, as texts by their path.

    A link that counts for where it leads, or for being there, is a text of what it names. Files
    that are not there or cannot be read are left out. Raises `HomenodeError` for a file that is
    longer than `LARGEST_FILE`.
    """
    files = {}
    for path in _paths(tree):
        text = tree.text(path)
        if text is not None:
            files[path] = text
    for path in _links(tree):
        target = tree.link(path)
        if target is not None:
            files[path] = target
    return files


def _paths(tree: Tree) -> Iterator[str]:
    yield from _SINGLE_FILES
    yield from _paths_of_nodes(tree)
    yield from _paths_of_cpus(tree)
    for device in _folders(tree, sysfs.PCI_DEVICES, ""):
        yield from (device + name for name in _DEVICE_FILES)
    for gpu in _folders(tree, sysfs.NVIDIA_GPUS, ""):
        yield gpu + "numa_status"


def _paths_of_nodes(tree: Tree) -> Iterator[str]:
    for folder in _folders(tree, sysfs.NODES, "node"):
        yield from (folder + name for name in _NODE_FILES)
        for access in sysfs.ACCESSES:
            yield from (f"{folder}{access}/initiators/{name}" for name in sysfs.ACCESS_FILES)
        for pages in _folders(tree, folder + "hugepages/", "hugepages-"):
            yield from (pages + name for name in _HUGE_PAGE_FILES)
    for pages in _folders(tree, sysfs.HUGE_PAGES, "hugepages-"):
        yield from (pages + name for name in _HUGE_PAGE_FILES)
    for tier in _folders(tree, sysfs.MEMORY_TIERS, "memory_tier"):
        yield tier + "nodelist"
    for dax in _folders(tree, sysfs.DAX_DEVICES, "dax"):
        yield dax + "target_node"


def _paths_of_cpus(tree: Tree) -> Iterator[str]:
    for folder in _folders(tree, sysfs.CPUS, "cpu"):
        yield folder + "online"
        yield from (f"{folder}topology/{name}" for name in _TOPOLOGY_FILES)
        for cache in _folders(tree, folder + "cache/", "index"):
            yield from (cache + name for name in _CACHE_FILES)


def _links(tree: Tree) -> Iterator[str]:
    for folder in _folders(tree, sysfs.NODES, "node"):
        for access in sysfs.ACCESSES:
            initiators = _folders(tree, f"{folder}{access}/initiators/", "node")
            yield from (initiator.rstrip("/") for initiator in initiators)
    yield from (dax.rstrip("/") for dax in _folders(tree, sysfs.DAX_DEVICES, "dax"))


def _folders(tree: Tree, parent: str, prefix: str) -> list[str]:
    """Return the paths, with a slash at the end, of what in `parent` begins with `prefix`."""
    digits = prefix in ("node", "cpu", "index")
    return [
        f"{parent}{name}/"
        for name in tree.names(parent)
        if name.startswith(prefix) and (not digits or name[len(prefix) :].isdecimal())
    ]


class FolderTree:
    """Files below a folder: ``/``, or where ``sys`` and ``proc`` of a machine were saved.

    Raises `HomenodeError` if it is no folder.
    """

    def __init__(self, root: str) -> None:
        if not os.path.isdir(root):  # noqa: PTH112 - pathlib costs 5 ms at start
            hint = "name one that has sys/ and proc/ in it"
            raise HomenodeError(f"{root}: is no folder", hint=hint)
        self._root = root

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted."""
        try:
            return sorted(os.listdir(os.path.join(self._root, folder)))  # noqa: PTH118, PTH208 - as above
        except OSError:
            return []

    def link(self, path: str) -> str | None:
        """Return where a link leads, as it is written."""
        there = os.path.join(self._root, path)  # noqa: PTH118 - as above
        try:
            return os.readlink(there)  # noqa: PTH115 - as above
        except OSError:
            return "" if os.path.lexists(there) else None

    def text(self, path: str) -> str | None:
        """Return the text of a regular file."""
        try:
            # Without O_NONBLOCK a named pipe in a saved tree would keep us waiting.
            handle = os.open(os.path.join(self._root, path), os.O_RDONLY | os.O_NONBLOCK)  # noqa: PTH118 - as above
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            content = _read(handle)
        except OSError:
            return None
        finally:
            os.close(handle)
        if len(content) > LARGEST_FILE:
            raise too_long(f"{self._root}/{path}")
        return content.decode("utf-8", errors="replace")


def _read(handle: int) -> bytes:
    """Read a file up to one byte beyond `LARGEST_FILE`.

    In parts, for files of /proc/sys fail with ENOMEM where more than the largest piece of kernel
    memory is asked for at once (Linux, fs/proc/proc_sysctl.c, proc_sys_call_handler()).
    """
    content = b""
    while len(content) <= LARGEST_FILE and (part := os.read(handle, _PART)):
        content += part
    return content


def too_long(path: str) -> HomenodeError:
    """Return the refusal of a file that cannot be one of the kernel's."""
    return HomenodeError(f"{path}: is too long for a file of /sys or /proc")
