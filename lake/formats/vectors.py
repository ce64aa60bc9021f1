"""Columns to text, exactly as the one-by-one code in ``rows`` writes it, or a mask where it cannot.

Each function returns an array and a mask of rows (or None) that must be done one by one. JSON tells
``1`` from ``1.0`` and keeps ``"2020-01-01"`` as it is; Arrow's reader does not, so that a float
that is whole, a list or a timestamp always goes to the mask when ``exact`` is False.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Mask", "either", "json_object", "plain_text"]

Mask = npt.NDArray[np.bool_] | None

_quote = json.encoder.encode_basestring
_SPECIAL = np.zeros(256, dtype=np.bool_)
_SPECIAL[:32] = True
_SPECIAL[[34, 92]] = True  # the quote and the backslash


def either(first: Mask, second: Mask) -> Mask:
    """The union of two masks."""
    if first is None or second is None:
        return second if first is None else first
    return first | second


def plain_text(column: pa.Array, *, exact: bool) -> tuple[pa.Array, Mask]:
    """A label column as strings: ``rows.label_text`` by columns."""
    kind = column.type
    if pa.types.is_string(kind):
        return column, None
    if pa.types.is_large_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return column.cast(pa.string()), None
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string()), None
    if pa.types.is_dictionary(kind):
        return plain_text(column.dictionary_decode(), exact=exact)
    if pa.types.is_floating(kind):
        return _floats(column, exact=exact)
    return pa.nulls(len(column), pa.string()), _valid(column)


def _valid(column: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(column.is_valid())


def _floats(column: pa.Array, *, exact: bool) -> tuple[pa.Array, Mask]:
    if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
        column = column.cast(pa.float64())
    numbers = np.asarray(column.fill_null(0.5))
    finite = np.isfinite(numbers)
    strings = [repr(value) if good else None for value, good in zip(column.to_pylist(), finite, strict=True)]
    text = pc.if_else(column.is_valid(), pa.array(strings, pa.string()), pa.scalar(None, pa.string()))
    if exact:  # the number is what the source holds; NaN is no value
        return text, None
    doubtful = ~finite | (numbers == np.floor(numbers))
    return text, doubtful if doubtful.any() else None


def json_object(names: Sequence[str], columns: Sequence[pa.Array], *, exact: bool) -> tuple[pa.Array, Mask]:
    """The columns as JSON objects, ``rows.canonical`` by columns: ``{}`` where all are null."""
    pieces, mask = [], None
    for name, column in sorted(zip(names, columns, strict=True), key=lambda item: item[0]):
        piece, doubtful = _member(name, column, exact=exact)
        mask = either(mask, doubtful)
        if piece is not None:
            pieces.append(piece)
    if not pieces:
        return pa.repeat(pa.scalar("{}"), len(columns[0]) if columns else 0), mask
    inner = pieces[0]
    if len(pieces) > 1:
        empty = reduce(pc.and_, [piece.is_null() for piece in pieces])
        if empty.true_count:  # Arrow leaves such rows out of its answer altogether
            pieces[0] = pc.if_else(empty, "", pieces[0])
        inner = pc.binary_join_element_wise(*pieces, ",", null_handling="skip")
    return pc.binary_join_element_wise("{", inner, "}", "", null_handling="replace"), mask


def _member(name: str, column: pa.Array, *, exact: bool) -> tuple[pa.Array | None, Mask]:
    """``"name":value``, null where the value is; None where nothing can be said by columns."""
    key = _quote(name) + ":"
    if isinstance(column.type, pa.DictionaryType):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_null(kind):
        return None, None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _quoted(key, column.cast(pa.string())), None
    mask: Mask = None
    if pa.types.is_struct(kind):
        fields = [kind.field(i).name for i in range(kind.num_fields)]
        value, mask = json_object(fields, column.flatten(), exact=exact)
        if len(value) != len(column):  # a struct without fields
            value = pa.repeat(pa.scalar("{}"), len(column))
        value = pc.if_else(column.is_valid(), value, pa.scalar(None, pa.string()))
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        value, mask = plain_text(column, exact=exact)
    else:
        return None, _valid(column)
    return pc.binary_join_element_wise(key, value, "", null_handling="emit_null"), mask


def _quoted(key: str, column: pa.Array) -> pa.Array:
    """``"name":"value"`` with JSON's escapes where they are needed."""
    simple = pc.binary_join_element_wise(key + '"', column, '"', "", null_handling="emit_null")
    rows = _escaped_rows(column)
    if rows is None:
        return simple
    values = column.filter(pa.array(rows)).to_pylist()
    written = pa.array([key + _quote(value) for value in values], pa.string())
    return pc.replace_with_mask(simple, pa.array(rows), written)


def _escaped_rows(column: pa.Array) -> Mask:
    _, offset_buffer, data = column.buffers()
    if offset_buffer is None or data is None or not len(column):
        return None
    offsets = np.frombuffer(offset_buffer, np.int32)[column.offset : column.offset + len(column) + 1]
    start = int(offsets[0])
    special = np.flatnonzero(_SPECIAL[np.frombuffer(data, np.uint8)[start : int(offsets[-1])]])
    if not len(special):
        return None
    rows = np.zeros(len(column), np.bool_)
    rows[np.searchsorted(offsets, special + start, side="right") - 1] = True
    if column.null_count:
        rows &= _valid(column)
    return rows


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    if column.num_chunks == 1:
        return column.chunk(0)
    joined: Any = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined
