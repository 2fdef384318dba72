"""The machine that was measured, in words that can be shared: no name of it, no serial number."""

from collections.abc import Iterable
from typing import NamedTuple

from homenode.bitmap import CpuMap
from homenode.drivers.trees import Tree
from homenode.errors import HomenodeError
from homenode.host import Host

_CPUS = "sys/devices/system/cpu"
_PRODUCT = "sys/class/dmi/id"
_MODEL_KEYS = ("model name", "cpu", "CPU part", "uarch", "processor 0")
"""What /proc/cpuinfo calls the model, by architecture: x86, POWER, arm64, RISC-V, s390x."""

_LONGEST = 100
_BUSY = 0.05
"""Other work on more than this share of the cpus is worth a note."""


class Cache(NamedTuple):
    """A cache: its level, size, and how many cpus share it."""

    level: int
    kib: int
    cpus: int


def caches(tree: Tree, cpu: int) -> tuple[Cache, ...]:
    """Return the caches for data of a cpu, the nearest first."""
    found = []
    folder = f"{_CPUS}/cpu{cpu}/cache"
    for index in tree.names(folder):
        level = _text(tree, f"{folder}/{index}/level")
        size = _text(tree, f"{folder}/{index}/size")
        if _text(tree, f"{folder}/{index}/type") == "Instruction" or not level or not size:
            continue
        try:
            shared = CpuMap.parse(_text(tree, f"{folder}/{index}/shared_cpu_list") or str(cpu))
            found.append(Cache(int(level), _kib(size), len(shared)))
        except (HomenodeError, ValueError):
            continue  # one that nobody understands is none that is known
    return tuple(sorted(found))


def _kib(size: str) -> int:
    """Return the KiB of ``32K`` or ``1024K``; the kernel has no other unit."""
    return int(size.removesuffix("K"))


def machine(tree: Tree, host: Host, *, home: int) -> dict[str, object]:
    """Return the machine as the document has it; what cannot be read is None."""
    info = _text(tree, "proc/cpuinfo") or ""
    first = host.cpus_by_node[home].first if host.cpus_by_node[home] else 0
    cpus = [cpu for cpu in host.cpus if cpu.online]
    return {
        "vendor": _short(_text(tree, f"{_PRODUCT}/sys_vendor")),
        "product": _short(_text(tree, f"{_PRODUCT}/product_name")),
        "cpu": _model(info),
        "virtual": "hypervisor" in _field(info, "flags").split(),
        "sockets": len({cpu.socket for cpu in cpus}) or None,
        "cores": len(host.cores),
        "cpus": len(cpus),
        "nodes": [
            {
                "node": node.id,
                "kind": node.kind,
                "cpus": str(host.cpus_by_node[node.id]),
                "kib": node.present_kib,
            }
            for node in host.nodes
        ],
        "distances": [list(row) for row in host.distances],
        "caches": [cache._asdict() for cache in caches(tree, first)],
        "kernel": _short(_text(tree, "proc/sys/kernel/osrelease")),
        "hypervisor": host.hypervisor,
        "governor": _governor(tree, host.cpu_map),
        "turbo": _turbo(tree),
        "numa_balancing": _text(tree, "proc/sys/kernel/numa_balancing"),
        "transparent_hugepage": _chosen(tree),
    }


def doubts(tree: Tree, host: Host, described: dict[str, object]) -> list[str]:
    """Return what about the machine makes figures uncertain, as sentences."""
    told = []
    if described["virtual"]:
        told.append(
            "this is a virtual machine: its nodes may be no nodes of the hardware, and its speed is"
            " its host's to give"
        )
    if described["governor"] not in (None, "performance"):
        told.append(
            f"the frequency governor is {described['governor']}: cpus may have run at any speed"
        )
    if described["turbo"]:
        told.append("turbo is on: how fast a cpu is depends on how many are busy, and on its heat")
    load = (_text(tree, "proc/loadavg") or "").partition(" ")[0]
    if load.replace(".", "", 1).isdecimal() and float(load) > max(0.5, _BUSY * len(host.cpu_map)):
        told.append(f"other work was running at the start: a load of {load}")
    return told


def _text(tree: Tree, path: str) -> str | None:
    text = (tree.text(path) or "").strip()
    return text or None


def _short(text: str | None) -> str | None:
    return None if text is None else text[:_LONGEST]


def _field(info: str, key: str) -> str:
    for line in info.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    return ""


def _model(info: str) -> str | None:
    values = (_field(info, key) for key in _MODEL_KEYS)
    return _short(next((" ".join(value.split()) for value in values if value), None))


def _governor(tree: Tree, cpus: Iterable[int]) -> str | None:
    paths = (f"{_CPUS}/cpu{cpu}/cpufreq/scaling_governor" for cpu in cpus)
    found = sorted({text for path in paths if (text := _text(tree, path))})
    return _short(", ".join(found)) if found else None


def _turbo(tree: Tree) -> bool | None:
    no_turbo = _text(tree, f"{_CPUS}/intel_pstate/no_turbo")
    boost = _text(tree, f"{_CPUS}/cpufreq/boost")
    if no_turbo is not None:
        return no_turbo == "0"
    return None if boost is None else boost == "1"


def _chosen(tree: Tree) -> str | None:
    text = _text(tree, "sys/kernel/mm/transparent_hugepage/enabled") or ""
    return text.partition("[")[2].partition("]")[0] or None
