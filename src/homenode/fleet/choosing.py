"""Choosing a host, and nodes on it, for one guest after the other."""

from collections.abc import Iterator

from homenode.fleet.demand import Alternative, Demand
from homenode.fleet.groups import Membership
from homenode.fleet.hosts import Fleet, Place
from homenode.fleet.nodes import EngineNodes, Nodes
from homenode.fleet.policies import HOST_FACTS, FleetPolicy, Value
from homenode.fleet.ranking import Ranking
from homenode.placement.policies import Term


class Chooser:
    """One policy on one fleet; it follows the changes of the fleet by itself.

    `nodes` chooses the nodes on a host, by the policy's order if it is not given.
    """

    def __init__(self, fleet: Fleet, policy: FleetPolicy, nodes: Nodes | None = None) -> None:
        self.fleet = fleet
        self.policy = policy
        self.nodes = nodes or EngineNodes(fleet, policy.node)
        self._shared: dict[Term, Ranking] = {}
        self._rankings: dict[Alternative, list[Ranking]] = {}

    def choose(self, demand: Demand, membership: Membership | None = None) -> Place | None:
        """Return where a guest goes, or None if no host can hold it; nothing is changed.

        On as few nodes as can be; then as the orders on hosts and on nodes say.
        """
        allowed = -1
        if membership is not None:
            fleet = self.fleet
            allowed = fleet.group(membership).allowed(membership.domain, fleet.everywhere)
        for wanted in demand.alternatives:
            for bit in self.in_order(self.fleet.holders(wanted) & allowed, wanted):
                place = self.nodes.place(bit.bit_length() - 1, wanted)
                if place is not None:
                    return place
        return None

    def in_order(self, hosts: int, wanted: Alternative) -> Iterator[int]:
        """Yield `hosts`, each as its bit, the best one first."""
        while hosts:
            bit = self._best(hosts, wanted)
            yield bit
            hosts ^= bit

    def _best(self, hosts: int, wanted: Alternative) -> int:
        rankings = self._rankings.get(wanted)
        if rankings is None:
            rankings = self._rankings[wanted] = [
                self._ranking(term, wanted) for term in self.policy.host.terms
            ]
        for ranking in rankings:
            if not hosts & (hosts - 1):
                return hosts
            hosts = ranking.least(hosts)
        return hosts & -hosts

    def _ranking(self, term: Term, wanted: Alternative) -> Ranking:
        fact = HOST_FACTS[term.fact]
        if not fact.of_demand and term in self._shared:
            return self._shared[term]
        made = Ranking(self.fleet, _signed(fact.make(self.fleet, wanted, self.nodes), term))
        if not fact.of_demand:
            self._shared[term] = made
        return made


def _signed(value: Value, term: Term) -> Value:
    if term.sign > 0 and term.step is None:
        return value
    return lambda host: term.value(value(host))
