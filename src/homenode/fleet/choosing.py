"""Choosing a host, and nodes on it, for one guest after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from homenode.fleet.demand import Alternative, Demand
from homenode.fleet.groups import Membership
from homenode.fleet.hosts import Fleet, Place
from homenode.fleet.nodes import EngineNodes, Nodes
from homenode.fleet.outlook import Outlook, outlook_of
from homenode.fleet.policies import HOST_FACTS, FleetPolicy, HostFact, OfPlace, Value
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
        looks_ahead = any(HOST_FACTS[term.fact].of_place is not None for term in policy.host.terms)
        self._outlook = outlook_of(fleet) if looks_ahead else None
        self._epoch = 0

    def choose(self, demand: Demand, membership: Membership | None = None) -> Place | None:
        """Return where a guest goes, or None if no host can hold it; nothing is changed.

        On as few nodes as can be; then as the orders on hosts and on nodes say.
        """
        fleet = self.fleet
        if self._outlook is not None:
            self._renew(self._outlook)
        for wanted in demand.alternatives:
            hosts = fleet.holders(wanted)
            orders = self._orders
            if membership is not None:
                group = fleet.group(membership)
                hosts = group.allowed(membership.domain, hosts)
                orders = self._beginners if group.begins_together else orders
            if hosts:
                order = orders.get(wanted) or self._make(wanted, orders)
                place = order.choose(hosts)
                if place is not None:
                    return place
        return None

    def in_order(self, hosts: int, wanted: Alternative, *, begins: bool = False) -> Iterator[int]:
        """Yield `hosts`, each as its bit, the best one first.

        `begins`: the guest is the first of a group that is to be together.
        """
        if self._outlook is not None:
            self._renew(self._outlook)
        orders = self._beginners if begins else self._orders
        order = orders.get(wanted) or self._make(wanted, orders)
        while hosts:
            bit = order.best(hosts)
            yield bit
            hosts ^= bit

    def _make(self, wanted: Alternative, orders: "dict[Alternative, _Order]") -> "_Order":
        terms = [
            term
            for term in self.policy.host.terms
            if orders is self._beginners or not HOST_FACTS[term.fact].of_beginners
        ]
        ranked = [self._ranked(term, wanted) for term in terms]
        order = orders[wanted] = _Order(
            self.fleet, ranked, lambda host: self.nodes.place(host, wanted)
        )
        return order

    def _renew(self, outlook: Outlook) -> None:
        outlook.renew()
        if outlook.epoch != self._epoch:
            self._epoch = outlook.epoch
            for order in (*self._orders.values(), *self._beginners.values()):
                order.look_anew()

    def _ranked(self, term: Term, wanted: Alternative) -> "_Ranked":
        fact = HOST_FACTS[term.fact]
        costly = fact.of_place if term.sign > 0 else None
        return _Ranked(fact, self._ranking(term, wanted), costly)

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


class _Ranked(NamedTuple):
    """A term of an order: its fact, and hosts by its value; `costly` if it comes from a place."""

    fact: HostFact
    ranking: Ranking
    costly: OfPlace | None


class _Order:
    """The order on hosts for one kind of guest.

    Facts that hang on the place of the guest are costly, and 0 or 1. So hosts are looked at in the
    order of all the others first: of those that are the best in the ones before the last costly
    one, the first that has 0 in all the costly ones is the best there is, and nobody else need be
    looked at.
    """

    def __init__(
        self, fleet: Fleet, terms: Sequence[_Ranked], place_on: Callable[[int], Place | None]
    ) -> None:
        self._fleet = fleet
        self._terms = terms
        self._place_on = place_on
        self._outlook = outlook_of(fleet)
        costly = [at for at, term in enumerate(terms) if term.costly is not None]
        self._first = costly[0] if costly else len(terms)
        last = costly[-1] if costly else len(terms)
        self._costly = [term for term in terms if term.costly is not None]
        self._between = [term.ranking for term in terms[self._first : last] if not term.costly]
        self._after = [term.ranking for term in terms[last:] if not term.costly]
        self._above = 0
        self._seen = 0
        self.place: Place | None = None

    def look_anew(self) -> None:
        """Forget what was found out: costly facts may have changed for any host."""
        self._above = 0
        for term in self._costly:
            term.ranking.look_anew()

    def choose(self, hosts: int) -> Place | None:
        """Return the place on the best of `hosts` that can hold the guest after all."""
        while hosts:
            bit = self.best(hosts) if self._terms else hosts & -hosts
            place = self.place or self._place_on(bit.bit_length() - 1)
            if place is not None:
                return place
            hosts ^= bit
        return None

    def best(self, hosts: int) -> int:
        """Return the best of `hosts` as its bit; of equal ones the first.

        `place` is then the place of the guest there, if that was found out on the way.
        """
        self.place = None
        costly = [
            term
            for term in self._costly
            if not term.fact.matters or term.fact.matters(self._outlook)
        ]
        looked = not costly
        for at, term in enumerate(self._terms):
            if not hosts & (hosts - 1):
                return hosts
            if at >= self._first and not looked:
                looked = True
                found = self._with_nothing_lost(hosts, costly)
                if found:
                    return found
                if len(costly) == 1:
                    # All that are left by then have 1.
                    costly = []
            if term.costly is None or term in costly:
                hosts = term.ranking.least(hosts)
        return hosts & -hosts

    def _with_nothing_lost(self, hosts: int, costly: "Sequence[_Ranked]") -> int:
        fleet, outlook = self._fleet, self._outlook
        if self._seen != fleet.changes:
            self._above &= ~fleet.changed_since(self._seen)
            self._seen = fleet.changes
        facts = [term.costly for term in costly if term.costly is not None]
        for ranking in self._between:
            hosts = ranking.least(hosts)
        hosts &= ~self._above
        while hosts:
            best = hosts
            for ranking in self._after:
                best = ranking.least(best)
            bit = best & -best
            place = self._place_on(bit.bit_length() - 1)
            if place is not None and not any(of(outlook, place) for of in facts):
                self.place = place
                return bit
            self._above |= bit
            hosts ^= bit
        return 0
