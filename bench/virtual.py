"""Virtual nodes on nodes: homenode beside OpenStack Nova, in time and in what they answer.

    python bench/virtual.py [--nova .venv-nova/bin/python] [--guests 2000] [--limit 5]

Nova's `nova.virt.hardware.numa_fit_instance_to_host` is asked by `bench/nova_fit.py` in its own
environment (`make bench` makes it); where that is not to be had, homenode is measured alone.

Time: hosts of 32 cpus a node; one cell of the guest to a node. *Easy*: it fits at once. *Nearly
full*: the nodes' free memory is uneven and in no order, and one way alone to lay the cells fits.
*Nothing fits*: each cell is larger than any node. *Last too large*: all cells but the last fit
anywhere, and that one nowhere. Times are CPU time on prepared objects, the median of the runs.
*match* tests which cell fits on which node and lays them, which is what Nova's function does.
*first-fit* is homenode's search for the first nodes that fit, as Nova's is; *balanced*, its
default, looks for the best nodes by ten facts, which Nova does not. The ratio is to the faster
of Nova's two policies. Nova goes through the permutations of the nodes: where these are too many
to wait for, ~ marks what follows from their number and the time for one, in the row before. > is
a call that was stopped, ! a wrong answer.

Answers: random hosts of 2, 3, 4 and 6 nodes, each answer held against every way to lay the cells.
"""

import argparse
import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import permutations
from math import perm
from pathlib import Path
from typing import NamedTuple, Self

from homenode.bitmap import CpuMap
from homenode.guest import GuestRequest, VirtualNode
from homenode.host import Cpu, Host, Node
from homenode.placement.deciding import TIME_LIMIT_S, place
from homenode.placement.policies import policy
from homenode.placement.problem import prepare
from homenode.placement.search import Search
from homenode.placement.view import View
from homenode.placement.virtual import match
from search import cpu_ms, tree_distance

HERE = Path(__file__).resolve().parent
POLICIES = ("first-fit", "balanced")
OURS = ("match", *POLICIES)
NODES, CELLS = (2, 4, 8, 16), (1, 2, 4, 8)
CASES = ("easy", "nearly full", "nothing fits", "last too large")
CPU_POLICIES = ("shared", "dedicated")
CPUS, VCPUS, NODE_MIB = 32, 4, 256 << 10
MOST_PERMUTATIONS = 1_000_000
"""Of nodes, that Nova is let go through: it takes about 1 us for each."""

Cells = list[tuple[int, int]]
"""(cpus, memory in MiB) of each node of a host, or each cell of a guest."""

Way = Sequence[int] | None
"""The positions of the nodes in the order of the cells; None: the guest does not fit."""


class Question(NamedTuple):
    """A host and a guest."""

    host: Cells
    guest: Cells

    def holds(self, way: Way) -> bool:
        """Return whether each cell has a node of its own that has enough for it."""
        if way is None or not len(set(way)) == len(way) == len(self.guest):
            return False
        return all(
            at in range(len(self.host)) and vcpus <= self.host[at][0] and mib <= self.host[at][1]
            for at, (vcpus, mib) in zip(way, self.guest, strict=True)
        )

    def feasible(self) -> bool:
        """Return whether any way to lay the cells holds."""
        return any(map(self.holds, permutations(range(len(self.host)), len(self.guest))))


class Timed(NamedTuple):
    """An answer and its time; no time where the limit was reached."""

    way: Way
    us: float | None


