"""The guests of this machine, by what libvirt and the kernel leave in files: nobody is asked.

libvirt itself cannot be asked while it starts a guest and waits for an answer of ours
(``homenode-numad``, the hook): that would wait for ever. So guests are read from
``/run/libvirt/qemu/*.xml``, which only root may, and where their memory is from their control
groups, which costs nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

from homenode.drivers.trees import FolderTree
from homenode.errors import HomenodeError
from homenode.formats import cgroup, libvirt_status
from homenode.formats.libvirt_status import DomainStatus
from homenode.guest import Guest, GuestState, MemoryByNode
from homenode.host import Host
from homenode.rules.qemu_guest import guest_of

STATUS = "run/libvirt/qemu"

CGROUP = "control group"
"""The source of memory that was found by `memory_of`: QEMU's own is part of it."""

_GROUPS = ("emulator", "libvirt")
"""Below the group of a guest; with systemd (machined) there is one more in between."""


class Running(NamedTuple):
    """The guests that run here, and what could not be read of any."""

    guests: tuple[Guest, ...]
    doubts: tuple[str, ...] = ()


def running_guests(host: Host, *, root: str = "/") -> Running:
    """Return the guests of the libvirt daemon of this machine, in the order of their ids."""
    tree = FolderTree(root)
    guests, doubts = [], []
    for name in tree.names(STATUS):
        if not name.endswith(".xml"):
            continue
        try:
            status = _status(tree, f"{STATUS}/{name}")
        except HomenodeError as error:
            doubts.append(str(error))
            continue
        if status is not None:
            guests.append(_guest(status, host, root))
    return Running(tuple(sorted(guests, key=lambda guest: guest.id or 0)), tuple(doubts))


def _status(tree: FolderTree, path: str) -> DomainStatus | None:
    """Return what is known of a guest; None if it went away."""
    for last in (False, True):
        text = tree.text(path)
        if text is None:
            return None
        try:
            return libvirt_status.parse(text, source=f"/{path}")
        except HomenodeError:
            if last:  # else it may be half written
                raise
    return None


def _guest(status: DomainStatus, host: Host, root: str) -> Guest:
    state: GuestState = "running"
    if status.state in ("paused", "pmsuspended"):
        state = "building" if status.is_starting else "paused"
    elif status.state in ("shutdown", "shutoff", "crashed"):
        state = "dying"
    memory = None if status.process is None else memory_of(status.process, root=root)
    return guest_of(
        status.domain, host, id=status.id, state=state, chosen=status.chosen, memory=memory
    )


def memory_of(process: int, *, root: str = "/") -> MemoryByNode | None:
    """Return where the memory of a guest's QEMU is, as its control group counts it.

    None where there is no such group, or it is not known whether it is the guest's own.
    """
    tree = FolderTree(root)
    groups = cgroup.paths(tree.text(f"proc/{process}/cgroup") or "")
    for controller, mounted in (("", ""), ("memory", "/memory"), ("", "/unified")):
        if controller not in groups:
            continue
        path = _of_the_guest(groups[controller])
        if path is None:
            continue
        folder = f"sys/fs/cgroup{mounted}{path}"
        text = tree.text(f"{folder}/memory.numa_stat")
        if text is None:
            continue
        by_node = cgroup.memory_kib(text)
        for name in _huge_files(tree, groups, folder, path):
            for node, kib in cgroup.huge_kib(tree.text(name) or "").items():
                by_node[node] = by_node.get(node, 0) + kib
        return MemoryByNode({node: kib for node, kib in sorted(by_node.items()) if kib}, CGROUP)
    return None


def counts_huge_pages(process: int, *, root: str = "/") -> bool:
    """Return whether the control group of a guest's QEMU counts its huge pages."""
    tree = FolderTree(root)
    groups = cgroup.paths(tree.text(f"proc/{process}/cgroup") or "")
    path = _of_the_guest(groups.get("", groups.get("memory", "")))
    return path is not None and bool(_huge_files(tree, groups, f"sys/fs/cgroup{path}", path))


def _huge_files(tree: FolderTree, groups: Mapping[str, str], folder: str, path: str) -> list[str]:
    folder = f"sys/fs/cgroup/hugetlb{path}" if "hugetlb" in groups else folder
    return [
        f"{folder}/{name}"
        for name in tree.names(folder)
        if name.startswith("hugetlb.") and name.endswith(".numa_stat")
    ]


def _of_the_guest(path: str) -> str | None:
    """Return the group that has all of a guest in it, None if it is shared with others."""
    parts = path.rstrip("/").split("/")
    while parts and (parts[-1] in _GROUPS or parts[-1].startswith(("vcpu", "iothread"))):
        parts.pop()
    # libvirt: machine-qemu\x2d1\x2dname.scope, or qemu-1-name.libvirt-qemu.
    return "/".join(parts) if parts and "qemu" in parts[-1] else None
