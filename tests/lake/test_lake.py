from __future__ import annotations

import datetime as dt
import io
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake import ledger
from lake.delta import parts
from lake.errors import MissingPartError, MissingTableError, SchemaError
from lake.lake import Change, Lake, Part
from lake.schema import LEDGER, MANIFEST, RECORD, RUNS

SCHEMA = pa.schema([pa.field("_id", pa.string(), nullable=False), pa.field("x", pa.int64())])


def rows(*numbers: int) -> pa.Table:
    return pa.table({"_id": [f"{n:032x}" for n in numbers], "x": list(numbers)}, schema=SCHEMA)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def put(lake: Lake, name: str, *numbers: int, table: str = "t", version: int = 0) -> Part:
    part = lake.write_part(table, name, [rows(*numbers)], SCHEMA)
    lake.commit([Change(table, SCHEMA, add=(part,))], app=f"put/{name}", version=version)
    return part


# Parts


def test_a_part_is_found_again_with_its_notes(lake: Lake) -> None:
    made = lake.write_part(
        "t", "p-1", [rows(1, 2), rows(3).to_batches()[0]], SCHEMA, notes={"key": "é", "n": "3"}
    )
    assert (made.path, made.rows, made.notes) == ("p-1.parquet", 3, {"key": "é", "n": "3"})
    assert made.bytes == (Path(lake.uri) / "t" / "p-1.parquet").stat().st_size
    assert lake.find_part("t", "p-1") == made
    assert lake.find_part("t", "p-2") is None
    assert not lake.table("t").exists  # staged only


def test_the_same_rows_make_the_same_bytes(lake: Lake) -> None:
    for name in ("a", "b"):
        lake.write_part("t", name, [rows(1, 2)], SCHEMA, notes={"k": "v"})
    folder = Path(lake.uri) / "t"
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_file_is_not_found(lake: Lake, share: float) -> None:
    part = lake.write_part("t", "p", [rows(*range(1000))], SCHEMA)
    file = Path(lake.uri) / "t" / "p.parquet"
    os.truncate(file, int(part.bytes * share))
    assert lake.find_part("t", "p") is None
    with pytest.raises(MissingPartError):
        lake.commit([Change("t", SCHEMA, add=(part,))], app="a", version=0)


def test_a_file_of_somebody_else_is_not_found(lake: Lake) -> None:
    lake.ensure()
    (Path(lake.uri) / "t").mkdir()
    pq.write_table(rows(1), Path(lake.uri) / "t" / "p.parquet")
    assert lake.find_part("t", "p") is None


def test_an_error_in_the_stream_leaves_nothing(lake: Lake) -> None:
    def stream() -> Any:
        yield rows(1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        lake.write_part("t", "p", stream(), SCHEMA)
    assert list((Path(lake.uri) / "t").iterdir()) == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"_id": ["a"]}), "missing"),
        (pa.table({"_id": ["a"], "x": [1.0]}), "another type"),
        (pa.table({"_id": ["a"], "x": [1], "y": [1]}), "not in the schema"),
        (pa.table({"_id": pa.array([None], pa.string()), "x": [1]}), "nulls"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(lake: Lake, table: pa.Table, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        lake.write_part("t", "p", [rows(1), table], SCHEMA)
    assert lake.find_part("t", "p") is None


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "_x", "a b", "a\n"])
def test_a_bad_part_name_is_refused(lake: Lake, name: str) -> None:
    with pytest.raises(ValueError, match="part's name"):
        lake.write_part("t", name, [rows(1)], SCHEMA)


@pytest.mark.parametrize("name", ["", "a/b", "..", "_pending", "_locks", "_staging", "a b", "1a"])
def test_a_bad_table_name_is_refused(lake: Lake, name: str) -> None:
    with pytest.raises(ValueError, match="table's name"):
        lake.write_part(name, "p", [rows(1)], SCHEMA)
    with pytest.raises(ValueError, match="table's name"):
        lake.table(name)


