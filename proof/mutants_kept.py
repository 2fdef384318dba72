"""Mutants and what came of them: kept in build/mutation, one line for each that was tried."""

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from proof.mutants import Module, Mutant

SOURCE = Path("src/homenode")
KEPT = Path("build/mutation")
KILLED, TIMED_OUT, SURVIVED = "killed", "timed out", "survived"
NOT_PUT_IN = "failed"
"""The code of the mutant does not fit into the function: its module is to be loaded with it."""


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


def keep(tried: Tried, source: str) -> None:
    """Append what came of a mutant of that source."""
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


def wanted(among: dict[str, Module], again: Collection[str]) -> Iterator[Mutant]:
    """Yield the mutants that are to be tried."""
    known = results(among)
    for module in among.values():
        for mutant in module.mutants():
            tried = known.get(mutant.name)
            if tried is None or tried.outcome in again:
                yield mutant


def table(among: dict[str, Module]) -> Iterator[str]:
    """Yield the table of docs/trust.md: `found` is the share of those that were tried."""
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
            found = 100 * (one[KILLED] + one[TIMED_OUT]) / one.total()
            yield (
                f"| {name} | {sizes[name]} | {one.total()} | {one[KILLED]} | {one[TIMED_OUT]} "
                f"| {one[SURVIVED] + one[NOT_PUT_IN]} | {found:.1f} % |"
            )
