"""Machines and kinds of work whose numbers are published: ``machines.toml``, ``workloads.toml``."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from homenode.errors import HomenodeError
from homenode.host import Cpu, Host, Node
from homenode.scheduler.memory import LOADED_A, PLATEAU, Machine
from homenode.units import parse_memory_kib

REFERENCE_RATIO = 1.6
"""The ratio of remote to local latency that `Work.sensitivity` is stated for."""


class Model(NamedTuple):
    """A machine: the host, what its memory can do, and where the numbers are from."""

    name: str
    title: str
    host: Host
    machine: Machine
    source: str
    assumed: str
    loaded_error: float | None


class Work(NamedTuple):
    """A kind of work: its sensitivity to remote memory, its use of threads, its traffic.

    `sensitivity` is beta, `threads_yield` what both threads of a core do as a multiple of one
    alone, `gb_s` the traffic of a vcpu that is not hindered.
    """

    name: str
    title: str
    sensitivity: float
    threads_yield: float
    gb_s: float
    source: str

    @property
    def stall(self) -> float:
        """The share of time that waits for memory if all of it is local."""
        return self.sensitivity / (REFERENCE_RATIO - 1)


@cache
def _document(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("homenode.scheduler").joinpath(name).read_text("utf-8"))


def machine_names() -> tuple[str, ...]:
    """Return the names of the machines that are known."""
    return tuple(_document("machines.toml"))


def machine(name: str) -> Model:
    """Return a machine by its name."""
    known = _document("machines.toml")
    if name not in known:
        raise HomenodeError(f"there is no machine {name!r}", hint="known: " + ", ".join(known))
    stated = known[name]
    host = _host(name, stated)
    latency = tuple(
        tuple(cell / row[at] for cell in row) for at, row in enumerate(stated["latency_ns"])
    )
    count = stated["nodes"]
    links = stated.get("links", [[0] * count for _ in range(count)])
    return Model(
        name,
        stated["title"],
        host,
        Machine(
            latency,
            tuple(stated.get("controllers", [None] * count)),
            tuple(tuple(cell or None for cell in row) for row in links),
            stated.get("loaded_a", LOADED_A),
            stated.get("plateau", PLATEAU),
        ),
        stated["source"],
        stated.get("assumed", ""),
        stated.get("loaded_error"),
    )


def _host(name: str, stated: dict[str, Any]) -> Host:
    nodes, cores, threads = stated["nodes"], stated["cores"], stated["threads_per_core"]
    sockets = stated.get("sockets", nodes)
    memory_kib = parse_memory_kib(stated["memory"])
    latency = stated["latency_ns"]
    cpus = [
        Cpu((node * cores + core) * threads + thread, node, core=node * cores + core,
            socket=node * sockets // nodes, thread=thread)
        for node in range(nodes)
        for core in range(cores)
        for thread in range(threads)
    ]  # fmt: skip
    return Host(
        name=name,
        source=stated["source"],
        cpus=cpus,
        nodes=[Node(node, present_kib=memory_kib, free_kib=memory_kib) for node in range(nodes)],
        distances=[
            [10 if at == to else round(10 * cell / row[at]) for to, cell in enumerate(row)]
            for at, row in enumerate(latency)
        ],
        latency_ns=[[round(cell) for cell in row] for row in latency],
    )


def work_names() -> tuple[str, ...]:
    """Return the names of the kinds of work that are known."""
    return tuple(_document("workloads.toml"))


def work(name: str) -> Work:
    """Return a kind of work by its name."""
    known = _document("workloads.toml")
    if name not in known:
        raise HomenodeError(f"there is no work {name!r}", hint="known: " + ", ".join(known))
    stated = known[name]
    return Work(
        name,
        stated["title"],
        stated["sensitivity"],
        stated["threads_yield"],
        stated.get("gb_s", 0.0),
        stated["source"],
    )
