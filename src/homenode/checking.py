"""What is wrong with the guests of a host as they are, and what would mend it.

Pure: a snapshot in, findings out. A finding is something to mend; what cannot be told is a
question, with the way to its answer, and nothing to mend.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from homenode.arrival import landed
from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.base import Abilities, Snapshot
from homenode.guest import Guest, GuestRequest
from homenode.holding import DRIFTING
from homenode.host import Host
from homenode.placement import View, place, policy
from homenode.placement.view import ShareRule, equal_shares
from homenode.residency import Residency
from homenode.units import format_memory

Code = Literal[
    "cpus-away-from-memory",
    "soft-drifts",
    "memory-elsewhere",
    "more-nodes-than-needed",
    "affinity-fixed",
    "runs-elsewhere",
    "memory-unknown",
]

LEAST_RESIDENCY = 90
"""In percent: a busy guest that is less at home than this is found."""

LEAST_SHARE = 5
"""In percent of a guest's memory: less than this elsewhere is no finding (Xen's own structures,
pages of the start)."""


class Finding(NamedTuple):
    """One thing that is not as it should be: a stable code, the facts, and a command to mend it.

    `is_question` marks what is only not known.
    """

    code: Code
    guest: str
    text: str
    remedy: str
    is_question: bool = False


def check(
    seen: Snapshot,
    *,
    residency: Mapping[int, Residency] | None = None,
    share_rule: ShareRule = equal_shares,
    abilities: Abilities = Abilities(),  # noqa: B008 - immutable
) -> tuple[Finding, ...]:
    """Return what is found of all guests but dom0, in their order.

    `residency` is by the id of guests, where it was sampled. `abilities` are the hypervisor's: what
    mends a guest depends on them.
    """
    found: list[Finding] = []
    for guest in seen.guests:
        if guest.is_control or guest.state in ("building", "dying"):
            continue
        found += _of(guest, seen, share_rule, abilities)
        ran = None if residency is None or guest.id is None else residency.get(guest.id)
        if ran is not None:
            found += _running(guest, ran, abilities)
    return tuple(found)


def _of(guest: Guest, seen: Snapshot, share_rule: ShareRule, abilities: Abilities) -> list[Finding]:
    host = seen.host
    runs_on = _nodes_of(guest, host)
    found = _memory(guest, runs_on, abilities) + _affinity(guest, host, abilities)
    drift = _drift(guest, host)
    if drift is not None:
        found.append(drift)
    if not found:
        found += _wide(guest, seen, share_rule, abilities)
    return found


def _nodes_of(guest: Guest, host: Host) -> NodeMap:
    """Return the nodes that the guest's vcpus may run on."""
    pool = host.pool(guest.pool).cpus
    return host.nodes_of(CpuMap.union(vcpu.hard for vcpu in guest.vcpus) & pool)


def _memory(guest: Guest, runs_on: NodeMap, abilities: Abilities) -> list[Finding]:
    memory = guest.memory_by_node
    if memory is None:
        text = "nobody has seen where its memory is"
        return [Finding("memory-unknown", guest.name, text, "homenode check --pages", True)]  # noqa: FBT003 - a question
    where = landed(guest, runs_on)
    if where.elsewhere_kib and _counts(where.elsewhere_kib, memory.kib):
        away = _sizes(where.elsewhere_kib)
        text = f"its vcpus may only run on {runs_on.named}, and {away}: that part is never local"
        back = _back(guest, memory.kib, abilities)
        return [Finding("cpus-away-from-memory", guest.name, text, back)]
    if guest.node_affinity is None:
        return []
    where = landed(guest)
    if where.elsewhere_kib and _counts(where.elsewhere_kib, memory.kib):
        text = (
            f"its memory should be on {guest.node_affinity.named}, and"
            f" {_sizes(where.elsewhere_kib)} ({_WHY_ELSEWHERE[abilities.files]})"
        )
        move = _command(guest, guest.node_affinity, abilities, move=True)
        return [Finding("memory-elsewhere", guest.name, text, move)]
    return []


_WHY_ELSEWHERE = {
    "xl": "Xen keeps back memory for DMA and what it scrubs, and then takes another node's",
    "libvirt": "Linux takes another node's where one is short, and brings nothing back",
}
_WHY_FIXED = {
    "xl": "libxl placed it, and that stays through vcpu-pin",
    "libvirt": "its <numatune> says so, and that stays through vcpupin",
}


def _command(
    guest: Guest, nodes: NodeMap, abilities: Abilities, *, hard: bool = False, move: bool = False
) -> str:
    """Return the command that homes a guest on `nodes`, in the words of its hypervisor."""
    words = ["homenode", "affinity", _word(guest.name), str(nodes)]
    words += ["--hard"] if hard and abilities.prefers else []
    if abilities.moves:
        words += [] if move else ["--stay"]
    else:
        words += ["--move"] if move else []
    return " ".join(words)


