"""Families: the connected components of the verified edges.

They are for showing, and for spreading labels. They never decide who goes: a chain of near-duplicates may
join texts that have nothing in common (see :mod:`dedup.select`).

Edges that lie in parts are reduced where they lie: each part to its spanning :func:`forest`, the forests of
parts to one, and so on in a tree. A forest has fewer edges than there are rows with a twin, however many pairs.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["components", "forest", "spanning", "wide_ids"]

_ENDS = pa.schema([("left", pa.large_string()), ("right", pa.large_string())])


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


def spanning(batches: Iterable[pa.Table | pa.RecordBatch]) -> pa.Table:
    """Reduce edges by id, however many, to a spanning forest: batch by batch, and the forests in a tree.

    >>> triangle = pa.table({"left": ["a", "b", "a"], "right": ["b", "c", "c"]})
    >>> spanning(triangle.to_batches(max_chunksize=2)).num_rows
    2

    What is held are a batch and a few ids for each row that has an edge, however many edges there are.

    Args:
        batches: ``left`` and ``right``, strings.

    Returns:
        ``left`` and ``right``: fewer edges than rows, which connect the same rows.
    """
    held: list[tuple[int, pa.Table]] = []
    for batch in batches:
        tree, level = _forest_of([batch]), 0
        while held and held[-1][0] == level:  # like the carry of a binary counter
            tree, level = _forest_of([held.pop()[1], tree]), level + 1
        held.append((level, tree))
    return _forest_of([tree for _, tree in held])


def _forest_of(tables: list[pa.Table | pa.RecordBatch]) -> pa.Table:
    ends = wide_ids([table.column(name) for name in _ENDS.names for table in tables])
    known = pa.concat_arrays(ends.chunks or [pa.array([], ends.type)]).dictionary_encode()
    codes = known.indices.to_numpy()
    half = len(codes) // 2
    sides = [known.dictionary.take(pa.array(side)) for side in forest(codes[:half], codes[half:])]
    return pa.table(sides, schema=_ENDS)


def wide_ids(columns: Iterable[pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    """Ids of any string type as one column; with 64-bit offsets, since there may be more than 2 GB of them."""
    arrays = [
        chunk
        for column in columns
        for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])
    ]
    return pa.chunked_array([array.cast(pa.large_string()) for array in arrays], pa.large_string())
