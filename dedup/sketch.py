"""Sketches: what a match remembers of a table, how it is labelled, and how many are read as one.

A sketch may be a memory-mapped Arrow file, and all of them together larger than the memory: the wide column
(shingle sets, thumbnails) is reached by address and never copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.select import Selection
from lake.errors import SchemaError

__all__ = ["STATE", "check", "fixed", "fixed_addresses", "label", "list_addresses", "state"]

STATE = pa.schema(
    [
        pa.field("_id", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("twin", pa.string()),
        pa.field("estimated", pa.float64()),
        pa.field("exact", pa.float64()),
    ]
)
"""What a match decides: the rows that go, and why. Sorted by ``_id``."""

_KEY = b"gristmill.sketch"
_Kind = TypeVar("_Kind", bound=np.generic)


def label(table: pa.Table, settings: Mapping[str, object]) -> pa.Table:
    """Note in the schema how a sketch was made.

    >>> label(pa.table({"_id": ["a"]}), {"spec": 1}).schema.metadata
    {b'gristmill.sketch': b'{"spec": 1}'}
    """
    return table.replace_schema_metadata({_KEY: json.dumps(settings, sort_keys=True).encode()})


def check(sketches: Sequence[pa.Table], settings: Mapping[str, object]) -> None:
    """Refuse sketches that were made in another way: their hashes do not compare.

    Raises:
        SchemaError: a sketch has no label or another one.
    """
    wanted = json.dumps(settings, sort_keys=True)
    for sketch in sketches:
        found = (sketch.schema.metadata or {}).get(_KEY, b"no label").decode()
        if found != wanted:
            raise SchemaError(
                "a sketch was made with other settings or by another version",
                why=f"it says {found}, this step says {wanted}",
                hint="make the sketch anew from its rows",
            )


def state(
    ids: pa.ChunkedArray,
    order: npt.NDArray[np.int64],
    chosen: Selection,
    *,
    threshold: float,
    estimated: npt.NDArray[np.float64],
) -> pa.Table:
    """Lay out what was decided.

    Args:
        ids: of all rows.
        order: their numbers in keep order.
        chosen: which go, by position in that order.
        threshold: the least similarity of a duplicate.
        estimated: the estimate of each row that goes, as its sketch has it; shape (d,).
    """
    names = ids.take(pa.array(order)).combine_chunks()
    number = len(chosen.dropped)
    columns = {
        "_id": names.take(pa.array(chosen.dropped)).cast(pa.string()),
        "rule": pa.repeat("near-duplicate", number),
        "value": pa.array(chosen.exact),
        "threshold": pa.repeat(pa.scalar(threshold, pa.float64()), number),
        "twin": names.take(pa.array(chosen.twin)).cast(pa.string()),
        "estimated": pa.array(estimated, pa.float64()),
        "exact": pa.array(chosen.exact),
    }
    return pa.table(columns, schema=STATE).sort_by("_id")


def fixed(column: pa.ChunkedArray, dtype: type[_Kind]) -> list[npt.NDArray[_Kind]]:
    """View each chunk of a fixed-size binary column as rows of ``dtype``, without a copy."""
    kind = np.dtype(dtype)
    views = []
    for chunk in column.chunks:
        width = chunk.type.byte_width
        each = width // kind.itemsize
        data = np.frombuffer(chunk.buffers()[1], kind, len(chunk) * each, chunk.offset * width)
        views.append(data.reshape(len(chunk), each))
    return views


def fixed_addresses(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Tell where in memory each value of a fixed-size binary column starts."""
    places = [np.empty(0, np.uint64)]
    for chunk in column.chunks:
        width = chunk.type.byte_width
        first = chunk.buffers()[1].address + chunk.offset * width
        places.append(first + np.arange(len(chunk), dtype=np.uint64) * np.uint64(width))
    return np.concatenate(places)


def list_addresses(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Tell where in memory each list of a large_list<uint32> column starts, and how long it is."""
    places, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for chunk in column.chunks:
        offsets = chunk.offsets.to_numpy()
        values = chunk.values  # whole: the offsets count from its start
        buffer = values.buffers()[1]
        first = (buffer.address if buffer else 0) + 4 * values.offset
        places.append(first + 4 * offsets[:-1].astype(np.uint64))
        sizes.append(np.diff(offsets))
    return np.concatenate(places), np.concatenate(sizes)
