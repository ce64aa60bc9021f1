from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from small import WORDS, write_texts
from watching import CONFIG, Watched, parsed, value

from lake.errors import EngineError
from pipeline.telemetry.logs import FIELDS, JsonFormatter, Place, Redactor, TextFormatter, logging_to


def test_every_line_is_json_and_says_where_it_was(watched: Watched) -> None:
    lines = watched.log
    assert [line["event"] for line in lines][:3] == ["run.started", "stage.started", "step.started"]
    assert lines[-1]["event"] == "run.finished"
    for line in lines:
        assert list(line)[: sum(key in line for key in FIELDS)] == [key for key in FIELDS if key in line]
        assert line["run"] == watched.report.run["run"]
        assert line["pipeline"] == "small"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
        assert ("stage" in line) == line["event"].startswith(("stage.", "step."))
        assert ("step" in line) == line["event"].startswith("step.")
    assert {line["stage"] for line in lines if "stage" in line} == {"ingest", "train"}


def test_the_counts_are_those_of_the_report(watched: Watched) -> None:
    steps = [step for line in watched.log if line["event"] == "stage.committed" for step in line["steps"]]
    assert steps == [
        {key: step[key] for key in ("step", "rows_in", "rows_kept", "drops")}
        for step in watched.report.run["steps"]
    ]


def test_no_record_is_in_any_line(watched: Watched) -> None:
    everything = "".join(path.read_text() for path in watched.folder.glob("*.jsonl"))
    everything += (watched.folder / "out.prom").read_text()
    texts = watched.pipeline.lake.table("raw").to_table(["text"])["text"].to_pylist()
    assert len(texts) > 20
    assert not any(text[:20] in everything for text in texts)
    assert sum(word in everything for word in WORDS) < len(WORDS) / 3  # "column" and the like are our words too


def formatted(
    formatter: logging.Formatter, message: str, *arguments: object, error: Exception | None = None
) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    return formatter.format(logging.LogRecord("lake.x", logging.INFO, "", 0, message, arguments, info))


SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=6).filter(
    lambda text: text not in json.dumps(FIELDS) + "1970-01-01T00:00:00.000+00:00" and text not in "[secret]"
)


@given(SECRETS, st.text())
def test_no_secret_of_the_environment_is_in_a_line(secret: str, around: str) -> None:
    redact = Redactor({"AWS_SECRET_ACCESS_KEY": secret, "HOME": "/root"})
    message = f"{around}{secret}|"
    line = json.loads(formatted(JsonFormatter(Place(), redact), "%s", message))
    assert not any(secret in each.replace("[secret]", "") for each in line.values())
    assert secret not in formatted(TextFormatter(redact), "%s", message).replace("[secret]", "")


@given(st.text())
def test_a_line_without_secrets_says_what_it_was_given(message: str) -> None:
    line = formatted(JsonFormatter(Place(), Redactor({})), "%s", message)
    assert "\n" not in line
    if "@" not in message:
        assert json.loads(line)["message"] == message


def test_of_a_foreign_error_only_the_class_is_told() -> None:
    try:
        raise ValueError("quotes a record")  # noqa: TRY301  (an error with frames is what the test is about)
    except ValueError as error:
        for formatter in (JsonFormatter(Place(), Redactor({})), TextFormatter(Redactor({}))):
            line = formatted(formatter, "it failed", error=error)
            assert "quotes a record" not in line
            assert "ValueError" in line
        ours = EngineError("a worker failed", why="quotes a record")
        told = json.loads(formatted(JsonFormatter(Place(), Redactor({})), "it failed", error=ours))
    assert told["what"] == "a worker failed"
    assert "quotes a record" not in json.dumps(told)


def test_libraries_are_heard_from_warning_on_and_the_loggers_come_back(monkeypatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    before = (list(logging.getLogger().handlers), logging.getLogger().level)
    with logging_to(Place(), "json"):
        logging.getLogger("somebody.else").info("chatter")
        logging.getLogger("somebody.else").warning("look out")
        logging.getLogger("lake.delta").info("ours")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["look out", "ours"]
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


def test_the_command_line_is_scraped_from_outside_and_keeps_its_secrets(tmp_path: Path) -> None:
    """A process of its own: scraped by another while it runs, with secrets in its environment and addresses."""
    write_texts(tmp_path / "texts", files=3)
    (tmp_path / "small.yaml").write_text(CONFIG)
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "planted-one",
        "OPENLINEAGE_API_KEY": "planted-two",
        "MY_TOKEN": "planted-three",
    }
    environment = {
        **os.environ,
        **secrets,
        "GRISTMILL_METRICS": "127.0.0.1:0",
        "GRISTMILL_LOG_FORMAT": "json",
        "OPENLINEAGE_URL": "http://user:planted-four@127.0.0.1:9",  # nobody is at the discard port
        "GRISTMILL_PRICES": "core_hour=0.04 label=0.1",
    }
    command = [str(Path(sys.executable).with_name("gristmill")), "run", "small.yaml", "--workers", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    first = json.loads(process.stderr.readline())
    port = int(re.search(r":(\d+)/metrics", first["message"]).group(1))  # type: ignore[union-attr]
    scrapes: list[bytes] = []

    def scrape() -> None:
        while process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    scrapes.append(answer.read())
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass  # it is over
            time.sleep(0.05)

    thread = threading.Thread(target=scrape)
    thread.start()
    out, err = process.communicate(timeout=120)
    thread.join()
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines[-1]["event"] in {"run.finished", "log"}
    found = [parsed(each) for each in scrapes if each]
    assert any(value(each, "run_active") == 1 for each in found)
    assert any(name == "gristmill_table_rows" for each in found for name, _ in each)
    assert "labels saved" in out
    left = "".join([out, err, *(each.decode() for each in scrapes)])
    left += "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert "planted" not in left
