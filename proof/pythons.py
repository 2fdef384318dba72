"""Run the tests on each Python that homenode is for and that is found here; print a table.

    python -m proof.pythons [--only 3.13] [--jobs 1] [PYTEST-ARGUMENT ...]

Looked for are ``python3.11`` to ``python3.14`` on the search path, those of pyenv, and whatever
``HOMENODE_PYTHONS`` lists (paths, with colons). Of each minor version the newest is taken. It
gets an environment of its own in ``.venv-pythons``; a dependency that has nothing for it is left
out, and its tests are skipped, which the table says.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-pythons"
MINORS = (11, 12, 13, 14)
NEEDED = ("pytest", "pytest-xdist", "hypothesis", "lxml", "prometheus-client")
"""Without these nothing can be said; the others of the group ``test`` may be left out."""

TELL = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed)")


class Interpreter(NamedTuple):
    """A Python that was found, and its version as numbers."""

    path: Path
    version: tuple[int, ...]

    @property
    def minor(self) -> int:
        """The second part of its version."""
        return self.version[1]

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


class Row(NamedTuple):
    """What came of one: how many tests, and what could not be installed."""

    interpreter: Interpreter
    counts: dict[str, int]
    lacking: tuple[str, ...]


def candidates() -> Iterator[Path]:
    """Return where a Python may be."""
    for text in filter(None, os.environ.get("HOMENODE_PYTHONS", "").split(":")):
        yield Path(text)
    for minor in MINORS:
        found = shutil.which(f"python3.{minor}")
        if found is not None:
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in MINORS:
        yield from sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python3"))


def interpreters() -> list[Interpreter]:
    """Return the newest of each minor version that homenode is for."""
    newest: dict[int, Interpreter] = {}
    for path in candidates():
        told = subprocess.run([path, "-c", TELL], capture_output=True, text=True, check=False)
        if told.returncode:
            continue  # a shim of a version that is not there
        found = Interpreter(path, tuple(map(int, told.stdout.split("."))))
        if found.version[0] == 3 and found.minor in MINORS:
            newest[found.minor] = max(
                newest.get(found.minor, found), found, key=lambda i: i.version
            )
    return [newest[minor] for minor in sorted(newest)]


def wanted() -> list[str]:
    """Return what the tests want, as ``pyproject.toml`` says."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    found = [one for one in groups["test"] if isinstance(one, str)]
    return [*found, *groups["fleet"]]


def prepared(interpreter: Interpreter) -> tuple[Path, tuple[str, ...]]:
    """Make the environment; return its Python, and what could not be installed."""
    folder = FOLDER / str(interpreter)
    # Distributions have Pythons without pip: the one that runs this installs for all.
    made = [interpreter.path, "-m", "venv", "--clear", "--without-pip", folder]
    subprocess.run(made, check=True)
    python = folder / "bin/python"
    # Tests install what was packed by the pip of the Python that they are run with.
    everything = ["-e", ".", "pip", *wanted()]
    # One by one only where they cannot all be had: pip takes seconds to start.
    lacking = []
    if not _installed(python, everything):
        each = [["-e", "."], ["pip"], *([one] for one in wanted())]
        lacking = [one[-1] for one in each if not _installed(python, one)]
    vital = [one for one in lacking if one.startswith((".", *NEEDED))]
    if vital:
        raise SystemExit(f"Python {interpreter}: {', '.join(vital)} cannot be installed")
    return python, tuple(re.split(r"[<>=!~]", one)[0] for one in lacking)


def _installed(python: Path, requirements: Sequence[str]) -> bool:
    words = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    words += ["--only-binary=:all:", "--no-binary=homenode", *requirements]
    return subprocess.run(words, cwd=ROOT, check=False, stderr=subprocess.DEVNULL).returncode == 0


def tested(python: Path, *, jobs: int, arguments: Sequence[str]) -> dict[str, int]:
    """Run the tests; what they say goes to standard error. Return how many there were of each."""
    words = [python, "-m", "pytest", "-q", "-n", str(jobs), "-p", "no:cacheprovider", *arguments]
    # A program that is started by its name is to be that of the same environment.
    path = f"{python.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    sys.stderr.write(done.stdout)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    return {word.removesuffix("s"): int(number) for number, word in COUNT.findall(last)}


def main() -> int:
    """Be the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="one minor version, such as 3.13")
    parser.add_argument("--jobs", type=int, default=1)
    chosen, arguments = parser.parse_known_args()
    rows = []
    for interpreter in interpreters():
        if chosen.only in (None, f"3.{interpreter.minor}"):
            python, lacking = prepared(interpreter)
            counts = tested(python, jobs=chosen.jobs, arguments=arguments)
            rows.append(Row(interpreter, counts, lacking))
    print("| Python | passed | failed | skipped | not to be had |\n|---|---|---|---|---|")
    for row in rows:
        failed = row.counts.get("failed", 0) + row.counts.get("error", 0)
        cells = (row.counts.get("passed", 0), failed, row.counts.get("skipped", 0))
        print(f"| {row.interpreter} | {' | '.join(map(str, cells))} | {', '.join(row.lacking)} |")
    absent = [f"3.{minor}" for minor in MINORS if minor not in {i.minor for i in interpreters()}]
    if absent and chosen.only is None:
        print(f"not found here: {', '.join(absent)}", file=sys.stderr)
    return any(row.counts.get("failed") or not row.counts.get("passed") for row in rows)


if __name__ == "__main__":
    sys.exit(main())
