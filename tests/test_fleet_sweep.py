"""Sweeps: cells, the dataset of their results, going on after what went wrong, and a cluster."""

import gc
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from importlib.util import find_spec
from multiprocessing import active_children
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homenode.fleet.sweep as sweep_module
from homenode.errors import HomenodeError, ParseError
from homenode.fleet.bounds import Bounds
from homenode.fleet.cell import Cell, CellResult
from homenode.fleet.executors import ClusterError, executor
from homenode.fleet.hosts import OverCommit
from homenode.fleet.policies import fleet_policy
from homenode.fleet.reading.rules import Rules
from homenode.fleet.replay import Outcome
from homenode.fleet.sweep import Grid, digest_of, run_cell, sweep
from homenode.formats import host_toml, snapshot

pl = pytest.importorskip("polars", reason="homenode[replay] is not installed")

from homenode.fleet.dataset import Dataset  # noqa: E402 - after what it needs

POLICIES = ("pack", "spread", "first/first-fit", "flat")
LONG_S = 60

FLEET = """\
[[hosts]]
count = 4
nodes = 2
cores = 8
memory = "16GiB"
"""


def write_trace(path, guests, seed=1):
    """Write guests that come each second and stay for some; some are on two nodes."""
    drawn = random.Random(seed)  # noqa: S311 - nothing secret
    rows = []
    for guest in range(guests):
        vcpus = drawn.choice([1, 2, 4, 8])
        nodes = 2 if vcpus == 8 and drawn.random() < 0.5 else ""
        size = f"{vcpus},{drawn.choice([512, 2048, 4096])},{nodes},,,"
        rows.append((guest, f"create,{guest},{size}"))
        rows.append((guest + drawn.expovariate(1 / 20), f"delete,{guest},,,,,,"))
    lines = [f"{time_s:.3f},{row}" for time_s, row in sorted(rows)]
    header = "time_s,event,guest,vcpus,memory_mib,nodes,group,rule,domain"
    path.write_text("\n".join([header, *lines, ""]))


def grid(folder, *, guests=120, seeds=(1, 2), policies=POLICIES, **more):
    trace, fleet = folder / "trace.csv", folder / "fleet.toml"
    if not trace.exists():
        write_trace(trace, guests)
        fleet.write_text(FLEET)
    return Grid([trace], [fleet], policies, seeds, **more)


def untimed(results):
    return [result._replace(cpu_s=None) for result in results]


def times_of(dataset):
    return {path.name: path.stat().st_mtime_ns for path in dataset.folder.iterdir()}


def wait_for(what):
    """Wait until `what` returns something true, and return that."""
    until = time.monotonic() + LONG_S
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)
    return found


# -- cells --


def test_a_grid_has_everything_with_everything(tmp_path):
    cells = grid(tmp_path, rules=Rules(first=10)).cells()
    names = [fleet_policy(text).name for text in POLICIES]
    assert [(cell.rules.seed, cell.policy) for cell in cells] == [
        (seed, name) for seed in (1, 2) for name in names
    ]
    assert {cell.trace_digest for cell in cells} == {digest_of(tmp_path / "trace.csv")}
    assert {cell.rules.first for cell in cells} == {10}
    assert len({cell.key for cell in cells}) == len(cells)


def test_a_key_is_of_what_the_result_hangs_on(tmp_path):
    cell = grid(tmp_path).cells()[0]
    policy = fleet_policy(cell.policy)
    same = [
        cell._replace(policy=f"{policy.host.order}/{policy.node.order}"),
        cell._replace(trace=Path("/elsewhere/trace.csv"), fleet=Path("/elsewhere/fleet.toml")),
    ]
    others = [
        cell._replace(policy="spread"),
        cell._replace(policy="pack/xl"),
        cell._replace(rules=Rules(seed=9)),
        cell._replace(rules=Rules(wide=(8, 2))),
        cell._replace(rules=Rules(lifetimes=5)),
        cell._replace(rules=Rules(first=5)),
        cell._replace(stay=True),
        cell._replace(over_commit=OverCommit()),
        cell._replace(over_commit=OverCommit(vcpus=Fraction(3, 2))),
        cell._replace(over_commit=OverCommit(vcpus=None)),
        cell._replace(trace_digest="0" * 64),
        cell._replace(fleet_digest="0" * 64),
        cell._replace(homenode="0"),
    ]
    assert {each.key for each in same} == {cell.key}
    assert len({each.key for each in (cell, *others)}) == len(others) + 1


