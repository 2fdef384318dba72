"""The ledger: what homenode has to remember about a host, in one file there.

Two things that a hypervisor cannot be asked for:

* the *claims* (`homenode.claims`): memory that is promised to a guest and not yet seen there;
* what is *remembered* of a guest: where its memory went, seen once at a price or at the only
  moment when it could be seen, and which of its masks are homenode's own.

It lies on the host whose memory is promised, and what is in it is of one boot of that host. A
ledger that is lost costs the promises to guests that are being built at that moment and what was
remembered, no more: what guests have, they have, and the hypervisor shows it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, get_args

from homenode.bitmap import LARGEST_MEMBER, CpuMap, NodeMap
from homenode.claims import Claim, ClaimState, moved, reconciled
from homenode.errors import ParseError
from homenode.guest import Guest, MemoryByNode
from homenode.state_file import LOCAL, StateFile, Storage

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from homenode.formats.table import Table

_MOST_CLAIMS = 65_536
_MOST_VCPUS = 8192


class Remembered(NamedTuple):
    """What is remembered of one guest.

    `memory` is where its memory was, and `memory_kib` how much it had altogether then; both hold
    for the domain `id` alone, as long as it has that much (Xen does not move memory). `held` are
    the nodes that homenode holds it to by the hard `masks` of its vcpus, and `replaced` those
    that they had before, none for "any cpu"; libxl keeps masks, so they outlive a reboot.
    `by_default` is whether it is held without anybody having asked for that.
    """

    uuid: str
    id: int | None = None
    memory: MemoryByNode | None = None
    memory_kib: int | None = None
    held: NodeMap | None = None
    masks: tuple[CpuMap, ...] = ()
    replaced: tuple[CpuMap, ...] = ()
    exclusive: bool = False
    by_default: bool = False


class Entries(NamedTuple):
    """All that is written in a ledger; `serial` counts the claims that were ever made."""

    claims: tuple[Claim, ...] = ()
    remembered: tuple[Remembered, ...] = ()
    serial: int = 0

    def of(self, uuid: str | None) -> Remembered | None:
        """Return what is remembered of the guest with `uuid`, None if nothing is."""
        return next((one for one in self.remembered if one.uuid == uuid), None)


def recalled(guest: Guest, entries: Entries) -> Guest:
    """Return the guest with what is remembered of it, as far as that still holds."""
    known = entries.of(guest.uuid)
    if known is None:
        return guest
    memory = guest.memory_by_node
    if memory is None and known.id == guest.id and _same_size(known.memory_kib, guest.memory_kib):
        memory = known.memory
    hard = tuple(vcpu.hard for vcpu in guest.vcpus)
    is_ours = bool(hard) and hard == known.masks[: len(hard)]
    return guest._replace(
        memory_by_node=memory,
        held=known.held if is_ours else None,
        replaced=known.replaced if is_ours else (),
        held_by_default=known.by_default and is_ours,
        exclusive=guest.exclusive or (known.exclusive and is_ours),
    )


def _same_size(one_kib: int | None, other_kib: int | None) -> bool:
    # Some sources tell whole MiB.
    return one_kib is not None and other_kib is not None and one_kib >> 10 == other_kib >> 10


def process_lives(process: int) -> bool:
    """Return whether a process with that number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # another user's, or no number of a process
    return True


