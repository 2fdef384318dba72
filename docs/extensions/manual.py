"""What the book takes from homenode itself: options, examples, settings, policies and facts.

``{verb} NAME`` is the help of a verb as a manual page has it; ``{verbs}`` lists them all,
``{statuses}`` the exit statuses, ``{settings}`` what homenode.toml may say, ``{policies}`` and
``{facts}`` the registers of placement. So help, book and manual pages cannot differ.
"""

from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterable
from importlib import import_module

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from homenode.cli.main import VERBS
from homenode.errors import ExitStatus
from homenode.fleet.policies import HOST_FACTS, HOST_POLICIES
from homenode.keeper.settings import NUMBERS, Settings
from homenode.placement.facts import FACTS
from homenode.placement.policies import DEFAULT, POLICIES

_MEANINGS = {
    ExitStatus.DONE: "done",
    ExitStatus.DOES_NOT_FIT: "the guest does not fit: an answer, told on standard output",
    ExitStatus.BAD_INPUT: "usage, or bad input; nothing was changed",
    ExitStatus.HYPERVISOR: "the hypervisor refused, or did not answer",
    ExitStatus.MENDING_NEEDED: "check or doctor found something to mend: an answer, too",
    ExitStatus.UNDONE: "applied in part, and undone",
    ExitStatus.INTERRUPTED: "interrupted",
}


class _Verb(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = import_module(f"homenode.cli.{self.arguments[0]}")
        if not hasattr(module, "options"):
            return [_section(self, "Usage", [_literal(module.HELP)])]
        parser: ArgumentParser = module.options()
        parser.prog = f"homenode {self.arguments[0]}"
        examples, notes = _epilog(parser.epilog or "")
        found = [
            _section(self, "Synopsis", [_literal(parser.format_usage().removeprefix("usage: "))]),
            _section(self, "Description", [_paragraph(parser.description or ""), *notes]),
        ]
        positional = [action for action in _shown(parser) if not action.option_strings]
        options = [action for action in _shown(parser) if action.option_strings]
        if positional:
            found.append(_section(self, "Arguments", [_definitions(positional)]))
        found.append(_section(self, "Options", [_definitions(options)]))
        found.append(_section(self, "Examples", [_literal(examples)]))
        return found


class _Table(Directive):
    """A list of names with what they mean; subclasses say which."""

    def run(self) -> list[nodes.Node]:
        found = nodes.definition_list()
        for name, lines in self.rows():
            item = nodes.definition_list_item()
            item += nodes.term("", "", nodes.literal("", name))
            item += nodes.definition("", *(_paragraph(line) for line in lines))
            found += item
        return [found]

    def rows(self) -> Iterable[tuple[str, list[str]]]:
        raise NotImplementedError


class _Verbs(_Table):
    def rows(self) -> Iterable[tuple[str, list[str]]]:
        return ((verb, [purpose]) for verb, purpose in VERBS.items())


class _Statuses(_Table):
    def rows(self) -> Iterable[tuple[str, list[str]]]:
        return ((str(status.value), [_MEANINGS[status]]) for status in ExitStatus)


class _Settings(_Table):
    def rows(self) -> Iterable[tuple[str, list[str]]]:
        default = Settings()
        for name, number in NUMBERS.items():
            value = getattr(default, name)
            limits = f"Default {value:g}; {number.least:g} to {number.most:g}."
            yield name, [f"{number.meaning[0].upper()}{number.meaning[1:]}. {limits}"]


class _Policies(_Table):
    def rows(self) -> Iterable[tuple[str, list[str]]]:
        for known in POLICIES.values():
            also = f" (also {', '.join(known.aliases)})" if known.aliases else ""
            default = " (the default)" if known.name == DEFAULT else ""
            yield known.name + also + default, [known.purpose, f"Order: {known.order}"]


class _Facts(_Table):
    def rows(self) -> Iterable[tuple[str, list[str]]]:
        for kind in FACTS.values():
            yield kind.name, [kind.meaning + (f" [{kind.unit}]" if kind.unit else "")]


class _HostPolicies(_Table):
    def rows(self) -> Iterable[tuple[str, list[str]]]:
        for known in HOST_POLICIES.values():
            yield known.name, [known.purpose, f"Order: {known.order or 'of the fleet'}"]


class _HostFacts(_Table):
    def rows(self) -> Iterable[tuple[str, list[str]]]:
        for kind in HOST_FACTS.values():
            yield kind.name, [kind.meaning + (f" [{kind.unit}]" if kind.unit else "")]


def _shown(parser: ArgumentParser) -> list[Action]:
    return [action for action in parser._actions if action.help != SUPPRESS]  # noqa: SLF001 - argparse has no other way


def _definitions(actions: list[Action]) -> nodes.definition_list:
    found = nodes.definition_list()
    for action in actions:
        item = nodes.definition_list_item()
        item += nodes.term("", "", nodes.literal("", _invocation(action)))
        values = vars(action) | {"prog": "homenode"}
        item += nodes.definition("", _paragraph((action.help or "") % values))
        found += item
    return found


def _invocation(action: Action) -> str:
    if not action.option_strings:
        return f"{action.metavar or action.dest}"
    value = action.metavar or (action.choices and "|".join(map(str, action.choices)))
    value = value or (action.dest.upper() if action.nargs != 0 else "")
    return ", ".join(f"{option} {value}".rstrip() for option in action.option_strings)


def _epilog(text: str) -> tuple[str, list[nodes.Node]]:
    """Return the examples of a help text, and what it tells below them as paragraphs."""
    head, _, rest = text.removeprefix("examples:\n").partition("\n\n")
    examples = "\n".join(line.removeprefix("  ") for line in head.splitlines())
    found: list[nodes.Node] = []
    for block in rest.split("\n\n"):
        if block.startswith("  "):
            found.append(_literal(block))
        elif block.strip():
            found.append(_paragraph(" ".join(block.split())))
    return examples, found


def _literal(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text.strip("\n"), language="none")


def _paragraph(text: str) -> nodes.paragraph:
    return nodes.paragraph("", text)


def _section(directive: Directive, title: str, content: list[nodes.Node]) -> nodes.section:
    name = f"{directive.arguments[0]}-{title.lower()}"
    found = nodes.section(ids=[name], names=[name])
    found += nodes.title("", title)
    found += content
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Be an extension of Sphinx."""
    app.add_directive("verb", _Verb)
    app.add_directive("verbs", _Verbs)
    app.add_directive("statuses", _Statuses)
    app.add_directive("settings", _Settings)
    app.add_directive("policies", _Policies)
    app.add_directive("facts", _Facts)
    app.add_directive("host-policies", _HostPolicies)
    app.add_directive("host-facts", _HostFacts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
