"""The table of targets: every reader of homenode that is given something from outside."""

from importlib import import_module

from fuzz.target import Target

FAMILIES = ("words", "xen", "libvirt", "linux", "machines", "files", "commands")
"""The modules in ``fuzz.targets``."""


def targets_of(family: str) -> dict[str, Target]:
    """Return the targets of one of the families by their names."""
    listed: tuple[Target, ...] = import_module(f"fuzz.targets.{family}").TARGETS
    return {target.name: target for target in listed}


def all_targets() -> dict[str, Target]:
    """Return all targets by their names."""
    return {name: target for family in FAMILIES for name, target in targets_of(family).items()}
