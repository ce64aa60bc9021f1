"""A lake: Delta tables in a folder or a bucket, staged parts, and commits over several tables at once."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from lake import show
from lake.delta import locks, parts, pending
from lake.delta.commit import Change
from lake.delta.parts import Part
from lake.delta.snapshot import log_file, snapshot
from lake.errors import LakeError, NotALakeError, StorageError
from lake.scratch import Scratch
from lake.storage import TEMPORARY, Storage, misread, open_storage
from lake.table import Commit, Table

__all__ = ["MARKER", "Change", "Commit", "Lake", "Part", "Scratch", "Table"]

MARKER = "_gristmill.json"
_FORMAT = 1
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_RESERVED = {pending.FOLDER, locks.FOLDER, "_staging"}
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Lake:
    """A lake in a local folder or an object store.

    Cheap to make and to pickle: nothing is read or written until a method is called.

    Args:
        uri: the folder, or a URL: ``s3://bucket/prefix``, ``gs://``, ``az://``, ``abfss://``.
        storage_options: for object stores, the ``AWS_*`` or ``AZURE_*`` names (``AWS_ENDPOINT_URL``,
            ``AWS_ACCESS_KEY_ID``, ...); what is not given comes from the environment or a profile,
            see docs/object-stores.md.

    Raises:
        StorageError: no such kind of storage, a secret in the URL, or characters that Delta reads otherwise.

    >>> import tempfile
    >>> schema = pa.schema([("x", pa.int64())])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lake = Lake(folder)
    ...     part = lake.write_part("raw", "part-0", [pa.table({"x": [1, 2]})], schema)
    ...     for _ in range(2):  # the second time nothing happens
    ...         versions = lake.commit([Change("raw", schema, add=(part,))], app="me", version=1)
    ...     versions, lake.table("raw").count(), lake.tables()
    ({'raw': 1}, 2, ['raw'])
    """

    def __init__(self, uri: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self.storage: Storage = open_storage(uri, storage_options)
        self.uri = self.storage.uri
        self._checked = False
        if odd := misread(self.uri):
            raise StorageError(
                "a lake cannot have this address",
                where=self.uri,
                why=f"Delta would look for its tables elsewhere because of {odd!r}",
                hint="choose a name without it",
            )

    def __reduce__(self) -> tuple[object, ...]:
        return Lake, (self.uri, self.storage.options)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Lake):
            return NotImplemented
        return (self.uri, self.storage.options) == (other.uri, other.storage.options)

    def __hash__(self) -> int:
        return hash(self.uri)

    # The lake itself

    def ensure(self) -> None:
        """Create the lake if it is not there.

        Raises:
            NotALakeError: the folder holds something else.
            LakeError: a newer version of Gristmill made this lake.
            StorageError: no space, no permission.
        """
        if not self._check():
            self.storage.write(MARKER, json.dumps({"format": _FORMAT}).encode())
            self._checked = True

    def clear(self) -> None:
        """Delete all that is in the lake but its locks; nothing happens if there is none.

        Raises:
            NotALakeError: the folder holds something else; it is left alone.
        """
        if self._check():
            for folder in self.storage.folders():
                if folder != locks.FOLDER:
                    # Who is killed in the middle leaves whole tables, of ever earlier versions, then none.
                    for entry in reversed(self.storage.entries(f"{folder}/_delta_log", recursive=False)):
                        self.storage.delete(entry.path)
                    self.storage.delete_folder(folder)

    def _check(self) -> bool:
        """Whether the lake is there; raises if something else is."""
        if self._checked:
            return True
        try:
            marker = self.storage.read(MARKER)
        except FileNotFoundError:
            self._check_empty()
            return False
        except NotADirectoryError as error:
            raise NotALakeError("this is a file", where=self.uri, hint="name a folder") from error
        try:
            made_by = int(json.loads(marker)["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise NotALakeError(f"{MARKER} is not a lake's marker", where=self.uri, why=str(error)) from error
        if made_by > _FORMAT:
            raise LakeError(
                f"the lake has format {made_by}, this version reads up to {_FORMAT}",
                where=self.uri,
                hint="upgrade gristmill",
            )
        self._checked = True
        return True

    def _check_empty(self) -> None:
        if self.storage.local and Path(self.uri).is_file():
            raise NotALakeError("this is a file", where=self.uri, hint="name a folder")
        # Another process may make the lake meanwhile: the marker is its first file, so it is looked for last.
        folders = self.storage.folders()
        files = [entry.path for entry in self.storage.entries(recursive=False)]
        others = [*folders, *(path for path in files if not path.startswith(TEMPORARY))]
        if others and MARKER not in others:
            raise NotALakeError(
                f"the folder is not empty and has no {MARKER}",
                where=self.uri,
                why=f"it holds {min(others)!r}" + (f" and {len(others) - 1} more" if others[1:] else ""),
                hint="choose an empty or a new folder for the lake",
            )

    def tables(self) -> list[str]:
        """The names of the tables, sorted; none if the lake does not exist yet."""
        self._check()
        names = (name for name in self.storage.folders() if _TABLE.match(name) and name not in _RESERVED)
        return [name for name in names if self._has_log(name)]

    def _has_log(self, name: str) -> bool:
        # A folder is not enough: a table that is being made has half a log entry, one that was being dropped
        # an empty folder (in an object store too, where pyarrow leaves a marker).
        found = self.storage.entries(f"{name}/_delta_log", recursive=False)
        return any(log_file(entry.path) for entry in found)

    def table(self, name: str) -> Table:
        """A table, which need not exist yet.

        Raises:
            NotALakeError: the folder holds something else.
        """
        self._check()
        return Table(self.storage, _valid(name))

    # Parts

    def write_part(
        self,
        table: str,
        name: str,
        batches: Iterable[pa.Table | pa.RecordBatch],
        schema: pa.Schema,
        *,
        partition: Mapping[str, str] = _NOTHING,
        notes: Mapping[str, str] = _NOTHING,
        group_bytes: int = parts.ROW_GROUP_BYTES,
        record_bytes: int = 0,
        plain: Collection[str] = (),
    ) -> Part:
        """Stream batches into one Parquet file of a table, staged: no reader sees it before :meth:`commit`.

        Args:
            table: the table's name.
            name: the file's, deterministic, so that a retry finds it (:meth:`find_part`). It must tell the
                content apart: a name that the table has already is refused at commit.
            batches: each with the columns of ``schema`` in any order (those of the partition may be left out).
            schema: the table's columns.
            partition: value by partition column; these columns are not stored in the file.
            notes: kept in the file's footer; :meth:`find_part` gives them back.
            group_bytes: uncompressed bytes of a row group, which is what is read at once; small ones where
                some rows are read again.
            record_bytes: where both happens: a row group has so many bytes, and several are read at once.
            plain: columns that are not compressed (hashes, say).

        Raises:
            SchemaError: a batch does not fit; nothing is left behind.
            StorageError: no space, no permission; nothing is left behind.
        """
        self.ensure()
        path = parts.part_path(name, partition)
        return parts.write_part(
            self.storage,
            _valid(table),
            path,
            batches,
            schema,
            partition=partition,
            notes=notes,
            group_bytes=group_bytes,
            record_bytes=record_bytes,
            plain=plain,
        )

    def find_part(self, table: str, name: str, partition: Mapping[str, str] = _NOTHING) -> Part | None:
        """The part that :meth:`write_part` wrote to its end under this name, or None."""
        self._check()
        path = parts.part_path(name, partition)
        found = parts.load_part(self.storage, _valid(table), path, partition)
        if found is not None:
            # Whoever looks for a part is going to use it: it must not look forgotten to a vacuum.
            self.storage.touch(f"{table}/{path}")
        return found

    def still_there(self, part: Part) -> bool:
        """Whether the file of a part is there with its size; a vacuum then takes it for one in use."""
        where = f"{part.table}/{part.path}"
        return self.storage.renew(where) == part.bytes

    # Commits

    def commit(
        self,
        changes: Sequence[Change],
        *,
        app: str,
        version: int,
        info: Mapping[str, str] = _NOTHING,
    ) -> dict[str, int]:
        """Commit staged parts to one or several tables: all or nothing, and exactly once.

        The same commit again changes nothing and answers the same; how it works: :mod:`lake.delta.pending`.

        Args:
            changes: one per table; the first is the one that decides under a race.
            app: whose versions are counted, for example ``pipeline/stage``.
            version: grows from commit to commit of one app.
            info: shown in each table's history.

        Returns:
            The Delta version of each table that holds the change.

        Raises:
            MissingPartError: a part is not there or not what it was.
            SchemaError: a part or a change does not fit its table.
            ConcurrentRunError: somebody else committed this version, or replaced the parts to remove.
            StorageError: no space, no permission; if it came in the middle, :meth:`recover` carries on.
        """
        self.ensure()
        for change in changes:
            _valid(change.table)
        return pending.commit(self.storage, changes, app, version, info)

    def recover(self) -> list[str]:
        """Carry through the commits that a dead process left behind; safe if it is alive after all.

        Returns:
            ``"app version"`` of each.
        """
        if not self._check():
            return []
        return pending.recover(self.storage)

    @contextmanager
    def lock(self, name: str, *, wait: float = 0.0) -> Iterator[None]:
        """Be the only holder of ``name``; what that is worth in an object store: :mod:`lake.delta.locks`.

        Raises:
            ConcurrentRunError: another process holds it: which, where and since when.
        """
        self.ensure()
        with locks.lock(self.storage, name, wait=wait):
            yield

    def scratch(self, key: str) -> Scratch:
        """The folder for staged intermediates ``_staging/<key>/``."""
        self.ensure()
        return Scratch(self.storage, key)

    # Looking at it

    def _rows(self) -> list[tuple[str, str, str, str]]:
        found = ((name, snapshot(self.storage, name)) for name in self.tables())
        rows = []
        for name, current in found:
            if current is not None:
                listed = current.parts()
                size = show.bytes_text(sum(part.bytes for part in listed))
                rows.append((name, f"{sum(part.rows for part in listed):,}", str(current.version), size))
        return rows

    def __repr__(self) -> str:
        try:
            rows = self._rows()
        except LakeError as error:
            return f"Lake({self.uri!r}): {error.what}"
        lines = [f"  {name:<12} {n:>12} rows  version {v:>4}  {size:>10}" for name, n, v, size in rows]
        return "\n".join([f"Lake({self.uri!r})", *lines])

    def _repr_html_(self) -> str:
        rows = ([escape(cell) for cell in row] for row in self._rows())
        return f"<div><code>{escape(f'Lake({self.uri!r})')}</code></div>" + show.grid(
            ["table", "rows", "version", "size"], rows
        )


def _valid(table: str) -> str:
    if not _TABLE.match(table) or table in _RESERVED:
        msg = (
            f"a table's name has letters, digits, '_' and '-' and is none of {sorted(_RESERVED)}, not {table!r}"
        )
        raise ValueError(msg)
    return table
