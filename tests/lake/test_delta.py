from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

import lake as lake_package
from lake.delta import commit as delta
from lake.delta import pending
from lake.delta.commit import prepare
from lake.delta.snapshot import snapshot
from lake.errors import ConcurrentRunError, MissingPartError, MissingTableError, SchemaError, StorageError
from lake.lake import Change, Lake, Part
from lake.storage import local

ROOT = Path(lake_package.__file__).parents[1]
SCHEMA = pa.schema([("x", pa.int64())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def stage(lake: Lake, table: str, name: str, *numbers: int) -> Part:
    return lake.write_part(table, name, [pa.table({"x": list(numbers)}, schema=SCHEMA)], SCHEMA)


def add(*parts: Part) -> list[Change]:
    return [Change(part.table, SCHEMA, add=(part,)) for part in parts]


def numbers(lake: Lake, table: str) -> list[int]:
    found: list[int] = lake.table(table).to_table()["x"].to_pylist() if lake.table(table).exists else []
    return sorted(found)


@contextmanager
def children(code: str, *arguments: tuple[object, ...]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that have printed "ready" and wait for a line."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, one)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for one in arguments
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def start(processes: list[subprocess.Popen[str]]) -> list[str]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=120)[0] for process in processes]


# One process


def test_the_same_commit_again_changes_nothing(lake: Lake) -> None:
    changes = add(stage(lake, "a", "p", 1), stage(lake, "b", "p", 2))
    first = lake.commit(changes, app="x", version=3)
    assert first == {"a": 1, "b": 1}
    assert lake.commit(changes, app="x", version=3) == first
    lake.commit(add(stage(lake, "a", "q", 5)), app="x", version=4)
    # After a later version of the app, and from another process' memory.
    assert Lake(lake.uri).commit(changes, app="x", version=3) == first
    assert numbers(lake, "a") == [1, 5]
    assert numbers(lake, "b") == [2]
    assert lake.table("a").transaction_version("x") == 4
    assert lake.table("a").version == 2


def test_a_repeat_needs_no_files(lake: Lake) -> None:
    changes = add(stage(lake, "a", "p", 1))
    lake.commit(changes, app="x", version=0)
    (Path(lake.uri) / "a" / "p.parquet").unlink()  # compacted and vacuumed, say
    assert lake.commit(changes, app="x", version=0) == {"a": 1}


@pytest.mark.parametrize("version", [3, 2])
def test_another_commit_of_a_taken_version_is_refused(lake: Lake, version: int) -> None:
    lake.commit(add(stage(lake, "a", "p", 1)), app="x", version=3)
    other = add(stage(lake, "b", "q", 2), stage(lake, "a", "q", 2))
    with pytest.raises(ConcurrentRunError, match=f"version {version} of 'x'") as caught:
        lake.commit(other, app="x", version=version)
    assert caught.value.hint
    assert numbers(lake, "a") == [1]
    assert not lake.table("b").exists
    assert lake.recover() == []


def test_apps_do_not_disturb_each_other(lake: Lake) -> None:
    for app in ("x", "y", "x/y", "x_y"):
        lake.commit(add(stage(lake, "a", app.replace("/", "-"), 1)), app=app, version=0)
    assert numbers(lake, "a") == [1, 1, 1, 1]


def test_a_change_without_parts_records_its_version(lake: Lake) -> None:
    assert lake.commit([Change("a", SCHEMA)], app="x", version=7) == {"a": 1}
    assert lake.table("a").transaction_version("x") == 7
    assert lake.table("a").count() == 0


def test_parts_are_replaced(lake: Lake) -> None:
    old = stage(lake, "a", "old", 1, 2)
    lake.commit(add(old), app="x", version=0)
    new = stage(lake, "a", "new", 3)
    change = Change("a", SCHEMA, add=(new,), remove=(lake.table("a").parts()[0],))
    for _ in range(2):
        lake.commit([change], app="x", version=1)
    assert numbers(lake, "a") == [3]
    assert lake.table("a").to_table(version=1)["x"].to_pylist() == [1, 2]
    assert lake.table("a").history()[0].rows_removed == 2


def test_a_part_that_is_gone_cannot_be_replaced(lake: Lake) -> None:
    old = stage(lake, "a", "old", 1)
    lake.commit(add(old), app="x", version=0)
    lake.commit([Change("a", SCHEMA, remove=(old,))], app="x", version=1)
    new = stage(lake, "a", "new", 2)
    with pytest.raises(ConcurrentRunError, match=r"old\.parquet"):
        lake.commit([Change("a", SCHEMA, add=(new,), remove=(old,))], app="x", version=2)
    with pytest.raises(ConcurrentRunError, match="gone"):
        lake.commit([Change("never", SCHEMA, remove=(Part("never", "p", 1, 1),))], app="x", version=2)
    assert numbers(lake, "a") == []
    assert lake.recover() == []


def test_a_part_is_not_added_twice(lake: Lake) -> None:
    part = stage(lake, "a", "p", 1)
    lake.commit(add(part), app="x", version=0)
    with pytest.raises(ConcurrentRunError, match="in the table already"):
        lake.commit(add(part), app="y", version=0)
    assert numbers(lake, "a") == [1]


def test_a_missing_or_changed_part_is_refused_before_anything_happens(lake: Lake) -> None:
    good, bad = stage(lake, "a", "p", 1), stage(lake, "b", "p", 2)
    (Path(lake.uri) / "b" / bad.path).unlink()
    with pytest.raises(MissingPartError, match="gone"):
        lake.commit(add(good, bad), app="x", version=0)
    stage(lake, "b", "p", 2, 3, 4, 5)
    with pytest.raises(MissingPartError, match="changed"):
        lake.commit(add(good, bad), app="x", version=0)
    assert lake.tables() == []


def test_a_part_of_another_schema_is_refused(lake: Lake) -> None:
    part = lake.write_part("a", "p", [pa.table({"x": ["1"]})], pa.schema([("x", pa.string())]))
    with pytest.raises(SchemaError, match="'x' has another type"):
        lake.commit(add(part), app="x", version=0)
    extra = lake.write_part("a", "q", [pa.table({"y": [1]})], pa.schema([("y", pa.int64())]))
    with pytest.raises(SchemaError, match="'y' is not in the schema"):
        lake.commit(add(extra), app="x", version=0)
    assert lake.tables() == []


def test_calls_that_make_no_sense(lake: Lake) -> None:
    part = stage(lake, "a", "p", 1)
    for changes in (
        [],
        [Change("a", SCHEMA), Change("a", SCHEMA)],
        [Change("b", SCHEMA, add=(part,))],
        [Change("a", SCHEMA, add=(part, part))],
        [Change("../a", SCHEMA)],
    ):
        with pytest.raises(ValueError, match=r"part|change|table"):
            lake.commit(changes, app="x", version=0)
    with pytest.raises(ValueError, match="negative"):
        lake.commit(add(part), app="x", version=-1)
    for name in ("y", "f"):
        schema = SCHEMA.append(pa.field("f", pa.float64()))
        with pytest.raises(SchemaError, match="partition"):
            lake.commit([Change("a", schema, partition_by=(name,))], app="x", version=0)
    lake.commit(add(part), app="x", version=0)
    wider = SCHEMA.append(pa.field("k", pa.string()))
    with pytest.raises(SchemaError, match="partitioned otherwise"):
        lake.commit([Change("a", wider, partition_by=("k",))], app="x", version=1)


def test_a_full_disk_in_the_log_is_a_storage_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="log cannot be written"), delta._translated(lake.storage, "t"):
        raise OSError("No space left on device (os error 28)")