def test_large_input_is_cut_into_row_groups(lake: Lake) -> None:
    schema = pa.schema([("image", pa.binary())])
    blobs = [bytes([n]) * 1000 for n in range(100)]
    one = pa.table({"image": blobs}, schema=schema)
    many = [one.slice(n, 1) for n in range(100)]
    for name, batches in (("one", [one]), ("many", many)):
        part = lake.write_part("t", name, batches, schema, group_bytes=10_000)
        footer = pq.read_metadata(Path(lake.uri) / "t" / part.path)
        assert 9 <= footer.num_row_groups <= 12
        lake.commit([Change("t", schema, add=(part,))], app=name, version=0)
        read = list(lake.table("t").read_part(part))
        assert len(read) == footer.num_row_groups
        assert pa.concat_tables(read).column("image").to_pylist() == blobs
        some = np.array([99, 0, 57, 57, 12])
        rows = lake.table("t").read_rows(part, some)
        assert rows.column("image").to_pylist() == [blobs[row] for row in some]
    assert lake.table("t").read_rows(part, np.array([], np.int64)).num_rows == 0


def test_an_empty_part_is_a_part(lake: Lake) -> None:
    part = lake.write_part("t", "p", [], SCHEMA)
    assert part.rows == 0
    lake.commit([Change("t", SCHEMA, add=(part,))], app="a", version=0)
    assert lake.table("t").count() == 0
    assert lake.table("t").to_table(filter=pc.field("x") > 1).num_rows == 0
    assert list(lake.table("t").read_part(part)) == []


def test_types_are_kept_as_delta_keeps_them(lake: Lake) -> None:
    schema = pa.schema(
        [
            ("large", pa.large_string()),
            ("blob", pa.large_binary()),
            ("word", pa.dictionary(pa.int32(), pa.string())),
            ("vector", pa.list_(pa.float32(), 2)),
            ("when", pa.timestamp("ms", tz="Europe/Berlin")),
        ]
    )
    noon = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
    table = pa.table(
        {"large": ["a"], "blob": [b"b"], "word": ["c"], "vector": [[1.0, 2.0]], "when": [noon]}, schema
    )
    part = lake.write_part("t", "p", [table], schema)
    lake.commit([Change("t", schema, add=(part,))], app="a", version=0)
    read = lake.table("t").to_table()
    assert read.to_pylist() == [{"large": "a", "blob": b"b", "word": "c", "vector": [1.0, 2.0], "when": noon}]
    assert read.schema.field("when").type == pa.timestamp("us", tz="UTC")
    assert read.schema.field("vector").type == pa.list_(pa.field("element", pa.float32()))


@pytest.mark.parametrize(
    "kind", [pa.uint8(), pa.uint64(), pa.float16(), pa.time64("us"), pa.null(), pa.list_(pa.uint32())]
)
def test_types_that_delta_lacks_are_refused(lake: Lake, kind: pa.DataType) -> None:
    with pytest.raises(SchemaError):
        lake.write_part("t", "p", [], pa.schema([("x", kind)]))


def test_nanoseconds_that_would_be_lost_are_refused(lake: Lake) -> None:
    schema = pa.schema([("x", pa.timestamp("ns", tz="UTC"))])
    with pytest.raises(SchemaError, match="does not fit"):
        lake.write_part("t", "p", [pa.table({"x": pa.array([1], schema.field(0).type)})], schema)


# Statistics


