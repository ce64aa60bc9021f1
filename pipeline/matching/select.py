"""Who goes, where the verified pairs do not fit one process: the selection of :mod:`dedup.select` in rounds.

The pairs stay where :mod:`pipeline.matching.shuffle` left them, in files by blocks of rows. Rows that have no
twin are kept, and are not spoken of: the others are numbered anew, in keep order. In each round every block
settles its rows as far as earlier blocks have settled theirs, and the driver gathers the outcome: two bytes
for each row that has a twin. At the end each block gives one pair for each row that goes, and these the
driver does hold.

Where earlier steps have dropped rows, the pairs are looked through once more before: of copies, whose pairs may
be there for the first of them only, the first that is left takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.cluster import forest
from dedup.match import STATE
from dedup.select import Edges, Looked, Status, nearest, rounds, settle, stars
from pipeline.matching.shuffle import Shuffle, batch_of, edges_of
from pipeline.stages.context import Context

__all__ = ["selected"]

_Ints = npt.NDArray[np.int64]
_FAN_IN = 16  # forests that a task joins


@dataclass(frozen=True)
class _Block:
    """A block of the rows that have a twin: those of numbers ``low`` to ``high - 1``."""

    work: Shuffle
    number: int
    low: int
    high: int
    turn: int = 0  # of the round
    moved: bool = False  # earlier steps have dropped rows: the pairs are not those that were verified


@dataclass(frozen=True)
class _Join:
    """Forests to make one of; the last name is that of the outcome."""

    work: Shuffle
    names: tuple[str, ...]


def selected(context: Context, work: Shuffle, title: str, gone: pa.ChunkedArray | None = None) -> pa.Table:
    """Select among the rows that earlier steps left, after :func:`pipeline.matching.shuffle.shuffled`.

    Args:
        context: who does it.
        work: what was shuffled.
        title: of the step, for the progress.
        gone: ids of rows that earlier steps have dropped.

    Returns:
        A table of schema :data:`dedup.match.STATE`: that of :meth:`dedup.match.Match.resolve`.
    """
    scratch = work.scratch
    there = np.zeros(work.rows, np.bool_)
    for number in range(work.heaps):
        there[scratch.read_arrow(work.file("ends", number)).column("row").to_numpy()] = True
    nodes = np.flatnonzero(there).astype(np.int32)
    del there
    if not len(nodes):
        return STATE.empty_table()
    scratch.write_arrow(work.file("nodes", 0), pa.table({"row": nodes}))
    first = [-(-number * work.rows // work.heaps) for number in range(work.heaps + 1)]
    bounds = np.searchsorted(nodes, first).tolist()
    blocks = [_Block(work, n, low, high) for n, (low, high) in enumerate(pairwise(bounds))]
    moved = _leads(context, title, blocks, nodes, gone)
    if moved is not None:
        blocks = [replace(block, moved=True) for block in blocks]
        scratch.write_arrow(work.file("leads", 0), pa.table({"lead": moved[0].astype(np.int32)}))
        scratch.write_arrow(work.file("bounds", 0), pa.table({"row": pa.array(bounds, pa.int64())}))
        context.gather(f"{title}, pairs that are left", _move, blocks, _rows)
    context.gather(f"{title}, pairs by row", _lay, blocks, _rows)
    last = _decided(context, work, title, blocks)
    context.gather(f"{title}, twins", _twins, [replace(block, turn=last) for block in blocks], _rows)
    with context.step(f"{title}, decision"):
        found = [
            [edges_of(scratch.read_batch(work.file("stars", block.number), side)) for block in blocks]
            for side in (0, 1)
        ]
        going = nearest(*(Edges.none().join(*each) for each in found))
        if moved is not None:
            going = _with_copies(going, *moved)
        return _state(work, going, nodes)


def _state(work: Shuffle, going: Edges, nodes: npt.NDArray[np.int32]) -> pa.Table:
    """Lay out what was decided: the match does so, as it is given one pair for each row that goes."""
    used = np.unique(np.concatenate([going.left, going.right]))
    left, right = np.searchsorted(used, going.left), np.searchsorted(used, going.right)
    corpus = work.corpus(nodes[used].astype(np.int64))
    return work.match.decide(corpus, Edges(left, right, going.exact, going.estimated))


def _rows(block: _Block | _Join, _: object) -> int:
    return block.high - block.low if isinstance(block, _Block) else 0


# ---------------------------------------------------------------- rounds


def _decided(context: Context, work: Shuffle, title: str, blocks: Sequence[_Block]) -> int:
    """Decide all rows; gives the number of the file that has their status."""
    scratch, turn = work.scratch, 0

    def look_at(blocks: Sequence[_Block], status: Status) -> Iterator[Looked]:
        nonlocal turn
        scratch.write_arrow(work.file("status", turn), pa.table({"status": status}))
        todo = [replace(each, turn=turn) for each in blocks if not status[each.low : each.high].all()]
        context.gather(f"{title}, round {turn + 1}", _settle, todo, _rows)
        for block in todo:
            mine = scratch.read_arrow(work.file(f"settled-{turn}", block.number)).column("status").to_numpy()
            yield block.low + np.flatnonzero(mine == -1), block.low + np.flatnonzero(mine == 0)
        turn += 1

    status = rounds(blocks, blocks[-1].high, look_at)
    scratch.write_arrow(work.file("status", turn), pa.table({"status": status}))
    return turn


def _laid(block: _Block) -> tuple[Edges, npt.NDArray[np.bool_]]:
    """The pairs of a block with earlier rows, in the order of its rows, and whether they are copies."""
    edges = edges_of(block.work.scratch.read_arrow(block.work.file("edges", block.number)))
    return edges, (edges.exact == 1.0) & block.work.match.copies


def _status(block: _Block) -> Status:
    found: Status = block.work.scratch.read_arrow(block.work.file("status", block.turn)).column(0).to_numpy()
    return found


def _settle(block: _Block) -> None:
    """One round of a block."""
    work = block.work
    if not work.scratch.exists(name := work.file(f"settled-{block.turn}", block.number)):
        mine = settle(*_laid(block), _status(block), block.low, block.high)
        work.scratch.write_arrow(name, pa.table({"status": mine}))


def _twins(block: _Block) -> None:
    """Of each row of a block that goes the pairs that may be the one with its twin."""
    work = block.work
    if not work.scratch.exists(name := work.file("stars", block.number)):
        found = stars(*_laid(block), _status(block))
        work.scratch.write_batches(name, [batch_of(each) for each in found])


def _lay(block: _Block) -> None:
    """Write the pairs of a block in the order of its rows, as these are numbered now."""
    work, scratch = block.work, block.work.scratch
    if scratch.exists(name := work.file("edges", block.number)):
        return
    if block.moved:
        batches = [scratch.read_batch(work.file("moved", n), block.number) for n in range(work.heaps)]
        edges = Edges.none().join(*(edges_of(batch) for batch in batches))
    else:
        edges = _numbered(block)
    _, once = np.unique(edges.right << 32 | edges.left, return_index=True)
    scratch.write_batches(name, [batch_of(edges.take(once))])


def _numbered(block: _Block) -> Edges:
    """The pairs of a block as they were verified, by the new numbers of their rows."""
    work, scratch = block.work, block.work.scratch
    nodes = scratch.read_arrow(work.file("nodes", 0)).column("row").to_numpy()
    edges = edges_of(scratch.read_arrow(work.file("verified", block.number)))
    left, right = np.searchsorted(nodes, edges.left), np.searchsorted(nodes, edges.right)
    return Edges(left, right, edges.exact, edges.estimated)


# ---------------------------------------------------------------- rows that are gone


def _leads(
    context: Context,
    title: str,
    blocks: Sequence[_Block],
    nodes: npt.NDArray[np.int32],
    gone: pa.ChunkedArray | None,
) -> tuple[_Ints, _Ints] | None:
    """Of each row the one that stands for it and its copies, -1 where none is left; and the others that are.

    None if no row of a pair is gone.
    """
    work = blocks[0].work
    if gone is None or not len(gone):
        return None
    ids = work.corpus(nodes.astype(np.int64)).ids
    alive = ~pc.is_in(ids, value_set=gone.unique().cast(ids.type)).to_numpy(zero_copy_only=False)
    if alive.all():
        return None
    group = np.arange(len(nodes))
    if work.match.copies:
        tree = work.scratch.read_arrow(_joined(context, title, blocks))
        group[tree.column("right").to_numpy()] = tree.column("left").to_numpy()
    lead = np.full(len(nodes), -1, np.int64)
    here = np.flatnonzero(alive)
    lead[group[here][::-1]] = here[::-1]  # the last to be written is the first row
    leads = lead[group]
    return leads, here[leads[here] != here]


def _joined(context: Context, title: str, blocks: Sequence[_Block]) -> str:
    """Join the copies of all blocks, forest by forest in a tree; gives the name of the last one."""
    work, level = blocks[0].work, 0
    context.gather(f"{title}, copies", _copies, blocks, _rows)
    names = [work.file("forest-0", block.number) for block in blocks]
    while len(names) > 1:
        level += 1
        parts = [tuple(names[start : start + _FAN_IN]) for start in range(0, len(names), _FAN_IN)]
        names = [work.file(f"forest-{level}", number) for number in range(len(parts))]
        joins = [_Join(work, (*part, name)) for part, name in zip(parts, names, strict=True)]
        context.gather(f"{title}, copies of all", _join, joins, _rows)
    return names[0]


def _forest(work: Shuffle, name: str, left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> None:
    sides = [each.astype(np.int32) for each in forest(left, right)]
    work.scratch.write_arrow(name, pa.table(sides, names=["left", "right"]))


def _copies(block: _Block) -> None:
    """What connects the copies among the rows of a block's pairs."""
    if not block.work.scratch.exists(name := block.work.file("forest-0", block.number)):
        edges = _numbered(block)
        edges = edges.take(edges.exact == 1.0)
        _forest(block.work, name, edges.left, edges.right)


