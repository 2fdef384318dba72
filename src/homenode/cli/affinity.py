"""``homenode affinity``: show or change the node affinity of a guest, on-line."""

import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from homenode.affinity import Change, Kind, apply, change, named_nodes, opened
from homenode.arrival import landed
from homenode.bitmap import CpuMap
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
from homenode.drivers.base import Driver, Moving, Snapshot
from homenode.errors import Conflict, ExitStatus, HomenodeError
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import Guest
from homenode.units import parse_memory_kib

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

    from homenode.placement.decision import Warned

_EXAMPLES = """\
  homenode affinity web1                    show it
  homenode affinity web1 0-1                prefer nodes 0 and 1 from now on
  homenode affinity web1 2 --hard           use the cpus of node 2 only
  homenode affinity web1 --open             give back the hard masks that homenode replaced
  homenode affinity web1 1 --vcpus 2-3      two of its vcpus
  homenode affinity web1 2 --move           and bring the memory along (Xen)
  homenode affinity web1 2 --rate 500MiB    the same (KVM), 500 MiB in a second at most
  homenode affinity web1 2 --stay           leave the memory where it is (KVM)
  homenode affinity web1 all                prefer nothing
  homenode affinity -c sim:try web1 0-1 --dry-run

The vcpus prefer the cpus of those nodes then (soft affinity), with --hard they use no others, as
far as these are in the guest's cpupool; new memory comes from there. A guest that homenode holds
stays held, on the new nodes, unless --soft says otherwise. On Xen, memory that it has stays where
it is: --move does the only thing that brings it along, which is to save the guest and restore it,
and asks first. On KVM there is no soft affinity, and the memory follows while the guest runs, if
there is room for all that the guest may grow to; else nothing is changed (exit status 1). What is
changed on-line lasts until the guest is rebooted or moved: libxl keeps the masks that it was
created with, and libvirt its file. The document: {"version": 1, "dry_run": bool,
"wanted": {"node_affinity": [node], "kind": "hard"|"soft", "move": bool} or null, "changed": bool,
"guest": guest as of homenode list as it is now, with "affinity": [{"vcpu", "hard": cpus,
"soft": cpus, "cpu"}], "warnings": [{"code", "text"}]}
"""


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    _refuse_nonsense(chosen)
    driver = connect(chosen.connect)
    seen = driver.snapshot()
    name = name_of(chosen.name)
    guest = before = seen.guest(name)
    if guest is None or before is None:
        raise Conflict(f"{driver.uri}: there is no guest {name!r}", hint="see homenode list")
    lines: list[str] = []
    warnings: tuple[Warned, ...] = ()
    wanted = moving = None
    if chosen.nodes is not None or chosen.open:
        wanted = _wanted(chosen, seen, guest, driver)
        warnings = wanted.warnings
        moving = _moving(chosen, driver)
        if chosen.dry_run:
            lines = _plan_lines(wanted, move=moving is not None)
        elif moving is not None or not _is_so(wanted):
            end_as_interrupted()
            _ask(driver, guest, chosen)
            with _Progress(chosen) as progress:
                moving = moving and moving._replace(progress=progress)
                guest, warnings = apply(driver, wanted, moving)
    if chosen.json:
        print_json(
            {
                "version": 1,
                "dry_run": chosen.dry_run,
                "wanted": wanted and _wanted_document(wanted, move=moving is not None),
                "changed": _what_counts(guest) != _what_counts(before),
                "guest": {**guest_document(guest), "affinity": _masks_document(guest)},
                "warnings": [warned._asdict() for warned in warnings],
            }
        )
    else:
        lines += [] if chosen.dry_run else _lines(guest)
        print("\n".join([*lines, *warning_lines(warnings)]))
    return ExitStatus.DONE


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("affinity", "Show or change a guest's node affinity.", examples=_EXAMPLES)
    add_connection(made)
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--hard", action="store_true", help="use no other cpus")
    kind.add_argument("--soft", action="store_true", help="only prefer them (the default)")
    kind.add_argument(
        "--open", action="store_true", help="give back the hard masks that homenode replaced"
    )
    made.add_argument("--vcpus", metavar="L", help="only these vcpus, such as 0-1")
    memory = made.add_mutually_exclusive_group()
    memory.add_argument(
        "--move", action="store_true", help="bring its memory along, where it does not follow"
    )
    memory.add_argument(
        "--stay", action="store_true", help="leave its memory where it is, where it would follow"
    )
    made.add_argument(
        "--rate", metavar="SIZE", help="move no more memory than this in a second: 500MiB"
    )
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
    if chosen.rate and (chosen.stay or chosen.open):
        raise HomenodeError("--rate is of memory that moves, and none does", hint="leave it out")
    if chosen.move and chosen.vcpus:
        raise HomenodeError("--move takes a guest as a whole", hint="leave --vcpus out")


