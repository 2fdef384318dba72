"""``homenode -c URI -c URI place``: on which of several hosts a guest would go, and where there."""

import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from homenode.asking import Asked, ask, handed_over, remarks
from homenode.cli.common import connect, overrides, print_json, read_text, write_text
from homenode.cli.decision_text import decision_document, decision_lines, written_line
from homenode.cli.view import digest_of, look, told_of
from homenode.drawing import name_text
from homenode.errors import ExitStatus, HomenodeError, HypervisorError
from homenode.fleet.hosts import OverCommit
from homenode.fleet.live import fleet_of
from homenode.fleet.placing import Choice, Refusal, place
from homenode.fleet.policies import DEFAULT, FleetPolicy, host_policy
from homenode.formats.guest_file import read_guest
from homenode.holding import held
from homenode.placement.view import View

if TYPE_CHECKING:
    from argparse import Namespace

    from homenode.asking import Overrides
    from homenode.formats.guest_file import GuestFile

_MOST_AT_ONCE = 32
_SHOWN = 8


class _Seen(NamedTuple):
    """The hosts that answered, by URI, and those that did not."""

    views: dict[str, View]
    silent: tuple[Refusal, ...]


class _Chosen(NamedTuple):
    """What came of one guest: `asked` is what it asked for on the host that it got."""

    config: "GuestFile"
    name: str
    policy: FleetPolicy
    choice: Choice
    asked: Asked | None


def place_on_fleet(chosen: "Namespace") -> int:
    """Decide on the guests of the command line; exit status 1 if one fits on no host."""
    uris = list(dict.fromkeys(chosen.connect))
    limit = None if chosen.overcommit is None else _ratio(chosen.overcommit)
    over_commit = OverCommit(vcpus=limit)
    seen = _look_at_all(uris, empty=chosen.empty)
    made = [_choose(path, chosen, seen, over_commit) for path in chosen.files]
    # All of them before anything is printed or written: bad input in one file changes none.
    wanted = chosen.write or chosen.config
    files = [_file_of(one, seen) if wanted and one.choice.fits else "" for one in made]
    for path, one, text in zip(chosen.files, made, files, strict=True):
        if one.choice.fits and chosen.write:
            write_text(path, text)
        if not chosen.json:
            _tell(path, one, text, chosen, seen)
    if chosen.json:
        documents = [_document(one, seen, everything=chosen.all) for one in made]
        print_json(documents[0] if len(documents) == 1 else documents)
    fits = all(one.choice.fits for one in made)
    return ExitStatus.DONE if fits else ExitStatus.DOES_NOT_FIT


def _tell(path: str, one: _Chosen, text: str, chosen: "Namespace", seen: _Seen) -> None:
    lines = _lines(one, seen, everything=chosen.all)
    if one.choice.fits and chosen.config:
        print(text, end="")
    if one.choice.fits and chosen.write:
        lines.append(written_line(path))
    # What is to be said must not get into the file that a config goes to.
    print("\n".join(lines), file=sys.stderr if chosen.config else sys.stdout)


def _ratio(text: str) -> Fraction:
    ratio = Fraction(text) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) else Fraction(0)
    if not 0 < ratio <= 1000:
        raise HomenodeError(f"--overcommit {text}: not a number of vcpus for a cpu", hint="try 2")
    return ratio


def _look_at_all(uris: Sequence[str], *, empty: bool) -> _Seen:
    def seen(uri: str) -> View | Refusal:
        try:
            view = look(connect(uri))
        except HypervisorError as error:
            return Refusal(uri, str(error))
        return view.emptied() if empty else view

    with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(uris))) as pool:
        found = dict(zip(uris, pool.map(seen, uris), strict=True))
    silent = tuple(one for one in found.values() if isinstance(one, Refusal))
    views = {uri: one for uri, one in found.items() if isinstance(one, View)}
    if not views:
        raise HypervisorError(f"none of {len(uris)} hosts answered: {silent[0].reason}")
    for one in silent:
        print(f"homenode: {one.host} is left out: {one.reason}", file=sys.stderr)
    return _Seen(views, silent)