def test_a_log_that_cannot_be_written(lake: Lake) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    part = stage(lake, "a", "p", 1)
    (Path(lake.uri) / "a").chmod(0o500)
    with pytest.raises(StorageError):
        lake.commit(add(part), app="x", version=0)


def test_transactions_survive_checkpoints_and_lost_log_entries(lake: Lake) -> None:
    for version in range(12):
        lake.commit(add(stage(lake, "a", f"p{version}", version)), app="x", version=version)
    log = Path(lake.uri) / "a" / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    for entry in sorted(log.glob("*.json"))[:9]:
        entry.unlink()  # what an expired log looks like
    again = add(stage(lake, "a", "p11", 11))
    lake.commit(again, app="x", version=11)
    assert numbers(lake, "a") == list(range(12))
    assert lake.table("a").transaction_version("x") == 11
    with pytest.raises(MissingTableError, match="versions 9 to 12"):
        lake.table("a").scan(version=3)


def test_times_of_parts_grow_even_when_the_clock_does_not(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000)
    for version, name in enumerate("cab"):
        lake.commit(add(stage(lake, "a", name, version)), app="x", version=version)
    ordered = sorted(lake.table("a").parts(), key=lambda part: part.added)
    assert [part.path[0] for part in ordered] == ["c", "a", "b"]


def test_endless_losing_ends(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "_PATIENCE", 0.05)
    monkeypatch.setattr(delta, "_LONGEST_PAUSE", 0.01)
    part = stage(lake, "a", "p", 1)
    lake.commit([Change("a", SCHEMA)], app="y", version=0)
    stale = snapshot(lake.storage, "a")
    lake.commit([Change("a", SCHEMA)], app="y", version=1)
    monkeypatch.setattr(delta, "snapshot", lambda *_, **__: stale)
    with pytest.raises(ConcurrentRunError, match="under every attempt"):
        lake.commit(add(part), app="x", version=0)
    monkeypatch.undo()
    assert lake.recover() == ["x 0"]
    assert numbers(lake, "a") == [1]


# Races


