"""Findings about the Linux of this machine: what else moves guests or their memory."""

from collections.abc import Sequence

from homenode.doctor.facts import LinuxFacts
from homenode.doctor.finding import Finding, some
from homenode.doctor.host import pinned
from homenode.guest import Guest
from homenode.host import Host
from homenode.units import format_memory

_MUCH_SWAP_KIB = 64 << 10
"""What is swapped out of a host that has long been idle is no finding."""

_LARGEST_WATERMARK = 10
"""``min_free_kbytes`` above a tenth of the smallest node takes room from guests."""


def examine_linux(linux: LinuxFacts, host: Host, guests: Sequence[Guest]) -> list[Finding | None]:
    """Return what there is to say of the kernel and of processes that decide."""
    return [
        _kernel_numa(linux), _numad_daemon(linux), _balancing(linux, host, guests),
        _tiering(linux, host), _demotion(linux, host), _merging(linux), _reclaim(linux),
        _watermarks(linux, host), _overcommit(linux), _swap(linux, guests), _huge(linux),
        _boot_pools(linux, host), _isolated(linux, guests), _tickless(linux, host, guests),
        _interrupts(linux),
    ]  # fmt: skip


def _words(linux: LinuxFacts) -> dict[str, str]:
    words = (word.partition("=") for word in (linux.command_line or "").split())
    return {key: value for key, _, value in words}


def _kernel_numa(linux: LinuxFacts) -> Finding:
    if linux.command_line is None:
        return Finding("kernel-numa", "unknown", "nobody tells how the kernel was booted")
    told = _words(linux).get("numa", "")
    if told == "off" or told.startswith("fake"):
        what = "hides the nodes" if told == "off" else "makes nodes up"
        text = f"the kernel was booted with numa={told}, which {what}: nothing told here is true"
        return Finding("kernel-numa", "mend", text, "take it out of GRUB_CMDLINE_LINUX, reboot")
    return Finding("kernel-numa", "fine", "the kernel takes the nodes from the firmware")


def _numad_daemon(linux: LinuxFacts) -> Finding:
    if "numad" not in linux.processes:
        return Finding("numad-running", "fine", "no numad daemon moves guests about")
    text = "numad runs: it pins and moves guests behind homenode's back, whole processes at once"
    return Finding("numad-running", "mend", text, "systemctl disable --now numad")


def _balancing(linux: LinuxFacts, host: Host, guests: Sequence[Guest]) -> Finding:
    held, on = pinned(host, guests), linux.numa_balancing
    if on is None:
        return Finding("numa-balancing", "unknown", "the kernel does not tell of NUMA balancing")
    if not on and len(held) < sum(not guest.is_control for guest in guests):
        text = (
            "the kernel's NUMA balancing is off, and guests that are not pinned have their memory"
        )
        text += " wherever they happened to start"
        remedy = "homenode create places them; or sysctl kernel.numa_balancing=1"
        return Finding("numa-balancing", "know", text, remedy)
    if on and held:
        text = (
            f"the kernel's NUMA balancing is on and {len(held)} guests are pinned: it makes their"
            " pages fault, to find out what is decided already"
        )
        return Finding("numa-balancing", "know", text, "sysctl kernel.numa_balancing=0")
    state = "on, and no guest is pinned" if on else "off"
    return Finding("numa-balancing", "fine", f"the kernel's NUMA balancing is {state}")


def _merging(linux: LinuxFacts) -> Finding:
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


def _reclaim(linux: LinuxFacts) -> Finding:
    mode = linux.zone_reclaim_mode
    if not mode:
        return Finding("zone-reclaim", "fine", "a full node spills to others (zone_reclaim_mode 0)")
    text = f"zone_reclaim_mode is {mode}: a node that is full reclaims its pages at length before"
    text += " it gives a guest another node's, which stalls guests with room elsewhere"
    return Finding("zone-reclaim", "mend", text, "sysctl vm.zone_reclaim_mode=0")


def _huge(linux: LinuxFacts) -> Finding:
    if linux.transparent_hugepage is None:
        return Finding("transparent-hugepage", "unknown", "nobody tells of transparent huge pages")
    if linux.transparent_hugepage == "never":
        text = "transparent huge pages are off: guests without a pool walk page tables for 4 KiB"
        remedy = "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled"
        return Finding("transparent-hugepage", "know", text, remedy)
    text = f"transparent huge pages: {linux.transparent_hugepage}"
    return Finding("transparent-hugepage", "fine", text)


def _isolated(linux: LinuxFacts, guests: Sequence[Guest]) -> Finding | None:
    if not linux.isolated:
        return None
    spread = sorted(
        guest.name
        for guest in guests
        if any(len(vcpu.hard & linux.isolated) > 1 for vcpu in guest.vcpus)
    )
    if not spread:
        return Finding(
            "isolated-cpus", "fine", f"no vcpu floats over isolated cpus {linux.isolated}"
        )
    text = (
        f"cpus {linux.isolated} are isolated, and the kernel does not balance there: all vcpus of"
        f" {some(spread)} end up on one of them"
    )
    return Finding("isolated-cpus", "mend", text, "homenode create --exclusive pins each vcpu")


