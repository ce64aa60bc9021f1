"""The ops on texts against a plain Python reference that is driven by the same random numbers."""

from __future__ import annotations

import codecs
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import rng
from augment.policy import Policy
from augment.text import Lexicon, Protect, apply_texts, eda, fit, split
from augment.text.execute import execute
from augment.text.noise import KEYBOARD, OCR
from augment.text.table import BY_NAME, FITTED, ROWS
from lake.errors import ConfigError, SchemaError

LEXICON = Lexicon.of(
    {
        "good": ["fine", "great"],
        "film": ["movie", "motion picture"],
        "fast": ["quick"],
        "喜欢": ["喜爱", "爱好"],
        "电影": ["影片"],
        "高兴": ["开心", "愉快"],
        "不同": ["各异"],
    }
)
FREE = Protect(negations=False, numbers=False, entities=False)
WORDS = ["good", "film", "fast", "bad", "not", "isn't", "Paris", "42", "it", "well-made", "x"]
LABELS = ["a", "b"]


def programs(op, n, share, seed=0, ids=None):
    keys = rng.Stream(range(n) if ids is None else ids, seed, 0).keys([0])
    return SimpleNamespace(
        codes=np.full((n, 1), BY_NAME[op].code, np.int64), parameters=np.full((n, 1), float(share)), keys=keys
    )


def carried_out(op, texts, share, seed=0, **options):
    return execute(
        texts, programs(op, len(texts), share, seed), **{"lexicon": LEXICON, "protect": FREE, **options}
    )


class Numbers:
    """The random numbers of one text."""

    def __init__(self, n, seed=0):
        self.u = rng.of_keys(rng.Stream([n], seed, 0).keys([0])[:, 0], 20_000)[0]

    def below(self, index, count):
        return int(self.u[index] * count)


def how_many(share, count):
    return max(1, int(share * count)) if share > 0 else 0


def by_swaps(draw, share, items):
    """EDA's random swap."""
    items = list(items)
    for t in range(how_many(share, len(items))):
        a, b = draw.below(2 * t, len(items)), draw.below(2 * t + 1, len(items) - 1)
        b += b >= a
        items[a], items[b] = items[b], items[a]
    return items


def picked(draw, share, tokens, candidates):
    """The tokens drawn, in the order of drawing."""
    some = list(candidates)
    for t in range(min(how_many(share, len(tokens)), len(some))):
        k = t + draw.below(3 * t, len(some) - t)
        some[t], some[k] = some[k], some[t]
        yield t, some[t]


def reference(op, words, share, n, seed=0):
    """What an op does to words with one space between them, none of them protected."""
    draw = Numbers(n, seed)
    if op == "RandomSwap":
        return " ".join(by_swaps(draw, share, words) if len(words) > 1 else words)
    if op == "RandomDeletion":
        kept = [w for i, w in enumerate(words) if draw.u[i] >= share]
        return " ".join(kept or [words[draw.below(len(words), len(words))]])
    if op == "SynonymReplacement":
        made = list(words)
        for t, i in picked(draw, share, words, [i for i, w in enumerate(words) if w in LEXICON]):
            synonyms = LEXICON[words[i]]
            made[i] = synonyms[draw.below(3 * t + 1, len(synonyms))]
        return " ".join(made)
    if op == "RandomInsertion":
        with_synonyms = [w for w in words if w in LEXICON]
        before = [[] for _ in range(len(words) + 1)]
        for t in range(how_many(share, len(words)) if with_synonyms else 0):
            synonyms = LEXICON[with_synonyms[draw.below(3 * t, len(with_synonyms))]]
            word = synonyms[draw.below(3 * t + 1, len(synonyms))]
            before[draw.below(3 * t + 2, len(words) + 1)].append(word)
        return " ".join(w for i in range(len(words) + 1) for w in (*before[i], *words[i : i + 1]))
    if op in {"KeyboardNoise", "OcrNoise"}:
        table, least = (KEYBOARD, 4) if op == "KeyboardNoise" else (OCR, 1)
        made = list(words)
        able = [i for i, w in enumerate(words) if sum(c in table for c in w) >= least]
        for t, i in picked(draw, share, words, able):
            letters = [p for p, c in enumerate(words[i]) if c in table]
            at = letters[draw.below(3 * t + 1, len(letters))]
            ways = table[words[i][at]]
            made[i] = words[i][:at] + ways[draw.below(3 * t + 2, len(ways))] + words[i][at + 1 :]
        return " ".join(made)
    raise AssertionError(op)


