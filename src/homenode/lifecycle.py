"""The walk of one request: read, look, decide, claim, create, look again.

`create` is all of it. Looking, deciding and claiming are one critical section (the ledger's
lock); the guest is built outside of it, and its claim keeps its memory from others meanwhile.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from homenode.arrival import Expected, arrived_together, gone_elsewhere, newcomers
from homenode.asking import Overrides, own_masks
from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.base import Driver, Masks, Moving, Snapshot
from homenode.errors import HomenodeError, HypervisorError
from homenode.formats.guest_file import read_guest
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest, MemoryByNode
from homenode.ledger import Entries, Ledger, Remembered
from homenode.placement.decision import Warned
from homenode.planning import Planned, plans_for, promise
from homenode.rules.qemu import PROCESS_KIB
from homenode.units import format_memory

if TYPE_CHECKING:
    from homenode.formats.guest_file import GuestFile
else:
    GuestFile = object  # not in quotes: see homenode.placement.problem

_LOOKS = 3
"""After so many, what is promised meanwhile counts as it is: there is a host that never rests."""


class Wanted(NamedTuple):
    """The config of a guest that is wanted, and what messages call it: its file."""

    text: str
    source: str


class Created(NamedTuple):
    """What came of a request: `guest` is None if it does not fit, or was not to be created.

    `warnings` are those of the plan, and what is not as planned. `error` is why it could not be
    created; then nothing of it stays.
    """

    planned: Planned
    guest: Guest | None
    warnings: tuple[Warned, ...]
    error: BaseException | None = None


class StoppedError(KeyboardInterrupt):
    """Creating was interrupted: `outcomes` are of the guests whose creation had begun."""

    def __init__(self, outcomes: Sequence[Created]) -> None:
        super().__init__("homenode list tells what was created")
        self.outcomes = outcomes


def create(  # noqa: PLR0913 - the driver and the file, and how
    driver: Driver,
    config_text: str,
    *,
    source: str,
    overrides: Overrides,
    new_uuid: Callable[[], str],
    dry_run: bool = False,
    keep_nodes: bool = False,
) -> Created:
    """Create the guest of a config file where the policy puts it, and look where it went.

    `new_uuid` names a guest whose config has no uuid. Raises what the config, the host and the
    driver raise, `Conflict` for a name that is taken; then nothing is claimed and nothing stays.
    """
    wanted = [Wanted(config_text, source)]
    (created,) = create_all(
        driver,
        wanted,
        overrides=overrides,
        new_uuid=new_uuid,
        dry_run=dry_run,
        keep_nodes=keep_nodes,
    )
    if created.error is not None:
        raise created.error
    return created


def create_all(  # noqa: PLR0913 - the driver and the files, and how
    driver: Driver,
    wanted: Sequence[Wanted],
    *,
    overrides: Overrides,
    new_uuid: Callable[[], str],
    dry_run: bool = False,
    keep_nodes: bool = False,
    jobs: int = 1,
) -> tuple[Created, ...]:
    """Create guests, in the order in which they are wanted; `jobs` are built at a time.

    `keep_nodes`: a hypervisor that keeps the file of a guest for its next start is to keep the
    decision in it, too.

    All are decided on in one look at the host, each counting with those before it. One that does
    not fit, or that the hypervisor refuses, keeps no other from being created; bad input of any
    is raised, and then none is.
    """
    configs = [_config(driver, text, source) for text, source in wanted]
    # Asked before the ledger is locked: libvirt may wait for whoever waits for that lock.
    uuids = [_known_uuid(driver, config) or new_uuid() for config in configs]
    planning = partial(plans_for, driver, overrides=overrides, keep_nodes=keep_nodes)
    ledger = driver.ledger
    if dry_run or ledger is None:
        plans = planning(configs, uuids)
        if not dry_run:
            # A driver without a ledger only looks, and says so itself.
            driver.create(*plans[0][1:5])
        return tuple(Created(planned, None, planned.warnings) for planned in plans)
    try:
        plans, serial = _promised(driver, ledger, partial(planning, configs, uuids))
        for at, planned in enumerate(plans):
            if not planned.decision.fits:
                one = partial(planning, [configs[at]], [uuids[at]])
                again = partial(_promised, driver, ledger, one)
                plans[at], serial = _with_room(driver, planned, again, serial=serial)
        errors = _built(driver, ledger, plans, jobs=jobs)
        outcomes = _settled(driver, ledger, plans, errors, serial=serial)
    except KeyboardInterrupt:
        _void(driver, ledger)
        raise StoppedError(()) from None
    except BaseException:
        _void(driver, ledger)
        raise
    if any(isinstance(error, KeyboardInterrupt) for error in errors):
        raise StoppedError(outcomes)
    return outcomes


def _config(driver: Driver, text: str, source: str) -> GuestFile:
    config = read_guest(text, source=source)
    files = driver.abilities.files
    # A driver that only looks says so itself.
    if driver.ledger is not None and isinstance(config, GuestConfig) != (files == "xl"):
        form = "a config in xl's syntax" if files == "xl" else "libvirt's XML"
        hint = "homenode place tells where it would go, and --write puts that into the file"
        raise HomenodeError(f"{source}: {driver.uri} creates guests from {form}", hint=hint)
    return config


def _known_uuid(driver: Driver, config: GuestFile) -> str | None:
    return None if isinstance(config, GuestConfig) else driver.uuid_of(config.name)


def _void(driver: Driver, ledger: Ledger) -> None:
    """End our own claims of guests that are not there."""
    try:
        owed = {
            claim.uuid
            for claim in ledger.read()
            if claim.state == "pending" and claim.creator == ledger.creator
        }
        there = {guest.uuid for guest in driver.snapshot("guests").guests} if owed else set()
        for uuid in owed - there:
            ledger.drop(str(uuid))
    except HomenodeError:
        return  # they end by their expiry


def _promised(
    driver: Driver, ledger: Ledger, planning: Callable[..., list[Planned]]
) -> tuple[list[Planned], int]:
    """Look, decide and claim in one critical section.

    Where looking may wait for someone who waits for the ledger, one looks before, and again if
    anything was promised meanwhile. Returns the plans, and the ledger's count of claims with those
    that were made.
    """
    looks = 0
    while driver.abilities.waits:
        before, seen = ledger.entries(), driver.snapshot("creation")
        looks += 1
        with ledger.lock():
            if ledger.entries() == before or looks == _LOOKS:
                return _claimed(ledger, partial(planning, seen=seen))
    with ledger.lock():
        return _claimed(ledger, planning)


def _claimed(ledger: Ledger, planning: Callable[[], list[Planned]]) -> tuple[list[Planned], int]:
    """Decide and claim; only under the ledger's lock."""
    plans = planning()
    held_before = plans[0].claims
    made = [promise(planned, ledger) for planned in plans if planned.decision.fits]
    try:
        if made:
            ledger.replace((*held_before, *made))
        return plans, ledger.entries().serial
    except BaseException:
        ledger.replace(held_before)
        raise


