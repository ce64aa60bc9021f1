"""What is new: growth, change, replacement, splitting, and where files are looked for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import InputError
from lake.files import Files, Split, Taken

LINES = [f'{{"text": "line {i}"}}\n' for i in range(1, 10)]


def rows(files: Files, splits: list[Split]) -> list[tuple[str, int, str]]:
    found = []
    for split in splits:
        for outcome in files.read(split):
            for row in outcome.table.to_pylist():
                found.append((row["_source"]["uri"], row["_source"]["row"], row["text"]))  # noqa: PERF401
    return found


def taken(files: Files, splits: list[Split], before: dict[str, Taken] | None = None) -> dict[str, Taken]:
    return {**(before or {}), **{item.uri: item for item in files.taken(splits)}}


def later(path: Path, data: str | bytes, mode: str = "w") -> None:
    """Write, with a time that differs from the one before."""
    old = path.stat().st_mtime_ns if path.exists() else 0
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        with path.open(mode, newline="") as out:
            out.write(data)
    os.utime(path, ns=(old + 10**9, old + 10**9))


def test_unchanged_files_are_not_new(tmp_path: Path) -> None:
    later(tmp_path / "a.jsonl", "".join(LINES))
    files = Files(paths="a.jsonl")
    first = files.discover({}, base=tmp_path)
    known = taken(files, first)
    assert files.discover(known, base=tmp_path) == []
    assert Taken.of({**pickle.loads(pickle.dumps(vars_of(known["a.jsonl"])))}) == known["a.jsonl"]


def vars_of(item: Taken) -> dict[str, Any]:
    return {name: getattr(item, name) for name in Taken.__slots__}


def test_a_grown_file_gives_the_new_lines_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    later(path, "".join(LINES[:3]))
    files = Files(paths="a.jsonl")
    known = taken(files, files.discover({}, base=tmp_path))
    assert (known["a.jsonl"].rows, known["a.jsonl"].consumed) == (3, path.stat().st_size)
    later(path, "".join(LINES[3:5]), "a")
    splits = files.discover(known, base=tmp_path)
    assert rows(files, splits) == [("a.jsonl", 4, "line 4"), ("a.jsonl", 5, "line 5")]
    known = taken(files, splits, known)
    later(path, LINES[5], "a")
    assert rows(files, files.discover(known, base=tmp_path)) == [("a.jsonl", 6, "line 6")]


def test_growth_of_an_uncounted_file_counts_then(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    later(path, "".join(LINES[:3]))
    files = Files(paths="a.jsonl")
    [known] = files.taken(files.discover({}, base=tmp_path))
    uncounted = Taken.of({**vars_of(known), "rows": -1})
    later(path, LINES[3], "a")
    assert rows(files, files.discover({"a.jsonl": uncounted}, base=tmp_path)) == [("a.jsonl", 4, "line 4")]


def test_an_unterminated_last_line_is_read_again_when_it_has_grown(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    later(path, LINES[0] + '{"text": "li')
    files = Files(paths="a.jsonl")
    first = files.discover({}, base=tmp_path)
    assert rows(files, first) == [("a.jsonl", 1, "line 1")]
    known = taken(files, first)
    assert known["a.jsonl"].consumed == len(LINES[0])
    later(path, 'ne 2"}\n', "a")
    assert rows(files, files.discover(known, base=tmp_path)) == [("a.jsonl", 2, "line 2")]


@pytest.mark.parametrize(
    "change",
    [LINES[1] * 3 + LINES[3], "".join(LINES[:2]), LINES[8] + "".join(LINES[1:3])],
    ids=["other", "cut", "same-size"],
)
def test_any_other_change_reads_the_whole_file(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.jsonl"
    later(path, "".join(LINES[:3]))
    files = Files(paths="a.jsonl")
    known = taken(files, files.discover({}, base=tmp_path))
    later(path, change)
    assert len(rows(files, files.discover(known, base=tmp_path))) == change.count("\n")


def test_a_change_near_either_end_of_a_long_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    body = LINES[0] * 20_000
    files = Files(paths="a.jsonl")
    for at in (3, len(body) - 3):
        later(path, body)
        known = taken(files, files.discover({}, base=tmp_path))
        later(path, body[:at] + "?" + body[at + 1 :] + LINES[1])
        [split] = files.discover(known, base=tmp_path)
        assert split.start == 0


def test_other_settings_read_again(tmp_path: Path) -> None:
    later(tmp_path / "a.jsonl", LINES[0])
    files = Files(paths="a.jsonl")
    known = taken(files, files.discover({}, base=tmp_path))
    assert Files(paths="a.jsonl", split_bytes=5).discover(known, base=tmp_path) == []
    assert len(Files(paths="a.jsonl", label="stars").discover(known, base=tmp_path)) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(['{"text": "a"}', '{"text": "bb", "k": 1}', "bad", "", "x" * 60]), max_size=25),
    st.integers(1, 200),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_any_splitting_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], size: int, end: str, closed: bool
) -> None:
    folder = tmp_path_factory.mktemp("split")
    (folder / "a.jsonl").write_text(end.join(lines) + end * closed, newline="")
    assert everything(folder, "a.jsonl", size) == everything(folder, "a.jsonl", 1 << 20)


CELL = st.sampled_from(["a", "", '"x, y"', '"line\nbreak"', '"say ""hi"""', "5", '"\r\n"'])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(CELL, min_size=2, max_size=3).map(",".join), max_size=15),
    st.sampled_from(["", 'a"b,c\n', ' "x",y\n', '"never closed, x\n']),
    st.integers(1, 60),
    st.integers(3, 40),
)
def test_any_splitting_of_csv_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], odd: str, size: int, scan: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    (folder / "a.csv").write_text("text,label\n" + "".join(line + "\n" for line in lines) + odd, newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lake.formats.splits._SCAN", scan)
        small = everything(folder, "a.csv", size)
    assert small == everything(folder, "a.csv", 1 << 20)


def everything(folder: Path, name: str, split_bytes: int) -> Any:
    files = Files(paths=name, split_bytes=split_bytes)
    splits = files.discover({}, base=folder)
    outcomes = [outcome for split in splits for outcome in files.read(split)]
    found = [row for outcome in outcomes for row in outcome.table.to_pylist() + outcome.drops.to_pylist()]
    return sorted(found, key=lambda row: int(row["_source"]["row"])), [
        vars_of(t)["rows"] for t in files.taken(splits)
    ]


def test_splits_are_many_and_their_keys_differ_and_last(tmp_path: Path) -> None:
    later(tmp_path / "a.jsonl", "".join(LINES))
    files = Files(paths="a.jsonl", split_bytes=40)
    splits = files.discover({}, base=tmp_path)
    assert len(splits) == 3
    keys = [split.key for split in splits]
    assert len(set(keys)) == len(keys)
    assert [split.key for split in pickle.loads(pickle.dumps(splits))] == keys
    assert [split.start for split in splits] == sorted(split.start for split in splits)
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jsonl").rename(tmp_path / "sub" / "a.jsonl")
    assert [split.key for split in files.discover({}, base=tmp_path / "sub")] == keys


def test_small_files_share_splits_by_format(tmp_path: Path) -> None:
    for i in range(30):
        later(tmp_path / f"{i:02}.txt", "word " * 100)
        later(tmp_path / f"{i:02}.jsonl", LINES[0])
    files = Files(paths=".", split_bytes=5_000)
    splits = files.discover({}, base=tmp_path)
    assert sum(len(split.pieces) for split in splits) == 60
    assert {split.format: sum(s.format == split.format for s in splits) for split in splits} == {
        "jsonl": 1,
        "text": 3,
    }
    assert len(rows(files, splits)) == 60
    assert len(files.taken(splits)) == 60


def test_globs_folders_and_hidden_files(tmp_path: Path) -> None:
    for name in ("a.jsonl", "x/b.jsonl", "x/y/c.jsonl", ".hidden.jsonl", "x/.cache/d.jsonl", "x/notes.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        later(tmp_path / name, LINES[0])

    def uris(*paths: str) -> list[str]:
        splits = Files(paths=list(paths)).discover({}, base=tmp_path)
        return [p.file.uri for s in splits for p in s.pieces if s.format == "jsonl"]

    assert uris("*.jsonl") == ["a.jsonl"]
    assert uris("**/*.jsonl") == ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]
    assert uris("x") == ["x/b.jsonl", "x/y/c.jsonl"]
    assert uris("x", "**/*.jsonl", str(tmp_path / "x" / "b.jsonl")) == ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]
    assert uris(".hidden.jsonl") == [".hidden.jsonl"]


