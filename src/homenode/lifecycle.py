"""The walk of one request: read, look, decide, claim, create, look again.

`create` is all of it. Looking, deciding and claiming are one critical section (the ledger's
lock); the guest is built outside of it, and its claim keeps its memory from others meanwhile.
"""

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from homenode.arrival import arrived, gone_elsewhere, newcomers
from homenode.asking import Overrides, ask
from homenode.bitmap import CpuMap, NodeMap
from homenode.claims import PENDING_S, Claim, outstanding_kib
from homenode.drivers.base import Driver, Snapshot
from homenode.errors import Conflict, HomenodeError, HypervisorError
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest, GuestRequest
from homenode.holding import held, is_held
from homenode.ledger import Entries, Ledger, Remembered
from homenode.placement import Decision, View, place
from homenode.placement.decision import Warned
from homenode.rules.xen_config import handed_over, masks_of
from homenode.units import format_memory

LONGEST_NAME_BYTES = 4096 - 64
"""XENSTORE_PAYLOAD_MAX (Xen, public/io/xs_wire.h), less the path that the name is written to."""


class Planned(NamedTuple):
    """A request with the decision on it, and the config in which the decision is written.

    `snapshot` and `claims` are what it was made from; `warnings` are the config's and the
    decision's.
    """

    snapshot: Snapshot
    request: GuestRequest
    decision: Decision
    config: GuestConfig
    claims: tuple[Claim, ...]
    warnings: tuple[Warned, ...]


class Created(NamedTuple):
    """What came of a request: `guest` is None if it does not fit, or was not to be created.

    `warnings` are those of the plan, and what is not as planned.
    """

    planned: Planned
    guest: Guest | None
    warnings: tuple[Warned, ...]


def create(  # noqa: PLR0913 - the driver and the file, and how
    driver: Driver,
    config_text: str,
    *,
    source: str,
    overrides: Overrides,
    new_uuid: Callable[[], str],
    dry_run: bool = False,
) -> Created:
    """Create the guest of a config file where the policy puts it, and look where it went.

    `new_uuid` names a guest whose config has no uuid. Raises what the config, the host and the
    driver raise, `Conflict` for a name that is taken; then nothing is claimed and nothing stays.
    """
    config = GuestConfig.parse(config_text, source=source)
    ledger = driver.ledger
    uuid = new_uuid()

    def plan() -> Planned:
        return _planned(driver, config, overrides, new_uuid=uuid)

    if dry_run or ledger is None:
        planned = plan()
        if not dry_run:
            # A driver without a ledger only looks, and says so itself.
            driver.create(planned.request, planned.decision, planned.config)
        return Created(planned, None, planned.warnings)
    promised = _promised(ledger, plan)
    if promised.serial is None:
        promised = _with_room(driver, ledger, plan, promised)
    planned, serial = promised
    if serial is None:
        return Created(planned, None, planned.warnings)
    try:
        driver.create(planned.request, planned.decision, planned.config)
    except BaseException:
        # Whatever it was, the promise is void; and it is what the caller has to hear of.
        _try_to_drop(ledger, str(planned.request.uuid))
        raise
    return _settled(driver, ledger, planned, serial=serial)


class _Promised(NamedTuple):
    """A plan, and the ledger's count of claims with its own; None if nothing was claimed."""

    planned: Planned
    serial: int | None


def _promised(ledger: Ledger, plan: Callable[[], Planned]) -> _Promised:
    """Look, decide and claim in one critical section."""
    with ledger.lock():
        planned = plan()
        if not planned.decision.fits:
            return _Promised(planned, None)
        try:
            ledger.replace((*planned.claims, _claim(planned, ledger)))
            return _Promised(planned, ledger.entries().serial)
        except BaseException:
            ledger.replace(planned.claims)
            raise


def _with_room(
    driver: Driver, ledger: Ledger, plan: Callable[[], Planned], promised: _Promised
) -> _Promised:
    """Have the control domain give up memory, in steps, until the guest fits or it may no more.

    It gives from nodes of its own choice, so what suffices on one node is found by trying. If the
    guest does not fit in the end, it gets its memory back.
    """
    needed_kib = promised.planned.request.memory_kib
    nodes = len(promised.planned.snapshot.host.nodes)
    before_kib = now_kib = None
    try:
        for portions in (1, nodes, nodes * nodes):
            shrunk = driver.make_room(needed_kib * portions)
            if shrunk is None:
                break
            before_kib, now_kib = before_kib or shrunk.before_kib, shrunk.now_kib
            promised = _promised(ledger, plan)
            if promised.serial is not None:
                break
    finally:
        if before_kib is not None and promised.serial is None:
            driver.give_back(before_kib)
    if promised.serial is None or before_kib is None:
        return promised
    text = (
        f"dom0 gave up memory for it, {format_memory(before_kib)} to {format_memory(now_kib)}, and"
        " gives from nodes of its own choice: dom0_mem= on Xen's command line keeps it small"
    )
    warnings = (*promised.planned.warnings, Warned("dom0-shrank", text))
    return promised._replace(planned=promised.planned._replace(warnings=warnings))


def destroy(driver: Driver, guest: Guest) -> None:
    """Stop the guest at once, end its claim, and forget it."""
    driver.destroy(guest)
    if driver.ledger is not None and guest.uuid is not None:
        driver.ledger.drop(guest.uuid)


