"""A row that is forgotten is nowhere, stays away, and gives back what was dropped for its sake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from small import contents, write_texts

from lake.errors import ConcurrentRunError, ConfigError, MissingTableError, StorageError
from lake.lake import Lake
from lake.maintenance import compact, vacuum, verify
from lake.storage import TEMPORARY
from pipeline import Pipeline
from pipeline.forget.forget import carry_over
from pipeline.forget.known import Known, digest
from pipeline.forget.proof import Search, prove
from pipeline.why import why

FORGETFUL = Path(__file__).parents[1] / "support" / "forgetful.py"
CONFIG = """\
name: small
lake: ./lake
allowed_rejects: 0.2
source: {lake.Files: {paths: texts/*.jsonl}}
steps:
  - pipeline.filters.Quality: {preset: plain}
  - dedup.MinHash: {threshold: 0.8, keep: [-quality, -length, _id]}
sink: {lake.Table: {name: train}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_texts(tmp_path / "texts", files=4, rows=20)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def pipeline(folder: Path, *overrides: str) -> Pipeline:
    return Pipeline.load(folder / "small.yaml", overrides)


def drops(lake: Lake, rule: str) -> list[dict]:
    return [row for row in lake.table("_drops").to_table().to_pylist() if row["rule"] == rule]


def ids(lake: Lake, table: str) -> set[str]:
    return set(lake.table(table).to_table(columns=["_id"]).column("_id").to_pylist())


def twins(lake: Lake) -> tuple[str, set[str]]:
    """A kept row, and those that were dropped for it."""
    near = drops(lake, "near-duplicate")
    twin = min(row["twin"] for row in near)
    return twin, {row["_id"] for row in near if row["twin"] == twin}


def search(lake: Lake, *wanted: str) -> tuple[str, ...]:
    return prove(Search(lake, frozenset(wanted), Known.of(lake))).found


def comparable(lake: Lake) -> dict[str, list[str]]:
    """What the tables hold; of a forgotten row it does not matter who noticed it."""
    found = {name: rows for name, rows in contents(lake.uri).items() if name in {"raw", "train", "_drops"}}
    told = [json.loads(row) for row in found["_drops"]]
    found["_drops"] = sorted(str(row | ({"step": ""} if row["rule"] == "forgotten" else {})) for row in told)
    return found


def test_the_tables_are_those_of_a_lake_that_never_took_the_row(folder: Path) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    twin, dropped = twins(lake)
    pipeline(folder).forget([twin])
    assert not any(twin in ids(lake, name) for name in ("raw", "train"))
    planned = {todo.stage: todo for todo in pipeline(folder).plan().todos}
    assert not planned["ingest"].work
    assert planned["train"].work
    pipeline(folder).run()
    assert dropped & ids(lake, "train")  # the next best of the family
    other = Lake(str(folder / "other"))
    carry_over(lake, other)
    pipeline(folder, f"lake={other.uri}").run()
    assert comparable(lake) == comparable(other)
    assert pipeline(folder).run().status == "unchanged"


def test_it_stays_away_when_its_file_is_read_again_and_in_trials(folder: Path) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    twin, _ = twins(lake)
    pipeline(folder).run(limit=100)
    pipeline(folder).forget([twin])
    assert Lake(f"{lake.uri}-trial").tables() == []
    for file in (folder / "texts").iterdir():
        file.write_text(file.read_text())  # touched: all of it is read again
    pipeline(folder).run()
    pipeline(folder).run(limit=100)
    for each in (lake, Lake(f"{lake.uri}-trial")):
        assert twin not in ids(each, "raw") | ids(each, "train")
    assert {row["detail"] for row in drops(lake, "forgotten")} == {digest(twin)}
    assert all(row["_id"] is row["label"] is row["meta"] is None for row in drops(lake, "forgotten"))


def test_rows_read_still_add_up(folder: Path) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    before = lake.table("raw").count() + sum(part.rows for part in ingest_drops(lake))
    pipeline(folder).forget([twins(lake)[0], drops(lake, "exact-duplicate")[0]["_id"]])
    assert lake.table("raw").count() + sum(part.rows for part in ingest_drops(lake)) == before == 4 * 21


def ingest_drops(lake: Lake) -> list:
    return [part for part in lake.table("_drops").parts() if part.partition["stage"] == "ingest"]


def test_all_contents_of_a_file_wherever_else_they_stand(folder: Path) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    uri = "texts/part-1.jsonl"
    mine = {
        row["_id"]
        for row in lake.table("_drops").to_table().to_pylist()
        if (row["_source"] or {}).get("uri") == uri
    }
    mine |= {row["_id"] for row in lake.table("raw").to_table().to_pylist() if row["_source"]["uri"] == uri}
    done = pipeline(folder).forget(source=uri, purge=True)
    assert done.ids == len(mine - {None}) == done.new
    assert done.proof is not None
    assert done.proof.clean
    assert not mine & ids(lake, "raw")
    again = pipeline(folder).forget(source=uri, purge=True)
    assert again.new == again.ids == 0
    with pytest.raises(MissingTableError, match="no row was read"):
        pipeline(folder).forget(source="texts/part-9.jsonl")


def test_a_lake_of_trials_that_our_key_does_not_open_is_named(folder: Path, monkeypatch) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    size = type(lake.storage).size

    def refused(storage, path):
        if storage.uri.endswith("-trial"):  # as of a bucket whose policy ends at the lake's own prefix
            raise StorageError("no permission", where=storage.uri)
        return size(storage, path)

    monkeypatch.setattr(type(lake.storage), "size", refused)
    done = pipeline(folder).forget(twins(lake)[:1], purge=True)
    assert done.proof is not None
    assert done.proof.clean
    assert done.unseen == f"{lake.uri}-trial (no permission)"
    assert f"not looked at: {lake.uri}-trial" in done.render()


def without_tags(page: bytes) -> str:
    return re.sub("<[^>]+>", "", page.decode())


def test_older_versions_logs_and_pages_hold_it_until_a_purge(folder: Path) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    [page] = [entry.path for entry in lake.storage.entries("_reports") if entry.path.endswith(".html")]
    shown = re.findall("title=.([0-9a-f]{32})", lake.storage.read(page).decode())[0]
    words = lake.table("raw").to_table(filter=pc.field("_id") == shown).column("text")[0].as_py().split()
    runs = {" ".join(words[at : at + 5]) for at in range(len(words) - 4)}
    DeltaTable(lake.table("raw").uri).create_checkpoint()
    compact(lake, "raw")
    first = min(ids(lake, "raw"))  # the least id of its part: the statistics in the log quote it
    assert search(lake, first)
    assert any(run in without_tags(lake.storage.read(page)) for run in runs)
    assert any("checkpoint" in entry.path for entry in lake.storage.entries("raw"))
    # What killed runs leave: a part that was never committed, half of one, scratch.
    part = min((Path(lake.uri) / "raw").glob("*.parquet"))
    shutil.copy(part, part.with_name("orphan.parquet"))
    half = part.with_name(f"{TEMPORARY}half")
    half.write_bytes(part.read_bytes()[:-100])
    lake.scratch("dead").write_arrow("sketch", pa.table({"_id": [first]}))
    report = pipeline(folder).forget([first, shown])
    left = search(lake)
    assert any("_delta_log" in path for path in left)
    assert any(path.startswith("raw/") and path.endswith(".parquet") for path in left)
    assert report.pages == (page,)
    assert not any(run in without_tags(lake.storage.read(page)) for run in runs)
    assert not any(path.startswith(("_reports", "_staging", "_pending")) for path in left)
    version = lake.table("_files").version
    done = pipeline(folder).forget([first], purge=True)
    assert done.proof is not None
    assert done.proof.clean
    assert done.proof.files == len(lake.storage.entries())
    assert search(lake) == ()
    assert verify(lake) == []
    assert not half.exists()
    assert lake.table("_files").count(version) == lake.table("_files").count()
    with pytest.raises(MissingTableError, match="vacuumed"):
        lake.table("raw").to_table(version=1)
    assert lake.table("raw").data_version == lake.table("raw").version
    pipeline(folder).run()
    assert search(lake) == ()


def test_vacuum_takes_it_too(folder: Path) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    twin, _ = twins(lake)
    pipeline(folder).forget([twin])
    pipeline(folder).run()
    for name in lake.tables():
        vacuum(lake, name, keep_hours=0)
    assert [path for path in search(lake) if path.endswith(".parquet")] == []


def test_why_answers_that_it_was_forgotten(folder: Path) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    twin, _ = twins(lake)
    [before] = why(lake, twin)
    pipeline(folder).forget([twin], reason="ticket 17")
    [fate] = why(lake, twin)
    assert "forgotten" in fate.render()
    assert "ticket 17" in fate.render()
    [place] = before.sources[:1]
    assert "forgotten" in why(lake, place)[0].render()


def test_policies_that_were_learned_from_it_are_named_and_learned_again(corpus: Path) -> None:
    Pipeline.load(corpus / "small.yaml").run()
    lake = Lake(str(corpus / "lake"))
    picture = next(
        row["_id"]
        for row in lake.table("train").to_table(columns=["_id", "_source", "_copy"]).to_pylist()
        if row["_source"]["uri"].endswith(".png")
    )
    copies = lake.table("train").to_table(columns=["_id"]).column("_id").to_pylist().count(picture)
    assert copies == 2
    done = Pipeline.load(corpus / "small.yaml").forget([picture])
    assert done.rows["train"] == copies
    [policy] = done.policies
    assert "augment.Learned" in policy
    before = lake.table("_policies").count()
    Pipeline.load(corpus / "small.yaml").run()
    assert lake.table("_policies").count() == before + 1
    assert picture not in ids(lake, "train")


def test_what_cannot_be_meant_is_refused_without_quoting_it(folder: Path) -> None:
    pipeline(folder).run()
    for wrong in (["no such id"], ["ab" * 15], []):
        with pytest.raises(ConfigError) as caught:
            pipeline(folder).forget(wrong)
        assert "no such" not in str(caught.value)
    with Lake(str(folder / "lake")).lock("small"), pytest.raises(ConcurrentRunError):
        pipeline(folder).forget(["ab" * 16])


def test_one_that_never_came_is_kept_away(folder: Path) -> None:
    pipeline(folder, f"lake={folder / 'other'}").run()
    wanted = min(ids(Lake(str(folder / "other")), "raw"))
    done = pipeline(folder).forget([wanted])
    assert (done.new, done.rows) == (1, {})
    pipeline(folder).run()
    assert wanted not in ids(Lake(str(folder / "lake")), "raw")


def test_the_verb(folder: Path) -> None:
    pipeline(folder).run()
    lake = Lake(str(folder / "lake"))
    twin, _ = twins(lake)
    command = [
        str(Path(sys.executable).with_name("gristmill")),
        "forget",
        "--lake",
        lake.uri,
        "--from",
        "-",
        "--purge",
        "--json",
    ]
    done = subprocess.run(command, input=f"{twin}\n", capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["rows"]["raw"] == 1
    assert told["proof"]["found"] == []
    assert twin not in done.stdout + done.stderr


def killed(folder: Path, every: int) -> tuple[int, int]:
    pipeline(folder).run()
    twin, _ = twins(Lake(str(folder / "lake")))
    work = folder / "work"
    work.mkdir()
    command = [sys.executable, str(FORGETFUL), str(folder / "lake"), str(work), str(every), "forget", twin]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    tried, moments = map(int, done.stdout.split())
    return tried, moments


def test_killed_at_some_moments_and_started_again_it_ends_in_the_same_state(folder: Path) -> None:
    tried, moments = killed(folder, every=23)
    assert tried >= 3
    assert moments > 60


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_and_started_again_it_ends_in_the_same_state(folder: Path) -> None:
    tried, moments = killed(folder, every=1)
    assert tried == moments
