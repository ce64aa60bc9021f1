"""In which order an epoch goes through the rows: a pure function of (row groups, seed, epoch).

Neither workers, ranks, threads nor the batch size are asked. Rows are numbered as they stand in the table:
files by path, row groups in their order, rows in theirs. A keyed permutation sorts by 64 bits of Philox per
item, under a key that hashes what the permutation is for.

- ``"window"``: each row group is dealt into ``spread`` random slices (1: it stays whole); the slices are
  permuted and cut into windows of so many bytes; the rows of a window are permuted. This is CorgiPile's
  shuffle (Xu et al., "In-Database Machine Learning with CorgiPile", SIGMOD 2022) under a key. Every row comes
  once; a slice is equally likely at any place among the slices, a row at any place of its window; the rows of
  one slice are always in one window. The table is read ``spread`` times an epoch, by whole row groups.
- ``"full"``: one permutation of all rows. It takes a copy of the rows with random access.
- ``"none"``: the table's own order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Order", "Shuffle", "make_order", "permutation"]

I64 = npt.NDArray[np.int64]
Shuffle = Literal["window", "full", "none"]

_PERSON = b"gristmill-order1"  # a change of what a key means changes this
_STRETCH = 1 << 16  # positions of a full shuffle that are looked up at a time


def permutation(n: int, *key: int | str) -> I64:
    """The numbers 0 .. n - 1 in an order that depends on the key alone: int64 (n,).

    >>> permutation(5, "rows", 0).tolist() == permutation(5, "rows", 0).tolist()
    True
    >>> sorted(permutation(5, "rows", 1).tolist())
    [0, 1, 2, 3, 4]
    """
    digest = blake2b(repr(key).encode(), digest_size=16, person=_PERSON).digest()
    # Raw bits only: NumPy keeps a bit generator's stream for ever, but not what `permutation` makes of it.
    bits = np.random.Philox(key=np.frombuffer(digest, "<u8")).random_raw(n)
    return np.argsort(bits, kind="stable").astype(np.int64, copy=False)


@dataclass(frozen=True, eq=False)
class Order:
    """The order of one epoch, window by window.

    Attributes:
        starts: int64 (windows + 1,): the position at which each window begins; the last is the number of rows.
        rows: from a window's number to its rows in order, int64: numbers of rows of the table.
    """

    starts: I64
    rows: Callable[[int], I64]

    def __len__(self) -> int:
        return int(self.starts[-1])


def make_order(
    counts: I64, sizes: I64, seed: int, epoch: int, *, shuffle: Shuffle, window: int, spread: int = 1
) -> Order:
    """The order of an epoch.

    Args:
        counts: int64 (groups,): rows of each row group.
        sizes: int64 (groups,): its bytes.
        seed: of the loader.
        epoch: its number.
        shuffle: see the module.
        window: bytes that a window may have; it holds at least one slice.
        spread: slices per row group.

    >>> order = make_order(np.array([2, 3]), np.array([10, 15]), 0, 0, shuffle="window", window=100)
    >>> order.starts.tolist(), sorted(order.rows(0).tolist())
    ([0, 5], [0, 1, 2, 3, 4])
    """
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if shuffle == "none":
        return Order(starts, lambda group: np.arange(starts[group], starts[group + 1]))
    if shuffle == "full":
        return _full(int(starts[-1]), seed, epoch)
    return _windows(counts, starts, sizes, seed, epoch, window, spread)


def _full(n: int, seed: int, epoch: int) -> Order:
    edges = np.append(np.arange(0, n, _STRETCH, dtype=np.int64), n)
    everything = permutation(n, "full", seed, epoch)
    return Order(edges, lambda number: everything[edges[number] : edges[number + 1]])


def _windows(  # noqa: PLR0917  (called once, just above)
    counts: I64, starts: I64, sizes: I64, seed: int, epoch: int, window: int, spread: int
) -> Order:
    groups = np.repeat(np.arange(len(counts)), spread)
    slices = np.tile(np.arange(spread), len(counts))
    lengths = (counts[groups] - slices + spread - 1) // spread  # of range(slice, count, spread)
    shuffled = permutation(len(groups), "slices", seed, epoch)
    shuffled = shuffled[lengths[shuffled] > 0]
    edges = _edges(sizes[groups[shuffled]] // spread, window)
    positions = np.concatenate([[0], np.cumsum(lengths[shuffled])])[edges]

    def rows(number: int) -> I64:
        mine = shuffled[edges[number] : edges[number + 1]]
        found = np.concatenate(
            [
                starts[g] + _slice(int(counts[g]), s, spread, (seed, epoch, g))
                for g, s in _pairs(groups, slices, mine)
            ]
        )
        return found[permutation(len(found), "rows", seed, epoch, number)]

    return Order(positions.astype(np.int64), lru_cache(maxsize=2)(rows))


def _pairs(groups: I64, slices: I64, units: I64) -> list[tuple[int, int]]:
    return list(zip(groups[units].tolist(), slices[units].tolist(), strict=True))


def _slice(count: int, number: int, spread: int, key: tuple[int, int, int]) -> I64:
    if spread == 1:
        return np.arange(count, dtype=np.int64)
    return permutation(count, "slice", *key)[number::spread]


def _edges(sizes: I64, window: int) -> I64:
    """Where windows begin among the slices: as many as fit, at least one."""
    edges, held = [0], 0
    for place, size in enumerate(sizes.tolist()):
        if held and held + size > window:
            edges.append(place)
            held = 0
        held += max(1, size)
    if len(sizes):
        edges.append(len(sizes))
    return np.array(edges, np.int64)