def _with_room(
    driver: Driver,
    planned: Planned,
    again: Callable[[], tuple[list[Planned], int]],
    *,
    serial: int,
) -> tuple[Planned, int]:
    """Have the control domain give up memory, in steps, until the guest fits or it may no more.

    It gives from nodes of its own choice, so what suffices on one node is found by trying. If the
    guest does not fit in the end, it gets its memory back.
    """
    needed_kib = planned.request.memory_kib
    nodes = len(planned.snapshot.host.nodes)
    before_kib = now_kib = None
    try:
        for portions in (1, nodes, nodes * nodes):
            shrunk = driver.make_room(needed_kib * portions)
            if shrunk is None:
                break
            before_kib, now_kib = before_kib or shrunk.before_kib, shrunk.now_kib
            (planned,), serial = again()
            if planned.decision.fits:
                break
    finally:
        if before_kib is not None and not planned.decision.fits:
            driver.give_back(before_kib)
    if before_kib is None or not planned.decision.fits:
        return planned, serial
    text = (
        f"dom0 gave up memory for it, {format_memory(before_kib)} to {format_memory(now_kib)}, and"
        " gives from nodes of its own choice: dom0_mem= on Xen's command line keeps it small"
    )
    warnings = (*planned.warnings, Warned("dom0-shrank", text))
    return planned._replace(warnings=warnings), serial


