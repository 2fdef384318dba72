"""What the search must answer, found by going through every set of nodes.

Written from the definitions alone and without a line of the search: sets are frozensets, facts
are computed one by one from the host and the guests, ratios are `fractions.Fraction`.
"""

from fractions import Fraction
from itertools import combinations

from homenode.bitmap import CpuMap
from homenode.guest import GuestRequest
from homenode.host import UNREACHABLE_DISTANCE, Host
from homenode.placement.policies import Policy, Term
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


def usable(view: View, node: int, policy: Policy, page_kib: int = 4) -> int:
    found = view.host.nodes_by_id[node]
    if policy.admission == "libxl" and page_kib <= 64:
        return found.free_kib or 0
    if page_kib > 64:
        pools = {pool.page_kib: (pool.free or 0) * page_kib for pool in found.pages}
        owed = view.outstanding_huge_kib.get((node, page_kib), 0)
        return max(0, pools.get(page_kib, 0) - owed)
    return max(0, (found.usable_kib or 0) - view.outstanding_kib.get(node, 0))


def barred(view: View, request: GuestRequest) -> set[int]:
    """Nodes that are excluded, and those where the guests are that it is kept apart from."""
    found = set(request.excluded)
    for guest in view.guests:
        if guest.name in request.apart_from:
            there = guest.memory_by_node.kib if guest.memory_by_node else {}
            found |= {node for node, kib in there.items() if kib > 0}
            if guest.node_affinity is not None and guest.node_affinity != view.host.node_map:
                found |= set(guest.node_affinity)
    return found


def far(view: View, request: GuestRequest, policy: Policy) -> dict[int, int]:
    """Nodes without cpus that may give memory, and how much."""
    found = {}
    for node in view.host.nodes:
        tier = request.tier is not None and of_kind(node.kind, request.tier.kind)
        if (tier or (request.spill and node.kind not in ("hbm", "gpu"))) and node.id not in barred(
            view, request
        ):
            kib = usable(view, node.id, policy._replace(admission="usable"), request.page_kib)
            if kib and not view.host.cpus_by_node[node.id]:
                found[node.id] = kib
    return found


def of_kind(kind, wanted) -> bool:
    return kind not in ("hbm", "gpu") if wanted == "any" else kind == wanted


def tier_kib_of(request: GuestRequest) -> int:
    """What is wanted of the tier, in whole pages."""
    if request.tier is None:
        return 0
    pages = -(-request.tier.kib // request.page_kib)
    return min(pages * request.page_kib, request.memory_kib)


def far_shares(view, request, policy, chosen, spilled: int) -> dict[int, int]:
    """Nearest first: the tier from nodes of its kind, then what is spilled from all others."""
    left = far(view, request, policy)

    def nearness(node):
        return min(pairwise(view.host, node, one) for one in chosen), node

    shares: dict[int, int] = {}
    kinds = {node.id: node.kind for node in view.host.nodes}
    for kib, may in (
        (tier_kib_of(request), lambda n: request.tier and of_kind(kinds[n], request.tier.kind)),
        (spilled, lambda n: request.spill and kinds[n] not in ("hbm", "gpu")),
    ):
        wanted = kib
        for node in sorted(left, key=nearness):
            if may(node):
                given = min(wanted, left[node])
                wanted -= given
                left[node] -= given
                shares[node] = shares.get(node, 0) + given
    return {node: kib for node, kib in shares.items() if kib}


def near_device(host: Host, node: int) -> set[int]:
    """The node of a device; if it has no cpus, the nodes with cpus that are nearest to it."""
    if host.cpus_by_node.get(node):
        return {node}
    with_cpus = [one for one in host.node_map if host.cpus_by_node[one]]
    least = min((host.distance(one, node) for one in with_cpus), default=0)
    return {one for one in with_cpus if host.distance(one, node) == least}


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
    memory = {node: usable(view, node, policy, request.page_kib) for node in chosen}
    with_self = [pairwise(host, a, b) for a in chosen for b in chosen]
    unclaimed = View(host, share_rule=view.share_rule)
    given = [usable(unclaimed, node, policy, request.page_kib) for node in sorted(chosen)]
    tier_kib = tier_kib_of(request)
    home_kib = request.memory_kib - tier_kib
    spilled = max(0, home_kib - sum(memory.values())) if request.spill else 0
    if spilled:
        shares = [memory[node] for node in sorted(chosen)]
        covered = True
    else:
        shares = list(view.share_rule(request._replace(memory_kib=home_kib), given))
        by_node = zip(sorted(chosen), shares, strict=True)
        covered = sum(shares) >= min(home_kib, sum(given))
        covered = covered and all(kib <= memory[node] for node, kib in by_node)
    covered = covered or policy.admission == "libxl"
    beyond = far_shares(view, request, policy, chosen, spilled)
    apart = sum(
        kib * min(pairwise(host, node, one) for one in chosen) for node, kib in beyond.items()
    )
    return {
        "may_spill": request.spill,
        "split": request.split,
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
        "device_scarcity": sum(
            1
            for device in host.devices
            if device.node in chosen
            and device.kind != "chipset"
            and device.address not in {near.address for near in request.devices}
        ),
        "spilled": spilled,
        "far_distance": Fraction(apart, sum(beyond.values()) or 1),
        "fits": covered
        and sum(memory.values()) + sum(beyond.values()) >= request.memory_kib
        and sum(beyond.values()) == spilled + tier_kib
        and all(
            near_device(host, device.node) & set(chosen)
            for device in request.devices
            if device.required
        )
        and sum(seats(host, request, own[node]) for node in chosen) >= request.vcpus
        and bool(all_own),
    }


def _nodes(host: Host, cpus: set[int]) -> set[int]:
    return set(host.nodes_of(CpuMap(cpus)))


def rank(policy: Policy, found: dict) -> tuple:
    key = []
    first = [Term("spilled")] * found["may_spill"] + [Term("nodes")] * found["split"]
    for term in [*first, *policy.terms]:
        value = found[term.fact]
        if term.step is not None:
            above, below = term.step
            value = Fraction(value) * below // above
        key.append(term.sign * value)
    return tuple(key)


def best(view: View, request: GuestRequest, policy: Policy) -> tuple[int, ...] | None:
    """Return the best set of nodes, or None if nothing fits."""
    host = view.host
    nodes = sorted(_nodes(host, suitable(view, request, policy)) - barred(view, request))
    answers = []
    for count in range(1, len(nodes) + 1):
        if request.node_count not in (None, count):
            continue
        for chosen in combinations(nodes, count):
            found = facts(view, request, policy, chosen)
            if found["fits"]:
                answers.append((rank(policy, found), chosen))
    return min(answers)[1] if answers else None