def test_files_are_the_ones_that_the_cell_was_made_for(tmp_path):
    cell = grid(tmp_path).cells()[0]
    for path in (cell.trace, cell.fleet):
        text = path.read_text()
        path.write_text(text + "\n")
        for cached in (sweep_module._trace, sweep_module._plan, sweep_module._bounds):
            cached.cache_clear()
        with pytest.raises(HomenodeError, match=path.name):
            run_cell(cell)
        path.write_text(text)
    assert run_cell(cell).guests == 120
    with pytest.raises(HomenodeError, match="homenode 0"):
        run_cell(cell._replace(homenode="0"))
    with pytest.raises(HomenodeError, match="missing"):
        digest_of(tmp_path / "missing")


def test_hosts_that_a_fleet_names_count_too(tmp_path):
    cells = []
    for name, cores in (("one", 8), ("two", 8), ("three", 4)):
        folder = tmp_path / name
        folder.mkdir()
        grid(folder)
        host = host_toml.parse(f'nodes = 2\ncores = {cores}\nmemory = "8GiB"\n', source=name)
        (folder / "host.json").write_text(snapshot.dump(host, ()))
        (folder / "fleet.toml").write_text('[[hosts]]\ncount = 3\nhost = "host.json"\n')
        cells.append(grid(folder).cells()[0])
    assert cells[0].key == cells[1].key
    assert cells[0].key != cells[2].key
    assert run_cell(cells[2]).hosts == 3
    shutil.copy(tmp_path / "one" / "host.json", tmp_path / "three" / "host.json")
    sweep_module._plan.cache_clear()
    with pytest.raises(HomenodeError, match=r"three/fleet\.toml"):
        run_cell(cells[2])


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_as_it_was(tmp_path, is_on):
    cell = grid(tmp_path).cells()[0]
    was_on = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        run_cell(cell)
        assert gc.isenabled() == is_on
        with pytest.raises(HomenodeError):
            run_cell(cell._replace(homenode="0"))
        assert gc.isenabled() == is_on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_over_commit_and_stay_count(tmp_path):
    cell = grid(tmp_path).cells()[0]
    plain = run_cell(cell)
    more = run_cell(cell._replace(over_commit=OverCommit(Fraction(2), Fraction(2))))
    assert more.over_commit == OverCommit(Fraction(2), Fraction(2))
    assert plain.outcome.refused > more.outcome.refused
    stay = run_cell(cell._replace(stay=True))
    assert stay.outcome.refused == 1
    assert stay.bounds.placed_first >= stay.outcome.placed_first
    assert stay.decisions_per_s


# -- the dataset --


SIMPLE = {
    int: st.integers(-(1 << 63), (1 << 63) - 1),
    float: st.floats(allow_nan=False),
    str: st.text(st.characters(codec="utf-8"), max_size=20),
    bool: st.booleans(),
    type(None): st.none(),
}


