"""TOML, read so that whatever is wrong with it is a `ParseError`."""

from typing import Any

from homenode.errors import ParseError


def document(text: str, *, source: str, hint: str | None = None) -> dict[str, Any]:
    """Return what `text` says; `ParseError` with the line for what is no TOML.

    `hint` is for what may have been meant in its place.
    """
    import tomllib  # noqa: PLC0415 - brings in re, which most commands can do without

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ParseError("is nested too deep", source=source) from None
    except ValueError as error:
        # Not only what tomllib itself complains of: Python reads no number of 5000 digits.
        raise ParseError(f"is not TOML: {error}", source=source, hint=hint) from None
