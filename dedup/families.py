"""Families of any number of rows: what the verified edges connect, from edges that are read batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.cluster import components, spanning, wide_ids
from dedup.result import CLUSTERS

__all__ = ["clusters"]

Batches = Callable[[], Iterable[pa.Table | pa.RecordBatch]]

_ROWS = 1 << 16  # of a table that is given


def clusters(
    edges: pa.Table | Batches,
    dropped: pa.Table,
    *,
    gone: pa.Array | pa.ChunkedArray | None = None,
    copies: bool = False,
) -> Iterator[pa.Table]:
    """List the families that verified edges connect, see :data:`dedup.result.CLUSTERS`.

    >>> edges = pa.table({"left": ["a", "b"], "right": ["b", "c"], "exact": [0.9, 0.8]})
    >>> dropped = pa.table({"_id": ["b"], "twin": ["a"], "exact": [0.9]})
    >>> [family] = clusters(edges, dropped)
    >>> family.select(["family", "_id", "kept"]).to_pylist()[1]
    {'family': 'a', '_id': 'b', 'kept': False}

    What is held is proportional to the rows that have an edge (about 400 bytes each), not to the edges: these
    are reduced to spanning forests as they come (:func:`dedup.cluster.spanning`).

    Args:
        edges: ``left``, ``right`` and ``exact`` (:data:`dedup.match.EDGES`): a table, or what gives batches of
            one, such as ``lake.table("_edges_...").scan``; it is called once, or twice with ``gone``.
        dropped: ``_id``, ``twin`` and ``exact`` of the rows that went for a twin.
        gone: ids of rows that earlier steps dropped: they are in no family.
        copies: rows of similarity 1 are copies, see :class:`dedup.match.Match`: one that is gone still says
            what the others resemble.

    Yields:
        Tables of schema :data:`dedup.result.CLUSTERS`; all together are in the order of ``family`` and ``_id``.
    """
    read: Batches = edges.to_batches if isinstance(edges, pa.Table) else edges
    dead = wide_ids([] if gone is None else [gone]).unique()
    cut = _cut(read, dead, copies=copies) if len(dead) else dead
    tree = spanning(_without(batch, cut) for batch in read())
    ids = wide_ids([tree.column("left"), tree.column("right")]).unique()
    ids = ids.take(pc.sort_indices(ids))
    left, right = (pc.index_in(tree.column(side), value_set=ids).to_numpy() for side in ("left", "right"))
    del tree
    family, row = _families(components(left, right, len(ids)), _in(ids, dead))
    twins = dropped.filter(pc.not_equal(dropped.column("_id"), dropped.column("twin")))
    place = pc.index_in(ids, value_set=wide_ids([twins.column("_id")]))
    for start in range(0, len(row), _ROWS):
        some = pa.array(row[start : start + _ROWS])
        why = place.take(some)
        columns = [
            ids.take(pa.array(family[start : start + _ROWS])),
            ids.take(some),
            pc.is_null(why),
            twins.column("twin").take(why),
            twins.column("exact").take(why),
        ]
        yield pa.table([each.cast(kind) for each, kind in zip(columns, CLUSTERS.types, strict=True)], CLUSTERS)


def _families(
    component: npt.NDArray[np.int64], dead: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each row that is listed its family and itself, by number, in order."""
    here = np.flatnonzero(~dead)
    mine = component[here]
    size = np.bincount(mine, minlength=len(component))
    name = np.full(len(component), -1, np.int64)
    name[mine[::-1]] = here[::-1]  # the last to be written is the least
    row = here[size[mine] > 1]
    family = name[component[row]]
    order = np.argsort(family, kind="stable")
    return family[order], row[order]


def _cut(read: Batches, dead: pa.Array, *, copies: bool) -> pa.Array:
    """The rows that are gone and connect nothing: no copy of theirs is left."""
    if not copies:
        return dead
    tree = spanning(batch.filter(pc.equal(batch.column("exact"), 1.0)) for batch in read())
    ids = wide_ids([tree.column("left"), tree.column("right")]).unique()
    left, right = (pc.index_in(tree.column(side), value_set=ids).to_numpy() for side in ("left", "right"))
    group = components(left, right, len(ids))
    gone = _in(ids, dead)
    left_over = np.zeros(len(ids), np.bool_)
    left_over[group[~gone]] = True
    standing = ids.filter(pa.array(gone & left_over[group]))
    return dead.filter(pc.invert(pc.is_in(dead, value_set=standing)))


def _without(batch: pa.Table | pa.RecordBatch, cut: pa.Array) -> pa.Table | pa.RecordBatch:
    ends = batch.select(["left", "right"])
    if not len(cut):
        return ends
    out = [_in(wide_ids([ends.column(side)]), cut) for side in ("left", "right")]
    return ends.filter(pa.array(~(out[0] | out[1])))


def _in(ids: pa.Array | pa.ChunkedArray, among: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_in(ids, value_set=among))
