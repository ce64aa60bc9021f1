"""Logs are cut, empty tables dropped, orphans and stale locks swept: killed in the middle too."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.delta import locks
from lake.delta.bounds import without_bounds
from lake.delta.parts import Part
from lake.delta.pending import Pending
from lake.errors import ConcurrentRunError, ConfigError, LakeError, MissingTableError
from lake.lake import Change, Lake
from lake.maintenance import Retention, check_age, vacuum, verify
from lake.maintenance.cleaning import delete, homeless, useless
from lake.maintenance.compaction import groups
from lake.maintenance.dropping import drop, droppable
from lake.maintenance.logs import checkpoint, expired, log_of
from lake.storage import Storage

SCHEMA = pa.schema([("x", pa.int64())])
OLD = 3 * 168 * 3600


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 0 to 33, with checkpoints at 9, 19 and 29."""
    made = Lake(tmp_path_factory.mktemp("template") / "lake")
    for n in range(33):
        put(made, f"p{n}", n, version=n)
    return Path(made.uri)


@pytest.fixture
def long(tmp_path: Path, template: Path) -> Lake:
    """A lake whose table `t` has 33 commits."""
    return Lake(shutil.copytree(template, tmp_path / "long"))


def stage(lake: Lake, name: str, *numbers: int, table: str = "t") -> Part:
    return lake.write_part(table, name, [pa.table({"x": list(numbers)}, schema=SCHEMA)], SCHEMA)


def put(lake: Lake, name: str, *numbers: int, table: str = "t", app: str = "app", version: int = 0) -> Part:
    part = stage(lake, name, *numbers, table=table)
    lake.commit([Change(table, SCHEMA, add=(part,))], app=app, version=version)
    return part


def age(lake: Lake, table: str, *, below: int = 1 << 60) -> None:
    """Make the log look old, entries below a version in their content too."""
    folder = Path(lake.uri) / table
    for entry in sorted((folder / "_delta_log").glob("*.json")):
        if int(entry.stem) < below:
            actions = [json.loads(line) for line in entry.read_text().splitlines()]
            for action in actions:
                if "commitInfo" in action:
                    action["commitInfo"]["timestamp"] -= OLD * 1000
            entry.write_text("\n".join(map(json.dumps, actions)))
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - OLD,) * 2)


def cut(lake: Lake, table: str = "t", days: float = 1.0, most: int | None = None) -> int:
    """Cut the log; only the first `most` files, as if killed then."""
    gone = expired(lake, table, time.time() - days * 86400, time.time())[:most]
    for entry in gone:
        lake.storage.delete(entry.path)
    return len(gone)


def versions(lake: Lake, table: str = "t") -> dict[int, int]:
    """Rows of each version that can be read."""
    found = {}
    for version in range(lake.table(table).version + 1):
        try:
            found[version] = lake.table(table).count(version)
        except MissingTableError:
            continue
    return found


def test_a_cut_log_has_the_table_its_transactions_and_the_versions_that_are_young(lake: Lake) -> None:
    for n in range(33):
        put(lake, f"p{n}", n, app=f"app{n % 3}", version=n)
    before = versions(lake)
    assert len(before) == 34
    age(lake, "t", below=25)  # 25 to 33 are young, and 24 was the newest when 25 came
    assert cut(lake)
    kept = versions(lake)
    assert kept == {version: before[version] for version in range(19, 34)}
    assert [lake.table("t").transaction_version(f"app{n}") for n in range(3)] == [30, 31, 32]
    assert cut(lake) == 0
    put(lake, "p30", 30, app="app0", version=30)  # a retry of what is long committed
    put(lake, "p33", 33, app="app0", version=33)
    assert sorted(lake.table("t").to_table()["x"].to_pylist()) == list(range(34))
    assert verify(lake) == []


def test_a_log_that_is_half_cut_can_be_read_and_cut_on(long: Lake) -> None:
    age(long, "t")
    table = long.table("t")
    left = len(expired(long, "t", time.time() - 86400, time.time()))
    assert left == 2 + 29
    for _ in range(left):  # killed after each file
        cut(long, most=1)
        snapshot = table.snapshot(33)
        assert len(snapshot.parts()) == 33
        assert snapshot.delta.transaction_version("app") == 32
    assert cut(long) == 0
    assert [*versions(long)] == [29, 30, 31, 32, 33]
    assert min(log_of(long, "t").entries) == 29


