"""What all matches have in common: sketch, pairs, verify, select, and the op that carries the decision out.

A match drops a row where a kept one is similar. It works in five moves, each a pure function that a single
process and a cluster call alike::

    sketch    row-local: what has to be remembered of a row, its keys among it
    pairs     candidates: rows with an equal key                    dedup.pairs
    verify    the exact similarity of each candidate pair           -> edges
    select    who goes, walking over the edges in keep order        dedup.select
    bind      row-local again: drop them
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict

from dedup import select, sketch
from dedup.keep import Keep
from dedup.pairs import MOST, banded
from dedup.select import Edges
from dedup.sketch import Corpus, Piece
from lake.machine import cores
from lake.op import Barrier, Op, Outcome
from lake.schema import DROPS, drops

__all__ = ["EDGES", "STATE", "Drop", "Match", "name_edges", "number_edges", "some"]

STATE = pa.schema(
    [
        pa.field("_id", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("twin", pa.string()),
        pa.field("estimated", pa.float64()),
        pa.field("exact", pa.float64()),
    ]
)
"""What a match decides: the rows that go, and why. Sorted by ``_id``."""

EDGES = pa.schema(
    [
        pa.field("left", pa.string(), nullable=False),  # the lesser id
        pa.field("right", pa.string(), nullable=False),
        pa.field("exact", pa.float64(), nullable=False),
        pa.field("estimated", pa.float64(), nullable=False),
    ]
)
"""Verified pairs as they are stored: by ``_id``, independent of any order. Sorted by ``left``, ``right``."""


class Drop(Op):
    """Drop the rows that a match decided on, each with its kept twin and both similarities."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    state: pa.Table
    """Of schema :data:`STATE`."""

    def apply(self, table: pa.Table) -> Outcome:
        """Keep the rows that the state does not name."""
        ids = table.column("_id").cast(pa.string())
        here = self.state.filter(pc.is_in(self.state.column("_id"), value_set=ids))
        place = pc.index_in(ids, value_set=here.column("_id"))
        goes = pc.is_valid(place)
        why = here.take(place.drop_null()).drop_columns("_id")
        columns = {name: why.column(name) for name in why.column_names}
        rule = columns.pop("rule")
        told = table.select([name for name in table.schema.names if name in DROPS.names])  # not the payload
        return Outcome(table.filter(pc.invert(goes)), drops(told.filter(goes), rule, **columns))


