"""Findings about libvirt and QEMU on this machine: who asks whom, and what binds guests."""

from collections.abc import Sequence

from homenode.doctor.facts import LinuxFacts
from homenode.doctor.finding import Finding, some
from homenode.guest import Guest
from homenode.host import Host


def examine_kvm(linux: LinuxFacts, host: Host, guests: Sequence[Guest]) -> list[Finding | None]:
    """Return what there is to say of what lies between homenode and the guests."""
    return [
        _daemons(linux), _numad_program(linux), _hook(linux), _cpuset(linux), _version(linux),
        _slice(linux, host), _huge_pages(linux, host), _backing(linux), _strict(linux, host),
        _vfio(linux, guests), _binding(linux), _sight(linux),
    ]  # fmt: skip


def _daemons(linux: LinuxFacts) -> Finding | None:
    if not linux.has_libvirt:
        return None
    if not linux.has_socket:
        text = "guests are defined, and no daemon of libvirt can be reached: it has no socket"
        remedy = "systemctl start libvirtd.socket, or virtqemud.socket"
        return Finding("libvirt-daemons", "mend", text, remedy)
    running = sorted({"libvirtd", "virtqemud"} & linux.processes)
    if len(running) < 2:
        # Either is started by its socket when somebody asks.
        who = running[0] if running else "the daemon that its socket starts"
        return Finding("libvirt-daemons", "fine", f"{who} answers for libvirt")
    text = "libvirtd and virtqemud both run: each knows only the guests that it started"
    remedy = "systemctl disable --now libvirtd libvirtd.socket, or virtqemud and its sockets"
    return Finding("libvirt-daemons", "mend", text, remedy)


def _numad_program(linux: LinuxFacts) -> Finding | None:
    if not linux.has_libvirt:
        return None
    auto = linux.left_to_numad
    names = ", ".join(auto[:3]) + (" ..." if len(auto) > 3 else "")
    divert = "homenode-numad --help tells how to put it in numad's place"
    if linux.numad == "homenode":
        return Finding("numad-program", "fine", "homenode answers in numad's place")
    if linux.numad == "absent" and auto:
        text = f"there is no numad, and guests with placement='auto' do not start: {names}"
        return Finding("numad-program", "mend", text, divert)
    if linux.numad == "numad" and auto:
        text = f"numad decides on {names}: without distances, huge pages and what was promised"
        return Finding("numad-program", "mend", text, divert)
    text = "guests with placement='auto' would be decided on by "
    text += "numad" if linux.numad == "numad" else "nobody: there is no numad"
    return Finding("numad-program", "know", text, divert)


def _hook(linux: LinuxFacts) -> Finding | None:
    if linux.numad != "homenode":
        return None
    if linux.has_hook:
        return Finding("libvirt-hook", "fine", "libvirt's hook tells homenode of its guests")
    text = "homenode answers as numad and is told sizes alone: no huge pages, devices or wishes"
    return Finding("libvirt-hook", "mend", text, "homenode hook --help")


def _cpuset(linux: LinuxFacts) -> Finding:
    remedy = 'cgroup_controllers = [ "cpu", "cpuset", "memory" ] in /etc/libvirt/qemu.conf'
    if linux.controllers is None or "cpuset" not in linux.controllers:
        text = "there is no cpuset controller: guests are bound by their own policy alone, and"
        text += " memory that they touch later cannot be sent elsewhere"
        return Finding(
            "no-cpuset", "mend", text, "boot with control groups; cgroup_no_v1= has none"
        )
    allowed = linux.libvirt_controllers
    if allowed is not None and "cpuset" not in allowed:
        text = "libvirt may not use cpuset (cgroup_controllers in /etc/libvirt/qemu.conf): the same"
        return Finding("no-cpuset", "mend", text, remedy)
    return Finding("no-cpuset", "fine", "guests can be bound by control groups (cpuset)")


def _binding(linux: LinuxFacts) -> Finding | None:
    if not linux.has_libvirt:
        return None
    if linux.has_binding:
        return Finding("libvirt-binding", "fine", "libvirt can be asked (python3-libvirt)")
    text = "the binding of libvirt is not installed: homenode cannot list or create guests"
    return Finding("libvirt-binding", "mend", text, "apt install python3-libvirt")


