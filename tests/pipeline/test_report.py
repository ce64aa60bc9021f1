from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lake.errors import ExitCode, InputError
from lake.lake import Lake
from pipeline import Pipeline, Report
from pipeline.report import Samples, build, collect, html
from pipeline.report.samples import Cluster, Shown, Twin

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """Checks that tags close in order; collects words, references and images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.references: list[str] = []
        self.images = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag != "script"
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} {name}"
            if name in {"src", "href", "xlink:href", "action"}:
                self.references.append(value or "")
        self.images += tag == "img"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.images += tag == "img"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "title"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def step(stage: str, name: str, rows_in: int, *, made: int = 0, **drops: int) -> dict:
    drops = {rule.replace("_", "-"): number for rule, number in drops.items()}
    kept = rows_in - sum(drops.values())
    return {
        "stage": stage,
        "step": name,
        "rows_in": rows_in,
        "rows_kept": kept,
        "rows_made": made,
        "drops": drops,
        "seconds": 0.5,
    }


RUN = {
    "run": "20260101T000000-abcdef",
    "pipeline": "made-up",
    "status": "ok",
    "runner": "local",
    "started": "2026-01-01T10:11:12+00:00",
    "seconds": 3.0,
    "version": "0.1.0",
    "config": {"name": "made-up", "steps": [{"dedup.MinHash": {"seed": 1}}]},
    "steps": [
        step("ingest", "0 lake.Files", 1200, exact_duplicate=150, unreadable_json=50),
        step("clean", "1 dedup.MinHash", 1000, near_duplicate=100),
        step("train", "2 augment.Apply", 900, made=1800),
    ],
    "tables": {"raw": {"version": 1, "rows": 1000, "bytes": 12345, "files": 2}},
    "learned": {},
}


def test_the_page_is_whole_and_fetches_nothing():
    page = Page(build(RUN))
    assert [each for each in page.references if not each.startswith(("#", "data:"))] == []
    for words in ("made-up", "1,200", "2,700", "exact-duplicate", "unreadable-json", "2026-01-01 10:11 UTC"):
        assert words in page.text


@pytest.fixture
def templates_kept(tmp_path, monkeypatch):
    """Compiled templates are kept in a folder of the test's own."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "kept"))
    html.environment.cache_clear()
    yield tmp_path / "kept"
    html.environment.cache_clear()


def test_compiled_templates_are_used_again_and_may_be_damaged(templates_kept):
    page = build(RUN)
    kept = {file: file.read_bytes() for file in templates_kept.rglob("*.cache")}
    assert kept
    for share in (1.0, 0.9, 0.1, 0.0):
        for file, content in kept.items():
            file.write_bytes(content[: int(share * len(content))])
        html.environment.cache_clear()
        assert build(RUN) == page
        assert {file: file.read_bytes() for file in kept} == kept


def test_compiled_templates_need_no_place(templates_kept):
    templates_kept.write_text("no folder")
    assert Page(build(RUN)).text


