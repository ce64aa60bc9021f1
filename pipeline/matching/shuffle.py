"""All verified pairs of a match, worked out by many workers.

Three passes over files in the scratch, each a map of :class:`pipeline.engine.Runner` (threads, or Ray core
tasks): it spills by its nature, and a task that is tried again writes the same file.

1. *scatter*: the keys of one piece, distributed over heaps by their hash;
2. *meet*: the rows of one heap that share a bucket, as pairs, distributed over blocks of rows;
3. *verify*: the pairs of one block, each once, compared exactly; by ``_id`` they are staged as a part of the
   table of pairs, and by their place in keep order they stay in the scratch, for
   :mod:`pipeline.matching.select`.

The driver itself holds the order of the rows, and nothing else of them; no pair at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from dedup.match import EDGES, Match, name_edges
from dedup.select import Edges
from dedup.shuffle import distinct, meet, scatter, split
from dedup.sketch import Corpus, Piece, piece
from lake.lake import Lake, Part, Scratch
from lake.machine import free_memory
from pipeline.stages.context import Context

__all__ = ["IN_PROCESS", "Shuffle", "batch_of", "edges_of", "fits", "ordered", "shuffled", "verified"]

IN_PROCESS = "GRISTMILL_IN_PROCESS_ROWS"
"""The environment variable with the most rows that one process compares, and the most stored pairs that it
holds; by default what fits its memory."""

_BYTES = 200  # of a row, and a few for each of its keys: benchmarks/results/incremental.md
_BYTES_A_KEY = 16
_BYTES_A_PAIR = 280  # of a stored pair
_SETS = 2  # times the bytes of the sets: they should be in memory, and the join takes as much
_SHARE = 0.4  # of the memory that is free
_EDGES = pa.schema(
    [("left", pa.int32()), ("right", pa.int32()), ("exact", pa.float64()), ("estimated", pa.float64())]
)


def fits(rows: int, bands: int, pairs: int = 0, sets: int = 0) -> bool:
    """Whether one process can compare so many rows: the same pairs come out of it, sooner.

    Args:
        rows: that are compared.
        bands: keys of a row.
        pairs: that are stored, and are at hand with them.
        sets: bytes of sets that are joined.
    """
    if (most := os.environ.get(IN_PROCESS)) is not None:
        return max(rows, pairs) <= int(most)
    held = rows * (_BYTES + bands * _BYTES_A_KEY) + pairs * _BYTES_A_PAIR + _SETS * sets
    return held < _SHARE * free_memory()


def batch_of(edges: Edges) -> pa.RecordBatch:
    """Lay out edges for the scratch: 24 bytes each."""
    columns = [edges.left.astype(np.int32), edges.right.astype(np.int32), edges.exact, edges.estimated]
    return pa.record_batch(columns, schema=_EDGES)


def edges_of(table: pa.Table | pa.RecordBatch) -> Edges:
    """The inverse of :func:`batch_of`."""
    left, right = (table.column(name).to_numpy().astype(np.int64) for name in _EDGES.names[:2])
    exact, estimated = (table.column(name).to_numpy() for name in _EDGES.names[2:])
    return Edges(left, right, exact, estimated)


@dataclass(frozen=True)
class Shuffle:
    """What all tasks of a shuffle share.

    Args:
        lake: where.
        key: of the scratch.
        at: the place of the match among the steps.
        match: the match.
        names: of the sketches of all rows, in the scratch.
        edges: the table of verified pairs.
        rows: of all sketches.
        tag: tells its files from those of other passes over the same match.
    """

    lake: Lake
    key: str
    at: int
    match: Match
    names: tuple[str, ...]
    edges: str
    rows: int
    tag: str = ""

    @property
    def heaps(self) -> int:
        """So many that a heap of keys and its pairs stay around a hundred megabytes; and as many blocks."""
        return max(4, min(1024, self.rows // 250_000))

    @property
    def scratch(self) -> Scratch:
        """Where the files are."""
        return self.lake.scratch(self.key)

    @cached_property
    def pieces(self) -> list[Piece]:
        """The sketches, mapped."""
        return [piece(self.scratch.read_arrow(name)) for name in self.names]

    def corpus(self, positions: np.typing.NDArray[np.int64]) -> Corpus:
        """Some rows, by their place in keep order."""
        order = self.scratch.read_arrow(self.file("order", 0)).column("row").to_numpy()
        return Corpus.of(self.pieces, order[positions].astype(np.int64), far=True)

    def file(self, what: str, number: int) -> str:
        """The name of a file of a pass."""
        return f"{self.at}-{self.tag}{what}-{number}.arrow"

    def __getstate__(self) -> dict[str, object]:
        """What travels: not the mapped files."""
        return {name: value for name, value in self.__dict__.items() if name != "pieces"}


@dataclass(frozen=True)
class _Task:
    shuffle: Shuffle
    number: int
    rows: int
    start: int = 0


def _scatter(task: _Task) -> None:
    """Distribute the keys of one piece."""
    work, scratch = task.shuffle, task.shuffle.scratch
    if not scratch.exists(name := work.file("keys", task.number)):
        one = piece(scratch.read_arrow(work.names[task.number]))
        position = scratch.read_arrow(work.file("order", 0)).column("position")
        mine = position.slice(task.start, one.head.num_rows).to_numpy()
        scratch.write_batches(name, scatter(one, mine, work.match.key_count, work.heaps))


def _meet(task: _Task) -> None:
    """Pair the rows of one heap."""
    work, scratch = task.shuffle, task.shuffle.scratch
    if not scratch.exists(name := work.file("met", task.number)):
        batches = [scratch.read_batch(work.file("keys", n), task.number) for n in range(len(work.names))]
        scratch.write_batches(name, split(*meet(batches), task.rows, work.heaps))


def _verify(task: _Task) -> Part | None:
    """Compare the pairs of one block of rows; gives the part of the table of pairs, if there are any."""
    work, scratch = task.shuffle, task.shuffle.scratch
    name, ends = work.file("verified", task.number), work.file("ends", task.number)
    staged = f"{work.key}-{work.at}-{task.number}"
    if scratch.exists(name) and scratch.exists(ends):
        if not scratch.read_arrow(name).num_rows:
            return None
        if part := work.lake.find_part(work.edges, staged):
            return part
    batches = [scratch.read_batch(work.file("met", heap), task.number) for heap in range(work.heaps)]
    left, right = (
        np.concatenate([batch.column(side).to_numpy() for batch in batches]).astype(np.int64)
        for side in ("left", "right")
    )
    once = distinct(left << 32 | right)
    left, right = once >> 32, once & 0xFFFFFFFF
    used = distinct(np.concatenate([left, right]))
    corpus = work.corpus(used)
    x, y = (np.searchsorted(used, side).astype(np.int32) for side in (left, right))
    edges = work.match.verify(corpus, x, y, 1)
    part = None
    if len(edges):
        part = work.lake.write_part(work.edges, staged, [name_edges(corpus, edges)], EDGES)
    placed = Edges(used[edges.left], used[edges.right], edges.exact, edges.estimated)
    found = distinct(np.concatenate([placed.left, placed.right])).astype(np.int32)
    scratch.write_arrow(ends, pa.table({"row": found}))
    scratch.write_batches(name, [batch_of(placed)])
    return part


def shuffled(context: Context, work: Shuffle, title: str) -> tuple[Part, ...]:
    """Find and verify all pairs of the sketches of a match.

    In the scratch stay ``verified`` (see :func:`batch_of`), a file for each block of rows, by the place of the
    rows in keep order, with all pairs of the block's rows with earlier ones; ``ends`` (the rows of these
    pairs); and ``order`` (``position``: of each row its place; ``row``: the rows in keep order).

    Args:
        context: who does it.
        work: what.
        title: of the step, for the progress.

    Returns:
        The pairs by ``_id``, staged as parts of the table of pairs.
    """
    ordered(context, work, title)
    counts = [each.head.num_rows for each in work.pieces]
    starts = np.cumsum([0, *counts])[:-1].tolist()
    tasks = [_Task(work, n, count, start) for n, (count, start) in enumerate(zip(counts, starts, strict=True))]
    context.gather(f"{title}, keys", _scatter, tasks, _rows)
    blocks = [_Task(work, number, work.rows) for number in range(work.heaps)]
    context.gather(f"{title}, buckets", _meet, blocks, _rows)
    return verified(context, work, title)


def verified(context: Context, work: Shuffle, title: str) -> tuple[Part, ...]:
    """The last pass of :func:`shuffled`: compare what ``met``, block by block."""
    blocks = [_Task(work, number, work.rows) for number in range(work.heaps)]
    return tuple(part for part in context.gather(f"{title}, pairs", _verify, blocks, _rows) if part)


def ordered(context: Context, work: Shuffle, title: str) -> None:
    """Number the rows in keep order: see ``order`` in :func:`shuffled`."""
    if not work.scratch.exists(name := work.file("order", 0)):
        with context.step(f"{title}, order"):
            corpus = Corpus(work.pieces, work.match.keep)
            # Rows that come twice have no place: they stand at the end of `row`, where nobody looks.
            row = np.r_[corpus.order, np.flatnonzero(corpus.position < 0)].astype(np.int32)
            work.scratch.write_arrow(name, pa.table({"position": corpus.position, "row": row}))


def _rows(task: _Task, _: object) -> int:
    return task.rows
