"""Signatures, element for element, against datasketch's `affine32`."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from datasketch import MinHash as Datasketch
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup import signatures
from dedup.text.bands import choose, keys, probability
from dedup.text.shingle import SPEC, shingle_sets
from dedup.text.signatures import estimate, permutations, sketches, to_datasketch
from lake.errors import SchemaError

NONE = 2**32 - 1


def oracle(hashes: list[int], num_perm: int, seed: int) -> npt.NDArray[np.uint32]:
    minhash = Datasketch(num_perm=num_perm, seed=seed, scheme="affine32", hashfunc=lambda value: value)
    minhash.update_batch(hashes)
    return np.asarray(minhash.hashvalues)


def texts(count: int, longest: int, seed: int) -> list[str | None]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, longest, count)
    found: list[str | None] = [" ".join(f"w{i}é" for i in rng.integers(0, 500, n).tolist()) for n in sizes]
    return [*found, None, "", "漢字かな交じり文を切る" * 3, "short"]


@pytest.mark.parametrize(
    ("num_perm", "seed", "ngram", "unit"),
    [
        (128, 1, 5, "word"),
        (256, 7, 3, "word"),
        (1, 0, 1, "word"),
        (17, 2**32 - 1, 4, "char"),
        (64, 42, 13, "char"),
    ],
)
def test_signatures_are_those_of_datasketch(num_perm: int, seed: int, ngram: int, unit: str) -> None:
    # Documents on either side of a chunk of the kernel, and numbers of permutations that fill no register.
    column = pa.array([*texts(12, 700, seed=num_perm), " ".join(str(i) for i in range(1100))])
    found = signatures(column, num_perm, seed, ngram, unit)
    assert found.dtype == np.uint32
    assert found.shape == (len(column), num_perm)
    offsets, hashes = shingle_sets(column, ngram, unit)
    for row, (low, high) in enumerate(pairwise(offsets)):
        assert found[row].tolist() == oracle(hashes[low:high].tolist(), num_perm, seed).tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("ab cdé漢 ", max_size=80), max_size=5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_text(column: list[str], num_perm: int, seed: int) -> None:
    array = pa.array(column, pa.string())
    offsets, hashes = shingle_sets(array, 2)
    wanted = [oracle(hashes[low:high].tolist(), num_perm, seed).tolist() for low, high in pairwise(offsets)]
    assert signatures(array, num_perm, seed, 2).tolist() == wanted
    signed, ends, sets = sketches(array, num_perm, seed, 2)
    assert signed.tolist() == wanted
    assert (ends.tolist(), sets.tolist()) == (offsets.tolist(), hashes.tolist())


@pytest.mark.parametrize("num_perm", [1, 2, 31, 32, 33, 128, 1000])
@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1])
def test_the_permutations_are_those_of_datasketch(num_perm: int, seed: int) -> None:
    theirs = Datasketch(num_perm=num_perm, seed=seed, scheme="affine32").permutations
    for mine, wanted in zip(permutations(num_perm, seed), theirs, strict=True):
        assert mine.dtype == np.uint32
        assert mine.tolist() == wanted.tolist()


def test_a_signature_goes_over_to_datasketch() -> None:
    column = pa.array(["a b c d e f g h", "a b c d e f g i"])
    signed = signatures(column, 256, seed=9, ngram=2)
    _, hashes = shingle_sets(column[:1], 2)
    first, second = (to_datasketch(row, seed=9) for row in signed)
    assert first.jaccard(second) == estimate(signed[0], signed[1])
    union = to_datasketch(signed[1], seed=9)
    union.update_batch(hashes.tolist())
    assert union.hashvalues.tolist() == np.minimum(signed[0], signed[1]).tolist()


def test_a_text_without_a_token_has_the_greatest_value_everywhere() -> None:
    assert (signatures(pa.array([None, "", " ", "?!", "\u0301"])) == NONE).all()
    assert not (signatures(pa.array(["a"])) == NONE).any()


def test_no_rows() -> None:
    assert signatures(pa.array([], pa.string())).shape == (0, 128)
    assert signatures(pa.chunked_array([], pa.large_string()), 16).shape == (0, 16)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("wide", [False, True])
def test_any_number_of_threads_gives_the_same(threads: int, wide: bool) -> None:
    plain = pa.array(texts(200, 60, seed=1), pa.large_string() if wide else pa.string())
    column = pa.chunked_array([plain.slice(0, 1), plain.slice(1, 0), plain.slice(1, 150), plain.slice(151)])
    assert np.array_equal(signatures(column, threads=threads), signatures(column))
    for one, more in zip(sketches(column), sketches(column, threads=threads), strict=True):
        assert np.array_equal(one, more)


def test_threads_with_one_giant_and_with_nothing_but_nulls() -> None:
    giant = pa.array(["a b c d e f g " * 1000, "x", None])
    assert np.array_equal(signatures(giant, threads=4), signatures(giant))
    assert (signatures(pa.nulls(9, pa.string()), threads=4) == NONE).all()


@pytest.mark.parametrize("ngram", [1 << 31, 1 << 62, 1 << 70])
def test_a_shingle_of_more_units_than_any_text_has_is_refused(ngram: int) -> None:
    with pytest.raises(ValueError, match="ngram must be at most 2147483647"):
        signatures(pa.array(["a b"]), ngram=ngram)


@pytest.mark.parametrize("name", ["num_perm", "ngram", "threads"])
def test_settings_that_are_not_positive_are_refused(name: str) -> None:
    settings_: dict[str, int] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be positive, not 0"):
        signatures(pa.array(["a"]), **settings_)  # type: ignore[arg-type]


def test_a_device_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', not 'gpu'"):
        signatures(pa.array(["a"]), device="gpu")  # type: ignore[arg-type]


def test_a_column_without_text_is_refused() -> None:
    with pytest.raises(SchemaError, match="double holds no text"):
        signatures(pa.array([1.5]))


def test_the_frozen_vectors_hold() -> None:
    vectors = json.loads((Path(__file__).parent / "vectors.json").read_text("utf-8"))
    assert vectors["spec"] == SPEC
    num_perm, seed = vectors["num_perm"], vectors["seed"]
    assert len(vectors["cases"]) >= 20
    for case in vectors["cases"]:
        (found,) = signatures(pa.array([case["text"]]), num_perm, seed, case["ngram"], case["unit"])
        assert found.tolist() == case["signature"], case["name"]
        assert oracle(case["shingles"], num_perm, seed).tolist() == case["signature"], case["name"]


def test_the_estimate_is_within_its_standard_error() -> None:
    rng = np.random.default_rng(5)
    common, alone = rng.integers(0, 2**31, 800), rng.integers(2**31, 2**32, 200)
    pair = np.stack([oracle(x.tolist(), 1024, 1) for x in (common, np.concatenate([common, alone]))])
    assert abs(estimate(pair[0], pair[1]) - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 1024)


# ---------------------------------------------------------------- bands


@pytest.mark.parametrize("num_perm", [16, 64, 128, 256])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_the_bands_are_the_longest_that_find_97_percent(threshold: float, num_perm: int) -> None:
    count, rows = choose(threshold, num_perm)
    assert count * rows <= num_perm
    assert 1 - (1 - threshold**rows) ** count >= 0.97
    for longer in range(rows + 1, num_perm + 1):
        assert probability(threshold, num_perm // longer, longer) < 0.97


def test_bands_of_one_where_even_those_miss_the_aim() -> None:
    assert choose(0.001, 8) == (8, 1)


def test_band_keys_are_equal_exactly_where_the_band_is() -> None:
    rng = np.random.default_rng(9)
    signed = rng.integers(0, 3, (400, 12)).astype(np.uint32)
    for band, found in enumerate(keys(signed, 4, 3)):
        same = found[:, None] == found[None, :]
        part = signed[:, 3 * band : 3 * band + 3]
        assert np.array_equal(same, (part[:, None] == part[None, :]).all(axis=2))


def test_the_same_values_in_another_band_have_another_key() -> None:
    signed = np.full((1, 8), 7, np.uint32)
    assert len(np.unique(keys(signed, 2, 4))) == 2


@pytest.mark.parametrize(("bands", "rows"), [(5, 3), (1, 13), (-1, 3), (0, 3), (1, 0)])
def test_bands_that_the_signatures_do_not_have_are_refused(bands: int, rows: int) -> None:
    signed = np.zeros((5, 12), np.uint32)
    assert keys(signed, 4, 3).shape == (4, 5)
    with pytest.raises(ValueError, match=f"a signature of 12 values has no {bands} bands of {rows}"):
        keys(signed, bands, rows)
