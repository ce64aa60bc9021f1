"""Reading a table: as it is, or as it was at an earlier version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake import show
from lake.delta.commit import new_columns
from lake.delta.parts import Part, canonical
from lake.delta.scan import batches, check_filter, part_rows, part_tables, project, prune
from lake.delta.snapshot import Snapshot, commit_info, reread, snapshot, version_range
from lake.errors import LakeError, MissingTableError
from lake.storage import Storage

__all__ = ["Commit", "Table"]

_READERS = 16  # log entries read at once: latency in an object store, not work


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of a table's history. ``app`` is empty for creations and new columns."""

    version: int
    time: datetime
    operation: str
    app: str = ""
    app_version: int | None = None
    rows_added: int = 0
    rows_removed: int = 0
    wal: str = ""
    info: Mapping[str, str] = field(default_factory=dict, hash=False)


def _commit(version: int, info: Mapping[str, Any]) -> Commit:
    return Commit(
        version=version,
        time=datetime.fromtimestamp(info.get("timestamp", 0) / 1000, UTC),
        operation=info.get("operation", ""),
        app=info.get("gristmill.app", ""),
        app_version=info.get("gristmill.version"),
        rows_added=info.get("gristmill.rows_added", 0),
        rows_removed=info.get("gristmill.rows_removed", 0),
        wal=info.get("gristmill.wal", ""),
        info=info.get("gristmill.info", {}),
    )


