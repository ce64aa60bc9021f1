"""Leakage: pairs across two sides against all pairs, as a function of two tables and as a step."""

from __future__ import annotations

import io
import itertools
import json
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from dedup import Jaccard, MinHash, PHash
from dedup.crossed import crossed
from dedup.leaks import LEAKS, Leakage, leakage
from dedup.match import STATE
from dedup.vector.cosine import Cosine
from lake.errors import SchemaError
from lake.ids import content_ids
from lake.schema import DROPS

WORDS = MinHash(threshold=0.5, ngram=2)


def jaccard(a: str, b: str) -> float:
    """Of word 2-grams, in plain Python; the texts below have two words or more."""
    x, y = ({*itertools.pairwise(text.split())} for text in (a, b))
    return len(x & y) / len(x | y)


def corpus(seed: int, count: int) -> list[str]:
    """Texts of 40 words, many of them a few words apart from an earlier one."""
    rng = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        words = [f"w{rng.randrange(10**6)}" for _ in range(40)]
        if texts and rng.random() < 0.7:
            words = rng.choice(texts).split()
            for at in rng.sample(range(40), 1 + rng.randrange(8)):
                words[at] = f"w{rng.randrange(10**6)}"
        texts.append(" ".join(words))
    return texts


def table_of(texts: list[str | None], **more: object) -> pa.Table:
    column = pa.array(texts, pa.string())
    return pa.table({"_id": content_ids(column, None).cast(pa.string()), "text": column, **more})


# ---------------------------------------------------------------- pairs


@given(
    keys=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=30),
    most=st.integers(1, 40),
)
@settings(max_examples=200, deadline=None)
def test_the_pairs_are_those_of_a_bucket_and_no_row_is_left_alone(
    keys: list[tuple[int, int, bool]], most: int
) -> None:
    test = np.array([each[2] for each in keys], np.bool_)
    bands = [np.array([each[band] for each in keys], np.uint64) for band in (0, 1)]
    rows = np.random.default_rng(0).permutation(len(keys))
    mine, theirs = crossed(lambda band: (bands[band][rows], rows), 2, test, most)
    found = list(zip(mine.tolist(), theirs.tolist(), strict=True))
    plain = crossed(lambda band: (bands[band], np.arange(len(keys))), 2, test, most)
    assert found == list(zip(plain[0].tolist(), plain[1].tolist(), strict=True))  # in whatever order they come
    whole = [
        (i, j)
        for i, j in itertools.product(np.flatnonzero(~test).tolist(), np.flatnonzero(test).tolist())
        if any(keys[i][band] == keys[j][band] for band in (0, 1))
    ]
    assert found == sorted(set(found))
    assert set(found) <= set(whole)
    if most >= len(keys):
        assert found == whole
    for side in (0, 1):
        assert {pair[side] for pair in found} == {pair[side] for pair in whole}


def test_a_large_bucket_makes_few_pairs() -> None:
    test = np.arange(3000) % 3 == 0
    key = np.zeros(3000, np.uint64)
    mine, theirs = crossed(lambda _: (key, np.arange(3000)), 1, test, most=32)
    assert len(mine) == 32 * 2000 + 32 * 1000 - 32 * 32
    assert set(mine.tolist()) == set(np.flatnonzero(~test).tolist())
    assert set(theirs.tolist()) == set(np.flatnonzero(test).tolist())


# ---------------------------------------------------------------- two tables


