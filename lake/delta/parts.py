"""Parts: the Parquet files of a table, written whole or not at all, with the statistics that Delta keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.errors import MissingPartError, SchemaError
from lake.storage import Storage, guard

__all__ = ["Part", "canonical", "file_schema", "load_part", "part_path", "statistics", "write_part"]

NOTES = b"gristmill.notes"
TOGETHER = b"gristmill.together"  # in the footer: row groups that are read at once
ROW_GROUP_BYTES = 32 << 20
"""Uncompressed bytes of a row group: what a reader holds at a time."""

_LONG = frozenset({"text", "meta"})  # strings by whose range no row is looked for
_STATS_COLUMNS = 32  # Delta's own default for the leading columns
_PREFIX = 32  # characters of a string that go into the statistics
_LAST, _SURROGATES = chr(0x10FFFF), 0xD800  # the last character; the first of the codes that are none
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a table, staged or committed.

    ``path`` is relative to the table; ``bytes`` is the size of the file; ``stats`` is Delta's JSON
    (``numRecords``, ``minValues``, ``maxValues``, ``nullCount``); ``notes`` come back from the file's
    footer (empty for parts listed from the log); ``added`` orders the parts of a table by the commit that
    brought their rows (milliseconds, strictly growing from commit to commit; 0 = staged).
    """

    table: str
    path: str
    rows: int
    bytes: int
    partition: dict[str, str] = field(default_factory=dict, hash=False)
    stats: str = field(default="{}", repr=False)
    notes: dict[str, str] = field(default_factory=dict, hash=False)
    added: int = 0


def part_path(name: str, partition: Mapping[str, str]) -> str:
    """Where a part lies in its table's folder: ``[column=value/]name.parquet``.

    Delta takes partition values from its log, so the folder's name needs no decoding: odd characters
    become ``~XX``, and no reader has to guess how often a path was URL-encoded.

    >>> part_path("a", {"stage": "clean/1"})
    'stage=clean~2F1/a.parquet'
    """
    if not _NAME.match(name):
        msg = f"a part's name has letters, digits, '.', '_' and '-' only, not {name!r}"
        raise ValueError(msg)
    folders = [f"{_plain(key)}={_plain(value)}/" for key, value in partition.items()]
    return f"{''.join(folders)}{name}.parquet"


def _plain(text: str) -> str:
    return re.sub(rb"[^A-Za-z0-9._-]", lambda m: b"~%02X" % m.group()[0], text.encode()).decode()


def canonical(schema: pa.Schema) -> pa.Schema:
    """``schema`` as Delta keeps it: ``large_string`` is string, ``fixed_size_list`` is list, and so on.

    Raises:
        SchemaError: a type that Delta lacks, or would change silently (unsigned integers).
    """
    from deltalake import Schema

    for column in schema:
        _refuse_unsigned(column.name, column.type)
    try:
        kept = pa.schema(Schema.from_arrow(_microseconds(schema)).to_arrow())
    # deltalake raises a bare Exception for types that it does not know.
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise SchemaError("a column has a type that Delta cannot store", why=why) from error
    return pa.schema([column.remove_metadata() for column in kept])


def _refuse_unsigned(name: str, kind: pa.DataType) -> None:
    if pa.types.is_unsigned_integer(kind) or pa.types.is_null(kind):
        raise SchemaError(
            f"column {name!r} is {kind}, which Delta does not have",
            hint="use a signed integer that is wide enough, or reinterpret the bits as one",
        )
    for index in range(kind.num_fields):
        if pa.types.is_dictionary(kind):
            break
        _refuse_unsigned(name, kind.field(index).type)


def _microseconds(schema: pa.Schema) -> pa.Schema:
    columns = []
    for column in schema:
        zone = "UTC" if getattr(column.type, "tz", None) else None
        is_time = pa.types.is_timestamp(column.type)
        columns.append(column.with_type(pa.timestamp("us", tz=zone)) if is_time else column)
    return pa.schema(columns)


def file_schema(schema: pa.Schema, partition: Iterable[str]) -> pa.Schema:
    """The columns that stand in the file: all but the partition's, whose values the log holds."""
    left_out = set(partition)
    return pa.schema([column for column in canonical(schema) if column.name not in left_out])


