"""Many hosts: choosing a host and nodes on it together, and replaying arrivals.

::

    fleet = Fleet([FleetHost("one", host), FleetHost("two", host)])
    choice = place(fleet, request, fleet_policy("pack/balanced"))
    if choice.place is not None:
        fleet.take(choice.place)

`homenode.fleet.replay` does that for a whole trace, `homenode.fleet.sweep` for many of them.
"""

from homenode.fleet.groups import Membership
from homenode.fleet.hosts import Fleet, FleetHost, OverCommit, Place
from homenode.fleet.placing import Choice, place
from homenode.fleet.policies import FleetPolicy, fleet_policy

__all__ = [
    "Choice",
    "Fleet",
    "FleetHost",
    "FleetPolicy",
    "Membership",
    "OverCommit",
    "Place",
    "fleet_policy",
    "place",
]
