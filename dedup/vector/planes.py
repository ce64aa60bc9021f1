"""Random hyperplanes: which embeddings are compared at all.

A hyperplane through the origin has two vectors on one side with probability ``1 - angle / pi`` (Goemans and
Williamson 1995; Charikar 2002). A band is ``r`` of them; two vectors are candidates if in one of ``b`` bands
they are on one side of each: with probability ``1 - (1 - p**r)**b``.

The normals are integers: the eight bytes of a 64-bit hash, summed, less their mean of 1020, which is close to
a normal distribution. The hash is splitmix64's finaliser (Steele, Lea and Flood 2014) of the seed, the number
of the plane and the coordinate: nothing is drawn in turn, so a plane is the same wherever it is made.
Projections are integers below 2**53, which float64 holds exactly: so a matrix product gives the same signs on
every machine, in whatever order it sums.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lake.native import kernels

__all__ = ["LONGEST", "RECALL", "choose", "estimate", "keys", "normals", "probability"]

_kernels = kernels("dedup.vector._kernels")

RECALL = 0.97
"""The least probability of finding a pair that lies exactly at the threshold."""
LONGEST = 64
"""Planes of a band: its key has so many bits."""

_ROWS = 1 << 11  # that are projected at a time
_DIGITS = 6  # math.cos may differ in its last digits from one C library to the next


def probability(cosine: float, bands: int, rows: int) -> float:
    """Give the probability that a pair of this cosine shares a band.

    >>> round(probability(0.95, 44, 23), 4)
    0.9811
    """
    side = 1.0 - math.acos(max(-1.0, min(1.0, cosine))) / math.pi
    return float(1.0 - (1.0 - side**rows) ** bands)


def choose(threshold: float, count: int) -> tuple[int, int]:
    """Choose bands for a threshold: the longest that still find 97 % of the pairs that lie right at it.

    Each candidate is verified, so a false one costs a little time and a missed one is lost: see
    :func:`dedup.text.bands.choose`.

    >>> choose(0.95, 1024)
    (44, 23)
    """
    for rows in range(min(count, LONGEST), 0, -1):
        if probability(threshold, count // rows, rows) >= RECALL:
            return count // rows, rows
    return count, 1


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@lru_cache(maxsize=2)
def normals(seed: int, count: int, width: int) -> npt.NDArray[np.float64]:
    """Give the normals of hyperplanes.

    >>> normals(1, 2, 3).tolist()
    [[-382.0, -20.0, 162.0], [-45.0, -34.0, -206.0]]

    Args:
        seed: below 2**32.
        count: planes.
        width: values of a vector, below 2**32.

    Returns:
        float64, shape (count, width); read-only; integers from -1020 to 1020.
    """
    place = (np.arange(count, dtype=np.uint64)[:, None] << np.uint64(32)) | np.arange(width, dtype=np.uint64)
    hashes = _mix(_mix(np.array([seed], np.uint64)) + place)
    summed = np.zeros((count, width))
    for byte in range(8):
        summed += (hashes >> np.uint64(8 * byte)) & np.uint64(255)
    summed -= 1020
    summed.setflags(write=False)
    return summed


def keys(vectors: npt.NDArray[np.int16], bands: int, rows: int, seed: int) -> npt.NDArray[np.uint64]:
    """Give the key of each band: a bit for each of its planes, set if the vector is on the positive side.

    >>> keys(np.array([[5, 1, 2], [-5, -1, -2]], np.int16), bands=1, rows=8, seed=1).tolist()
    [[232, 23]]

    Returns:
        uint64, shape (bands, n).
    """
    count, width = vectors.shape
    out = np.empty((bands, count), np.uint64)
    turned = normals(seed, bands * rows, width).T
    for start in range(0, count, _ROWS):
        block = vectors[start : start + _ROWS].astype(np.float64)
        _kernels.pack(block @ turned, rows, out[:, start : start + len(block)])
    return out


def estimate(apart: npt.NDArray[np.integer], planes: int) -> npt.NDArray[np.float64]:
    """Give the cosine that a number of planes between two vectors speaks for, to six digits.

    >>> estimate(np.array([0, 500, 1000]), 1000).tolist()
    [1.0, 0.0, -1.0]
    """
    table = [round(math.cos(math.pi * each / planes), _DIGITS) for each in range(planes + 1)]
    estimated: npt.NDArray[np.float64] = np.array(table)[apart]
    return estimated
