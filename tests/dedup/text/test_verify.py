"""Exact Jaccard of two sets, against Python's sets."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.text._verify_kernels import agreement, verify
from dedup.text.verify import jaccard


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.integers(0, 300), max_size=200),
    st.sets(st.integers(0, 300), max_size=200),
    st.sampled_from([0.0, 0.1, 0.5, 0.8, 1.0]),
)
def test_jaccard(x: set[int], y: set[int], threshold: float) -> None:
    arrays = [np.array(sorted(s), np.uint32) for s in (x, y)]
    true = len(x & y) / len(x | y) if x | y else -1.0
    assert jaccard(*arrays, threshold) == (true if true >= threshold else None)


@given(st.integers(1, 2000), st.integers(1, 2000), st.data())
@settings(max_examples=100, deadline=None)
def test_jaccard_at_its_own_threshold_is_reached(nx: int, ny: int, data: st.DataObject) -> None:
    common = data.draw(st.integers(1, min(nx, ny)))
    x = np.arange(nx, dtype=np.uint32)
    y = np.arange(nx - common, nx - common + ny, dtype=np.uint32)
    true = common / (nx + ny - common)
    assert jaccard(x, y, true) == true
    assert jaccard(x, y, math.nextafter(true, 2.0)) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 30), max_size=20), min_size=1, max_size=8),
    st.one_of(st.sampled_from([0.01, 0.25, 0.5, 0.8, 1.0]), st.floats(0.01, 1.0)),
)
@example([{1, 2, 3, 4}, {1, 2, 3}, {1, 2, 3, 4}, set()], 0.75)  # a subset, exactly at the threshold
@example([{1, 2, 3}, {1, 2, 3}], 1.0)
def test_all_pairs_of_rows_at_their_addresses(sets: list[set[int]], threshold: float) -> None:
    hashes = [np.array(sorted(each), np.uint32) for each in sets]
    places = np.array([each.ctypes.data for each in hashes], np.uint64)
    sizes = np.array([len(each) for each in hashes], np.int64)
    left, right = (side.ravel().astype(np.int32) for side in np.indices((len(sets), len(sets))))
    found = np.empty(len(left))
    verify(left, right, places, sizes, threshold, found)
    for i, j, similarity in zip(left.tolist(), right.tolist(), found.tolist(), strict=True):
        true = len(sets[i] & sets[j]) / max(1, len(sets[i] | sets[j])) or -1.0
        assert similarity == (true if true >= threshold else -1.0)


def test_the_agreement_is_the_share_of_equal_values() -> None:
    signed = np.random.default_rng(1).integers(0, 3, (9, 50)).astype(np.uint32)
    places = np.uint64(signed.ctypes.data) + np.arange(9, dtype=np.uint64) * np.uint64(200)
    left, right = (side.ravel().astype(np.int32) for side in np.indices((9, 9)))
    found = np.empty(81)
    agreement(left, right, places, 50, found)
    assert found.tolist() == (signed[left] == signed[right]).mean(axis=1).tolist()
