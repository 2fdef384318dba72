"""The guests of this machine, by what libvirt and the kernel leave in files: nobody is asked.

libvirt itself cannot be asked while it starts a guest and waits for an answer of ours
(``homenode-numad``, the hook): that would wait for ever. So guests are read from
``/run/libvirt/qemu/*.xml``, which only root may, and where their memory is from their control
groups, which costs nothing.
"""

from typing import NamedTuple

from homenode.drivers.cpuset import Cpuset
from homenode.drivers.trees import FolderTree
from homenode.errors import HomenodeError, HypervisorError
from homenode.formats import cgroup, libvirt_status
from homenode.formats.libvirt_status import DomainStatus
from homenode.formats.libvirt_xml import DomainXml
from homenode.guest import Guest, GuestState, MemoryByNode
from homenode.host import Host
from homenode.rules.qemu_guest import guest_of, part_sizes_kib

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
            status = status_of(tree, f"{STATUS}/{name}")
        except HomenodeError as error:
            doubts.append(str(error))
            continue
        if status is not None:
            guests.append(guest_of_status(status, host, root))
    return Running(tuple(sorted(guests, key=lambda guest: guest.id or 0)), tuple(doubts))


def status_of(tree: FolderTree, path: str) -> DomainStatus | None:
    """Return what the file at `path` says of a guest; None if it went away."""
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


def guest_of_status(status: DomainStatus, host: Host, root: str) -> Guest:
    """Return the guest that libvirt keeps this status of, with its memory by node."""
    state: GuestState = "running"
    if status.state in ("paused", "pmsuspended"):
        state = "building" if status.is_starting else "paused"
    elif status.state in ("shutdown", "shutoff", "crashed"):
        state = "dying"
    process = status.process
    return guest_of(
        status.domain,
        host,
        id=status.id,
        state=state,
        chosen=status.chosen,
        bound=None if process is None else Cpuset(process, root=root).bound,
        memory=None if process is None else memory_of(process, status.domain, root=root),
    )


def memory_of(process: int, config: DomainXml, *, root: str = "/") -> MemoryByNode | None:
    """Return where the memory of a guest is, as the control group of its QEMU counts it.

    That includes QEMU's own. Huge pages are few, and often not counted there: for these the page
    tables are looked at. None where there is no such group, or it is not the guest's alone.
    """
    if config.huge_pages:
        from homenode.drivers.page_mover import memory_of_guest  # noqa: PLC0415 - it wants ctypes

        try:
            return memory_of_guest(process, part_sizes_kib(config), root=root)
        except HypervisorError:
            return None
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
        return MemoryByNode({node: kib for node, kib in sorted(by_node.items()) if kib}, CGROUP)
    return None


def _of_the_guest(path: str) -> str | None:
    """Return the group that has all of a guest in it, None if it is shared with others."""
    parts = path.rstrip("/").split("/")
    while parts and (parts[-1] in _GROUPS or parts[-1].startswith(("vcpu", "iothread"))):
        parts.pop()
    # libvirt: machine-qemu\x2d1\x2dname.scope, or qemu-1-name.libvirt-qemu.
    return "/".join(parts) if parts and "qemu" in parts[-1] else None
