"""Many processes at one lake: runs of one pipeline, pipelines side by side, maintenance, readers."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small import sentence

from lake import Files
from lake.errors import ConcurrentRunError
from lake.lake import Lake
from lake.maintenance import verify
from pipeline import Pipeline
from pipeline.filters import Length

MANY = int(os.environ.get("GRISTMILL_WRITERS", "4"))  # at once

# A run of its own process: once, or until it is through however often its turn does not come.
RUNNER = """
import json, sys, time
from lake import Files
from lake.errors import ConcurrentRunError
from lake.lake import Lake
from pipeline import Pipeline, engine
from pipeline.config.model import Sink
from pipeline.filters import Length
name, lake, base, paths, tables, wait = json.loads(sys.argv[1])
made = Pipeline(name=name, lake=lake, base=base, source=Files(paths=paths, text="text"), allowed_rejects=1.0,
                steps=[Length(min=10)], raw=f"raw{tables}", sink=Sink(name=f"train{tables}"))
held = []
lock = Lake.lock
def timed(self, what, *, wait=0.0):
    began = time.monotonic()
    context = lock(self, what, wait=wait)
    class Timed:
        def __enter__(self):
            context.__enter__()
            held.append([what, time.monotonic() - began])
        def __exit__(self, *error):
            return context.__exit__(*error)
    return Timed()
Lake.lock = timed
print("ready", flush=True)
sys.stdin.readline()
began = time.monotonic()
runner = engine.local(1)
report = made.run(runner=runner, wait=wait)
runner.close()
print(json.dumps({"status": report.status, "seconds": time.monotonic() - began,
                  "waited": dict(held).get(name, 0.0)}), flush=True)
