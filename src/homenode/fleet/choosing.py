"""Choosing a host, and nodes on it, for one guest after the other."""

from collections.abc import Iterator

from homenode.fleet.demand import Alternative, Demand
from homenode.fleet.groups import Membership
from homenode.fleet.hosts import Fleet, Place
from homenode.fleet.nodes import EngineNodes, Nodes
from homenode.fleet.outlook import Outlook, outlook_of
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
        self._orders: dict[Alternative, _Order] = {}
        self._beginners: dict[Alternative, _Order] = {}
        looks_ahead = any(HOST_FACTS[term.fact].floor is not None for term in policy.host.terms)
        self._outlook = outlook_of(fleet) if looks_ahead else None
        self._epoch = 0

    def choose(self, demand: Demand, membership: Membership | None = None) -> Place | None:
        """Return where a guest goes, or None if no host can hold it; nothing is changed.

        On as few nodes as can be; then as the orders on hosts and on nodes say.
        """
        allowed, begins = -1, False
        if membership is not None:
            fleet, group = self.fleet, self.fleet.group(membership)
            allowed = group.allowed(membership.domain, fleet.everywhere)
            begins = group.begins_together
        for wanted in demand.alternatives:
            hosts = self.fleet.holders(wanted) & allowed
            if not hosts:
                continue
            order = self._order(wanted, begins=begins)
            while hosts:
                bit = order.best(hosts)
                place = self.nodes.place(bit.bit_length() - 1, wanted)
                if place is not None:
                    return place
                hosts ^= bit
        return None

    def in_order(self, hosts: int, wanted: Alternative, *, begins: bool = False) -> Iterator[int]:
        """Yield `hosts`, each as its bit, the best one first.

        `begins`: the guest is the first of a group that is to be together.
        """
        if hosts:
            order = self._order(wanted, begins=begins)
        while hosts:
            bit = order.best(hosts)
            yield bit
            hosts ^= bit

    def _order(self, wanted: Alternative, *, begins: bool) -> "_Order":
        if self._outlook is not None:
            self._renew(self._outlook)
        orders = self._beginners if begins else self._orders
        order = orders.get(wanted)
        if order is None:
            terms = [
                term
                for term in self.policy.host.terms
                if begins or not HOST_FACTS[term.fact].of_beginners
            ]
            rankings = [self._ranking(term, wanted) for term in terms]
            order = orders[wanted] = _Order(self.fleet, rankings)
        return order

    def _renew(self, outlook: Outlook) -> None:
        outlook.renew()
        if outlook.epoch != self._epoch:
            self._epoch = outlook.epoch
            for order in (*self._orders.values(), *self._beginners.values()):
                order.look_anew()

    def _ranking(self, term: Term, wanted: Alternative) -> Ranking:
        fact = HOST_FACTS[term.fact]
        if not fact.of_demand and term in self._shared:
            return self._shared[term]
        value = _signed(fact.make(self.fleet, wanted, self.nodes), term)
        floor = fact.floor if term.sign > 0 else None
        made = Ranking(self.fleet, value, floor=floor)
        if not fact.of_demand:
            self._shared[term] = made
        return made


def _signed(value: Value, term: Term) -> Value:
    if term.sign > 0 and term.step is None:
        return value
    return lambda host: term.value(value(host))


class _Order:
    """The order on hosts for one kind of guest.

    Facts that hang on the guest are costly, and no host has less than their floor. So those hosts
    are looked at first that are the best in all the others: the first of these that has no more
    than the floor in the costly ones is the best there is, and nobody else need be looked at.
    """

    def __init__(self, fleet: Fleet, rankings: list[Ranking]) -> None:
        self._fleet = fleet
        self._rankings = rankings
        at = next((at for at, one in enumerate(rankings) if one.floor is not None), len(rankings))
        self._first = at
        self._costly = [one for one in rankings[at:] if one.floor is not None]
        self._cheap = [one for one in rankings[at:] if one.floor is None]
        self._above = 0
        self._seen = 0

    def look_anew(self) -> None:
        """Forget what was found out: costly facts may have changed for any host."""
        self._above = 0
        for ranking in self._costly:
            ranking.look_anew()

    def best(self, hosts: int) -> int:
        """Return the best of `hosts` as its bit; of equal ones the first."""
        for place, ranking in enumerate(self._rankings):
            if not hosts & (hosts - 1):
                return hosts
            if place == self._first:
                found = self._at_floor(hosts)
                if found:
                    return found
            hosts = ranking.least(hosts)
        return hosts & -hosts

    def _at_floor(self, hosts: int) -> int:
        for ranking in self._cheap:
            hosts = ranking.least(hosts)
        self._above &= ~self._fleet.changed_since(self._seen)
        self._seen = self._fleet.changes
        hosts &= ~self._above
        while hosts:
            bit = hosts & -hosts
            host = bit.bit_length() - 1
            if all(ranking.value(host) == ranking.floor for ranking in self._costly):
                return bit
            self._above |= bit
            hosts ^= bit
        return 0
