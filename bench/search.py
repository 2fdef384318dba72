"""How long a decision takes: the exact search beside enumeration of the same policy.

    python bench/search.py [--nodes 8,16,32,64] [--repeats 7]

Hosts are made up: nodes of 16 cpus and about 64 GiB, near-equal (the bad case for cutting off),
four nodes to a socket, with distances that form a tree, or random ones. Three cases for each
width: the guest fits easily (its vcpus make it that wide), the host is nearly full (its memory
does, and few sets hold it), and it fits nowhere. Times are CPU time, the median of the repeats,
of the search alone on prepared objects. Enumeration is what libxl does: all sets of 1, 2, 3...
nodes, until one size has an answer if fewer nodes win; as there, up to 16 nodes (all sets of 16
take seconds: with --slow only).
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from statistics import median

from homenode.bitmap import CpuMap
from homenode.guest import Guest, GuestRequest, MemoryByNode, Vcpu
from homenode.host import Cpu, Host, Node
from homenode.placement.policies import parse_order, policy
from homenode.placement.problem import prepare
from homenode.placement.search import Found, Search, Vector
from homenode.placement.view import View

GIB = 1 << 20
CPUS = 16
ORDERS = ("nodes,distance,-usable", "balanced")


def tree_distance(one: int, other: int) -> int:
    """Return a distance by how many levels of fours two nodes share."""
    for span, distance in ((1, 10), (4, 12), (16, 20)):
        if one // span == other // span:
            return distance
    return 32


def made_host(nodes: int, seed: int, *, tree: bool) -> View:
    """Return a host with a small guest on every second node, and a dom0 that is everywhere."""
    chance = random.Random(seed)  # noqa: S311 - a made-up host, no secret
    table = [[10] * nodes for _ in range(nodes)]
    for one in range(nodes):
        for other in range(one):
            value = tree_distance(one, other) if tree else chance.randrange(11, 40)
            table[one][other] = table[other][one] = value
    cpus = [
        Cpu(at, at // CPUS, core=at // 2 % 8, socket=at // CPUS // 4, die=0, llc=at // 8)
        for at in range(nodes * CPUS)
    ]
    described = [
        Node(at, present_kib=64 * GIB, free_kib=64 * GIB - chance.randrange(4 * GIB))
        for at in range(nodes)
    ]
    host = Host(cpus=cpus, nodes=described, distances=table)
    everywhere = host.cpu_map
    guests = [Guest("Domain-0", tuple(Vcpu(n, everywhere, everywhere) for n in range(4)), id=0)]
    for at in range(0, nodes, 2):
        own = CpuMap(range(at * CPUS, at * CPUS + CPUS))
        vcpus = tuple(Vcpu(n, everywhere, own) for n in range(chance.randrange(1, 4)))
        guests.append(Guest(f"g{at}", vcpus, memory_by_node=MemoryByNode({at: GIB}, "made up")))
    return View(host, tuple(guests))


def made_request(view: View, width: int, case: str) -> GuestRequest:
    """Return a guest that needs `width` nodes of the host, or fits nowhere."""
    memory = sorted((node.free_kib or 0 for node in view.host.nodes), reverse=True)
    if case == "easy":
        return GuestRequest("new", vcpus=width * CPUS, memory_kib=width * GIB)
    if case == "nearly full":
        return GuestRequest("new", vcpus=1, memory_kib=sum(memory[:width]) - GIB // 8)
    return GuestRequest("new", vcpus=1, memory_kib=sum(memory) + 1)


def enumerate_sets(search: Search) -> int | None:
    """Go through the sets as libxl_numa.c does: by size, until a size has an answer."""
    problem = search.problem
    fewest_win = search.policy.terms[0] == parse_order("nodes")[0]
    best: tuple[Vector, list[int], int] | None = None
    for size in range(1, len(problem.ids) + 1):
        for chosen in combinations(range(len(problem.ids)), size):
            bits = sum(1 << at for at in chosen)
            if problem.fits(bits):
                key = (search.vector(search.part_of(bits)), list(chosen), bits)
                if best is None or key < best:
                    best = key
        if best is not None and fewest_win:
            break
    return None if best is None else best[2]


def cpu_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the median CPU time of `call`; short ones are run many times over."""
    times = []
    for _ in range(repeats):
        runs = 0
        before = after = time.process_time()
        while not runs or after - before < 0.002:
            call()
            runs += 1
            after = time.process_time()
        times.append((after - before) / runs * 1000)
    return median(times)


def rows(nodes: int, *, tree: bool) -> Iterator[tuple[int, str, str, Search]]:
    """Yield (width, case, order, prepared search) of one host."""
    view = made_host(nodes, seed=nodes, tree=tree)
    for width in sorted({1, 2, 4, nodes // 2}):
        for case in ("easy", "nearly full", "impossible"):
            request = made_request(view, width, case)
            for order in ORDERS:
                yield width, case, order, Search(prepare(view, request), policy(order))


def measured(search: Search, chosen: argparse.Namespace, *, enumerable: bool) -> str:
    """Return the figures of one row."""

    def run() -> Found:
        return search.find(clock=time.perf_counter, time_limit_s=chosen.limit)

    taken, found = cpu_ms(run, chosen.repeats), run()
    text = f"{taken:9.3f}"
    if not enumerable:
        beside = f"{'':>21}"
    else:
        enumerated = cpu_ms(lambda: enumerate_sets(search), 1)
        same = "" if enumerate_sets(search) == found.chosen else "  OTHER ANSWER"
        beside = f"{enumerated:11.2f} {enumerated / taken:8.0f}x{same}"
    if found.proved:
        return f"{text} {beside}  proved"
    return f"{text} {beside}  {found.vector} at least {found.bound}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", default="8,16,32,64")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--limit", type=float, default=0.05, help="seconds for one search")
    parser.add_argument("--slow", action="store_true", help="enumerate the slow rows as well")
    chosen = parser.parse_args()
    print("distances nodes width case         order                  "
          " search ms  enumeration ms, ratio")  # fmt: skip
    for tree in (True, False):
        for nodes in map(int, chosen.nodes.split(",")):
            for width, case, order, search in rows(nodes, tree=tree):
                all_sizes = width > 4 or case == "impossible" or order == "balanced"
                enumerable = nodes <= 8 or (nodes <= 16 and (chosen.slow or not all_sizes))
                print(
                    f"{'tree' if tree else 'random':9} {nodes:5} {width:5} {case:12} {order:22}",
                    measured(search, chosen, enumerable=enumerable),
                    flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
