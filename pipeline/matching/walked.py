"""Who goes, by a walk over all rows: no pair of two rows that go is made, or stored.

It is the walk of :func:`dedup.text.join.twins`, over the sketches of all rows that earlier steps left, anew in
every run. Where the sets do not fit one process it goes by blocks (:mod:`dedup.text.walk`), over files in the
scratch, each pass a map of :class:`pipeline.engine.Runner`:

1. *lay*: the sets of one piece, distributed over blocks of rows in keep order;
2. for each block in turn *walk*: which of its rows go for one another, among those that are left of it; and
   *meet*: which rows of each later block go for one of those that stay.

Each pair of blocks is one task, so the work grows with the square of the blocks where most rows stay. The
driver holds the order of the rows, 25 bytes for each of them, and one pair for each row that goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.match import EDGES, name_edges
from dedup.select import Edges
from dedup.sketch import addresses, piece
from dedup.text.walk import cut, going
from lake.lake import Part
from lake.machine import cores
from pipeline.matching.shuffle import Shuffle, batch_of, edges_of, fits, ordered
from pipeline.matching.sieve import Ids
from pipeline.stages.context import Context

__all__ = ["walked"]

_BLOCK_BYTES = 256 << 20  # of sets; a task has two blocks before it, and takes as much again
_BYTES_A_ROW = 100  # that it takes besides
_LAID = pa.schema([("row", pa.int32()), ("set", pa.large_binary())])

_Ints = npt.NDArray[np.int64]


class _Left(NamedTuple):
    """The rows that earlier steps left, in keep order."""

    places: _Ints
    """Among all rows, as :func:`pipeline.matching.shuffle.ordered` numbers them; shape (n,)."""
    sizes: _Ints
    """Of their sets, in bytes; shape (n,)."""


@dataclass(frozen=True)
class _Piece:
    """A piece, and the place of its first row among all rows."""

    work: Shuffle
    number: int
    start: int
    rows: int


@dataclass(frozen=True)
class _Pair:
    """Two blocks, or one block with itself."""

    work: Shuffle
    earlier: int
    later: int
    rows: int


def walked(
    context: Context, work: Shuffle, title: str, gone: pa.ChunkedArray
) -> tuple[pa.Table, tuple[Part, ...]]:
    """Decide among the rows that earlier steps left.

    Args:
        context: who does it.
        work: the sketches of all rows.
        title: of the step, for the progress.
        gone: ids of rows that earlier steps have dropped.

    Returns:
        A table of schema :data:`dedup.match.STATE`; and of each row that goes the pair with its twin, staged as
        a part of the table of pairs, if there are any.
    """
    ordered(context, work, title)
    with context.step(f"{title}, rows"):
        left = _left(work, gone)
    if fits(len(left.places), 0, sets=int(left.sizes.sum())):
        with context.step(f"{title}, walk"):
            corpus = work.corpus(left.places)
            [(places, sizes)], held = corpus.wide(np.arange(len(corpus)), "shingles")
            edges = going(places, sizes // 4, work.match.threshold, threads=cores())
            del held  # until here the addresses had to stay good
    else:
        edges = _by_blocks(context, work, title, left)
    with context.step(f"{title}, decision"):
        return _told(work, Edges(left.places[edges.left], left.places[edges.right], edges.exact, edges.exact))


def _left(work: Shuffle, gone: pa.ChunkedArray) -> _Left:
    """Find the rows that earlier steps left, and how large their sets are."""
    position = work.scratch.read_arrow(work.file("order", 0)).column("position").to_numpy()
    there = np.zeros(len(position), np.bool_)
    sizes = np.zeros(len(position), np.int64)
    few, start = Ids(gone), 0
    for each in work.pieces:
        place = position[start : start + each.head.num_rows]
        alive = place >= 0  # of rows with one id the first
        alive[few.find(each.head.column("_id"))] = False
        there[place[alive]] = True
        sizes[place[alive]] = addresses(each.head.column("shingles"))[1][alive]
        start += each.head.num_rows
    places = np.flatnonzero(there)
    return _Left(places, sizes[places])


def _told(work: Shuffle, edges: Edges) -> tuple[pa.Table, tuple[Part, ...]]:
    """Lay out what was decided, and stage the pairs."""
    used = np.unique(np.concatenate([edges.left, edges.right]))
    corpus = work.corpus(used)
    left, right = np.searchsorted(used, edges.left), np.searchsorted(used, edges.right)
    named = Edges(left, right, edges.exact, edges.estimated)
    state = work.match.decide(corpus, named)
    if not len(edges):
        return state, ()
    name = f"{work.key}-{work.at}-twins"
    part = work.lake.find_part(work.edges, name) or work.lake.write_part(
        work.edges, name, [name_edges(corpus, named)], EDGES
    )
    return state, (part,)


# ---------------------------------------------------------------- blocks


def _by_blocks(context: Context, work: Shuffle, title: str, left: _Left) -> Edges:
    """Walk block by block; gives the edge of each row that goes, by the numbers of the rows that are left."""
    scratch = work.scratch
    bounds = cut(left.sizes + _BYTES_A_ROW, _BLOCK_BYTES)
    number = np.full(work.rows, -1, np.int32)
    number[left.places] = np.arange(len(left.places), dtype=np.int32)
    scratch.write_arrow(work.file("numbers", 0), pa.table({"row": number}))
    scratch.write_arrow(work.file("bounds", 0), pa.table({"row": bounds}))
    del number
    pieces, start = [], 0
    for at, each in enumerate(work.pieces):
        pieces.append(_Piece(work, at, start, each.head.num_rows))
        start += each.head.num_rows
    context.gather(f"{title}, sets", _lay, pieces, _rows)
    goes, found, blocks = np.zeros(len(left.places), np.bool_), [Edges.none()], len(bounds) - 1
    for block in range(blocks):
        parts = [pa.record_batch([pa.array(goes[low:high])], ["goes"]) for low, high in pairwise(bounds)]
        scratch.write_batches(work.file("goes", block), parts)
        tasks = [
            _Pair(work, block, each, int(bounds[each + 1] - bounds[each])) for each in range(block, blocks)
        ]
        told = f"{title}, block {block + 1} of {blocks}"
        context.gather(told, _meet, tasks[:1], _rows)
        context.gather(f"{told}, later rows", _meet, tasks[1:], _rows)
        for task in tasks:
            edges = edges_of(scratch.read_arrow(_name(task)))
            goes[edges.right] = True
            found.append(edges)
    edges = Edges.none().join(*found)
    return edges.take(np.argsort(edges.right))


def _rows(task: _Piece | _Pair, _: object) -> int:
    return task.rows


def _name(task: _Pair) -> str:
    """The file with the edges that a pair of blocks gave."""
    return task.work.file(f"going-{task.earlier}", task.later)


def _lay(task: _Piece) -> None:
    """Distribute the sets of one piece over the blocks."""
    work, scratch = task.work, task.work.scratch
    if scratch.exists(name := work.file("sets", task.number)):
        return
    head = piece(scratch.read_arrow(work.names[task.number])).head
    position = scratch.read_arrow(work.file("order", 0)).column("position")
    place = position.slice(task.start, task.rows).to_numpy()
    row = scratch.read_arrow(work.file("numbers", 0)).column("row").to_numpy()[place]
    row[place < 0] = -1
    order = np.argsort(row, kind="stable")[np.count_nonzero(row < 0) :]
    sets = head.column("shingles").take(pa.array(order))
    batch = pa.record_batch([row[order], sets.combine_chunks()], schema=_LAID)
    cuts = np.searchsorted(row[order], _bounds(work)).tolist()
    scratch.write_batches(name, [batch.slice(low, high - low) for low, high in pairwise(cuts)])


def _bounds(work: Shuffle) -> _Ints:
    found: _Ints = work.scratch.read_arrow(work.file("bounds", 0)).column("row").to_numpy()
    return found


def _meet(task: _Pair) -> None:
    """Find which rows of the later block go for one that stays of the earlier; of one block, for its own."""
    work, scratch = task.work, task.work.scratch
    if scratch.exists(name := _name(task)):
        return
    mine = _open(task, task.later)
    rows, kept = mine, None
    if task.later > task.earlier:
        own = replace(task, later=task.earlier)
        stays = np.setdiff1d(_open(task, task.earlier), edges_of(scratch.read_arrow(_name(own))).right)
        rows, kept = np.concatenate([stays, mine]), len(stays)
    places, sizes, held = _sets(task, rows)
    edges = going(places, sizes, work.match.threshold, kept=kept)
    del held  # until here the addresses had to stay good
    edges = Edges(rows[edges.left], rows[edges.right], edges.exact, edges.estimated)
    scratch.write_batches(name, [batch_of(edges)])


def _open(task: _Pair, block: int) -> _Ints:
    """The rows of a block that are left when it is the turn of the earlier one."""
    went = task.work.scratch.read_batch(task.work.file("goes", task.earlier), block).column("goes")
    rows: _Ints = _bounds(task.work)[block] + np.flatnonzero(~went.to_numpy(zero_copy_only=False))
    return rows


def _sets(task: _Pair, rows: _Ints) -> tuple[npt.NDArray[np.uint64], _Ints, object]:
    """Where the sets of some rows of two blocks stand in memory, how many hashes they have, what keeps them."""
    work, blocks = task.work, sorted({task.earlier, task.later})
    held = [
        work.scratch.read_batch(work.file("sets", n), each) for each in blocks for n in range(len(work.names))
    ]
    own = np.concatenate([batch.column("row").to_numpy() for batch in held])
    places, sizes = addresses(pa.chunked_array([batch.column("set") for batch in held]))
    order = np.argsort(own)
    at = order[np.searchsorted(own[order], rows)]
    return places[at], sizes[at] // 4, held
