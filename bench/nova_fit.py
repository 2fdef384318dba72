"""OpenStack Nova's `numa_fit_instance_to_host`, asked over lines of JSON.

Runs in an environment of its own, which has Nova and not homenode (`make bench` makes it in
`.venv-nova`); `bench/virtual.py` starts it and does the talking. It writes a line about itself,
then one answer for each question that it reads:

    {"host": [[32, 262144], [32, 262144]], "guest": [[4, 1024]], "cpus": "shared",
     "samples": 100, "limit_s": 10}
    {"nodes": [0], "us": 41.3, "samples": 100}

`host` and `guest` are cells of (cpus, memory in MiB), `cpus` is Nova's policy ("shared" or
"dedicated"). `nodes` are the positions of the host's cells in the order of the guest's, null
if Nova finds none; `us` is the median CPU time of a call. A call that takes more CPU time than
`limit_s` is stopped: `us` is then null. The function changes its argument (the ids of the guest's
cells), so that each call gets a guest of its own, made outside of what is timed.

Nova lets cells be over-committed unless told otherwise: with the ratios of 1 that are given here,
shared cpus and memory bind as dedicated ones do.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from statistics import median
from types import FrameType
from typing import Any, NoReturn

from nova.objects.instance_numa import InstanceNUMACell, InstanceNUMATopology
from nova.objects.numa import NUMACell, NUMATopology, NUMATopologyLimits
from nova.virt.hardware import numa_fit_instance_to_host

Cells = list[tuple[int, int]]

ENOUGH_S = 0.2
"""CPU time that is spent on the samples of one question; the first one is always taken."""

LIMITS = NUMATopologyLimits(cpu_allocation_ratio=1.0, ram_allocation_ratio=1.0)


class TimeIsUpError(Exception):
    """The call took longer than it may."""


def time_is_up(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Stop the call that runs."""
    raise TimeIsUpError


def made_host(cells: Cells, cpus: str) -> NUMATopology:
    """Return a host on which nothing runs; two threads to a core."""
    made, first = [], 0
    for at, (count, memory_mib) in enumerate(cells):
        own = range(first, first + count)
        first += count
        made.append(
            NUMACell(
                id=at,
                cpuset=set(own) if cpus == "shared" else set(),
                pcpuset=set(own) if cpus == "dedicated" else set(),
                memory=memory_mib,
                cpu_usage=0,
                memory_usage=0,
                pinned_cpus=set(),
                siblings=[set(own[thread : thread + 2]) for thread in range(0, count, 2)],
                mempages=[],
                socket=None,
            )
        )
    return NUMATopology(cells=made)


def made_guest(cells: Cells, cpus: str) -> InstanceNUMATopology:
    """Return a guest as Nova makes it from a flavor: its cells are numbered from 0."""
    made, first = [], 0
    for at, (count, memory_mib) in enumerate(cells):
        own = set(range(first, first + count))
        first += count
        made.append(
            InstanceNUMACell(
                id=at,
                cpuset=own if cpus == "shared" else set(),
                pcpuset=own if cpus == "dedicated" else set(),
                memory=memory_mib,
                cpu_policy=cpus,
            )
        )
    return InstanceNUMATopology(cells=made)


def timed(call: Callable[[], Any], limit_s: float) -> tuple[Any, float]:
    """Return what the call gives, and its CPU time in seconds.

    While a timer on the CPU time of the process runs, Linux reads that clock in whole ticks; the
    clock of the thread stays exact.
    """
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        before = time.thread_time_ns()
        given = call()
        return given, (time.thread_time_ns() - before) / 1e9
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def answered(question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one question."""
    cpus = question["cpus"]
    host = made_host(question["host"], cpus)
    times: list[float] = []
    found = None
    while len(times) < question["samples"] and sum(times) < ENOUGH_S:
        guest = made_guest(question["guest"], cpus)
        try:
            found, taken = timed(
                lambda guest=guest: numa_fit_instance_to_host(host, guest, {}, LIMITS),
                question["limit_s"],
            )
        except TimeIsUpError:
            return {"nodes": None, "us": None, "samples": 0}
        times.append(taken)
    return {
        "nodes": None if found is None else [cell.id for cell in found.cells],
        "us": median(times) * 1e6,
        "samples": len(times),
    }


def main() -> None:
    """Answer until there are no more questions."""
    # What libraries print is not an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    signal.signal(signal.SIGPROF, time_is_up)
    print(json.dumps({"nova": version("nova")}), file=answers)
    for line in sys.stdin:
        print(json.dumps(answered(json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
