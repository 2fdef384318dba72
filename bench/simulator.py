"""How fast the simulators are: beside SimPy with the same model, and by the size of the host.

    python bench/simulator.py [--compiled FOLDER] [--seconds 4]

The model is that of an ideal scheduler on 64 cpus in 8 nodes: 256 vcpus run for 10 ms and sleep
for 40 ms in the mean; who wakes takes an idle cpu of its home, then any; an idle cpu takes who
waits longest in its own node, then elsewhere, and else calls home who runs away from it; a slice
is 30 ms.
`beside` is the same in SimPy: generators, timeouts and interrupts, as its documentation has them.
Both print what they found, so that one sees that it is the same.

With --compiled FOLDER (where the package is built with HOMENODE_COMPILED=1) the same is run there.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import deque
from random import Random

from homenode.scheduler import flat
from homenode.scheduler.codes import Kind
from homenode.scheduler.credit import Credit
from homenode.scheduler.credit2 import Credit2
from homenode.scheduler.ideal import Ideal
from homenode.scheduler.tasks import Ground, Share, Task
from homenode.scheduler.versions import credit_version

CPUS, NODES, VCPUS = 64, 8, 256
RUN_NS, SLEEP_NS, SLICE_NS = 10_000_000, 40_000_000, 30_000_000


def host(cpus: int, nodes: int) -> Ground:
    """Return a host without threads, a socket for each node."""
    node = tuple(cpu * nodes // cpus for cpu in range(cpus))
    return Ground(node, tuple(range(cpus)), node, tuple(range(cpus)), tuple(range(nodes)))


def tasks(ground: Ground, vcpus: int) -> list[Task]:
    """Return vcpus that are at home on the nodes in turn."""
    everywhere = (1 << ground.cpus) - 1
    homes = [
        sum(1 << cpu for cpu in range(ground.cpus) if ground.node[cpu] == node)
        for node in range(ground.nodes)
    ]
    return [
        Task(at, everywhere, homes[at % ground.nodes], Kind.CYCLE, RUN_NS, SLEEP_NS, random=True,
             start_ns=at * 1000)
        for at in range(vcpus)
    ]  # fmt: skip


def ours(kind: str, cpus: int, nodes: int, vcpus: int, seconds: float) -> dict[str, float]:
    """Run one of our simulators; `cost` is in seconds of a real cpu for one simulated second."""
    ground = host(cpus, nodes)
    given = (ground, tasks(ground, vcpus), [Share()] * vcpus)
    if kind == "credit":
        engine = Credit(*given, version=credit_version("4.18"), seed=1)
    elif kind == "credit2":
        engine = Credit2(*given, seed=1)
    else:
        engine = Ideal(*given, seed=1)
    engine.begin()
    begun = time.process_time()
    engine.run(int(seconds * 1e9))
    cost = time.process_time() - begun
    ran = engine.numbers("cpu_ns")
    by_node = engine.numbers("node_ns")
    local = sum(by_node[at * nodes + at % nodes] for at in range(vcpus))
    return {
        "cost": cost / seconds, "events": engine.events / seconds,
        "busy": sum(ran) / cpus / seconds / 1e9, "local": local / sum(ran),
    }  # fmt: skip


def simpy_model(seconds: float) -> dict[str, float]:  # noqa: C901, PLR0915 - a model in SimPy is one function with its processes inside
    """Run the same in SimPy."""
    import simpy  # noqa: PLC0415 - only a peer to be measured beside

    draw = Random(1)  # noqa: S311 - nothing secret
    environment = simpy.Environment()
    per = CPUS // NODES
    queues: list[deque[tuple[int, float]]] = [deque() for _ in range(NODES)]
    idle: list[set[int]] = [set(range(node * per, (node + 1) * per)) for node in range(NODES)]
    wakes = [environment.event() for _ in range(CPUS)]
    away: dict[int, simpy.Process] = {}
    ran = {"all": 0.0, "local": 0.0, "events": 0}

    def vcpu(number: int) -> object:
        yield environment.timeout(number * 1e-6)
        while True:
            done = environment.event()
            give(number, draw.expovariate(1 / 0.010), done)
            yield done
            yield environment.timeout(draw.expovariate(1 / 0.040))

    def give(number: int, left: float, done: object) -> None:
        home = number % NODES
        for node in (home, *(n for n in range(NODES) if n != home)):
            if idle[node]:
                cpu = min(idle[node])
                idle[node].remove(cpu)
                event, wakes[cpu] = wakes[cpu], environment.event()
                event.succeed((number, left, done))
                return
        queues[home].append((number, left, done))

    def cpu_process(cpu: int) -> object:
        node = cpu // per
        work = None
        while True:
            if work is None:
                work = yield wakes[cpu]
            number, left, done = work
            length = min(left, 0.030)
            begun = environment.now
            if number % NODES != node:
                away[cpu] = processes[cpu]
            try:
                yield environment.timeout(length)
                called = None
            except simpy.Interrupt as interrupt:
                called = interrupt.cause
            away.pop(cpu, None)
            spent = environment.now - begun
            ran["all"] += spent
            ran["local"] += spent if number % NODES == node else 0.0
            ran["events"] += 1
            left -= spent
            if called is not None:
                event, wakes[called] = wakes[called], environment.event()
                event.succeed((number, left, done))
            elif left > 1e-12:
                queues[number % NODES].append((number, left, done))
            else:
                done.succeed()
            work = next_work(cpu, node)

    def next_work(cpu: int, node: int) -> object:
        for other in (node, *((node + step) % NODES for step in range(1, NODES))):
            if queues[other]:
                return queues[other].popleft()
        for other, process in away.items():
            number = running_of[other]
            if number % NODES == node and other != cpu:
                process.interrupt(cpu)
                del away[other]
                return None
        idle[node].add(cpu)
        return None

    running_of: dict[int, int] = {}
    processes: list[simpy.Process] = []

    def tracked(cpu: int) -> object:
        # Which vcpu a cpu runs is asked for by cpus that become idle.
        generator = cpu_process(cpu)
        value = next(generator)
        while True:
            try:
                sent = yield value
            except simpy.Interrupt as interrupt:
                value = generator.throw(interrupt)
                continue
            if isinstance(sent, tuple):
                running_of[cpu] = sent[0]
            value = generator.send(sent)

    processes.extend(environment.process(tracked(cpu)) for cpu in range(CPUS))
    for number in range(VCPUS):
        environment.process(vcpu(number))
    begun = time.process_time()
    environment.run(until=seconds)
    cost = time.process_time() - begun
    return {
        "cost": cost / seconds, "events": 0.0, "busy": ran["all"] / CPUS / seconds,
        "local": ran["local"] / ran["all"],
    }  # fmt: skip


SIZES = ((16, 2), (64, 8), (128, 8), (256, 8), (512, 16))


def measure(seconds: float) -> dict[str, dict[str, float]]:
    """Run all of ours."""
    found = {"ideal": ours("ideal", CPUS, NODES, VCPUS, seconds)}
    for kind in ("credit", "credit2"):
        for cpus, nodes in SIZES:
            found[f"{kind} {cpus}"] = ours(kind, cpus, nodes, 4 * cpus, seconds * 64 / cpus)
    return found


def elsewhere(folder: str, seconds: float) -> dict[str, dict[str, float]]:
    """Run all of ours as they are in another folder."""
    told = subprocess.run(
        [sys.executable, __file__, "--as-json", "--seconds", str(seconds)],
        env={**os.environ, "PYTHONPATH": folder}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(told.stdout)
    if not found.pop("compiled"):
        raise SystemExit(f"{folder}: is not compiled")
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiled")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--as-json", action="store_true")
    chosen = parser.parse_args()
    if chosen.as_json:
        print(json.dumps({**measure(chosen.seconds), "compiled": flat.COMPILED}))
        return
    rows = {"interpreted": measure(chosen.seconds)}
    if chosen.compiled:
        rows["compiled"] = elsewhere(chosen.compiled, chosen.seconds * 8)
    try:
        peer = simpy_model(chosen.seconds)
    except ImportError:
        print("SimPy is not installed: ours alone")
        peer = None
    print(f"{CPUS} cpus, {VCPUS} vcpus, the same model: real seconds for a simulated one")
    if peer:
        found = f"busy {peer['busy']:.3f}  local {peer['local']:.3f}"
        print(f"  SimPy        {peer['cost']:.4f}   {found}")
    for name, found in rows.items():
        own = found["ideal"]
        ratio = f"{peer['cost'] / own['cost']:.1f} times SimPy" if peer else ""
        print(f"  {name:<12} {own['cost']:.4f}   busy {own['busy']:.3f}  local {own['local']:.3f}"
              f"   {ratio}")  # fmt: skip
    print(
        "\nby size of the host (4 vcpus for each cpu): real seconds for a simulated one, events/s"
    )
    for key in rows["interpreted"]:
        if key != "ideal":
            told = "   ".join(
                f"{name} {own[key]['cost']:.4f} ({own[key]['events'] / own[key]['cost']:,.0f}/s)"
                for name, own in rows.items()
            )
            print(f"  {key:<12} {told}")


if __name__ == "__main__":
    main()
