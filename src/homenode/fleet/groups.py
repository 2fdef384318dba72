"""Guests that belong together, or apart: what a group's earlier members leave to the next one.

`affinity`: all on one host. `anti-affinity`: no two on a host. `fault-domain`: each member has a
domain, and members of different domains are in different racks.
"""

from collections.abc import Hashable
from typing import Final, Literal, NamedTuple, TypeVar, get_args

_Key = TypeVar("_Key", bound=Hashable)

GroupRule = Literal["affinity", "anti-affinity", "fault-domain"]
GROUP_RULES: Final[tuple[GroupRule, ...]] = get_args(GroupRule)


class Membership(NamedTuple):
    """The group that a guest belongs to, and its domain in it (fault domains alone have one)."""

    group: str
    rule: GroupRule
    domain: str = ""


class Group:
    """Where the members of one group are; hosts are bits of an int, as in `Fleet`."""

    __slots__ = ("_domains", "_hosts", "_rack_of", "_racks", "_taken", "rule")

    def __init__(self, rule: GroupRule, rack_of: list[int], racks: dict[int, int]) -> None:
        """Begin an empty group; `rack_of` has the rack of each host, `racks` the hosts of each."""
        self.rule = rule
        self._rack_of = rack_of
        self._racks = racks
        self._hosts: dict[int, int] = {}
        self._taken = 0
        self._domains: dict[tuple[int, str], int] = {}

    def allowed(self, domain: str, everywhere: int) -> int:
        """Return the hosts of `everywhere` that a new member of that domain may be on."""
        if self.rule == "fault-domain":
            barred = 0
            for rack, other in self._domains:
                if other != domain:
                    barred |= self._racks[rack]
            return everywhere & ~barred
        if self.rule == "anti-affinity":
            return everywhere & ~self._taken
        return everywhere & self._taken if self._taken else everywhere

    @property
    def begins_together(self) -> bool:
        """Whether the next member will say where all that follow have to be."""
        return self.rule == "affinity" and not self._hosts

    def join(self, host: int, domain: str) -> None:
        """Count a member on `host`."""
        self._hosts[host] = self._hosts.get(host, 0) + 1
        self._taken |= 1 << host
        place = self._rack_of[host], domain
        self._domains[place] = self._domains.get(place, 0) + 1

    def leave(self, host: int, domain: str) -> None:
        """Count it no more."""
        _less(self._hosts, host)
        if host not in self._hosts:
            self._taken ^= 1 << host
        _less(self._domains, (self._rack_of[host], domain))


def _less(counts: dict[_Key, int], key: _Key) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1
