"""Claims: memory that is promised to a guest and not yet seen there.

Two requests that look at the same free memory must not both get it. So a decision is taken and
written down in one critical section (milliseconds: look, decide, append), before the guest is
built, which takes seconds to minutes:

* a *pending* claim ends when its guest is seen, when its creator gives up, or at its expiry if
  no guest of it has shown up by then;
* a *seen* claim ends when the guest is gone, not when a process ends. It holds what arrived, so
  that memory which a guest gives back for a while (ballooning) is still kept for it.

A claim weighs ``max(0, claimed - seen)`` on each node: what a guest has already is missing from
the free memory of the node, and is not counted twice.

The ledger is on the host whose memory is promised. After a restart of that host (another
`boot_id`) no claim holds. A ledger that is lost costs only the promises to guests that are being
built at that moment: what the others have, they have, and the hypervisor shows it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from homenode.bitmap import LARGEST_MEMBER
from homenode.errors import ParseError
from homenode.guest import Guest
from homenode.state_file import Lock, StateFile

if TYPE_CHECKING:
    from homenode.formats.table import Table

ClaimState = Literal["pending", "seen"]

PENDING_S = 300.0
"""How long a claim waits for its guest to show up. Building may take longer than that."""

_MOST_CLAIMS = 65_536


class Claim(NamedTuple):
    """Memory that one guest has been promised: KiB by node, in pages of `page_kib`.

    `uuid` is None where the guest is not known by it yet: then the first guest newer than
    `after_id` with the same number of vcpus and the same MiB is taken for it. `expires_at` is in
    seconds since the epoch and counts while the claim is pending. `creator` is the process (on
    the ledger's host) that creates the guest, None where nobody knows.
    """

    uuid: str | None
    name: str
    vcpus: int
    memory_kib: dict[int, int]
    boot_id: str
    expires_at: float
    page_kib: int = 4
    state: ClaimState = "pending"
    after_id: int = -1
    creator: int | None = None

    @property
    def is_orphan(self) -> bool:
        """Whether the process that was to create the guest ended and left it pending.

        What it started may be building still, so its memory stays promised; but the same guest
        may be asked for again.
        """
        return self.state == "pending" and self.creator is not None and _has_ended(self.creator)


def _has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # another user's, or no number of a process
    return False


def outstanding_kib(claims: Iterable[Claim], guests: Iterable[Guest]) -> dict[int, int]:
    """Return the KiB by node that `claims` promise and that no guest has yet.

    The claims are those of `reconciled`. Where the memory of a guest is not known by node, all of
    the claim counts while the guest is being built, and none of it afterwards: the free memory of
    the host lacks it by then.
    """
    by_uuid = {guest.uuid: guest for guest in guests if guest.uuid is not None}
    total: dict[int, int] = {}
    for claim in claims:
        guest = by_uuid.get(claim.uuid) if claim.uuid is not None else None
        for node, kib in claim.memory_kib.items():
            owed = kib - _seen_kib(guest, node, claimed_kib=kib)
            if owed > 0:
                total[node] = total.get(node, 0) + owed
    return total


def _seen_kib(guest: Guest | None, node: int, *, claimed_kib: int) -> int:
    if guest is None:
        return 0
    if guest.memory_by_node is None:
        return 0 if guest.state == "building" else claimed_kib
    return guest.memory_by_node.kib.get(node, 0)


def reconciled(
    claims: Iterable[Claim], guests: Sequence[Guest], *, now: float, boot_id: str
) -> tuple[Claim, ...]:
    """Return what holds of `claims`, given the guests that are there `now` (since the epoch).

    Applied to its own result it changes nothing.
    """
    held = [claim for claim in claims if claim.boot_id == boot_id]
    taken = {claim.uuid for claim in held}
    kept = []
    for claim in held:
        guest = _guest_of(claim, guests, taken)
        if guest is not None:
            taken.add(guest.uuid)
            kept.append(_met(claim._replace(uuid=guest.uuid), guest))
        elif claim.state == "pending" and now < claim.expires_at:
            kept.append(claim)
    return tuple(kept)


def _guest_of(claim: Claim, guests: Sequence[Guest], taken: set[str | None]) -> Guest | None:
    if claim.uuid is not None:
        return next((guest for guest in guests if guest.uuid == claim.uuid), None)
    key = (claim.vcpus, sum(claim.memory_kib.values()) >> 10)
    return next(
        (
            guest
            for guest in guests
            if guest.uuid is not None
            and guest.uuid not in taken
            and (guest.id or 0) > claim.after_id
            and (len(guest.vcpus), (guest.memory_kib or 0) >> 10) == key
        ),
        None,
    )


def _met(claim: Claim, guest: Guest) -> Claim:
    if claim.state == "seen" or guest.state == "building":
        return claim
    if guest.memory_by_node is None:
        return claim._replace(state="seen")
    # What went elsewhere, or was the hypervisor's own overhead, is not coming any more.
    here = guest.memory_by_node.kib
    arrived = {node: min(kib, here.get(node, 0)) for node, kib in claim.memory_kib.items()}
    return claim._replace(state="seen", memory_kib=arrived)


def moved(claims: Iterable[Claim], guest: Guest) -> tuple[Claim, ...]:
    """Return the claims after the memory of `guest` was moved: what it has is claimed there."""
    if guest.memory_by_node is None:
        return tuple(claims)
    here = dict(guest.memory_by_node.kib)
    return tuple(
        claim._replace(memory_kib=here) if claim.uuid == guest.uuid else claim for claim in claims
    )


class Ledger:
    """The claims upon one host, in a file there.

    `boot_id` names the time between two starts of that host; `clock` gives seconds since the
    epoch. `replace`, and the reading that it follows from, belong into one ``with
    ledger.lock():``; `read` is whole without it. Every method raises `HomenodeError` for a file
    that cannot be used.
    """

    __slots__ = ("_file", "boot_id", "clock")

    def __init__(
        self, path: str, *, boot_id: str, clock: Callable[[], float], wait_s: float = 10.0
    ) -> None:
        self._file = StateFile(
            path,
            "ledger of claims",
            1,
            "remove it while no `homenode create` runs: what the guests have, the hypervisor knows",
            wait_s,
        )
        self.boot_id = boot_id
        self.clock = clock

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    def lock(self) -> Lock:
        """Return the lock on the ledger, to be entered by ``with``, for milliseconds."""
        return self._file.lock()

    def read(self) -> tuple[Claim, ...]:
        """Return the claims as they are written; none if there is no file yet."""
        content = self._file.read()
        if content is None:
            return ()
        from homenode.formats.table import Table  # noqa: PLC0415 - most hosts have no ledger yet

        try:
            table = Table(content, ("kind", "version", "claims"), path="", source=self.path)
            listed = table.tables("claims", _FIELDS, most=_MOST_CLAIMS)
            return tuple(_claim(item) for item in listed)
        except ParseError as error:
            raise self._file.broken(error.message) from None

    def replace(self, claims: Iterable[Claim]) -> None:
        """Make `claims` all that is claimed; only under the lock."""
        self._file.write({"claims": [document(claim) for claim in claims]})

    def holding(self, guests: Sequence[Guest]) -> tuple[Claim, ...]:
        """Return the claims that hold, given the guests that were seen; changes nothing."""
        return reconciled(self.read(), guests, now=self.clock(), boot_id=self.boot_id)

    def reconcile(self, guests: Sequence[Guest]) -> None:
        """Keep only the claims that hold, given the guests that were seen; only under the lock."""
        written, kept = self.read(), self.holding(guests)
        if kept != written:
            self.replace(kept)

    def drop(self, uuid: str) -> None:
        """End the claim of the guest with `uuid`, if there is one; takes the lock itself."""
        with self.lock():
            written = self.read()
            kept = tuple(claim for claim in written if claim.uuid != uuid)
            if kept != written:
                self.replace(kept)


def document(claim: Claim) -> dict[str, object]:
    """Return the JSON form of a claim, in the ledger and in ``homenode claims --json``."""
    return {
        "uuid": claim.uuid,
        "name": claim.name,
        "vcpus": claim.vcpus,
        "memory": [{"node": node, "kib": kib} for node, kib in sorted(claim.memory_kib.items())],
        "page_kib": claim.page_kib,
        "state": claim.state,
        "expires_at": claim.expires_at,
        "boot_id": claim.boot_id,
        "after_id": claim.after_id,
        "creator": claim.creator,
    }


_FIELDS = (
    "uuid", "name", "vcpus", "memory", "page_kib", "state", "expires_at", "boot_id", "after_id",
    "creator",
)  # fmt: skip


def _claim(table: "Table") -> Claim:
    parts = table.tables("memory", ("node", "kib"), most=LARGEST_MEMBER)
    expires_at = table.maybe_seconds("expires_at")
    if expires_at is None:
        raise table.error("expires_at", "is missing")
    return Claim(
        uuid=table.maybe_text("uuid"),
        name=table.text("name"),
        vcpus=table.integer("vcpus"),
        memory_kib={
            part.integer("node", most=LARGEST_MEMBER): part.integer("kib") for part in parts
        },
        boot_id=table.text("boot_id"),
        expires_at=expires_at,
        page_kib=table.integer("page_kib", least=1),
        state=table.word("state", get_args(ClaimState)),
        after_id=table.integer("after_id", least=-1),
        creator=table.maybe_integer("creator", least=1),
    )
