from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small import contents, write_texts

from lake.errors import ConcurrentRunError, ConfigError, EngineError
from lake.lake import Lake
from lake.maintenance import compact, verify
from lake.op import Op, Outcome
from lake.schema import no_drops
from pipeline import Pipeline, engine
from pipeline.progress import Silent
from pipeline.run import Run, run_id
from pipeline.stages.context import Context
from pipeline.stages.ingest import ingest
from pipeline.why import why


def run(folder: Path, **keywords):
    return Pipeline.load(folder / "small.yaml", keywords.pop("overrides", ())).run(**keywords)


def test_rows_are_accounted_for_at_every_step(corpus):
    report = run(corpus)
    steps = report.to_dict()["steps"]
    assert {step["stage"] for step in steps} == {"ingest", "clean", "train"}
    for step in steps:
        assert step["rows_in"] == step["rows_kept"] + sum(step["drops"].values()), step
    lake = Lake(str(corpus / "lake"))
    by_stage = {}
    for stage in lake.table("_drops").to_table(columns=["stage"]).column("stage").to_pylist():
        by_stage[stage] = by_stage.get(stage, 0) + 1
    for stage in ("ingest", "clean"):
        dropped = sum(sum(step["drops"].values()) for step in steps if step["stage"] == stage)
        assert by_stage.get(stage, 0) == dropped > 0
    read = sum(step["rows_in"] for step in steps if step["stage"] == "ingest")
    assert read == 6 * 31 + 62
    assert lake.table("raw").count() == read - by_stage["ingest"]
    assert lake.table("clean").count() == lake.table("raw").count() - by_stage["clean"]
    ids = lake.table("raw").to_table(columns=["_id"]).column("_id").to_pylist()
    assert len(ids) == len(set(ids))


def test_a_second_run_changes_nothing(corpus):
    run(corpus)
    versions = {name: Lake(str(corpus / "lake")).table(name).version for name in ("raw", "clean", "train")}
    report = run(corpus)
    assert report.status == "unchanged"
    assert not Pipeline.load(corpus / "small.yaml").plan().changes
    assert versions == {name: Lake(str(corpus / "lake")).table(name).version for name in versions}


def test_only_new_rows_are_read_and_the_tables_are_those_of_one_run(corpus):
    write_texts(corpus / "later", files=8)  # the same six files, and two more
    run(corpus)
    for name in ("part-6.jsonl", "part-7.jsonl"):
        (corpus / "later" / name).rename(corpus / "texts" / name)
    with (corpus / "texts" / "part-0.jsonl").open("a") as file:
        file.write(json.dumps({"text": "a line that came later than the rest of the file did"}) + "\n")
    report = run(corpus)
    ingest = [step for step in report.to_dict()["steps"] if step["stage"] == "ingest"]
    assert sum(step["rows_in"] for step in ingest) == 2 * 31 + 1
    once = contents_of_one_run(corpus)
    twice = contents(corpus / "lake")
    for table in ("clean", "train"):
        assert ids(twice[table]) == ids(once[table])


def ids(rows: list[str]) -> list[tuple[str, int]]:
    parsed = [json.loads(row) for row in rows]
    return sorted((row["_id"] or "", row.get("_copy") or 0) for row in parsed)


def contents_of_one_run(corpus: Path) -> dict[str, list[str]]:
    run(corpus, overrides=[f"lake={corpus / 'once'}"])
    return contents(corpus / "once")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_nothing(corpus, workers):
    runner = engine.local(workers)
    run(corpus, runner=runner, overrides=[f"lake={corpus / 'other'}"])
    runner.close()
    run(corpus)
    assert contents(corpus / "other") == contents(corpus / "lake")


def test_a_changed_step_runs_again_and_the_plan_says_why(corpus):
    run(corpus)
    changed = Pipeline.load(corpus / "small.yaml", ["steps.2.threshold=0.95"])
    clean = next(todo for todo in changed.plan().todos if todo.stage == "clean")
    assert clean.work
    assert "threshold 0.8 → 0.95" in clean.why
    before = Lake(str(corpus / "lake")).table("clean").count()
    changed.run()
    assert Lake(str(corpus / "lake")).table("clean").count() >= before
    run(corpus)
    assert Lake(str(corpus / "lake")).table("clean").count() == before


def test_why_names_rule_threshold_twin_and_similarity(corpus):
    run(corpus)
    lake = Lake(str(corpus / "lake"))
    near = next(
        row
        for row in lake.table("_drops").to_table().to_pylist()
        if row["rule"] == "near-duplicate" and row["exact"] < 1
    )
    (fate,) = why(lake, near["_id"])
    text = fate.render()
    assert "dedup.MinHash" in text
    assert near["twin"] in text
    assert f"{near['exact']:.3f}" in text
    assert "0.8" in text
    (twin,) = why(lake, near["twin"][:10])
    assert near["_id"] in [drop["_id"] for drop in twin.stands_for]
    assert twin.tables["train"] >= 1
    source = f"{near['_source']['uri']}:{near['_source']['row']}"
    assert why(lake, source)[0].id == near["_id"]


