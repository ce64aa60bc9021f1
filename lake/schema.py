"""Reserved columns, and the schemas of the tables that every lake has."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["DROPS", "LEDGER", "MANIFEST", "RECORD", "RUNS", "SOURCE", "drops", "no_drops"]

SOURCE = pa.struct([pa.field("uri", pa.string()), pa.field("row", pa.int64())])
"""Where a row was read: the file's address, and its 1-based line, row or member number there."""

RECORD = pa.schema(
    [
        pa.field("_id", pa.string(), nullable=False),  # 32 hex digits, see lake.ids
        pa.field("_source", SOURCE),
        pa.field("text", pa.string()),
        pa.field("image", pa.binary()),  # the encoded file, untouched: PNG, JPEG, TIFF, DICOM, ...
        pa.field("label", pa.string()),
        pa.field("meta", pa.string()),  # a JSON object with everything else that the source said of the row
    ]
)
"""A record. Typed extra columns (``lake.Files(columns=...)``) and those that steps add follow these."""

DROPS = pa.schema(
    [
        pa.field("_id", pa.string()),  # null where the row could not be read
        pa.field("_source", SOURCE),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("twin", pa.string()),  # the kept row that this one repeats
        pa.field("estimated", pa.float64()),
        pa.field("exact", pa.float64()),
        pa.field("detail", pa.string()),  # in words, never the record's content
        pa.field("label", pa.string()),
        pa.field("meta", pa.string()),
    ]
)
"""Why a row went: what an op returns beside the rows it keeps."""

LEDGER = pa.schema(
    [
        pa.field("pipeline", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        *DROPS,
    ]
)
"""The ``_drops`` table: ``DROPS`` with the step that dropped the row. Partitioned by pipeline and stage."""

MANIFEST = pa.schema(
    [
        pa.field("pipeline", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("modified", pa.int64(), nullable=False),  # nanoseconds since the epoch
        pa.field("consumed", pa.int64(), nullable=False),  # bytes after which an appended file goes on
        pa.field("rows", pa.int64(), nullable=False),  # rows up to `consumed`
        pa.field("fingerprint", pa.string(), nullable=False),  # of the bytes up to `consumed`: see lake.files
        pa.field("reader", pa.string(), nullable=False),  # hash of the source's settings
    ]
)
"""The ``_files`` table: which files were taken, and how much of them. The last row of a uri counts."""

RUNS = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("pipeline", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),  # the application transaction's version
        pa.field("key", pa.string(), nullable=False),  # hash of inputs, steps and code: equal key, equal output
        pa.field("report", pa.string(), nullable=False),  # JSON: rows, drops by rule, seconds, tables
        pa.field("started", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""The ``_runs`` table: one row per committed stage."""


def drops(rows: pa.Table | pa.RecordBatch, rule: str | pa.Array, **columns: object) -> pa.Table:
    """The drop rows for ``rows``: ids, sources, labels and metadata are taken over, the rest is given.

    ``columns`` are arrays of the same length or scalars; what is not given is null.

    >>> import pyarrow as pa
    >>> rows = pa.table({"_id": ["a", "b"]})
    >>> drops(rows, "too-short", value=pa.array([3.0, 4.0]), threshold=5.0).column("threshold").to_pylist()
    [5.0, 5.0]
    """
    given: dict[str, object] = {"rule": rule, **columns}
    arrays = []
    for field in DROPS:
        value = given.get(field.name)
        if field.name not in given and field.name in rows.schema.names:
            value = rows.column(field.name)
        if isinstance(value, (pa.Array, pa.ChunkedArray)):
            arrays.append(value.cast(field.type))
        else:
            arrays.append(pa.repeat(pa.scalar(value, field.type), rows.num_rows))
    return pa.table(arrays, schema=DROPS)


def no_drops() -> pa.Table:
    """An empty table of drops."""
    return DROPS.empty_table()