def test_files_outside_the_base_folder_have_absolute_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    later(tmp_path / "a.jsonl", LINES[0])
    [split] = Files(paths="../a.jsonl").discover({}, base=tmp_path / "in")
    assert split.uri == str(tmp_path / "a.jsonl")


@pytest.mark.parametrize("pattern", ["reviws/*.jsonl", "reviws", "reviews/a.json", "none*", "reviews/*"])
def test_nothing_found_says_where_and_what_is_there(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "reviews").mkdir()
    later(tmp_path / "reviews" / "a.bin", LINES[0])
    with pytest.raises(InputError) as caught:
        Files(paths=pattern).discover({}, base=tmp_path)
    assert str(tmp_path) in str(caught.value)
    if pattern.startswith("reviws"):
        assert f"did you mean {tmp_path / 'reviews'}?" in str(caught.value)


def test_a_named_file_of_unknown_format_is_an_error_until_the_format_is_said(tmp_path: Path) -> None:
    later(tmp_path / "a.data", LINES[0])
    with pytest.raises(InputError, match="cannot tell the format"):
        Files(paths="a.data").discover({}, base=tmp_path)
    files = Files(paths="a.data", format="jsonl")
    assert rows(files, files.discover({}, base=tmp_path)) == [("a.data", 1, "line 1")]


