"""Sweeps: replays of policies x seeds x fleets x traces, each of them a cell.

::

    grid = Grid([Path("trace.csv")], [Path("fleet.toml")], ["pack", "spread"], range(1, 11))
    with executor(None) as pool:
        results = sweep(grid.cells(), pool, dataset=Dataset(Path("results")))

A cell (`homenode.fleet.cell`) says all that its result hangs on, and is known by a digest of that.
So a dataset tells which cells of a sweep it has, and a sweep that was interrupted goes on where it
was. Cells are computed by `run_cell`, wherever the executor has it called
(`homenode.fleet.executors`).
"""

import gc
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from homenode import __version__
from homenode.drivers.connect import driver_for
from homenode.errors import HomenodeError
from homenode.fleet.bounds import Bounds, bounds
from homenode.fleet.cell import Cell, CellResult
from homenode.fleet.choosing import Chooser
from homenode.fleet.executors import result_of
from homenode.fleet.fleet_file import FleetPlan, read_fleet
from homenode.fleet.hosts import Fleet, OverCommit
from homenode.fleet.policies import fleet_policy
from homenode.fleet.reading.recognising import read_trace
from homenode.fleet.reading.rules import Rules
from homenode.fleet.replay import Replay, reading_times
from homenode.fleet.trace import Trace
from homenode.formats.snapshot import digest as digest_of_snapshot
from homenode.host import Host

if TYPE_CHECKING:
    from homenode.fleet.dataset import Dataset

Progress = Callable[[int, int, float | None], None]
"""Told how many cells there are results of, of how many, and in how many seconds there will be
all of them (None: not known yet)."""

_ONE_AT_A_TIME = Lock()


class Grid(NamedTuple):
    """Everything with everything: what cells are made of; see `Cell` for the last three."""

    traces: Sequence[Path]
    fleets: Sequence[Path]
    policies: Sequence[str]
    seeds: Sequence[int] = (1,)
    rules: Rules = Rules()
    stay: bool = False
    over_commit: OverCommit | None = None

    def cells(self) -> list[Cell]:
        """Return the cells, by trace, seed, fleet and policy in this order.

        Paths become absolute ones, and policies are called by their names. Raises `HomenodeError`
        for a file that cannot be read, a policy that there is not, and rules that are none.
        """
        self.rules.check()
        names = [fleet_policy(text).name for text in self.policies]
        digests = {path: digest_of(path) for path in self.traces}
        fleet_digests = {path: plan_of(path)[1] for path in self.fleets}
        return [
            Cell(
                trace.absolute(),
                fleet.absolute(),
                name,
                self.rules._replace(seed=seed),
                self.stay,
                self.over_commit,
                digests[trace],
                fleet_digests[fleet],
            )
            for trace in self.traces
            for seed in self.seeds
            for fleet in self.fleets
            for name in names
        ]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of what is in a file; raises `HomenodeError` if it cannot be read."""
    if path.exists() and not path.is_file():
        raise HomenodeError(f"{path}: is no file", hint="it is read more than once: save it first")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HomenodeError(f"{path}: cannot read it: {error.strerror or error}") from None


def plan_of(path: Path) -> tuple[FleetPlan, str]:
    """Return the fleet in a file, and the SHA-256 of that and all that it is made from.

    This is the file, the hosts that it names, and their racks, which may be in another file. Where
    all these are is not in it. Raises `HomenodeError` for what cannot be read.
    """
    named: list[str] = []

    def host_of(capture: str) -> Host:
        host = driver_for(f"capture:{capture}").snapshot().host
        named.append(digest_of_snapshot(host.replace(name="", source=""), ()))
        return host

    plan = read_fleet(path, host_of=host_of)
    parts = [digest_of(path), named, [host.rack for host in plan.hosts]]
    return plan, hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def host_names(cell: Cell) -> list[str]:
    """Return what the hosts of a cell's fleet are called, in their order."""
    return [host.name for host in plan_of(cell.fleet)[0].hosts]


# -- one cell --


def run_cell(cell: Cell) -> CellResult:
    """Compute a cell; traces, fleets and bounds of the last ones are still known.

    Raises `HomenodeError` if its files are not the ones that it was made for, if they cannot be
    read, and if this is another version of homenode.
    """
    # Threads would only take turns, and need memory for two.
    with _ONE_AT_A_TIME, _without_collector():
        return _run(cell)


