"""nlpaug's augmenters as ops."""

# ruff: noqa: NPY002  the global generator is what it draws from

from __future__ import annotations

import os
import random
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Policy
from augment.bridges import nlpaug as bridge
from augment.text import Protect, apply_texts, split

TEXT = "The quick brown fox jumps over the lazy dog because it really wanted to see the film."
OPTIONS = {"ReservedAug": {"reserved_tokens": [["film", "movie", "flick"], ["quick", "fast", "rapid"]]}}
OFFLINE = ("KeyboardAug", "OcrAug", "RandomCharAug", "RandomWordAug", "ReservedAug", "SpellingAug", "SplitAug")


@pytest.fixture(name="nlpaug")
def _nlpaug():
    return pytest.importorskip("nlpaug")


def made(name, share=0.3, key=(1, 2, 3, 4)):
    return bridge.find(f"nlpaug.{name}", name, OPTIONS.get(name, {})).text(TEXT, share, key)


@pytest.mark.parametrize("name", OFFLINE)
def test_a_text_depends_on_its_key_alone(nlpaug, name):
    first = made(name)
    random.seed(5)
    np.random.seed(6)
    assert made(name) == first
    assert len({made(name, key=(k, 0, 0, 0)) for k in range(20)}) > 1


def test_the_global_generators_stay_as_they_were(nlpaug):
    before, numbers = random.getstate(), np.random.get_state()
    made("KeyboardAug")
    assert random.getstate() == before
    assert (np.random.get_state()[1] == numbers[1]).all()


@pytest.mark.parametrize("name", ["RandomWordAug", "SplitAug"])
def test_the_share_is_that_of_the_words(nlpaug, name):
    def changed(share):
        return np.mean(
            [abs(len(made(name, share, (k, 0, 0, 0)).split()) - len(TEXT.split())) for k in range(30)]
        )

    assert made(name, 0.0) == TEXT
    assert 0 < changed(0.1) < changed(0.5)


def test_other_processes_do_the_same(nlpaug):
    code = f"""
import sys; sys.path[:] = {sys.path!r}
from augment.bridges import nlpaug as bridge
for name in {OFFLINE!r}:
    print(bridge.find("nlpaug." + name, name, {OPTIONS!r}.get(name, {{}})).text({TEXT!r}, 0.4, (1, 2, 3, 4)))
"""
    runs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
            check=True, capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]


def test_errors(nlpaug):
    with pytest.raises(ValueError, match=r"did you mean nlpaug\.KeyboardAug"):
        bridge.find("nlpaug.KeybordAug", "KeybordAug", {})
    with pytest.raises(ValueError, match="does not work with"):
        bridge.find("nlpaug.OcrAug", "OcrAug", {"colour": 1})
    with pytest.raises(ValueError, match="is what the magnitude says"):
        bridge.find("nlpaug.SplitAug", "SplitAug", {"aug_p": 0.1})


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    for name in ("nlpaug", "nlpaug.augmenter"):
        monkeypatch.setitem(sys.modules, name, None)
    bridge._made.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'gristmill\[text\]'"):
        bridge.find("nlpaug.OcrAug", "OcrAug", {})
    bridge._made.cache_clear()


def test_inside_a_policy_rows_do_not_depend_on_each_other() -> None:
    pytest.importorskip("nlpaug")
    choice = {"op": "nlpaug.KeyboardAug", "magnitude": [0.3, 1], "options": {"aug_char_max": 5}}
    policy = Policy.model_validate({"subpolicies": [[choice], [{"op": "RandomSwap", "magnitude": 0.3}]]})
    texts = [f"the quick brown fox number {i} jumps over the lazy dog" for i in range(20)]
    whole = policy.apply_texts(texts, range(20), seed=3).to_pylist()
    assert whole != texts
    assert policy.apply_texts(texts[7:9], [7, 8], seed=3).to_pylist() == whole[7:9]
    assert (
        Policy.model_validate_json(policy.model_dump_json()).apply_texts(texts, range(20), seed=3).to_pylist()
        == whole
    )
    with pytest.raises(ValueError, match="apply_texts"):
        policy.apply(np.zeros((1, 4, 4, 3), np.uint8), [1])


SAVE = Protect(words=("$ 5", "the film", "C ++"))
PIECES = st.sampled_from(
    [
        "good",
        "film",
        "it",
        "not",
        "isn't",
        "Paris",
        "New York",
        "42",
        "$ 5",
        "The film",
        "C ++",
        "我不喜欢",
        "三百",
        "a@b.org",
    ]
)


def policy_of(name, magnitude=1.0, **options):
    return Policy(
        subpolicies=[
            [{"op": f"nlpaug.{name}", "magnitude": magnitude, "options": OPTIONS.get(name, {}) | options}]
        ]
    )


@pytest.mark.parametrize("name", OFFLINE)
@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.tuples(PIECES, st.sampled_from([" ", "  ", ", ", ". ", "\n"])), max_size=12).map(
            lambda pieces: "".join(word + gap for word, gap in pieces)
        ),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 9),
)
def test_what_is_protected_never_reaches_it(name, texts, seed):
    pytest.importorskip("nlpaug")
    made = apply_texts(policy_of(name), texts, range(len(texts)), seed=seed, protect=SAVE).to_pylist()
    for before, after in zip(texts, made, strict=True):
        at = 0
        for phrase in re.findall(r"New York|\$ 5|[Tt]he film|C \+\+", before):
            assert phrase in after
        for token in split([before], protect=SAVE)[0]:
            if token.protected:
                at = after.find(token.text, at)
                assert at >= 0, (token.text, after)
                at += len(token.text)


def test_the_share_stays_that_of_all_words_where_a_text_is_cut(nlpaug):
    text = "good film is on now 42 this is a very fine one 43 they like it so much"  # 18 words

    def lengths(magnitude):
        policy = policy_of("RandomWordAug", magnitude, action="delete")
        return {len(made.split()) for made in apply_texts(policy, [text] * 100, range(100)).to_pylist()}

    assert lengths(0.02) == lengths(0.2) == {17}
    # A stretch of which every word is drawn would become empty: it stays.
    assert min(lengths(1.0)) == 9


def test_what_it_leaves_alone_keeps_its_bytes(nlpaug):
    raw = [b"it is \xff\xfe good", b"42 \xc3 it", b"\xff", b""]
    column = pa.array(raw, pa.binary()).view(pa.string())
    policy = policy_of("ReservedAug")
    assert apply_texts(policy, column, range(4)).view(pa.binary()).to_pylist() == raw
