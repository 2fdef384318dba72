"""Real Xen's schedulers, traced in exact time, beside the simulator.

    python -m proof.schedules record [--schedulers credit,credit2] [--only NAME,...]
    python -m proof.schedules compare [--only NAME,...]

`record` boots the lab's Xen once for each scheduler, runs each scenario under ``xentrace`` and
keeps what every cpu ran in ``tests/data/xen-captures/schedules``. `compare` runs the same guests
in the simulator and prints shares and residencies of every vcpu side by side, and where the two
differ for the first time. Recording takes some three minutes a scenario; comparing, seconds.

dom0 has one vcpu, which is pinned to the last cpu, and sleeps while a scenario runs.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from homenode.bitmap import CpuMap
from homenode.formats import xentrace, xl_info
from homenode.host import Host, Node
from homenode.scheduler.codes import Kind
from homenode.scheduler.credit import Credit
from homenode.scheduler.credit2 import Credit2
from homenode.scheduler.engine import Engine
from homenode.scheduler.tasks import Ground, Share, Task, ground
from homenode.scheduler.versions import credit_version

if TYPE_CHECKING:
    from lab import Lab

LAB = Path(__file__).parent.parent / "tests" / "labs" / "xen"
CAPTURES = Path(__file__).parent.parent / "tests" / "data" / "xen-captures" / "schedules"
EXACT_TIME = ("tcg,thread=single", ("-icount", "shift=3,sleep=off"))
SCHEDULERS = {"credit": "sched=credit", "credit2": "sched=credit2"}
XEN_VERSION = "4.13"
"""What the lab's 4.17 is, for credit: 4.18 changed it next."""

FOR_EVER_NS = 10**15

RECORDED_S = 5
_WAIT_S = 2


class TracedGuest(NamedTuple):
    """A guest of the lab: what its vcpus do (spin, or run and sleep so many ns), and masks."""

    name: str
    vcpus: int = 1
    run_ns: int = 0
    sleep_ns: int = 0
    hard: str = "all"
    soft: str = "all"
    weight: int = 256
    cap: int = 0

    def file(self) -> str:
        """Return its xl.cfg."""
        extra = f"work {self.run_ns or FOR_EVER_NS} {self.sleep_ns}"
        hard = json.dumps([self.hard] * self.vcpus)
        return (
            f'name = "{self.name}"\ntype = "pv"\nkernel = "/guest/nano"\nextra = "{extra}"\n'
            f"memory = 16\nvcpus = {self.vcpus}\ncpus = {hard}\n"
            f"cpus_soft = {json.dumps([self.soft] * self.vcpus)}\n"
            f"cpu_weight = {self.weight}\ncap = {self.cap}\n"
        )


MS = 1_000_000
GONE_NS = 60_000 * MS

SCENARIOS: dict[str, tuple[TracedGuest, ...]] = {
    # Spinners at home on each node, and a crowd that is gone after a while: does who was pushed
    # away come home? Shares are those of the time after the crowd.
    "drift": (
        *(TracedGuest(f"home{node}", soft=f"node:{node}") for node in range(4)),
        TracedGuest("crowd", vcpus=7, run_ns=700 * MS, sleep_ns=GONE_NS),
    ),
    "weights": tuple(
        TracedGuest(f"w{weight}", hard="1", weight=weight) for weight in (128, 256, 512)
    ),
    "caps": (TracedGuest("cap25", cap=25), TracedGuest("cap60", cap=60)),
    "boost": (
        TracedGuest("hog", hard="1"),
        TracedGuest("io", hard="1", run_ns=1 * MS, sleep_ns=4 * MS),
        TracedGuest("io2", hard="1", run_ns=2 * MS, sleep_ns=9 * MS),
    ),
    "crowded": (TracedGuest("a", vcpus=6), TracedGuest("b", vcpus=6)),
    "mixed": (
        TracedGuest("spin0", vcpus=2, soft="node:0"),
        TracedGuest("spin1", vcpus=2, soft="node:1"),
        TracedGuest("work0", vcpus=2, run_ns=5 * MS, sleep_ns=5 * MS, soft="node:0"),
        TracedGuest("work1", vcpus=2, run_ns=5 * MS, sleep_ns=5 * MS, soft="node:1"),
    ),
}
"""What is recorded, by name."""

