"""Label conflicts: rows that are alike and are labelled differently, for somebody to look at.

One of the two labels is wrong, or the rows are not as alike as they seem: either is worth knowing before a
model learns both.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.cluster import components
from dedup.result import Result
from lake.errors import SchemaError

__all__ = ["CONFLICTS", "FAMILIES", "Conflicts", "conflicts", "strings"]

CONFLICTS = pa.schema(
    [
        pa.field("left", pa.string(), nullable=False),  # not greater than right; equal for one content twice
        pa.field("right", pa.string(), nullable=False),
        pa.field("left_label", pa.string(), nullable=False),
        pa.field("right_label", pa.string(), nullable=False),
        pa.field("exact", pa.float64(), nullable=False),
        pa.field("family", pa.string(), nullable=False),  # the least _id of the family
        pa.field("size", pa.int64(), nullable=False),  # rows of the family, labelled or not
    ]
)
"""Pairs with two labels. The most similar come first, then by ``left``, ``right`` and the labels."""

FAMILIES = pa.schema(
    [
        pa.field("family", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field(
            "labels",
            pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("rows", pa.int64())])),
            nullable=False,
        ),  # the most frequent first
        pa.field("majority", pa.string()),  # null where two are equally frequent
        pa.field("conflicts", pa.int64(), nullable=False),  # pairs of CONFLICTS
    ]
)
"""Families with a conflict. Those with the most conflicts come first, then by ``family``."""

_SHOWN = 5


@dataclass(frozen=True)
class Conflicts:
    """Similar rows with different labels.

    Attributes:
        pairs: see :data:`CONFLICTS`.
        families: see :data:`FAMILIES`.
    """

    pairs: pa.Table
    families: pa.Table

    def __len__(self) -> int:
        return int(self.pairs.num_rows)

    def __repr__(self) -> str:
        return f"Conflicts({len(self)} pairs in {self.families.num_rows} families)"

    def _repr_html_(self) -> str:
        names = ("left", "right", "left_label", "right_label", "exact", "size")
        rows = self.pairs.slice(0, _SHOWN).to_pylist()
        cells = "".join(
            f"<tr><td><code>{escape(row['left'])}</code></td><td><code>{escape(row['right'])}</code></td>"
            f"<td>{escape(row['left_label'])}</td><td>{escape(row['right_label'])}</td>"
            f"<td>{row['exact']:.3f}</td><td>{row['size']:,}</td></tr>"
            for row in rows
        )
        return (
            f"<div>{len(self):,} pairs of similar rows have different labels, "
            f"in {self.families.num_rows:,} families</div>"
            f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{cells}</table>"
        )


def conflicts(found: Result | pa.Table, labels: pa.Table | None = None) -> Conflicts:
    """List similar rows that have different labels.

    >>> edges = pa.table({"left": ["a", "a"], "right": ["b", "c"], "exact": [0.9, 1.0]})
    >>> labels = pa.table({"_id": ["a", "b", "c"], "label": ["cat", "dog", "cat"]})
    >>> result = conflicts(edges, labels)
    >>> result
    Conflicts(1 pairs in 1 families)
    >>> result.families.column("majority").to_pylist()
    ['cat']

    Args:
        found: what is similar: the result of :func:`dedup.deduplicate`; or edges (``left``, ``right``,
            ``exact``, see :data:`dedup.match.EDGES`); or rows of the ledger ``_drops`` (``_id``, ``rule``,
            ``twin``, ``exact``, ``label``), of which those with a twin count.
        labels: ``_id`` and ``label`` of the rows. A result knows the labels of its table, and needs none; the
            rows of a ledger know the labels of the dropped rows, but not those of their twins. An ``_id``
            that stands several times, with different labels, is a conflict with itself.

    Labels are compared as strings; a null, a NaN, and an ``_id`` without a label conflict with nothing.

    Raises:
        SchemaError: a column is missing, or labels are lists or structs.
    """
    edges, seen = _taken(found, labels)
    keys = [(name, "ascending") for name in seen.column_names]
    counts = seen.group_by(seen.column_names).aggregate([([], "count_all")]).sort_by(keys)
    ids = pc.unique(pa.chunked_array([*seen.column("_id").chunks, *_ends(edges)], pa.string()))
    ids = ids.take(pc.sort_indices(ids))
    left, right = (pc.index_in(edges.column(name), value_set=ids).to_numpy() for name in ("left", "right"))
    family = components(left.astype(np.int64), right.astype(np.int64), len(ids))
    row = pc.index_in(counts.column("_id"), value_set=ids).to_numpy().astype(np.int64)
    amount = counts.column("count_all").to_numpy().astype(np.int64)
    # Each _id counts as a row, though its labels are not known.
    rows = np.maximum(np.bincount(row, weights=amount, minlength=len(ids)).astype(np.int64), 1)
    size = np.bincount(family, weights=rows, minlength=len(ids)).astype(np.int64)
    labelled = counts.column("label").is_valid().to_numpy()
    known = counts.filter(pa.array(labelled))
    pairs = _pairs(left, right, edges.column("exact").to_numpy(), row[labelled], known.column("label"))
    of = family[pairs.left]
    table = pa.table(
        {
            "left": ids.take(pa.array(pairs.left)),
            "right": ids.take(pa.array(pairs.right)),
            "left_label": pairs.left_label,
            "right_label": pairs.right_label,
            "exact": pairs.exact,
            "family": ids.take(pa.array(of)),
            "size": size[of],
        },
        schema=CONFLICTS,
    )
    order = [("exact", "descending"), *((name, "ascending") for name in CONFLICTS.names[:4])]
    summary = _summary(table, ids.take(pa.array(family[row[labelled]])), known)
    return Conflicts(table.sort_by(order), summary)


# ---------------------------------------------------------------- what is given


def _taken(found: Result | pa.Table, labels: pa.Table | None) -> tuple[pa.Table, pa.Table]:
    """Edges (``left``, ``right``, ``exact``), and one row (``_id``, ``label``) for each row that was seen."""
    if isinstance(found, Result):
        return _edges(found.edges), _seen(found.told if labels is None else labels)
    names = set(found.column_names)
    if {"left", "right", "exact"} <= names:
        if labels is None:
            raise SchemaError("conflicts needs the labels of the rows", hint="give a table with _id and label")
        return _edges(found), _seen(labels)
    missing = sorted({"_id", "rule", "twin", "exact", "label"} - names)
    if missing:
        raise SchemaError(
            f"conflicts takes a result, edges, or drops: this table has no column {missing[0]}",
            hint="edges have left, right and exact; drops have _id, rule, twin, exact and label",
        )
    return _dropped(found, labels)


def _dropped(drops: pa.Table, labels: pa.Table | None) -> tuple[pa.Table, pa.Table]:
    """The pairs of dropped rows with their twins, and the labels of both."""
    twins = drops.filter(pc.is_valid(drops.column("twin")))
    equal = pc.equal(twins.column("_id"), twins.column("twin"))
    pairs = twins.filter(pc.invert(equal))
    edges = _edges(pairs.rename_columns({"_id": "left", "twin": "right"}))
    own = _seen(twins)
    if labels is None:
        return edges, own
    seen = _seen(labels)
    # One content twice is two rows, wherever it stands; any other dropped row may stand in the labels as well.
    new = pc.or_(equal, pc.invert(pc.is_in(own.column("_id"), value_set=seen.column("_id"))))
    return edges, pa.concat_tables([seen, own.filter(new)])


def _edges(table: pa.Table) -> pa.Table:
    """Each pair once, the lesser id first."""
    x, y = (table.column(name).cast(pa.string()) for name in ("left", "right"))
    exact = table.column("exact").cast(pa.float64()).fill_null(1.0)
    pairs = pa.table({"left": pc.min_element_wise(x, y), "right": pc.max_element_wise(x, y), "exact": exact})
    pairs = pairs.filter(pc.not_equal(x, y))  # an id that is missing equals none, and differs from none
    once = pairs.group_by(["left", "right"]).aggregate([("exact", "max")])
    return once.rename_columns({"exact_max": "exact"}).select(["left", "right", "exact"])


def _ends(edges: pa.Table) -> list[pa.Array]:
    return [chunk for name in ("left", "right") for chunk in edges.column(name).chunks]


def _seen(table: pa.Table | None) -> pa.Table:
    """``_id`` and ``label`` as strings; a table that names no labels has none."""
    if table is None or "_id" not in table.schema.names:
        raise SchemaError("labels need a column _id", hint="give a table with _id and label")
    if "label" not in table.schema.names:
        raise SchemaError("labels need a column label", hint="give a table with _id and label")
    seen = pa.table({"_id": table.column("_id").cast(pa.string()), "label": strings(table.column("label"))})
    return seen.filter(pc.is_valid(seen.column("_id")))


def strings(label: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels as strings: so they are compared. A NaN is none.

    Raises:
        SchemaError: they are lists or structs.
    """
    if pa.types.is_dictionary(label.type):
        label = label.cast(label.type.value_type)
    if pa.types.is_nested(label.type):
        raise SchemaError(f"a label of type {label.type} cannot be compared", hint="give strings or numbers")
    if pa.types.is_floating(label.type):
        label = label.cast(pa.float64())
        label = pc.if_else(pc.is_nan(label), None, label)
    return label.cast(pa.string())


