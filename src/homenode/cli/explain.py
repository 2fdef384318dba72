"""``homenode explain``: tell why a guest goes where it goes, or is where it is, or why nowhere."""

import os
from argparse import ArgumentParser
from time import thread_time

from homenode.checking import as_request, check
from homenode.cli.check import finding_lines
from homenode.cli.common import add_connection, connect, name_of, parser, print_json
from homenode.cli.guest_text import guest_document, memory_text, node_words
from homenode.cli.place import decide, deciding
from homenode.drawing import name_text
from homenode.drivers.base import Driver, Snapshot
from homenode.errors import ExitStatus, HomenodeError
from homenode.guest import Guest
from homenode.placement import Decision, View, place, policy
from homenode.placement.policies import DEFAULT

_EXAMPLES = """\
  homenode explain web1                 a guest that runs: where it is, why, and what is better
  homenode explain guest.cfg            a config: where it would go, and why not elsewhere

Told of a running guest are its memory, what holds it, what is not as it should be, and where the
default policy would put one of its size now, if it were not there. The document: {"version": 1,
"guest": as of homenode list, "findings": as of homenode check, "now": {"fits": bool, "nodes":
[node], "reason"}, "stays": bool}
"""


def options() -> ArgumentParser:
    """Return the parser of the verb, for configs; a guest that runs has a NAME instead of FILE."""
    return deciding("explain", explaining=True)


def run(arguments: list[str]) -> int:
    """Run the verb, for a guest if one is named and no file, else for configs."""
    names = [word for word in arguments if not word.startswith("-") and not os.path.exists(word)]  # noqa: PTH110 - pathlib costs 5 ms
    made = parser("explain", "Tell why a guest is where it is.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument("name", metavar="NAME", help="the name of a guest")
    if not names or len(arguments) > _MOST_WORDS or "--help" in arguments:
        return _decided(arguments)
    try:
        chosen = made.parse_args(arguments)
    except Exception:  # noqa: BLE001 - options of a config's explanation
        return _decided(arguments)
    driver = connect(chosen.connect)
    seen = driver.snapshot()
    guest = seen.guest(name_of(chosen.name))
    if guest is None:
        if chosen.name == "-" or os.path.exists(chosen.name):  # noqa: PTH110 - as above
            return decide(arguments, "explain", explaining=True)
        name = name_text(name_of(chosen.name))
        raise HomenodeError(f"there is no guest and no file {name!r}", hint="see homenode list")
    _explain(seen, guest, driver, as_json=chosen.json)
    return ExitStatus.DONE


_MOST_WORDS = 4


def _decided(arguments: list[str]) -> int:
    if "-h" not in arguments and "--help" not in arguments:
        for file in options().parse_args(arguments).files:
            if file != "-" and not os.path.exists(file):  # noqa: PTH110 - as above
                raise HomenodeError(
                    f"{name_text(name_of(file))!r} is no file",
                    hint="a guest that runs is explained alone, without such options:"
                    " homenode explain NAME",
                )
    return decide(arguments, "explain", explaining=True)


def _explain(seen: Snapshot, guest: Guest, driver: Driver, *, as_json: bool) -> None:
    rule, abilities = driver.share_rule, driver.abilities
    everything = check(seen, share_rule=rule, abilities=abilities)
    found = [one for one in everything if one.guest == guest.name]
    view = View(seen.host, seen.guests, {}, rule).without([guest])
    now = place(view, as_request(guest), policy(DEFAULT), clock=thread_time)
    if as_json:
        print_json(
            {
                "version": 1,
                "guest": guest_document(guest),
                "findings": [one._asdict() for one in found],
                "now": {"fits": now.fits, "nodes": list(now.nodes), "reason": now.reason},
                "stays": now.nodes == guest.node_affinity,
            }
        )
        return
    print(
        "\n".join(
            [
                *_lines(seen, guest, now),
                *(f"  {line}" for one in found for line in finding_lines(one)),
            ]
        )
    )


def _lines(seen: Snapshot, guest: Guest, now: Decision) -> list[str]:
    memory = guest.memory_by_node
    lines = [
        f"{name_text(guest.name)}: on {node_words(guest.node_affinity)}",
        f"  memory    {memory_text(None if memory is None else memory.kib)}"
        + ("" if memory is None else f" ({memory.source})"),
        f"  held      {_holding(seen, guest)}",
    ]
    if not now.fits:
        lines.append("  now       one of its size would not fit, even in its place")
    elif now.nodes == guest.node_affinity:
        lines.append(f"  now       {now.policy} would put it there again: {now.reason}")
    else:
        lines.append(f"  now       {now.policy} would put it on {now.nodes.named}: {now.reason}")
    return lines


def _holding(seen: Snapshot, guest: Guest) -> str:
    if guest.held is not None:
        return f"by homenode, to {guest.held.named}"
    if any(vcpu.hard < seen.host.cpu_map for vcpu in guest.vcpus):
        return "by hard masks that are not homenode's"
    if any(vcpu.soft < seen.host.cpu_map for vcpu in guest.vcpus):
        return "nothing: it only prefers its nodes"
    return "nothing: it may run anywhere"
