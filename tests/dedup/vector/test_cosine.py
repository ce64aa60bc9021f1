"""Cosine: integers all the way, against plain Python, all pairs, and the formula of the hyperplanes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dedup import deduplicate, select
from dedup.match import STATE, name_edges
from dedup.select import Edges
from dedup.sketch import Piece, piece
from dedup.vector import planes, vectors
from dedup.vector.all_pairs import all_pairs
from dedup.vector.cosine import Cosine
from lake.errors import ConfigError, SchemaError

Rows = list[list[float] | None]


def id_of(number: int) -> str:
    return f"{number:032x}"


def table_of(rows: Any, kind: pa.DataType | None = None, **more: object) -> pa.Table:
    column = pa.array(list(rows), kind or pa.list_(pa.float64()))
    return pa.table({"_id": [id_of(n) for n in range(len(column))], "embedding": column, **more})


def integers(row: list[float]) -> list[int]:
    """The quantised vector, in plain Python."""
    peak = max(abs(x) for x in row)
    return [round(x / peak * 32767) for x in row]  # Python rounds half to even


def cosine(x: list[int], y: list[int]) -> float:
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    squares = float(sum(a * a for a in x)) * float(sum(b * b for b in y))
    return min(1.0, float(dot) / math.sqrt(squares))


def brute(rows: Rows, threshold: float) -> dict[tuple[int, int], float]:
    whole = {n: integers(row) for n, row in enumerate(rows) if row and any(row)}
    pairs = {(i, j): cosine(whole[i], whole[j]) for i, j in itertools.combinations(whole, 2)}
    return {pair: c for pair, c in pairs.items() if c >= threshold}


def edges_of(match: Cosine, table: pa.Table) -> dict[tuple[int, int], float]:
    corpus = match.corpus([match.piece(table)])
    found = name_edges(corpus, match.edges(corpus))
    return {(int(e["left"], 16), int(e["right"], 16)): e["exact"] for e in found.to_pylist()}


def cloud(seed: int, count: int, width: int, spread: float) -> npt.NDArray[np.float64]:
    """Points around a few centres, some of them equal to others but for their length."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count // 4, width))
    points = centres[rng.integers(0, len(centres), count)] + rng.normal(size=(count, width)) * spread
    again = rng.integers(0, count, count // 8)
    points[again] = points[(again * 7) % count] * 2.0
    return points


def at_angle(seed: int, count: int, width: int, cos: float) -> npt.NDArray[np.float64]:
    """Pairs of vectors, one after the other, with a given cosine; pairs are nearly orthogonal to others."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, width))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.normal(size=(count, width))
    y -= (x * y).sum(axis=1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    out = np.empty((2 * count, width))
    out[0::2], out[1::2] = x, cos * x + math.sqrt(1 - cos * cos) * y
    return out


# ---------------------------------------------------------------- the comparison

numbers = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 3))
some_rows = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.none() | st.lists(numbers, min_size=width, max_size=width), min_size=0, max_size=12
    )
)


@given(rows=some_rows, threshold=st.sampled_from([0.3, 0.9, 0.999, 1.0]))
@settings(max_examples=60, deadline=None)
def test_an_exact_search_is_all_pairs_in_plain_python(rows: Rows, threshold: float) -> None:
    assert edges_of(Cosine(exact=True, threshold=threshold), table_of(rows)) == brute(rows, threshold)


@pytest.mark.parametrize("threshold", [0.7, 0.9, 0.95, 0.99])
def test_hyperplanes_find_what_all_pairs_find(threshold: float) -> None:
    table = table_of(cloud(1, 400, 48, 0.25).tolist())
    whole = edges_of(Cosine(exact=True, threshold=threshold), table)
    found = edges_of(Cosine(threshold=threshold), table)
    assert len(whole) > 30
    assert found.items() <= whole.items()  # equal to the last bit
    assert len(found) >= 0.97 * len(whole)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (10, 10), (44, 23)])
@pytest.mark.parametrize("width", [8, 64])
def test_a_pair_is_found_as_often_as_the_formula_says(shape: tuple[int, int], width: int) -> None:
    pairs = at_angle(3, 3000, width, 0.95)
    keys = planes.keys(vectors.quantise(pairs), *shape, seed=5)
    same = (keys[:, 0::2] == keys[:, 1::2]).any(axis=0)
    # Pairs share the planes, so they are not independent: the mean over seeds is.
    shares = [same.mean()]
    for seed in range(6, 16):
        keys = planes.keys(vectors.quantise(pairs), *shape, seed=seed)
        shares.append((keys[:, 0::2] == keys[:, 1::2]).any(axis=0).mean())
    expected = planes.probability(0.95, *shape)
    slack = 0.01 + 5 * math.sqrt(expected * (1 - expected) / (len(shares) * 500))
    assert abs(np.mean(shares) - expected) < slack


def test_the_choice_reaches_its_aim_at_every_threshold() -> None:
    for threshold in np.linspace(0.3, 1.0, 71):
        bands, rows = planes.choose(float(threshold), 1024)
        assert bands * rows <= 1024
        assert planes.probability(float(threshold), bands, rows) >= 0.97
    assert planes.choose(0.1, 4) == (4, 1)  # too few planes: the most bands there can be


def test_a_vector_of_one_direction_is_equal_whatever_its_length() -> None:
    rng = np.random.default_rng(0)
    row = rng.normal(size=100)
    rows = [row, row * 0.25, row * 2.0**900, row * 2.0**-1000]
    assert set(edges_of(Cosine(threshold=1.0), table_of([r.tolist() for r in rows])).values()) == {1.0}
    assert len(edges_of(Cosine(threshold=1.0), table_of([r.tolist() for r in rows]))) == 6


def test_the_least_and_the_greatest_numbers_do_not_overflow() -> None:
    rows: Rows = [[1.7e308, -1.7e308], [5e-324, -5e-324], [1.0, 0.0]]
    assert edges_of(Cosine(exact=True), table_of(rows)) == {(0, 1): 1.0}


@pytest.mark.parametrize(("width", "most"), [(8, 4e-5), (384, 2e-5)])
def test_the_cosine_moves_little_by_the_quantisation(width: int, most: float) -> None:
    rows = np.random.default_rng(2).normal(size=(200, width))
    exact = vectors.quantise(rows).astype(np.float64)
    unit, quantised = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (rows, exact))
    assert abs(unit @ unit.T - quantised @ quantised.T).max() < most


# ---------------------------------------------------------------- hyperplanes, to the bit


def mixed(x: int) -> int:
    """splitmix64, in plain Python."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def test_the_mix_is_splitmix64() -> None:
    assert mixed(0) == 0xE220A8397B1DCDAF  # the first number of the generator seeded with 0


def test_normals_and_keys_in_plain_python() -> None:
    values = np.random.default_rng(1).integers(-32767, 32768, (5, 7)).astype(np.int16)
    normals = [
        [sum(mixed((mixed(9) + (plane * 2**32 + k)) % 2**64).to_bytes(8)) - 1020 for k in range(7)]
        for plane in range(12)
    ]
    assert planes.normals(9, 12, 7).tolist() == normals
    for row, vector in enumerate(values.tolist()):
        bits = [sum(a * b for a, b in zip(vector, normal, strict=True)) >= 0 for normal in normals]
        expected = [sum(bit << k for k, bit in enumerate(bits[4 * b : 4 * b + 4])) for b in range(3)]
        assert planes.keys(values, 3, 4, seed=9)[:, row].tolist() == expected


def test_keys_are_those_of_integer_arithmetic() -> None:
    """A product of float64 matrices, in whatever order the machine sums it, is exact here."""
    values = np.random.default_rng(4).integers(-32767, 32768, (3000, 384)).astype(np.int16)
    projections = values.astype(np.int64) @ planes.normals(1, 640, 384).astype(np.int64).T
    expected = ((projections >= 0).reshape(3000, 10, 64) << np.arange(64, dtype=np.uint64)).sum(axis=2).T
    assert (planes.keys(values, 10, 64, seed=1) == expected).all()


# ---------------------------------------------------------------- who goes


def walk(rows: Rows, threshold: float) -> set[str]:
    """Who goes, in keep order by _id, from all pairs."""
    similar, gone = brute(rows, threshold), set()
    for row in range(len(rows)):
        if any((other, row) in similar for other in range(row) if other not in gone):
            gone.add(row)
    return {id_of(row) for row in gone}


@given(
    rows=some_rows,
    cuts=st.lists(st.integers(0, 12), max_size=3),
    order=st.randoms(use_true_random=False),
    exact=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_neither_order_nor_parts_matter(rows: Rows, cuts: list[int], order: Any, exact: bool) -> None:
    match = Cosine(exact=exact, threshold=0.9, bands=None if exact else (32, 2), planes=64)
    table = table_of(rows)
    whole = match.resolve([match.sketch(table)])
    assert whole.schema == STATE
    shuffled = table.take(pa.array(order.sample(range(len(rows)), len(rows)), pa.int64()))
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [shuffled.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    sketches = [match.sketch(part) for part in parts]
    assert match.resolve(sketches).equals(whole)
    if exact:
        assert set(whole.column("_id").to_pylist()) == walk(rows, 0.9)


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 40),
    most=st.integers(1, 4),
    threshold=st.sampled_from([0.5, 0.8, 0.95]),
)
@settings(max_examples=60, deadline=None)
def test_many_equal_vectors_change_nothing(seed: int, count: int, most: int, threshold: float) -> None:
    """At every threshold from that of the pairs on, the rows that go are those of all pairs."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, (6, 2)).astype(np.int16)[rng.integers(0, 6, count)]
    values[~values.any(axis=1)] = (1, 0)
    places = np.uint64(values.ctypes.data) + np.arange(count, dtype=np.uint64) * np.uint64(4)
    found = all_pairs(places, 2, threshold, most=most)
    pairs = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    rows = values.tolist()
    cosines = {(i, j): cosine(rows[i], rows[j]) for i, j in itertools.combinations(range(count), 2)}
    for least in (threshold, 0.99):
        whole = [(i, j) for (i, j), c in cosines.items() if c >= least]
        some = [pair for pair in pairs if cosines[pair] >= least]
        assert set(some) <= set(whole)
        assert gone(some, count) == gone(whole, count)


def gone(pairs: list[tuple[int, int]], count: int) -> list[int]:
    left, right = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    ones = np.ones(len(pairs))
    return select.first(Edges(left, right, ones, ones), count).dropped.tolist()


@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), exact=st.booleans())
@settings(max_examples=60, deadline=None)
def test_fresh_rows_are_compared_with_all_others_and_old_ones_are_not(
    seed: int, count: int, exact: bool
) -> None:
    rng = np.random.default_rng(seed)
    table = table_of(rng.normal(size=(count, 3)).tolist())
    match = Cosine(exact=exact, threshold=0.8, bands=None if exact else (40, 1), planes=40)
    corpus = match.corpus([match.piece(table)])
    fresh = rng.random(count) < 0.4
    found, whole = match.edges(corpus, fresh), match.edges(corpus)
    wanted = whole.take(fresh[whole.left] | fresh[whole.right])
    assert name_edges(corpus, found).equals(name_edges(corpus, wanted))


def test_more_rows_than_a_block() -> None:
    values = cloud(7, 2100, 8, 0.2)
    table = table_of(values.tolist())
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosines = np.triu(unit @ unit.T, 1)
    match = Cosine(exact=True, threshold=0.98)
    sure = {(int(i), int(j)) for i, j in np.argwhere(cosines > 0.9803)}
    possible = {(int(i), int(j)) for i, j in np.argwhere(cosines > 0.9797)}
    assert len(sure) > 1000
    assert sure <= edges_of(match, table).keys() <= possible


def test_a_notebook() -> None:
    rows = at_angle(1, 50, 64, 0.97)
    texts = [f"text {n}" + "!" * (n % 2) for n in range(100)]
    table = table_of(rows.tolist(), text=texts)
    for match in (Cosine(keep=("-length",)), Cosine(keep=("-length",), exact=True)):
        result = deduplicate(table, match)
        assert result.kept.column("_id").to_pylist() == [id_of(n) for n in range(1, 100, 2)]
        assert all(abs(each - 0.97) < 1e-4 for each in result.dropped.column("exact").to_pylist())
        # The estimate is that of 1012 planes: its standard deviation is under 0.006 there.
        assert all(abs(each - 0.97) < 0.03 for each in result.dropped.column("estimated").to_pylist())
        assert result.rethreshold(0.98).dropped.num_rows == 0


# ---------------------------------------------------------------- columns

KINDS = [
    pa.list_(pa.float64()),
    pa.large_list(pa.float32()),
    pa.list_(pa.float32(), 3),
    pa.list_(pa.float16(), 3),
    pa.large_list(pa.float16()),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("step", [1, 3])
def test_every_kind_of_list_gives_the_same_sketch(kind: pa.DataType, step: int) -> None:
    rows: list[Any] = [[1.0, 0.5, -0.25], None, [0.0, 0.0, 0.0], [2.0, 1.0, -0.5], [1.0, None, 2.0]]
    rows += [[math.nan, 1.0, 1.0], [math.inf, 1.0, 1.0], [1.0, -math.inf, 1.0], [0.0, -0.0, 3.0], None]
    whole = pa.array([[9.0, 9.0, 9.0], *rows, [9.0, 9.0, 9.0]], kind)  # so that it is a slice, with an offset
    column = pa.chunked_array([whole.slice(1 + at, min(step, 10 - at)) for at in range(0, 10, step)])
    table = pa.table({"_id": [id_of(n) for n in range(10)], "embedding": column})
    sketch = Cosine().sketch(table)
    assert sketch.column("_id").to_pylist() == [id_of(n) for n in (0, 3, 8)]
    assert sketch.equals(Cosine().sketch(table_of(rows)))
    assert deduplicate(table, Cosine()).dropped.column("_id").to_pylist() == [id_of(3)]


def test_a_tensor_column() -> None:
    numbers = np.array([[1.0, 2.0], [2.0, 4.0]], np.float32)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(numbers)
    assert Cosine().sketch(pa.table({"_id": ["a", "b"], "embedding": column})).num_rows == 2


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.float32()), pa.list_(pa.float32(), 4)], ids=str)
def test_nothing_to_compare(kind: pa.DataType) -> None:
    for rows in ([], [None, None]):
        table = table_of(rows, kind)
        for match in (Cosine(), Cosine(exact=True)):
            sketch = match.sketch(table)
            assert sketch.num_rows == 0
            assert match.resolve([sketch, sketch]).num_rows == 0
            assert deduplicate(table, match).kept.num_rows == len(rows)


def test_an_empty_part_joins_any() -> None:
    match, full = Cosine(), table_of([[1.0, 2.0], [1.0, 2.0]])
    parts = [match.sketch(table_of([])), match.sketch(full), match.sketch(table_of([None]))]
    assert match.resolve(parts).column("_id").to_pylist() == [id_of(1)]


def test_the_values_of_rows_that_are_not_compared_do_not_shift_others() -> None:
    rows: Rows = [[1.0, 2.0], [], [0.0, 0.0, 0.0], [2.0, 4.0], [math.nan], [4.0, 8.0]]
    found = deduplicate(table_of(rows), Cosine()).dropped.column("_id").to_pylist()
    assert found == [id_of(3), id_of(5)]


# ---------------------------------------------------------------- what is refused


def test_vectors_of_different_lengths_are_refused_wherever_they_stand() -> None:
    table = table_of([[1.0, 7.25], [7.25, 0.0], [7.25, 1.0, 1.0]])
    match = Cosine()
    parts = [match.sketch(table.slice(0, 2)), match.sketch(table.slice(2))]
    for act in (lambda: match.sketch(table), lambda: match.resolve(parts), lambda: match.resolve(parts[::-1])):
        with pytest.raises(SchemaError, match="Cosine") as caught:
            act()
        assert id_of(0) in str(caught.value)
        assert id_of(2) in str(caught.value)
        assert "7.25" not in str(caught.value)
        assert "2 values" in str(caught.value)
        assert "has 3" in str(caught.value)


@pytest.mark.parametrize(
    "column",
    [pa.array(["a"]), pa.array([1.5]), pa.array([[1, 2]]), pa.array([[[1.5]]])],
    ids=lambda c: str(c.type),
)
def test_a_column_without_vectors_is_refused(column: pa.Array) -> None:
    with pytest.raises(SchemaError, match="holds no vectors"):
        Cosine().sketch(pa.table({"_id": ["a"], "embedding": column}))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(SchemaError, match="a column vec"):
        Cosine(column="vec").sketch(table_of([[1.0]]))


def test_a_missing_keep_column_is_named() -> None:
    with pytest.raises(ConfigError, match="length"):
        Cosine(keep=("-length",)).sketch(table_of([[1.0]]))


def test_sketches_of_other_settings_are_refused() -> None:
    table = table_of([[1.0, 2.0]])
    for other in (Cosine(seed=2), Cosine(threshold=0.9), Cosine(exact=True), Cosine(bands=(2, 2))):
        with pytest.raises(SchemaError, match="other settings"):
            Cosine().resolve([other.sketch(table)])


def test_more_bands_than_planes_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than 16 planes"):
        Cosine(planes=16, bands=(3, 6))
    with pytest.raises(ValidationError):
        Cosine(planes=1024, bands=(1, 65))


def test_memory_mapped_sketches(tmp_path: Any) -> None:
    match, table = Cosine(), table_of(cloud(3, 60, 16, 0.1).tolist())
    paths = []
    for at in (0, 30):
        paths.append(tmp_path / f"{at}.arrow")
        sketch = match.sketch(table.slice(at, 30))
        with pa.OSFile(str(paths[-1]), "wb") as sink, pa.ipc.new_file(sink, sketch.schema) as writer:
            writer.write_table(sketch)
    mapped = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
    assert match.resolve(mapped).equals(match.resolve([match.sketch(table)]))
    assert match.resolve(mapped).num_rows > 20
    assert len(match.corpus([piece(each) for each in mapped])) == 60


def narrow(sketch: pa.Table) -> Piece:
    """As an index gives it: keys and keep columns at hand, vectors when they are asked for."""
    names = [name for name in sketch.schema.names if name not in {"size", "vector"}]
    return Piece(sketch.select(names), lambda rows: (sketch.take(pa.array(rows)), np.arange(len(rows))))


@pytest.mark.parametrize("exact", [False, True])
def test_pieces_of_an_index(exact: bool) -> None:
    match, table = Cosine(exact=exact), table_of(cloud(3, 60, 16, 0.1).tolist())
    pieces = [narrow(match.sketch(table.slice(at, 20))) for at in (0, 20, 40)]
    corpus, whole = match.corpus(pieces), match.corpus([match.piece(table)])
    assert name_edges(corpus, match.edges(corpus)).equals(name_edges(whole, match.edges(whole)))
    assert len(match.edges(corpus)) > 20
    longer = narrow(match.sketch(pa.table({"_id": [id_of(99)], "embedding": [[1.0] * 17]})))
    mixed = match.corpus([*pieces, longer])
    with pytest.raises(SchemaError, match=f"that of {id_of(99)} has 17"):
        match.verify(mixed, np.array([0], np.int32), np.array([60], np.int32))
