"""One target under atheris, in a process of its own; `fuzz.run` starts it.

    python -m fuzz.one TARGET FOUND -runs=N -seed=1 ... CORPUS SEEDS

What the oracle raises does not end the run, which would find the same again: it is written to the
folder FOUND once for each place in homenode where it was raised, the input beside its traceback. So
is an input that takes more than `SLOW_S` of the processor. What hangs or eats memory is for
libFuzzer to end (``-timeout``, ``-rss_limit_mb``), which keeps the input too.
"""

import contextlib
import gc
import hashlib
import resource
import sys
import time
import traceback
from pathlib import Path
from random import Random

import atheris

from fuzz.covers import family_and_others

_FAMILY, _OTHERS = family_and_others(sys.argv[1])

# Only what the target is about is watched: what else runs would take half of the time, and tell of
# the search and not of the parser.
with atheris.instrument_imports(include=["homenode"], exclude=_OTHERS):
    from fuzz import oracle
    from fuzz.all_targets import targets_of
    from fuzz.mutation import mutate
    from fuzz.target import Target

    _TARGET = targets_of(_FAMILY)[sys.argv[1]]
    _SEEDS = [data for data in _TARGET.seeds() if len(data) <= _TARGET.most_bytes]
    for _seed in _SEEDS:
        # Much is imported when it is needed: now, so that it is watched. What is wrong is met
        # again, and kept, in the run itself.
        with contextlib.suppress(Exception):
            oracle.check(_TARGET, _seed)

SLOW_S = 1.0
LARGEST_BYTES = 6 << 30
_OWN = f"{Path(__file__).parent.parent}/src/homenode/"


class Runner:
    """Gives inputs to a target and keeps what is wrong."""

    def __init__(self, target: Target, found: Path) -> None:
        self._target = target
        self._found = found
        self._known = {path.name for path in found.glob("*.txt")}
        self._slowest_s = SLOW_S
        self._inputs = 0

    def __call__(self, data: bytes) -> None:
        """Run one input."""
        started = time.process_time()
        try:
            oracle.check(self._target, data)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self._keep(data, _place(error), "".join(traceback.format_exception(error)))
        took = time.process_time() - started
        self._inputs += 1
        if took > self._slowest_s:
            self._slowest_s = 2 * took
            self._keep(data, f"slow-{took:.0f}s", f"took {took:.2f} s of the processor\n")
        if self._inputs % 20_000 == 0:
            gc.collect()

    def _keep(self, data: bytes, place: str, told: str) -> None:
        if f"{place}.txt" in self._known:
            return
        self._known.add(f"{place}.txt")
        (self._found / f"{place}.input").write_bytes(data)
        (self._found / f"{place}.txt").write_text(told, errors="backslashreplace")


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_OWN)] or frames
    deep = isinstance(error, (RecursionError, MemoryError))
    at = own[0 if deep else -1]
    file = at.filename.removeprefix(_OWN).replace("/", ".")
    name = f"{type(error).__name__}-{file}-{at.lineno}"
    if isinstance(error, oracle.Defect):
        # Many properties are looked at in one place.
        name += "-" + hashlib.sha1(str(error).partition(":")[0].encode()).hexdigest()[:6]  # noqa: S324 - a name
        name = name.replace(file, file.rpartition(".fuzz.")[2])
    return name


def _mutator(target: Target):  # noqa: ANN202 - atheris's own form
    def change(data: bytes, max_size: int, seed: int) -> bytes:
        chance = Random(seed)  # noqa: S311 - it has to be the same again
        if chance.random() < 0.3:
            return atheris.Mutate(data, max_size)
        return mutate(target.shape, data, _SEEDS, target.dictionary, chance)[:max_size]

    return change


def main() -> None:
    """Run the target that the command line names."""
    found = Path(sys.argv[2])
    found.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_BYTES, LARGEST_BYTES))
    options = {"custom_mutator": _mutator(_TARGET)} if _TARGET.shape else {}
    atheris.Setup([sys.argv[0], *sys.argv[3:]], Runner(_TARGET, found), **options)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
