"""What the search must answer, found by going through every set of nodes.

Written from the definitions alone and without a line of the search: sets are frozensets, facts
are computed one by one from the host and the guests, ratios are `fractions.Fraction`.
"""

from fractions import Fraction
from itertools import combinations

from homenode.bitmap import CpuMap
from homenode.guest import GuestRequest
from homenode.host import UNREACHABLE_DISTANCE, Host
from homenode.placement.policies import Policy
from homenode.placement.view import View


def suitable(view: View, request: GuestRequest, policy: Policy) -> set[int]:
    cpus = set(view.host.pool(request.pool).cpus) & set(view.host.cpu_map)
    if request.hard:
        cpus &= set().union(*map(set, request.hard))
    pools = {pool.name: set(pool.cpus) for pool in view.host.pools}
    for guest in view.guests:
        known = guest.exclusive and policy.admission != "libxl"
        if known or request.exclusive:
            for vcpu in guest.vcpus:
                pool = pools.get(guest.pool, set(view.host.cpu_map))
                if not pool <= set(vcpu.hard):
                    cpus -= set(vcpu.hard) & pool
    return cpus


def usable(view: View, node: int, policy: Policy) -> int:
    found = view.host.nodes_by_id[node]
    if policy.admission == "libxl":
        return found.free_kib or 0
    return max(0, (found.usable_kib or 0) - view.outstanding_kib.get(node, 0))


def seats(host: Host, request: GuestRequest, cpus: set[int]) -> int:
    if not request.whole_cores:
        return len(cpus)
    if request.exclusive:
        return sum(1 for core in host.cores if set(core) <= cpus)
    return sum(1 for core in host.cores if set(core) & cpus)


def pairwise(host: Host, one: int, other: int) -> int:
    ids = [node.id for node in host.nodes]
    ways = [host.distances[ids.index(a)][ids.index(b)] for a, b in ((one, other), (other, one))]
    return max(UNREACHABLE_DISTANCE if way is None else way for way in ways)


def common_level(host: Host, one: int, other: int) -> int:
    def units(node: int, level: int) -> set[object]:
        found: set[object] = set()
        for cpu in host.cpus:
            if cpu.node == node and cpu.online:
                die = None if cpu.die is None else (cpu.socket, cpu.die)
                found.add((cpu.llc, die, cpu.socket)[level])
        return found

    for level in range(3):
        both = units(one, level) | units(other, level)
        if units(one, level) and units(other, level) and len(both) == 1 and None not in both:
            return level
    return 3


def homes(view: View, cpus: set[int], policy: Policy) -> list[set[int]]:
    pools = {pool.name: set(pool.cpus) for pool in view.host.pools}
    found = []
    for guest in view.guests:
        pool = pools.get(guest.pool, set(view.host.cpu_map))
        for vcpu in guest.vcpus:
            reach = set(vcpu.hard) & pool
            if policy.admission == "libxl":
                reach &= cpus
            else:
                reach = reach & set(vcpu.soft) or reach
            running = set(view.host.nodes_of(CpuMap(reach))) & _nodes(view.host, cpus)
            home = running & set(guest.node_affinity) if guest.node_affinity else running
            found.append(home if home or policy.admission == "libxl" else running)
    return found


def occupied(view: View) -> set[int]:
    found = {node for node, kib in view.outstanding_kib.items() if kib > 0}
    for guest in view.guests:
        if guest.id == 0:
            continue
        if guest.memory_by_node is not None:
            found |= {node for node, kib in guest.memory_by_node.kib.items() if kib > 0}
        elif guest.node_affinity is not None and guest.node_affinity != view.host.node_map:
            found |= set(guest.node_affinity)
    return found


def facts(view: View, request: GuestRequest, policy: Policy, chosen: tuple[int, ...]) -> dict:
    host, cpus = view.host, suitable(view, request, policy)
    pairs = list(combinations(chosen, 2))
    own = {node: set(host.cpus_by_node[node]) & cpus for node in chosen}
    all_own = set().union(*own.values())
    cores = sum(1 for node in chosen for core in host.cores if set(core) & own[node])
    at_home = homes(view, cpus, policy)
    if policy.admission == "libxl":
        vcpus = sum(len(home & set(chosen)) for home in at_home)
    else:
        vcpus = sum(1 for home in at_home if home & set(chosen))
    memory = {node: usable(view, node, policy) for node in chosen}
    with_self = [pairwise(host, a, b) for a in chosen for b in chosen]
    unclaimed = View(host, share_rule=view.share_rule)
    given = [usable(unclaimed, node, policy) for node in sorted(chosen)]
    shares = list(view.share_rule(request, given))
    by_node = zip(sorted(chosen), shares, strict=True)
    covered = sum(shares) >= min(request.memory_kib, sum(given))
    covered = covered and all(kib <= memory[node] for node, kib in by_node)
    covered = covered or policy.admission == "libxl"
    return {
        "nodes": len(chosen),
        "level": max(common_level(host, a, b) for a in chosen for b in chosen),
        "distance": sum(pairwise(host, a, b) for a, b in pairs),
        "distance_max": max(with_self),
        "distance_mean": Fraction(sum(with_self), len(with_self)),
        "vcpus": vcpus,
        "vcpus_per_core": Fraction(vcpus + request.vcpus, max(1, cores)),
        "cores_short": max(0, request.vcpus - cores),
        "usable": sum(memory.values()),
        "hole": max(0 if node in occupied(view) else memory[node] for node in chosen),
        "device_distance": sum(
            min(host.distance(node, device) for node in chosen)
            for device in [near.node for near in request.devices]
        ),
        "share_skew": max(shares) - min(shares),
        "fits": covered
        and sum(memory.values()) >= request.memory_kib
        and sum(seats(host, request, own[node]) for node in chosen) >= request.vcpus
        and bool(all_own),
    }


def _nodes(host: Host, cpus: set[int]) -> set[int]:
    return set(host.nodes_of(CpuMap(cpus)))


def rank(policy: Policy, found: dict) -> tuple:
    key = []
    for term in policy.terms:
        value = found[term.fact]
        if term.step is not None:
            above, below = term.step
            value = Fraction(value) * below // above
        key.append(term.sign * value)
    return tuple(key)


def best(view: View, request: GuestRequest, policy: Policy) -> tuple[int, ...] | None:
    """Return the best set of nodes, or None if nothing fits."""
    host = view.host
    nodes = sorted(_nodes(host, suitable(view, request, policy)))
    answers = []
    for count in range(1, len(nodes) + 1):
        if request.node_count not in (None, count):
            continue
        for chosen in combinations(nodes, count):
            found = facts(view, request, policy, chosen)
            if found["fits"]:
                answers.append((rank(policy, found), chosen))
    return min(answers)[1] if answers else None
