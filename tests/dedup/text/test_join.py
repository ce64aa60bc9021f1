"""The exact join, against all pairs of Python sets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup import Jaccard, MinHash
from dedup.select import Edges, first
from dedup.text import _join_kernels as kernels
from dedup.text import join as joining
from dedup.text.join import Pairs, cost, join, twins
from lake.errors import InputError

Triples = list[tuple[int, int, float]]

BORDERS = (0.01, 0.1, 1 / 3, 0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9, 1.0)


def laid_out(sets: Sequence[set[int]]) -> tuple[Any, Any, Any]:
    """Lay the sets out in memory: the hashes (to be kept alive), their addresses and sizes."""
    hashes = np.array([value for each in sets for value in sorted(each)], np.uint32)
    sizes = np.array([len(each) for each in sets], np.int64)
    starts = np.uint64(hashes.ctypes.data) + 4 * (np.cumsum(sizes) - sizes).astype(np.uint64)
    return hashes, starts, sizes


def joined(sets: Sequence[set[int]], threshold: float, **options: Any) -> Triples:
    _alive, addresses, sizes = laid_out(sets)
    found = join(addresses, sizes, threshold, **options)
    return list(zip(found.left.tolist(), found.right.tolist(), found.similarity.tolist(), strict=True))


def brute(sets: Sequence[set[int]], threshold: float) -> Triples:
    first: dict[frozenset[int], int] = {}
    head = [first.setdefault(frozenset(each), row) for row, each in enumerate(sets)]
    out = []
    for i, j in itertools.combinations(range(len(sets)), 2):
        x, y = sets[i], sets[j]
        if not x or not y:
            continue
        if head[j] != j or head[i] != i:
            if head[j] == i:
                out.append((i, j, 1.0))
            continue
        similarity = len(x & y) / len(x | y)
        if similarity >= threshold:
            out.append((i, j, similarity))
    return out


@st.composite
def families(draw: st.DrawFn) -> list[set[int]]:
    """Sets of a few families, over hashes that are skewed: some in nearly all rows, most in few."""
    seed = draw(st.integers(0, 2**32 - 1))
    rows = draw(st.integers(0, 40))
    largest = draw(st.sampled_from([1, 3, 12, 60]))
    kinds = draw(st.sampled_from([2, 20, 300]))
    skew = draw(st.sampled_from([1, 3, 6]))
    spread = draw(st.booleans())
    rng = np.random.default_rng(seed)
    vocabulary = rng.integers(0, 2**32, kinds) if spread else np.arange(kinds)

    def some(count: int) -> set[int]:
        return set(vocabulary[(rng.random(count) ** skew * kinds).astype(int)].tolist())

    sets: list[set[int]] = []
    for _ in range(rows):
        if sets and rng.random() < 0.6:
            near = set(sets[rng.integers(len(sets))])
            for value in list(near):
                if rng.random() < 0.1:
                    near.discard(value)
            sets.append(near | some(int(rng.integers(0, 3))))
        else:
            sets.append(some(int(rng.integers(0, largest + 1))))
    return sets


# ---------------------------------------------------------------- the oracle


@given(families(), st.one_of(st.sampled_from(BORDERS), st.floats(0.001, 1.0)), st.sampled_from([1, 2]))
@settings(max_examples=200, deadline=None)
@example([], 0.5, 2)
@example([set(), set()], 0.5, 1)
@example([{5}], 1.0, 2)
@example([{5}, {5}, {7}, set()], 1.0, 2)
@example([{0, 2**32 - 1}, {0}, {2**32 - 1}], 0.5, 2)
def test_every_pair_is_found_and_no_other(sets: list[set[int]], threshold: float, threads: int) -> None:
    assert joined(sets, threshold, threads=threads) == brute(sets, threshold)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 33, 100, 999])
def test_a_pair_exactly_at_the_threshold_is_found(size: int) -> None:
    """For common / union itself as the threshold: the filters' bounds are then whole numbers."""
    whole = list(range(1, 2 * size + 1))
    for common in sorted({1, size // 3, size // 2, size - size // 5, size - 1, size} - {0}):
        x, y = set(whole[:size]), set(whole[size - common : 2 * size - common])
        ratio = common / (2 * size - common)
        assert joined([x, y], ratio) == [(0, 1, ratio)]
        if ratio < 1.0:
            assert joined([x, y], float(np.nextafter(ratio, 2.0))) == []
        smaller = set(whole[:common])  # a subset: the size filter's border
        ratio = common / size
        expected = [(0, 1, ratio)]
        for rows in ([x, smaller], [smaller, x]):
            assert joined(rows, ratio) == expected
            assert joined(rows, ratio, new=np.array([True, False])) == expected
            assert joined(rows, ratio, new=np.array([False, True])) == expected


def test_no_fraction_of_small_numbers_loses_its_own_pair() -> None:
    """Of some fractions the float64 lies above them, of some below."""
    above = 0
    for union in range(1, 60):
        for common in range(1, union):
            ratio = common / union
            above += Fraction(ratio) > Fraction(common, union)
            extra = (union - common) // 2
            x = set(range(common + extra))
            y = set(range(common)) | set(range(common + extra, union))
            assert joined([x, y], ratio) == [(0, 1, ratio)]
    assert above > 100


def test_large_families_and_common_hashes_over_many_blocks() -> None:
    rng = np.random.default_rng(7)
    common = rng.integers(0, 2**32, 30).tolist()
    sets = []
    for _ in range(40):
        own = rng.integers(0, 2**32, rng.integers(40, 400)).tolist()
        for _ in range(8):
            gone = rng.choice([0.0, 0.01, 0.1])
            kept = [value for value in own if rng.random() > gone]
            sets.append({*kept, *common, *rng.integers(0, 2**32, rng.integers(0, 10)).tolist()})
    for threshold in (0.2, 0.7, 0.95):
        wanted = brute(sets, threshold)
        assert len(wanted) > 20
        for threads in (1, 2, 3, 5):
            assert joined(sets, threshold, threads=threads) == wanted


# ---------------------------------------------------------------- equal sets


def test_equal_sets_make_a_star_and_only_their_first_row_meets_others() -> None:
    sets = [{1, 2, 3, 4}, {9}, {1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3}, set(), set(), {1, 2, 3, 4}]
    assert joined(sets, 0.7) == [(0, 2, 0.75), (0, 3, 1.0), (0, 7, 1.0), (2, 4, 1.0)]


def test_a_hundred_thousand_copies_make_as_many_pairs() -> None:
    hashes = np.arange(50, dtype=np.uint32)
    rows = 100_000
    addresses = np.full(rows, hashes.ctypes.data, np.uint64)
    found = join(addresses, np.full(rows, 50, np.int64), 0.8, threads=2)
    assert found.left.tolist() == [0] * (rows - 1)
    assert np.array_equal(found.right, np.arange(1, rows))


def test_different_sets_of_one_fingerprint_are_kept_apart() -> None:
    sets = [{1, 2}, {3}, {1, 2}, {4, 5}, {3}, {4, 5}, {1, 2, 3}]
    _alive, addresses, sizes = laid_out(sets)
    first = np.full(len(sets), -1, np.int64)
    kernels.group(np.arange(len(sets)), np.zeros(len(sets), np.uint64), addresses, sizes, first)
    assert first.tolist() == [0, 1, 0, 3, 1, 3, 6]


@given(families(), st.sampled_from([1, 2, 8]), st.data())
@settings(max_examples=60, deadline=None)
def test_the_level_of_a_hash_is_one_in_all_rows_whoever_counts_its_slice(
    sets: list[set[int]], slices: int, data: st.DataObject
) -> None:
    alive, addresses, sizes = laid_out(sets)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    cut = data.draw(st.integers(0, slices))
    level = np.full(len(alive), 255, np.uint8)
    kernels.levels(addresses, sizes, starts, cut, slices, slices, 16, level)
    mine = alive.astype(np.int64) >= cut * (2**32 // slices)
    assert ((level != 255) == mine).all()
    kernels.levels(addresses, sizes, starts, 0, cut, slices, 16, level)
    _, which, count = np.unique(alive, return_inverse=True, return_counts=True)
    assert (level >= count[which] - 1).all()  # a counter may serve several hashes
    assert all(len(set(level[which == each].tolist())) == 1 for each in range(len(count)))


# ---------------------------------------------------------------- new rows


@given(families(), st.sampled_from(BORDERS), st.sampled_from([1, 2]), st.data())
@settings(max_examples=150, deadline=None)
def test_the_pairs_of_old_rows_and_those_with_later_new_ones_are_all_pairs(
    sets: list[set[int]], threshold: float, threads: int, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sets)), max_size=3)))
    found: Triples = []
    for low, high in itertools.pairwise([0, *cuts, len(sets)]):
        new = np.arange(high) >= low
        found += joined(sets[:high], threshold, new=new, threads=threads)
    assert sorted(found) == brute(sets, threshold)


