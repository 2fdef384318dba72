"""What the readers of Xen's printed tables share: lines with their numbers, guarded numbers."""

from typing import NamedTuple

from homenode.errors import ParseError

LARGEST_MIB = 1 << 40
"""No memory is larger (an exbibyte); it keeps KiB within what JSON can carry."""


_LONGEST_SECONDS = (1 << 63) // 10**9


class Line(NamedTuple):
    """One line of a text, counted from 1."""

    number: int
    text: str


def lines_of(text: str) -> list[Line]:
    """Return the lines of `text`, as Xen's tools end them; a final newline starts none."""
    listed = text.replace("\r", "").split("\n")
    if not listed[-1]:
        del listed[-1]
    return [Line(number, line) for number, line in enumerate(listed, start=1)]


def whole_number(text: str) -> int | None:
    """Return the number that `text` is in plain decimal digits, or None.

    ``int()`` would also take ``1_0``, signs, and digits of other scripts, and any length.
    """
    if len(text) > 18 or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)


class Row:
    """The words of one line of a table, taken by the column headings of the table."""

    __slots__ = ("columns", "line", "shift", "source", "words")

    def __init__(
        self, line: Line, columns: list[str], *, source: str, words: list[str], shift: int = 0
    ) -> None:
        self.line = line
        self.columns = columns
        self.source = source
        self.words = words
        self.shift = shift
        """How many words more than headings stand before: the words of a name with spaces."""

    def error(self, message: str, *, hint: str | None = None) -> ParseError:
        """Return the complaint about this line."""
        return ParseError(
            f"{message}: {self.line.text.strip()[:80]!r}",
            source=self.source,
            line=self.line.number,
            hint=hint,
        )

    def word(self, column: str) -> str:
        """Return the word below the heading `column`."""
        if column not in self.columns:
            raise self.error(f"the table has no column {column!r}")
        at = self.columns.index(column) + self.shift
        if not 0 <= at < len(self.words):
            raise self.error(f"no {column!r} in this line")
        return self.words[at]

    def rest(self, column: str) -> str:
        """Return the words below the heading `column` and after it."""
        self.word(column)
        return " ".join(self.words[self.columns.index(column) + self.shift :])

    def number(self, column: str, *, most: int) -> int:
        """Return the number below `column`, from 0 to `most`."""
        word = self.word(column)
        number = whole_number(word)
        if number is None:
            raise self.error(f"{column!r} is no number")
        if number > most:
            raise self.error(f"{column!r} is out of range (0-{most})")
        return number

    def nanoseconds(self, column: str) -> int:
        """Return the seconds with decimals below `column`, in nanoseconds."""
        seconds, _, decimals = self.word(column).partition(".")
        whole, part = whole_number(seconds), whole_number((decimals + "0" * 9)[:9])
        if whole is None or part is None or whole > _LONGEST_SECONDS:
            raise self.error(f"{column!r} is no time in seconds")
        return whole * 10**9 + part
