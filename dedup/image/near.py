"""Pairs of 64-bit hashes that differ in few bits: all of them.

The 64 bits are cut into ``radius + k`` stretches. Two hashes at most ``radius`` bits apart agree in at least
``k`` of them; so for every choice of ``k`` stretches the hashes are sorted by these, and those that agree there
are compared. ``k`` grows with the number of hashes, so that a bucket stays small. Each pair is given by the
first ``k`` stretches in which it agrees, and so once. (After Norouzi, Punjani and Fleet 2012, Fast Search in
Hamming Space with Multi-Index Hashing, where ``k`` is 1.)
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lake.native import kernels

__all__ = ["Codes", "Plan", "near", "plan"]

_near_kernels = kernels("dedup.image._near_kernels")

_BITS = 64
_MOST_BITS = 22  # of a key: the table of buckets has to stay small
_MOST_TABLES = 1_000
_SORT, _LOOK = 12.0, 1.0  # relative cost of sorting a hash and of looking at a pair

Ints = npt.NDArray[np.int64]


class Codes(NamedTuple):
    """Hashes, and the row that each belongs to; a row may have several."""

    codes: npt.NDArray[np.uint64]
    rows: Ints

    @classmethod
    def of(cls, columns: npt.NDArray[np.uint64], rows: Ints) -> Codes:
        """Take the hashes of some rows, ``columns``: (rows, several)."""
        several = columns.shape[1]
        return cls(np.ascontiguousarray(columns[rows].ravel()), np.repeat(rows, several))


class Plan(NamedTuple):
    """How hashes are cut and which stretches are looked at together."""

    lows: npt.NDArray[np.uint64]
    widths: npt.NDArray[np.uint64]
    taken: npt.NDArray[np.uint64]
    """How many bits of each stretch go into a key."""
    together: int

    def choices(self) -> Iterator[tuple[Ints, int]]:
        """The stretches of each table, and the bits of its key."""
        for chosen in combinations(range(len(self.lows)), self.together):
            yield np.array(chosen, np.int64), int(self.taken[list(chosen)].sum())


def plan(radius: int, one: int, other: int) -> Plan:
    """Choose the cut that costs least for so many hashes on one side and on the other.

    >>> plan(8, 1_000, 1_000).together, plan(8, 1_000_000, 1_000_000).together
    (1, 3)
    """
    best, least = 1, float("inf")
    for together in range(1, _BITS - radius + 1):
        tables = comb(radius + together, together)
        bits = min(together * _BITS / (radius + together), _MOST_BITS)
        if tables > _MOST_TABLES:
            break
        cost = tables * (_SORT * (one + other) + 2.0**bits + _LOOK * one * other / 2.0**bits)
        if cost < least:
            best, least = together, cost
    return _cut(radius, best)


def _cut(radius: int, together: int) -> Plan:
    edges = np.linspace(0, _BITS, radius + together + 1).round().astype(np.uint64)
    widths = np.diff(edges)
    return Plan(edges[:-1], widths, np.minimum(widths, np.uint64(_MOST_BITS // together)), together)


def near(one: Codes, other: Codes, radius: int, threads: int = 1) -> tuple[Ints, Ints]:
    """Give the pairs of rows of which a hash of one side is within ``radius`` bits of one of the other.

    >>> few = Codes(np.array([0, 0b111, 1 << 63], np.uint64), np.arange(3))
    >>> [side.tolist() for side in near(few, few, 2)]
    [[0], [2]]

    Returns:
        The lesser and the greater row of each pair, sorted, each pair once.
    """
    if len(one.codes) == 0 or len(other.codes) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    cut = plan(radius, len(one.codes), len(other.codes))
    if len(one.codes) > len(other.codes):  # the greater side is sorted
        one, other = other, one
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda choice: _table(one, other, radius, cut, choice), cut.choices()))
    top = int(max(one.rows.max(), other.rows.max())) + 1
    pairs = np.unique(np.concatenate([left * top + right for left, right in found]))
    return pairs // top, pairs % top


def _table(one: Codes, other: Codes, radius: int, cut: Plan, choice: tuple[Ints, int]) -> tuple[Ints, Ints]:
    """The pairs that agree in the chosen stretches, and in no earlier ones."""
    chosen, bits = choice
    how = (cut.lows, cut.widths, cut.taken, chosen)
    starts, order = np.empty((1 << bits) + 2, np.int64), np.empty(len(other.codes), np.int64)
    codes = np.empty(len(other.codes), np.uint64)
    _near_kernels.group(other.codes, cut.lows, cut.taken, chosen, starts, order, codes)
    rows = other.rows[order]
    room = 1 << 12
    while True:
        left, right = np.empty(room, np.int64), np.empty(room, np.int64)
        found = _near_kernels.probe(one.codes, one.rows, *how, starts, codes, rows, radius, left, right)
        if found <= room:
            return left[:found], right[:found]
        room = found
