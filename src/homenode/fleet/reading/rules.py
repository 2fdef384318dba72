"""Rules that supply what a trace does not have, or leave out what nobody wants of it.

What they supply is synthetic, and a trace says so in a sentence each (`Trace.synthetic`).
"""

from typing import NamedTuple

from homenode.errors import HomenodeError
from homenode.formats.host_toml import MOST_NODES
from homenode.formats.table import LARGEST_NUMBER


class Rules(NamedTuple):
    """What to do with a trace while it is read.

    `seed` is that of everything drawn. `wide`, as (vcpus, nodes): where the source does not say
    on how many nodes a guest is, one with at least so many vcpus is on so many. `lifetimes`: in
    a trace without departures each guest stays for so many arrivals in the mean, exponentially
    distributed. `first`: only so many guests come, the first ones. Without `groups` nobody has to
    be with, or apart from, anybody.
    """

    seed: int = 1
    wide: tuple[int, int] | None = None
    lifetimes: int | None = None
    first: int | None = None
    groups: bool = True

    def check(self) -> None:
        """Raise `HomenodeError` for a rule that no trace can be read by."""
        if self.wide is not None:
            vcpus, nodes = self.wide
            if not 1 <= nodes <= min(vcpus, MOST_NODES) or vcpus > LARGEST_NUMBER:
                raise HomenodeError(
                    f"guests of {vcpus} vcpus cannot be on {nodes} nodes",
                    hint="a guest has a vcpu at least on each of its nodes",
                )
        for name, value in (("lifetimes", self.lifetimes), ("first", self.first)):
            if value is not None and not 1 <= value <= LARGEST_NUMBER:
                raise HomenodeError(f"{name}: {value} is not from 1 to {LARGEST_NUMBER}")