PLAIN = ("RandomSwap", "RandomDeletion", "SynonymReplacement", "RandomInsertion", "KeyboardNoise", "OcrNoise")


@pytest.mark.parametrize("op", PLAIN)
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30), min_size=1, max_size=6),
    share=st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 5),
)
def test_an_op_does_what_plain_python_does(op, texts, share, seed):
    made = carried_out(op, [" ".join(words) for words in texts], share, seed).to_pylist()
    assert made == [reference(op, words, share, n, seed) for n, words in enumerate(texts)]


def test_substitution_by_tf_idf_follows_the_paper():
    texts = ["good film good bad", "bad film film fast it", "good it bad fast fast it"]
    fitted = fit(texts, min_documents=1, protect=FREE)
    words = fitted.words.to_pylist()
    assert words == sorted(words)
    count = {w: sum(t.split().count(w) for t in texts) for w in words}
    documents = {w: sum(w in t.split() for t in texts) for w in words}
    idf = {w: np.log(len(texts) / documents[w]) for w in words}
    said = np.array([count[w] * idf[w] for w in words])
    edges = np.cumsum(said.max() - said)
    share = 0.5
    for n, (text, made) in enumerate(
        zip(texts, carried_out("TfIdfSubstitute", texts, share, fitted=fitted), strict=True)
    ):
        tokens, draw = text.split(), Numbers(n)
        weight = np.array([tokens.count(w) * idf[w] / len(tokens) for w in tokens])
        chance = share * len(tokens) * (weight.max() - weight) / (weight.max() - weight).sum()
        for i, p in enumerate(chance):
            if draw.u[2 * i] < p:
                tokens[i] = words[int(np.searchsorted(edges, draw.u[2 * i + 1] * edges[-1], side="right"))]
        assert made.as_py() == " ".join(tokens)


def test_insertion_by_tf_idf_draws_from_the_vocabulary():
    texts = ["good film", "good fast bad it"] * 20
    fitted = fit(texts, protect=FREE)
    words = set(fitted.words.to_pylist())
    for text, made in zip(
        texts, carried_out("TfIdfInsert", texts, 0.5, fitted=fitted).to_pylist(), strict=True
    ):
        tokens = made.split()
        assert len(tokens) == len(text.split()) + how_many(0.5, len(text.split()))
        assert set(tokens) <= words
        rest = iter(tokens)
        assert all(w in rest for w in text.split()), "the words of the text are there in their order"


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 9), share=st.sampled_from([0.0, 0.2, 1.0]), seed=st.integers(0, 3))
def test_sentences_change_places(count, share, seed):
    sentences = [f"Here is number {chr(97 + i)}{chr(97 + i)}{'.!?'[i % 3]}" for i in range(count)]
    [made] = carried_out("SentenceShuffle", [" ".join(sentences)], share, seed).to_pylist()
    expected = by_swaps(Numbers(0, seed), share, sentences) if count > 1 else sentences
    assert made == " ".join(expected)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 30), share=st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0]), seed=st.integers(0, 3))
def test_a_crop_keeps_a_stretch(count, share, seed):
    words = [f"w{chr(97 + i % 26)}" for i in range(count)]
    [made] = carried_out("SpanCrop", [" ".join(words)], share, seed).to_pylist()
    kept = max(1, count - how_many(share, count))
    low = Numbers(0, seed).below(0, count - kept + 1)
    assert made == " ".join(words[low : low + kept])


def test_a_mix_takes_sentences_of_the_same_label_only():
    texts = ["Ah one. Ah two. Ah three.", "Be one. Be two. Be three.", "Ah four. Ah five.", "Be four. Be five."]
    fitted = fit(texts, ids=range(4), labels=["a", "b", "a", "b"], protect=FREE)
    made = carried_out(
        "SameClassMix", texts, 0.5, fitted=fitted, labels=["a", "b", "a", "b"], ids=range(4)
    ).to_pylist()
    assert made != texts
    for text, new, label in zip(texts, made, ("Ah", "Be", "Ah", "Be"), strict=True):
        assert new.count(label) == text.count(label)
        other = texts[["Ah", "Be"].index(label) + 2 * (text in texts[:2])]
        assert all(part.strip() in f"{text} {other}" for part in new.split("."))