def _sight(linux: LinuxFacts) -> Finding | None:
    if not linux.has_libvirt or linux.can_see_guests:
        return None
    text = "/run/libvirt/qemu cannot be read: where the memory of guests is stays unknown"
    return Finding("not-root", "know", text, "run it as root")


def _version(linux: LinuxFacts) -> Finding | None:
    if linux.control_groups is None or not linux.has_libvirt:
        return None
    if linux.control_groups == 2:
        return Finding("control-groups", "fine", "control groups of version 2")
    text = "control groups of version 1: where memory of guests is takes longer to tell"
    return Finding("control-groups", "know", text, "boot with systemd.unified_cgroup_hierarchy=1")


def _slice(linux: LinuxFacts, host: Host) -> Finding | None:
    if linux.machine_cpus is None and linux.machine_nodes is None:
        return None
    cpus, nodes = linux.machine_cpus, linux.machine_nodes
    narrow = []
    if cpus is not None and not host.cpu_map <= cpus:
        narrow.append(f"cpus {cpus}")
    if nodes is not None and not host.node_map <= nodes:
        narrow.append(nodes.named)
    if not narrow:
        return Finding("machine-slice", "fine", "machine.slice has all cpus and nodes")
    text = (
        f"all guests are confined to {' and '.join(narrow)} (machine.slice): one that is placed"
        " elsewhere does not start, or runs where it is not placed"
    )
    remedy = "systemctl set-property machine.slice AllowedCPUs= AllowedMemoryNodes="
    return Finding("machine-slice", "mend", text, remedy)


def _huge_pages(linux: LinuxFacts, host: Host) -> Finding | None:
    mount = linux.qemu_conf.get("hugetlbfs_mount")
    pools = any(pool.total for node in host.nodes for pool in node.pages)
    if mount is None or mount.strip("[] \"'"):
        return None
    if not pools:
        return None
    text = "libvirt may use no huge pages (hugetlbfs_mount is empty), and the nodes have some"
    remedy = "take hugetlbfs_mount out of /etc/libvirt/qemu.conf; systemctl restart the daemon"
    return Finding("huge-pages-unused", "mend", text, remedy)


def _backing(linux: LinuxFacts) -> Finding | None:
    folder = linux.qemu_conf.get("memory_backing_dir", "").strip("\"'")
    if not folder or folder.startswith(("/dev/shm", "/dev/hugepages", "/run/")):  # noqa: S108 - a prefix
        return None
    text = (
        f"memory of guests with <source type='file'/> lies in {folder} (memory_backing_dir): on a"
        " disk it is its cache, which the kernel reclaims and writes back"
    )
    return Finding("memory-backing", "know", text, "use memfd, or a folder of a tmpfs")


def _strict(linux: LinuxFacts, host: Host) -> Finding | None:
    if not linux.strict:
        return None
    tight = [
        node.id
        for node in host.nodes
        if node.committed_kib is not None
        and node.present_kib is not None
        and node.committed_kib + node.reserved_kib > node.present_kib
    ]
    if not tight:
        text = f"{some(linux.strict)}: bound strictly, to nodes that hold all they may grow to"
        return Finding("strict-guests", "fine", text)
    text = (
        f"{some(linux.strict)} are bound strictly, and node {tight[0]} is promised more than it can"
        " give: when they have touched it all, the kernel kills one though others have room"
    )
    remedy = "<memory mode='restrictive'/> or 'preferred'; or move a guest: homenode affinity"
    return Finding("strict-guests", "mend", text, remedy)


def _vfio(linux: LinuxFacts, guests: Sequence[Guest]) -> Finding | None:
    if not linux.vfio:
        return None
    having = sorted(guest.name for guest in guests if set(guest.devices) & set(linux.vfio))
    whose = f", and {some(having)} have some" if having else ""
    text = (
        f"{len(linux.vfio)} devices are for guests (vfio-pci){whose}: all memory of such a guest is"
        " locked where it was when it started, and moves no more"
    )
    remedy = "homenode create places it near its devices from the start"
    return Finding("locked-memory", "know", text, remedy)
