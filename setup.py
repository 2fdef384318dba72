"""The optional compiled build of the simulators; all else is in pyproject.toml.

    pip install cython && HOMENODE_COMPILED=1 pip install --no-build-isolation .

The modules are compiled from the source that runs where no compiler is: their types are read from
it, and written beside it as Cython's ``.pxd`` for the time of the build. An attribute that is made
by ``flat.integers`` is an array of 64-bit numbers, a parameter that is annotated ``int`` is one
number, and so on; ``flat.Wide`` is a number of any size.
"""

import ast
import os
from pathlib import Path

from setuptools import setup

FOLDER = Path("src/homenode/scheduler")
MODULES = ("agenda", "engine", "credit", "run_queues", "credit2", "ideal")

_ARRAYS = {
    "integers": "long long[::1]",
    "bits": "unsigned long long[::1]",
    "reals": "double[::1]",
}
_SCALARS = {"int": "long long", "float": "double", "bool": "bint", "None": "void"}
_SETS = "list[int]"
_DIRECTIVES = {
    "language_level": 3,
    "infer_types": True,
    "annotation_typing": False,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "show_performance_hints": False,
}


def declarations(module: str, text: str) -> str:
    """Return the ``.pxd`` of a module."""
    tree = ast.parse(text)
    lines = ["from libc cimport math", "from homenode.scheduler cimport flat"]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module in (
            f"homenode.scheduler.{name}" for name in MODULES
        ):
            classes = [alias.name for alias in node.names if alias.name[0].isupper()
                       and not alias.name.isupper()]  # fmt: skip
            if classes:
                lines.append(f"from {node.module} cimport {', '.join(classes)}")
    if module == "agenda":
        lines = lines[1:]
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "int":
            lines.append(f"cdef long long {ast.unparse(node.target)}")
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "float":
            lines.append(f"cdef double {ast.unparse(node.target)}")
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            lines += ["", *_class(node)]
    return "\n".join(lines) + "\n"


def _class(node: ast.ClassDef) -> list[str]:
    base = f"({ast.unparse(node.bases[0])})" if node.bases else ""
    lines = [f"cdef class {node.name}{base}:"]
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    for method in methods:
        if method.name == "__init__":
            lines += [f"    cdef readonly {kind} {name}" for name, kind in _attributes(method)]
    for method in methods:
        if (line := _method(method)) is not None:
            lines.append(f"    {line}")
    return lines if len(lines) > 1 else [*lines, "    pass"]


def _attributes(method: ast.FunctionDef) -> list[tuple[str, str]]:
    parameters = {
        argument.arg: ast.unparse(argument.annotation)
        for argument in (*method.args.args, *method.args.kwonlyargs)
        if argument.annotation is not None
    }
    found: dict[str, str] = {}
    for node in ast.walk(method):
        target = value = None
        annotation = ""
        if isinstance(node, ast.AnnAssign):
            target, value, annotation = node.target, node.value, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        if (
            not isinstance(target, ast.Attribute)
            or not isinstance(target.value, ast.Name)
            or target.value.id != "self"
            or value is None
        ):
            continue
        found.setdefault(target.attr, _kind(value, annotation, parameters))
    return list(found.items())


def _kind(value: ast.expr, annotation: str, parameters: dict[str, str]) -> str:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if ast.unparse(value.func.value) == "flat" and value.func.attr in _ARRAYS:
            return _ARRAYS[value.func.attr]
        if value.func.attr == "_sets_of":
            return _ARRAYS["bits"]
    if annotation:
        return _SCALARS.get(annotation, annotation if annotation == "Agenda" else "object")
    if isinstance(value, ast.Name) and value.id in parameters:
        return _SCALARS.get(parameters[value.id], "object")
    if isinstance(value, ast.Constant):
        return _SCALARS.get(type(value.value).__name__, "object")
    if isinstance(value, ast.Compare):
        return "bint"
    if "random()" in ast.unparse(value):
        return "double"
    return "long long"


def _method(method: ast.FunctionDef) -> str | None:
    if method.name.startswith("__") or method.args.kwonlyargs or method.args.defaults:
        return None
    arguments = ["self"]
    for argument in method.args.args[1:]:
        kind = "" if argument.annotation is None else ast.unparse(argument.annotation)
        if kind == _SETS:
            arguments.append(f"{_ARRAYS['bits']} {argument.arg}")
        elif kind in _SCALARS:
            arguments.append(f"{_SCALARS[kind]} {argument.arg}")
        else:
            return None
    returned = "None" if method.returns is None else ast.unparse(method.returns)
    if returned not in _SCALARS:
        return None
    access = "cdef" if method.name.startswith("_") else "cpdef"
    return f"{access} {_SCALARS[returned]} {method.name}({', '.join(arguments)}) noexcept"


def extensions() -> list[object]:
    """Return the modules to be compiled, if that is asked for."""
    if os.environ.get("HOMENODE_COMPILED") != "1":
        return []
    from Cython.Build import cythonize
    from setuptools import Extension

    written = []
    try:
        for module in MODULES:
            path = FOLDER / f"{module}.pxd"
            path.write_text(declarations(module, (FOLDER / f"{module}.py").read_text("utf-8")))
            written.append(path)
        # Contraction of a product and a sum would round otherwise than Python does.
        made = [
            Extension(
                f"homenode.scheduler.{module}",
                [str(FOLDER / f"{module}.py")],
                extra_compile_args=["-ffp-contract=off"],
            )
            for module in MODULES
        ]
        return list(cythonize(made, compiler_directives=_DIRECTIVES, include_path=["src"]))
    finally:
        for path in written:
            path.unlink()


setup(ext_modules=extensions())
