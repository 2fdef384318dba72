"""What the keeper's numbers are good for: each halved and doubled, on simulated loads.

    python -m proof.keeper_numbers [--hours 1] [--seeds 2]

Sixteen vcpus with homes by chance on four nodes of two cpus; each is busy and idle by turns, for
times that are exponential with a mean of 5, 30 or 300 seconds, on average 40 % of the time. They
run as an ideal scheduler has them within their masks. Work is the cpu time that they get, worth
less where it is away from home (by a fifth, about the middle of what is published), as a share of
what they would get without masks and with all memory local. Changes are of masks, per vcpu and
hour.
"""

import argparse
import random
import sys
from bisect import bisect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import mean
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from homenode.keeper.rule import Key
from homenode.keeper.settings import Settings
from keeping import Bench

REMOTE = 0.8
"""What work away from home is worth."""
BUSY = 0.4
MEANS_S = (5.0, 30.0, 300.0)
VCPUS = 16
SHOWN = (
    "damping_s", "starved_share", "room_share", "spread_after_s", "return_after_s",
    "longest_stay_s", "soon_stays",
)  # fmt: skip


class Outcome(NamedTuple):
    """What came of a run: cpus that were had, the share of that at home, and changes."""

    cpus: float
    residency: float
    changes: float

    @property
    def worth(self) -> float:
        """The cpus that were had, weighed by where."""
        return self.cpus * (self.residency + (1 - self.residency) * REMOTE)


def turns(seed: int, mean_s: float, seconds: float) -> Callable[[Key, float], float]:
    """Return a load: every vcpu is busy and idle by turns."""
    chance = random.Random(seed)  # noqa: S311 - loads that can be had again
    changes: dict[int, list[float]] = {}
    for vcpu in range(VCPUS):
        at_s, busy, times = 0.0, chance.random() < BUSY, []
        if busy:
            times.append(0.0)
        while at_s < seconds:
            usual = mean_s if busy else mean_s * (1 - BUSY) / BUSY
            at_s += chance.expovariate(1 / usual)
            times.append(at_s)
            busy = not busy
        changes[vcpu] = times

    def load(key: Key, at_s: float) -> float:
        vcpu = int(key[0])
        passed = bisect(changes[vcpu], at_s)
        return float(passed % 2 == 1)

    return load


@cache
def outcome(mean_s: float, seed: int, hours: float, hold: str, settings: Settings) -> Outcome:
    """Run a load and return what came of it, after the first five minutes."""
    chance = random.Random(seed)  # noqa: S311 - the same
    homes = {(str(vcpu), 0): chance.randrange(4) for vcpu in range(VCPUS)}
    seconds = hours * 3600
    bench = Bench(homes, turns(seed, mean_s, seconds), looks=5, hold=hold, settings=settings)
    bench.run(seconds)
    changes = sum(len(step.moves) for step in bench.steps if step.at_s > 300)
    return Outcome(bench.ran(300), bench.residency(300), changes / VCPUS / hours)


def row(name: str, hold: str, settings: Settings, arguments: argparse.Namespace) -> str:
    """Return a row of the table."""
    cells = [name]
    for mean_s in MEANS_S:
        runs, free = [], []
        for seed in range(arguments.seeds):
            runs.append(outcome(mean_s, seed, arguments.hours, hold, settings))
            free.append(outcome(mean_s, seed, arguments.hours, "none", settings).cpus)
        worth = sum(run.worth for run in runs) / sum(free)
        residency, changes = mean(run.residency for run in runs), mean(run.changes for run in runs)
        cells.append(f"{worth:.1%}, {residency:.0%}, {changes:.1f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    usual = Settings()
    print(f"| work, residency, changes | {' | '.join(f'mean {mean:g} s' for mean in MEANS_S)} |")
    print("|---|---|---|---|")
    print(row("no masks", "none", usual, arguments), flush=True)
    print(row("pinned", "pin", usual, arguments), flush=True)
    print(row("keeper", "keeper", usual, arguments), flush=True)
    for name in SHOWN:
        value = getattr(usual, name)
        for factor in (0.5, 2.0):
            other = value * factor if "share" not in name else min(1.0, value * factor)
            settings = usual._replace(**{name: other})
            print(row(f"{name} {other:g} for {value:g}", "keeper", settings, arguments), flush=True)


if __name__ == "__main__":
    main()
