"""``homenode affinity``: show or change the node affinity of a guest, on-line."""

from homenode.bitmap import CpuMap, NodeMap
from homenode.cli.common import add_connection, connect, parser, print_json
from homenode.cli.decision_text import warning_lines
from homenode.cli.guest_text import guest_document, memory_text, node_words
from homenode.drawing import name_text
from homenode.drivers.base import Snapshot
from homenode.errors import Conflict, ExitStatus, HomenodeError
from homenode.guest import Guest
from homenode.lifecycle import landed, set_affinity
from homenode.placement.decision import Warned

_EXAMPLES = """\
  homenode affinity -c sim:try web1               show it
  homenode affinity -c sim:try web1 0-1           prefer nodes 0 and 1 from now on
  homenode affinity -c sim:try web1 2 --move      and bring the memory along
  homenode affinity -c sim:try web1 all           prefer nothing

The vcpus prefer the cpus of those nodes then (soft affinity), and new memory comes from there.
Memory that the guest has stays where it is without --move; with it, as much moves as there is room
for. The document: {"version": 1, "dry_run": bool, "wanted": {"node_affinity": [node], "move": bool}
or null, "changed": bool, "guest": guest as of homenode list as it is now, with "affinity":
[{"vcpu", "hard": cpus, "soft": cpus, "cpu"}], "warnings": [{"code", "text"}]}
"""


def run(arguments: list[str]) -> int:
    """Run the verb."""
    made = parser("affinity", "Show or change a guest's node affinity.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument("--move", action="store_true", help="bring its memory along")
    made.add_argument("--dry-run", action="store_true", help="only say what would change")
    made.add_argument("name", metavar="NAME", help="the name of a guest")
    made.add_argument(
        "nodes", metavar="NODES", nargs="?", help="nodes such as 0-1 or 0-3,^2, or all"
    )
    chosen = made.parse_args(arguments)
    if chosen.nodes is None and (chosen.move or chosen.dry_run):
        raise HomenodeError("no nodes are named", hint="homenode affinity NAME NODES --move")
    driver = connect(chosen.connect)
    seen = driver.snapshot()
    guest = before = seen.guest(chosen.name)
    if guest is None or before is None:
        raise Conflict(f"{driver.uri}: there is no guest {chosen.name!r}", hint="see homenode list")
    lines: list[str] = []
    warnings: tuple[Warned, ...] = ()
    wanted = None
    if chosen.nodes is not None:
        nodes = _nodes(chosen.nodes, seen)
        wanted = {"node_affinity": list(nodes), "move": chosen.move}
        warnings = _warnings(guest, nodes, seen)
        if chosen.dry_run:
            lines = _plan_lines(guest, nodes, move=chosen.move)
        else:
            guest = set_affinity(driver, guest.name, nodes, move=chosen.move)
    if chosen.json:
        print_json(
            {
                "version": 1,
                "dry_run": chosen.dry_run,
                "wanted": wanted,
                "changed": guest != before,
                "guest": {**guest_document(guest), "affinity": _masks_document(guest)},
                "warnings": [warned._asdict() for warned in warnings],
            }
        )
    else:
        lines += [] if chosen.dry_run else _lines(guest)
        print("\n".join([*lines, *warning_lines(warnings)]))
    return ExitStatus.DONE


def _nodes(text: str, seen: Snapshot) -> NodeMap:
    if text == "all":
        return seen.host.node_map
    nodes = NodeMap.parse_libvirt(text, within=seen.host.node_map)
    if not nodes:
        raise HomenodeError(f"{text!r} leaves no node", hint="all prefers nothing")
    return nodes


def _warnings(guest: Guest, nodes: NodeMap, seen: Snapshot) -> tuple[Warned, ...]:
    there = seen.host.cpus_of(nodes) & seen.host.pool(guest.pool).cpus
    away = CpuMap(vcpu.id for vcpu in guest.vcpus if vcpu.hard.isdisjoint(there))
    if not away:
        return ()
    text = f"vcpu {away} may not run on {nodes.named}, and Xen gives memory where the cpus are"
    return (Warned("vcpus-away-from-memory", text),)


def _masks_document(guest: Guest) -> list[dict[str, object]]:
    return [
        {"vcpu": vcpu.id, "hard": str(vcpu.hard), "soft": str(vcpu.soft), "cpu": vcpu.cpu}
        for vcpu in guest.vcpus
    ]


def _lines(guest: Guest) -> list[str]:
    by_node = None if guest.memory_by_node is None else guest.memory_by_node.kib
    match = landed(guest).match
    share = "" if match is None else f", {match} % on its nodes"
    lines = [
        f"{name_text(guest.name)}: {node_words(guest.node_affinity)}",
        f"  memory    {memory_text(by_node)}{share}",
    ]
    masks: dict[tuple[CpuMap, CpuMap], list[int]] = {}
    for vcpu in guest.vcpus:
        masks.setdefault((vcpu.hard, vcpu.soft), []).append(vcpu.id)
    return lines + [
        f"  vcpus     {CpuMap(vcpus)} held to cpus {hard}, preferring cpus {soft}"
        for (hard, soft), vcpus in masks.items()
    ]


def _plan_lines(guest: Guest, nodes: NodeMap, *, move: bool) -> list[str]:
    name = name_text(guest.name)
    now = node_words(guest.node_affinity)
    lines = [f"{name}: would prefer {node_words(nodes)} instead of {now}"]
    if guest.node_affinity == nodes:
        lines = [f"{name}: would prefer {now} as it does"]
    elsewhere_kib = landed(guest, nodes).elsewhere_kib
    if elsewhere_kib is None:
        return [*lines, "  memory    where it is, nobody says"]
    if not elsewhere_kib:
        return [*lines, "  memory    all of it is there"]
    what = "would move there, as far as there is room" if move else "would stay where it is"
    return [*lines, f"  memory    {memory_text(elsewhere_kib)} {what}"]