def _join(task: _Join) -> None:
    """Make one forest of several."""
    *names, name = task.names
    if not task.work.scratch.exists(name):
        trees = [task.work.scratch.read_arrow(each) for each in names]
        left, right = (
            np.concatenate([tree.column(side).to_numpy() for tree in trees]) for side in ("left", "right")
        )
        _forest(task.work, name, left, right)


def _move(block: _Block) -> None:
    """Put the rows that stand for others into the pairs of a block, and hand them to the blocks of these."""
    work, scratch = block.work, block.work.scratch
    if scratch.exists(name := work.file("moved", block.number)):
        return
    lead = scratch.read_arrow(work.file("leads", 0)).column("lead").to_numpy()
    bounds = scratch.read_arrow(work.file("bounds", 0)).column("row").to_numpy()
    edges = _numbered(block)
    ends = np.stack([lead[edges.left], lead[edges.right]]).astype(np.int64)
    edges = Edges(ends.min(axis=0), ends.max(axis=0), edges.exact, edges.estimated)
    edges = edges.take((edges.left >= 0) & (edges.left < edges.right))
    edges = edges.take(np.argsort(edges.right, kind="stable"))
    cuts = np.searchsorted(edges.right, bounds).tolist()
    scratch.write_batches(name, [batch_of(edges).slice(a, b - a) for a, b in pairwise(cuts)])


def _with_copies(going: Edges, leads: _Ints, others: _Ints) -> Edges:
    """Add the rows that another one stood for: they go where it stays, and for the same twin where it goes."""
    lead = leads[others]
    place = np.searchsorted(going.right, lead)
    goes = place < len(going)
    goes[goes] = going.right[place[goes]] == lead[goes]
    ones = np.ones(len(others))
    added = Edges(lead.copy(), others, ones, ones.copy())
    for mine, theirs in (
        (added.left, going.left),
        (added.exact, going.exact),
        (added.estimated, going.estimated),
    ):
        mine[goes] = theirs[place[goes]]
    return going.join(added)
