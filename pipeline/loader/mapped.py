"""A copy of the rows with random access, for a full shuffle: one Arrow file on a local disk, mapped.

All processes of a machine share its pages. It is written once, row group by row group.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lake.errors import StorageError
from lake.storage import TEMPORARY, guard
from pipeline.loader.source import Held, Source

__all__ = ["Copy"]

_SPARE = 1.1  # what the file may need beyond the bytes that the footers name
_PLACE = "gristmill-loader"


class Copy:
    """The rows of ``source`` in one mapped file; made on first use.

    Args:
        source: where they come from.
        folder: on a local disk; None: a folder of the system's temporary one. The file stays there, under a
            name that says which rows it holds, and is used again.

    Raises:
        StorageError: there is not enough space.
    """

    def __init__(self, source: Source, folder: str | None = None) -> None:
        name = blake2b(f"{source.made} {source.schema}".encode(), digest_size=16).hexdigest()
        self.path = Path(folder or Path(tempfile.gettempdir()) / _PLACE) / f"{name}.arrow"
        self._source = source

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_table"}

    def load(self, rows: npt.NDArray[np.int64]) -> Held:
        """Rows by number; nothing is read before it is used."""
        return Held(self._table, rows)

    @cached_property
    def _table(self) -> pa.Table:
        self.make()
        return pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()

    def make(self) -> None:
        """Write the file, if it is not there."""
        if self.path.exists():
            return
        with guard(str(self.path.parent)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._check_space()
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=self.path.parent)
        os.close(handle)
        try:
            with guard(str(self.path)), pa.OSFile(temporary, "wb") as sink:
                self._write(sink)
            Path(temporary).replace(self.path)  # two that write at once write the same
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _write(self, sink: pa.NativeFile) -> None:
        with pa.ipc.new_file(sink, self._source.schema) as writer:
            for group, count in enumerate(self._source.counts.tolist()):
                if count:
                    table = self._source.read(group, np.arange(count, dtype=np.int64))
                    writer.write_table(table.cast(self._source.schema).combine_chunks())

    def _check_space(self) -> None:
        needed = int(self._source.sizes.sum() * _SPARE)
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise StorageError(
                "a full shuffle needs a copy of the rows, and there is no space for it",
                where=str(self.path.parent),
                why=f"it needs {needed >> 20} MiB, {free >> 20} are free",
                hint='give cache= another folder, name fewer columns=, or take shuffle="window"',
            )
