"""Runs, maintenance and forgetting beside each other, and what each finds that another one left half done."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lake import Files
from lake.delta import locks
from lake.errors import ConcurrentRunError, ConfigError, MissingTableError
from lake.ids import content_ids
from lake.lake import Change, Lake, Table
from lake.ledger import runs
from lake.maintenance import Retention, verify
from lake.maintenance.dropping import drop
from lake.storage import LocalStorage
from pipeline import Pipeline, intake, upkeep
from pipeline import pipeline as running_of
from pipeline import run as running
from pipeline.filters import Length
from pipeline.forget import forget as forgetting
from pipeline.forget import scrub
from pipeline.run import Run
from pipeline.stages import follow as following
from pipeline.stages.stage import Stage

WORD = "water stone river mill wheel grain flour sack cart road "


def write(folder: Path, name: str, *numbers: int) -> Path:
    """A file with a text for each number."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("".join(json.dumps({"text": f"{WORD}{n}"}) + "\n" for n in numbers))
    return file


def pipeline(folder: Path, name: str = "one", source: Files | None = None, **more: Any) -> Pipeline:
    given = {
        "name": name,
        "lake": str(folder / "lake"),
        "base": str(folder),
        "source": source or Files(paths="texts/*.jsonl", text="text"),
        "steps": [Length(min=3)],
    }
    return Pipeline(**(given | more))


def id_of(number: int) -> str:
    return str(content_ids(pa.array([f"{WORD}{number}"]), None)[0])


def ids(lake: Lake, table: str = "raw") -> list[str]:
    return sorted(lake.table(table).to_table(columns=["_id"]).column("_id").to_pylist())


class Killed(Exception):  # noqa: N818  (no error of ours)
    """Ends a process in the middle, as far as the lake can tell."""


def killed(*_: object, **__: object) -> None:
    raise Killed


def test_what_a_killed_run_had_read_does_not_bring_a_forgotten_row_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "texts", "a.jsonl", 1, 2)
    mine = pipeline(tmp_path)
    mine.run()
    write(tmp_path / "texts", "a.jsonl", 1, 2, 3)
    (tmp_path / "texts" / "a.jsonl").write_text((tmp_path / "texts" / "a.jsonl").read_text()[::1])
    write(tmp_path / "texts", "b.jsonl", 1, 4)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_commit", killed)
        with pytest.raises(Killed):
            mine.run()
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "_clean", killed)
        with pytest.raises(Killed):
            mine.forget([id_of(1)])
    mine.run()
    assert ids(mine.lake) == sorted(map(id_of, (2, 3, 4)))


def test_a_pipeline_that_begins_while_a_row_is_forgotten_does_not_bring_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "texts", "a.jsonl", 1, 2)
    write(tmp_path / "more", "a.jsonl", 1, 3)
    mine = pipeline(tmp_path)
    mine.run()
    tables = {"raw": "other", "clean": "other_clean", "sink": "other_train"}
    other = pipeline(tmp_path, "two", Files(paths="more/*.jsonl", text="text"), **tables)
    inner, commit = forgetting._commit, Run._commit

    def meanwhile(*arguments: Any) -> Any:
        with monkeypatch.context() as patch:

            def beside(*given: Any) -> None:
                inner(*arguments)
                commit(*given)

            patch.setattr(Run, "_commit", beside)
            other.run()
        return inner(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "_commit", meanwhile)
        patch.setattr("pipeline.pipeline._A_MOMENT", 0.1)
        with pytest.raises(ConcurrentRunError, match="'forget' is locked"):
            mine.forget([id_of(1)])
    mine.forget([id_of(1)])
    other.run()
    assert ids(mine.lake, "other") == [id_of(3)]


def test_an_index_that_is_filled_again_is_not_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dedup import MinHash

    write(tmp_path / "texts", "a.jsonl", 1, 2)
    first = pipeline(tmp_path, steps=[MinHash(threshold=0.8)])
    first.run()
    index = [name for name in first.lake.tables() if name.startswith("_bands_")]
    pipeline(tmp_path).run()  # which empties it
    lake = first.lake
    inner = upkeep.droppable

    def meanwhile(*arguments: Any) -> bool:
        found = inner(*arguments)
        if found:
            first.run()
        return found

    now = Retention(files_hours=0, log_days=0)
    monkeypatch.setattr(upkeep, "droppable", meanwhile)
    upkeep.maintain(lake, now, force=True)
    assert set(index) <= set(lake.tables())
    assert lake.table(index[0]).count() == 2


