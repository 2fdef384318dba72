"""What a decision is made from, and what is told of it: shared by the verbs that decide."""

import time
from typing import TYPE_CHECKING

from homenode.asking import Asked
from homenode.drivers.base import Driver
from homenode.placement.decision import Decision
from homenode.placement.view import View

if TYPE_CHECKING:
    from homenode.placement.explain import Explanation

_SHOWN = 5


def look(driver: Driver) -> View:
    """Return what a decision is made from: host, guests, and what is promised to others."""
    host, guests = driver.snapshot("creation")
    if driver.ledger is None:
        return View(host, guests, {}, driver.share_rule)
    from homenode.claims import outstanding_huge_kib, outstanding_kib  # noqa: PLC0415 - a capture has none

    claims = driver.ledger.holding(guests)
    outstanding = outstanding_kib(claims, guests)
    huge = outstanding_huge_kib(claims, guests)
    return View(host, guests, outstanding, driver.share_rule, huge)


def digest_of(view: View) -> str:
    """Return what tells this look at a host from others."""
    from homenode.formats.snapshot import digest  # noqa: PLC0415 - it imports a hash

    return digest(view.host, view.guests)


def told_of(view: View, asked: Asked, decision: Decision, *, everything: bool) -> "Explanation":
    """Return the decision explained: all of it, or the first few rivals and refusals."""
    from homenode.placement.explain import explain  # noqa: PLC0415 - only where asked for

    return explain(
        view,
        asked.request,
        asked.policy,
        decision,
        limit=None if everything else _SHOWN,
        clock=time.thread_time,
    )
