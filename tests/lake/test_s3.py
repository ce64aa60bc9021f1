from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import stores
from faulty import Refuse, faulty

import lake as lake_package
from lake import ledger
from lake.delta import locks, parts, pending
from lake.delta.commit import commit_table, prepare
from lake.errors import ConcurrentRunError, MissingPartError, NotALakeError, StorageError
from lake.lake import Change, Lake, Part
from lake.maintenance import compact, vacuum, verify
from lake.maintenance.dropping import drop
from lake.schema import RUNS
from lake.storage import objects

pytest.importorskip("moto.server")
ROOT = Path(lake_package.__file__).parents[1]
SCHEMA = pa.schema([("x", pa.int64())])
GONE = Refuse(404, "NoSuchKey", "The specified key does not exist.")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with stores.moto() as made:
        yield made


@pytest.fixture
def options(endpoint: str) -> dict[str, str]:
    return stores.aws(endpoint)


@pytest.fixture
def lake(options: dict[str, str], request: pytest.FixtureRequest) -> Lake:
    bucket = "lake-" + "".join(c if c.isalnum() else "-" for c in request.node.name)[:40].strip("-").lower()
    return Lake(f"{stores.make_bucket(options['AWS_ENDPOINT_URL'], bucket)}/some/prefix", options)


def stage(lake: Lake, table: str, name: str, *numbers: int) -> Part:
    rows = pa.table({"x": list(numbers)}, schema=SCHEMA)
    return lake.write_part(table, name, [rows], SCHEMA, notes={"key": name})


def add(*parts: Part) -> list[Change]:
    return [Change(part.table, SCHEMA, add=(part,)) for part in parts]


def numbers(lake: Lake, table: str, version: int | None = None) -> list[int]:
    return sorted(lake.table(table).to_table(version=version)["x"].to_pylist())


def test_what_goes_between_the_look_for_it_and_its_reading_is_gone(lake: Lake, options: dict[str, str]) -> None:
    lake.commit(add(stage(lake, "a", "p0", 1)), app="app", version=0)
    change = pending.Pending("app", 1, {}, tuple(add(stage(lake, "a", "p1", 2))))
    assert lake.storage.claim(change.path, change.dump())
    with faulty(options["AWS_ENDPOINT_URL"]) as proxy:
        other = Lake(lake.uri, options | {"AWS_ENDPOINT_URL": proxy.url})
        # HEAD finds the object, GET does not: its owner has finished, a log was cut, a part was vacuumed.
        proxy.rule = lambda r: GONE if r.method == "GET" and r.path.endswith("0.json") else None
        assert other.storage.claimed(change.path) is None
        assert pending.pending(other.storage) == []
        with pytest.raises(FileNotFoundError):
            other.storage.read("a/_delta_log/00000000000000000000.json")
        proxy.rule = lambda r: GONE if r.method == "GET" and r.path.endswith("p0.parquet") else None
        table = other.table("a")
        for read in (
            table.to_table,
            lambda: [*table.read_part(table.parts()[0])],
            lambda: table.read_rows(table.parts()[0], np.array([0])),
        ):
            with pytest.raises(MissingPartError):
                read()
        assert proxy.faults()


def test_commit_scan_and_travel(lake: Lake) -> None:
    assert lake.tables() == []
    for version in range(3):
        changes = add(
            stage(lake, "a", f"p{version}", version), stage(lake, "b", f"p{version}", version, version)
        )
        for _ in range(2):
            assert lake.commit(changes, app="x", version=version) == {"a": version + 1, "b": version + 1}
    assert lake.tables() == ["a", "b"]
    assert numbers(lake, "a") == [0, 1, 2]
    assert numbers(lake, "b", 1) == [0, 0]
    assert lake.table("a").to_table(filter=pc.field("x") == 1).num_rows == 1
    part = lake.table("a").parts()[0]
    assert next(lake.table("a").read_part(part)).num_rows == 1
    assert verify(lake) == []
    assert pending.pending(lake.storage) == []
    again = pickle.loads(pickle.dumps(lake))
    assert again.table("b").count() == 6
    assert "a" in repr(again)


def test_parts_are_found_again(lake: Lake) -> None:
    made = stage(lake, "a", "p", 1, 2)
    assert lake.find_part("a", "p") == made
    assert lake.find_part("a", "q") is None
    lake.storage.write("a/torn.parquet", lake.storage.read("a/p.parquet")[:-20])
    assert lake.find_part("a", "torn") is None
    lake.storage.delete("a/p.parquet")
    with pytest.raises(MissingPartError):
        lake.commit(add(made), app="x", version=0)


