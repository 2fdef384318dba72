"""``homenode place``: decide where a guest would go, and change nothing but, if told, its file."""

import sys
import time
from argparse import ArgumentParser
from typing import TYPE_CHECKING, NamedTuple

from homenode.asking import Asked, ask, handed_over, remarks
from homenode.bitmap import NodeMap
from homenode.cli.common import (
    add_connection,
    add_wishes,
    connect,
    default_uri,
    overrides,
    parser,
    print_json,
    read_text,
    write_text,
)
from homenode.cli.decision_text import (
    decision_document,
    decision_lines,
    explanation_lines,
    warning_lines,
    written_line,
)
from homenode.cli.view import digest_of, look, told_of
from homenode.drivers.base import Driver
from homenode.errors import ExitStatus, HomenodeError
from homenode.formats.guest_file import read_guest
from homenode.holding import held
from homenode.placement.deciding import TIME_LIMIT_S, place
from homenode.placement.decision import Decision, Warned
from homenode.placement.view import View

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import TextIO

    from homenode.formats.guest_file import GuestFile
    from homenode.placement.explain import Explanation
else:
    GuestFile = object  # not in quotes: see homenode.placement.problem

_LONGEST_S = 3600.0
_EXAMPLES = """\
  homenode place -c capture:host.txt guest.cfg
  homenode place -c sim:try --policy spread guest.cfg
  homenode place -c sim:try --policy 'nodes,distance,-usable~4G' guest.cfg
  homenode place -c sim:try --nodes '2 nodes' --json guest.cfg
  homenode place -c sim:try --virtual-nodes auto --config wide.cfg     print it with its vnuma=
  homenode place -c local:/// --huge-pages 2MiB --devices required guest.xml
  homenode place -c capture:lstopo.xml --empty --tier cxl:8GiB --write guest.xml
  homenode -c xen+ssh://a/ -c xen+ssh://b/ place --host-policy pack --not-with db1 guest.cfg
"""
_EXPLAINED = """\
  homenode explain -c capture:host.txt guest.cfg
  homenode explain -c sim:try --policy 'nodes,distance,-usable~4G' --all guest.cfg
  homenode explain -c sim:try web1                      a guest that runs
  homenode explain -c local:/// --huge-pages 1GiB --json guest.xml
"""
_DOCUMENT = """
The exit status is 0 if the guest fits and 1 if it does not; --json prints a document either way:
{"version": 1, "guest", "policy", "fits", "optimal", "nodes", "memory", "vcpus", "virtual_nodes",
"memory_needed_kib", "facts", "candidates", "rejected", "remedies", "reason", "warnings",
"snapshot"}; a list of them for several files. With several hosts it is {"version": 1, "guest",
"policy", "fits", "host", "reason", "rejected": [{"host", "reason"}], "decision": the same as
above, or null}. docs/json.md tells what the keys mean.
"""


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    return deciding("place", explaining=False)


def run(arguments: list[str]) -> int:
    """Run the verb."""
    return decide(arguments, "place", explaining=False)


class _Decided(NamedTuple):
    """A guest's file and what was decided on it: `seen` is the host, `view` what was decided on."""

    config: GuestFile
    asked: Asked
    seen: View
    view: View
    decision: Decision


def decide(arguments: list[str], verb: str, *, explaining: bool) -> int:
    """Decide on the guests of the command line; `explaining` tells why, too."""
    chosen = deciding(verb, explaining=explaining).parse_args(arguments)
    _refuse_mixed_output(chosen)
    uris = chosen.connect or [default_uri()] if not explaining else [chosen.connect]
    if len(uris) > 1:
        from homenode.cli.place_on_fleet import place_on_fleet  # noqa: PLC0415 - for many hosts

        return place_on_fleet(chosen)
    if not explaining:
        _refuse_options_of_several(chosen)
    driver = connect(uris[0])
    # All of them before anything is printed or written: bad input in one file changes none.
    decided = [_decided(path, chosen, driver) for path in chosen.files]
    files = [_file_of(made) if _is_wanted(made, chosen) else "" for made in decided]
    for path, made, text in zip(chosen.files, decided, files, strict=True):
        if made.decision.fits and chosen.write:
            write_text(path, text)
        if not chosen.json:
            _tell(path, made, text, chosen, explaining=explaining)
    if chosen.json:
        documents = [
            decision_document(_told(made, chosen), digest_of(made.seen)) for made in decided
        ]
        print_json(documents[0] if len(documents) == 1 else documents)
    fits = all(made.decision.fits for made in decided)
    return ExitStatus.DONE if fits else ExitStatus.DOES_NOT_FIT


def _tell(path: str, made: _Decided, text: str, chosen: "Namespace", *, explaining: bool) -> None:
    fits = made.decision.fits
    if fits and chosen.config:
        print(text, end="")
        # What is to be said must not get into the file that this goes to.
        _say(warning_lines(made.decision.warnings), sys.stderr)
        return
    lines = decision_lines(made.decision, made.seen.host)
    if explaining or not fits:
        lines += explanation_lines(_told(made, chosen))
    if not (fits or chosen.empty) and _is_unknown(made.decision):
        lines += ["", "--empty decides as if no guest ran there"]
    if fits and chosen.write:
        lines.append(written_line(path))
    _say(lines, sys.stderr if chosen.config else sys.stdout)


