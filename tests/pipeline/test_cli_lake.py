from __future__ import annotations

import json
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from lake.errors import ConcurrentRunError, ExitCode
from lake.lake import Change, Lake
from lake.schema import RECORD
from pipeline.cli import cli

CONFIG = "name: docs\nlake: ./lake\nsource: {lake.Files: {paths: data/*.jsonl}}\n"


def gristmill(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_LAKE", raising=False)
    Path("gristmill.yaml").write_text(CONFIG)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two commits of two rows each."""
    made = Lake(tmp_path / "lake")
    made.ensure()
    for number in range(2):
        rows = [
            {
                "_id": f"{2 * number + i:032x}",
                "_source": {"uri": "data/a.jsonl", "row": 2 * number + i + 1},
                "text": f"row {2 * number + i}\x1b[31m and\nmore " + "x" * 100,
                "image": b"\x89PNG" if i else None,
                "label": "ab"[i],
                "meta": "{}",
            }
            for i in range(2)
        ]
        table = pa.Table.from_pylist(rows, schema=RECORD)
        part = made.write_part("train", f"part-{number}", [table], RECORD)
        made.commit([Change("train", RECORD, add=(part,))], app="test", version=number + 1)
    return made


@pytest.mark.usefixtures("lake")
def test_show_prints_rows_for_people() -> None:
    done = gristmill("show", "train", "--limit", "3")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["_id", "_source", "text", "image", "label", "meta"]
    assert "data/a.jsonl:1" in lines[1]
    assert "<4 bytes>" in lines[2]
    assert "\x1b" not in done.stdout  # a record must not drive the terminal


@pytest.mark.usefixtures("lake")
def test_show_prints_rows_for_programs() -> None:
    done = gristmill("show", "train", "--json", "--where", "label=b", "--columns", "label,image,_source")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == [
        {"label": "b", "image": {"bytes": 4}, "_source": {"uri": "data/a.jsonl", "row": row}} for row in (2, 4)
    ]


def test_show_goes_back_in_time(lake: Lake) -> None:
    count = {version: len(gristmill("show", "train", "--json", "--version", str(version)).stdout.splitlines())
             for version in (lake.table("train").version - 1, lake.table("train").version)}  # fmt: skip
    assert list(count.values()) == [2, 4]
    done = gristmill("show", "train", "--version", "99")
    assert done.exit_code == 1
    assert "99" in done.stderr


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["trian"], 1, "did you mean 'train'?"),
        (["zzz"], 1, "tables: train"),
        (["../train"], 1, "train"),
        (["train", "--columns", "lable"], 2, "did you mean 'label'?"),
        (["train", "--where", "lable=a"], 2, "did you mean 'label'?"),
        (["train", "--where", "label"], 2, "is not a condition"),
        (["train", "--where", "image=a"], 0, "no rows"),
        (["train", "--where", "_source=a"], 2, "cannot be compared"),
        (["train", "--limit", "0"], 2, "--limit"),
        (["train", "--lake", "gristmill.yaml"], 1, "a file"),
        (["train", "--lake", "nowhere"], 1, "no table 'train'"),
        (["train", "--config", "absent.yaml"], 2, "there is no such file"),
    ],
)
def test_show_says_what_is_wrong(arguments: list[str], code: int, message: str) -> None:
    done = gristmill("show", *arguments)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert "internal error" not in done.output


@pytest.mark.usefixtures("lake")
def test_history_lists_tables_and_versions() -> None:
    (table,) = json.loads(gristmill("history", "--json").stdout)
    assert (table["table"], table["rows"], table["files"]) == ("train", 4, 2)
    assert gristmill("history").stdout.splitlines()[0].split() == ["table", "version", "rows", "files", "bytes"]
    commits = json.loads(gristmill("history", "train", "--json").stdout)
    assert [each["rows_added"] for each in commits if each["app"] == "test"] == [2, 2]
    assert "rows_added" in gristmill("history", "train").stdout
    assert gristmill("history", "--lake", "empty").exit_code == 0


@pytest.mark.usefixtures("lake")
def test_why_finds_a_row() -> None:
    told = json.loads(gristmill("why", f"{1:032x}", "--json").stdout)
    assert [(each["id"], each["tables"]) for each in told] == [(f"{1:032x}", {"train": 1})]
    assert "data/a.jsonl:2" in gristmill("why", f"{1:032x}").stdout
    assert gristmill("why", "f" * 32).exit_code == 1


@pytest.mark.usefixtures("lake")
def test_maintain() -> None:
    told = json.loads(gristmill("maintain", "compact", "--json").stdout)
    assert (told["train"]["parts_before"], told["train"]["parts_after"]) == (2, 1)
    assert "nothing to compact" in gristmill("maintain", "compact", "train").stderr
    assert json.loads(gristmill("maintain", "vacuum", "--json").stdout) == {"train": []}
    assert "0 files deleted" in gristmill("maintain", "vacuum").stderr
    assert gristmill("maintain", "compact", "zzz").exit_code == 1
    assert "there is no table" in gristmill("maintain", "vacuum", "../x").stderr
    assert json.loads(gristmill("maintain", "verify", "--json").stdout) == {"ok": True, "findings": []}
    for part in Path("lake/train").rglob("*.parquet"):
        part.unlink()
    done = gristmill("maintain", "verify")
    assert done.exit_code == 1
    assert "missing-part" in done.stdout


class FakePipeline:
    """Stands for pipeline.Pipeline: remembers how it was called."""

    calls: list[dict[str, Any]]
    runs = 0
    status = ExitCode.OK
    error: BaseException | None = None

    @classmethod
    def load(cls, path: str, overrides: tuple[str, ...] = ()) -> FakePipeline:
        cls.calls = [{"path": path, "overrides": overrides}]
        return cls()

    def plan(self) -> SimpleNamespace:
        return SimpleNamespace(changes=True, to_dict=lambda: {"changes": True}, render=lambda: "the plan")

    def run(self, limit: int | None, runner: Any, progress: Any, **more: Any) -> SimpleNamespace:
        FakePipeline.runs += 1
        self.calls.append({"limit": limit, "runner": runner, "progress": type(progress).__name__} | more)
        progress.start_step("clean", 1)
        progress.advance("clean", 1, 5)
        progress.finish()
        if self.error is not None:
            raise self.error
        return SimpleNamespace(
            to_dict=lambda: {"run": "r"}, summary=lambda: "the summary", exit_code=self.status
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakePipeline]]:
    closed: list[str] = []

    def runner(*arguments: object, **options: object) -> SimpleNamespace:
        return SimpleNamespace(arguments=arguments, options=options, close=lambda: closed.append("closed"))

    monkeypatch.setattr("pipeline.Pipeline", FakePipeline, raising=False)
    monkeypatch.setattr("pipeline.engine.local", runner)
    monkeypatch.setattr("pipeline.engine.ray", runner)
    monkeypatch.setattr(FakePipeline, "status", ExitCode.OK)
    monkeypatch.setattr(FakePipeline, "error", None)
    monkeypatch.setattr(FakePipeline, "runs", 0)
    yield FakePipeline
    assert len(closed) == FakePipeline.runs


def test_plan_tells_and_its_exit_code_too(fake: type[FakePipeline]) -> None:
    done = gristmill("plan", "--set", "seed=1", "--set", "seed=2")
    assert (done.exit_code, done.stdout) == (0, "the plan\n")
    assert fake.calls == [{"path": "gristmill.yaml", "overrides": ("seed=1", "seed=2")}]
    assert gristmill("plan", "--detailed-exitcode").exit_code == 4
    assert json.loads(gristmill("plan", "--json").stdout) == {"changes": True}


def test_run_passes_on_what_it_was_told(fake: type[FakePipeline]) -> None:
    done = gristmill("run", "--limit", "7", "--workers", "2", "--wait", "9")
    assert (done.exit_code, done.stdout) == (0, "the summary\n")
    assert "clean: 1/1 parts, 5 rows" in done.stderr
    assert (fake.calls[1]["limit"], fake.calls[1]["runner"].arguments) == (7, (2,))
    assert fake.calls[1]["wait"] == 9


@pytest.mark.parametrize(
    ("arguments", "runner", "grows"),
    [
        (["--address", "auto"], ("auto", None), None),
        (["--address", "local"], (None, None), None),
        (["--address", "auto", "--autoscaling"], ("auto", None), True),
    ],
)
def test_run_on_ray(
    arguments: list[str], runner: tuple[object, ...], grows: bool | None, fake: type[FakePipeline]
) -> None:
    assert gristmill("run", *arguments).exit_code == 0
    assert fake.calls[1]["runner"].arguments == runner
    assert fake.calls[1]["runner"].options == {"autoscaling": grows}


@pytest.mark.usefixtures("fake")
def test_run_for_programs_and_in_silence() -> None:
    done = gristmill("run", "--json")
    assert json.loads(done.stdout) == {"run": "r"}
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["start", "advance", "finish"]
    assert gristmill("run", "--quiet").stderr == ""


def test_run_answers_with_the_status_of_the_run(
    fake: type[FakePipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "status", ExitCode.REJECTS)
    assert gristmill("run").exit_code == 3


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "goes on where it stopped"),
        (ConcurrentRunError("another run holds the lock"), 1, "error: another run holds the lock"),
        (RuntimeError("text of a record"), 1, "internal error: RuntimeError"),
    ],
)
def test_run_that_fails_gives_its_runner_back(
    error: BaseException, code: int, message: str, fake: type[FakePipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "error", error)
    done = gristmill("run")
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert "text of a record" not in done.output


def test_run_has_one_place(fake: type[FakePipeline]) -> None:
    assert gristmill("run", "--local", "--address", "auto").exit_code == 2
    assert gristmill("run", "--workers", "0").exit_code == 2
    assert fake.runs == 0


STEP = {"stage": "ingest", "step": "0 lake.Files", "rows_in": 5, "rows_kept": 3, "rows_made": 0}
RUN = {"pipeline": "docs", "status": "ok", "steps": [STEP | {"drops": {"exact-duplicate": 2}, "seconds": 0.1}]}


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Two runs' reports."""
    for name in ("20260101T000000-aaaaaa", "20260102T000000-bbbbbb"):
        folder = tmp_path / "lake" / "_reports" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"run": name, **RUN}))
        (folder / "report.html").write_text(f"<p>{name}</p>")
    Lake(tmp_path / "lake").storage.write("gristmill.json", b'{"format": 1}')
    return tmp_path / "lake" / "_reports"