@given(
    families(),
    st.sampled_from(BORDERS),
    st.sampled_from([0.0, 0.05, 0.2, 0.6]),
    st.sampled_from([1, 10**9]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_with_new_rows_anywhere_the_pairs_are_those_of_which_one_is_new(
    sets: list[set[int]], threshold: float, share: float, few: int, rng: Any
) -> None:
    """Whether the old rows are sifted first (few = 1) or not."""
    new = np.array([rng.random() < share for _ in sets], np.bool_)
    with mock.patch.object(joining, "_FEW", few):
        found = joined(sets, threshold, new=new, threads=2)
    everything = brute(sets, threshold)
    assert found == [pair for pair in everything if new[pair[0]] or new[pair[1]]]
    old = np.flatnonzero(~new).tolist()
    before = [(old[i], old[j], value) for i, j, value in brute([sets[i] for i in old], threshold)]
    assert set(everything) <= {*found, *before}


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.0000001, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="not above 0 and at most 1"):
        joined([{1}], threshold)


def test_arrays_of_different_lengths_are_refused() -> None:
    _alive, addresses, sizes = laid_out([{1}, {2}])
    with pytest.raises(ValueError, match="differ in length"):
        join(addresses[:1], sizes, 0.5)
    with pytest.raises(ValueError, match="differ in length"):
        join(addresses, sizes, 0.5, new=np.ones(1, np.bool_))


def test_the_pairs_have_the_types_that_they_promise() -> None:
    for sets in ([], [{1}, {1}], [{1, 2, 3}, {1, 2}]):
        _alive, addresses, sizes = laid_out(sets)
        found = join(addresses, sizes, 0.5)
        assert isinstance(found, Pairs)
        assert [column.dtype.str for column in found] == ["<i8", "<i8", "<f8"]


def test_a_lower_threshold_and_more_text_cost_more() -> None:
    costs = [cost(1e9, threshold) for threshold in BORDERS]
    assert costs == sorted(costs, reverse=True)
    assert 0 < costs[-1] < cost(3e9, 1.0)


# ---------------------------------------------------------------- who goes


def selected(found: Pairs, count: int) -> list[tuple[int, int, float]]:
    edges = Edges(found.left, found.right, found.similarity, found.similarity)
    chosen = first(edges, count, found.similarity == 1.0)
    exact = found.similarity[chosen.edge]
    return list(zip(chosen.dropped.tolist(), chosen.twin.tolist(), exact.tolist(), strict=True))


def by_the_rule(sets: Sequence[set[int]], threshold: float) -> list[tuple[int, int, float]]:
    """Walk in keep order, and compare with all that stay: the rule, in its own words."""
    kept: list[int] = []
    out = []
    for row, own in enumerate(sets):
        alike = ((k, len(own & sets[k]) / len(own | sets[k])) for k in kept if own and sets[k])
        twin = next(((k, similarity) for k, similarity in alike if similarity >= threshold), None)
        if twin is None:
            kept.append(row)
        else:
            out.append((row, *twin))
    return out


@given(families(), st.one_of(st.sampled_from(BORDERS), st.floats(0.001, 1.0)), st.sampled_from([1, 2]))
@settings(max_examples=200, deadline=None)
@example([], 0.5, 1)
@example([set(), set(), {5}, {5}], 1.0, 2)
@example([{1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 4, 5}, {1, 2, 3, 4}], 0.75, 1)  # copies of a row that goes
@example([{0, 1, 2}, {3, 4, 5}, {1, 2, 3, 4}, {1, 2, 3, 4}], 0.4, 1)  # two that stay are similar
def test_the_walk_selects_what_all_pairs_select(sets: list[set[int]], threshold: float, threads: int) -> None:
    _alive, addresses, sizes = laid_out(sets)
    found = twins(addresses, sizes, threshold, threads=threads)
    every = join(addresses, sizes, threshold)
    assert selected(found, len(sets)) == selected(every, len(sets)) == by_the_rule(sets, threshold)
    pairs = set(zip(every.left.tolist(), every.right.tolist(), every.similarity.tolist(), strict=True))
    assert pairs.issuperset(
        zip(found.left.tolist(), found.right.tolist(), found.similarity.tolist(), strict=True)
    )
    assert len(found.left) <= len(sets)  # one for each row at most, whatever they share


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 33, 100, 999])
def test_the_walk_finds_a_pair_exactly_at_the_threshold(size: int) -> None:
    whole = list(range(1, 2 * size + 1))
    for common in sorted({1, size // 3, size // 2, size - size // 5, size - 1, size} - {0}):
        smaller, larger = set(whole[:common]), set(whole[:size])
        for x, y in (
            (larger, smaller),
            (smaller, larger),
            (larger, set(whole[size - common : 2 * size - common])),
        ):
            _alive, addresses, sizes = laid_out([x, y])
            ratio = len(x & y) / len(x | y)
            assert twins(addresses, sizes, ratio).right.tolist() == [1]
            if ratio < 1.0:
                assert twins(addresses, sizes, float(np.nextafter(ratio, 2.0))).right.tolist() == []


def test_pages_of_one_template_are_compared_with_those_that_stay() -> None:
    """20,000 pages, each a set of 100 of which 2 are its own: of 200 million pairs 20,000 are looked at."""
    rng = np.random.default_rng(0)
    rows, size = 20_000, 100
    template = np.sort(rng.integers(0, 2**32, size, dtype=np.uint32))
    hashes = np.tile(template, (rows, 1))
    hashes[np.arange(rows)[:, None], rng.integers(0, size, (rows, 2))] = rng.integers(0, 2**32, (rows, 2))
    hashes.sort(axis=1)
    addresses = np.uint64(hashes.ctypes.data) + np.arange(rows, dtype=np.uint64) * np.uint64(4 * size)
    found = twins(addresses, np.full(rows, size), 0.8)
    assert found.right.tolist() == list(range(1, rows))
    assert not found.left.any()


def test_the_walk_refuses_what_the_join_refuses() -> None:
    _alive, addresses, sizes = laid_out([{1}, {2}])
    with pytest.raises(ValueError, match="a threshold of 0 is not"):
        twins(addresses, sizes, 0)
    with pytest.raises(ValueError, match="differ in length"):
        twins(addresses, sizes[:1], 0.5)


def test_pairs_that_do_not_fit_into_memory_are_said_so_before_they_take_it() -> None:
    sets = [{*range(100), 1000 + row} for row in range(300)]
    with (
        mock.patch.object(joining, "free_memory", return_value=10_000 * 128),
        pytest.raises(InputError, match="too many similar texts") as caught,
    ):
        joined(sets, 0.8)
    assert "of 300 different texts" in str(caught.value)
    assert "dedup.MinHash" in str(caught.value)
    assert len(joined(sets, 0.8)) == 300 * 299 // 2


def test_a_crowd_is_foreseen_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_SAMPLED", 64)
    looked_at: list[int] = []
    pairs_of = joining._pairs
    monkeypatch.setattr(
        joining, "_pairs", lambda sets, *rest: looked_at.append(len(sets.sizes)) or pairs_of(sets, *rest)
    )
    crowd = [{*range(60), 1000 + row} for row in range(6_400)]
    monkeypatch.setattr(joining, "free_memory", lambda: 4_000_000 * joining._BYTES_A_PAIR)
    with pytest.raises(InputError, match="too many similar texts") as caught:
        joined(crowd, 0.8)
    assert looked_at == [64], "all were compared before it was said"
    assert "2,016 pairs among 64 of 6,400 different texts, so about 20,160,000" in str(caught.value)
    apart = [{*range(60 * row, 60 * row + 60)} for row in range(6_399)]
    assert len(joined([*apart, {*range(59)}], 0.8)) == 1, "what fits is found"


def test_a_step_is_advised_of_the_other_way_with_its_own_shingles() -> None:
    told = Jaccard(threshold=0.7, ngram=3, unit="char").advise(1e9)
    assert MinHash(threshold=0.7, ngram=3, unit="char").explain() in told
