"""Stock xl beside homenode, on one real Xen: what memory and vcpus do with each.

    python -m proof.table [--rows a,b,...] [--output FILE]

The lab's Xen is booted with four nodes at distances 10, 16 and 22, and credit2, which is Xen's
default. Each row is a situation that is made twice, once with ``xl create`` and once with
``homenode create`` of the same files, on the same empty host. What came of it is asked of Xen
itself: ``xl debug-keys u`` counts the pages, ``xl vcpu-list`` shows who runs where.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from homenode.bitmap import NodeMap
from homenode.formats import xen_debug_keys, xl_info, xl_list
from proof.residency import EXACT_TIME, LAB, MASKS, Run, hold, running_on

if TYPE_CHECKING:
    from lab import Lab

AS_FAST_AS_IT_GOES: tuple[str, tuple[str, ...]] = ("tcg,thread=multi", ())
TOOLS = ("xl", "homenode")
CREATE = {"xl": "xl create -q", "homenode": "homenode create"}
SAMPLES = 6
SEEDS = 2
COUNTS_PERCENT = 1
"""A node with less of a guest's memory than this has none of it worth a word."""

MIB = 256
"""Pages of a MiB."""


class Seen(NamedTuple):
    """One guest, as Xen tells of it: pages by node, its node affinity, and where it ran."""

    name: str
    pages: dict[int, int]
    affinity: NodeMap
    ran: tuple[int, ...]

    def on(self, nodes: NodeMap) -> int:
        """Return its pages on those nodes."""
        return sum(count for node, count in self.pages.items() if node in nodes)

    @property
    def homes(self) -> NodeMap:
        """The nodes that hold any of its memory worth a word."""
        total = sum(self.pages.values())
        return NodeMap(
            node for node, count in self.pages.items() if count * 100 >= total * COUNTS_PERCENT
        )


class Outcome(NamedTuple):
    """What one tool made of a situation. None is not asked in that row."""

    guests: tuple[Seen, ...]
    asked: NodeMap | None
    failures: int
    raw: tuple[str, ...]
    residency: float | None = None
    seconds: float | None = None