def _interrupts(linux: LinuxFacts) -> Finding:
    if "irqbalance" in linux.processes:
        text = "irqbalance runs: interrupts of a guest's devices may go to other nodes than its own"
        remedy = "--banirq=, or IRQBALANCE_BANNED_CPULIST, for devices that guests have"
        return Finding("irqbalance", "know", text, remedy)
    return Finding("irqbalance", "fine", "nobody moves interrupts about")


def _tiering(linux: LinuxFacts, host: Host) -> Finding | None:
    if not (linux.numa_balancing or 0) & 2:
        return None
    slow = host.node_map - host.nodes_of(host.cpu_map)
    if not slow:
        return None
    text = (
        f"numa_balancing is {linux.numa_balancing}: the kernel promotes pages from {slow.named} to"
        " nodes with cpus as it sees fit, and guests that were given some there lose track of them"
    )
    return Finding("memory-tiering", "know", text, "sysctl kernel.numa_balancing=0")


def _demotion(linux: LinuxFacts, host: Host) -> Finding | None:
    slow = host.node_map - host.nodes_of(host.cpu_map)
    if not slow or linux.demotion is None:
        return None
    if not linux.demotion:
        return Finding("demotion", "fine", "the kernel demotes no memory to slower nodes")
    text = (
        f"cold memory is demoted to {slow.named} instead of being reclaimed: memory that was placed"
        " ends up on nodes without cpus"
    )
    remedy = "echo false >/sys/kernel/mm/numa/demotion_enabled"
    return Finding("demotion", "know", text, remedy)


def _watermarks(linux: LinuxFacts, host: Host) -> Finding | None:
    sizes = [node.present_kib for node in host.nodes if node.present_kib]
    if linux.min_free_kib is None or not sizes:
        return None
    # The kernel deals it out by size, so a node keeps its share of it.
    share = linux.min_free_kib * _LARGEST_WATERMARK > sum(sizes)
    size = format_memory(linux.min_free_kib)
    if not share:
        return Finding("min-free", "fine", f"the kernel keeps {size} free (vm.min_free_kbytes)")
    text = f"vm.min_free_kbytes is {size}, of {format_memory(sum(sizes))}: no guest ever gets that"
    return Finding("min-free", "mend", text, "sysctl vm.min_free_kbytes=, to a hundredth or less")


def _overcommit(linux: LinuxFacts) -> Finding | None:
    if linux.overcommit_memory is None:
        return None
    if linux.overcommit_memory != 2:
        return Finding("overcommit", "fine", "the kernel promises memory that guests touch later")
    text = (
        "vm.overcommit_memory is 2: QEMU is refused memory by what all processes might come to"
        " use, whatever the nodes have"
    )
    return Finding("overcommit", "know", text, "sysctl vm.overcommit_memory=0")


def _swap(linux: LinuxFacts, guests: Sequence[Guest]) -> Finding | None:
    if linux.swap_used_kib is None or all(guest.is_control for guest in guests):
        return None
    if linux.swap_used_kib < _MUCH_SWAP_KIB:
        return Finding("swap-in-use", "fine", "next to nothing is swapped out")
    size = format_memory(linux.swap_used_kib)
    bound = f", {len(linux.strict)} of them bound to nodes" if linux.strict else ""
    text = (
        f"{size} are swapped out while guests run{bound}: a node that is full swaps"
        " though others have room, and what comes back comes where there is room then"
    )
    return Finding("swap-in-use", "know", text, "homenode check; homenode topology shows room")


def _boot_pools(linux: LinuxFacts, host: Host) -> Finding | None:
    told = _words(linux).get("hugepages", "")
    if not told.isdecimal() or int(told) == 0 or len(host.nodes) < 2:
        return None
    text = (
        f"hugepages={told} on the kernel's command line is for all nodes together: the kernel deals"
        " them out alike, whatever guests need where"
    )
    remedy = "hugepages=0:N,1:M names the nodes (Linux 5.16); homenode topology shows the pools"
    return Finding("boot-huge-pages", "know", text, remedy)


def _tickless(linux: LinuxFacts, host: Host, guests: Sequence[Guest]) -> Finding | None:
    cpus = linux.tickless & host.cpu_map
    if not cpus:
        return None
    sharing = sorted(
        guest.name
        for guest in guests
        if any(len(vcpu.hard) > 1 and vcpu.hard & cpus for vcpu in guest.vcpus)
    )
    if not sharing:
        return Finding("tickless-cpus", "fine", f"nobody floats over tickless cpus {cpus}")
    text = (
        f"cpus {cpus} are to run without ticks (nohz_full), and {some(sharing)} may share them with"
        " others: with two to run, the ticks are back"
    )
    return Finding("tickless-cpus", "know", text, "homenode create --exclusive pins each vcpu")
