"""Tables as text: CSV as RFC 4180 has it, also compressed by gzip, with a header and in UTF-8.

A row is a line: a quoted field may hold commas and quotes, but no line break. So the number of a
row is that of its line, a row that is too short or too long is found where it is, and a file can
be read piece by piece. The last line ends with a line break like all others: a file that was cut
off within its last number would look whole otherwise.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

from homenode.errors import HomenodeError, ParseError
from homenode.fleet.reading.columns import Column, Rows, refuse_missing, typed
from homenode.fleet.reading.library import pl

PIECE_BYTES = 8 << 20
"""How much is read at once; the texts of so much are in memory, and of no more."""

LONGEST_LINE = 1 << 20


class Readable(Protocol):
    """An open file, or what is made of one."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""


class TextTable:
    """A CSV file that is open: `names` are those of its columns; it can be read once."""

    def __init__(self, file: Readable, *, source: str) -> None:
        self.source = source
        self._pieces = _pieces(file, source)
        try:
            _, self._text = next(self._pieces)
        except StopIteration:
            raise ParseError("is empty", source=source) from None
        header, _, self._text = self._text.removeprefix("\ufeff").partition("\n")
        self.names = tuple(self._split(header, 1))
        for name in self.names:
            if self.names.count(name) > 1:
                raise ParseError(f"two columns are named {name!r}", source=source, line=1)

    def read(self, wanted: Sequence[Column]) -> Rows:
        """Return the `wanted` columns; raises `ParseError` for anything that is not as it says."""
        refuse_missing(wanted, self.names, source=self.source)
        present = [column for column in wanted if column.name in self.names]
        pieces: dict[str, list[pl.Series]] = {column.name: [] for column in present}
        for line, text in self._rest():
            fields = self._fields(text, line)
            frame = typed(present, fields.__getitem__, source=self.source, first=line)
            for values in frame:
                pieces[values.name].append(values)
        if not all(pieces.values()):
            raise ParseError("has a header and no rows", source=self.source)
        # Column by column: joined as a whole, all of it would be there twice for a moment.
        frame = pl.DataFrame([pl.concat(pieces.pop(name)).rechunk() for name in list(pieces)])
        return Rows(frame, source=self.source, first=2)

    def _rest(self) -> Iterator[tuple[int, str]]:
        text, self._text = self._text, ""
        if text:
            yield 2, text
        yield from self._pieces

    def _fields(self, text: str, line: int) -> pl.DataFrame:
        lines = text.removesuffix("\n")
        if '"' in text:
            rows = [self._row(own, line + at) for at, own in enumerate(lines.split("\n"))]
            return pl.DataFrame(rows, schema=dict.fromkeys(self.names, pl.String), orient="row")
        count = len(self.names)
        # One field more than there are columns, to see that it is not there.
        parts = pl.Series([lines]).str.split("\n").explode().str.split_exact(",", count)
        fields = parts.struct.unnest()
        short, long = fields.to_series(count - 1).is_null(), fields.to_series(count).is_not_null()
        wrong = short | long
        if wrong.any():
            row = wrong.arg_max() or 0
            self._row(lines.split("\n")[row], line + row)
        fields = fields.select(fields.columns[:count])
        fields.columns = list(self.names)
        return fields

    def _row(self, text: str, line: int) -> list[str]:
        fields = self._split(text, line)
        if len(fields) != len(self.names):
            raise ParseError(
                f"has {len(fields)} fields, and the header {len(self.names)}",
                source=self.source,
                line=line,
            )
        return fields

    def _split(self, text: str, line: int) -> list[str]:
        if '"' not in text:
            return text.split(",")
        try:
            return next(csv.reader([text], strict=True))
        except csv.Error as error:
            raise ParseError(f"is not CSV: {error}", source=self.source, line=line) from None


def _pieces(file: Readable, source: str) -> Iterator[tuple[int, str]]:
    """Yield whole lines, with the number of the first of them."""
    line, rest = 1, b""
    while data := _read(file, source):
        end = data.rfind(b"\n") + 1
        if not end:
            rest += data
        else:
            piece, rest = rest + data[:end], data[end:]
            yield line, _decoded(piece, line, source)
            line += piece.count(b"\n")
        if len(rest) > LONGEST_LINE:
            raise ParseError(f"is longer than {LONGEST_LINE} bytes", source=source, line=line)
    if rest:
        _decoded(rest, line, source)
        raise ParseError(
            "the file ends within this row", source=source, line=line,
            hint="a whole file ends with a line break",
        )  # fmt: skip


def _read(file: Readable, source: str) -> bytes:
    try:
        return file.read(PIECE_BYTES)
    except EOFError:
        raise ParseError("is cut off: the compressed data has no end", source=source) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ParseError(f"is damaged: {error}", source=source) from None
    except OSError as error:
        raise HomenodeError(f"{source}: cannot read it: {error.strerror or error}") from None


def _decoded(piece: bytes, line: int, source: str) -> str:
    try:
        return piece.replace(b"\r\n", b"\n").decode()
    except UnicodeDecodeError as error:
        where = line + piece.replace(b"\r\n", b"\n")[: error.start].count(b"\n")
        raise ParseError("is not UTF-8", source=source, line=where) from None
