"""Embeddings as they are compared: read from a column and quantised, so that all that follows is exact.

A vector is scaled so that its greatest absolute value is 32767, and its values are rounded to int16, half to
even: ``rint(x / max|x| * 32767)``, in float64. These are two correctly rounded operations and a rounding, with
no sum in them, so every machine gives the same numbers. Each value moves by half a unit at most, and with it
the direction by at most ``sqrt(d) / 65534`` (measured with random vectors of 384 values: the cosine moves by
about 0.00001).

The similarity of two of them is ``dot(x, y) / sqrt(dot(x, x) * dot(y, y))``: the dot products are integers, the
rest is one float64 expression. Vectors of one direction and length have a similarity of exactly 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import SchemaError

__all__ = ["Vectors", "check_lengths", "column", "quantise", "read"]

_MOST = 32767
_ROWS = 1 << 12  # that are held as float64 at a time


class Vectors(NamedTuple):
    """The rows of a column that have a vector: those that are finite and not all zero."""

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.int16]
    """Of shape (rows, d)."""


def quantise(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """Scale and round vectors.

    >>> quantise(np.array([[0.5, -1.0, 0.25]])).tolist()
    [[16384, -32767, 8192]]

    Args:
        vectors: finite, none of them all zero; shape (n, d).

    Returns:
        int16, shape (n, d).
    """
    wide = vectors.astype(np.float64)
    scaled = wide / np.abs(wide).max(axis=1, keepdims=True, initial=0.0) * _MOST
    rounded: npt.NDArray[np.int16] = np.rint(scaled).astype(np.int16)
    return rounded


def read(vectors: pa.ChunkedArray, ids: pa.ChunkedArray, step: str) -> Vectors:
    """Take the vectors of a column.

    A row has none if it is null or empty, if one of its values is null, NaN or infinite, or if all are zero.

    >>> column = pa.chunked_array([[[0.5, 1.0], None, [0.0, 0.0], [float("nan"), 1.0]]])
    >>> found = read(column, pa.chunked_array([["a", "b", "c", "d"]]), "Cosine")
    >>> found.rows.tolist(), found.values.tolist()
    ([0], [[16384, 32767]])

    Args:
        vectors: lists of floats (float16, float32 or float64), of any kind of list.
        ids: the ``_id`` of each row, for errors.
        step: who asks, for errors.

    Raises:
        SchemaError: the column holds no vectors, or vectors of different lengths.
    """
    plain = _lists(vectors, step)
    rows, lengths, values = [], [], []
    first = 0
    for batch in pa.table({"vector": plain}).to_batches(max_chunksize=_ROWS):
        here, sizes, flat = _finite(batch.column(0))
        rows.append(here + first)
        lengths.append(sizes)
        values.append(flat)
        first += batch.num_rows
    found = np.concatenate([np.empty(0, np.int64), *rows])
    sizes = np.concatenate([np.empty(0, np.int64), *lengths])
    check_lengths(ids.take(pa.array(found)), sizes, step)
    width = int(sizes[0]) if len(sizes) else 0
    blocks = [quantise(flat.reshape(-1, width)) for flat in values if len(flat)]
    return Vectors(found, np.concatenate([np.empty((0, width), np.int16), *blocks]))


def _lists(vectors: pa.ChunkedArray, step: str) -> pa.ChunkedArray:
    kind = vectors.type
    if isinstance(kind, pa.BaseExtensionType):  # a tensor of fixed shape, say
        vectors = pa.chunked_array([chunk.storage for chunk in vectors.chunks], kind.storage_type)
    if pa.types.is_null(vectors.type):
        return vectors.cast(pa.list_(pa.float32()))
    listed = (
        pa.types.is_list(vectors.type)
        or pa.types.is_large_list(vectors.type)
        or pa.types.is_fixed_size_list(vectors.type)
    )
    if not (listed and pa.types.is_floating(vectors.type.value_type)):
        raise SchemaError(
            f"{step}: a column of type {kind} holds no vectors",
            hint="give lists of float16, float32 or float64: list, large_list or fixed_size_list",
        )
    return vectors


def _finite(
    chunk: pa.Array,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.floating]]:
    """The rows of a chunk that have a vector, how long those are, and their values one after the other."""
    lengths = pc.list_value_length(chunk).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    filled = np.flatnonzero(lengths)
    sizes = lengths[filled]
    flat = chunk.flatten().to_numpy(zero_copy_only=False)  # a null becomes NaN
    if not len(filled):
        return filled, sizes, flat[:0]
    starts = np.cumsum(sizes) - sizes
    peaks = np.maximum.reduceat(np.abs(flat), starts)  # NaN wins
    good = np.isfinite(peaks) & (peaks > 0)
    return filled[good], sizes[good], flat if good.all() else flat[np.repeat(good, sizes)]


def check_lengths(ids: pa.Array | pa.ChunkedArray, lengths: npt.NDArray[np.int64], step: str) -> None:
    """Refuse vectors of different lengths: they come from different models.

    Raises:
        SchemaError: names the least ``_id``, and the least one with another length.
    """
    if not len(lengths) or lengths.min() == lengths.max():
        return
    order = pc.sort_indices(ids).to_numpy()
    sizes = lengths[order]
    first, other = order[0], order[np.flatnonzero(sizes != sizes[0])[0]]
    raise SchemaError(
        f"{step}: the vector of {ids[int(first)].as_py()} has {lengths[first]} values, "
        f"that of {ids[int(other)].as_py()} has {lengths[other]}",
        hint="embed all rows with one model",
    )


def column(values: npt.NDArray[np.int16]) -> pa.LargeBinaryArray:
    """Vectors as bytes: int16 in the machine's order.

    >>> column(np.array([[1, 2], [3, 4]], np.int16)).to_pylist()[0] == np.array([1, 2], np.int16).tobytes()
    True
    """
    count, width = values.shape
    offsets = np.arange(count + 1, dtype=np.int64) * (values.itemsize * width)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, buffers)