def of_type(kind):
    """Return whatever a field of that type may be."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    parts = [of_type(part) for part in get_args(kind) if part is not ...]
    if get_origin(kind) is dict:
        return st.dictionaries(*parts, max_size=3)
    if get_origin(kind) is tuple:
        is_long = ... in get_args(kind)
        return st.lists(parts[0], max_size=3).map(tuple) if is_long else st.tuples(*parts)
    if get_origin(kind) is UnionType:
        return st.one_of(*parts)
    return st.builds(kind, **{name: of_type(own) for name, own in get_type_hints(kind).items()})


OVER_COMMITS = st.builds(
    OverCommit, st.none() | st.fractions(min_value=1), st.fractions(min_value=1)
)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
RESULTS = st.builds(
    lambda asked, in_force, cell, result: result._replace(
        cell=cell._replace(over_commit=in_force if asked else None), over_commit=in_force
    ),
    st.booleans(),
    OVER_COMMITS,
    st.builds(
        Cell,
        st.just(Path("a trace.csv")),
        st.just(Path("a fleet.toml")),
        st.sampled_from(["pack/balanced", "guests,-memory~2GiB/first-fit", "first/-usable~4G"]),
        of_type(Rules),
        st.booleans(),
        st.none(),
        DIGESTS,
        DIGESTS,
    ),
    st.builds(
        CellResult,
        st.none(),
        of_type(str),
        of_type(int),
        of_type(tuple[str, ...]),
        of_type(str),
        of_type(int),
        st.none(),
        of_type(Outcome),
        of_type(Bounds),
        st.none(),
    ),
)


@settings(max_examples=40)
@given(st.lists(RESULTS, min_size=1, max_size=2, unique_by=lambda result: result.cell.key))
def test_results_come_back_as_they_were(tmp_path_factory, results):
    dataset = Dataset(tmp_path_factory.mktemp("dataset"))
    for result in results:
        dataset.write(result)
    assert dataset.keys() == sorted(result.cell.key for result in results)
    assert [dataset.read(result.cell.key) for result in results] == results
    whole = pl.read_parquet(f"{dataset.folder}/*.parquet")
    assert sorted(whole["key"]) == dataset.keys()


def test_a_dataset_is_read_by_column(tmp_path):
    dataset = Dataset(tmp_path / "made" / "here [1]")
    cells = grid(tmp_path, rules=Rules(wide=(8, 2))).cells()
    results = sweep(cells, None, dataset=dataset)
    rows = pl.concat(pl.read_parquet(path, glob=False) for path in dataset.folder.iterdir())
    by_key = {row["key"]: row for row in rows.iter_rows(named=True)}
    for cell, result in zip(cells, results, strict=True):
        row = by_key[cell.key]
        assert row["refused"] == result.outcome.refused
        assert row["bound_refused"] == result.bounds.refused
        assert row["rule_wide"] == [8, 2]
        assert row["seed"] == cell.rules.seed
        assert row["host_order"] == fleet_policy(cell.policy).host.order
        assert row["readings"][-1]["hosts"] == result.outcome.readings[-1].hosts
        assert {one["name"]: one["number"] for one in row["refused_of"]} == (
            result.outcome.refused_of
        )
    assert not [name for name in rows.columns if "_s" in name and rows.schema[name] == pl.Float64]


def test_equal_results_are_equal_files_wherever_the_inputs_are(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        dataset = Dataset(folder / "results")
        sweep(grid(folder, policies=["pack"]).cells(), None, dataset=dataset)
    one, two = (sorted((folder / "results").iterdir()) for folder in folders)
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_files_that_are_not_whole_are_not_trusted(tmp_path):
    dataset = Dataset(tmp_path / "results")
    cells = grid(tmp_path).cells()
    results = untimed(sweep(cells, None, dataset=dataset))
    damaged, path = cells[2].key, dataset.path(cells[2].key)
    whole = path.read_bytes()
    before = times_of(dataset)
    middle = len(whole) // 2
    for data in (
        b"",
        whole[:middle],
        whole[:-1],
        whole[:4] + whole[-8:],
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        dataset.path(cells[3].key).read_bytes(),
        b"PAR1",
    ):
        path.write_bytes(data)
        assert dataset.find(damaged) is None
        with pytest.raises(HomenodeError, match=damaged):
            dataset.read(damaged)
    left = dataset.folder / f".{damaged}-0123abcd.new"
    left.write_bytes(whole)
    known = dataset.keys()
    assert damaged not in known
    assert not dataset.has(damaged)
    told = []
    assert (
        untimed(sweep(cells, None, dataset=dataset, progress=lambda *told_: told.append(told_[:2])))
        == results
    )
    assert told == [(7, 8), (8, 8)]
    after = times_of(dataset)
    assert path.read_bytes() == whole
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {path.name}


def test_a_dataset_that_cannot_be_there(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomenodeError, match="cannot make"):
        Dataset(tmp_path / "file" / "results")
    dataset = Dataset(tmp_path / "results")
    dataset.folder.rmdir()
    with pytest.raises(HomenodeError, match="cannot write"):
        sweep(grid(tmp_path).cells(), None, dataset=dataset)


@pytest.mark.parametrize(
    ("module", "script", "extra"),
    [
        (
            "polars",
            "from homenode.fleet.dataset import Dataset; Dataset(Path('results'))",
            "replay",
        ),
        ("distributed", "with executor('tcp://127.0.0.1:1'): pass", "cluster"),
    ],
    ids=["polars", "distributed"],
)
def test_what_is_not_installed_is_named(tmp_path, module, script, extra):
    ended = run_script(f"sys.modules['{module}'] = None\n{script}", tmp_path)
    assert f"pip install 'homenode[{extra}]'" in ended.stdout
    assert ended.stderr == ""


# -- sweeps --


def test_wherever_it_is_computed_it_is_the_same(tmp_path):
    cells = grid(tmp_path).cells()
    serial = sweep(cells, None)
    others = set(active_children())
    with executor(None, 2) as pool:
        pooled = sweep(cells, pool)
    assert untimed(pooled) == untimed(serial)
    assert [result.cell for result in pooled] == cells
    assert all(result.cpu_s is not None for result in (*serial, *pooled))
    assert set(active_children()) == others
    # Whatever order they are asked for in, and if they are asked for twice.
    policy = fleet_policy(cells[0].policy)
    own = cells[0]._replace(policy=f"{policy.host.order}/{policy.node.order}")
    mixed = [*reversed(cells), own]
    assert untimed(sweep(mixed, None))[:-1] == untimed(reversed(serial))
    told = []
    again = sweep(mixed, None, progress=lambda *told_: told.append(told_))
    assert again[-1].cell == mixed[-1]
    assert again[-1].outcome == serial[0].outcome
    assert [done for done, _, _ in told] == list(range(len(cells) + 1))


def test_a_sweep_computes_what_is_missing(tmp_path):
    dataset = Dataset(tmp_path / "results")
    cells = grid(tmp_path).cells()
    sweep(cells[:5], None, dataset=dataset)
    before = times_of(dataset)
    seconds = iter(range(0, 1000, 10))
    told = []
    results = sweep(
        cells,
        None,
        dataset=dataset,
        progress=lambda *told_: told.append(told_),
        clock=lambda: next(seconds),
    )
    assert told == [(5, 8, None), (6, 8, 20), (7, 8, 10), (8, 8, 0)]
    assert {name: at for name, at in times_of(dataset).items() if name in before} == before
    assert untimed(results) == untimed(sweep(cells, None))
    told.clear()
    sweep(cells, None, dataset=dataset, progress=lambda *told_: told.append(told_))
    assert told == [(8, 8, 0.0)]


@pytest.mark.parametrize("workers", [None, 2])
def test_a_cell_that_fails_ends_the_sweep_and_what_is_done_is_kept(tmp_path, workers):
    dataset = Dataset(tmp_path / "results")
    good = grid(tmp_path).cells()
    broken = tmp_path / "broken.csv"
    broken.write_text((tmp_path / "trace.csv").read_text() + "1,create,last,1,1,,,,\n")
    # It is computed last, so there are results by then.
    bad = good[0]._replace(trace=broken, trace_digest=digest_of(broken))
    others = set(active_children())
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(ParseError, match="out of order"))
        pool = stack.enter_context(executor(None, workers)) if workers else None
        sweep([*good, bad], pool, dataset=dataset)
    assert set(active_children()) == others
    known = dataset.keys()
    assert len(known) >= len(good) - 1
    for key in known:
        assert dataset.read(key).cell.trace_digest == good[0].trace_digest


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [None, 2])
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path, workers):
    dataset = Dataset(tmp_path / "results")
    cells = grid(tmp_path).cells()
    others = set(active_children())
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(KeyboardInterrupt))
        pool = stack.enter_context(executor(None, workers)) if workers else None
        sweep(cells, pool, dataset=dataset, progress=lambda done, *_: done == 3 and interrupted())
    assert set(active_children()) == others
    before = times_of(dataset)
    assert len(before) == len(dataset.keys()) >= 3
    assert untimed(sweep(cells, None, dataset=dataset)) == untimed(sweep(cells, None))
    assert {name: at for name, at in times_of(dataset).items() if name in before} == before


def test_a_worker_that_is_killed_is_told(tmp_path):
    cells = grid(tmp_path, seeds=range(1, 8)).cells()
    others = set(active_children())

    def kill(done, *_):
        if done == 1:
            for child in set(active_children()) - others:
                child.kill()

    with ExitStack() as stack:
        stack.enter_context(pytest.raises(ClusterError, match="ended by somebody else"))
        sweep(cells, stack.enter_context(executor(None, 2)), progress=kill)


# -- other processes --

PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def run_script(text, folder):
    """Run `text` in a process of its own; a `HomenodeError` is printed."""
    return subprocess.run(
        [sys.executable, "-c", script_of(text)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=True,
    )


def script_of(text):
    indented = "".join(f"    {line}\n" for line in text.splitlines())
    return f"""\
