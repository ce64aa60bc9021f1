"""Staged intermediates of a run: written whole or not at all, found again by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa

from lake.storage import Storage, guard

__all__ = ["FOLDER", "Scratch"]

FOLDER = "_staging"

T = TypeVar("T")


class Scratch:
    """The folder ``_staging/<key>/`` of a lake. Names are the caller's and deterministic.

    >>> import tempfile
    >>> from lake.lake import Lake
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scratch = Lake(folder).scratch("run-1")
    ...     scratch.write_arrow("sketch-0", pa.table({"x": [1, 2]}))
    ...     scratch.exists("sketch-0"), scratch.exists("sketch-1"), scratch.read_arrow("sketch-0").num_rows
    (True, False, 2)
    """

    def __init__(self, storage: Storage, key: str) -> None:
        if not key or any(part in {"", ".", ".."} for part in key.split("/")):
            msg = f"a scratch key is a relative path, not {key!r}"
            raise ValueError(msg)
        self._storage = storage
        self.key = key

    def __repr__(self) -> str:
        return f"Scratch({self._storage.address(self._path(''))!r})"

    def _path(self, name: str) -> str:
        return f"{FOLDER}/{self.key}/{name}".rstrip("/")

    def write_arrow(self, name: str, table: pa.Table) -> None:
        """Write a table as an uncompressed Arrow IPC file: readers map it instead of decoding it."""
        path = self._path(name)
        with (
            self._storage.staging(path) as temporary,
            guard(self._storage.address(path)),
            pa.OSFile(temporary, "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)

    def read_arrow(self, name: str) -> pa.Table:
        """Read a table; its memory is the mapped file where the lake is local.

        Raises:
            FileNotFoundError: nothing was written under this name.
        """
        path = self._path(name)
        if self._storage.local:
            return pa.ipc.open_file(pa.memory_map(self._storage.inner(path))).read_all()
        return self._read(path, lambda file: file.read_all())

    def write_batches(self, name: str, batches: Sequence[pa.RecordBatch]) -> None:
        """Write batches of one schema, which :meth:`read_batch` gives back one by one, empty ones too."""
        path = self._path(name)
        with (
            self._storage.staging(path) as temporary,
            guard(self._storage.address(path)),
            pa.OSFile(temporary, "wb") as sink,
            pa.ipc.new_file(sink, batches[0].schema) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)

    def read_batch(self, name: str, number: int) -> pa.RecordBatch:
        """Read one batch of a file; the others are not read.

        Raises:
            FileNotFoundError: nothing was written under this name.
        """
        path = self._path(name)
        if self._storage.local:
            return pa.ipc.open_file(pa.memory_map(self._storage.inner(path))).get_batch(number)
        return self._read(path, lambda file: file.get_batch(number))

    def _read(self, path: str, work: Callable[[pa.ipc.RecordBatchFileReader], T]) -> T:
        """Read an object; from its beginning again where an answer was cut in the middle."""

        def read() -> T:
            with self._storage.open(path) as source:
                return work(pa.ipc.open_file(source))

        return self._storage.ask(path, read)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write or replace a small file."""
        self._storage.write(self._path(name), data)

    def read_bytes(self, name: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError."""
        return self._storage.read(self._path(name))

    def exists(self, name: str) -> bool:
        """Whether something was written, to its end, under this name; a vacuum then takes it for in use."""
        return self._storage.renew(self._path(name)) is not None

    def modified(self, name: str) -> float:
        """When it was written, in seconds since the epoch; 0 where it was not."""
        return self._storage.modified(self._path(name))

    def names(self) -> list[str]:
        """What was written, sorted."""
        prefix = f"{self._path('')}/"
        found = (entry.path.removeprefix(prefix) for entry in self._storage.entries(self._path("")))
        return [name for name in found if not name.rpartition("/")[2].startswith(".")]

    def clear(self) -> None:
        """Delete the folder."""
        self._storage.delete_folder(self._path(""))
