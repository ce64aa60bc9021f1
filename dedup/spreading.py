"""Spreading labels: a row without a label gets that of its near-duplicates.

Labels go along direct, verified pairs from a threshold on that is stricter than the match's own: a chain of
near-duplicates may join rows that have nothing in common, and what one may drop as a repeat is not yet what one
may call by the same name. One pair may be less similar: a labelled row that the match drops hands its label to
the kept row that it repeats, since nobody would see it again otherwise.

Where the rows that a row could take a label from disagree, it gets none. A label that is there is never
changed, and one that was given is not given further: so the outcome depends neither on order nor on partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, model_validator

from dedup import select
from dedup import sketch as sketching
from dedup.cluster import components
from dedup.labels import strings
from dedup.leaks import AnyMatch
from dedup.match import Match, number_edges
from dedup.result import with_ids
from dedup.select import Edges
from dedup.sketch import Corpus
from dedup.text.minhash import MinHash
from lake.errors import SchemaError
from lake.op import Barrier, Op, Outcome
from lake.schema import no_drops

__all__ = ["GIVEN", "GiveLabels", "Spread", "spread"]

GIVEN = pa.schema(
    [
        pa.field("_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("label_from", pa.string()),  # the _id of the row that had it; of several the most similar
        pa.field("label_similarity", pa.float64()),  # to that row; null where the two were not compared
        pa.field("label_conflict", pa.bool_(), nullable=False),  # they disagree: no label
    ]
)
"""What rows without a label get. Sorted by ``_id``."""

GONE = "spread_gone"
"""A column of the rows that are sketched, if there is one: dropped by something else than the match itself."""

_LABEL = "spread_label"  # of a sketch
_APART = -1.0  # the similarity of rows of one family that were not compared
_Ints = npt.NDArray[np.int64]


class Spread(Barrier):
    """Give rows without a label that of their near-duplicates; where these disagree, none.

    Three columns say where a label comes from: ``label_from`` (an ``_id``), ``label_similarity`` and
    ``label_conflict``. In a pipeline it stands after the match that drops the repeats, and sees the rows that
    were dropped as well: their labels are not lost.

    >>> texts = ["to be or not to be that is the question", "To be, or not to be: that is the question!"]
    >>> rows = pa.table({"_id": ["a", "b"], "text": texts, "label": ["x", None]})
    >>> step = Spread(match=MinHash(threshold=0.8))
    >>> step.bind(step.resolve([step.sketch(rows)]))(rows).select(["label", "label_from"]).to_pylist()
    [{'label': 'x', 'label_from': None}, {'label': 'x', 'label_from': 'a'}]
    """

    sees_repeats: ClassVar[bool] = True
    """It is shown what earlier matches have dropped."""

    match: AnyMatch = Field(MinHash(), json_schema_extra={"default": {"dedup.MinHash": {}}})
    """What is similar: the match that drops the repeats, with the same settings."""
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """The least similarity of a pair that a label goes along. None: halfway from that of the match to 1."""
    across: Literal["pairs", "families"] = "pairs"
    """``pairs``: a label goes to the rows that are similar to its own. ``families``: to all that such pairs
    connect, if all labels of the family agree."""

    @model_validator(mode="after")
    def _pairs_are_verified(self) -> Self:
        if self.threshold is not None and self.threshold < self.match.threshold:
            raise ValueError(
                f"pairs are verified from {self.match.threshold:g} on: give a threshold from there to 1, "
                f"not {self.threshold:g}"
            )
        return self

    @property
    def least(self) -> float:
        """The threshold that is used."""
        return (1 + self.match.threshold) / 2 if self.threshold is None else self.threshold

    def settings(self) -> dict[str, object]:
        """What a sketch depends on."""
        return {"step": "dedup.Spread", "version": 2, "match": self.match.settings()}

    def sketch(self, table: pa.Table) -> pa.Table:
        """The match's sketch of each row, with its label.

        Raises:
            ConfigError: a column of the match's keep order is missing or has no order.
            SchemaError: there is no label, or not what the match looks at; of rows with one ``_id`` some have
                something to compare, and others do not.
        """
        labels = _labels(table)
        sketch = self.match.sketch(table)
        # What has nothing to compare has no sketch; the others are in their order.
        known = pc.is_in(
            table.column("_id").cast(pa.string()), value_set=sketch.column("_id").cast(pa.string())
        )
        if (pc.sum(known).as_py() or 0) != sketch.num_rows:
            raise SchemaError(
                "an _id stands twice, and not for the same content",
                why="one of its rows has something to compare, and another has not",
                hint="an _id is a row's own; where the column is left out it is computed from the content",
            )
        none = pa.chunked_array([pa.array(np.zeros(table.num_rows, np.bool_))])
        gone = table.column(GONE) if GONE in table.schema.names else none
        made = sketch.append_column(_LABEL, labels.filter(known)).append_column(GONE, gone.filter(known))
        return sketching.label(made, self.settings())

    def resolve(self, sketches: Sequence[pa.Table], pairs: pa.Table | None = None) -> pa.Table:
        """Say which rows get which label, and from whom: a table of schema :data:`GIVEN`.

        Args:
            sketches: of all rows, in any order and cut in any way.
            pairs: the verified pairs of these rows where they are known, of schema
                :data:`dedup.match.EDGES`; they are found anew unless given.

        Raises:
            SchemaError: a sketch was made with other settings or by another version.
        """
        sketching.check(sketches, self.settings())
        if not sketches:
            return GIVEN.empty_table()
        corpus = self.match.corpus([sketching.piece(each) for each in sketches])
        edges = self.match.edges(corpus) if pairs is None else number_edges(corpus, pairs)
        return _resolved(corpus, edges, self)

    def bind(self, state: pa.Table) -> Op:
        """Give the op that hands the labels out."""
        return GiveLabels(state=state)


class GiveLabels(Op):
    """Hand out the labels of a decision."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    state: pa.Table
    """Of schema :data:`GIVEN`."""

    def apply(self, table: pa.Table) -> Outcome:
        """Fill the labels that are missing, and say where they come from; no row is dropped."""
        column = _plain(table)
        place = pc.index_in(table.column("_id").cast(pa.string()), value_set=self.state.column("_id"))
        given = self.state.take(place)
        missing = pc.is_null(column, nan_is_null=True)
        label = given.column("label").cast(column.type)
        filled = table.set_column(
            table.schema.get_field_index("label"), "label", pc.if_else(missing, label, column)
        )
        for name in ("label_from", "label_similarity", "label_conflict"):
            kind = GIVEN.field(name).type
            mine = pc.if_else(missing, given.column(name), pa.scalar(None, kind))
            at = filled.schema.get_field_index(name)
            before = filled.column(at) if at >= 0 else pa.nulls(len(mine), kind)  # of another step of the kind
            if name == "label_conflict":
                either = pc.or_(mine.fill_null(False), before.fill_null(False))  # noqa: FBT003
                told = pc.and_(either, pc.is_null(filled.column("label"), nan_is_null=True))
            else:
                told = pc.coalesce(before, mine)
            filled = filled.append_column(name, told) if at < 0 else filled.set_column(at, name, told)
        return Outcome(filled, no_drops())


