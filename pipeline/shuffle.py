"""All verified pairs of a match, worked out by many workers.

Four passes over files in the scratch, each a map of :class:`pipeline.engine.Runner` (threads, or Ray core
tasks): it spills by its nature, and a task that is tried again writes the same file.

1. *scatter*: the keys of one piece, distributed over heaps by their hash;
2. *meet*: the rows of one heap that share a bucket, as pairs, distributed over blocks of rows;
3. *verify*: the pairs of one block, each once, compared exactly;
4. and the driver gathers the edges.

The driver itself holds the order of the rows, and nothing else of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dedup.match import Match, name_edges
from dedup.select import Edges
from dedup.shuffle import meet, scatter, split
from dedup.sketch import Corpus, Piece, piece
from lake.lake import Lake
from pipeline.context import Context

__all__ = ["IN_PROCESS", "fits", "shuffled"]

IN_PROCESS = "GRISTMILL_IN_PROCESS_ROWS"
"""The environment variable with the most rows that one process compares; by default what fits its memory."""

_BYTES = 200  # of a row, and a few for each of its keys: benchmarks/results/incremental.md
_BYTES_A_KEY = 16
_SHARE = 0.4  # of the memory that is free
_EDGES = pa.schema(
    [("left", pa.int64()), ("right", pa.int64()), ("exact", pa.float64()), ("estimated", pa.float64())]
)


def fits(rows: int, bands: int) -> bool:
    """Whether one process can compare so many rows: the same pairs come out of it, sooner."""
    if (most := os.environ.get(IN_PROCESS)) is not None:
        return rows <= int(most)
    return rows * (_BYTES + bands * _BYTES_A_KEY) < _SHARE * _free()


def _free() -> int:
    for line in Path("/proc/meminfo").read_text("ascii").splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable"):
            return 1024 * int(line.split()[1])
    return 8 << 30


@dataclass(frozen=True)
class _Shuffle:
    """What all tasks of a shuffle share."""

    lake: Lake
    key: str
    at: int
    match: Match
    names: tuple[str, ...]  # of the sketches, in the scratch
    heaps: int

    def pieces(self) -> list[Piece]:
        """The sketches, mapped."""
        scratch = self.lake.scratch(self.key)
        return [piece(scratch.read_arrow(name)) for name in self.names]

    def file(self, what: str, number: int) -> str:
        """The name of a file of a pass."""
        return f"{self.at}-{what}-{number}.arrow"


@dataclass(frozen=True)
class _Task:
    shuffle: _Shuffle
    number: int
    rows: int
    start: int = 0


def _scatter(task: _Task) -> int:
    """Distribute the keys of one piece."""
    work = task.shuffle
    scratch, name = work.lake.scratch(work.key), work.file("keys", task.number)
    if not scratch.exists(name):
        one = piece(scratch.read_arrow(work.names[task.number]))
        position = scratch.read_arrow(work.file("order", 0)).column("position")
        mine = position.slice(task.start, one.head.num_rows).to_numpy()
        scratch.write_batches(name, scatter(one, mine, work.match.key_count, work.heaps))
    return task.rows


def _meet(task: _Task) -> int:
    """Pair the rows of one heap."""
    work = task.shuffle
    scratch, name = work.lake.scratch(work.key), work.file("met", task.number)
    if not scratch.exists(name):
        batches = [scratch.read_batch(work.file("keys", n), task.number) for n in range(len(work.names))]
        scratch.write_batches(name, split(*meet(batches), task.rows, work.heaps))
    return task.rows


def _verify(task: _Task) -> int:
    """Compare the pairs of one block of rows."""
    work = task.shuffle
    scratch, name = work.lake.scratch(work.key), work.file("verified", task.number)
    if scratch.exists(name):
        return task.rows
    batches = [scratch.read_batch(work.file("met", heap), task.number) for heap in range(work.heaps)]
    left, right = (
        np.concatenate([batch.column(side).to_numpy() for batch in batches]).astype(np.int64)
        for side in ("left", "right")
    )
    once = np.unique(left << 32 | right)
    left, right = once >> 32, once & 0xFFFFFFFF
    used = np.unique(np.concatenate([left, right]))
    order = scratch.read_arrow(work.file("order", 0)).column("row").to_numpy()
    corpus = Corpus.of(work.pieces(), order[used].astype(np.int64))
    x, y = (np.searchsorted(used, side).astype(np.int32) for side in (left, right))
    edges = work.match.verify(corpus, x, y, 1)
    columns = [used[edges.left], used[edges.right], edges.exact, edges.estimated]
    scratch.write_arrow(name, pa.table(columns, schema=_EDGES))
    return task.rows


def shuffled(
    context: Context, key: str, at: int, match: Match, *, names: Sequence[str], title: str
) -> pa.Table:
    """Find and verify all pairs of the sketches of a match.

    Args:
        context: where, and who does it.
        key: of the scratch.
        at: the place of the match among the steps.
        match: the match.
        names: of the sketches in the scratch.
        title: of the step, for the progress.

    Returns:
        A table of schema :data:`dedup.match.EDGES`.
    """
    scratch = context.lake.scratch(key)
    pieces = [piece(scratch.read_arrow(name)) for name in names]
    counts = [each.head.num_rows for each in pieces]
    total = sum(counts)
    work = _Shuffle(context.lake, key, at, match, tuple(names), _heaps(total))
    with context.step(f"{title}, order"):
        corpus = Corpus(pieces, match.keep)
        # Rows that come twice have no place: they stand at the end of `row`, where nobody looks.
        row = np.r_[corpus.order, np.flatnonzero(corpus.position < 0)].astype(np.int32)
        scratch.write_arrow(work.file("order", 0), pa.table({"position": corpus.position, "row": row}))
    starts = np.cumsum([0, *counts])[:-1].tolist()
    tasks = [_Task(work, n, count, start) for n, (count, start) in enumerate(zip(counts, starts, strict=True))]
    context.gather(f"{title}, keys", _scatter, tasks, _rows)
    blocks = [_Task(work, number, total) for number in range(work.heaps)]
    context.gather(f"{title}, buckets", _meet, blocks, _rows)
    context.gather(f"{title}, pairs", _verify, blocks, _rows)
    tables = [scratch.read_arrow(work.file("verified", number)) for number in range(work.heaps)]
    found = pa.concat_tables(tables)
    return name_edges(corpus, Edges(*(found.column(name).to_numpy() for name in _EDGES.names)))


def _rows(task: _Task, _: object) -> int:
    return task.rows


def _heaps(rows: int) -> int:
    """So many that a heap of keys and its pairs stay around a hundred megabytes."""
    return max(4, min(1024, rows // 250_000))