def _wanted(chosen: "Namespace", seen: Snapshot, guest: Guest, driver: Driver) -> Change:
    if chosen.open:
        return opened(seen, guest)
    vcpus = None if chosen.vcpus is None else CpuMap.parse(chosen.vcpus)
    if vcpus is not None and not vcpus:
        raise HomenodeError(f"--vcpus {chosen.vcpus!r} names no vcpu")
    kind: Kind | None = "hard" if chosen.hard else "soft" if chosen.soft else None
    nodes = named_nodes(chosen.nodes, seen)
    return change(seen, guest, nodes, kind=kind, vcpus=vcpus, abilities=driver.abilities)


def _moving(chosen: "Namespace", driver: Driver) -> Moving | None:
    """Return how memory is to be moved; None if it is to stay."""
    follows = driver.abilities.moves and not (chosen.stay or chosen.vcpus or chosen.open)
    rate_kib_s = None if chosen.rate is None else _rate_kib_s(chosen.rate)
    if not (chosen.move or follows):
        return None
    return Moving(config=_config(chosen.config), rate_kib_s=rate_kib_s)


def _rate_kib_s(text: str) -> int:
    try:
        kib = parse_memory_kib(text)
    except HomenodeError as error:
        raise HomenodeError(f"--rate: {error.message}", hint=error.hint) from None
    if not kib:
        raise HomenodeError(f"--rate {text[:40]}: nothing would ever move", hint="such as 500MiB")
    return kib


class _Progress:
    """Shows how much of the memory has been moved, on a terminal.

    Nothing is imported once pages move: a move is not to end because a bar cannot be drawn.
    """

    def __init__(self, chosen: "Namespace") -> None:
        self._name = name_text(name_of(chosen.name))
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Callable[[int, int], None] | None":
        if not sys.stderr.isatty():
            return None
        try:
            from rich.console import Console  # noqa: PLC0415 - only where something is drawn
            from rich.progress import Progress  # noqa: PLC0415 - the same
        except ImportError:
            return self._print
        self._bar = Progress(console=Console(stderr=True), transient=True)
        return self._show

    def _show(self, done_kib: int, all_kib: int) -> None:
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task(f"moving {self._name}", total=all_kib)
            self._bar.start()
        self._bar.update(self._task, completed=done_kib, total=all_kib)

    def _print(self, done_kib: int, all_kib: int) -> None:
        percent = done_kib * 100 // all_kib if all_kib else 100
        sys.stderr.write(f"\rmoving {self._name}: {percent} %\x1b[K")
        sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


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
        f"  vcpus     {CpuMap(vcpus)} held to cpus {hard}{_preferred(hard, soft)}"
        for (hard, soft), vcpus in masks.items()
    ]


def _preferred(hard: CpuMap, soft: CpuMap) -> str:
    # What a vcpu prefers says nothing where it may run nowhere else.
    return "" if hard <= soft else f", preferring cpus {soft}"


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