"""

MAINTAINER = """
import sys, time
from lake.errors import ConcurrentRunError
from lake.lake import Lake
from lake.maintenance import Retention, logs
from pipeline.upkeep import maintain
logs._SETTLED = 0.0  # what a checkpoint supersedes goes at once
lake = Lake(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
done = busy = 0
while True:
    said = maintain(lake, Retention(files_hours=1, small_files=2), wait=60)
    done += len(said.actions)
    busy += len(said.busy)
    print(done, busy, flush=True)
    time.sleep(0.3)
"""

READER = """
import sys, time
from collections import Counter
from lake.errors import MissingPartError, MissingTableError
from lake.lake import Lake
table = Lake(sys.argv[1]).table(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
reads, most = 0, 0
while True:
    if not table.exists:
        continue
    version = table.version
    first = table.to_table(columns=["_id"], version=version)["_id"].to_pylist()
    assert len(first) == len(set(first)), "a row is there twice"
    assert len(first) >= most, "rows are gone"
    most, reads = len(first), reads + 1
    print(reads, most, flush=True)
    time.sleep(0.1)
"""


class Child:
    """A process that waits for the word, and says what it did in lines."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self) -> Any:
        out, err = self.process.communicate(timeout=200)
        assert self.process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def stop(self) -> list[str]:
        """Kill it where it stands; what it said so far."""
        assert self.process.poll() is None, self.process.communicate()
        self.process.kill()
        return self.process.communicate()[0].splitlines()


def start(*children: Child) -> None:
    for child in children:
        child.ready()
    for child in children:
        child.go()


def write(folder: Path, files: int, rows: int = 3, seed: int = 1) -> int:
    """Files of texts, each of which differs from all others; gives the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for number in range(files):
        lines = [
            json.dumps({"text": " ".join([*sentence(rng, 12), f"{seed}-{number}-{row}"])})
            for row in range(rows)
        ]
        (folder / f"{number:04}.jsonl").write_text("\n".join(lines) + "\n")
    return files * rows


def run(name: str, folder: Path, paths: Sequence[str], tables: str = "", wait: float = 150.0) -> Child:
    lake, base = str(folder / "lake"), str(folder)
    return Child(RUNNER, json.dumps([name, lake, base, list(paths), tables, wait]))


def rows_of(lake: Lake, table: str) -> Counter[str]:
    return Counter(lake.table(table).to_table(columns=["text"])["text"].to_pylist())


@pytest.mark.slow
def test_runs_of_one_pipeline_with_overlapping_files_store_every_row_once(tmp_path: Path) -> None:
    files = 50 * (MANY + 1)
    rows = write(tmp_path / "texts", files)
    # A hundred files each, half of them those of the next one.
    globs = [[f"texts/{n:03}[0-9].jsonl" for n in range(5 * k, 5 * k + 10)] for k in range(MANY)]
    children = [run("one", tmp_path, paths) for paths in globs]
    start(*children)
    done = [child.result() for child in children]
    lake = Lake(tmp_path / "lake")
    for table in ("raw", "train"):
        found = rows_of(lake, table)
        assert len(found) == rows
        assert set(found.values()) == {1}
    read = lake.table("_files").to_table()["uri"].to_pylist()
    assert len(read) == len(set(read)) == files  # no file was read twice: each run planned anew
    assert {each["status"] for each in done} <= {
        "ok",
        "unchanged",
    }  # its neighbours may have read all of its files
    assert verify(lake) == []
    assert lake.recover() == []
    sys.stdout.write(f"waited {sorted(round(each['waited'], 2) for each in done)} s\n")


def test_a_run_that_may_not_wait_says_so_and_one_that_may_starts_from_what_the_other_left(
    tmp_path: Path,
) -> None:
    write(tmp_path / "texts", 2)
    first, second = (run("one", tmp_path, ["texts/*.jsonl"]) for _ in range(2))
    start(first, second)
    done = [first.result(), second.result()]
    assert sorted(each["status"] for each in done) == ["ok", "unchanged"]
    lake = Lake(tmp_path / "lake")
    mine = Pipeline(name="one", lake=lake.uri, source=Files(paths="x", text="text"), steps=[Length(min=10)])
    with lake.lock("one"), pytest.raises(ConcurrentRunError, match="'one' is locked"):
        mine.run()


@pytest.mark.slow
def test_pipelines_share_the_accounts_of_one_lake(tmp_path: Path) -> None:
    for k in range(MANY):
        write(tmp_path / f"texts{k}", 20, seed=k + 1)
    children = [run(f"p{k}", tmp_path, [f"texts{k}/*.jsonl"], str(k)) for k in range(MANY)]
    start(*children)
    done = [child.result() for child in children]
    lake = Lake(tmp_path / "lake")
    for k in range(MANY):
        assert lake.table(f"train{k}").count() == lake.table(f"raw{k}").count() == 60
    accounts = lake.table("_runs").to_table(columns=["pipeline", "stage"]).to_pylist()
    assert Counter(tuple(row.values()) for row in accounts) == {
        (f"p{k}", stage): 1 for k in range(MANY) for stage in ("ingest", "train")
    }
    assert lake.table("_files").count() == 20 * MANY
    assert verify(lake) == []
    # Nobody waits for a lock of another pipeline, and nobody starves at the tables that they share.
    seconds = sorted(each["seconds"] for each in done)
    assert max(each["waited"] for each in done) < 5
    assert seconds[-1] < 5 * seconds[0] + 5
    sys.stdout.write(f"took {[round(each, 2) for each in seconds]} s\n")


@pytest.mark.slow
def test_runs_beside_maintenance_and_readers_some_killed(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = 0
    lake = Lake(tmp_path / "lake")
    children: list[Child] = []
    write(tmp_path / "texts", 1, seed=99)
    first = run("one", tmp_path, ["texts*/*.jsonl"])
    start(first)
    first.result()
    pinned, before = lake.table("train").version, rows_of(lake, "train")
    readers = [Child(READER, lake.uri, table) for table in ("raw", "train")]
    maintainers = [Child(MAINTAINER, lake.uri) for _ in range(2)]
    start(*readers, *maintainers)
    said: list[str] = []
    for number in range(4):
        rows += write(tmp_path / f"texts{number}", 10, seed=number + 1)
        child = run("one", tmp_path, ["texts*/*.jsonl"])
        start(child)
        if number % 2:
            time.sleep(rng.uniform(0.2, 1.5))
            child.process.kill()  # the run
            child.process.communicate()
            said += maintainers.pop(0).stop()  # and one of two that maintain
            maintainers.append(Child(MAINTAINER, lake.uri))
            start(maintainers[-1])
        else:
            children.append(child)
            assert child.result()["status"] in {"ok", "unchanged"}
    last = run("one", tmp_path, ["texts*/*.jsonl"])
    start(last)
    last.result()
    time.sleep(2)
    seen = [reader.stop() for reader in readers]
    said += [line for child in maintainers for line in child.stop()]
    lake.recover()
    for table in ("raw", "train"):
        found = rows_of(lake, table)
        assert len(found) == rows + 3
        assert set(found.values()) == {1}
    assert verify(lake) == []
    assert all(len(lines) > 3 for lines in seen)
    assert max(int(line.split()[0]) for line in said) > 0
    # Another pipeline that reads a version that it has pinned.
    assert Counter(lake.table("train").to_table(version=pinned)["text"].to_pylist()) == before


@pytest.mark.slow
def test_a_reader_that_streams_for_longer_than_a_vacuum_gets_its_rows_or_is_told(tmp_path: Path) -> None:
    write(tmp_path / "texts", 4)
    made = [run("one", tmp_path, [f"texts/000{n}.jsonl"]) for n in range(2)]
    for child in made:
        start(child)
        child.result()
    lake = Lake(tmp_path / "lake")
    reading = Child(SLOW, lake.uri)
    start(reading)
    assert reading.process.stdout is not None
    assert reading.process.stdout.readline() == "began\n"
    command = [str(Path(sys.executable).with_name("gristmill")), "maintain"]
    for more in (["compact", "raw"], ["vacuum", "raw", "--keep-hours", "1"]):
        subprocess.run([*command, *more, "--lake", lake.uri], check=True, capture_output=True)
    careful = Child(SLOW, lake.uri)
    careful.ready()
    reading.go()
    assert reading.result() == 6  # what it needs is young
    part = lake.table("raw").parts(2)[-1]
    careful.go()
    assert careful.process.stdout is not None
    assert careful.process.stdout.readline() == "began\n"
    forced = ["vacuum", "raw", "--keep-hours", "0", "--force", "--lake", lake.uri]
    subprocess.run([*command, *forced], check=True, capture_output=True)
    assert lake.storage.size(f"raw/{part.path}") is None
    careful.go()
    assert careful.result() == "MissingPartError"


SLOW = """
import json, sys
from lake.errors import MissingPartError
from lake.lake import Lake
table = Lake(sys.argv[1]).table("raw")
print("ready", flush=True)
sys.stdin.readline()
reader = table.scan(columns=["_id"], version=2)
rows = reader.read_next_batch().num_rows
print("began", flush=True)
sys.stdin.readline()
try:
    print(json.dumps(rows + reader.read_all().num_rows))
except MissingPartError as error:
    print(json.dumps(type(error).__name__))
"""
