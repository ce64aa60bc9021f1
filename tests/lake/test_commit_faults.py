from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import lake as lake_package
from lake.delta import pending
from lake.delta.commit import Stamp, commit_table, prepare
from lake.errors import ConcurrentRunError, LakeError, MissingPartError
from lake.lake import Change, Lake, Part
from lake.maintenance import vacuum, verify

ROOT = Path(lake_package.__file__).parents[1]
SCHEMA = pa.schema([("x", pa.int64())])

# Both are forked by a process that has imported everything and used nothing, which saves a second each.
NURSERY = """
import os, signal, sys, time
import deltalake
import pyarrow as pa
import pyarrow.dataset
from lake import storage
from lake.delta import commit as delta
from lake.delta import pending
from lake.lake import Change, Lake
schema = pa.schema([("x", pa.int64())])

def committer(uri, last):
    lake = Lake(uri)
    done = lake.table("a").transaction_version("app")
    for v in range(0 if done is None else done + 1, int(last)):
        parts = [
            lake.write_part(t, f"v{v}", [pa.table({"x": range(v * 10, v * 10 + n)}, schema=schema)], schema)
            for t, n in (("a", 3), ("b", 2))
        ]
        print("go", v, flush=True)
        began = time.perf_counter()
        lake.commit([Change(p.table, schema, add=(p,)) for p in parts], app="app", version=v)
        print("done", time.perf_counter() - began, flush=True)

# Dies by SIGKILL at the n-th of the moments before and after the calls that change the lake during a commit.
def dier(uri, at):
    lake, calls = Lake(uri), 0
    old = lake.table("b").parts()
    parts = [lake.write_part(t, "new", [pa.table({"x": [7]}, schema=schema)], schema) for t in ("a", "b", "c")]
    def deadly(function):
        def wrapped(*args, **kwargs):
            nonlocal calls
            for moment in ("before", "after"):
                calls += 1
                if calls == int(at):
                    print(function.__name__, moment, flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
                if moment == "before":
                    answer = function(*args, **kwargs)
            return answer
        return wrapped
    storage.LocalStorage.claim = deadly(storage.LocalStorage.claim)
    storage.LocalStorage.unclaim = deadly(storage.LocalStorage.unclaim)
    pending.prepare = deadly(pending.prepare)
    pending.commit_table = deadly(pending.commit_table)
    changes = [
        Change("a", schema, add=parts[:1]),
        Change("b", schema, add=parts[1:2], remove=old),
        Change("c", schema, add=parts[2:]),
    ]
    lake.commit(changes, app="app", version=1)
    print("whole", flush=True)

for line in sys.stdin:
    name, *arguments = line.split()
    pid = os.fork()
    if pid == 0:
        print(os.getpid(), flush=True)
        status = 1
        try:
            globals()[name](*arguments)
            status = 0
        finally:
            os._exit(status)
    os.waitpid(pid, 0)
    print("over", flush=True)
"""


