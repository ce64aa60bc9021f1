"""Candidate pairs: rows that share a bucket.

Each row has one key a band; rows with an equal key in one band share a *bucket*. All pairs of a bucket are
candidates as long as it has at most :data:`MOST` rows. In a larger one (a page of boilerplate that comes a
million times) only the pairs with one of its first ``MOST`` rows are: a star around each, so that the number of
candidates grows with the bucket and not with its square. "First" is by keep order, in which all rows here are
numbered: so the candidates depend neither on the order nor on the partitioning of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lake.native import kernels

__all__ = ["MOST", "Candidates", "banded", "renumbered", "touched"]

_pair_kernels = kernels("dedup._pair_kernels")

MOST = 32
"""Rows of a bucket that are paired with all of it."""

_BITS = 1 << 16  # the fewest bits of the sieve in `touched`; 64 a new key, so that 1 in 64 passes by chance

_SPARSE = 32  # rows for each pair, from which sorting the pairs is quicker than going through the rows

Keys = Callable[[int], tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]]
"""Of a band: the keys, and the rows that have them; a row without a key is compared with none."""


class Candidates(NamedTuple):
    """Pairs to verify."""

    left: npt.NDArray[np.int32]
    """The row of each pair that comes first in keep order."""
    right: npt.NDArray[np.int32]
    largest: int
    """The number of rows in the largest bucket."""


def renumbered(
    left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Number the rows of some pairs anew, in their order and without gaps.

    >>> left, right = np.array([5, 2], np.int32), np.array([7, 7], np.int32)
    >>> [each.tolist() for each in renumbered(left, right, count=10)]
    [[2, 5, 7], [1, 0], [2, 2]]

    Args:
        left: rows, from 0 on.
        right: the others.
        count: how many rows there are in all.

    Returns:
        The rows that occur, ascending; the pairs as places in them.
    """
    if count <= _SPARSE * len(left):
        occurs = np.zeros(count, np.bool_)
        occurs[left] = occurs[right] = True
        place = np.cumsum(occurs, dtype=np.int32) - np.int32(1)
        return np.flatnonzero(occurs), place[left], place[right]
    used = np.unique(np.concatenate([left, right])).astype(np.int64)
    x, y = (np.searchsorted(used, side).astype(np.int32) for side in (left, right))
    return used, x, y


def banded(
    keys: Keys,
    bands: int,
    count: int,
    *,
    fresh: npt.NDArray[np.bool_] | None = None,
    most: int = MOST,
    threads: int = 1,
) -> Candidates:
    """Give every pair of rows that share a bucket, once.

    >>> keys = np.array([7, 9, 7, 7], np.uint64)
    >>> found = banded(lambda band: (keys, np.arange(4)), bands=1, count=4)
    >>> found.left.tolist(), found.right.tolist()
    ([0, 0, 2], [2, 3, 3])

    Args:
        keys: gives a band's keys; called once for each.
        bands: how many there are.
        count: rows are 0 to count - 1, in keep order.
        fresh: of each row whether it is new; only pairs with a new row are given then.
        most: see :data:`MOST`.
        threads: the result is the same for any number.
    """
    numbers = np.full((bands, count), -1, np.int32)
    flags = np.empty(0, np.bool_) if fresh is None else fresh

    def group(band: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        key, rows = keys(band)
        members, ends = np.empty(len(key), np.int32), np.empty(len(key) // 2 + 1, np.int64)
        held, buckets = _pair_kernels.gather(key, np.argsort(key), rows, most, numbers[band], members, ends)
        return members[:held].copy(), ends[:buckets].copy()

    def pair(band: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
        members, ends = groups[band]
        sizes = np.diff(ends, prepend=0)
        stars = np.minimum(sizes, most)
        room = int((stars * sizes - stars * (stars + 1) // 2).sum())
        left, right = np.empty(room, np.int32), np.empty(room, np.int32)  # untouched pages cost nothing
        found, largest = _pair_kernels.emit(numbers, band, members, ends, most, flags, left, right)
        return left[:found].copy(), right[:found].copy(), largest

    with ThreadPoolExecutor(threads) as pool:
        groups = list(pool.map(group, range(bands)))
        pairs = list(pool.map(pair, range(bands)))
    none = np.empty(0, np.int32)
    return Candidates(
        np.concatenate([none, *(each[0] for each in pairs)]),
        np.concatenate([none, *(each[1] for each in pairs)]),
        max((each[2] for each in pairs), default=0),
    )


def touched(keys: Keys, bands: int, fresh: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tell which rows share a bucket with a new one; the new ones are among them.

    So that the work of a small batch is one look at each key of the corpus, and no sorting of them.

    Args:
        keys: as in :func:`banded`.
        bands: how many there are.
        fresh: of each row whether it is new; shape (n,).
    """
    found: npt.NDArray[np.bool_] = fresh.copy()
    for band in range(bands):
        key, rows = keys(band)
        new = np.unique(key[fresh[rows]])
        if not len(new):
            continue
        bits = np.zeros(max(_BITS, 1 << (64 * len(new)).bit_length()) // 8, np.uint8)
        hit = np.empty(len(key), np.bool_)
        _pair_kernels.mark(new, bits)
        _pair_kernels.probe(key, bits, hit)
        passed = np.flatnonzero(hit)
        place = np.minimum(np.searchsorted(new, key[passed]), len(new) - 1)
        found[rows[passed[new[place] == key[passed]]]] = True
    return found
