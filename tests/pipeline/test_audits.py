"""Audits are kept in the lake, and the reports of runs show them: with their numbers, version and date."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from dedup import MinHash
from dedup.audit import audit
from lake import Lake
from lake.errors import StorageError
from pipeline import Pipeline
from pipeline.cli import cli
from pipeline.report import audits as kept
from pipeline.report.audits import TABLE, last
from pipeline.report.html import SECTION

STEP = "1 dedup.MinHash"


def lines(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    words = [f"w{k}" for k in range(3000)]
    texts: list[list[str]] = []
    while len(texts) < count:
        text = list(draw.choice(texts)) if texts and draw.random() < 0.4 else draw.choices(words, k=50)
        text[draw.randrange(50)] = draw.choice(words)
        texts.append(text)
    return [" ".join(text) for text in texts]


def put(name: str, texts: list[str]) -> None:
    Path("data").mkdir(exist_ok=True)
    Path(f"data/{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def gristmill(*arguments: str) -> Result:
    done = CliRunner().invoke(cli, list(arguments))
    assert done.exit_code == 0, done.output
    return done


def page() -> str:
    newest = max(Path("lake/_reports").iterdir(), key=lambda run: (run / "run.json").stat().st_mtime_ns)
    return (newest / "report.html").read_text()


@pytest.fixture(autouse=True)
def _ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("a", lines(1, 120))
    Path("gristmill.yaml").write_text(
        "name: docs\nlake: ./lake\nsource: {lake.Files: {paths: data/*.jsonl}}\n"
        "steps:\n  - dedup.MinHash: {threshold: 0.7}\n"
    )
    gristmill("run")


def settings() -> dict[str, object]:
    return {STEP: Pipeline.load("gristmill.yaml").config.steps[0].model_dump(mode="json")}


def test_the_last_report_shows_an_audit_once_it_is_made() -> None:
    before = page()
    assert SECTION not in before
    done = gristmill("dedup", "audit", "--json")
    [told] = json.loads(done.stdout)["audits"]
    [made] = last(Lake("lake"), "docs", settings())
    assert json.loads(json.dumps({"label": STEP, **made.audit.to_dict()})) == told
    shown = page()
    assert SECTION in shown
    assert "the report shows it" in done.stderr
    section = shown.split(SECTION)[1].split("</section>")[0]
    raw = Lake("lake").table("raw")
    assert f"at version {raw.data_version}" in section
    assert f"{made.made:%Y-%m-%d %H:%M} UTC" in section
    assert f"{told['recall']['hits']:,} of {told['recall']['of']:,}" in section
    assert '<polyline class="theory"' in section
    assert section.count('<circle class="point"') == sum(
        1 for each in told["curve"] if each["mean"] is not None
    )
    assert "changed since" not in section
    # All else of the page is what it was, the hash of its styles too.
    assert shown.replace(shown[shown.index("<!-- audits -->") : shown.index("<!-- /audits -->")], "") == (
        before.replace("<!-- audits -->", "")
    )


def test_reports_of_later_runs_show_it_and_say_that_the_table_has_changed() -> None:
    gristmill("dedup", "audit")
    put("b", lines(2, 30))
    gristmill("run")
    section = page().split(SECTION)[1]
    assert "The table has changed since." in section
    gristmill("dedup", "audit")
    section = page().split(SECTION)[1]
    assert "changed since" not in section
    assert Lake("lake").table(TABLE).count() == 2  # both are kept, the last one is shown


def test_an_audit_of_other_settings_is_kept_and_not_shown() -> None:
    done = gristmill("dedup", "audit", "--set", "steps.1.threshold=0.8")
    assert SECTION not in page()
    assert "the report shows it" not in done.stderr
    lake = Lake("lake")
    assert lake.table(TABLE).count() == 1
    assert last(lake, "docs", settings()) == []
    gristmill("run", "--set", "steps.1.threshold=0.8")
    assert SECTION in page()


def test_a_lake_that_cannot_be_written_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space is left")

    monkeypatch.setattr(kept, "keep", full)
    done = gristmill("dedup", "audit")
    assert "not kept in the lake: no space is left" in done.stderr
    assert "duplicates dropped" in done.stdout


def test_what_is_stored_of_an_audit_gives_it_back() -> None:
    found = audit(pa.table({"text": lines(3, 80)}), MinHash(threshold=0.7))
    told = json.loads(json.dumps(found.to_dict()))
    again = kept._audit(told)
    assert json.loads(json.dumps(again.to_dict())) == told
    assert again.render() == found.render()


def test_the_table_holds_no_records() -> None:
    gristmill("dedup", "audit")
    [row] = Lake("lake").table(TABLE).to_table().to_pylist()
    assert not any(word in json.dumps(row, default=str) for word in lines(1, 1)[0].split())
