"""What about a host works against placement, and what to do about it.

Pure: facts in, findings out. Each thing that is looked at is a function of the facts, and says in
one line what is, why it matters to guests, and how it is mended. What cannot be told is said too.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import Guest
from homenode.host import Host
from homenode.units import format_memory, format_page

State = Literal["fine", "mend", "know", "unknown"]
"""``know`` is what may be meant so; nothing has to be mended."""


class LinuxFacts(NamedTuple):
    """What a Linux host tells of itself; None is unknown or not there.

    `processes` are the names of those of `WATCHED` that run. `controllers` are the controllers of
    control groups that there are, and `libvirt_controllers` those that libvirt may use, where its
    file says. `numad` is what /usr/bin/numad is. `left_to_numad` are guests that are defined with
    ``placement="auto"``.
    """

    processes: frozenset[str] = frozenset()
    numa_balancing: int | None = None
    ksm_run: int | None = None
    ksm_merge_across_nodes: int | None = None
    zone_reclaim_mode: int | None = None
    transparent_hugepage: str | None = None
    controllers: frozenset[str] | None = None
    libvirt_controllers: frozenset[str] | None = None
    isolated: CpuMap = CpuMap()
    numad: Literal["absent", "numad", "homenode"] = "absent"
    has_hook: bool = False
    has_libvirt: bool = False
    has_binding: bool = False
    can_see_guests: bool = True
    left_to_numad: tuple[str, ...] = ()


WATCHED = ("numad", "irqbalance", "ksmtuned", "tuned")
"""Processes that move what homenode places, or its interrupts."""


class Finding(NamedTuple):
    """One thing that was looked at: a stable code, how it is, why that matters, and the remedy."""

    code: str
    state: State
    text: str
    remedy: str = ""


class Patient(NamedTuple):
    """All that is looked at: the host, its guests, and its Linux (None: another machine's)."""

    host: Host
    guests: tuple[Guest, ...] = ()
    linux: LinuxFacts | None = None

    @property
    def pinned(self) -> tuple[str, ...]:
        """The names of guests whose vcpus may not run everywhere."""
        every = self.host.cpu_map
        return tuple(
            guest.name
            for guest in self.guests
            if not guest.is_control and any(vcpu.hard & every < every for vcpu in guest.vcpus)
        )


def examine(patient: Patient) -> tuple[Finding, ...]:
    """Return everything that was looked at, in a fixed order."""
    of_linux = () if patient.linux is None else _OF_LINUX
    found = [one for look in _OF_HOST if (one := look(patient)) is not None]
    found += [one for read in of_linux if (one := read(patient, patient.linux)) is not None]  # type: ignore[arg-type]
    return tuple(found)


# --- the host ---


def _nodes(patient: Patient) -> Finding:
    count = len(patient.host.nodes)
    if count < 2:
        text = "one node: there is nothing to place; firmware may hide nodes (interleaving)"
        return Finding("one-node", "know", text, "look for node interleaving in the firmware")
    return Finding("one-node", "fine", f"{count} nodes")


def _lacking(patient: Patient) -> Finding:
    host = patient.host
    without_cpus = host.node_map - host.nodes_of(host.cpu_map)
    without_memory = NodeMap(node.id for node in host.nodes if node.present_kib == 0)
    if not without_cpus and not without_memory:
        return Finding("lacking-nodes", "fine", "every node has cpus and memory")
    parts = []
    if without_cpus:
        parts.append(f"{without_cpus.named} without cpus (CXL, HBM): memory only if asked for")
    if without_memory:
        parts.append(f"{without_memory.named} without memory: guests there have all of it remote")
    remedy = "homenode topology; populate the memory channels" if without_memory else ""
    return Finding("lacking-nodes", "know", "; ".join(parts), remedy)


def _described(patient: Patient) -> Finding:
    notes = patient.host.notes
    if not notes:
        return Finding("odd-description", "fine", "distances and cpus are described plausibly")
    more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
    text = f"{notes[0]}{more}: what is near may be told wrongly"
    return Finding("odd-description", "know", text, "homenode topology shows all; update firmware")


def _pools(patient: Patient) -> Finding | None:
    totals: dict[int, dict[int, int]] = {}
    for node in patient.host.nodes:
        for pool in node.pages:
            if pool.total:
                totals.setdefault(pool.page_kib, {})[node.id] = pool.total
    able = NodeMap(node.id for node in patient.host.nodes if node.present_kib)
    for page_kib, by_node in sorted(totals.items()):
        if len(by_node) == 1 and len(able) > 1:
            ((number, total),) = by_node.items()
            text = (
                f"all {total} huge pages of {format_page(page_kib)} are on node {number}: guests in"
                " them fit there alone"
            )
            each = total // len(able)
            remedy = (
                f"echo {each} >/sys/devices/system/node/nodeN/hugepages/hugepages-{page_kib}kB/"
                f"nr_hugepages, for each of {able.named}"
            )
            return Finding("pool-on-one-node", "mend", text, remedy)
    return Finding("pool-on-one-node", "fine", "no pool of huge pages is on one node alone")


def _room(patient: Patient) -> Finding:
    over = {
        node.id: (node.committed_kib or 0) - (node.present_kib or 0)
        for node in patient.host.nodes
        if node.committed_kib is not None and node.committed_kib > (node.present_kib or 0)
    }
    if not over:
        return Finding("over-committed", "fine", "no node is promised to more than it holds")
    node, kib = max(over.items(), key=lambda item: item[1])
    text = f"node {node} is promised {format_memory(kib)} more than it has: memory goes elsewhere,"
    text += " or bound guests are killed"
    return Finding("over-committed", "mend", text, "homenode check; move a guest away")


# --- its Linux ---


def _numad_daemon(_: Patient, linux: LinuxFacts) -> Finding:
    if "numad" not in linux.processes:
        return Finding("numad-running", "fine", "no numad daemon moves guests about")
    text = "numad runs: it pins and moves guests behind homenode's back, whole processes at once"
    return Finding("numad-running", "mend", text, "systemctl disable --now numad")


def _numad_program(_: Patient, linux: LinuxFacts) -> Finding | None:
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


def _hook(_: Patient, linux: LinuxFacts) -> Finding | None:
    if linux.numad != "homenode":
        return None
    if linux.has_hook:
        return Finding("libvirt-hook", "fine", "libvirt's hook tells homenode of its guests")
    text = "homenode answers as numad and is told sizes alone: no huge pages, devices or wishes"
    return Finding("libvirt-hook", "mend", text, "homenode hook --help")


def _balancing(patient: Patient, linux: LinuxFacts) -> Finding:
    pinned, on = patient.pinned, linux.numa_balancing
    if on is None:
        return Finding("numa-balancing", "unknown", "the kernel does not tell of NUMA balancing")
    if not on and len(pinned) < _guests(patient):
        text = (
            "the kernel's NUMA balancing is off, and guests that are not pinned have their memory"
        )
        text += " wherever they happened to start"
        remedy = "homenode create places them; or sysctl kernel.numa_balancing=1"
        return Finding("numa-balancing", "know", text, remedy)
    if on and pinned:
        text = (
            f"the kernel's NUMA balancing is on and {len(pinned)} guests are pinned: it makes their"
            " pages fault, to find out what is decided already"
        )
        return Finding("numa-balancing", "know", text, "sysctl kernel.numa_balancing=0")
    state = "on, and no guest is pinned" if on else "off"
    return Finding("numa-balancing", "fine", f"the kernel's NUMA balancing is {state}")


def _guests(patient: Patient) -> int:
    return sum(not guest.is_control for guest in patient.guests)


def _merging(_: Patient, linux: LinuxFacts) -> Finding:
    if not linux.ksm_run:
        return Finding("ksm-across-nodes", "fine", "no equal pages of guests are merged (KSM)")
    if linux.ksm_merge_across_nodes == 0:
        return Finding("ksm-across-nodes", "fine", "equal pages are merged within nodes alone")
    text = "KSM merges equal pages across nodes: what was local to a guest becomes another node's"
    remedy = (
        "echo 2 >/sys/kernel/mm/ksm/run; echo 0 >/sys/kernel/mm/ksm/merge_across_nodes;"
        " echo 1 >/sys/kernel/mm/ksm/run"
    )
    return Finding("ksm-across-nodes", "mend", text, remedy)


def _reclaim(_: Patient, linux: LinuxFacts) -> Finding:
    mode = linux.zone_reclaim_mode
    if not mode:
        return Finding("zone-reclaim", "fine", "a full node spills to others (zone_reclaim_mode 0)")
    text = f"zone_reclaim_mode is {mode}: a node that is full reclaims its pages at length before"
    text += " it gives a guest another node's, which stalls guests with room elsewhere"
    return Finding("zone-reclaim", "mend", text, "sysctl vm.zone_reclaim_mode=0")


def _cpuset(_: Patient, linux: LinuxFacts) -> Finding:
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


def _huge(_: Patient, linux: LinuxFacts) -> Finding:
    if linux.transparent_hugepage is None:
        return Finding("transparent-hugepage", "unknown", "nobody tells of transparent huge pages")
    if linux.transparent_hugepage == "never":
        text = "transparent huge pages are off: guests without a pool walk page tables for 4 KiB"
        remedy = "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled"
        return Finding("transparent-hugepage", "know", text, remedy)
    text = f"transparent huge pages: {linux.transparent_hugepage}"
    return Finding("transparent-hugepage", "fine", text)


def _isolated(patient: Patient, linux: LinuxFacts) -> Finding | None:
    if not linux.isolated:
        return None
    spread = sorted(
        guest.name
        for guest in patient.guests
        if any(len(vcpu.hard & linux.isolated) > 1 for vcpu in guest.vcpus)
    )
    if not spread:
        return Finding(
            "isolated-cpus", "fine", f"no vcpu floats over isolated cpus {linux.isolated}"
        )
    text = (
        f"cpus {linux.isolated} are isolated, and the kernel does not balance there: all vcpus of"
        f" {', '.join(spread[:3])} end up on one of them"
    )
    return Finding("isolated-cpus", "mend", text, "homenode create --exclusive pins each vcpu")


def _binding(_: Patient, linux: LinuxFacts) -> Finding | None:
    if not linux.has_libvirt:
        return None
    if linux.has_binding:
        return Finding("libvirt-binding", "fine", "libvirt can be asked (python3-libvirt)")
    text = "the binding of libvirt is not installed: homenode cannot list or create guests"
    return Finding("libvirt-binding", "mend", text, "apt install python3-libvirt")


def _sight(_: Patient, linux: LinuxFacts) -> Finding | None:
    if not linux.has_libvirt or linux.can_see_guests:
        return None
    text = "/run/libvirt/qemu cannot be read: where the memory of guests is stays unknown"
    return Finding("not-root", "know", text, "run it as root")


def _interrupts(_: Patient, linux: LinuxFacts) -> Finding:
    if "irqbalance" in linux.processes:
        text = "irqbalance runs: interrupts of a guest's devices may go to other nodes than its own"
        remedy = "--banirq=, or IRQBALANCE_BANNED_CPULIST, for devices that guests have"
        return Finding("irqbalance", "know", text, remedy)
    return Finding("irqbalance", "fine", "nobody moves interrupts about")


_OF_HOST: tuple[Callable[[Patient], Finding | None], ...] = (
    _nodes, _lacking, _described, _pools, _room,
)  # fmt: skip
_OF_LINUX: tuple[Callable[[Patient, LinuxFacts], Finding | None], ...] = (
    _numad_daemon, _numad_program, _hook, _balancing, _merging, _reclaim, _cpuset, _huge,
    _isolated, _binding, _sight, _interrupts,
)  # fmt: skip
