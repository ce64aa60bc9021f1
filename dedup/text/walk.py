"""The walk of :func:`dedup.text.join.twins`, cut so that no process needs to hold all sets.

Rows in keep order are cut into blocks. A block whose rows have been held against all rows that stay of the
blocks before it is decided by a walk of its own; then the later blocks are held against those of its rows that
stay. A row that goes is looked at no more. So each row meets the rows that stay in their order, as in one walk,
and has the same twin.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup.select import Edges, first
from dedup.text.join import twins

__all__ = ["cut", "going"]

_Ints = npt.NDArray[np.int64]


def going(
    places: npt.NDArray[np.uint64], sizes: _Ints, threshold: float, *, kept: int | None = None, threads: int = 1
) -> Edges:
    """Give of each row that goes the edge with its twin, in the order of the rows that go.

    Args:
        places: where in memory each row's sorted distinct uint32 hashes start, in keep order; shape (n,).
        sizes: how many they are; shape (n,).
        threshold: above 0, at most 1.
        kept: if given, so many of the first rows are known to stay, no two of them similar; given is who goes
            for one of them.
        threads: the result does not depend on it.
    """
    found = twins(places, sizes, threshold, kept=kept, threads=threads)
    edges = Edges(found.left, found.right, found.similarity, found.similarity)
    chosen = first(edges, len(sizes), edges.exact == 1.0)
    exact = edges.exact[chosen.edge]
    made = Edges(chosen.twin, chosen.dropped, exact, exact)
    return made if kept is None else made.take(made.left < kept)


def cut(weights: _Ints, most: int) -> _Ints:
    """Cut rows into blocks of about equal weight, four or more.

    >>> cut(np.ones(10, np.int64), 2).tolist(), cut(np.ones(4, np.int64), 9).tolist()
    ([0, 2, 4, 6, 8, 10], [0, 1, 2, 3, 4])

    Args:
        weights: of the rows; shape (n,).
        most: about what a block may weigh.

    Returns:
        The first row of each block, and the number of rows; shape (blocks + 1,).
    """
    ends = np.cumsum(weights)
    total = int(ends[-1]) if len(ends) else 0
    blocks = max(4, -(-total // most))
    stops = np.searchsorted(ends, np.arange(1, blocks) * (total / blocks), "left") + 1
    bounds: _Ints = np.r_[0, np.minimum(stops, len(ends)), len(ends)].astype(np.int64)
    return bounds
