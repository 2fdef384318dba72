"""``homenode affinity``: show or change the node affinity of a guest, on-line."""

import sys
from typing import TYPE_CHECKING

from homenode.affinity import Change, Kind, apply, change, opened
from homenode.arrival import landed
from homenode.bitmap import CpuMap, NodeMap
from homenode.cli.common import (
    add_connection,
    connect,
    end_as_interrupted,
    name_of,
    parser,
    print_json,
    read_text,
)
from homenode.cli.decision_text import warning_lines
from homenode.cli.guest_text import guest_document, memory_text, node_words
from homenode.drawing import name_text
from homenode.drivers.base import Driver, Snapshot
from homenode.errors import Conflict, ExitStatus, HomenodeError
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from homenode.placement.decision import Warned

_EXAMPLES = """\
  homenode affinity web1                    show it
  homenode affinity web1 0-1                prefer nodes 0 and 1 from now on
  homenode affinity web1 2 --hard           use the cpus of node 2 only
  homenode affinity web1 --open             give back the hard masks that homenode replaced
  homenode affinity web1 1 --vcpus 2-3      two of its vcpus
  homenode affinity web1 2 --move           and bring the memory along
  homenode affinity web1 all                prefer nothing
  homenode affinity -c sim:try web1 0-1 --dry-run

The vcpus prefer the cpus of those nodes then (soft affinity), with --hard they use no others, as
far as these are in the guest's cpupool; new memory comes from there. A guest that homenode holds
stays held, on the new nodes, unless --soft says otherwise. Memory that it has stays where it is:
Xen moves none. --move does the only thing that brings it along, which on Xen is to save the guest
and restore it, and asks first. What is changed on-line lasts until the guest is rebooted or moved:
libxl keeps the masks that it was created with. The document: {"version": 1, "dry_run": bool,
"wanted": {"node_affinity": [node], "kind": "hard"|"soft", "move": bool} or null, "changed": bool,
"guest": guest as of homenode list as it is now, with "affinity": [{"vcpu", "hard": cpus,
"soft": cpus, "cpu"}], "warnings": [{"code", "text"}]}
"""


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = _parser().parse_args(arguments)
    _refuse_nonsense(chosen)
    driver = connect(chosen.connect)
    seen = driver.snapshot()
    name = name_of(chosen.name)
    guest = before = seen.guest(name)
    if guest is None or before is None:
        raise Conflict(f"{driver.uri}: there is no guest {name!r}", hint="see homenode list")
    lines: list[str] = []
    warnings: tuple[Warned, ...] = ()
    wanted = None
    if chosen.nodes is not None or chosen.open:
        wanted = _wanted(chosen, seen, guest)
        warnings = wanted.warnings
        if chosen.dry_run:
            lines = _plan_lines(wanted, move=chosen.move)
        elif chosen.move or not _is_so(wanted):
            end_as_interrupted()
            _ask(driver, guest, chosen)
            guest, warnings = apply(driver, wanted, move=chosen.move, config=_config(chosen.config))
    if chosen.json:
        print_json(
            {
                "version": 1,
                "dry_run": chosen.dry_run,
                "wanted": None if wanted is None else _wanted_document(wanted, move=chosen.move),
                "changed": _what_counts(guest) != _what_counts(before),
                "guest": {**guest_document(guest), "affinity": _masks_document(guest)},
                "warnings": [warned._asdict() for warned in warnings],
            }
        )
    else:
        lines += [] if chosen.dry_run else _lines(guest)
        print("\n".join([*lines, *warning_lines(warnings)]))
    return ExitStatus.DONE


def _parser() -> "ArgumentParser":
    made = parser("affinity", "Show or change a guest's node affinity.", examples=_EXAMPLES)
    add_connection(made)
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--hard", action="store_true", help="use no other cpus")
    kind.add_argument("--soft", action="store_true", help="only prefer them (the default)")
    kind.add_argument(
        "--open", action="store_true", help="give back the hard masks that homenode replaced"
    )
    made.add_argument("--vcpus", metavar="L", help="only these vcpus, such as 0-1")
    made.add_argument("--move", action="store_true", help="bring its memory along")
    made.add_argument(
        "--config", metavar="FILE", help="its config, for a move if homenode did not create it"
    )
    made.add_argument("--yes", action="store_true", help="do not ask before a move")
    made.add_argument("--dry-run", action="store_true", help="only say what would change")
    made.add_argument("name", metavar="NAME", help="the name of a guest")
    made.add_argument(
        "nodes", metavar="NODES", nargs="?", help="nodes such as 0-1 or 0-3,^2, or all"
    )
    return made