def _planned(
    driver: Driver, config: GuestConfig, overrides: Overrides, *, new_uuid: str
) -> Planned:
    host, guests = snapshot = driver.snapshot("creation")
    asked = ask(config, host, overrides)
    _refuse_long_name(asked.request.name, config)
    request = asked.request._replace(uuid=asked.request.uuid or new_uuid)
    ledger = driver.ledger
    claims: tuple[Claim, ...] = ()
    if ledger is not None:
        claims = tuple(
            claim
            for claim in ledger.holding(guests)
            if not (_is_for(claim, request) and ledger.is_orphan(claim))
        )
    _refuse_taken(request, snapshot, claims, source=config.source)
    view = View(host, guests, outstanding_kib(claims, guests), driver.share_rule)
    decision = place(view, request, asked.policy, clock=monotonic)
    decision = held(decision, request, view, hold=overrides.hold)
    text = handed_over(config, request, decision, host)
    handed = GuestConfig.parse(text, source=config.source)
    warnings = asked.warnings + decision.warnings
    return Planned(snapshot, request, decision, handed, claims, warnings)


def _refuse_long_name(name: str, config: GuestConfig) -> None:
    # "replace", for half a character is none of UTF-8's; the config was not read by us then.
    if len(name.encode(errors="replace")) > LONGEST_NAME_BYTES:
        raise config.error(
            f"the name is longer than {LONGEST_NAME_BYTES} bytes",
            at="name",
            hint="XenStore has no room for it",
        )


def _refuse_taken(
    request: GuestRequest, snapshot: Snapshot, claims: tuple[Claim, ...], *, source: str
) -> None:
    for guest in snapshot.guests:
        if guest.name == request.name or guest.uuid == request.uuid:
            raise Conflict(
                f"{source}: guest {guest.name!r} is there already, with the id {guest.id}",
                hint="give the new one another name and uuid, or destroy that one first",
            )
    for claim in claims:
        if claim.state == "pending" and _is_for(claim, request):
            raise Conflict(
                f"{source}: a guest {claim.name!r} is being created", hint="see homenode claims"
            )


def _is_for(claim: Claim, request: GuestRequest) -> bool:
    return claim.name == request.name or claim.uuid == request.uuid


def _claim(planned: Planned, ledger: Ledger) -> Claim:
    by_node: dict[int, int] = {}
    for share in planned.decision.memory:
        by_node[share.node] = by_node.get(share.node, 0) + share.kib
    return Claim(
        uuid=planned.request.uuid,
        name=planned.request.name,
        vcpus=planned.request.vcpus,
        memory_kib=by_node,
        boot_id=ledger.boot_id,
        expires_at=ledger.clock() + PENDING_S,
        page_kib=planned.request.page_kib,
        creator=ledger.creator,
    )


def _settled(driver: Driver, ledger: Ledger, planned: Planned, *, serial: int) -> Created:
    """Look where the new guest went, and let its claim dissolve into that."""
    uuid = str(planned.request.uuid)
    after = driver.snapshot("guests")
    guest = next((guest for guest in after.guests if guest.uuid == uuid), None)
    if guest is None:
        _try_to_drop(ledger, uuid)
        raise HypervisorError(
            f"{planned.request.name!r} was created, and is gone again",
            hint="its console and the log of its xl tell why",
        )
    warnings: tuple[Warned, ...] = ()
    try:
        with ledger.lock():
            entries = ledger.entries()
            warnings += _raced(planned, after, entries)
            quiet = entries.serial == serial and not warnings and _alone(planned)
            if guest.memory_by_node is None and quiet:
                most_kib = planned.request.memory_kib
                memory = arrived(planned.snapshot, after, guest, most_kib=most_kib)
                guest = guest._replace(memory_by_node=memory)
            guest = guest._replace(held=_held_nodes(planned))
            ledger.settle(guest, uuid=uuid)
            ledger.remember(_remembered(planned, guest))
    except HomenodeError as error:
        # The guest runs: a ledger that is in the way is no reason to call that a failure.
        warnings += (Warned("claim-not-settled", str(error)),)
    warnings = planned.warnings + gone_elsewhere(guest, planned.decision) + warnings
    return Created(planned, guest, warnings)


def _alone(planned: Planned) -> bool:
    return all(claim.state == "seen" for claim in planned.claims)


def _raced(planned: Planned, after: Snapshot, entries: Entries) -> tuple[Warned, ...]:
    known = {planned.request.uuid, *(claim.uuid for claim in entries.claims)}
    names = [guest.name for guest in newcomers(planned.snapshot, after, known)]
    if not names:
        return ()
    text = f"others created {', '.join(names[:5])} meanwhile, and nothing was promised to them"
    return (Warned("raced", f"{text}: memory may have gone where it was not counted on"),)


def _held_nodes(planned: Planned) -> NodeMap | None:
    return planned.decision.nodes if is_held(planned.decision, planned.request) else None


def _remembered(planned: Planned, guest: Guest) -> Remembered:
    hard = masks_of(planned.decision, planned.request.vcpus, soft=False) or []
    ours = is_held(planned.decision, planned.request) or planned.request.exclusive
    return Remembered(
        str(guest.uuid),
        id=guest.id,
        memory=guest.memory_by_node,
        memory_kib=guest.memory_kib,
        held=guest.held,
        masks=tuple(mask or CpuMap() for mask in hard) if ours else (),
        exclusive=planned.request.exclusive,
    )


def _try_to_drop(ledger: Ledger, uuid: str) -> None:
    try:
        ledger.drop(uuid)
    except HomenodeError:
        return  # it ends by its expiry
