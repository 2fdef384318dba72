"""The protocol of a hypervisor: what every driver can do, or says that it cannot.

A driver carries out and looks; it holds no policy. Looking has a price, so how closely to look is
said each time (`Look`), and the dear way is only ever taken when it was asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from homenode.bitmap import CpuMap
from homenode.errors import HomenodeError
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest, GuestRequest, Vcpu
from homenode.host import Host
from homenode.placement.decision import Decision, Warned
from homenode.placement.view import ShareRule

if TYPE_CHECKING:
    from homenode.drivers.watching import Watcher
    from homenode.formats.guest_file import GuestFile
    from homenode.ledger import Ledger

Look = Literal["guests", "creation", "full"]
"""How closely to look: at what places guests (``guests``: milliseconds); at that and at the free
memory that is not to be had yet (``creation``); or at the guests' types and limits as well
(``full``)."""


class Snapshot(NamedTuple):
    """A host and its guests, seen together."""

    host: Host
    guests: tuple[Guest, ...]

    def guest(self, name: str) -> Guest | None:
        """Return the guest with that name, if it runs here."""
        return next((guest for guest in self.guests if guest.name == name), None)

    def again(self, guest: Guest) -> Guest | None:
        """Return the same guest as it is in this snapshot, if it is there."""
        if guest.uuid is None:
            return self.guest(guest.name)
        return next((other for other in self.guests if other.uuid == guest.uuid), None)


class Masks(NamedTuple):
    """What a vcpu may use and what it prefers, as it is to become."""

    hard: CpuMap
    soft: CpuMap


class Abilities(NamedTuple):
    """What a hypervisor can do, where they differ.

    `files` is the form of the guests' files that it takes. `prefers` is whether vcpus can prefer
    cpus (soft affinity); if not, they are held to them. `moves` is whether memory can follow a
    guest on-line, so that changing its affinity brings it along. `waits` is whether looking may
    wait for someone who waits for the ledger: then one looks before that is locked.
    """

    files: Literal["xl", "libvirt"] = "xl"
    prefers: bool = True
    moves: bool = False
    waits: bool = False


class Moving(NamedTuple):
    """How the memory of a guest is to be moved.

    `shares` are the KiB that are to be on each node at the end, or may be; none are the nodes that
    the masks are of. `config` is the guest's, where homenode has not created it from one. Not more
    than `rate_kib_s` are moved in a second (None: as fast as it goes), and `progress` is told the
    KiB that are done, and all.
    """

    shares: Mapping[int, int] = {}
    config: GuestConfig | None = None
    rate_kib_s: int | None = None
    progress: Callable[[int, int], None] | None = None


class Shrunk(NamedTuple):
    """What the control domain had, and has now, in KiB."""

    before_kib: int
    now_kib: int


class Driver(Protocol):
    """One hypervisor, or a description of one."""

    uri: str

    @property
    def abilities(self) -> Abilities:
        """What this hypervisor can do."""

    @property
    def ledger(self) -> "Ledger | None":
        """The ledger of this host; None where nothing can be created (read-only drivers)."""

    @property
    def share_rule(self) -> ShareRule:
        """How this hypervisor spreads a guest's memory over the nodes it may use."""

    def snapshot(self, look: Look = "full") -> Snapshot:
        """Look at the host and its guests."""

    def pages(self, *, force: bool = False) -> Snapshot:
        """Look where every page of every guest is, which may hold up the host for a while.

        Raises `HomenodeError` if that would take too long and `force` does not say to do it.
        """

    def vcpus(self) -> Mapping[int, Sequence[Vcpu]]:
        """Return the vcpus by the id of their guest, as they are at this moment."""

    def watcher(self) -> "Watcher":
        """Return what watches the vcpus for the keeper, round after round.

        Raises `HomenodeError` where that cannot be.
        """

    def uuid_of(self, name: str) -> str | None:
        """Return the uuid of a guest that is not running and that the hypervisor knows by name."""

    def create(
        self, request: GuestRequest, decision: Decision, config: "GuestFile", kept: "GuestFile"
    ) -> None:
        """Create and start the guest of `config`, which has the decision in it.

        `kept` is what the hypervisor is to know of it once it has ended, if it knows such guests.
        If that fails nothing stays behind: `HypervisorError` with the hypervisor's own words,
        `Undone` if part of it had been done and was taken back.
        """

    def make_room(self, kib: int) -> Shrunk | None:
        """Have the control domain give up so much memory, if it balloons and that is allowed.

        Returns after it did; None if nothing was done.
        """

    def give_back(self, kib: int) -> None:
        """Let the control domain have `kib` again."""

    def destroy(self, guest: Guest) -> None:
        """Stop the guest at once."""

    def forget(self, uuid: str) -> None:
        """Take away what the hypervisor keeps of a guest that has ended, if it keeps any."""

    def pin(self, guest: Guest, masks: Sequence[Masks]) -> None:
        """Set the masks of all vcpus of the guest, in their order, on-line.

        If one fails, those before it are set back: `Undone`, or `HypervisorError` if it was the
        first. Memory that the guest has stays where it is.
        """

    def move(
        self,
        guest: Guest,
        masks: Sequence[Masks],
        how: Moving = Moving(),  # noqa: B008 - immutable
    ) -> tuple[Warned, ...]:
        """Have the guest with its memory where `masks` put it, in the way that this host can.

        Returns what to know of it afterwards. Raises `DoesNotFit` before anything is done if there
        is no room, `Undone` if it could not be done and the guest runs as it did before.
        """

    def move_warning(self, guest: Guest) -> str | None:
        """Return what moving the guest would cost it, as a question's first half; None: nothing."""


