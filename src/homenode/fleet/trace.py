"""Arrival traces: which guests come and go, in which order. Columns, not objects.

Ten million guests fit into a few hundred megabytes so: what they want is kept once for all that
want the same.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from homenode.fleet.groups import Membership
from homenode.guest import GuestRequest

NO_MEMBERSHIP = -1


class Trace(NamedTuple):
    """Guests, numbered in the order in which they come, and what happens in which order.

    `wanted` has for each guest the number of its request among `requests`; `membership` the number
    of its group and domain among `memberships`, `NO_MEMBERSHIP` if it has none; empty if nobody
    has any. `events` are the numbers of guests that come, and ``~number`` of those that go, at
    `times_ms`, in milliseconds since the trace began, never descending. `synthetic` are the rules
    that supplied what the source does not have, a sentence each.
    """

    name: str
    source: str
    requests: tuple[GuestRequest, ...]
    wanted: Sequence[int]
    events: Sequence[int]
    times_ms: Sequence[int]
    memberships: tuple[Membership, ...] = ()
    membership: Sequence[int] = array("i")
    synthetic: tuple[str, ...] = ()

    @property
    def guests(self) -> int:
        """How many guests come."""
        return len(self.wanted)
