"""Tables in files: which kind a file is, is seen by how it begins, not by its name."""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from homenode.errors import HomenodeError
from homenode.fleet.reading.columns import Column, Rows
from homenode.fleet.reading.parquet_table import ParquetTable
from homenode.fleet.reading.text_table import TextTable

_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"


class TableFile(Protocol):
    """A table with named columns that can be read once; `source` is how complaints name it."""

    source: str
    names: tuple[str, ...]

    def read(self, wanted: Sequence[Column]) -> Rows:
        """Return the `wanted` columns; raises `ParseError` for anything that is not as it says."""


@contextmanager
def opened(path: Path) -> Iterator[TableFile]:
    """Give the table in the file at `path`."""
    source = str(path)
    try:
        file = path.open("rb")
        begin = file.read(4)
        file.seek(0)
    except OSError as error:
        raise HomenodeError(f"{source}: cannot read it: {error.strerror or error}") from None
    with file:
        if begin == _PARQUET:
            yield ParquetTable(path, source=source)
        elif begin[:2] == _GZIP:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield TextTable(unpacked, source=source)
        else:
            yield TextTable(file, source=source)