class ReadOnly:
    """The part of a driver that only looks: every change is refused in one line."""

    uri: str
    ledger: "Ledger | None" = None
    abilities = Abilities()

    def _refuse(self, what: str) -> HomenodeError:
        return HomenodeError(
            f"{self.uri} is read-only: cannot {what} there",
            hint="use a hypervisor, or sim:NAME to try it on a simulated host",
        )

    def snapshot(self, look: Look = "full") -> Snapshot:
        """Look; every such driver has its own way."""
        raise NotImplementedError

    def pages(self, *, force: bool = False) -> Snapshot:
        """Return what is known; there is nothing to be asked."""
        return self.snapshot()

    def vcpus(self) -> Mapping[int, Sequence[Vcpu]]:
        """Return the vcpus as they are described."""
        return {guest.id: guest.vcpus for guest in self.snapshot().guests if guest.id is not None}

    def watcher(self) -> "Watcher":
        """Refuse: there is nothing that runs."""
        raise self._refuse("keep guests at home")

    def uuid_of(self, name: str) -> str | None:
        """Return nothing: nothing can be created either."""
        return None

    def create(
        self, request: GuestRequest, decision: Decision, config: "GuestFile", kept: "GuestFile"
    ) -> None:
        """Refuse."""
        raise self._refuse(f"create {request.name!r}")

    def make_room(self, kib: int) -> Shrunk | None:
        """Do nothing: nothing can be created either."""
        return None

    def give_back(self, kib: int) -> None:
        """Do nothing."""

    def destroy(self, guest: Guest) -> None:
        """Refuse."""
        raise self._refuse(f"destroy {guest.name!r}")

    def forget(self, uuid: str) -> None:
        """Refuse."""
        raise self._refuse(f"forget {uuid}")

    def pin(self, guest: Guest, masks: Sequence[Masks]) -> None:
        """Refuse."""
        raise self._refuse(f"change the affinity of {guest.name!r}")

    def move(
        self,
        guest: Guest,
        masks: Sequence[Masks],
        how: Moving = Moving(),  # noqa: B008 - immutable
    ) -> tuple[Warned, ...]:
        """Refuse."""
        raise self._refuse(f"move {guest.name!r}")

    def move_warning(self, guest: Guest) -> str | None:
        """Return nothing: it is refused anyway."""
        return None