class Host:
    """The lab's host: its distances, and what is on it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        info = xl_info.parse(run("xl info -n"))
        self.distances = info.distances
        self.node_of = {cpu.id: cpu.node for cpu in info.cpus}
        self.nodes = NodeMap(node.id for node in info.nodes)

    def free_mib(self, node: int) -> int:
        """Return what ``xl info -n`` says to be free on a node."""
        nodes = xl_info.parse(self.run("xl info -n")).nodes
        return next(one.free_kib >> 10 for one in nodes if one.id == node)

    def look(self, names: Iterable[str], *, running: bool = False) -> tuple[Seen, ...]:
        """Ask Xen where those guests are; with `running` watch where they run as well."""
        wanted = set(names)
        listings = []
        if running:
            text = self.run(
                f"sleep 2; for i in $(seq {SAMPLES}); do xl vcpu-list; echo; sleep 0.1; done"
            )
            listings = [running_on(one) for one in text.split("\n\n") if one.strip()]
        dump = xen_debug_keys.parse_numa(self.run("xl debug-keys u; sleep 1; xl dmesg"))
        rows = xl_list.parse_list(self.run("xl list -n"), nodes=self.nodes)
        return tuple(
            Seen(
                row.name,
                dump.domains[row.id].by_node,
                row.node_affinity or self.nodes,
                tuple(
                    self.node_of[cpu] or 0
                    for listing in listings
                    for (name, _), cpu in listing.items()
                    if name == row.name
                ),
            )
            for row in rows
            if row.name in wanted
        )

    def distance(self, guest: Seen) -> float:
        """Return the mean distance from where it runs, or would, to its memory."""
        cpus = guest.ran or tuple(guest.affinity)
        total = sum(guest.pages.values())
        return mean(
            sum((self.distances[node][home] or 255) * pages for home, pages in guest.pages.items())
            / total
            for node in cpus
        )


def put(run: Run, name: str, *lines: str, memory: int, vcpus: int = 2, busy: bool = True) -> str:
    """Write the file of a guest and return its path."""
    extra = 'extra = "burn"' if busy else ""
    path = f"/root/{name}.cfg"
    text = "\n".join(
        (
            f'name = "{name}"', 'type = "pv"', 'kernel = "/guest/nano"', f"memory = {memory}",
            f"vcpus = {vcpus}", extra, *lines,
        )
    )  # fmt: skip
    run(f"cat > {path} <<'END'\n{text}\nEND")
    return path


def create(host: Host, tool: str, paths: Sequence[str], *, option: str = "") -> int:
    """Create guests one after the other; return how many were refused."""
    command = f"{CREATE[tool]}{option}"
    return sum(
        host.run(f"{command} {path} >/dev/null 2>&1; echo $?").strip() != "0" for path in paths
    )


def _one(
    host: Host, tool: str, *lines: str, memory: int, vcpus: int = 2, asked: NodeMap | None = None
) -> Outcome:
    path = put(host.run, "guest", *lines, memory=memory, vcpus=vcpus)
    # By itself homenode holds only guests that are on one node.
    option = " --hold" if tool == "homenode" else ""
    failures = create(host, tool, [path], option=option)
    seen = host.look(["guest"], running=True)
    return Outcome(seen, asked, failures, _raw(host, seen))


def _raw(host: Host, seen: Sequence[Seen]) -> tuple[str, ...]:
    """Return what the hypervisor printed of the first of them."""
    if not seen:
        return ()
    name = seen[0].name
    listed = host.run(f"xl list -n {name}; xl vcpu-list {name}").splitlines()
    pages = ", ".join(f"Node {node}: {count}" for node, count in seen[0].pages.items() if count)
    return (*listed, f"(xl debug-keys u) {pages}")


def cpus_node(host: Host, tool: str) -> Outcome:
    """Hold a guest to a node by ``cpus = "node:1"`` (a): libxl ignores it for the memory."""
    return _one(host, tool, 'cpus = "node:1"', memory=300, asked=NodeMap([1]))


def unusable(host: Host, tool: str) -> Outcome:
    """Want a guest that fits by free memory, and not by what Xen gives of it (b)."""
    for node, memory in ((1, 200), (2, 200)):
        path = put(
            host.run, f"filler{node}", f'cpus = ["node:{node}"]', memory=memory, vcpus=1, busy=False
        )
        host.run(f"xl create -q {path}")
    return _one(host, tool, memory=host.free_mib(0) - 40)


def pairs(host: Host, tool: str) -> Outcome:
    """Want four vcpus where a node has two cpus: there are near and far pairs of nodes (c)."""
    return _one(host, tool, memory=600, vcpus=4)


def drift(host: Host, tool: str) -> Outcome:
    """Want busy guests with ``cpus_soft`` under credit2 (d)."""
    soft = next(mask for mask in MASKS if mask.name == "soft")
    command = "xl create -qp" if tool == "xl" else "homenode create"
    runs = [hold(host.run, soft, seed=seed, create=command) for seed in range(SEEDS)]
    last = runs[-1].listings[-1].splitlines()
    return Outcome((), None, 0, tuple(last), residency=mean(one.residency for one in runs))


def wide(host: Host, tool: str) -> Outcome:
    """Want a guest with more memory than a node has (e)."""
    return _one(host, tool, memory=1200, vcpus=2)


def nearly_full(host: Host, tool: str) -> Outcome:
    """Want guests of 100 to 400 MiB, more than fit (f)."""
    chance = random.Random(5)  # noqa: S311 - an order to be repeated
    sizes = [chance.randrange(100, 401, 10) for _ in range(15)]
    paths = [
        put(host.run, f"f{at}", memory=size, vcpus=1, busy=False) for at, size in enumerate(sizes)
    ]
    failures = create(host, tool, paths)
    seen = host.look(f"f{at}" for at in range(len(sizes)))
    return Outcome(seen, None, failures, _raw(host, seen))


def at_once(host: Host, tool: str) -> Outcome:
    """Start twelve guests at once (g)."""
    paths = [put(host.run, f"g{at}", memory=240, vcpus=1, busy=False) for at in range(12)]
    if tool == "xl":
        # Backgrounded together, as a boot script would have it.
        started = " ".join(f"xl create -q {path} >/dev/null 2>&1 &" for path in paths) + " wait"
    else:
        started = f"homenode create {' '.join(paths)} >/dev/null 2>&1"
    clock = "cut -d' ' -f1 /proc/uptime"
    began, ended = host.run(f"{clock}; {started}; {clock}").split()
    seen = host.look(f"g{at}" for at in range(12))
    seconds = float(ended) - float(began)
    return Outcome(seen, None, 12 - len(seen), _raw(host, seen), seconds=seconds)


ROWS: dict[str, tuple[str, Callable[[Host, str], Outcome]]] = {
    "a": ('`cpus="node:1"`', cpus_node),
    "b": ("free, but not usable", unusable),
    "c": ("near and far pairs", pairs),
    "d": ("credit2, soft affinity", drift),
    "e": ("wider than a node", wide),
    "f": ("nearly full host", nearly_full),
    "g": ("twelve at once", at_once),
}
HEADING = (
    "| | situation | tool | memory on the nodes asked for | pages elsewhere, MiB | residency "
    "| mean distance | nodes per guest | failures | seconds |\n" + "|---" * 10 + "|"
)


def line(key: str, tool: str, outcome: Outcome, host: Host) -> str:
    """Return a row of the table."""
    title, _ = ROWS[key]
    cells = [key, title, tool]
    if outcome.guests:
        pages = sum(sum(guest.pages.values()) for guest in outcome.guests)
        there = sum(guest.on(outcome.asked or guest.affinity) for guest in outcome.guests)
        cells += [f"{there / pages:.1%}", f"{(pages - there) / MIB:.0f}"]
    else:
        cells += ["", ""]
    residency = outcome.residency
    ran = [(node in guest.homes) for guest in outcome.guests for node in guest.ran]
    if residency is None and ran:
        residency = mean(ran)
    cells.append("" if residency is None else f"{residency:.0%}")
    cells.append(f"{mean(map(host.distance, outcome.guests)):.1f}" if outcome.guests else "")
    nodes = [len(guest.homes) for guest in outcome.guests]
    cells.append(f"{mean(nodes):.2f}" if nodes else "")
    cells.append(str(outcome.failures))
    cells.append("" if outcome.seconds is None else f"{outcome.seconds:.1f}")
    return f"| {' | '.join(cells)} |"


def _prove(lab: "Lab", wanted: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Yield the rows of the table, each with what the hypervisor printed."""

    def run(command: str) -> str:
        result = lab.run(command, timeout_s=900)
        if result.status:
            raise SystemExit(f"proof: in dom0: {command!r:.80}: {result.stderr}")
        return result.stdout

    for key in wanted:
        for tool in TOOLS:
            lab.clean()
            host = Host(run)
            outcome = ROWS[key][1](host, tool)
            raw = "\n".join(outcome.raw)
            yield line(key, tool, outcome, host), f"({key}) {tool}\n\n{raw}"
    lab.clean()


