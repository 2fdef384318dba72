"""Fuzz the targets one after the other, and keep count.

    python -m fuzz.run [--inputs 10000] [--rounds 1] [--target NAME]... [--seed 1] [--work FOLDER]

`--inputs` is for a slow target; one whose `share` is 10 gets ten times as many. They are spread
over `--rounds`, each of which goes through all targets. The folder has the corpus of each target,
what was found, and ``runs.jsonl``: a line for each process with libFuzzer's own count of what it
executed. What is in it counts: a run that was ended is gone on with. In the end the table of all
lines is printed, and the exit status is 1 if anything was found.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fuzz import seeds
from fuzz.all_targets import all_targets
from fuzz.table import sums, table
from fuzz.target import Target

WORK = Path("/tmp/homenode-fuzz")  # noqa: S108 - it is large, and worth nothing
_STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/")
_EXECUTED = re.compile(r"stat::number_of_executed_units: +(\d+)")
_TIMEOUT_S = 60
_MEMORY_MIB = 1024


def main() -> int:
    """Fuzz, and print the table."""
    asked = _options().parse_args()
    known = all_targets()
    unknown = set(asked.target or ()) - set(known)
    if unknown:
        print(f"there is no target {min(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    targets = [known[name] for name in asked.target or known]
    asked.work.mkdir(parents=True, exist_ok=True)
    for turn in range(1, asked.rounds + 1):
        for target in targets:
            done = sums(asked.work).get(target.name, {"inputs": 0, "runs": 0})
            inputs = int(asked.inputs * target.share * turn / asked.rounds) - done["inputs"]
            if inputs <= 0:
                continue
            line = _run(target, inputs, seed=asked.seed + done["runs"], work=asked.work)
            with (asked.work / "runs.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    print(table(asked.work))
    return int(any(_found(target, asked.work) for target in targets))


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m fuzz.run")
    made.add_argument("--inputs", type=int, default=10_000)
    made.add_argument("--rounds", type=int, default=1)
    made.add_argument("--target", action="append")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--work", type=Path, default=WORK)
    return made


def _found(target: Target, work: Path) -> list[str]:
    return sorted(path.stem for path in (work / "found" / target.name).glob("*.txt"))


def _run(target: Target, inputs: int, *, seed: int, work: Path) -> dict[str, object]:
    """Run one process; return what libFuzzer said of it in the end."""
    log = work / "logs" / f"{target.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = _command(target, inputs, seed=seed, work=work)
    started = time.monotonic()
    with log.open("wb") as file:
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False, cwd=seeds.ROOT
        ).returncode
    told = log.read_text(errors="replace")
    executed = _EXECUTED.findall(told)
    lines = _STATUS.findall(told) or [("0", "0", "0", "0")]
    inputs_done, coverage, features, corpus = map(int, lines[-1])
    return {
        "target": target.name,
        "inputs": int(executed[-1]) if executed else inputs_done,
        "seconds": round(time.monotonic() - started, 1),
        "coverage": coverage,
        "features": features,
        "corpus": corpus,
        "status": status,
        "found": _found(target, work),
    }


def _command(target: Target, inputs: int, *, seed: int, work: Path) -> list[str]:
    """Return the command of a run, once the folders and files that it needs are there."""
    corpus, first, found = (work / name / target.name for name in ("corpus", "seeds", "found"))
    shutil.rmtree(first, ignore_errors=True)
    for folder in (corpus, first, found):
        folder.mkdir(parents=True, exist_ok=True)
    kept = seeds.files(seeds.CRASHERS / target.name, "*")
    for at, data in enumerate((*target.seeds(), *kept)):
        # Cut off, most inputs are none; the long ones are for the tests.
        if len(data) <= target.most_bytes:
            (first / str(at)).write_bytes(data)
    dictionary = work / "seeds" / f"{target.name}.dict"
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in target.dictionary))
    return [
        sys.executable, "-m", "fuzz.one", target.name, str(found), f"-runs={inputs}",
        f"-seed={seed}", f"-max_len={target.most_bytes}", f"-timeout={_TIMEOUT_S}",
        f"-rss_limit_mb={_MEMORY_MIB}", f"-artifact_prefix={found}/ended-", "-print_final_stats=1",
        *([f"-dict={dictionary}"] if target.words else []), str(corpus), str(first),
    ]  # fmt: skip


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    sys.exit(main())
