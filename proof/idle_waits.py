"""How long vcpus wait while a cpu that they may use idles: by scheduler, in random scenarios.

    python -m proof.idle_waits [--scenarios 40]

Hosts of 2 to 4 nodes, guests that spin, run and sleep, without hard affinity and caps. credit looks
for work on all cpus, and a wait is to be over after a tick and a millisecond; credit2 looks within
a run queue, and balances them when credits are given anew, so here is how long it took.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from random import Random

from homenode.scheduler.codes import Happening, Kind
from homenode.scheduler.credit import Credit
from homenode.scheduler.credit2 import Credit2
from homenode.scheduler.engine import Engine
from homenode.scheduler.run_queues import ARRANGEMENTS
from homenode.scheduler.tasks import Ground, Share, Task
from homenode.scheduler.versions import CREDIT_VERSIONS, credit_version

MS = 1_000_000
LENGTH_NS = 2_000 * MS
LIMIT_NS = 11 * MS
"""A tick and a millisecond."""


def scenario(seed: int) -> tuple[Ground, list[Task]]:
    """Return a random host and random guests."""
    draw = Random(seed)  # noqa: S311 - nothing secret
    nodes, cores = draw.randint(2, 4), draw.randint(1, 4)
    node = tuple(cpu // cores for cpu in range(nodes * cores))
    ground = Ground(
        node, tuple(range(len(node))), node, tuple(range(len(node))), tuple(range(nodes))
    )
    everywhere = (1 << ground.cpus) - 1
    tasks = []
    for guest in range(draw.randint(ground.cpus // 2, 2 * ground.cpus)):
        home = draw.randrange(nodes)
        soft = sum(1 << cpu for cpu in range(ground.cpus) if node[cpu] == home)
        kind = draw.choice((Kind.SPIN, Kind.CYCLE, Kind.CYCLE))
        tasks.append(
            Task(guest, everywhere, draw.choice((soft, everywhere)), kind,
                 draw.randint(1, 40) * MS // 2, draw.randint(1, 80) * MS // 2, random=True,
                 start_ns=draw.randrange(30 * MS))
        )  # fmt: skip
    return ground, tasks


def waits(engine: Engine) -> Iterator[int]:
    """Yield how long each vcpu waited each time, while at least one cpu was idle."""
    waiting: set[int] = set()
    running = [-1] * engine.cpus
    since: dict[int, int] = {}
    for time, what, cpu, vcpu in engine.happenings():
        if what == Happening.WAKE:
            waiting.add(vcpu)
        elif what == Happening.BLOCK:
            waiting.discard(vcpu)
        elif what == Happening.RUN:
            running[cpu] = vcpu
        else:
            continue
        left = waiting.difference(running) if -1 in running else set()
        for one in [one for one in since if one not in left]:
            begun = since.pop(one)
            if time > begun:
                yield time - begun
        for one in left:
            since.setdefault(one, time)


def engines() -> Iterator[tuple[str, Callable[[Ground, Sequence[Task], int], Engine]]]:
    """Yield all schedulers."""
    for name in CREDIT_VERSIONS:
        yield f"credit {name}", lambda ground, tasks, seed, name=name: Credit(
            ground, tasks, [Share()] * len(tasks), version=credit_version(name), seed=seed,
            record=True,
        )  # fmt: skip
    for name in ARRANGEMENTS:
        yield (
            f"credit2 {name}",
            lambda ground, tasks, seed, name=name: Credit2(
                ground, tasks, [Share()] * len(tasks), arrangement=name, seed=seed, record=True
            ),
        )


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=40)
    chosen = parser.parse_args(arguments)
    print("| scheduler | waits beside an idle cpu | half of them | 99 % | longest | of all time |")
    print("|---|---|---|---|---|---|")
    for name, make in engines():
        found: list[int] = []
        vcpus = 0
        for seed in range(chosen.scenarios):
            ground, tasks = scenario(seed)
            engine = make(ground, tasks, seed)
            engine.begin()
            engine.run(LENGTH_NS)
            found += waits(engine)
            vcpus += len(tasks)
        found.sort()
        share = sum(found) / (vcpus * LENGTH_NS)
        half, most, longest = (
            found[min(len(found) - 1, int(len(found) * part))] / MS if found else 0.0
            for part in (0.5, 0.99, 1.0)
        )
        print(f"| {name} | {len(found)} | {half:.3g} ms | {most:.3g} ms | {longest:.4g} ms"
              f" | {share:.2%} |", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
