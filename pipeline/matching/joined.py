"""All verified pairs of the exact join, worked out by many workers: see :mod:`dedup.text.postings`.

Passes over files in the scratch, each a map of :class:`pipeline.engine.Runner`:

1. *print*: a fingerprint of each set, distributed over heaps; *same*: the rows of a heap whose sets are equal,
   of which the first stands for all from here on;
2. *tally*: how many sets have a hash, in a table of counters for some pieces; the driver adds them up;
3. *post*: the prefixes of the sets of one piece, distributed over heaps by hash; *pair*: the rows of one heap
   that share a hash and may be similar, distributed over blocks of rows;
4. *verify*, as in :mod:`pipeline.matching.shuffle`.

The driver holds the order of the rows, a byte for each of them, and the counters: at most 128 MiB, twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.shuffle import PAIRS, split
from dedup.sketch import Piece, addresses, piece
from dedup.text import postings
from lake.lake import Part
from pipeline.matching.shuffle import Shuffle, ordered, verified
from pipeline.stages.context import Context

__all__ = ["joined"]

_TASKS = 16  # at most, that tally: each of them writes a table of counters
_PRINTS = pa.schema([("print", pa.uint64()), ("row", pa.int32())])
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: Fibonacci hashing

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Task:
    """Some pieces, from number ``first`` on; ``starts`` are the places of their first rows among all rows."""

    work: Shuffle
    number: int
    first: int
    starts: tuple[int, ...]
    hashes: int = 0


@dataclass(frozen=True)
class _Heap:
    work: Shuffle
    number: int


def joined(context: Context, work: Shuffle, title: str) -> tuple[Part, ...]:
    """Find and verify all pairs of the sketches of :class:`dedup.Jaccard`.

    See :func:`pipeline.matching.shuffle.shuffled` for what is given, and for what stays in the scratch.
    """
    ordered(context, work, title)
    scratch = work.scratch
    counts = [each.head.num_rows for each in work.pieces]
    starts = [0, *accumulate(counts)][:-1]
    tasks = [_Task(work, n, n, (start,)) for n, start in enumerate(starts)]
    heaps = [_Heap(work, number) for number in range(work.heaps)]
    hashes = sum(context.gather(f"{title}, sets", _print, tasks, lambda task, _: counts[task.number]))
    context.gather(f"{title}, equal sets", _same, heaps, _none)
    if not scratch.exists(name := work.file("alone", 0)):
        alone = np.ones(work.rows, np.int8)
        for heap in heaps:
            alone[scratch.read_arrow(work.file("same", heap.number)).column("right").to_numpy()] = 0
        scratch.write_arrow(name, pa.table({"alone": alone}))
    if not scratch.exists(name := work.file("counts", 0)):
        groups = _groups(work, starts, hashes)
        context.gather(f"{title}, hashes", _tally, groups, _none)
        counted = postings.counters(hashes)
        for group in groups:
            postings.joined(counted, scratch.read_arrow(work.file("tally", group.number)).column(0).to_numpy())
        scratch.write_arrow(name, pa.table({"count": counted}))
        del counted
    context.gather(f"{title}, keys", _post, tasks, lambda task, _: counts[task.number])
    context.gather(f"{title}, buckets", _pair, heaps, _none)
    return verified(context, work, title)


def _none(*_: object) -> int:
    return 0


def _groups(work: Shuffle, starts: Sequence[int], hashes: int) -> list[_Task]:
    """Stretches of pieces, a few."""
    size = -(-len(starts) // _TASKS)
    return [
        _Task(work, number, first, tuple(starts[first : first + size]), hashes)
        for number, first in enumerate(range(0, len(starts), size))
    ]


def _sets(one: Piece) -> tuple[npt.NDArray[np.uint64], _Ints, object]:
    """Where the sets of a piece stand in memory, how many hashes they have, and what keeps them there."""
    table, _ = one.wide(np.arange(one.head.num_rows))
    places, sizes = addresses(table.column("shingles"))
    return places, sizes // 4, table


def _positions(task: _Task, at: int, rows: int) -> _Ints:
    """The places in keep order of the rows of a piece."""
    position = task.work.scratch.read_arrow(task.work.file("order", 0)).column("position")
    found: _Ints = position.slice(task.starts[at], rows).to_numpy().astype(np.int64)
    return found


def _heaped(heap: npt.NDArray[np.integer], batch: pa.RecordBatch, heaps: int) -> list[pa.RecordBatch]:
    """Distribute a batch over heaps."""
    order = np.argsort(heap, kind="stable")
    cuts = np.searchsorted(heap[order], np.arange(heaps + 1)).tolist()
    laid = batch.take(pa.array(order))
    return [laid.slice(low, high - low) for low, high in pairwise(cuts)]


# ---------------------------------------------------------------- equal sets


def _print(task: _Task) -> int:
    """Distribute the fingerprints of one piece; gives how many hashes its sets have."""
    work, scratch = task.work, task.work.scratch
    places, sizes, held = _sets(piece(scratch.read_arrow(work.names[task.first])))
    if not scratch.exists(name := work.file("prints", task.number)):
        rows = _positions(task, 0, len(sizes))
        there = np.flatnonzero((rows >= 0) & (sizes > 0))
        own = postings.prints(places, sizes)[there]
        batch = pa.record_batch([own, rows[there].astype(np.int32)], schema=_PRINTS)
        heap = (own * _SPREAD >> np.uint64(32)) % np.uint64(work.heaps)
        scratch.write_batches(name, _heaped(heap, batch, work.heaps))
    del held  # until here the addresses had to stay good
    return int(sizes.sum())


def _same(task: _Heap) -> None:
    """Name of each row of one heap the first one with an equal set, where that is another."""
    work, scratch = task.work, task.work.scratch
    if scratch.exists(name := work.file("same", task.number)):
        return
    batches = [scratch.read_batch(work.file("prints", n), task.number) for n in range(len(work.names))]
    own, rows = (
        np.concatenate([each.column(side).to_numpy() for each in batches]) for side in ("print", "row")
    )
    _, which, times = np.unique(own, return_inverse=True, return_counts=True)
    some = np.sort(rows[times[which] > 1]).astype(np.int64)
    [(places, sizes)], held = work.corpus(some).wide(np.arange(len(some)), "shingles")
    first = postings.equals(places, sizes // 4)
    del held
    copies = np.flatnonzero(first != np.arange(len(some)))
    sides = [some[first[copies]].astype(np.int32), some[copies].astype(np.int32)]
    scratch.write_arrow(name, pa.table(sides, schema=PAIRS))


# ---------------------------------------------------------------- prefixes


def _alone(task: _Task, at: int) -> tuple[npt.NDArray[np.uint64], _Ints, _Ints, object]:
    """The sets of a piece that stand for themselves, and the places in keep order of their rows."""
    places, sizes, held = _sets(piece(task.work.scratch.read_arrow(task.work.names[task.first + at])))
    rows = _positions(task, at, len(sizes))
    alone = task.work.scratch.read_arrow(task.work.file("alone", 0)).column("alone").to_numpy()
    mine = np.flatnonzero((rows >= 0) & (sizes > 0))
    mine = mine[alone[rows[mine]] == 1]
    return places[mine], sizes[mine], rows[mine], held


def _tally(task: _Task) -> None:
    """Count the hashes of some pieces."""
    if task.work.scratch.exists(name := task.work.file("tally", task.number)):
        return
    counts = postings.counters(task.hashes)
    for at in range(len(task.starts)):
        places, sizes, _, held = _alone(task, at)
        postings.tallied(places, sizes, counts)
        del held
    task.work.scratch.write_arrow(name, pa.table({"count": counts}))


def _post(task: _Task) -> None:
    """Distribute the prefixes of one piece."""
    work, scratch = task.work, task.work.scratch
    if scratch.exists(name := work.file("keys", task.number)):
        return
    counts = scratch.read_arrow(work.file("counts", 0)).column("count").to_numpy()
    places, sizes, rows, held = _alone(task, 0)
    batch = postings.postings(places, sizes, rows, counts, work.match.threshold)
    del held
    token = batch.column("token").to_numpy().astype(np.uint64)
    heap = (token * _SPREAD >> np.uint64(32)) % np.uint64(work.heaps)
    scratch.write_batches(name, _heaped(heap, batch, work.heaps))


def _pair(task: _Heap) -> None:
    """Pair the rows of one heap, and those with equal sets."""
    work, scratch = task.work, task.work.scratch
    if scratch.exists(name := work.file("met", task.number)):
        return
    batches = [scratch.read_batch(work.file("keys", n), task.number) for n in range(len(work.names))]
    same = scratch.read_arrow(work.file("same", task.number))
    left, right = (
        np.concatenate([side, same.column(name_of).to_numpy()])
        for side, name_of in zip(postings.paired(batches, work.match.threshold), PAIRS.names, strict=True)
    )
    scratch.write_batches(name, split(left, right, work.rows, work.heaps))
