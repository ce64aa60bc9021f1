"""Families: the connected components of the verified edges.

They are for showing, and for spreading labels. They never decide who goes: a chain of near-duplicates may
join texts that have nothing in common (see :mod:`dedup.select`).

Edges that lie in parts are reduced where they lie: each part to its spanning :func:`forest`, the forests of two
parts to one, and so on in a tree. A forest has fewer edges than there are rows with a twin, however many pairs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["components", "forest"]


def components(
    left: npt.NDArray[np.integer], right: npt.NDArray[np.integer], count: int
) -> npt.NDArray[np.int64]:
    """Name each of ``count`` nodes by the least node that it is connected with.

    >>> components(np.array([1, 4]), np.array([2, 2]), 5).tolist()
    [0, 1, 1, 3, 1]

    Union by the lesser root with path halving (Tarjan and van Leeuwen 1984), over all edges at once:
    each round hooks every root onto the least root it has an edge with, then halves all paths.

    Args:
        left: one end of each edge.
        right: the other end.
        count: nodes are 0 to count - 1.

    Returns:
        int64, shape (count,).

    Raises:
        IndexError: an edge names a node that is not there.
    """
    parent = np.arange(count, dtype=np.int64)
    if len(left) and (min(left.min(), right.min()) < 0 or max(left.max(), right.max()) >= count):
        raise IndexError(f"an edge names a node outside of 0 to {count - 1}")
    x, y = left.astype(np.int64), right.astype(np.int64)
    while len(x):
        x, y = parent[x], parent[y]
        apart = x != y
        x, y = np.minimum(x[apart], y[apart]), np.maximum(x[apart], y[apart])
        np.minimum.at(parent, y, x)
        while True:
            halved = parent[parent]
            if np.array_equal(halved, parent):
                break
            parent = halved
    return parent


def forest(
    left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keep of these edges as few as connect the same nodes: each node with the least of its component.

    >>> [side.tolist() for side in forest(np.array([9, 5, 7]), np.array([5, 7, 9]))]
    [[5, 5], [7, 9]]

    Args:
        left: one end of each edge.
        right: the other end.

    Returns:
        The edges of the forest, as ``left`` and ``right``: one less than nodes for each component.
    """
    nodes, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    nodes = nodes.astype(np.int64)
    names = nodes[components(ends[: len(left)], ends[len(left) :], len(nodes))]
    apart = names != nodes
    return names[apart], nodes[apart]
