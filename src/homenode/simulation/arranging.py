"""From a scenario and a variant to what the simulator is given."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import DoesNotFit, HomenodeError
from homenode.guest import ExplicitNodes, Guest, GuestRequest, MemoryByNode, Vcpu
from homenode.placement import View, place, policy
from homenode.placement.policies import DEFAULT
from homenode.scheduler.codes import Kind
from homenode.scheduler.memory import Appetite
from homenode.scheduler.tasks import Ground, Queue, Share, Task, ground
from homenode.simulation.scenario import AffinityKind, Change, GuestPlan, Scenario, Variant

_START_WITHIN_NS = 30_000_000


class Settled(NamedTuple):
    """Where a guest is at home, the shares of its memory by node, and the masks of its vcpus."""

    home: NodeMap
    shares: tuple[float, ...]
    hard: tuple[CpuMap, ...]
    soft: tuple[CpuMap, ...]


class Arrangement(NamedTuple):
    """All that a run needs; `first` is the number of each guest's first vcpu."""

    ground: Ground
    guests: tuple[GuestPlan, ...]
    settled: tuple[Settled, ...]
    tasks: tuple[Task, ...]
    shares: tuple[Share, ...]
    queues: tuple[Queue, ...]
    appetites: tuple[Appetite, ...]
    first: tuple[int, ...]


def arrange(scenario: Scenario, variant: Variant, seed: int) -> Arrangement:
    """Place the guests, give them masks and work. The same work for every variant of a seed."""
    guests = _present(scenario.guests, variant.changes)
    homes = _homes(scenario, variant, guests)
    settled = tuple(
        _settled(scenario, variant, guest, *home) for guest, home in zip(guests, homes, strict=True)
    )
    floor = ground(scenario.host, scenario.cpus)
    first = []
    count = 0
    for guest in guests:
        first.append(count)
        count += guest.vcpus
    tasks, queues = _tasks(guests, settled, first, floor, seed)
    appetites = tuple(
        Appetite(guest.work.stall, guest.work.gb_s, own.shares)
        for guest, own in zip(guests, settled, strict=True)
        for _ in range(guest.vcpus)
    )
    return Arrangement(
        floor,
        guests,
        settled,
        tasks,
        tuple(Share(guest.weight, guest.cap) for guest in guests),
        queues,
        appetites,
        tuple(first),
    )


def _present(guests: Sequence[GuestPlan], changes: Sequence[Change]) -> tuple[GuestPlan, ...]:
    gone = {change.guest for change in changes if change.kind == "without"}
    return tuple(guest for guest in guests if guest.name not in gone)


def _homes(
    scenario: Scenario, variant: Variant, guests: Sequence[GuestPlan]
) -> list[tuple[NodeMap, tuple[tuple[int, float], ...]]]:
    # The home of each guest and its memory there, as the policy decides where nobody has said.
    placed: list[Guest] = []
    homes: list[tuple[NodeMap, tuple[tuple[int, float], ...]]] = []
    for guest in guests:
        if not variant.policy and guest.nodes is not None:
            nodes = guest.nodes
            memory = guest.memory or _evenly(nodes)
        elif not variant.policy and (guest.masks or guest.memory):
            nodes = NodeMap(node for node, _ in guest.memory) or scenario.host.node_map
            memory = guest.memory or _evenly(nodes)
        else:
            nodes, memory = _placed(scenario, variant, guest, placed)
        homes.append((nodes, memory))
        placed.append(_as_guest(scenario, guest, nodes, memory))
    return homes


def _placed(
    scenario: Scenario, variant: Variant, guest: GuestPlan, before: Sequence[Guest]
) -> tuple[NodeMap, tuple[tuple[int, float], ...]]:
    taken: dict[int, int] = {}
    for other in before:
        if other.memory_by_node is not None:
            for node, kib in other.memory_by_node.kib.items():
                taken[node] = taken.get(node, 0) + kib
    nodes = [
        node._replace(
            free_kib=max(0, (node.present_kib or 0) - node.reserved_kib - taken.get(node.id, 0)),
            committed_kib=None,
        )
        if node.present_kib is not None
        else node
        for node in scenario.host.nodes
    ]
    host = scenario.host.replace(nodes=nodes)
    request = GuestRequest(
        guest.name, guest.vcpus, guest.memory_kib, guest.memory_kib,
        explicit=None if guest.nodes is None else ExplicitNodes(guest.nodes, "nodes"),
    )  # fmt: skip
    if variant.policy:
        request = request._replace(explicit=None)
    decision = place(View(host, tuple(before)), request, policy(variant.policy or DEFAULT))
    if not decision.fits:
        raise DoesNotFit(f"{variant.name}: {guest.name!r} does not fit: {decision.reason}")
    total = sum(share.kib for share in decision.memory)
    if not total:
        return decision.nodes, _evenly(decision.nodes)
    return decision.nodes, tuple((share.node, share.kib / total) for share in decision.memory)