def test_an_error_in_the_stream_makes_no_object(lake: Lake) -> None:
    def stream() -> Iterator[pa.Table]:
        yield pa.table({"x": [1]})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        lake.write_part("a", "p", stream(), SCHEMA)
    assert lake.storage.entries("a") == []


def test_a_large_part_goes_up_in_pieces(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 4 << 20)
    schema = pa.schema([("blob", pa.binary())])
    blobs = [os.urandom(1 << 20) for _ in range(24)]
    part = lake.write_part("a", "p", (pa.table({"blob": [blob]}) for blob in blobs), schema)
    assert part.bytes > 24 << 20
    lake.commit([Change("a", schema, add=(part,))], app="x", version=0)
    assert lake.table("a").to_table()["blob"].to_pylist() == blobs


def test_a_prefix_with_something_else_is_left_alone(lake: Lake) -> None:
    lake.storage.write("thesis.tex", b"x")
    with pytest.raises(NotALakeError, match=r"thesis\.tex"):
        lake.ensure()


def test_a_bucket_that_is_not_there(options: dict[str, str]) -> None:
    with pytest.raises(StorageError) as caught:
        Lake("s3://no-such-bucket-here/x", options).ensure()
    assert caught.value.hint


def test_one_of_many_claims_wins(lake: Lake) -> None:
    for attempt in range(4):
        barrier = threading.Barrier(5)

        def claim(number: int, path: str = f"c/{attempt}", barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return lake.storage.claim(path, f'{{"é": {number}}}'.encode())

        with ThreadPoolExecutor(5) as pool:
            won = list(pool.map(claim, range(5)))
        assert sum(won) == 1
        assert lake.storage.claimed(f"c/{attempt}") == f'{{"é": {won.index(True)}}}'.encode()
    assert lake.storage.claims("c") == [f"c/{n}" for n in range(4)]
    lake.storage.unclaim("c/0")
    lake.storage.unclaim("c/0")
    assert lake.storage.claimed("c/0") is None
    assert lake.storage.claims("c") == [f"c/{n}" for n in range(1, 4)]


@pytest.mark.parametrize("tables", [0, 1, 2])
def test_recovery(lake: Lake, tables: int) -> None:
    change = pending.Pending("app", 0, {}, tuple(add(stage(lake, "a", "p", 1), stage(lake, "b", "p", 2))))
    lake.ensure()
    assert lake.storage.claim(change.path, change.dump())
    for index, one in enumerate(change.changes[:tables]):
        prepare(lake.storage, one.table, SCHEMA, ())
        commit_table(lake.storage, change.stamp, one, deciding=index == 0)
    assert lake.recover() == ["app 0"]
    assert lake.recover() == []
    assert numbers(lake, "a") == [1]
    assert numbers(lake, "b") == [2]


CHILD = """
import sys
import pyarrow as pa
from lake.errors import ConcurrentRunError
from lake.lake import Change, Lake
lake, me, race = Lake(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "race"
schema = pa.schema([("x", pa.int64())])
print("ready", flush=True)
sys.stdin.readline()
for v in range(200 if me == 9 else 4):
    changes = []
    for t in ("a", "b"):
        rows = pa.table({"x": [1000 * me + v]}, schema=schema)
        changes.append(Change(t, schema, add=(lake.write_part(t, f"{me}-{v}", [rows], schema),)))
    try:
        lake.commit(changes, app="one" if race else f"app{me}", version=v)
        print(v, "won", flush=True)
    except ConcurrentRunError:
        print(v, "lost", flush=True)
"""


def children(lake: Lake, *arguments: tuple[int, str]) -> list[subprocess.Popen[str]]:
    """Their storage options come by the environment."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), lake.uri, *map(str, one)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **lake.storage.options, "PYTHONPATH": str(ROOT)},
        )
        for one in arguments
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return started


def test_processes_racing_for_one_version(lake: Lake) -> None:
    lake.ensure()
    said = [process.communicate(timeout=120)[0] for process in children(lake, (1, "race"), (2, "race"))]
    winners = {
        int(line.split()[0]): me
        for me, text in enumerate(said, 1)
        for line in text.splitlines()
        if "won" in line
    }
    assert sum(text.count("won") for text in said) == len(winners) == 4, said
    assert numbers(lake, "a") == numbers(lake, "b") == sorted(1000 * me + v for v, me in winners.items())
    assert pending.pending(lake.storage) == []


def test_a_process_killed_between_two_tables(lake: Lake) -> None:
    lake.ensure()
    for delay in (0.0, 0.05, 0.1):
        (process,) = children(lake, (9, "alone"))
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        lake.recover()
        assert pending.pending(lake.storage) == []
        assert numbers(lake, "a") == numbers(lake, "b") == [9000 + v for v in range(len(numbers(lake, "a")))]
    assert verify(lake) == []


def test_compaction_and_vacuum(lake: Lake) -> None:
    for version in range(4):
        lake.commit(add(stage(lake, "a", f"p{version}", version)), app="x", version=version)
    stage(lake, "a", "forgotten", 9)
    assert compact(lake, "a").parts_after == 1
    assert numbers(lake, "a") == [0, 1, 2, 3]
    assert lake.table("a").transaction_version("x") == 3
    assert vacuum(lake, "a") == []
    time.sleep(1.1)  # objects have whole seconds
    gone = vacuum(lake, "a", keep_hours=0)
    assert "a/forgotten.parquet" in gone
    assert numbers(lake, "a") == [0, 1, 2, 3]
    assert verify(lake) == []


def test_an_old_part_that_is_committed_becomes_young(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    part = stage(lake, "a", "p", 1)
    before = lake.storage.modified(f"a/{part.path}")
    time.sleep(1.1)  # objects have whole seconds
    assert lake.storage.renew(f"a/{part.path}") == part.bytes
    assert lake.storage.modified(f"a/{part.path}") == before  # not old
    monkeypatch.setattr(objects, "_AGED", 0.5)
    lake.commit(add(part), app="x", version=0)
    assert lake.storage.modified(f"a/{part.path}") > before
    assert numbers(lake, "a") == [1]
    assert verify(lake) == []
    assert lake.storage.renew("a/none.parquet") is None


def test_a_drop_that_was_killed_leaves_no_table_that_cannot_be_opened(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = stage(lake, "a", "p", 1)
    lake.commit(add(part), app="x", version=0)
    lake.commit([Change("a", SCHEMA, remove=(part,))], app="x", version=1)

    class Killed(BaseException):
        pass

    def killed(_: str) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(lake.storage, "delete_folder", killed)
        with pytest.raises(Killed):
            drop(lake, "a")
    assert lake.storage.folders("a")  # pyarrow leaves an object that stands for the folder
    assert lake.tables() == []
    lake.commit(add(stage(lake, "a", "p", 1)), app="x", version=0)
    assert (lake.tables(), numbers(lake, "a")) == (["a"], [1])


def test_a_lease_has_one_holder(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with lake.lock("x"):
        with pytest.raises(ConcurrentRunError, match="locked") as caught, lake.lock("x"):
            pass
        assert str(os.getpid()) in str(caught.value.why)
        with lake.lock("y"):
            pass
    for _ in range(3):
        with lake.lock("x"):
            pass
    assert len(lake.storage.claims("_locks/x")) == 1  # old generations are swept


def test_of_many_askers_one_gets_the_lease(lake: Lake) -> None:
    lake.ensure()
    barrier, inside = threading.Barrier(4), []

    def ask(number: int) -> bool:
        barrier.wait()
        try:
            with Lake(lake.uri, lake.storage.options).lock("x"):
                inside.append(number)
                time.sleep(1.5)
        except ConcurrentRunError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(ask, range(4)))
    assert sum(got) == len(inside) == 1


@pytest.mark.slow
def test_the_lease_of_a_dead_holder_runs_out(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TTL", 3.0)
    lake.ensure()
    assert locks._acquire(lake.storage, "_locks/x", "x", 0) == 1  # and no heartbeat follows
    with pytest.raises(ConcurrentRunError), lake.lock("x"):
        pass
    with lake.lock("x", wait=30):
        pass


@pytest.mark.slow
def test_the_lease_of_a_living_holder_does_not(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TTL", 2.0)
    with lake.lock("x"):
        time.sleep(3.5)
        with pytest.raises(ConcurrentRunError), lake.lock("x"):
            pass


def test_scratch_and_ledger(lake: Lake) -> None:
    scratch = lake.scratch("run")
    table = pa.table({"x": [1, 2]})
    scratch.write_arrow("t", table)
    scratch.write_bytes("b", b"{}")
    assert scratch.read_arrow("t").equals(table)
    assert (scratch.names(), scratch.exists("t"), scratch.exists("u")) == (["b", "t"], True, False)
    scratch.clear()
    assert scratch.names() == []
    assert ledger.last_run(lake, "p", "raw") is None
    assert ledger.runs(lake).schema.equals(RUNS)
