"""The compiled comparison of two texts: exact Jaccard of the shingle sets, estimate of the signatures."""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from dedup.text._instructions import BLOCK, matches
from lake.jit import kernel, values_at

__all__ = ["agreement", "jaccard", "verify"]

_hashes_at = values_at(types.uint32, 4)


@kernel
def jaccard(x: Any, y: Any, threshold: Any) -> Any:
    """Exact Jaccard similarity of two sorted sets, or -1 as soon as it cannot reach the threshold."""
    nx, ny = x.size, y.size
    if nx + ny == 0:
        return -1.0
    # |x & y| >= t |x | y|  <=>  |x & y| >= t (nx + ny) / (1 + t); one less guards against rounding
    need = np.int64(threshold * (nx + ny) / (1.0 + threshold)) - 1
    i, j, common = np.int64(0), np.int64(0), np.int64(0)
    at_x, at_y = np.uint64(x.ctypes.data), np.uint64(y.ctypes.data)
    while i + BLOCK <= nx and j + BLOCK <= ny:  # the block that ends lower has met all that could equal it
        if common + min(nx - i, ny - j) < need:
            return -1.0
        common += np.int64(matches(at_x + np.uint64(4 * i), at_y + np.uint64(4 * j)))
        u, v = x[i + BLOCK - 1], y[j + BLOCK - 1]
        i += BLOCK * np.int64(u <= v)
        j += BLOCK * np.int64(v <= u)
    while i < nx and j < ny and common + min(nx - i, ny - j) >= need:
        u, v = x[i], y[j]
        common += np.int64(u == v)
        i += np.int64(u <= v)
        j += np.int64(v <= u)
    similarity = common / (nx + ny - common)
    return similarity if similarity >= threshold else -1.0


@kernel
def verify(left: Any, right: Any, places: Any, sizes: Any, threshold: Any, out: Any) -> None:
    """Compare pairs of rows, whose sorted distinct hashes stand at ``places``: similarity, or -1 below."""
    for k in range(left.size):
        i, j = left[k], right[k]
        less, more = min(sizes[i], sizes[j]), max(sizes[i], sizes[j])
        if less == 0 or less / more < threshold:  # even a subset would not do
            out[k] = -1.0
        else:
            x = _hashes_at(np.uint64(places[i]), np.int64(sizes[i]))
            out[k] = jaccard(x, _hashes_at(np.uint64(places[j]), np.int64(sizes[j])), threshold)


@kernel
def agreement(left: Any, right: Any, places: Any, width: Any, out: Any) -> None:
    """The share of equal values in two signatures of ``width`` values each."""
    for k in range(left.size):
        x = _hashes_at(np.uint64(places[left[k]]), np.int64(width))
        y = _hashes_at(np.uint64(places[right[k]]), np.int64(width))
        same = np.int64(0)
        for v in range(width):
            same += np.int64(x[v] == y[v])
        out[k] = same / width
