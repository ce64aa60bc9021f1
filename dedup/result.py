"""Deduplication of one table in memory: what a notebook calls."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.cluster import components
from lake.errors import SchemaError
from lake.ids import IdSet, content_ids
from lake.op import Barrier
from lake.schema import drops

__all__ = ["CLUSTERS", "Result", "deduplicate"]

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


@dataclass(frozen=True)
class Result:
    """What a deduplication kept, what it dropped and why.

    Attributes:
        kept: the rows that stay, in their order, with ``_id``.
        dropped: one row of ``lake.schema.DROPS`` per row that goes, with its kept twin and both similarities.
        clusters: the families, see :data:`CLUSTERS`.
    """

    kept: pa.Table
    dropped: pa.Table
    clusters: pa.Table

    def duplicates_of(self, id_: str) -> pa.Table:
        """The drops whose twin is ``id_``, the most similar first."""
        mine = self.dropped.filter(pc.field("twin") == id_)
        return mine.sort_by([("exact", "descending"), ("_id", "ascending")])

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


def deduplicate(table: pa.Table, match: Barrier) -> Result:
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
        table: records with ``text`` or ``image``; ``_id`` is computed where it is missing.
        match: the step, :class:`dedup.MinHash` or :class:`dedup.PHash`.

    Raises:
        SchemaError: there is neither ``text`` nor ``image``.
        ValueError: an ``_id`` that was given is not 32 lower-case hex digits.
    """
    rows = _with_ids(_filterable(table))
    first = IdSet(rows.num_rows).add(rows.column("_id").combine_chunks())
    unique, repeats = rows.filter(pa.array(first)), rows.filter(pa.array(~first))
    exact = drops(
        repeats,
        "exact-duplicate",
        twin=repeats.column("_id"),
        value=1.0,
        threshold=1.0,
        estimated=1.0,
        exact=1.0,
    )
    outcome = match.bind(match.resolve([match.sketch(unique)])).apply(unique)
    return Result(outcome.table, pa.concat_tables([exact, outcome.drops]), _clusters(outcome.drops))


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
    payload: dict[str, pa.Array | None] = {"text": None, "image": None}
    for name in payload:
        if name in table.schema.names:
            column = table.column(name)
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            elif pa.types.is_null(column.type):
                column = column.cast(pa.string() if name == "text" else pa.binary())
            payload[name] = column.combine_chunks()
    if payload["text"] is None and payload["image"] is None:
        raise SchemaError("a table to deduplicate needs a column text or image")
    ids = content_ids(payload["text"], payload["image"]).cast(pa.string())
    return table.add_column(0, "_id", ids)


def _clusters(dropped: pa.Table) -> pa.Table:
    """Families from the edges between dropped rows and their twins."""
    twins, ids = dropped.column("twin").to_pylist(), dropped.column("_id").to_pylist()
    names = sorted({*twins, *ids})
    number = {name: index for index, name in enumerate(names)}
    left, right = (np.array([number[name] for name in each], np.int64) for each in (ids, twins))
    families = components(left, right, len(names))
    why = dict(zip(ids, zip(twins, dropped.column("exact").to_pylist(), strict=True), strict=True))
    rows = [
        {
            "family": names[family],
            "_id": name,
            "kept": name not in why,
            "twin": why.get(name, (None, None))[0],
            "exact": why.get(name, (None, None))[1],
        }
        for name, family in zip(names, families.tolist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CLUSTERS).sort_by([("family", "ascending"), ("_id", "ascending")])