class Ledger:
    """The ledger of one host, in the file at `path` of `storage`.

    `boot_id` names the time between two starts of that host; `clock` gives seconds since the
    epoch. `creator` is the process that makes claims, and `lives` tells whether one does, both on
    that host. Whatever changes the ledger, and the reading that it follows from, belong into one
    ``with ledger.lock():``; `read` is whole without it. Every method raises `HomenodeError` for
    a file that cannot be used.
    """

    __slots__ = ("_file", "boot_id", "clock", "creator", "lives")

    def __init__(  # noqa: PLR0913 - where it is, and when and whose
        self,
        path: str,
        *,
        boot_id: str,
        clock: Callable[[], float],
        wait_s: float = 10.0,
        storage: Storage = LOCAL,
        creator: int | None = None,
        lives: Callable[[int], bool] = process_lives,
    ) -> None:
        self._file = StateFile(
            path,
            "ledger of claims",
            1,
            "remove it while no `homenode create` runs: what the guests have, the hypervisor knows",
            wait_s,
            storage,
        )
        self.boot_id = boot_id
        self.clock = clock
        self.creator = os.getpid() if creator is None else creator
        self.lives = lives

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    @property
    def storage(self) -> Storage:
        """The machine that it is on."""
        return self._file.storage

    def lock(self) -> "AbstractContextManager[None]":
        """Return the lock on the ledger, to be entered by ``with``, for milliseconds."""
        return self._file.lock()

    def entries(self) -> Entries:
        """Return all that is written and of this boot; nothing if there is no file yet."""
        content = self._file.read()
        if content is None:
            return Entries()
        from homenode.formats.table import Table  # noqa: PLC0415 - most hosts have no ledger yet

        known = ("kind", "version", "boot_id", "serial", "claims", "remembered")
        try:
            table = Table(content, known, path="", source=self.path)
            claims = table.tables("claims", _CLAIM, most=_MOST_CLAIMS)
            remembered = table.tables("remembered", Remembered._fields, most=_MOST_CLAIMS)
            entries = Entries(
                tuple(_claim(item) for item in claims),
                tuple(_remembered(item) for item in remembered),
                table.maybe_integer("serial") or 0,
            )
            of_this_boot = table.maybe_text("boot_id") in (None, self.boot_id)
        except ParseError as error:
            raise self._file.broken(error.message) from None
        return entries if of_this_boot else entries._replace(remembered=())

    def read(self) -> tuple[Claim, ...]:
        """Return the claims as they are written; none if there is no file yet."""
        return self.entries().claims

    def write(self, entries: Entries) -> None:
        """Make `entries` all that is written; only under the lock."""
        self._file.write(
            {
                "boot_id": self.boot_id,
                "serial": entries.serial,
                "claims": [document(claim) for claim in entries.claims],
                # The newest come last: of more than a reader takes, the oldest are forgotten.
                "remembered": [_plain(one) for one in entries.remembered[-_MOST_CLAIMS:]],
            }
        )

    def replace(self, claims: Iterable[Claim]) -> None:
        """Make `claims` all that is claimed; only under the lock."""
        entries, claims = self.entries(), tuple(claims)
        known = {claim.uuid for claim in entries.claims}
        new = sum(claim.uuid not in known for claim in claims)
        self.write(entries._replace(claims=claims, serial=entries.serial + new))

    def holding(self, guests: Sequence[Guest]) -> tuple[Claim, ...]:
        """Return the claims that hold, given the guests that were seen; changes nothing."""
        return self._reconciled(self.read(), guests)

    def _reconciled(self, claims: Sequence[Claim], guests: Sequence[Guest]) -> tuple[Claim, ...]:
        now, lives = self.clock(), self.lives
        return reconciled(claims, guests, now=now, boot_id=self.boot_id, lives=lives)

    def is_orphan(self, claim: Claim) -> bool:
        """Return whether the process that was to create the guest ended and left it pending.

        What it started may be building still, so its memory stays promised; but the same guest
        may be asked for again.
        """
        return (
            claim.state == "pending" and claim.creator is not None and not self.lives(claim.creator)
        )

    def settle(self, guest: Guest, *, uuid: str) -> None:
        """Let the claim of `uuid` dissolve into what its guest has; only under the lock."""
        claims = self.read()
        own = tuple(claim for claim in claims if claim.uuid == uuid)
        met = self._reconciled(own, [guest])
        if met != own:
            self.replace((*(claim for claim in claims if claim.uuid != uuid), *met))

    def move(self, guest: Guest) -> None:
        """Let the claim of a guest whose memory was moved be where it is; only under the lock."""
        self.replace(moved(self.read(), guest))

    def remember(self, one: Remembered) -> None:
        """Make `one` all that is remembered of its guest; only under the lock."""
        entries = self.entries()
        others = tuple(other for other in entries.remembered if other.uuid != one.uuid)
        if (*others, one) != entries.remembered:
            self.write(entries._replace(remembered=(*others, one)))

    def drop(self, uuid: str) -> None:
        """End the claim of the guest with `uuid` and forget it; takes the lock itself."""
        with self.lock():
            entries = self.entries()
            kept = entries._replace(
                claims=tuple(claim for claim in entries.claims if claim.uuid != uuid),
                remembered=tuple(one for one in entries.remembered if one.uuid != uuid),
            )
            if kept != entries:
                self.write(kept)


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


_CLAIM = (
    "uuid", "name", "vcpus", "memory", "page_kib", "state", "expires_at", "boot_id", "after_id",
    "creator",
)  # fmt: skip


def _claim(table: "Table") -> Claim:
    expires_at = table.maybe_seconds("expires_at")
    if expires_at is None:
        raise table.error("expires_at", "is missing")
    return Claim(
        uuid=table.maybe_text("uuid"),
        name=table.text("name"),
        vcpus=table.integer("vcpus"),
        memory_kib=_shares(table, "memory"),
        boot_id=table.text("boot_id"),
        expires_at=expires_at,
        page_kib=table.integer("page_kib", least=1),
        state=table.word("state", get_args(ClaimState)),
        after_id=table.integer("after_id", least=-1),
        creator=table.maybe_integer("creator", least=1),
    )


def _shares(table: "Table", key: str) -> dict[int, int]:
    parts = table.tables(key, ("node", "kib"), most=LARGEST_MEMBER)
    return {part.integer("node", most=LARGEST_MEMBER): part.integer("kib") for part in parts}


def _plain(one: Remembered) -> dict[str, object]:
    memory = one.memory
    return {
        **one._asdict(),
        "memory": None
        if memory is None
        else {
            "kib": [{"node": node, "kib": kib} for node, kib in sorted(memory.kib.items())],
            "source": memory.source,
            "taken_at": memory.taken_at,
        },
        "held": None if one.held is None else str(one.held),
        "masks": [str(mask) for mask in one.masks],
        "replaced": [str(mask) for mask in one.replaced],
    }


def _remembered(table: "Table") -> Remembered:
    memory = None
    if table.value("memory") is not None:
        seen = table.table("memory", MemoryByNode._fields)
        memory = MemoryByNode(
            _shares(seen, "kib"), seen.text("source"), seen.maybe_seconds("taken_at")
        )
    return Remembered(
        table.text("uuid"),
        id=table.maybe_integer("id"),
        memory=memory,
        memory_kib=table.maybe_integer("memory_kib"),
        held=table.maybe_map("held", NodeMap),
        masks=_masks(table, "masks"),
        replaced=_masks(table, "replaced"),
        exclusive=table.flag("exclusive", default=False),
        by_default=table.flag("by_default", default=False),
    )


def _masks(table: "Table", key: str) -> tuple[CpuMap, ...]:
    texts = table.texts(key)
    if len(texts) > _MOST_VCPUS:
        raise table.error(key, f"is longer than {_MOST_VCPUS}")
    return tuple(CpuMap.parse(text) for text in texts)
