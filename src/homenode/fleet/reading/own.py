"""Homenode's own format of traces: as CSV, as CSV compressed by gzip, and as Parquet.

A row is an event, in order::

    time_s,event,guest,vcpus,memory_mib,nodes,group,rule,domain
    0,create,web-1,4,16384,,web,anti-affinity,
    0,create,web-2,4,16384,,web,anti-affinity,
    12.5,create,database,48,393216,2,,,
    60,delete,web-1,,,,,,

=============== =============================================================== ===============
column          meaning                                                         of a create
=============== =============================================================== ===============
``time_s``      seconds since the trace began, from 0, never descending         needed
``event``       ``create`` or ``delete``                                        needed
``guest``       its name, a text or a whole number; it may be used again by     needed
                one who comes after the guest has gone
``vcpus``       how many, from 1                                                needed
``memory_mib``  memory in MiB, from 1                                           needed
``nodes``       on how many nodes it is; empty is as few as can be              may be empty
``group``       the group that it belongs to                                    may be empty
``rule``        of its group: ``affinity`` (all on one host),                   with a group
                ``anti-affinity`` (no two on a host), ``fault-domain`` (members
                of different domains in different racks)
``domain``      its fault domain in the group                                   if that is the
                                                                                rule
=============== =============================================================== ===============

Of a delete the first three columns count; the others are not looked at, but have to be of their
kind. The last four columns may be left out. Others than these are errors. Times are read to the
millisecond. In CSV, a name that holds commas or quotes is quoted; a line break cannot be in one.
"""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from homenode.errors import HomenodeError, ParseError
from homenode.fleet.groups import GROUP_RULES
from homenode.fleet.reading.columns import LATEST_S, MOST_GIB, MOST_NODES, MOST_VCPUS, Column, Rows
from homenode.fleet.reading.events import (
    Draft,
    check_membership,
    milliseconds,
    numbered,
    request_of,
)
from homenode.fleet.reading.library import pl
from homenode.fleet.reading.rules import Rules
from homenode.fleet.reading.tables import TableFile
from homenode.fleet.trace import Trace

COLUMNS = (
    Column("time_s", "number", most=LATEST_S),
    Column("event", "word", words=("create", "delete")),
    Column("guest", "text"),
    Column("vcpus", "whole", least=1, most=MOST_VCPUS, may_be_empty=True),
    Column("memory_mib", "whole", least=1, most=MOST_GIB << 10, may_be_empty=True),
    Column("nodes", "whole", least=1, most=MOST_NODES, may_be_empty=True, may_be_missing=True),
    Column("group", "text", may_be_empty=True, may_be_missing=True),
    Column("rule", "word", words=GROUP_RULES, may_be_empty=True, may_be_missing=True),
    Column("domain", "text", may_be_empty=True, may_be_missing=True),
)

_MEMBERSHIP = ("group", "rule", "domain")
_BARRED = "\r\n"
_EVENTS_AT_ONCE = 250_000


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


def read(table: TableFile, _: Rules) -> Draft:
    """Return what the events in `table` are."""
    _refuse_unknown(table)
    rows = table.read(COLUMNS)
    _fill_in(rows)
    _check(rows)
    comes = rows.frame["event"] == "create"
    events = numbered(rows, "guest", comes=comes)
    times_ms = rows.frame.select(milliseconds("time_s"))["time_s"]
    arrivals = rows.frame.filter(comes).select(
        "vcpus",
        (pl.col("memory_mib").cast(pl.Int64) * 1024).alias("memory_kib"),
        pl.col("nodes").fill_null(0),
        *(name for name in _MEMBERSHIP if name in rows),
    )
    return Draft(arrivals, events, times_ms)


