"""Findings about a Xen host: what of Xen, xl and dom0 decides about memory and cpus.

What is said of options is from Xen's docs/misc/xen-command-line and docs/man/xl.conf.5, 4.17, and
was looked at on a real Xen of that version.
"""

from collections.abc import Sequence

from homenode.bitmap import CpuMap
from homenode.doctor.facts import XenFacts
from homenode.doctor.finding import Finding, some
from homenode.guest import Guest
from homenode.host import Cpupool, Host
from homenode.rules.xen import UNSCRUBBED
from homenode.units import format_memory

MOST_NODES = 16
"""Nodes beyond which libxl places nothing (libxl_numa.c, libxl__get_numa_candidate())."""

_GRUB = "GRUB_CMDLINE_XEN in /etc/default/grub; update-grub; reboot"
_CPUS_OF_A_QUEUE = 16
"""What Xen itself takes for the most (sched_credit2_max_cpus_runqueue)."""

_OFF = ("0", "off", "no", "false")
_NO_PREFERENCE = {
    "null": "each vcpu has a cpu for itself, and stays where it first went",
    "rtds": "what a vcpu prefers is nothing to it",
    "arinc653": "vcpus run by a fixed table",
}


def examine_xen(xen: XenFacts, host: Host | None, guests: Sequence[Guest]) -> list[Finding | None]:
    """Return what there is to say of Xen; without `host`, which xl tells, of its settings."""
    found = [_versions(xen), _claim_mode(xen), _mask(xen), _lock(xen), _numa(xen), _threads(xen)]
    found.append(_dom0_memory(xen))
    found.append(_balloon(xen))
    if host is None:
        return found
    return [
        *found, _scheduler(xen, host), _queues(xen, host), _granularity(xen, host),
        _dom0_cpus(xen, host, guests), _dom0_pinned(xen, guests), _many_nodes(host),
        _split(host), _left_out(host), _claimed(xen, guests), _unscrubbed(host),
    ]  # fmt: skip


# --- how Xen was booted ---


def _numa(xen: XenFacts) -> Finding:
    if xen.command_line is None:
        return Finding("xen-numa", "unknown", "nobody tells how Xen was booted")
    told = xen.option("numa")
    if told is None or (told not in _OFF and not told.startswith(("fake", "noacpi"))):
        return Finding("xen-numa", "fine", "Xen takes the nodes from the firmware")
    what = "makes nodes up" if told.startswith("fake") else "hides the nodes"
    text = (
        f"Xen was booted with numa={told or 'no'}, which {what}: memory that is called local is not"
    )
    return Finding("xen-numa", "mend", text, f"take numa= out of {_GRUB}")


def _threads(xen: XenFacts) -> Finding | None:
    if xen.command_line is None:
        return None
    told = xen.option("smt")
    if told is None or told not in _OFF:
        return Finding("xen-smt", "fine", "Xen uses all threads of a core")
    text = "Xen was booted with smt=0: half of the cpus that the machine has are offline"
    return Finding("xen-smt", "know", text, f"smt=1 on {_GRUB}, if untrusted guests may share")


def _dom0_memory(xen: XenFacts) -> Finding:
    if xen.command_line is None:
        return Finding("dom0-memory", "unknown", "nobody tells how Xen was booted")
    remedy = f"dom0_mem=4G,max:4G on {_GRUB}"
    told = xen.option("dom0_mem")
    if told is None:
        text = (
            "dom0 was given all memory (no dom0_mem=): it hands memory to guests from nodes of its"
            " own choice, and nobody can tell beforehand what will fit where"
        )
        return Finding("dom0-memory", "mend", text, remedy)
    if "max:" not in told:
        text = f"dom0_mem={told} has no max: dom0 keeps tables for all memory of the host"
        return Finding("dom0-memory", "know", text, remedy)
    return Finding("dom0-memory", "fine", f"dom0 has memory of its own (dom0_mem={told})")


def _scheduler(xen: XenFacts, host: Host) -> Finding:
    names = {pool.scheduler for pool in host.pools} | {xen.scheduler}
    names.discard(None)
    drifting = "credit2" in names
    idle = sorted(name for name in names if name and name in _NO_PREFERENCE)
    if idle:
        text = f"the scheduler is {idle[0]}: {_NO_PREFERENCE[idle[0]]}"
        return Finding("xen-scheduler", "know", text, "homenode create --hold; or sched=credit2")
    if drifting and len(host.nodes) > 1 and xen.option("credit2_runqueue") != "all":
        text = (
            "the scheduler is credit2, which forgets what vcpus prefer when it balances (soft"
            " affinity): homenode holds guests on one node by hard affinity instead"
        )
        return Finding("xen-scheduler", "know", text, "homenode keep, for guests to use idle nodes")
    if not names:
        return Finding("xen-scheduler", "unknown", "nobody tells which scheduler Xen has")
    told = ", ".join(sorted(map(str, names)))
    return Finding("xen-scheduler", "fine", f"the scheduler heeds what vcpus prefer ({told})")