def test_a_run_loads_nothing_of_what_it_does_not_do(tmp_path):
    """Neither audits nor augmentation: that would be a quarter of a second of every small run."""
    (tmp_path / "a.jsonl").write_text('{"text": "to be or not to be that is the question"}\n' * 2)
    (tmp_path / "c.yaml").write_text(
        "name: few\nlake: lake\nsource: {lake.Files: {paths: a.jsonl}}\n"
        "steps: [dedup.MinHash: {threshold: 0.8}]\nsink: {lake.Table: {name: train}}\n"
    )
    code = (
        "import sys; from pipeline import Pipeline; assert Pipeline.load(sys.argv[1]).run().path;"
        "print(*(name for name in sys.modules if name.startswith(('dedup.audit', 'dedup.image', 'augment.'))))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "c.yaml")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_summary_adds_up():
    text = Report(RUN).summary()
    assert "1,200 rows read, 900 kept, 2,700 training rows, 25.0 % removed, 250 labels saved" in text
    assert "warning" not in text
    broken = {**RUN, "steps": [{**RUN["steps"][0], "rows_kept": 999}]}
    assert "warning: a step does not account for all its rows" in Report(broken).summary()


@pytest.mark.parametrize(
    "change",
    [
        {"steps": [], "tables": {}},
        {"status": "unchanged"},
        {"status": "rejects"},
        {"steps": [step("ingest", "0 lake.Files", 0)]},
        {"rows_before": 5000},
        {"config": {}, "learned": {}, "tables": {}},
    ],
    ids=["empty", "unchanged", "rejects", "no rows", "incremental", "bare"],
)
def test_every_kind_of_run_has_a_page_and_a_summary(change):
    run = {**RUN, **change}
    assert Page(build(run)).text
    assert Report(run).summary()
    assert Page(f"<div>{Report(run)._repr_html_()}</div>").text


def test_status_is_the_exit_code():
    assert Report(RUN).exit_code == ExitCode.OK
    assert Report({**RUN, "status": "unchanged"}).exit_code == ExitCode.OK
    assert Report({**RUN, "status": "rejects"}).exit_code == ExitCode.REJECTS


HOSTILE = [
    "<script>alert(1)</script> and \"quotes\" 'too' &amp; <b>",
    "right to left \u202e override \u2066 isolate",
    "nul \0 and bell \a and escape \x1b[31m",
    "word " * 200_000,
    "",
]


@pytest.mark.parametrize("text", HOSTILE, ids=["markup", "direction", "control", "a megabyte", "empty"])
def test_records_cannot_break_the_page(text):
    twin = Twin(
        Shown("b" * 32, f"<i>{text[:40]}</i>:1", text, text + " more"), "1 dedup.MinHash", "near-duplicate", 0.9
    )
    samples = Samples(clusters=(Cluster(Shown("a" * 32, "file:1", text, text), (twin,)),))
    html = build(RUN, samples)
    page = Page(html)
    assert len(html) < 400_000
    for character in "\0\a\x1b":
        assert character not in html
    if "\u202e" in text:  # stays what it is, but cannot reach beyond its own element
        assert f"<bdi>{text}</bdi>" in html
    if "script" in text:
        assert "<script>alert(1)</script>" in page.text


def test_nothing_is_shown_of_records_that_are_withheld(corpus):
    report = Pipeline.load(corpus / "small.yaml").run()
    lake = Lake(str(corpus / "lake"))
    open_ = Page(Report(report.to_dict(), collect(lake, report.to_dict())).to_html())
    assert open_.images > 0
    closed = Page(Report(report.to_dict(), Samples.withheld()).to_html())
    assert closed.images == 0
    text = lake.table("train").to_table(["text"]).column("text").drop_null()[0].as_py()
    assert " ".join(text.split()[:6]) not in closed.text


def test_what_is_shown_is_bounded_and_always_the_same(corpus):
    run = Pipeline.load(corpus / "small.yaml").run().to_dict()
    lake = Lake(str(corpus / "lake"))
    samples = collect(lake, run)
    assert samples == collect(lake, run)
    assert 0 < len(samples.clusters) <= 12
    assert 0 < len(samples.families) <= 6
    few = collect(lake, run, clusters=1, families=1, examples=1)
    assert (len(few.clusters), len(few.families)) == (1, 1)
    drops = {
        row["_id"]: row
        for row in lake.table("_drops").to_table().to_pylist()
        if row["rule"] == "near-duplicate"
    }
    for cluster in samples.clusters:
        for twin in cluster.twins:
            assert drops[twin.row.id]["twin"] == cluster.kept.id
            assert drops[twin.row.id]["exact"] == twin.exact


def test_write_and_load(tmp_path: Path):
    written = Report(RUN).write(tmp_path / "deep" / "er")
    assert Path(written.path).read_text().startswith("<!DOCTYPE html>")
    assert json.loads((tmp_path / "deep" / "er" / "run.json").read_text()) == RUN
    assert [file.name for file in sorted((tmp_path / "deep" / "er").iterdir())] == ["report.html", "run.json"]
    again = Report.load(tmp_path / "deep" / "er")
    assert again.to_dict() == RUN
    assert again.path == written.path


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b"\xff"])
def test_what_is_no_record_of_a_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError):
        Report.load(tmp_path)
