"""The keep order: which of two near-duplicates stays.

An order is a tuple of column names, the most important first; ``-`` before one means descending. Nulls and
NaN come last either way. It always ends in ``_id``, so that no two rows tie, and the outcome depends neither
on the order of the input nor on its partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator

from lake.errors import ConfigError, SchemaError
from lake.ids import IdSet, halves

__all__ = ["Keep", "columns", "names", "rank"]

_PREFIX = "keep_"
_COPIED = 1 << 27  # bytes of a table that is copied to be sorted
_UNORDERED = (pa.types.is_nested, pa.types.is_null, pa.types.is_interval)
_WIDER = (  # Arrow sorts none of these
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_string_view, pa.large_string()),
    (pa.types.is_binary_view, pa.large_binary()),
)


def _complete(keep: tuple[str, ...]) -> tuple[str, ...]:
    names = [name.removeprefix("-") for name in keep]
    if "" in names:
        raise ValueError("a name in keep is empty")
    if len(set(names)) < len(names):
        raise ValueError("a name stands twice in keep")
    return keep if "_id" in names else (*keep, "_id")


Keep = Annotated[tuple[str, ...], AfterValidator(_complete)]
"""A keep order: a tuple of column names; ``_id`` is added at the end where it is missing."""


def columns(
    table: pa.Table, keep: Sequence[str], derived: Mapping[str, Callable[[], pa.Array]]
) -> dict[str, pa.ChunkedArray]:
    """Take what the keep order needs of a table: its own columns, else the derived ones.

    Args:
        table: records.
        keep: the order.
        derived: makes the columns that stand in where the table has none of that name.

    Returns:
        By name, with the prefix ``keep_``.

    Raises:
        ConfigError: there is no such column, or its type has no order.
    """
    taken = {}
    for key in keep:
        name = key.removeprefix("-")
        if name == "_id":
            continue
        if name in table.schema.names:
            column = table.column(name)
        elif name in derived:
            column = pa.chunked_array([derived[name]()])
        else:
            raise ConfigError(
                f"keep names the column {name!r}, which the table does not have",
                hint=f"name one of {', '.join(sorted({*table.schema.names, *derived}))}",
            )
        ordered = _ordered(column)
        if ordered is None:
            raise ConfigError(
                f"keep names the column {name!r}, whose type {column.type} has no order",
                hint="name a column of numbers, strings, booleans or times",
            )
        taken[_PREFIX + name] = ordered
    return taken


def _ordered(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Give a column as a type that Arrow sorts; None if it has no order."""
    coded = pa.types.is_dictionary(column.type)
    kind = column.type.value_type if coded else column.type
    if isinstance(kind, pa.BaseExtensionType) or any(unordered(kind) for unordered in _UNORDERED):
        return None
    wider = next((wide for test, wide in _WIDER if test(kind)), kind)
    if coded and wider != kind:
        pairs = [(chunk.indices, chunk.dictionary.cast(wider)) for chunk in column.chunks]
        home = pa.dictionary(column.type.index_type, wider, column.type.ordered)
        column = pa.chunked_array([pa.DictionaryArray.from_arrays(*pair) for pair in pairs], home)
    return column.cast(wider)


def names(keep: Sequence[str]) -> list[str]:
    """The columns of a sketch that hold the order, but for ``_id``.

    >>> names(("-length", "_id"))
    ['keep_length']
    """
    return [_PREFIX + name for key in keep if (name := key.removeprefix("-")) != "_id"]


def rank(table: pa.Table, keep: Sequence[str]) -> npt.NDArray[np.int64]:
    """Give the row numbers in keep order, each ``_id`` once.

    >>> table = pa.table({"_id": ["b", "a", "c"], "keep_stars": [4.0, 4.0, float("nan")]})
    >>> rank(table, ["-stars", "_id"]).tolist()
    [1, 0, 2]

    Args:
        table: ``_id`` and what :func:`columns` took.
        keep: the order.

    Raises:
        SchemaError: a row has no ``_id``.
    """
    if table.column("_id").null_count:
        raise SchemaError(
            "a row has no _id", hint="give every row one, or leave the column out: it is then computed"
        )
    order = []
    for key in keep:
        name = key.removeprefix("-")
        order.append(
            (name if name == "_id" else _PREFIX + name, "descending" if key[0] == "-" else "ascending")
        )
    # Of many chunks Arrow sorts each, and merges them at half the speed; but a copy takes memory.
    whole = table.combine_chunks() if table.nbytes < _COPIED else table
    rows = pc.sort_indices(whole, sort_keys=order).to_numpy()  # nulls and NaN last
    del whole
    return np.asarray(rows[_first(table.column("_id"), rows)], np.int64)


def _first(ids: pa.ChunkedArray, rows: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Tell of each row, in the order given, whether its id has not come before."""
    with suppress(ValueError):  # in a third of the memory, where all ids are hashes of content
        return IdSet(len(rows)).add(halves(ids)[rows])
    # Ids of 32 characters are, from 67 million on, more than 32-bit offsets reach.
    coded = pc.dictionary_encode(ids.cast(pa.large_string()))  # one dictionary for all chunks
    numbers = np.concatenate([np.empty(0, np.int32), *(chunk.indices.to_numpy() for chunk in coded.chunks)])
    first = np.zeros(len(rows), np.bool_)
    first[np.unique(numbers[rows], return_index=True)[1]] = True
    return first
