"""Guest config files in xl's own grammar (xl.cfg): read, looked at, and edited in place.

A file is statements, ended by a newline or ``;``: ``name = value``, or ``name += value`` that
appends to what the name has. A value is a number, a string in one of two kinds of quotes, or a
list of values, in which newlines may stand. ``#`` starts a comment. Nothing is ever evaluated.

To xl a number is only a string without quotes (``vcpus = "2"`` and ``cpus = 3`` are both fine),
so a value here is a string (a `Number` if it had no quotes) or a tuple. What xl refuses is
refused, and some of that looks harmless: CR before the end of a line, a comment that ends the
file without a newline, names in upper case, a newline in a string, a continued line. Beyond
that, this reader refuses what xl quietly spoils: a number of the wrong form or a list where a
string is meant (xl ignores the setting), numeric escapes in strings (xl 4.17 drops the
character), NUL, and one stray character at the very end (xl overlooks it).

Source: Xen, tools/libs/util/libxlu_cfg_l.l (words), libxlu_cfg_y.y (grammar), libxlu_cfg.c
(escapes, ``+=``, numbers).
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, Self

from homenode.errors import HomenodeError, ParseError

Value = str | tuple["Value", ...]
"""What a setting is: a string (numbers are strings too), or a list, which may hold lists."""


class Number(str):
    """A string that is written without quotes, as numbers are.

    To xl that makes no difference, but homenode's own ``nodes = 2`` is a number of nodes and
    ``nodes = "2"`` is node 2.
    """

    __slots__ = ()


LARGEST_TEXT = 128 << 10
"""Characters of a config file; real ones have a few thousand."""

DEEPEST_LIST = 16
"""Lists within lists; xl's own settings go two deep."""

_LARGEST_LONG = (1 << 63) - 1
_DIGITS_OF_LONG = 19

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset("0123456789")
_NAME_REST = _LOWER | _DIGITS | frozenset("._")
_NUMBER_REST = _DIGITS | frozenset("abcdefx")
_QUOTES = frozenset("\"'")
_LINE_ENDS = frozenset("\n#")

_ESCAPES = {
    '"': '"', "'": "'", "\\": "\\", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r",
    "t": "\t", "v": "\v",
}  # fmt: skip
_ESCAPED = {ord(char): f"\\{letter}" for letter, char in _ESCAPES.items() if letter != "'"}

_NO_PYTHON = "a value is a number, a string in quotes, or a list [...] of values"

_Kind = Literal["name", "number", "string", "[", "]", ",", ";", "=", "+=", "newline", "end"]

_SIGNS: Mapping[str, _Kind] = {
    "=": "=", "+=": "+=", ",": ",", "[": "[", "]": "]", ";": ";",
}  # fmt: skip

_SPOKEN: Mapping[str, str] = {
    "name": "the name of a setting",
    "number": "a number",
    "string": "a string",
    "newline": "the end of the line",
    "end": "the end of the file",
}


class _Word(NamedTuple):
    kind: _Kind
    value: str
    start: int
    end: int
    line: int

    def spoken(self) -> str:
        named = _SPOKEN.get(self.kind, repr(self.kind))
        if self.kind in ("name", "number", "string"):
            return f"{named} ({self.value[:40]!r})"
        return named


class _Assignment(NamedTuple):
    """One statement: [start, operator) is its name, [value_start, end) its value."""

    name: str
    appends: bool
    start: int
    operator: int
    value_start: int
    end: int
    line: int


