"""Pairs that stay in the lake, laid out for :mod:`pipeline.matching.select`: no process holds all of them.

They name rows by ``_id``, and the selection goes over numbers in keep order. Four passes over files in the
scratch bring them there, each a map of :class:`pipeline.engine.Runner`:

1. *mark*: the ids of some parts of pairs, as bits of a sieve;
2. *name*: of each part of the index the rows that pass the sieve, with what the keep order needs of them. One
   in eight of those without a twin passes too: it has no pair, and stays;
3. *place*: the pairs by the numbers of their rows, distributed over blocks of rows;
4. *gather*: all pairs of a block, once.

The driver orders the rows that have a twin, as :func:`pipeline.matching.shuffle.ordered` does; it holds a byte
or two for each of them besides, and no pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup import keep as keeping
from dedup.match import EDGES
from dedup.select import Edges
from dedup.shuffle import distinct
from lake.lake import Part
from pipeline.matching.shuffle import Shuffle, batch_of, edges_of, ordered
from pipeline.matching.sieve import Keys, Rows, bits_for, codes, mark, passed
from pipeline.stages.context import Context

__all__ = ["laid"]

_AT_ONCE = 1 << 19  # pairs that a task places at a time: 80 bytes each, by id
_TASKS = 16  # at most: each of them writes a sieve
_BITS = 8  # of the sieve, for each row that may have a twin
_TAG = "e"  # of the files: another attempt of the run may have shuffled


@dataclass(frozen=True)
class _Some:
    """Parts of the table of pairs; in chunks of :data:`_AT_ONCE`, from number ``first`` on."""

    work: Shuffle
    number: int
    parts: tuple[Part, ...]
    first: int
    bits: int

    @property
    def rows(self) -> int:
        """The pairs."""
        return sum(part.rows for part in self.parts)

    @property
    def chunks(self) -> range:
        """The numbers of the chunks."""
        return range(self.first, self.first + -(-self.rows // _AT_ONCE))


@dataclass(frozen=True)
class _Named:
    """A part of the keys of an index."""

    work: Shuffle
    number: int
    part: Part


@dataclass(frozen=True)
class _Block:
    """A block of rows, and how many chunks of pairs there are."""

    work: Shuffle
    number: int
    chunks: int


def laid(context: Context, work: Shuffle, title: str, rows: Sequence[Part], pairs: Sequence[Part]) -> Shuffle:
    """Lay pairs out as :func:`pipeline.matching.shuffle.shuffled` does, without comparing a row.

    Args:
        context: who does it.
        work: for the lake, the match and the names of the files.
        title: of the step, for the progress.
        rows: the parts of the index that hold the ids of all rows; they may be staged.
        pairs: the parts of the table of pairs; they may be staged.

    Returns:
        What :func:`pipeline.matching.select.selected` takes: the rows that have a twin.
    """
    most = min(2 * sum(part.rows for part in pairs), sum(part.rows for part in rows))
    work = replace(work, tag=_TAG)
    scratch = work.scratch
    groups = _groups(work, pairs, bits_for(most, _BITS))
    if not scratch.exists(name := work.file("sieve", 0)):
        context.gather(f"{title}, ids of pairs", _mark, groups, _size)
        bits = np.zeros(bits_for(most, _BITS), np.uint8)
        for group in groups:
            bits |= scratch.read_arrow(work.file("marks", group.number)).column("bits").to_numpy()
        scratch.write_arrow(name, pa.table({"bits": bits}))
        del bits
    named = [_Named(work, number, part) for number, part in enumerate(rows)]
    found = context.gather(f"{title}, rows of pairs", _name, named, _found)
    work = replace(work, names=tuple(work.file("rows", each.number) for each in named), rows=sum(found))
    ordered(context, work, title)
    if not scratch.exists(name := work.file("ids", 0)):
        with context.step(f"{title}, numbers"):
            scratch.write_arrow(name, _numbers(work))
    groups = [replace(group, work=work) for group in groups]
    context.gather(f"{title}, pairs by number", _place, groups, _size)
    chunks = sum(len(group.chunks) for group in groups)
    blocks = [_Block(work, number, chunks) for number in range(work.heaps)]
    context.gather(f"{title}, pairs of blocks", _gather, blocks, lambda _, pairs: pairs)
    return work


def _groups(work: Shuffle, parts: Sequence[Part], bits: int) -> list[_Some]:
    """Distribute the parts over a few tasks, the largest first."""
    shares: list[list[Part]] = [[] for _ in range(min(_TASKS, len(parts)))]
    for part in sorted(parts, key=lambda part: (-part.rows, part.path)):
        min(shares, key=lambda share: sum(each.rows for each in share)).append(part)
    groups, first = [], 0
    for number, share in enumerate(shares):
        groups.append(_Some(work, number, tuple(share), first, bits))
        first = groups[-1].chunks.stop
    return groups


def _size(group: _Some, _: object) -> int:
    return group.rows


def _found(_: _Named, rows: int) -> int:
    return rows


# ---------------------------------------------------------------- which rows have a twin


def _mark(group: _Some) -> None:
    """Mark the ids of some pairs."""
    work = group.work
    if not work.scratch.exists(name := work.file("marks", group.number)):
        bits = np.zeros(group.bits, np.uint8)
        table = work.lake.table(work.edges)
        for part in group.parts:
            for some in table.read_part(part, ["left", "right"]):
                for column in some.columns:
                    mark(codes(column)[0], bits)
        work.scratch.write_arrow(name, pa.table({"bits": bits}))


def _name(task: _Named) -> int:
    """Take the rows of a part that the sieve lets pass; gives how many."""
    work, scratch = task.work, task.work.scratch
    if not scratch.exists(name := work.file("rows", task.number)):
        bits = scratch.read_arrow(work.file("sieve", 0)).column("bits").combine_chunks().to_numpy()
        table = work.lake.table(task.part.table)
        wanted = ["_id", *keeping.names(work.match.keep)]
        taken = [
            some.take(pa.array(passed(codes(some.column("_id"))[0], bits)))
            for some in table.read_part(task.part, wanted)
        ]
        none = table.schema().empty_table().select(wanted)
        scratch.write_arrow(name, pa.concat_tables([none, *taken]))
    rows: int = scratch.read_arrow(name).num_rows
    return rows


def _numbers(work: Shuffle) -> pa.Table:
    """The code of the id of each row, ascending, and its number: the place of the row in keep order."""
    place = work.scratch.read_arrow(work.file("order", 0)).column("position").to_numpy()
    ids = [each.head.column("_id") for each in work.pieces]
    key, other = codes(pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string()))
    there = np.flatnonzero(place >= 0)  # of rows with one id the first
    order = there[np.argsort(key[there], kind="stable")]
    return pa.table({"key": key[order], "other": other[order], "row": place[order]})


# ---------------------------------------------------------------- pairs by number


def _place(group: _Some) -> None:
    """Number the rows of some pairs, and hand the pairs to the blocks of their later rows."""
    work, scratch = group.work, group.work.scratch
    if all(scratch.exists(work.file("placed", chunk)) for chunk in group.chunks):
        return
    numbers = scratch.read_arrow(work.file("ids", 0)).combine_chunks()
    how = [numbers.column(name).to_numpy() for name in ("key", "other", "row")]
    for chunk, some in zip(group.chunks, _cut(group), strict=True):
        ends = [_find(some.column(side), *how) for side in ("left", "right")]
        there = (ends[0] >= 0) & (ends[1] >= 0)
        x, y = (end[there] for end in ends)
        exact, estimated = (some.column(name).to_numpy()[there] for name in EDGES.names[2:])
        edges = Edges(np.minimum(x, y), np.maximum(x, y), exact, estimated)
        block = edges.right * work.heaps // max(work.rows, 1)
        order = np.argsort(block, kind="stable")
        cuts = np.searchsorted(block[order], np.arange(work.heaps + 1)).tolist()
        batch = batch_of(edges.take(order))
        parts = [batch.slice(low, high - low) for low, high in pairwise(cuts)]
        scratch.write_batches(work.file("placed", chunk), parts)


def _cut(group: _Some) -> Iterator[pa.Table]:
    """The pairs of a group, cut into its chunks."""
    table, held, size = group.work.lake.table(group.work.edges), list[pa.Table](), 0
    for part in group.parts:
        for some in table.read_part(part):
            held.append(some.cast(EDGES))
            size += some.num_rows
            while size >= _AT_ONCE:
                whole = pa.concat_tables(held)
                yield whole.slice(0, _AT_ONCE)
                held, size = [whole.slice(_AT_ONCE)], size - _AT_ONCE
    if size:
        yield pa.concat_tables(held)


def _find(column: pa.ChunkedArray, keys: Keys, others: Keys, rows: npt.NDArray[np.int32]) -> Rows:
    """The number of the row of each id, -1 where there is none."""
    key, other = codes(column)
    order = np.argsort(key)  # neighbours are looked for one after the other
    key, other = key[order], other[order]
    place = np.searchsorted(keys, key)
    found = np.full(len(key), -1, np.int64)
    left = np.flatnonzero(place < len(keys))
    while len(left := left[keys[place[left]] == key[left]]):  # once, but for equal halves of different ids
        same = others[place[left]] == other[left]
        found[order[left[same]]] = rows[place[left[same]]]
        left = left[~same]
        place[left] += 1
        left = left[place[left] < len(keys)]
    return found


def _gather(block: _Block) -> int:
    """Write all pairs of a block, and the rows of these; gives how many pairs there are."""
    work, scratch = block.work, block.work.scratch
    name, ends = work.file("verified", block.number), work.file("ends", block.number)
    if not (scratch.exists(name) and scratch.exists(ends)):
        batches = [
            scratch.read_batch(work.file("placed", chunk), block.number) for chunk in range(block.chunks)
        ]
        edges = Edges.none().join(*(edges_of(batch) for batch in batches))
        found = distinct(np.concatenate([edges.left, edges.right])).astype(np.int32)
        scratch.write_arrow(ends, pa.table({"row": found}))
        scratch.write_batches(name, [batch_of(edges)])
    pairs: int = scratch.read_arrow(name).num_rows
    return pairs