def _run(cell: Cell) -> CellResult:
    if cell.homenode != __version__:
        raise HomenodeError(
            f"a cell for homenode {cell.homenode} came to homenode {__version__}",
            hint="all machines of a cluster need the same one",
        )
    trace = _trace(cell.trace, cell.trace_digest, cell.rules)
    plan = _plan(cell.fleet, cell.fleet_digest)
    bound = _bounds(cell._replace(policy=""))
    fleet = _empty_fleet(cell)
    chooser = Chooser(fleet, fleet_policy(cell.policy))
    begun = time.thread_time()
    outcome = Replay(trace, fleet, chooser, stay=cell.stay).run()
    cpu_s = time.thread_time() - begun
    return CellResult(
        cell,
        trace.name,
        trace.guests,
        trace.synthetic,
        plan.name,
        fleet.count,
        fleet.over_commit,
        outcome,
        bound,
        cpu_s,
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    # It would go through millions of tuples again and again, and find nothing to free.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        # The states of nodes lead to each other.
        gc.collect()


@lru_cache(maxsize=2)
def _trace(path: Path, digest: str, rules: Rules) -> Trace:
    _check(path, digest, digest_of(path))
    return read_trace(path, rules)


@lru_cache(maxsize=8)
def _plan(path: Path, digest: str) -> FleetPlan:
    plan, found = plan_of(path)
    _check(path, digest, found)
    return plan


@lru_cache(maxsize=64)
def _bounds(cell: Cell) -> Bounds:
    trace = _trace(cell.trace, cell.trace_digest, cell.rules)
    return bounds(trace, _empty_fleet(cell), reading_times(trace), stay=cell.stay)


def _empty_fleet(cell: Cell) -> Fleet:
    plan = _plan(cell.fleet, cell.fleet_digest)
    return Fleet(plan.hosts, cell.over_commit or plan.over_commit)


def _check(path: Path, digest: str, found: str) -> None:
    if found != digest:
        raise HomenodeError(
            f"{path}: does not say what it did when the sweep began",
            hint="it has to stay as it is, and be the same on all machines of a cluster",
        )


# -- all cells --


def sweep(
    cells: Sequence[Cell],
    executor: Executor | None,
    *,
    dataset: "Dataset | None" = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[CellResult]:
    """Return the results of `cells`, in their order; without `executor` computed right here.

    What `dataset` has is taken from there, and every other result written there as soon as it is
    known. A cell that fails ends the sweep with its error, as an interrupt does; results that are
    there by then are in the dataset.
    """
    keys = [cell.key for cell in cells]
    wanted = dict(zip(keys, cells, strict=True))
    found: dict[str, CellResult] = {}
    for key in wanted:
        known = None if dataset is None else dataset.find(key)
        if known is not None:
            found[key] = known
    missing = {key: cell for key, cell in wanted.items() if key not in found}
    tally = _Tally(len(found), len(wanted), progress, clock)

    def keep(result: CellResult) -> None:
        if dataset is not None:
            dataset.write(result)
        found[result.cell.key] = result

    _compute(_grouped(missing.values()), executor, keep, tally.count)
    return [found[key]._replace(cell=cell) for key, cell in zip(keys, cells, strict=True)]


class _Tally:
    """Tells how far a sweep is; cells take equally long as far as is known."""

    def __init__(
        self, known: int, total: int, progress: Progress | None, clock: Callable[[], float]
    ) -> None:
        self._known = known
        self._total = total
        self._progress = progress
        self._clock = clock
        self._begun = clock()
        self._computed = 0
        self._tell(None if known < total else 0.0)

    def count(self) -> None:
        """Count a cell that was computed."""
        self._computed += 1
        left = self._total - self._known - self._computed
        self._tell((self._clock() - self._begun) / self._computed * left)

    def _tell(self, remaining_s: float | None) -> None:
        if self._progress is not None:
            self._progress(self._known + self._computed, self._total, remaining_s)


def _grouped(cells: Iterable[Cell]) -> list[Cell]:
    # What a process has read serves for the next cell, too.
    order: dict[object, int] = {}
    return sorted(
        cells,
        key=lambda cell: [
            order.setdefault(read, len(order))
            for read in ((cell.trace_digest, cell.rules), cell.fleet_digest)
        ],
    )


def _compute(
    cells: Sequence[Cell],
    executor: Executor | None,
    keep: Callable[[CellResult], None],
    count: Callable[[], None],
) -> None:
    """Have `cells` computed; each result is given to `keep` and then counted."""
    if executor is None:
        for cell in cells:
            keep(run_cell(cell))
            count()
        return
    futures: set[Future[CellResult]] = set()
    try:
        for cell in cells:
            futures.add(executor.submit(run_cell, cell))
        for future in as_completed(futures):
            keep(result_of(future))
            # Whoever computed it may forget it now.
            futures.discard(future)
            count()
    except BaseException:
        _end(futures, keep)
        raise


def _end(futures: Iterable[Future[CellResult]], keep: Callable[[CellResult], None]) -> None:
    """Cancel what was not begun, and keep what is done."""
    done = [future for future in futures if not future.cancel()]
    for future in done:
        if future.done() and not future.cancelled() and future.exception() is None:
            # What went wrong at first is told, not what does now.
            with suppress(HomenodeError):
                keep(future.result())