class _Words:
    """The words of a text, one ahead."""

    __slots__ = ("_at", "_line", "_source", "_text", "next")

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._at = 0
        self._line = 1
        self.next = self._read()

    def at(self, *kinds: _Kind) -> bool:
        return self.next.kind in kinds

    def take(self) -> _Word:
        word = self.next
        if word.kind != "end":
            self.next = self._read()
        return word

    def error(self, message: str, line: int, *, hint: str | None = None) -> ParseError:
        return ParseError(message, source=self._source, line=line, hint=hint)

    def expected(self, what: str, *, hint: str | None = None) -> ParseError:
        return self.error(f"expected {what}, found {self.next.spoken()}", self.next.line, hint=hint)

    def _read(self) -> _Word:
        text = self._text
        at = _skip_blanks(text, self._at)
        char = text[at : at + 1]
        if char in _LOWER:
            return self._run("name", at, _NAME_REST)
        if char in _DIGITS:
            return self._run("number", at, _NUMBER_REST)
        if char in _QUOTES:
            return self._string(at, char)
        if char in _LINE_ENDS:
            return self._end_of_line(at)
        return self._sign(at)

    def _sign(self, at: int) -> _Word:
        if at == len(self._text):
            return self._word("end", at, at)
        kind = _SIGNS.get(self._text[at : at + 2]) or _SIGNS.get(self._text[at])
        if kind is None:
            raise self._unknown(self._text[at])
        return self._word(kind, at, at + len(kind))

    def _word(self, kind: _Kind, start: int, end: int, value: str = "") -> _Word:
        self._at = end
        return _Word(kind, value, start, end, self._line)

    def _run(self, kind: _Kind, start: int, members: frozenset[str]) -> _Word:
        text, end = self._text, start + 1
        while end < len(text) and text[end] in members:
            end += 1
        return self._word(kind, start, end, text[start:end])

    def _end_of_line(self, start: int) -> _Word:
        end = self._text.find("\n", start)
        if end < 0:
            raise self.error(
                "the comment that ends the file has no newline, and xl refuses it so",
                self._line,
                hint="add a newline at the end",
            )
        word = self._word("newline", start, end + 1)
        self._line += 1
        return word

    def _string(self, start: int, quote: str) -> _Word:
        text, at, parts = self._text, start + 1, []
        while at < len(text) and text[at] not in (quote, "\n"):
            if text[at] != "\\":
                parts.append(text[at])
                at += 1
                continue
            letter = text[at + 1 : at + 2]
            if letter not in _ESCAPES:
                raise self._wrong_escape(letter)
            parts.append(_ESCAPES[letter])
            at += 2
        if not text.startswith(quote, at):
            raise self.error(
                f"the string that starts here has no closing {quote}",
                self._line,
                hint="a string ends on its line; write a newline in it as \\n",
            )
        return self._word("string", start, at + 1, "".join(parts))

    def _wrong_escape(self, letter: str) -> ParseError:
        if letter in ("", "\n"):
            message, hint = "a line cannot be continued in a string", "write a newline as \\n"
        elif letter in "01234567x":
            message = f"numeric escape '\\{letter}' in a string, which xl reads and drops"
            hint = "write the character itself"
        else:
            message = f"there is no escape '\\{letter}' in a string"
            hint = "a backslash itself is written \\\\"
        return self.error(message, self._line, hint=hint)

    def _unknown(self, char: str) -> ParseError:
        if char == "\r":
            return self.error(
                "a carriage return, which xl refuses",
                self._line,
                hint="end lines with a newline alone (dos2unix FILE)",
            )
        if char == "\\":
            hint = "a line cannot be continued, but a list can have many lines"
        elif char.isascii() and char.isupper():
            hint = f"names are in lower case, and {_NO_PYTHON}"
        else:
            hint = _NO_PYTHON
        return self.error(f"unexpected {char!r}", self._line, hint=hint)


