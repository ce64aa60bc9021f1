"""Label conflicts: against plain Python, and from each of the three things that they are read from."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup import MinHash, deduplicate
from dedup.labels import CONFLICTS, FAMILIES, conflicts
from lake.errors import SchemaError
from lake.ids import content_ids
from lake.schema import DROPS

Edge = tuple[str, str, float]
Label = tuple[str, str | None]


def edges_of(edges: list[Edge]) -> pa.Table:
    columns = list(zip(*edges, strict=True)) or [(), (), ()]
    kinds = [pa.string(), pa.string(), pa.float64()]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.table(arrays, names=["left", "right", "exact"])


def labels_of(labels: list[Label]) -> pa.Table:
    names = pa.array([name for name, _ in labels], pa.string())
    return pa.table({"_id": names, "label": pa.array([label for _, label in labels], pa.string())})


def families_of(edges: list[Edge], labels: list[Label]) -> dict[str, str]:
    """The least id that each id is connected with."""
    family = {name: name for pair in edges for name in pair[:2]} | {name: name for name, _ in labels}
    for _ in family:
        for x, y, _ in edges:
            family[x] = family[y] = min(family[x], family[y])
    return family


def brute(edges: list[Edge], labels: list[Label]) -> list[tuple[Any, ...]]:
    own: dict[str, set[str]] = {}
    for name, label in labels:
        own.setdefault(name, set()).update({label} - {None})
    family = families_of(edges, labels)
    rows = Counter(name for name, _ in labels)
    size: Counter[str] = Counter()
    for name, head in family.items():
        size[head] += max(rows[name], 1)
    best: dict[tuple[str, str], float] = {}
    for x, y, exact in edges:
        if x != y:
            pair = (min(x, y), max(x, y))
            best[pair] = max(best.get(pair, 0.0), exact)
    found = [
        (x, y, a, b, exact)
        for (x, y), exact in best.items()
        for a, b in itertools.product(own.get(x, ()), own.get(y, ()))
        if a != b
    ]
    found += [(x, x, a, b, 1.0) for x in own for a, b in itertools.combinations(sorted(own[x]), 2)]
    found.sort(key=lambda row: (-row[4], *row[:4]))
    return [(*row, family[row[0]], size[family[row[0]]]) for row in found]


names = st.sampled_from("abcdefgh")
some_edges = st.lists(st.tuples(names, names, st.sampled_from([0.5, 0.75, 1.0])), max_size=12)
some_labels = st.lists(st.tuples(names, st.sampled_from(["x", "y", "z", None])), max_size=14)


@given(edges=some_edges, labels=some_labels)
@settings(max_examples=200, deadline=None)
def test_conflicts_are_those_of_plain_python(edges: list[Edge], labels: list[Label]) -> None:
    found = conflicts(edges_of(edges), labels_of(labels))
    assert found.pairs.schema == CONFLICTS
    assert [tuple(row.values()) for row in found.pairs.to_pylist()] == brute(edges, labels)
    assert found.families.schema == FAMILIES
    family = families_of(edges, labels)
    by_family = Counter(row["family"] for row in found.pairs.to_pylist())
    listed = found.families.to_pylist()
    assert [row["family"] for row in listed] == sorted(by_family, key=lambda name: (-by_family[name], name))
    for row in listed:
        tally = Counter(label for name, label in labels if label and family[name] == row["family"])
        assert row["conflicts"] == by_family[row["family"]]
        assert [(each["label"], each["rows"]) for each in row["labels"]] == sorted(
            tally.items(), key=lambda each: (-each[1], each[0])
        )
        (label, most), (_, second) = tally.most_common(2)
        assert row["majority"] == (label if most > second else None)


@given(edges=some_edges, labels=some_labels, order=st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_and_direction_do_not_matter(edges: list[Edge], labels: list[Label], order: Any) -> None:
    first = conflicts(edges_of(edges), labels_of(labels))
    turned = [(y, x, exact) if order.random() < 0.5 else (x, y, exact) for x, y, exact in edges]
    order.shuffle(turned)
    shuffled = order.sample(labels, len(labels))
    again = conflicts(edges_of(turned), labels_of(shuffled))
    assert again.pairs.equals(first.pairs)
    assert again.families.equals(first.families)


# ---------------------------------------------------------------- a result

WORDS = [str(number) for number in range(100)]
TEXTS = [" ".join(WORDS), " ".join(WORDS[:-1]), " ".join(WORDS[:-2]), " ".join(WORDS), "apart", "apart"]
LABELS = ["cat", "dog", "cat", "cow", None, "cat"]


def test_a_result_knows_its_labels() -> None:
    result = deduplicate(pa.table({"text": TEXTS, "label": LABELS}), MinHash())
    found = conflicts(result)
    ids = content_ids(pa.array(TEXTS), None).cast(pa.string()).to_pylist()
    pairs = {
        (row["left"], row["right"], *sorted((row["left_label"], row["right_label"])))
        for row in found.pairs.to_pylist()
    }
    expected = {(ids[0], ids[0], "cat", "cow")}  # one content twice
    for one, other, labels in ((0, 1, ("cat", "dog")), (0, 1, ("cow", "dog")), (0, 2, ("cat", "cow"))):
        expected.add((*sorted((ids[one], ids[other])), *labels))
    expected.add((*sorted(ids[1:3]), "cat", "dog"))
    assert pairs == expected
    assert found.pairs.column("exact").to_pylist()[0] == 1.0
    assert found.pairs.column("size").to_pylist() == [4] * len(expected)
    (family,) = found.families.to_pylist()
    assert [tuple(each.values()) for each in family["labels"]] == [("cat", 2), ("cow", 1), ("dog", 1)]
    assert family["majority"] == "cat"
    assert repr(found) == f"Conflicts({len(expected)} pairs in 1 families)"
    assert len(found) == len(expected)


def test_a_result_with_other_labels() -> None:
    table = pa.table({"_id": ["a" * 32, "b" * 32], "text": TEXTS[:2]})
    result = deduplicate(table, MinHash())
    with pytest.raises(SchemaError, match="column label"):
        conflicts(result)
    given_labels = pa.table({"_id": table["_id"], "label": [1, 2]})
    assert [row["left_label"] for row in conflicts(result, given_labels).pairs.to_pylist()] == ["1"]


# ---------------------------------------------------------------- a ledger


def drops_of(rows: list[tuple[str, str | None, str, float | None, str | None]]) -> pa.Table:
    keys = ("_id", "twin", "rule", "exact", "label")
    return pa.Table.from_pylist([dict(zip(keys, row, strict=True)) for row in rows], schema=DROPS)


def test_drops_with_the_labels_of_what_was_kept() -> None:
    drops = drops_of(
        [
            ("a", "a", "exact-duplicate", 1.0, "dog"),
            ("a", "a", "exact-duplicate", None, "cat"),
            ("b", "a", "near-duplicate", 0.9, "cow"),
            ("c", None, "too-short", None, "cow"),
        ]
    )
    kept = labels_of([("a", "cat"), ("z", "cat")])
    found = conflicts(drops, kept)
    names = ["left", "right", "left_label", "right_label", "exact"]
    shown = [tuple(row.values()) for row in found.pairs.select(names).to_pylist()]
    assert shown == [
        ("a", "a", "cat", "dog", 1.0),
        ("a", "b", "cat", "cow", 0.9),
        ("a", "b", "dog", "cow", 0.9),
    ]
    (family,) = found.families.to_pylist()
    assert family["size"] == 4
    assert family["majority"] == "cat"
    # Labels of all rows, the near-duplicate among them: it is still one row.
    whole = labels_of([("a", "cat"), ("b", "cow"), ("c", "cow"), ("z", "cat")])
    again = conflicts(drops, whole)
    assert again.pairs.equals(found.pairs)
    assert again.families.equals(found.families)


def test_drops_alone_know_only_their_own_labels() -> None:
    rows = [("a", "a", "exact-duplicate", 1.0, "dog"), ("a", "a", "exact-duplicate", 1.0, "cat")]
    assert len(conflicts(drops_of(rows))) == 1
    assert len(conflicts(drops_of([("b", "a", "near-duplicate", 0.9, "cow")]))) == 0


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("column", "count"),
    [
        (pa.array([1, 2]), 1),
        (pa.array([1, 1]), 0),
        (pa.array([True, False]), 1),
        (pa.array([1.5, float("nan")]), 0),
        (pa.array([1.5, 2.5], pa.float16()), 1),
        (pa.array([1.5, None]), 0),
        (pa.nulls(2), 0),
        (pa.array(["x", "y"]).dictionary_encode(), 1),
        (pa.array(["x", "y"], pa.large_string()), 1),
        (pa.array(["", "y"]), 1),
    ],
    ids=lambda each: str(getattr(each, "type", each)),
)
def test_labels_of_any_type(column: pa.Array, count: int) -> None:
    assert len(conflicts(edges_of([("a", "b", 0.9)]), pa.table({"_id": ["a", "b"], "label": column}))) == count


@pytest.mark.parametrize(
    "labels",
    [pa.array([0.1] * 6, pa.float32()), pa.array([1.0, float("nan")] * 3), pa.array([7] * 6, pa.int8())],
)
def test_a_label_is_the_same_one_whether_its_row_was_dropped_or_kept(labels: pa.Array) -> None:
    assert len(conflicts(deduplicate(pa.table({"text": TEXTS, "label": labels}), MinHash()))) == 0


def test_the_labels_of_a_result_need_no_file_any_more(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS, "label": LABELS})
    pq.write_table(table, tmp_path / "in.parquet")
    result = deduplicate(tmp_path / "in.parquet", MinHash())
    (tmp_path / "in.parquet").unlink()
    assert conflicts(result).pairs.equals(conflicts(deduplicate(table, MinHash())).pairs)


def test_rows_without_labels_conflict_with_nothing() -> None:
    found = conflicts(edges_of([("a", "b", 0.9), ("b", "c", 0.8)]), labels_of([("a", "x"), ("c", "y")]))
    assert len(found) == 0
    assert found.families.num_rows == 0
    assert "0 pairs" in found._repr_html_()


def test_html_escapes_what_people_wrote() -> None:
    found = conflicts(edges_of([("a", "b", 0.9)]), labels_of([("a", "<script>"), ("b", "y")]))
    html = found._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


# ---------------------------------------------------------------- what is refused


def test_what_is_missing_is_named() -> None:
    edges = edges_of([("a", "b", 0.9)])
    with pytest.raises(SchemaError, match="needs the labels"):
        conflicts(edges)
    with pytest.raises(SchemaError, match="column label"):
        conflicts(edges, pa.table({"_id": ["a"]}))
    with pytest.raises(SchemaError, match="column _id"):
        conflicts(edges, pa.table({"label": ["a"]}))
    with pytest.raises(SchemaError, match="no column _id"):
        conflicts(pa.table({"text": ["a"]}))
    with pytest.raises(SchemaError, match="no column twin"):
        conflicts(drops_of([]).drop_columns("twin"))
    with pytest.raises(SchemaError, match="cannot be compared"):
        conflicts(edges, pa.table({"_id": ["a"], "label": [["x"]]}))


def test_ids_that_are_missing_conflict_with_nothing() -> None:
    edges = pa.table({"left": ["a", None], "right": [None, "b"], "exact": [0.9, None]})
    labels = pa.table({"_id": ["a", "b", None, None], "label": ["x", "y", "z", "w"]})
    assert len(conflicts(edges, labels)) == 0
