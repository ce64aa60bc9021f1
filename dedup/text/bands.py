"""Locality-sensitive hashing: which signatures are compared at all.

A signature is cut into ``b`` bands of ``r`` values; two documents are candidates when one band is equal.
With Jaccard similarity ``J`` that happens with probability ``1 - (1 - J**r)**b`` (Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, section 3.4).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lake.native import kernels

__all__ = ["RECALL", "choose", "keys", "probability"]

_kernels = kernels("dedup.text._kernels")

RECALL = 0.97
"""The least probability of finding a pair that lies exactly at the threshold; above it, it rises steeply."""


def probability(similarity: float, bands: int, rows: int) -> float:
    """Give the probability that a pair of this Jaccard similarity shares a band.

    >>> round(probability(0.8, 18, 7), 4)
    0.9855
    """
    return float(1.0 - (1.0 - similarity**rows) ** bands)


def choose(threshold: float, num_perm: int = 128) -> tuple[int, int]:
    """Choose bands for a threshold: the longest that still find 97 % of the pairs that lie right at it.

    Every candidate is verified exactly. So a false candidate costs a little time and a missed one is
    lost: recall comes first, then the longest bands, which let the fewest dissimilar pairs through.
    As many as the signature has room for are used. Where even bands of one value miss the aim, they are taken.

    >>> choose(0.8)
    (18, 7)
    """
    for rows in range(num_perm, 0, -1):
        if probability(threshold, num_perm // rows, rows) >= RECALL:
            return num_perm // rows, rows
    return num_perm, 1


def keys(signatures: npt.NDArray[np.uint32], bands: int, rows: int) -> npt.NDArray[np.uint64]:
    """Hash the bands of every signature: uint64, shape (bands, n).

    >>> keys(np.zeros((2, 128), np.uint32), bands=18, rows=7).shape
    (18, 2)

    Args:
        signatures: uint32, shape (n, num_perm).
        bands: how many.
        rows: values in a band.

    Raises:
        ValueError: the signatures have not so many values.
    """
    width = signatures.shape[1]
    if rows < 1 or not 1 <= bands <= width // rows:
        raise ValueError(f"a signature of {width} values has no {bands} bands of {rows}")
    out = np.empty((bands, len(signatures)), np.uint64)
    _kernels.band_keys(signatures, rows, out)
    return out