def _choose(path: str, chosen: "Namespace", seen: _Seen, over_commit: OverCommit) -> _Chosen:
    config = read_guest(read_text(path), source=path)
    wishes = overrides(chosen)
    asked, unable = _asked(config, seen, wishes)
    first = next(iter(asked.values()))
    name = first.request.name
    views = {
        uri: view.without([guest for guest in view.guests if guest.name == name])
        for uri, view in seen.views.items()
        if uri in asked
    }
    policy = FleetPolicy(host_policy(chosen.host_policy or DEFAULT), first.policy)
    choice = place(
        fleet_of(views, over_commit),
        first.request,
        policy,
        allowed=_allowed(chosen, seen),
        requests={uri: one.request for uri, one in asked.items()},
        clock=time.thread_time,
    )
    own = None if choice.host is None else asked[choice.host]
    if choice.host is not None and choice.decision is not None and own is not None:
        view = views[choice.host]
        decision = held(choice.decision, own.request, view, hold=wishes.hold)
        told = remarks(config, own.request, decision, view.host)
        warnings = own.warnings + decision.warnings + told
        choice = choice._replace(decision=decision._replace(warnings=warnings))
    rejected = choice.rejected + unable + seen.silent
    return _Chosen(config, name, policy, choice._replace(rejected=rejected), own)


def _asked(
    config: "GuestFile", seen: _Seen, wishes: "Overrides"
) -> tuple[dict[str, Asked], tuple[Refusal, ...]]:
    """Return what is asked for on each host, and the hosts that it cannot be asked of."""
    asked: dict[str, Asked] = {}
    unable: dict[str, HomenodeError] = {}
    for uri, view in seen.views.items():
        try:
            asked[uri] = ask(config, view.host, wishes)
        except HomenodeError as error:
            unable[uri] = error
    if not asked:
        raise next(iter(unable.values()))
    return asked, tuple(Refusal(uri, str(error)) for uri, error in unable.items())


def _allowed(chosen: "Namespace", seen: _Seen) -> Callable[[str], bool]:
    names = {uri: {guest.name for guest in view.guests} for uri, view in seen.views.items()}
    beside, not_with = set(chosen.beside), set(chosen.not_with)
    for guest in sorted(beside | not_with):
        if not any(guest in own for own in names.values()):
            raise HomenodeError(f"no host has a guest {name_text(guest)!r}")
    return lambda uri: beside <= names[uri] and not not_with & names[uri]


def _file_of(one: _Chosen, seen: _Seen) -> str:
    assert one.asked is not None  # noqa: S101 - it fits
    assert one.choice.host is not None  # noqa: S101 - the same
    assert one.choice.decision is not None  # noqa: S101 - the same
    host = seen.views[one.choice.host].host
    return handed_over(one.config, one.asked.request, one.choice.decision, host)


def _document(one: _Chosen, seen: _Seen, *, everything: bool) -> dict[str, object]:
    choice = one.choice
    decision = None
    if choice.decision is not None and choice.host is not None and one.asked is not None:
        view = seen.views[choice.host]
        told = told_of(view, one.asked, choice.decision, everything=everything)
        decision = decision_document(told, digest_of(view))
    return {
        "version": 1,
        "guest": one.name,
        "policy": one.policy.name,
        "fits": choice.fits,
        "host": choice.host,
        "reason": choice.reason,
        "rejected": [{"host": host, "reason": reason} for host, reason in choice.rejected],
        "decision": decision,
    }


def _lines(one: _Chosen, seen: _Seen, *, everything: bool) -> list[str]:
    choice = one.choice
    if choice.host is None or choice.decision is None:
        lines = [
            f"{name_text(one.name)} fits on none of {len(seen.views)} hosts",
            f"  because  {choice.reason}",
        ]
    else:
        lines = decision_lines(choice.decision, seen.views[choice.host].host)
        lines.insert(1, f"  host     {choice.host}")
        lines = [
            f"  because  {choice.reason}" if line.startswith("  because") else line
            for line in lines
        ]
    shown = choice.rejected if everything or choice.host is None else choice.rejected[:_SHOWN]
    lines += [f"  not on   {host}: {reason}" for host, reason in shown]
    more = len(choice.rejected) - len(shown)
    return lines + [f"  and on {more} more; --all shows them"] * (more > 0)
