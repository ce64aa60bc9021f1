from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import lake as lake_package
from lake.delta import locks
from lake.errors import ConcurrentRunError, LakeError, NotALakeError, StorageError
from lake.lake import MARKER, Change, Lake
from lake.maintenance import verify
from lake.storage import TEMPORARY, Storage, guard, open_storage

ROOT = Path(lake_package.__file__).parents[1]


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_write_is_read_back_and_replaced(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.write("a/b", b"one")
    storage.write("a/b", b"two")
    assert storage.read("a/b") == b"two"
    assert storage.size("a/b") == 3
    assert storage.size("a") is None
    assert [entry.path for entry in storage.entries()] == ["a/b"]
    assert storage.folders() == ["a"]
    storage.delete("a/b")
    storage.delete("a/b")
    assert storage.entries("a") == storage.entries("nowhere") == []
    with pytest.raises(FileNotFoundError):
        storage.read("a/b")


def test_staging_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)

    def fail() -> None:
        with storage.staging("x") as temporary:
            Path(temporary).write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_one_of_many_claims_wins(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    barrier = threading.Barrier(8)

    def claim(number: int) -> bool:
        barrier.wait()
        return storage.claim("claims/x", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(claim, range(8)))
    assert sum(won) == 1
    assert storage.claimed("claims/x") == str(won.index(True)).encode()
    assert storage.claims("claims") == ["claims/x"]
    storage.unclaim("claims/x")
    assert storage.claimed("claims/x") is None
    assert list((tmp_path / "claims").iterdir()) == []


def test_uris() -> None:
    assert open_storage("file:///data/x/").uri == "/data/x"
    assert open_storage("s3://bucket/a/").inner("b") == "bucket/a/b"
    assert open_storage("~/x").uri == str(Path.home() / "x")
    assert open_storage("gs://bucket/x").inner("b") == "bucket/x/b"
    with pytest.raises(StorageError, match="ftp://"):
        open_storage("ftp://bucket/x")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_says_so(number: int) -> None:
    with pytest.raises(StorageError, match="no space") as caught, guard("here"):
        raise OSError(number, "full")
    assert caught.value.hint
    assert caught.value.where == "here"


def test_a_denied_folder_says_so() -> None:
    with pytest.raises(StorageError, match="not permitted"), guard("here"):
        raise PermissionError(errno.EACCES, "no")


def test_a_real_write_error_leaves_no_file(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.ensure()
    schema = pa.schema([("x", pa.binary())])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        rows = (pa.table({"x": [os.urandom(40_000)]}) for _ in range(1000))
        with pytest.raises(StorageError) as caught:
            lake.write_part("t", "p", rows, schema)
        with pytest.raises(StorageError):
            lake.scratch("s").write_arrow("x", pa.table({"x": [os.urandom(200_000)]}))
        with pytest.raises(StorageError):
            lake.scratch("s").write_bytes("x", bytes(200_000))
        with pytest.raises(StorageError):
            lake.storage.claim("c", bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.hint
    files = [path.name for path in (tmp_path / "lake").rglob("*") if path.is_file()]
    assert files == [MARKER]
    assert lake.find_part("t", "p") is None


def test_ensure_makes_a_lake_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "new" / "lake")
    assert lake.tables() == []
    assert not (tmp_path / "new").exists()
    lake.ensure()
    lake.ensure()
    Lake(lake.uri).ensure()
    assert json.loads((tmp_path / "new" / "lake" / MARKER).read_text()) == {"format": 1}
    assert lake.tables() == []


def test_a_leftover_of_a_killed_ensure_is_no_content(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}1").write_bytes(b"{")
    Lake(tmp_path).ensure()
    assert (tmp_path / MARKER).exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    lake = Lake(tmp_path)
    schema = pa.schema([("x", pa.int64())])
    for call in (
        lake.ensure,
        lake.tables,
        lake.recover,
        lambda: lake.table("raw"),
        lambda: lake.find_part("raw", "p"),
        lambda: lake.write_part("raw", "p", [], schema),
        lambda: lake.scratch("x"),
    ):
        with pytest.raises(NotALakeError, match=r"thesis\.tex") as caught:
            call()
        assert caught.value.where == str(tmp_path)
        assert caught.value.hint
    assert "not empty" in repr(lake)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "name",
    [
        "a%20b",
        "%2e%2e",
        "a\\b",
        "a\nb",
        "s3://bucket/a%20b",
        "s3://bucket/a#b",
        "s3://bucket/a?b",
        "s3://bucket/a//b",
    ],
)
def test_an_address_that_delta_would_read_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="address"):
        Lake(name if "://" in name else tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a b", "100%", "%zz", "a#b", "a?b", "中文", "a&b=c", "a+b;c", "[a]", "{a}'\"<|>^`~"]
)
def test_two_lakes_of_odd_names_have_a_log_each(tmp_path: Path, name: str) -> None:
    for number, each in enumerate((name, f"{name}2")):
        lake = Lake(tmp_path / each)
        schema = pa.schema([("x", pa.int64())])
        part = lake.write_part("t", "p", [pa.table({"x": [number]})], schema)
        lake.commit([Change("t", schema, add=(part,))], app="a", version=0)
    assert [Lake(tmp_path / each).table("t").to_table()["x"].to_pylist() for each in (name, f"{name}2")] == [
        [0],
        [1],
    ]


def test_a_lake_that_is_cleared_half_has_whole_tables_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = pa.schema([("x", pa.int64())])

    class Killed(BaseException):
        pass

    left = [9]

    def dying(real: Any) -> Any:
        def wrapped(path: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            if left[0] == 0 and (tmp_path / "lake" / path).is_dir():  # in the middle of a folder
                for file in sorted((tmp_path / "lake" / path).glob("*.parquet")):
                    file.unlink()
                raise Killed
            real(path)

        return wrapped

    for at in range(1, 9):
        left[0] = 1000
        lake = Lake(tmp_path / "lake")
        for version in range(2):
            parts = [lake.write_part(t, f"p{version}", [pa.table({"x": [1]})], schema) for t in ("_a", "b")]
            lake.commit([Change(p.table, schema, add=(p,)) for p in parts], app="a", version=version)
        left[0] = at
        with monkeypatch.context() as patch:
            patch.setattr(lake.storage, "delete", dying(lake.storage.delete))
            patch.setattr(lake.storage, "delete_folder", dying(lake.storage.delete_folder))
            with suppress(Killed):
                lake.clear()
        assert verify(Lake(tmp_path / "lake")) == []
        lake.clear()
        assert lake.tables() == []


def test_a_full_disk_at_a_lock_says_so(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.ensure()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(StorageError, match="no space"), lake.lock("x"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with lake.lock("x"):
        pass


def test_a_folder_that_is_swept_up_while_a_file_is_staged_in_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(tmp_path)
    made, real = [], Path.mkdir

    def swept(self: Path, *given: Any, **more: Any) -> None:
        real(self, *given, **more)
        if not made:
            made.append(self)
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", swept)
    with storage.staging("a/b") as temporary:
        Path(temporary).write_bytes(b"1")
    assert storage.read("a/b") == b"1"
    assert made


def test_a_folder_with_something_in_it_is_not_deleted_as_an_empty_one(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.write("a/b", b"1")
    (tmp_path / "empty").mkdir()
    for folder in ("a", "empty", "none"):
        storage.delete_empty(folder)
    assert storage.folders() == ["a"]
    assert storage.read("a/b") == b"1"


def test_a_file_is_no_lake(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(NotALakeError, match="is a file"):
        Lake(tmp_path / "f").ensure()


@pytest.mark.parametrize("moment", ["entries", "folders"])
def test_a_lake_that_another_process_makes_in_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    lake, other = Lake(tmp_path / "lake"), Lake(tmp_path / "lake")
    looks = getattr(type(lake.storage), moment)

    def look(storage: Storage, *args: Any, **options: Any) -> Any:
        found = looks(storage, *args, **options)
        if storage is lake.storage:
            other.ensure()
            with locks.lock(other.storage, "run"):
                pass
        return found

    monkeypatch.setattr(type(lake.storage), moment, look)
    lake.ensure()
    assert lake.tables() == []


@pytest.mark.parametrize("marker", ["", "{}", '{"format": "x"}', "[]"])
def test_a_foreign_marker_is_no_lake(tmp_path: Path, marker: str) -> None:
    (tmp_path / MARKER).write_text(marker)
    with pytest.raises(NotALakeError):
        Lake(tmp_path).tables()


def test_a_newer_lake_asks_for_an_upgrade(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text('{"format": 2}')
    with pytest.raises(LakeError, match="format 2") as caught:
        Lake(tmp_path).ensure()
    assert "upgrade" in str(caught.value.hint)


def test_a_lake_travels_by_pickle(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.ensure()
    again = pickle.loads(pickle.dumps(lake))
    assert again == lake
    assert hash(again) == hash(lake)
    assert again.tables() == []
    remote = pickle.loads(pickle.dumps(Lake("s3://bucket/x", {"AWS_REGION": "eu-west-1"})))
    assert remote.storage.options == {"AWS_REGION": "eu-west-1"}
    assert pickle.loads(pickle.dumps(lake.table("x"))).uri == lake.table("x").uri


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with lake.lock("reviews"):
        with lake.lock("another"):
            pass
        with pytest.raises(ConcurrentRunError) as caught, Lake(tmp_path).lock("reviews"):
            pass
        assert str(os.getpid()) in str(caught.value.why)
        assert "since" in str(caught.value.why)
    with lake.lock("reviews"):
        pass


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with pytest.raises(RuntimeError), lake.lock("x"):
        raise RuntimeError
    with lake.lock("x"):
        pass


def test_waiting_for_a_lock(tmp_path: Path) -> None:
    lake, held = Lake(tmp_path), threading.Event()

    def hold() -> None:
        with lake.lock("x"):
            held.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    began = time.monotonic()
    thread.start()
    held.wait()
    with lake.lock("x", wait=30):
        entered = time.monotonic()
    thread.join()
    assert entered - began >= 0.2


def test_the_lock_of_a_killed_process_frees_itself(tmp_path: Path) -> None:
    code = """
    import sys, time
    from lake.lake import Lake
    with Lake(sys.argv[1]).lock("x"):
        print("held", flush=True)
        time.sleep(60)
    """
    holder = child(code, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ConcurrentRunError, match=f"process {holder.pid}"), Lake(tmp_path).lock("x"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with Lake(tmp_path).lock("x"):
        pass


def test_scratch_maps_what_was_written(tmp_path: Path) -> None:
    scratch = Lake(tmp_path).scratch("run/0")
    table = pa.table({"x": list(range(100_000))})
    assert not scratch.exists("a")
    with pytest.raises(FileNotFoundError):
        scratch.read_arrow("a")
    scratch.write_arrow("a", table)
    before = pa.total_allocated_bytes()
    again = scratch.read_arrow("a")
    assert pa.total_allocated_bytes() - before < 10_000  # mapped, not copied
    assert again.equals(table)
    scratch.write_bytes("b", b"{}")
    assert scratch.read_bytes("b") == b"{}"
    assert scratch.names() == ["a", "b"]
    assert Lake(tmp_path).scratch("other").names() == []
    scratch.clear()
    scratch.clear()
    assert scratch.names() == []
    assert not scratch.exists("a")


@pytest.mark.parametrize("key", ["", "..", "a/../b", "/x", "a//b"])
def test_scratch_stays_in_its_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        Lake(tmp_path).scratch(key)
