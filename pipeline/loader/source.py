"""Rows of a table at one version: which row groups there are, and reading some rows of some of them.

The footers of all files are read once, on threads, and kept as a few numbers per row group; the data is read
a row group at a time (the least that Parquet can read), and of it only the rows that are asked for are held.
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.delta.parts import Part, read_footer
from lake.delta.scan import check_filter
from lake.errors import ConfigError, MissingPartError, SchemaError
from lake.lake import Lake
from lake.storage import Storage

__all__ = ["Held", "Source", "gather", "open_source"]

I64 = npt.NDArray[np.int64]

_READERS = 16  # footers read at once: latency, not work
_FOOTERS = 64  # parsed footers kept for the next read of the same file
_LEFT_OUT = {"_source", "meta", "_augmented"}
"""Columns that are not loaded unless named: where a row comes from, not what it is."""


@dataclass(frozen=True, eq=False)
class Held:
    """Rows in memory: row ``place[i]`` of ``table`` is the i-th row that was asked for."""

    table: pa.Table
    place: I64


class Source:
    """The rows of one version of a table, by number. Cheap to pickle, and then reads no footer again.

    Attributes:
        version: of the table.
        schema: the columns that are loaded.
        counts: int64 (groups,): rows of each row group (those that the filter keeps).
        sizes: int64 (groups,): uncompressed bytes of the loaded columns in it.
        starts: int64 (groups + 1,): number of the first row of each.
    """

    def __init__(
        self,
        storage: Storage,
        parts: Sequence[Part],
        schema: pa.Schema,
        version: int,
        groups: Sequence[tuple[int, int, int, int]],
    ) -> None:
        self.storage, self.schema, self.version = storage, schema, version
        self._parts = list(parts)
        table = np.array(groups, np.int64).reshape(-1, 4)
        self._part_of, self._group_of, self._stored, self.sizes = (np.ascontiguousarray(c) for c in table.T)
        self.counts: I64 = self._stored
        self._kept: list[npt.NDArray[np.int32]] | None = None
        self._footers: OrderedDict[int, pq.FileMetaData] = OrderedDict()
        self._lock, self._process = Lock(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_footers": OrderedDict(), "_lock": None, "_process": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock, self._process = Lock(), os.getpid()

    @property
    def starts(self) -> I64:
        """Number of the first row of each row group; the last is the number of rows."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.counts.sum())

    @property
    def where(self) -> str:
        """The table's address, and its version."""
        name = self._parts[0].table if self._parts else ""
        return f"{self.storage.address(name)} version {self.version}"

    @property
    def digest(self) -> str:
        """Names the list of rows: files, row groups, and what the filter keeps."""
        h = blake2b(digest_size=8)
        for part in self._parts:
            h.update(f"{part.path}\0{part.bytes}\0".encode())
        h.update(np.stack([self._part_of, self._group_of, self._stored]).tobytes())
        for rows in self._kept or ():
            h.update(rows.tobytes() + b"|")
        return h.hexdigest()

    @property
    def made(self) -> str:
        """Names the files themselves: those of a table that was deleted and made anew are others."""
        times = repr([part.added for part in self._parts])
        return blake2b(f"{self.where} {self.digest} {times}".encode(), digest_size=16).hexdigest()

    def restrict(self, condition: pc.Expression, schema: pa.Schema) -> None:
        """Keep only the rows that match; reads the columns of the condition once. 4 bytes a row are kept.

        Raises:
            SchemaError: the condition is of a column that the table does not have, or that is of another type.
        """
        check_filter(schema, condition, self.where)
        names = [name for name in schema.names if name in str(condition)] or schema.names[:1]
        wanted = pa.schema([schema.field(name) for name in names])

        def kept(group: int) -> npt.NDArray[np.int32]:
            table = self._read(group, wanted).append_column("\0row", pa.array(np.arange(self._stored[group])))
            rows: I64 = table.filter(condition).column("\0row").to_numpy()
            return rows.astype(np.int32)

        with ThreadPoolExecutor(_READERS // 4) as pool:
            self._kept = list(pool.map(kept, range(len(self._stored))))
        self.counts = np.array([len(rows) for rows in self._kept], np.int64)
        self.sizes = self.sizes * self.counts // np.maximum(self._stored, 1)

    def read(self, group: int, rows: I64) -> pa.Table:
        """Some rows of a row group, by their numbers in it (those of the kept rows), in that order.

        Raises:
            MissingPartError: the file is gone.
        """
        table = self._read(group, self.schema)
        if self._kept is not None:
            rows = self._kept[group][rows].astype(np.int64)
        whole = len(rows) == table.num_rows and bool(np.all(rows == np.arange(len(rows))))
        return table if whole else table.take(pa.array(rows))

    def _read(self, group: int, schema: pa.Schema) -> pa.Table:
        self._after_fork()
        part = self._parts[int(self._part_of[group])]
        where = f"{part.table}/{part.path}"
        try:
            found = self.storage.ask(where, lambda: self._read_group(where, group, schema))
        except FileNotFoundError as error:
            raise self._gone(part) from error
        count = int(self._stored[group])
        return pa.table([_column(found, count, field, part) for field in schema], names=schema.names)

    def _read_group(self, where: str, group: int, schema: pa.Schema) -> pa.Table | None:
        """The columns of a row group that are in its file; None where none is."""
        number = int(self._part_of[group])
        with self.storage.open(where) as file:
            reader = pq.ParquetFile(
                file,
                metadata=self._footers.get(number),
                read_dictionary=["_policy"] if "_policy" in schema.names else None,
                pre_buffer=not self.storage.local,
            )
            with self._lock:
                self._footers[number] = reader.metadata
                while len(self._footers) > _FOOTERS:
                    self._footers.popitem(last=False)
            there = set(reader.schema_arrow.names)
            names = [name for name in schema.names if name in there]
            return reader.read_row_group(int(self._group_of[group]), columns=names) if names else None

    def _after_fork(self) -> None:
        if self._process == os.getpid():
            return
        if not self.storage.local:
            raise ConfigError(
                "a lake in an object store cannot be read in a forked process",
                where=self.storage.uri,
                why="the object store's client does not survive a fork",
                hint='give the DataLoader multiprocessing_context="spawn", or use loader.dataloader(...)',
            )
        self.storage = pickle.loads(pickle.dumps(self.storage))  # noqa: S301  (our own, of this moment)
        self._footers, self._lock, self._process = OrderedDict(), Lock(), os.getpid()

    def _gone(self, part: Part) -> MissingPartError:
        return MissingPartError(
            "a part of the table is gone",
            where=self.storage.address(f"{part.table}/{part.path}"),
            why=f"its file was deleted or vacuumed; version {self.version} needs it",
            hint="load a newer version, or keep this one from being vacuumed",
        )


def open_source(
    lake: Lake,
    table: str,
    version: int | None = None,
    columns: Sequence[str] | None = None,
    condition: pc.Expression | None = None,
) -> Source:
    """Open a table at ``version``, or at the newest, which is then pinned.

    Raises:
        MissingTableError: no such table or version, or the version was vacuumed.
        SchemaError: no such column, or the condition does not fit the table.
    """
    handle = lake.table(table)
    version = handle.snapshot(version).version
    schema, parts = handle.schema(version), handle.parts(version)
    wanted = _wanted(schema, columns, handle.uri)
    roots = set(wanted.names)

    def footer(numbered: tuple[int, Part]) -> list[tuple[int, int, int, int]]:
        number, part = numbered
        found = read_footer(lake.storage, f"{part.table}/{part.path}")
        if found is None:
            raise MissingPartError(
                "a part of the table is gone or is no Parquet file",
                where=lake.storage.address(f"{part.table}/{part.path}"),
                hint="load a newer version, or restore the file",
            )
        return [
            (number, group, *_extent(found[0].row_group(group), roots))
            for group in range(found[0].num_row_groups)
        ]

    with ThreadPoolExecutor(_READERS) as pool:
        groups = [group for part in pool.map(footer, enumerate(parts)) for group in part]
    source = Source(lake.storage, parts, wanted, version, groups)
    if condition is not None:
        source.restrict(condition, schema)
    return source


def _wanted(schema: pa.Schema, columns: Sequence[str] | None, where: str) -> pa.Schema:
    if columns is None:
        return pa.schema([field for field in schema if field.name not in _LEFT_OUT])
    for name in columns:
        if name not in schema.names:
            hint = f"the columns are {', '.join(schema.names)}"
            raise SchemaError(f"there is no column {name!r}", where=where, hint=hint)
    # Ids name the rows in errors and key their random numbers; the policy says what is done to them.
    more = [name for name in ("_id", "_policy") if name in schema.names and name not in columns]
    return pa.schema([schema.field(name) for name in (*more, *columns)])


def _extent(group: pq.RowGroupMetaData, roots: set[str]) -> tuple[int, int]:
    """Rows, and uncompressed bytes of the wanted columns."""
    columns = (group.column(i) for i in range(group.num_columns))
    size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.partition(".")[0] in roots)
    return group.num_rows, size