def test_a_file_that_vanishes_is_one_drop(tmp_path: Path) -> None:
    later(tmp_path / "a.jsonl", LINES[0])
    later(tmp_path / "b.jsonl", LINES[1])
    files = Files(paths=".")
    [split] = files.discover({}, base=tmp_path)
    (tmp_path / "a.jsonl").unlink()
    [outcome] = files.read(split)
    assert outcome.table.column("text").to_pylist() == ["line 2"]
    [drop] = outcome.drops.to_pylist()
    assert (drop["rule"], drop["_source"]) == ("unreadable-file", {"uri": "a.jsonl", "row": None})


def test_a_file_without_permission_is_one_drop_and_read_once_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(tmp_path / "a.jsonl", LINES[0])
    files = Files(paths="a.jsonl")
    with monkeypatch.context() as patch:  # root may read everything, so chmod would not do
        patch.setattr("lake.formats.splits.readable", lambda address: False)
        splits = files.discover({}, base=tmp_path)
        [outcome] = files.read(splits[0])
        assert outcome.drops.column("rule").to_pylist() == ["unreadable-file"]
        known = taken(files, splits)
        assert files.discover(known, base=tmp_path) == []
    assert rows(files, files.discover(known, base=tmp_path)) == [("a.jsonl", 1, "line 1")]


def test_a_file_that_shrinks_before_it_is_read(tmp_path: Path) -> None:
    later(tmp_path / "a.jsonl", "".join(LINES))
    files = Files(paths="a.jsonl")
    [split] = files.discover({}, base=tmp_path)
    later(tmp_path / "a.jsonl", "".join(LINES[:2]))
    [outcome] = files.read(split)
    assert outcome.table.num_rows == 2
    assert outcome.drops.column("rule").to_pylist() == ["truncated-file"]


def test_names_that_are_not_utf8_are_escaped_in_the_source(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    with open(name, "w") as out:  # noqa: PTH123 (bytes)
        out.write(LINES[0])
    files = Files(paths="*.jsonl")
    assert rows(files, files.discover({}, base=tmp_path)) == [("caf\\udce9.jsonl", 1, "line 1")]


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"text": "string"}},
        {"columns": {"_x": "int64"}},
        {"paths": []},
        {"paths": ""},
        {"split_bytes": 0},
        {"format": "jsonl", "text": None},
        {"columns": {"a": "int32"}},
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Files"):
        Files(**{"paths": "x", **options})


def test_a_file_of_no_known_format_beside_others_is_listed(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.heic", ".hidden", "_SUCCESS"):
        (tmp_path / name).write_text('{"text": "x"}\n')
    files = Files(paths=".")
    splits = files.discover({}, base=tmp_path)
    drops = pa.concat_tables([outcome.drops for split in splits for outcome in files.read(split)])
    assert [(row["_source"]["uri"], row["rule"]) for row in drops.to_pylist()] == [("b.heic", "unknown-format")]
    assert files.discover({each.uri: each for each in files.taken(splits)}, base=tmp_path) == []
