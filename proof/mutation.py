"""Mutation testing: how many small defects of the decision and the bitmaps are found by the tests.

    python -m proof.mutation [--modules bitmap,search] [--workers N] [--again survived] [--table]

Every mutant of `proof.mutants` is put into a process that has pytest and all of the tests loaded
already and is forked for it: the code of one function is exchanged there, or, where a mutant
changes a whole module, the module is loaded with it. The tests that run the changed line are
run, those first that have found mutants of that function, then the fastest, until one fails.
Property tests try a part of their examples (`--examples`) and do not look for a smaller one.

A mutant is *killed* if a test fails, *timed out* if one takes five times the processor time that
it takes else, and has *survived* if no test has failed within `--budget` seconds of tests.

Results are kept in build/mutation, one line for each mutant, and read again: what is unchanged
is not tried again. `--again survived` tries the survivors again, after tests were added.
"""

import argparse
import gc
import importlib
import importlib.abc
import importlib.util
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import coverage
import pytest
from _pytest.runner import runtestprotocol

from proof.drawn import Drawn, drawn
from proof.mutants import Module, Mutant

SOURCE = Path("src/homenode")
KEPT = Path("build/mutation")
TESTS = (
    "bitmap", "placement", "search", "virtual", "explain", "libxl_parity", "oracle_virtual",
    "cli_place", "facts", "told", "view",
)  # fmt: skip
TIMED_OUT = "timed out"
_WALL_LIMIT_S = 600
_SLOWEST_S = 1
_MEMORY_LIMIT = 6 << 30


class Tried(NamedTuple):
    """What came of a mutant; `by` is the test that failed, or the last that was run."""

    mutant: Mutant
    outcome: str
    by: str
    seconds: float


def modules(names: Sequence[str]) -> dict[str, Module]:
    """Return the modules that are changed, all or some of them, by name."""
    paths = [SOURCE / "bitmap.py", *sorted((SOURCE / "placement").glob("*.py"))]
    found = {path.relative_to(SOURCE).as_posix(): path for path in paths}
    return {
        name: Module(path, name) for name, path in found.items() if not names or path.stem in names
    }


def files_of(names: Sequence[str]) -> list[str]:
    """Return the files with the tests that concern them."""
    return [str(path) for name in names if (path := Path(f"tests/test_{name}.py")).exists()]


# -- what each test runs --


