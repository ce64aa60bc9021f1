"""A snapshot that is given again is never an old one."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.delta.snapshot import snapshot
from lake.lake import Change, Lake

SCHEMA = pa.schema([("x", pa.int64())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def add(lake: Lake, version: int, *numbers: int) -> None:
    part = lake.write_part("t", f"p{version}-{sum(numbers)}", [pa.table({"x": [*numbers]})], SCHEMA)
    lake.commit([Change("t", SCHEMA, (part,))], app="me", version=version)


def test_it_is_read_once_while_nothing_is_committed(lake: Lake) -> None:
    add(lake, 1, 1)
    first = snapshot(lake.storage, "t")
    assert snapshot(lake.storage, "t") is first
    assert Lake(lake.uri).table("t").snapshot() is first
    assert snapshot(lake.storage, "t", fresh=True) is not first
    add(lake, 2, 2)
    second = snapshot(lake.storage, "t")
    assert second is not None
    assert second is not first
    assert sum(part.rows for part in second.parts()) == 2
    assert first is not None
    assert sum(part.rows for part in first.parts()) == 1  # whoever holds the old one still sees the old one


def test_a_table_that_was_deleted_and_made_anew_is_read_anew(lake: Lake) -> None:
    add(lake, 1, 1)
    before = lake.table("t").snapshot()
    shutil.rmtree(Path(lake.uri) / "t")
    assert not lake.table("t").exists
    add(lake, 1, 5, 6)
    after = lake.table("t").snapshot()
    assert after.version == before.version
    assert lake.table("t").to_table().column("x").to_pylist() == [5, 6]


def test_a_list_of_parts_that_is_changed_changes_no_other(lake: Lake) -> None:
    add(lake, 1, 1)
    lake.table("t").parts().clear()
    assert len(lake.table("t").parts()) == 1


def test_threads_that_read_while_others_commit_see_what_was_committed(lake: Lake) -> None:
    add(lake, 1, 1)
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        while not done.is_set():
            table = lake.table("t")
            current = table.snapshot()
            rows = sum(part.rows for part in current.parts())
            # The table is made by version 0, and each later one adds a row.
            if rows != current.version or rows < last:
                wrong.append(f"{rows} rows at version {current.version} after {last}")
            last = rows

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for version in range(2, 25):
        add(lake, version, version)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert lake.table("t").count() == 24


def test_small_row_groups_are_read_together_and_one_by_one(lake: Lake) -> None:
    texts = [f"{number:05}" * 200 for number in range(100)]
    schema = pa.schema([("text", pa.string()), ("n", pa.int64())])
    rows = pa.table({"text": texts, "n": list(range(100))}, schema=schema)
    part = lake.write_part("t", "p", [rows], schema, group_bytes=40_000, record_bytes=10_000)
    lake.commit([Change("t", schema, (part,))], app="me", version=1)
    groups = pq.read_metadata(Path(lake.uri) / "t" / part.path).num_row_groups
    assert groups >= 9
    table = lake.table("t")
    read = list(table.read_part(part))
    assert len(read) == -(-groups // 4)
    assert pa.concat_tables(read).equals(rows)
    import pyarrow.compute as pc

    assert table.to_table().equals(rows)
    assert table.to_table(filter=pc.field("n") == 57).column("text").to_pylist() == [texts[57]]
    assert table.to_table(columns=["text"], filter=pc.field("n") >= 95).num_rows == 5
    assert table.to_table(filter=pc.field("n") > 1000).num_rows == 0


@pytest.mark.parametrize("cuts", [4, 5])
def test_a_log_that_is_cut_while_it_is_read_is_read_again(lake: Lake, monkeypatch, cuts: int) -> None:
    add(lake, 1, 1)
    real, left = deltalake.DeltaTable, [cuts]

    def cut(*given, **named):
        if left[0]:
            left[0] -= 1
            raise FileNotFoundError("Object at location /l/t/_delta_log/19.checkpoint.parquet not found")
        return real(*given, **named)

    monkeypatch.setattr(deltalake, "DeltaTable", cut)
    if cuts < 5:
        assert snapshot(lake.storage, "t", fresh=True).version == 1
    else:
        with pytest.raises(FileNotFoundError, match="checkpoint"):
            snapshot(lake.storage, "t", fresh=True)