def _refuse_nonsense(chosen: "Namespace") -> None:
    if chosen.open and (chosen.nodes is not None or chosen.move or chosen.vcpus):
        raise HomenodeError("--open gives back what was", hint="homenode affinity NAME --open")
    changing = chosen.hard or chosen.soft or chosen.vcpus or chosen.move or chosen.dry_run
    if changing and chosen.nodes is None and not chosen.open:
        raise HomenodeError("no nodes are named", hint="homenode affinity NAME NODES --move")
    if chosen.move and chosen.vcpus:
        raise HomenodeError("--move takes a guest as a whole", hint="leave --vcpus out")


def _wanted(chosen: "Namespace", seen: Snapshot, guest: Guest) -> Change:
    if chosen.open:
        return opened(seen, guest)
    vcpus = None if chosen.vcpus is None else CpuMap.parse(chosen.vcpus)
    if vcpus is not None and not vcpus:
        raise HomenodeError(f"--vcpus {chosen.vcpus!r} names no vcpu")
    kind: Kind | None = "hard" if chosen.hard else "soft" if chosen.soft else None
    return change(seen, guest, _nodes(chosen.nodes, seen), kind=kind, vcpus=vcpus)


def _nodes(text: str, seen: Snapshot) -> NodeMap:
    if text == "all":
        return seen.host.node_map
    nodes = NodeMap.parse_libvirt(text, within=seen.host.node_map)
    if not nodes:
        raise HomenodeError(f"{text!r} leaves no node", hint="all prefers nothing")
    return nodes


def _config(path: str | None) -> GuestConfig | None:
    return None if path is None else GuestConfig.parse(read_text(path), source=path)


def _ask(driver: Driver, guest: Guest, chosen: "Namespace") -> None:
    """Have a move that costs the guest something confirmed."""
    cost = driver.move_warning(guest) if chosen.move else None
    if cost is None or chosen.yes:
        return
    if not sys.stdin.isatty():
        raise HomenodeError(f"{cost}", hint="--yes if that is meant")
    sys.stderr.write(f"{cost}. Move it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise HomenodeError(f"{guest.name!r} is not moved")


def _is_so(wanted: Change) -> bool:
    now = tuple((vcpu.hard, vcpu.soft) for vcpu in wanted.guest.vcpus)
    return now == wanted.masks and wanted.guest.held == wanted.held


def _what_counts(guest: Guest) -> object:
    # Where vcpus happen to run, and for how long, is no change.
    masks = [(vcpu.id, vcpu.hard, vcpu.soft) for vcpu in guest.vcpus]
    memory = guest.memory_by_node and guest.memory_by_node.kib
    return guest.id, guest.node_affinity, guest.held, masks, memory


def _wanted_document(wanted: Change, *, move: bool) -> dict[str, object]:
    kind = "soft" if wanted.held is None else "hard"
    return {"node_affinity": list(wanted.nodes), "kind": kind, "move": move}


def _masks_document(guest: Guest) -> list[dict[str, object]]:
    return [
        {"vcpu": vcpu.id, "hard": str(vcpu.hard), "soft": str(vcpu.soft), "cpu": vcpu.cpu}
        for vcpu in guest.vcpus
    ]


def _lines(guest: Guest) -> list[str]:
    by_node = None if guest.memory_by_node is None else guest.memory_by_node.kib
    match = landed(guest).match
    share = "" if match is None else f", {match} % on its nodes"
    held = "" if guest.held is None else f", held to {node_words(guest.held)} by homenode"
    lines = [
        f"{name_text(guest.name)}: {node_words(guest.node_affinity)}{held}",
        f"  memory    {memory_text(by_node)}{share}",
    ]
    masks: dict[tuple[CpuMap, CpuMap], list[int]] = {}
    for vcpu in guest.vcpus:
        masks.setdefault((vcpu.hard, vcpu.soft), []).append(vcpu.id)
    return lines + [
        f"  vcpus     {CpuMap(vcpus)} held to cpus {hard}, preferring cpus {soft}"
        for (hard, soft), vcpus in masks.items()
    ]


def _plan_lines(wanted: Change, *, move: bool) -> list[str]:
    guest, nodes = wanted.guest, wanted.nodes
    name = name_text(guest.name)
    now = node_words(guest.node_affinity)
    verb = "prefer" if wanted.held is None else "be held to"
    lines = [f"{name}: would {verb} {node_words(nodes)} instead of {now}"]
    if _is_so(wanted):
        lines = [f"{name}: would {verb} {now} as it does"]
    elsewhere_kib = landed(guest, nodes).elsewhere_kib
    if elsewhere_kib is None:
        return [*lines, "  memory    where it is, nobody says"]
    if not elsewhere_kib:
        return [*lines, "  memory    all of it is there"]
    what = "would move there, as far as there is room" if move else "would stay where it is"
    return [*lines, f"  memory    {memory_text(elsewhere_kib)} {what}"]
