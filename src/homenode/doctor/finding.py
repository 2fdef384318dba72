"""What a diagnosis is made of: one finding for each thing that was looked at."""

from typing import Literal, NamedTuple

State = Literal["fine", "mend", "know", "unknown"]
"""``know`` is what may be meant so; nothing has to be mended."""


class Finding(NamedTuple):
    """One thing that was looked at: a stable code, how it is, why that matters, and the remedy."""

    code: str
    state: State
    text: str
    remedy: str = ""


def some(names: list[str] | tuple[str, ...]) -> str:
    """Return up to three names, and dots if there are more."""
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
