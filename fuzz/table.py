"""The table of what was run, from the lines that `fuzz.run` leaves.

python -m fuzz.table FOLDER
"""

import json
import sys
from pathlib import Path

from fuzz import seeds

_HEAD = ("target", "inputs", "inputs a second", "corpus", "edges", "features", "found")


def sums(work: Path) -> dict[str, dict[str, float]]:
    """Return by target what its processes did together, and what the last of them reached."""
    found: dict[str, dict[str, float]] = {}
    path = work / "runs.jsonl"
    for text in path.read_text().splitlines() if path.exists() else ():
        line = json.loads(text)
        known = found.setdefault(line["target"], {"inputs": 0, "seconds": 0.0, "runs": 0})
        known["inputs"] += line["inputs"]
        known["seconds"] += line["seconds"]
        known["runs"] += 1
        known |= {key: line[key] for key in ("corpus", "coverage", "features")}
    return found


def table(work: Path) -> str:
    """Return the runs in that folder as a table in Markdown, a row for each target."""
    found = sums(work)
    rows = [_row(name, one) for name, one in found.items()]
    total = sum(one["inputs"] for one in found.values())
    kept = sum(_kept(name) for name in found)
    rows.append(("all", f"{total:,}", "", "", "", "", str(kept)))
    lines = [_HEAD, ("---", *("--:",) * (len(_HEAD) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name: str, one: dict[str, float]) -> tuple[str, ...]:
    speed = one["inputs"] / max(one["seconds"], 0.1)
    numbers = (one["inputs"], speed, one["corpus"], one["coverage"], one["features"], _kept(name))
    return (name, *(f"{number:,.0f}" for number in numbers))


def _kept(name: str) -> int:
    return len(list((seeds.CRASHERS / name).glob("*")))


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
