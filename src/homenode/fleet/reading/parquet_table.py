"""Tables in Parquet. Columns are read one after the other, so that one is in memory as it is."""

from collections.abc import Sequence
from pathlib import Path

from homenode.errors import HomenodeError, ParseError
from homenode.fleet.reading.columns import Column, Rows, refuse_missing, type_fault, typed
from homenode.fleet.reading.library import pl


class ParquetTable:
    """A Parquet file: `names` are those of its columns."""

    def __init__(self, path: Path, *, source: str) -> None:
        self._path = path
        self.source = source
        try:
            # Without glob=False, "[1].parquet" would be a pattern.
            self._types = pl.scan_parquet(path, glob=False).collect_schema()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._broken(error) from None
        self.names = tuple(self._types)

    def read(self, wanted: Sequence[Column]) -> Rows:
        """Return the `wanted` columns; raises `ParseError` for anything that is not as it says."""
        refuse_missing(wanted, self.names, source=self.source)
        present = [column for column in wanted if column.name in self.names]
        for column in present:
            fault = type_fault(column, self._types[column.name])
            if fault is not None:
                raise ParseError(fault, source=self.source)
        frame = typed(present, self._values, source=self.source, first=1)
        if frame.is_empty():
            raise ParseError("has no rows", source=self.source)
        return Rows(frame, source=self.source, first=1)

    def _values(self, name: str) -> pl.Series:
        try:
            return pl.read_parquet(self._path, columns=[name], glob=False)[name]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._broken(error) from None

    def _broken(self, error: BaseException) -> HomenodeError:
        if isinstance(error, OSError) and error.strerror:
            return HomenodeError(f"{self.source}: cannot read it: {error.strerror}")
        # What polars says where it panics is about polars.
        is_panic = isinstance(error, pl.exceptions.PanicException)
        lines = [] if is_panic else str(error).splitlines()
        why = f": {lines[0]:.120}" if lines else ""
        return ParseError(f"is not a whole Parquet file{why}", source=self.source)
