"""Examples of property tests that are drawn once, and tried again without drawing them.

To draw a host takes a hundred times as long as to place a guest on it, and so does what the
oracles find by going through everything. Both are the same for every mutant of the decision. So
each property test is run once, as it is, and what it draws is kept; then its body alone is run
with that. Answers of the oracles to what was drawn are kept too.

What is drawn was made by code without a defect in it. A mutant that would have changed that, or
in what order a test draws, is judged by less than in the test itself, and never by more.
"""

import importlib
import time
import warnings
from collections.abc import Callable, Iterator
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
    """In place of `st.data()`: draws, and keeps what was drawn."""

    def __init__(self, data: Any) -> None:  # noqa: ANN401 - hypothesis' own
        self.data, self.values = data, []

    def draw(self, strategy: Any, label: str | None = None) -> Any:  # noqa: ANN401 - anything
        self.values.append(self.data.draw(strategy, label))
        return self.values[-1]


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
    """The body of a property test, and the examples that it passed."""

    def __init__(self, item: pytest.Function) -> None:
        self.body: Callable[..., None] = item.obj.hypothesis.inner_test
        self.examples: list[dict[str, Any]] = []
        item.obj.hypothesis.inner_test = self._keep
        runtestprotocol(item, nextitem=None, log=False)
        item.obj.hypothesis.inner_test = self.body
        began = time.process_time()
        self.passes()
        self.seconds = time.process_time() - began

    def _keep(self, **values: Any) -> None:  # noqa: ANN401 - whatever the test takes
        kept = {name: _Kept(value) if _is_data(value) else value for name, value in values.items()}
        self.body(**kept)
        self.examples.append(kept)

    def passes(self) -> bool:
        """Return whether the test passes with all of the examples."""
        return all(map(self._passes, self.examples))

    def _passes(self, kept: dict[str, Any]) -> bool:
        again = {
            name: _Again(value.values) if isinstance(value, _Kept) else value
            for name, value in kept.items()
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


def remember_oracles() -> None:
    """Have the oracles keep their answers, which are asked with the same objects again."""
    for module, names in ORACLES.items():
        oracle = importlib.import_module(module)
        for name in names:
            setattr(oracle, name, _remembering(getattr(oracle, name)))


def _remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    answers: dict[tuple[object, ...], tuple[object, Any]] = {}

    def asked(*arguments: Any) -> Any:  # noqa: ANN401 - whatever the oracle takes
        key = tuple(map(_identity, arguments))
        if key not in answers:
            found = function(*arguments)
            # The arguments are kept, so that no other object is ever taken for one of them.
            answers[key] = arguments, list(found) if isinstance(found, Iterator) else found
        return answers[key][1]

    return asked


def _identity(argument: object) -> object:
    plain = isinstance(argument, int | str | frozenset) or type(argument).__name__ == "Policy"
    if plain or (isinstance(argument, tuple) and type(argument) is tuple):
        return argument
    return id(argument)
