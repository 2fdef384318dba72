"""Real Xen's schedulers, traced in exact time: what every cpu ran.

    python -m proof.schedules [--schedulers credit,credit2] [--only NAME,...]

The lab's Xen is booted once for each scheduler, runs each scenario under ``xentrace``, and what
every cpu ran is kept in ``tests/data/xen-captures/schedules``; that takes a quarter of a minute for
each. `proof.schedules_simulated` puts the simulator beside it.

dom0 has one vcpu, which is pinned to the last cpu, and sleeps while a scenario runs.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from homenode.formats import xentrace

if TYPE_CHECKING:
    from lab import Lab

LAB = Path(__file__).parent.parent / "tests" / "labs" / "xen"
CAPTURES = Path(__file__).parent.parent / "tests" / "data" / "xen-captures" / "schedules"
EXACT_TIME = ("tcg,thread=single", ("-icount", "shift=3,sleep=off"))
SCHEDULERS = {"credit": "sched=credit", "credit2": "sched=credit2"}
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


def main(arguments: Sequence[str]) -> int:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedulers", default=",".join(SCHEDULERS))
    parser.add_argument("--only", default=",".join(SCENARIOS))
    chosen = parser.parse_args(arguments)
    record(chosen.schedulers.split(","), chosen.only.split(","))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
