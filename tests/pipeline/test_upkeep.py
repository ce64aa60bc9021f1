"""`gristmill maintain run` on lakes that pipelines filled."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from small import WORDS

from dedup import MinHash
from lake import Files
from lake.delta import locks
from lake.errors import ConcurrentRunError, LakeError, NotALakeError
from lake.lake import Lake
from lake.ledger import runs
from lake.maintenance import Retention, compact, verify
from pipeline import Pipeline
from pipeline.cli import cli
from pipeline.config.model import Sink
from pipeline.filters import Length
from pipeline.matching.index import FOLLOWING
from pipeline.plan import Plan
from pipeline.run import Run
from pipeline.upkeep import Upkeep, maintain, worth_compacting

NOW = Retention(files_hours=0, log_days=0, runs_days=0, reports_days=0, trials_days=0, locks_days=0)
"""Nothing is kept that is not needed."""


def write(folder: Path, number: int, rows: int = 6) -> None:
    """A file of texts; each resembles one of another file in all but its last word."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [" ".join(WORDS[(row * 7 + n) % 30] for n in range(40)) for row in range(rows)]
    lines = [json.dumps({"text": f"{text} {number}-{row}"}) for row, text in enumerate(texts)]
    (folder / f"part-{number:03}.jsonl").write_text("\n".join([*lines, "no json"]) + "\n")


def pipeline(folder: Path, lake: str = "lake", **more: Any) -> Pipeline:
    given = {
        "name": "small",
        "lake": str(folder / lake),
        "allowed_rejects": 0.9,
        "base": str(folder),
        "source": Files(paths="texts/*.jsonl", text="text"),
        "steps": [Length(min=10), MinHash(threshold=0.8)],
    }
    return Pipeline(**(given | more))


def grown(folder: Path, files: int, **more: Any) -> Pipeline:
    """A lake that got a file a run."""
    made = pipeline(folder, **more)
    for number in range(files):
        write(folder / "texts", number)
        made.run()
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    grown(folder, 8)
    return folder