def _queues(xen: XenFacts, host: Host) -> Finding | None:
    if xen.scheduler != "credit2" or len(host.nodes) < 2:
        return None
    told = xen.option("credit2_runqueue") or "socket"
    if told == "all":
        text = "credit2_runqueue=all: one queue and one lock for all cpus of the host"
        if len(host.cpus) <= _CPUS_OF_A_QUEUE:
            return Finding("xen-run-queues", "fine", text)
        return Finding("xen-run-queues", "know", text, f"credit2_runqueue=node on {_GRUB}")
    wide = [
        cpus
        for cpus in _sockets(host)
        if told == "socket" and len(host.nodes_of(cpus)) > 1
    ]  # fmt: skip
    if wide:
        text = (
            f"a run queue of credit2 spans {host.nodes_of(wide[0]).named}"
            f" (credit2_runqueue={told}): within it vcpus change nodes with every wake-up"
        )
        return Finding("xen-run-queues", "know", text, f"credit2_runqueue=node on {_GRUB}")
    return Finding("xen-run-queues", "fine", f"no run queue spans nodes ({told})")


def _sockets(host: Host) -> list[CpuMap]:
    by_socket: dict[int, list[int]] = {}
    for cpu in host.cpus:
        if cpu.socket is not None and cpu.node is not None:
            by_socket.setdefault(cpu.socket, []).append(cpu.id)
    return [CpuMap(cpus) for cpus in by_socket.values()]


def _granularity(xen: XenFacts, host: Host) -> Finding | None:
    told = {pool.granularity for pool in host.pools if pool.granularity}
    told |= {xen.option("sched-gran") or "cpu"}
    coarse = sorted(told - {"cpu"})
    if not coarse:
        return Finding("xen-granularity", "fine", "vcpus are scheduled one by one")
    text = (
        f"vcpus are scheduled by the {coarse[0]} (sched-gran): a guest with fewer vcpus than that"
        " leaves the other cpus of it idle, and the masks of all of them are one"
    )
    return Finding("xen-granularity", "know", text, f"sched-gran=cpu on {_GRUB}")


def _dom0_cpus(xen: XenFacts, host: Host, guests: Sequence[Guest]) -> Finding | None:
    control = next((guest for guest in guests if guest.is_control), None)
    if control is None or len(host.nodes) < 2:
        return None
    hard = CpuMap(cpu for vcpu in control.vcpus for cpu in vcpu.hard & host.cpu_map)
    nodes = host.nodes_of(hard)
    many = len(control.vcpus)
    if len(nodes) < len(host.nodes):
        return Finding("dom0-everywhere", "fine", f"dom0's vcpus are on {nodes.named}")
    capped = xen.option("dom0_max_vcpus") is not None
    text = f"dom0's {many} vcpus may run on all nodes, and its memory is on all of them"
    text += ": it takes from guests everywhere, and serves devices from afar"
    each = len(host.cpus) // len(host.nodes)
    remedy = f"dom0_max_vcpus={min(many, each)} dom0_nodes=0 on {_GRUB}"
    return Finding("dom0-everywhere", "know" if capped else "mend", text, remedy)


def _dom0_pinned(xen: XenFacts, guests: Sequence[Guest]) -> Finding | None:
    if xen.option("dom0_vcpus_pin") is None:
        return None
    control = next((guest for guest in guests if guest.is_control), None)
    own = CpuMap(cpu for vcpu in control.vcpus for cpu in vcpu.hard) if control else CpuMap()
    sharing = sorted(
        guest.name
        for guest in guests
        if not guest.is_control and any(vcpu.hard & own for vcpu in guest.vcpus)
    )
    if not sharing:
        return Finding("dom0-pinned", "fine", f"dom0 is pinned to cpus {own}, and is alone there")
    text = (
        f"dom0 is pinned to cpus {own} (dom0_vcpus_pin), and {some(sharing)} may run there too:"
        " dom0 cannot give way to them"
    )
    return Finding("dom0-pinned", "know", text, "xl vcpu-pin 0 all all; or a cpupool for guests")


# --- xl ---


def _versions(xen: XenFacts) -> Finding:
    if xen.version is None or not xen.tools:
        return Finding("xen-versions", "unknown", "nobody tells the versions of Xen and its tools")
    if any(xen.version == tools or xen.version.startswith(f"{tools}.") for tools in xen.tools):
        return Finding("xen-versions", "fine", f"Xen {xen.version}, and tools of that version")
    tools = ", ".join(sorted(xen.tools))
    text = f"Xen is {xen.version} and its tools are of {tools}: xl is for its own Xen alone"
    return Finding("xen-versions", "mend", text, "reboot into the Xen that is installed")


