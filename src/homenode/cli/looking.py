"""What the verbs that look share: counting pages, and sampling where vcpus run."""

import sys
import time
from typing import TYPE_CHECKING

from homenode.cli.common import connect
from homenode.drivers.base import Driver, Snapshot
from homenode.errors import HomenodeError
from homenode.residency import Residency, resident, run_ns

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

SAMPLE_S = 1.5
_LOOKS = 8
_LONGEST_S = 600.0


def add_looking(made: "ArgumentParser", *, sample_s: float) -> None:
    """Add ``--pages``, ``--force`` and ``--sample``."""
    made.add_argument(
        "--pages",
        action="store_true",
        help="have the hypervisor count where every page is; on Xen that holds up the host",
    )
    made.add_argument("--force", action="store_true", help="count them on a very large host too")
    made.add_argument(
        "--sample",
        type=float,
        default=sample_s,
        metavar="S",
        help=f"watch for so many seconds where vcpus run, 0 for not at all (default: {sample_s:g})",
    )


def look(chosen: "Namespace") -> tuple[Driver, Snapshot, dict[int, Residency]]:
    """Return the driver, what is seen, and the residency of guests by id, as it was asked for."""
    if not 0 <= chosen.sample <= _LONGEST_S:
        raise HomenodeError(f"--sample {chosen.sample:g}", hint=f"0 to {_LONGEST_S:g} seconds")
    if chosen.force and not chosen.pages:
        raise HomenodeError("--force is for --pages", hint="add --pages")
    driver = connect(chosen.connect)
    seen = driver.pages(force=chosen.force) if chosen.pages else driver.snapshot()
    return driver, seen, _sampled(driver, seen, chosen.sample)


def _sampled(driver: Driver, seen: Snapshot, sample_s: float) -> dict[int, Residency]:
    timed = any(vcpu.time_ns is not None for guest in seen.guests for vcpu in guest.vcpus)
    if not sample_s or not timed or driver.ledger is None:
        return {}
    if sample_s > 1 and sys.stderr.isatty():
        sys.stderr.write(f"watching the vcpus for {sample_s:g} s (--sample 0 leaves it out)\n")
    until = time.monotonic() + sample_s
    looks = [driver.vcpus()]
    while len(looks) < 2 or time.monotonic() < until:
        time.sleep(max(0.0, min(sample_s / _LOOKS, until - time.monotonic())))
        looks.append(driver.vcpus())
    ran = run_ns(looks, seen.host)
    return {
        guest.id: resident(ran.get(guest.id, {}), guest.memory_by_node)
        for guest in seen.guests
        if guest.id is not None
    }