def spread(
    table: pa.Table,
    match: Match,
    *,
    threshold: float | None = None,
    across: Literal["pairs", "families"] = "pairs",
) -> pa.Table:
    """Give the rows of a table without a label that of their near-duplicates, before repeats are dropped.

    >>> words = [str(number) for number in range(100)]
    >>> table = pa.table({"text": [" ".join(words), " ".join(words[1:])], "label": [None, "a"]})
    >>> spread(table, MinHash(threshold=0.8)).column("label").to_pylist()
    ['a', 'a']

    Args:
        table: records with ``label``; ``_id`` is computed where it is missing.
        match: what is similar; the one that :func:`dedup.deduplicate` is called with next.
        threshold: see :attr:`Spread.threshold`.
        across: see :attr:`Spread.across`.

    Returns:
        All rows in their order, with ``label_from``, ``label_similarity`` and ``label_conflict``.

    Raises:
        SchemaError: there is no label, or not what the match looks at; an ``_id`` stands twice, and not for the
            same content.
        ValueError: the threshold is lower than that of the match.
    """
    rows = with_ids(table)
    step = Spread(match=match, threshold=threshold, across=across)
    return step.bind(step.resolve([step.sketch(rows)]))(rows)


def _plain(table: pa.Table) -> pa.ChunkedArray:
    """The labels, in a type that has values."""
    if "label" not in table.schema.names:
        raise SchemaError("Spread needs a column label", hint="name it by `label:` at the source")
    column = table.column("label")
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _labels(table: pa.Table) -> pa.ChunkedArray:
    return strings(_plain(table))


# ---------------------------------------------------------------- who gets what


