"""Where :func:`dedup.deduplicate` takes its rows from: a table in memory, or a Parquet file.

Rows are looked at in batches, so that a file is read, and what is read is hashed, at the same time. A column
that nothing is decided by is not read at all until the rows that stay are asked for.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lake.errors import InputError

__all__ = ["Source", "open_source", "plain"]

_BATCH = 1 << 22  # bytes of a batch, about
_READ = 4  # batches that are read at once
_AHEAD = 8  # of those, how many may wait
_BUFFER = 1 << 20  # bytes of the file that are read at once


class Source(Protocol):
    """Rows."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""

    @property
    def stays(self) -> bool:
        """Whether they are in memory anyway."""

    def table(self) -> pa.Table:
        """All rows and columns."""

    def batches(self, columns: list[str]) -> Iterator[pa.Table]:
        """Some columns of all rows, in order."""

    def filter(self, mask: npt.NDArray[np.bool_]) -> pa.Table:
        """All columns of some rows."""


def open_source(given: pa.Table | str | os.PathLike[str]) -> Source:
    """Take a table, or the path of a Parquet file.

    Raises:
        InputError: the file cannot be read.
    """
    return _Memory(plain(given)) if isinstance(given, pa.Table) else _File(os.fspath(given))


def plain(table: pa.Table) -> pa.Table:
    """Turn views, which Arrow cannot take rows from, into plain strings and bytes."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string_view(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.large_string()))
        elif pa.types.is_binary_view(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.large_binary()))
    return table


class _Memory:
    stays = True

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def schema(self) -> pa.Schema:
        return self._table.schema

    def table(self) -> pa.Table:
        return self._table

    def batches(self, columns: list[str]) -> Iterator[pa.Table]:
        rows = _rows_of(self._table.select(columns).nbytes, self._table.num_rows)
        for batch in self._table.to_batches(max_chunksize=rows):
            yield pa.Table.from_batches([batch])

    def filter(self, mask: npt.NDArray[np.bool_]) -> pa.Table:
        return self._table if mask.all() else self._table.filter(pa.array(mask))


class _File:
    stays = False

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._stamp = self._written()
            with pq.ParquetFile(path) as file:
                self._metadata, self._schema = file.metadata, file.schema_arrow
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"no Parquet file can be read at {path}", why=str(error).split("\n")[0]) from error

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def table(self) -> pa.Table:
        with self._open() as file:
            return plain(file.read())

    def batches(self, columns: list[str]) -> Iterator[pa.Table]:
        metadata = self._metadata
        places = [metadata.schema.column(at).path.partition(".")[0] for at in range(metadata.num_columns)]
        used = [at for at, name in enumerate(places) if name in columns]
        size = sum(
            metadata.row_group(group).column(at).total_uncompressed_size
            for group in range(metadata.num_row_groups)
            for at in used
        )
        rows = _rows_of(size, metadata.num_rows)
        with self._open() as file, ThreadPoolExecutor(1) as reader:
            reading = file.iter_batches(_READ * rows, columns=columns, use_threads=False)
            ahead: deque[Future[pa.RecordBatch | None]] = deque()
            while True:
                while len(ahead) < _AHEAD:
                    ahead.append(reader.submit(next, reading, None))
                batch = ahead.popleft().result()
                if batch is None:
                    return
                for start in range(0, batch.num_rows, rows):
                    yield plain(pa.Table.from_batches([batch.slice(start, rows)]))

    def filter(self, mask: npt.NDArray[np.bool_]) -> pa.Table:
        kept, start = [plain(self._schema.empty_table())], 0
        with self._open() as file:
            for group in range(file.num_row_groups):
                table = plain(file.read_row_group(group))
                kept.append(table.filter(pa.array(mask[start : start + table.num_rows])))
                start += table.num_rows
        return pa.concat_tables(kept)

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        """Read the file that was opened first: rows are told by their number, so another one has others."""
        try:
            with pq.ParquetFile(self._path, buffer_size=_BUFFER) as file:
                rows, had = file.metadata.num_rows, self._metadata.num_rows
                if rows != had:
                    raise self._other(f"it has {rows} rows, and had {had}")
                same = file.metadata.equals(self._metadata)
                yield file
        except (OSError, pa.ArrowInvalid) as error:
            if self._written() == self._stamp:
                raise
            raise self._other(str(error).split("\n")[0]) from error
        if not same or self._written() != self._stamp:
            raise self._other("it was written again")

    def _written(self) -> tuple[int, int, int] | None:
        """What tells the file from another one of its name; None where it is no file of this machine."""
        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _other(self, why: str) -> InputError:
        return InputError(f"{self._path} has changed while it was used", why=why, hint="deduplicate it anew")


def _rows_of(size: int, rows: int) -> int:
    """How many rows a batch has: about so many bytes of them, one where a row is longer."""
    return int(min(max(_BATCH * max(rows, 1) // max(size, 1), 1), 1 << 16))
