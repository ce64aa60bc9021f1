"""The step that makes copies of texts."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from augment.text import ApplyText, Fitted, Protect, fit
from augment.text.fitted import SCHEMA
from lake.errors import ConfigError

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SWAPS = {"subpolicies": [[{"op": "RandomSwap", "magnitude": 0.4}]], "bins": None}
SEEN = {
    "subpolicies": [[{"op": "TfIdfSubstitute", "magnitude": 0.6}], [{"op": "SameClassMix", "magnitude": 1}]],
    "bins": None,
}


def rows(n=40):
    texts = [
        None if i % 11 == 10 else f"{' '.join(WORDS[i % 7 :])}. {' '.join(WORDS[: 1 + i % 5])}."
        for i in range(n)
    ]
    return pa.table(
        {
            "_id": [f"{(i * 0x9E3779B97F4A7C15) % (1 << 64):032x}" for i in range(n)],
            "text": texts,
            "label": [None if i % 7 == 6 else "ab"[i % 2] for i in range(n)],
            "n": list(range(n)),
        }
    )


def run(step, table):
    return step.bind(step.resolve([step.sketch(table)])).apply(table)


def test_each_text_is_followed_by_its_copies():
    table = rows()
    outcome = run(ApplyText(policy=SWAPS, copies=2), table)
    assert outcome.drops.num_rows == 0
    made = outcome.table.to_pylist()
    expected = [(i, c) for i, row in enumerate(table.to_pylist()) for c in range(3 if row["text"] else 1)]
    assert [(row["n"], row["_copy"]) for row in made] == expected
    originals = [
        {k: v for k, v in row.items() if k[0] != "_" or k == "_id"} for row in made if row["_copy"] == 0
    ]
    assert originals == table.to_pylist()
    for row in made:
        source = table.slice(row["n"], 1).to_pylist()[0]
        assert (row["_id"], row["label"]) == (source["_id"], source["label"])
        if row["_copy"]:
            assert sorted(row["text"].replace(".", "").split()) == sorted(
                source["text"].replace(".", "").split()
            )
            assert row["_augmented"] == (
                "unchanged" if row["text"] == source["text"] else "RandomSwap 20 % of the words"
            )
        else:
            assert row["_augmented"] is None
    assert outcome.table.schema.names == [*table.schema.names, "_copy", "_augmented"]
    assert outcome.table.schema.field("text") == table.schema.field("text")


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, 39), max_size=5), order=st.randoms(use_true_random=False))
def test_what_is_fitted_and_made_does_not_depend_on_the_cutting(cuts, order):
    table, step = rows(), ApplyText(policy=SEEN, copies=2, partners=3, min_documents=1)
    state = step.resolve([step.sketch(table)])
    edges = [0, *sorted(cuts), 40]
    parts = [table.slice(a, b - a) for a, b in pairwise(edges)]
    order.shuffle(parts)
    assert step.resolve([step.sketch(part) for part in parts]).equals(state)
    whole = step.bind(state).apply(table).table.to_pylist()
    bound = pickle.loads(pickle.dumps(step.bind(state)))
    pieces = [row for part in parts for row in bound.apply(part).table.to_pylist()]
    assert sorted(pieces, key=lambda r: (r["n"], r["_copy"])) == whole


def test_the_vocabulary_is_counted():
    fitted = fit(["Good film, good day", "not a film in Paris in 1999", None, "good"], min_documents=1)
    found = {r["value"]: (r["count"], r["documents"]) for r in fitted.table.to_pylist() if r["kind"] == "word"}
    assert found == {"good": (3, 2), "film": (2, 2), "day": (1, 1), "a": (1, 1), "in": (2, 1)}
    assert fitted.size == 3
    free = fit(["not a film in Paris"], min_documents=1, protect=Protect(entities=False, negations=False))
    assert free.words.to_pylist() == ["a", "film", "in", "not", "paris"]
    few = fit(["b b b a a a c", "a b c"], max_words=2, min_documents=2)
    assert few.words.to_pylist() == ["a", "b"]


def test_of_each_label_the_smallest_ids_stay():
    fitted = fit(list("abcdef"), ids=[5, 4, 3, 2, 1, 0], labels=["x", "y", "x", None, "x", "y"], partners=2)
    assert [(r["label"], r["value"]) for r in fitted.partners.to_pylist()] == [
        ("x", "e"), ("x", "c"), ("y", "f"), ("y", "b"),
    ]  # fmt: skip
    assert fitted.texts == {"x": (0, 2), "y": (2, 4)}


def test_nothing_is_sketched_where_nothing_is_fitted():
    step = ApplyText(policy=SWAPS)
    assert step.sketch(rows()).equals(SCHEMA.empty_table())
    assert Fitted(step.resolve([])).size == 0


@pytest.mark.parametrize(
    "table", [rows(0), rows(3).drop_columns(["text"]), rows(1).set_column(1, "text", pa.nulls(1, pa.string()))]
)
@pytest.mark.parametrize("policy", [SWAPS, SEEN])
def test_tables_without_texts_pass(table, policy):
    outcome = run(ApplyText(policy=policy), table)
    assert outcome.table.drop_columns(["_copy", "_augmented"]).equals(table)


def test_copies_are_not_copied_again():
    step = ApplyText(policy=SWAPS)
    once = run(step, rows()).table
    with pytest.raises(ConfigError, match="after a step that has made copies"):
        step.bind(step.resolve([])).apply(once)


def test_labels_are_asked_for():
    with pytest.raises(ConfigError, match="SameClassMix needs labels"):
        run(ApplyText(policy=SEEN), rows().drop_columns(["label"]))


def test_errors_name_the_place():
    with pytest.raises(ValidationError, match="no policy for texts is called 'edda'"):
        ApplyText(policy="edda")
    with pytest.raises(ValidationError, match="Rotate is no op for texts"):
        ApplyText(policy={"subpolicies": [[{"op": "Rotate"}]]})
    with pytest.raises(ValidationError, match=r"protect\.words\.0"):
        ApplyText(protect={"words": [""]})


def test_the_default_lexicon_is_only_looked_for_when_it_is_needed(monkeypatch):
    monkeypatch.setattr("augment.text.lexicon._search", lambda name: None)
    run(ApplyText(policy=SWAPS), rows())
    with pytest.raises(ConfigError, match="apt-get install wordnet-base"):
        run(ApplyText(policy="eda"), rows())