class Table:
    """A table of a lake. Cheap to make and to pickle; every call reads the newest log unless told a version.

    >>> import tempfile, pyarrow as pa
    >>> from lake.lake import Change, Lake
    >>> schema = pa.schema([("x", pa.int64())])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lake = Lake(folder)
    ...     part = lake.write_part("t", "p", [pa.table({"x": [1, 2]})], schema)
    ...     versions = lake.commit([Change("t", schema, add=(part,))], app="me", version=1)
    ...     table = lake.table("t")
    ...     table.count(), table.to_table(filter=pc.field("x") > 1).to_pydict(), versions
    (2, {'x': [2]}, {'t': 1})
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self.name = name

    def __reduce__(self) -> tuple[object, ...]:
        return Table, (self._storage, self.name)

    @property
    def uri(self) -> str:
        """The table's folder."""
        return self._storage.address(self.name)

    @property
    def exists(self) -> bool:
        """Whether the table has a log."""
        return snapshot(self._storage, self.name) is not None

    @property
    def version(self) -> int:
        """The newest version. Raises MissingTableError if there is no table."""
        return self.snapshot().version

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The table's log at ``version``; raises :class:`MissingTableError` if it is not there."""
        found = snapshot(self._storage, self.name, version)
        if found is None:
            raise MissingTableError(
                f"there is no table {self.name!r}",
                where=self._storage.uri,
                hint="run the pipeline first, or check the lake's path",
            )
        return found

    def schema(self, version: int | None = None) -> pa.Schema:
        """The columns, partition columns included."""
        return self.snapshot(version).schema

    def check(self, schema: pa.Schema) -> None:
        """Raise where rows of a schema cannot be added: a commit would, after all the work.

        Columns that the table lacks are added by the commit; those that the rows lack are null.

        Raises:
            SchemaError: a column has another type in the table, or may not be null there and is missing.
        """
        found = snapshot(self._storage, self.name)
        if found is not None:
            new_columns(found, canonical(schema), found.partition_by, self.uri)

    def parts(self, version: int | None = None) -> list[Part]:
        """The table's files, sorted by path."""
        return self._parts(version)[1]

    def _parts(self, version: int | None) -> tuple[Snapshot, list[Part]]:
        found = self.snapshot(version)
        parts = found.parts()
        if version is not None and version != snapshot(self._storage, self.name).version:  # type: ignore[union-attr] # there: see above
            self._check_whole(version, parts)
        return found, parts

    def _check_whole(self, version: int, parts: Sequence[Part]) -> None:
        """An old version's files may have been vacuumed: say so before the first row, with what is left."""
        there = {entry.path for entry in self._storage.entries(self.name)}
        if all(f"{self.name}/{part.path}" in there for part in parts):
            return
        newest = (version_range(self._storage, self.name) or (version, version))[1]
        oldest = newest
        while oldest > version + 1:
            older = self.snapshot(oldest - 1).parts()
            if not all(f"{self.name}/{part.path}" in there for part in older):
                break
            oldest -= 1
        raise MissingTableError(
            f"version {version} of table {self.name!r} was vacuumed",
            where=self.uri,
            why=f"versions {oldest} to {newest} can be read",
            hint="read one of those",
        )

    def scan(
        self,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        filter: pc.Expression | None = None,  # noqa: A002  (pyarrow's own word)
    ) -> pa.RecordBatchReader:
        """Stream the rows, in the order of the parts' paths, holding a few row groups at a time.

        Args:
            columns: which ones, in this order; all if None. Parts older than a column have nulls there.
            version: the table as it was then; the newest if None.
            filter: a pyarrow expression; parts and row groups that cannot match are not read.

        Raises:
            MissingTableError: no such table or version, or the version was vacuumed.
            SchemaError: no such column, or the filter is of one that is not there or of another type.
        """
        found, parts = self._parts(version)
        out = project(found.schema, columns, self.uri)
        check_filter(found.schema, filter, self.uri)
        left = prune(self._storage, parts, found.schema, filter)
        return pa.RecordBatchReader.from_batches(out, batches(self._storage, left, found.schema, out, filter))

    def to_table(
        self,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        filter: pc.Expression | None = None,  # noqa: A002  (pyarrow's own word)
    ) -> pa.Table:
        """All rows in memory; see :meth:`scan`."""
        return self.scan(columns, version, filter).read_all()

    def read_part(self, part: Part, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One part's rows, a table per row group (about 32 MiB).

        Raises:
            MissingPartError: its file is gone.
        """
        yield from part_tables(self._storage, part, project(self.schema(), columns, self.uri))

    def read_rows(
        self, part: Part, rows: npt.NDArray[np.int64], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Some rows of a part, by number and in that order; only the row groups that hold one are read.

        Raises:
            MissingPartError: its file is gone.
        """
        return part_rows(self._storage, part, project(self.schema(), columns, self.uri), rows)

    def count(self, version: int | None = None) -> int:
        """The number of rows, from the log alone."""
        return sum(part.rows for part in self.snapshot(version).parts())

    @property
    def size_bytes(self) -> int:
        """Bytes of the files of the newest version."""
        return sum(part.bytes for part in self.snapshot().parts())

    @reread
    def transaction_version(self, app: str) -> int | None:
        """The last version that ``app`` committed here; None if there is none, or no table."""
        found = snapshot(self._storage, self.name)
        return None if found is None else found.delta.transaction_version(app)

    @property
    def data_version(self) -> int:
        """The newest version that changed rows: a compaction, or a new column, leaves it as it is.

        Where the log of that version is gone, the oldest one that is left.
        """
        version = self.snapshot().version
        while version > 0:
            try:
                log = self._storage.read(f"{self.name}/_delta_log/{version:020d}.json")
            except FileNotFoundError:
                return version + 1
            # Not parsed: a commit may have a line for each of a hundred thousand files.
            if b'"dataChange":true' in log.replace(b" ", b""):
                return version
            version -= 1
        return version

    def history(self, limit: int | None = None) -> list[Commit]:
        """The commits, newest first."""
        newest = self.snapshot().version
        versions = range(newest, -1 if limit is None else max(-1, newest - limit), -1)
        with ThreadPoolExecutor(1 if self._storage.local else _READERS) as pool:
            infos = pool.map(lambda version: commit_info(self._storage, self.name, version), versions)
            return [_commit(v, info) for v, info in zip(versions, infos, strict=True) if info is not None]

    def head(self, rows: int = 5) -> pa.Table:
        """The first rows."""
        reader = self.scan()
        kept: list[pa.RecordBatch] = []
        while rows > 0:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            kept.append(batch.slice(0, rows))
            rows -= kept[-1].num_rows
        return pa.Table.from_batches(kept, reader.schema)

    def bounds(self, column: str) -> tuple[object, object] | None:
        """The least and the greatest value that the log knows of, loose for long strings; None if unknown."""
        stats = [json.loads(part.stats) for part in self.snapshot().parts() if part.rows]
        lows = [one.get("minValues", {}).get(column) for one in stats]
        highs = [one.get("maxValues", {}).get(column) for one in stats]
        if not stats or None in lows or None in highs:
            return None
        return min(lows), max(highs)

    def __repr__(self) -> str:
        try:
            found = snapshot(self._storage, self.name)
        except LakeError:
            return f"Table({self.uri!r}, unreadable)"
        if found is None:
            return f"Table({self.uri!r}, absent)"
        parts = found.parts()
        rows, size = sum(part.rows for part in parts), sum(part.bytes for part in parts)
        return (
            f"Table({self.uri!r}, version {found.version}, {rows:,} rows, {len(parts):,} parts, "
            f"{show.bytes_text(size)})"
        )

    def _repr_html_(self) -> str:
        found = snapshot(self._storage, self.name)
        return show.table_html(
            repr(self), None if found is None else found.schema, self.head() if found else None
        )