def main() -> None:
    """Boot the lab, make every situation with both tools, print the table."""
    parser = argparse.ArgumentParser(prog="python -m proof.table", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", default=",".join(ROWS), help="some of the default")
    parser.add_argument("--raw", type=Path, help="file for what the hypervisor printed")
    arguments = parser.parse_args()
    wanted = arguments.rows.split(",")
    if not set(wanted) <= ROWS.keys():
        raise SystemExit(f"proof: the rows are {', '.join(ROWS)}")
    sys.path.append(str(LAB))
    from lab import Lab  # noqa: PLC0415 - the lab is beside the tests, not on the path

    print(HEADING, flush=True)
    # Schedulers are compared in exact virtual time, which is slow; all else as fast as it goes.
    exact, fast = [key for key in wanted if key == "d"], [key for key in wanted if key != "d"]
    for keys, (accel, qemu_args) in ((fast, AS_FAST_AS_IT_GOES), (exact, EXACT_TIME)):
        if not keys:
            continue
        lab = Lab("proof")
        try:
            lab.start("n4", accel=accel, qemu_args=qemu_args, timeout=600)
            lab.install_homenode()
            for row, text in _prove(lab, keys):
                print(row, flush=True)
                if arguments.raw:
                    with arguments.raw.open("a") as file:
                        file.write(f"{text}\n\n")
        finally:
            lab.stop()


if __name__ == "__main__":
    main()
