"""The keep order: which of two near-duplicates stays.

An order is a tuple of column names, the most important first; ``-`` before one means descending. Nulls and
NaN come last either way. It always ends in ``_id``, so that no two rows tie, and the outcome depends neither
on the order of the input nor on its partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator

from lake.errors import ConfigError

__all__ = ["Keep", "columns", "names", "rank"]

_PREFIX = "keep_"


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
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_float16(column.type):  # Arrow does not sort these
            column = column.cast(pa.float32())
        elif pa.types.is_string_view(column.type):
            column = column.cast(pa.large_string())
        if (
            pa.types.is_nested(column.type)
            or pa.types.is_null(column.type)
            or pa.types.is_interval(column.type)
        ):
            raise ConfigError(
                f"keep names the column {name!r}, whose type {column.type} has no order",
                hint="name a column of numbers, strings, booleans or times",
            )
        taken[_PREFIX + name] = column
    return taken


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
    """
    order = []
    for key in keep:
        name = key.removeprefix("-")
        order.append(
            (name if name == "_id" else _PREFIX + name, "descending" if key[0] == "-" else "ascending")
        )
    rows = pc.sort_indices(table, sort_keys=order).to_numpy()  # nulls and NaN last
    ids = pc.dictionary_encode(table.column("_id").combine_chunks()).indices.to_numpy()[rows]
    _, first = np.unique(ids, return_index=True)
    return np.asarray(rows[np.sort(first)], np.int64)
