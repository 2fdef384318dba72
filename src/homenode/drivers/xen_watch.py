"""Watching the vcpus of a Xen host for the keeper: one ``xl vcpu-list`` a round.

It tells for how long each vcpu has run, in tenths of a second, what it does at this moment, where
it was last, and its masks. How long it waited Xen counts (its run states), and no command of xl
shows that; see `homenode.drivers.waiting` for how it is found out.

Under credit, which heeds soft affinity, soft masks are set; under others hard ones. ``xl
vcpu-pin`` changes a running domain only: the file that libxl keeps of it, and sends along when it
is migrated, has the masks that it was created with.
"""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic

from homenode.bitmap import CpuMap
from homenode.drivers.base import Masks, Snapshot
from homenode.drivers.waiting import Waiting
from homenode.drivers.watching import Lodger, Sight, Use
from homenode.drivers.xen import XenDriver
from homenode.errors import HypervisorError
from homenode.formats.xl_list import Running
from homenode.guest import Guest
from homenode.host import Host
from homenode.keeper_record import MaskKind

_HEEDING = ("credit",)
"""Schedulers that heed soft affinity."""

_Key = tuple[int, int]


class XenWatcher:
    """Watches the guests of `driver`; `clock` is in seconds, from anywhere."""

    def __init__(self, driver: XenDriver, *, clock: Callable[[], float] = monotonic) -> None:
        self._driver = driver
        self._clock = clock
        self._seen: Snapshot | None = None
        self._lodgers: tuple[Lodger, ...] = ()
        self._times: dict[_Key, int] = {}
        self._rows: dict[_Key, Running] = {}
        self._at_s = 0.0
        self._waiting = Waiting()
        self._maps: dict[str, CpuMap] = {}
        self._node_of: dict[int, int] = {}

    def look(self, *, wholly: bool) -> Sight:
        """Look at all vcpus, and at the guests if one came or went."""
        began = self._clock()
        rows = self._driver.running()
        now_s = (began + self._clock()) / 2
        there = {row.guest_id for row in rows}
        known = {lodger.guest.id for lodger in self._lodgers}
        seen = self._seen
        whole = wholly or seen is None or bool(there ^ known)
        if seen is None or whole:
            seen = self._seen = self._looked_wholly()
        seconds = now_s - self._at_s if self._times else 0.0
        uses, busy = self._used(rows, seen.host, seconds)
        self._at_s = now_s
        self._rows = {(row.guest_id, row.vcpu): row for row in rows}
        self._times = {key: row.time_ns for key, row in self._rows.items()}
        self._waiting.forget(set(self._times))
        return Sight(seconds, seen.host, self._lodgers, uses, busy, seen.host.cpu_map, whole)

    def _looked_wholly(self) -> Snapshot:
        seen = self._driver.snapshot("guests")
        self._lodgers = tuple(
            Lodger(guest.uuid or guest.name, str(guest.id), guest, _kind(guest, seen.host))
            for guest in seen.guests
        )
        self._node_of = {cpu.id: cpu.node for cpu in seen.host.cpus if cpu.node is not None}
        self._maps.clear()
        return seen

    def _used(
        self, rows: Sequence[Running], host: Host, seconds: float
    ) -> tuple[dict[tuple[str, int], Use], dict[int, float]]:
        busy = dict.fromkeys(host.nodes_by_id, 0.0)
        by_id = {lodger.guest.id: lodger for lodger in self._lodgers}
        uses: dict[tuple[str, int], Use] = {}
        for row in rows:
            before = self._times.get((row.guest_id, row.vcpu))
            if before is None or seconds <= 0 or row.cpu is None:
                continue
            ran = min(1.0, max(0.0, (row.time_ns - before) / 1e9 / seconds))
            node = self._node_of.get(row.cpu)
            if node is not None:
                busy[node] += ran
            lodger = by_id.get(row.guest_id)
            if lodger is None:
                continue
            waited = self._waiting.waited((row.guest_id, row.vcpu), ran=ran, state=row.state)
            mask = row.hard if lodger.kind == "hard" else row.soft
            uses[lodger.key, row.vcpu] = Use(ran, waited, node, self._map(mask, host))
        return uses, busy

    def _map(self, text: str, host: Host) -> CpuMap:
        known = self._maps.get(text)
        if known is None:
            known = host.cpu_map if text == "all" else CpuMap()
            if text not in ("all", "none"):
                known = CpuMap.parse(text) & host.cpu_map
            self._maps[text] = known
        return known

    def masks(self, lodger: Lodger) -> Mapping[int, CpuMap] | None:
        """Return the masks of the guest's vcpus at this moment."""
        try:
            rows = self._driver.running(lodger.guest.id)
        except HypervisorError:
            if any(row.guest_id == lodger.guest.id for row in self._driver.running()):
                raise
            return None
        self._rows |= {(row.guest_id, row.vcpu): row for row in rows}
        return {row.vcpu: getattr(self._pair(row), lodger.kind) for row in rows}

    def _pair(self, row: Running) -> Masks:
        host = (self._seen or self._looked_wholly()).host
        return Masks(self._map(row.hard, host), self._map(row.soft, host))

    def set(self, lodger: Lodger, masks: Mapping[int, CpuMap]) -> None:
        """Set masks by ``xl vcpu-pin``, upon those that were seen last; all of them or none."""
        guest = lodger.guest
        vcpus, wanted = [], []
        for vcpu in guest.vcpus:
            row = self._rows.get((guest.id or 0, vcpu.id))
            if row is None:
                continue
            now = self._pair(row)
            vcpus.append(vcpu._replace(hard=now.hard, soft=now.soft))
            mask = masks.get(vcpu.id)
            wanted.append(now if mask is None else now._replace(**{lodger.kind: mask}))
        self._driver.pin(guest._replace(vcpus=tuple(vcpus)), wanted)


def _kind(guest: Guest, host: Host) -> MaskKind:
    return "soft" if host.pool(guest.pool).scheduler in _HEEDING else "hard"