# Changes of run states alone (TRC_SCHED_MIN): buffers that are full drop what comes, and say so too
# late. They are read at the end, so that dom0 sleeps meanwhile.
_SCRIPT = """\
set -e
cd /root
rm -f *.cfg trace.bin
{files}
for name in {names}; do xl create -p $name.cfg >/dev/null 2>&1; done
sleep 1
/usr/lib/xen-4.17/bin/xentrace -D -e 0x00021000 -S 512 -s 60000 -T {seconds} trace.bin 2>/dev/null &
sleep 1
{unpause}
wait
xl list >list.txt
for name in {names}; do xl destroy $name; done
"""


def _script(guests: Sequence[TracedGuest]) -> str:
    names = " ".join(guest.name for guest in guests)
    files = "".join(f"cat >{guest.name}.cfg <<'END'\n{guest.file()}END\n" for guest in guests)
    unpause = "\n".join(f"xl unpause {guest.name}" for guest in guests)
    return _SCRIPT.format(
        files=files, names=names, unpause=unpause, seconds=RECORDED_S + _WAIT_S + len(guests)
    )


def record(schedulers: Iterable[str], names: Sequence[str]) -> None:
    """Record scenarios on the lab's Xen."""
    sys.path.append(str(LAB))
    from lab import Lab as LabHere  # noqa: PLC0415 - found by the line before

    CAPTURES.mkdir(parents=True, exist_ok=True)
    for scheduler in schedulers:
        lab: Lab = LabHere("proof-schedules")
        accelerator, arguments = EXACT_TIME
        lab.start("n4", xen_args=SCHEDULERS[scheduler], dom0_vcpus=1, accel=accelerator,
                  qemu_args=arguments, timeout=600)  # fmt: skip
        try:
            lab.run("xl vcpu-pin 0 0 7", check=True)
            host = lab.run("xl info -n", check=True).stdout
            for name in names:
                print(f"recording {scheduler} {name}", flush=True)
                _record_one(lab, scheduler, name, host)
        finally:
            lab.stop()


def _record_one(lab: "Lab", scheduler: str, name: str, host: str) -> None:
    guests = SCENARIOS[name]
    lab.run(_script(guests), timeout_s=2400, check=True)
    listed = lab.run("cat /root/list.txt", check=True).stdout.splitlines()[1:]
    ids = {line.split()[0]: int(line.split()[1]) for line in listed}
    frequency = float(next(line for line in host.splitlines() if "cpu_mhz" in line).split()[-1])
    records = list(xentrace.parse(lab.get("/root/trace.bin"), mhz=round(frequency)))
    capture = {
        "scheduler": scheduler,
        "version": "4.17",
        "host": host,
        "guests": [{**guest._asdict(), "id": ids[guest.name]} for guest in guests],
        "ran": [list(run) for run in ran(records)],
    }
    path = CAPTURES / f"{scheduler}-{name}.json.gz"
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(json.dumps(capture, separators=(",", ":")).encode())


class Run(NamedTuple):
    """From `begin_ns` to `end_ns` a cpu ran a vcpu of a guest (by id)."""

    cpu: int
    guest: int
    vcpu: int
    begin_ns: int
    end_ns: int


def ran(records: Iterable[xentrace.Record]) -> Iterator[Run]:
    """Yield what cpus ran, but for idling, by the changes of run states; times as recorded."""
    since: dict[int, tuple[int, int, int]] = {}
    last = 0
    for record_ in records:
        last = max(last, record_.time_ns)
        change = xentrace.run_state_change(record_)
        if change is None or change.guest == xentrace.IDLE_DOMAIN:
            continue
        if change.new == "running":
            since[record_.cpu] = change.guest, change.vcpu, record_.time_ns
        elif change.old == "running" and record_.cpu in since:
            guest, vcpu, begin = since.pop(record_.cpu)
            yield Run(record_.cpu, guest, vcpu, begin, record_.time_ns)
    for cpu, (guest, vcpu, begin) in since.items():
        # Who has a cpu for itself changes nothing any more.
        yield Run(cpu, guest, vcpu, begin, last)


# The simulator.


class Both(NamedTuple):
    """What a vcpu had on Xen and in the simulator: shares of the time and of its nodes."""

    guest: str
    vcpu: int
    real: float
    simulated: float
    real_home: float | None
    simulated_home: float | None


class Compared(NamedTuple):
    """A scenario on both sides; `parted` tells where they differ for the first time."""

    name: str
    scheduler: str
    vcpus: tuple[Both, ...]
    parted: str


