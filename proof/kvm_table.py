"""Stock libvirt and numad beside homenode, on one real libvirt: what becomes of guests with each.

    python -m proof.kvm_table [--rows storm,wide,...] [--output FILE]

The lab is a Linux with four emulated nodes at distances 10, 16 and 22, two cpus each; its guests
are real QEMU processes, without KVM. Each row is a situation that is made twice on the empty host,
and what came of it is read from the page tables and masks of the processes.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from homenode.bitmap import CpuMap
from homenode.formats import numa_maps

LABS = Path(__file__).resolve().parents[1] / "tests/labs"
sys.path += [str(LABS / "common"), str(LABS / "kvm")]

import guests  # noqa: E402 - found by the line before
from kvmlab import Lab  # noqa: E402 - the same

MIB = 1024
CPUS = 2
"""Of each node."""
DISTANCES = ((10, 16, 22, 22), (16, 10, 22, 22), (22, 22, 10, 16), (22, 22, 16, 10))
HOOK = (Path(__file__).parents[1] / "examples/kvm/hook").read_bytes()
IN_PLACE = """
mv /usr/bin/numad /usr/bin/numad.distrib; ln -s /usr/bin/homenode-numad /usr/bin/numad
kill $(cat /run/libvirtd.pid); while [ -e /run/libvirtd.pid ]; do sleep 0.1; done
libvirtd --daemon; virsh -q list
"""
TOOLS = ("stock", "homenode")


class Seen(NamedTuple):
    """One guest as the kernel has it: KiB by node, and the cpus that its vcpus may use."""

    kib: dict[int, int]
    cpus: tuple[int, ...]

    @property
    def local(self) -> float:
        """Share of its memory that is local, if it runs on its cpus alike."""
        total = sum(self.kib.values())
        near = [self.kib.get(cpu // CPUS, 0) / total for cpu in self.cpus]
        return mean(near)

    @property
    def distance(self) -> float:
        """Mean distance from its cpus to its memory."""
        total = sum(self.kib.values())
        return mean(
            sum(DISTANCES[cpu // CPUS][node] * kib for node, kib in self.kib.items()) / total
            for cpu in self.cpus
        )


class Made(NamedTuple):
    """What became of a situation."""

    seen: tuple[Seen, ...]
    asked: int
    remark: str
    seconds: float | None = None


def put(lab: Lab, name: str, **how: object) -> str:
    """Put the file of a guest into the lab; return its name."""
    lab.put(guests.xml(name, **how).encode(), f"/root/{name}.xml")
    return f"{name}.xml"


def install(lab: Lab, tool: str) -> None:
    """Have that tool answer as numad."""
    if tool == "homenode":
        lab.put(HOOK, "/etc/libvirt/hooks/qemu.d/homenode", 0o755)
        lab.run(IN_PLACE, check=True)


def look(lab: Lab, sizes: dict[str, int]) -> tuple[Seen, ...]:
    """Return where the guests are that run, of those whose sizes in MiB are given."""
    names = lab.run("virsh -q list --name", check=True).stdout.split()
    return tuple(_seen(lab, name, sizes[name]) for name in names if name in sizes)


def _seen(lab: Lab, name: str, size: int) -> Seen:
    process = lab.run(f"cat /run/libvirt/qemu/{name}.pid", check=True).stdout.strip()
    texts = [lab.run(f"cat /proc/{process}/{file}").stdout for file in ("numa_maps", "maps")]
    ram = numa_maps.of_guest(numa_maps.parse(*texts), frozenset([size * MIB]))
    pins = lab.run(f"virsh -q vcpupin {name}", check=True).stdout.split()[1::2]
    cpus = CpuMap.union(CpuMap.parse_libvirt(pin) for pin in pins)
    return Seen(numa_maps.sum_kib(ram), tuple(cpus))


def killed(lab: Lab) -> int:
    """Return how many processes the kernel has killed for want of memory."""
    return int(lab.run("sed -n 's/^oom_kill //p' /proc/vmstat", check=True).stdout)


def storm(lab: Lab, tool: str) -> Made:
    """Start eight guests with placement="auto" at once."""
    install(lab, tool)
    sizes = {f"s{number}": 300 for number in range(8)}
    for name in sizes:
        put(lab, name, memory=300, vcpus=2, placement="auto")
    began = time.monotonic()
    start = " & ".join(f"virsh -q create {name}.xml" for name in sizes)
    lab.run(f"{start} & wait", timeout_s=600)
    seconds = time.monotonic() - began
    seen = look(lab, sizes)
    promised = [0] * 4
    for one in seen:
        for node in {cpu // CPUS for cpu in one.cpus}:
            promised[node] += 1
    remark = f"guests on each node: {', '.join(map(str, promised))}"
    return Made(seen, len(sizes), remark, seconds)


def wide(lab: Lab, tool: str) -> Made:
    """Start a guest that is wider than a node, beside fillers on nodes 0 and 2."""
    for node in (0, 2):
        bound = f"<memory mode='strict' nodeset='{node}'/>"
        lab.run(f"virsh -q create {put(lab, f'f{node}', memory=250, numatune=bound)}", check=True)
    placement = "auto" if tool == "stock" else "static"
    file = put(lab, "wide", memory=1200, vcpus=4, placement=placement)
    command = "virsh -q create" if tool == "stock" else "homenode create"
    told = lab.run(f"{command} {file}", timeout_s=600)
    return Made(look(lab, {"wide": 1200}), 1, told.stderr.strip()[:80])


def full(lab: Lab, tool: str) -> Made:
    """Start fifteen guests one after the other: more than fit."""
    command = "virsh -q create" if tool == "stock" else "homenode create"
    placement = "auto" if tool == "stock" else "static"
    chance = random.Random(7)  # noqa: S311 - the same for both
    sizes = {f"g{number}": chance.randrange(100, 400, 20) for number in range(15)}
    refused = 0
    for name, size in sizes.items():
        file = put(lab, name, memory=size, vcpus=1, placement=placement)
        refused += lab.run(f"{command} {file}", timeout_s=600).status != 0
    seen = look(lab, sizes)
    return Made(seen, len(sizes), f"{refused} refused")


def moved(lab: Lab, tool: str) -> Made:
    """Have a guest that is bound to node 2 on node 1."""
    bound = "<memory mode='strict' nodeset='2'/>"
    file = put(lab, "g", memory=300, vcpus=2, cpuset="4-5", numatune=bound)
    lab.run(f"virsh -q create {file}", check=True)
    if tool == "homenode":
        told = lab.run("homenode affinity g 1", timeout_s=300)
        return Made(look(lab, {"g": 300}), 1, told.stderr.strip()[:100])
    told = lab.run("virsh -q numatune g --nodeset 1 --live")
    for vcpu in (0, 1):
        lab.run(f"virsh -q vcpupin g {vcpu} 2-3 --live", check=True)
    reason = told.stderr.strip().splitlines()[-1:]
    return Made(look(lab, {"g": 300}), 1, " ".join(reason)[:110])


def small(lab: Lab, tool: str) -> Made:
    """Have a guest of 600 MiB on a node of 384."""
    bound = "<memory mode='restrictive' nodeset='2'/>"
    lab.run(f"virsh -q create {put(lab, 'big', memory=600, numatune=bound)}", check=True)
    command = "virsh -q numatune big --nodeset 1 --live"
    if tool == "homenode":
        command = "homenode affinity big 1"
    told = lab.run(f"{command}; echo status $?; sleep 4", timeout_s=300)
    alive = "big" in lab.run("virsh -q list --name").stdout.split()
    status = told.stdout.strip().splitlines()[-1]
    words = (told.stderr.strip().splitlines() or [""])[-1][:90]
    return Made((), 1, f"{status}, guest {'alive' if alive else 'dead'}; {words}")


def answer(lab: Lab, tool: str) -> Made:
    """Ask the question itself, five times."""
    program = "numad" if tool == "stock" else "homenode-numad"
    times = []
    for _ in range(5):
        text = f"a=$(cut -d' ' -f1 /proc/uptime); {program} -w 2:300 >/dev/null;"
        text += " b=$(cut -d' ' -f1 /proc/uptime); echo $a $b; rm -rf /run/homenode"
        first, last = map(float, lab.run(text, check=True).stdout.split())
        times.append(last - first)
    return Made((), 5, f"{min(times):.2f} to {max(times):.2f} s, under emulation")


ROWS: dict[str, tuple[str, Callable[[Lab, str], Made], str]] = {
    "storm": ("eight at once, placement=auto", storm, "n4"),
    "wide": ("wider than a node", wide, "n4"),
    "full": ("nearly full host", full, "n4"),
    "moved": ("moved while it runs", moved, "n4"),
    "answer": ("time of numad -w", answer, "n4"),
    "small": ("moved onto too small a node", small, "uneven4"),
}


def line(row: str, tool: str, made: Made) -> str:
    """Return a row of the table."""
    cells = [ROWS[row][0], tool]
    if made.seen:
        cells += [
            f"{len(made.seen)} of {made.asked}",
            f"{mean(one.local for one in made.seen):.0%}",
            f"{mean(one.distance for one in made.seen):.1f}",
            f"{mean(len({cpu // CPUS for cpu in one.cpus}) for one in made.seen):.2f}",
        ]
    else:
        cells += [""] * 4
    cells += ["" if made.seconds is None else f"{made.seconds:.0f}", made.remark]
    return f"| {' | '.join(cells)} |"


def measured(rows: Sequence[str]) -> list[str]:
    """Make every row with both tools; return the lines of the table."""
    lines = [
        "| situation | tool | run | local | mean distance | nodes per guest | seconds | remarks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lab = Lab("proof-kvm")
    try:
        for topology in dict.fromkeys(ROWS[row][2] for row in rows):
            lab.stop()
            lab.start(topology)
            lab.install_homenode()
            for row in (row for row in rows if ROWS[row][2] == topology):
                for tool in TOOLS:
                    lab.clean()
                    before = killed(lab)
                    made = ROWS[row][1](lab, tool)
                    ended = f"kernel killed {killed(lab) - before}"
                    remark = "; ".join(filter(None, (made.remark, ended)))
                    lines.append(line(row, tool, made._replace(remark=remark)))
                    print(lines[-1], file=sys.stderr)
    finally:
        lab.stop()
    return lines


def main() -> int:
    """Be the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    text = "\n".join(measured(chosen.rows.split(","))) + "\n"
    if chosen.output:
        chosen.output.write_text(text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