def write_part(
    storage: Storage,
    table: str,
    path: str,
    batches: Iterable[pa.Table | pa.RecordBatch],
    schema: pa.Schema,
    *,
    partition: Mapping[str, str],
    notes: Mapping[str, str],
    group_bytes: int = ROW_GROUP_BYTES,
    record_bytes: int = 0,
    plain: Collection[str] = (),
) -> Part:
    """Stream ``batches`` into one Parquet file; see :meth:`lake.lake.Lake.write_part`."""
    columns = file_schema(schema, partition)
    where = f"{table}/{path}"
    if "" in partition.values():
        raise SchemaError(
            "the empty text is no value of a partition",
            where=storage.address(where),
            why="Delta takes it for null",
        )
    if not len(columns):
        raise SchemaError("a part needs a column beside those of its partition", where=storage.address(where))
    scalar = [leaf for leaf, kind in _leaves(columns) if not _opaque(kind)]
    with storage.staging(where) as temporary:
        with (
            guard(storage.address(where)),
            pa.OSFile(temporary, "wb") as sink,
            pq.ParquetWriter(
                sink,
                columns,
                compression={leaf: "none" if leaf in plain else "zstd" for leaf, _ in _leaves(columns)},
                compression_level={leaf: 1 for leaf, _ in _leaves(columns) if leaf not in plain},
                # Dictionaries of ids, texts and images only cost time: hardly a value repeats.
                use_dictionary=[leaf for leaf in scalar if leaf not in {"_id", "text", *plain}],
                # Of a text they are two texts for each row group: most of a footer, which every look reads.
                write_statistics=[leaf for leaf in scalar if leaf not in _LONG],
            ) as writer,
        ):
            fitting = _checked(batches, schema, columns, partition, storage.address(where))
            for group in _row_groups(fitting, record_bytes or group_bytes):
                writer.write_table(group, row_group_size=max(1, group.num_rows))
            writer.add_key_value_metadata({NOTES.decode(): json.dumps(dict(notes), sort_keys=True)})
            if record_bytes:
                writer.add_key_value_metadata({TOGETHER.decode(): str(max(1, group_bytes // record_bytes))})
        footer = pq.read_metadata(temporary)
        with pa.OSFile(temporary, "rb") as file:
            size = file.size()
    return _part(table, path, footer, size, dict(partition))


def load_part(storage: Storage, table: str, path: str, partition: Mapping[str, str]) -> Part | None:
    """The part at ``path`` if a whole one of ours lies there: its footer must be readable and carry notes."""
    found = read_footer(storage, f"{table}/{path}")
    if found is None or NOTES not in (found[0].metadata or {}):
        return None
    return _part(table, path, *found, dict(partition))


def read_footer(storage: Storage, path: str) -> tuple[pq.FileMetaData, int] | None:
    """A Parquet file's footer and size; None if there is no such file or it is torn."""

    def work() -> tuple[pq.FileMetaData, int]:
        with storage.open(path) as file:
            return pq.read_metadata(file), file.size()

    try:
        return storage.ask(path, work)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None


def check_part(storage: Storage, part: Part, columns: pa.Schema) -> None:
    """Raise unless the staged part is there as it was and fits ``columns`` (see file_schema)."""
    where = storage.address(f"{part.table}/{part.path}")
    found = read_footer(storage, f"{part.table}/{part.path}")
    if found is None or found[1] != part.bytes or found[0].num_rows != part.rows:
        why = "there is no whole file" if found is None else f"the file has {found[1]} bytes, not {part.bytes}"
        raise MissingPartError(
            "a staged part is gone or has changed",
            where=where,
            why=why,
            hint="run again: the part is made anew",
        )
    check_columns(found[0].schema.to_arrow_schema(), columns, where)


def check_columns(have: pa.Schema, want: pa.Schema, where: str) -> None:
    """Raise :class:`SchemaError` unless ``have`` fits ``want``: nullable columns may be missing, no more."""
    for column in have:
        index = want.get_field_index(column.name)
        if index < 0:
            raise SchemaError(f"column {column.name!r} is not in the schema of the table", where=where)
        if not want.field(index).type.equals(column.type):
            why = f"it is {column.type}, the table has {want.field(index).type}"
            raise SchemaError(f"column {column.name!r} has another type", where=where, why=why)
    for column in want:
        if not column.nullable and column.name not in have.names:
            raise SchemaError(f"column {column.name!r} is missing and may not be null", where=where)


def _part(table: str, path: str, footer: pq.FileMetaData, size: int, partition: dict[str, str]) -> Part:
    notes = json.loads((footer.metadata or {}).get(NOTES, b"{}"))
    return Part(table, path, footer.num_rows, size, partition, statistics(footer), notes)


def _checked(
    batches: Iterable[pa.Table | pa.RecordBatch],
    schema: pa.Schema,
    columns: pa.Schema,
    partition: Mapping[str, str],
    where: str,
) -> Iterator[pa.Table]:
    """The batches as tables of exactly ``columns``, or :class:`SchemaError`."""
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        for name in table.column_names:
            if name not in schema.names and name not in partition:
                raise SchemaError(f"column {name!r} is not in the schema of the part", where=where)
        for name, value in partition.items():
            if name in table.column_names and not _constant(table.column(name), value):
                raise SchemaError(f"column {name!r} differs from the value of the partition", where=where)
        yield pa.table([_fitted(table, schema.field(c.name), c, where) for c in columns], schema=columns)


def _constant(column: pa.ChunkedArray, value: str) -> bool:
    same = pc.all(pc.equal(column, pa.scalar(value).cast(column.type)), skip_nulls=False)
    return len(column) == 0 or same.as_py() is True


def _fitted(table: pa.Table, given: pa.Field, kept: pa.Field, where: str) -> pa.ChunkedArray:
    """A column as Delta keeps it, if it is as the caller's schema says."""
    if given.name not in table.column_names:
        raise SchemaError(f"column {given.name!r} is missing", where=where)
    column = table.column(given.name)
    if not column.type.equals(given.type):
        why = f"it is {column.type}, the schema says {given.type}"
        raise SchemaError(f"column {given.name!r} has another type", where=where, why=why)
    if not given.nullable and column.null_count:
        raise SchemaError(f"column {given.name!r} has nulls and may not", where=where)
    return _cast(column, kept, where)


def _cast(array: pa.ChunkedArray, column: pa.Field, where: str) -> pa.ChunkedArray:
    try:
        return array.cast(column.type)
    except pa.ArrowInvalid as error:
        # Nanoseconds that are not whole microseconds, for example. The message may quote a value: leave it out.
        raise SchemaError(f"column {column.name!r} does not fit {column.type}", where=where) from error


def _row_groups(tables: Iterable[pa.Table], group_bytes: int) -> Iterator[pa.Table]:
    """Gather small tables and cut large ones so that a row group has about so many bytes."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        step = max(1, table.num_rows * group_bytes // max(1, table.nbytes))
        for start in range(0, table.num_rows, step):
            piece = table.slice(start, step)
            if waiting and size + piece.nbytes > group_bytes:
                yield pa.concat_tables(waiting)
                waiting, size = [], 0
            waiting.append(piece)
            size += piece.nbytes
    if waiting:
        yield pa.concat_tables(waiting)


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    for column in schema:
        yield from _leaf(column.name, column.type)


def _leaf(name: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        for inner in kind:
            yield from _leaf(f"{name}.{inner.name}", inner.type)
    else:
        yield name, kind


def _opaque(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind))


def statistics(footer: pq.FileMetaData) -> str:
    """Delta's statistics from a Parquet footer: bounds of the leading scalar columns.

    Bounds may be loose, never wrong: a long minimum is cut (a prefix sorts first), a long maximum is cut
    and its last character raised. Binary columns have none. Nor have floats: Parquet leaves NaN out of
    its bounds, while engines sort NaN above all numbers and would skip a file that matches.
    """
    lows: dict[str, object] = {}
    highs: dict[str, object] = {}
    nulls: dict[str, int] = {}
    schema = footer.schema.to_arrow_schema()
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    place = {groups[0].column(j).path_in_schema: j for j in range(footer.num_columns)} if groups else {}
    for column in list(schema)[:_STATS_COLUMNS]:
        if column.name not in place or pa.types.is_nested(column.type):
            continue
        found = [group.column(place[column.name]).statistics for group in groups]
        if any(one is None or not one.has_null_count for one in found):
            continue
        nulls[column.name] = sum(one.null_count for one in found)
        bounded = [one for one in found if one.num_values]
        if _opaque(column.type) or pa.types.is_floating(column.type) or not bounded:
            continue
        if all(one.has_min_max for one in bounded):
            _put(lows, column.name, _lower(min(one.min for one in bounded)))
            _put(highs, column.name, _upper(max(one.max for one in bounded)))
    rows = footer.num_rows
    return json.dumps({"numRecords": rows, "minValues": lows, "maxValues": highs, "nullCount": nulls})


def _put(bounds: dict[str, object], name: str, value: object) -> None:
    if value is not None:
        bounds[name] = value


def _lower(value: Any) -> object:
    return value[:_PREFIX] if isinstance(value, str) else _json(value)


def _upper(value: Any) -> object:
    if not isinstance(value, str) or len(value) <= _PREFIX:
        return _json(value)
    for end in range(_PREFIX, 0, -1):
        if value[end - 1] != _LAST:  # which has no successor: raise the character before it
            following = ord(value[end - 1]) + 1
            return value[: end - 1] + chr(0xE000 if following == _SURROGATES else following)
    return None


def _json(value: Any) -> object:
    if isinstance(value, datetime):
        zone = "" if value.tzinfo is None else "Z"
        utc = value if value.tzinfo is None else value.astimezone(UTC)
        return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + zone
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        # A JSON number that may round is no bound.
        return None
    return value if isinstance(value, (bool, int, str)) else None
