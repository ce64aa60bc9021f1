"""`dedup.deduplicate`: what a notebook calls."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import dedup
from dedup import MinHash, PHash, Result, deduplicate
from dedup.result import CLUSTERS
from lake.errors import SchemaError
from lake.ids import content_ids
from lake.images import encode
from lake.schema import DROPS

WORDS = [f"word{i}" for i in range(200)]
WHOLE, NEAR, FAR = " ".join(WORDS), " ".join(WORDS[:-2]), " ".join(WORDS[:-30])
TEXTS: list[str | None] = [FAR, WHOLE, NEAR, WHOLE, "else", "else", NEAR]
IDS = content_ids(pa.array(TEXTS), None).to_pylist()


def test_exact_and_near_duplicates_go_and_every_row_is_accounted_for() -> None:
    table = pa.table({"text": TEXTS, "label": list("abcdefg")})
    result = deduplicate(table, MinHash(threshold=0.95))
    assert result.kept.column("text").to_pylist() == [FAR, WHOLE, "else"]
    assert result.kept.column("label").to_pylist() == ["a", "b", "e"]
    assert result.kept.column("_id").to_pylist() == [IDS[0], IDS[1], IDS[4]]
    assert result.dropped.schema.equals(DROPS)
    found = [(row["_id"], row["rule"], row["twin"], row["label"]) for row in result.dropped.to_pylist()]
    assert sorted(found) == sorted(
        [
            (IDS[3], "exact-duplicate", IDS[1], "d"),
            (IDS[5], "exact-duplicate", IDS[4], "f"),
            (IDS[6], "exact-duplicate", IDS[2], "g"),
            (IDS[2], "near-duplicate", IDS[1], "c"),
        ]
    )
    assert result.kept.num_rows + result.dropped.num_rows == table.num_rows
    exact = [row["exact"] for row in result.dropped.to_pylist() if row["rule"] == "exact-duplicate"]
    assert exact == [1.0, 1.0, 1.0]
    assert repr(result) == "Result(3 kept, 4 dropped)"


def test_ids_that_are_given_are_used() -> None:
    given = [f"{i:032x}" for i in range(len(TEXTS))]
    result = deduplicate(pa.table({"_id": given, "text": TEXTS}), MinHash(threshold=0.95))
    # Other ids: equal texts are near-duplicates with a similarity of 1.
    assert set(result.dropped.column("rule").to_pylist()) == {"near-duplicate"}
    assert result.kept.column("_id").to_pylist() == [given[i] for i in (0, 1, 4)]
    assert sorted(result.dropped.column("twin").to_pylist()) == [given[1]] * 3 + [given[4]]


def test_ids_that_are_no_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="32 hex digits"):
        deduplicate(pa.table({"_id": ["1", "2"], "text": ["a", "b"]}), MinHash())


def test_families_are_the_components_of_the_verified_edges() -> None:
    result = deduplicate(pa.table({"text": TEXTS}), MinHash(threshold=0.5, bands=(128, 1)))
    assert result.clusters.schema.equals(CLUSTERS)
    family = min(IDS[:3])
    rows = {row["_id"]: row for row in result.clusters.to_pylist()}
    assert set(rows) == set(IDS[:3])
    assert {row["family"] for row in rows.values()} == {family}
    assert [rows[id_]["kept"] for id_ in IDS[:3]] == [False, True, False]
    assert rows[IDS[1]]["twin"] is rows[IDS[1]]["exact"] is None
    assert rows[IDS[0]]["twin"] == rows[IDS[2]]["twin"] == IDS[1]
    assert rows[IDS[2]]["exact"] == pytest.approx(194 / 196)
    assert result.clusters.column("_id").to_pylist() == sorted(IDS[:3])


def test_duplicates_of_a_kept_row_the_most_similar_first() -> None:
    result = deduplicate(pa.table({"text": TEXTS}), MinHash(threshold=0.5, bands=(128, 1)))
    assert result.duplicates_of(IDS[1]).column("_id").to_pylist() == [IDS[1], IDS[2], IDS[0]]
    assert result.duplicates_of("0" * 32).num_rows == 0


def test_order_does_not_change_which_texts_stay() -> None:
    wanted = set(deduplicate(pa.table({"text": TEXTS}), MinHash()).kept.column("text").to_pylist())
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(TEXTS))
        kept = deduplicate(pa.table({"text": [TEXTS[i] for i in order]}), MinHash()).kept
        assert set(kept.column("text").to_pylist()) == wanted
        assert kept.num_rows == len(wanted)


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_any_kind_of_string_column(kind: pa.DataType) -> None:
    plain = pa.array(TEXTS)
    column = plain.dictionary_encode() if pa.types.is_dictionary(kind) else plain.cast(kind)
    halves = pa.chunked_array([column.slice(0, 3), column.slice(3)])
    result = deduplicate(pa.table({"text": halves}), MinHash(threshold=0.95))
    assert result.kept.column("text").to_pylist() == [FAR, WHOLE, "else"]
    assert result.dropped.num_rows == 4


@pytest.mark.parametrize(
    "text", [pa.array([], pa.string()), pa.nulls(0), pa.chunked_array([], pa.string())], ids=str
)
def test_an_empty_table(text: pa.Array) -> None:
    result = deduplicate(pa.table({"text": text}), MinHash())
    assert repr(result) == "Result(0 kept, 0 dropped)"
    assert result.clusters.equals(CLUSTERS.empty_table())
    assert "0 kept" in result._repr_html_()


def test_texts_that_are_all_null_stay_where_their_ids_differ() -> None:
    table = pa.table({"_id": [f"{i:032x}" for i in range(3)], "text": pa.nulls(3)})
    assert deduplicate(table, MinHash()).kept.num_rows == 3


def test_a_table_without_text_and_image_is_refused() -> None:
    with pytest.raises(SchemaError, match="needs a column text or image"):
        deduplicate(pa.table({"body": ["a"]}), MinHash())


def test_images() -> None:
    tiles = np.random.default_rng(1).integers(0, 256, (2, 6, 6), dtype=np.uint8)
    small, other, large = (
        encode(np.kron(tiles[n], np.ones((k, k), np.uint8))) for n, k in ((0, 8), (1, 8), (0, 16))
    )
    result = deduplicate(pa.table({"image": [small, other, large, other, None]}), PHash())
    assert sorted(result.dropped.column("rule").to_pylist()) == ["exact-duplicate", "near-duplicate"]
    assert result.kept.column("image").to_pylist() == [other, large, None]


def test_html_shows_the_most_similar_and_escapes() -> None:
    hostile = "<script>alert(1)</script>"
    plain = deduplicate(pa.table({"text": TEXTS}), MinHash(threshold=0.95))
    place = DROPS.get_field_index("rule")
    dropped = plain.dropped.set_column(place, DROPS.field(place), pa.array([hostile] * 4))
    dropped = dropped.set_column(0, DROPS.field(0), pa.array(["<b>"] * 4))
    html = dataclasses.replace(plain, dropped=dropped)._repr_html_()
    assert "3 kept, 4 dropped" in html
    assert "<script>" not in html
    assert "<b>" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4
    assert WORDS[0] not in plain._repr_html_()  # no record contents


def test_html_stays_short() -> None:
    result = deduplicate(pa.table({"text": ["a"] * 1000}), MinHash())
    assert result._repr_html_().count("<tr>") == 6


# ---------------------------------------------------------------- the package


def test_the_public_names_are_all_there() -> None:
    for name in dedup.__all__:
        assert getattr(dedup, name).__name__ == name
    assert dir(dedup) == sorted(dedup.__all__)
    assert isinstance(deduplicate(pa.table({"text": ["a"]}), MinHash()), Result)
    with pytest.raises(AttributeError, match="no attribute 'MinHsh'"):
        dedup.MinHsh  # noqa: B018  (the access is the test)


def test_import_loads_nothing_heavy() -> None:
    code = """
import sys
import dedup
assert "pyarrow" not in sys.modules
dedup.MinHash(), dedup.PHash()
loaded = {"numba", "datasketch", "scipy", "deltalake", "ray"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
