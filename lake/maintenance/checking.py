"""Whether all files of a lake are there and whole."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lake.delta.parts import read_footer
from lake.delta.snapshot import snapshot
from lake.errors import StorageError
from lake.lake import MARKER, Lake
from lake.storage import BusyError, Storage

__all__ = ["Finding", "is_there", "verify"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: ``rule`` is missing-part, wrong-size, wrong-rows, torn-part or duplicate-path."""

    table: str
    path: str
    rule: str
    detail: str


def is_there(lake: Lake) -> bool:
    """Whether there is a lake, as far as our key may tell: it may be for another prefix alone.

    >>> is_there(Lake("/nowhere"))
    False
    """
    try:
        return lake.storage.size(MARKER) is not None
    except BusyError:
        raise
    except StorageError as error:
        _log.info("%s: %s", lake.uri, error.what)
        return False


def verify(lake: Lake) -> list[Finding]:
    """Check that every part of every table is there, whole, and as large as the log says.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     verify(Lake(folder))
    []
    """
    return [finding for table in lake.tables() for finding in _verify(lake.storage, table)]


def _verify(storage: Storage, table: str) -> Iterator[Finding]:
    found = snapshot(storage, table)
    parts = found.parts() if found else []  # a table that is being dropped has no log any more
    for path, times in Counter(part.path for part in parts).items():
        if times > 1:
            yield Finding(table, path, "duplicate-path", f"the log names it {times} times")
    sizes = {entry.path: entry.size for entry in storage.entries(table)}
    for part in parts:
        where = f"{table}/{part.path}"
        size = sizes.get(where)
        if size is None:
            yield Finding(table, part.path, "missing-part", "the file is gone")
        elif size != part.bytes:
            yield Finding(table, part.path, "wrong-size", f"{size} bytes, the log says {part.bytes}")
        elif (footer := read_footer(storage, where)) is None:
            yield Finding(table, part.path, "torn-part", "its Parquet footer cannot be read")
        elif footer[0].num_rows != part.rows:
            yield Finding(
                table, part.path, "wrong-rows", f"{footer[0].num_rows} rows, the log says {part.rows}"
            )