def _decided(path: str, chosen: "Namespace", driver: Driver) -> _Decided:
    config = read_guest(read_text(path), source=path)
    seen = look(driver).emptied() if chosen.empty else look(driver)
    wishes = overrides(chosen)
    asked = ask(config, seen.host, wishes)
    view, running = _as_if_new(seen, asked.request.name)
    decision = place(
        view, asked.request, asked.policy, clock=time.thread_time, time_limit_s=chosen.seconds
    )
    decision = held(decision, asked.request, view, hold=wishes.hold)
    told = remarks(config, asked.request, decision, seen.host)
    warnings = asked.warnings + decision.warnings + running + told
    return _Decided(config, asked, seen, view, decision._replace(warnings=warnings))


def _is_wanted(made: _Decided, chosen: "Namespace") -> bool:
    return made.decision.fits and (chosen.config or chosen.write)


def _file_of(made: _Decided) -> str:
    return handed_over(made.config, made.asked.request, made.decision, made.seen.host)


def _told(made: _Decided, chosen: "Namespace") -> "Explanation":
    return told_of(made.view, made.asked, made.decision, everything=chosen.all)


def _is_unknown(decision: Decision) -> bool:
    return any(warned.code == "free-memory-unknown" for warned in decision.warnings)


def _say(lines: "Sequence[str]", stream: "TextIO") -> None:
    if lines:
        print("\n".join(lines), file=stream)


def _refuse_mixed_output(chosen: "Namespace") -> None:
    if chosen.config and chosen.json:
        hint = "ask for one after the other"
        raise HomenodeError("--config prints a guest's file, and --json a document", hint=hint)
    if chosen.config and len(chosen.files) > 1:
        raise HomenodeError("--config prints the file of one FILE", hint="--write changes several")


def _refuse_options_of_several(chosen: "Namespace") -> None:
    given = {
        "--host-policy": chosen.host_policy, "--with": chosen.beside,
        "--not-with": chosen.not_with, "--overcommit": chosen.overcommit,
    }  # fmt: skip
    for option, value in given.items():
        if value:
            raise HomenodeError(f"{option} is for several hosts", hint="name each: -c URI -c URI")


def deciding(verb: str, *, explaining: bool) -> ArgumentParser:
    """Return the parser of a verb that decides on guests' files; `explaining` tells why, too."""
    purpose = (
        "Tell why guests go where they go. Nothing is changed."
        if explaining
        else "Decide where guests would go. Nothing is changed but, with --write, their files."
    )
    made = parser(verb, purpose, examples=(_EXPLAINED if explaining else _EXAMPLES) + _DOCUMENT)
    add_connection(made, several=not explaining)
    add_wishes(made)
    made.add_argument(
        "--empty",
        action="store_true",
        help="as if no guest ran there: also for descriptions that do not tell what is free",
    )
    made.set_defaults(config=False, write=False)
    if not explaining:
        _add_fleet(made)
        written = made.add_mutually_exclusive_group()
        written.add_argument(
            "--config", action="store_true", help="print the guest's file with the decision in it"
        )
        written.add_argument(
            "--write", action="store_true", help="write the decision into the guest's file"
        )
    made.add_argument(
        "--all", action="store_true", help="every candidate and every refusal, not the first few"
    )
    made.add_argument(
        "--seconds",
        type=_seconds,
        default=TIME_LIMIT_S,
        metavar="S",
        help=f"how long to search on a very large host (default: {TIME_LIMIT_S})",
    )
    made.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="guest config in xl's syntax, or libvirt's XML (- is standard input); of several, each"
        " is decided on as if it came alone"
        + ("; or, alone, the name of a guest that runs" if explaining else ""),
    )
    return made


def _add_fleet(made: ArgumentParser) -> None:
    many = made.add_argument_group("of several hosts (-c URI -c URI)")
    many.add_argument(
        "--host-policy",
        metavar="P",
        help="which of the hosts that can hold it: first, pack, spread, preserve, flat, or an order"
        " of facts (default: preserve; see homenode policies)",
    )
    many.add_argument(
        "--with",
        dest="beside",
        action="append",
        default=[],
        metavar="GUEST",
        help="on the host of that guest; may be given again",
    )
    many.add_argument(
        "--not-with",
        action="append",
        default=[],
        metavar="GUEST",
        help="not on the host of that guest; may be given again",
    )
    many.add_argument(
        "--overcommit",
        metavar="N",
        help="no more than so many vcpus for each cpu of a node (default: any number)",
    )


def _seconds(text: str) -> float:
    from argparse import ArgumentTypeError  # noqa: PLC0415 - rarely

    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_S:
        raise ArgumentTypeError(f"{text[:40]!r} is no number of seconds from 0 to {_LONGEST_S:g}")
    return seconds


def _as_if_new(view: View, name: str) -> tuple[View, tuple[Warned, ...]]:
    # A guest that runs already is decided on as if it did not: its memory is its own to use.
    running = [guest for guest in view.guests if guest.name == name]
    if not running:
        return view, ()
    there = running[0].memory_by_node
    where = f" with memory on {NodeMap(there.kib).named}" if there is not None else ""
    text = f"{name[:40]} is running{where}; this is decided as if it were not"
    return view.without(running), (Warned("already-running", text),)
