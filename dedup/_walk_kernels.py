"""The compiled walk in keep order, and the two exact similarities that it asks.

The rule stands in :mod:`dedup.select`. What a kernel calls lives in the same file: see :mod:`lake.jit`.
"""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from lake.jit import kernel

__all__ = ["jaccard", "likeness", "walk_images", "walk_sets"]

_GREY = 1024  # bytes of a 32 x 32 grey thumbnail; the 2 x 64 bytes of colour differences follow it
_COLOUR = 128


def _view(element: Any, bytes_each: int) -> Any:
    """Make ``f(address, count)``: the values at an address as an array, without a copy.

    Sketches are mapped files that may be larger than the memory. The caller keeps them open.
    """
    view = types.Array(element, 1, "C")

    @intrinsic
    def values_at(_context: Any, _address: Any, _count: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            array = context.make_array(view)(context, builder)
            start = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            size = context.get_constant(types.intp, bytes_each)
            populate_array(  # type: ignore[no-untyped-call]  # numba types this module in part only
                array,
                data=builder.bitcast(start, array.data.type),
                shape=[arguments[1]],
                strides=[size],
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()  # noqa: SLF001  (numba's own way to read a struct proxy)

        return view(types.uint64, types.int64), generate

    return values_at


_hashes_at = _view(types.uint32, 4)
_bytes_at = _view(types.uint8, 1)


@kernel
def jaccard(x: Any, y: Any, threshold: Any) -> Any:
    """Exact Jaccard similarity of two sorted sets, or -1 as soon as it cannot reach the threshold."""
    nx, ny = x.size, y.size
    if nx + ny == 0:
        return -1.0
    # |x & y| >= t |x | y|  <=>  |x & y| >= t (nx + ny) / (1 + t); one less guards against rounding
    need = np.int64(threshold * (nx + ny) / (1.0 + threshold)) - 1
    i, j, common = np.int64(0), np.int64(0), np.int64(0)
    while i < nx and j < ny:
        steps = min(nx - i, ny - j)
        if common + steps < need:
            return -1.0
        for _ in range(min(64, steps)):  # neither side can run out within these
            u, v = x[i], y[j]
            common += np.int64(u == v)
            i += np.int64(u <= v)
            j += np.int64(v <= u)
    similarity = common / (nx + ny - common)
    return similarity if similarity >= threshold else -1.0


@kernel
def likeness(x: Any, y: Any) -> Any:
    """Likeness of two thumbnails: the lesser of grey correlation and colour agreement, see dedup.image."""
    sx, sy, sxx, syy, sxy = np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for k in range(_GREY):
        u, v = np.int64(x[k]), np.int64(y[k])
        sx += u
        sy += v
        sxx += u * u
        syy += v * v
        sxy += u * v
    spread = np.float64(_GREY * sxx - sx * sx) * np.float64(_GREY * syy - sy * sy)
    if spread <= 0.0:
        return 0.0
    correlation = np.float64(_GREY * sxy - sx * sy) / np.sqrt(spread)
    apart = np.int64(0)
    for k in range(_GREY, _GREY + _COLOUR):
        apart += abs(np.int64(x[k]) - np.int64(y[k]))
    return min(correlation, 1.0 - (2.0 / 255.0) * (apart / _COLOUR))


@kernel
def _candidates(row: Any, buckets: Any, heads: Any, chain: Any, stamp: Any, found: Any) -> Any:
    """Collect the kept rows that share a bucket with ``row``: each once, first in keep order first."""
    count = 0
    for band in range(buckets.shape[1]):
        bucket = buckets[row, band]
        if bucket >= 0:
            other = heads[bucket]
            while other >= 0:
                if stamp[other] != row:
                    stamp[other] = row
                    found[count] = other
                    count += 1
                other = chain[other, band]
    if count > 1:
        found[:count] = np.sort(found[:count])
    return count


@kernel
def _keep(row: Any, buckets: Any, heads: Any, chain: Any) -> None:
    """Put a kept row at the head of its buckets' chains."""
    for band in range(buckets.shape[1]):
        bucket = buckets[row, band]
        if bucket >= 0:
            chain[row, band] = heads[bucket]
            heads[bucket] = row


@kernel
def walk_sets(
    buckets: Any, heads: Any, chain: Any, addresses: Any, sizes: Any, threshold: Any, twin: Any, exact: Any
) -> None:
    """Walk over sets of uint32: drop a row if the Jaccard similarity with a kept row reaches the threshold."""
    rows = buckets.shape[0]
    stamp = np.full(rows, -1, np.int32)
    found = np.empty(rows, np.int32)
    for row in range(rows):
        own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
        for k in range(_candidates(row, buckets, heads, chain, stamp, found)):
            other = found[k]
            less, more = min(sizes[row], sizes[other]), max(sizes[row], sizes[other])
            if less / more < threshold:  # even a subset would not do
                continue
            theirs = _hashes_at(np.uint64(addresses[other]), np.int64(sizes[other]))
            similarity = jaccard(own, theirs, threshold)
            if similarity >= 0.0:
                twin[row] = other
                exact[row] = similarity
                break
        if twin[row] < 0:
            _keep(row, buckets, heads, chain)


@kernel
def _distance(x: Any, y: Any) -> Any:
    """Count the bits in which two uint64 differ."""
    v = x ^ y
    v = v - ((v >> np.uint64(1)) & np.uint64(0x5555555555555555))
    v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((v * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def walk_images(
    buckets: Any,
    heads: Any,
    chain: Any,
    hashes: Any,
    radius: Any,
    addresses: Any,
    threshold: Any,
    twin: Any,
    exact: Any,
) -> None:
    """Walk over thumbnails: drop a row if a kept one is within the radius and alike to the threshold."""
    rows = buckets.shape[0]
    stamp = np.full(rows, -1, np.int32)
    found = np.empty(rows, np.int32)
    size = np.int64(_GREY + _COLOUR)
    for row in range(rows):
        own = _bytes_at(np.uint64(addresses[row]), size)
        for k in range(_candidates(row, buckets, heads, chain, stamp, found)):
            other = found[k]
            if _distance(hashes[row], hashes[other]) > radius:
                continue
            similarity = likeness(own, _bytes_at(np.uint64(addresses[other]), size))
            if similarity >= threshold:
                twin[row] = other
                exact[row] = similarity
                break
        if twin[row] < 0:
            _keep(row, buckets, heads, chain)