@pytest.mark.parametrize("labels", [[1.0, 2.5], [True, False], [1, 2], pa.array([0.5, 1e20])])
def test_labels_of_any_kind_are_mixed_by(labels):
    texts = ["Ah one. Ah two. Ah three.", "Be one. Be two. Be three."] * 5

    def mixed(two):
        kinds = pa.concat_arrays([pa.array(two)] * 5)
        fitted = fit(texts, ids=range(10), labels=kinds, protect=FREE)
        return carried_out("SameClassMix", texts, 1.0, fitted=fitted, labels=kinds, ids=range(10)).to_pylist()

    assert mixed(labels) == mixed(sorted(["a", "b"], reverse=labels == [True, False]))
    assert mixed(labels) != texts


def test_labels_of_several_kinds_are_refused():
    fitted = fit(["Ah one."], ids=[1], labels=["a"])
    with pytest.raises(SchemaError, match="labels that are not all of one kind"):
        carried_out("SameClassMix", ["Ah one.", "Be two."], 1.0, fitted=fitted, labels=["a", 1], ids=[1, 2])


def test_a_text_is_not_mixed_with_itself_nor_without_a_label():
    texts = ["Ah one. Ah two.", "Be one. Be two."]
    fitted = fit(texts, ids=range(2), labels=["a", "b"])
    for labels in (["a", "b"], [None, None], ["c", "c"]):
        made = carried_out("SameClassMix", texts, 1.0, fitted=fitted, labels=labels, ids=range(2))
        assert made.to_pylist() == texts


# ------------------------------------------------------------------------------------- laws, on any text

PIECES = st.one_of(
    st.sampled_from(
        [*WORDS, "我不喜欢这部电影", "高兴", "New York", "don't", "a@b.org", "http://x.org/a?b", "@joe", "#tag"]
    ),
    st.sampled_from(
        [" ", ", ", ". ", "! ", "。", "\n", "  ", "<br />", "(", ")", "\u0301", "👩‍👩‍👧", "é", "ไทย"]
    ),
    st.text(max_size=5),
)
ANY = st.one_of(st.none(), st.lists(PIECES, max_size=25).map("".join)).filter(
    lambda t: t is None or not any(0xD800 <= ord(c) < 0xE000 for c in t)
)
FITTED_ON = fit(
    ["good film good. It is fast.", "bad film, 高兴。", "it is good"], ids=[7, 8, 9], labels=["a", "a", "b"],
    min_documents=1, lexicon=LEXICON,
)  # fmt: skip


def any_op(op, texts, ids, **options):
    labels = ["a"] * len(texts)
    return execute(
        texts, programs(op, len(texts), 0.3, ids=ids), lexicon=LEXICON, fitted=FITTED_ON, labels=labels,
        ids=list(ids), **options,
    ).to_pylist()  # fmt: skip


@pytest.mark.parametrize("op", BY_NAME)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(ANY, min_size=1, max_size=12), cut=st.integers(1, 7), order=st.randoms())
def test_a_text_does_not_depend_on_the_others(op, texts, cut, order):
    ids = np.arange(len(texts))
    whole = any_op(op, texts, ids)
    pieces = [any_op(op, texts[i : i + cut], ids[i : i + cut]) for i in range(0, len(texts), cut)]
    assert [t for piece in pieces for t in piece] == whole
    places = list(range(len(texts)))
    order.shuffle(places)
    assert any_op(op, [texts[i] for i in places], ids[places], threads=2) == [whole[i] for i in places]


@pytest.mark.parametrize("op", BY_NAME)
@settings(max_examples=60, deadline=None)
@given(text=ANY, n=st.integers(0, 1000))
def test_null_stays_null_and_nothing_becomes_empty(op, text, n):
    [made] = any_op(op, [text], [n])
    assert (made is None) == (text is None)
    assert bool(made) == bool(text)


@pytest.mark.parametrize("op", sorted(set(BY_NAME) - {"SameClassMix"}))
@settings(max_examples=60, deadline=None)
@given(text=ANY.filter(bool), n=st.integers(0, 1000))
def test_what_is_protected_stays_as_often_and_in_its_order(op, text, n):
    protect = Protect(words=("bad film", "这部"))
    before = [
        t.text for t in split([text], protect=protect, lexicon=LEXICON, fitted=FITTED_ON)[0] if t.protected
    ]
    [made] = any_op(op, [text], [n], protect=protect)
    if op == "SentenceShuffle":
        assert all(made.count(word) >= 1 for word in before)
        return
    at = 0
    for word in before:
        at = made.find(word, at)
        assert at >= 0, (word, made)
        at += len(word)


