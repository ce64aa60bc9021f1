"""All pairs of hashes within a radius, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.image import near
from dedup.image.near import Codes


def brute(one: Codes, other: Codes, radius: int) -> list[tuple[int, int]]:
    apart = np.bitwise_count(one.codes[:, None] ^ other.codes[None, :])
    i, j = np.nonzero(apart <= radius)
    pairs = zip(one.rows[i].tolist(), other.rows[j].tolist(), strict=True)
    return sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})


def family(rng: np.random.Generator, radius: int, count: int = 60) -> np.ndarray:
    base = rng.integers(0, 2**64, count, dtype=np.uint64)
    copies = base.copy()
    for row in range(count):
        for bit in rng.permutation(64)[: rng.integers(0, radius + 2)]:
            copies[row] ^= np.uint64(1) << np.uint64(bit)
    return np.concatenate([base, copies, base[:5]])


@pytest.mark.parametrize("together", [1, 2, 3])
@pytest.mark.parametrize("radius", [0, 1, 3, 8, 15])
def test_every_pair_within_the_radius_once(radius: int, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "plan", lambda *_: near._cut(radius, together))
    codes = family(np.random.default_rng(radius), radius)
    several = Codes(codes, np.arange(len(codes)) // 2)  # two hashes a row
    single = Codes(codes[::3].copy(), np.arange(len(codes[::3])))
    for one, other in ((several, several), (single, several), (several, single)):
        left, right = near.near(one, other, radius, threads=2)
        assert list(zip(left.tolist(), right.tolist(), strict=True)) == brute(one, other, radius)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 31))
def test_any_hashes(numbers: list[int], radius: int) -> None:
    codes = np.array(numbers + [number ^ 5 for number in numbers], np.uint64)
    both = Codes(codes, np.arange(len(codes)))
    left, right = near.near(both, both, radius)
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == brute(both, both, radius)


def test_the_cut_covers_all_bits_and_a_key_stays_small() -> None:
    for radius in range(32):
        for count in (1, 1_000, 1_000_000, 100_000_000):
            cut = near.plan(radius, count, count)
            assert len(cut.lows) == radius + cut.together
            assert cut.widths.sum() == 64
            assert (np.cumsum(cut.widths)[:-1] == cut.lows[1:]).all()
            assert all(bits <= 22 for _, bits in cut.choices())
