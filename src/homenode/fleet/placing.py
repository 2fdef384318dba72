"""Host and nodes together: one call for a guest that is wanted somewhere in a fleet."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.fleet.choosing import Chooser
from homenode.fleet.demand import Alternative
from homenode.fleet.groups import Membership
from homenode.fleet.hosts import Fleet, Place
from homenode.fleet.live import barring_full_nodes
from homenode.fleet.policies import FleetPolicy
from homenode.guest import GuestRequest
from homenode.placement.deciding import place as place_on_host
from homenode.placement.decision import Decision
from homenode.placement.weights import positions


class Refusal(NamedTuple):
    """A host that cannot hold the guest, and why."""

    host: str
    reason: str


class Choice(NamedTuple):
    """The host of a guest and the nodes of its parts there, or why no host can hold it.

    `place` is what `homenode.fleet.hosts.Fleet.take` takes; None for a host that runs, which has a
    `decision` instead. `rejected` are hosts that were looked at and cannot hold it.
    """

    fits: bool
    policy: str
    reason: str
    host: str | None = None
    nodes: NodeMap = NodeMap()
    place: Place | None = None
    decision: Decision | None = None
    rejected: tuple[Refusal, ...] = ()


def place(  # noqa: PLR0913 - one guest, and what is asked of where it goes
    hosts: Fleet,
    request: GuestRequest,
    policy: FleetPolicy,
    *,
    membership: Membership | None = None,
    allowed: Callable[[str], bool] | None = None,
    requests: Mapping[str, GuestRequest] | None = None,
    clock: Callable[[], float] | None = time.thread_time,
) -> Choice:
    """Decide on which host the guest goes, and on which nodes there; nothing is changed.

    Hosts that can hold it on fewer nodes come first, then the policy's order on hosts decides, and
    on the host its order on nodes. `membership` is the guest's group, `allowed` bars hosts by
    name. Where a host runs, `request` is decided on by the engine for single hosts, or the one that
    `requests` has for that host (whose cpus and devices may be others); `clock` limits its searches
    on very large ones.
    """
    chooser = chooser_of(hosts, policy)
    among, begins = hosts.everywhere, False
    if membership is not None:
        group = hosts.group(membership)
        among, begins = group.allowed(membership.domain, among), group.begins_together
    barred = []
    if allowed is not None:
        barred = [at for at in positions(among) if not allowed(hosts.hosts[at].name)]
        among &= ~sum(hosts.bit[at] for at in barred)
    rejected: list[Refusal] = []
    count = 0
    for bit, wanted in _in_order(chooser, request, among, begins=begins):
        host = bit.bit_length() - 1
        count = count or (hosts.holders(wanted) & among).bit_count()
        own = (requests or {}).get(hosts.hosts[host].name, request)
        found = _on(chooser, host, wanted, own, policy, clock)
        if isinstance(found, Refusal):
            rejected.append(found)
            continue
        return found._replace(reason=_why(policy, count, found), rejected=tuple(rejected))
    reason = _why_not(hosts, request, membership, among)
    rejected += [Refusal(hosts.hosts[at].name, "barred by what was asked for") for at in barred]
    return Choice(False, policy.name, reason, rejected=tuple(rejected))  # noqa: FBT003 - named in it


def chooser_of(hosts: Fleet, policy: FleetPolicy) -> Chooser:
    """Return the chooser of that policy, which follows the fleet; made once."""
    known = hosts.followers.get(policy)
    if not isinstance(known, Chooser):
        known = hosts.followers[policy] = Chooser(hosts, policy)
    return known


def _in_order(
    chooser: Chooser, request: GuestRequest, among: int, *, begins: bool
) -> Iterator[tuple[int, Alternative]]:
    fleet = chooser.fleet
    demand = fleet.demand(request)
    for wanted in demand.alternatives:
        hosts = fleet.holders(wanted) & among
        among &= ~hosts
        for bit in chooser.in_order(hosts, wanted, begins=begins):
            yield bit, wanted
    # An engine of its own may know a way that equal parts do not have.
    left = sum(fleet.bit[at] for at in positions(among) if fleet.hosts[at].view is not None)
    for bit in chooser.in_order(left, demand.alternatives[0]):
        yield bit, demand.alternatives[0]


def _on(  # noqa: PLR0913, PLR0917 - one host, one guest, one policy
    chooser: Chooser,
    host: int,
    wanted: Alternative,
    request: GuestRequest,
    policy: FleetPolicy,
    clock: Callable[[], float] | None,
) -> Choice | Refusal:
    fleet = chooser.fleet
    one = fleet.hosts[host]
    if one.view is None:
        found = chooser.place_on(host, wanted)
        if found is None:
            return Refusal(one.name, "its nodes cannot hold the parts at once")
        ids = fleet.kinds[fleet.kind_of[host]].ids
        nodes = NodeMap(ids[at] for at in found.ats)
        return Choice(True, policy.name, "", one.name, nodes, found)  # noqa: FBT003 - named in it
    asked = barring_full_nodes(fleet, host, request, wanted)
    decision = place_on_host(one.view, asked, policy.node, clock=clock)
    if not decision.fits:
        return Refusal(one.name, decision.reason)
    return Choice(True, policy.name, "", one.name, decision.nodes, None, decision)  # noqa: FBT003 - the same


def _why(policy: FleetPolicy, count: int, found: Choice) -> str:
    which = f"of {count} hosts that can hold it, the best by {policy.host.name}"
    if count == 0:
        which = f"in a way that equal parts do not have, the best host by {policy.host.name}"
    if count == 1:
        which = "the only host that can hold it"
    if found.decision is not None:
        return f"{which}; there, {found.decision.reason}"
    return f"{which}; there, the best of its nodes by {policy.node.name}"


def _why_not(hosts: Fleet, request: GuestRequest, membership: Membership | None, among: int) -> str:
    wanted = hosts.demand(request).alternatives[0]
    part, count = wanted.parts[0], len(wanted.parts)
    size = f"{part.vcpus} vcpus and {part.kib / (1 << 20):g} GiB"
    need = f"a node with {size}" if count == 1 else f"{count} nodes with {size} each"
    able = hosts.holders(wanted)
    if membership is not None and able & ~among:
        barred = (able & ~among).bit_count()
        return f"no host: {barred} have {need}, and group {membership.group!r} bars them"
    if able & ~among:
        return f"no host: {(able & ~among).bit_count()} have {need}, and are barred"
    if able & among:
        return f"no host: {(able & among).bit_count()} have {need}, and each refuses it"
    vcpus = hosts.holders_of(part._replace(kib=0), count).bit_count()
    memory = hosts.holders_of(part._replace(vcpus=0), count).bit_count()
    return (
        f"no host has {need}: of {hosts.count} hosts {vcpus} have the vcpus, {memory} the memory,"
        " and none both"
    )