def _refuse_unknown(table: TableFile) -> None:
    known = [column.name for column in COLUMNS]
    for name in table.names:
        if name not in known:
            from difflib import get_close_matches  # noqa: PLC0415 - only for the complaint

            near = get_close_matches(name[:80], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ParseError(f"there is no column {name!r:.40}", source=table.source, hint=hint)


def _fill_in(rows: Rows) -> None:
    """Add the columns that were left out; those on groups only if anybody has one."""
    frame = rows.frame
    columns = [] if "nodes" in rows else [pl.lit(None, pl.Int32).alias("nodes")]
    there = [name for name in _MEMBERSHIP if name in rows]
    if all(frame[name].null_count() == len(frame) for name in there):
        rows.frame = frame.drop(there).with_columns(columns)
        return
    columns += [pl.lit(None, pl.String).alias(name) for name in _MEMBERSHIP if name not in there]
    rows.frame = frame.with_columns(columns)


def _check(rows: Rows) -> None:
    comes = pl.col("event") == "create"
    rows.refuse_disorder("time_s", may_stay=True)
    for name in ("vcpus", "memory_mib"):
        rows.refuse(comes & pl.col(name).is_null(), name, "is empty, and event is create")
    rows.refuse(
        comes & (pl.col("nodes") > pl.col("vcpus")), "nodes", "{nodes} nodes for {vcpus} vcpus"
    )
    if "group" in rows:
        check_membership(rows, comes=comes)


def write_trace(trace: Trace, path: Path | str) -> None:
    """Write `trace` in this format: ``.csv``, ``.csv.gz`` or ``.parquet``, as its name ends.

    Read back it is the same trace, but for its name, source and `synthetic`, which are not
    written. Guests are named by their numbers. Memory that is no whole number of MiB is rounded up
    to one. The file is replaced as a whole, or stays as it was. Raises `HomenodeError` for what
    cannot be written: no guests, a request that is more than vcpus, memory and a number of nodes,
    a group whose name has a line break.
    """
    path = Path(path)
    write = _WRITERS.get(next((end for end in _WRITERS if path.name.endswith(end)), ""))
    if write is None:
        raise HomenodeError(
            f"{path}: what kind of file is that to be?", hint=f"end it in {', '.join(_WRITERS)}"
        )
    _refuse_unwritable(trace)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        try:
            with beside.open("wb") as file:
                write(trace, file)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise HomenodeError(f"{path}: cannot write it: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        raise HomenodeError(f"{path}: cannot write it: {error!s:.120}") from None


def _refuse_unwritable(trace: Trace) -> None:
    if not trace.wanted:
        raise HomenodeError(f"{trace.name}: there are no guests, and so no trace to be written")
    for request in trace.requests:
        plain = request_of(request.vcpus, request.memory_kib, request.node_count)
        if request._replace(name=plain.name, guest_memory_kib=plain.guest_memory_kib) != plain:
            raise HomenodeError(
                f"request {request.name!r}: a trace cannot say all that it wants",
                hint="it has vcpus, memory and a number of nodes",
            )
    for one in trace.memberships:
        if any(
            letter in _BARRED or "\ud800" <= letter <= "\udfff" for letter in one.group + one.domain
        ):
            raise HomenodeError(f"group {one.group!r:.40}: a name has no line breaks")
        if not one.group or bool(one.domain) != (one.rule == "fault-domain"):
            raise HomenodeError(
                f"group {one.group!r:.40} is {one.rule}, with domain {one.domain!r:.40}",
                hint="a group has a name, and a domain where its rule is fault-domain",
            )


def _frames(trace: Trace) -> Iterator[pl.DataFrame]:
    """Yield the rows, slice by slice; without the columns on groups if there are none."""
    sizes = pl.DataFrame(
        [(one.vcpus, -(-one.memory_kib // 1024), one.node_count) for one in trace.requests],
        schema={"vcpus": pl.Int32, "memory_mib": pl.Int64, "nodes": pl.Int32},
        orient="row",
    )
    groups = pl.DataFrame(
        [(one.group, one.rule, one.domain or None) for one in trace.memberships],
        schema=dict.fromkeys(_MEMBERSHIP, pl.String),
        orient="row",
    )
    wanted = pl.Series(trace.wanted, dtype=pl.UInt32)
    membership = pl.Series(trace.membership, dtype=pl.Int32)
    for begin in range(0, len(trace.events), _EVENTS_AT_ONCE):
        end = begin + _EVENTS_AT_ONCE
        frame = pl.DataFrame(
            {
                "time_ms": pl.Series(trace.times_ms[begin:end], dtype=pl.Int64),
                "number": pl.Series(trace.events[begin:end], dtype=pl.Int64),
            }
        ).select(
            time_s=_seconds("time_ms"),
            event=pl.when(pl.col("number") >= 0).then(pl.lit("create")).otherwise(pl.lit("delete")),
            guest=pl.when(pl.col("number") >= 0)
            .then(pl.col("number"))
            .otherwise(-1 - pl.col("number")),
        )
        comes = frame["event"] == "create"
        frame = frame.hstack(_of_arrivals(sizes, wanted.gather(frame["guest"]), comes))
        if len(membership):
            frame = frame.hstack(_of_arrivals(groups, membership.gather(frame["guest"]), comes))
        yield frame


def _seconds(column: str) -> pl.Expr:
    # Divided by polars, equal times were not always equal: it multiplies by 0.001 here and there.
    whole, rest = pl.col(column) // 1000, pl.col(column) % 1000
    text = whole.cast(pl.String) + "." + rest.cast(pl.String).str.zfill(3)
    return text.cast(pl.Float64)


def _of_arrivals(table: pl.DataFrame, number: pl.Series, comes: pl.Series) -> pl.DataFrame:
    """Return the rows of `table` with these numbers; null for those who go, and for -1."""
    index = pl.select(pl.when(comes & (number >= 0)).then(number)).to_series()
    return table.select(pl.all().gather(index))


def _write_csv(trace: Trace, file: _Writable) -> None:
    for at, frame in enumerate(_frames(trace)):
        file.write(frame.write_csv(include_header=at == 0).encode())


def _write_compressed(trace: Trace, file: IO[bytes]) -> None:
    # Neither its name nor the time is in it: the same trace is the same file.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed:
        _write_csv(trace, packed)


def _write_parquet(trace: Trace, file: IO[bytes]) -> None:
    pl.concat(_frames(trace)).write_parquet(file)


_WRITERS = {".csv": _write_csv, ".csv.gz": _write_compressed, ".parquet": _write_parquet}
