"""Deciding on guests that are wanted together: a plan for each, and the claim that it makes.

Nothing is done here, and nothing written; who plans has the ledger's lock (`homenode.lifecycle`).
"""

from collections.abc import Sequence
from time import thread_time
from typing import TYPE_CHECKING, NamedTuple

from homenode.asking import Asked, Overrides, ask, handed_over, named, remarks
from homenode.claims import PENDING_S, Claim, awaited, outstanding_huge_kib, outstanding_kib
from homenode.drivers.base import Driver, Snapshot
from homenode.errors import Conflict
from homenode.formats.guest_file import read_guest
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import GuestRequest
from homenode.holding import held
from homenode.ledger import Ledger
from homenode.placement import Decision, View, place
from homenode.placement.decision import Warned

if TYPE_CHECKING:
    from homenode.formats.guest_file import GuestFile
else:
    GuestFile = object  # not in quotes: see homenode.placement.problem

LONGEST_NAME_BYTES = 4096 - 64
"""XENSTORE_PAYLOAD_MAX (Xen, public/io/xs_wire.h), less the path that the name is written to."""


class Planned(NamedTuple):
    """A request with the decision on it, and the config in which the decision is written.

    `kept` is the guest's file as the hypervisor is to keep it for its next start, where it keeps
    any: the decision is of this host and this moment. `snapshot` and `claims` are what it was made
    from; `warnings` are the config's and the decision's.
    """

    snapshot: Snapshot
    request: GuestRequest
    decision: Decision
    config: GuestFile
    kept: GuestFile
    claims: tuple[Claim, ...]
    warnings: tuple[Warned, ...]
    hold: bool | None = None


def plans_for(  # noqa: PLR0913 - what is wanted, and how
    driver: Driver,
    configs: Sequence[GuestFile],
    uuids: Sequence[str],
    *,
    overrides: Overrides,
    keep_nodes: bool,
    seen: Snapshot | None = None,
) -> list[Planned]:
    """Decide on all of them in one look, each with the claims of those before it."""
    snapshot = driver.snapshot("creation") if seen is None else seen
    ledger = driver.ledger
    claims = () if ledger is None else ledger.holding(snapshot.guests)
    requested: list[Asked] = []
    for config, uuid in zip(configs, uuids, strict=True):
        asked = ask(config, snapshot.host, overrides)
        _refuse_long_name(asked.request.name, config)
        request = asked.request._replace(uuid=asked.request.uuid or uuid)
        requested.append(asked._replace(request=request))
    if ledger is not None:
        # Before the first is decided on: it may have what was promised to a later one.
        claims = _without_orphans(ledger, claims, [asked.request for asked in requested])
    held_before = claims
    plans: list[Planned] = []
    for config, asked in zip(configs, requested, strict=True):
        _refuse_taken(asked.request, snapshot, claims, source=config.source)
        planned = _planned(driver, snapshot, claims, config, asked, hold=overrides.hold)
        if keep_nodes:
            planned = planned._replace(kept=planned.config)
        plans.append(planned)
        if ledger is not None and planned.decision.fits:
            claims = (*claims, promise(planned, ledger))
    return [planned._replace(claims=held_before) for planned in plans]


def _without_orphans(
    ledger: Ledger, claims: tuple[Claim, ...], requests: Sequence[GuestRequest]
) -> tuple[Claim, ...]:
    """Return the claims but for those of guests that are asked for again, whose creator is gone."""
    return tuple(
        claim
        for claim in claims
        if not (any(_is_for(claim, one) for one in requests) and ledger.is_orphan(claim))
    )


def _planned(  # noqa: PLR0913 - all that a plan is made from
    driver: Driver,
    snapshot: Snapshot,
    claims: tuple[Claim, ...],
    config: GuestFile,
    asked: Asked,
    *,
    hold: bool | None,
) -> Planned:
    request = asked.request
    host, guests = snapshot
    view = View(
        host,
        (*guests, *awaited(claims, host, guests)),
        outstanding_kib(claims, guests),
        driver.share_rule,
        outstanding_huge_kib(claims, guests),
    )
    decision = place(view, request, asked.policy, clock=thread_time)
    decision = held(decision, request, view, hold=hold)
    text = handed_over(config, request, decision, host)
    handed = read_guest(text, source=config.source)
    kept = named(config, request)
    warnings = asked.warnings + decision.warnings + remarks(config, request, decision, host)
    return Planned(snapshot, request, decision, handed, kept, claims, warnings, hold)


def _refuse_long_name(name: str, config: GuestFile) -> None:
    if not isinstance(config, GuestConfig):
        return  # libvirt says itself what it takes
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


def promise(planned: Planned, ledger: Ledger) -> Claim:
    """Return the claim that a plan makes."""
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
