"""Results of cells in a folder, one Parquet dataset: a file for each, named by its key.

::

    polars.read_parquet("results/*.parquet")

has a row for each cell: its parameters, every figure of `Outcome`, those of `Bounds` with
``bound_`` before their names, and readings of the fleet as lists of structs. The columns are made
from these classes, so their docstrings tell what is in them. Columns beside them:

======================= ==========================================================================
``key``                 the cell's (`Cell.key`)
``trace``, ``fleet``    what they are called; ``trace_file`` and ``fleet_file`` the names of their
                        files, ``trace_digest`` and ``fleet_digest`` what these say (`Cell`)
``guests``, ``hosts``   how many come, how many there are
``policy``              its name; ``host_order``, ``node_order`` and ``admission`` what it is
``seed``, ``rule_...``  the rules that the trace was read by (`homenode.fleet.reading.rules`)
``stay``                whether nobody ever goes
``over_commit_...``     of ``vcpus`` and ``memory``, fractions as they are written (``3/2``; null is
                        any number); ``over_commit_asked``: these are not the fleet file's
``homenode``            the version that computed it
``synthetic``           the rules that supplied what the trace does not have, as sentences
======================= ==========================================================================

Nothing of when, where and how fast it was computed is in a file: equal results are equal files.
A file comes into its place as a whole. One that is not whole all the same, by a crash of the
machine, is not there for a sweep, which computes its cell again and replaces it.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from homenode.errors import HomenodeError
from homenode.fleet.bounds import Bounds
from homenode.fleet.cell import Cell, CellResult
from homenode.fleet.hosts import OverCommit
from homenode.fleet.policies import fleet_policy
from homenode.fleet.reading.rules import Rules
from homenode.fleet.replay import Outcome

if TYPE_CHECKING:
    import polars as pl

_ENDING = ".parquet"
_LARGEST_BYTES = 1 << 30
"""A file that is larger is none of ours."""

_SEAL = "homenode.sha256"
"""The key, among those that describe a Parquet file, of the SHA-256 of all of it as it is with an
open seal in this place. Polars takes damaged files for whole ones, and panics with some."""
_OPEN_SEAL = "0" * 64

_PARAMETERS: dict[str, Any] = {
    "key": str,
    "trace": str, "trace_file": str, "trace_digest": str, "guests": int,
    "fleet": str, "fleet_file": str, "fleet_digest": str, "hosts": int,
    "policy": str, "host_order": str, "node_order": str, "admission": str,
    "stay": bool,
    "over_commit_vcpus": str, "over_commit_memory": str, "over_commit_asked": bool,
    "homenode": str,
    "synthetic": tuple[str, ...],
}  # fmt: skip


def _rule_column(field: str) -> str:
    return field if field == "seed" else f"rule_{field}"


def _bound_column(field: str) -> str:
    return f"bound_{field}"


def _types_of(rows: type) -> dict[str, Any]:
    hints: dict[str, Any] = get_type_hints(rows)
    return hints


def columns() -> dict[str, Any]:
    """Return the columns of the dataset in their order, and the Python type of each."""
    made = dict(_PARAMETERS)
    made |= {_rule_column(field): kind for field, kind in _types_of(Rules).items()}
    made |= _types_of(Outcome)
    made |= {_bound_column(field): kind for field, kind in _types_of(Bounds).items()}
    return made


class Dataset:
    """The results in one folder, which is made if it is not there.

    Several sweeps may use it at once. Raises `HomenodeError` if polars is not installed, and for
    a folder that cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        # Before anything is computed, not after it.
        from homenode.fleet.reading.library import pl  # noqa: PLC0415 - may be missing

        self.folder = folder
        self._polars = pl
        self._types = columns()
        self._schema = {name: _column_type(kind) for name, kind in self._types.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomenodeError(
                f"{folder}: cannot make this folder: {error.strerror or error}"
            ) from None

    def path(self, key: str) -> Path:
        """Return where the result of that cell is, or would be."""
        return self.folder / f"{key}{_ENDING}"

    def keys(self) -> list[str]:
        """Return the keys of the cells whose results are there, in ascending order."""
        names = sorted(path.name for path in self.folder.glob(f"*{_ENDING}"))
        return [key for name in names if self.has(key := name.removesuffix(_ENDING))]

    def has(self, key: str) -> bool:
        """Return whether there is a whole file of that cell."""
        return self._whole(key) is not None

    def _whole(self, key: str) -> bytes | None:
        path = self.path(key)
        try:
            if path.stat().st_size > _LARGEST_BYTES:
                return None
            data = path.read_bytes()
        except OSError:
            return None
        return data if data and data == _sealed(data) else None

    def read(self, key: str) -> CellResult:
        """Return the result of that cell, but for the folders of its files and how long it took.

        Raises `HomenodeError` if it is not there, or not whole.
        """
        result = self.find(key)
        if result is None:
            raise HomenodeError(
                f"{self.path(key)}: is no result of a cell, or not a whole one",
                hint="the sweep that it belongs to computes it again",
            )
        return result

    def find(self, key: str) -> CellResult | None:
        """Return the same; None if it is not there, or not whole."""
        data = self._whole(key)
        if data is None:
            return None
        frame = self._polars.read_parquet(BytesIO(data))
        if dict(frame.schema) != self._schema or frame.height != 1:
            return None
        row = frame.row(0, named=True)
        result = _result({name: _value(row[name], kind) for name, kind in self._types.items()})
        return result if result.cell.key == key else None

    def write(self, result: CellResult) -> None:
        """Put the result in its file, wholly or not at all.

        Raises `HomenodeError` if it cannot be written.
        """
        row = _row(result)
        frame = self._polars.DataFrame(
            {name: [_plain(row[name])] for name in self._types}, schema=self._schema
        )
        data = BytesIO()
        frame.write_parquet(data, metadata={_SEAL: _OPEN_SEAL})
        self._replace(row["key"], _sealed(data.getvalue()))

    def _replace(self, key: str, data: bytes) -> None:
        path = self.path(key)
        beside = self.folder / f".{key}-{secrets.token_hex(4)}.new"
        try:
            try:
                with beside.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
            for left in self.folder.glob(f".{key}-*.new"):
                left.unlink(missing_ok=True)
        except OSError as error:
            # Another sweep that just wrote the same takes ours for one left by a crash.
            if isinstance(error, FileNotFoundError) and self.has(key):
                return
            raise HomenodeError(f"{path}: cannot write it: {error.strerror or error}") from None


def _sealed(data: bytes) -> bytes:
    """Return the file with its seal as it has to be; nothing of a file that has none."""
    at = data.rfind(_SEAL.encode())
    if at < 0:
        return b""
    # Thrift has the kind of the value and its length before it.
    begin = at + len(_SEAL) + 2
    end = begin + len(_OPEN_SEAL)
    digest = hashlib.sha256(data[:begin] + _OPEN_SEAL.encode() + data[end:]).hexdigest()
    return data[:begin] + digest.encode() + data[end:]


# -- rows --


def _row(result: CellResult) -> dict[str, Any]:
    cell = result.cell
    policy = fleet_policy(cell.policy)
    row: dict[str, Any] = {
        "key": cell.key,
        "trace": result.trace,
        "trace_file": cell.trace.name,
        "trace_digest": cell.trace_digest,
        "guests": result.guests,
        "fleet": result.fleet,
        "fleet_file": cell.fleet.name,
        "fleet_digest": cell.fleet_digest,
        "hosts": result.hosts,
        "policy": cell.policy,
        "host_order": policy.host.order,
        "node_order": policy.node.order,
        "admission": policy.node.admission,
        "stay": cell.stay,
        "over_commit_vcpus": _text(result.over_commit.vcpus),
        "over_commit_memory": _text(result.over_commit.memory),
        "over_commit_asked": cell.over_commit is not None,
        "homenode": cell.homenode,
        "synthetic": result.synthetic,
    }
    row |= {_rule_column(field): value for field, value in cell.rules._asdict().items()}
    row |= result.outcome._asdict()
    row |= {_bound_column(field): value for field, value in result.bounds._asdict().items()}
    return row


def _result(row: Mapping[str, Any]) -> CellResult:
    vcpus = row["over_commit_vcpus"]
    over_commit = OverCommit(
        None if vcpus is None else Fraction(vcpus), Fraction(row["over_commit_memory"])
    )
    cell = Cell(
        Path(row["trace_file"]),
        Path(row["fleet_file"]),
        row["policy"],
        Rules(*(row[_rule_column(field)] for field in Rules._fields)),
        row["stay"],
        over_commit if row["over_commit_asked"] else None,
        row["trace_digest"],
        row["fleet_digest"],
        row["homenode"],
    )
    return CellResult(
        cell,
        row["trace"],
        row["guests"],
        row["synthetic"],
        row["fleet"],
        row["hosts"],
        over_commit,
        Outcome(*(row[field] for field in Outcome._fields)),
        Bounds(*(row[_bound_column(field)] for field in Bounds._fields)),
        None,
    )


def _text(fraction: Fraction | None) -> str | None:
    return None if fraction is None else str(fraction)


# -- values --


class _Count(NamedTuple):
    """An entry of a dict of numbers, as a row of a column."""

    name: str
    number: int


def _part(kind: Any) -> Any:  # noqa: ANN401 - types are values here, and have no type in common
    """Return the type of the values in a list of `kind`, or that which may be None."""
    if get_origin(kind) is dict:
        return _Count
    return next(each for each in get_args(kind) if each is not type(None))


def _is_optional(kind: Any) -> bool:  # noqa: ANN401 - as above
    return get_origin(kind) in (Union, UnionType)


def _column_type(kind: Any) -> "pl.DataType":  # noqa: ANN401 - as above
    from homenode.fleet.reading.library import pl  # noqa: PLC0415 - may be missing

    simple = {int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean(), str: pl.String()}
    if kind in simple:
        return simple[kind]
    if _is_optional(kind):
        return _column_type(_part(kind))
    if get_origin(kind) in (tuple, dict):
        return pl.List(_column_type(_part(kind)))
    return pl.Struct({name: _column_type(own) for name, own in _types_of(kind).items()})


def _plain(value: Any) -> Any:  # noqa: ANN401 - any of the above
    """Return a value as polars takes it: lists, and dicts for structs."""
    if isinstance(value, dict):
        return [_Count(*each)._asdict() for each in value.items()]
    if hasattr(value, "_asdict"):
        return value._asdict()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _value(value: Any, kind: Any) -> Any:  # noqa: ANN401 - as above
    """Return what `_plain` was given; `value` is what polars made of it."""
    if value is None or kind in (int, float, bool, str):
        return value
    if _is_optional(kind):
        return _value(value, _part(kind))
    if get_origin(kind) is dict:
        return {each["name"]: each["number"] for each in value}
    if get_origin(kind) is tuple:
        return _tuple(value, _part(kind))
    return kind(**value)


def _tuple(values: Iterable[Any], part: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as above
    return tuple(_value(value, part) for value in values)