def _counts(elsewhere_kib: Mapping[int, int], by_node: Mapping[int, int]) -> bool:
    return sum(elsewhere_kib.values()) * 100 >= sum(by_node.values()) * LEAST_SHARE


def _sizes(kib: Mapping[int, int]) -> str:
    return ", ".join(f"{format_memory(size)} is on node {node}" for node, size in kib.items())


def _back(guest: Guest, by_node: Mapping[int, int], abilities: Abilities) -> str:
    """Return the command that brings the vcpus to where the most of the memory is."""
    most = max(by_node, key=lambda node: (by_node[node], -node))
    return _command(guest, NodeMap([most]), abilities, hard=True)


def _affinity(guest: Guest, host: Host, abilities: Abilities) -> list[Finding]:
    """Find a node affinity that the masks do not explain: it was fixed."""
    if guest.node_affinity is None or not guest.vcpus:
        return []
    pool = host.pool(guest.pool).cpus
    allowed = CpuMap.union(vcpu.hard for vcpu in guest.vcpus) & pool
    preferred = CpuMap.union(vcpu.soft for vcpu in guest.vcpus) & allowed
    follows = host.nodes_of(preferred or allowed)
    if guest.node_affinity <= follows or not preferred:
        return []
    text = (
        f"its masks are of {follows.named}, and new memory comes from"
        f" {guest.node_affinity.named}: {_WHY_FIXED[abilities.files]}"
    )
    move = _command(guest, follows, abilities, move=True)
    return [Finding("affinity-fixed", guest.name, text, move)]


def _drift(guest: Guest, host: Host) -> Finding | None:
    pool = host.pool(guest.pool)
    if pool.scheduler not in DRIFTING:
        return None
    drifting = CpuMap(
        vcpu.id
        for vcpu in guest.vcpus
        if (vcpu.soft & vcpu.hard & pool.cpus)
        and len(host.nodes_of(vcpu.hard & pool.cpus)) > 1
        and host.nodes_of(vcpu.soft & vcpu.hard & pool.cpus) < host.nodes_of(vcpu.hard & pool.cpus)
    )
    if not drifting:
        return None
    preferred = CpuMap.union(vcpu.soft for vcpu in guest.vcpus if vcpu.id in drifting)
    nodes = host.nodes_of(preferred & pool.cpus)
    verb = "prefer" if len(drifting) > 1 else "prefers"
    text = f"{drifting.named_vcpus} only {verb} {nodes.named}, which {pool.scheduler} does not heed"
    return Finding(
        "soft-drifts", guest.name, text, f"homenode affinity {_word(guest.name)} {nodes} --hard"
    )


def _wide(
    guest: Guest, seen: Snapshot, share_rule: ShareRule, abilities: Abilities
) -> list[Finding]:
    """Find a guest on several nodes that one could hold."""
    nodes = guest.node_affinity
    memory = guest.memory_by_node
    if nodes is None or memory is None or guest.virtual_nodes:
        return []
    least_kib = sum(memory.kib.values()) * LEAST_SHARE // 100
    on = NodeMap(node for node, kib in memory.kib.items() if kib and kib >= least_kib)
    if len(on) < 2:
        return []
    request = as_request(guest)
    view = View(seen.host, seen.guests, {}, share_rule).without([guest])
    decision = place(view, request, policy("nodes,distance"))
    if not decision.fits or len(decision.nodes) > 1:
        return []
    text = f"its memory is on {on.named}, and {decision.nodes.named} alone could hold the guest"
    move = _command(guest, decision.nodes, abilities, hard=True, move=True)
    return [Finding("more-nodes-than-needed", guest.name, text, move)]


def _running(guest: Guest, ran: Residency, abilities: Abilities) -> list[Finding]:
    if ran.residency is None or ran.residency >= LEAST_RESIDENCY:
        return []
    memory = guest.memory_by_node.kib if guest.memory_by_node else {}
    home = NodeMap(node for node, kib in memory.items() if kib)
    text = f"it ran {ran.residency} % of its time on {home.named}, where its memory is"
    return [Finding("runs-elsewhere", guest.name, text, _back(guest, memory, abilities))]


def as_request(guest: Guest) -> GuestRequest:
    """Return a running guest as if it were wanted anew: its size, its pool, any node."""
    kib = guest.memory_kib or 0
    return GuestRequest(
        guest.name,
        len(guest.vcpus) or 1,
        kib,
        guest_memory_kib=kib,
        type=guest.type,
        pool=guest.pool,
    )


def _word(name: str) -> str:
    """Return a name as a shell takes it."""
    from shlex import quote  # noqa: PLC0415 - only where something is found

    return quote(name)