def test_files_that_go_while_the_lake_is_looked_through_take_no_repeat_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = Files(paths="texts", text="text", on_change="follow")
    texts = tmp_path / "texts"
    write(texts, "a.jsonl", 1)
    write(texts, "b.jsonl", 1, 5)
    write(texts, "c.jsonl", 2)
    write(texts, "d.jsonl", 2, 6)
    mine = pipeline(tmp_path, source=follow)
    mine.run()
    (texts / "a.jsonl").unlink()  # text 1 is that of b.jsonl now
    inner = intake.promoted

    def meanwhile(*arguments: Any) -> Any:
        found = inner(*arguments)
        (texts / "c.jsonl").unlink(missing_ok=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(intake, "promoted", meanwhile)
        mine.run()
    mine.run()
    assert ids(mine.lake) == sorted(map(id_of, (1, 2, 5, 6)))


@pytest.mark.parametrize("name", ["rewrite", "maintenance", "forget", "table-raw", "table-train"])
def test_a_pipeline_that_would_wait_for_itself_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name of a lock"):
        pipeline(tmp_path, name)
    assert pipeline(tmp_path, f"{name}-s")


def test_what_a_run_found_of_a_killed_one_stays_while_it_is_at_work(tmp_path: Path) -> None:
    write(tmp_path / "texts", "a.jsonl", 1)
    mine = pipeline(tmp_path)
    mine.run()
    lake = mine.lake
    scratch = lake.scratch("one-ingest-2")
    scratch.write_bytes("found", b"x")
    gone = lake.scratch("older")
    gone.write_bytes("found", b"x")
    now = time.time()
    for each, hours in ((scratch, 2.5), (gone, 4.5)):
        os.utime(Path(lake.storage.inner(f"_staging/{each.key}/found")), (now - hours * 3600,) * 2)
    with lake.lock("one"):
        path = Path(lake.storage.inner(f"{locks.FOLDER}/one"))
        held = json.loads(path.read_text())
        since = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now - 2 * 3600))
        path.write_text(json.dumps(held | {"since": since}))
        upkeep.maintain(lake, Retention(files_hours=1))
        assert scratch.exists("found")  # it was half an hour old when the run began
        assert not gone.exists("found")
    assert verify(lake) == []


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 25 commits whose log was cut at the ninth."""
    lake = Lake(tmp_path_factory.mktemp("template") / "lake")
    schema = pa.schema([("_id", pa.string())])
    for n in range(1, 26):
        part = lake.write_part("t", f"p{n}", [pa.table({"_id": [id_of(n)]}, schema=schema)], schema)
        lake.commit([Change("t", schema, add=(part,))], app="app", version=n)
    for version in range(9):
        lake.storage.delete(f"t/_delta_log/{version:020d}.json")
    return Path(lake.uri)


@pytest.fixture
def aged(tmp_path: Path, template: Path) -> Lake:
    return Lake(shutil.copytree(template, tmp_path / "aged"))


def read(lake: Lake, table: str) -> list[int]:
    """The versions that can be read."""
    found = []
    for version in range(lake.table(table).version + 1):
        with suppress(MissingTableError):
            lake.table(table).to_table(version=version)
            found.append(version)
    return found


def test_a_purge_of_a_lake_whose_log_was_cut_leaves_other_versions(aged: Lake) -> None:
    lake = aged
    assert read(lake, "t") == [*range(9, 26)]
    done = forgetting.forget(lake, [id_of(25)], purge=True)
    assert done.proof is not None
    assert done.proof.clean
    assert read(lake, "t") == [*range(9, 25), 26]


def test_a_purge_finds_what_stands_in_a_checkpoint_alone(aged: Lake) -> None:
    lake = aged
    done = forgetting.forget(lake, [id_of(3)], purge=True)
    assert done.proof is not None
    assert done.proof.found == ()
    assert ids(lake, "t") == sorted(id_of(n) for n in range(1, 26) if n != 3)
    assert DeltaTable(lake.table("t").uri).transaction_version("app") == 25


def test_a_purge_that_was_killed_between_log_and_checkpoint_ends(
    aged: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = aged
    inner = LocalStorage.write

    def write_and_die(storage: LocalStorage, path: str, data: bytes) -> None:
        inner(storage, path, data)
        if "_delta_log" in path:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "write", write_and_die)
        with pytest.raises(Killed):
            forgetting.forget(lake, [id_of(15)], purge=True)
    done = forgetting.forget(lake, [id_of(15)], purge=True)
    assert done.proof is not None
    assert done.proof.found == ()


@contextmanager
def unlocked(*_: object, **__: object) -> Iterator[None]:
    """A lock in an object store whose holder was frozen, and which has gone to another."""
    yield


def first_time(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, beside: Callable[[], object]) -> None:
    """Have something else happen once a function was called for the first time, as if its process froze."""
    inner = getattr(holder, name)

    def woken(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(holder, name, inner)
        found = inner(*given, **more)
        beside()
        return found

    monkeypatch.setattr(Lake, "lock", unlocked)
    monkeypatch.setattr(holder, name, woken)


def test_a_maintenance_that_wakes_up_writes_into_no_file_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = pipeline(tmp_path)
    for number in range(3):
        write(tmp_path / "texts", f"{number}.jsonl", number)
        mine.run()
    started = sorted(set(runs(mine.lake, "one").column("started").to_pylist()))
    some = (time.time() - started[0].timestamp() - 0.001) / 86400  # the first run is older

    def another() -> None:
        upkeep.maintain(mine.lake, Retention(runs_days=0, small_files=99))

    first_time(monkeypatch, Table, "snapshot", another)
    with suppress(ConcurrentRunError):
        upkeep.maintain(mine.lake, Retention(runs_days=some, small_files=99))
    assert verify(mine.lake) == []


def test_one_who_forgets_and_wakes_up_brings_back_nothing_that_another_one_forgot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "texts", "a.jsonl", 1, 2, 3)
    mine = pipeline(tmp_path)
    mine.run()
    first_time(monkeypatch, scrub, "_parts_naming", lambda: mine.forget([id_of(2)]))
    with pytest.raises(ConcurrentRunError):
        mine.forget([id_of(1)])
    assert ids(mine.lake) == sorted(map(id_of, (1, 3)))
    assert verify(mine.lake) == []


@pytest.mark.parametrize("where", ["ingest", "train"])
def test_a_run_that_wakes_up_commits_nothing_after_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    write(tmp_path / "texts", "a.jsonl", 1, 2)
    mine = pipeline(tmp_path)
    mine.run()
    write(tmp_path / "texts", "b.jsonl", 3, 4)

    def another() -> None:
        write(tmp_path / "texts", "b.jsonl", 3, 4, 5)
        mine.run()

    holder, name = {"ingest": (running, "take_in"), "train": (Stage, "run")}[where]
    first_time(monkeypatch, holder, name, another)
    with pytest.raises(ConcurrentRunError):
        mine.run()
    assert ids(mine.lake) == ids(mine.lake, "train") == sorted(map(id_of, range(1, 6)))
    assert mine.run().status == "unchanged"


@pytest.mark.parametrize("where", ["ingest", "train"])
def test_a_run_that_wakes_up_brings_back_nothing_that_was_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    write(tmp_path / "texts", "a.jsonl", 1, 2)
    mine = pipeline(tmp_path)
    mine.run()
    write(tmp_path / "texts", "b.jsonl", 3, 4)
    holder, name = {"ingest": (running, "take_in"), "train": (Stage, "run")}[where]
    first_time(monkeypatch, holder, name, lambda: mine.forget([id_of(3)]))
    with pytest.raises(ConcurrentRunError, match="forgotten"):
        mine.run()
    assert id_of(3) not in ids(mine.lake) + ids(mine.lake, "train")
    mine.run()
    assert ids(mine.lake) == ids(mine.lake, "train") == sorted(map(id_of, (1, 2, 4)))


def test_a_run_that_wakes_up_writes_into_no_ledger_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "texts"
    for name in "abc":
        write(texts, f"{name}.jsonl", 1, ord(name))
    mine = pipeline(tmp_path, source=Files(paths="texts", text="text", on_change="follow"))
    mine.run()
    (texts / "b.jsonl").unlink()

    def another() -> None:
        (texts / "c.jsonl").unlink()
        monkeypatch.setattr(following, "_ledger", inner)
        mine.run()

    def frozen(*given: Any) -> Any:
        first_time(monkeypatch, following, "_ledger_parts", another)
        return inner(*given)

    inner = following._ledger
    monkeypatch.setattr(following, "_ledger", frozen)
    with pytest.raises(ConcurrentRunError):
        mine.run()
    assert verify(mine.lake) == []


def test_a_drop_that_was_killed_at_its_end_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake")
    schema = pa.schema([("x", pa.int64())])
    lake.commit([Change("_bands_x", schema)], app="app", version=0)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete_folder", killed)
        with pytest.raises(Killed):
            drop(lake, "_bands_x")
    upkeep.maintain(lake)
    assert forgetting.forget(lake, [id_of(1)], purge=True).new == 1
    assert lake.tables() == ["_forgotten"]


def test_a_trial_that_begins_while_the_last_one_is_swept_up_knows_what_was_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "texts", "a.jsonl", 1, 2)
    mine = pipeline(tmp_path)
    mine.run()
    mine.forget([id_of(1)])
    mine.run(limit=9)
    trial = Lake(f"{mine.lake.uri}-trial")
    sweep, carry = Lake.clear, running_of.carry_over

    def meanwhile(swept: Lake) -> None:
        def carried(*lakes: Lake) -> None:
            carry(*lakes)
            sweep(swept)

        monkeypatch.setattr(Lake, "clear", sweep)
        monkeypatch.setattr(running_of, "carry_over", carried)
        monkeypatch.setattr(running_of, "_A_MOMENT", 0.1)
        with suppress(ConcurrentRunError):
            mine.run(limit=9)
        if trial.table("raw").exists:
            assert id_of(1) not in ids(trial)

    monkeypatch.setattr(Lake, "clear", meanwhile)
    upkeep.maintain(mine.lake, Retention(trials_days=0))
