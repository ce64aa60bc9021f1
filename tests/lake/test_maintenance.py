from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

import lake as lake_package
from lake.delta import pending
from lake.delta.commit import Stamp, commit_table
from lake.errors import ConcurrentRunError, MissingTableError
from lake.lake import Change, Lake, Part
from lake.maintenance import compact, compaction, vacuum, verify
from lake.storage import TEMPORARY

ROOT = Path(lake_package.__file__).parents[1]
SCHEMA = pa.schema([("x", pa.int64())])
WEEK = 168 * 3600


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def stage(lake: Lake, name: str, *numbers: int, table: str = "t") -> Part:
    return lake.write_part(table, name, [pa.table({"x": list(numbers)}, schema=SCHEMA)], SCHEMA)


def put(lake: Lake, name: str, *numbers: int, table: str = "t") -> Part:
    part = stage(lake, name, *numbers, table=table)
    lake.commit([Change(table, SCHEMA, add=(part,))], app=f"put/{name}", version=0)
    return part


def numbers(lake: Lake, version: int | None = None) -> list[int]:
    return sorted(lake.table("t").to_table(version=version)["x"].to_pylist())


def age(lake: Lake, *paths: str, seconds: float = 2 * WEEK) -> None:
    for path in paths:
        os.utime(Path(lake.uri) / path, (time.time() - seconds,) * 2)