def test_the_newest_commit_that_changed_rows_stays_in_the_log(lake: Lake) -> None:
    put(lake, "p", 1)
    for n in range(40):
        lake.commit([Change("t", SCHEMA, data_change=False)], app="quiet", version=n)
    age(lake, "t")
    assert lake.table("t").data_version == 1
    cut(lake, days=0)
    assert lake.table("t").data_version == 1


def test_what_a_young_checkpoint_supersedes_stays_for_whoever_is_opening_it(long: Lake) -> None:
    age(long, "t")
    (file,) = (Path(long.uri) / "t" / "_delta_log").glob("*29.checkpoint.parquet")
    file.touch()
    assert cut(long) == 1 + 19
    assert [*versions(long)] == [*range(19, 34)]


def test_a_missing_checkpoint_is_written(lake: Lake) -> None:
    for n in range(12):
        put(lake, f"p{n}", n, version=n)
    for file in (Path(lake.uri) / "t" / "_delta_log").glob("*checkpoint*"):
        file.unlink()
    assert log_of(lake, "t").lag == 13
    assert checkpoint(lake, "t") == 12
    assert log_of(lake, "t").lag == 0
    assert lake.table("t").count() == 12
    assert checkpoint(lake, "absent") is None


def test_a_checkpoint_whose_writer_was_killed_is_none(lake: Lake) -> None:
    for n in range(6):
        put(lake, f"p{n}", n, version=n)
    half = Path(lake.uri, "t", "_delta_log", f"{5:020}.checkpoint.parquet#1")
    half.write_bytes(b"PAR1")
    half.with_name("_last_checkpoint#1").write_bytes(b"{")
    age(lake, "t")
    assert cut(lake) == 0
    assert vacuum(lake, "t") == [
        f"t/_delta_log/{5:020}.checkpoint.parquet#1",
        "t/_delta_log/_last_checkpoint#1",
    ]
    assert versions(Lake(lake.uri)) == {0: 0, **{n + 1: n + 1 for n in range(6)}}


def test_a_pending_commit_keeps_the_log_in_which_it_is_looked_for(long: Lake) -> None:
    lake = long
    age(lake, "t")
    part = stage(lake, "late", 99)
    late = Pending("other", 0, {}, (Change("t", SCHEMA, add=(part,)),), created=time.time() - 2 * OLD)
    assert lake.storage.claim(late.path, late.dump())
    cut(lake)
    assert min(log_of(lake, "t").entries) == 0
    assert lake.recover() == ["other 0"]
    assert lake.table("t").count() == 34


# Dropping


def emptied(lake: Lake) -> None:
    part = put(lake, "p", 1)
    lake.commit([Change("t", SCHEMA, remove=(part,))], app="app", version=1)


def test_an_empty_table_is_dropped_and_can_be_made_again(lake: Lake) -> None:
    emptied(lake)
    put(lake, "q", 1, table="other")
    assert not droppable(lake, "t", time.time() - 60)  # young
    age(lake, "t")
    assert droppable(lake, "t", time.time() - 60)
    drop(lake, "t")
    assert lake.tables() == ["other"]
    assert not lake.table("t").exists
    assert not (Path(lake.uri) / "t").exists()
    put(lake, "p", 5, version=7)
    assert lake.table("t").to_table()["x"].to_pylist() == [5]


def test_a_table_with_rows_or_with_a_commit_under_way_is_not_dropped(lake: Lake) -> None:
    put(lake, "p", 1)
    age(lake, "t")
    assert not droppable(lake, "t", time.time() - 60)
    emptied(other := Lake(Path(lake.uri).parent / "other"))
    part = stage(other, "late", 9)
    late = Pending("x", 0, {}, (Change("t", SCHEMA, add=(part,)),))
    assert other.storage.claim(late.path, late.dump())
    age(other, "t")
    assert not droppable(other, "t", time.time() - 60)


