"""Spreading labels: against plain Python, and whatever the order and the partitions."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dedup import Jaccard, MinHash, PHash, Spread, deduplicate, spread
from dedup.spreading import GIVEN, GiveLabels
from lake import Files
from lake.errors import SchemaError
from lake.ids import content_ids
from lake.lake import Lake
from pipeline import Pipeline

THRESHOLD, STRICT = 0.5, 0.7
MATCH = Jaccard(threshold=THRESHOLD, ngram=1)
WORDS = "abcdef"
PLACES = {"label", "label_from", "label_similarity", "label_conflict"}


# Few words, and punctuation that the sets do not see: copies, chains, and rows that nothing is similar to.
TEXTS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(WORDS), max_size=6),
        st.sampled_from(["", "!", "?"]),
        st.sampled_from([None, None, "x", "y"]),
    ),
    max_size=16,
)


def rows_of(drawn: list[tuple[set[str], str, str | None]]) -> pa.Table:
    texts = pa.array([" ".join(sorted(words)) + mark for words, mark, _ in drawn], pa.string())
    labels = pa.array([label for _, _, label in drawn], pa.string())
    return pa.table({"_id": content_ids(texts, None).cast(pa.string()), "text": texts, "label": labels})


class Plain:
    """The rules in plain Python, over sets of words."""

    def __init__(self, table: pa.Table, least: float) -> None:
        self.rows = table.to_pylist()
        self.text = {row["_id"]: row["text"] for row in self.rows}
        self.words = {each: set(text.strip("!?").split()) for each, text in self.text.items()}
        self.ids = [each for each in self.text if self.words[each]]
        self.least = least

    def similar(self, x: str, y: str) -> float:
        """Equal rows are, even those that nothing is compared of."""
        if x == y:
            return 1.0
        both = self.words[x] | self.words[y]
        return len(self.words[x] & self.words[y]) / len(both) if self.words[x] and self.words[y] else 0.0

    def twins(self) -> dict[str, str]:
        kept: list[str] = []
        twin: dict[str, str] = {}
        for each in sorted(self.ids, key=lambda each: (-len(self.text[each]), each)):
            near = [other for other in kept if self.similar(each, other) >= THRESHOLD]
            twin |= {each: near[0]} if near else {}
            kept += [] if near else [each]
        return twin

    def families(self) -> dict[str, str]:
        family = {each: each for each in self.text}
        pairs = [(x, y) for x in self.ids for y in self.ids if self.similar(x, y) >= self.least]
        for _ in self.ids:
            for x, y in pairs:
                family[x] = family[y] = min(family[x], family[y])
        return family

    def given(self, across: str) -> dict[str, tuple[Any, ...]]:
        """What each row without a label gets, by `_id`."""
        twin, family, found = self.twins(), self.families(), {}
        labelled = [(row["_id"], row["label"]) for row in self.rows if row["label"] is not None]
        for x in {row["_id"] for row in self.rows if row["label"] is None}:
            offers = []
            for y, label in labelled:
                handed = y in twin and self.similar(twin[y], x) == 1.0
                if handed or self.similar(x, y) >= self.least:
                    offers.append((-self.similar(x, y), y, label))
                elif across == "families" and family[x] == family[y]:
                    offers.append((1.0, y, label))
            if offers:
                exact, source, label = min(offers)
                agree = len({offer[2] for offer in offers}) == 1
                told = (label, source, None if exact > 0 else -exact) if agree else (None, None, None)
                found[x] = (*told, not agree)
        return found


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.sampled_from([THRESHOLD, STRICT, 1.0]), st.sampled_from(["pairs", "families"]))
def test_labels_go_where_plain_python_says(
    drawn: list[tuple[set[str], str, str | None]], least: float, across: Literal["pairs", "families"]
) -> None:
    table = rows_of(drawn)
    found = spread(table, MATCH, threshold=least, across=across)
    wanted = Plain(table, least).given(across)
    assert found.drop_columns([*PLACES]).equals(table.drop_columns(["label"]))
    for before, row in zip(table.to_pylist(), found.to_pylist(), strict=True):
        told = tuple(row[name] for name in ("label", "label_from", "label_similarity", "label_conflict"))
        if before["label"] is not None:  # never changed
            assert told == (before["label"], None, None, False)
        else:
            assert told == wanted.get(row["_id"], (None, None, None, False))


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 16), max_size=4), st.randoms(use_true_random=False), st.booleans())
def test_order_and_partitions_do_not_matter(
    drawn: list[tuple[set[str], str, str | None]], cuts: list[int], rng: Any, families: bool
) -> None:
    step = Spread(match=MATCH, across="families" if families else "pairs")
    table = rows_of(drawn)
    wanted = step.resolve([step.sketch(table)])
    assert wanted.schema == GIVEN
    order = list(range(table.num_rows))
    rng.shuffle(order)
    mixed = table.take(pa.array(order, pa.int64()))
    edges = [0, *sorted(min(cut, len(order)) for cut in cuts), len(order)]
    parts = [mixed.slice(a, b - a) for a, b in pairwise(edges)]
    state = step.resolve([step.sketch(part) for part in parts])
    assert state.equals(wanted)
    op = step.bind(state)
    assert pa.concat_tables([op(part) for part in parts]).equals(op(mixed))


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_no_label_is_lost_with_a_row_that_is_dropped(drawn: list[tuple[set[str], str, str | None]]) -> None:
    """A kept row without a label whose dropped repeats have one has it after that, or they disagree."""
    table = rows_of(drawn)
    result = deduplicate(spread(table, MATCH, threshold=1.0), MATCH)
    before = deduplicate(table, MATCH)
    given_ = dict(zip(result.kept["_id"].to_pylist(), result.kept.to_pylist(), strict=True))
    own = {row["_id"]: row["label"] for row in before.kept.to_pylist()}
    lost: dict[str, set[str]] = {}
    twins = {drop["_id"]: drop["twin"] for drop in before.dropped.to_pylist() if drop["_id"] != drop["twin"]}
    for drop in before.dropped.to_pylist():
        twin = twins.get(drop["_id"], drop["twin"])
        if drop["label"] is not None and own[twin] is None:
            lost.setdefault(twin, set()).add(drop["label"])
    for twin, labels in lost.items():
        assert given_[twin]["label"] in labels or given_[twin]["label_conflict"]
        if len(labels) > 1:
            assert given_[twin]["label"] is None


def test_of_rows_that_are_equally_similar_the_least_id_gives_the_label() -> None:
    shared = [f"word{i}" for i in range(100)]
    texts = [" ".join(shared + [f"{tail}{i}" for i in range(5)]) for tail in ("much-longer", "b")]
    rows = pa.table(
        {
            "_id": [name * 32 for name in "cab"],
            "text": [*texts, " ".join(shared)],
            "label": ["x", "x", None],
        }
    )
    step = Spread(match=Jaccard(threshold=0.8))
    [given_] = step.resolve([step.sketch(rows)]).to_pylist()
    assert given_["label_from"] == "a" * 32  # though the other comes first in keep order


def test_a_chain_carries_no_label_over_what_is_not_similar() -> None:
    words = [f"w{n}" for n in range(20)]
    texts = [" ".join(words[n : n + 10]) for n in range(6)]  # 9 of 11 words are those of the next
    table = pa.table({"text": texts, "label": ["x", *[None] * 5]})
    near = spread(table, MATCH, threshold=0.8)
    assert near["label"].to_pylist() == ["x", "x", None, None, None, None]
    far = spread(table, MATCH, threshold=0.8, across="families")
    assert far["label"].to_pylist() == ["x"] * 6
    assert far["label_similarity"].to_pylist()[1:] == [pytest.approx(9 / 11), None, None, None, None]
    assert set(far["label_from"].to_pylist()[1:]) == {far["_id"][0].as_py()}


def test_the_default_is_halfway_from_the_match_to_equality() -> None:
    assert Spread().least == pytest.approx(0.9)
    assert Spread(match=PHash()).least == pytest.approx(0.995)
    assert Spread(match=MinHash(threshold=0.6), threshold=0.6).least == pytest.approx(0.6)
    with pytest.raises(ValidationError, match=r"from 0\.8 on"):
        Spread(threshold=0.7)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (pa.array([3, None]), [3, 3]),
        (pa.array([2.5, float("nan")]), [2.5, 2.5]),
        (pa.array([True, None]), [True, True]),
        (pa.array(["x", None]).dictionary_encode(), ["x", "x"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_labels_of_other_types(labels: pa.Array, wanted: list[object]) -> None:
    found = spread(pa.table({"text": ["to be or not to be", "to be or not to be!"], "label": labels}), MATCH)
    assert found["label"].to_pylist() == wanted


def test_lists_are_no_labels_and_a_table_needs_some() -> None:
    with pytest.raises(SchemaError, match="cannot be compared"):
        spread(pa.table({"text": ["a"], "label": [["x"]]}), MATCH)
    with pytest.raises(SchemaError, match="needs a column label"):
        spread(pa.table({"text": ["a"]}), MATCH)
    other = Spread(match=MinHash())
    with pytest.raises(SchemaError, match="other settings"):
        Spread(match=MATCH).resolve([other.sketch(rows_of([({"a"}, "", "x")]))])


def test_rows_of_one_id_have_one_content() -> None:
    """A repeated ``_id`` is one row twice; with a text in one place and none in the other it is not."""
    table = pa.table({"_id": ["0" * 32] * 2, "text": ["to be or not to be"] * 2, "label": ["x", None]})
    assert spread(table, MATCH)["label"].to_pylist() == ["x", "x"]
    table = table.set_column(1, "text", pa.array(["to be or not to be", None]))
    with pytest.raises(SchemaError, match="stands twice") as caught:
        spread(table, MATCH)
    assert "left out" in str(caught.value.hint)
    assert "not to be" not in str(caught.value)


def test_a_second_spreading_adds_to_the_first() -> None:
    texts = ["to be or not to be", "to be or not to be!", "w0 w1 w2 w3", "w0 w1 w2 w4"]
    once = spread(pa.table({"text": texts, "label": ["x", None, "y", None]}), MATCH)
    twice = spread(once, MATCH, threshold=0.6)
    assert once["label"].to_pylist() == ["x", "x", "y", None]
    assert twice["label"].to_pylist() == ["x", "x", "y", "y"]
    assert twice["label_from"].to_pylist()[1] == once["label_from"].to_pylist()[1] is not None
    assert twice.schema == once.schema


def test_no_rows_and_no_sketches() -> None:
    step = Spread(match=MATCH)
    assert step.resolve([]).equals(GIVEN.empty_table())
    none = rows_of([])
    assert step.resolve([step.sketch(none)]).num_rows == 0
    assert step.bind(GIVEN.empty_table())(none).schema.names == [*none.schema.names, *GIVEN.names[2:]]


def test_pictures_hand_on_their_labels() -> None:
    import io

    from PIL import Image

    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
    files = []
    for quality in (95, 85):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        files.append(buffer.getvalue())
    found = spread(pa.table({"image": files, "label": [None, "x"]}), PHash(threshold=0.97))
    assert found["label"].to_pylist() == ["x", "x"]


def test_in_a_pipeline_the_kept_row_has_the_label_of_the_dropped_one(tmp_path: Path) -> None:
    """The longer text stays and has no label; what it repeats has one, and is below the strict threshold."""
    words = [f"w{n}" for n in range(60)]
    rows = [
        {"text": " ".join(words), "label": None},
        {"text": " ".join(words[:54]), "label": "x"},  # 50 of 56 shingles: 0.89
        {"text": "something else that is not like it at all", "label": "y"},
        {"text": "and one that nobody knows anything of, either", "label": None},
    ]
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(row) + "\n")

    def run(name: str, *steps: str) -> list[dict[str, Any]]:
        listed = "".join(f"  - {step}\n" for step in steps)
        (tmp_path / "p.yaml").write_text(
            f"name: p\nlake: ./{name}\n"
            "source: {lake.Files: {paths: '*.jsonl', text: text, label: label}}\n"
            f"steps:\n{listed}"
        )
        Pipeline.load(tmp_path / "p.yaml").run()
        lake = Lake(str(tmp_path / name))
        assert [each for each in lake.tables() if each.startswith("_edges_")]  # the match keeps its index
        return sorted(lake.table("train").to_table().to_pylist(), key=lambda row: str(row["text"]))

    match = "dedup.MinHash: {threshold: 0.8}"
    found = run("with", match, "dedup.Spread: {match: {" + match + "}}")
    plain = run("without", match)
    assert [row["label"] for row in plain] == [None, "y", None]
    assert [row["label"] for row in found] == [None, "y", "x"]
    assert found[2]["label_similarity"] == pytest.approx(50 / 56)
    assert found[2]["label_from"] not in {row["_id"] for row in found}
    assert [row["label_conflict"] for row in found] == [False] * 3
    (tmp_path / "9.jsonl").write_text(json.dumps({"text": " ".join(words[:55]), "label": "z"}) + "\n")
    again = run("with", match, "dedup.Spread: {match: {" + match + "}}")
    assert [row["label"] for row in again] == [None, "y", None]
    assert [row["label_conflict"] for row in again] == [False, False, True]


def test_the_op_drops_nothing() -> None:
    table = rows_of([({"a"}, "", None), ({"a"}, "!", "x")])
    step = Spread(match=MATCH)
    outcome = GiveLabels(state=step.resolve([step.sketch(table)])).apply(table)
    assert outcome.drops.num_rows == 0
    assert pc.sum(pc.is_null(outcome.table["label"])).as_py() == 0


def chain() -> pa.Table:
    """A and C resemble B (0.8), not each other (0.6); the order to keep them in is A, C, B; B has the label."""
    texts = [" ".join(f"w{i}" for i in range(low, high)) for low, high in ((5, 21), (1, 17), (1, 21))]
    return pa.table(
        {
            "_id": [f"{i:032x}" for i in range(3)],
            "text": texts,
            "label": [None, None, "b"],
            "score": [3.0, 2.0, 1.0],
        }
    )


def test_a_label_is_not_handed_to_a_row_that_was_gone_before() -> None:
    match = Jaccard(threshold=0.75, ngram=1, keep=["-score", "_id"])
    step = Spread(match=match, threshold=1.0)
    for gone, wanted in (([False, False, False], 0), ([True, False, False], 1)):
        rows = chain().append_column("spread_gone", pa.array(gone))
        state = step.resolve([step.sketch(rows)])
        given_ = {row["_id"]: row["label"] for row in state.to_pylist() if row["label"] is not None}
        assert given_ == {f"{wanted:032x}": "b"}


def test_in_a_pipeline_an_earlier_match_may_have_dropped_the_twin(tmp_path: Path) -> None:
    a, c, b = chain().column("text").to_pylist()
    rows = [
        {"text": a + " q1", "score": 3.0},  # gone: the first match finds the row before it equal
        {"text": a.replace("w5 ", "w5 w5 ") + " q1", "score": 9.0, "far": True},
        {"text": c, "score": 2.0},
        {"text": b, "score": 1.0, "label": "b"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pipeline = Pipeline(
        name="spread",
        lake=str(tmp_path / "lake"),
        source=Files(paths=[f"{tmp_path}/rows.jsonl"], label="label", columns={"score": "float64"}),
        steps=[
            Jaccard(threshold=0.95, ngram=1, keep=["-score", "_id"]),
            Jaccard(threshold=0.75, ngram=1, keep=["-score", "_id"]),
            Spread(match=Jaccard(threshold=0.75, ngram=1, keep=["-score", "_id"]), threshold=1.0),
        ],
    )
    assert pipeline.run().exit_code == 0
    kept = {row["text"]: row["label"] for row in Lake(tmp_path / "lake").table("train").to_table().to_pylist()}
    labels = [label for label in kept.values() if label is not None]
    assert labels == ["b"]  # somebody who is still there has it
