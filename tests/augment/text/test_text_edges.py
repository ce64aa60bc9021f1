"""Texts at the edges of what the ops expect: markup, quotes, accents, bytes that are no UTF-8, odd labels."""

# ruff: noqa: RUF001  typographic marks are meant

from __future__ import annotations

import re
import unicodedata
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from augment import rng
from augment.text import ApplyText, Protect, fit, split
from augment.text.execute import execute
from augment.text.table import BY_NAME

FREE = Protect(negations=False, numbers=False, entities=False)


def carried_out(op, text, share, count=200, **more):
    programs = SimpleNamespace(
        codes=np.full((count, 1), BY_NAME[op].code, np.int64),
        parameters=np.full((count, 1), share),
        keys=rng.Stream(range(count), 0, 0).keys([0]),
    )
    return execute([text] * count, programs, **{"protect": FREE, **more}).to_pylist()


@pytest.mark.parametrize(
    "text",
    [
        "It is bad.<br /><br />A good film",
        'It is <b class="x y">very</b> good (<i>or so</i>)',
        "a<p >b c</p >d",
    ],
)
def test_a_crop_leaves_no_half_of_a_tag(text):
    made = set(carried_out("SpanCrop", text, 0.7))
    assert len(made) > 2
    assert not [new for new in made if re.search(r"^[^<]*>|<[^>]*$", new)]
    assert all(new in text for new in made)


@pytest.mark.parametrize("mate", ["“Go on,” he said.", "🎉 Go on.", "‘Go on.’"])
def test_a_sentence_that_begins_with_a_quote_or_an_emoji_stands_apart(mate):
    fitted = fit([mate], ids=[999], labels=["a"], protect=FREE)
    made = carried_out(
        "SameClassMix", "Ah one. Ah two.", 0.5, fitted=fitted, labels=["a"] * 200, ids=range(200)
    )
    assert set(made) == {f"{mate} Ah two.", f"Ah one. {mate}"}
    [alone] = set(carried_out("SameClassMix", "Ah.", 0.5, fitted=fitted, labels=["a"] * 200, ids=range(200)))
    assert alone == f"Ah. {mate}"


@pytest.mark.parametrize("mate", ["去吧。", "「去吧。」", "𠀀吧。"])
def test_a_chinese_sentence_needs_no_space(mate):
    fitted = fit([mate], ids=[999], labels=["a"], protect=FREE)
    [made] = set(carried_out("SameClassMix", "好。", 0.5, fitted=fitted, labels=["a"] * 200, ids=range(200)))
    assert made == f"好。{mate}"


# An overlong A (3 and 4 bytes), a surrogate, and a code point beyond the last one.
@pytest.mark.parametrize("odd", [b"\xe0\x81\x81", b"\xf0\x80\x81\x81", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_what_only_looks_like_utf8_is_no_word(odd):
    raw = [b"good " + odd + b" film", odd + b" good it"]
    column = pa.array(raw, pa.binary()).view(pa.string())
    fitted = fit(column, protect=FREE)
    assert fitted.words.to_pylist() == ["good"]
    programs = SimpleNamespace(
        codes=np.full((2, 1), BY_NAME["TfIdfInsert"].code), parameters=np.full((2, 1), 0.5),
        keys=rng.Stream(range(2), 0, 0).keys([0]),
    )  # fmt: skip
    made = execute(column, programs, fitted=fitted, protect=FREE).view(pa.binary()).to_pylist()
    assert [new.replace(b"good", b"").split() for new in made] == [
        old.replace(b"good", b"").split() for old in raw
    ]


@pytest.mark.parametrize("word", ["café", "naïve idea", "が"])
def test_a_protected_word_is_found_however_its_accents_are_written(word):
    forms = [unicodedata.normalize(form, word) for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    for said in forms:
        for written in forms:
            tokens = split([f"one {written} two"], protect=Protect(words=(said,)))[0]
            assert [t.text for t in tokens if not t.protected] == ["one", "two"]


def test_rows_whose_label_is_nan_are_not_mixed_with_each_other():
    table = pa.table(
        {
            "_id": [f"{i:032x}" for i in range(8)],
            "text": [f"Ah one {c}. Ah two {c}." for c in "abcdefgh"],
            "label": pa.array([1.0, float("nan")] * 4),
        }
    )
    step = ApplyText(policy={"subpolicies": [[{"op": "SameClassMix", "magnitude": 1}]]})
    made = step.bind(step.resolve([step.sketch(table)])).apply(table).table.to_pylist()
    copies = [row for row in made if row["_copy"]]
    assert {row["_augmented"] != "unchanged" for row in copies if row["label"] == 1.0} == {True}
    assert {row["_augmented"] for row in copies if row["label"] != 1.0} == {"unchanged"}
