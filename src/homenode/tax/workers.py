"""Processes of our own that do the work of a case, all at once, and are ended with it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import mean
from types import TracebackType
from typing import Self

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.linux_guests import STATUS
from homenode.drivers.trees import FolderTree
from homenode.errors import HomenodeError, HypervisorError
from homenode.host import Host
from homenode.tax.memory_policy import take_memory_from
from homenode.tax.protocol import Case, Turn, flaw
from homenode.tax.results import COPY, WALK, Sample

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from homenode.tax.worker import serve; serve()"
)
"""Finds homenode where we found it: in a folder, or in an archive."""

_QEMU = ("qemu-system-", "qemu-kvm")

OWN = "own_ns"
"""Among the figures of a sample: what a step of the walk takes in the nearest cache."""


def refuse_without_leave() -> None:
    """Raise `HomenodeError` if this process may not choose where its memory comes from."""
    take_memory_from(None)


def measured(turn: Turn, host: Host, *, size_kib: int, seconds: float) -> Sample:
    """Have as many processes as the turn has copies do the work of its case; return what was seen.

    The walk's figure is the mean of all processes, the copy's their sum.
    """
    with _Workers(turn.case, copies=turn.copies, size_kib=size_kib, seconds=seconds) as workers:
        own = workers.answers()
        walks = workers.do("walk")
        copies = workers.do("copy")
    memory: dict[int, int] = {}
    ran = CpuMap()
    for answer in (*walks, *copies):
        ran |= CpuMap(_numbers(answer["cpus"]))
    for answer in copies:
        for node, kib in _by_node(answer["memory"]).items():
            memory[node] = memory.get(node, 0) + kib
    figures = {
        WALK.name: mean(_value(answer) for answer in walks),
        COPY.name: sum(_value(answer) for answer in copies),
        OWN: mean(float(str(answer[OWN])) for answer in own),
    }
    ran_on = host.nodes_of(ran)
    why = flaw(turn.case, memory)
    return Sample(turn.round, turn.copies, turn.case, figures, memory, ran_on, why)


class _Workers:
    """Running processes of `homenode.tax.worker`."""

    def __init__(self, case: Case, *, copies: int, size_kib: int, seconds: float) -> None:
        self._case = case
        self._copies = copies
        self._order = {
            "cpus": None if case.cpus is None else list(case.cpus),
            "memory": None if case.memory is None else list(case.memory),
            "size_kib": size_kib,
            "seconds": seconds,
        }
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-S", "-c", _PROGRAM, json.dumps(sys.path)]
        try:
            for _ in range(self._copies):
                process = subprocess.Popen(  # noqa: S603 - this Python
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                self._processes.append(process)
            self._tell(json.dumps(self._order))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what was not read by one that is gone
                        pipe.close()

    def _tell(self, line: str) -> None:
        for process in self._processes:
            if process.stdin is not None:
                try:
                    process.stdin.write(f"{line}\n")
                    process.stdin.flush()
                except OSError:
                    continue  # its answer, or that it has none, tells why

    def do(self, act: str) -> list[Mapping[str, object]]:
        """Have all of them do something at once; return their answers."""
        self._tell(act)
        return self.answers()

    def answers(self) -> list[Mapping[str, object]]:
        """Return the next answer of each; `HomenodeError` if one of them failed."""
        return [self._answer(process) for process in self._processes]

    def _answer(self, process: "subprocess.Popen[str]") -> Mapping[str, object]:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            status = process.wait()
            raise HypervisorError(
                f"a process of the {self._case.name} case ended: {_ending(status)}",
                hint="the kernel ends processes for want of memory: --size asks for less",
            )
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise HomenodeError(f"the {self._case.name} case: {answer['error']}")
        return answer


def _ending(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status}"


def _value(answer: Mapping[str, object]) -> float:
    return float(str(answer["value"]))


def _numbers(value: object) -> Sequence[int]:
    return [int(str(number)) for number in value] if isinstance(value, list) else []


def _by_node(value: object) -> dict[int, int]:
    if not isinstance(value, dict):
        return {}
    return {int(node): int(kib) for node, kib in value.items()}


def allowed(host: Host) -> tuple[CpuMap, NodeMap]:
    """Return the cpus, and the nodes whose memory, this process may use."""
    cpus = CpuMap(os.sched_getaffinity(0)) & host.cpu_map
    for line in (FolderTree("/").text("proc/self/status") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "Mems_allowed_list" and value.strip():
            return cpus, NodeMap.parse(value.strip()) & host.node_map
    return cpus, host.node_map


def guests_here(*, root: str = "/") -> list[str]:
    """Return the names of the guests that run on this machine, as far as can be seen.

    libvirt's files of them are for root; that there is a process of QEMU everybody may know.
    """
    tree = FolderTree(root)
    files = [name for name in tree.names(STATUS) if name.endswith(".xml")]
    names = [name.removesuffix(".xml") for name in files]
    numbers = [name for name in tree.names("proc") if name.isdecimal()]
    return names or [
        f"process {number}, a QEMU"
        for number in numbers
        if (tree.text(f"proc/{number}/comm") or "").startswith(_QEMU)
    ]