def age_log(lake: Lake, table: str = "t", seconds: int = 2 * WEEK) -> None:
    """Make all commits so far look old, the log entries and what they say."""
    for entry in (Path(lake.uri) / table / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            if "commitInfo" in action:
                action["commitInfo"]["timestamp"] -= seconds * 1000
        entry.write_text("\n".join(map(json.dumps, actions)))
        os.utime(entry, (time.time() - seconds,) * 2)


# Compaction


def test_compaction_changes_no_row_and_keeps_the_past(lake: Lake) -> None:
    for n in range(12):
        put(lake, f"p{n:02}", n, n + 100)
    before = numbers(lake)
    result = compact(lake, "t")
    assert (result.parts_before, result.parts_after, result.version) == (12, 1, 13)
    assert result.bytes_after < result.bytes_before
    table = lake.table("t")
    assert numbers(lake) == before
    assert len(table.parts()) == 1
    assert [len(table.parts(version)) for version in (1, 12)] == [1, 12]
    assert numbers(lake, 3) == [0, 1, 2, 100, 101, 102]
    assert [table.transaction_version(f"put/p{n:02}") for n in range(12)] == [0] * 12
    assert compact(lake, "t").version is None  # nothing left to do
    assert table.version == 13
    entry = table.history()[0]
    assert entry.rows_added == entry.rows_removed == 24
    assert verify(lake) == []


def test_a_commit_repeated_after_compaction_and_vacuum_adds_nothing(lake: Lake) -> None:
    parts = [put(lake, f"p{n}", n) for n in range(3)]
    compact(lake, "t")
    age_log(lake)
    age(lake, *(f"t/{part.path}" for part in parts))
    assert sorted(vacuum(lake, "t")) == [f"t/p{n}.parquet" for n in range(3)]
    for n, part in enumerate(parts):
        lake.commit([Change("t", SCHEMA, add=(part,))], app=f"put/p{n}", version=0)
    assert numbers(lake) == [0, 1, 2]


def test_transactions_survive_compaction_and_the_checkpoint_after_it(lake: Lake) -> None:
    for n in range(8):
        part = stage(lake, f"p{n}", n)
        lake.commit([Change("t", SCHEMA, add=(part,))], app="app", version=n)
    compact(lake, "t")
    for n in range(8, 12):
        put(lake, f"q{n}", n)
    assert (
        list((Path(lake.uri) / "t" / "_delta_log").glob("*10.checkpoint.parquet"))
        or lake.table("t").version > 10
    )
    for entry in sorted((Path(lake.uri) / "t" / "_delta_log").glob("*.json"))[:9]:
        entry.unlink()
    assert lake.table("t").transaction_version("app") == 7
    lake.commit([Change("t", SCHEMA, add=(stage(lake, "p7", 7),))], app="app", version=7)
    assert numbers(lake) == list(range(12))


def test_large_parts_stay_and_order_is_kept(lake: Lake) -> None:
    names = ["z", "y", "big", "b", "a"]  # sorts against the order of the commits
    for n, name in enumerate(names):
        put(lake, name, *(range(20_000) if name == "big" else [n]))
    sizes = {part.path: part.bytes for part in lake.table("t").parts()}
    compact(lake, "t", target_bytes=sizes["big.parquet"])
    parts = sorted(lake.table("t").parts(), key=lambda part: part.added)
    assert [part.rows for part in parts] == [2, 20_000, 2]
    read = [next(lake.table("t").read_part(part))["x"].to_pylist()[:2] for part in parts]
    assert read == [[0, 1], [0, 1], [3, 4]]


def test_partitions_are_not_mixed(lake: Lake) -> None:
    schema = pa.schema([("k", pa.string()), ("x", pa.int64())])
    for n in range(4):
        k = "ab"[n % 2]
        data = pa.table({"k": [k], "x": [n]}, schema=schema)
        part = lake.write_part("t", f"p{n}", [data], schema, partition={"k": k})
        lake.commit([Change("t", schema, add=(part,), partition_by=("k",))], app="a", version=n)
    before = lake.table("t").to_table().sort_by("x")
    assert compact(lake, "t").parts_after == 2
    assert lake.table("t").to_table().sort_by("x").equals(before)
    assert [part.partition for part in lake.table("t").parts()] == [{"k": "a"}, {"k": "b"}]


def test_parts_of_several_schemas_are_joined(lake: Lake) -> None:
    put(lake, "a", 1)
    wider = SCHEMA.append(pa.field("y", pa.string()))
    part = lake.write_part("t", "b", [pa.table({"x": [2], "y": ["v"]}, schema=wider)], wider)
    lake.commit([Change("t", wider, add=(part,))], app="w", version=0)
    compact(lake, "t")
    assert lake.table("t").to_table().to_pylist() == [{"x": 1, "y": None}, {"x": 2, "y": "v"}]


def test_compaction_of_nothing(lake: Lake) -> None:
    with pytest.raises(MissingTableError):
        compact(lake, "t")
    put(lake, "a", 1)
    assert compact(lake, "t").version is None


def test_compaction_holds_the_maintenance_lock(lake: Lake) -> None:
    put(lake, "a", 1)
    with lake.lock("maintenance"):
        with pytest.raises(ConcurrentRunError):
            compact(lake, "t")
        with pytest.raises(ConcurrentRunError):
            vacuum(lake, "t")


def test_a_compaction_whose_parts_were_replaced_changes_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [put(lake, name, n) for n, name in enumerate("ab")]
    rewrite = compaction.rewrite

    def meanwhile(*arguments: object) -> Part:
        made = rewrite(*arguments)
        new = stage(lake, "new", 5)
        lake.commit([Change("t", SCHEMA, add=(new,), remove=(parts[0],))], app="replace", version=0)
        return made

    monkeypatch.setattr(compaction, "rewrite", meanwhile)
    with pytest.raises(ConcurrentRunError, match="gone"):
        compact(lake, "t")
    assert numbers(lake) == [1, 5]
    assert pending.pending(lake.storage) == []
    monkeypatch.undo()
    compact(lake, "t")
    assert numbers(lake) == [1, 5]


def test_a_reader_is_not_disturbed(lake: Lake) -> None:
    for n in range(6):
        put(lake, f"p{n}", n)
    reader = lake.table("t").scan()
    first = reader.read_next_batch()
    compact(lake, "t")
    rest = reader.read_all()
    assert first["x"].to_pylist() + rest["x"].to_pylist() == list(range(6))


# What delta-rs 1.6 doubles the rows in, 3 times of 3.
CANARY = """
import sys
import pyarrow as pa
from lake.errors import ConcurrentRunError
from lake.lake import Change, Lake
from lake.maintenance import compact
lake, role = Lake(sys.argv[1]), sys.argv[2]
schema = pa.schema([("x", pa.int64())])
if role == "unlocked":
    # Even without the lock, as two frozen holders of a lease would be.
    from contextlib import nullcontext
    Lake.lock = lambda self, name, wait=0.0: nullcontext()
print("ready", flush=True)
sys.stdin.readline()
for n in range(12):
    if role == "append":
        part = lake.write_part("t", f"new{n}", [pa.table({"x": [1000 + n]}, schema=schema)], schema)
        lake.commit([Change("t", schema, add=(part,))], app="append", version=n)
        continue
    try:
        done = compact(lake, "t")
        print("compacted" if done.version is not None else "nothing", flush=True)
    except ConcurrentRunError:
        print("refused", flush=True)
"""


@pytest.mark.parametrize("role", ["locked", "unlocked"])
def test_two_compactions_at_once_beside_an_appender(lake: Lake, role: str) -> None:
    for n in range(10):
        put(lake, f"p{n}", n)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CANARY), lake.uri, one],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for one in (role, role, "append")
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    expected = set(range(10))
    while started[2].poll() is None:  # whoever reads meanwhile sees every row once
        seen = numbers(lake)
        assert len(seen) == len(set(seen))
        assert expected <= set(seen)
        expected = set(seen)
    said = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert "compacted" in said[0] + said[1]
    assert numbers(lake) == sorted([*range(10), *(1000 + n for n in range(12))])
    assert verify(lake) == []
    assert lake.recover() == []


# Vacuum


