"""The keeper's record: which masks are its own, and what they replaced.

A file beside the ledger (``/run/homenode/keeper.json``), and not part of it: whoever creates guests
may have the ledger locked for seconds, and the keeper waits for nobody. It is written before masks
are set. So whatever happens afterwards, each mask that is not the keeper's own, old or new, is
somebody else's, and each that is can be given back.

While a keeper runs it holds the lock on ``keeper.json.lock``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap
from homenode.errors import Conflict, HomenodeError, ParseError
from homenode.formats.table import Table
from homenode.guest import Guest
from homenode.ledger import Entries, recalled
from homenode.state_file import LOCAL, StateFile, Storage

_MOST_GUESTS = 65_536

MaskKind = Literal["hard", "soft"]
"""Which masks the keeper sets: soft ones where the scheduler heeds them, hard ones elsewhere."""


class OwnMask(NamedTuple):
    """The mask of a vcpu: those that the keeper set, the newest last, and the one before them."""

    ours: tuple[CpuMap, ...]
    replaced: CpuMap

    def next(self, mask: CpuMap) -> "OwnMask":
        """Return it as it is while `mask` is being set."""
        return OwnMask((*self.ours[-1:], mask), self.replaced)


class KeptGuest(NamedTuple):
    """A guest with masks of the keeper's: its name, this run of it, which masks, and by vcpu."""

    name: str
    instance: str
    kind: MaskKind
    masks: Mapping[int, OwnMask]


Kept = Mapping[str, KeptGuest]
"""Guests by their keys (`homenode.drivers.watching.Lodger`)."""


class Recorded(NamedTuple):
    """All that is recorded: the guests with masks of the keeper's, and what it told last.

    `process` is the number of the keeper that is at work, None if none is.
    """

    guests: Kept = {}  # noqa: RUF012 - of an immutable type
    events: tuple[str, ...] = ()
    process: int | None = None


def record_file(ledger_path: str, *, storage: Storage = LOCAL) -> StateFile:
    """Return the file of the record that goes with a ledger."""
    folder, slash, name = ledger_path.rpartition("/")
    # A simulated host's ledger is NAME.claims.json.
    stem = name.removesuffix(".json").removesuffix("claims").removesuffix("ledger")
    return StateFile(
        f"{folder}{slash}{stem}keeper.json",
        "keeper's record",
        1,
        "remove it if no vcpu is held by the keeper; xl vcpu-list or virsh vcpuinfo tell",
        0.2,
        storage,
    )


class Record:
    """The record in `file`; `boot_id` names the time between two starts of the host."""

    def __init__(self, file: StateFile, *, boot_id: str) -> None:
        self.file = file
        self._boot_id = boot_id

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only keeper of the host, within ``with``; raises `Conflict` if there is one."""
        lock = self.file.lock()
        try:
            lock.__enter__()
        except HomenodeError as error:
            if "another process" not in error.message:
                raise
            raise Conflict(
                f"{self.file.path}: a keeper is at work on this host",
                hint="systemctl stop homenode-keeper, or Ctrl-C where it runs; it gives all back",
            ) from None
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def read(self) -> Kept:
        """Return the guests that are recorded of this boot; none if there is no file.

        Raises `HomenodeError` for one that cannot be read.
        """
        return self.read_whole().guests

    def read_whole(self) -> Recorded:
        """Return all that is recorded; as `read`."""
        content = self.file.read()
        if content is None:
            return Recorded()
        known = ("kind", "version", "boot_id", "guests", "events", "process")
        try:
            table = Table(content, known, path="", source=self.file.path)
            if table.maybe_text("boot_id") != self._boot_id:
                return Recorded()
            guests = table.tables(
                "guests", ("key", "name", "instance", "masks_are", "masks"), most=_MOST_GUESTS
            )
            events = tuple(table.texts("events"))
            process = table.maybe_integer("process", least=1)
            return Recorded({one.text("key"): _guest(one) for one in guests}, events, process)
        except ParseError as error:
            raise self.file.broken(error.message) from None

    def read_or_nothing(self) -> Recorded:
        """Return all that can be read: a record that is broken is the keeper's to complain of.

        Nobody is to be kept from looking, or from creating guests, by it.
        """
        try:
            return self.read_whole()
        except HomenodeError:
            return Recorded()

    def write(self, recorded: Recorded) -> None:
        """Make that all that is recorded."""
        guests = [
            {
                "key": key,
                "name": guest.name,
                "instance": guest.instance,
                "masks_are": guest.kind,
                "masks": _grouped(guest.masks),
            }
            for key, guest in recorded.guests.items()
        ]
        self.file.write(
            {
                "boot_id": self._boot_id,
                "process": recorded.process,
                "guests": guests,
                "events": list(recorded.events),
            }
        )


def _grouped(masks: Mapping[int, OwnMask]) -> list[dict[str, object]]:
    """Return the masks with the vcpus that have the same, which mostly are all of a guest."""
    groups: dict[OwnMask, list[int]] = {}
    for vcpu, mask in masks.items():
        groups.setdefault(mask, []).append(vcpu)
    return [
        {
            "vcpus": str(CpuMap(vcpus)),
            "ours": [str(one) for one in mask.ours],
            "replaced": str(mask.replaced),
        }
        for mask, vcpus in groups.items()
    ]


def _guest(table: Table) -> KeptGuest:
    masks: dict[int, OwnMask] = {}
    for part in table.tables("masks", ("vcpus", "ours", "replaced"), most=_MOST_GUESTS):
        ours = tuple(CpuMap.parse(text) for text in part.texts("ours"))
        mask = OwnMask(ours, part.map("replaced", CpuMap))
        masks.update(dict.fromkeys(part.map("vcpus", CpuMap), mask))
    kinds: tuple[MaskKind, ...] = ("hard", "soft")
    return KeptGuest(
        table.text("name"), table.text("instance"), table.word("masks_are", kinds), masks
    )


def own_now(guest: KeptGuest, now: Mapping[int, CpuMap]) -> dict[int, CpuMap]:
    """Return the masks to give back: those of vcpus whose mask now is one of the keeper's."""
    return {
        vcpu: mask.replaced
        for vcpu, mask in guest.masks.items()
        if vcpu in now and now[vcpu] in mask.ours and now[vcpu] != mask.replaced
    }


def known(guest: Guest, entries: Entries, recorded: Recorded) -> Guest:
    """Return a guest with what is remembered of it, which is of its masks without the keeper's.

    The masks are as they are; if the keeper has set them, `Guest.kept` says so, and
    `Guest.replaced` what would be there else.
    """
    own = recorded.guests.get(guest.uuid or guest.name)
    if own is None or own.instance != str(guest.id) or own.kind != "hard":
        return recalled(guest, entries)
    below = own_now(own, {vcpu.id: vcpu.hard for vcpu in guest.vcpus})
    vcpus = tuple(vcpu._replace(hard=below.get(vcpu.id, vcpu.hard)) for vcpu in guest.vcpus)
    found = recalled(guest._replace(vcpus=vcpus), entries)
    replaced = found.replaced if found.held is not None else tuple(vcpu.hard for vcpu in vcpus)
    return found._replace(vcpus=guest.vcpus, replaced=replaced, kept=bool(below))
