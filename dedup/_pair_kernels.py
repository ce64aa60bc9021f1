"""The compiled loops from equal keys to candidate pairs, and from verified edges to a selection.

The rules stand in :mod:`dedup.pairs` and :mod:`dedup.select`.
"""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from lake.jit import kernel, values_at

__all__ = ["copy", "emit", "gather", "mark", "probe", "walk"]

_bytes_at = values_at(types.uint8, 1)


@kernel
def _sort(values: Any, first: Any, last: Any) -> None:
    """Sort ``values[first:last]`` in place (Shell's way; NumPy's own needs a list, and so Numba's runtime)."""
    gap = 1
    while gap < (last - first) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(first + gap, last):
            value, j = values[i], i
            while j >= first + gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value
        gap //= 3


@kernel
def gather(keys: Any, order: Any, rows: Any, most: Any, numbers: Any, members: Any, ends: Any) -> Any:
    """Number the buckets of one band that hold two rows or more.

    ``order`` sorts ``keys``; ``rows`` are their rows. A row's number is twice the place of its bucket, plus one
    from the ``most``-th row of the bucket on. Gives the numbers of members and of buckets.
    """
    held, buckets, start, count = 0, 0, 0, order.size
    while start < count:
        stop = start + 1
        while stop < count and keys[order[stop]] == keys[order[start]]:
            stop += 1
        if stop - start > 1:
            first = held
            for k in range(start, stop):
                members[held] = rows[order[k]]
                held += 1
            _sort(members, first, held)
            for k in range(first, held):
                numbers[members[k]] = 2 * first + (1 if k - first >= most else 0)
            ends[buckets] = held
            buckets += 1
        start = stop
    return held, buckets


@kernel
def _seen(numbers: Any, band: Any, i: Any, j: Any) -> Any:
    """Whether an earlier band has paired ``i < j``: one bucket, and ``i`` among the first of it.

    A row that is in no bucket, or not among the first, has an odd number.
    """
    for earlier in range(band):  # noqa: SIM110  (numba compiles no generator)
        if numbers[earlier, i] == numbers[earlier, j] & ~1:
            return True
    return False


@kernel
def emit(numbers: Any, band: Any, members: Any, ends: Any, most: Any, fresh: Any, left: Any, right: Any) -> Any:
    """Write the pairs of one band that no earlier band has; gives how many, and the largest bucket's size.

    With ``fresh`` (one flag a row; or empty) only pairs in which a row is fresh.
    """
    count, start, largest = 0, 0, 0
    for bucket in range(ends.size):
        stop = ends[bucket]
        largest = max(largest, stop - start)
        for x in range(start, min(stop, start + most)):
            i = members[x]
            for y in range(x + 1, stop):
                j = members[y]
                if fresh.size and not (fresh[i] or fresh[j]):
                    continue
                if not _seen(numbers, band, i, j):
                    left[count] = i
                    right[count] = j
                    count += 1
        start = stop
    return count, largest


@kernel
def mark(keys: Any, bits: Any) -> None:
    """Set a bit for each key; the number of bits is a power of two."""
    mask = np.uint64(8 * bits.size - 1)
    for i in range(keys.size):
        place = keys[i] & mask
        bits[place >> np.uint64(3)] |= np.uint8(1) << np.uint8(place & np.uint64(7))


@kernel
def probe(keys: Any, bits: Any, out: Any) -> None:
    """Tell of each key whether its bit is set."""
    mask = np.uint64(8 * bits.size - 1)
    for i in range(keys.size):
        place = keys[i] & mask
        out[i] = (bits[place >> np.uint64(3)] >> np.uint8(place & np.uint64(7))) & np.uint8(1)


@kernel
def walk(starts: Any, earlier: Any, same: Any, twin: Any, edge: Any) -> None:
    """Drop each row that has a kept one among the earlier rows it has an edge with; the first is its twin.

    ``earlier[starts[row]:starts[row + 1]]`` are those rows; ``same`` tells of which of them the row is a copy:
    what such a one resembles, the row resembles as much. ``twin`` and ``edge`` begin as -1.
    """
    for row in range(starts.size - 1):
        for k in range(starts[row], starts[row + 1]):
            other, through = np.int64(earlier[k]), np.int64(k)
            if twin[other] >= 0:
                if not same[k]:
                    continue
                through, other = edge[other], twin[other]
            if twin[row] < 0 or other < twin[row]:
                twin[row] = other
                edge[row] = through


@kernel
def copy(places: Any, sizes: Any, starts: Any, out: Any) -> None:
    """Copy the bytes at each address to where they start in ``out``."""
    for k in range(places.size):
        out[starts[k] : starts[k] + sizes[k]] = _bytes_at(np.uint64(places[k]), np.int64(sizes[k]))
