"""JSON lines: both ways of reading them give the same, and every bad line is one drop."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.files import Files
from lake.formats import jsonl
from lake.formats.lines import Block
from lake.op import Outcome


def block_of(data: bytes, row: int = 1) -> Block:
    return Block(data, row, np.flatnonzero(np.frombuffer(data, np.uint8) == 10))


def read(folder: Path, **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    files = Files(**{"paths": "*.jsonl", **options})
    rows, drops = [], []
    for split in files.discover({}, base=folder):
        for outcome in files.read(split):
            assert outcome.table.schema.equals(files.schema())
            outcome.table.validate(full=True)
            rows += outcome.table.to_pylist()
            drops += outcome.drops.to_pylist()
    return rows, drops


def write(folder: Path, data: bytes, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# ---- two ways, one answer

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.0, -0.0, 1e22, 1e-7, 123456789.125, 0.1]),
)
STRINGS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["2020-01-01", "2020-01-01 10:00:00", "2020-01-01T10:00:00Z", "1", "", "null", '"\\/\b\n\x7f\0', "🙂"]
    ),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, STRINGS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=5,
)
# A column mostly has values of one kind: otherwise Arrow refuses, and there is nothing to compare.
KINDS = [
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.integers(-(2**70), 2**70),
    NUMBERS,
    STRINGS,
    VALUES,
    st.floats(allow_nan=False, allow_infinity=False),
    st.fixed_dictionaries({}, optional={"p": STRINGS, "q": st.integers(0, 3) | st.none()}),
]


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(["b", "a", "é", 'q"', "c\\", ""]), unique=True, max_size=4))
    kinds = {name: draw(st.sampled_from(KINDS)) for name in names}
    fields: dict[str, st.SearchStrategy[Any]] = {
        "text": st.one_of(STRINGS, STRINGS, STRINGS, st.none()),
        "label": draw(st.sampled_from(KINDS)),
        **kinds,
    }
    for name, kind in (
        ("i", st.integers(-5, 5)),
        ("f", NUMBERS),
        ("s", STRINGS),
        ("t", st.just("2020-02-02T01:02:03.5+02:00")),
    ):
        fields[name] = st.none() | kind
    return draw(st.lists(st.fixed_dictionaries({}, optional=fields), min_size=1, max_size=6))


def same(first: Outcome, second: Outcome) -> None:
    assert first.table.schema.equals(second.table.schema)
    assert first.table.to_pylist() == second.table.to_pylist()
    assert first.drops.to_pylist() == second.drops.to_pylist()


HOW = Files(paths="x", columns={"i": "int64", "f": "float64", "s": "string", "t": "timestamp"})
taken_fast = {"yes": 0, "no": 0}


@settings(max_examples=150, deadline=None)
@given(records(), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_by_columns_equals_line_by_line(rows: list[dict[str, Any]], ascii_only: bool, end: str) -> None:
    data = "".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in rows).encode("utf-8")
    reader = jsonl._Reader("a", HOW._reading())
    block = block_of(data, 7)
    slow = reader._by_lines(block)
    fast = reader._by_columns(block)
    taken_fast["no" if fast is None else "yes"] += 1
    if fast is not None:
        same(fast, slow)


def test_the_comparison_compared_something() -> None:
    assert taken_fast["yes"] > 20


RAW_VALUES = st.sampled_from(
    [
        "1",
        "1.0",
        "-0",
        "01",
        "1e5",
        "1E400",
        "NaN",
        "Infinity",
        ".5",
        "1.",
        "0.10",
        '"x"',
        '"\\ud800"',
        '"\\udc00"',
        '"\\u00e9"',
        '"\\ud83d\\ude42"',
        '"\\x"',
        '"a\tb"',
        "[1,null]",
        "[null]",
        "{}",
        '{"p":null}',
        '{"p":1,"p":2}',
        "tru",
        "null",
        "true",
        "'a'",
        "9223372036854775807",
        "9223372036854775808",
        '"2020-01-01"',
        "[]",
        "[[1],[]]",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda pairs, tail: "{" + ", ".join(f'"{k}" :{v}' for k, v in pairs) + "}" + tail,
            st.lists(
                st.tuples(st.sampled_from(["text", "label", "a", "b", "\\u0061", "f"]), RAW_VALUES), max_size=4
            ),
            st.sampled_from(["", "", "", "", " ", "{}", "x", "\r", "\0"]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_json_as_it_is_found(lines: list[str]) -> None:
    data = "\n".join(lines).encode("utf-8")
    reader = jsonl._Reader("a", HOW._reading())
    fast = reader._by_columns(block_of(data))
    slow = reader._by_lines(block_of(data))
    assert slow.table.num_rows + slow.drops.num_rows == len(lines)
    if fast is not None:
        same(fast, slow)


def test_some_rows_by_columns_and_some_by_lines(tmp_path: Path) -> None:
    lines = [{"text": f"t{i}", "score": i + 0.5, "tags": None} for i in range(40)]
    lines[3]["score"] = 7.0
    lines[9]["tags"] = ["a", None]
    del lines[5]["text"]
    write(tmp_path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    reader = jsonl._Reader("a", Files(paths="x")._reading())
    assert reader._by_columns(block_of((tmp_path / "a.jsonl").read_bytes())) is not None
    rows, drops = read(tmp_path)
    assert [row["_source"]["row"] for row in rows] == [i for i in range(1, 41) if i != 6]
    assert [rows[i]["meta"] for i in (0, 3, 8)] == [
        '{"score":0.5}',
        '{"score":7.0}',
        '{"score":9.5,"tags":["a",null]}',
    ]
    assert [(drop["_source"]["row"], drop["rule"]) for drop in drops] == [(6, "missing-text")]


def test_rows_with_keys_of_their_own_do_not_become_columns(tmp_path: Path) -> None:
    data = b"".join(b'{"text": "x", "k%d": %d}\n' % (i, i) for i in range(3000))
    reader = jsonl._Reader("a", Files(paths="x")._reading())
    assert reader._by_columns(block_of(data)) is None
    write(tmp_path, data)
    rows, drops = read(tmp_path)
    assert (len(rows), len(drops)) == (3000, 0)


# ---- what becomes of values


def test_labels_meta_and_types(tmp_path: Path) -> None:
    row = {
        "body": "hi",
        "stars": 3,
        "ok": True,
        "when": "2024-05-06T07:08:09Z",
        "n": 2,
        "b": {"y": None, "x": 1},
        "a": None,
    }
    write(tmp_path, json.dumps(row).encode())
    columns = {"when": "timestamp", "n": "int64", "stars": "float64", "ok": "bool"}
    [got], _ = read(tmp_path, text="body", label="stars", columns=columns)
    assert got["label"] == "3"
    assert got["stars"] == 3.0
    assert got["ok"] is True
    assert str(got["when"]) == "2024-05-06 07:08:09+00:00"
    assert got["meta"] == '{"b":{"x":1}}'
    assert got["_source"] == {"uri": "a.jsonl", "row": 1}


@pytest.mark.parametrize(
    ("value", "label"), [("true", "true"), ("1.5", "1.5"), ("7", "7"), ('"x"', "x"), ("null", None)]
)
def test_labels_are_strings(tmp_path: Path, value: str, label: str | None) -> None:
    write(tmp_path, f'{{"text":"a","label":{value}}}\n'.encode())
    [row], _ = read(tmp_path)
    assert row["label"] == label


BAD = {
    b'{"text": "a"': ("unreadable-json", "line 2, column 13"),
    b'{"text": "a"} x': ("unreadable-json", "line 2, column 15"),
    b"[1]": ("unreadable-json", "line 2, column 1"),
    b'{"text": NaN}': ("unreadable-json", "line 2"),
    b'{"text": "a", "m": 1e999}': ("unreadable-json", "line 2"),
    b'{"text": "a\xff"}': ("invalid-utf8", "line 2, byte 12"),
    b'{"text": "\\ud800"}': ("invalid-utf8", "line 2"),
    b'{"text": "a\0"}': ("nul-byte", "line 2, byte 12"),
    b'{"text": 5}': ("wrong-type", "line 2"),
    b'{"text": "a", "label": [1]}': ("wrong-type", "line 2"),
    b'{"text": "a", "n": "x"}': ("wrong-type", "line 2"),
    b'{"text": "a", "n": 1.5}': ("wrong-type", "line 2"),
    b'{"text": null}': ("missing-text", "line 2"),
    b'{"body": "a"}': ("missing-text", "line 2"),
    b'{"text": "secret%s"}' % (b"a" * 3000): ("row-too-large", "line 2"),
    b'{"text": "a", "m": ' + b"[" * 150 + b"]" * 150 + b"}": ("unreadable-json", "line 2, column 1"),
}


@pytest.mark.parametrize("bad", BAD, ids=lambda b: b[:24].decode("latin-1"))
def test_a_bad_line_is_one_drop(tmp_path: Path, bad: bytes) -> None:
    write(tmp_path, b'{"text": "one"}\n' + bad + b'\n\n{"text": ""}\n')
    rows, drops = read(tmp_path, max_row_bytes=2000, columns={"n": "int64"})
    assert [(row["text"], row["_source"]["row"]) for row in rows] == [("one", 1), ("", 4)]
    [drop] = drops
    rule, where = BAD[bad]
    assert (drop["rule"], drop["_source"]) == (rule, {"uri": "a.jsonl", "row": 2})
    assert drop["detail"].startswith(where)
    assert "secret" not in drop["detail"]
    assert drop["_id"] is None


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b"  \n\r\n"])
def test_a_file_with_nothing_in_it_is_no_error(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, data)
    assert read(tmp_path) == ([], [])
    files = Files(paths="*.jsonl")
    [taken] = files.taken(files.discover({}, base=tmp_path))
    assert files.discover({taken.uri: taken}, base=tmp_path) == []


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    write(tmp_path, b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}')
    rows, drops = read(tmp_path)
    assert [row["text"] for row in rows] == ["a", "b"]
    assert drops == []


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.999])
def test_truncated_gzip_keeps_what_came_before(tmp_path: Path, keep: float) -> None:
    lines = [json.dumps({"text": f"{i} " + "x" * (i % 97)}) + "\n" for i in range(20_000)]
    whole = gzip.compress("".join(lines).encode(), mtime=0)
    write(tmp_path, whole[: int(len(whole) * keep)], "a.jsonl.gz")
    rows, drops = read(tmp_path, paths="a.jsonl.gz")
    [drop] = drops
    assert drop["rule"] == "truncated-file"
    assert drop["_source"]["row"] == len(rows) + 1
    assert len(rows) > 20_000 * keep * 0.8
    assert [row["text"] for row in rows] == [json.loads(line)["text"] for line in lines[: len(rows)]]


def test_gzip_of_two_members_and_zstandard(tmp_path: Path) -> None:
    write(tmp_path, gzip.compress(b'{"text": "a"}\n') + gzip.compress(b'{"text": "b"}\n'), "a.jsonl.gz")
    with pa.CompressedOutputStream(str(tmp_path / "b.ndjson.zst"), "zstd") as out:
        out.write(b'{"text": "c"}\n' * 30_000)
    rows, drops = read(tmp_path, paths=".")
    assert [row["text"] for row in rows] == ["a", "b"] + ["c"] * 30_000
    assert drops == []
    blob = (tmp_path / "b.ndjson.zst").read_bytes()
    write(tmp_path, blob[:-9], "b.ndjson.zst")
    _, [drop] = read(tmp_path, paths="b.ndjson.zst")
    assert drop["rule"] == "truncated-file"


def test_broken_gzip_data(tmp_path: Path) -> None:
    write(tmp_path, b"this is no gzip", "a.jsonl.gz")
    rows, [drop] = read(tmp_path, paths="a.jsonl.gz")
    assert rows == []
    assert drop["rule"] == "truncated-file"


def test_a_line_of_many_megabytes_is_kept_or_dropped_without_being_held(tmp_path: Path) -> None:
    write(tmp_path, b'{"text": "a"}\n{"text": "' + b"x" * 20_000_000 + b'"}\n{"text": "b"}\n')
    rows, drops = read(tmp_path)
    assert [len(row["text"]) for row in rows] == [1, 20_000_000, 1]
    assert drops == []
    tracemalloc.start()
    rows, [drop] = read(tmp_path, max_row_bytes=1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 12_000_000
    tracemalloc.stop()
    assert [(row["text"], row["_source"]["row"]) for row in rows] == [("a", 1), ("b", 3)]
    assert (drop["rule"], drop["_source"]["row"]) == ("row-too-large", 2)


def test_images_in_json_are_base64(tmp_path: Path) -> None:
    write(tmp_path, b'{"picture": "bm8gaW1hZ2U="}\n{"picture": "***"}\n{"x": 1}\n')
    rows, drops = read(tmp_path, text=None, image="picture")
    assert rows == []
    assert [drop["rule"] for drop in drops] == ["unsupported-image", "unreadable-image", "missing-image"]


@pytest.mark.parametrize("depth", [200, 20_000, 200_000])
def test_a_line_nested_without_end_is_one_drop(tmp_path: Path, depth: int) -> None:
    deep = b'{"text": "a", "x": ' + b"[" * depth + b"]" * depth + b"}\n"
    write(tmp_path, deep + b'{"text": "b"}\n')
    rows, drops = read(tmp_path)
    assert [row["text"] for row in rows] == ["b"]
    assert [(drop["_source"]["row"], drop["rule"]) for drop in drops] == [(1, "unreadable-json")]
