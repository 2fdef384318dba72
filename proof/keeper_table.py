"""The keeper beside stock affinities and pinning, on a real Xen (credit2) and a real libvirt.

    python -m proof.keeper_table [--on xen,kvm] [--loads room,saturated,moving] [--output FILE]

Guests of one vcpu that spins. Each load is made with every kind of mask, on a host without other
guests, and then the vcpus are watched: what each ran between two looks is put down to the node
where it is at the second. Residency is the share of that on its home; cpus is what all ran
together, per second. Xen's time is exact (qemu counts instructions), so its figures can be
compared; the time of the other lab is not, so of its figures only shares mean anything.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple, Protocol

from homenode.bitmap import CpuMap
from proof.residency import crowd

LABS = Path(__file__).resolve().parents[1] / "tests/labs"
sys.path += [str(LABS / "common"), str(LABS / "kvm"), str(LABS / "xen")]

import guests as kvm_guests  # noqa: E402 - found by the lines before
import keepers  # noqa: E402 - the same
from kvmlab import Lab as KvmLab  # noqa: E402 - the same
from lab import Lab as XenLab  # noqa: E402 - the same

CPUS = 2
"""Of each of the four nodes."""
EXACT_TIME = ("tcg,thread=single", ("-icount", "shift=3,sleep=off"))
SETTINGS = b"[keeper]\nown_cpu_share = 1\n"
"""An emulated cpu is some fifty times slower than a real one, for which it is not to wait."""


class Seen(NamedTuple):
    """A look: when (seconds of the host's time), and by guest the cpu and the seconds it ran."""

    at_s: float
    guests: Mapping[str, tuple[int, float]]


class Watched(NamedTuple):
    """What came of a load: by home and away, in cpus; and the lowest residency of a guest."""

    home: float
    away: float
    lowest: float

    @property
    def cpus(self) -> float:
        """What all guests ran."""
        return self.home + self.away

    @property
    def residency(self) -> float:
        """The share of that at home."""
        return self.home / self.cpus if self.cpus else 0.0


class Stage(Protocol):
    """A lab with four nodes, on which loads are made."""

    lab: XenLab | KvmLab
    masks: Sequence[str]

    def create(self, name: str, home: int | None, mask: str) -> None:
        """Create a guest that spins."""

    def destroy(self, name: str) -> None:
        """Take it away."""

    def rest(self, name: str, *, still: bool) -> None:
        """Have it do nothing, or spin again."""

    def look(self) -> Seen:
        """Look where guests are, and how long they ran."""

    def run(self, command: str, *, timeout_s: float = 900) -> str:
        """Run a command on the host."""

    def clean(self) -> None:
        """Take the host back to how it was."""


class Xen:
    """A real Xen with credit2, in exact time."""

    masks = ("keeper", "none", "soft", "hard")
    lines = {  # noqa: RUF012 - never changed
        "none": 'cpus_soft = "all"',
        "soft": 'cpus_soft = "node:{node}"',
        "hard": 'cpus = ["{cpus}"]',
        "keeper": 'cpus_soft = "node:{node}"',
    }

    def __init__(self) -> None:
        self.lab = XenLab("proof-keeper")
        accel, arguments = EXACT_TIME
        self.lab.start("n4", accel=accel, qemu_args=arguments)
        self.lab.install_homenode()

    def create(self, name: str, home: int | None, mask: str) -> None:
        """Create it, paused: busy guests slow the emulated dom0."""
        line = self.lines["none" if home is None else mask]
        line = line.format(node=home, cpus=CpuMap(_cpus(home or 0)))
        file = f'name="{name}"\ntype="pv"\nkernel="/guest/nano"\nmemory=16\nvcpus=1\n'
        self.lab.put(f'{file}extra="burn"\n{line}\n'.encode(), f"/root/{name}.cfg")
        self.run(f"xl create -qp /root/{name}.cfg")

    def destroy(self, name: str) -> None:
        """Take it away."""
        self.run(f"xl destroy {name}")

    def rest(self, name: str, *, still: bool) -> None:
        """Pause it, or let it go on."""
        self.run(f"xl {'pause' if still else 'unpause'} {name}")

    def look(self) -> Seen:
        """Read ``xl vcpu-list``."""
        uptime, *lines = self.run("cat /proc/uptime; xl vcpu-list").splitlines()
        found = {}
        for line in lines[1:]:
            name, _, _, cpu, _, seconds = line.split()[:6]
            if name != "Domain-0" and cpu != "-":
                found[name] = int(cpu), float(seconds)
        return Seen(float(uptime.split()[0]), found)

    def run(self, command: str, *, timeout_s: float = 900) -> str:
        """Run a command in dom0."""
        return self.lab.run(command, timeout_s=timeout_s, check=True).stdout

    def clean(self) -> None:
        """Take the host back to how it was."""
        self.lab.clean()

    def stop(self) -> None:
        """End the lab."""
        self.lab.stop()


class Kvm:
    """A real libvirt and QEMU, without KVM."""

    masks = ("keeper", "none", "hard")

    def __init__(self) -> None:
        self.lab = KvmLab("proof-keeper-kvm")
        # The kernel would move memory after the vcpus: then there is no home to come back to.
        self.lab.start("n4", arguments="numa_balancing=disable")
        self.lab.install_homenode()

    def create(self, name: str, home: int | None, mask: str) -> None:
        """Create it, paused; its memory is bound to its home."""
        bound = "" if home is None else f"<memory mode='strict' nodeset='{home}'/>"
        pin = f"<vcpupin vcpu='0' cpuset='{CpuMap(_cpus(home or 0))}'/>"
        text = kvm_guests.xml(
            name,
            memory=32,
            rom="burn",
            numatune=bound,
            cputune=pin if mask == "hard" and home is not None else "",
        )
        self.lab.put(text.encode(), f"/root/{name}.xml")
        self.run(f"virsh -q create /root/{name}.xml --paused")

    def destroy(self, name: str) -> None:
        """Take it away."""
        self.run(f"virsh -q destroy {name}")

    def rest(self, name: str, *, still: bool) -> None:
        """Suspend it, or let it go on."""
        self.run(f"virsh -q {'suspend' if still else 'resume'} {name}")

    def look(self) -> Seen:
        """Read the thread of each guest's vcpu."""
        text = self.run(
            "cat /proc/uptime; cd /run/libvirt/qemu; for f in *.xml; do"
            " p=${f%.xml}; p=$(cat $p.pid); "
            """t=$(sed -n "s/.*<vcpu id='0' pid='\\([0-9]*\\)'.*/\\1/p" $f);"""
            " t=/proc/$p/task/$t; echo ${f%.xml} $(sed 's/.*) //' $t/stat | cut -d' ' -f37)"
            " $(cut -d' ' -f1 $t/schedstat); done"
        )
        uptime, *lines = text.splitlines()
        found = {}
        for line in lines:
            name, cpu, ran_ns = line.split()
            found[name] = int(cpu), int(ran_ns) / 1e9
        return Seen(float(uptime.split()[0]), found)

    def run(self, command: str, *, timeout_s: float = 900) -> str:
        """Run a command on the host."""
        return self.lab.run(command, timeout_s=timeout_s, check=True).stdout

    def clean(self) -> None:
        """Take the host back to how it was."""
        self.lab.clean()

    def stop(self) -> None:
        """End the lab."""
        self.lab.stop()


def _cpus(node: int) -> range:
    return range(node * CPUS, (node + 1) * CPUS)


def _watched(looks: Sequence[Seen], homes: Mapping[str, int]) -> Watched:
    home = dict.fromkeys(homes, 0.0)
    away = dict.fromkeys(homes, 0.0)
    for one, other in pairwise(looks):
        for name, (cpu, ran_s) in other.guests.items():
            if name in homes and name in one.guests:
                part = home if cpu // CPUS == homes[name] else away
                part[name] += ran_s - one.guests[name][1]
    seconds = looks[-1].at_s - looks[0].at_s
    shares = [home[name] / (home[name] + away[name]) for name in homes if home[name] + away[name]]
    return Watched(sum(home.values()) / seconds, sum(away.values()) / seconds, min(shares))


def _sampled(stage: Stage, *, seconds: float, looks: int = 10) -> list[Seen]:
    found = [stage.look()]
    for _ in range(looks):
        stage.run(f"sleep {seconds / looks}")
        found.append(stage.look())
    return found


def _begin(stage: Stage, mask: str) -> None:
    """Start the keeper, if it is one, while the guests are still: so it starts much sooner."""
    if mask == "keeper":
        keepers.start(stage.lab, settings=SETTINGS)


def _settle(stage: Stage, mask: str, *, guests: int, seconds: float) -> None:
    """Wait some seconds, and until the keeper has held so many guests, if there is one."""
    if mask == "keeper":
        keepers.until_told(stage.lab, "^hold", count=guests, timeout_s=3600)
    stage.run(f"sleep {seconds}")


def room(stage: Stage, mask: str, seed: int) -> Watched:
    """One guest for each node, after three others have come and gone (`proof.residency`)."""
    created, going = crowd(list(range(4)), seed)
    for guest in created:
        stage.create(guest.name, guest.home, mask)
    for guest in created:
        stage.rest(guest.name, still=False)
    for guest in going:
        stage.destroy(guest.name)
    _begin(stage, mask)
    _settle(stage, mask, guests=4, seconds=4)
    stay = [guest for guest in created if guest not in going]
    homes = {guest.name: guest.home for guest in stay if guest.home is not None}
    return _watched(_sampled(stage, seconds=10), homes)


def saturated(stage: Stage, mask: str, seed: int) -> Watched:  # noqa: ARG001 - one order only
    """Four guests at home on node 0, which has two cpus; the other nodes are idle."""
    homes = {f"g{number}": 0 for number in range(4)}
    for name, home in homes.items():
        stage.create(name, home, mask)
    _begin(stage, mask)
    for name in homes:
        stage.rest(name, still=False)
    _settle(stage, mask, guests=4, seconds=20)
    return _watched(_sampled(stage, seconds=10), homes)


def moving(stage: Stage, mask: str, seed: int) -> Watched:  # noqa: ARG001 - one order only
    """Three guests of node 0 spin for 40 s, then three of node 2 instead, then two of each."""
    first = {f"a{number}": 0 for number in range(3)}
    other = {f"b{number}": 2 for number in range(3)}
    homes = {**first, **other}
    for name, home in homes.items():
        stage.create(name, home, mask)
    _begin(stage, mask)
    phases: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        ((), tuple(first)),
        (tuple(first), tuple(other)),
        (("b0",), ("a0", "a1")),
    ]
    watched = []
    for still, awake in phases:
        for name in still:
            stage.rest(name, still=True)
        for name in awake:
            stage.rest(name, still=False)
        watched.append(_watched(_sampled(stage, seconds=40), homes))
    return Watched(
        mean(one.home for one in watched),
        mean(one.away for one in watched),
        min(one.lowest for one in watched),
    )


