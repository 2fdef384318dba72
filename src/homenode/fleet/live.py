"""Hosts that run, as a fleet: seen once, each with its guests and claims.

What the index says of them is a first choice. Whether and where the guest fits is decided on each
by `homenode.placement`, which knows of hard affinity, pools, devices and virtual nodes as well.
"""

from collections.abc import Mapping
from fractions import Fraction

from homenode.bitmap import NodeMap
from homenode.fleet.demand import Alternative, Part
from homenode.fleet.hosts import Fleet, FleetHost, OverCommit
from homenode.guest import Guest, GuestRequest
from homenode.placement.view import View


def fleet_of(
    views: Mapping[str, View],
    over_commit: OverCommit | None = None,
    *,
    racks: Mapping[str, str] | None = None,
) -> Fleet:
    """Return the hosts seen in `views`, by name, in that order.

    Without `over_commit` any number of vcpus may share a cpu, as on a single host. Guests that run
    tell what kinds of them are to be expected.
    """
    over_commit = over_commit or OverCommit(vcpus=None, memory=Fraction(1))
    hosts = [
        FleetHost(name, view.host, (racks or {}).get(name), view, _guests(view), _used(view))
        for name, view in views.items()
    ]
    fleet = Fleet(hosts, over_commit)
    for view in views.values():
        for guest in view.guests:
            request = _as_it_came(view, guest)
            if request is not None:
                fleet.count_in(request)
    return fleet


def _as_it_came(view: View, guest: Guest) -> GuestRequest | None:
    # What runs tells what is to be expected; None of dom0 and of what is not known.
    if guest.is_control or not guest.vcpus or not guest.memory_kib:
        return None
    nodes = view.nodes_of_guest(guest) or NodeMap()
    count = max(1, min(len(nodes), len(guest.vcpus)))
    return GuestRequest("seen", len(guest.vcpus), guest.memory_kib, node_count=count)


def _guests(view: View) -> int:
    return sum(1 for guest in view.guests if not guest.is_control)


def _used(view: View) -> tuple[Part, ...]:
    # Free memory is what is left already: only what is promised of it is to be taken off.
    host = view.host
    ids = list(host.nodes_of(host.cpu_map))
    at_home = dict.fromkeys(ids, 0)
    for guest in view.guests:
        if guest.is_control:
            continue
        homes = [node for node in view.nodes_of_guest(guest) or ids if node in at_home] or ids
        for place, _ in enumerate(guest.vcpus):
            at_home[homes[place % len(homes)]] += 1
    return tuple(Part(at_home[node], _owed(view, node)) for node in ids)


def _owed(view: View, node: int) -> int:
    usable = view.host.nodes_by_id[node].usable_kib or 0
    return min(usable, view.owed_kib(node))


def barring_full_nodes(
    fleet: Fleet, host: int, request: GuestRequest, wanted: Alternative
) -> GuestRequest:
    """Return the request without the nodes of `host` that lack vcpus for the least of `wanted`.

    The engine for single hosts counts how many share a cpu, and does not limit it.
    """
    if fleet.over_commit.vcpus is None:
        return request
    least = min(part.vcpus for part in wanted.parts)
    states = fleet.states[fleet.first[host] : fleet.first[host + 1]]
    ids = fleet.kinds[fleet.kind_of[host]].ids
    full = NodeMap(node for node, own in zip(ids, states, strict=True) if own.vcpus < least)
    return request._replace(excluded=request.excluded | full)
