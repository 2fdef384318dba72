"""Where vcpus really run: a claim that they are home rests on this, not on a mask.

Hypervisors tell of each vcpu how long it has run, and where it runs now. Looked at several times,
what a vcpu ran between two looks is put down to the node where it is at the second. That is wrong
for one that came there in between, so it is a sample: the more looks, the better. xl tells times
in tenths of a second, so a guest that ran less than that in the time of the sample looks idle.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from homenode.guest import MemoryByNode, Vcpu
from homenode.host import Host

Look = Mapping[int, Sequence[Vcpu]]
"""The vcpus by the id of their guest, at one moment."""


class Residency(NamedTuple):
    """How much of its running time a guest spent where its memory is, in whole percent.

    `residency` is the share on nodes that hold any of it, `locality` the sum over nodes of the
    share of time there and the share of memory there. Both are None where memory is unknown, and
    for a guest that did not run. `run_ns` is by node.
    """

    run_ns: dict[int, int]
    residency: int | None
    locality: int | None


def run_ns(looks: Sequence[Look], host: Host) -> dict[int, dict[int, int]]:
    """Return how long each guest ran on each node between the first look and the last."""
    node_of = {cpu.id: cpu.node for cpu in host.cpus}
    ran: dict[int, dict[int, int]] = {}
    for earlier, later in pairwise(looks):
        for guest, vcpus in later.items():
            before = {vcpu.id: vcpu.time_ns for vcpu in earlier.get(guest, ())}
            for vcpu in vcpus:
                began, ended = before.get(vcpu.id), vcpu.time_ns
                node = None if vcpu.cpu is None else node_of.get(vcpu.cpu)
                if began is None or ended is None or node is None or ended <= began:
                    continue
                by_node = ran.setdefault(guest, {})
                by_node[node] = by_node.get(node, 0) + ended - began
    return ran


def resident(run: Mapping[int, int], memory: MemoryByNode | None) -> Residency:
    """Return how resident a guest is that ran so long on each node and has that memory."""
    total_ns = sum(run.values())
    kib = {} if memory is None else memory.kib
    total_kib = sum(kib.values())
    if not total_ns or not total_kib:
        return Residency(dict(run), None, None)
    home_ns = sum(ns for node, ns in run.items() if kib.get(node))
    both = sum(ns * kib.get(node, 0) for node, ns in run.items())
    return Residency(dict(run), home_ns * 100 // total_ns, both * 100 // (total_ns * total_kib))
