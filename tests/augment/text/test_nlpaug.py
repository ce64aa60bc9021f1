"""nlpaug's augmenters as ops."""

# ruff: noqa: NPY002  the global generator is what it draws from

from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from augment.bridges import nlpaug as bridge

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
    from augment import Policy

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
