"""What the log says of files that are gone: the bounds of their columns quote the rows that were in them.

Delta's statistics hold the least and the greatest value of each column, of a text its first 32 characters.
They stay in the log when the file is gone. Nobody can need them then.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lake.storage import Storage

__all__ = ["without_bounds"]


def without_bounds(storage: Storage, table: str) -> list[str]:
    """Take the bounds of files that are gone out of a table's log; what each version consists of stays.

    Log entries and checkpoints are written anew, each atomically and by itself: who is killed in the middle
    does the rest when he comes again, and in a log that was cut no version is lost. The same again changes
    nothing. Nobody may commit to the table meanwhile.

    Returns:
        The paths of the log's files that were changed or deleted.
    """
    there = {entry.path for entry in storage.entries(table)}
    changed = []
    for path in sorted(path for path in there if path.startswith(f"{table}/_delta_log/")):
        name = path.rpartition("/")[2]
        if name.endswith(".json") and name[:-5].isdigit():
            before = storage.read(path)
            after = b"".join(_line(line, table, there) for line in before.splitlines(keepends=True))
            if after != before:
                storage.write(path, after)
                changed.append(path)
        elif name.endswith(".parquet") and ".checkpoint." in name and _checkpoint(storage, path, table, there):
            changed.append(path)
        elif "#" in name:  # half a file, whose writer is dead
            storage.delete(path)
            changed.append(path)
    return changed


def _line(line: bytes, table: str, there: Collection[str]) -> bytes:
    action: dict[str, Any] = json.loads(line) if line.startswith(b'{"add"') else {}
    add = action.get("add")
    if not add or f"{table}/{add['path']}" in there or not add.get("stats"):
        return line
    bare = _bare(add["stats"])
    if add["stats"] == bare:
        return line
    add["stats"] = bare
    return json.dumps(action, separators=(",", ":")).encode() + (b"\n" if line.endswith(b"\n") else b"")


def _checkpoint(storage: Storage, path: str, table: str, there: Collection[str]) -> bool:
    """Whether a checkpoint had to be written anew."""

    def read() -> pa.Table:
        with storage.open(path) as source:
            return pq.read_table(source)

    rows = storage.ask(path, read)
    at = rows.schema.get_field_index("add")
    adds = rows.column(at).combine_chunks()
    before = [(add or {}).get("stats") for add in adds.to_pylist()]
    after = [
        _bare(stats) if stats and f"{table}/{add['path']}" not in there else stats
        for add, stats in zip(adds.to_pylist(), before, strict=True)
    ]
    if after == before:
        return False
    fields = list(adds.type)
    columns = [
        pa.array(after, field.type) if field.name == "stats" else adds.field(number)
        for number, field in enumerate(fields)
    ]
    bare = pa.StructArray.from_arrays(columns, fields=fields, mask=adds.is_null())
    with storage.staging(path) as temporary:
        pq.write_table(rows.set_column(at, rows.schema.field(at), bare), temporary)
    return True


def _bare(stats: str) -> str:
    """Statistics without bounds."""
    rows = json.loads(stats).get("numRecords", 0)
    return json.dumps({"numRecords": rows, "minValues": {}, "maxValues": {}, "nullCount": {}})
