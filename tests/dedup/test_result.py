"""`dedup.deduplicate`: what a notebook calls."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dedup
from dedup import Jaccard, MinHash, PHash, Result, Spread, deduplicate, leakage, source
from dedup import sketch as sketching
from dedup.match import Match, number_edges
from dedup.reselect import reselect
from dedup.result import CLUSTERS, with_ids
from lake.errors import ConfigError, InputError, SchemaError
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


# ---------------------------------------------------------------- what stays, without the payload


def test_the_mask_and_the_ids_name_the_rows_that_stay() -> None:
    result = deduplicate(pa.table({"text": TEXTS}), MinHash(threshold=0.95))
    assert result.mask.dtype == np.bool_
    assert result.mask.tolist() == [True, True, False, False, True, False, False]
    assert result.kept_ids.to_pylist() == result.kept.column("_id").to_pylist()
    again = result.rethreshold(1.0)
    assert again.mask.tolist() == [True, True, True, False, True, False, False]


def test_a_table_that_stays_whole_is_not_copied() -> None:
    table = pa.table({"text": ["one two", "three four"]})
    kept = deduplicate(table, MinHash()).kept
    assert (
        kept.column("text").chunk(0).buffers()[2].address == table.column("text").chunk(0).buffers()[2].address
    )


# ---------------------------------------------------------------- a file


def write(path: Path, table: pa.Table, rows: int = 3) -> Path:
    pq.write_table(table, path / "in.parquet", row_group_size=rows)
    return path / "in.parquet"


@pytest.mark.parametrize(
    "match", [MinHash(threshold=0.95), Jaccard(threshold=0.95)], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("columns", ["text", "ids", "much"])
def test_a_file_gives_what_its_table_gives(tmp_path: Path, match: Match, columns: str) -> None:
    table = pa.table({"text": TEXTS, "label": list("abcdefg"), "else": range(7)})
    if columns == "text":
        table = table.select(["text"])
    if columns == "ids":
        table = table.append_column("_id", [[f"{i % 5:032x}" for i in range(7)]])
    path = write(tmp_path, table)
    wanted, found = deduplicate(table, match), deduplicate(str(path), match)
    assert (found.mask == wanted.mask).all()
    assert found.kept.equals(wanted.kept)
    assert found.dropped.equals(wanted.dropped)
    assert found.edges.equals(wanted.edges)
    assert found.clusters.equals(wanted.clusters)
    assert found.rethreshold(1.0).kept.equals(wanted.rethreshold(1.0).kept)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    texts=st.lists(st.none() | st.integers(0, 6).map(lambda at: " ".join(WORDS[at : 60 + at])), max_size=40),
    per_batch=st.integers(1, 7),
    group=st.integers(1, 20),
)
def test_how_rows_are_cut_into_batches_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str | None], per_batch: int, group: int
) -> None:
    table = pa.table(
        {"_id": [f"{i % 30:032x}" for i in range(len(texts))], "text": pa.array(texts, pa.string())}
    )
    match = MinHash(threshold=0.8)
    whole = deduplicate(table.set_column(1, "text", table.column("text").dictionary_encode()), match)
    with monkeypatch.context() as patched:
        patched.setattr(source, "_rows_of", lambda _size, _rows: per_batch)
        for given_as in (table, write(tmp_path, table, group)):
            result = deduplicate(given_as, match)
            assert (result.mask == whole.mask).all()
            assert result.dropped.equals(whole.dropped)
            assert result.kept.equals(table.filter(pa.array(whole.mask)))


def test_an_empty_file(tmp_path: Path) -> None:
    result = deduplicate(write(tmp_path, pa.table({"text": pa.array([], pa.string())})), MinHash())
    assert repr(result) == "Result(0 kept, 0 dropped)"
    assert result.kept.column_names == ["_id", "text"]


def test_a_file_of_images(tmp_path: Path) -> None:
    tile = np.random.default_rng(1).integers(0, 256, (6, 6), dtype=np.uint8)
    small, large = (encode(np.kron(tile, np.ones((k, k), np.uint8))) for k in (8, 16))
    path = write(tmp_path, pa.table({"image": [small, large, small]}))
    assert deduplicate(path, PHash()).kept.column("image").to_pylist() == [large]


def test_columns_that_decide_nothing_are_read_only_for_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, pa.table({"text": TEXTS, "else": range(7)}))
    read = []
    plain = pq.ParquetFile.iter_batches

    def spy(self: pq.ParquetFile, *arguments: object, **options: object) -> object:
        read.append(options["columns"])
        return plain(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    result = deduplicate(path, MinHash(threshold=0.95))
    assert read == [["text"]]
    assert result.kept.column("else").to_pylist() == [0, 1, 4]


def test_a_file_that_is_none_or_has_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no Parquet file can be read at .*there\.parquet"):
        deduplicate(tmp_path / "there.parquet", MinHash())
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(InputError, match="no Parquet file can be read"):
        deduplicate(tmp_path / "text.parquet", MinHash())
    path = write(tmp_path, pa.table({"text": TEXTS}))
    result = deduplicate(path, MinHash())
    write(tmp_path, pa.table({"text": TEXTS[1:]}))
    with pytest.raises(InputError, match="has 6 rows, and had 7"):
        _ = result.kept


def test_other_rows_of_the_same_number_are_never_taken_for_those_that_were_compared(tmp_path: Path) -> None:
    path = write(tmp_path, pa.table({"text": TEXTS}))
    result = deduplicate(path, MinHash())
    write(tmp_path, pa.table({"text": TEXTS[::-1]}))
    with pytest.raises(InputError, match="has changed while it was used"):
        _ = result.kept


def test_a_file_that_is_written_anew_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, pa.table({"text": TEXTS}))
    plain = pq.ParquetFile.iter_batches

    def meanwhile(self: pq.ParquetFile, *arguments: object, **options: object) -> object:
        write(tmp_path, pa.table({"text": TEXTS[::-1]}))
        return plain(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", meanwhile)
    with pytest.raises(InputError, match="has changed while it was used"):
        deduplicate(path, MinHash())


@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.large_string()])
def test_texts_of_any_kind_come_back_from_a_file(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(TEXTS), "place": range(7)})
    path = write(tmp_path, table.set_column(0, "text", table.column("text").cast(kind)))
    wanted = deduplicate(table, MinHash()).kept
    assert deduplicate(path, MinHash()).kept.select(["_id", "place"]).equals(wanted.select(["_id", "place"]))


def test_more_ids_than_an_array_of_strings_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text": TEXTS, "label": ["a", None, None, None, "b", None, None]})
    step = Spread(match=MinHash())

    def everything() -> list[object]:
        result = deduplicate(table, MinHash())
        corpus = result._made.corpus
        numbered = number_edges(corpus, result.edges)
        gone = pa.chunked_array([result.kept_ids.slice(0, 1).combine_chunks()])
        nodes = corpus.pieces[0].head.select(["_id", "keep_length"])
        return [
            result.kept_ids.to_pylist(),
            result.dropped.to_pylist(),
            result.edges.to_pylist(),
            result.clusters.to_pylist(),
            numbered.left.tolist(),
            reselect(result.edges, nodes, MinHash(), gone=gone).to_pylist(),
            step.resolve([step.sketch(with_ids(table))]).to_pylist(),
            leakage(table, table, MinHash()).pairs.to_pylist(),
        ]

    wanted = everything()
    monkeypatch.setattr(sketching, "_MOST_BYTES", 0)
    assert deduplicate(table, MinHash())._made.corpus.ids.type == pa.large_string()
    assert everything() == wanted


def test_what_is_wrong_with_a_column_is_said_of_a_file_too(tmp_path: Path) -> None:
    path = write(tmp_path, pa.table({"text": TEXTS, "stars": range(7)}))
    with pytest.raises(ConfigError, match=r"'quality'(.|\n)*stars"):
        deduplicate(path, MinHash(keep=("quality",)))
    path = write(tmp_path, pa.table({"text": TEXTS, "_id": list("abcdefg")}))
    with pytest.raises(ValueError, match="32 hex digits"):
        deduplicate(path, MinHash())
    path = write(tmp_path, pa.table({"body": TEXTS}))
    with pytest.raises(SchemaError, match="needs a column text or image"):
        deduplicate(path, MinHash())


# ---------------------------------------------------------------- the package


def test_the_public_names_are_all_there() -> None:
    for name in dedup.__all__:
        assert getattr(dedup, name).__name__ == name
    assert dir(dedup) == sorted(dedup.__all__)
    assert isinstance(deduplicate(pa.table({"text": ["a"]}), MinHash()), Result)
    with pytest.raises(AttributeError, match="no attribute 'MinHsh'"):
        dedup.MinHsh  # noqa: B018  (the access is the test)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no linker: Numba itself runs the kernels")
@pytest.mark.parametrize("match", ["MinHash", "Jaccard", "PHash", "Pixels", "Cosine", "Cosine(exact=True)"])
def test_compiled_kernels_run_without_the_compiler(match: str) -> None:
    code = f"""
import io, sys
import numpy as np
import pyarrow as pa
from PIL import Image
import dedup
def png(seed):
    held = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(noise).resize((64, 64)).save(held, "png")
    return held.getvalue()
words = [str(number) for number in range(400)]
number = np.random.default_rng(0)
vectors = number.normal(size=(60, 8)).astype(np.float32)[np.arange(120) % 60]
vectors += 0.001 * number.random((120, 8), np.float32)
table = pa.table({{
    "_id": [f"{{row:032x}}" for row in range(120)],
    "text": [" ".join(words[: 400 - row % 7]) + f" {{row}}" for row in range(120)],
    "image": [png(row % 60) for row in range(120)],
    "embedding": pa.array(list(vectors), pa.list_(pa.float32(), 8)),
}})
match = dedup.{match}{"" if match.endswith(")") else "()"}
assert dedup.deduplicate(table, match).kept.num_rows < 120
print(sorted({{"numba", "llvmlite"}} & set(sys.modules)))
"""
    run = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in "ab"
    ]
    assert run[1].stdout == "[]\n"


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