def _built(
    driver: Driver, ledger: Ledger, plans: Sequence[Planned], *, jobs: int
) -> list[BaseException | None]:
    """Create the guests that fit; return what kept each from being created.

    Whatever it was, the promise to a guest that is not there is void. Once it was an interruption,
    what has begun is finished or taken back, and what has not begun is not.
    """
    fitting = [planned for planned in plans if planned.decision.fits]
    if jobs < 2 or len(fitting) < 2:
        built = _built_in_turn(driver, fitting)
    else:
        built = _built_together(driver, fitting, jobs=jobs)
    for planned, error in zip(fitting, built, strict=True):
        if error is not None:
            _try_to_drop(ledger, str(planned.request.uuid))
        if error is not None and not isinstance(error, (HomenodeError, KeyboardInterrupt)):
            raise error
    errors = iter(built)
    return [next(errors) if planned.decision.fits else None for planned in plans]


def _built_in_turn(driver: Driver, plans: Sequence[Planned]) -> list[BaseException | None]:
    # In this thread, which is the one that is interrupted.
    built: list[BaseException | None] = []
    for planned in plans:
        stopped = built[-1] if built and isinstance(built[-1], KeyboardInterrupt) else None
        built.append(stopped or _error_of(driver, planned))
    return built


def _built_together(
    driver: Driver, plans: Sequence[Planned], *, jobs: int
) -> list[BaseException | None]:
    from collections import deque  # noqa: PLC0415 - only for many
    from concurrent.futures import ThreadPoolExecutor, wait  # noqa: PLC0415 - the same

    # Each stays interrupted unless it was begun.
    built: list[BaseException | None] = [KeyboardInterrupt() for _ in plans]
    waiting = deque(enumerate(plans))

    def build() -> None:
        while waiting:
            with suppress(IndexError):  # another had the last of them
                at, planned = waiting.popleft()
                built[at] = _error_of(driver, planned)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            wait([pool.submit(build) for _ in range(jobs)])
        except KeyboardInterrupt:
            waiting.clear()
    return built


def _error_of(driver: Driver, planned: Planned) -> BaseException | None:
    try:
        driver.create(planned.request, planned.decision, planned.config, planned.kept)
    except BaseException as error:  # noqa: BLE001 - it is given to the caller
        return error
    return None


def converged(driver: Driver, created: Created) -> Created:
    """Return what came of a guest once its memory was moved to where it was planned.

    That is done where memory can be moved on-line, and some came from elsewhere; what keeps it
    from being done is a warning, for the guest runs.
    """
    guest, codes = created.guest, [warned.code for warned in created.warnings]
    if guest is None or "memory-elsewhere" not in codes:
        return created
    others = tuple(one for one in created.warnings if one.code != "memory-elsewhere")
    shares: dict[int, int] = {}
    for share in created.planned.decision.memory:
        shares[share.node] = shares.get(share.node, 0) + share.kib
    masks = tuple(Masks(vcpu.hard, vcpu.soft) for vcpu in guest.vcpus)
    try:
        if not driver.abilities.moves:
            raise HypervisorError(f"{driver.uri}: memory cannot be moved while a guest runs")
        told = driver.move(guest, masks, Moving(shares))
    except HomenodeError as error:
        return created._replace(warnings=(*created.warnings, Warned("not-converged", str(error))))
    now = driver.snapshot("guests").again(guest) or guest
    return created._replace(guest=now, warnings=(*others, *told))


def destroy(driver: Driver, guest: Guest) -> None:
    """Stop the guest at once, end its claim, and forget it."""
    driver.destroy(guest)
    if driver.ledger is not None and guest.uuid is not None:
        driver.ledger.drop(guest.uuid)


