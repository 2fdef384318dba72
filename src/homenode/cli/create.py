"""``homenode create``: decide, claim, create the guest there, and look where it went."""

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
from homenode.cli.decision_text import decision_document, decision_lines, warning_lines
from homenode.cli.guest_text import guest_document, node_words
from homenode.drawing import name_text
from homenode.errors import ExitStatus
from homenode.guest import Guest
from homenode.lifecycle import Created, create

_EXAMPLES = """\
  homenode create -c sim:try guest.cfg
  homenode create -c sim:try --policy spread web1.cfg web2.cfg web3.cfg
  homenode create -c sim:try --nodes 0-1 --dry-run guest.cfg

Guests are created one after the other; one that does not fit is passed over (exit status 1), any
other error ends the run. The document: {"version": 1, "dry_run": bool, "guests": [{"decision": as
of homenode place, without the rivals, "config": what the hypervisor is given, "created": guest as
of homenode list or null, "warnings": [{"code", "text"}]}]}
"""


def run(arguments: list[str]) -> int:
    """Run the verb."""
    made = parser(
        "create", "Create guests where the policy puts them, and look.", examples=_EXAMPLES
    )
    add_connection(made)
    add_wishes(made)
    made.add_argument(
        "--dry-run", action="store_true", help="decide, print what would be handed over, stop"
    )
    made.add_argument("files", nargs="+", metavar="FILE", help="guest config in xl's syntax")
    chosen = made.parse_args(arguments)
    end_as_interrupted()
    driver = connect(chosen.connect)
    status = ExitStatus.DONE
    documents: list[dict[str, object]] = []
    try:
        for path in chosen.files:
            created = create(
                driver,
                read_text(path),
                source=path,
                overrides=overrides(chosen),
                new_uuid=_no_uuid if chosen.dry_run else _new_uuid,
                dry_run=chosen.dry_run,
            )
            if not created.planned.decision.fits:
                status = ExitStatus.DOES_NOT_FIT
            if chosen.json:
                documents.append(_document(created))
            else:
                print("\n".join(_lines(created, dry_run=chosen.dry_run)), flush=True)
    except (KeyboardInterrupt, BrokenPipeError):
        # Nobody reads on: the rest is not done, which is no success.
        raise KeyboardInterrupt("homenode list tells what was created") from None
    finally:
        # What was done has been done, whatever became of the next one.
        if chosen.json:
            print_json({"version": 1, "dry_run": chosen.dry_run, "guests": documents})
    return status


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
        "warnings": [warned._asdict() for warned in created.warnings],
    }


def _lines(created: Created, *, dry_run: bool) -> list[str]:
    planned = created.planned
    if created.guest is not None:
        return [_headline(created.guest, created), *warning_lines(created.warnings)]
    lines = decision_lines(planned.decision._replace(warnings=created.warnings))
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
    as_planned = ", as planned" if where.match == 100 else ""
    return f"{head}; {where.match} % of its memory is there{as_planned}"
