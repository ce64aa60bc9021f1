"""Deciding again by a higher threshold, from verified pairs that were stored: nothing is hashed or compared."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from dedup.match import STATE, Match, number_edges
from dedup.select import without
from dedup.sketch import Corpus, Piece

__all__ = ["reselect"]


def reselect(
    edges: pa.Table,
    nodes: pa.Table,
    match: Match,
    threshold: float | None = None,
    *,
    gone: pa.Array | pa.ChunkedArray | None = None,
) -> pa.Table:
    """Say which rows go, and why, by a threshold from that of the match on.

    >>> from dedup import MinHash
    >>> from dedup.match import EDGES
    >>> edges = pa.table([["a", "b"], ["b", "c"], [0.85, 0.95], [0.9, 0.9]], schema=EDGES)
    >>> nodes = pa.table({"_id": ["a", "b", "c"], "keep_length": [30, 20, 10]})
    >>> for threshold in (0.8, 0.9):
    ...     reselect(edges, nodes, MinHash(threshold=0.8), threshold).select(["_id", "twin"]).to_pylist()
    [{'_id': 'b', 'twin': 'a'}]
    [{'_id': 'c', 'twin': 'b'}]

    Args:
        edges: verified pairs, of schema :data:`dedup.match.EDGES`.
        nodes: ``_id`` and the columns of the keep order, as ``keep_<name>``, of all rows that were compared.
        match: the step, as the pairs were verified with it.
        threshold: that of the match unless given.
        gone: ids of rows that earlier steps have dropped.

    Returns:
        A table of schema :data:`dedup.match.STATE`: the same that the match would decide.

    Raises:
        ValueError: the threshold is lower than that of the match, or above 1.
    """
    least = match.threshold if threshold is None else threshold
    if not match.threshold <= least <= 1.0:
        raise ValueError(
            f"the pairs were verified from {match.threshold:g} on: give a threshold from there to 1, "
            f"not {least:g}"
        )
    ends = [chunk for name in ("left", "right") for chunk in edges.column(name).chunks]
    named = pc.unique(pa.chunked_array(ends, pa.string()))
    some = nodes.filter(pc.is_in(nodes.column("_id"), value_set=named))
    if not some.num_rows:
        return STATE.empty_table()
    corpus = Corpus([Piece(some, lambda rows: (some, rows))], match.keep)
    pairs = number_edges(corpus, edges)
    if gone is not None and len(gone):
        alive = ~pc.is_in(corpus.ids, value_set=gone.cast(corpus.ids.type)).to_numpy(zero_copy_only=False)
        pairs = without(pairs, alive, copies=match.copies)
    return match.decide(corpus, pairs, least)
