"""The table of what was run, from the lines that `fuzz.run` leaves.

python -m fuzz.table [FOLDER]
"""

import json
import sys
from pathlib import Path

_HEAD = ("target", "inputs", "inputs a second", "corpus", "edges", "features")


def table(work: Path) -> str:
    """Return the runs in that folder as a table in Markdown, a row for each target."""
    sums: dict[str, dict[str, int | float]] = {}
    for text in (work / "runs.jsonl").read_text().splitlines():
        line = json.loads(text)
        known = sums.setdefault(line["target"], {"inputs": 0, "seconds": 0.0})
        known["inputs"] += line["inputs"]
        known["seconds"] += line["seconds"]
        known |= {key: line[key] for key in ("corpus", "coverage", "features")}
    rows = [
        (
            name,
            f"{one['inputs']:,}",
            f"{one['inputs'] / max(one['seconds'], 0.1):,.0f}",
            f"{one['corpus']:,}",
            f"{one['coverage']:,}",
            f"{one['features']:,}",
        )
        for name, one in sums.items()
    ]
    total = sum(one["inputs"] for one in sums.values())
    rows.append(("all", f"{total:,}", "", "", "", ""))
    lines = [_HEAD, ("---", *("--:",) * (len(_HEAD) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
