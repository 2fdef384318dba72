"""The protocol of a hypervisor: what every driver can do, or says that it cannot.

A driver carries out and looks; it holds no policy. Facts that are dear to look at are asked for
by name (truth 4: looking has a price), never part of a plain `Driver.snapshot`.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from homenode.bitmap import NodeMap
from homenode.errors import HomenodeError
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest, GuestRequest
from homenode.host import Host
from homenode.placement.decision import Decision
from homenode.placement.view import ShareRule

if TYPE_CHECKING:
    from homenode.claims import Ledger


class Snapshot(NamedTuple):
    """A host and its guests, seen together."""

    host: Host
    guests: tuple[Guest, ...]

    def guest(self, name: str) -> Guest | None:
        """Return the guest with that name, if it runs here."""
        return next((guest for guest in self.guests if guest.name == name), None)


class Driver(Protocol):
    """One hypervisor, or a description of one."""

    uri: str

    @property
    def ledger(self) -> "Ledger | None":
        """The claims upon this host; None where nothing can be created (read-only drivers)."""

    @property
    def share_rule(self) -> ShareRule:
        """How this hypervisor spreads a guest's memory over the nodes it may use."""

    def snapshot(self) -> Snapshot:
        """Look at the host and its guests."""

    def create(self, request: GuestRequest, decision: Decision, config: GuestConfig) -> Guest:
        """Create and start the guest as decided; if that fails nothing stays behind.

        Raises `HypervisorError` with the hypervisor's own words, `Undone` if part of it had been
        done and was taken back.
        """

    def destroy(self, name: str) -> Guest:
        """Stop the guest at once and return what it was."""

    def set_affinity(self, name: str, nodes: NodeMap, *, move: bool) -> Guest:
        """Change the guest's node affinity and soft affinity on-line; return it as it is then.

        Memory that it has stays where it is, unless `move` (and the hypervisor can).
        """


class ReadOnly:
    """The part of a driver that only looks: every change is refused in one line."""

    uri: str
    ledger = None

    def _refuse(self, what: str) -> HomenodeError:
        return HomenodeError(
            f"{self.uri} is read-only: cannot {what} there",
            hint="use a hypervisor, or sim:NAME to try it on a simulated host",
        )

    def create(self, request: GuestRequest, decision: Decision, config: GuestConfig) -> Guest:
        """Refuse."""
        raise self._refuse(f"create {request.name!r}")

    def destroy(self, name: str) -> Guest:
        """Refuse."""
        raise self._refuse(f"destroy {name!r}")

    def set_affinity(self, name: str, nodes: NodeMap, *, move: bool) -> Guest:
        """Refuse."""
        raise self._refuse(f"change the affinity of {name!r}")
