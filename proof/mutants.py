"""Small defects, put into a module one at a time: what `proof.mutation` tries on the tests.

A mutant is one change of one node of the syntax tree:

    compare     <  to <=, == to !=, is to is not, in to not in, and back
    arithmetic  + to -, * to //, % to //, << to >>, & to |, ^ to &, and back, `x += 1` too
    boolean     and to or, and back; not, - and ~ left out
    condition   of if, while, a conditional expression or a comprehension: turned round
    constant    n to n + 1, True to False, a text to another one
    return      `return x` to `return None`
    slice       the lower or the upper bound, or the step, left out
    argument    a named argument, or the last one of several, left out
    call        min to max, any to all, and back; sorted, list, tuple, set, abs, reversed left out
    statement   a call for its effect, +=, raise, break, continue, or a bare return left out

Not changed: annotations and docstrings, assertions and `strict=` of zip, `__repr__`, `__slots__`,
imports, decorators, and the wording of messages: texts within f-strings, texts with a blank in
them. What is *in* a message (the expressions of an f-string) is changed as all else.
"""

import ast
import builtins
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import NamedTuple

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_OTHER_CALL = {"min": "max", "max": "min", "any": "all", "all": "any"}
_ASSERTED = "asserted"
_BARE = {"sorted", "list", "tuple", "set", "abs", "reversed"}

Change = Callable[[ast.AST], ast.AST | None]
"""What makes the other node of one; None: the statement goes."""


class Mutant(NamedTuple):
    """One change: where, in which function (None: of the module or a class), and what it reads."""

    path: str
    number: int
    kind: str
    line: int
    lines: tuple[int, int]
    function: str | None
    text: str

    @property
    def name(self) -> str:
        """What it is found again by."""
        return f"{self.path}:{self.line} #{self.number}"


class _Place(NamedTuple):
    parent: ast.AST
    field: str
    index: int | None
    lines: tuple[int, int]
    function: str | None