class Watching:
    """A plugin of pytest that notes which lines each test runs, and its processor time."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.coverage = coverage.Coverage(
            data_file=None, include=[f"{SOURCE}/bitmap.py", f"{SOURCE}/placement/*"]
        )
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let property tests try a part of their examples."""
        ease(items, self.share)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all tests, each of them watched."""
        self.coverage.start()
        for at, item in enumerate(session.items):
            self.coverage.switch_context(item.nodeid)
            began = time.process_time()
            following = session.items[at + 1] if at + 1 < len(session.items) else None
            reports = runtestprotocol(item, nextitem=following, log=False)
            self.seconds[item.nodeid] = time.process_time() - began
            if any(report.failed for report in reports):
                self.failed.append(item.nodeid)
        self.coverage.stop()
        return True

    def found(self) -> dict[str, Any]:
        """Return what was seen: the seconds of each test, and its lines by module."""
        data = self.coverage.get_data()
        lines: dict[str, dict[str, list[int]]] = defaultdict(dict)
        for file in data.measured_files():
            name = Path(file).relative_to(SOURCE.resolve()).as_posix()
            by_test: dict[str, list[int]] = defaultdict(list)
            for line, contexts in data.contexts_by_lineno(file).items():
                for test in contexts:
                    by_test[test].append(line)
            for test, ran in by_test.items():
                lines[test][name] = sorted(ran)
        return {"seconds": self.seconds, "lines": lines, "failed": self.failed}


def ease(items: Sequence[pytest.Item], share: float) -> None:
    """Let property tests try a part of their examples, and stop at the first that fails."""
    # Imported by pytest, which would warn if it were there before.
    from hypothesis import HealthCheck, Phase, settings  # noqa: PLC0415

    for item in items:
        function = getattr(item, "obj", None)
        own = getattr(function, "_hypothesis_internal_use_settings", None)
        if own is not None:
            function._hypothesis_internal_use_settings = settings(  # noqa: SLF001 - no other way in
                own,
                max_examples=min(own.max_examples, max(12, int(own.max_examples * share))),
                phases=[Phase.explicit, Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
                deadline=None,
            )


# -- how a mutant is put in --


def exchange(module: Module, mutant: Mutant, functions: dict[CodeType, list[FunctionType]]) -> None:
    """Give the living functions the code of the mutant."""
    before = _code_of(module.original, mutant)
    after = _code_of(module.mutated(mutant.number, alone=True), mutant)
    for function in functions[before]:
        function.__code__ = after


def living(modules: Iterable[Module]) -> dict[CodeType, list[FunctionType]]:
    """Return the functions of those modules that there are, by what they run."""
    files = {module.file for module in modules if module.original}
    found: dict[CodeType, list[FunctionType]] = defaultdict(list)
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename in files:
            found[one.__code__].append(one)
    return dict(found)


def _code_of(code: CodeType, mutant: Mutant) -> CodeType:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            if one.co_qualname == mutant.function and (
                one.co_firstlineno <= mutant.line <= _last_line(one)
            ):
                return one
            if str(mutant.function).startswith(f"{one.co_qualname}."):
                return _code_of(one, mutant)
    raise LookupError(mutant.name)


def _last_line(code: CodeType) -> int:
    inner = [_last_line(one) for one in code.co_consts if isinstance(one, CodeType)]
    return max([line for _, _, line in code.co_lines() if line is not None] + inner)


class LoadedWith(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module with a mutant in it."""

    def __init__(self, module: Module, mutant: Mutant) -> None:
        parts = module.path.relative_to(SOURCE.parent).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.module, self.mutant = module, mutant

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:  # noqa: ANN401, ARG002 - the interface
        """Return how that one module is loaded."""
        if fullname != self.name:
            return None
        where = [str(Path(self.module.file).parent)] if self.is_package else None
        return importlib.util.spec_from_file_location(
            fullname, self.module.file, loader=self, submodule_search_locations=where
        )

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed module."""
        exec(self.module.mutated(self.mutant.number), module.__dict__)  # noqa: S102 - as an import does


# -- trying them --


class Trying:
    """A plugin of pytest that runs no tests itself: a copy of the process does, for each mutant."""

    def __init__(self, options: argparse.Namespace, seen: dict[str, Any]) -> None:
        self.options = options
        self.seconds: dict[str, float] = seen["seconds"]
        self.lines: dict[str, dict[str, list[int]]] = seen["lines"]
        self.modules = modules(options.modules)
        self.killers: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
        self.running: dict[int, tuple[Mutant, int, float]] = {}
        self.tests: list[str] = []
        wanted = list(wanted_of(options, self.modules))
        # In random order: however many are tried, they are a fair sample.
        random.Random(1).shuffle(wanted)  # noqa: S311 - no secret
        self.loaded = [one for one in wanted if one.function is None and not options.functions]
        self.exchanged = [one for one in wanted if one.function is not None]
        self.drawn: dict[str, Drawn] = {}
        self.out: int | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Try the mutants of whole modules, before any of these is loaded."""
        for mutant in self.loaded:
            if self._start(mutant):
                sys.meta_path.insert(0, LoadedWith(self.modules[mutant.path], mutant))
                return
        self._wait_for_all()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let property tests try a part of their examples."""
        ease(items, self.options.examples)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take a module that cannot be loaded for a mutant that was found."""
        if self.out is not None and report.failed:
            self._say("killed", report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try the mutants of functions."""
        items = {item.nodeid: item for item in session.items}
        if self.out is not None:
            self._run_tests(items)
        for name in self.modules:
            importlib.import_module(
                f"homenode.{name[:-3].replace('/', '.')}".removesuffix(".__init__")
            )
        self.drawn = drawn(items, KEPT / "drawn.pickle")
        for name, one in self.drawn.items():
            self.seconds[name] = one.seconds
        print(f"{len(self.drawn)} of {len(items)} tests drawn, {sum(self.seconds.values()):.1f} s")
        functions = living(self.modules.values())
        gc.freeze()
        for mutant in self.exchanged:
            if self._start(mutant):
                try:
                    exchange(self.modules[mutant.path], mutant, functions)
                except Exception as error:  # noqa: BLE001 - it would look as if it were a test that fails
                    self._say("failed", repr(error))
                self._run_tests(items)
        self._wait_for_all()
        return True

    def _start(self, mutant: Mutant) -> bool:
        """Return whether this is the copy that tries the mutant."""
        while len(self.running) >= self.options.workers:
            self._wait()
        self.tests = self._tests_of(mutant)
        if not self.tests:
            self._note(Tried(mutant, "survived", "no test runs it", 0.0))
            return False
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reading)
            self.out = writing
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            gc.disable()
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
            return True
        os.close(writing)
        self.running[process] = mutant, reading, time.monotonic()
        return False

    def _tests_of(self, mutant: Mutant) -> list[str]:
        first, last = mutant.lines
        killers = self.killers[mutant.path, mutant.function]
        found = [
            test
            for test, lines in self.lines.items()
            if test in self.seconds
            and any(
                mutant.function is None or first <= line <= last
                for line in lines.get(mutant.path, ())
            )
        ]
        by_module = self.killers[mutant.path, None]

        def promise(test: str) -> tuple[float, ...]:
            seconds = self.seconds[test]
            return -killers[test], -by_module[test] / (seconds + 0.02), seconds

        found.sort(key=promise)
        taken, budget = [], self.options.budget
        for test in found:
            taken.append(test)
            budget -= self.seconds[test]
            if budget < 0:
                break
        return taken

    def _run_tests(self, items: dict[str, pytest.Item]) -> None:
        # In the copy, which ends here.
        tests = [items[test] for test in self.tests if test in items]
        for at, item in enumerate(tests):
            os.write(self.out or 0, f"{item.nodeid}\n".encode())
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, _SLOWEST_S + 5 * self.seconds[item.nodeid])
            try:
                failed = self._fails(item, tests[at + 1] if at + 1 < len(tests) else None)
            except BaseException:  # noqa: BLE001 - a broken fixture, or an exit that was asked for
                failed = True
            if failed:
                self._say("killed", item.nodeid)
        self._say("survived", "")

    def _fails(self, item: pytest.Item, following: pytest.Item | None) -> bool:
        if item.nodeid in self.drawn:
            return not self.drawn[item.nodeid].passes()
        reports = runtestprotocol(item, nextitem=following, log=False)
        return any(report.failed for report in reports)

    def _say(self, outcome: str, by: str) -> None:
        os.write(self.out or 0, f"= {outcome} {by}\n".encode())
        os._exit(0)

    def _wait(self) -> None:
        process = 0
        while not process:
            process, _ = os.waitpid(-1, os.WNOHANG)
            for one, (_, _, began) in self.running.items():
                if time.monotonic() - began > _WALL_LIMIT_S:
                    os.kill(one, signal.SIGKILL)
            if not process:
                time.sleep(0.005)
        mutant, reading, began = self.running.pop(process)
        with os.fdopen(reading) as file:
            said = file.read().splitlines()
        last = said[-1] if said else ""
        outcome, by = TIMED_OUT, last
        if last.startswith("= "):
            outcome, _, by = last.removeprefix("= ").partition(" ")
        if outcome != "survived":
            self.killers[mutant.path, mutant.function][by] += 1
            self.killers[mutant.path, None][by] += mutant.function is not None
        self._note(Tried(mutant, outcome, by, round(time.monotonic() - began, 2)))

    def _wait_for_all(self) -> None:
        if self.out is None:
            while self.running:
                self._wait()

    def _note(self, tried: Tried) -> None:
        source = self.modules[tried.mutant.path].source
        note = {**tried._asdict(), "mutant": tried.mutant._asdict(), "source": _digest(source)}
        with (KEPT / "results.jsonl").open("a") as file:
            file.write(json.dumps(note) + "\n")


def _digest(source: str) -> str:
    return f"{zlib.crc32(source.encode()):08x}"


def results(among: dict[str, Module]) -> dict[str, Tried]:
    """Return what is known of the mutants of the sources as they are, by name."""
    digests = {name: _digest(module.source) for name, module in among.items()}
    mutants = {one.name: one for module in among.values() for one in module.mutants()}
    found: dict[str, Tried] = {}
    kept = KEPT / "results.jsonl"
    for line in kept.read_text().splitlines() if kept.exists() else ():
        note = json.loads(line)
        name = Mutant(**note["mutant"]).name
        if name in mutants and digests[mutants[name].path] == note["source"]:
            found[name] = Tried(mutants[name], note["outcome"], note["by"], note["seconds"])
    return found


def wanted_of(options: argparse.Namespace, among: dict[str, Module]) -> Iterator[Mutant]:
    """Yield the mutants that are to be tried."""
    known = results(among)
    for module in among.values():
        for mutant in module.mutants():
            tried = known.get(mutant.name)
            if tried is None or tried.outcome in options.again:
                yield mutant


def _pytest(plugin: object, files: Sequence[str]) -> int:
    arguments = ["-q", "--capture=sys", "-p", "no:cacheprovider", "-p", "no:xdist", *files]
    return int(pytest.main(arguments, plugins=[plugin]))


def watch(options: argparse.Namespace) -> dict[str, Any]:
    """Return which lines each test runs; looked at once, and again for the files in `--watch`."""
    kept = KEPT / "tests.json"
    again = options.watch.split(",") if options.watch else [] if kept.exists() else ["all"]
    if again:
        names = TESTS if again == ["all"] else again
        code = (
            f"from proof.mutation import write_watched; write_watched({names}, {options.examples})"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
    seen: dict[str, Any] = json.loads(kept.read_text())
    if seen["failed"]:
        sys.exit(f"these tests fail already: {', '.join(seen['failed'])}")
    return seen


def write_watched(names: Sequence[str], share: float) -> None:
    """Run the tests and keep what was seen, in a process of its own."""
    kept, plugin = KEPT / "tests.json", Watching(share)
    files = files_of(names)
    _pytest(plugin, files)
    seen = plugin.found()
    before = json.loads(kept.read_text()) if kept.exists() else {"seconds": {}, "lines": {}}
    for what in ("seconds", "lines"):
        others = {
            test: said
            for test, said in before[what].items()
            if test.partition("::")[0] not in files
        }
        seen[what] = others | seen[what]
    kept.write_text(json.dumps(seen))


def table(among: dict[str, Module]) -> Iterator[str]:
    """Yield the table of docs/trust.md."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in among}
    for tried in results(among).values():
        counts[tried.mutant.path][tried.outcome] += 1
    yield "| module | mutants | tried | killed | timed out | survived | found |"
    yield "|---|---|---|---|---|---|---|"
    sizes = {name: len(module.mutants()) for name, module in among.items()}
    sizes["all"] = sum(sizes.values())
    counts["all"] = sum(counts.values(), Counter())
    for name, one in counts.items():
        if one.total():
            found = 100 * (one["killed"] + one[TIMED_OUT]) / one.total()
            yield (
                f"| {name} | {sizes[name]} | {one.total()} | {one['killed']} | {one[TIMED_OUT]} "
                f"| {one['survived'] + one['failed']} | {found:.1f} % |"
            )


def main() -> None:
    """Try mutants, and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--modules", type=lambda text: text.split(","), default=[])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--budget", type=float, default=60, help="seconds of tests for a mutant")
    parser.add_argument("--examples", type=float, default=1, help="part of each test's examples")
    parser.add_argument("--again", action="append", default=[], help="outcome that is tried again")
    parser.add_argument("--watch", help="files of tests to look at again: search,placement or all")
    parser.add_argument("--functions", action="store_true", help="not what changes whole modules")
    parser.add_argument("--survivors", action="store_true", help="print the survivors too")
    parser.add_argument("--table", action="store_true", help="try nothing")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    among = modules(options.modules)
    if not options.table:
        _pytest(Trying(options, watch(options)), files_of(TESTS))
    for tried in results(among).values() if options.survivors else ():
        if tried.outcome not in {"killed", TIMED_OUT}:
            print(f"{tried.mutant.name} {tried.outcome} {tried.by}: {tried.mutant.text}")
    print("\n".join(table(among)))


if __name__ == "__main__":
    main()
