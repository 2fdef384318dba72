"""Policies for fleets: an order on hosts, then one on the nodes of the host.

The two are separate words, ``pack/balanced``: of the hosts that can hold the guest, ``pack``
chooses one, and on it `homenode.placement`'s ``balanced`` the nodes. Before both comes that a
guest is on as few nodes as can be. An order on hosts is written like one on nodes
(`homenode.placement.policies`), of the facts in `HOST_FACTS`; of equal hosts the earlier one of the
fleet is taken.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from homenode.errors import HomenodeError
from homenode.fleet.demand import Alternative
from homenode.fleet.hosts import Fleet, Place
from homenode.fleet.measures import room_on
from homenode.fleet.outlook import Outlook
from homenode.placement.policies import DEFAULT as DEFAULT_NODES
from homenode.placement.policies import POLICIES, Policy, Term, parse_order
from homenode.placement.policies import policy as node_policy

if TYPE_CHECKING:
    from homenode.fleet.nodes import Nodes
else:
    Nodes = object

Value = Callable[[int], Any]
"""The value of a fact, by the number of a host: something that is comparable."""


OfPlace = Callable[[Outlook, Place], bool]

WASTES: Final = "wastes"
"""The fact by which nodes that would be wasted on are left out where there are others."""


class HostFact(NamedTuple):
    """A row of the table of facts of a host: how it is found out, in one of these ways.

    `number` makes the value of a host's state, or with `of_demand` of what is to be placed as well;
    `is_number` is False if it is something else that can be compared. `hosts` are those where it is
    0, and it is 1 on the others. `of_place` is whether it is 1, by the place that the guest would
    have there, which is costly to find; it is 0 on all hosts while not `matters`. `of_beginners`:
    it counts for guests alone that are the first of a group that is to be together.
    """

    name: str
    unit: str
    meaning: str
    number: Callable[[Fleet, Alternative, Nodes], Value] | None = None
    hosts: Callable[[Fleet, Alternative], int] | None = None
    of_place: OfPlace | None = None
    matters: Callable[[Outlook], bool] | None = None
    of_demand: bool = False
    is_number: bool = True
    of_beginners: bool = False

    @property
    def is_learned(self) -> bool:
        """Whether it hangs on what came so far."""
        return self.of_place is not None or self.name == WASTES


def _guests(fleet: Fleet, _wanted: Alternative, _nodes: Nodes) -> Value:
    return fleet.guests.__getitem__


def _vcpus(fleet: Fleet, _wanted: Alternative, _nodes: Nodes) -> Value:
    return fleet.vcpus.__getitem__


def _memory(fleet: Fleet, _wanted: Alternative, _nodes: Nodes) -> Value:
    return fleet.kib.__getitem__


def _size(fleet: Fleet, _wanted: Alternative, _nodes: Nodes) -> Value:
    sizes = [sum(kind.capacity.vcpus) for kind in fleet.kinds]
    return lambda host: sizes[fleet.kind_of[host]]


def _candidate(_fleet: Fleet, wanted: Alternative, nodes: Nodes) -> Value:
    return lambda host: nodes.value(host, wanted)


def _together(fleet: Fleet, wanted: Alternative, _nodes: Nodes) -> Value:
    return lambda host: room_on(fleet, host, wanted)


HOST_FACTS: Final[dict[str, HostFact]] = {
    fact.name: fact
    for fact in (
        HostFact(
            "empty", "", "1 if no guest is on it, else 0", hosts=lambda fleet, _wanted: fleet.used
        ),
        HostFact("guests", "guests", "guests on it", _guests),
        HostFact("vcpus", "vcpus", "vcpus that are free on it", _vcpus),
        HostFact("memory", "KiB", "memory that is free on it", _memory),
        HostFact("size", "vcpus", "vcpus that it can take when it is empty", _size),
        HostFact(
            "candidate",
            "",
            "what the order on nodes says of the nodes it would choose there",
            _candidate,
            of_demand=True,
            is_number=False,
        ),
        HostFact(
            WASTES,
            "",
            "0 if it fits on nodes there that keep memory for each vcpu left, else 1",
            hosts=lambda fleet, wanted: fleet.holders(fleet.thrifty(wanted)),
        ),
        HostFact(
            "breaks_wide",
            "",
            "1 if fewer guests on several nodes would fit there, of any kind that came, else 0",
            of_place=Outlook.breaks_wide,
            matters=lambda outlook: outlook.has_wide,
        ),
        HostFact(
            "breaks_scarce",
            "",
            "1 if fewer guests would fit there, of a kind for which the fleet gets short, else 0",
            of_place=Outlook.breaks_scarce,
            matters=lambda outlook: outlook.has_scarce,
        ),
        HostFact(
            "together",
            "guests",
            "such guests that fit there; counts for the first of a group that is to be together",
            _together,
            of_demand=True,
            of_beginners=True,
        ),
    )
}


class HostPolicy(NamedTuple):
    """A named order on hosts."""

    name: str
    terms: tuple[Term, ...]
    purpose: str = "an order of your own"

    @property
    def order(self) -> str:
        """The terms as they are written."""
        return ",".join(map(str, self.terms))


class FleetPolicy(NamedTuple):
    """An order on hosts, and one on the nodes of the chosen host."""

    host: HostPolicy
    node: Policy

    @property
    def name(self) -> str:
        """The two words."""
        return f"{self.host.name}/{self.node.name}"


def _named(name: str, order: str, purpose: str) -> HostPolicy:
    return HostPolicy(name, parse_order(order, HOST_FACTS) if order else (), purpose)


DEFAULT: Final = "preserve"

HOST_POLICIES: Final[dict[str, HostPolicy]] = {
    policy.name: policy
    for policy in (
        _named("first", "", "the first host on which it fits"),
        _named("pack", "empty,vcpus,memory", "the fullest host: keeps hosts empty"),
        _named("spread", "-vcpus,-memory", "the emptiest host: room for guests to grow"),
        _named(
            "preserve",
            "-together,breaks_scarce,wastes,breaks_wide,empty,memory",
            "spares room that gets short, memory for vcpus, room for wide guests; then fills up",
        ),
        _named("flat", "candidate", "the best nodes of the whole fleet, whatever host has them"),
    )
}
"""The register of orders on hosts."""


def host_policy(text: str) -> HostPolicy:
    """Return the order on hosts of that name, or the one that the text describes."""
    known = HOST_POLICIES.get(text)
    if known is not None:
        return known
    if _first_name(text) not in HOST_FACTS:
        raise HomenodeError(
            f"there is no host policy {text!r}",
            hint=f"there are {', '.join(HOST_POLICIES)}, or compose one: see homenode policies",
        )
    terms = parse_order(text, HOST_FACTS)
    for term in terms:
        fact = HOST_FACTS[term.fact]
        if fact.number is None and term.step is not None:
            raise HomenodeError(f"host policy {text!r}: {term.fact} is 0 or 1, and has no steps")
        if not fact.is_number and (term.sign < 0 or term.step is not None):
            raise HomenodeError(f"host policy {text!r}: {term.fact} has no sign and no steps")
    return HostPolicy(text, terms)


_SLASH = re.compile(r"(?<!~[0-9])(?<!~[0-9]{2})(?<!~[0-9]{3})/|/(?![0-9])")
"""What is between the orders; in an order it is part of a step (``vcpus_per_core~1/8``)."""


def fleet_policy(text: str) -> FleetPolicy:
    """Return the policy that is written ``HOST/NODE``, ``HOST``, or ``NODE``.

    What is left out is the default. A word that both have (``spread``) means the order on hosts.
    """
    between = _SLASH.search(text)
    if between is not None:
        host_text, node_text = text[: between.start()], text[between.end() :]
        return FleetPolicy(host_policy(host_text), node_policy(node_text))
    if text in HOST_POLICIES or _first_name(text) in HOST_FACTS:
        return FleetPolicy(host_policy(text), POLICIES[DEFAULT_NODES])
    try:
        return FleetPolicy(HOST_POLICIES[DEFAULT], node_policy(text))
    except HomenodeError:
        raise HomenodeError(
            f"there is no policy {text!r}",
            hint=f"HOST/NODE; hosts: {', '.join(HOST_POLICIES)}; nodes: {', '.join(POLICIES)};"
            " see homenode policies",
        ) from None


def _first_name(text: str) -> str:
    return text.lstrip("-").partition("~")[0].partition(",")[0].strip()
