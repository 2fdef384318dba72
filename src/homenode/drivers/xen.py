"""A Xen host through ``xl``: ``xen:///`` is this dom0, ``xen+ssh://[user@]host[:port]/`` another.

Looking takes a handful of xl's lists; the free memory of the nodes is asked for last, so that
memory which a guest gets in between counts as missing twice rather than not at all. Where a
guest's memory is, none of the lists tell. What homenode has seen of it is remembered in the
ledger of the host (``/run/homenode``), for the domain that it was seen of; `XenDriver.pages`
has Xen count, which is dear.

What is said here of xl was tried with 4.17.
"""

from collections.abc import Callable, Mapping, Sequence
from threading import current_thread, get_ident, main_thread
from time import sleep, time
from typing import TYPE_CHECKING

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers import xen_snapshot
from homenode.drivers.base import Abilities, Look, Masks, Moving, Shrunk, Snapshot
from homenode.drivers.gateway import Gateway
from homenode.drivers.xen_dom0 import Dom0
from homenode.drivers.xl import Xl
from homenode.errors import HomenodeError, HypervisorError, Undone
from homenode.formats import xen_debug_keys, xl_list
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest, GuestRequest, Vcpu
from homenode.keeper_record import Record, known, record_file
from homenode.ledger import Ledger, Remembered
from homenode.placement.decision import Decision, Warned
from homenode.placement.view import ShareRule
from homenode.rules import xen as rules
from homenode.units import format_memory

if TYPE_CHECKING:
    from homenode.drivers.watching import Watcher
    from homenode.formats.guest_file import GuestFile

STATE = "/run/homenode"
"""The folder of homenode's own files on a host: they need not outlive its next boot."""

CREATE_S = 600.0
CREATE_S_PER_GIB = 2.0
"""How long ``xl create`` may take: it waits for other creations, and for memory to be cleared."""

LOCK_S = 300.0
"""How long to wait for others that decide: each takes as long as a look at the host."""

DUMP_S = 15.0
DUMP_PAUSE_S = 0.1

MOST_DUMPED_KIB = 64 << 20
"""More memory of guests than this is only counted by force."""

DUMP_NS_PER_PAGE = 20
"""What Xen takes to count one page with the guest's list of pages locked (estimated: one access
to memory that is in no cache)."""

_TRIES = 3

_NOT_PINNED = "Could not set affinity"

_CREATE = 'echo $$ > "$0.pid"; exec xl create "$0"'
_CREATED = 'rm -f "$0.pid"'
_GIVE_UP = 'test -f "$0.pid" && kill "$(cat "$0.pid")" 2>/dev/null; rm -f "$0.pid" "$0"'
"""Shell, given the path of the config as ``$0``: it leaves the number of xl's process, so that
another connection can end it. The config stays, for the day when the guest is moved."""

_LARGEST_CONFIG = 4 << 20

_GUESTS = (xen_snapshot.LIST, xen_snapshot.CLAIMS, xen_snapshot.VCPUS, xen_snapshot.POOL_CPUS)