def _column(table: pa.Table | None, rows: int, field: pa.Field, part: Part) -> pa.ChunkedArray:
    if field.name in part.partition:
        value = pa.scalar(part.partition[field.name]).cast(field.type)
        return pa.chunked_array([pa.repeat(value, rows)])
    if table is None or field.name not in table.column_names:
        return pa.chunked_array([pa.nulls(rows, field.type)])
    column = table.column(field.name)
    return column if pa.types.is_dictionary(column.type) else column.cast(field.type)


def gather(column: pa.ChunkedArray, rows: I64) -> pa.Array:
    """Rows of a column by number, in that order.

    Arrow's own ``take`` would join all chunks first, which copies (and maps into memory) the whole column.

    >>> gather(pa.chunked_array([["a", "b"], ["c"]]), np.array([2, 0])).to_pylist()
    ['c', 'a']
    """
    if column.num_chunks == 1:
        return _plain(column.chunk(0).take(pa.array(rows)))
    starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])
    chunk_of = np.searchsorted(starts, rows, side="right") - 1
    taken = [
        _plain(column.chunk(int(chunk)).take(pa.array(rows[chunk_of == chunk] - starts[chunk])))
        for chunk in np.unique(chunk_of)
    ]
    if not taken:
        return _plain(pa.array([], column.type))
    back = np.argsort(np.argsort(chunk_of, kind="stable"), kind="stable")
    return pa.concat_arrays(taken).take(pa.array(back))


def _plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