@settings(max_examples=100, deadline=None)
@given(text=ANY.filter(bool))
def test_at_level_0_nothing_happens(text):
    for op in BY_NAME:
        made = execute([text], programs(op, 1, 0.0), lexicon=LEXICON, fitted=FITTED_ON, labels=["a"], ids=[1])
        assert made.to_pylist() == [text]


# -------------------------------------------------------------------------------------------- policies


def test_a_policy_gives_the_same_for_any_batch_size_order_and_after_pickling():
    texts = [f"a good film number {i} is a fast film, not a bad one. It is well-made." for i in range(300)]
    policy = eda(0.2)
    whole = apply_texts(policy, texts, range(300), seed=5, epoch=2, lexicon=LEXICON).to_pylist()
    assert sum(a != b for a, b in zip(texts, whole, strict=True)) > 250
    for size in (1, 7, 256):
        pieces = [
            apply_texts(policy, texts[i : i + size], range(300)[i : i + size], seed=5, epoch=2, lexicon=LEXICON)
            for i in range(0, 300 if size > 1 else 20, size)
        ]
        made = pa.concat_arrays(pieces).to_pylist()
        assert made == whole[: len(made)]
    again = pickle.loads(pickle.dumps((policy, LEXICON)))
    assert apply_texts(again[0], texts, range(300), seed=5, epoch=2, lexicon=again[1]).to_pylist() == whole
    other = apply_texts(policy, texts, range(300), seed=5, epoch=3, lexicon=LEXICON).to_pylist()
    assert other != whole


def test_several_ops_follow_one_another():
    both = Policy(
        subpolicies=[[{"op": "RandomSwap", "magnitude": 1}, {"op": "RandomDeletion", "magnitude": 1}]], draws=2
    )
    texts = ["one two three four five six"] * 50
    made = apply_texts(both, texts, range(50)).to_pylist()
    assert all(set(m.split()) <= set(texts[0].split()) and m for m in made)
    assert any(len(m.split()) < 4 for m in made)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_any_column_of_strings(kind):
    texts = ["one two three four", None, "", "five six seven"] * 3
    column = (
        pa.array(texts).cast(kind) if not pa.types.is_dictionary(kind) else pa.array(texts).dictionary_encode()
    )
    policy = Policy(subpolicies=[[{"op": "RandomSwap", "magnitude": 0.2}]])
    plain = apply_texts(policy, texts, range(12)).to_pylist()
    for form in (column, column.slice(2), pa.chunked_array([column.slice(0, 5), column.slice(5)])):
        skip = 12 - len(form)
        made = apply_texts(policy, form, range(skip, 12))
        assert made.to_pylist() == plain[skip:]
        made.validate(full=True)


def test_errors_name_the_place():
    with pytest.raises(ValueError, match="write two policies"):
        Policy(subpolicies=[[{"op": "RandomSwap"}, {"op": "Rotate"}]])
    with pytest.raises(ConfigError, match=r"subpolicies\[0\].choices\[0\].*Rotate is no op for texts"):
        apply_texts(Policy(subpolicies=[[{"op": "Rotate"}]]), ["a"], [1])
    with pytest.raises(ValueError, match=r"subpolicies.0.choices.0.magnitude"):
        Policy(subpolicies=[[{"op": "RandomSwap", "magnitude": 1.5}]])
    for op in FITTED:
        with pytest.raises(ConfigError, match="needs the corpus"):
            apply_texts(Policy(subpolicies=[[{"op": op, "magnitude": 1}]]), ["a"], [1])
    policy = Policy(subpolicies=[[{"op": "RandomSwap", "magnitude": 1}]])
    with pytest.raises(ValueError, match="2 texts, but 1 ids"):
        apply_texts(policy, ["a", "b"], [1])
    for bad in ([1, 2], ["a", b"b", 3], "ab", pa.array([1])):
        with pytest.raises(SchemaError):
            apply_texts(policy, bad, [1, 2])


