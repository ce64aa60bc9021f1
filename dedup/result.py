"""Deduplication of one table in memory: what a notebook calls."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.cluster import components
from dedup.match import Match, name_edges
from dedup.select import Edges
from dedup.sketch import Corpus
from lake.errors import SchemaError
from lake.ids import IdSet, content_ids
from lake.parallel import cores
from lake.schema import drops

__all__ = ["CLUSTERS", "Result", "deduplicate", "with_ids"]

CLUSTERS = pa.schema(
    [
        pa.field("family", pa.string(), nullable=False),  # the least _id of the family
        pa.field("_id", pa.string(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("twin", pa.string()),  # of a dropped row: the kept one that it repeats
        pa.field("exact", pa.float64()),
    ]
)
"""Families with more than one row: kept and dropped rows that verified edges connect."""

_SHOWN = 5
_HASHED = 1 << 14  # rows that a thread hashes at a time


@dataclass(frozen=True)
class Result:
    """What a deduplication kept, what it dropped and why.

    Attributes:
        kept: the rows that stay, in their order, with ``_id``.
        dropped: one row of ``lake.schema.DROPS`` per row that goes, with its kept twin and both similarities.
        threshold: the least similarity of a duplicate.
    """

    kept: pa.Table
    dropped: pa.Table
    threshold: float
    _made: _Made = dataclasses.field(repr=False)

    @cached_property
    def edges(self) -> pa.Table:
        """Every verified pair, see :data:`dedup.match.EDGES`."""
        return name_edges(self._made.corpus, self._edges)

    @cached_property
    def clusters(self) -> pa.Table:
        """The families that verified pairs connect, see :data:`CLUSTERS`."""
        return _clusters(self._made.corpus, self._edges, self.dropped)

    @property
    def _edges(self) -> Edges:
        edges = self._made.edges
        return edges.take(edges.exact >= self.threshold)

    def duplicates_of(self, id_: str) -> pa.Table:
        """The drops whose twin is ``id_``, the most similar first."""
        mine = self.dropped.filter(pc.field("twin") == id_)
        return mine.sort_by([("exact", "descending"), ("_id", "ascending")])

    def rethreshold(self, threshold: float) -> Result:
        """Decide again by a higher threshold, from the verified pairs: nothing is hashed or compared again.

        >>> from dedup import MinHash
        >>> words = [str(number) for number in range(100)]
        >>> table = pa.table({"text": [" ".join(words), " ".join(words[:-9])]})
        >>> result = deduplicate(table, MinHash(threshold=0.8))
        >>> result, result.rethreshold(0.95)
        (Result(1 kept, 1 dropped), Result(2 kept, 0 dropped))

        Raises:
            ValueError: the threshold is lower than the one that the pairs were verified with.
        """
        made = self._made
        if not made.match.threshold <= threshold <= 1.0:
            raise ValueError(
                f"the pairs were verified from {made.match.threshold:g} on: give a threshold from there to 1, "
                f"not {threshold:g}, or deduplicate again"
            )
        return made.result(threshold)

    def __repr__(self) -> str:
        return f"Result({self.kept.num_rows} kept, {self.dropped.num_rows} dropped)"

    def _repr_html_(self) -> str:
        rows = self.dropped.sort_by([("exact", "descending"), ("_id", "ascending")]).slice(0, _SHOWN)
        cells = "".join(
            f"<tr><td><code>{escape(row['_id'])}</code></td><td><code>{escape(row['twin'] or '')}</code></td>"
            f"<td>{escape(row['rule'])}</td><td>{row['exact']:.3f}</td></tr>"
            for row in rows.to_pylist()
        )
        return (
            f"<div>{self.kept.num_rows:,} kept, {self.dropped.num_rows:,} dropped</div>"
            f"<table><tr><th>dropped</th><th>twin</th><th>rule</th><th>exact</th></tr>{cells}</table>"
        )


@dataclass(frozen=True)
class _Made:
    """What a result is made of: enough to decide again."""

    match: Match
    corpus: Corpus
    edges: Edges
    unique: pa.Table
    exact: pa.Table

    def result(self, threshold: float) -> Result:
        state = self.match.decide(self.corpus, self.edges, threshold)
        outcome = self.match.bind(state).apply(self.unique)
        return Result(
            kept=outcome.table,
            dropped=pa.concat_tables([self.exact, outcome.drops]),
            threshold=threshold,
            _made=self,
        )


def deduplicate(table: pa.Table, match: Match) -> Result:
    """Deduplicate a table in memory.

    >>> from dedup import MinHash
    >>> words = [str(number) for number in range(100)]
    >>> table = pa.table({"text": [" ".join(words), " ".join(words[:-1]), " ".join(words), "else"]})
    >>> result = deduplicate(table, MinHash(threshold=0.8))
    >>> result
    Result(2 kept, 2 dropped)
    >>> sorted(result.dropped.column("rule").to_pylist())
    ['exact-duplicate', 'near-duplicate']

    Args:
        table: records with ``text``, ``image`` or what else the match looks at; ``_id`` is computed where it
            is missing.
        match: the step, such as :class:`dedup.MinHash` or :class:`dedup.PHash`.

    Raises:
        SchemaError: there is neither ``text`` nor ``image``, nor ``_id``.
        ValueError: an ``_id`` that was given is not 32 lower-case hex digits.
    """
    rows = with_ids(table)
    first = IdSet(rows.num_rows).add(rows.column("_id").combine_chunks())
    unique, repeats = (
        (rows, rows.slice(0, 0))
        if first.all()
        else (
            rows.filter(pa.array(first)),
            rows.filter(pa.array(~first)),
        )
    )
    exact = drops(
        repeats,
        "exact-duplicate",
        twin=repeats.column("_id"),
        value=1.0,
        threshold=1.0,
        estimated=1.0,
        exact=1.0,
    )
    corpus = match.corpus([match.piece(unique)])
    return _Made(match, corpus, match.edges(corpus), unique, exact).result(match.threshold)


def with_ids(table: pa.Table) -> pa.Table:
    """Give a table its column ``_id`` where it has none, and plain strings and bytes for views."""
    return _with_ids(_filterable(table))


def _filterable(table: pa.Table) -> pa.Table:
    """Turn views, which Arrow cannot take rows from, into plain strings and bytes."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string_view(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.large_string()))
        elif pa.types.is_binary_view(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.large_binary()))
    return table


