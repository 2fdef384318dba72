"""Mutants put into a process, and tests run on them.

The process has pytest and all of the tests loaded already and is forked for each mutant: the code
of one function is exchanged there, or, where a mutant changes a whole module, the module is loaded
with it. The tests that run the changed line are run, those first that have found mutants of that
function, then the fastest, until one fails.
"""

import argparse
import gc
import importlib
import importlib.abc
import importlib.util
import os
import random
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import coverage
import pytest
from _pytest.runner import runtestprotocol

from proof.drawn import Drawn, drawn
from proof.mutants import Module, Mutant
from proof.mutants_kept import (
    KEPT,
    KILLED,
    NOT_PUT_IN,
    SOURCE,
    SURVIVED,
    TIMED_OUT,
    Tried,
    keep,
    modules,
    results,
    wanted,
)

_WALL_LIMIT_S = 600
_SLOWEST_S = 1
_MEMORY_LIMIT = 6 << 30


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
        mutants = list(wanted(self.modules, options.again))
        # In random order: however many are tried, they are a fair sample.
        random.Random(1).shuffle(mutants)  # noqa: S311 - no secret
        known = results(self.modules)
        mutants.sort(key=lambda one: one.name not in known)
        for tried in known.values():
            if tried.outcome == KILLED:
                self._learn(tried.mutant, tried.by)
        # Code with a super() does not fit into the function once that is gone.
        whole = {name for name, one in known.items() if one.outcome == NOT_PUT_IN}
        self.exchanged = [one for one in mutants if one.function and one.name not in whole]
        left = [] if options.functions else mutants
        self.loaded = [one for one in left if not one.function or one.name in whole]
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
            self._say(KILLED, report.nodeid)

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
                    self._say(NOT_PUT_IN, repr(error))
                self._run_tests(items)
        self._wait_for_all()
        return True

    def _start(self, mutant: Mutant) -> bool:
        """Return whether this is the copy that tries the mutant."""
        while len(self.running) >= self.options.workers:
            self._wait()
        self.tests = self._tests_of(mutant)
        if not self.tests:
            self._note(Tried(mutant, SURVIVED, "no test runs it", 0.0))
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
                self._say(KILLED, item.nodeid)
        self._say(SURVIVED, "")

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
        if outcome != SURVIVED:
            self._learn(mutant, by)
        self._note(Tried(mutant, outcome, by, round(time.monotonic() - began, 2)))

    def _wait_for_all(self) -> None:
        if self.out is None:
            while self.running:
                self._wait()

    def _learn(self, mutant: Mutant, test: str) -> None:
        self.killers[mutant.path, mutant.function][test] += 1
        self.killers[mutant.path, None][test] += mutant.function is not None

    def _note(self, tried: Tried) -> None:
        keep(tried, self.modules[tried.mutant.path].source)