import sys
from pathlib import Path
from homenode.errors import HomenodeError
from homenode.fleet.executors import executor
from homenode.fleet.reading.rules import Rules
try:
{indented}except HomenodeError as error:
    print(error.exit_status.name, error)
except KeyboardInterrupt:
    print("interrupted")
"""


SWEEP = """\
from homenode.fleet.dataset import Dataset
from homenode.fleet.sweep import Grid, sweep
grid = Grid([Path("trace.csv")], [Path("fleet.toml")], {policies!r}, range({seeds}))
with executor({cluster!r}, 2) as pool:
    sweep(grid.cells(), pool, dataset=Dataset(Path("results")))
print("done")
"""


@contextmanager
def running(command, folder, **more):
    """Start `command` in a group of its own, and end that in any case."""
    process = subprocess.Popen(command, cwd=folder, text=True, start_new_session=True, **more)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nobody_is_left_behind(tmp_path, number):
    cells = grid(tmp_path, guests=300, seeds=range(20)).cells()
    command = [sys.executable, "-c", script_of(
        SWEEP.format(policies=POLICIES, seeds=20, cluster=None)
    )]  # fmt: skip
    dataset = Dataset(tmp_path / "results")
    with running(command, tmp_path, **PIPES) as process:
        wait_for(lambda: len(dataset.keys()) > 2)
        # As a terminal does it; the other as the kernel does it to who has no memory left.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        text, errors = process.communicate(timeout=LONG_S)
        if number == signal.SIGINT:
            # Where in Python the signal comes is chance: it may say that it was in a generator.
            assert text == "interrupted\n", errors
        wait_for(lambda: is_gone(process.pid))
    assert 0 < len(dataset.keys()) < len(cells)
    assert [path for path in dataset.folder.glob("*.parquet") if not dataset.has(path.stem)] == []


def is_gone(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


# -- a cluster --

needs_dask = pytest.mark.skipif(
    find_spec("distributed") is None, reason="homenode[cluster] is not installed"
)


@contextmanager
def dask_cluster(folder):
    """Start a scheduler; yield its address, and what starts workers and returns their processes."""
    address_file = folder / "scheduler.json"
    here = ["--host", "127.0.0.1", "--no-dashboard"]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "dask.log").open("w"))

        def start(kind, *more, **environment):
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *more, *here]
            return stack.enter_context(
                running(command, folder, stdout=log, stderr=log, env=os.environ | environment)
            )

        def start_worker(name, **environment):
            own = ["--no-nanny", "--nthreads", "1", "--local-directory", str(folder / name)]
            return start("worker", address, *own, **environment)

        start("scheduler", "--port", "0", "--scheduler-file", str(address_file))
        wait_for(lambda: address_file.exists() and address_file.read_text().endswith("}"))
        address = json.loads(address_file.read_text())["address"]
        yield address, start_worker


@needs_dask
def test_a_cluster_loses_a_worker_and_no_cell(tmp_path):
    cells = grid(tmp_path, guests=1000, seeds=range(3)).cells()
    dataset = Dataset(tmp_path / "results")
    with dask_cluster(tmp_path) as (address, start_worker):
        killed, other = start_worker("one"), start_worker("two")
        script = script_of(SWEEP.format(policies=POLICIES, seeds=3, cluster=address))
        with running([sys.executable, "-c", script], tmp_path, **PIPES) as client:
            done = wait_for(dataset.keys)
            killed.kill()
            assert len(done) < len(cells)
            assert client.communicate(timeout=LONG_S) == ("done\n", "")
        assert other.poll() is None
    assert sorted(path.name for path in dataset.folder.iterdir()) == sorted(
        f"{cell.key}.parquet" for cell in cells
    )
    found = [dataset.read(cell.key)._replace(cell=cell) for cell in cells]
    with executor(None, 2) as pool:
        assert found == untimed(sweep(cells, pool))


@needs_dask
def test_a_cell_that_fails_and_a_worker_that_is_another_homenode(tmp_path):
    grid(tmp_path)
    shutil.copy(tmp_path / "trace.csv", tmp_path / "changing.csv")
    script = f"""\
