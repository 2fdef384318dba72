"""What a fleet has to decide, worked out anew for every guest by going through everything."""

from itertools import permutations

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import Guest, GuestRequest, MemoryByNode, Vcpu
from homenode.placement.deciding import place as place_on_host
from homenode.placement.view import View


class Books:
    """A fleet's hosts with the guests on them, as plain lists: (position, vcpus, KiB)."""

    def __init__(self, hosts, vcpus_ratio=1):
        self.hosts = hosts
        self.ratio = vcpus_ratio
        self.on = [[] for _ in hosts]

    def nodes(self, host):
        """Return [(id, cpus, free vcpus, free KiB, used vcpus)] of a host's nodes with cpus."""
        model = self.hosts[host].host
        found = []
        for at, node in enumerate(model.nodes_of(model.cpu_map)):
            parts = [part for guest in self.on[host] for part in guest if part[0] == at]
            cpus = len(model.cpus_by_node[node])
            used = sum(part[1] for part in parts)
            free_kib = model.nodes_by_id[node].free_kib - sum(part[2] for part in parts)
            found.append((node, cpus, int(cpus * self.ratio) - used, free_kib, used))
        return found

    def can_hold(self, host, parts):
        """Return whether each part fits on a node of its own: every choice of nodes is tried."""
        nodes = self.nodes(host)
        return any(
            all(
                vcpus <= min(nodes[at][1], nodes[at][2]) and kib <= nodes[at][3]
                for at, (vcpus, kib) in zip(ats, parts, strict=True)
            )
            for ats in permutations(range(len(nodes)), len(parts))
        )

    def view(self, host):
        """Return the host as it would be seen: guests that prefer the cpus of their nodes."""
        model = self.hosts[host].host
        guests = []
        for node, cpus, _, _, used in self.nodes(host):
            own = model.cpus_by_node[node]
            if used:
                vcpus = tuple(Vcpu(at, model.cpu_map, own) for at in range(used))
                memory = MemoryByNode({node: 1}, "test")
                guests.append(
                    Guest(f"on {node} of {cpus}", vcpus, memory_by_node=memory,
                          node_affinity=NodeMap([node]))
                )  # fmt: skip
        free = {node: kib for node, _, _, kib, _ in self.nodes(host)}
        nodes = [node._replace(free_kib=free.get(node.id, node.free_kib)) for node in model.nodes]
        return View(model.replace(nodes=nodes), tuple(guests))

    def engine_nodes(self, host, wanted, policy):
        """Return the node numbers that the engine for single hosts takes for `wanted`."""
        request: GuestRequest = wanted.request
        least = min(part.vcpus for part in wanted.parts)
        full = NodeMap(node for node, _, free, _, _ in self.nodes(host) if free < least)
        decision = place_on_host(self.view(host), request._replace(excluded=full), policy)
        assert decision.fits
        return decision.nodes

    def host_value(self, host, fact):
        """Return a fact of a host's state."""
        nodes = self.nodes(host)
        return {
            "empty": int(not self.on[host]),
            "guests": len(self.on[host]),
            "vcpus": sum(node[2] for node in nodes),
            "memory": sum(node[3] for node in nodes),
            "size": sum(int(node[1] * self.ratio) for node in nodes),
        }[fact]

    def rank(self, host, terms):
        """Return what hosts are compared by, the place in the fleet last."""
        values = []
        for term in terms:
            value = self.host_value(host, term.fact)
            if term.step is not None:
                value = value * term.step[1] // term.step[0]
            values.append(term.sign * value)
        return (*values, host)


def all_cpus(host):
    """Return all cpus of a host."""
    return CpuMap(cpu.id for cpu in host.cpus)
