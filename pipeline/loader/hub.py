"""A table as Parquet files for Hugging Face ``datasets``.

The schema carries the metadata that ``datasets`` writes itself, so that ``load_dataset(folder)`` knows the
column ``image`` as an ``Image`` and, where classes are given, ``label`` as a ``ClassLabel``. Images are the
stored files, byte for byte; late policies are not applied, since a file has no epochs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.errors import ConfigError
from lake.storage import TEMPORARY, guard
from pipeline.loader.source import Source

__all__ = ["write"]

_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_GROUP_ROWS = 100  # of images: what their viewer and streaming readers take at a time


def write(
    source: Source, folder: Path, classes: Sequence[str] | None, *, split: str, shard_bytes: int
) -> list[Path]:
    """Write the rows, in the table's order, to ``<split>-00000.parquet`` and so on.

    Args:
        source: the rows.
        folder: new, or empty but for files of other splits.
        classes: the labels, in the order of their numbers; None: ``label`` stays a string.
        split: the name of the split.
        shard_bytes: about the size of a file.

    Raises:
        ConfigError: there are files of that split already, or a label is not among ``classes``.
        StorageError: no space, no permission.
    """
    with guard(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob(f"{split}-*.parquet")):
            raise ConfigError(
                f"the folder has files of the split {split!r} already", where=str(folder), hint="name a new one"
            )
    schema = _schema(source.schema, classes)
    written: list[Path] = []
    for tables in _shards(source, shard_bytes):
        final = folder / f"{split}-{len(written):05}.parquet"
        temporary = folder / f"{TEMPORARY}{final.name}"
        try:
            with guard(str(folder)), pq.ParquetWriter(temporary, schema) as writer:
                for table in tables:
                    rows = pa.table([_column(table, field, classes) for field in schema], schema=schema)
                    writer.write_table(rows, row_group_size=_GROUP_ROWS if "image" in schema.names else None)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        written.append(final)
    return written


def _shards(source: Source, most: int) -> Iterator[Iterator[pa.Table]]:
    """The row groups, in stretches of about so many bytes."""
    groups = [g for g in range(len(source.counts)) if source.counts[g]]
    while groups or not len(source):
        size, count = 0, 0
        while count < len(groups) and (count == 0 or size + source.sizes[groups[count]] <= most):
            size += source.sizes[groups[count]]
            count += 1
        mine, groups = groups[:count], groups[count:]
        yield (source.read(g, np.arange(source.counts[g], dtype=np.int64)) for g in mine)
        if not mine:
            return


def _schema(schema: pa.Schema, classes: Sequence[str] | None) -> pa.Schema:
    features: dict[str, Any] = {}
    fields = []
    for field in schema:
        if field.name == "image":
            fields.append(pa.field("image", _IMAGE))
            features["image"] = {"_type": "Image"}
        elif field.name == "label" and classes is not None:
            fields.append(pa.field("label", pa.int64()))
            features["label"] = {"_type": "ClassLabel", "names": list(classes)}
        else:
            fields.append(pa.field(field.name, field.type))
            features[field.name] = _feature(field.type)
    plain = pa.schema(fields)
    return plain.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Any:
    """A column as ``datasets`` describes it."""
    if pa.types.is_struct(kind):
        return {kind.field(i).name: _feature(kind.field(i).type) for i in range(kind.num_fields)}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    if pa.types.is_timestamp(kind):
        zone = f", tz={kind.tz}" if kind.tz else ""
        return {"_type": "Value", "dtype": f"timestamp[{kind.unit}{zone}]"}
    names = {"double": "float64", "float": "float32", "halffloat": "float16", "date32[day]": "date32"}
    return {"_type": "Value", "dtype": names.get(str(kind), str(kind))}


def _column(table: pa.Table, field: pa.Field, classes: Sequence[str] | None) -> pa.ChunkedArray | pa.Array:
    column = table.column(field.name)
    if field.name == "image":
        return pa.chunked_array(
            [
                pa.StructArray.from_arrays(
                    [chunk, pa.nulls(len(chunk), pa.string())], fields=list(_IMAGE), mask=chunk.is_null()
                )
                for chunk in column.chunks
            ],
            _IMAGE,
        )
    if field.name == "label" and classes is not None:
        numbers = pc.index_in(column, pa.array(classes, column.type))
        if pc.sum(pc.and_(pc.is_valid(column), pc.is_null(numbers))).as_py():
            raise ConfigError("a label is not among classes=", hint='give classes="auto"')
        return numbers.cast(pa.int64())
    return column.cast(field.type)