@pytest.mark.parametrize("op", BY_NAME)
def test_strange_texts(op):
    texts = [
        "",
        " ",
        "...",
        "\u0301\u0301",
        "\ufeff",
        "\x00",
        "a",
        "字",
        "<",
        "<b",
        "@",
        "#",
        "http://",
        "a@",
        "不",
        "😀" * 9,
    ]
    made = any_op(op, texts, range(len(texts)))
    assert all(isinstance(m, str) for m in made)
    assert made[:6] == texts[:6] or op == "SameClassMix"


@pytest.mark.parametrize("op", BY_NAME)
def test_one_text_of_a_megabyte(op):
    text = "a good film is not fast, 高兴的电影。 It is, and well-made! " * 15_000
    [made] = any_op(op, [text], [1])
    assert made
    assert made != text


NO_UTF8 = [
    b"good \xff\xfe film \xe4\xb8 fast. It is \xc3 good film! And \xf0\x9f\x98 fast \x80 it",
    b"\xe4\xb8. \xe6fast \xf4fast film",
    b"good\xc2film fast\xf0",
]


def in_their_place(raw):
    """Every byte that is not UTF-8 as a character that is no letter either."""
    codecs.register_error(
        "private", lambda e: ("".join(chr(0xE000 + b) for b in e.object[e.start : e.end]), e.end)
    )
    return raw.decode("utf-8", errors="private")


@pytest.mark.parametrize("op", BY_NAME)
def test_bytes_that_are_no_utf8_do_no_harm(op):
    raw = NO_UTF8 * 20
    column = pa.array(raw, pa.binary()).view(pa.string())
    more = {"lexicon": LEXICON, "fitted": FITTED_ON, "labels": ["a"] * len(raw), "ids": range(len(raw))}
    made = execute(column, programs(op, len(raw), 0.5), **more).view(pa.binary()).to_pylist()
    known = execute(list(map(in_their_place, raw)), programs(op, len(raw), 0.5), **more).to_pylist()
    assert list(map(in_their_place, made)) == known
    assert made != raw


def test_every_misprint_is_another_and_short():
    for table in (KEYBOARD, OCR):
        assert len(table) > 40
        for char, others in table.items():
            assert len(char) == 1
            assert others
            assert all(1 <= len(other) <= 2 and other.isalnum() and other != char for other in others)
    assert set(KEYBOARD["g"]) == set("tyfhvb")
    assert set(KEYBOARD["Q"]) == set("WA")


def test_codes_and_names_are_fixed():
    assert [(op.code, op.name) for op in ROWS] == list(
        zip(
            range(500, 511),
            [
                "SynonymReplacement", "RandomInsertion", "RandomSwap", "RandomDeletion", "KeyboardNoise",
                "OcrNoise", "TfIdfInsert", "TfIdfSubstitute", "SentenceShuffle", "SpanCrop", "SameClassMix",
            ],
            strict=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize("op", ["RandomInsertion", "KeyboardNoise", "OcrNoise", "TfIdfInsert"])
def test_what_stood_together_still_does(op):
    text = "good film#fast#fast it film@fast good"
    made = carried_out(op, [text] * 100, 0.5, fitted=FITTED_ON).to_pylist()
    assert all(new.count("#") == 2 and not re.search(r"\s[#@]", new) for new in made)
    assert len(set(made)) > 20


@pytest.mark.parametrize("op", BY_NAME)
@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("$ 5", "pay for $ 5 now, please. It was $ 5"),
        ("wow !", "so it is a film wow ! Good, wow !"),
        ("C ++", "I like C ++ (very much) and good C ++"),
        ("Yahoo! Inc", "I like Yahoo! Inc very much. It is good. And fast."),
        ("no. 5", "It is good. Give him no. 5 today. And a film no. 5"),
        ("good.", "It is good. It is fast. A film is good. Bad film"),
        ("film@fast", "it is good film@fast not é#b film@fast"),
    ],
)
def test_a_phrase_is_never_split_whatever_stands_at_its_ends(op, phrase, text):
    protect = Protect(negations=False, numbers=False, entities=False, words=(phrase,))
    fitted = fit(["Ah one. Ah two."] * 2, ids=[998, 999], labels=["a", "a"], protect=protect)
    made = execute(
        [text] * 300, programs(op, 300, 0.6), lexicon=LEXICON, fitted=fitted, labels=["a"] * 300,
        ids=range(300), protect=protect,
    ).to_pylist()  # fmt: skip
    assert {new.count(phrase) for new in made} == {text.count(phrase)}
