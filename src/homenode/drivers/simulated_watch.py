"""Watching the vcpus of a simulated host, which run as an ideal scheduler would have them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from homenode.bitmap import CpuMap
from homenode.drivers.base import Masks, Snapshot
from homenode.drivers.simulated_load import Load
from homenode.drivers.watching import Lodger, Sight, Use
from homenode.errors import Conflict, HypervisorError
from homenode.scheduler.fluid import Wish, shared

if TYPE_CHECKING:
    from homenode.drivers.simulated import SimulatedDriver

_Key = tuple[str, int]


class SimulatedWatcher:
    """Watches the guests of `driver`, which do what `load` says; `clock` is in seconds."""

    def __init__(
        self, driver: "SimulatedDriver", load: Load, *, clock: Callable[[], float]
    ) -> None:
        self._driver = driver
        self._load = load
        self._clock = clock
        self._seen: Snapshot | None = None
        self._written: tuple[int, int] | None = None
        self._at_s: float | None = None
        self._nodes: dict[_Key, int] = {}

    def look(self, *, wholly: bool) -> Sight:
        """Look at all vcpus, as they have run since the look before."""
        now_s = self._clock()
        seconds = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        seen, changed = self._looked()
        lodgers = tuple(
            Lodger(guest.uuid or guest.name, str(guest.id), guest) for guest in seen.guests
        )
        cpus = {node: len(own) for node, own in seen.host.cpus_by_node.items()}
        wishes: dict[_Key, Wish] = {}
        masks: dict[_Key, CpuMap] = {}
        for lodger in lodgers:
            for vcpu in lodger.guest.vcpus:
                key = lodger.key, vcpu.id
                masks[key] = vcpu.hard
                control = lodger.guest.is_control
                wants = 0.0 if control else self._load(lodger.guest.name, vcpu.id, now_s)
                nodes = seen.host.nodes_of(vcpu.hard)
                wishes[key] = Wish(wants, nodes, self._nodes.get(key))
        uses: dict[_Key, Use] = {}
        busy = dict.fromkeys(cpus, 0.0)
        for key, share in zip(wishes, shared(tuple(wishes.values()), cpus), strict=True):
            if share.node is not None:
                self._nodes[key] = share.node
                busy[share.node] += share.ran
            if seconds > 0:
                uses[key] = Use(share.ran, share.waited, share.node, masks[key])
        usual = seen.host.cpu_map
        return Sight(seconds, seen.host, lodgers, uses, busy, usual, wholly or changed)

    def _looked(self) -> tuple[Snapshot, bool]:
        """Return the host and its guests, and whether anything in them has changed."""
        written = self._driver.written()
        if self._seen is not None and written == self._written:
            return self._seen, False
        self._seen, self._written = self._driver.snapshot(), written
        return self._seen, True

    def masks(self, lodger: Lodger) -> Mapping[int, CpuMap] | None:
        """Return the masks of the guest's vcpus at this moment."""
        seen, _ = self._looked()
        for guest in seen.guests:
            if guest.uuid == lodger.guest.uuid and str(guest.id) == lodger.instance:
                return {vcpu.id: vcpu.hard for vcpu in guest.vcpus}
        return None

    def set(self, lodger: Lodger, masks: Mapping[int, CpuMap]) -> None:
        """Set masks as ``xl vcpu-pin`` does."""
        now = self.masks(lodger)
        if now is None:
            raise HypervisorError(f"{lodger.guest.name!r} is gone")
        wanted = [Masks(masks.get(vcpu.id, now[vcpu.id]), vcpu.soft) for vcpu in lodger.guest.vcpus]
        try:
            self._driver.pin(lodger.guest, wanted)
        except Conflict as error:
            raise HypervisorError(error.message) from None