@pytest.fixture
def eight(tmp_path: Path, template: Path) -> Pipeline:
    """The pipeline of a lake that got eight files in eight runs."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return pipeline(tmp_path)


def ids(lake: Lake, table: str) -> list[tuple[Any, ...]]:
    return sorted(
        tuple(row.values()) for row in lake.table(table).to_table(columns=["_id", "text"]).to_pylist()
    )


def files_of(folder: str) -> dict[str, int]:
    return {str(file): file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()}


def done(what: Upkeep) -> dict[str, set[str]]:
    """What was done where."""
    found: dict[str, set[str]] = {}
    for action in what.actions:
        found.setdefault(action.what, set()).add(action.where)
    return found


def test_the_index_goes_with_its_table_and_nothing_is_sketched_again(tmp_path: Path, eight: Pipeline) -> None:
    mine, lake = eight, eight.lake
    before = ids(lake, "train")
    said = maintain(lake)
    assert {"raw", "_runs", "_files", "_drops"} <= done(said)["compact"]
    following = [name for name in lake.tables() if name.startswith(FOLLOWING)]
    assert len(following) == 2
    assert [len(lake.table(name).parts()) for name in ("raw", *following)] == [1, 1, 1]
    plan = mine.plan()
    assert not plan.changes
    assert f"{lake.table('raw').count()} rows are in the index" in plan.render()
    assert ids(lake, "train") == before
    write(tmp_path / "texts", 9)
    mine.run()
    assert [len(lake.table(name).parts()) for name in ("raw", *following, "train")] == [2, 2, 2, 1]
    once = pipeline(tmp_path, "once")
    once.run()
    assert ids(lake, "train") == ids(once.lake, "train")
    assert ids(lake, "raw") == ids(once.lake, "raw")
    assert verify(lake) == []
    assert maintain(lake).actions == ()


def test_a_dry_run_changes_nothing_and_tells_what_a_run_then_does(eight: Pipeline) -> None:
    lake = eight.lake
    there = files_of(lake.uri)
    said = maintain(lake, dry_run=True)
    assert files_of(lake.uri) == there
    assert said.dry_run
    real = maintain(lake)
    assert real.actions == said.actions
    assert "would tidy" in said.render()
    assert "8 files into 1" in real.render()
    assert real.to_dict()["actions"][0]["what"] == "compact"


def test_old_runs_reports_trials_and_locks_go_and_the_last_stay(tmp_path: Path) -> None:
    mine = grown(tmp_path, 2)
    mine.run(limit=2)
    pipeline(tmp_path, name="other", raw="r2", sink=Sink(name="t2")).run()
    lake = mine.lake
    last = {row["run"] for row in runs(lake).to_pylist()[-4:]}
    os.utime(Path(lake.uri) / "_locks" / "small", (time.time() - 60,) * 2)
    said = maintain(lake, NOW, force=True)
    assert {"forget-runs", "reports", "trial", "locks"} <= set(done(said))
    assert {row["run"] for row in runs(lake).to_pylist()} == last
    assert set(lake.storage.folders("_reports")) == last
    assert [row["stage"] for row in runs(lake, "small").to_pylist()] == ["ingest", "train"]
    assert Lake(f"{lake.uri}-trial").tables() == []
    assert not mine.plan().changes
    assert verify(lake) == []
    write(tmp_path / "texts", 7)
    assert mine.run().status == "ok"
    assert len(runs(lake, "small")) == 4


def test_the_index_of_a_step_that_is_gone_goes(tmp_path: Path) -> None:
    lake = grown(tmp_path, 2).lake
    index = {name for name in lake.tables() if name.startswith(("_bands", "_sketches", "_edges"))}
    first = ids(lake, "train")
    other = pipeline(tmp_path, steps=[Length(min=10), MinHash(threshold=0.9)])
    other.run()
    assert not done(maintain(lake)).get("index")  # it is young
    with lake.lock("small"):
        assert index <= set(maintain(lake, NOW, force=True).busy)
    assert done(maintain(lake, NOW, force=True))["index"] == index
    assert not index & set(lake.tables())
    assert not other.plan().changes
    pipeline(tmp_path).run()
    assert ids(lake, "train") == first


def test_a_table_that_a_run_is_at_is_left_for_next_time(eight: Pipeline) -> None:
    lake = eight.lake
    with lake.lock("table-raw"), lake.lock("small"):
        said = maintain(lake)
        assert {"raw", "_drops"} <= set(said.busy)
        assert "next time" in said.render()
        assert len(lake.table("raw").parts()) == 8
    assert {"raw", "_drops"} <= done(maintain(lake))["compact"]


def test_a_damaged_table_is_named_and_the_others_are_tidied(eight: Pipeline) -> None:
    lake = eight.lake
    Path(lake.uri, "raw", lake.table("raw").parts()[3].path).unlink()
    said = maintain(lake)
    assert said.damaged == ("raw",)
    assert "maintain verify" in said.render()
    assert "_runs" in done(said)["compact"]
    assert CliRunner().invoke(cli, ["maintain", "run", "--lake", lake.uri]).exit_code == 1


def test_looking_after_a_lake_that_is_not_there_does_not_make_one(tmp_path: Path) -> None:
    assert maintain(Lake(tmp_path / "lake")).actions == ()
    assert not (tmp_path / "lake").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    with pytest.raises(NotALakeError):
        maintain(Lake(tmp_path / "home"))


def test_files_are_not_deleted_young_unless_forced(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="younger than 1 h"):
        maintain(Lake(tmp_path / "lake"), NOW)


def test_what_runs_derive_is_not_compacted_under_them(tmp_path: Path) -> None:
    lake = grown(tmp_path, 2).lake
    names = worth_compacting(lake)
    assert "raw" in names
    assert not {"train", "_emitted"} & set(names)


def test_a_run_whose_tables_were_compacted_under_it_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a lease was lost: before, the parts that were to stay went."""
    mine = grown(tmp_path, 3, steps=[Length(min=10)])
    lake = mine.lake
    write(tmp_path / "texts", 3)
    from pipeline.stages import emitted

    note = emitted.note

    @contextmanager
    def unlocked(*_: object, **__: object) -> Iterator[None]:
        yield

    def meanwhile(*arguments: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(Lake, "lock", unlocked)
            assert compact(lake, "train").parts_before == 3
        return note(*arguments)

    monkeypatch.setattr(emitted, "note", meanwhile)
    with pytest.raises(ConcurrentRunError, match="parts that stay"):
        mine.run()
    monkeypatch.undo()
    mine.run()
    assert lake.table("train").count() == lake.table("raw").count() == 24


def test_two_maintenances_of_a_lake_take_turns(tmp_path: Path) -> None:
    lake = grown(tmp_path, 1).lake
    with lake.lock("maintenance"):
        with pytest.raises(ConcurrentRunError):
            maintain(lake)
        assert maintain(lake, dry_run=True).actions == ()
    assert maintain(lake, wait=5).busy == ()
    assert locks.holders(lake.storage) == []


def test_on_the_command_line(eight: Pipeline) -> None:
    lake = eight.lake

    def run(*more: str) -> Result:
        return CliRunner().invoke(cli, ["maintain", "run", "--lake", lake.uri, *more], prog_name="gristmill")

    there = run("--dry-run", "--detailed-exitcode", "--json")
    assert there.exit_code == 4
    assert json.loads(there.stdout)["dry_run"] is True
    assert run("--keep-hours", "0", "--log-days", "0").exit_code == 1
    assert run("--keep-hours", "48", "--log-days", "1").exit_code == 2
    real = json.loads(run("--json").stdout)
    assert "raw" in {each["where"] for each in real["actions"]}
    assert run("--dry-run", "--detailed-exitcode").exit_code == 0
    assert "nothing to do" in run().stdout
    vacuum = ["maintain", "vacuum", "--lake", lake.uri, "--keep-hours", "0"]
    assert CliRunner().invoke(cli, vacuum).exit_code == 1
    assert CliRunner().invoke(cli, [*vacuum, "--force"]).exit_code == 0


def test_a_compaction_gets_its_turn_among_runs_that_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schedule that is always behind leaves no pause between two runs: small files must not pile up."""
    made = grown(tmp_path, 9)
    plain, ended = Run.execute, threading.Event()

    def slow(run: Run, plan: Plan) -> dict[str, Any]:
        time.sleep(0.4)
        return plain(run, plan)

    monkeypatch.setattr(Run, "execute", slow)

    def follow() -> None:
        while not ended.is_set():
            made.run(wait=60)

    with ThreadPoolExecutor(1) as pool:
        runs_on = pool.submit(follow)
        time.sleep(0.2)
        try:
            said = maintain(made.lake, NOW, force=True, wait=20)
        finally:
            ended.set()
        runs_on.result()
    assert said.busy == ()
    joined = {action.where: action.note for action in said.actions if action.what == "compact"}
    assert joined["raw"] == "9 files into 1"
    assert verify(made.lake) == []