# ---------------------------------------------------------------- what is found


@dataclass(frozen=True)
class _Pairs:
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    left_label: pa.ChunkedArray
    right_label: pa.ChunkedArray
    exact: npt.NDArray[np.float64]


def _pairs(
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    exact: npt.NDArray[np.float64],
    row: npt.NDArray[np.int64],
    label: pa.ChunkedArray,
) -> _Pairs:
    """Join both ends of the edges with the labels: ``row`` is ascending and names the row of each label."""
    one, other, edge = _joined(left, right, row)
    # A row with several labels: each pair of them once.
    number = np.arange(len(row))
    later = np.searchsorted(row, row, side="right") - number - 1
    mine, theirs = np.repeat(number, later), _ranges(number + 1, later)
    one, other = np.concatenate([one, mine]), np.concatenate([other, theirs])
    similarity = np.concatenate([exact[edge], np.ones(len(mine))])
    first, second = label.take(pa.array(one)), label.take(pa.array(other))
    differ = pc.not_equal(first, second).to_numpy()
    mask = pa.array(differ)
    return _Pairs(
        row[one[differ]], row[other[differ]], first.filter(mask), second.filter(mask), similarity[differ]
    )


def _joined(
    left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each edge each label of its left with each of its right end: their numbers, and the edge's."""
    edge, one = _labels_of(left, row)
    again, other = _labels_of(right[edge], row)
    return one[again], other, edge[again]


def _labels_of(
    ends: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The numbers of the labels that some rows have, and before them which of these rows it is."""
    start = np.searchsorted(row, ends)
    sizes = np.searchsorted(row, ends, side="right") - start
    return np.repeat(np.arange(len(ends)), sizes), _ranges(start, sizes)


def _ranges(first: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ranges, one after the other: from each ``first``, so many numbers."""
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(first, sizes) + within


def _summary(pairs: pa.Table, family: pa.Array, known: pa.Table) -> pa.Table:
    """Count the labels of each family that has a conflict."""
    count = pairs.group_by("family").aggregate([("size", "min"), ([], "count_all")])
    some = pc.is_in(family, value_set=count.column("family"))
    labelled = pa.table({"family": family, "label": known.column("label"), "rows": known.column("count_all")})
    tally = labelled.filter(some).group_by(["family", "label"]).aggregate([("rows", "sum")])
    tally = tally.sort_by([("family", "ascending"), ("rows_sum", "descending"), ("label", "ascending")])
    listed: dict[str, list[dict[str, object]]] = {}
    for each in tally.to_pylist():
        listed.setdefault(each["family"], []).append({"label": each["label"], "rows": each["rows_sum"]})
    found = [
        {
            "family": each["family"],
            "size": each["size_min"],
            "labels": (own := listed[each["family"]]),
            "majority": own[0]["label"] if own[0]["rows"] != own[1]["rows"] else None,
            "conflicts": each["count_all"],
        }
        for each in count.to_pylist()
    ]
    table = pa.Table.from_pylist(found, schema=FAMILIES)
    return table.sort_by([("conflicts", "descending"), ("family", "ascending")])
