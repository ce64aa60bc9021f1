"""The exact join by postings, against all pairs of Python sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.text import postings

BORDERS = (0.01, 0.1, 1 / 3, 0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9, 1.0)


def laid_out(sets):
    """Lay the sets out in memory: the hashes (to be kept alive), their addresses and sizes."""
    hashes = np.array([value for each in sets for value in sorted(each)], np.uint32)
    sizes = np.array([len(each) for each in sets], np.int64)
    starts = np.uint64(hashes.ctypes.data) + 4 * (np.cumsum(sizes) - sizes).astype(np.uint64)
    return hashes, starts, sizes


@st.composite
def cases(draw):
    """Different sets of a few families, some hashes in nearly all of them, and in which piece each is."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds, largest = draw(st.sampled_from([2, 20, 300])), draw(st.sampled_from([1, 3, 12, 60]))
    vocabulary = rng.integers(0, 2**32, kinds) if draw(st.booleans()) else np.arange(kinds)
    found: list[set[int]] = []
    for _ in range(draw(st.integers(0, 40))):
        count = int(rng.integers(1, largest + 1))
        near = set(found[rng.integers(len(found))]) if found and rng.random() < 0.6 else set()
        near = {value for value in near if rng.random() > 0.1}
        found.append(near | set(vocabulary[(rng.random(count) ** 3 * kinds).astype(int)].tolist()))
    sets = list(dict.fromkeys(map(frozenset, found)))
    return sets, rng.integers(0, draw(st.integers(1, 4)), len(sets))


def candidates(sets, piece_of, threshold, counters, heaps):
    """As many workers find them: pieces by pieces, heaps by heaps."""
    _alive, places, sizes = laid_out(sets)
    counts = counters.copy()
    pieces = [np.flatnonzero(piece_of == number) for number in np.unique(piece_of)]
    for mine in pieces:
        some = counters.copy()
        postings.tallied(places[mine], sizes[mine], some)
        postings.joined(counts, some)
    posted = [postings.postings(places[mine], sizes[mine], mine, counts, threshold) for mine in pieces]
    found = []
    for heap in range(heaps):
        batches = [each.filter(each.column("token").to_numpy() % heaps == heap) for each in posted]
        found += zip(*(side.tolist() for side in postings.paired(batches, threshold)), strict=True)
    return found


@given(
    case=cases(),
    threshold=st.one_of(st.sampled_from(BORDERS), st.floats(0.001, 1.0)),
    heaps=st.integers(1, 3),
    few=st.booleans(),
)
@settings(max_examples=60, deadline=None)
@example(case=([], np.empty(0, np.int64)), threshold=0.5, heaps=2, few=False)
@example(
    case=([frozenset({0, 9}), frozenset({0}), frozenset({9})], np.arange(3)), threshold=0.5, heaps=2, few=True
)
def test_every_similar_pair_is_a_candidate(case, threshold, heaps, few):
    sets, piece_of = case
    table = np.zeros(1 << 4, np.uint16) if few else postings.counters(sum(map(len, sets)))
    found = candidates(sets, piece_of, threshold, table, heaps)
    pairs = itertools.combinations(range(len(sets)), 2)
    wanted = {(i, j) for i, j in pairs if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= threshold}
    assert wanted <= set(found)
    assert all(i < j and sets[i] & sets[j] for i, j in found)
    assert heaps > 1 or len(found) == len(set(found))


def test_few_pairs_are_candidates_that_are_not_similar():
    rng = np.random.default_rng(1)
    sets = [frozenset(rng.integers(0, 500_000, 80).tolist()) for _ in range(400)]
    sets += [frozenset([*sorted(each)[:-4], *rng.integers(500_000, 900_000, 4)]) for each in sets[:100]]
    found = candidates(sets, rng.integers(0, 3, len(sets)), 0.8, postings.counters(40_000), 1)
    similar = [pair for pair in found if len(sets[pair[0]] & sets[pair[1]]) >= 0.8 * 84]
    assert 100 <= len(similar) <= len(found) < 3 * len(similar)


def test_more_pairs_than_there_is_room_for_at_once(monkeypatch):
    monkeypatch.setattr(postings, "_ROOM", 2)
    sets = [frozenset([1, 2, 3, 4, 100 + n]) for n in range(20)]
    found = candidates(sets, np.arange(20) % 3, 0.5, postings.counters(100), 1)
    assert found == list(itertools.combinations(range(20), 2))


def test_the_first_of_equal_sets_speaks_for_them():
    _alive, places, sizes = laid_out([{1, 2}, {3}, {2, 1}, set(), {3}, {4}])
    assert postings.equals(places, sizes).tolist() == [0, 1, 0, -1, 1, 5]


@pytest.mark.parametrize("counts", [(1, 2, 3), (65_535, 5, 65_535), (65_000, 65_000, 65_535)])
def test_a_counter_that_is_full_stays_full(counts):
    one, other, both = (np.array([count], np.uint16) for count in counts)
    postings.joined(one, other)
    assert one == both
