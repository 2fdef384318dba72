"""The nodes that a guest's threads may have memory from: ``cpuset.mems`` of their control groups.

libvirt makes a group for each kind of thread (``emulator``, ``vcpu0``, ``iothread1``), and binds
them for ``strict`` and ``restrictive``; with others they are bound to nothing. Writing other nodes
has the kernel move what there is (cgroup-v2.rst, "cpuset.mems").
"""

import os
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.drivers.trees import FolderTree
from homenode.errors import HypervisorError
from homenode.formats import cgroup

_WITH_MEMORY = "sys/devices/system/node/has_memory"
_THREADS = ("emulator", "vcpu", "iothread")


class _Written(NamedTuple):
    path: str
    before: str


class Cpuset:
    """The control groups of the threads of a guest's QEMU, and the nodes that they allow."""

    def __init__(self, process: int, *, root: str = "/") -> None:
        self._root = root
        self._tree = FolderTree(root)
        self._written: list[_Written] = []
        self._folder = self._found(process)

    def _found(self, process: int) -> str | None:
        groups = cgroup.paths(self._tree.text(f"proc/{process}/cgroup") or "")
        for controller, mounted in (("cpuset", "/cpuset"), ("", ""), ("", "/unified")):
            path = groups.get(controller)
            if path is None or path.rpartition("/")[2] not in _THREADS:
                continue
            folder = f"sys/fs/cgroup{mounted}{path.rpartition('/')[0]}"
            if self._tree.text(f"{folder}/emulator/cpuset.mems") is not None:
                return folder
        return None

    @property
    def _files(self) -> list[str]:
        if self._folder is None:
            return []
        names = [name for name in self._tree.names(self._folder) if name.startswith(_THREADS)]
        return [f"{self._folder}/{name}/cpuset.mems" for name in names]

    @property
    def bound(self) -> NodeMap | None:
        """The nodes that the guest's threads are bound to; None if to none, or to all."""
        stated = [(self._tree.text(path) or "").strip() for path in self._files]
        named = [NodeMap.parse_libvirt(text) for text in stated if text]
        bound = NodeMap.union(named)
        every = NodeMap.parse_libvirt(self._tree.text(_WITH_MEMORY) or "")
        return None if not named or (every and bound >= every) else bound

    def write(self, nodes: NodeMap) -> None:
        """Bind the threads to `nodes`; the kernel brings along what is left elsewhere."""
        for path in self._files:
            before = (self._tree.text(path) or "").strip()
            effective = (self._tree.text(f"{path}.effective") or "").strip()
            self._write(path, str(nodes))
            self._written.append(_Written(path, before or effective))

    def put_back(self) -> None:
        """Have the threads bound as they were; to all nodes, where they were to none.

        A group with threads in it cannot be bound to none again.
        """
        for path, before in reversed(self._written):
            if before:
                self._write(path, before)
        self._written.clear()

    def _write(self, path: str, text: str) -> None:
        there = os.path.join(self._root, path)  # noqa: PTH118 - pathlib costs 5 ms
        try:
            with open(there, "w", encoding="ascii") as file:  # noqa: PTH123 - as above
                file.write(text)
        except FileNotFoundError:
            return  # a thread that is gone needs no nodes
        except OSError as error:
            raise HypervisorError(
                f"{there}: cannot write {text}: {error.strerror}", hint="root may"
            ) from None
