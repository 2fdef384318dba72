"""Strict reading of the tables in a TOML or JSON document, with the place in every complaint.

A parsed document is dicts, lists and scalars of any shape. A `Table` takes typed values out of
one dict of it and refuses whatever is unknown, of another type, or out of range, naming where it
stands (``host.cpus[3].node``). Null, and a key that is left out, both mean unknown.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from homenode.bitmap import LARGEST_MEMBER, Bitmap
from homenode.errors import ParseError

LARGEST_NUMBER = 2**53 - 1
"""The largest integer that every JSON reader keeps exact (RFC 8259, section 6)."""

_LONGEST_TEXT = 65_536

_Map = TypeVar("_Map", bound=Bitmap)
_Word = TypeVar("_Word", bound=str)
_Value = TypeVar("_Value")


class Table:
    """One table (JSON object) of a document; `known` are the keys that it may have."""

    __slots__ = ("_values", "path", "source")

    def __init__(self, value: object, known: Iterable[str], *, path: str, source: str) -> None:
        self.path = path
        self.source = source
        if not isinstance(value, dict):
            raise self._wrong(path, "a table", value)
        self._values: dict[str, object] = value
        for key in value:
            if key not in known:
                raise self._unknown(key, known)

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def at(self, key: str) -> str:
        """Return the place of `key` in the document."""
        return f"{self.path}.{key}" if self.path else key

    def error(self, key: str, message: str, *, hint: str | None = None) -> ParseError:
        """Return the complaint about the value of `key`."""
        return ParseError(f"{self.at(key)}: {message}", source=self.source, hint=hint)

    def _wrong(self, place: str, wanted: str, found: object) -> ParseError:
        what = "nothing" if found is None else f"{found!r:.40}"
        return ParseError(f"{place or 'the document'}: {wanted} is wanted, not {what}",
                          source=self.source)  # fmt: skip

    def _unknown(self, key: object, known: Iterable[str]) -> ParseError:
        from difflib import get_close_matches  # noqa: PLC0415 - only for the complaint

        names = sorted(known)
        near = get_close_matches(str(key)[:80], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(names)}"
        shown = str(key)[:40]
        shown = shown if shown.isprintable() else repr(shown)
        return self.error(shown, "there is no such key", hint=hint)

    def value(self, key: str) -> object:
        """Return the value of `key` as the document has it; None if there is none."""
        return self._values.get(key)

    def maybe_text(self, key: str) -> str | None:
        """Return a text, or None."""
        value = self._values.get(key)
        return None if value is None else self._text(self.at(key), value)

    def _text(self, place: str, value: object) -> str:
        if not isinstance(value, str):
            raise self._wrong(place, "a text", value)
        # JSON can write halves of characters, which nothing can print.
        if len(value) > _LONGEST_TEXT or any("\ud800" <= letter <= "\udfff" for letter in value):
            message = f"{place}: the text is too long, or holds half a character"
            raise ParseError(message, source=self.source)
        return value

    def text(self, key: str) -> str:
        """Return a text that has to be there."""
        return self._there(key, self.maybe_text(key))

    def word(self, key: str, allowed: Sequence[_Word], *, default: _Word | None = None) -> _Word:
        """Return one of the `allowed` words."""
        text = self.maybe_text(key)
        if text is None and default is not None:
            return default
        for word in allowed:
            if text == word:
                return word
        raise self._wrong(self.at(key), f"one of {', '.join(allowed)}", self._values.get(key))

    def maybe_word(self, key: str, allowed: Sequence[_Word]) -> _Word | None:
        """Return one of the `allowed` words, or None."""
        return None if self._values.get(key) is None else self.word(key, allowed)

    def maybe_integer(self, key: str, *, most: int = LARGEST_NUMBER, least: int = 0) -> int | None:
        """Return an integer from `least` to `most`, or None."""
        return self._integer(self.at(key), self._values.get(key), most=most, least=least)

    def integer(self, key: str, *, most: int = LARGEST_NUMBER, least: int = 0) -> int:
        """Return an integer from `least` to `most` that has to be there."""
        return self._there(key, self.maybe_integer(key, most=most, least=least))

    def _integer(self, place: str, value: object, *, most: int, least: int = 0) -> int | None:
        if value is None:
            return None
        # True is an int to Python, and to nobody else.
        if type(value) is not int:
            raise self._wrong(place, "an integer", value)
        if not least <= value <= most:
            raise ParseError(f"{place}: not from {least} to {most}", source=self.source)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(self.at(key), "true or false", value)
        return value

    def maybe_seconds(self, key: str) -> float | None:
        """Return a time in seconds, or None."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(self.at(key), "a time in seconds", value)
        if not abs(value) <= LARGEST_NUMBER:  # NaN is not less than anything
            raise self.error(key, "not a time in seconds")
        return float(value)

    def maybe_map(self, key: str, kind: type[_Map], *, within: _Map | None = None) -> _Map | None:
        """Return a map in its Linux list form, or None."""
        text = self.maybe_text(key)
        if text is None:
            return None
        try:
            return kind.parse(text, within=within)
        except ParseError as error:
            raise self.error(key, error.message, hint=error.hint) from None

    def map(self, key: str, kind: type[_Map], *, within: _Map | None = None) -> _Map:
        """Return a map that has to be there, in its Linux list form."""
        return self._there(key, self.maybe_map(key, kind, within=within))

    def items(self, key: str, *, most: int = LARGEST_MEMBER) -> list[object]:
        """Return a list of at most `most` items; empty if there is none."""
        value = self._values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(self.at(key), "a list", value)
        if len(value) > most:
            raise self.error(key, f"{len(value)} items; no more than {most} are read")
        return value

    def table(self, key: str, known: Iterable[str]) -> "Table":
        """Return the table below `key`."""
        return Table(self._values.get(key), known, path=self.at(key), source=self.source)

    def tables(self, key: str, known: Iterable[str], *, most: int) -> list["Table"]:
        """Return the list of at most `most` tables below `key`; empty if there is none."""
        return [
            Table(item, known, path=f"{self.at(key)}[{at}]", source=self.source)
            for at, item in enumerate(self.items(key, most=most))
        ]

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of integers from 0."""
        return tuple(
            self._there(key, self._integer(f"{self.at(key)}[{at}]", item, most=LARGEST_NUMBER))
            for at, item in enumerate(self.items(key))
        )

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        listed = self.items(key)
        return tuple(self._text(f"{self.at(key)}[{at}]", item) for at, item in enumerate(listed))

    def matrix(self, key: str, *, size: int) -> tuple[tuple[int | None, ...], ...]:
        """Return a square table of integers from 0 and of nulls, with `size` rows."""
        rows = self.items(key)
        wrong = self.error(key, f"no table of {size} x {size}: a row and a column for each node")
        if len(rows) != size:
            raise wrong
        read = []
        for at, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != size:
                raise wrong
            place = f"{self.at(key)}[{at}]"
            read.append(tuple(self._integer(place, item, most=LARGEST_NUMBER) for item in row))
        return tuple(read)

    def _there(self, key: str, value: _Value | None) -> _Value:
        if value is None:
            raise self.error(key, "is missing")
        return value
