"""Candidates by a shuffle, where the keys of all rows do not fit into one process.

Each piece *scatters* its keys by hash over the same number of heaps; each heap then holds every row of its
buckets, and its rows *meet*. The pairs are those of :func:`dedup.pairs.banded`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.pairs import MOST
from dedup.sketch import BAND, Piece
from lake.native import kernels

__all__ = ["KEYS", "PAIRS", "carry", "distinct", "meet", "scatter", "split"]

_pair_kernels = kernels("dedup._pair_kernels")

KEYS = pa.schema([("band", pa.int16()), ("key", pa.int64()), ("row", pa.int32())])
"""What is shuffled: ``row`` is the place of a row in keep order."""
PAIRS = pa.schema([("left", pa.int32()), ("right", pa.int32())])

_AT_ONCE = 1 << 22  # pairs that are made before those that come twice are left out
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: Fibonacci hashing


def _cut(
    order: npt.NDArray[np.int64], heap: npt.NDArray[np.integer], heaps: int
) -> list[npt.NDArray[np.int64]]:
    return np.split(order, np.searchsorted(heap[order], np.arange(1, heaps)))


def scatter(piece: Piece, position: npt.NDArray[np.int32], bands: int, heaps: int) -> list[pa.RecordBatch]:
    """Distribute the keys of a piece over heaps: a batch for each.

    Args:
        piece: sketches.
        position: of each row its place in keep order, or -1 for a row that came before; shape (n,).
        bands: keys of a row.
        heaps: how many.
    """
    found = []
    for band in range(bands):
        column = piece.head.column(BAND.format(band))
        there = np.flatnonzero(column.is_valid().to_numpy() & (position >= 0))
        key = column.take(pa.array(there)).to_numpy()
        found.append((np.full(len(there), band, np.int16), key, position[there]))
    band_of, key, row = (np.concatenate(side) for side in zip(*found, strict=True))
    mixed = (key.view(np.uint64) + band_of.astype(np.uint64)) * _SPREAD
    heap = ((mixed >> np.uint64(32)) % np.uint64(heaps)).astype(np.int64)
    return [
        pa.record_batch([band_of[some], key[some], row[some]], schema=KEYS)
        for some in _cut(np.argsort(heap, kind="stable"), heap, heaps)
    ]


def meet(
    batches: Sequence[pa.RecordBatch], most: int = MOST
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Pair the rows of one heap: of each bucket its first rows with all that follow, see :mod:`dedup.pairs`.

    Args:
        batches: what the pieces scattered to this heap.
        most: rows of a bucket that are paired with all of it.
    """
    band, key, row = (
        np.concatenate([batch.column(name).to_numpy() for batch in batches]) for name in KEYS.names
    )
    order = np.lexsort((row, key, band))
    band, key, row = band[order], key[order], row[order]
    starts = np.flatnonzero(np.r_[True, (band[1:] != band[:-1]) | (key[1:] != key[:-1])][: len(row)])
    ends = np.r_[starts[1:], len(row)][: len(starts)].astype(np.int64)
    sizes = ends - starts
    stars = np.minimum(sizes, most)
    room = np.cumsum(stars * sizes - stars * (stars + 1) // 2)
    none = np.empty((0, 0), np.int32)
    pairs, first = [np.empty(0, np.int64)], 0
    while first < len(ends):
        done = int(room[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(room, done + _AT_ONCE, side="right")))
        size = int(room[last - 1]) - done
        left, right = np.empty(size, np.int32), np.empty(size, np.int32)
        some, low = row[starts[first] : ends[last - 1]], starts[first]
        _pair_kernels.emit(none, 0, some, ends[first:last] - low, most, np.empty(0, np.bool_), left, right)
        carry(pairs, left.astype(np.int64) << 32 | right)
        first = last
    once = pairs[0] if len(pairs) == 1 else distinct(np.concatenate(pairs))
    return (once >> 32).astype(np.int32), (once & 0xFFFFFFFF).astype(np.int32)


def distinct(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Give each value once, in order; the array is sorted in place, which takes half the time of a table."""
    values.sort()
    first = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def carry(held: list[npt.NDArray[np.int64]], more: npt.NDArray[np.int64]) -> None:
    """Add to values that are held in a few arrays, each of them once: joined like the carry of a counter.

    What comes a hundred times, such as a pair with a hundred keys in common, is held a few times.
    """
    held.append(distinct(more))
    while len(held) > 1 and 2 * len(held[-1]) >= len(held[-2]):
        held.append(distinct(np.concatenate([held.pop(), held.pop()])))


def split(
    left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], rows: int, blocks: int
) -> list[pa.RecordBatch]:
    """Distribute pairs over blocks of rows, by the later row: a batch for each.

    So a block has all pairs of its rows with earlier ones, and the many pairs of a crowded bucket's first rows
    spread over all blocks.
    """
    block = right.astype(np.int64) * blocks // max(rows, 1)
    return [
        pa.record_batch([left[some], right[some]], schema=PAIRS)
        for some in _cut(np.argsort(block, kind="stable"), block, blocks)
    ]