@given(st.lists(st.one_of(st.none(), st.text(max_size=60)), max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bounds_of_strings_are_bounds(lake: Lake, words: list[str | None]) -> None:
    schema = pa.schema([("s", pa.string())])
    try:
        table = pa.table({"s": words}, schema=schema)
    except UnicodeEncodeError:
        return  # a lone surrogate is no text
    stats = json.loads(lake.write_part("t", "p", [table], schema).stats)
    there = [word for word in words if word is not None]
    assert stats["numRecords"] == len(words)
    if words:
        assert stats["nullCount"]["s"] == len(words) - len(there)
    for word in there:
        assert stats["minValues"].get("s", "").encode() <= word.encode()
        if "s" in stats["maxValues"]:
            assert stats["maxValues"]["s"].encode() >= word.encode()
            assert len(stats["maxValues"]["s"]) <= 32


@pytest.mark.parametrize(
    ("longest", "bound"),
    [
        ("b" * 40, "b" * 31 + "c"),
        ("b" * 31 + "\U0010ffff" + "z", "b" * 30 + "c"),
        ("b" * 31 + "\ud7ff" + "z", "b" * 31 + "\ue000"),
        ("b" * 32, "b" * 32),
        ("\U0010ffff" * 40, None),
    ],
)
def test_a_cut_maximum_is_raised(longest: str, bound: str | None) -> None:
    assert parts._upper(longest) == bound


def test_statistics_of_the_other_types(lake: Lake) -> None:
    schema = pa.schema(
        [
            ("n", pa.int32()),
            ("f", pa.float64()),
            ("b", pa.bool_()),
            ("d", pa.date32()),
            ("t", pa.timestamp("us", tz="UTC")),
            ("m", pa.decimal128(5, 2)),
            ("blob", pa.binary()),
            ("nest", pa.struct([("n", pa.int64())])),
        ]
    )
    when = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
    table = pa.table(
        {
            "n": [3, None, -1],
            "f": [1.0, float("nan"), None],
            "b": [True, False, None],
            "d": [when.date(), None, None],
            "t": [when, None, None],
            "m": [Decimal("1.25"), None, None],
            "blob": [b"x", None, None],
            "nest": [{"n": 1}, None, None],
        },
        schema=schema,
    )
    part = lake.write_part("t", "p", [table], schema)
    stats = json.loads(part.stats)
    stamp = "2026-01-02T03:04:05.678901Z"
    assert stats["minValues"] == {"n": -1, "b": False, "d": "2026-01-02", "t": stamp}
    assert stats["maxValues"] == {"n": 3, "b": True, "d": "2026-01-02", "t": stamp}
    assert stats["nullCount"] == {"n": 1, "f": 1, "b": 1, "d": 2, "t": 2, "m": 2}
    lake.commit([Change("t", schema, add=(part,))], app="a", version=0)
    logged = json.loads(lake.table("t").parts()[0].stats)  # Delta reads the same out of it
    assert {k: v for k, v in logged["minValues"].items() if k != "t"} == {
        "n": -1,
        "b": False,
        "d": "2026-01-02",
    }
    assert logged["minValues"]["t"] == stamp
    assert lake.table("t").bounds("n") == (-1, 3)


def test_a_footer_quotes_no_text(lake: Lake) -> None:
    """Every look at a part reads its footer: two texts for each row group would be most of it."""
    schema = pa.schema([("_id", pa.string()), ("text", pa.string()), ("label", pa.string())])
    rows = pa.table({"_id": ["a", "b"], "text": ["once upon", "a time"], "label": ["x", "y"]}, schema=schema)
    part = lake.write_part("t", "p", [rows], schema)
    stats = json.loads(part.stats)
    assert stats["minValues"] == {"_id": "a", "label": "x"}
    assert stats["nullCount"] == {"_id": 0, "label": 0}
    file = Path(lake.uri, "t", part.path).read_bytes()
    footer = file[-8 - int.from_bytes(file[-8:-4], "little") :]
    assert b"once upon" not in footer
    assert b"a time" not in footer
    lake.commit([Change("t", schema, add=(part,))], app="a", version=0)
    found = lake.table("t").to_table(filter=pc.field("text") == "a time")
    assert found["_id"].to_pylist() == ["b"]
    assert lake.table("t").bounds("f") is None


# Partitions


def test_partition_values_live_in_the_log(lake: Lake) -> None:
    schema = pa.schema([("pipeline", pa.string()), ("n", pa.int32()), ("x", pa.int64())])
    odd = "a b/ü%2F=x"
    made = []
    for n in (1, 2):
        table = pa.table({"pipeline": [odd] * 2, "n": [n] * 2, "x": [n, n + 10]}, schema=schema)
        made.append(lake.write_part("t", "p", [table], schema, partition={"pipeline": odd, "n": str(n)}))
    assert made[0].path == "pipeline=a~20b~2F~C3~BC~252F~3Dx/n=1/p.parquet"
    assert pq.read_schema(Path(lake.uri) / "t" / made[0].path).names == ["x"]
    lake.commit([Change("t", schema, add=tuple(made), partition_by=("pipeline", "n"))], app="a", version=0)
    table = lake.table("t")
    assert table.to_table().to_pylist() == [
        {"pipeline": odd, "n": n, "x": n + d} for n in (1, 2) for d in (0, 10)
    ]
    assert table.to_table(["x"], filter=(pc.field("n") == 2) & (pc.field("pipeline") == odd))[
        "x"
    ].to_pylist() == [2, 12]
    assert table.to_table(["n"]).column("n").to_pylist() == [1, 1, 2, 2]
    assert [part.partition for part in table.parts()] == [{"pipeline": odd, "n": str(n)} for n in (1, 2)]
    assert next(table.read_part(table.parts()[1], ["n", "x"])).to_pylist() == [
        {"n": 2, "x": 2},
        {"n": 2, "x": 12},
    ]
    assert next(table.read_part(table.parts()[1], ["n"])).to_pylist() == [{"n": 2}, {"n": 2}]
    assert lake.find_part("t", "p", {"pipeline": odd, "n": "1"}) == made[0]


def test_the_empty_text_is_no_value_of_a_partition(lake: Lake) -> None:
    """In Delta it is null."""
    schema = pa.schema([("x", pa.int64()), ("k", pa.string())])
    with pytest.raises(SchemaError, match="empty"):
        lake.write_part("t", "p", [pa.table({"x": [1]})], schema, partition={"k": ""})


def test_rows_of_another_partition_are_refused(lake: Lake) -> None:
    schema = pa.schema([("k", pa.string()), ("x", pa.int64())])
    for value in ("other", None):
        table = pa.table({"k": ["here", value], "x": [1, 2]}, schema=schema)
        with pytest.raises(SchemaError, match="partition"):
            lake.write_part("t", "p", [table], schema, partition={"k": "here"})


# Reading


def test_reading_what_was_committed(lake: Lake) -> None:
    put(lake, "b", 3, 4)
    put(lake, "a", 1, 2)
    table = lake.table("t")
    assert table.to_table().equals(rows(1, 2, 3, 4))  # in the order of the paths
    assert table.to_table(["x"]).column_names == ["x"]
    assert table.to_table(["x", "_id"]).column_names == ["x", "_id"]
    assert table.count() == 4
    assert table.schema().equals(SCHEMA)
    assert [part.path for part in table.parts()] == ["a.parquet", "b.parquet"]
    assert table.parts()[0].added > table.parts()[1].added > 0
    assert table.size_bytes == sum(part.bytes for part in table.parts())
    assert table.head(3).equals(rows(1, 2, 3))
    assert lake.tables() == ["t"]
    with pytest.raises(SchemaError, match="'y'") as caught:
        table.scan(["y"])
    assert "_id, x" in str(caught.value.hint)


def test_a_filter_reads_only_parts_that_can_match(lake: Lake) -> None:
    put(lake, "a", 1, 2)
    gone = put(lake, "b", 13, 14)
    (Path(lake.uri) / "t" / gone.path).unlink()
    table = lake.table("t")
    assert table.to_table(filter=pc.field("x") < 10).equals(rows(1, 2))
    assert table.to_table(filter=pc.field("_id") == f"{2:032x}").equals(rows(2))
    with pytest.raises(MissingPartError, match="gone"):
        table.to_table()
    with pytest.raises(MissingPartError):
        list(table.read_part(gone))


@pytest.mark.parametrize("condition", [pc.field("nope") == 1, pc.field("_id") == 1, pc.scalar(1)])
def test_a_filter_that_does_not_fit_says_so(lake: Lake, condition: pc.Expression) -> None:
    put(lake, "a", 1, 2)
    with pytest.raises(SchemaError, match="the filter does not fit the table") as caught:
        lake.table("t").to_table(filter=condition)
    assert "the columns are _id" in str(caught.value)


@given(
    st.lists(st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=4), min_size=1, max_size=4),
    st.integers(-3, 3),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_filters_agree_with_arrow(tmp_path_factory: Any, groups: list[list[int | None]], bound: int) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    schema = pa.schema([("x", pa.int64())])
    made = [lake.write_part("t", f"p{i}", [pa.table({"x": g}, schema)], schema) for i, g in enumerate(groups)]
    lake.commit([Change("t", schema, add=tuple(made))], app="a", version=0)
    everything = pa.table({"x": [x for group in groups for x in group]}, schema)
    x = pc.field("x")
    for condition in (
        x > bound,
        x == bound,
        x != bound,
        x.is_null(),
        ~(x > bound),
        x.isin([bound]),
        (x < bound) | x.is_null(),
    ):
        assert lake.table("t").to_table(filter=condition).equals(everything.filter(condition))


def test_a_missing_table(lake: Lake) -> None:
    table = lake.table("nope")
    assert not table.exists
    assert "absent" in repr(table)
    assert "absent" in table._repr_html_()
    assert table.transaction_version("a") is None
    for call in (table.count, table.scan, table.parts, table.schema, table.history, lambda: table.version):
        with pytest.raises(MissingTableError, match="nope"):
            call()


def test_time_travel(lake: Lake) -> None:
    for n in range(25):  # over two checkpoints
        put(lake, f"p{n:02}", n)
    table = lake.table("t")
    assert table.version == 25
    for version in (1, 9, 10, 11, 24):
        assert table.count(version) == version
        assert table.to_table(["x"], version=version)["x"].to_pylist() == list(range(version))
    for version in (26, 999):
        with pytest.raises(MissingTableError, match="versions 0 to 25"):
            table.scan(version=version)
    (Path(lake.uri) / "t" / "p00.parquet").unlink()
    with pytest.raises(MissingTableError, match="was vacuumed"):
        table.scan(version=3)


def test_new_columns_are_null_in_older_parts(lake: Lake) -> None:
    put(lake, "a", 1)
    wider = SCHEMA.append(pa.field("score", pa.float64())).append(pa.field("tags", pa.list_(pa.string())))
    made = pa.table({"_id": ["b"], "x": [2], "score": [0.5], "tags": [["u"]]}, schema=wider)
    part = lake.write_part("t", "b", [made], wider)
    for _ in range(2):
        lake.commit([Change("t", wider, add=(part,))], app="evolve", version=0)
    table = lake.table("t")
    assert table.to_table()["score"].to_pylist() == [None, 0.5]
    assert table.to_table(["tags"])["tags"].to_pylist() == [None, ["u"]]
    assert table.to_table(filter=pc.field("score").is_null()).num_rows == 1
    old = next(part for part in table.parts() if part.path == "a.parquet")
    assert next(table.read_part(old)).to_pylist() == [{"_id": f"{1:032x}", "x": 1, "score": None, "tags": None}]
    assert table.schema(1).names == ["_id", "x"]
    put(lake, "c", 3)  # the narrow schema still fits
    assert table.count() == 3


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.schema([SCHEMA.field(0), pa.field("x", pa.string())]), "another type"),
        (SCHEMA.append(pa.field("y", pa.int64(), nullable=False)), "must be nullable"),
        (pa.schema([pa.field("_id", pa.string()), SCHEMA.field(1)]), "may not be null"),
        (pa.schema([SCHEMA.field(1)]), "missing and may not be null"),
    ],
)
def test_a_schema_that_contradicts_the_table_is_refused(lake: Lake, schema: pa.Schema, message: str) -> None:
    put(lake, "a", 1)
    part = lake.write_part("t", "b", [], schema)
    other = lake.write_part("u", "b", [rows(1)], SCHEMA)
    with pytest.raises(SchemaError, match=message):
        lake.commit([Change("u", SCHEMA, add=(other,)), Change("t", schema, add=(part,))], app="x", version=0)
    assert lake.table("t").version == 1
    assert lake.table("t").schema().equals(SCHEMA)
    assert not lake.table("u").exists
    assert lake.recover() == []


