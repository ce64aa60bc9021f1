from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.loader.order import make_order, permutation
from pipeline.loader.share import Share

GROUPS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5000)), max_size=12)


def rows_of(order) -> list[int]:
    return [row for w in range(len(order.starts) - 1) for row in order.rows(w).tolist()]


@given(
    groups=GROUPS,
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 50),
    shuffle=st.sampled_from(["window", "full", "none"]),
    window=st.integers(1, 20000),
    spread=st.integers(1, 4),
)
def test_every_row_comes_once(groups, seed, epoch, shuffle, window, spread) -> None:  # noqa: PLR0917
    counts = np.array([count for count, _ in groups], np.int64)
    sizes = np.array([count * size for count, size in groups], np.int64)
    order = make_order(counts, sizes, seed, epoch, shuffle=shuffle, window=window, spread=spread)
    assert sorted(rows_of(order)) == list(range(counts.sum()))
    assert len(order) == counts.sum()
    assert [len(order.rows(w)) for w in range(len(order.starts) - 1)] == np.diff(order.starts).tolist()


def test_the_order_never_changes() -> None:
    # Frozen: a change of these numbers changes every stream that was ever trained on.
    assert permutation(10, "rows", 1, 2, 3).tolist() == FROZEN_PERMUTATION
    order = make_order(np.array([3, 2, 4]), np.array([30, 20, 40]), 7, 1, shuffle="window", window=60, spread=2)
    assert rows_of(order) == FROZEN_WINDOWS


FROZEN_PERMUTATION = [1, 3, 5, 2, 9, 4, 8, 6, 0, 7]
FROZEN_WINDOWS = [7, 6, 8, 2, 5, 0, 1, 4, 3]


def test_a_window_keeps_to_its_bytes() -> None:
    counts, sizes = np.full(50, 10), np.full(50, 100)
    order = make_order(counts, sizes, 0, 0, shuffle="window", window=450)
    assert set(np.diff(order.starts).tolist()) == {40, 20}  # four groups of 100 bytes, at the end what is left
    spread = make_order(counts, sizes, 0, 0, shuffle="window", window=450, spread=5)
    assert np.diff(spread.starts).max() == 44  # 22 slices of 20 bytes, two rows each
    first = spread.rows(0) // 10
    assert len(set(first.tolist())) > 10  # so many row groups meet in one window


def test_epochs_and_seeds_differ() -> None:
    counts, sizes = np.full(20, 10), np.full(20, 100)
    seen = [
        tuple(rows_of(make_order(counts, sizes, seed, epoch, shuffle=shuffle, window=400)))
        for seed in range(3)
        for epoch in range(3)
        for shuffle in ("window", "full")
    ]
    assert len(set(seen)) == len(seen)


def test_permutations_are_uniform() -> None:
    """All 24 orders of four things come equally often: chi squared with 23 degrees of freedom."""
    times = 4800
    counts: dict[tuple[int, ...], int] = {}
    for key in range(times):
        found = tuple(permutation(4, "test", key).tolist())
        counts[found] = counts.get(found, 0) + 1
    assert len(counts) == math.factorial(4)
    expected = times / 24
    assert (
        sum((n - expected) ** 2 / expected for n in counts.values()) < 49.7
    )  # 1 in 1,000 by chance; the keys are fixed


SPANS = st.lists(st.integers(0, 40), min_size=1, max_size=8).map(
    lambda edges: tuple(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)


@given(
    spans=SPANS,
    batch=st.integers(1, 9),
    world=st.integers(1, 5),
    by=st.sampled_from(["batch", "stretch"]),
    last=st.sampled_from(["keep", "drop", "pad"]),
)
def test_ranks_share_all_positions(spans, batch, world, by, last) -> None:
    wanted = [p for start, stop in spans for p in range(start, stop)]
    shares = [Share(spans, batch, rank, world, by, last) for rank in range(world)]
    taken, repeats = [], 0
    for share in shares:
        for k in range(len(share)):
            positions, repeated = share.positions(k)
            taken += positions[~repeated].tolist()
            repeats += int(repeated.sum())
            assert set(positions[repeated].tolist()) <= set(wanted)
            assert last == "keep" or len(positions) == batch
    lengths = {len(share) for share in shares}
    if last == "drop":
        assert len(taken) == len(set(taken))
        assert set(taken) <= set(wanted)
        assert len(wanted) - len(taken) < world * (batch + 1)
    else:
        assert sorted(taken) == sorted(wanted)
    assert len(lengths) == 1 or (last == "keep" and max(lengths) - min(lengths) == 1)
    assert last == "pad" or repeats == 0


@given(
    spans=SPANS,
    batch=st.integers(1, 9),
    world=st.integers(1, 5),
    by=st.sampled_from(["batch", "stretch"]),
    step=st.integers(0, 6),
)
def test_what_is_left_after_some_steps(spans, batch, world, by, step) -> None:
    shares = [Share(spans, batch, rank, world, by) for rank in range(world)]
    taken = [
        p for share in shares for k in range(min(step, len(share))) for p in share.positions(k)[0].tolist()
    ]
    left = [p for start, stop in shares[0].left(step) for p in range(start, stop)]
    assert sorted(taken + left) == [p for start, stop in spans for p in range(start, stop)]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_by_batch_are_one_process_with_larger_batches(world) -> None:
    one = Share(((0, 37),), 8)
    shares = [Share(((0, 37),), 8 // world, rank, world) for rank in range(world)]
    for step in range(len(one)):
        together = [p for share in shares if step < len(share) for p in share.positions(step)[0].tolist()]
        assert together == one.positions(step)[0].tolist()
