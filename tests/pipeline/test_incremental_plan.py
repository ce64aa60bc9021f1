"""The plan says exactly why a stage runs, and nothing else is written; columns that come, go and clash."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import contents, write_texts

from lake.errors import ConfigError, SchemaError
from lake.files import Files
from lake.lake import Change, Lake
from pipeline import Pipeline

CONFIG = """\
name: why
lake: ./lake
allowed_rejects: 0.5
plugins: [house_rules]
source: {lake.Files: {paths: texts/*.jsonl}}
steps:
  - house_rules.Short: {most: 88}
  - dedup.MinHash: {threshold: 0.8}
  - augment.ApplyText:
      copies: 1
      policy: {name: swap, subpolicies: [{choices: [{op: RandomSwap, probability: 1.0, magnitude: 0.2}]}]}
"""
PLUGIN = '''
from pydantic import Field
import pyarrow as pa
import pyarrow.compute as pc
from lake.op import Op, Outcome
from lake.schema import drops

__all__ = ["Short"]


class Short(Op):
    """Keeps short texts."""

    most: int = Field(10, description="Words.")

    def apply(self, table: pa.Table) -> Outcome:
        """Split."""
        words = pc.list_value_length(pc.utf8_split_whitespace(table["text"]))
        long = pc.greater(words, self.most)
        return Outcome(table.filter(pc.invert(long)), drops(table.filter(long), "too-long"))
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_texts(tmp_path / "texts", files=3, rows=12)
    (tmp_path / "house_rules.py").write_text(PLUGIN)
    (tmp_path / "why.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "house_rules", raising=False)
    yield tmp_path
    sys.modules.pop("house_rules", None)


def plan(folder: Path, *overrides: str) -> dict[str, str]:
    """Why each stage has work; stages without are left out."""
    todos = Pipeline.load(folder / "why.yaml", overrides).plan().todos
    return {todo.stage: todo.why for todo in todos if todo.work}


def run(folder: Path, *overrides: str) -> tuple[set[str], dict[str, int]]:
    """Run; gives the tables that were written, and of the rows' tables how many new files."""
    lake = Lake(str(folder / "lake"))
    before = {name: lake.table(name).version for name in lake.tables()}
    parts = {name: {part.path for part in lake.table(name).parts()} for name in before}
    Pipeline.load(folder / "why.yaml", overrides).run()
    after = {name: lake.table(name).version for name in lake.tables()}
    return (
        {name for name, version in after.items() if before.get(name) != version},
        {
            name: len({part.path for part in lake.table(name).parts()} - parts.get(name, set()))
            for name in after
            if not name.startswith("_")
        },
    )


def test_a_plan_says_why_and_only_what_depends_on_it_is_written(folder: Path) -> None:
    assert set(plan(folder)) == {"ingest", "clean", "train"}
    run(folder)
    assert plan(folder) == {}
    assert run(folder) == (set(), {"raw": 0, "clean": 0, "train": 0})

    # Settings that no row depends on.
    for setting in ("allowed_rejects=0.4", "allowed_leaving=0.4", "source.split_bytes=1000000"):
        assert plan(folder, setting) == {}

    # The last stage alone.
    more = "steps.3.seed=7"
    assert plan(folder, more) == {"train": "step 3 augment.ApplyText: seed 0 → 7"}
    written, parts = run(folder, more)
    assert written == {"train", "_emitted", "_runs"}
    assert parts == {"raw": 0, "clean": 0, "train": 1}
    assert plan(folder, more) == {}

    # A step in the middle: all of its fields that changed, and what follows.
    both = (more, "steps.2.threshold=0.7", "steps.2.ngram=4")
    why = plan(folder, *both)
    assert why["clean"] == "step 2 dedup.MinHash: ngram 5 → 4; step 2 dedup.MinHash: threshold 0.8 → 0.7"
    assert why["train"] == "clean changes"
    assert "ingest" not in why
    written, parts = run(folder, *both)
    assert "raw" not in written
    assert "_files" not in written

    # A new file: its parts, and those of rows that it displaces.
    (folder / "texts" / "part-7.jsonl").write_text(
        json.dumps({"text": " ".join(["unheard", "of", "so", "far"] * 9)}) + "\n"
    )
    why = plan(folder, *both)
    assert why["ingest"].startswith("1 file (1 new), ")
    assert why["clean"] == "raw changes: 1 new files"
    written, parts = run(folder, *both)
    assert parts == {"raw": 1, "clean": 1, "train": 1}
    assert plan(folder, *both) == {}

    # A user's own code.
    code = folder / "house_rules.py"
    code.write_text(PLUGIN.replace("Keeps short texts", "Keeps texts that are short"))
    assert plan(folder, *both) == {"clean": "the code of house_rules has changed", "train": "clean changes"}
    written, _ = run(folder, *both)
    assert "raw" not in written
    assert plan(folder, *both) == {}

    # Forgotten rows.
    ids = Lake(str(folder / "lake")).table("clean").to_table(columns=["_id"]).column("_id").to_pylist()
    Pipeline.load(folder / "why.yaml").forget(ids[:2])
    why = plan(folder, *both)
    assert why == {"clean": "raw has changed: 2 rows forgotten", "train": "clean changes"}
    run(folder, *both)
    assert plan(folder, *both) == {}

    # Steps that come and go: the rows go straight to the sink.
    (folder / "why.yaml").write_text(CONFIG.partition("  - augment")[0])
    why = plan(folder, "steps.2.threshold=0.7", "steps.2.ngram=4")
    assert "step 3 augment.ApplyText became step 1 house_rules.Short" not in why
    assert "step 3 augment.ApplyText became 1 house_rules.Short" in why["train"]
    assert "step 2 dedup.MinHash is new" in why["train"]


@pytest.fixture
def typed(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text(
        '{"text": "the first text", "stars": 5}\n{"text": "the second"}\n'
    )
    return tmp_path


def pipeline(
    folder: Path, columns: dict[str, str], *, on_change: str = "follow", lake: str = "lake"
) -> Pipeline:

    source = Files(paths=str(folder / "data"), columns=columns, on_change=on_change)
    return Pipeline(name="typed", lake=str(folder / lake), source=source, steps=[], allowed_rejects=1.0)


def rows(folder: Path, table: str = "train", lake: str = "lake") -> list[dict]:
    found = Lake(str(folder / lake)).table(table).to_table().to_pylist()
    return sorted(
        ({k: v for k, v in row.items() if v is not None} for row in found), key=lambda row: row["_id"]
    )


def test_a_new_column_is_read_into_all_rows_where_they_follow_their_files(typed: Path) -> None:
    pipeline(typed, {}).run()
    assert [json.loads(row["meta"]) for row in rows(typed) if "meta" in row] == [{"stars": 5}]
    new = pipeline(typed, {"stars": "int64"})
    assert "1 reread" in new.plan().render()
    new.run()
    assert [row["stars"] for row in rows(typed) if "stars" in row] == [5]
    pipeline(typed, {"stars": "int64"}, lake="once").run()
    assert rows(typed) == rows(typed, lake="once")
    assert not new.plan().changes
    # And a column that is taken no more: null in all rows, its values among the rest.
    pipeline(typed, {}).run()
    pipeline(typed, {}, lake="never").run()
    assert rows(typed) == rows(typed, lake="never")
    assert "stars" in Lake(str(typed / "lake")).table("raw").schema().names


def test_a_new_column_is_refused_where_rows_would_stay_without(typed: Path) -> None:
    pipeline(typed, {}, on_change="keep").run()
    with pytest.raises(ConfigError, match="other settings") as caught:
        pipeline(typed, {"stars": "int64"}, on_change="keep").plan()
    assert "on_change: follow" in str(caught.value)
    assert "a.jsonl" in str(caught.value)


@pytest.mark.parametrize("wider", ["float64", "string"])
@pytest.mark.parametrize("on_change", ["keep", "follow"])
def test_a_column_of_another_type_is_refused_before_anything_is_read(
    typed: Path, wider: str, on_change: str
) -> None:
    pipeline(typed, {"stars": "int64"}, on_change=on_change).run()
    with pytest.raises(ConfigError, match="stars") as caught:
        pipeline(typed, {"stars": wider}, on_change=on_change).plan()
    assert "int64" in str(caught.value)
    assert "raw2" in str(caught.value)


def test_a_derived_column_of_another_type_is_refused_before_the_work(typed: Path) -> None:
    made = pipeline(typed, {})
    lake = made.lake
    schema = pa.schema([pa.field("_id", pa.string(), nullable=False), pa.field("label", pa.int64())])
    lake.commit([Change("train", schema, ())], app="foreign", version=1)
    with pytest.raises(SchemaError, match="label"):
        made.run()
    assert not [entry for entry in lake.storage.entries("train") if entry.path.endswith(".parquet")]


def test_columns_of_files_that_come_go_and_clash(typed: Path) -> None:
    columns = {"stars": "int64"}
    pipeline(typed, columns).run()
    (typed / "data" / "b.jsonl").write_text(
        '{"text": "with more", "stars": 3, "new": [1]}\n'  # a new one: into meta
        '{"text": "with less"}\n'  # null
        '{"text": "a clash", "stars": "three"}\n'  # a row of drops that names the column
    )
    pq.write_table(pa.table({"text": ["wider"], "stars": pa.array([2.5])}), typed / "data" / "c.parquet")
    pq.write_table(
        pa.table({"text": ["narrower"], "stars": pa.array([2], pa.int8())}), typed / "data" / "d.parquet"
    )
    pq.write_table(pa.table({"text": ["none"]}), typed / "data" / "e.parquet")
    pipeline(typed, columns).run()
    drops = Lake(str(typed / "lake")).table("_drops").to_table().to_pylist()
    clash = {Path(row["_source"]["uri"]).name: (row["rule"], row["detail"]) for row in drops}
    assert set(clash) == {"b.jsonl", "c.parquet"}
    assert all(rule == "wrong-type" for rule, _ in clash.values())
    assert all("stars" in detail for _, detail in clash.values())
    assert not any("three" in detail for _, detail in clash.values())
    stars = {row["text"]: row.get("stars") for row in rows(typed)}
    assert stars["narrower"] == 2
    assert stars["none"] is stars["with less"] is None
    assert [row["meta"] for row in rows(typed) if row["text"] == "with more"] == ['{"new":[1]}']


def test_a_lake_has_what_the_manifest_says_after_settings_changed_and_files_went(typed: Path) -> None:
    (typed / "data" / "b.jsonl").write_text('{"text": "another"}\n')
    pipeline(typed, {}).run()
    (typed / "data" / "b.jsonl").unlink()
    pipeline(typed, {"stars": "int64"}).run()
    assert len(rows(typed, "raw")) == 2
    assert len(contents(str(typed / "lake"))["raw"]) == 2
    assert not pipeline(typed, {"stars": "int64"}).plan().changes


def test_a_step_that_lacks_its_lexicon_says_so_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("augment.text.lexicon._search", lambda name: None)
    eda = "steps.3={augment.ApplyText: {policy: eda}}"
    pipeline = Pipeline.load(folder / "why.yaml", [eda])
    for begin in (pipeline.plan, pipeline.run):
        with pytest.raises(
            ConfigError, match=r"step 3 augment\.ApplyText: the lexicon 'wordnet' is not"
        ) as caught:
            begin()
        assert "apt-get install wordnet-base" in (caught.value.hint or "")
    assert not pipeline.lake.table("raw").exists
    Pipeline.load(folder / "why.yaml").plan()  # its policy takes no synonyms
