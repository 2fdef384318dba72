"""What the keeper asks of a hypervisor: a cheap look once a round, and masks of vcpus set.

A `Watcher` looks at all guests at once, for the price of one list; what costs more (where memory
is, pools, new guests' files) is looked at when guests came or went, or when it is asked for.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from homenode.bitmap import CpuMap
from homenode.guest import Guest
from homenode.host import Host
from homenode.keeper_record import MaskKind


class Lodger(NamedTuple):
    """A guest that runs, as the keeper knows it.

    `key` is its uuid, or its name if it has none. `instance` tells this run of it from an earlier
    or later one under that uuid.
    """

    key: str
    instance: str
    guest: Guest
    kind: MaskKind = "hard"


class Use(NamedTuple):
    """What a vcpu did since the look before: shares of that time, and the node it was seen on.

    `mask` is what its mask is now, None if that was not looked at.
    """

    ran: float
    waited: float
    node: int | None
    mask: CpuMap | None


class Sight(NamedTuple):
    """What one look showed. `seconds` have passed since the look before, 0 at the first.

    `uses` are by guest (`Lodger.key`) and vcpu, of vcpus that are online and were there before.
    `busy` are the cpus of each node that anybody used. `usual` are the cpus that a vcpu may use if
    nobody has said otherwise. `whole` is whether the guests were looked at wholly.
    """

    seconds: float
    host: Host
    lodgers: Sequence[Lodger]
    uses: Mapping[tuple[str, int], Use]
    busy: Mapping[int, float]
    usual: CpuMap
    whole: bool


class Watcher(Protocol):
    """Looks at the vcpus of a host, and sets their masks."""

    def look(self, *, wholly: bool) -> Sight:
        """Look at all vcpus; at the guests as well if any came or went, or if that is asked for."""

    def masks(self, lodger: Lodger) -> Mapping[int, CpuMap] | None:
        """Return the masks of the guest's vcpus at this moment; None if that run of it is over."""

    def set(self, lodger: Lodger, masks: Mapping[int, CpuMap]) -> None:
        """Set the masks of these vcpus of a guest, all or none.

        Raises `HypervisorError` if it is refused, or the guest is gone.
        """