@pytest.mark.usefixtures("reports")
def test_report_shows_the_last_run_or_the_named_one() -> None:
    assert json.loads(gristmill("report", "--json").stdout)["run"] == "20260102T000000-bbbbbb"
    assert "exact-duplicate" in gristmill("report").stdout
    told = json.loads(gristmill("report", "20260101T000000-aaaaaa", "--json").stdout)
    assert told["run"] == "20260101T000000-aaaaaa"
    done = gristmill("report", "20260101T000000-aaaaab")
    assert done.exit_code == 1
    assert "did you mean '20260101T000000-aaaaaa'?" in done.stderr


def test_report_goes_to_a_file_or_the_browser(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)) or True)
    assert gristmill("report", "--output", "page.html").exit_code == 0
    assert Path("page.html").read_text() == "<p>20260102T000000-bbbbbb</p>"
    assert gristmill("report", "--open").exit_code == 0
    assert opened == [(reports / "20260102T000000-bbbbbb" / "report.html").as_uri()]
    assert gristmill("report", "--output", "no/such/page.html").exit_code == 1


def test_report_where_there_is_none(reports: Path) -> None:
    (reports / "20260102T000000-bbbbbb" / "run.json").unlink()
    assert "not whole" in gristmill("report").stderr
    done = gristmill("report", "--lake", "elsewhere")
    assert done.exit_code == 1
    assert "gristmill run" in done.stderr


def test_a_whole_way_from_files_to_a_report() -> None:
    Path("data").mkdir()
    rows = [{"text": f"text number {i} of a small corpus", "label": "ab"[i % 2]} for i in range(20)]
    Path("data/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    assert gristmill("plan", "--detailed-exitcode").exit_code == 4
    done = gristmill("run", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["status"] == "ok"
    assert gristmill("plan", "--detailed-exitcode").exit_code == 0
    shown = [
        json.loads(line) for line in gristmill("show", "train", "--json", "--limit", "99").stdout.splitlines()
    ]
    assert sorted(row["text"] for row in shown) == sorted(row["text"] for row in rows)
    assert json.loads(gristmill("report", "--json").stdout)["run"] == json.loads(done.stdout)["run"]
    (fate,) = json.loads(gristmill("why", "data/a.jsonl:21", "--json").stdout)
    assert fate["drops"][0]["rule"] == "exact-duplicate"
    Path("data/b.jsonl").write_text("not JSON\n" * 3)
    done = gristmill("run", "--quiet")
    assert done.exit_code == 3, done.output