def _with_ids(table: pa.Table) -> pa.Table:
    if "_id" in table.schema.names:
        return table
    if "text" not in table.schema.names and "image" not in table.schema.names:
        raise SchemaError("a table to deduplicate needs a column text or image")
    with ThreadPoolExecutor(cores()) as pool:
        chunks = list(pool.map(_ids_of, table.to_batches(max_chunksize=_HASHED)))
    return table.add_column(0, "_id", pa.chunked_array(chunks, pa.string()))


def _ids_of(batch: pa.RecordBatch) -> pa.Array:
    payload: dict[str, pa.Array | None] = {"text": None, "image": None}
    for name in payload:
        if name in batch.schema.names:
            column = batch.column(name)
            if pa.types.is_dictionary(column.type):
                if len(batch.schema.names) == 1:  # each value once, however often it comes
                    values = pa.concat_arrays([column.dictionary, pa.nulls(1, column.type.value_type)])
                    place = column.indices.cast(pa.int64()).fill_null(len(values) - 1)
                    return content_ids(values, None).cast(pa.string()).take(place)
                column = column.cast(pa.large_string() if name == "text" else pa.large_binary())
            elif pa.types.is_null(column.type):
                column = column.cast(pa.string() if name == "text" else pa.binary())
            payload[name] = column
    return content_ids(payload["text"], payload["image"]).cast(pa.string())


def _clusters(corpus: Corpus, edges: Edges, dropped: pa.Table) -> pa.Table:
    """Families from the verified edges."""
    nodes, ends = np.unique(np.concatenate([edges.left, edges.right]), return_inverse=True)
    left, right = ends[: len(edges)], ends[len(edges) :]
    ids = corpus.ids.take(pa.array(nodes)).cast(pa.string())
    # A family bears the name of its least id, whatever the keep order.
    by_name = pc.sort_indices(ids).to_numpy()
    rank = np.empty(len(nodes), np.int64)
    rank[by_name] = np.arange(len(nodes))
    names = ids.take(pa.array(by_name))
    families = components(rank[left], rank[right], len(nodes))
    state = dropped.filter(pc.field("rule") != "exact-duplicate")
    place = pc.index_in(names, value_set=state.column("_id"))
    columns = {
        "family": names.take(pa.array(families)),
        "_id": names,
        "kept": pc.is_null(place),
        "twin": state.column("twin").take(place),
        "exact": state.column("exact").take(place),
    }
    return pa.table(columns, schema=CLUSTERS).sort_by([("family", "ascending"), ("_id", "ascending")])
