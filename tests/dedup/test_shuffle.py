"""The shuffle finds the pairs that one process finds."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup import shuffle
from dedup.pairs import banded
from dedup.shuffle import meet, scatter, split
from dedup.sketch import Piece, band_columns


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(0, 40), st.integers(1, 6)),
    st.sampled_from([1, 2, 32]),
    st.lists(st.integers(0, 40), max_size=3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 7, 1 << 22]),
)
def test_scattered_keys_meet_in_the_pairs_of_one_process(
    shape: tuple[int, int, int], most: int, cuts: list[int], seed: int, at_once: int
) -> None:
    bands, rows, heaps = shape
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 5, (bands, rows)).astype(np.uint64)
    valid = rng.random(rows) < 0.9
    position = rng.permutation(rows).astype(np.int32)

    def column(band: int) -> tuple[np.ndarray, np.ndarray]:
        return keys[band][valid], position[valid].astype(np.int64)

    wanted = banded(column, bands, rows, most=most)
    edges = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    heaped = []
    for low, high in pairwise(edges):
        head = pa.table(band_columns(keys[:, low:high].copy(), valid[low:high]))
        heaped.append(scatter(Piece(head, lambda some: (pa.table({}), some)), position[low:high], bands, heaps))
    found = set()
    for heap in range(heaps):
        with mock.patch.object(shuffle, "_AT_ONCE", at_once):
            left, right = meet([batches[heap] for batches in heaped], most)
        for block in split(left, right, rows, 3):
            found |= set(zip(block.column("left").to_pylist(), block.column("right").to_pylist(), strict=True))
    assert found == set(zip(wanted.left.tolist(), wanted.right.tolist(), strict=True))