def test_a_record_survives(lake: Lake) -> None:
    record = {
        "_id": "0" * 32,
        "_source": {"uri": "a.jsonl", "row": 1},
        "text": "t",
        "image": b"\x89PNG",
        "label": None,
        "meta": "{}",
    }
    part = lake.write_part("raw", "p", [pa.Table.from_pylist([record], schema=RECORD)], RECORD)
    lake.commit([Change("raw", RECORD, add=(part,))], app="a", version=0)
    read = lake.table("raw").to_table()
    assert read.schema.equals(RECORD)
    assert read.to_pylist() == [record]


def test_history_tells_who_did_what(lake: Lake) -> None:
    part = lake.write_part("t", "p", [rows(1, 2)], SCHEMA)
    lake.commit([Change("t", SCHEMA, add=(part,))], app="reviews/raw", version=7, info={"run": "r1"})
    newest, created = lake.table("t").history()
    assert (newest.version, newest.app, newest.app_version) == (1, "reviews/raw", 7)
    assert (newest.rows_added, newest.rows_removed, newest.info) == (2, 0, {"run": "r1"})
    assert len(newest.wal) == 32
    assert newest.time.tzinfo is not None
    assert (created.version, created.app, created.operation) == (0, "", "CREATE TABLE")
    assert len(lake.table("t").history(limit=1)) == 1


