"""Who goes: the walk and the rounds, against the definition."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.select import Edges, first, nearest, rounds, settle, stars, without


def edges_of(pairs: list[tuple[int, int]]) -> Edges:
    left, right = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    exact = np.linspace(0.5, 1.0, len(pairs))
    return Edges(left, right, exact, exact)


def walk(pairs: list[tuple[int, int]], count: int) -> dict[int, int]:
    """The definition, word by word: a row goes if a kept one is its neighbour; the first such is its twin."""
    near = {frozenset(pair) for pair in pairs}
    kept: list[int] = []
    twins: dict[int, int] = {}
    for row in range(count):
        similar = [other for other in kept if frozenset((row, other)) in near]
        if similar:
            twins[row] = similar[0]
        else:
            kept.append(row)
    return twins


GRAPHS = st.integers(1, 25).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(
                lambda pair: pair[0] < pair[1]
            ),
            max_size=60,
            unique=True,
        )
        if count > 1
        else st.just([]),
    )
)


@settings(max_examples=200, deadline=None)
@given(GRAPHS)
def test_the_walk_is_the_definition(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = graph
    edges = edges_of(pairs)
    chosen = first(edges, count)
    found = dict(zip(chosen.dropped.tolist(), chosen.twin.tolist(), strict=True))
    assert found == walk(pairs, count)
    assert edges.left[chosen.edge].tolist() == chosen.twin.tolist()
    assert edges.right[chosen.edge].tolist() == chosen.dropped.tolist()


@settings(max_examples=100, deadline=None)
@given(GRAPHS, st.lists(st.integers(0, 60), max_size=4))
def test_parallel_rounds_find_what_the_walk_finds(
    graph: tuple[int, list[tuple[int, int]]], cuts: list[int]
) -> None:
    count, pairs = graph
    edges = edges_of(pairs)
    no = np.zeros(len(pairs), np.bool_)
    parts = [
        (edges.left[part], edges.right[part], no[part])
        for part in np.split(np.arange(len(pairs)), sorted(cuts))
    ]
    status = rounds(parts, count)
    assert np.flatnonzero(status < 0).tolist() == first(edges, count).dropped.tolist()
    assert (status != 0).all()


def test_a_long_chain_in_rounds() -> None:
    row = np.arange(200)
    assert (rounds([(row[:-1], row[1:], np.zeros(199, np.bool_))], 200) == np.where(row % 2, -1, 1)).all()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=25), st.lists(st.booleans(), min_size=49, max_size=49))
def test_copies_need_their_edges_for_the_first_of_them_only(kinds: list[int], alike: list[bool]) -> None:
    """Rows of one kind are copies; which kinds are similar is drawn. All edges, against those of a star."""
    near = {(x, y) for x in range(7) for y in range(7) if alike[7 * min(x, y) + max(x, y)] or x == y}
    count = len(kinds)
    every = [(i, j) for i in range(count) for j in range(i + 1, count) if (kinds[i], kinds[j]) in near]
    lead = [kinds.index(kind) for kind in kinds]
    few = [(i, j) for i, j in every if lead[i] == i and (lead[j] == j or lead[j] == i)]
    same = np.array([lead[j] == i for i, j in few], np.bool_)
    chosen = first(edges_of(few), count, same)
    assert dict(zip(chosen.dropped.tolist(), chosen.twin.tolist(), strict=True)) == walk(every, count)
    edges = edges_of(few)
    assert (
        np.flatnonzero(rounds([(edges.left, edges.right, same)], count) < 0).tolist() == chosen.dropped.tolist()
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=25),
    st.lists(st.booleans(), min_size=49, max_size=49),
    st.integers(0, 2**25 - 1),
)
def test_when_rows_have_gone_the_first_copy_that_is_left_stands_for_the_others(
    kinds: list[int], alike: list[bool], bits: int
) -> None:
    near = {(x, y) for x in range(7) for y in range(7) if alike[7 * min(x, y) + max(x, y)] or x == y}
    count = len(kinds)
    alive = np.array([bits >> row & 1 for row in range(count)], np.bool_)
    lead = [kinds.index(kind) for kind in kinds]
    every = [(i, j) for i in range(count) for j in range(i + 1, count) if (kinds[i], kinds[j]) in near]
    few = [(i, j) for i, j in every if lead[i] == i and lead[j] in {i, j}]
    exact = np.array([1.0 if lead[j] == i else 0.9 for i, j in few])
    left, right = (np.array([pair[side] for pair in few], np.int64) for side in (0, 1))
    found = without(Edges(left, right, exact, exact), alive, copies=True)
    chosen = first(found, count, found.exact == 1.0)
    wanted = walk([(i, j) for i, j in every if alive[i] and alive[j]], count)
    assert dict(zip(chosen.dropped.tolist(), chosen.twin.tolist(), strict=True)) == wanted


def in_blocks(edges: Edges, same: np.ndarray, bounds: list[int]) -> tuple[dict[int, tuple[int, float]], int]:
    """Selection by blocks of rows, each in its own corner: the twins with the similarity, and the rounds."""
    order = np.lexsort((edges.left, edges.right))
    edges, same = edges.take(order), same[order]
    blocks = []
    for low, high in pairwise(bounds):
        mine = (edges.right >= low) & (edges.right < high)
        blocks.append((edges.take(mine), same[mine], low, high))
    turns = 0

    def look_at(parts: Any, status: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal turns
        turns += 1
        found = [(settle(*part[:2], status, *part[2:]), part[2]) for part in parts]
        for mine, low in found:
            yield low + np.flatnonzero(mine == -1), low + np.flatnonzero(mine == 0)

    status = rounds(blocks, bounds[-1], look_at)
    assert (status != 0).all()
    kept, copies = zip(*(stars(*block[:2], status) for block in blocks), strict=True)
    going = nearest(Edges.none().join(*kept), Edges.none().join(*copies))
    rows = zip(going.right.tolist(), going.left.tolist(), going.exact.tolist(), strict=True)
    return {row: (twin, exact) for row, twin, exact in rows}, turns


@settings(max_examples=200, deadline=None)
@given(GRAPHS, st.lists(st.integers(0, 25), max_size=4))
def test_blocks_that_settle_in_rounds_find_the_twins_of_the_walk(
    graph: tuple[int, list[tuple[int, int]]], cuts: list[int]
) -> None:
    count, pairs = graph
    edges = edges_of(pairs)
    bounds = [0, *sorted(min(cut, count) for cut in cuts), count]
    found, turns = in_blocks(edges, np.zeros(len(pairs), np.bool_), bounds)
    assert {row: twin for row, (twin, _) in found.items()} == walk(pairs, count)
    exact = dict(zip(pairs, edges.exact.tolist(), strict=True))
    assert all(exact[twin, row] == value for row, (twin, value) in found.items())
    assert turns < len(bounds)  # never more rounds than blocks


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=25),
    st.lists(st.booleans(), min_size=49, max_size=49),
    st.lists(st.integers(0, 25), max_size=4),
)
def test_blocks_take_copies_as_the_walk_does(kinds: list[int], alike: list[bool], cuts: list[int]) -> None:
    near = {(x, y) for x in range(7) for y in range(7) if alike[7 * min(x, y) + max(x, y)] or x == y}
    count = len(kinds)
    lead = [kinds.index(kind) for kind in kinds]
    few = [
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if (kinds[i], kinds[j]) in near and lead[i] == i and lead[j] in {i, j}
    ]
    same = np.array([lead[j] == i for i, j in few], np.bool_)
    exact = np.where(same, 1.0, 0.9)
    left, right = (np.array([pair[side] for pair in few], np.int64) for side in (0, 1))
    edges = Edges(left, right, exact, exact)
    bounds = [0, *sorted(min(cut, count) for cut in cuts), count]
    found, _ = in_blocks(edges, same, bounds)
    chosen = first(edges, count, same)
    wanted = zip(chosen.dropped.tolist(), chosen.twin.tolist(), exact[chosen.edge].tolist(), strict=True)
    assert found == {row: (twin, value) for row, twin, value in wanted}


def test_the_stars_of_a_block_need_no_order_of_its_edges() -> None:
    left, right = np.array([3, 0, 2, 1, 0]), np.array([4, 4, 4, 4, 2])
    exact = np.array([0.9, 0.8, 1.0, 1.0, 0.7])
    status = np.array([1, -1, -1, 1, -1], np.int8)
    kept, copies = stars(Edges(left, right, exact, exact), exact == 1.0, status)
    assert [kept.left.tolist(), kept.right.tolist(), kept.exact.tolist()] == [[0, 0], [2, 4], [0.7, 0.8]]
    assert [copies.left.tolist(), copies.right.tolist()] == [[1], [4]]


def test_copies_of_copies_have_the_twin_of_the_first() -> None:
    one = np.ones(2)
    kept, copies = (
        Edges(*(np.array([x]) for x in (0, 1, 0.9, 0.8))),
        Edges(*np.array([[1, 2], [2, 3]]), one, one),
    )
    found = nearest(kept, copies)
    assert [found.left.tolist(), found.right.tolist()] == [[0, 0, 0], [1, 2, 3]]
    assert found.exact.tolist() == [0.9, 0.9, 0.9]
    same = np.array([False, True, True])
    walked = first(kept.join(copies), 4, same)
    assert walked.dropped.tolist() == found.right.tolist()
    assert walked.twin.tolist() == found.left.tolist()
