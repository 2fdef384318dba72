"""A trace from a file, whatever its format: that is told by the columns in its header."""

from array import array
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from homenode.errors import ParseError
from homenode.fleet.reading.rules import Rules
from homenode.fleet.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from homenode.fleet.reading.columns import Column
    from homenode.fleet.reading.events import Draft
    from homenode.fleet.reading.tables import TableFile

__all__ = ["Rules", "read_trace"]

_ENDINGS = (".gz", ".csv", ".parquet")


class _Format(NamedTuple):
    """A format: what it is called, the columns that tell it, and its reader."""

    name: str
    columns: tuple[str, ...]
    read: "Callable[[TableFile, Rules], Draft]"


def read_trace(path: Path | str, rules: Rules | None = None) -> Trace:
    """Return the trace in the file at `path`, with what `rules` supply.

    CSV (also compressed by gzip) or Parquet, in one of the formats of this package. Raises
    `ParseError` with the row and the column for what is wrong with the file, and `HomenodeError`
    for rules that do not go with it.
    """
    # Polars takes a while to import, and may be missing.
    from homenode.fleet.reading.events import trace_of  # noqa: PLC0415
    from homenode.fleet.reading.tables import opened  # noqa: PLC0415

    rules = rules or Rules()
    rules.check()
    path = Path(path)
    with opened(path) as table:
        draft = _recognised(table).read(table, rules)
    name = path.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    trace = trace_of(draft, rules, name=name or path.name, source=str(path))
    return trace if rules.groups else _without_groups(trace)


def _without_groups(trace: Trace) -> Trace:
    if not trace.membership:
        return trace
    said = (*trace.synthetic, "groups are ignored")
    return trace._replace(memberships=(), membership=array("i"), synthetic=said)


def _formats() -> tuple[_Format, ...]:
    from homenode.fleet.reading import azure, huawei, own, vmagent  # noqa: PLC0415 - as above

    return (
        _Format("homenode's own", _telling(own.COLUMNS), own.read),
        _Format("Huawei's topology-aware", _telling(huawei.COLUMNS), huawei.read),
        _Format("VMAgent's", _telling(vmagent.COLUMNS), vmagent.read),
        _Format("Azure's", _telling(azure.COLUMNS), azure.read),
    )


def _telling(columns: "Sequence[Column]") -> tuple[str, ...]:
    return tuple(column.name for column in columns if not column.may_be_missing)


def _recognised(table: "TableFile") -> _Format:
    formats = _formats()
    for known in formats:
        if set(known.columns) <= set(table.names):
            return known
    near = max(formats, key=lambda known: len(set(known.columns) & set(table.names)))
    missing = [name for name in near.columns if name not in table.names]
    if len(missing) == len(near.columns):
        raise ParseError(
            "is no trace that is known here",
            source=table.source,
            hint=f"homenode's own format has columns {', '.join(formats[0].columns)}",
        )
    raise ParseError(
        f"column {missing[0]!r} is missing in a trace of {near.name} format",
        source=table.source,
        hint=f"it has columns {', '.join(near.columns)}",
    )
