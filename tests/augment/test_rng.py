from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment import rng

FROZEN_BITS = [
    [3412319116, 1344809549, 4122074363, 2331852040],
    [3129041249, 520289044, 658134145, 2116998781],
    [535827038, 2204960372, 1691566748, 2666698297],
]
FROZEN_UNIFORMS = [
    [0.048642116980675776, 0.28126534154736305],
    [0.8856134510392422, 0.7399547439000078],
    [0.3408046051767655, 0.33033892112502516],
]
HEX = "0123456789abcdef"
IDS = st.lists(st.text(HEX, min_size=32, max_size=32), min_size=1, max_size=9)


def words(text: str) -> np.ndarray:
    return np.array([[int(word, 16) for word in text.split()]], np.uint32)


# The known answers that Random123 (the authors' library) publishes for philox4x32-10.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_answers(counter: str, key: str, expected: str) -> None:
    assert np.array_equal(rng.philox4x32(words(counter), words(key)[0]), words(expected))


def test_a_key_per_counter_equals_one_key() -> None:
    counters = np.arange(12, dtype=np.uint32).reshape(3, 4)
    keys = np.array([[1, 2], [3, 4], [5, 6]], np.uint32)
    together = rng.philox4x32(counters, keys)
    alone = [rng.philox4x32(counters[i : i + 1], keys[i])[0] for i in range(3)]
    assert np.array_equal(together, alone)


def test_frozen_draws() -> None:
    # Copies made by an earlier release can be made again only while these numbers stand.
    ids = ["00000000000000000000000000000000", "000102030405060708090a0b0c0d0e0f", "f" * 32]
    assert rng.Stream(ids, seed=0, epoch=0).bits([0])[:, 0].tolist() == FROZEN_BITS
    assert rng.Stream(ids, seed=2**63 + 5, epoch=7).uniforms([3, 64]).tolist() == FROZEN_UNIFORMS


@given(ids=IDS, seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), data=st.data())
def test_any_cutting_and_order_gives_the_same(
    ids: list[str], seed: int, epoch: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(ids))))
    cut = data.draw(st.integers(0, len(ids)))
    whole = rng.Stream(ids, seed, epoch).uniforms([0, 5, 2])
    parts = [rng.Stream(ids[i:j], seed, epoch).uniforms([0, 5, 2]) for i, j in ((0, cut), (cut, None))]
    assert np.array_equal(np.concatenate(parts), whole)
    shuffled = rng.Stream([ids[i] for i in order], seed, epoch).uniforms([5])
    assert np.array_equal(shuffled[:, 0], whole[order, 1])


def test_every_argument_matters() -> None:
    base = rng.uniform([5], seed=1, epoch=1, index=1)
    others = [
        rng.uniform([6], 1, 1, 1),
        rng.uniform([5], 2, 1, 1),
        rng.uniform([5], 1 + 2**32, 1, 1),
        rng.uniform([5], 1, 2, 1),
        rng.uniform([5], 1, 1, 0),
        rng.uniform([5], 1, 1, 2),
        rng.uniform(["00000000000000010000000000000005"], 1, 1, 1),
    ]
    assert len({float(v[0]) for v in [base, *others]}) == 8


def test_uniforms_are_uniform() -> None:
    # Chi-square over 64 cells; 140 is beyond the 99.9999 % point of 63 degrees of freedom.
    for values in (
        rng.uniform(range(50_000), seed=3, epoch=0, index=0),
        rng.Stream([9], seed=3, epoch=0).uniforms(range(50_000))[0],
        np.concatenate([rng.uniform([1], 3, epoch, 0) for epoch in range(2_000)]),
    ):
        assert values.min() >= 0
        assert values.max() < 1
        counts = np.bincount((values * 64).astype(int), minlength=64)
        expected = len(values) / 64
        assert float(((counts - expected) ** 2 / expected).sum()) < 140


def test_neighbouring_draws_do_not_correlate() -> None:
    values = rng.Stream(range(20_000), seed=0, epoch=0).uniforms(range(6))
    correlation = np.corrcoef(values.T) - np.eye(6)
    assert np.abs(correlation).max() < 0.05


def test_integers() -> None:
    drawn = rng.integers(range(10_000), seed=0, epoch=0, index=0, high=5)
    assert set(drawn.tolist()) == {0, 1, 2, 3, 4}
    with pytest.raises(ValueError, match="high"):
        rng.integers([1], 0, 0, 0, high=0)


def test_ids_in_all_their_forms() -> None:
    text = ["0000000000000001000000000000000a", "f" * 32]
    pairs = rng.halves(text)
    assert pairs.tolist() == [[1, 10], [2**64 - 1, 2**64 - 1]]
    assert np.array_equal(rng.halves(pa.array(text)), pairs)
    assert np.array_equal(rng.halves(pa.chunked_array([text[:1], text[1:]])), pairs)
    assert np.array_equal(rng.halves(np.array(text)), pairs)
    assert rng.halves(pairs) is pairs
    assert rng.halves(np.array([3, 4])).tolist() == [[0, 3], [0, 4]]
    assert rng.halves(range(2)).tolist() == [[0, 0], [0, 1]]
    assert rng.halves([]).shape == (0, 2)


@pytest.mark.parametrize(
    "ids",
    [
        ["abc"],
        ["g" * 32],
        ["ab " * 10 + "ab"],
        [-1],
        [2**64],
        [1.5],
        ["f" * 32, 1],
        np.zeros((2, 3), np.uint64),
    ],
)
def test_bad_ids(ids: object) -> None:
    with pytest.raises(ValueError, match="id"):
        rng.halves(ids)


@pytest.mark.parametrize("ids", [7, None, "f" * 32])
def test_ids_of_no_kind(ids: object) -> None:
    with pytest.raises(TypeError, match="ids of type"):
        rng.halves(ids)


@pytest.mark.parametrize(
    ("seed", "epoch", "index"), [(-1, 0, 0), (2**64, 0, 0), (0, -1, 0), (0, 2**32, 0), (0, 0, -1)]
)
def test_arguments_out_of_range(seed: int, epoch: int, index: int) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        rng.uniform([1], seed, epoch, index)