def compare(path: Path, *, seeds: Sequence[int] = (1, 2, 3, 4, 5)) -> Compared:
    """Run what was recorded in the simulator; shares are means over the seeds."""
    with gzip.open(path, "rt") as file:
        capture = json.load(file)
    host = _host(capture["host"])
    floor = ground(host)
    guests = [TracedGuest(**{key: value for key, value in one.items() if key != "id"})
              for one in capture["guests"]]  # fmt: skip
    ids = [one["id"] for one in capture["guests"]]
    runs = [Run(*run) for run in capture["ran"]]
    own = [run for run in runs if run.guest in ids]
    start = {guest: min(run.begin_ns for run in own if run.guest == guest) for guest in ids}
    end = max(run.end_ns for run in own)
    gone = [id_ for guest, id_ in zip(guests, ids, strict=True) if guest.sleep_ns >= GONE_NS]
    begin = max(*start.values(), *(run.end_ns for run in own if run.guest in gone))
    zero = min(start.values())
    bursts = {
        id_: _burst(guest, [run for run in own if run.guest == id_])
        for guest, id_ in zip(guests, ids, strict=True)
    }
    tasks, keys = _tasks(host, floor, guests, ids, {g: t - zero for g, t in start.items()}, bursts)
    shares = [Share(guest.weight, guest.cap) for guest in guests]
    real = _shares([run for run in own if run.end_ns > begin], begin, end, floor, host, guests, ids)
    sums: dict[tuple[int, int], list[float]] = {}
    parted = ""
    for seed in seeds:
        engine = _engine(capture["scheduler"], floor, tasks, shares, seed)
        engine.begin()
        engine.run(begin - zero)
        before = engine.numbers("node_ns")
        engine.run(end - zero)
        after = engine.numbers("node_ns")
        for at, key in enumerate(keys):
            nodes = [
                after[at * floor.nodes + node] - before[at * floor.nodes + node]
                for node in range(floor.nodes)
            ]
            total = sum(nodes)
            home = _home_nodes(host, floor, guests[ids.index(key[0])])
            at_home = sum(nodes[node] for node in home)
            sums.setdefault(key, []).extend(
                (total / (end - begin), at_home / total if total else 0.0)
            )
        if not parted:
            parted = _first_difference(engine, own, zero, floor, keys)
    both = tuple(
        Both(
            guests[ids.index(guest)].name, vcpu, real[guest, vcpu][0],
            sum(sums[guest, vcpu][::2]) / len(seeds),
            real[guest, vcpu][1] if _has_home(guests[ids.index(guest)]) else None,
            sum(sums[guest, vcpu][1::2]) / len(seeds) if _has_home(guests[ids.index(guest)]) else None,
        )
        for guest, vcpu in keys
    )  # fmt: skip
    return Compared(path.name.removesuffix(".json.gz"), capture["scheduler"], both, parted)


def _host(text: str) -> Host:
    info = xl_info.parse(text)
    nodes = [Node(node.id) for node in info.nodes]
    return Host(cpus=info.cpus, nodes=nodes, distances=info.distances)


def _burst(guest: TracedGuest, runs: Sequence[Run]) -> int:
    """Return how long a vcpu runs before it sleeps, as the trace has it.

    The lab's exact time is that of all cpus together: the more of them are busy, the longer takes
    the same work. So the length of work is taken from the trace, and the order of things is not.
    """
    if not guest.run_ns:
        return 0
    total = slept = 0
    for vcpu in range(guest.vcpus):
        own = sorted((run for run in runs if run.vcpu == vcpu), key=lambda run: run.begin_ns)
        for run, after in pairwise(own):
            total += run.end_ns - run.begin_ns
            slept += after.begin_ns - run.end_ns >= 0.95 * guest.sleep_ns
    return total // slept if slept else guest.run_ns


def _has_home(guest: TracedGuest) -> bool:
    return guest.soft != "all"


def _home_nodes(host: Host, floor: Ground, guest: TracedGuest) -> list[int]:
    if not _has_home(guest):
        return list(range(floor.nodes))
    return [floor.node_ids.index(int(guest.soft.removeprefix("node:")))]


def _cpus(host: Host, text: str) -> CpuMap:
    if text == "all":
        return host.cpu_map
    if text.startswith("node:"):
        return host.cpus_by_node[int(text.removeprefix("node:"))]
    return CpuMap.parse(text)


