"""The compiled loops of the comparison of embeddings, which stand in memory as int16."""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from lake.jit import kernel, values_at

__all__ = ["fingerprints", "first_equal", "load", "pack", "scan", "squares", "verify"]

_values_at = values_at(types.int16, 2)


@kernel
def _dot(x: Any, y: Any) -> Any:
    total = np.int64(0)
    for k in range(x.size):
        total += np.int64(np.int32(x[k]) * np.int32(y[k]))
    return total


@kernel
def pack(projections: Any, rows: Any, out: Any) -> None:
    """Write the signs of each ``rows`` projections as the bits of a key; ``out``: (bands, n)."""
    for i in range(projections.shape[0]):
        for band in range(out.shape[0]):
            key = np.uint64(0)
            for k in range(rows):
                if projections[i, band * rows + k] >= 0.0:
                    key |= np.uint64(1) << np.uint64(k)
            out[band, i] = key


@kernel
def squares(places: Any, width: Any, out: Any) -> None:
    """The dot product of each vector with itself."""
    for i in range(places.size):
        x = _values_at(np.uint64(places[i]), np.int64(width))
        out[i] = _dot(x, x)


@kernel
def verify(left: Any, right: Any, places: Any, width: Any, norms: Any, threshold: Any, out: Any) -> None:
    """Compare pairs of vectors: the cosine, or -1 below the threshold. ``norms`` are their squares."""
    for k in range(left.size):
        i, j = left[k], right[k]
        x = _values_at(np.uint64(places[i]), np.int64(width))
        dot = _dot(x, _values_at(np.uint64(places[j]), np.int64(width)))
        cosine = min(1.0, np.float64(dot) / np.sqrt(np.float64(norms[i]) * np.float64(norms[j])))
        out[k] = cosine if cosine >= threshold else -1.0


@kernel
def load(places: Any, width: Any, out: Any) -> None:
    """Copy vectors into the rows of a float64 matrix."""
    for i in range(places.size):
        x = _values_at(np.uint64(places[i]), np.int64(width))
        for k in range(width):
            out[i, k] = x[k]


@kernel
def scan(dots: Any, x: Any, y: Any, upper: Any, left: Any, right: Any) -> Any:
    """Write where a block of dot products reaches ``x[i] * y[j]``; ``upper``: only where i < j."""
    count = 0
    for i in range(dots.shape[0]):
        for j in range(i + 1 if upper else 0, dots.shape[1]):
            if dots[i, j] >= x[i] * y[j]:
                left[count] = i
                right[count] = j
                count += 1
    return count


@kernel
def fingerprints(places: Any, width: Any, out: Any) -> None:
    """A 64-bit hash of each vector."""
    for i in range(places.size):
        x = _values_at(np.uint64(places[i]), np.int64(width))
        h = np.uint64(0)
        for k in range(width):
            h = (h ^ np.uint64(np.uint16(x[k]))) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(29)
        out[i] = h


@kernel
def first_equal(order: Any, prints: Any, places: Any, width: Any, first: Any) -> None:
    """Name for each row the first one of its fingerprint, if the vectors are equal; else itself.

    ``order`` sorts the rows by fingerprint and then by number.
    """
    head = np.int64(0)
    for k in range(order.size):
        row = order[k]
        if k == 0 or prints[row] != prints[head]:
            head = row
        x = _values_at(np.uint64(places[row]), np.int64(width))
        y = _values_at(np.uint64(places[head]), np.int64(width))
        same = True
        for v in range(width):
            if x[v] != y[v]:
                same = False
                break
        first[row] = head if same else row
