"""Sieves and what is picked by them: the same as looking at everything."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup import MinHash
from dedup.sketch import piece
from lake.ids import content_ids
from lake.lake import Change, Lake, Part
from pipeline.matching import stored
from pipeline.matching.index import Index
from pipeline.matching.sieve import Ids, Sieve
from pipeline.matching.stored import Stored

KEYS = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 8)), max_size=60)


@settings(deadline=None)  # the first example loads the kernels
@given(few=KEYS, many=KEYS)
def test_a_sieve_finds_what_a_set_finds(few: list[int], many: list[int]) -> None:
    found = Sieve(np.array(few, np.uint64)).find(np.array(many, np.uint64))
    assert found.tolist() == [at for at, key in enumerate(many) if key in set(few)]


IDS = st.lists(st.text("0123456789abcdef", min_size=1, max_size=2).map(lambda tail: tail.rjust(32, "0")))
ODD = st.lists(st.sampled_from(["a", "b", "0" * 32, "0" * 31 + "1", "", "0" * 31, "0" * 33]))


@settings(deadline=None)
@given(few=IDS | ODD, many=IDS | ODD, cut=st.integers(0, 5), null=st.booleans())
@example(few=["0" * 32], many=["0" * 31, "0" * 32, "0" * 33], cut=0, null=False)  # 32 bytes each on average
def test_ids_are_found_whatever_they_are_and_however_they_are_cut(
    few: list[str], many: list[str], cut: int, null: bool
) -> None:
    values: list[str | None] = [*many, None] if null else [*many]
    whole = pa.array(["x" * 32, *values], pa.string())[1:]  # with an offset
    column = pa.chunked_array([whole[:cut], whole[cut:]], pa.string())
    found = Ids(pa.array(few, pa.string())).find(column)
    assert found.tolist() == [at for at, id_ in enumerate(values) if id_ in set(few)]


def test_two_ids_of_the_same_64_bits_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = content_ids(pa.array([str(k) for k in range(100)]), None)
    from pipeline.matching import sieve

    monkeypatch.setattr(sieve, "_mixed", lambda words: words[:, 0] & np.uint64(3))
    few = ids.take(pa.array([3, 50, 99]))
    assert Ids(few).find(pa.chunked_array([ids])).tolist() == [3, 50, 99]
    one = ids.take(pa.array([7]))  # no two of the few are alike, most of the many are
    assert Ids(one).find(pa.chunked_array([ids])).tolist() == [7]


def test_what_is_picked_is_what_shares_a_key_or_is_named(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    texts = [" ".join(f"w{k}" for k in draw.integers(0, 200, 30)) for _ in range(300)]
    texts[7] = "..."  # without a token: no key
    column = pa.array(texts)
    table = pa.table({"_id": content_ids(column, None), "text": column})
    match = MinHash(threshold=0.5)
    index = Index(Lake(str(tmp_path)), match, "about")
    source = Part("raw", "a.parquet", table.num_rows, 1)
    narrow, wide = index.write(source, match.sketch(table))
    for part in (narrow, wide):
        schema = _schema(index, part)
        index.lake.commit([Change(part.table, schema, (part,))], app=part.table, version=1)
    found = index.read(index.known([source]).parts[source.path])
    assert isinstance(found, Stored)
    new = piece(match.sketch(table.slice(0, 3)))
    sieves = [Sieve(stored.keys_of([new.head], band)[0]) for band in range(match.key_count)]
    named = table.column("_id").take(pa.array([250, 251]))
    stored.pick([found], sieves, named, 2)
    shares = {
        row
        for band in range(match.key_count)
        for row, key in enumerate(found.head.column(f"band_{band:02}").to_pylist())
        if key is not None and key in new.head.column(f"band_{band:02}").to_pylist()
    }
    touched = found.touched()
    ids = table.column("_id").to_pylist()
    assert set(touched.head.column("_id").to_pylist()) == {ids[row] for row in shares} >= set(ids[:3])
    assert ids[7] not in touched.head.column("_id").to_pylist()
    some = found._some[0].column("_id").to_pylist()
    assert sorted(some) == sorted({*(ids[row] for row in shares), ids[250], ids[251]})
    # And the wide columns are those of the same rows.
    rows = np.array([touched.head.num_rows - 1, 0])
    table_of, places = touched.wide(rows)
    head = [touched.head.column("_id")[int(row)].as_py() for row in rows]
    whole = match.sketch(table)
    for id_, place in zip(head, places.tolist(), strict=True):
        at = pc.index(whole.column("_id"), id_).as_py()
        assert table_of.column("signature")[place].as_py() == whole.column("signature")[at].as_py()


ROW = st.tuples(st.none() | st.integers(-3, 3), st.none() | st.integers(-3, 3))


@settings(deadline=None)
@given(
    groups=st.lists(st.lists(ROW, max_size=6), max_size=4),
    new=st.tuples(st.lists(st.integers(-4, 3), max_size=3), st.lists(st.integers(-4, 3), max_size=3)),
    named=st.sets(st.integers(0, 23), max_size=4),
)
def test_rows_are_picked_from_any_row_groups_with_keys_or_without(
    groups: list[list[tuple[int | None, int | None]]], new: tuple[list[int], list[int]], named: set[int]
) -> None:
    rows = [row for group in groups for row in group]
    ids = [f"{at:032x}" for at in range(24)]
    schema = pa.schema([("_id", pa.string()), ("band_00", pa.int64()), ("band_01", pa.int64())])
    whole = pa.table(
        [ids[: len(rows)], [row[0] for row in rows], [row[1] for row in rows]], schema=schema
    ).append_column("place", pa.array(range(len(rows)), pa.int64()))
    ends = np.cumsum([0, *(len(group) for group in groups)]).tolist()
    cut = [whole.slice(0, 0), *(whole.slice(a, z - a) for a, z in pairwise(ends))]
    piece_ = Stored(lambda: iter(cut), lambda chosen: (whole.take(pa.array(chosen)), np.arange(len(chosen))), 1)
    sieves = [Sieve(np.array(keys, np.int64).view(np.uint64)) for keys in new]
    stored.pick([piece_], sieves, pa.chunked_array([[ids[at] for at in sorted(named)]], pa.string()), 1)
    shares = [at for at, row in enumerate(rows) if any(row[band] in new[band] for band in (0, 1))]
    mine = sorted({*shares, *(at for at in named if at < len(rows))})
    assert piece_.some.column("place").to_pylist() == mine
    touched = piece_.touched()
    assert touched.head.column("place").to_pylist() == shares
    table, places = touched.wide(np.arange(len(shares))[::-1])
    assert table.column("place").take(pa.array(places)).to_pylist() == shares[::-1]


def _schema(index: Index, part: Part) -> pa.Schema:
    from lake.delta.parts import read_footer

    footer = read_footer(index.lake.storage, f"{part.table}/{part.path}")
    assert footer is not None
    return footer[0].schema.to_arrow_schema().remove_metadata()
