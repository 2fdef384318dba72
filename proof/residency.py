"""Whether busy vcpus stay on their home node, on a real Xen: by scheduler and by kind of mask.

    python -m proof.residency [--seeds 3] [--schedulers NAME,...] [--masks NAME,...] [--raw DIR]

For each scheduler the lab's Xen is booted, and for each mask and seed `hold` is run: a crowd of
busy guests of one vcpu is created and started, in an order that the seed gives; then those go
that were too many, and one guest with a home on each node stays. From then on every vcpu has an
idle cpu at home, or is on it. ``xl vcpu-list`` is sampled, and the shares are printed as a
Markdown table.

`hold` needs nothing but a way to run a shell command in dom0.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from homenode.bitmap import CpuMap
from homenode.formats import xl_info

if TYPE_CHECKING:
    from lab import Lab

Run = Callable[[str], str]
"""Runs a shell command in dom0 and returns its output; raises if the command fails."""

LAB = Path(__file__).parent.parent / "tests" / "labs" / "xen"
EXACT_TIME = ("tcg,thread=single", ("-icount", "shift=3,sleep=off"))
"""Time passes by instructions executed, so all emulated cpus are equally fast (see the lab)."""

SCHEDULERS = {
    "credit2 socket": "credit2_runqueue=socket",
    "credit2 node": "credit2_runqueue=node",
    "credit2 all": "credit2_runqueue=all",
    "credit": "sched=credit",
}
"""What Xen's command line is given, by the name in the table."""

KERNEL = "/guest/nano"
"""The lab's smallest guest; with ``extra = "burn"`` all its vcpus spin."""


class Mask(NamedTuple):
    """A kind of affinity: its line of the guest's file, with {node} and {cpus} to fill in."""

    name: str
    line: str


MASKS = (
    # Without any line libxl would place the guest, and set soft affinity by itself.
    Mask("none", 'cpus_soft = "all"'),
    Mask("soft", 'cpus_soft = "node:{node}"'),
    # A list is per vcpu; a string would leave libxl's own placement on.
    Mask("hard", 'cpus = ["{cpus}"]'),
)


class BusyGuest(NamedTuple):
    """A guest of one spinning vcpu. `home` is None for one without affinity."""

    name: str
    home: int | None


class Residency(NamedTuple):
    """What was seen of one guest, in samples in which its vcpu ran.

    `home_idle` counts those of the samples away from home in which a cpu of the home ran nothing.
    """

    guest: str
    home: int
    running: int
    at_home: int
    home_idle: int

    @property
    def away(self) -> int:
        """The samples in which the vcpu ran on another node."""
        return self.running - self.at_home


class Held(NamedTuple):
    """One run of the scenario: a residency for each guest that stayed, and what xl printed."""

    guests: tuple[Residency, ...]
    listings: tuple[str, ...]

    @property
    def residency(self) -> float:
        """The share of running samples on home nodes, over all guests."""
        return _share(sum(guest.at_home for guest in self.guests), self._running())

    @property
    def lowest(self) -> float:
        """The residency of the guest that was home least."""
        return min(_share(guest.at_home, guest.running) for guest in self.guests)

    def _running(self) -> int:
        return sum(guest.running for guest in self.guests)


def cpus_by_node(run: Run) -> dict[int, CpuMap]:
    """Return the cpus of every node that has some, by ``xl info -n``."""
    cpus: dict[int, list[int]] = {}
    for cpu in xl_info.parse(run("xl info -n")).cpus:
        if cpu.node is not None:
            cpus.setdefault(cpu.node, []).append(cpu.id)
    return {node: CpuMap(own) for node, own in sorted(cpus.items())}


def crowd(nodes: Sequence[int], seed: int) -> tuple[list[BusyGuest], list[BusyGuest]]:
    """Return the guests in order of creation, and those of them that go, in order of destruction.

    One guest for each node stays. Three come and go: two with a home that the seed gives, and one
    without affinity. So the homes are uneven at first, and even at the end.
    """
    chance = random.Random(seed)  # noqa: S311 - an order to be repeated, no secret
    stay = [BusyGuest(f"stay{node}", node) for node in nodes]
    homes = [chance.choice(nodes), chance.choice(nodes), None]
    going = [BusyGuest(f"go{at}", home) for at, home in enumerate(homes)]
    created = stay + going
    chance.shuffle(created)
    chance.shuffle(going)
    return created, going


def hold(  # noqa: PLR0913 - each is a knob of the experiment
    run: Run,
    mask: Mask,
    *,
    seed: int,
    create: str = "xl create -qp",
    samples: int = 10,
    settle_s: int = 3,
) -> Held:
    """Run the scenario once, on a host without other guests, and return what was seen.

    `create` is the command that is given the guest's file. The guests are created paused if it
    can do that, since busy ones slow the lab's dom0, and started in the same order. Before the
    samples the scheduler has `settle_s` of dom0's time to bring everyone home. At the end all
    guests are destroyed.
    """
    nodes = cpus_by_node(run)
    created, going = crowd(list(nodes), seed)
    left: list[str] = []
    try:
        for guest in created:
            left.append(guest.name)
            run(_create(guest, mask, create=create, nodes=nodes))
        for guest in created:
            run(f"xl unpause {guest.name} 2>/dev/null || true")  # it may run already
        for guest in going:
            run(f"xl destroy {guest.name}")
            left.remove(guest.name)
        listings = sampled(run, samples=samples, settle_s=settle_s)
    finally:
        run("".join(f"xl destroy {name} 2>/dev/null; " for name in left) + "true")
    homes = {guest.name: guest.home for guest in created if guest.name in left}
    return Held(tuple(_seen(listings, homes, nodes=nodes)), listings)