def test_all_leaks_are_found_and_only_those() -> None:
    texts = corpus(1, 300)
    train, test = table_of(texts[:220]), table_of(texts[220:])
    truth = {
        (a["_id"], b["_id"]): jaccard(a["text"], b["text"])
        for a, b in itertools.product(train.to_pylist(), test.to_pylist())
    }
    truth = {pair: similarity for pair, similarity in truth.items() if similarity >= 0.5}
    leaks = leakage(train, test, WORDS)
    found = {(row["train"], row["test"]): row["exact"] for row in leaks.pairs.to_pylist()}
    assert len(truth) > 60
    assert found.items() <= truth.items()
    assert len(found) >= 0.97 * len(truth)
    assert leaks.pairs.schema == LEAKS
    assert leaks.leaking_train == len({pair[0] for pair in found})
    assert leaks.leaking_test == len({pair[1] for pair in found})
    assert leaks.share == leaks.leaking_test / 80
    going = {pair[0] for pair in found}
    assert leaks.clean_train.equals(
        train.filter(pa.array([id_ not in going for id_ in train["_id"].to_pylist()]))
    )
    similarities = leaks.pairs.column("exact").to_pylist()
    assert similarities == sorted(similarities, reverse=True)


@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([0.3, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_a_join_that_names_one_of_equal_texts_hides_no_leak(seed: int, threshold: float) -> None:
    """Texts of few words, so that many of them have equal sets though their punctuation differs."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices("abcd", k=rng.randrange(2, 5))) + "." * n for n in range(30)]
    tested = [rng.random() < 0.4 for _ in texts]
    whole = table_of(texts)
    train, test = (whole.filter(pa.array([each is side for each in tested])) for side in (False, True))
    leaks = leakage(train, test, Jaccard(threshold=threshold, ngram=2))
    truth = {
        (a["_id"], b["_id"]): similarity
        for a, b in itertools.product(train.to_pylist(), test.to_pylist())
        if (similarity := jaccard(a["text"].rstrip("."), b["text"].rstrip("."))) >= threshold
    }
    found = {(row["train"], row["test"]): row["exact"] for row in leaks.pairs.to_pylist()}
    assert found.items() <= truth.items()
    for side in (0, 1):
        assert {pair[side] for pair in found} == {pair[side] for pair in truth}
    assert leaks.clean_train.num_rows == train.num_rows - len({pair[0] for pair in truth})


def test_pairs_inside_a_side_do_not_count() -> None:
    text = corpus(2, 1)[0]
    train, test = table_of([text, text + " more"]), table_of(["other words", "other words again", "third one"])
    leaks = leakage(train, test, MinHash(threshold=0.3))
    assert leaks.pairs.num_rows == 0
    assert leaks.clean_train.num_rows == 2


def test_a_row_that_stands_on_both_sides_leaks_and_so_do_its_twins() -> None:
    text = corpus(3, 1)[0]
    train, test = table_of([text, text, "nothing alike"]), table_of([text, text + " more"])
    leaks = leakage(train, test, WORDS)
    same, near = test.column("_id").to_pylist()
    assert [(row["train"], row["test"]) for row in leaks.pairs.to_pylist()] == [(same, same), (same, near)]
    assert leaks.pairs.column("exact").to_pylist()[0] == 1.0
    assert (leaks.leaking_train, leaks.leaking_test, leaks.train_rows) == (2, 2, 3)
    assert leaks.clean_train.column("text").to_pylist() == ["nothing alike"]


def test_rows_that_no_match_compares_leak_by_their_id() -> None:
    train, test = table_of(["...", None, "some words here"]), table_of(["...", "!!!"])
    leaks = leakage(train, test, WORDS)
    assert leaks.leaking_train == leaks.leaking_test == 1
    assert leaks.clean_train.num_rows == 2


def test_labels_of_both_sides_stand_beside_the_pair() -> None:
    text = corpus(4, 1)[0]
    train = table_of([text], label=pa.array(["<b>cat</b>"]).dictionary_encode())
    leaks = leakage(train, table_of([text + " more"], label=[7]), WORDS)
    (row,) = leaks.pairs.to_pylist()
    assert (row["train_label"], row["test_label"]) == ("<b>cat</b>", "7")
    html = leaks._repr_html_()
    assert "&lt;b&gt;cat" in html
    assert "<b>cat" not in html
    assert "1 of 1 test rows (100.0 %) leak" in html
    assert text not in html
    assert repr(leaks) == "Leaks(1 of 1 test rows leak, by 1 of 1 training rows)"
    (row,) = leakage(train.drop_columns("label"), table_of([text + " more"]), WORDS).pairs.to_pylist()
    assert row["train_label"] is row["test_label"] is None


def test_of_labels_of_one_content_the_first_is_told() -> None:
    train = table_of(["a b c", "a b c"], label=["first", "second"])
    (row,) = leakage(train, table_of(["a b C"]), WORDS).pairs.to_pylist()
    assert row["train_label"] == "first"


@pytest.mark.parametrize("label", [[["a"]], [{"a": 1}], [b"\xff"]], ids=["list", "struct", "bytes"])
def test_labels_that_are_no_words_are_refused(label: list[object]) -> None:
    train, test = table_of(["a b c"], label=label), table_of(["a b C"])
    with pytest.raises(SchemaError, match=r"a label of type .* cannot be told as a string"):
        leakage(train, test, WORDS)


def test_a_row_without_an_id_is_refused() -> None:
    train = pa.table({"_id": pa.array([None], pa.string()), "text": ["a b c"]})
    with pytest.raises(SchemaError, match="has no _id"):
        leakage(train, table_of(["a b C"]), WORDS)


@pytest.mark.parametrize("empty", ["train", "test", "both"])
def test_an_empty_side(empty: str) -> None:
    full, none = table_of(["some words here"]), table_of([])
    train, test = (none if empty in {side, "both"} else full for side in ("train", "test"))
    leaks = leakage(train, test, WORDS)
    assert leaks.pairs.num_rows == 0
    assert leaks.share == 0.0
    assert leaks.clean_train.equals(train)
    leaks._repr_html_()


@pytest.mark.parametrize("exact", [False, True])
def test_embeddings_leak_alike_whatever_the_search(exact: bool) -> None:
    """Forty equal vectors on each side: more than a star has."""
    rng = np.random.default_rng(1)
    points = rng.normal(size=(30, 16))
    rows = np.concatenate([points, np.tile(points[:1], (80, 1)), points + 0.01 * rng.normal(size=(30, 16))])
    ids = [f"{n:032x}" for n in range(len(rows))]
    table = pa.table({"_id": ids, "embedding": rows.tolist()})
    tested = np.arange(len(rows)) % 2 == 0
    leaks = leakage(table.filter(pa.array(~tested)), table.filter(pa.array(tested)), Cosine(exact=exact))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    near = unit @ unit.T >= 0.95
    assert leaks.leaking_train == (near[~tested][:, tested]).any(axis=1).sum()
    assert leaks.leaking_test == (near[tested][:, ~tested]).any(axis=1).sum()


def test_images_leak_in_another_format() -> None:
    rng = np.random.default_rng(3)
    pictures = [np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(6)]

    def encoded(chosen: list[int], kind: str) -> pa.Table:
        files = [io.BytesIO() for _ in chosen]
        for file, number in zip(files, chosen, strict=True):
            Image.fromarray(pictures[number]).save(file, kind)
        return pa.table({"image": pa.array([file.getvalue() for file in files], pa.binary())})

    # The copies inside the training set are in two formats; the test set has one of them and an unseen one.
    train = pa.concat_tables([encoded([0, 1, 2, 3], "PNG"), encoded([0, 1], "BMP")])
    leaks = leakage(train, encoded([1, 3, 4], "TIFF"), PHash())
    assert (leaks.leaking_train, leaks.leaking_test) == (3, 2)
    assert leaks.clean_train.column("image").to_pylist() == train.column("image").take([0, 2, 4]).to_pylist()


@pytest.mark.parametrize("better", ["train", "test"])
def test_of_very_many_equal_images_none_is_left_out(better: str) -> None:
    """A match that looks only at the first 32 of them has to look at those of either side."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 40), dtype=np.uint8)).save(file, "PNG")
    images = pa.array([file.getvalue()] * 50, pa.binary())
    ids = [f"{n:032x}" for n in range(100)]
    train, test = (
        pa.table({"_id": own, "image": images, "rank": [side == better] * 50})
        for side, own in (("train", ids[:50]), ("test", ids[50:]))
    )
    leaks = leakage(train, test, PHash(keep=("-rank",)))
    assert (leaks.leaking_train, leaks.leaking_test) == (50, 50)
    assert leakage(train, test[:1], PHash(keep=("-rank",))).leaking_train == 50
    assert leakage(train[:1], test, PHash(keep=("-rank",))).leaking_test == 50


def test_a_table_without_payload_is_refused() -> None:
    with pytest.raises(SchemaError, match="text or image"):
        leakage(pa.table({"x": [1]}), table_of(["a b"]), WORDS)


# ---------------------------------------------------------------- the step


def decided(step: Leakage, tables: list[pa.Table]) -> pa.Table:
    return step.resolve([step.sketch(table) for table in tables])


def test_the_step_drops_what_the_function_names() -> None:
    texts = corpus(5, 200)
    splits = [["train", "test", None, "validation", "odd"][n % 5] for n in range(200)]
    table = table_of(texts, split=splits, label=[str(n) for n in range(200)])
    step = Leakage(test=("test", "validation"), match=WORDS)
    outcome = step.bind(decided(step, [table])).apply(table)
    tested = pa.array([split in {"test", "validation"} for split in splits])
    leaks = leakage(
        table.filter(pa.array([not each for each in tested.to_pylist()])), table.filter(tested), WORDS
    )
    assert leaks.leaking_train > 20
    kept = {*leaks.clean_train["_id"].to_pylist(), *table.filter(tested)["_id"].to_pylist()}
    assert outcome.table.equals(table.filter(pa.array([id_ in kept for id_ in table["_id"].to_pylist()])))
    assert outcome.drops.schema == DROPS
    assert outcome.drops.num_rows == leaks.leaking_train
    best: dict[str, float] = {}
    for row in leaks.pairs.to_pylist():
        best[row["train"]] = max(best.get(row["train"], 0.0), row["exact"])
    pairs = {(row["train"], row["test"]) for row in leaks.pairs.to_pylist()}
    label_of = dict(zip(table["_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    for row in outcome.drops.to_pylist():
        assert row["rule"] == "leakage"
        assert row["exact"] == row["value"] == best[row["_id"]]
        assert (row["_id"], row["twin"]) in pairs
        assert row["threshold"] == 0.5
        assert row["label"] == label_of[row["_id"]]


def test_of_equally_similar_test_rows_the_first_in_keep_order_is_the_twin() -> None:
    words = [f"w{n}" for n in range(40)]
    texts = [" ".join(words), *(" ".join([*words, "more", end]) for end in ("of", "than", "or"))]
    splits = ["train", "test", "test", "test"]
    for best in (1, 2, 3):
        table = table_of(texts, split=splits, rank=[0, *(int(row == best) for row in (1, 2, 3))])
        step = Leakage(match=MinHash(threshold=0.5, ngram=2, keep=("-rank",)))
        assert decided(step, [table]).column("twin").to_pylist() == [table["_id"][best].as_py()]


@given(order=st.randoms(use_true_random=False), cuts=st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=25, deadline=None)
def test_neither_order_nor_parts_matter(order: Any, cuts: list[int]) -> None:
    table = table_of(corpus(6, 60), split=["train", "test"] * 30)
    step = Leakage(match=WORDS)
    whole = decided(step, [table])
    assert whole.schema == STATE
    assert whole.num_rows > 5
    shuffled = table.take(pa.array(order.sample(range(60), 60)))
    edges = [0, *sorted(cuts), 60]
    parts = [shuffled.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    assert decided(step, parts).equals(whole)
    op = step.bind(whole)
    assert pa.concat_tables([op(part) for part in parts]).equals(op(shuffled))


def test_a_test_row_stays_though_a_training_row_has_its_id() -> None:
    table = table_of(["one two three", "one two three"], split=["train", "test"])
    step = Leakage(match=WORDS)
    outcome = step.bind(decided(step, [table])).apply(table)
    assert outcome.table.column("split").to_pylist() == ["test"]
    assert outcome.drops.num_rows == 1


def test_nothing_at_all() -> None:
    step = Leakage(match=WORDS)
    assert step.resolve([]).equals(STATE.empty_table())
    empty = table_of([], split=pa.array([], pa.string()))
    state = decided(step, [empty, empty])
    assert state.num_rows == 0
    assert step.bind(state)(empty).num_rows == 0


@pytest.mark.parametrize(
    "split",
    [pa.array(["train", "test"]).dictionary_encode(), pa.array(["train", "test"], pa.large_string())],
    ids=lambda column: str(column.type),
)
def test_columns_of_strings_of_any_kind(split: pa.Array) -> None:
    table = table_of(["one two three", "one two three four"], split=split)
    step = Leakage(match=WORDS)
    assert decided(step, [table]).num_rows == 1


def test_a_split_may_be_a_number() -> None:
    table = table_of(["one two three", "one two three four"], fold=[1, 2])
    step = Leakage(split="fold", test=("1",), match=WORDS)
    assert decided(step, [table]).column("_id").to_pylist() == table.column("_id").to_pylist()[1:]


def test_a_missing_or_nested_split_column_is_named() -> None:
    step = Leakage(match=WORDS)
    with pytest.raises(SchemaError, match="needs a column split"):
        step.sketch(table_of(["one two"]))
    for split in ([["test"]], [b"\xff"]):
        with pytest.raises(SchemaError, match="names no split"):
            step.sketch(table_of(["one two"], split=split))


def test_sketches_of_other_settings_are_refused() -> None:
    table = table_of(["one two"], split=["test"])
    for other in (Leakage(match=MinHash()), Leakage(match=WORDS, test=("train",)), Leakage(match=PHash())):
        if isinstance(other.match, PHash):
            sketch = other.sketch(pa.table({"_id": ["a"], "image": pa.nulls(1, pa.binary()), "split": ["a"]}))
        else:
            sketch = other.sketch(table)
        with pytest.raises(SchemaError, match="other settings"):
            Leakage(match=WORDS).resolve([sketch])


def test_vectors_of_different_lengths_are_named_with_their_side() -> None:
    table = pa.table({"_id": ["a", "b"], "split": ["test", "train"], "embedding": [[1.0], [1.0, 2.0]]})
    step = Leakage(match=Cosine())
    with pytest.raises(SchemaError, match=r"test:a has 1 values, that of train:b has 2"):
        decided(step, [table])


def test_settings_are_read_and_written_as_a_configuration_has_them() -> None:
    step = Leakage.model_validate(
        {"test": ["test", "validation"], "match": {"dedup.MinHash": {"threshold": 0.7, "keep": ["-length"]}}}
    )
    assert step.match == MinHash(threshold=0.7, keep=("-length",))
    for options in ({}, {"exclude_defaults": True}):
        written = json.loads(json.dumps(step.model_dump(mode="json", **options)))
        assert Leakage.model_validate(written) == step
    assert step.model_dump(exclude_defaults=True)["match"] == {"dedup.MinHash": {"threshold": 0.7}}
    assert Leakage.model_validate({"match": {"dedup.PHash": None}}).match == PHash()
    schema = TypeAdapter(Leakage).json_schema()["properties"]["match"]
    assert schema["type"] == "object"
    assert Leakage.model_validate({"match": schema["default"]}) == Leakage()


@pytest.mark.parametrize(
    "match",
    [
        {},
        {"dedup.MinHash": {}, "dedup.PHash": {}},
        {"dedup.Nothing": {}},
        {"os.path": {}},
        {"dedup.Result": {}},
        3,
    ],
)
def test_what_is_no_match_is_refused(match: object) -> None:
    with pytest.raises(ValidationError, match=r"dedup\.MinHash|instance of Match"):
        Leakage.model_validate({"match": match})


def test_a_wrong_setting_of_the_match_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"dedup\.MinHash\.threshold: Input should be less"):
        Leakage.model_validate({"match": {"dedup.MinHash": {"threshold": 2}}})