def _settled(
    driver: Driver,
    ledger: Ledger,
    plans: Sequence[Planned],
    errors: Sequence[BaseException | None],
    *,
    serial: int,
) -> tuple[Created, ...]:
    """Look where the new guests went, and let their claims dissolve into that."""
    new = [
        planned
        for planned, error in zip(plans, errors, strict=True)
        if planned.decision.fits and error is None
    ]
    found: dict[str | None, Created] = {}
    if new:
        after = driver.snapshot("guests")
        try:
            with ledger.lock():
                found = _met(ledger, new, after, serial=serial, stays=not driver.abilities.moves)
        except HomenodeError as error:
            # The guests run: a ledger that is in the way is no reason to call that a failure.
            warned = Warned("claim-not-settled", str(error))
            found = {
                planned.request.uuid: Created(
                    planned, _there(planned, after), (*planned.warnings, warned)
                )
                for planned in new
            }
    return tuple(
        found.get(planned.request.uuid) or Created(planned, None, planned.warnings, error)
        for planned, error in zip(plans, errors, strict=True)
        if not isinstance(error, KeyboardInterrupt)
    )


def _there(planned: Planned, after: Snapshot) -> Guest | None:
    return next((guest for guest in after.guests if guest.uuid == planned.request.uuid), None)


def _met(
    ledger: Ledger, new: Sequence[Planned], after: Snapshot, *, serial: int, stays: bool
) -> dict[str | None, Created]:
    """Settle the claims of new guests; only under the ledger's lock.

    What free memory tells of where theirs went is remembered, which is for memory that `stays`.
    """
    entries = ledger.entries()
    raced = _raced(new, after, entries)
    quiet = stays and entries.serial == serial and not raced and _alone(new[0])
    guests = {planned.request.uuid: _there(planned, after) for planned in new}
    memory: dict[str | None, MemoryByNode] = {}
    if quiet:
        memory = arrived_together(
            new[0].snapshot,
            after,
            [
                Expected(guest, planned.decision, planned.request.memory_kib)
                for planned in new
                if (guest := guests[planned.request.uuid]) is not None
            ],
        )
    found = {}
    for planned in new:
        uuid = str(planned.request.uuid)
        guest = guests[uuid]
        if guest is None:
            ledger.replace(claim for claim in ledger.read() if claim.uuid != uuid)
            found[planned.request.uuid] = Created(planned, None, planned.warnings, _gone(planned))
            continue
        seen = guest.memory_by_node or memory.get(uuid)
        guest = guest._replace(memory_by_node=seen, held=_held_nodes(planned))
        ledger.settle(guest, uuid=uuid)
        ledger.remember(_remembered(planned, guest))
        slack_kib = 0 if isinstance(planned.config, GuestConfig) else PROCESS_KIB
        elsewhere = gone_elsewhere(guest, planned.decision, slack_kib=slack_kib)
        warnings = planned.warnings + elsewhere + raced
        found[planned.request.uuid] = Created(planned, guest, warnings)
    return found


def _gone(planned: Planned) -> HypervisorError:
    return HypervisorError(
        f"{planned.request.name!r} was created, and is gone again",
        hint="its console, and the log of it on the host, tell why",
    )


def _alone(planned: Planned) -> bool:
    return all(claim.state == "seen" for claim in planned.claims)


def _raced(new: Sequence[Planned], after: Snapshot, entries: Entries) -> tuple[Warned, ...]:
    known = {claim.uuid for claim in entries.claims}
    known.update(planned.request.uuid for planned in new)
    names = [guest.name for guest in newcomers(new[0].snapshot, after, known)]
    if not names:
        return ()
    text = f"others created {', '.join(names[:5])} meanwhile, and nothing was promised to them"
    return (Warned("raced", f"{text}: memory may have gone where it was not counted on"),)


def _held_nodes(planned: Planned) -> NodeMap | None:
    held = bool(_own_masks(planned)) and not planned.request.exclusive
    return planned.decision.nodes if held else None


def _own_masks(planned: Planned) -> tuple[CpuMap, ...]:
    host = planned.snapshot.host
    return own_masks(planned.config, planned.request, planned.decision, host)


def _remembered(planned: Planned, guest: Guest) -> Remembered:
    return Remembered(
        str(guest.uuid),
        id=guest.id,
        memory=guest.memory_by_node,
        memory_kib=guest.memory_kib,
        held=guest.held,
        masks=_own_masks(planned),
        exclusive=planned.request.exclusive,
        by_default=guest.held is not None and planned.hold is None,
    )


def _try_to_drop(ledger: Ledger, uuid: str) -> None:
    try:
        ledger.drop(uuid)
    except HomenodeError:
        return  # it ends by its expiry
