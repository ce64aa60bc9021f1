"""Streaming rows out of parts: one part after the other, a row group at a time, skipping what cannot match."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from lake.delta.parts import TOGETHER, Part
from lake.errors import MissingPartError, SchemaError
from lake.storage import Storage

__all__ = ["batches", "check_filter", "part_rows", "part_tables", "project", "prune"]

_BATCH_ROWS = 4096
_PARQUET = ds.ParquetFileFormat()
# Bounds that any writer of Delta tables keeps exactly; timestamps are cut to milliseconds by some.
_BOUNDED = (pa.types.is_integer, pa.types.is_string, pa.types.is_date, pa.types.is_boolean)


def project(schema: pa.Schema, columns: Sequence[str] | None, where: str) -> pa.Schema:
    """The chosen columns in the chosen order; :class:`SchemaError` for one that the table lacks."""
    if columns is None:
        return schema
    for name in columns:
        if name not in schema.names:
            raise SchemaError(
                f"there is no column {name!r}", where=where, hint=f"the columns are {', '.join(schema.names)}"
            )
    return pa.schema([schema.field(name) for name in columns])


def check_filter(schema: pa.Schema, condition: pc.Expression | None, where: str) -> None:
    """:class:`SchemaError` for a condition on a column that the table lacks, or that is of another type."""
    if condition is None:
        return
    try:
        schema.empty_table().filter(condition)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise SchemaError(
            "the filter does not fit the table",
            where=where,
            why=f"{condition}: {str(error).splitlines()[0]}",
            hint=f"the columns are {', '.join(schema.names)}",
        ) from error


def prune(
    storage: Storage, parts: Iterable[Part], schema: pa.Schema, condition: pc.Expression | None
) -> list[Part]:
    """The parts that may hold a matching row, judged by the statistics in the log alone."""
    if condition is None:
        return list(parts)
    by_path = {storage.inner(f"{part.table}/{part.path}"): part for part in parts}
    fragments = [
        _PARQUET.make_fragment(
            path, storage.filesystem, partition_expression=_known(part, schema, str(condition))
        )
        for path, part in by_path.items()
    ]
    if not fragments:
        return []
    found = ds.FileSystemDataset(fragments, schema, _PARQUET, storage.filesystem).get_fragments(condition)
    return [by_path[fragment.path] for fragment in found]


def _known(part: Part, schema: pa.Schema, condition: str) -> pc.Expression:
    """What the log promises of all rows of a part.

    Columns with nulls promise nothing: Arrow would take a bound for "there are no nulls".
    """
    promise = _partition(part, schema)
    stats = json.loads(part.stats)
    lows, highs = stats.get("minValues") or {}, stats.get("maxValues") or {}
    for name, nulls in (stats.get("nullCount") or {}).items():
        if nulls != 0 or name not in condition or name not in lows or name not in highs:
            continue
        kind = schema.field(name).type if name in schema.names else pa.null()
        if any(test(kind) for test in _BOUNDED):
            low, high = _scalar(lows[name], kind), _scalar(highs[name], kind)
            promise = promise & (pc.field(name) >= low) & (pc.field(name) <= high)
    return promise


def _partition(part: Part, schema: pa.Schema) -> pc.Expression:
    promise = pc.scalar(True)  # noqa: FBT003  (an Arrow scalar has no other name)
    for name, value in part.partition.items():
        promise = promise & (pc.field(name) == _scalar(value, schema.field(name).type))
    return promise


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(value).cast(kind)


def batches(
    storage: Storage, parts: Iterable[Part], schema: pa.Schema, out: pa.Schema, condition: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """The matching rows of ``parts`` in order; columns that a part lacks are null."""
    for part in parts:
        path = storage.inner(f"{part.table}/{part.path}")
        fragment = _PARQUET.make_fragment(
            path, storage.filesystem, partition_expression=_partition(part, schema)
        )
        # A row group at a time: Arrow's scanner reads ahead without regard to bytes (600 MB of images, 1.1 GB).
        with _there(storage, part):
            storage.ask(f"{part.table}/{part.path}", fragment.ensure_complete_metadata)
            for group in _some_groups(fragment, condition, schema):
                read = partial(group.to_table, schema=schema, columns=out.names, filter=condition)
                rows = storage.ask(f"{part.table}/{part.path}", read)
                for batch in rows.to_batches(max_chunksize=_BATCH_ROWS):
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=out)


def _some_groups(
    fragment: ds.ParquetFileFragment, condition: pc.Expression | None, schema: pa.Schema
) -> Iterator[ds.ParquetFileFragment]:
    """The row groups of a file that may match, as many at a time as are read at once."""
    left = fragment if condition is None else fragment.subset(condition, schema=schema)
    chosen = {group.id for group in left.row_groups}
    for groups in _together(fragment.metadata):
        if mine := [group for group in groups if group in chosen]:
            yield fragment.subset(row_group_ids=mine)


def part_tables(storage: Storage, part: Part, out: pa.Schema) -> Iterator[pa.Table]:
    """One part's rows, a table per row group, with the partition's columns and nulls for missing ones."""
    where = f"{part.table}/{part.path}"
    with (
        _there(storage, part),
        storage.open(where) as source,
        storage.ask(where, partial(pq.ParquetFile, source)) as file,
    ):
        there = set(file.schema_arrow.names)
        wanted = [name for name in out.names if name in there]
        for groups in _together(file.metadata):
            rows = sum(file.metadata.row_group(group).num_rows for group in groups)
            # With no column left to read, the row count has to come from the footer.
            read = partial(file.read_row_groups, groups, columns=wanted)
            table = storage.ask(where, read) if wanted else None
            yield pa.table([_column(table, rows, c, part.partition) for c in out], schema=out)


def _together(footer: pq.FileMetaData) -> Iterator[list[int]]:
    """Row groups that are read at once: small ones are there for those who want a single row."""
    step = int((footer.metadata or {}).get(TOGETHER, 1))
    for start in range(0, footer.num_row_groups, step):
        yield [*range(start, min(start + step, footer.num_row_groups))]


def part_rows(storage: Storage, part: Part, out: pa.Schema, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Some rows of a part, by number, in the order asked for; only the row groups that hold one are read."""
    where = f"{part.table}/{part.path}"
    with (
        _there(storage, part),
        storage.open(where) as source,
        storage.ask(where, partial(pq.ParquetFile, source)) as file,
    ):
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *counts])
        groups = np.unique(np.searchsorted(starts, rows, side="right") - 1)
        if not len(groups):
            return out.empty_table()
        read = partial(file.read_row_groups, groups.tolist(), columns=out.names, use_threads=True)
        found = storage.ask(where, read)
        # Where each of the groups that were read begins in the table that came of it.
        sizes = np.array(counts)[groups]
        shift = starts[groups] - (np.cumsum(sizes) - sizes)
        place = rows - shift[np.searchsorted(groups, np.searchsorted(starts, rows, side="right") - 1)]
        table = pa.table([_column(found, found.num_rows, c, part.partition) for c in out], schema=out)
        return table.take(pa.array(place))


def _column(
    table: pa.Table | None, rows: int, column: pa.Field, partition: Mapping[str, str]
) -> pa.ChunkedArray | pa.Array:
    if column.name in partition:
        return pa.repeat(_scalar(partition[column.name], column.type), rows)
    if table is not None and column.name in table.column_names:
        return table.column(column.name).cast(column.type)
    return pa.nulls(rows, column.type)


@contextmanager
def _there(storage: Storage, part: Part) -> Iterator[None]:
    """A file that is gone, or goes while it is read, is a :class:`MissingPartError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingPartError(
            "a part of the table is gone",
            where=storage.address(f"{part.table}/{part.path}"),
            why="its file was deleted or vacuumed",
            hint="read a newer version, or restore the file from a backup",
        ) from error
