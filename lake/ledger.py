"""What a lake says of its own runs: ``_runs``, ``_files`` and ``_drops`` (schemas: :mod:`lake.schema`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake.delta.scan import batches, prune
from lake.lake import Lake
from lake.schema import LEDGER, RUNS

__all__ = ["DROPS_BY", "DROPS_TABLE", "FILES_TABLE", "RUNS_TABLE", "drops", "last_run", "runs", "taken"]

RUNS_TABLE = "_runs"
FILES_TABLE = "_files"
DROPS_TABLE = "_drops"
DROPS_BY = ("pipeline", "stage")
"""The partition columns of ``_drops``."""


def runs(lake: Lake, pipeline: str | None = None) -> pa.Table:
    """The rows of ``_runs`` (``schema.RUNS``), oldest commit first; empty if nothing ran yet."""
    return _rows(lake, RUNS_TABLE, RUNS, _is("pipeline", pipeline))


def last_run(lake: Lake, pipeline: str, stage: str) -> dict[str, Any] | None:
    """The row of the last committed run of a stage (``schema.RUNS``), or None."""
    rows = _rows(lake, RUNS_TABLE, RUNS, _is("pipeline", pipeline) & _is("stage", stage))
    found: list[dict[str, Any]] = rows.slice(max(0, rows.num_rows - 1)).to_pylist()
    return found[0] if found else None


def taken(lake: Lake, pipeline: str, reader: str | None = None) -> dict[str, dict[str, Any]]:
    """What was read of each file: uri to its ``schema.MANIFEST`` row; the last commit's row counts.

    Args:
        lake: the lake.
        pipeline: whose files.
        reader: what a source with these settings (``Files.reader``) has read; two sources of one
            pipeline may read the same file in two ways.
    """
    found: dict[str, dict[str, Any]] = {}
    for batch in _ordered(lake, FILES_TABLE, _is("pipeline", pipeline) & _is("reader", reader)):
        for row in batch.to_pylist():
            found[row["uri"]] = row
    return found


def drops(
    lake: Lake,
    pipeline: str,
    stage: str | None = None,
    id: str | None = None,  # noqa: A002  (the column is `_id`)
) -> pa.Table:
    """The rows that were dropped, and why (``schema.LEDGER``), oldest commit first.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     drops(Lake(folder), "reviews").num_rows
    0
    """
    condition = _is("pipeline", pipeline) & _is("stage", stage) & _is("_id", id)
    return _rows(lake, DROPS_TABLE, LEDGER, condition)


def _is(column: str, value: str | None) -> pc.Expression:
    return pc.scalar(True) if value is None else pc.field(column) == value  # noqa: FBT003  (an Arrow scalar)


def _rows(lake: Lake, table: str, schema: pa.Schema, condition: pc.Expression) -> pa.Table:
    found = list(_ordered(lake, table, condition))
    return pa.Table.from_batches(found) if found else schema.empty_table()


def _ordered(lake: Lake, name: str, condition: pc.Expression) -> Iterator[pa.RecordBatch]:
    """Matching rows in the order of the commits that brought them."""
    table = lake.table(name)
    if not table.exists:
        return
    current = table.snapshot()
    parts = sorted(current.parts(), key=lambda part: (part.added, part.path))
    left = prune(lake.storage, parts, current.schema, condition)
    yield from batches(lake.storage, left, current.schema, current.schema, condition)