def test_a_drop_that_was_killed_leaves_an_empty_table_or_none(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(1, 9):
        table = f"t{at}"
        part = put(lake, "p", 1, table=table)
        lake.commit([Change(table, SCHEMA, remove=(part,))], app="app", version=1)
        calls = 0

        def dying(path: str, at: int = at, real: Callable[[str], None] = lake.storage.delete) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise KeyboardInterrupt
            real(path)

        monkeypatch.setattr(lake.storage, "delete", dying)
        try:
            drop(lake, table)
        except KeyboardInterrupt:
            monkeypatch.undo()
            assert lake.table(table).count() == 0
            assert verify(lake) == []
            drop(lake, table)
        monkeypatch.undo()
        assert not lake.table(table).exists
        assert table not in lake.tables()


def test_half_a_checkpoint_quotes_no_row_that_was_forgotten(lake: Lake) -> None:
    put(lake, "p", 1)
    half = Path(lake.uri, "t", "_delta_log", f"{1:020}.checkpoint.parquet#1")
    half.write_bytes(b"PAR1")
    assert without_bounds(lake.storage, "t") == [f"t/_delta_log/{half.name}"]
    assert not half.exists()
    assert without_bounds(lake.storage, "t") == []


# What dead runs leave, and what living ones are at


def test_a_table_whose_maker_was_killed_is_none_yet(lake: Lake) -> None:
    put(lake, "p", 1)
    half = Path(lake.uri, "u", "_delta_log", f"{0:020}.json#1")
    half.parent.mkdir(parents=True)
    half.write_bytes(b"{")
    assert lake.tables() == ["t"]
    assert verify(lake) == []
    put(lake, "p", 2, table="u")
    assert lake.tables() == ["t", "u"]
    assert lake.table("u").count() == 1
    age(lake, "u")
    assert vacuum(lake, "u") == [f"u/_delta_log/{0:020}.json#1"]


def test_parts_of_tables_that_never_came_to_be_go(lake: Lake) -> None:
    put(lake, "p", 1)
    stage(lake, "lost", 1, table="_bands_x")
    waiting = stage(lake, "waiting", 1, table="_bands_y")
    late = Pending("x", 0, {}, (Change("_bands_y", SCHEMA, add=(waiting,)),))
    assert lake.storage.claim(late.path, late.dump())
    lake.storage.write("_reports/r/report.html", b"page")
    (Path(lake.uri) / "export").mkdir()
    pq.write_table(pa.table({"x": [1]}), Path(lake.uri) / "export" / "mine.parquet")  # a user's
    age(lake, "export")
    age(lake, "_bands_x")
    age(lake, "_bands_y")
    age(lake, "_reports")
    cutoff = time.time() - 3600
    assert delete(lake, homeless(lake, cutoff), cutoff) == ["_bands_x/lost.parquet"]


def test_a_holder_in_another_container_is_at_work_whatever_its_number_means_here(lake: Lake) -> None:
    with locks.lock(lake.storage, "run"):
        file = Path(lake.uri, locks.FOLDER, "run")
        who = json.loads(file.read_text())
        file.write_text(json.dumps(who | {"pid": 2**22 + 1}))  # above any number that the kernel gives
        assert locks.holders(lake.storage) == []
        file.write_text(json.dumps(who | {"pid": 2**22 + 1, "space": "another"}))
        assert [name for name, _ in locks.holders(lake.storage)] == ["run"]


def test_what_a_run_that_is_at_work_has_staged_stays_however_old(lake: Lake) -> None:
    put(lake, "p", 1)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, lake.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        time.sleep(1.1)  # a lock knows its time to the second
        stage(lake, "staged", 2)
        time.sleep(0.05)
        (name, since) = locks.holders(lake.storage)[0]
        assert name == "run"
        assert abs(since - time.time()) < 30
        assert vacuum(lake, "t", keep_hours=0) == []
    finally:
        holder.kill()
        holder.communicate()
    assert locks.holders(lake.storage) == []  # it died with the lock's file full
    assert vacuum(lake, "t", keep_hours=0) == ["t/staged.parquet"]


def test_a_run_that_begins_right_after_the_look_for_runs_keeps_its_files(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake, "p", 1)
    look = locks.holders
    for n in range(20):  # the kernel's stamps of files lag behind the clock by what is left of a tick
        with ExitStack() as run:
            half = []

            def begin(
                storage: Storage, run: ExitStack = run, half: list[str] = half, n: int = n
            ) -> list[tuple[str, float]]:
                found = look(storage)
                run.enter_context(lake.lock(f"run-{n}"))
                half.append(run.enter_context(lake.storage.staging(f"t/part-{n}.parquet")))
                return found

            with monkeypatch.context() as patch:
                patch.setattr(locks, "holders", begin)
                vacuum(lake, "t", keep_hours=0)
            assert Path(half[0]).exists()


HOLDER = """
import sys
from lake.lake import Lake
with Lake(sys.argv[1]).lock("run"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_what_becomes_needed_while_a_vacuum_sleeps_stays(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lake, "p", 1)
    part = stage(lake, "late", 2)
    age(lake, "t")
    cutoff = time.time() - 3600
    chosen = useless(lake, "t", cutoff)
    assert [entry.path for entry in chosen] == ["t/late.parquet"]
    lake.commit([Change("t", SCHEMA, add=(part,))], app="other", version=0)  # without looking for it first
    os.utime(Path(lake.uri) / "t" / "late.parquet", (time.time() - OLD,) * 2)
    assert delete(lake, chosen, cutoff) == []
    assert verify(lake) == []


def test_stale_locks_go_and_held_ones_do_not(lake: Lake) -> None:
    for name in ("old", "held", "young"):
        with lake.lock(name):
            pass
    for name in ("old", "held"):
        os.utime(Path(lake.uri) / "_locks" / name, (time.time() - OLD,) * 2)
    with lake.lock("held"):
        os.utime(Path(lake.uri) / "_locks" / "held", (time.time() - OLD,) * 2)
        assert locks.unused(lake.storage, time.time() - 60, dry_run=True) == ["_locks/old"]
        assert locks.unused(lake.storage, time.time() - 60) == ["_locks/old"]
        assert {file.name for file in (Path(lake.uri) / "_locks").iterdir()} == {"held", "young"}


def test_a_lake_that_cannot_be_written_to_can_be_looked_at(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lake, "p", 1)
    with lake.lock("run"):
        pass
    stage(lake, "staged", 1)
    lake.scratch("run").write_bytes("x", b"1")
    real = os.open

    def read_only(path: str, flags: int, *mode: int) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *mode)

    def denied(path: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "utime", denied)
    assert lake.find_part("t", "staged") is not None
    assert lake.scratch("run").exists("x")
    assert locks.unused(lake.storage, time.time() + 60, dry_run=True) == ["_locks/run"]


def test_whoever_waits_for_a_lock_that_is_swept_up_does_not_hold_a_deleted_file(lake: Lake) -> None:
    with lake.lock("a"):
        pass
    file = Path(lake.uri) / "_locks" / "a"
    handle = os.open(file, os.O_RDWR)  # a sweeper that is about to delete it
    fcntl.flock(handle, fcntl.LOCK_EX)
    waiter = subprocess.Popen(
        [sys.executable, "-c", WAITER, lake.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "waits\n"
    time.sleep(0.2)
    file.unlink()
    os.close(handle)
    try:
        assert waiter.stdout.readline() == "held\n"
        with pytest.raises(ConcurrentRunError), lake.lock("a"):
            pass
    finally:
        waiter.kill()
        waiter.communicate()


WAITER = """
import sys
from lake.lake import Lake
print("waits", flush=True)
with Lake(sys.argv[1]).lock("a", wait=30):
    print("held", flush=True)
    sys.stdin.readline()
"""


# The guard


def parts(*sizes: int) -> list[Part]:
    return [Part("t", f"p{n:03}", 1, size, added=n + 1) for n, size in enumerate(sizes)]


def test_a_guarded_compaction_waits_for_enough_small_files() -> None:
    assert groups(parts(*[10] * 7), 1000, at_least=8) == []
    assert [len(group) for group in groups(parts(*[10] * 8), 1000, at_least=8)] == [8]
    assert [len(group) for group in groups(parts(*[10] * 2), 1000)] == [2]


def test_a_byte_is_written_again_log_n_times() -> None:
    live, written, made = [10], 0, 1
    rng = random.Random(1)
    for _ in range(2000):  # a small file each, and maintenance after each
        live.append(rng.randint(5, 15))
        made += 1
        for group in groups(parts(*live), 10**9, at_least=8):
            numbers = [int(part.path[1:]) for part in group]
            total = sum(part.bytes for part in group)
            written += total
            live[numbers[0] : numbers[-1] + 1] = [total]
    total = sum(live)
    assert len(live) < 60
    assert written < 12 * total  # log2(2000) is 11; with every file each time it would be 125


def test_what_is_kept_and_for_how_long_is_checked() -> None:
    with pytest.raises(ConfigError, match="less time than the files"):
        Retention(files_hours=48, log_days=1)
    with pytest.raises(ConfigError, match="not negative"):
        Retention(runs_days=-1)
    with pytest.raises(ConfigError, match="not negative"):
        Retention(reports_days=float("nan"))
    with pytest.raises(ConfigError, match="at least two"):
        Retention(small_files=1)
    with pytest.raises(LakeError, match="younger than"):
        check_age(0.5, force=False)
    check_age(0.5, force=True)
