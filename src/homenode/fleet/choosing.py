"""Choosing a host, and nodes on it, for one guest after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from homenode.fleet.demand import Alternative, Demand
from homenode.fleet.groups import Membership
from homenode.fleet.hosts import Fleet, Place
from homenode.fleet.nodes import EngineNodes, Nodes
from homenode.fleet.outlook import Outlook, outlook_of
from homenode.fleet.policies import HOST_FACTS, WASTES, FleetPolicy, HostFact, OfPlace, Value
from homenode.fleet.ranking import Comparison, Ranking
from homenode.placement.policies import Term


class Chooser:
    """One policy on one fleet; it follows the changes of the fleet by itself.

    `nodes` chooses the nodes on a host, by the policy's order if it is not given.
    """

    def __init__(self, fleet: Fleet, policy: FleetPolicy, nodes: Nodes | None = None) -> None:
        self.fleet = fleet
        self.policy = policy
        self.nodes = nodes or EngineNodes(fleet, policy.node)
        self._shared: dict[Term, _Narrowing] = {}
        self._orders: dict[Alternative, _Order] = {}
        self._beginners: dict[Alternative, _Order] = {}
        learns = any(HOST_FACTS[term.fact].is_learned for term in policy.host.terms)
        self._outlook = outlook_of(fleet) if learns else None
        self._is_thrifty = any(term.fact == WASTES and term.sign > 0 for term in policy.host.terms)
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

    def place_on(self, host: int, wanted: Alternative) -> Place | None:
        """Return where on `host` a guest goes, without waste if the policy looks at that."""
        if self._is_thrifty:
            thrifty = self.fleet.thrifty(wanted)
            if self.fleet.holders(thrifty) >> host & 1:
                place = self.nodes.place(host, thrifty)
                if place is not None:
                    return place
        return self.nodes.place(host, wanted)

    def _make(self, wanted: Alternative, orders: "dict[Alternative, _Order]") -> "_Order":
        terms = [
            term
            for term in self.policy.host.terms
            if orders is self._beginners or not HOST_FACTS[term.fact].of_beginners
        ]
        made = [self._term(term, wanted) for term in terms]
        order = orders[wanted] = _Order(self.fleet, made, lambda host: self.place_on(host, wanted))
        return order

    def _renew(self, outlook: Outlook) -> None:
        outlook.renew()
        if outlook.epoch != self._epoch:
            self._epoch = outlook.epoch
            for order in (*self._orders.values(), *self._beginners.values()):
                order.look_anew()

    def _term(self, term: Term, wanted: Alternative) -> "_Term":
        fact = HOST_FACTS[term.fact]
        costly = fact.of_place if term.sign > 0 else None
        return _Term(fact, self._narrowing(term, fact, wanted), costly)

    def _narrowing(self, term: Term, fact: HostFact, wanted: Alternative) -> "_Narrowing":
        fleet, nodes = self.fleet, self.nodes
        if fact.hosts is not None:
            hosts = fact.hosts
            return _Two(lambda: hosts(fleet, wanted), term.sign)
        if fact.number is None:
            return Ranking(fleet, _signed(self._of_place(fact, wanted), term))
        if fact.of_demand:
            value = _signed(fact.number(fleet, wanted, nodes), term)
            return Ranking(fleet, value) if fact.is_number else Comparison(fleet, value)
        known = self._shared.get(term)
        if known is None:
            value = _signed(fact.number(fleet, wanted, nodes), term)
            known = self._shared[term] = Ranking(fleet, value)
        return known

    def _of_place(self, fact: HostFact, wanted: Alternative) -> Value:
        of_place, outlook = fact.of_place, outlook_of(self.fleet)
        assert of_place is not None  # noqa: S101 - for the type checker

        def value(host: int) -> int:
            place = self.place_on(host, wanted)
            # Who turns out not to fit is found out when it is taken.
            return int(place is not None and of_place(outlook, place))

        return value


def _signed(value: Value, term: Term) -> Value:
    if term.sign > 0 and term.step is None:
        return value
    return lambda host: term.value(value(host))


class _Narrowing(Protocol):
    """Leaves the best of some hosts."""

    def least(self, among: int) -> int: ...


class _Two:
    """Hosts of two kinds: those where a fact is 0, and the others."""

    def __init__(self, hosts: Callable[[], int], sign: int) -> None:
        self._hosts = hosts
        self._sign = sign

    def least(self, among: int) -> int:
        hosts = among & self._hosts()
        return (hosts if self._sign > 0 else among ^ hosts) or among


class _Term(NamedTuple):
    """A term of an order: its fact, what it leaves, and whether it comes from a place: costly."""

    fact: HostFact
    narrowing: _Narrowing
    costly: OfPlace | None


class _Order:
    """The order on hosts for one kind of guest.

    Facts that hang on the place of the guest are costly, and 0 or 1. So hosts are looked at in the
    order of all the others first: of those that are the best in the ones before the last costly
    one, the first that has 0 in all the costly ones is the best there is, and nobody else need be
    looked at.
    """

    def __init__(
        self, fleet: Fleet, terms: Sequence[_Term], place_on: Callable[[int], Place | None]
    ) -> None:
        self._fleet = fleet
        self._place_on = place_on
        self._outlook = outlook_of(fleet)
        self._terms = terms
        # What matters at present, see `_look_what_matters`.
        self._now: list[_Term] | None = None
        self._costly: list[_Term] = []
        self._first = 0
        self._between: list[_Narrowing] = []
        self._after: list[_Narrowing] = []
        self._above = 0
        self._seen = 0
        self.place: Place | None = None

    def look_anew(self) -> None:
        """Forget what was found out: costly facts may have changed for any host."""
        self._above = 0
        self._now = None
        for term in self._terms:
            if term.fact.of_place is not None and isinstance(term.narrowing, Ranking):
                term.narrowing.look_anew()

    def _look_what_matters(self) -> list[_Term]:
        outlook = self._outlook
        now = [term for term in self._terms if not term.fact.matters or term.fact.matters(outlook)]
        costly = [at for at, term in enumerate(now) if term.costly is not None]
        self._costly = [now[at] for at in costly]
        if costly:
            first, last = costly[0], costly[-1]
            self._first = first
            self._between = [one.narrowing for one in now[first:last] if one.costly is None]
            self._after = [one.narrowing for one in now[last:] if one.costly is None]
        self._now = now
        return now

    def choose(self, hosts: int) -> Place | None:
        """Return the place on the best of `hosts` that can hold the guest after all."""
        while hosts:
            bit = self.best(hosts)
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
        now = self._look_what_matters() if self._now is None else self._now
        if self._costly:
            return self._best_with_costly(now, hosts)
        for term in now:
            if not hosts & (hosts - 1):
                return hosts
            hosts = term.narrowing.least(hosts)
        return hosts & -hosts

    def _best_with_costly(self, now: Sequence[_Term], hosts: int) -> int:
        is_known = False
        for at, term in enumerate(now):
            if not hosts & (hosts - 1):
                return hosts
            if at == self._first:
                found = self._with_nothing_lost(hosts)
                if found:
                    return found
                # If it is the only one, all that are left when it comes up have 1.
                is_known = len(self._costly) == 1
            if term.costly is None or not is_known:
                hosts = term.narrowing.least(hosts)
        return hosts & -hosts

    def _with_nothing_lost(self, hosts: int) -> int:
        fleet, outlook = self._fleet, self._outlook
        if self._seen != fleet.changes:
            self._above &= ~fleet.changed_since(self._seen)
            self._seen = fleet.changes
        facts = [term.costly for term in self._costly if term.costly is not None]
        for narrowing in self._between:
            hosts = narrowing.least(hosts)
        hosts &= ~self._above
        while hosts:
            best = hosts
            for narrowing in self._after:
                best = narrowing.least(best)
            bit = best & -best
            place = self._place_on(bit.bit_length() - 1)
            if place is not None and not any(of(outlook, place) for of in facts):
                self.place = place
                return bit
            self._above |= bit
            hosts ^= bit
        return 0
