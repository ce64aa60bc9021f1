"""Who goes, against a brute-force walk; families."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup import phash, select
from dedup.cluster import components
from dedup.image import _stretches
from dedup.sketch import list_addresses
from dedup.verify import jaccard


def walk(
    sets: list[set[int]], keys: npt.NDArray[np.uint64], threshold: float
) -> tuple[list[int], list[int], list[float]]:
    """The definition, word by word: rows are in keep order, keys are (bands, rows)."""
    kept: list[int] = []
    dropped, twins, exact = [], [], []
    for row, own in enumerate(sets):
        for other in kept:
            union = len(own | sets[other])
            if not own or not sets[other] or not (keys[:, row] == keys[:, other]).any():
                continue
            similarity = len(own & sets[other]) / union
            if similarity >= threshold:
                dropped.append(row)
                twins.append(other)
                exact.append(similarity)
                break
        else:
            kept.append(row)
    return dropped, twins, exact


def select_sets(sets: list[set[int]], keys: npt.NDArray[np.uint64], threshold: float) -> select.Selection:
    column = pa.chunked_array([pa.array([sorted(s) for s in sets], pa.large_list(pa.uint32()))])
    places, sizes = list_addresses(column)
    shared = select.buckets(iter(keys), len(keys), sizes > 0)
    return select.sets(shared, places, sizes, threshold)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 9), max_size=7), max_size=14),
    st.integers(1, 3),
    st.sampled_from([0.2, 0.5, 2 / 3, 0.8, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_the_walk_is_the_definition(sets: list[set[int]], bands: int, threshold: float, seed: int) -> None:
    keys = np.random.default_rng(seed).integers(0, 3, (bands, len(sets))).astype(np.uint64)
    chosen = select_sets(sets, keys, threshold)
    found = chosen.dropped.tolist(), chosen.twin.tolist(), chosen.exact.tolist()
    assert found == walk(sets, keys, threshold)


def test_large_sets_whose_overlap_is_exactly_at_the_threshold() -> None:
    # 800 of 1000: the early exit must not cut off what lies right at the threshold.
    sets = [set(range(900)), set(range(100, 1000)), set(range(101, 1001))]
    keys = np.zeros((1, 3), np.uint64)
    chosen = select_sets(sets, keys, 0.8)
    assert (chosen.dropped.tolist(), chosen.twin.tolist(), chosen.exact.tolist()) == ([1], [0], [0.8])


def test_a_bucket_of_one_row_is_no_bucket() -> None:
    places = select.buckets(iter([np.array([5, 6, 7, 5], np.uint64)]), 1, np.array([True, True, True, True]))
    assert places.numbers.ravel().tolist() == [0, -1, -1, 0]
    assert places.count == 1


def test_a_row_that_is_not_eligible_shares_no_bucket() -> None:
    places = select.buckets(iter([np.array([5, 5, 5], np.uint64)]), 1, np.array([True, False, True]))
    assert places.numbers.ravel().tolist() == [0, -1, 0]


# ---------------------------------------------------------------- exact similarity


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


# ---------------------------------------------------------------- images: banding


@pytest.mark.parametrize("radius", [0, 1, 3, 8, 15, 31])
def test_the_stretches_find_every_pair_within_the_radius(radius: int) -> None:
    rng = np.random.default_rng(radius)
    base = rng.integers(0, 2**64, 60, dtype=np.uint64)
    near = base.copy()
    for row in range(60):
        for bit in rng.permutation(64)[: rng.integers(0, radius + 1)]:
            near[row] ^= np.uint64(1) << np.uint64(bit)
    hashes = np.concatenate([base, near, rng.integers(0, 2**64, 60, dtype=np.uint64)])
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    shares = np.zeros(apart.shape, np.bool_)
    stretches = list(_stretches(hashes, radius + 1))
    assert len(stretches) == radius + 1
    for stretch in stretches:
        shares |= stretch[:, None] == stretch[None, :]
    assert shares[apart <= radius].all()


@pytest.mark.parametrize("radius", [0, 4, 8])
def test_the_walk_is_the_brute_force_one(radius: int) -> None:
    """All thumbnails alike: only the distance decides, over all pairs."""
    rng = np.random.default_rng(20 + radius)
    hashes = rng.integers(0, 2**64, 40, dtype=np.uint64)
    hashes = np.concatenate([hashes] * 8)
    for row in range(len(hashes)):
        for bit in rng.permutation(64)[: rng.integers(0, 2 + radius)]:
            hashes[row] ^= np.uint64(1) << np.uint64(bit)
    kept: list[int] = []
    wanted = []
    for row, own in enumerate(hashes.tolist()):
        twin = next((other for other in kept if (own ^ int(hashes[other])).bit_count() <= radius), None)
        if twin is None:
            kept.append(row)
        else:
            wanted.append((row, twin))
    thumbnail = np.arange(phash.BYTES, dtype=np.uint8)
    places = np.full(len(hashes), thumbnail.ctypes.data, np.uint64)
    bands = radius + 1
    shared = select.buckets(_stretches(hashes, bands), bands, np.ones(len(hashes), np.bool_))
    chosen = select.images(shared, hashes, radius, places, 1.0)
    assert list(zip(chosen.dropped.tolist(), chosen.twin.tolist(), strict=True)) == wanted
    assert wanted


# ---------------------------------------------------------------- families


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 30), st.data())
def test_components(count: int, data: st.DataObject) -> None:
    node = st.integers(0, count - 1)
    edges = data.draw(st.lists(st.tuples(node, node), max_size=40))
    names = list(range(count))
    for _ in names:  # the plainest way: let the lesser name win along each edge until nothing changes
        for u, v in edges:
            names[u] = names[v] = min(names[u], names[v])
    left, right = (np.array([edge[side] for edge in edges], np.int64) for side in (0, 1))
    assert components(left, right, count).tolist() == names


def test_a_chain_of_a_million_edges() -> None:
    order = np.random.default_rng(2).permutation(1_000_000)
    assert components(order[:-1], order[1:], 1_000_000).max() == 0


@pytest.mark.parametrize("edge", [(0, 3), (-1, 0)])
def test_an_edge_to_nowhere_is_refused(edge: tuple[int, int]) -> None:
    with pytest.raises(IndexError, match="outside of 0 to 2"):
        components(np.array([edge[0]]), np.array([edge[1]]), 3)
