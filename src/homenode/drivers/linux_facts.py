"""The facts of this machine's Linux that `homenode.doctor` looks at, from files below a root."""

import os
import re
from typing import Literal

from homenode.bitmap import CpuMap, NodeMap
from homenode.doctor import WATCHED, LinuxFacts
from homenode.drivers.libvirt_link import binding_or_none
from homenode.drivers.start_notes import is_left_to_numad
from homenode.drivers.trees import FolderTree
from homenode.errors import HomenodeError
from homenode.formats import libvirt_xml

_MOST_PROCESSES = 100_000
_OF_MEMORY = ("hugetlbfs_mount", "memory_backing_dir")
"""What libvirt's file says of memory, by its keys."""

_STRICT = re.compile(r"<memory\b[^>]*\bmode=['\"]strict['\"]")
_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_SLICES = ("sys/fs/cgroup/machine.slice/", "sys/fs/cgroup/cpuset/machine.slice/")
"""The group of all guests, in version 2 and version 1 of control groups."""


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
        command_line=tree.text("proc/cmdline"),
        overcommit_memory=_number(tree, "proc/sys/vm/overcommit_memory"),
        min_free_kib=_number(tree, "proc/sys/vm/min_free_kbytes"),
        swap_used_kib=_swap_used_kib(tree),
        demotion=_flag(tree, "sys/kernel/mm/numa/demotion_enabled"),
        controllers=_controllers(tree),
        control_groups=_control_groups(tree),
        libvirt_controllers=_libvirt_controllers(tree),
        machine_cpus=_machine_cpus(tree),
        machine_nodes=_machine_nodes(tree),
        isolated=_cpus(tree, "sys/devices/system/cpu/isolated"),
        tickless=_cpus(tree, "sys/devices/system/cpu/nohz_full"),
        qemu_conf=_qemu_conf(tree),
        numad=_numad(root),
        has_hook=_has_hook(tree),
        has_libvirt=_has_libvirt(tree),
        has_socket=_has_socket(tree),
        has_binding=binding_or_none() is not None,
        can_see_guests=os.access(_path(root, "run/libvirt/qemu"), os.R_OK),
        left_to_numad=_left_to_numad(tree),
        strict=_strict(tree),
        vfio=_vfio(tree),
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


def _control_groups(tree: FolderTree) -> Literal[1, 2] | None:
    if tree.text("sys/fs/cgroup/cgroup.controllers") is not None:
        return 2
    return 1 if _controllers(tree) else None


def _qemu_conf(tree: FolderTree) -> dict[str, str]:
    told = {}
    for line in (tree.text("etc/libvirt/qemu.conf") or "").splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith("#"):
            told[key.strip()] = value.strip()
    return told


def _libvirt_controllers(tree: FolderTree) -> frozenset[str] | None:
    value = _qemu_conf(tree).get("cgroup_controllers")
    if value is None:
        return None
    words = value.replace("[", " ").replace("]", " ").replace(",", " ").split()
    return frozenset(word.strip("\"'") for word in words)


def _cpus(tree: FolderTree, path: str) -> CpuMap:
    text = (tree.text(path) or "").strip()
    # "(null)" is what some kernels say for none.
    try:
        return CpuMap.parse(text) if text[:1].isdecimal() else CpuMap()
    except HomenodeError:
        return CpuMap()


def _of_slice(tree: FolderTree, name: str) -> str:
    texts = (tree.text(folder + name) or "" for folder in _SLICES)
    return next((text.strip() for text in texts if text.strip()), "")


def _machine_cpus(tree: FolderTree) -> CpuMap | None:
    text = _of_slice(tree, "cpuset.cpus")
    try:
        return CpuMap.parse(text) if text else None
    except HomenodeError:
        return None


def _machine_nodes(tree: FolderTree) -> NodeMap | None:
    text = _of_slice(tree, "cpuset.mems")
    try:
        return NodeMap.parse(text) if text else None
    except HomenodeError:
        return None


def _swap_used_kib(tree: FolderTree) -> int | None:
    words = (line.split() for line in (tree.text("proc/meminfo") or "").splitlines())
    kib = {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}
    if "SwapTotal:" not in kib or "SwapFree:" not in kib:
        return None
    return kib["SwapTotal:"] - kib["SwapFree:"]


def _flag(tree: FolderTree, path: str) -> bool | None:
    text = (tree.text(path) or "").strip()
    return {"true": True, "1": True, "false": False, "0": False}.get(text)


def _strict(tree: FolderTree) -> tuple[str, ...]:
    files = [file for file in tree.names("run/libvirt/qemu") if file.endswith(".xml")]
    texts = ((file, tree.text(f"run/libvirt/qemu/{file}") or "") for file in files)
    return tuple(file.removesuffix(".xml") for file, text in texts if _STRICT.search(text))


def _vfio(tree: FolderTree) -> tuple[str, ...]:
    return tuple(filter(_ADDRESS.fullmatch, tree.names("sys/bus/pci/drivers/vfio-pci")))


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


def _has_socket(tree: FolderTree) -> bool:
    return bool({"libvirt-sock", "virtqemud-sock"} & set(tree.names("run/libvirt")))


def _has_libvirt(tree: FolderTree) -> bool:
    return _has_socket(tree) or bool(tree.names("etc/libvirt/qemu"))


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
