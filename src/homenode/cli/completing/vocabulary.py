"""The names of policies and facts, as they are offered."""

from homenode.fleet.policies import HOST_FACTS, HOST_POLICIES
from homenode.placement.facts import FACTS
from homenode.placement.policies import POLICIES


def node_policies() -> tuple[str, ...]:
    """Return the names of the policies for nodes, with their other names."""
    return tuple(name for policy in POLICIES.values() for name in (policy.name, *policy.aliases))


def host_policies() -> tuple[str, ...]:
    """Return the names of the policies for hosts."""
    return tuple(HOST_POLICIES)


def any_policies() -> tuple[str, ...]:
    """Return what a policy for both may be: one of either, or ``HOST/NODE``."""
    pairs = (f"{host}/{node}" for host in HOST_POLICIES for node in POLICIES)
    return tuple(dict.fromkeys((*host_policies(), *node_policies(), *pairs)))


def node_facts() -> tuple[str, ...]:
    """Return the facts of nodes that an order is made of."""
    return tuple(FACTS)


def host_facts() -> tuple[str, ...]:
    """Return the facts of hosts that an order is made of."""
    return tuple(HOST_FACTS)