class GuestConfig:
    """A guest's config file: its settings, and its text, in which they can be changed.

    `values` are the settings as xl understands them: where a name is set twice the later one
    holds, and ``+=`` has been carried out. The getters return None for what is not set, and
    raise `ParseError` with source and line for what is of another type.
    """

    __slots__ = ("_assignments", "source", "text", "values")

    source: str
    text: str
    values: Mapping[str, Value]
    _assignments: list[_Assignment]

    @classmethod
    def parse(cls, text: str, *, source: str = "guest config") -> Self:
        """Read the `text` of the file that is called `source`; `ParseError` if it is malformed."""
        if len(text) > LARGEST_TEXT:
            raise ParseError(f"too long for a guest config: {len(text)} characters", source=source)
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            raise ParseError("a NUL character", source=source, line=line)
        made = cls()
        made.source = source
        made.text = text
        made.values, made._assignments = _parse(_Words(text, source))
        return made

    def __repr__(self) -> str:
        return f"<GuestConfig {self.source!r}: {', '.join(self.values)}>"

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def line(self, name: str) -> int | None:
        """Return the line of the last assignment to `name`; None if there is none."""
        last = self._last(name)
        return last.line if last else None

    def error(self, message: str, *, at: str | None = None, hint: str | None = None) -> ParseError:
        """Return an error about this file, placed at the setting `at`."""
        line = self.line(at) if at else None
        return ParseError(message, source=self.source, line=line, hint=hint)

    def string(self, name: str) -> str | None:
        """Return a setting that is a single value."""
        value = self.values.get(name)
        if isinstance(value, tuple):
            raise self.error(f"{name} is a list, but should be a single value", at=name)
        return value

    def strings(self, name: str) -> tuple[str, ...] | None:
        """Return a setting that is a list of single values."""
        value = self.values.get(name)
        if isinstance(value, str):
            raise self.error(f"{name} is a single value, but should be a list", at=name)
        return None if value is None else self.items(value, name)

    def items(self, value: tuple[Value, ...], name: str) -> tuple[str, ...]:
        """Return the single values of a list within the setting `name`."""
        strings = tuple(item for item in value if isinstance(item, str))
        if len(strings) != len(value):
            raise self.error(f"a list within a list of {name}, where single values go", at=name)
        return strings

    def integer(self, name: str, *, smallest: int = 0, largest: int = _LARGEST_LONG) -> int | None:
        """Return a setting that is a number: decimal, octal (``010`` is 8) or ``0x10``.

        Quotes around it make no difference, as in xl; a minus sign needs them.
        """
        text = self.string(name)
        if text is None:
            return None
        number = None if self._appended(name) else _integer(text)
        if number is None:
            if _is_beyond(text) and not self._appended(name):
                said = f"{name} is out of range: {text[:40]!r} is more than xl can read"
                raise self.error(said, at=name)
            raise self.error(f"{name} is no whole number: {text[:40]!r}", at=name)
        if not smallest <= number <= largest:
            limit = f"at least {smallest}" if number < smallest else f"at most {largest}"
            raise self.error(f"{name} = {number} is out of range: it is {limit}", at=name)
        return number

    def flag(self, name: str) -> bool | None:
        """Return a setting that is on or off: any number but 0 is on."""
        number = self.integer(name, smallest=-_LARGEST_LONG - 1)
        return None if number is None else number != 0

    def edited(self, changes: Mapping[str, Value | None]) -> str:
        """Return the text with the settings in `changes` set to that value, or removed (None).

        Everything else stays, byte for byte. A setting that is there keeps its place (the last
        one, if there are several); a new one goes to the end; a line that is left blank by a
        removal goes with it.
        """
        edits: list[tuple[int, int, str]] = []
        added = ""
        for name, value in changes.items():
            last = self._last(name)
            if value is None:
                edits += [
                    (*self._statement(one), "") for one in self._assignments if one.name == name
                ]
            elif last is None:
                added += render({name: value})
            elif last.appends:
                edits.append((last.operator, last.end, f"= {_rendered(value)}"))
            elif _rendered(value) != _rendered(self.values[name]):
                edits.append((last.value_start, last.end, _rendered(value)))
        text = self.text
        for start, end, replacement in sorted(edits, reverse=True):
            text = text[:start] + replacement + text[end:]
        gap = "\n" if added and text and not text.endswith("\n") else ""
        return text + gap + added

    def _last(self, name: str) -> _Assignment | None:
        return next((one for one in reversed(self._assignments) if one.name == name), None)

    def _appended(self, name: str) -> bool:
        last = self._last(name)
        return last is not None and last.appends

    def _statement(self, one: _Assignment) -> tuple[int, int]:
        """Return the span to cut for a statement: its ``;`` too, and its line if nothing else."""
        text, start, end = self.text, one.start, one.end
        end = _skip_blanks(text, end)
        if text.startswith(";", end):
            end = _skip_blanks(text, end + 1)
        line_start = text.rfind("\n", 0, start) + 1
        if not text[line_start:start].strip(" \t") and text[end : end + 1] in ("\n", ""):
            return line_start, min(end + 1, len(text))
        return start, end


