"""Exact Jaccard of two sets, against Python's sets."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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