@dataclass(frozen=True)
class _Offers:
    """Labels that rows could take: the number of the group that gets one, of the label, and of its row."""

    to: _Ints
    label: _Ints
    exact: npt.NDArray[np.float64]
    source: _Ints

    def join(self, other: _Offers) -> _Offers:
        names = ("to", "label", "exact", "source")
        return _Offers(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


def _resolved(corpus: Corpus, edges: Edges, step: Spread) -> pa.Table:
    """Decide from the verified pairs: see :meth:`Spread.resolve`."""
    count = len(corpus)
    same = (edges.exact == 1.0) & step.match.copies
    # Copies are one group: what one resembles, the others do as much, though no pair may say so.
    group = components(edges.left[same], edges.right[same], count)
    column = corpus.column(_LABEL).combine_chunks().dictionary_encode()
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    code = column.indices.fill_null(-1).to_numpy().astype(np.int64)
    ids = corpus.ids
    node = pc.index_in(corpus.column("_id").cast(ids.type), value_set=ids).to_numpy().astype(np.int64)
    sources = _sources(corpus, group, node[code >= 0], code[code >= 0])
    alive = np.ones(count, np.bool_)
    alive[node[corpus.column(GONE).to_numpy()]] = False
    offers = _offers(sources, *_directed(edges, group, same, alive, step))
    if step.across == "families":
        strict = edges.take(edges.exact >= step.least)
        family = components(group[strict.left], group[strict.right], count)[group]
        offers = offers.join(_of_family(sources, family, group[node[code < 0]]))
    return _table(corpus, offers, group, np.unique(node[code < 0]), column.dictionary)


def _sources(corpus: Corpus, group: _Ints, node: _Ints, code: _Ints) -> _Offers:
    """The labels of each group, each once: the row of it with the least ``_id``. In the order of groups."""
    ids = corpus.ids.take(pa.array(node))
    order = np.lexsort((pc.rank(ids, tiebreaker="dense").to_numpy(), code, group[node]))
    node, code = node[order], code[order]
    new = np.ones(len(node), np.bool_)
    new[1:] = (group[node][1:] != group[node][:-1]) | (code[1:] != code[:-1])
    node, code = node[new], code[new]
    return _Offers(group[node], code, np.ones(len(node)), node)


def _directed(
    edges: Edges, group: _Ints, same: npt.NDArray[np.bool_], alive: npt.NDArray[np.bool_], step: Spread
) -> tuple[_Ints, _Ints, npt.NDArray[np.float64]]:
    """From which group to which a label goes, and how similar they are."""
    # The match decides among the rows that are still there: so does who hands a label to whom.
    left = edges if alive.all() else select.without(edges, alive, copies=step.match.copies)
    chosen = select.first(left, len(group), left.exact == 1.0 if step.match.copies else None)
    strict = edges.take((edges.exact >= step.least) & ~same)
    each = np.unique(group)
    return (
        np.concatenate([each, group[strict.left], group[strict.right], group[chosen.dropped]]),
        np.concatenate([each, group[strict.right], group[strict.left], group[chosen.twin]]),
        np.concatenate([np.ones(len(each)), strict.exact, strict.exact, left.exact[chosen.edge]]),
    )


def _offers(sources: _Offers, source: _Ints, to: _Ints, exact: npt.NDArray[np.float64]) -> _Offers:
    """Each label of the groups that labels go from, to the groups that they go to."""
    start = np.searchsorted(sources.to, source)
    amount = np.searchsorted(sources.to, source, side="right") - start
    way = np.repeat(np.arange(len(source)), amount)
    which = np.arange(len(way)) + np.repeat(start - np.cumsum(amount) + amount, amount)
    return _Offers(to[way], sources.label[which], exact[way], sources.source[which])


def _of_family(sources: _Offers, family: _Ints, to: _Ints) -> _Offers:
    """All labels of the family, to each of some groups."""
    order = np.argsort(family[sources.to], kind="stable")
    mine = _Offers(*(getattr(sources, name)[order] for name in ("to", "label", "exact", "source")))
    by_family = _Offers(family[mine.to], mine.label, mine.exact, mine.source)
    to = np.unique(to)
    return _offers(by_family, family[to], to, np.full(len(to), _APART))


def _table(corpus: Corpus, offers: _Offers, group: _Ints, open_: _Ints, labels: pa.Array) -> pa.Table:
    """Choose for each row without a label: the most similar of those that offer one, if they agree."""
    ids = corpus.ids
    rank = np.zeros(len(corpus), np.int64)
    known = np.unique(offers.source)
    rank[known] = pc.rank(ids.take(pa.array(known)), tiebreaker="dense").to_numpy()
    order = np.lexsort((rank[offers.source], -offers.exact, offers.to))
    to, first = np.unique(offers.to[order], return_index=True)
    best = order[first]
    label = offers.label[order]
    starts = first.astype(np.int64)
    agree = np.ones(0, np.bool_)
    if len(to):
        agree = np.minimum.reduceat(label, starts) == np.maximum.reduceat(label, starts)
    place = np.searchsorted(to, group[open_])
    there = place < len(to)
    there[there] = to[place[there]] == group[open_][there]
    row, place = open_[there], place[there]
    chosen, agree = best[place], agree[place]
    exact = offers.exact[chosen]
    columns = [
        ids.take(pa.array(row)).cast(pa.string()),
        labels.take(pa.array(offers.label[chosen], mask=~agree)).cast(pa.string()),
        ids.take(pa.array(offers.source[chosen], mask=~agree)).cast(pa.string()),
        pa.array(exact, mask=~agree | (exact == _APART)),
        pa.array(~agree),
    ]
    return pa.table(columns, schema=GIVEN).sort_by("_id")
