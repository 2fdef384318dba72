"""xl's own command line, as far as a front of xl has to understand it.

xl reads it by getopt: its own options, then a command, of which a beginning suffices that no other
command shares, then the options of the command, bundled or long, anywhere among its arguments.
What xl would refuse, and what creates no guest, is not understood here (None): xl gets it as it
was typed, and says so itself.

Source: Xen 4.17, tools/xl/xl.c, main(); xl_cmdtable.c, cmdtable_lookup(); xl_utils.c,
def_getopt(); xl_vmcontrol.c, main_create() and create_domain().
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from homenode.errors import HomenodeError, ParseError

_XL_OPTIONS = frozenset("vftTN")
"""xl's own; none takes a value."""

_SHORTEST_CREATE = "cr"
"""Shorter beginnings of ``create`` are those of other commands as well."""

_OPTIONS = frozenset("FnqfpcdeVAi")
"""Those of ``create``; -f takes a value."""

_LONG_OPTIONS = {
    "defconfig": "f",
    "dryrun": "n",
    "help": "h",
    "ignore-global-affinity-masks": "i",
    "quiet": "q",
    "vncviewer": "V",
    "vncviewer-autopass": "A",
}


class Call(NamedTuple):
    """A call of xl: its own options (``-vvv``), the command, and what follows it."""

    options: tuple[str, ...]
    command: str
    arguments: tuple[str, ...]

    @property
    def creates(self) -> bool:
        """Whether xl takes the command for ``create``."""
        return "create".startswith(self.command) and self.command.startswith(_SHORTEST_CREATE)

    @property
    def is_dry(self) -> bool:
        """Whether xl is only to say what it would do (``xl -N``)."""
        return any("N" in option for option in self.options)


class Creation(NamedTuple):
    """What ``xl create`` is asked for: a config file, and settings that are added to it.

    `options` are the others, as they were typed; `letters` are those of all options.
    """

    path: str
    settings: tuple[str, ...]
    options: tuple[str, ...]
    letters: frozenset[str]

    @property
    def stays(self) -> bool:
        """Whether xl goes on when the guest runs: with its console, or as its keeper."""
        return not self.letters.isdisjoint("cF")

    @property
    def has_console(self) -> bool:
        """Whether the terminal becomes the guest's."""
        return "c" in self.letters

    @property
    def is_quiet(self) -> bool:
        """Whether only errors are to be told."""
        return "q" in self.letters


def parse_call(words: Sequence[str]) -> Call | None:
    """Read a command line of xl, without its name; None if there is no command that xl knows of."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        at += 1
        if words[at - 1] == "--":
            break
        if not _XL_OPTIONS.issuperset(words[at - 1][1:]):
            return None
    if at == len(words):
        return None
    return Call(tuple(words[:at]), words[at], tuple(words[at + 1 :]))


def parse_creation(arguments: Sequence[str]) -> Creation | None:
    """Read what follows ``xl create``; None for what xl refuses, its help, and a dry run."""
    words = iter(arguments)
    path = None
    if arguments and not arguments[0].startswith("-") and "=" not in arguments[0]:
        path = next(words)
    read = _Options(path)
    for word in words:
        if word == "--":
            read.others += words
        elif not word.startswith("-") or word == "-":
            read.others.append(word)
        elif not (read.long(word, words) if word.startswith("--") else read.short(word, words)):
            return None
    return read.creation()


class _Options:
    """What getopt finds, one word after the other; each answers whether xl would go on."""

    __slots__ = ("letters", "others", "path", "typed")

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.letters: set[str] = set()
        self.typed: list[str] = []
        self.others: list[str] = []

    def long(self, word: str, words: Iterator[str]) -> bool:
        name, has_value, value = word[2:].partition("=")
        names = [long for long in _LONG_OPTIONS if long.startswith(name)]
        if name not in names and len(names) != 1:
            return False
        letter = _LONG_OPTIONS[name if name in names else names[0]]
        if letter == "f":
            return self._file(value if has_value else next(words, None))
        self.letters.add(letter)
        self.typed.append(word)
        return not has_value

    def short(self, word: str, words: Iterator[str]) -> bool:
        letters, is_file, value = word[1:].partition("f")
        if letters:
            self.letters.update(letters)
            self.typed.append(f"-{letters}")
        return self._file(value or next(words, None)) if is_file else True

    def _file(self, path: str | None) -> bool:
        self.path = path
        return path is not None

    def creation(self) -> Creation | None:
        settings = tuple(word for word in self.others if "=" in word)
        paths = [word for word in self.others if "=" not in word]
        if not self.letters <= _OPTIONS - {"n"} or len(paths) + (self.path is not None) != 1:
            return None
        path = paths[0] if self.path is None else self.path
        return Creation(path, settings, tuple(self.typed), frozenset(self.letters))


def merged(config_text: str, settings: Sequence[str]) -> str:
    """Return a config with the ``key=value`` of a command line in it: a line each, at the end.

    The last one of a key counts, so they outrank the file. They are in the grammar of the file:
    strings have quotes, which a shell has to be kept from taking away. Raises `HomenodeError` for
    what was no UTF-8, as the file has to be.
    """
    for setting in settings:
        try:
            setting.encode()
        except UnicodeEncodeError:
            raise HomenodeError(f"the argument {setting!r} is no text: it is not UTF-8") from None
    return "\n".join((config_text, *settings, "", "")) if settings else config_text


def placed(
    error: ParseError, *, source: str, config_text: str, settings: Sequence[str]
) -> ParseError:
    """Return an error about `merged` text as one about the argument that it is in, if it is.

    `source` is what messages call the text as a whole.
    """
    if error.line is None or error.source != source:
        return error
    first = config_text.count("\n") + 2
    for setting in settings:
        after = first + setting.count("\n") + 1
        if first <= error.line < after:
            hint = error.hint or """strings need quotes that reach xl: 'key="value"'"""
            return ParseError(error.message, source=f"the argument {setting!r}", hint=hint)
        first = after
    return error