class Module:
    """A module and all that can be changed in it; `name` is what its mutants call it."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.source = path.read_text()
        self.tree = ast.parse(self.source)
        self.file = str(path.resolve())
        self._changes = list(_changes(self.tree))

    def mutants(self) -> list[Mutant]:
        """Return all mutants of the module."""
        found = []
        for number, (place, kind, change, node) in enumerate(self._changes):
            if kind == _ASSERTED:
                continue
            before = ast.unparse(node)
            made = change(node)
            after = "(nothing)" if made is None else ast.unparse(ast.fix_missing_locations(made))
            line = getattr(node, "lineno", place.lines[0])
            text = f"{_short(before)}  ->  {_short(after)}"
            found.append(Mutant(self.name, number, kind, line, place.lines, place.function, text))
        return found

    @cached_property
    def original(self) -> CodeType:
        """The code of the module as it is."""
        return compile(self.tree, self.file, "exec")

    def mutated(self, number: int, *, alone: bool = False) -> CodeType:
        """Return its code with one change, which stays in it: a module is changed once.

        `alone`: of the class or function only that the change is in.
        """
        place, _, change, node = self._changes[number]
        made = change(node)
        new = ast.Pass() if made is None else made
        ast.copy_location(new, node)
        _put(place, new)
        line = place.lines[0]
        body = self.tree.body
        if alone:
            body = [one for one in body if one.lineno <= line <= (one.end_lineno or line)]
        tree = ast.fix_missing_locations(ast.Module(body, []))
        return compile(tree, self.file, "exec")


def _put(place: _Place, node: ast.AST) -> None:
    if place.index is None:
        setattr(place.parent, place.field, node)
    else:
        getattr(place.parent, place.field)[place.index] = node


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 70 else text[:67] + "..."


def _changes(tree: ast.Module) -> Iterator[tuple[_Place, str, Change, ast.AST]]:
    for place, node in _nodes(tree, (1, 1), None, ()):
        for kind, change in _changes_of(node, place):
            yield place, kind, change, node


def _nodes(
    parent: ast.AST, lines: tuple[int, int], function: str | None, scope: tuple[str, ...]
) -> Iterator[tuple[_Place, ast.AST]]:
    for field, value in ast.iter_fields(parent):
        if _is_left_alone(parent, field):
            continue
        several = isinstance(value, list)
        for index, node in enumerate(value if several else [value]):
            if not isinstance(node, ast.AST) or _is_text_alone(node):
                continue
            own_lines = _header(node) if isinstance(node, ast.stmt) else lines
            inside, own_scope = function, scope
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                if node.name == "__repr__":
                    continue
                own_scope = (*scope, node.name)
                if isinstance(node, ast.FunctionDef) and function is None:
                    inside = ".".join(own_scope)
            # What stands before the body (defaults, decorators) is run with the module.
            outside = (
                function if field != "body" or not isinstance(parent, ast.FunctionDef) else inside
            )
            yield _Place(parent, field, index if several else None, own_lines, outside), node
            yield from _children(node, own_lines, function, inside, own_scope)


def _children(
    node: ast.AST,
    lines: tuple[int, int],
    function: str | None,
    inside: str | None,
    scope: tuple[str, ...],
) -> Iterator[tuple[_Place, ast.AST]]:
    if not isinstance(node, ast.FunctionDef):
        yield from _nodes(node, lines, function, scope)
        return
    # What stands before the body (defaults) is run where the function is made.
    yield from _nodes(node.args, lines, function, scope)
    body = ast.Module(node.body, [])
    for place, inner in _nodes(body, lines, inside, scope):
        yield (place._replace(parent=node) if place.parent is body else place), inner


def _header(node: ast.stmt) -> tuple[int, int]:
    body = getattr(node, "body", None)
    if body:
        return node.lineno, max(node.lineno, body[0].lineno - 1)
    return node.lineno, node.end_lineno or node.lineno


def _is_left_alone(parent: ast.AST, field: str) -> bool:
    if field in {"annotation", "returns", "decorator_list", "bases", "ctx", "op", "ops"}:
        return True
    if isinstance(parent, ast.Assert | ast.Import | ast.ImportFrom | ast.Pass):
        return True
    if isinstance(parent, ast.ClassDef) and field == "keywords":
        return True
    if isinstance(parent, ast.FormattedValue) and field == "format_spec":
        return True
    targets = getattr(parent, "targets", [])
    return any(isinstance(one, ast.Name) and one.id == "__slots__" for one in targets)


def _is_text_alone(node: ast.AST) -> bool:
    # A docstring, or dots in place of a body.
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes_of(node: ast.AST, place: _Place) -> Iterator[tuple[str, Change]]:
    yield from _operators(node)
    yield from _conditions(node)
    yield from _constants(node, place)
    yield from _calls(node)
    yield from _statements(node, place)
    if isinstance(node, ast.Slice):
        for field in ("lower", "upper", "step"):
            if getattr(node, field) is not None:
                yield "slice", _with(field, None)


def _with(field: str, value: object) -> Change:
    """Return the change that gives a copy of the node with another value of a field."""

    def change(node: ast.AST) -> ast.AST:
        fields = dict(ast.iter_fields(node))
        return ast.copy_location(type(node)(**{**fields, field: value}), node)

    return change


def _operators(node: ast.AST) -> Iterator[tuple[str, Change]]:
    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            if type(op) in _SWAPPED:
                ops = [*node.ops[:at], _SWAPPED[type(op)](), *node.ops[at + 1 :]]
                yield "compare", _with("ops", ops)
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _SWAPPED:
        yield "arithmetic", _with("op", _SWAPPED[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield "boolean", _with("op", _SWAPPED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp):
        operand = node.operand
        yield "boolean" if isinstance(node.op, ast.Not) else "arithmetic", lambda _: operand


def _turned(test: ast.expr) -> ast.expr | None:
    # What the operators change already is not turned round once more.
    plain = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    equality = isinstance(test, ast.Compare) and not isinstance(
        test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE
    )
    return None if plain or equality else ast.UnaryOp(ast.Not(), test)


def _conditions(node: ast.AST) -> Iterator[tuple[str, Change]]:
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        turned = _turned(node.test)
        if turned is not None and not _is_typing(node.test):
            yield "condition", _with("test", turned)
    elif isinstance(node, ast.comprehension):
        for at, test in enumerate(node.ifs):
            turned = _turned(test)
            if turned is not None:
                yield "condition", _with("ifs", [*node.ifs[:at], turned, *node.ifs[at + 1 :]])


def _is_typing(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _constants(node: ast.AST, place: _Place) -> Iterator[tuple[str, Change]]:
    if not isinstance(node, ast.Constant) or isinstance(place.parent, ast.JoinedStr):
        return
    value = node.value
    if isinstance(value, bool):
        yield _constant_of(place.parent), _with("value", not value)
    elif isinstance(value, int | float):
        yield "constant", _with("value", value + 1)
    elif isinstance(value, str) and " " not in value.strip():
        yield "constant", _with("value", f"{value}XX")


def _constant_of(parent: ast.AST) -> str:
    return _ASSERTED if isinstance(parent, ast.keyword) and parent.arg == "strict" else "constant"


def _calls(node: ast.AST) -> Iterator[tuple[str, Change]]:
    if not isinstance(node, ast.Call):
        return
    for at in range(len(node.keywords)):
        kind = _ASSERTED if node.keywords[at].arg == "strict" else "argument"
        yield kind, _with("keywords", node.keywords[:at] + node.keywords[at + 1 :])
    if len(node.args) > 1:
        yield "argument", _with("args", node.args[:-1])
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in _OTHER_CALL:
        yield "call", _with("func", ast.Name(_OTHER_CALL[name], ast.Load()))
    if name in _BARE and node.args and hasattr(builtins, name):
        first = node.args[0]
        yield "call", lambda _: first


def _statements(node: ast.AST, place: _Place) -> Iterator[tuple[str, Change]]:
    if isinstance(node, ast.Return):
        is_none = isinstance(node.value, ast.Constant) and node.value.value is None
        if node.value is None:
            yield "statement", lambda _: None
        elif not is_none:
            yield "return", _with("value", ast.Constant(None))
    elif isinstance(node, ast.AugAssign | ast.Raise | ast.Break | ast.Continue) or (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and place.function is not None
    ):
        yield "statement", lambda _: None
