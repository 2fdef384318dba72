"""Mutation testing: how many small defects of the decision and the bitmaps are found by the tests.

    python -m proof.mutation [--modules bitmap,search] [--workers N] [--again survived] [--table]

What is changed stands in `proof.mutants`, how it is tried in `proof.mutants_tried`. Property tests
try what was drawn for them once (`proof.drawn`), `--examples` of it, and do not look for a
smaller example.

A mutant is *killed* if a test fails, *timed out* if one takes five times the processor time that
it takes else and a second, and has *survived* if no test has failed within `--budget` seconds of
tests.

Results are kept in build/mutation, one line for each mutant, and read again: of modules that are
unchanged nothing is tried twice. `--again survived` tries the survivors again, after tests were
added; `--watch` says in which files.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proof.mutants_kept import KEPT, KILLED, TIMED_OUT, modules, results, table
from proof.mutants_tried import Trying, Watching

TESTS = (
    "bitmap", "placement", "search", "virtual", "explain", "libxl_parity", "oracle_virtual",
    "cli_place", "facts", "told", "view", "remedies",
)  # fmt: skip


def files_of(names: Sequence[str]) -> list[str]:
    """Return the files with the tests that concern them."""
    return [str(path) for name in names if (path := Path(f"tests/test_{name}.py")).exists()]


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
        if tried.outcome not in {KILLED, TIMED_OUT}:
            print(f"{tried.mutant.name} {tried.outcome} {tried.by}: {tried.mutant.text}")
    print("\n".join(table(among)))


if __name__ == "__main__":
    main()
