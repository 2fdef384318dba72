"""Polars, which is not needed to place a guest, and so may be missing."""

from homenode.errors import HomenodeError

try:
    import polars as pl
except ImportError:
    raise HomenodeError(
        "replaying traces needs polars", hint="pip install 'homenode[replay]'"
    ) from None

__all__ = ["pl"]
