"""Where a target is and which modules it is about, told without importing these.

They are watched as they are imported, so that has to be known before.
"""

import ast
from pathlib import Path

_TARGETS = Path(__file__).parent / "targets"
_SOURCE = Path(__file__).parent.parent / "src"


def family_and_others(name: str) -> tuple[str, list[str]]:
    """Return the family of the target, and all modules of homenode that it does not cover."""
    for path in sorted(_TARGETS.glob("[!_]*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if _is_target(node, name):
                covered = {f"homenode.{module}" for module in ast.literal_eval(node.args[2])}
                return path.stem, sorted(_modules() - covered)
    raise LookupError(name)


def _modules() -> set[str]:
    paths = (path.relative_to(_SOURCE) for path in (_SOURCE / "homenode").rglob("*.py"))
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}


def _is_target(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Target"
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value == name
    )