class Nova:
    """The process that has Nova."""

    def __init__(self, python: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [python, "-P", "-W", "ignore", HERE / "nova_fit.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        self.version = str(self._answer()["nova"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._errors.close()

    def fit(self, question: Question, cpus: str, *, samples: int = 1, limit_s: float) -> Timed:
        """Ask for one guest on one host."""
        asked = {**question._asdict(), "cpus": cpus, "samples": samples, "limit_s": limit_s}
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return Timed(answer["nodes"], answer["us"])

    def _answer(self) -> dict:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.communicate()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        raise OSError(said[-1] if said else "it ended without a word")


def started(python: Path) -> Nova | None:
    """Start the process that has Nova, or say in a line that there is none."""
    try:
        return Nova(python)
    except OSError as error:
        log = python.parent.parent / "install.log"
        hint = f" (see {log})" if log.exists() else ""
        print(f"OpenStack Nova is not to be had, homenode alone is measured: {error}{hint}")
        return None


def view_of(host: Cells) -> View:
    """Return a host on which nothing runs; two threads to a core, four nodes to a socket."""
    owners = [at for at, (count, _) in enumerate(host) for _ in range(count)]
    ids = range(len(host))
    cpus = [Cpu(n, at, core=n // 2, socket=at // 4) for n, at in enumerate(owners)]
    nodes = [
        Node(at, present_kib=mib << 10, free_kib=mib << 10) for at, (_, mib) in enumerate(host)
    ]
    distances = [[tree_distance(one, other) for other in ids] for one in ids]
    return View(Host(cpus=cpus, nodes=nodes, distances=distances))


def request_of(guest: Cells) -> GuestRequest:
    """Return the guest as homenode is asked for it."""
    cells, first = [], 0
    for at, (count, mib) in enumerate(guest):
        cells.append(VirtualNode(at, CpuMap(range(first, first + count)), mib << 10))
        first += count
    memory_kib = sum(cell.memory_kib for cell in cells)
    return GuestRequest("new", first, memory_kib, virtual_nodes=tuple(cells))


def matching(question: Question) -> Callable[[], Way]:
    """Return what does the work of Nova's function: which cell fits where, and lay them."""
    problem = prepare(view_of(question.host), request_of(question.guest))
    seats, memory = problem.seats.of, problem.memory.of
    cells = [(len(cell.vcpus), cell.memory_kib) for cell in problem.request.virtual_nodes]
    nodes = [(1 << at, seats[at], memory[at]) for at in range(len(problem.ids))]

    def run() -> Way:
        return match(
            [
                sum([bit for bit, cpus, kib in nodes if cpus >= vcpus and kib >= needed])
                for vcpus, needed in cells
            ]
        )

    return run


def searching(question: Question, order: str) -> Callable[[], object]:
    """Return the search for the best nodes by a policy, prepared."""
    search = Search(prepare(view_of(question.host), request_of(question.guest)), policy(order))
    return lambda: search.find(clock=time.perf_counter, time_limit_s=TIME_LIMIT_S)


def placed(question: Question, order: str = "balanced") -> Way:
    """Return what the whole decision says."""
    decision = place(view_of(question.host), request_of(question.guest), policy(order))
    nodes = [-1 if cell.node is None else cell.node for cell in decision.virtual_nodes]
    return nodes if decision.fits else None


def made_question(nodes: int, cells: int, case: str) -> Question:
    """Return the host and the guest of one row."""
    host, small, large = [(CPUS, NODE_MIB)] * nodes, (VCPUS, 1024), (VCPUS, NODE_MIB + 1)
    if case == "nothing fits":
        return Question(host, [large] * cells)
    if case == "last too large":
        return Question(host, [small] * (cells - 1) + [large])
    if case == "easy":
        return Question(host, [small] * cells)
    memory = [NODE_MIB - at * 1024 for at in range(nodes)]
    guest = [(VCPUS, mib) for mib in reversed(memory[:cells])]
    random.Random(nodes * cells).shuffle(memory)  # noqa: S311 - a made-up host, no secret
    return Question([(CPUS, mib) for mib in memory], guest)


def questions() -> Iterator[tuple[str, Question]]:
    """Yield the rows of the table, a case with all its sizes after the other."""
    for case in CASES:
        for nodes in NODES:
            for cells in CELLS:
                # One cell that is too large is the case before.
                if cells <= nodes and (cells > 1 or case != "last too large"):
                    yield case, made_question(nodes, cells, case)


class Column:
    """Nova's times with one of its policies on cpus, from the narrow rows to the wide ones."""

    def __init__(self, nova: Nova, cpus: str, limit_s: float) -> None:
        self.nova, self.cpus, self.limit_s = nova, cpus, limit_s
        self._us_each = 0.0

    def figures(self, case: str, question: Question) -> tuple[float, str]:
        """Return the microseconds (at least), and how they are shown."""
        ways = perm(len(question.host), len(question.guest))
        if case == "nothing fits" and ways > MOST_PERMUTATIONS:
            return ways * self._us_each, f"~{ways * self._us_each:,.0f} "
        timed = self.nova.fit(question, self.cpus, samples=100, limit_s=self.limit_s)
        if timed.us is None:
            return self.limit_s * 1e6, f">{self.limit_s * 1e6:,.0f} "
        self._us_each = timed.us / ways
        return timed.us, f"{timed.us:,.0f}{' ' if right(case, question, timed.way) else '!'}"


def right(case: str, question: Question, way: Way) -> bool:
    """Return whether this is an answer to the question of that case."""
    return question.holds(way) if case in ("easy", "nearly full") else way is None


def print_times(nova: Nova | None, repeats: int, limit_s: float) -> None:
    """Print the table of times, and how the goals were met."""
    columns = [Column(nova, cpus, limit_s) for cpus in CPU_POLICIES] if nova else []
    print(f"{'CPU time, us':29}", f"{'Nova':^31}" if nova else "", f"{'homenode':^74}".rstrip())
    names = [f"{cpus:>15}" for cpus in CPU_POLICIES if nova]
    ours = [f"{name:>10} {'ratio' if nova else '':>13}" for name in OURS]
    print(f"{'case':15} nodes cells  ", *names, *ours)
    ratios: dict[tuple[str, int, int], tuple[float, ...]] = {}
    for case, question in questions():
        size = len(question.host), len(question.guest)
        theirs = [column.figures(case, question) for column in columns]
        calls = matching(question), *(searching(question, order) for order in POLICIES)
        times = [cpu_ms(call, repeats) * 1000 for call in calls]
        print(
            f"{case:15} {size[0]:5} {size[1]:5}  ",
            *(f"{text:>15}" for _, text in theirs),
            *(beside(us, theirs) for us in times),
            *("homenode is WRONG"
              for way in (calls[0](), *(placed(question, order) for order in POLICIES))
              if not right(case, question, way)),
            flush=True,
        )  # fmt: skip
        ratios[case, *size] = tuple(least(theirs)[0] / us for us in times) if theirs else ()
    if nova:
        print_goals(ratios)


def least(theirs: list[tuple[float, str]]) -> tuple[float, str]:
    """Return the faster of Nova's figures."""
    return min(theirs, key=lambda figures: figures[0])


def beside(us: float, theirs: list[tuple[float, str]]) -> str:
    """Return a time of ours, and how many times theirs is as long (> and ~ as for theirs)."""
    if not theirs:
        return f"{us:10.1f} {'':>13}"
    fastest, shown = least(theirs)
    mark = shown[0] if shown[0] in ">~" else ""
    return f"{us:10.1f} {f'{mark}{fastest / us:,.1f}x':>13}"


def print_goals(ratios: dict[tuple[str, int, int], tuple[float, ...]]) -> None:
    """Print the ratios that are to be reached."""
    for at, name in enumerate(OURS):
        row = min(ratios, key=lambda row: ratios[row][at])
        where = f"{row[0]}, {row[1]} x {row[2]}"
        wide = ratios["nothing fits", 8, 8][at]
        print(f"{name:9} least ratio {ratios[row][at]:.1f} ({where}; to reach: 1)", end="; ")
        print(f"8 x 8 that does not fit {wide:,.0f} (to reach: 1,000)")


def random_question(chance: random.Random, *, equal: bool) -> Question:
    """Return a host of uneven nodes, and a guest of equal cells or of cells of uneven memory."""
    nodes = chance.choice((2, 3, 4, 6))
    cells = chance.randint(1 if equal else 2, nodes)
    if equal:
        host = [(chance.randint(2, 12), 1024 * chance.randint(1, 16)) for _ in range(nodes)]
        return Question(host, [(chance.randint(1, 8), 1024 * chance.randint(1, 12))] * cells)
    host = [(8, 1024 * chance.randint(1, 16)) for _ in range(nodes)]
    return Question(host, [(2, 1024 * chance.randint(1, 12)) for _ in range(cells)])


class Errors:
    """What one engine got wrong."""

    def __init__(self, name: str, answer: Callable[[Question], Way]) -> None:
        self.name, self.answer = name, answer
        self.rejected = self.overcommitted = self.accepted = 0

    def count(self, question: Question, *, feasible: bool) -> None:
        """Ask, and count what is wrong with the answer."""
        way = self.answer(question)
        self.rejected += feasible and way is None
        self.overcommitted += feasible and way is not None and not question.holds(way)
        self.accepted += not feasible and way is not None

    def __str__(self) -> str:
        return f"{self.name:20}{self.rejected:10}{self.overcommitted:16}{self.accepted:10}"


def engines(nova: Nova | None, limit_s: float) -> list[Errors]:
    """Return all that answer."""
    found = [
        Errors(
            f"Nova, {cpus}",
            lambda question, cpus=cpus: nova.fit(question, cpus, limit_s=limit_s).way,
        )
        for cpus in CPU_POLICIES
        if nova is not None
    ]
    found.append(Errors("homenode, match", lambda question: matching(question)()))
    found.append(Errors("homenode, place", placed))
    return found


def print_answers(nova: Nova | None, guests: int, limit_s: float) -> None:
    """Print what each engine gets wrong."""
    for equal in (True, False):
        chance = random.Random(guests)  # noqa: S311 - made-up hosts, no secret
        asked = [random_question(chance, equal=equal) for _ in range(guests)]
        feasible = [question.feasible() for question in asked]
        print(
            f"\n{guests} guests of {'equal cells' if equal else 'cells of uneven memory'}:"
            f" {sum(feasible)} fit, {guests - sum(feasible)} do not"
        )
        print(f"{'wrong answers':20}{'rejected':>10}{'over-committed':>16}{'accepted':>10}")
        for engine in engines(nova, limit_s):
            for question, fits in zip(asked, feasible, strict=True):
                engine.count(question, feasible=fits)
            print(engine, flush=True)
    print("rejected: fits; over-committed: fits, and not as laid; accepted: does not fit")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nova", type=Path, default=HERE.parent / ".venv-nova/bin/python")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--limit", type=float, default=5.0, help="seconds for one call of Nova")
    parser.add_argument("--guests", type=int, default=2000, help="random ones, of each kind")
    chosen = parser.parse_args()
    with started(chosen.nova) or nullcontext() as nova:
        if nova is not None:
            print(f"beside OpenStack Nova {nova.version}")
        print_times(nova, chosen.repeats, chosen.limit)
        print_answers(nova, chosen.guests, chosen.limit)


if __name__ == "__main__":
    main()