def _parse(words: _Words) -> tuple[dict[str, Value], list[_Assignment]]:
    values: dict[str, Value] = {}
    assignments: list[_Assignment] = []
    while not words.at("end"):
        if words.at("newline", ";"):
            words.take()
            continue
        assignment, value = _assignment(words)
        name = assignment.name
        if assignment.appends and name in values:
            value = _joined(values[name], value, words, assignment.line)
        values[name] = value
        assignments.append(assignment)
    return values, assignments


def _assignment(words: _Words) -> tuple[_Assignment, Value]:
    if not words.at("name"):
        raise words.expected(_SPOKEN["name"])
    name = words.take()
    if not words.at("=", "+="):
        raise words.expected(f"= or += after {name.value[:40]!r}")
    operator = words.take()
    value_start = words.next.start
    value, end = _value(words, DEEPEST_LIST)
    if not words.at("newline", ";", "end"):
        raise words.expected(f"the end of the line or ';' after the value of {name.value[:40]!r}")
    appends = operator.kind == "+="
    return (
        _Assignment(name.value, appends, name.start, operator.start, value_start, end, name.line),
        value,
    )


def _joined(before: Value, more: Value, words: _Words, line: int) -> Value:
    if isinstance(before, str) and isinstance(more, str):
        return before + more
    if isinstance(before, tuple) and isinstance(more, tuple):
        return before + more
    raise words.error("+= cannot add a list to a single value, or the reverse", line)


def _value(words: _Words, depth: int) -> tuple[Value, int]:
    """Read a value; return it and the offset of its end."""
    if words.at("string", "number"):
        word = words.take()
        return Number(word.value) if word.kind == "number" else word.value, word.end
    if not words.at("["):
        raise words.expected("a value", hint=_NO_PYTHON)
    if not depth:
        raise words.error(f"lists more than {DEEPEST_LIST} deep", words.next.line)
    start = words.take()
    items: list[Value] = []
    _skip_newlines(words)
    while not words.at("]"):
        items.append(_value(words, depth - 1)[0])
        _skip_newlines(words)
        if words.at(","):
            words.take()
            _skip_newlines(words)
        elif not words.at("]"):
            raise words.expected(f"',' or ']' in the list that starts in line {start.line}")
    return tuple(items), words.take().end


def _skip_newlines(words: _Words) -> None:
    while words.at("newline"):
        words.take()


def _skip_blanks(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    return at


def _is_beyond(text: str) -> bool:
    """Return whether this is a decimal number, but one too large for `_integer`."""
    digits = text.strip(" \t\n\v\f\r").lstrip("+-")
    return digits.isascii() and digits.isdecimal() and len(digits) >= _DIGITS_OF_LONG


def _integer(text: str) -> int | None:
    """Read what C's strtol() with base 0 reads to the end; None if it is no such number."""
    digits = text.lstrip(" \t\n\v\f\r")
    sign = -1 if digits.startswith("-") else 1
    digits = digits[1:] if digits[:1] in ("+", "-") else digits
    base, members = 10, "0123456789"
    if digits[:2] in ("0x", "0X"):
        digits, base, members = digits[2:], 16, "0123456789abcdefABCDEF"
    elif digits.startswith("0"):
        base, members = 8, "01234567"
    if not digits or digits.strip(members) or len(digits) > 40:
        return None
    number = sign * int(digits, base)
    return number if -_LARGEST_LONG - 1 <= number <= _LARGEST_LONG else None


def _rendered(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_rendered(item) for item in value)}]"
    if isinstance(value, Number) and value[:1] in _DIGITS and _NUMBER_REST.issuperset(value):
        return value
    if "\0" in value:
        raise HomenodeError("a string in a guest config cannot hold a NUL character")
    return f'"{value.translate(_ESCAPED)}"'


def render(values: Mapping[str, Value]) -> str:
    """Return the text of a config file with these settings, one in a line."""
    for name in values:
        if name[:1] not in _LOWER or not _NAME_REST.issuperset(name):
            raise HomenodeError(f"not the name of a setting in a guest config: {name[:40]!r}")
    return "".join(f"{name} = {_rendered(value)}\n" for name, value in values.items())