def test_all_that_a_commit_makes_survives_a_power_cut(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each entry of a log the content, of each folder the names in it are forced to the disk."""
    forced: set[Path] = set()
    real = local._fsync
    monkeypatch.setattr(local, "_fsync", lambda path: (forced.add(Path(path)), real(path)))
    more = pa.schema([*SCHEMA, pa.field("new", pa.string())])
    for version, schema in enumerate((SCHEMA, more)):
        by = pa.schema([*schema, pa.field("k", pa.string())])
        parts = [
            lake.write_part("plain", f"p{version}", [schema.empty_table()], schema),
            lake.write_part("by", f"p{version}", [schema.empty_table()], by, partition={"k": str(version)}),
        ]
        changes = [Change("plain", schema, add=(parts[0],)), Change("by", by, (parts[1],), partition_by=("k",))]
        lake.commit(changes, app="app", version=version)
    root = Path(lake.uri)
    entries = set(root.rglob("*.json")) - {root / "_gristmill.json"}
    assert len(entries) == 8
    assert {root, *(path for path in root.rglob("*") if path.is_dir()), *entries} - forced == set()


def test_creating_a_table_twice_at_once_makes_one(lake: Lake) -> None:
    lake.ensure()
    for attempt in range(10):
        barrier = threading.Barrier(4)

        def create(column: str, table: str = f"t{attempt}", barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            prepare(lake.storage, table, pa.schema([("x", pa.int64()), (column, pa.string())]), ())

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(create, "abcd"))
        log = [entry.operation for entry in lake.table(f"t{attempt}").history()]
        assert log.count("CREATE TABLE") == 1
        assert sorted(lake.table(f"t{attempt}").schema().names) == ["a", "b", "c", "d", "x"]


RACER = """
import sys
import pyarrow as pa
from lake.errors import ConcurrentRunError
from lake.lake import Change, Lake
lake, me = Lake(sys.argv[1]), int(sys.argv[2])
schema = pa.schema([("x", pa.int64())])
parts = [
    [
        lake.write_part(t, f"{v}-{me}", [pa.table({"x": [10 * v + me]}, schema=schema)], schema)
        for t in ("a", "b")
    ]
    for v in range(6)
]
print("ready", flush=True)
sys.stdin.readline()
for v, (a, b) in enumerate(parts):
    try:
        lake.commit([Change(p.table, schema, add=(p,)) for p in (a, b)], app="one", version=v)
        print(v, "won")
    except ConcurrentRunError:
        print(v, "lost")
"""


def test_of_two_processes_with_one_version_one_wins(lake: Lake) -> None:
    lake.ensure()
    with children(RACER, (lake.uri, 1), (lake.uri, 2), (lake.uri, 3)) as racers:
        said = start(racers)
    winners = {
        int(line.split()[0]): me
        for me, lines in enumerate(said, 1)
        for line in lines.splitlines()
        if "won" in line
    }
    assert sum(lines.count("won") for lines in said) == len(winners) == 6
    assert numbers(lake, "a") == numbers(lake, "b") == sorted(10 * v + me for v, me in winners.items())
    assert pending.pending(lake.storage) == []


APPENDER = """
import sys
import pyarrow as pa
from lake.lake import Change, Lake
lake, me = Lake(sys.argv[1]), int(sys.argv[2])
schema = pa.schema([("x", pa.int64())])
print("ready", flush=True)
sys.stdin.readline()
for v in range(5):
    rows = pa.table({"x": [100 * me + 10 * v + k for k in range(10)]}, schema=schema)
    for _ in range(2):
        changes = [
            Change(t, schema, add=(lake.write_part(t, f"{me}-{v}", [rows], schema),)) for t in ("a", "b")
        ]
        lake.commit(changes, app=f"app{me}", version=v)
"""


def test_four_processes_that_repeat_every_commit_lose_and_double_nothing(lake: Lake) -> None:
    with children(APPENDER, *((lake.uri, me) for me in range(4))) as appenders:
        start(appenders)
        assert [process.returncode for process in appenders] == [0] * 4
    expected = sorted(100 * me + n for me in range(4) for n in range(50))
    assert numbers(lake, "a") == numbers(lake, "b") == expected
    assert lake.table("a").count() == 200
    assert lake.recover() == []


def test_two_threads_with_the_same_commit_agree(lake: Lake) -> None:
    for version in range(5):
        changes = add(stage(lake, "a", f"p{version}", version), stage(lake, "b", f"p{version}", version))
        barrier = threading.Barrier(3)

        def go(
            _: int,
            version: int = version,
            changes: list[Change] = changes,
            barrier: threading.Barrier = barrier,
        ) -> dict[str, int]:
            barrier.wait()
            return Lake(lake.uri).commit(changes, app="x", version=version)

        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(go, range(3)))
        assert answers[0] == answers[1] == answers[2] == {"a": version + 1, "b": version + 1}
    assert numbers(lake, "a") == numbers(lake, "b") == list(range(5))