from homenode.fleet.dataset import Dataset
from homenode.fleet.sweep import Grid, sweep
grid = Grid([Path("trace.csv"), Path("changing.csv")], [Path("fleet.toml")], {POLICIES!r})
cells = grid.cells()
changed = Path("changing.csv").absolute()
cells = [one._replace(trace_digest="0" * 64) if one.trace == changed else one for one in cells]
with executor({{address!r}}) as pool:
    sweep(cells, pool, dataset=Dataset(Path("results")))
"""
    (tmp_path / "other" / "homenode").mkdir(parents=True)
    (tmp_path / "other" / "homenode" / "__init__.py").write_text('__version__ = "0"')
    with dask_cluster(tmp_path) as (address, start_worker):
        start_worker("one")
        failed = run_script(script.format(address=address), tmp_path)
        start_worker("two", PYTHONPATH=str(tmp_path / "other"))
        # Until it is there.
        refused = run_script(f"while True:\n    with executor({address!r}): pass", tmp_path)
    assert failed.stdout.startswith(f"BAD_INPUT {tmp_path}/changing.csv: does not say")
    assert len(Dataset(tmp_path / "results").keys()) >= len(POLICIES) - 1
    assert re.fullmatch(r"HYPERVISOR tcp://127\.0\.0\.1:\d+: has homenode 0; .*\n", refused.stdout)
    assert (failed.stderr, refused.stderr) == ("", "")


@needs_dask
def test_where_no_scheduler_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        closed.bind(("127.0.0.1", 0))
        other, nobody = (f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in (server, closed))
        script = f"""\
for address in {[other, nobody, "cluster"]!r}:
    try:
        with executor(address): pass
    except HomenodeError as error:
        print(error.exit_status.name, error)
"""
        ended = run_script(script, tmp_path)
        server.shutdown(socket.SHUT_RDWR)
    told = ended.stdout.splitlines()
    assert [line.partition("; ")[0] for line in told] == [
        f"HYPERVISOR {other}: no Dask scheduler answers there",
        f"HYPERVISOR {nobody}: no Dask scheduler answers there",
        "HYPERVISOR cluster: missing port number in address 'cluster'",
    ]
    assert ended.stderr == ""
