"""Maintenance in processes of its own, killed at any moment, beside its like and beside writers; and on S3."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import stores
from faulty import Refuse, faulty
from pyarrow import fs

from lake.delta import locks, pending
from lake.lake import Change, Lake
from lake.maintenance import Retention, verify
from pipeline.upkeep import maintain

SCHEMA = pa.schema([("x", pa.int64())])
ALL = Retention(files_hours=0, log_days=0, locks_days=0, small_files=2)

# Maintains for ever, with nothing to wait for: every file that may go is old at once.
KEEPER = """
import sys
from lake.lake import Lake
from lake.maintenance import Retention, logs
from pipeline.upkeep import maintain
logs._SETTLED = 0.0
lake = Lake(sys.argv[1])
kept = Retention(files_hours=0, log_days=0, locks_days=0, small_files=2)
print("ready", flush=True)
while True:
    said = maintain(lake, kept, force=True, wait=60)
    print(len(said.actions), flush=True)
"""

WRITER = """
import sys
import pyarrow as pa
from lake.lake import Change, Lake
lake, name, last = Lake(sys.argv[1]), sys.argv[2], int(sys.argv[3])
schema = pa.schema([("x", pa.int64())])
print("ready", flush=True)
first = lake.table("t").transaction_version(name)
for n in range(0 if first is None else first + 1, last):
    with lake.lock(name):  # as a run does
        rows = pa.table({"x": [1000 * int(name[1:]) + n]}, schema=schema)
        part = lake.write_part("t", f"{name}-{n}", [rows], schema)
        lake.commit([Change("t", schema, add=(part,))], app=name, version=n)
    print(n, flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def kill(process: subprocess.Popen[str]) -> str:
    assert process.poll() is None, process.communicate()
    process.kill()
    return process.communicate()[0]


@pytest.mark.slow
def test_maintenance_killed_at_random_beside_writers_killed_at_random(tmp_path: Path) -> None:
    lake, rng = Lake(tmp_path / "lake"), random.Random(4)
    part = lake.write_part("t", "first", [pa.table({"x": [-1]}, schema=SCHEMA)], SCHEMA)
    lake.commit([Change("t", SCHEMA, add=(part,))], app="first", version=0)
    last, did = 25, 0
    keepers = [start(KEEPER, lake.uri) for _ in range(2)]
    writers = {name: start(WRITER, lake.uri, name, last) for name in ("w1", "w2")}
    for _ in range(5):
        time.sleep(rng.uniform(0.2, 1.2))
        did += len(kill(keepers.pop(0)).split())
        keepers.append(start(KEEPER, lake.uri))
        name = rng.choice(list(writers))
        if writers[name].poll() is None:
            kill(writers[name])
            writers[name] = start(WRITER, lake.uri, name, last)
    for process in writers.values():
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, (out, err)
    for process in keepers:
        did += len(kill(process).split())
    lake.recover()
    maintain(lake, ALL, force=True)
    expected = [-1, *(1000 * w + n for w in (1, 2) for n in range(last))]
    assert sorted(lake.table("t").to_table()["x"].to_pylist()) == expected
    assert [lake.table("t").transaction_version(name) for name in ("w1", "w2")] == [last - 1] * 2
    assert verify(lake) == []
    assert pending.pending(lake.storage) == []
    files = {entry.path for entry in lake.storage.entries("t") if entry.path.endswith(".parquet")}
    live = {f"t/{part.path}" for part in lake.table("t").parts()}
    assert {path for path in files if "_delta_log" not in path} == live  # nothing is left behind
    assert did > 5


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, str]]:
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    server.stop()


def test_maintenance_with_a_key_for_the_prefix_alone(options: dict[str, str]) -> None:
    """As docs/object-stores.md asks for it: the lake of trials lies beside the prefix."""
    denied = Refuse(403, "AccessDenied", "Access Denied")
    with faulty(options["AWS_ENDPOINT_URL"]) as proxy:
        lake = Lake(
            f"{stores.make_bucket(options['AWS_ENDPOINT_URL'], 'narrow', 'test')}/lake",
            options | {"AWS_ENDPOINT_URL": proxy.url},
        )
        lake.ensure()
        proxy.rule = lambda request: denied if "lake-trial" in request.path else None
        assert maintain(lake).actions == ()
        assert proxy.faults()


@pytest.mark.slow
def test_maintenance_in_an_object_store(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lake.maintenance.logs._SETTLED", 0.0)
    maker = fs.S3FileSystem(
        endpoint_override=options["AWS_ENDPOINT_URL"].removeprefix("http://"),
        scheme="http",
        access_key="test",
        secret_key="test",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    maker.create_dir("upkeep")
    lake = Lake("s3://upkeep/lake", options)
    for n in range(8):
        rows = pa.table({"x": [n]}, schema=SCHEMA)
        part = lake.write_part("t", f"p{n}", [rows], SCHEMA)
        lake.commit([Change("t", SCHEMA, add=(part,))], app="app", version=n)
    lake.write_part("_bands_x", "lost", [pa.table({"x": [1]}, schema=SCHEMA)], SCHEMA)
    assert [each.what for each in maintain(lake, dry_run=True).actions] == ["compact"]
    time.sleep(1.1)  # objects have whole seconds
    with lake.lock("a-run"):
        assert [name for name, _ in locks.holders(lake.storage)] == ["a-run"]
        done = {each.what for each in maintain(lake, ALL, force=True).actions}
        assert {"compact", "staging"} <= done
    assert locks.holders(lake.storage) == []
    time.sleep(1.1)
    assert "files" in {each.what for each in maintain(lake, ALL, force=True).actions}
    assert sorted(lake.table("t").to_table()["x"].to_pylist()) == list(range(8))
    assert lake.table("t").transaction_version("app") == 7
    assert len(lake.table("t").parts()) == 1
    assert not lake.storage.entries("_bands_x")
    assert verify(lake) == []
