"""Columns of a table, strictly: every value is of its kind and within its range.

What a reader wants is a list of `Column` s. The values come as texts (CSV) or with types of their
own (Parquet); here they become polars columns of the smallest type that holds them. The first
row, from above, with a value that is anything else ends the reading, and is named with its column.
"""

from collections.abc import Callable, Sequence
from math import isfinite, nan
from typing import Literal, NamedTuple

from homenode.errors import ParseError
from homenode.fleet.reading.library import pl
from homenode.formats import host_toml
from homenode.formats.table import LARGEST_NUMBER

MOST_VCPUS = host_toml.MOST_CPUS
MOST_NODES = host_toml.MOST_NODES
"""Vcpus and nodes of a guest: what the largest host could hold."""

MOST_GIB = 1 << 20
"""Memory of a guest: 1 PiB, more than any host has."""

LATEST_S = 10**12
"""The latest second of a trace: as milliseconds, a float still holds it without loss."""

Kind = Literal["whole", "number", "text", "word"]

_NOUNS = {
    "whole": "whole numbers", "number": "numbers", "text": "texts or whole numbers",
    "word": "texts",
}  # fmt: skip


class Column(NamedTuple):
    """A column that a reader wants, and what its values may be.

    `least` and `most` bound numbers; `words` are all that a word can be. Values may be left out
    if `may_be_empty`, the whole column if `may_be_missing`. A text may be a whole number, too.
    """

    name: str
    kind: Kind
    least: int = 0
    most: int = LARGEST_NUMBER
    words: tuple[str, ...] = ()
    may_be_empty: bool = False
    may_be_missing: bool = False


class Problem(NamedTuple):
    """What is wrong in a row, counted from 0."""

    row: int
    column: str
    message: str
    hint: str | None = None


class Rows:
    """The rows of a table with the columns that were wanted; its first row has the number `first`.

    That is the line in a file of text (the header is line 1), and 1 in Parquet.
    """

    def __init__(self, frame: pl.DataFrame, *, source: str, first: int) -> None:
        self.frame = frame
        self.source = source
        self.first = first

    def __contains__(self, name: str) -> bool:
        return name in self.frame.columns

    def error(self, problem: Problem) -> ParseError:
        """Return the complaint about a row."""
        return complaint(problem, source=self.source, first=self.first)

    def refuse(self, where: pl.Expr, column: str, message: str) -> None:
        """Raise `ParseError` for the first row where `where` is true.

        `message` may have the row's values in it, by their columns' names: ``{vcpus}``.
        """
        found = self.frame.select(where.fill_null(value=False).alias("found"))["found"]
        if found.any():
            row = found.arg_max() or 0
            raise self.error(
                Problem(row, column, message.format_map(self.frame.row(row, named=True)))
            )

    def refuse_disorder(self, column: str, *, may_stay: bool) -> None:
        """Raise `ParseError` for the first row whose `column` goes back, or stays if it may not."""
        before = pl.col(column).shift(1)
        back = pl.col(column) < before if may_stay else pl.col(column) <= before
        found = self.frame.select(back.fill_null(value=False).alias("found"))["found"]
        if found.any():
            row = found.arg_max() or 0
            values = self.frame[column]
            raise self.error(
                Problem(
                    row, column, f"{values[row]} after {values[row - 1]}: rows are out of order"
                )
            )


def complaint(problem: Problem, *, source: str, first: int) -> ParseError:
    """Return what is wrong as an error with its place."""
    return ParseError(
        f"column {problem.column!r}: {problem.message}",
        source=source,
        line=first + problem.row,
        hint=problem.hint,
    )


def refuse_missing(wanted: Sequence[Column], names: Sequence[str], *, source: str) -> None:
    """Raise `ParseError` if a column that has to be there is not among `names`."""
    for column in wanted:
        if column.name not in names and not column.may_be_missing:
            raise ParseError(
                f"column {column.name!r} is missing",
                source=source,
                hint=f"the header has {', '.join(names)[:200]}",
            )