def _balloon(xen: XenFacts) -> Finding | None:
    if xen.command_line is None:
        return None
    told = xen.conf.get("autoballoon", "auto").lower()
    sized = xen.option("dom0_mem") is not None
    remedy = 'autoballoon="off" in /etc/xen/xl.conf'
    if told in ("on", "1") and sized:
        text = (
            "xl takes memory from dom0 for guests that do not fit (autoballoon), from whatever"
            " nodes, and keeps it even if they do not start"
        )
        return Finding("xl-autoballoon", "mend", text, remedy)
    if told in ("off", "0") and not sized:
        text = "dom0 has all memory, and xl may take none from it (autoballoon): no guest fits"
        return Finding("xl-autoballoon", "mend", text, f"dom0_mem= on {_GRUB}")
    how = "takes no memory from dom0" if sized else "takes memory from dom0 for each guest"
    return Finding("xl-autoballoon", "fine", f"xl {how} (autoballoon {told})")


def _claim_mode(xen: XenFacts) -> Finding:
    if xen.conf.get("claim_mode", "1") not in _OFF:
        return Finding("xl-claim-mode", "fine", "xl claims a guest's memory before it builds it")
    text = (
        "xl does not claim memory before it builds a guest (claim_mode): two that are built at once"
        " may fail after minutes, each with half of what both want"
    )
    return Finding("xl-claim-mode", "mend", text, "claim_mode=1 in /etc/xen/xl.conf")


def _mask(xen: XenFacts) -> Finding | None:
    masks = {key: xen.conf[key] for key in sorted(xen.conf) if key.endswith(".cpumask")}
    if not masks:
        return None
    key, value = next(iter(masks.items()))
    text = (
        f"xl confines all guests by {key}={value}, which homenode does not know: a guest may be"
        " placed where none of its vcpus may run"
    )
    return Finding("xl-cpumask", "mend", text, f"a cpupool instead of {key} in /etc/xen/xl.conf")


def _lock(xen: XenFacts) -> Finding | None:
    if xen.xl_held_by is None:
        return None
    text = f"process {xen.xl_held_by} has xl's lock: guests are created one after the other"
    return Finding("xl-lock", "know", text, f"ps {xen.xl_held_by} tells whether it still works")


def _many_nodes(host: Host) -> Finding | None:
    if len(host.nodes) <= MOST_NODES:
        return None
    text = f"the host has {len(host.nodes)} nodes, and xl places nothing where there are more than"
    text += f" {MOST_NODES}: what it creates by itself is spread over all"
    return Finding("xl-many-nodes", "know", text, "homenode create, or homenode xl create")


# --- cpupools and memory ---


def _split(host: Host) -> Finding | None:
    if len(host.pools) < 2:
        return None
    split = [
        f"node {node.id} ({' and '.join(pool.name for pool in _pools_of(host, node.id))})"
        for node in host.nodes
        if len(_pools_of(host, node.id)) > 1
    ]
    if not split:
        return Finding("pool-splits-node", "fine", "no cpupool cuts through a node")
    text = f"cpupools cut through {some(split)}: guests of both share that node's memory, and each"
    text += " has only some of its cpus near"
    return Finding("pool-splits-node", "know", text, "xl cpupool-numa-split makes one of each node")


def _pools_of(host: Host, node: int) -> list[Cpupool]:
    return [pool for pool in host.pools if pool.cpus & host.cpus_by_node[node]]


def _left_out(host: Host) -> Finding | None:
    if not host.pools:
        return None
    left = host.cpu_map - CpuMap(cpu for pool in host.pools for cpu in pool.cpus)
    if not left:
        return Finding("cpus-without-pool", "fine", "every cpu is in a cpupool")
    text = f"cpus {left} are in no cpupool: nothing runs there, and memory beside them is remote"
    return Finding("cpus-without-pool", "mend", text, f"xl cpupool-cpu-add Pool-0 {left}")


def _claimed(xen: XenFacts, guests: Sequence[Guest]) -> Finding | None:
    if xen.claimed_kib is None:
        return None
    if not xen.claimed_kib:
        return Finding("xen-claims", "fine", "Xen has promised no memory that is not used")
    building = sorted(guest.name for guest in guests if guest.state == "building")
    whose = f"to {some(building)}" if building else "to guests that nobody lists"
    text = f"Xen has promised {format_memory(xen.claimed_kib)} {whose}, of no particular node"
    remedy = "" if building else "xl claims; xl destroy what is left of one that failed"
    return Finding("xen-claims", "know", text, remedy)


def _unscrubbed(host: Host) -> Finding:
    kib = {
        node.id: one.kib for node in host.nodes for one in node.reserved if one.reason == UNSCRUBBED
    }
    if not kib:
        return Finding("unscrubbed", "fine", "no free memory waits to be scrubbed, as far as told")
    node, most_kib = max(kib.items(), key=lambda item: item[1])
    text = (
        f"{format_memory(sum(kib.values()))} of free memory are not scrubbed yet, most on node"
        f" {node} ({format_memory(most_kib)}): Xen passes over it, and takes other nodes' memory"
    )
    return Finding("unscrubbed", "know", text, "wait for idle cpus to scrub it; homenode does")
