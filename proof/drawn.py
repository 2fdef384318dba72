"""Examples of property tests that are drawn once, and tried again without drawing them.

To draw a host takes a hundred times as long as to place a guest on it, and so does what the
oracles find by going through everything. Both are the same for every mutant of the decision. So
each property test is run once, as it is, and what it draws is kept; then its body alone is run
with that. Answers of the oracles to what was drawn are kept too.

What is drawn was made by code without a defect in it. A mutant that would have changed that, or
in what order a test draws, is judged by less than in the test itself, and never by more.
"""

import importlib
import inspect
import pickle
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

ORACLES = {
    "oracle": ("best", "facts", "barred", "suitable", "far_shares"),
    "oracle_virtual": ("ways", "node_sets", "least_misfit", "misfit"),
}


class _OtherwiseError(Exception):
    """The test wants to draw more than it did."""


class _Kept:
    """What a test drew of its `st.data()`, in that order."""

    def __init__(self) -> None:
        self.values: list[Any] = []


class _Keeping:
    """In place of `st.data()`: draws, and keeps what was drawn."""

    def __init__(self, data: Any, kept: _Kept) -> None:  # noqa: ANN401 - hypothesis' own
        self.data, self.kept = data, kept

    def draw(self, strategy: Any, label: str | None = None) -> Any:  # noqa: ANN401 - anything
        self.kept.values.append(self.data.draw(strategy, label))
        return self.kept.values[-1]


class _Again:
    """In place of `st.data()`: gives what was drawn."""

    def __init__(self, values: list[Any]) -> None:
        self.values: Iterator[Any] = iter(values)

    def draw(self, _strategy: object, _label: str | None = None) -> Any:  # noqa: ANN401 - anything
        try:
            return next(self.values)
        except StopIteration:
            raise _OtherwiseError from None


def _is_data(value: object) -> bool:
    return type(value).__name__ == "DataObject"


class Drawn:
    """The body of a property test, and the examples that it passed: `kept`, or drawn now."""

    def __init__(self, item: pytest.Function, kept: list[dict[str, Any]] | None) -> None:
        self.body: Callable[..., None] = item.obj.hypothesis.inner_test
        self.examples = kept or []
        if kept is None:
            item.obj.hypothesis.inner_test = self._keep
            runtestprotocol(item, nextitem=None, log=False)
            item.obj.hypothesis.inner_test = self.body
        began = time.process_time()
        self.passes()
        self.seconds = time.process_time() - began

    def _keep(self, *arguments: Any, **values: Any) -> None:  # noqa: ANN401 - whatever it takes
        values = inspect.signature(self.body).bind(*arguments, **values).arguments
        example = {name: _Kept() if _is_data(value) else value for name, value in values.items()}
        self.body(
            **{
                name: _Keeping(values[name], value) if isinstance(value, _Kept) else value
                for name, value in example.items()
            }
        )
        self.examples.append(example)

    def passes(self) -> bool:
        """Return whether the test passes with all of the examples."""
        return all(map(self._passes, self.examples))

    def _passes(self, example: dict[str, Any]) -> bool:
        again = {
            name: _Again(value.values) if isinstance(value, _Kept) else value
            for name, value in example.items()
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that `assume` is not in a test of hypothesis
                self.body(**again)
        except Exception as error:  # noqa: BLE001 - whatever a mutant leads to
            # What was not drawn, or not assumed, is no verdict.
            return isinstance(error, _OtherwiseError) or type(error).__name__ in {
                "UnsatisfiedAssumption",
                "StopTest",
            }
        return True


def can_be_drawn(item: pytest.Item) -> bool:
    """Return whether it is a property test that takes nothing but what is drawn."""
    if not hasattr(getattr(item, "obj", None), "hypothesis") or not isinstance(
        item, pytest.Function
    ):
        return False
    given = set(item.callspec.params) if hasattr(item, "callspec") else set()
    return set(item.fixturenames) <= given | {"request"}


def drawn(items: Mapping[str, pytest.Item], kept: Path) -> dict[str, Drawn]:
    """Return what property tests draw, by test; kept in a file for those that stay as they are."""
    _remember_oracles()
    known: dict[str, tuple[int, list[dict[str, Any]]]] = {}
    if kept.exists():
        known, answers = pickle.loads(kept.read_bytes())  # noqa: S301 - our own file
        for function, arguments, answer in answers:
            _answers[function, *map(_identity, arguments)] = function, arguments, answer
    found, files = {}, {}
    for name, item in items.items():
        if isinstance(item, pytest.Function) and can_be_drawn(item):
            files[name] = zlib.crc32(item.path.read_bytes())
            before = known.get(name, (0, []))
            found[name] = Drawn(item, before[1] if before[1] and before[0] == files[name] else None)
    examples = {name: (files[name], one.examples) for name, one in found.items()}
    kept.write_bytes(pickle.dumps((examples, list(_answers.values()))))
    return found


_answers: dict[tuple[object, ...], tuple[str, tuple[object, ...], Any]] = {}
_asking: list[str] = []


def _remember_oracles() -> None:
    """Have the oracles keep their answers, which are asked with the same objects again."""
    for module, names in ORACLES.items():
        oracle = importlib.import_module(module)
        for name in names:
            setattr(oracle, name, _remembering(f"{module}.{name}", getattr(oracle, name)))


def _remembering(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def asked(*arguments: Any) -> Any:  # noqa: ANN401 - whatever the oracle takes
        if _asking:
            return function(*arguments)  # one oracle asks another
        key = name, *map(_identity, arguments)
        if key not in _answers:
            _asking.append(name)
            try:
                found = function(*arguments)
                found = list(found) if isinstance(found, Iterator) else found
            finally:
                _asking.pop()
            # The arguments are kept, so that no other object is ever taken for one of them.
            _answers[key] = name, arguments, found
        return _answers[key][2]

    return asked


def _identity(argument: object) -> object:
    plain = isinstance(argument, int | str | frozenset) or type(argument).__name__ == "Policy"
    return argument if plain or type(argument) is tuple else id(argument)