def test_a_trial_leaves_the_lake_alone(corpus):
    report = run(corpus, limit=10)
    assert not (corpus / "lake").exists()
    read = [step for step in report.to_dict()["steps"] if step["stage"] == "ingest"]
    assert sum(step["rows_in"] for step in read) == 20
    assert Lake(str(corpus / "lake-trial")).table("train").count() > 0


def test_runs_of_one_second_are_listed_in_their_order():
    first = datetime(2026, 5, 4, 2, 0, 4, tzinfo=UTC)
    ids = [run_id(first + timedelta(microseconds=16 * step)) for step in range(62_500)]
    assert ids == sorted(ids)
    assert ids[0].startswith("20260504T020004-0000")
    assert ids[-1].startswith("20260504T020004-fffe")
    assert run_id(first) != run_id(first)


def test_two_runs_at_once_are_refused(corpus):
    pipeline = Pipeline.load(corpus / "small.yaml")
    pipeline.lake.ensure()
    with pipeline.lake.lock("small"), pytest.raises(ConcurrentRunError):
        pipeline.run()


class Loses(Op):
    def apply(self, table):
        return Outcome(table.slice(1), no_drops())


def test_a_step_that_loses_a_row_ends_the_run(corpus):
    config = Pipeline.load(corpus / "small.yaml").config
    bad = Pipeline.of(config.model_copy(update={"steps": (Loses(),)}))
    with pytest.raises(EngineError, match="were accounted for"):
        bad.run()
    assert not Lake(str(corpus / "lake")).table("train").exists


def test_too_many_rejects_say_so(corpus):
    report = run(corpus, overrides=["allowed_rejects=0.01"])
    assert report.status == "rejects"
    assert report.exit_code == 3


def test_compaction_makes_no_work_and_loses_nothing(corpus):
    run(corpus)
    lake = Lake(str(corpus / "lake"))
    before = contents(corpus / "lake")
    for table in ("raw", "clean", "train"):
        assert compact(lake, table).parts_after == 1
    assert not Pipeline.load(corpus / "small.yaml").plan().changes
    assert contents(corpus / "lake") == before
    write_texts(corpus / "texts" / "more", files=1, seed=8)
    later = run(corpus, overrides=["source.1.paths=texts/**/*.jsonl"])
    assert later.status == "ok"
    steps = later.to_dict()["steps"]
    assert sum(step["rows_in"] for step in steps if step["stage"] == "ingest") == 31


def test_a_report_that_a_killed_run_could_not_write_is_written_by_the_next(corpus):
    report = run(corpus)
    folder = Path(report.path).parent
    for file in folder.iterdir():
        file.unlink()
    again = run(corpus)
    assert again.status == "unchanged"
    assert again.path == report.path
    assert json.loads((folder / "run.json").read_text())["status"] == "ok"


def test_two_sources_may_read_one_file_in_two_ways(corpus):
    twice = "[{lake.Files: {paths: texts/*.jsonl}}, {lake.Files: {paths: texts/*.jsonl, label: page}}]"
    pipeline = Pipeline.load(corpus / "small.yaml", [f"source={twice}", "steps=[]", "allowed_rejects=1"])
    pipeline.run()
    assert pipeline.run().status == "unchanged"


def test_two_sources_may_overlap(corpus):
    twice = "[{lake.Files: {paths: texts/*.jsonl}}, {lake.Files: {paths: texts/part-0.jsonl}}]"
    pipeline = Pipeline.load(corpus / "small.yaml", [f"source={twice}", "steps=[]", "allowed_rejects=1"])
    read = [step for step in pipeline.run().to_dict()["steps"] if step["stage"] == "ingest"]
    assert sum(step["rows_in"] for step in read) == 6 * 31


def test_two_pipelines_in_one_lake_need_tables_of_their_own(corpus):
    run(corpus)
    other = ["name=other", "steps=[]", "allowed_rejects=1"]
    with pytest.raises(ConfigError, match="belongs to the pipeline 'small'"):
        run(corpus, overrides=other)
    run(corpus, overrides=[*other, "raw=raw2", "clean=clean2", "sink={lake.Table: {name: train2}}"])
    lake = Lake(str(corpus / "lake"))
    assert lake.table("train2").count() == lake.table("raw").count() == lake.table("raw2").count()


def test_drops_of_a_stage_that_is_gone_go_with_it(corpus):
    run(corpus)
    report = run(corpus, overrides=["steps=[{dedup.MinHash: {}}]"])
    lake = Lake(str(corpus / "lake"))
    stages = lake.table("_drops").to_table(["stage"]).column("stage").to_pylist()
    counted = sum(sum(step["drops"].values()) for step in report.to_dict()["steps"])
    assert len(stages) == counted
    assert set(stages) == {"ingest", "train"}


def test_another_lake_at_the_same_place_is_another_lake(corpus):
    run(corpus, overrides=["steps=[{dedup.MinHash: {}}]"])
    shutil.rmtree(corpus / "lake")
    shutil.rmtree(corpus / "texts")
    write_texts(corpus / "texts", seed=99)
    run(corpus, overrides=["steps=[{dedup.MinHash: {}}]"])
    here = contents(corpus / "lake")
    run(corpus, overrides=["steps=[{dedup.MinHash: {}}]", f"lake={corpus / 'fresh'}"])
    assert ids(here["train"]) == ids(contents(corpus / "fresh")["train"])
    assert ids(here["_drops"]) == ids(contents(corpus / "fresh")["_drops"])


