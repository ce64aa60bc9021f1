"""Parquet: by columns; what Arrow holds exactly goes to ``meta`` by columns too."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.formats import vectors
from lake.formats.pictures import check
from lake.formats.places import open_file
from lake.formats.rows import (
    TYPES,
    BadRowError,
    Reading,
    canonical,
    dropped,
    label_text,
    sources,
    table,
    value_of,
)
from lake.formats.splits import Piece
from lake.op import Outcome

__all__ = ["read"]

_MOST_ROWS = 65_536


def read(piece: Piece, address: str, how: Reading) -> Iterator[Outcome]:
    """The records of a piece (a run of row groups) of a file, in order."""
    uri, row = piece.file.uri, piece.first_row
    source = open_file(address)
    try:
        file = pq.ParquetFile(pa.PythonFile(source, mode="r"), pre_buffer=False)
        groups = list(range(file.num_row_groups))[piece.start : piece.end]
        for batch in file.iter_batches(batch_size=_rows_a_batch(file.metadata, groups, how), row_groups=groups):
            yield _outcome(uri, row, batch, how)
            row += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, (PermissionError, FileNotFoundError)):
            raise
        reason = f"row {row}: the Parquet data is broken or cut off ({type(error).__name__})"
        yield Outcome(how.schema.empty_table(), dropped([(uri, row, "truncated-file", reason)]))
    finally:
        source.close()


def _rows_a_batch(footer: Any, groups: list[int], how: Reading) -> int:
    rows: int = sum(footer.row_group(i).num_rows for i in groups)
    size: int = sum(footer.row_group(i).total_byte_size for i in groups)
    most: int = how.batch_bytes * max(rows, 1) // max(size, 1)
    return max(1, min(_MOST_ROWS, most))


def _outcome(uri: str, row: int, batch: pa.RecordBatch, how: Reading) -> Outcome:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    n = batch.num_rows
    numbers = np.arange(row, row + n, dtype=np.int64)
    bad: dict[int, BadRowError] = {}
    given: dict[str, Any] = {}
    given["text"] = _strings(columns.get(how.text or ""), how.text, n, bad)
    if how.image is not None:
        given["image"] = _images(columns.get(how.image), how, n, bad)
    given["label"] = _labels(columns.get(how.label or ""), how.label, n, bad)
    for name, kind in how.columns:
        given[name] = _typed(columns.get(name), name, kind, n, bad)
    given["meta"] = _meta({name: column for name, column in columns.items() if name not in how.taken}, n)
    if any(item is not None and item.nbytes > how.max_row_bytes for item in given.values()):
        _check_sizes(given, how, n, bad)
    present = np.asarray(given["text"].is_valid())
    if how.image is not None:
        present = present | np.asarray(given["image"].is_valid())
    for index in np.flatnonzero(~present).tolist():
        bad.setdefault(index, BadRowError(how.missing(), "no value"))
    gone: list[tuple[str, int | None, str, str | None]] = [
        (uri, int(numbers[i]), bad[i].rule, f"row {numbers[i]}, {bad[i].detail}") for i in sorted(bad)
    ]
    if bad:
        keep = np.ones(n, np.bool_)
        keep[list(bad)] = False
        given = {name: column.filter(pa.array(keep)) for name, column in given.items()}
        numbers = numbers[keep]
    return Outcome(table(how, given, sources(uri, numbers)), dropped(gone))


def _check_sizes(given: dict[str, Any], how: Reading, n: int, bad: dict[int, BadRowError]) -> None:
    sizes = np.zeros(n, np.int64)
    for name in ("text", "image"):
        if name in given:
            sizes += np.asarray(pc.binary_length(given[name]).fill_null(0), dtype=np.int64)
    for index in np.flatnonzero(sizes > how.max_row_bytes).tolist():
        bad.setdefault(index, BadRowError("row-too-large", f"over {how.max_row_bytes} bytes"))


def _strings(column: pa.Array | None, name: str | None, n: int, bad: dict[int, BadRowError]) -> pa.Array:
    if column is None:
        return pa.nulls(n, pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = column.cast(pa.string())
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:
            return _decoded(text.cast(pa.binary()), bad)
        return text
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(column.cast(pa.binary()), bad)
    for index in np.flatnonzero(np.asarray(column.is_valid())).tolist():
        bad[index] = BadRowError("wrong-type", f"column {name!r}: expected a string, found {kind}")
    return pa.nulls(n, pa.string())


def _decoded(column: pa.Array, bad: dict[int, BadRowError]) -> pa.Array:
    values: list[str | None] = []
    for index, value in enumerate(column.to_pylist()):
        try:
            values.append(None if value is None else value.decode("utf-8"))
        except UnicodeDecodeError as error:
            values.append(None)
            bad[index] = BadRowError("invalid-utf8", f"byte {error.start + 1}: {error.reason}")
    return pa.array(values, pa.string())


def _images(column: pa.Array | None, how: Reading, n: int, bad: dict[int, BadRowError]) -> pa.Array:
    if column is None:
        return pa.nulls(n, pa.binary())
    if pa.types.is_struct(column.type) and "bytes" in [f.name for f in column.type]:
        column = pc.struct_field(column, "bytes")  # {bytes, path}: the layout of Hugging Face datasets
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        for index in np.flatnonzero(np.asarray(column.is_valid())).tolist():
            bad[index] = BadRowError("wrong-type", f"column {how.image!r}: expected bytes, found {column.type}")
        return pa.nulls(n, pa.binary())
    column = column.cast(pa.binary())
    for index in range(n):
        if column[index].is_valid and index not in bad:
            try:
                check(column[index].as_py(), how)
            except BadRowError as error:
                bad[index] = error
    return column


def _labels(column: pa.Array | None, name: str | None, n: int, bad: dict[int, BadRowError]) -> pa.Array:
    if column is None or name is None:
        return pa.nulls(n, pa.string())
    text, doubtful = vectors.plain_text(column, exact=True)
    if doubtful is None:
        return text
    return _each(column, pa.string(), bad, lambda value: label_text(_json_value(value), name))


def _typed(column: pa.Array | None, name: str, kind: str, n: int, bad: dict[int, BadRowError]) -> pa.Array:
    if column is None:
        return pa.nulls(n, TYPES[kind])
    have = column.type
    if kind == "timestamp" and pa.types.is_timestamp(have) and have.tz is None:
        column = column.cast(pa.timestamp("us"), safe=False).cast(TYPES[kind])
    exact = (have == TYPES[kind] and kind != "json") or (
        {"int64": pa.types.is_integer, "float64": pa.types.is_floating, "timestamp": pa.types.is_timestamp}
        .get(kind, pa.types.is_null)(have)
    )  # fmt: skip
    if exact:
        try:
            return column.cast(TYPES[kind], safe=kind != "timestamp")
        except pa.ArrowInvalid:  # an unsigned number over the limit: find the rows
            pass
    return _each(column, TYPES[kind], bad, lambda value: value_of(_json_value(value), kind, name))


def _each(column: pa.Array, kind: pa.DataType, bad: dict[int, BadRowError], convert: Any) -> pa.Array:
    values = []
    for index, value in enumerate(column.to_pylist()):
        try:
            values.append(convert(value))
        except BadRowError as error:
            bad.setdefault(index, error)
            values.append(None)
    return pa.array(values, kind)


def _meta(columns: dict[str, pa.Array], n: int) -> pa.Array:
    """By columns, and whole rows again one by one where a list, a time or a blob is in them."""
    if not columns:
        return pa.nulls(n, pa.string())
    text, doubtful = vectors.json_object(list(columns), list(columns.values()), exact=True)
    if doubtful is not None and doubtful.any():
        mask = pa.array(doubtful)
        # Python's times have microseconds, as Delta's; Arrow will not give it nanoseconds.
        plain = {name: column.cast(_micro(column.type), safe=False) for name, column in columns.items()}
        rows = pa.table(plain).filter(mask).to_pylist()
        text = pc.replace_with_mask(
            text, mask, pa.array([canonical(_json_value(r)) or "{}" for r in rows], pa.string())
        )
    return pc.if_else(pc.equal(text, "{}"), pa.scalar(None, pa.string()), text)


def _micro(kind: pa.DataType) -> pa.DataType:
    """The type with microseconds in place of nanoseconds, at any depth."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([kind.field(i).with_type(_micro(kind.field(i).type)) for i in range(kind.num_fields)])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_micro(kind.value_type)))
    return kind


def _json_value(value: Any) -> Any:  # noqa: PLR0911 (one line a type)
    """Arrow's Python values as JSON has them: times as ISO 8601, bytes as base64, NaN as null."""
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value) if isinstance(value, Decimal) else value
