"""The facts of this machine's Linux that `homenode.doctor` looks at, from files below a root."""

import os
from typing import Literal

from homenode.bitmap import CpuMap
from homenode.doctor import WATCHED, LinuxFacts
from homenode.drivers.libvirt_link import binding_or_none
from homenode.drivers.start_notes import is_left_to_numad
from homenode.drivers.trees import FolderTree
from homenode.errors import HomenodeError
from homenode.formats import libvirt_xml

_MOST_PROCESSES = 100_000


def linux_facts(root: str = "/") -> LinuxFacts:
    """Return what there is to know; what cannot be read is unknown."""
    tree = FolderTree(root)
    return LinuxFacts(
        processes=_processes(tree),
        numa_balancing=_number(tree, "proc/sys/kernel/numa_balancing"),
        ksm_run=_number(tree, "sys/kernel/mm/ksm/run"),
        ksm_merge_across_nodes=_number(tree, "sys/kernel/mm/ksm/merge_across_nodes"),
        zone_reclaim_mode=_number(tree, "proc/sys/vm/zone_reclaim_mode"),
        transparent_hugepage=_chosen(tree, "sys/kernel/mm/transparent_hugepage/enabled"),
        controllers=_controllers(tree),
        libvirt_controllers=_libvirt_controllers(tree),
        isolated=_isolated(tree),
        numad=_numad(root),
        has_hook=_has_hook(tree),
        has_libvirt=_has_libvirt(tree),
        has_binding=binding_or_none() is not None,
        can_see_guests=os.access(_path(root, "run/libvirt/qemu"), os.R_OK),
        left_to_numad=_left_to_numad(tree),
    )


def _path(root: str, path: str) -> str:
    return os.path.join(root, path)  # noqa: PTH118 - pathlib costs 5 ms at start


def _number(tree: FolderTree, path: str) -> int | None:
    text = (tree.text(path) or "").strip()
    return int(text) if text.isdecimal() else None


def _chosen(tree: FolderTree, path: str) -> str | None:
    """Return the word in brackets: ``always [madvise] never``."""
    text = tree.text(path) or ""
    return text.partition("[")[2].partition("]")[0] or None


def _processes(tree: FolderTree) -> frozenset[str]:
    numbers = [name for name in tree.names("proc") if name.isdecimal()][:_MOST_PROCESSES]
    names = {(tree.text(f"proc/{number}/comm") or "").strip() for number in numbers}
    return frozenset(names & set(WATCHED))


def _controllers(tree: FolderTree) -> frozenset[str] | None:
    version_2 = tree.text("sys/fs/cgroup/cgroup.controllers")
    version_1 = [name for name in tree.names("sys/fs/cgroup") if "." not in name]
    mounted = {one for name in version_1 for one in name.split(",")} & {"cpuset", "memory", "cpu"}
    found = {*(version_2 or "").split(), *mounted}
    return frozenset(found) if version_2 is not None or found else None


def _libvirt_controllers(tree: FolderTree) -> frozenset[str] | None:
    for line in (tree.text("etc/libvirt/qemu.conf") or "").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip() == "cgroup_controllers":
            words = value.replace("[", " ").replace("]", " ").replace(",", " ").split()
            return frozenset(word.strip("\"'") for word in words)
    return None


def _isolated(tree: FolderTree) -> CpuMap:
    text = (tree.text("sys/devices/system/cpu/isolated") or "").strip()
    try:
        return CpuMap.parse(text) if text else CpuMap()
    except HomenodeError:
        return CpuMap()


def _numad(root: str) -> Literal["absent", "numad", "homenode"]:
    path = _path(root, "usr/bin/numad")
    if not os.path.exists(path):  # noqa: PTH110 - as above
        return "absent"
    if "homenode" in os.path.realpath(path):
        return "homenode"
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        head = file.read(4096)
    return "homenode" if head.startswith(b"#!") and b"homenode" in head else "numad"


def _has_hook(tree: FolderTree) -> bool:
    paths = ["etc/libvirt/hooks/qemu"]
    paths += [f"etc/libvirt/hooks/qemu.d/{name}" for name in tree.names("etc/libvirt/hooks/qemu.d")]
    return any("homenode" in (tree.text(path) or "") for path in paths)


def _has_libvirt(tree: FolderTree) -> bool:
    sockets = {"libvirt-sock", "virtqemud-sock"}
    return bool(sockets & set(tree.names("run/libvirt"))) or bool(tree.names("etc/libvirt/qemu"))


def _left_to_numad(tree: FolderTree) -> tuple[str, ...]:
    names = []
    for file in tree.names("etc/libvirt/qemu"):
        text = tree.text(f"etc/libvirt/qemu/{file}") if file.endswith(".xml") else None
        try:
            config = None if text is None else libvirt_xml.parse(text, source=file)
        except HomenodeError:
            continue
        if config is not None and is_left_to_numad(config):
            names.append(config.name)
    return tuple(names)
