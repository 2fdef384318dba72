"""The settings that ``homenode doctor`` shows: each with its value, and where that is from."""

import os

from homenode.cli.guest_text import print_table
from homenode.configuration import PATH, KeeperConfiguration, keeper_configuration
from homenode.errors import HomenodeError

_VARIABLES = ("HOMENODE_CONFIG", "HOMENODE_URI", "HOMENODE_TRACE", "HOMENODE_SSH_COMMAND")
"""What of the environment changes what homenode does."""

BUILT_IN = "built in"
_HEADINGS = ("Setting", "Value", "From")


class Setting(dict[str, object]):
    """One setting as the document has it: its name, its value or null, and the source of that."""

    def __init__(self, name: str, value: float | str | None, source: str | None) -> None:
        super().__init__(name=name, value=value, source=source or BUILT_IN)


def settings_told() -> tuple[list[Setting], HomenodeError | None]:
    """Return all settings, and why the configuration cannot be read, if that is so.

    Those of a configuration that cannot be read are left out: what would hold is not known.
    """
    told = [
        Setting(name, os.environ[name], "the environment")
        for name in _VARIABLES
        if os.environ.get(name)
    ]
    try:
        configured = keeper_configuration()
    except HomenodeError as error:
        return told, error
    return [*told, *_of_keeper(configured)], None


def _of_keeper(configured: KeeperConfiguration) -> list[Setting]:
    texts = {"connect": configured.connect, "metrics": configured.metrics}
    values: dict[str, float | str | None] = {**configured.settings._asdict(), **texts}
    return [
        Setting(f"keeper.{name}", value, configured.sources.get(name))
        for name, value in values.items()
    ]


def print_settings(settings: list[Setting]) -> None:
    """Print them as a table, and which file would change them."""
    rows = [_HEADINGS, *(_row(setting) for setting in settings)]
    print_table(rows, wrapped=("From",))
    named = os.environ.get("HOMENODE_CONFIG") or PATH
    print(f"read are {named}, and *.toml in {named.removesuffix('.toml')}.d, in their order")


def _row(setting: Setting) -> tuple[str, str, str]:
    value = setting["value"]
    text = "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return str(setting["name"]), text, str(setting["source"])