def _tasks(
    host: Host, floor: Ground, guests: Sequence[TracedGuest], ids: Sequence[int],
    start: Mapping[int, int], bursts: Mapping[int, int],
) -> tuple[list[Task], list[tuple[int, int]]]:  # fmt: skip
    tasks = []
    keys = []
    for number, (guest, id_) in enumerate(zip(guests, ids, strict=True)):
        for vcpu in range(guest.vcpus):
            kind = Kind.CYCLE if guest.run_ns else Kind.SPIN
            tasks.append(
                Task(number, floor.bits(_cpus(host, guest.hard)), floor.bits(_cpus(host, guest.soft)),
                     kind, bursts[id_], guest.sleep_ns, start_ns=start[id_])
            )  # fmt: skip
            keys.append((id_, vcpu))
    return tasks, keys


def _engine(
    scheduler: str, floor: Ground, tasks: Sequence[Task], shares: Sequence[Share], seed: int
) -> Engine:
    if scheduler == "credit":
        version = credit_version(XEN_VERSION)
        return Credit(floor, tasks, shares, version=version, seed=seed, record=True)
    return Credit2(floor, tasks, shares, seed=seed, record=True)


def _shares(
    runs: Sequence[Run], begin: int, end: int, floor: Ground, host: Host,
    guests: Sequence[TracedGuest], ids: Sequence[int],
) -> dict[tuple[int, int], tuple[float, float]]:  # fmt: skip
    time: dict[tuple[int, int], int] = {}
    home: dict[tuple[int, int], int] = {}
    for guest, id_ in zip(guests, ids, strict=True):
        for vcpu in range(guest.vcpus):
            time[id_, vcpu] = home[id_, vcpu] = 0
    for run in runs:
        key = run.guest, run.vcpu
        length = min(run.end_ns, end) - max(run.begin_ns, begin)
        time[key] += length
        at = floor.node[floor.cpu_ids.index(run.cpu)]
        if at in _home_nodes(host, floor, guests[ids.index(run.guest)]):
            home[key] += length
    return {
        key: (total / (end - begin), home[key] / total if total else 0.0)
        for key, total in time.items()
    }


def _first_difference(
    engine: Engine, own: Sequence[Run], zero: int, floor: Ground, keys: Sequence[tuple[int, int]]
) -> str:
    # Which vcpus begin to run where, one after the other, on both sides.
    real = [
        ((run.guest, run.vcpu), run.cpu, run.begin_ns - zero)
        for run in sorted(own, key=lambda one: one.begin_ns)
    ]
    simulated = [
        (keys[vcpu], floor.cpu_ids[cpu], time)
        for time, what, cpu, vcpu in engine.happenings()
        if what == 0 and vcpu >= 0
    ]
    same = 0
    for one, other in zip(real, simulated, strict=False):
        if one[:2] != other[:2]:
            return (
                f"the first {same} starts of vcpus are the same; then Xen runs"
                f" {one[0][0]}.{one[0][1]} on cpu {one[1]} at {one[2] / MS:.2f} ms, the simulator"
                f" {other[0][0]}.{other[0][1]} on cpu {other[1]} at {other[2] / MS:.2f} ms"
            )
        same += 1
    return f"all {same} starts of vcpus are the same"


def main(arguments: Sequence[str]) -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("--schedulers", default=",".join(SCHEDULERS))
    parser.add_argument("--only", default=",".join(SCENARIOS))
    chosen = parser.parse_args(arguments)
    names = chosen.only.split(",")
    if chosen.what == "record":
        record(chosen.schedulers.split(","), names)
        return 0
    print("| scenario | vcpu | share: Xen | simulated | at home: Xen | simulated | |")
    print("|---|---|---|---|---|---|---|")
    parted = []
    for scheduler in chosen.schedulers.split(","):
        for name in names:
            path = CAPTURES / f"{scheduler}-{name}.json.gz"
            if not path.exists():
                continue
            compared = compare(path)
            parted.append(f"{compared.name}: {compared.parted}")
            for one in compared.vcpus:
                print(_line(compared.name, one))
    print("\n" + "\n".join(parted))
    return 0


def _line(name: str, one: Both) -> str:
    near = abs(one.real - one.simulated) <= 0.02 and (
        one.real_home is None
        or one.simulated_home is None
        or abs(one.real_home - one.simulated_home) <= 0.02
    )
    homes = (
        "| - | - "
        if one.real_home is None
        else f"| {one.real_home:.1%} | {one.simulated_home:.1%} "
    )
    return (
        f"| {name} | {one.guest}.{one.vcpu} | {one.real:.1%} | {one.simulated:.1%} {homes}"
        f"| {'ok' if near else '**differs**'} |"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
