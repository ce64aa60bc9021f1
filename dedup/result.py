"""Deduplication of one table, in memory or in a file: what a notebook calls."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.cluster import components
from dedup.match import Match, name_edges
from dedup.select import Edges
from dedup.sketch import Corpus, Piece, together
from dedup.source import Source, open_source, plain
from lake.errors import SchemaError
from lake.ids import IdSet, content_ids, halves
from lake.machine import cores
from lake.schema import DROPS, drops

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
_WAITING = 4  # batches, for each thread


@dataclass(frozen=True)
class Result:
    """What a deduplication kept, what it dropped and why.

    Attributes:
        mask: bool, shape (rows,): which rows of the table, or of the file, stay.
        dropped: one row of ``lake.schema.DROPS`` per row that goes, with its kept twin and both similarities.
        threshold: the least similarity of a duplicate.
    """

    mask: npt.NDArray[np.bool_] = dataclasses.field(repr=False, compare=False)
    dropped: pa.Table
    threshold: float
    _made: _Made = dataclasses.field(repr=False)

    @cached_property
    def kept(self) -> pa.Table:
        """The rows that stay, in their order, with ``_id``; a file is read again for them.

        Raises:
            InputError: the file has changed since.
        """
        return self._made.rows(self.mask)

    @cached_property
    def kept_ids(self) -> pa.ChunkedArray:
        """The ``_id`` of each row that stays, in their order; no other column is touched.

        >>> from dedup import MinHash
        >>> table = pa.table({"_id": ["0" * 32, "1" * 32], "text": ["The cat sat.", "the cat, sat"]})
        >>> deduplicate(table, MinHash()).kept_ids.to_pylist() == ["0" * 32]
        True
        """
        return self._made.told.column("_id").filter(pa.array(self.mask))

    @property
    def told(self) -> pa.Table:
        """All rows in their order, kept or dropped: ``_id``, ``label``, and what else a drop tells of a row."""
        return self._made.told

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
        return f"Result({np.count_nonzero(self.mask)} kept, {self.dropped.num_rows} dropped)"

    def _repr_html_(self) -> str:
        rows = self.dropped.sort_by([("exact", "descending"), ("_id", "ascending")]).slice(0, _SHOWN)
        cells = "".join(
            f"<tr><td><code>{escape(row['_id'])}</code></td><td><code>{escape(row['twin'] or '')}</code></td>"
            f"<td>{escape(row['rule'])}</td><td>{row['exact']:.3f}</td></tr>"
            for row in rows.to_pylist()
        )
        return (
            f"<div>{np.count_nonzero(self.mask):,} kept, {self.dropped.num_rows:,} dropped</div>"
            f"<table><tr><th>dropped</th><th>twin</th><th>rule</th><th>exact</th></tr>{cells}</table>"
        )


@dataclass(frozen=True)
class _Made:
    """What a result is made of: enough to decide again."""

    source: Source
    match: Match
    told: pa.Table
    """What is told of a row that goes: ``_id`` and other columns of ``DROPS``, of all rows."""
    first: npt.NDArray[np.bool_]
    """Whether no row before it has the same ``_id``. Others go, and are not compared."""
    corpus: Corpus

    @cached_property
    def edges(self) -> Edges:
        """All verified pairs. Of a join they may be far more than it takes to decide: only who asks waits."""
        return self.match.edges(self.corpus)

    def result(self, threshold: float) -> Result:
        decisive = self.match.joins and threshold == self.match.threshold
        edges = self.match.twins(self.corpus) if decisive else self.edges
        state = self.match.decide(self.corpus, edges, threshold)
        place = pc.index_in(self.unique.column("_id"), value_set=state.column("_id"))
        near = np.flatnonzero(place.is_valid().to_numpy())
        mask = self.first.copy()
        mask[np.flatnonzero(mask)[near]] = False
        why = state.take(place.drop_null())
        columns = {name: why.column(name) for name in why.column_names if name not in {"_id", "rule"}}
        near_drops = drops(self.unique.take(pa.array(near)), why.column("rule"), **columns)
        dropped = pa.concat_tables([self.exact, near_drops])
        return Result(mask=mask, dropped=dropped, threshold=threshold, _made=self)

    @cached_property
    def unique(self) -> pa.Table:
        return self.told if self.first.all() else self.told.filter(pa.array(self.first))

    @cached_property
    def exact(self) -> pa.Table:
        repeats = self.told.filter(pa.array(~self.first))
        return drops(
            repeats,
            "exact-duplicate",
            twin=repeats.column("_id"),
            value=1.0,
            threshold=1.0,
            estimated=1.0,
            exact=1.0,
        )

    def rows(self, mask: npt.NDArray[np.bool_]) -> pa.Table:
        table = self.source.filter(mask)
        if "_id" in table.schema.names:
            return table
        return table.add_column(0, "_id", self.told.column("_id").filter(pa.array(mask)))


def deduplicate(table: pa.Table | str | os.PathLike[str], match: Match) -> Result:
    """Deduplicate a table in memory, or a Parquet file.

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
            is missing. Of a file, texts are hashed while it is read, and only the columns that are needed for
            it are.
        match: the step, such as :class:`dedup.MinHash` or :class:`dedup.PHash`.

    Raises:
        InputError: there is no such file, or it is no Parquet file.
        SchemaError: there is neither ``text`` nor ``image``, nor ``_id``.
        ValueError: an ``_id`` that was given is not 32 lower-case hex digits.
    """
    source = open_source(table)
    columns = match.reads(source.schema)
    told, first, piece = _at_once(source, match) if columns is None else _in_batches(source, match, columns)
    corpus = match.corpus([piece])
    return _Made(source, match, told, first, corpus).result(match.threshold)


def _at_once(source: Source, match: Match) -> tuple[pa.Table, npt.NDArray[np.bool_], Piece]:
    rows = _with_ids(source.table())
    first = IdSet(rows.num_rows).add(rows.column("_id").combine_chunks())
    return _told(rows), first, match.piece(rows, np.flatnonzero(first))


def _in_batches(
    source: Source, match: Match, columns: list[str]
) -> tuple[pa.Table, npt.NDArray[np.bool_], Piece]:
    """Name and sketch the rows on threads, while others are read."""
    names = source.schema.names
    needed = {"_id"} if "_id" in names else {"text", "image"}
    wanted = [name for name in names if name in {*needed, *columns, *DROPS.names}]
    threads, seen = cores(), IdSet()
    told, first = [], []
    sketched: list[Future[Piece]] = []
    with ThreadPoolExecutor(threads) as pool:
        for rows, keys in _named(source.batches(wanted), pool, threads):
            new = seen.add(keys)
            told.append(_told(rows))
            first.append(new)
            chosen = np.flatnonzero(new)
            sketched.append(pool.submit(match.piece, rows, chosen, 1, stays=source.stays))
            if len(sketched) > _WAITING * threads:
                sketched[-_WAITING * threads].result()  # no more texts than that wait in memory
        pieces = [each.result() for each in sketched]
    if not pieces:
        return _at_once(source, match)
    return pa.concat_tables(told), np.concatenate(first), together(pieces, threads)


def _named(
    batches: Iterator[pa.Table], pool: ThreadPoolExecutor, threads: int
) -> Iterator[tuple[pa.Table, npt.NDArray[np.uint64]]]:
    """Give each batch its ``_id``, on threads."""

    def name(rows: pa.Table) -> tuple[pa.Table, npt.NDArray[np.uint64]]:
        if "_id" not in rows.schema.names:
            rows = rows.add_column(0, "_id", pa.chunked_array([_ids_of(each) for each in rows.to_batches()]))
        return rows, halves(rows.column("_id"))

    ahead: deque[Future[tuple[pa.Table, npt.NDArray[np.uint64]]]] = deque()
    for rows in batches:
        ahead.append(pool.submit(name, rows))
        if len(ahead) > threads:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _told(rows: pa.Table) -> pa.Table:
    """What a drop tells of a row, not its payload."""
    told = rows.select([name for name in rows.schema.names if name in DROPS.names])
    place = told.schema.get_field_index("_id")
    return told.set_column(place, "_id", told.column(place).cast(pa.string()))


def with_ids(table: pa.Table) -> pa.Table:
    """Give a table its column ``_id`` where it has none, and plain strings and bytes for views."""
    return _with_ids(plain(table))


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