def test_vacuum_spares_what_is_needed(lake: Lake) -> None:
    old = [put(lake, f"p{n}", n) for n in range(3)]
    compact(lake, "t")
    forgotten, staged, waiting = (stage(lake, name, 9) for name in ("forgotten", "staged", "waiting"))
    change = pending.Pending("app", 0, {}, (Change("t", SCHEMA, add=(waiting,)),))
    assert lake.storage.claim(change.path, change.dump())
    lake.scratch("dead").write_bytes("x", b"1")
    lake.scratch("alive").write_bytes("x", b"1")
    half = f"t/{TEMPORARY}123"
    lake.storage.write(half, b"half")
    current = lake.table("t").parts()
    age(
        lake,
        *(f"t/{part.path}" for part in [*old, *current, forgotten, waiting]),
        "_staging/dead/x",
        half,
    )
    # The compaction is fresh: the version before it was the newest one this week.
    assert sorted(vacuum(lake, "t")) == ["_staging/dead/x", half, "t/forgotten.parquet"]
    assert numbers(lake, 3) == [0, 1, 2]
    assert lake.find_part("t", "staged") == staged
    assert lake.scratch("alive").exists("x")
    age_log(lake)
    assert sorted(vacuum(lake, "t")) == [f"t/p{n}.parquet" for n in range(3)]
    assert numbers(lake) == [0, 1, 2]
    assert lake.recover() == ["app 0"]
    assert numbers(lake) == [0, 1, 2, 9]
    with pytest.raises(MissingTableError, match="was vacuumed") as caught:
        lake.table("t").to_table(version=2)
    assert "4 to 5" in str(caught.value.why)
    assert verify(lake) == []


def test_looking_for_a_part_keeps_it_from_vacuum(lake: Lake) -> None:
    put(lake, "p", 1)
    stage(lake, "found", 2)
    stage(lake, "lost", 3)
    age(lake, "t/found.parquet", "t/lost.parquet")
    assert lake.find_part("t", "found") is not None
    assert vacuum(lake, "t") == ["t/lost.parquet"]


def test_looking_for_an_intermediate_keeps_it_from_vacuum(lake: Lake) -> None:
    put(lake, "p", 1)
    scratch = lake.scratch("run")
    for name in ("found", "lost"):
        scratch.write_bytes(name, b"1")
    age(lake, "_staging/run/found", "_staging/run/lost")
    assert scratch.exists("found")
    assert vacuum(lake, "t") == ["_staging/run/lost"]
    age(lake, "_staging/run/found")
    assert vacuum(lake, "t") == ["_staging/run/found"]
    assert not (Path(lake.uri) / "_staging" / "run").exists()


def test_a_machine_whose_clock_is_slow_shortens_no_version_s_life(lake: Lake) -> None:
    parts = [put(lake, f"p{n}", n) for n in range(2)]
    for n, part in enumerate(parts):
        new = stage(lake, f"new{n}", n)
        lake.commit([Change("t", SCHEMA, add=(new,), remove=(part,))], app="rewrite", version=n)
        age(lake, f"t/{part.path}")
    newest = lake.table("t").version
    entry = Path(lake.uri) / "t" / "_delta_log" / f"{newest:020}.json"
    actions = [json.loads(line) for line in entry.read_text().splitlines()]
    for action in actions:
        if "commitInfo" in action:
            action["commitInfo"]["timestamp"] -= 2 * WEEK * 1000
    entry.write_text("\n".join(map(json.dumps, actions)))
    assert vacuum(lake, "t") == []
    assert numbers(lake, newest - 1) == numbers(lake, newest - 2) == [0, 1]


def test_vacuum_beside_a_writer_loses_nothing(lake: Lake) -> None:
    put(lake, "first", -1)
    stop = threading.Event()

    def clean() -> None:
        while not stop.is_set():
            vacuum(lake, "t", keep_hours=1)

    thread = threading.Thread(target=clean)
    thread.start()
    try:
        for n in range(15):
            put(lake, f"p{n}", n)
            time.sleep(random.uniform(0, 0.005))
    finally:
        stop.set()
        thread.join()
    assert numbers(lake) == list(range(-1, 15))
    assert verify(lake) == []


# Verification


def test_verify_finds_what_is_wrong(lake: Lake) -> None:
    for n, name in enumerate(["fine", "gone", "longer", "torn", "rows"]):
        put(lake, name, n, n + 1)
    folder = Path(lake.uri) / "t"
    (folder / "gone.parquet").unlink()
    with (folder / "longer.parquet").open("ab") as file:
        file.write(b"x")
    data = (folder / "torn.parquet").read_bytes()
    (folder / "torn.parquet").write_bytes(data[:-8] + bytes(8))
    lied = Part("t", "rows2.parquet", 7, stage(lake, "rows2", 1).bytes, stats='{"numRecords": 7}')
    commit_table(lake.storage, Stamp("liar", 0, "0" * 32, {}), Change("t", SCHEMA, add=(lied,)), deciding=True)
    found = {(finding.path, finding.rule) for finding in verify(lake)}
    assert found == {
        ("gone.parquet", "missing-part"),
        ("longer.parquet", "wrong-size"),
        ("torn.parquet", "torn-part"),
        ("rows2.parquet", "wrong-rows"),
    }