def test_notebook_views_are_escaped(lake: Lake) -> None:
    from PIL import Image

    png = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(png, "PNG")
    schema = pa.schema([("<b>", pa.string()), ("image", pa.binary())])
    blobs = [png.getvalue(), png.getvalue()[:100], b"no image", None]
    table = pa.table({"<b>": ["<script>", "x" * 500, None, "&"], "image": blobs}, schema=schema)
    part = lake.write_part("t", "p", [table], schema)
    lake.commit([Change("t", schema, add=(part,))], app="a", version=0)
    html = lake.table("t")._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;b&gt;" in html
    assert html.count("data:image/png;base64,") == 1
    assert "x" * 200 not in html
    assert "4 rows" in repr(lake.table("t"))
    assert "version    1" in repr(lake)
    assert "<td>4</td>" in lake._repr_html_()


# The ledger


def test_the_ledger_of_a_lake_without_runs(lake: Lake) -> None:
    assert ledger.last_run(lake, "p", "raw") is None
    assert ledger.taken(lake, "p") == {}
    assert ledger.runs(lake).schema.equals(RUNS)
    assert ledger.drops(lake, "p", "clean", "x").schema.equals(LEDGER)


def test_the_ledger_answers_in_commit_order(lake: Lake) -> None:
    def manifest(uri: str, consumed: int, pipeline: str = "p") -> dict[str, object]:
        return dict(zip(MANIFEST.names, [pipeline, uri, consumed, 1, consumed, 1, "f", "r"], strict=True))

    def run(version: int, stage: str = "raw") -> dict[str, object]:
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)  # equal times: only the commits' order tells
        return dict(zip(RUNS.names, [f"r{version}", "p", stage, version, "k", "{}", now], strict=True))

    # Names that sort against the order of the commits.
    for version, name in enumerate(["c", "b", "a"]):
        files = [manifest("x", 10 + version)] + ([manifest("y", 5)] if version == 0 else [])
        changes = [
            Change(
                table,
                schema,
                add=(lake.write_part(table, name, [pa.Table.from_pylist(data, schema=schema)], schema),),
            )
            for table, schema, data in (
                ("_files", MANIFEST, [*files, manifest("x", 99, "q")]),
                ("_runs", RUNS, [run(version), run(version, "clean")]),
            )
        ]
        lake.commit(changes, app="p/raw", version=version)
    assert {uri: row["consumed"] for uri, row in ledger.taken(lake, "p").items()} == {"x": 12, "y": 5}
    last = ledger.last_run(lake, "p", "raw")
    assert last is not None
    assert (last["run"], last["version"], last["stage"]) == ("r2", 2, "raw")
    assert ledger.runs(lake, "p")["version"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert ledger.runs(lake, "other").num_rows == 0


def test_drops_by_pipeline_stage_and_id(lake: Lake) -> None:
    for pipeline in ("p", "q"):
        for stage in ("clean", "train"):
            data = [
                {"pipeline": pipeline, "stage": stage, "step": "1", "_id": str(n), "rule": "r"}
                for n in range(3)
            ]
            part = lake.write_part(
                "_drops",
                "d",
                [pa.Table.from_pylist(data, schema=LEDGER)],
                LEDGER,
                partition={"pipeline": pipeline, "stage": stage},
            )
            change = Change("_drops", LEDGER, add=(part,), partition_by=ledger.DROPS_BY)
            lake.commit([change], app=f"{pipeline}/{stage}", version=0)
    assert ledger.drops(lake, "p").num_rows == 6
    assert ledger.drops(lake, "p", "train").schema.names == LEDGER.names
    found = ledger.drops(lake, "p", "train", "2").to_pylist()
    assert [(row["pipeline"], row["stage"], row["_id"]) for row in found] == [("p", "train", "2")]