def typed(
    wanted: Sequence[Column],
    values_of: Callable[[str], pl.Series],
    *,
    source: str,
    first: int,
) -> pl.DataFrame:
    """Return the `wanted` columns, made from the values that `values_of` has by their names.

    Raises `ParseError` for the first row in which a value is wrong.
    """
    made, problems = [], []
    for column in wanted:
        values, problem = converted(column, values_of(column.name))
        # One piece each, one after the other: polars would do it to all of them at once.
        made.append(values.alias(column.name).rechunk())
        if problem is not None:
            problems.append(problem)
    if problems:
        raise complaint(min(problems, key=lambda one: one.row), source=source, first=first)
    return pl.DataFrame(made)


def type_fault(column: Column, kind: pl.DataType) -> str | None:
    """Return why values of a type of Parquet's cannot be those of `column`; None if they can."""
    if kind == pl.Null:
        fits = True
    elif column.kind in ("whole", "number"):
        fits = kind.is_numeric()
    else:
        is_text = kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum)
        fits = is_text or (column.kind == "text" and kind.is_integer())
    return None if fits else f"column {column.name!r} holds {kind}, not {_NOUNS[column.kind]}"


def converted(column: Column, values: pl.Series) -> tuple[pl.Series, Problem | None]:
    """Return the values of `column` in their own type, and the first that is wrong, if any is."""
    if values.dtype == pl.String:
        values = values.set(values == "", None)
    elif values.dtype.is_float():
        values = values.fill_nan(None)  # what pandas writes for a value that is not there
    read = _READERS[column.kind](column, values)
    wrong = read.is_null()
    if column.may_be_empty:
        wrong &= values.is_not_null()
    if column.kind in ("whole", "number"):
        wrong |= ((read < column.least) | (read > column.most)).fill_null(value=False)
    if wrong.any():
        row = wrong.arg_max() or 0
        return read, _problem(column, row, values[row])
    if column.kind == "whole" and column.most < 1 << 31:
        read = read.cast(pl.Int32)
    return read, None


def _wholes(_: Column, values: pl.Series) -> pl.Series:
    read = values.clear(len(values)).cast(pl.Int64)
    if values.dtype == pl.String or values.dtype.is_integer():
        read = values.cast(pl.Int64, strict=False)
        if read.null_count() == values.null_count():
            return read
    # Others write 8.0 for 8: pandas where a column has empty values.
    floats = values.cast(pl.Float64, strict=False)
    is_whole = (floats == floats.floor()) & (floats.abs() <= LARGEST_NUMBER)
    return read.fill_null(floats.set(~is_whole, None).cast(pl.Int64, strict=False))


def _numbers(_: Column, values: pl.Series) -> pl.Series:
    read = values.cast(pl.Float64, strict=False)
    return read.set(~read.is_finite(), None)


def _texts(_: Column, values: pl.Series) -> pl.Series:
    if values.dtype == pl.String or values.dtype.is_integer():
        return values
    return values.cast(pl.String)


def _words(column: Column, values: pl.Series) -> pl.Series:
    return values.cast(pl.String).cast(pl.Enum(column.words), strict=False)


_READERS: dict[Kind, Callable[[Column, pl.Series], pl.Series]] = {
    "whole": _wholes, "number": _numbers, "text": _texts, "word": _words,
}  # fmt: skip


def _problem(column: Column, row: int, value: object) -> Problem:
    shown = f"{value!r:.40}"
    if value is None:
        return Problem(row, column.name, "is empty")
    if column.kind == "word":
        from difflib import get_close_matches  # noqa: PLC0415 - only for the complaint

        near = get_close_matches(str(value)[:80], column.words, n=1)
        message = f"{shown} is none of {', '.join(column.words)}"
        return Problem(row, column.name, message, f"did you mean {near[0]!r}?" if near else None)
    number = _float(str(value))
    if column.kind == "whole" and not number.is_integer():
        return Problem(row, column.name, f"{shown} is not a whole number")
    if not isfinite(number):
        return Problem(row, column.name, f"{shown} is not a number")
    return Problem(row, column.name, f"{shown} is not from {column.least} to {column.most}")


def _float(text: str) -> float:
    # Python reads more than polars does: spaces around a number, and 1_000.
    try:
        return nan if "_" in text or text != text.strip() else float(text)
    except ValueError:
        return nan