LOADS: dict[str, tuple[str, Callable[[Stage, str, int], Watched]]] = {
    "room": ("home has room", room),
    "saturated": ("home saturated, others idle", saturated),
    "moving": ("load moves between guests", moving),
}
STAGES: dict[str, tuple[str, Callable[[], Xen | Kvm]]] = {
    "xen": ("Xen 4.17, credit2", Xen),
    "kvm": ("libvirt 9.0, QEMU", Kvm),
}
HEADING = (
    "| host | load | affinity | residency | lowest guest | cpus, of those wanted |\n"
    "|---|---|---|---|---|---|"
)
WANTED = {"room": 4.0, "saturated": 4.0, "moving": 10 / 3}


def measured(on: Iterable[str], loads: Sequence[str], seeds: int) -> Iterable[str]:
    """Make every load with every mask on every lab; yield the lines of the table."""
    yield HEADING
    for name in on:
        title, made = STAGES[name]
        stage = made()
        try:
            for load in loads:
                for mask in stage.masks:
                    runs = []
                    for seed in range(seeds if load == "room" else 1):
                        stage.clean()
                        began = time.monotonic()
                        runs.append(LOADS[load][1](stage, mask, seed))
                        if mask == "keeper":
                            keepers.end(stage.lab)
                            sys.stderr.write(keepers.told_by(stage.lab))
                        took = time.monotonic() - began
                        print(name, load, mask, seed, runs[-1], f"{took:.0f} s", file=sys.stderr)
                    cpus = mean(run.cpus for run in runs)
                    shown = f"{cpus:.2f} of {WANTED[load]:.2f}" if name == "xen" else "-"
                    if name == "kvm":
                        shown = f"{cpus / WANTED[load]:.0%}"
                    yield (
                        f"| {title} | {LOADS[load][0]} | {mask} |"
                        f" {mean(run.residency for run in runs):.0%} |"
                        f" {min(run.lowest for run in runs):.0%} | {shown} |"
                    )
        finally:
            stage.stop()


def main() -> int:
    """Be the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", default="xen,kvm")
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--seeds", type=int, default=2, help="of the first load (default: 2)")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    lines = []
    for line in measured(chosen.on.split(","), chosen.loads.split(","), chosen.seeds):
        print(line, flush=True)
        lines.append(line)
    if chosen.output:
        chosen.output.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
