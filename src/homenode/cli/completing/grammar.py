"""What may stand where on the command line, as the verbs' parsers have it."""

from argparse import SUPPRESS, Action, ArgumentParser
from enum import StrEnum
from importlib import import_module
from typing import NamedTuple

from homenode.cli.main import VERBS


class Kind(StrEnum):
    """What kind of word a value is."""

    NOTHING = "nothing"
    """Numbers, sizes and names that nobody can guess."""
    WORDS = "words"
    """One of a few words."""
    FILE = "file"
    FOLDER = "folder"
    URI = "uri"
    GUEST = "guest"
    GUEST_OR_FILE = "guest_or_file"
    POLICY = "policy"
    """A policy for nodes, or facts with commas between them."""
    HOST_POLICY = "host_policy"
    ANY_POLICY = "any_policy"
    """For nodes, for hosts, or ``HOST/NODE``."""


class Value(NamedTuple):
    """What an option wants, or what stands at a position."""

    kind: Kind
    metavar: str = ""
    words: tuple[str, ...] = ()


class Option(NamedTuple):
    """An option: its names, what it does, what it wants, and with which others it does not go."""

    names: tuple[str, ...]
    purpose: str
    value: Value | None = None
    repeats: bool = False
    excludes: frozenset[str] = frozenset()


class Verb(NamedTuple):
    """A verb: its options, what stands at its positions, and whether the last may come again."""

    name: str
    purpose: str
    options: tuple[Option, ...]
    positions: tuple[Value, ...] = ()
    repeats: bool = False


URIS = ("xen:///", "xen+ssh://", "qemu:///system", "qemu+ssh://", "local:///", "capture:", "sim:")
"""What a connection URI begins with, or is."""

KINDS = {
    "ADDRESS": Kind.NOTHING,
    "CHANGE": Kind.NOTHING,
    "COMMAND": Kind.NOTHING,
    "FILE": Kind.FILE,
    "FOLDER": Kind.FOLDER,
    "GUEST": Kind.GUEST,
    "KIND": Kind.NOTHING,
    "KIND[:SIZE]": Kind.NOTHING,
    "L": Kind.NOTHING,
    "N": Kind.NOTHING,
    "N[,N]...": Kind.NOTHING,
    "NAME": Kind.GUEST,
    "NODES": Kind.NOTHING,
    "P": Kind.POLICY,
    "P[,P...]": Kind.ANY_POLICY,
    "S": Kind.NOTHING,
    "SHARE": Kind.NOTHING,
    "SIZE": Kind.NOTHING,
    "TIME": Kind.NOTHING,
    "TRACE": Kind.FILE,
    "UNIT": Kind.NOTHING,
    "URI": Kind.URI,
    "VCPUS[:NODES]": Kind.NOTHING,
    "scenario": Kind.FILE,
    "tcp://…": Kind.NOTHING,
    "vcpus=N,memory=N": Kind.NOTHING,
}
"""What is meant by the word that stands for a value in the help of a verb."""

_OTHERWISE = {
    ("explain", "files"): Kind.GUEST_OR_FILE,
    ("place", "host_policy"): Kind.HOST_POLICY,
    ("policies", "check"): Kind.ANY_POLICY,
    ("simulate", "variant"): Kind.NOTHING,
}

_CONNECTION = Option(("-c", "--connect"), "the host", Value(Kind.URI, "URI"), repeats=True)
_HELP = Option(("-h", "--help"), "show the help")
_WITHOUT_PARSER = {
    # xl's own commands and options are xl's to complete.
    "xl": (
        (_CONNECTION, _HELP),
        (
            Value(Kind.WORDS, "COMMAND", ("create", "node-affinity")),
            Value(Kind.GUEST_OR_FILE, "CONFIG"),
        ),
        True,
    ),
    "numad": (
        (
            Option(("-w",), "the question", Value(Kind.NOTHING, "VCPUS[:MIB]")),
            Option(("-V", "--version"), "show the version"),
            _HELP,
        ),
        (),
        False,
    ),
    "hook": (
        (_HELP,),
        (
            Value(Kind.WORDS, "HYPERVISOR", ("libvirt",)),
            Value(Kind.GUEST, "GUEST"),
            Value(Kind.WORDS, "OPERATION", ("prepare", "release", "migrate", "restore")),
        ),
        False,
    ),
}


def verbs() -> tuple[Verb, ...]:
    """Return all verbs."""
    return tuple(_verb(name) for name in VERBS)


def before_verbs() -> Verb:
    """Return what may stand before a verb, as if that were a verb without a name."""
    options = (_CONNECTION, _HELP, Option(("--version",), "show the version"))
    return Verb("", "", options, (Value(Kind.WORDS, "VERB", tuple(VERBS)),))


def numad() -> Verb:
    """Return ``homenode-numad``, which is a command of its own."""
    return next(verb for verb in verbs() if verb.name == "numad")


def _verb(name: str) -> Verb:
    if name in _WITHOUT_PARSER:
        return Verb(name, VERBS[name], *_WITHOUT_PARSER[name])
    parser: ArgumentParser = import_module(f"homenode.cli.{name}").options()
    # argparse has no other way to ask a parser what it takes.
    actions = [action for action in parser._actions if action.help != SUPPRESS]  # noqa: SLF001
    excludes = _exclusions(parser)
    options = tuple(
        _option(name, action, excludes.get(action.dest, frozenset()))
        for action in actions
        if action.option_strings
    )
    positional = [action for action in actions if not action.option_strings]
    return Verb(
        name,
        VERBS[name],
        options,
        tuple(_value(name, action) for action in positional),
        bool(positional) and positional[-1].nargs in ("+", "*"),
    )


def _option(verb: str, action: Action, excludes: frozenset[str]) -> Option:
    names = tuple(action.option_strings)
    repeats = type(action).__name__ == "_AppendAction"
    value = None if action.nargs == 0 else _value(verb, action)
    purpose = action.help or ""
    return Option(names, purpose, value, repeats, excludes - frozenset(names))


def _exclusions(parser: ArgumentParser) -> dict[str, frozenset[str]]:
    """Return the options that may not be given with an option, by its destination."""
    found: dict[str, frozenset[str]] = {}
    for group in parser._mutually_exclusive_groups:  # noqa: SLF001 - as above
        members = group._group_actions  # noqa: SLF001 - as above
        names = frozenset(name for action in members for name in action.option_strings)
        found |= {action.dest: names for action in members}
    return found


def _value(verb: str, action: Action) -> Value:
    metavar = str(action.metavar or action.dest)
    if action.choices is not None:
        return Value(Kind.WORDS, metavar, tuple(map(str, action.choices)))
    kind = _OTHERWISE.get((verb, action.dest)) or KINDS.get(metavar, Kind.NOTHING)
    return Value(kind, metavar)
