"""Tokens, sentences and protected spans."""

# ruff: noqa: RUF001  full-width marks are meant

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import rng
from augment.text import Lexicon, Protect, split
from augment.text.execute import execute
from lake.errors import SchemaError

CHINESE = Lexicon.of(
    {w: ["甲"] for w in ("电影", "电影院", "影院", "院长", "长江", "江大桥", "大桥", "高兴", "不同", "同意")}
)


def tokens(text, **options):
    return [t.text for t in split([text], **options)[0]]


def protected(text, **options):
    return [t.text for t in split([text], **options)[0] if t.protected]


def sentences(text):
    """What stands where one word was taken for another: each sentence's first token."""
    return [t.text for t in split([text], protect=Protect(entities=False))[0] if t.starts_sentence]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abcXYZ'-,;() \t", max_size=40))
def test_words_of_ascii_are_what_a_pattern_finds(text):
    assert tokens(text) == re.findall(r"[A-Za-z]+(?:['-][A-Za-z]+)*", text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789., a", max_size=30))
def test_numbers_hold_together_over_points_and_commas(text):
    assert tokens(text) == re.findall(r"[0-9a]+(?:(?<=[0-9])[.,](?=[0-9])[0-9a]+)*", text)


def fewest(run, words):
    """Every way to cut a run, and the best of them: by brute force."""
    if not run:
        return [[]]
    made = []
    for size in range(1, len(run) + 1):
        if size == 1 or run[:size] in words:
            made += [[run[:size], *rest] for rest in fewest(run[size:], words)]
    return made


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="电影院长江大桥高兴不同意", min_size=1, max_size=9))
def test_chinese_is_cut_into_the_fewest_words(run):
    words = set(CHINESE.table.column("word").to_pylist())
    ways = fewest(run, words)
    found = tokens(run, lexicon=CHINESE, protect=Protect(negations=False))
    assert "".join(found) == run
    assert found in ways
    assert (len(found), sum(len(w) == 1 for w in found)) == min(
        (len(w), sum(len(x) == 1 for x in w)) for w in ways
    )


def test_latin_and_digits_in_chinese_stay_whole():
    assert tokens("我用Python3写2024年的电影", lexicon=CHINESE) == [
        "我",
        "用",
        "Python3",
        "写",
        "2024",
        "年",
        "的",
        "电影",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I do not like it, isn't bad, isn’t it, DON'T", ["not", "isn't", "isn’t", "DON'T"]),
        ("never hardly a not-so-good thing without", ["never", "hardly", "not-so-good", "without"]),
        ("from 9.30 to 1,024 or 3rd, ４２", ["9.30", "1,024", "3rd", "４２"]),
        ("we saw Ann in New York, and IBM.", ["Ann", "New", "York", "IBM"]),
        ("Good day. Here I am. I'm it", []),
        ("New York is it", ["New", "York"]),
        (
            "see https://a.org/x?y=1, www.b.com and c.d@e.org.",
            ["https://a.org/x?y=1", "www.b.com", "c.d@e.org"],
        ),
        ("ask @joe_b of #Fun and #电影", ["@joe_b", "#Fun", "#电影"]),
        ("我不喜欢，没有意思，三百人", ["不", "没", "三", "百"]),
        ("他不同意", ["不同"]),
    ],
)
def test_what_is_protected(text, expected):
    assert protected(text, lexicon=CHINESE) == expected


def test_phrases_of_the_user_are_protected_and_hold_together():
    protect = Protect(words=("acid reflux", "C++", "影院长"))
    found = split(["the Acid reflux of c++ placid reflux", "电影院长江"], protect=protect, lexicon=CHINESE)
    assert [(t.text, t.protected, t.glued) for t in found[0]] == [
        ("the", False, False), ("Acid", True, False), ("reflux", True, True), ("of", False, False),
        ("c", True, False), ("placid", False, False), ("reflux", False, False),
    ]  # fmt: skip
    assert "".join(t.text for t in found[1] if t.protected).count("影院长") == 1


def test_each_protection_can_be_left_out():
    text = "it is not 42 in Paris"
    assert protected(text) == ["not", "42", "Paris"]
    assert protected(text, protect=Protect(negations=False)) == ["42", "Paris"]
    assert protected(text, protect=Protect(numbers=False)) == ["not", "Paris"]
    assert protected(text, protect=Protect(entities=False)) == ["not", "42"]


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("One is. two goes on. Three ends! four? Five", ["One", "Three", "four", "Five"]),
        ("Mr. Smith met J. Doe at 3.5 p.m. today. Then he left.", ["Mr", "Then"]),
        ('He said: "Go." They went.', ["He", "Go", "They"]),
        ("one<br />two <b>three</b>", ["one", "two"]),
        ("one\ntwo\n\nthree", ["one", "two", "three"]),
        ("“好。”他说。走吧！", ["好", "他", "走"]),
    ],
)
def test_sentences(text, starts):
    assert sentences(text) == starts


def test_insertions_do_not_split_what_belongs_together():
    text = "pay $50 to New York (now) or 三百 50%"
    lexicon = Lexicon.of({"pay": ["XX"], "now": ["XX"]})
    keys = rng.Stream(range(400), 0, 0).keys([0])
    programs = SimpleNamespace(codes=np.full((400, 1), 501), parameters=np.full((400, 1), 0.1), keys=keys)
    for made in execute([text] * 400, programs, lexicon=lexicon).to_pylist():
        assert made.split().count("XX") == 1
        for whole in ("$50", "New York", "(now)", "三百", "50%"):
            assert whole in made


def test_a_dictionary_of_numbers_holds_no_text():
    with pytest.raises(SchemaError, match="a column of type int64 holds no text"):
        split(pa.array([1, 2]).dictionary_encode())
