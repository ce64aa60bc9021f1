"""Families, against the plainest propagation; forests in a tree."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup import MinHash, clusters, deduplicate
from dedup.cluster import components, forest
from dedup.result import CLUSTERS


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


def cut(table: pa.Table, cuts: list[int]) -> list[pa.Table]:
    edges = [0, *sorted(min(each, table.num_rows) for each in cuts), table.num_rows]
    return [table.slice(a, b - a) for a, b in pairwise(edges)]


NAMES = "abcdefghijkl"
PAIRS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from([0.8, 0.9, 1.0])), max_size=25
)


def edges_of(pairs: list[tuple[str, str, float]]) -> pa.Table:
    """A similarity of 1 between copies, whose other similarities are equal: see `dedup.match.Match`."""
    columns = list(zip(*pairs, strict=True)) or [(), (), ()]
    return pa.table(
        {
            "left": pa.array(columns[0], pa.string()),
            "right": pa.array(columns[1], pa.string()),
            "exact": pa.array(columns[2], pa.float64()),
        }
    )


NONE = pa.table(
    {"_id": pa.array([], pa.string()), "twin": pa.array([], pa.string()), "exact": pa.array([0.0])[:0]}
)


def families(nodes: set[str], pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The plainest way, for rows in families of two or more."""
    names = {each: each for each in nodes}
    for _ in nodes:
        for u, v in pairs:
            names[u] = names[v] = min(names[u], names[v])
    sizes = Counter(names.values())
    return {each: name for each, name in names.items() if sizes[name] > 1}


@settings(max_examples=200, deadline=None)
@given(PAIRS, st.lists(st.integers(0, 25), max_size=5), st.sets(st.sampled_from(NAMES)))
def test_families_of_edges_that_come_in_batches(
    pairs: list[tuple[str, str, float]], cuts: list[int], gone: set[str]
) -> None:
    table = edges_of(pairs)
    found = pa.concat_tables(
        [
            CLUSTERS.empty_table(),
            *clusters(lambda: cut(table, cuts), NONE, gone=pa.array(sorted(gone), pa.string())),
        ]
    )
    left = [(u, v) for u, v, _ in pairs if not {u, v} & gone]
    wanted = families({each for pair in left for each in pair}, left)
    assert found.schema == CLUSTERS
    rows = list(zip(found["family"].to_pylist(), found["_id"].to_pylist(), strict=True))
    assert rows == sorted((name, each) for each, name in wanted.items())
    assert all(found["kept"].to_pylist())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=12), st.integers(0, 2**25 - 1), st.integers(0, 2**12 - 1)
)
def test_a_copy_that_is_gone_still_says_what_the_others_resemble(
    kinds: list[int], near: int, bits: int
) -> None:
    """Rows of one kind are copies, and the pairs are there for the first of them only."""
    count = len(kinds)
    alike = {(x, y) for x in range(5) for y in range(5) if x == y or near >> (5 * min(x, y) + max(x, y)) & 1}
    lead = [kinds.index(kind) for kind in kinds]
    every = [(i, j) for i in range(count) for j in range(i + 1, count) if (kinds[i], kinds[j]) in alike]
    few = [(i, j) for i, j in every if lead[i] == i and lead[j] in {i, j}]
    table = edges_of([(NAMES[i], NAMES[j], 1.0 if kinds[i] == kinds[j] else 0.9) for i, j in few])
    gone = {NAMES[row] for row in range(count) if bits >> row & 1}
    out = pa.array(sorted(gone), pa.string())
    found = [row for each in clusters(table, NONE, gone=out, copies=True) for row in each.to_pylist()]
    left = [(NAMES[i], NAMES[j]) for i, j in every if not {NAMES[i], NAMES[j]} & gone]
    wanted = families({each for pair in left for each in pair}, left)
    assert {row["_id"]: row["family"] for row in found} == wanted


def test_families_of_a_result_are_those_it_shows() -> None:
    rng = random.Random(4)
    texts: list[list[str]] = []
    for _ in range(200):
        words = (
            list(rng.choice(texts)) if texts and rng.random() < 0.7 else [f"w{rng.random()}" for _ in range(40)]
        )
        words[rng.randrange(40)] = f"w{rng.random()}"
        texts.append(words)
    lines = [" ".join(words) for words in texts]
    result = deduplicate(pa.table({"text": [*lines, *lines[:9]]}), MinHash(threshold=0.6))
    found = pa.concat_tables(clusters(result.edges.to_batches, result.dropped))
    assert found.equals(result.clusters)
    assert found.num_rows > 100
    assert pc.sum(pc.invert(found["kept"])).as_py() == result.dropped.num_rows - 9


def test_views_and_dictionaries_are_ids_as_well() -> None:
    table = edges_of([("a", "b", 0.9), ("c", "b", 0.9)])
    kinds = {"left": pa.dictionary(pa.int32(), pa.string()), "right": pa.large_string(), "exact": pa.float64()}
    wide = table.cast(pa.schema(list(kinds.items())))
    none = pa.table({"_id": ["b"], "twin": ["a"], "exact": [0.9]})
    assert pa.concat_tables(clusters(wide, none)).equals(pa.concat_tables(clusters(table, none)))
