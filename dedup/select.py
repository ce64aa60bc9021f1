"""Which rows go.

Walking in keep order, a row is dropped if and only if a *kept* row is within the threshold, among those that
share a bucket with it. That is the lexicographically first maximal independent set of the verified graph: so
every dropped row has a kept twin that really is similar, no family disappears, a chain removes nothing, and
neither order nor partitioning of the input matters. The twin is the first such row in keep order.

Only kept rows are looked up, so that a bucket with a million copies of one row costs a million comparisons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Selection", "buckets", "images", "sets"]


@dataclass(frozen=True, slots=True)
class Selection:
    """What the walk found, by position in keep order."""

    dropped: npt.NDArray[np.int64]
    """Positions of the dropped rows, ascending; shape (d,)."""
    twin: npt.NDArray[np.int64]
    """The position of the kept twin of each; shape (d,)."""
    exact: npt.NDArray[np.float64]
    """Their similarity; shape (d,)."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Rows with equal keys share a bucket."""

    numbers: npt.NDArray[np.int32]
    """Bucket of each row in each band, -1 where it is alone; shape (n, bands)."""
    count: int


def buckets(keys: Iterable[npt.NDArray[np.uint64]], bands: int, eligible: npt.NDArray[np.bool_]) -> Buckets:
    """Number the buckets that hold two rows or more.

    Args:
        keys: for each band the keys of all rows, in keep order.
        bands: how many there are.
        eligible: False for a row that must not be compared with any; shape (n,).
    """
    numbers = np.full((len(eligible), bands), -1, np.int32)
    rows = np.flatnonzero(eligible)
    total = 0
    for band, key in enumerate(keys):
        _, number, size = np.unique(key[rows], return_inverse=True, return_counts=True)
        shared = size > 1
        renumbered = np.where(shared, np.cumsum(shared) - 1 + total, -1)
        numbers[rows, band] = renumbered[number]
        total += int(np.count_nonzero(shared))
    return Buckets(numbers, total)


def sets(
    places: Buckets, addresses: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64], threshold: float
) -> Selection:
    """Walk over sets of shingle hashes.

    Args:
        places: from :func:`buckets`.
        addresses: where in memory each row's sorted distinct uint32 hashes start; the caller keeps them alive.
        sizes: how many they are.
        threshold: the least Jaccard similarity of a duplicate.
    """
    from dedup._walk_kernels import walk_sets

    heads, chain, twin, exact = _room(places)
    walk_sets(places.numbers, heads, chain, addresses, sizes, float(threshold), twin, exact)
    return _selection(twin, exact)


def images(
    places: Buckets,
    hashes: npt.NDArray[np.uint64],
    radius: int,
    addresses: npt.NDArray[np.uint64],
    threshold: float,
) -> Selection:
    """Walk over perceptual hashes and thumbnails.

    Args:
        places: from :func:`buckets`.
        hashes: the perceptual hash of each row.
        radius: the most bits in which the hashes of duplicates differ.
        addresses: where in memory each row's thumbnail starts; the caller keeps them alive.
        threshold: the least likeness of the thumbnails of duplicates.
    """
    from dedup._walk_kernels import walk_images

    heads, chain, twin, exact = _room(places)
    walk_images(places.numbers, heads, chain, hashes, radius, addresses, float(threshold), twin, exact)
    return _selection(twin, exact)


def _room(
    places: Buckets,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    heads = np.full(places.count, -1, np.int32)
    rows = len(places.numbers)
    return heads, np.empty_like(places.numbers), np.full(rows, -1, np.int32), np.zeros(rows, np.float64)


def _selection(twin: npt.NDArray[np.int32], exact: npt.NDArray[np.float64]) -> Selection:
    dropped = np.flatnonzero(twin >= 0)
    return Selection(dropped, twin[dropped].astype(np.int64), exact[dropped])
