"""All pairs of similar vectors, exactly: every one is compared with every other.

The dot products of blocks of vectors are matrix products. Their terms and sums are integers below 2**53 (up to
8 million values in a vector), which float64 holds exactly: so they are right in whatever order they are summed.

Of *equal* vectors the first :data:`dedup.pairs.MOST` are compared with all others. Each further one is paired
with what the first of them is paired with, and with that one: so who goes is the same as if all pairs were
there, while a million equal vectors make a million times 32 pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.pairs import MOST, Candidates
from lake.native import kernels

__all__ = ["across", "all_pairs"]

_kernels = kernels("dedup.vector._kernels")

_BLOCK = 1024  # vectors: a block of products takes 8 MiB
_LESS = 1.0 - 1e-9  # pairs are verified afterwards: none may be lost to rounding here

_Ints = npt.NDArray[np.int64]
_Pairs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]


class _Vectors(NamedTuple):
    """All vectors, by row."""

    places: npt.NDArray[np.uint64]
    width: int
    length: npt.NDArray[np.float64]
    least: npt.NDArray[np.float64]
    """The threshold times the length: times another's length, the least dot product of similar ones."""


def all_pairs(
    places: npt.NDArray[np.uint64],
    width: int,
    threshold: float,
    fresh: npt.NDArray[np.bool_] | None = None,
    most: int = MOST,
) -> Candidates:
    """Find every pair of vectors whose cosine reaches the threshold, and hardly any other.

    >>> vectors = np.array([[100, 0], [0, 100], [99, 1]], np.int16)
    >>> places = np.uint64(vectors.ctypes.data) + np.arange(3, dtype=np.uint64) * np.uint64(4)
    >>> found = all_pairs(places, 2, 0.99)
    >>> found.left.tolist(), found.right.tolist()
    ([0], [2])

    Args:
        places: where in memory the int16 values of each vector start; the caller keeps them alive.
        width: values in a vector.
        threshold: above 0.
        fresh: if given, all pairs with a row of which this is true, equal vectors among them; shape (n,).
        most: equal vectors that are compared with all others.
    """
    count = len(places)
    if not count:
        return Candidates(np.empty(0, np.int32), np.empty(0, np.int32), 0)
    vectors = _measured(places, width, threshold)
    if fresh is not None:
        new, old = np.flatnonzero(fresh), np.flatnonzero(~fresh)
        within = _blocks(vectors, new, new, upper=True)
        across = _blocks(vectors, new, old, upper=False)
        return Candidates(*_sorted(*(np.concatenate(side) for side in zip(within, across, strict=True))), 1)
    first = _first(places, width)
    order = np.argsort(first, kind="stable")
    starts = np.searchsorted(first[order], first[order])
    place = np.empty(count, np.int64)  # of each row among those that are equal
    place[order] = np.arange(count) - starts
    compared = np.flatnonzero(place < most)
    left, right = _blocks(vectors, compared, compared, upper=True)
    extra = _inherited(left, right, first, np.flatnonzero(place >= most))
    both = [np.concatenate(side) for side in zip((left, right), extra, strict=True)]
    return Candidates(*_sorted(*both), int(place.max()) + 1)


def across(places: npt.NDArray[np.uint64], width: int, threshold: float, test: npt.NDArray[np.bool_]) -> _Pairs:
    """Find every pair of a vector of which ``test`` is true with one of which it is not: see :func:`all_pairs`.

    >>> vectors = np.array([[100, 0], [0, 100], [99, 1]], np.int16)
    >>> places = np.uint64(vectors.ctypes.data) + np.arange(3, dtype=np.uint64) * np.uint64(4)
    >>> [each.tolist() for each in across(places, 2, 0.99, np.array([False, False, True]))]
    [[0], [2]]
    """
    vectors = _measured(places, width, threshold)
    return _sorted(*_blocks(vectors, np.flatnonzero(test), np.flatnonzero(~test), upper=False))


def _measured(places: npt.NDArray[np.uint64], width: int, threshold: float) -> _Vectors:

    norms = np.empty(len(places), np.int64)
    _kernels.squares(places, width, norms)
    length = np.sqrt(norms.astype(np.float64))
    return _Vectors(places, width, length, length * (threshold * _LESS))


def _first(places: npt.NDArray[np.uint64], width: int) -> _Ints:
    """The first row with a vector equal to that of each row."""
    prints = np.empty(len(places), np.uint64)
    _kernels.fingerprints(places, width, prints)
    first = np.empty(len(places), np.int64)
    _kernels.first_equal(np.argsort(prints, kind="stable"), prints, places, width, first)
    return first


def _blocks(vectors: _Vectors, rows: _Ints, others: _Ints, *, upper: bool) -> _Pairs:
    """The pairs of ``rows`` with ``others``; with ``upper``, where both are the same, each pair once."""
    places, width, length, least = vectors
    found_x, found_y = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    x, y = np.empty((_BLOCK, width)), np.empty((_BLOCK, width))
    left, right = np.empty(_BLOCK * _BLOCK, np.int32), np.empty(_BLOCK * _BLOCK, np.int32)
    for a in range(0, len(rows), _BLOCK):
        mine = rows[a : a + _BLOCK]
        _kernels.load(places[mine], width, x)
        for b in range(a if upper else 0, len(others), _BLOCK):
            theirs = others[b : b + _BLOCK]
            _kernels.load(places[theirs], width, y)
            dots = x[: len(mine)] @ y[: len(theirs)].T
            count = _kernels.scan(dots, least[mine], length[theirs], upper and a == b, left, right)
            found_x.append(mine[left[:count]].astype(np.int32))
            found_y.append(theirs[right[:count]].astype(np.int32))
    return np.concatenate(found_x), np.concatenate(found_y)


def _inherited(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], first: _Ints, rest: _Ints) -> _Pairs:
    """Pair the rows that were not compared with what the first row of their vector is paired with."""
    heads, count = first[rest], len(first)
    known = np.zeros(count, np.bool_)
    known[heads] = True
    # Both ways round, and each head with itself: so that it comes among its own partners.
    source, target = (np.concatenate(each) for each in ((left, right, heads), (right, left, heads)))
    wanted = known[source]
    source, target = np.divmod(np.unique(source[wanted] * count + target[wanted]), count)
    starts = np.searchsorted(source, heads)
    sizes = np.searchsorted(source, heads, side="right") - starts
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    partner, row = target[np.repeat(starts, sizes) + within], np.repeat(rest, sizes)
    return np.minimum(row, partner).astype(np.int32), np.maximum(row, partner).astype(np.int32)


def _sorted(x: npt.NDArray[np.int32], y: npt.NDArray[np.int32]) -> _Pairs:
    """The lesser row of each pair first, the pairs in order."""
    left, right = np.minimum(x, y), np.maximum(x, y)
    order = np.lexsort((right, left))
    return left[order], right[order]