def _create(guest: BusyGuest, mask: Mask, *, create: str, nodes: Mapping[int, CpuMap]) -> str:
    line = MASKS[0].line
    if guest.home is not None:
        line = mask.line.format(node=guest.home, cpus=nodes[guest.home])
    file = f"/tmp/{guest.name}.cfg"  # noqa: S108 - in the lab's dom0, which has no other user
    return f"""cat > {file} <<'END' && {create} {file}
name = "{guest.name}"
type = "pv"
kernel = "{KERNEL}"
memory = 16
vcpus = 1
extra = "burn"
{line}
END
"""


def sampled(run: Run, *, samples: int, settle_s: int) -> tuple[str, ...]:
    """Return the output of ``xl vcpu-list``, as often as asked for."""
    text = run(
        f"sleep {settle_s}; for i in $(seq {samples}); do xl vcpu-list || exit; "
        "echo; sleep 0.1; done"
    )
    return tuple(listing for listing in text.split("\n\n") if listing.strip())


def running_on(listing: str) -> dict[tuple[str, int], int]:
    """Return the cpu of every vcpu that runs, by guest and vcpu, in one ``xl vcpu-list``.

    A vcpu that waits or is blocked is left out: its cpu is where it was last. Names of this
    scenario's guests have no spaces.
    """
    found = {}
    for line in listing.splitlines()[1:]:
        name, _, vcpu, cpu, state = line.split()[:5]
        if state.startswith("r"):
            found[name, int(vcpu)] = int(cpu)
    return found


def _seen(
    listings: Iterable[str], homes: Mapping[str, int | None], *, nodes: Mapping[int, CpuMap]
) -> Iterable[Residency]:
    snapshots = [running_on(listing) for listing in listings]
    for name, home in sorted(homes.items()):
        if home is None:
            continue
        own = nodes[home]
        mine = [(cpus[name, 0], set(cpus.values())) for cpus in snapshots if (name, 0) in cpus]
        away = [busy for cpu, busy in mine if cpu not in own]
        idle = sum(not busy.issuperset(own) for busy in away)
        yield Residency(name, home, len(mine), len(mine) - len(away), idle)


def _share(part: int, whole: int) -> float:
    if not whole:
        raise SystemExit("residency: no sample shows a guest running; is the host overloaded?")
    return part / whole


def row(scheduler: str, mask: str, runs: Sequence[Held]) -> str:
    """Return one row of the table, over the seeds."""
    shares = [held.residency for held in runs]
    guests = [guest for held in runs for guest in held.guests]
    away = sum(guest.away for guest in guests)
    idle = f"{sum(guest.home_idle for guest in guests) / away:.0%} of {away}" if away else "never"
    lowest = min(held.lowest for held in runs)
    running = sum(guest.running for guest in guests)
    return (
        f"| {scheduler} | {mask} | {mean(shares):.0%} | {min(shares):.0%} | {lowest:.0%} "
        f"| {idle} | {running} |"
    )


HEADING = (
    "| scheduler | mask | residency, mean of seeds | lowest seed | lowest guest "
    "| away: home idle | samples |\n|---|---|---|---|---|---|---|"
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof.residency", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--topology", default="n4", help="of the lab (default: n4)")
    parser.add_argument("--schedulers", default=",".join(SCHEDULERS), help="some of the default")
    parser.add_argument("--masks", default="none,soft,hard", help="some of the default")
    parser.add_argument("--seeds", type=int, default=3, help="for each mask (default: 3)")
    parser.add_argument("--samples", type=int, default=10, help="for each seed (default: 10)")
    parser.add_argument("--raw", type=Path, help="folder for what xl printed")
    return parser.parse_args()


def _boot(lab: "Lab", scheduler: str, arguments: argparse.Namespace) -> Run:
    accel, qemu_args = EXACT_TIME
    lab.start(arguments.topology, xen_args=SCHEDULERS[scheduler], accel=accel, qemu_args=qemu_args)

    def run(command: str) -> str:
        result = lab.run(command, timeout_s=600)
        if result.status:
            raise SystemExit(f"residency: in dom0: {command!r:.60}: {result.stderr}")
        return result.stdout

    return run


def _measure(scheduler: str, run: Run, arguments: argparse.Namespace) -> Iterable[str]:
    for mask in MASKS:
        if mask.name not in arguments.masks.split(","):
            continue
        runs = []
        for seed in range(arguments.seeds):
            held = hold(run, mask, seed=seed, samples=arguments.samples)
            runs.append(held)
            print(scheduler, mask.name, f"seed {seed}: {held.residency:.0%}", file=sys.stderr)
            if arguments.raw:
                name = f"{scheduler}-{mask.name}-{seed}.txt".replace(" ", "-")
                (arguments.raw / name).write_text("\n\n".join(held.listings))
        yield row(scheduler, mask.name, runs)


def main() -> None:
    """Boot the lab for each scheduler, run the scenario, print the table."""
    arguments = _arguments()
    wanted = arguments.schedulers.split(",")
    for name in wanted:
        if name not in SCHEDULERS:
            raise SystemExit(f"residency: no scheduler {name!r}; there are {', '.join(SCHEDULERS)}")
    sys.path.append(str(LAB))
    from lab import Lab  # noqa: PLC0415 - the lab is beside the tests, not on the path

    print(HEADING, flush=True)
    for scheduler in wanted:
        lab = Lab("residency")
        try:
            run = _boot(lab, scheduler, arguments)
            for line in _measure(scheduler, run, arguments):
                print(line, flush=True)
        finally:
            lab.stop()


if __name__ == "__main__":
    main()
