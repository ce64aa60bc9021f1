"""Families, against the plainest propagation; forests in a tree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.cluster import components, forest


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


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 30), st.data())
def test_forests_of_parts_connect_what_the_edges_connect(count: int, data: st.DataObject) -> None:
    node = st.integers(0, count - 1)
    edges = np.array(data.draw(st.lists(st.tuples(node, node), min_size=1, max_size=60)), np.int64)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(edges)), max_size=4)))
    parts = [forest(part[:, 0], part[:, 1]) for part in np.split(edges, cuts)]
    while len(parts) > 1:  # a tree of merges, two by two
        pairs = [parts[at : at + 2] for at in range(0, len(parts), 2)]
        parts = [forest(*(np.concatenate(side) for side in zip(*pair, strict=True))) for pair in pairs]
    [(left, right)] = parts
    wanted = components(edges[:, 0], edges[:, 1], count)
    assert components(left, right, count).tolist() == wanted.tolist()
    nodes = len(set(edges.ravel().tolist()))
    assert len(left) == nodes - len({wanted[each] for each in set(edges.ravel().tolist())})


def test_a_forest_of_no_edges() -> None:
    none = np.empty(0, np.int64)
    assert [len(side) for side in forest(none, none)] == [0, 0]
