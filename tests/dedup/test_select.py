"""Who goes, against a brute-force walk; the keep order; families."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from dedup import select
from dedup.cluster import components
from dedup.keep import Keep, columns, rank
from dedup.sketch import list_addresses
from dedup.verify import jaccard
from lake.errors import ConfigError


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


# ---------------------------------------------------------------- keep order


def ordered(keep: list[str], **given_columns: object) -> list[str]:
    table = pa.table(given_columns)
    order: tuple[str, ...] = TypeAdapter(Keep).validate_python(keep)
    picked = pa.table({"_id": table.column("_id"), **columns(table, order, {})})
    return picked.column("_id").take(pa.array(rank(picked, order))).to_pylist()  # type: ignore[no-any-return]


NAN = float("nan")


@pytest.mark.parametrize(
    ("keep", "wanted"), [(["stars"], "cafbde"), (["-stars"], "bafcde"), (["stars", "-_id"], "cfabde")]
)
def test_nulls_and_nan_come_last_either_way(keep: list[str], wanted: str) -> None:
    stars = pa.array([2.0, 3.0, 1.0, NAN, None, 2.0])
    assert "".join(ordered(keep, _id=list("abcdef"), stars=stars)) == wanted


def test_ties_are_broken_by_the_next_column_and_at_last_by_the_id() -> None:
    found = ordered(["-stars", "length"], _id=["d", "c", "b", "a"], stars=[5, 5, 5, 1], length=[9, 8, 8, 1])
    assert found == ["b", "c", "d", "a"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([False, True]),
        pa.array([1, 2], pa.int8()),
        pa.array([1, 2**63], pa.uint64()),
        pa.array(np.array([1.5, 2.5], np.float16)),
        pa.array(["a", "b"]),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"]).cast(pa.string_view()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["b", "a"]).dictionary_encode().take(pa.array([1, 0])),  # the codes are in another order
        pa.array([b"a", b"b"]),
        pa.array([1, 2], pa.timestamp("us", "UTC")),
        pa.array([1, 2], pa.date32()),
        pa.array([1, 2], pa.duration("s")),
        pa.array([Decimal("1.10"), Decimal("1.20")]),
    ],
    ids=lambda values: str(values.type),
)
def test_a_column_of_any_type_that_has_an_order(values: pa.Array) -> None:
    assert ordered(["score"], _id=["x", "a"], score=values) == ["x", "a"]
    assert ordered(["-score"], _id=["x", "a"], score=values) == ["a", "x"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.nulls(2),
        pa.nulls(2, pa.month_day_nano_interval()),
    ],
    ids=lambda values: str(values.type),
)
def test_a_column_without_an_order_is_refused(values: pa.Array) -> None:
    with pytest.raises(ConfigError, match=r"'score', whose type .* has no order"):
        ordered(["score"], _id=["x", "a"], score=values)


def test_a_missing_column_is_named_and_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"(?s)'stras', which the table does not have.*_id, stars"):
        ordered(["-stras"], _id=["a"], stars=[1])


@pytest.mark.parametrize(
    ("keep", "why"), [(["-stars", "stars"], "stands twice"), ([""], "is empty"), (["-"], "is empty")]
)
def test_a_keep_order_that_makes_no_sense_is_refused(keep: list[str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TypeAdapter(Keep).validate_python(keep)


def test_an_order_always_ends_in_the_id() -> None:
    assert TypeAdapter(Keep).validate_python(["-stars"]) == ("-stars", "_id")
    assert TypeAdapter(Keep).validate_python(["-_id"]) == ("-_id",)
    assert TypeAdapter(Keep).validate_python([]) == ("_id",)


def test_each_id_stands_once_in_the_order() -> None:
    assert ordered(["-length"], _id=["b", "a", "b", "a"], length=[1, 2, 3, 2]) == ["b", "a"]


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
