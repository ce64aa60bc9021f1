"""Candidate pairs, against all pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.pairs import Candidates, banded, renumbered, touched
from dedup.sketch import addresses, near


def of(keys: npt.NDArray[np.uint64], **more: object) -> Candidates:
    """Candidates of a key matrix (bands, rows); a key of 0 is none."""

    def column(band: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        rows = np.flatnonzero(keys[band])
        return keys[band][rows], rows

    return banded(column, len(keys), keys.shape[1], **more)  # type: ignore[arg-type]


def pairs(found: Candidates) -> list[tuple[int, int]]:
    listed = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert len(set(listed)) == len(listed), "a pair comes twice"
    return sorted(listed)


def brute(
    keys: npt.NDArray[np.uint64], most: int, fresh: npt.NDArray[np.bool_] | None = None
) -> list[tuple[int, int]]:
    wanted = set()
    for band in keys:
        for key in set(band.tolist()) - {0}:
            members = np.flatnonzero(band == key).tolist()
            wanted |= {(i, j) for i, j in combinations(members, 2) if members.index(i) < most}
    return sorted(pair for pair in wanted if fresh is None or fresh[list(pair)].any())


MATRICES = st.tuples(st.integers(1, 4), st.integers(0, 20), st.integers(2, 5), st.integers(0, 2**32 - 1))


@settings(max_examples=200, deadline=None)
@given(MATRICES, st.sampled_from([1, 2, 3, 32]), st.sampled_from([1, 2]))
def test_the_candidates_are_those_of_the_definition(
    shape: tuple[int, int, int, int], most: int, threads: int
) -> None:
    bands, rows, values, seed = shape
    keys = np.random.default_rng(seed).integers(0, values, (bands, rows)).astype(np.uint64)
    found = of(keys, most=most, threads=threads)
    assert pairs(found) == brute(keys, most)
    sizes = [np.count_nonzero(band == key) for band in keys for key in range(1, values)]
    assert found.largest == max((size for size in sizes if size > 1), default=0)


@settings(max_examples=100, deadline=None)
@given(MATRICES, st.integers(0, 2**20 - 1), st.sampled_from([1, 32]))
def test_with_new_rows_only_pairs_that_have_one(shape: tuple[int, int, int, int], bits: int, most: int) -> None:
    bands, rows, values, seed = shape
    keys = np.random.default_rng(seed).integers(0, values, (bands, rows)).astype(np.uint64)
    fresh = np.array([bits >> row & 1 for row in range(rows)], np.bool_)
    assert pairs(of(keys, fresh=fresh, most=most)) == brute(keys, most, fresh)


def test_a_bucket_of_a_million_rows_stays_linear() -> None:
    keys = np.ones((3, 1_000_000), np.uint64)
    found = of(keys, most=4)
    assert len(found.left) == 4 * 1_000_000 - (1 + 2 + 3 + 4)
    assert set(found.left.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("new", [0, 1, 50])
def test_touched_finds_the_rows_that_share_a_bucket(new: int) -> None:
    rng = np.random.default_rng(new)
    keys = rng.integers(0, 2**64, (4, 20_000), dtype=np.uint64)
    fresh = np.zeros(20_000, np.bool_)
    fresh[rng.permutation(20_000)[:new]] = True
    for row in np.flatnonzero(fresh).tolist():
        for other in rng.permutation(20_000)[:5].tolist():
            keys[rng.integers(0, 4), other] = keys[rng.integers(0, 4), row]
    keys[0, fresh] = keys[0, 0]
    everyone = np.arange(20_000)
    found = touched(lambda band: (keys[band], everyone), 4, fresh)
    shares = fresh.copy()
    for band in keys:
        shares |= np.isin(band, band[fresh])
    assert (shares == found).all()


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([1, 3, 40, 2000]))
def test_pairs_are_renumbered_without_gaps(data: st.DataObject, count: int) -> None:
    """Few pairs among many rows, and many among few, are numbered in different ways."""
    row = st.integers(0, count - 1)
    listed = data.draw(st.lists(st.tuples(row, row), max_size=60))
    left, right = (np.array([pair[side] for pair in listed], np.int32) for side in (0, 1))
    used, x, y = renumbered(left, right, count)
    assert used.tolist() == sorted({row for pair in listed for row in pair})
    assert used[x].tolist() == left.tolist()
    assert used[y].tolist() == right.tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=9), max_size=9), max_size=4), st.randoms(use_true_random=False))
def test_values_are_copied_whatever_the_order_they_are_asked_for(
    chunks: list[list[bytes]], rng: np.random.Generator
) -> None:
    column = pa.chunked_array(chunks, pa.large_binary())
    places, sizes = addresses(column)
    order = np.array(rng.sample(range(len(column)), len(column)), np.int64)  # type: ignore[attr-defined]
    found, held = near(places[order], sizes[order])
    starts = (found - np.uint64(held.ctypes.data)).astype(np.int64)
    copied = [held[start : start + size].tobytes() for start, size in zip(starts, sizes[order], strict=True)]
    assert copied == [column[int(row)].as_py() for row in order]
    assert held.size == sizes.sum()
