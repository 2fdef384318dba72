"""``homenode create``: decide, claim, create the guest there, and look where it went."""

from argparse import ArgumentParser
from typing import TYPE_CHECKING

from homenode.arrival import landed
from homenode.cli.common import (
    add_connection,
    add_wishes,
    connect,
    end_as_interrupted,
    overrides,
    parser,
    print_json,
    read_text,
)
from homenode.cli.complaint import complain
from homenode.cli.decision_text import decision_document, decision_lines, warning_lines
from homenode.cli.guest_text import guest_document, node_words
from homenode.drawing import name_text
from homenode.errors import ExitStatus, HomenodeError
from homenode.guest import Guest
from homenode.lifecycle import Created, StoppedError, Wanted, converged, create_all
from homenode.units import format_memory

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

_EXAMPLES = """\
  homenode create guest.cfg
  homenode create -c xen+ssh://root@xen1/ --policy spread web1.cfg web2.cfg web3.cfg
  homenode create -c sim:try --nodes 0-1 --dry-run guest.cfg

All files are read, and all guests decided on, before the first is created; one that does not fit is
passed over (exit status 1), and one that the hypervisor refuses leaves nothing behind (3). Where
the scheduler does not heed soft affinity (credit2), a guest on one node is held there by hard
affinity; homenode affinity --open lets go. What is written into the config stays with the guest
through reboot, save and restore: it comes back to the same nodes. A guest of libvirt is defined as
its file is, and started with the decision in it; its next start is decided anew, by homenode create
or homenode-numad, unless --pin keeps the decision in the definition. The document: {"version": 1,
"dry_run": bool, "guests": [{"decision": as of homenode place, without the rivals, "config": what
the hypervisor is given, "created": guest as of homenode list or null, "error": text or null,
"warnings": [{"code", "text"}]}]}
"""

_MOST_JOBS = 64
_JOBS = 4
"""xl lets one guest at a time have its memory, so more would only wait."""


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser(
        "create", "Create guests where the policy puts them, and look.", examples=_EXAMPLES
    )
    add_connection(made)
    add_wishes(made)
    made.add_argument(
        "--dry-run", action="store_true", help="decide, print what would be handed over, stop"
    )
    made.add_argument(
        "--pin",
        action="store_true",
        help="have libvirt keep the decision in what it defines, for later starts",
    )
    made.add_argument(
        "--converge",
        action="store_true",
        help="move memory that did not come from where it was planned, where that can be done",
    )
    made.add_argument(
        "-j", "--jobs", type=int, default=_JOBS, metavar="N", help="build so many at a time"
    )
    made.add_argument(
        "files", nargs="+", metavar="FILE", help="guest config in xl's syntax, or XML"
    )
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    if not 1 <= chosen.jobs <= _MOST_JOBS:
        raise HomenodeError(f"--jobs {chosen.jobs}", hint=f"1 to {_MOST_JOBS} are possible")
    end_as_interrupted()
    driver = connect(chosen.connect)
    wanted = [Wanted(read_text(path), path) for path in chosen.files]
    try:
        outcomes = create_all(
            driver,
            wanted,
            overrides=overrides(chosen),
            new_uuid=_no_uuid if chosen.dry_run else _new_uuid,
            dry_run=chosen.dry_run,
            keep_nodes=chosen.pin,
            jobs=chosen.jobs,
        )
    except StoppedError as stopped:
        # What was done has been done.
        _print(stopped.outcomes, chosen)
        raise
    if chosen.converge and not chosen.dry_run:
        outcomes = tuple(converged(driver, created) for created in outcomes)
    _print(outcomes, chosen)
    errors = [created.error for created in outcomes if created.error is not None]
    if errors:
        for error in errors[:-1]:
            complain(str(error))
        raise errors[-1]
    fits = all(created.planned.decision.fits for created in outcomes)
    return ExitStatus.DONE if fits else ExitStatus.DOES_NOT_FIT


def _print(outcomes: "Sequence[Created]", chosen: "Namespace") -> None:
    if chosen.json:
        documents = [_document(created) for created in outcomes]
        print_json({"version": 1, "dry_run": chosen.dry_run, "guests": documents})
        return
    for created in outcomes:
        if created.error is None:
            print("\n".join(created_lines(created, dry_run=chosen.dry_run)))


def _new_uuid() -> str:
    from uuid import uuid4  # noqa: PLC0415 - only where a guest is made

    return str(uuid4())


def _no_uuid() -> str:
    # One that will never be is not shown.
    return ""


def _document(created: Created) -> dict[str, object]:
    from homenode.formats.snapshot import digest  # noqa: PLC0415 - it imports a hash
    from homenode.placement.explain import Explanation  # noqa: PLC0415 - only for the document

    planned = created.planned
    return {
        "decision": decision_document(Explanation(planned.decision), digest(*planned.snapshot)),
        "config": planned.config.text,
        "created": None if created.guest is None else guest_document(created.guest),
        "error": None if created.error is None else str(created.error),
        "warnings": [warned._asdict() for warned in created.warnings],
    }


def created_lines(created: Created, *, dry_run: bool) -> list[str]:
    """Return what came of a request as people read it."""
    planned = created.planned
    if created.guest is not None:
        return [_headline(created.guest, created), *warning_lines(created.warnings)]
    lines = decision_lines(
        planned.decision._replace(warnings=created.warnings), planned.snapshot.host
    )
    if not planned.decision.fits:
        return [*lines, "  homenode explain tells what would make it fit"]
    if dry_run:
        lines.append("  would be created from this config:")
        lines += [f"    {line}".rstrip() for line in planned.config.text.splitlines()]
    return lines


def _headline(guest: Guest, created: Created) -> str:
    planned = created.planned
    nodes, wish = planned.decision.nodes, planned.request.explicit
    why = f"as {wish.setting} says" if wish else planned.decision.policy
    head = f"{name_text(guest.name)}: created on {node_words(nodes)} ({why})"
    where = landed(guest, nodes)
    if where.match is None:
        return f"{head}; where its memory is, nobody says"
    away = any(warned.code == "memory-elsewhere" for warned in created.warnings)
    as_planned = "" if away else ", as planned"
    return f"{head}; {where.match} % of {_of_its_memory(guest)} is there{as_planned}"


def _of_its_memory(guest: Guest) -> str:
    """Return what of its memory can be somewhere: what it has touched, where that comes later."""
    have_kib = sum(guest.memory_by_node.kib.values()) if guest.memory_by_node else 0
    if guest.memory_kib is None or have_kib * 10 >= guest.memory_kib * 9:
        return "its memory"
    return f"the {format_memory(have_kib)} that it has touched"
