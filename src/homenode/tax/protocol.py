"""The protocol: which cases a host has, in which order they run, and what may not be counted."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import DoesNotFit, HomenodeError
from homenode.host import Host
from homenode.units import format_memory

CaseName = Literal["default", "pinned", "best", "worst"]
CASES: tuple[CaseName, ...] = ("default", "pinned", "best", "worst")

MOST_AWAY = 0.05
"""What of the memory may lie elsewhere, or be spread unevenly, in a case that is counted."""

OWN_KIB = 24 << 10
"""What a process needs beside what it works on, about: an interpreter."""

_TIMES_CACHE = 4
"""So many times the last-level cache is what a process works on."""

_LEAST_KIB = 64 << 10
_MOST_KIB = 1 << 20
_MOST_QUICK_KIB = 256 << 10


class Case(NamedTuple):
    """One way to place the work.

    `cpus` None: any. `memory` None: where the allocator puts it; several nodes: spread over them.
    """

    name: CaseName
    cpus: CpuMap | None
    memory: NodeMap | None


class Turn(NamedTuple):
    """One measurement: in which round, how many copies at once, and which case."""

    round: int
    copies: int
    case: Case


def four_cases(
    host: Host, *, cpus: CpuMap, nodes: NodeMap, home: int | None = None
) -> tuple[Case, ...]:
    """Return the four cases on `host`, of which `cpus` and the memory of `nodes` may be used.

    Home is `home`, else the first node that has both. All cases but the default have the same cpus,
    so only where the memory is differs. Raises `HomenodeError` where there is nothing to misplace.
    """
    with_memory = NodeMap(node for node in nodes & host.node_map if _has_memory(host, node))
    if len(with_memory) < 2:
        raise HomenodeError(_only_one_node(host, with_memory))
    homes = [node for node in with_memory if host.cpus_by_node[node] & cpus]
    if not homes:
        raise HomenodeError(
            f"no node that may be used has both memory and cpus: cpus {cpus} are allowed here",
            hint="taskset and the cpuset of a container take cpus away",
        )
    if home is None:
        home = homes[0]
    if home not in host.node_map:
        raise HomenodeError(f"--node {home}: there is no such node", hint=f"{host.node_map.named}")
    if home not in homes:
        raise HomenodeError(
            f"--node {home}: it has no memory, or no cpu that may be used",
            hint=f"{NodeMap(homes).named} can be home",
        )
    own = host.cpus_by_node[home] & cpus
    return (
        Case("default", None, None),
        Case("pinned", own, with_memory),
        Case("best", own, NodeMap([home])),
        Case("worst", own, NodeMap([farthest(host, home, with_memory)])),
    )


def _has_memory(host: Host, node: int) -> bool:
    return host.nodes_by_id[node].present_kib != 0


def _only_one_node(host: Host, with_memory: NodeMap) -> str:
    whose = "this machine has" if len(host.nodes) < 2 else "what may be used here has"
    count = "one node" if with_memory else "no node"
    return f"{whose} {count} with memory: there is nothing to misplace"


def farthest(host: Host, home: int, nodes: NodeMap) -> int:
    """Return the node that is farthest from `home`, the first of those that are equally far."""
    others = [node for node in nodes if node != home]
    return max(others, key=lambda node: (host.distance(home, node), -node))


def turns(cases: Sequence[Case], *, copies: Sequence[int], runs: int, seed: int) -> list[Turn]:
    """Return the measurements in the order in which they are made.

    Each round has each case once, for each number of copies, in an order of its own: what a machine
    drifts by over the time then falls on all cases alike, and a case is compared with the best case
    of the same round.
    """
    random = Random(seed)  # noqa: S311 - an order, and one that can be had again
    order = []
    for number in range(1, runs + 1):
        of_round = [Turn(number, count, case) for count in copies for case in cases]
        random.shuffle(of_round)
        order += of_round
    return order


def flaw(case: Case, seen_kib: Mapping[int, int]) -> str | None:
    """Return why a measurement does not count: its memory did not lie as the case has it."""
    total = sum(seen_kib.values())
    if not total:
        return "nobody can say where its memory lay"
    if case.memory is None:
        return None
    away = sum(kib for node, kib in seen_kib.items() if node not in case.memory)
    if away > MOST_AWAY * total:
        return f"{100 * away / total:.0f} % of its memory lay elsewhere than on {case.memory.named}"
    even = total / len(case.memory)
    most_off = max(abs(seen_kib.get(node, 0) - even) for node in case.memory)
    if len(case.memory) > 1 and most_off > MOST_AWAY * total:
        return f"its memory was not spread evenly over {case.memory.named}"
    return None


def process_kib(size_kib: int) -> int:
    """Return the memory that a process needs to work on `size_kib`.

    That is the list that it walks, the buffer that it copies, and what making the list takes: two
    references of 8 bytes to each object of 48.
    """
    return 2 * size_kib + size_kib // 3 + OWN_KIB


def size_kib(
    host: Host, cases: Sequence[Case], *, copies: int, cache_kib: int | None, quick: bool
) -> int:
    """Return what each process works on by default: far more than the last-level cache holds.

    Less where so many copies have no room for it; `refuse_too_little` then tells whether any have.
    """
    wanted = _TIMES_CACHE * (cache_kib or 0)
    wanted = min(max(wanted, _LEAST_KIB), _MOST_QUICK_KIB if quick else _MOST_KIB)
    room = min(
        (kib for case in cases for kib in _rooms(host, case, copies).values()), default=wanted
    )
    return max(1024, min(wanted, (room - OWN_KIB) * 3 // 7))


def refuse_too_little(host: Host, cases: Sequence[Case], *, copies: int, size: int) -> None:
    """Raise `DoesNotFit` if a node has too little memory for a case."""
    needed = process_kib(size)
    for case in cases:
        for node, room in _rooms(host, case, copies).items():
            if room < needed:
                raise DoesNotFit(
                    f"node {node} has room for {format_memory(max(room, 0))} in each of {copies}"
                    f" processes, and the {case.name} case needs {format_memory(needed)}",
                    hint="--size and --copies ask for less",
                )


def _rooms(host: Host, case: Case, copies: int) -> dict[int, int]:
    """Return what each process can have by node, as if all of its memory were to come from there.

    A tenth of what is usable is left alone.
    """
    rooms = {}
    for node in case.memory or ():
        usable = host.nodes_by_id[node].usable_kib
        if usable is not None:
            rooms[node] = usable * 9 // 10 * len(case.memory or ()) // copies
    return rooms
