"""numad beside homenode on states of hosts: the nodes that each answers to the same question.

    python -m proof.numad_states [--states 200] [--numad /usr/bin/numad]

Each state is a machine as /sys and /proc would describe it: the nodes and distances of a real one,
with memory that is free at random, and idle cpus. Debian's numad is run in a mount namespace where
that is what it sees (which wants root), and homenode-numad's own function is asked about the same
files. An answer holds the guest if its nodes have so much memory free, and so many cpus.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.start_notes import Asked
from homenode.local_host import LocalHost
from homenode.numad import advise

MIB = 1024
AT_ONCE = 12
"""numad sleeps for most of its two seconds."""


class Machine(NamedTuple):
    """The shape of a real machine: cpus of each node, threads of a core, and its distances."""

    name: str
    cpus: int
    threads: int
    distances: tuple[tuple[int, ...], ...]


def _levels(sizes: Sequence[int], values: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return distances by how many of nested groups of nodes two nodes share."""
    count = sizes[-1]
    return tuple(
        tuple(
            next(value for size, value in zip(sizes, values, strict=True) if a // size == b // size)
            for b in range(count)
        )
        for a in range(count)
    )


MACHINES = (
    Machine("2 x Xeon", 16, 2, _levels((1, 2), (10, 21))),
    Machine("2 x EPYC 7763, NPS4", 32, 2, _levels((1, 4, 8), (10, 12, 32))),
    Machine("2 x EPYC 7551", 16, 2, _levels((1, 4, 8), (10, 16, 32))),
    Machine(
        "4 x Opteron 6272",
        8,
        1,
        (
            (10, 16, 16, 22, 16, 22, 16, 22), (16, 10, 22, 16, 22, 16, 22, 16),
            (16, 22, 10, 16, 16, 22, 16, 22), (22, 16, 16, 10, 22, 16, 22, 16),
            (16, 22, 16, 22, 10, 16, 16, 22), (22, 16, 22, 16, 16, 10, 22, 16),
            (16, 22, 16, 22, 16, 22, 10, 16), (22, 16, 22, 16, 22, 16, 16, 10),
        ),
    ),
)  # fmt: skip
"""Tables as firmware states them: hwloc's collection of machines, AMD's and Intel's own hosts."""


class State(NamedTuple):
    """A machine with memory that is free, and a question about it."""

    machine: Machine
    total_mib: int
    free_mib: tuple[int, ...]
    vcpus: int
    mib: int

    @property
    def can_be_held(self) -> bool:
        """Whether all nodes together could hold the guest."""
        return self.holds(range(len(self.free_mib)))

    def holds(self, nodes: Sequence[int] | NodeMap) -> bool:
        """Return whether those nodes have the memory and the cpus."""
        memory = sum(self.free_mib[node] for node in nodes)
        return memory >= self.mib and len(nodes) * self.machine.cpus >= self.vcpus

    def fewest(self) -> int:
        """Return how few nodes could hold it."""
        free = sorted(self.free_mib, reverse=True)
        for count in range(1, len(free) + 1):
            if sum(free[:count]) >= self.mib and count * self.machine.cpus >= self.vcpus:
                return count
        return len(free)

    def distance(self, nodes: NodeMap) -> float:
        """Return the mean distance over all pairs of those nodes, each with itself as well."""
        table = self.machine.distances
        return mean(table[one][other] for one, other in product(nodes, nodes))


def made(seed: int) -> State:
    """Return a state and a question, always the same for a seed."""
    chance = random.Random(seed)  # noqa: S311 - the same for everybody, on purpose
    machine = chance.choice(MACHINES)
    count = len(machine.distances)
    total = chance.choice((16, 64, 128)) * MIB
    free = tuple(int(total * 0.95 * chance.random()) for _ in range(count))
    widest = chance.choice((0.5, 1.0, 1.0, 2.5))
    vcpus = max(1, int(machine.cpus * widest * chance.random()))
    mib = max(256, int(max(free) * widest * chance.random()))
    return State(machine, total, free, vcpus, mib)


def write(state: State, root: Path) -> None:
    """Write the files that describe the state below a folder."""
    nodes, cpus = len(state.free_mib), state.machine.cpus
    files = {
        "sys/devices/system/cpu/online": str(CpuMap.full(nodes * cpus)),
        "sys/devices/system/cpu/possible": str(CpuMap.full(nodes * cpus)),
        "sys/devices/system/cpu/present": str(CpuMap.full(nodes * cpus)),
        "sys/devices/system/node/online": str(NodeMap.full(nodes)),
        "sys/devices/system/node/possible": str(NodeMap.full(nodes)),
        "sys/devices/system/node/has_memory": str(NodeMap.full(nodes)),
        "sys/devices/system/node/has_cpu": str(NodeMap.full(nodes)),
        "proc/meminfo": f"MemTotal: {nodes * state.total_mib * 1024} kB\n"
        f"MemFree: {sum(state.free_mib) * 1024} kB\nHugepagesize: 2048 kB\n",
        "proc/sys/kernel/random/boot_id": "a-boot",
        "run/homenode/.keep": "",
    }
    for node, free in enumerate(state.free_mib):
        own = CpuMap(range(node * cpus, (node + 1) * cpus))
        folder = f"sys/devices/system/node/node{node}"
        files[f"{folder}/cpulist"] = str(own)
        files[f"{folder}/distance"] = " ".join(map(str, state.machine.distances[node]))
        files[f"{folder}/meminfo"] = (
            f"Node {node} MemTotal: {state.total_mib * 1024} kB\n"
            f"Node {node} MemFree: {free * 1024} kB\n"
            f"Node {node} Inactive(file): 0 kB\nNode {node} Active(file): 0 kB\n"
        )
    for cpu in range(nodes * cpus):
        first = cpu // state.machine.threads * state.machine.threads
        siblings = CpuMap(range(first, first + state.machine.threads))
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files[f"{folder}/thread_siblings"] = f"{siblings.bits:x}"
        files[f"{folder}/thread_siblings_list"] = str(siblings)
        files[f"{folder}/core_id"] = str(cpu // state.machine.threads)
        files[f"{folder}/physical_package_id"] = "0"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    (root / "proc/stat").write_text(_stat(nodes * cpus, 1000))


def _stat(cpus: int, idle: int) -> str:
    rows = ["cpu", *(f"cpu{cpu}" for cpu in range(cpus))]
    return "".join(f"{row} 0 0 0 {idle} 0 0 0 0 0 0\n" for row in rows)


SEEN = """
for name in sys/devices/system/node sys/devices/system/cpu proc/meminfo proc/stat; do
    mount --bind "$1/$name" "/$name"
done
exec "$2" -w "$3"
"""


def ask_numad(state: State, root: Path, program: str) -> tuple[NodeMap | None, float]:
    """Return what numad answers, None if nothing, and the seconds that it takes."""
    question = f"{state.vcpus}:{state.mib}"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SEEN, "sh"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*words, str(root), program, question], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    # It looks at idle time twice, two seconds apart: time goes on in between.
    time.sleep(1)
    with (root / "proc/stat").open("r+") as file:
        file.write(_stat(len(state.free_mib) * state.machine.cpus, 1200))
    text = process.communicate()[0].decode().strip()
    return (NodeMap.parse_libvirt(text) if text else None), time.monotonic() - began


class Answers(NamedTuple):
    """What was answered to a question by each of the two."""

    state: State
    numad: NodeMap | None
    homenode: NodeMap
    seconds: tuple[float, float]


def asked(seed: int, program: str) -> Answers:
    """Make a state, and ask both."""
    state = made(seed)
    root = Path(tempfile.mkdtemp(prefix="numad-state."))
    try:
        write(state, root)
        theirs, seconds = ask_numad(state, root, program)
        began = time.monotonic()
        ours = advise(LocalHost(str(root), time.time), Asked(state.vcpus, state.mib)).nodes
        return Answers(state, theirs, ours, (seconds, time.monotonic() - began))
    finally:
        shutil.rmtree(root)


def table(answers: Sequence[Answers]) -> list[str]:
    """Return the comparison as a table of Markdown."""
    possible = [one for one in answers if one.state.can_be_held]
    head = "| tool | questions | answers that hold the guest | on the fewest nodes | nodes used"
    rows = [f"{head} | mean distance |", "|---|---|---|---|---|---|"]
    for name, of in (("numad -w", lambda a: a.numad), ("homenode-numad", lambda a: a.homenode)):
        held = [one for one in possible if of(one) and one.state.holds(of(one))]
        fewest = sum(len(of(one)) == one.state.fewest() for one in held)
        used = mean(len(of(one)) for one in held)
        distance = mean(one.state.distance(of(one)) for one in held)
        rows.append(
            f"| {name} | {len(possible)} | {len(held)} | {fewest} | {used:.2f} | {distance:.2f} |"
        )
    both = [
        one
        for one in possible
        if one.numad and one.state.holds(one.numad) and one.state.holds(one.homenode)
    ]
    for name, of in (("numad -w", lambda a: a.numad), ("homenode-numad", lambda a: a.homenode)):
        used = mean(len(of(one)) for one in both)
        distance = mean(one.state.distance(of(one)) for one in both)
        rows.append(
            f"| {name}, where both hold it | {len(both)} | | | {used:.2f} | {distance:.2f} |"
        )
    return rows


def main() -> int:
    """Be the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=200)
    parser.add_argument("--numad", default=shutil.which("numad") or "/usr/bin/numad")
    chosen = parser.parse_args()
    if os.geteuid() or not Path(chosen.numad).exists():
        print("needs root, and Debian's numad (apt install numad, or --numad PATH)")
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda seed: asked(seed, chosen.numad), range(chosen.states)))
    print("\n".join(table(answers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