class Nursery:
    """Children to be killed, one at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def bear(self, *command: object) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, command)) + "\n")
        self.process.stdin.flush()
        return int(self.line())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def rest(self) -> list[str]:
        """What the child says until it is over."""
        return list(iter(self.line, "over"))


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.process.kill()
    made.process.communicate()


def stage(lake: Lake, table: str, name: str, *numbers: int) -> Part:
    return lake.write_part(table, name, [pa.table({"x": list(numbers)}, schema=SCHEMA)], SCHEMA)


def rows(lake: Lake, table: str) -> list[int]:
    return sorted(lake.table(table).to_table()["x"].to_pylist()) if lake.table(table).exists else []


def half_done(lake: Lake, app: str = "app", version: int = 0, tables: int = 1) -> pending.Pending:
    """A change of tables a and b whose owner died when `tables` of them were committed."""
    parts = [stage(lake, table, f"{app[0]}-{version}", version) for table in ("a", "b")]
    change = pending.Pending(app, version, {}, tuple(Change(p.table, SCHEMA, add=(p,)) for p in parts))
    assert lake.storage.claim(change.path, change.dump())
    for index, one in enumerate(change.changes[:tables]):
        prepare(lake.storage, one.table, SCHEMA, ())
        commit_table(lake.storage, change.stamp, one, deciding=index == 0)
    return change


def test_killed_at_random_moments_all_or_nothing(tmp_path: Path, nursery: Nursery) -> None:
    commits, kills = 400, 15
    lake = Lake(tmp_path / "killed")
    rng = random.Random(5)
    left = 0
    for _ in range(kills):
        pid = nursery.bear("committer", lake.uri, commits)
        usual = 0.0
        for _ in range(rng.randint(1, 2)):
            assert nursery.line().startswith("go")
            usual = float(nursery.line().removeprefix("done "))
        assert nursery.line().startswith("go")
        time.sleep(rng.uniform(0, usual))
        os.kill(pid, signal.SIGKILL)
        nursery.rest()
        left += len(lake.recover())
        assert pending.pending(lake.storage) == []
        versions = {value // 10 for value in rows(lake, "a")}
        assert versions == {value // 10 for value in rows(lake, "b")} == set(range(len(versions)))
        assert lake.table("a").transaction_version("app") == lake.table("b").transaction_version("app")
    assert left  # the kills did hit the middle of commits
    last = len(versions) + 2
    whole = Lake(tmp_path / "whole")
    for one in (lake, whole):
        nursery.bear("committer", one.uri, last)
        nursery.rest()
    for table in ("a", "b"):
        assert len(rows(whole, table)) == last * (3 if table == "a" else 2)
        assert lake.table(table).to_table().equals(whole.table(table).to_table())
        assert [part.path for part in lake.table(table).parts()] == [p.path for p in whole.table(table).parts()]
    assert verify(lake) == []


def test_killed_at_every_step(tmp_path: Path, nursery: Nursery) -> None:
    died = []
    for at in range(1, 18):
        lake = Lake(tmp_path / str(at))
        lake.commit([Change("b", SCHEMA, add=(stage(lake, "b", "old", 1, 2),))], app="app", version=0)
        nursery.bear("dier", lake.uri, at)
        (said,) = nursery.rest()
        died.append(said)
        claimed = bool(pending.pending(lake.storage))
        assert lake.recover() == (["app 1"] if claimed else [])
        assert lake.recover() == []
        nothing = said == "claim before"
        after = [rows(lake, table) for table in ("a", "b", "c")]
        assert after == ([[], [1, 2], []] if nothing else [[7], [7], [7]]), said
        if not nothing:
            assert [lake.table(table).transaction_version("app") for table in "abc"] == [1, 1, 1]
    assert died == [
        *("claim before", "claim after"),
        *("prepare before", "prepare after") * 3,
        *("commit_table before", "commit_table after") * 3,
        *("unclaim before", "unclaim after"),
        "whole",
    ]


@pytest.mark.parametrize("tables", [0, 1, 2])
def test_a_change_is_carried_through_at_any_time_and_again(tmp_path: Path, tables: int) -> None:
    lake = Lake(tmp_path)
    change = half_done(lake, tables=tables)
    data = change.dump()
    assert lake.recover() == ["app 0"]
    assert lake.storage.claim(change.path, data)  # as if its file had come back
    assert lake.recover() == ["app 0"]
    assert lake.recover() == []
    assert rows(lake, "a") == rows(lake, "b") == [0]
    assert lake.table("a").version == 1


def test_recovery_needs_no_file_that_is_committed_and_compacted_away(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    change = half_done(lake)
    (part,) = lake.table("a").parts()
    other = stage(lake, "a", "rewritten", 0)
    lake.commit([Change("a", SCHEMA, add=(other,), remove=(part,))], app="else", version=0)
    (tmp_path / "a" / part.path).unlink()
    assert lake.storage.claimed(change.path) is not None or rows(lake, "b") == [0]
    lake.recover()
    assert rows(lake, "a") == rows(lake, "b") == [0]


def test_the_next_commit_of_an_app_finishes_the_last_one_first(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    half_done(lake, version=4)
    half_done(lake, app="other", version=1)
    lake.commit([Change("a", SCHEMA, add=(stage(lake, "a", "next", 5),))], app="app", version=5)
    assert rows(lake, "b") == [4]  # and 1 is left to the other app
    assert rows(lake, "a") == [1, 4, 5]
    assert lake.recover() == ["other 1"]
    assert rows(lake, "b") == [1, 4]


def test_a_rewrite_finishes_other_rewrites_first(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.commit([Change("a", SCHEMA, add=(stage(lake, "a", "old", 1),))], app="x", version=0)
    (old,) = lake.table("a").parts()
    mine, theirs = stage(lake, "a", "mine", 2), stage(lake, "a", "theirs", 3)
    dead = pending.Pending("dead", 0, {}, (Change("a", SCHEMA, add=(theirs,), remove=(old,)),))
    assert lake.storage.claim(dead.path, dead.dump())
    with pytest.raises(ConcurrentRunError, match="gone"):
        lake.commit([Change("a", SCHEMA, add=(mine,), remove=(old,))], app="me", version=0)
    assert rows(lake, "a") == [3]
    assert pending.pending(lake.storage) == []


def test_a_claim_of_the_same_version_is_completed_and_then_respected(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    half_done(lake, version=4, tables=0)
    parts = [stage(lake, table, "mine", 9) for table in ("a", "b")]
    with pytest.raises(ConcurrentRunError, match="version 4"):
        lake.commit([Change(p.table, SCHEMA, add=(p,)) for p in parts], app="app", version=4)
    assert rows(lake, "a") == rows(lake, "b") == [4]
    assert pending.pending(lake.storage) == []


def test_the_owner_comes_back_to_his_own_claim(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    change = half_done(lake)
    assert lake.commit(change.changes, app="app", version=0) == {"a": 1, "b": 1}
    assert rows(lake, "a") == rows(lake, "b") == [0]
    assert pending.pending(lake.storage) == []


def test_a_change_overtaken_before_it_began_is_dropped_when_old(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    change = half_done(lake, version=1, tables=0)
    lake.storage.unclaim(change.path)
    lake.commit([Change("a", SCHEMA)], app="app", version=2)
    assert lake.storage.claim(change.path, change.dump())
    assert lake.recover() == []
    assert len(pending.pending(lake.storage)) == 1  # its owner may still be about to see it
    lake.storage.unclaim(change.path)
    old = pending.Pending(change.app, change.version, {}, change.changes, created=time.time() - 7200)
    assert lake.storage.claim(old.path, old.dump())
    assert lake.recover() == []
    assert pending.pending(lake.storage) == []
    assert rows(lake, "a") == rows(lake, "b") == []


def test_a_change_overtaken_after_it_began_is_carried_through(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    change = half_done(lake, version=1)
    data = change.dump()
    lake.storage.unclaim(change.path)
    lake.commit([Change(t, SCHEMA, add=(stage(lake, t, "two", 2),)) for t in ("a", "b")], app="app", version=2)
    assert lake.storage.claim(change.path, data)
    assert lake.recover() == ["app 1"]
    assert rows(lake, "a") == rows(lake, "b") == [1, 2]
    assert lake.table("b").transaction_version("app") == 2  # not turned back


def intrude(monkeypatch: pytest.MonkeyPatch, lake: Lake, after: int, foreign: Change, app: str) -> None:
    """Somebody commits right after the `after`-th time that a commit has checked its tables."""
    check, calls = pending._check_tables, 0

    def checked(*arguments: Any) -> None:
        nonlocal calls
        check(*arguments)
        calls += 1
        if calls == after:
            prepare(lake.storage, foreign.table, SCHEMA, ())
            commit_table(lake.storage, Stamp(app, 5, "f" * 32, {}), foreign, deciding=True)

    monkeypatch.setattr(pending, "_check_tables", checked)


@pytest.mark.parametrize("after", [1, 2])
def test_a_part_replaced_between_check_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    lake = Lake(tmp_path)
    lake.commit([Change("a", SCHEMA, add=(stage(lake, "a", "old", 1),))], app="x", version=0)
    (old,) = lake.table("a").parts()
    theirs = Change("a", SCHEMA, add=(stage(lake, "a", "theirs", 2),), remove=(old,))
    intrude(monkeypatch, lake, after, theirs, "other")
    mine = Change("a", SCHEMA, add=(stage(lake, "a", "mine", 3),), remove=(old,))
    other = Change("b", SCHEMA, add=(stage(lake, "b", "mine", 3),))
    with pytest.raises(ConcurrentRunError, match="gone"):
        lake.commit([mine, other], app="app", version=5)
    assert (rows(lake, "a"), rows(lake, "b")) == ([2], [])
    assert pending.pending(lake.storage) == []


@pytest.mark.parametrize("moment", ["check", "claim"])
def test_a_process_frozen_for_days_after_its_check_commits_no_part_that_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    lake = Lake(tmp_path)
    lake.commit([Change("a", SCHEMA, add=(stage(lake, "a", "old", 1),))], app="app", version=0)
    parts = [stage(lake, table, "late", 2) for table in ("a", "b")]

    def frozen() -> None:
        os.utime(tmp_path / "a" / parts[0].path, (1, 1))
        os.utime(tmp_path / "b" / parts[1].path, (1, 1))
        assert vacuum(lake, "a") == ([f"a/{parts[0].path}"] if moment == "check" else [])

    if moment == "check":
        check = pending._check_parts
        monkeypatch.setattr(pending, "_check_parts", lambda *given: (check(*given), frozen()))
        with pytest.raises(MissingPartError):
            lake.commit([Change(part.table, SCHEMA, add=(part,)) for part in parts], app="app", version=1)
        assert (rows(lake, "a"), lake.tables()) == ([1], ["a"])
    else:
        claim = lake.storage.claim
        monkeypatch.setattr(lake.storage, "claim", lambda *given: (claim(*given), frozen())[0])
        lake.commit([Change(part.table, SCHEMA, add=(part,)) for part in parts], app="app", version=1)
        assert (rows(lake, "a"), rows(lake, "b")) == ([1, 2], [2])
    assert verify(lake) == []
    assert pending.pending(lake.storage) == []


def test_a_vacuum_that_looked_before_a_claim_sees_that_its_parts_have_become_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    lake.commit([Change("a", SCHEMA, add=(stage(lake, "a", "old", 1),))], app="app", version=0)
    part = stage(lake, "a", "late", 2)
    os.utime(tmp_path / "a" / part.path, (1, 1))
    modified = lake.storage.modified
    done: list[dict[str, int]] = []

    def late(path: str) -> float:
        if not done:  # between its look at what is needed and its look at the file
            done.append(Lake(tmp_path).commit([Change("a", SCHEMA, add=(part,))], app="app", version=1))
        return modified(path)

    monkeypatch.setattr(lake.storage, "modified", late)
    assert vacuum(lake, "a") == []
    assert rows(lake, "a") == [1, 2]
    assert done


def test_a_version_taken_in_the_second_table_between_check_and_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    intrude(monkeypatch, lake, 1, Change("b", SCHEMA, add=(stage(lake, "b", "theirs", 2),)), "app")
    mine = [Change(t, SCHEMA, add=(stage(lake, t, "mine", 3),)) for t in ("a", "b")]
    with pytest.raises(ConcurrentRunError, match="version 5"):
        lake.commit(mine, app="app", version=5)
    assert (rows(lake, "a"), rows(lake, "b")) == ([], [2])
    assert pending.pending(lake.storage) == []


def test_a_change_travels_through_its_file(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    change = half_done(lake, app="p/ü 1")
    again = pending.Pending.load(change.dump(), "here")
    assert again == change
    assert again.id == change.id
    newer = json.dumps({**json.loads(change.dump()), "format": 2}).encode()
    with pytest.raises(LakeError, match="newer version"):
        pending.Pending.load(newer, "here")


def test_recovery_of_a_lake_that_is_not_there(tmp_path: Path) -> None:
    assert Lake(tmp_path / "nowhere").recover() == []
    assert not (tmp_path / "nowhere").exists()