def small(folder: Path, *overrides: str, steps: str = "[]"):
    """A pipeline over `in/`, without the steps of the corpus."""
    (folder / "in").mkdir(exist_ok=True)
    (folder / "p.yaml").write_text(
        f"name: p\nlake: ./lake\nallowed_rejects: 1\nsource: {{lake.Files: {{paths: in}}}}\nsteps: {steps}\n"
    )
    return Pipeline.load(folder / "p.yaml", overrides)


def line(text: str, **more: object) -> str:
    return json.dumps({"text": text, **more}) + "\n"


def texts(folder: Path, table: str = "raw") -> list[str]:
    return sorted(Lake(str(folder / "lake")).table(table).to_table(["text"]).column("text").to_pylist())


def test_a_file_that_becomes_what_it_was_overwrites_nothing(tmp_path):
    pipeline = small(tmp_path)
    file, old = tmp_path / "in" / "a.jsonl", tmp_path / "old.jsonl"
    file.write_text(line("one") + "bad\n")
    shutil.copy2(file, old)
    pipeline.run()
    file.write_text(line("two") + "bad\n")
    pipeline.run()
    shutil.copy2(old, file)  # the same size and time as at first
    pipeline.run()
    assert texts(tmp_path) == texts(tmp_path, "train") == ["one", "two"]
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_a_file_that_is_away_for_a_moment_is_read_when_it_is_back(tmp_path):
    pipeline = small(tmp_path)
    file, away = tmp_path / "in" / "a.jsonl", tmp_path / "away.jsonl"
    file.write_text(line("one"))
    plan = pipeline.plan()
    pipeline.lake.ensure()
    file.rename(away)
    runner = engine.local(1)
    Run(pipeline.config, Context(pipeline.lake, runner, Silent()), "0").ingest(plan.jobs)
    away.rename(file)
    pipeline.run()
    assert texts(tmp_path) == ["one"]


def test_steps_and_sinks_may_go_and_come_back(tmp_path):
    filters = "{pipeline.filters.Length: {min: 4}}"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(line("one") + line("three") + line("seven"))
    both = f"[{filters}, {{augment.Apply: {{}}}}]"
    small(tmp_path, steps=both).run()
    small(tmp_path, steps=f"[{filters}]").run()
    small(tmp_path, steps=both).run()
    lake = Lake(str(tmp_path / "lake"))
    assert lake.table("_drops").to_table(["stage", "rule"]).to_pylist() == [
        {"stage": "clean", "rule": "too-short"}
    ]
    for sink in ("train2", "train"):
        small(tmp_path, f"sink={{lake.Table: {{name: {sink}}}}}", steps=both).run()
        assert texts(tmp_path, sink) == ["seven", "three"]
    shutil.rmtree(tmp_path / "lake" / "train")
    small(tmp_path, steps=both).run()
    assert texts(tmp_path, "train") == ["seven", "three"]


def test_another_raw_table_reads_the_files_again(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(line("one"))
    small(tmp_path).run()
    moved = small(tmp_path, "raw=raw2")
    assert moved.plan().changes
    moved.run()
    assert texts(tmp_path, "raw2") == texts(tmp_path, "train") == ["one"]


def test_a_marker_without_its_part_is_not_believed(tmp_path):
    pipeline = small(tmp_path)
    (tmp_path / "in" / "a.jsonl").write_text(line("one"))
    pipeline.lake.ensure()
    runner = engine.local(1)
    run_ = Run(pipeline.config, Context(pipeline.lake, runner, Silent()), "0")
    ingest(run_.context, "p", "raw", pipeline.plan().jobs, "p-ingest-1")  # staged, not committed
    for part in (tmp_path / "lake" / "raw").glob("*.parquet"):
        part.unlink()
    pipeline.run()
    assert texts(tmp_path) == ["one"]


def test_why_a_place_is_answered_for_its_content(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(line("one") + line("one"))
    small(tmp_path).run()
    (fate,) = why(Lake(str(tmp_path / "lake")), "in/a.jsonl:2")
    assert fate.tables == {"raw": 1, "train": 1}
    assert fate.sources == ["in/a.jsonl:1", "in/a.jsonl:2"]


def test_other_columns_of_the_same_files_need_another_table(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(line("one", stars="5"))
    small(tmp_path).run()
    other = small(tmp_path, "source.label=stars")
    with pytest.raises(ConfigError, match=r"label label . stars"):
        other.run()
    small(tmp_path, "source.label=stars", "raw=raw2").run()
    assert Lake(str(tmp_path / "lake")).table("train").to_table(["label"]).column("label").to_pylist() == ["5"]
    small(tmp_path, "source.max_row_bytes=1000", "raw=raw").run()  # the same columns: read again, nothing new
    assert texts(tmp_path) == ["one"]