class Match(Barrier):
    """A step that drops a row where a kept one is similar."""

    copies: ClassVar[bool] = False
    """Rows of similarity 1 are alike in all that is compared: what one resembles, the other does as much."""

    joins: ClassVar[bool] = False
    """Edges come of a join over all rows (:meth:`edges`), and not of candidates."""
    wide_columns: ClassVar[tuple[str, ...]]
    """Of a sketch: what only rows with a candidate need."""

    threshold: float
    keep: Keep

    @property
    def walks(self) -> bool:
        """Whether a pipeline decides by a walk over all rows, and keeps no pair but of a row that goes."""
        return False

    @property
    @abstractmethod
    def key_count(self) -> int:
        """The number of keys of a row."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """What the sketch of a row depends on: sketches of other settings are not compared."""

    @abstractmethod
    def verify(
        self, corpus: Corpus, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], threads: int = 1
    ) -> Edges:
        """Compare pairs of rows exactly, and give those that are similar to the threshold."""

    def piece(
        self,
        table: pa.Table,
        rows: npt.NDArray[np.int64] | None = None,
        threads: int | None = None,  # noqa: ARG002  (for those that have use for them)
        *,
        stays: bool = True,  # noqa: ARG002
    ) -> Piece:
        """Sketch rows at hand: what is wide may be made later, for some of them.

        Args:
            table: records.
            rows: which of them, ascending; all unless given.
            threads: how many to use; one for each core unless given.
            stays: the table stays in memory anyway; otherwise the piece should not hold it there.
        """
        return sketch.piece(self.sketch(some(table, rows)))

    def reads(self, schema: pa.Schema) -> list[str] | None:  # noqa: ARG002
        """Name the columns that pieces are made of, where they may be made of a batch at a time.

        None: of all columns, and of all rows at once.
        """
        return None

    def candidates(
        self, corpus: Corpus, fresh: npt.NDArray[np.bool_] | None = None, threads: int = 1
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
        """Give the pairs to verify, and the rows of the largest bucket: see :func:`dedup.pairs.banded`."""
        return banded(corpus.keys, self.key_count, len(corpus), fresh=fresh, most=MOST, threads=threads)

    def displaced(self, corpus: Corpus, fresh: npt.NDArray[np.bool_]) -> bool:  # noqa: ARG002
        """Whether new rows take the place of earlier ones, of whose pairs some are candidates no more.

        It is asked of a match without keys; of keys :mod:`dedup.pairs` says it.
        """
        return False

    def edges(
        self, corpus: Corpus, fresh: npt.NDArray[np.bool_] | None = None, threads: int | None = None
    ) -> Edges:
        """Find and verify all candidates; with ``fresh``, those that have a new row among them."""
        threads = threads or cores()
        left, right, _ = self.candidates(corpus, fresh, threads)
        return self.verify(corpus, left, right, threads)

    def twins(self, corpus: Corpus, threads: int | None = None) -> Edges:
        """Find edges enough to decide at the threshold of this step: the decision is that of all edges.

        Families, and a higher threshold, need all :meth:`edges`. They are given here too, where finding fewer
        would save nothing.
        """
        return self.edges(corpus, None, threads)

    def resolve(self, sketches: Sequence[pa.Table]) -> pa.Table:
        """Decide who goes. See :mod:`dedup.select` for the rule.

        Args:
            sketches: of all rows, in any order and cut in any way; they may be memory-mapped files.

        Returns:
            A table of schema :data:`STATE`.

        Raises:
            SchemaError: a sketch was made with other settings or by another version.
        """
        sketch.check(sketches, self.settings())
        if not sketches:
            return STATE.empty_table()
        corpus = self.corpus([sketch.piece(each) for each in sketches])
        return self.decide(corpus, self.twins(corpus))

    def corpus(self, pieces: Sequence[Piece]) -> Corpus:
        """Number the rows of some pieces in the keep order."""
        return Corpus([each for each in pieces if each.head.num_rows] or pieces[:1], self.keep)

    def decide(self, corpus: Corpus, edges: Edges, threshold: float | None = None) -> pa.Table:
        """Select, and lay out what was decided.

        Args:
            corpus: the rows.
            edges: the verified pairs among them.
            threshold: a higher one than the edges were verified with; that of this step unless given.
        """
        least = self.threshold if threshold is None else threshold
        edges = edges.take(edges.exact >= least)
        same = edges.exact == 1.0 if self.copies else None
        chosen = select.first(edges, len(corpus), same)
        exact = pa.array(edges.exact[chosen.edge])
        columns = {
            "_id": corpus.ids.take(pa.array(chosen.dropped)).cast(pa.string()),
            "rule": pa.repeat("near-duplicate", len(exact)),
            "value": exact,
            "threshold": pa.repeat(pa.scalar(float(least)), len(exact)),
            "twin": corpus.ids.take(pa.array(chosen.twin)).cast(pa.string()),
            "estimated": pa.array(edges.estimated[chosen.edge]),
            "exact": exact,
        }
        return pa.table(columns, schema=STATE).sort_by("_id")

    def bind(self, state: pa.Table) -> Op:
        """Give the op that drops the rows of a decision."""
        return Drop(state=state)


def some(table: pa.Table, rows: npt.NDArray[np.int64] | None) -> pa.Table:
    """Take some rows, ascending; all for None."""
    if rows is None or len(rows) == table.num_rows:
        return table
    chosen = np.zeros(table.num_rows, np.bool_)
    chosen[rows] = True
    return table.filter(pa.array(chosen))


def name_edges(corpus: Corpus, edges: Edges) -> pa.Table:
    """Write edges by the ids of their rows: a table of schema :data:`EDGES`."""
    x = corpus.ids.take(pa.array(edges.left)).cast(pa.string())
    y = corpus.ids.take(pa.array(edges.right)).cast(pa.string())
    turned = pc.greater(x, y)
    columns = [
        pc.if_else(turned, y, x),
        pc.if_else(turned, x, y),
        pa.array(edges.exact),
        pa.array(edges.estimated),
    ]
    return pa.table(columns, schema=EDGES).sort_by([("left", "ascending"), ("right", "ascending")])


def number_edges(corpus: Corpus, table: pa.Table) -> Edges:
    """Read edges back, by position in the corpus; those with a row that is not in it are left out."""
    ids = corpus.ids
    ends = [pc.index_in(table.column(name).cast(ids.type), value_set=ids) for name in ("left", "right")]
    there = pc.and_(pc.is_valid(ends[0]), pc.is_valid(ends[1])).to_numpy()
    x, y = (end.filter(pa.array(there)).to_numpy().astype(np.int64) for end in ends)
    exact, estimated = (table.column(name).to_numpy()[there] for name in ("exact", "estimated"))
    return Edges(np.minimum(x, y), np.maximum(x, y), exact, estimated)