class XenDriver:
    """The Xen host behind `gateway`; `clock` gives seconds since the epoch."""

    def __init__(self, gateway: Gateway, *, uri: str, clock: Callable[[], float] = time) -> None:
        self.uri = uri
        self.gateway = gateway
        self._xl = Xl(gateway)
        self._clock = clock
        self._ledger: Ledger | None = None
        self._cpus = CpuMap()
        self._gateways: dict[int, Gateway | None] = {}

    abilities = Abilities()

    @property
    def ledger(self) -> Ledger:
        """The ledger of the host; it is over there."""
        if self._ledger is None:
            boot = self.gateway.run(["cat", "/proc/sys/kernel/random/boot_id"])
            self._ledger = Ledger(
                f"{STATE}/ledger.json",
                boot_id=boot.stdout.strip() or "unknown",
                clock=self._clock,
                wait_s=LOCK_S,
                storage=self.gateway.storage,
                creator=self.gateway.process(),
                lives=self.gateway.lives,
            )
        return self._ledger

    @property
    def share_rule(self) -> ShareRule:
        """Xen's."""
        return rules.memory_shares

    def snapshot(self, look: Look = "full") -> Snapshot:
        """Look at the host and its guests, again if they changed meanwhile."""
        for _ in range(_TRIES):
            outputs = self._guests(look)
            if look == "creation":
                outputs |= self._dumped("H", xen_debug_keys.HEAP_TITLE, xen_snapshot.DUMP_HEAP)
            outputs[xen_snapshot.INFO] = self._printed(xen_snapshot.INFO)
            seen = xen_snapshot.snapshot_of(outputs, source=self.uri)
            if all(guest.memory_kib is not None for guest in seen.guests):
                break  # else one of the later lists has a guest that the first had not
        return self._with_what_is_remembered(seen)

    def pages(self, *, force: bool = False) -> Snapshot:
        """Look where every page is (``xl debug-keys u``), and remember it.

        Raises `HomenodeError` for guests of more than `MOST_DUMPED_KIB` in all without `force`,
        `HypervisorError` if Xen's log does not show what it counted.
        """
        kib = sum(guest.memory_kib or 0 for guest in self.snapshot("guests").guests)
        if kib > MOST_DUMPED_KIB and not force:
            raise HomenodeError(
                f"{self.uri}: the guests have {format_memory(kib)}, and counting where their pages"
                f" are would hold up the host for some {dump_stall_s(kib):.1f} s",
                hint="--force counts them all the same",
            )
        outputs = self._guests("full")
        dump = self._dumped("u", xen_debug_keys.NUMA_TITLE, xen_snapshot.DUMP_NUMA)
        if not dump:
            raise HypervisorError(
                f"{self.uri}: Xen's log does not show what was counted: it is too small, or others"
                " write to it",
                hint="conring_size= on Xen's command line makes it larger",
            )
        outputs |= dump
        outputs |= self._dumped("H", xen_debug_keys.HEAP_TITLE, xen_snapshot.DUMP_HEAP)
        outputs[xen_snapshot.INFO] = self._printed(xen_snapshot.INFO)
        seen = xen_snapshot.snapshot_of(outputs, source=self.uri)
        dated = tuple(self._dated(guest) for guest in seen.guests)
        self._remember_memory(dated)
        return self._with_what_is_remembered(Snapshot(seen.host, dated))

    def vcpus(self) -> Mapping[int, Sequence[Vcpu]]:
        """Return the vcpus by the id of their guest, as they are at this moment."""
        text = self._printed(xen_snapshot.VCPUS)
        if not self._cpus:
            self._cpus = self.snapshot("guests").host.cpu_map
        rows = xl_list.parse_vcpu_list(text, cpus=self._cpus, source=f"{self.uri}: xl vcpu-list")
        listed: dict[int, list[Vcpu]] = {}
        for row in rows:
            listed.setdefault(row.guest_id, []).append(row.vcpu)
        return listed

    def running(self, guest_id: int | None = None) -> list[xl_list.Running]:
        """Return who runs and waits where, of one guest or of all; offline vcpus too."""
        words = ["vcpu-list"] if guest_id is None else ["vcpu-list", str(guest_id)]
        return xl_list.parse_running(self._xl(*words), source=f"{self.uri}: xl vcpu-list")

    def watcher(self) -> "Watcher":
        """Return what watches the vcpus for the keeper."""
        from homenode.drivers.xen_watch import XenWatcher  # noqa: PLC0415 - only for the keeper

        return XenWatcher(self)

    def uuid_of(self, name: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return nothing: xl knows no guest that does not run."""
        return None

    def create(
        self,
        request: GuestRequest,
        decision: Decision,
        config: "GuestFile",
        kept: "GuestFile",  # noqa: ARG002 - xl knows no guest that has ended
    ) -> None:
        """Have xl create the guest of `config`; if that fails nothing stays."""
        if not decision.fits or request.uuid is None:
            raise HomenodeError(f"{request.name!r} is not placed, so it is not created")
        path = self._config_path(request.uuid)
        xl = Xl(self._own_gateway())
        xl.gateway.storage.replace(path, config.text.encode())
        try:
            self._run_xl(xl, path, request)
        except BaseException as error:
            left = _take_away(xl, request.uuid, path)
            if left and isinstance(error, HomenodeError):
                raise Undone(f"{error}; what was there of it is destroyed") from None
            raise
        xl.gateway.run(["sh", "-c", _CREATED, path])

    def _own_gateway(self) -> Gateway:
        """Return a gateway for this thread: a connection serves one at a time."""
        if current_thread() is main_thread():
            return self.gateway
        own = self._gateways.setdefault(get_ident(), None) or self.gateway.another()
        self._gateways[get_ident()] = own
        return own

    def _run_xl(self, xl: Xl, path: str, request: GuestRequest) -> None:
        """Have xl create the guest of the config at `path`; raises if it does not."""
        timeout_s = CREATE_S + CREATE_S_PER_GIB * request.memory_kib / (1 << 20)
        xl.checked(["sh", "-c", _CREATE, path], "create", timeout_s=timeout_s)

    def make_room(self, kib: int) -> Shrunk | None:
        """Have dom0 give up so much memory, where xl itself would; see `xen_dom0`."""
        return Dom0(self.gateway).shrink(kib)

    def give_back(self, kib: int) -> None:
        """Let dom0 have `kib` again."""
        Dom0(self.gateway).set(kib)

    def destroy(self, guest: Guest) -> None:
        """Stop the guest at once."""
        if guest.is_control:
            raise HypervisorError(f"{guest.name!r} runs this host and cannot be destroyed")
        self._xl("destroy", str(guest.id))
        self.gateway.run(["rm", "-f", self._config_path(str(guest.uuid))])

    def forget(self, uuid: str) -> None:
        """Do nothing: nothing is kept."""

    def pin(self, guest: Guest, masks: Sequence[Masks]) -> None:
        """Set the masks of the guest's vcpus by ``xl vcpu-pin``."""
        before = tuple(Masks(vcpu.hard, vcpu.soft) for vcpu in guest.vcpus)
        changes = [
            (vcpu.id, mask, old)
            for vcpu, mask, old in zip(guest.vcpus, masks, before, strict=True)
            if mask != old
        ]
        if len(changes) == len(before) and len({mask for _, mask, _ in changes}) == 1:
            self._pin(guest, "all", masks[0])
            return
        for done, (vcpu, mask, _) in enumerate(changes):
            try:
                self._pin(guest, str(vcpu), mask)
            except HypervisorError as error:
                if not done:
                    raise
                for earlier, _, old in changes[:done]:
                    self._pin(guest, str(earlier), old)
                raise Undone(f"{error}; the masks are set back") from None

    def move(
        self,
        guest: Guest,
        masks: Sequence[Masks],
        how: Moving = Moving(),  # noqa: B008 - immutable
    ) -> tuple[Warned, ...]:
        """Migrate the guest onto its own host, or save and restore it; see `xen_move`.

        Without a config the one that homenode created it from is taken.
        """
        from homenode.drivers.xen_move import Mover  # noqa: PLC0415 - only here

        if guest.is_control:
            raise HypervisorError(f"{guest.name!r} runs this host and cannot be moved")
        path = self._config_path(str(guest.uuid))
        config = how.config
        if config is None:
            kept = self.gateway.storage.read(path, most=_LARGEST_CONFIG)
            if kept is None:
                raise HomenodeError(
                    f"homenode did not create {guest.name!r}, and xl wants its config to move it",
                    hint="--config FILE names it",
                )
            config = GuestConfig.parse(kept.decode(errors="replace"), source=path)
        text = config.edited({"uuid": guest.uuid, "name": guest.name})
        Mover(self, guest, masks, GuestConfig.parse(text, source=config.source)).move(folder=STATE)
        return ()

    def move_warning(self, guest: Guest) -> str | None:
        """Return what the move costs: a pause, or all of its time in a file."""
        size = format_memory(guest.memory_kib)
        return (
            f"{guest.name!r} ({size}) is migrated onto this host itself, if Xen can and has room"
            " for it twice, or else stands still while it is saved and restored"
        )

    @staticmethod
    def _config_path(uuid: str) -> str:
        return f"{STATE}/{uuid}.cfg"

    def _pin(self, guest: Guest, vcpu: str, mask: Masks) -> None:
        words = ["vcpu-pin", str(guest.id), vcpu, str(mask.hard), str(mask.soft)]
        output = self._xl.run(words)
        # For all vcpus at once it ends with status 0 also when it failed.
        if output.status or _NOT_PINNED in output.stderr:
            raise self._xl.refusal(words, output)

    # --- looking ---

    def _printed(self, name: str) -> str:
        return self._xl(*xen_snapshot.OUTPUTS[name].split()[1:])

    def _guests(self, look: Look) -> dict[str, str]:
        outputs = {name: self._printed(name) for name in _GUESTS}
        if len(outputs[xen_snapshot.POOL_CPUS].splitlines()) > 2:
            # The scheduler of a single cpupool is the host's.
            outputs[xen_snapshot.POOLS] = self._printed(xen_snapshot.POOLS)
        if look == "full":
            outputs[xen_snapshot.LIST_CONFIGURED] = self._printed(xen_snapshot.LIST_CONFIGURED)
        return outputs

    def _dumped(self, key: str, title: str, name: str) -> dict[str, str]:
        """Have Xen print into its log; nothing if that cannot be found there."""
        earlier = xen_debug_keys.dumped_at(self._xl("dmesg"), title)
        self._xl("debug-keys", key)
        for _ in range(int(DUMP_S / DUMP_PAUSE_S)):
            text = self._xl("dmesg")
            now = xen_debug_keys.dumped_at(text, title)
            if now is not None and now != earlier:
                return {name: text}
            sleep(DUMP_PAUSE_S)
        return {}

    def _dated(self, guest: Guest) -> Guest:
        memory = guest.memory_by_node
        if memory is None:
            return guest
        return guest._replace(memory_by_node=memory._replace(taken_at=self._clock()))

    def _remember_memory(self, guests: Sequence[Guest]) -> None:
        with self.ledger.lock():
            entries = self.ledger.entries()
            for guest in guests:
                if guest.uuid is not None and guest.memory_by_node and not guest.is_control:
                    known = entries.of(guest.uuid) or Remembered(guest.uuid)
                    self.ledger.remember(
                        known._replace(
                            id=guest.id,
                            memory=guest.memory_by_node,
                            memory_kib=guest.memory_kib,
                        )
                    )

    def _with_what_is_remembered(self, seen: Snapshot) -> Snapshot:
        entries = self.ledger.entries()
        pending = {claim.uuid for claim in entries.claims if claim.state == "pending"}
        recorded = Record(
            record_file(self.ledger.path, storage=self.gateway.storage), boot_id=self.ledger.boot_id
        ).read_or_nothing()
        guests = []
        for guest in seen.guests:
            seen_guest = known(guest, entries, recorded)
            # Until it is unpaused, at the very end, a guest is being built.
            building = guest.uuid in pending and guest.state == "paused"
            guests.append(seen_guest._replace(state="building") if building else seen_guest)
        return Snapshot(seen.host.replace(taken_at=self._clock()), tuple(guests))


def _take_away(xl: Xl, uuid: str, path: str) -> bool:
    """Leave nothing of a guest whose creation failed; return whether there was anything.

    xl that is ended leaves its guest half built, and may still be at it behind a connection that
    is gone.
    """
    try:
        xl.gateway.run(["sh", "-c", _GIVE_UP, path])
        rows = xl_list.parse_list(xl("list", "-v"), nodes=NodeMap(), source="xl list -v")
        left = [row for row in rows if row.uuid == uuid]
        for row in left:
            xl("destroy", str(row.id))
    except HomenodeError:
        return False  # the first error is what the user has to hear of
    return bool(left)


def dump_stall_s(kib: int) -> float:
    """Return for how long counting the pages of guests with so much memory holds up the host."""
    return kib / rules.PAGE_KIB * DUMP_NS_PER_PAGE / 1e9