def _evenly(nodes: NodeMap) -> tuple[tuple[int, float], ...]:
    return tuple((node, 1 / len(nodes)) for node in nodes)


def _as_guest(
    scenario: Scenario, guest: GuestPlan, nodes: NodeMap, memory: Sequence[tuple[int, float]]
) -> Guest:
    cpus = scenario.host.cpus_of(nodes)
    vcpus = tuple(Vcpu(number, scenario.host.cpu_map, cpus) for number in range(guest.vcpus))
    kib = {node: int(share * guest.memory_kib) for node, share in memory}
    return Guest(
        guest.name, vcpus, memory_kib=guest.memory_kib, node_affinity=nodes,
        memory_by_node=MemoryByNode(kib, "simulated"),
    )  # fmt: skip


def _settled(
    scenario: Scenario,
    variant: Variant,
    guest: GuestPlan,
    home: NodeMap,
    memory: Sequence[tuple[int, float]],
) -> Settled:
    host = scenario.host
    kind, where = variant.affinity, variant.memory
    for change in variant.changes:
        if change.guest == guest.name and change.kind != "without":
            if change.nodes is not None:
                home = change.nodes
            if change.kind == "move":
                memory, where = _evenly(home), "home"
            if change.kind == "affinity" and kind == "as-is":
                guest = _preferring(guest, host.cpus_of(home))
            else:
                kind = _KINDS[change.kind]
    if where == "striped":
        memory = _evenly(NodeMap(node.id for node in host.nodes if node.present_kib != 0))
    of_node = dict(memory)
    shares = tuple(of_node.get(node.id, 0.0) for node in host.nodes)
    hard, soft = _masks(scenario, guest, kind, home)
    return Settled(home, shares, hard, soft)


_KINDS: dict[str, AffinityKind] = {
    "affinity": "soft", "move": "soft", "hold": "hard", "free": "none",
}  # fmt: skip


def _preferring(guest: GuestPlan, cpus: CpuMap) -> GuestPlan:
    # What its vcpus may use stays: who is held elsewhere goes on being so.
    return guest._replace(masks=tuple(mask._replace(soft=cpus) for mask in guest.masks))


def _masks(
    scenario: Scenario, guest: GuestPlan, kind: AffinityKind, home: NodeMap
) -> tuple[tuple[CpuMap, ...], tuple[CpuMap, ...]]:
    # Hard and soft affinity of each vcpu.
    anywhere = (scenario.cpus,) * guest.vcpus
    if kind == "as-is" and guest.masks:
        hard = tuple((mask.hard & scenario.cpus) or scenario.cpus for mask in guest.masks)
        return hard, tuple(mask.soft for mask in guest.masks)
    if kind in ("as-is", "none"):
        return anywhere, anywhere
    cpus = scenario.host.cpus_of(home) & scenario.cpus
    if not cpus:
        raise HomenodeError(f"{guest.name!r}: its home {home} has none of the cpus {scenario.cpus}")
    if kind == "soft":
        return anywhere, (cpus,) * guest.vcpus
    if kind == "hard":
        return (cpus,) * guest.vcpus, anywhere
    listed = list(cpus)
    return tuple(CpuMap([listed[at % len(listed)]]) for at in range(guest.vcpus)), anywhere


def _tasks(
    guests: Sequence[GuestPlan],
    settled: Sequence[Settled],
    first: Sequence[int],
    floor: Ground,
    seed: int,
) -> tuple[tuple[Task, ...], tuple[Queue, ...]]:
    draw = Random(f"start {seed}")  # noqa: S311 - nothing secret
    numbers = {guest.name: at for at, guest in enumerate(guests)}
    tasks: list[Task] = []
    queues: list[Queue] = []
    bits: dict[CpuMap, int] = {}
    for at, (guest, own) in enumerate(zip(guests, settled, strict=True)):
        doing = guest.doing
        start = draw.randrange(_START_WITHIN_NS) if guest.start_ns is None else guest.start_ns
        queue = -1
        if doing.kind == Kind.SERVE:
            queue = len(queues)
            queues.append(Queue(doing.clients, doing.think_ns, doing.random))
        for vcpu in range(guest.vcpus):
            for mask in (own.hard[vcpu], own.soft[vcpu]):
                if mask not in bits:
                    bits[mask] = floor.bits(mask)
            then = -1
            if doing.then is not None:
                to = numbers.get(doing.then)
                if to is None:
                    raise HomenodeError(f"{guest.name!r} wakes {doing.then!r}, which is not there")
                then = first[to] + vcpu % guests[to].vcpus
            tasks.append(
                Task(
                    at, bits[own.hard[vcpu]], bits[own.soft[vcpu]], doing.kind, doing.run_ns,
                    doing.sleep_ns, doing.random, then, doing.in_flight if then >= 0 else 0, queue,
                    start, guest.work.threads_yield,
                )
            )  # fmt: skip
    return tuple(tasks), tuple(queues)
