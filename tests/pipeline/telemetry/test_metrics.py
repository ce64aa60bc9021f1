from __future__ import annotations

import json
import logging
import os
import socket
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import Watched, parsed, value

from lake import ledger, maintenance
from lake.errors import ConfigError
from lake.lake import Lake
from pipeline.telemetry.catalogue import METRICS
from pipeline.telemetry.live import Live
from pipeline.telemetry.metrics import Address, Gateway, TextFile, exporter, target, write_textfile
from pipeline.telemetry.samples import Sample, text
from pipeline.telemetry.standing import Standing, last_reports, newest_files, standing, waiting


def test_a_run_is_scraped_while_it_lives(watched: Watched) -> None:
    assert len(watched.recorder.scrapes) > 3
    found = [parsed(scrape) for scrape in watched.recorder.scrapes]
    assert all(value(each, "run_active") == 1 for each in found)
    assert all(value(each, "run_workers") == 2 for each in found)
    assert not any(name == "gristmill_run_success" for each in found for name, _ in each)
    read = [value(each, "pass_rows", **{"pass": "ingest: read"}) for each in found]
    assert read == sorted(read)
    assert read[-1] == 3 * 31
    queue = [value(each, "queue_parts") for each in found]
    assert max(queue) > 0
    assert queue[-1] == 0
    # The lake's own samples come with them, and follow the commits.
    assert not any(name == "gristmill_table_rows" for name, _ in found[0])
    assert value(found[-1], "table_rows", table="raw") == watched.pipeline.lake.table("raw").count()


def test_the_text_file_tells_what_the_report_tells(watched: Watched) -> None:
    found, run = watched.textfile, watched.report.run
    assert value(found, "run_success") == 1
    assert value(found, "run_active") == 0
    for step in run["steps"]:
        where = {"stage": step["stage"], "step": step["step"], "pipeline": "small"}
        for side in ("rows_in", "rows_kept", "rows_made"):
            assert value(found, f"step_{side}", **where) == step[side]
        assert value(found, "step_busy_seconds", **where) == pytest.approx(step["seconds"])
        for rule, rows in step["drops"].items():
            assert value(found, "step_rows_dropped", **where, rule=rule) == rows
    dropped = sum(number for (name, _), number in found.items() if name == "gristmill_step_rows_dropped")
    assert dropped == watched.report.figures.dropped > 0
    assert value(found, "labels_saved") == watched.report.figures.repeats > 0
    for name in ("raw", "train"):
        for key in ("rows", "bytes", "files", "version"):
            assert value(found, f"table_{key}", table=name) == run["tables"][name][key]


def test_the_text_file_is_readable_and_nothing_lies_beside_it(watched: Watched) -> None:
    assert stat.S_IMODE((watched.folder / "out.prom").stat().st_mode) == 0o644
    assert not list(watched.folder.glob(".out.prom-*"))


def test_only_what_the_catalogue_knows_is_exported(watched: Watched) -> None:
    known = {metric.full_name: {"lake", *metric.labels} for metric in METRICS.values()}
    for scrape in (*watched.recorder.scrapes, (watched.folder / "out.prom").read_bytes()):
        for name, labels in parsed(scrape):
            assert dict(labels).keys() == known[name]


def test_times_are_those_of_the_files_and_commits(watched: Watched) -> None:
    newest = max(path.stat().st_mtime for path in (watched.folder / "texts").iterdir())
    assert value(watched.textfile, "newest_file_time_seconds") == pytest.approx(newest, abs=1e-3)
    began = value(watched.textfile, "run_start_time_seconds")
    ended = value(watched.textfile, "run_end_time_seconds")
    ingest = value(watched.textfile, "stage_commit_time_seconds", stage="ingest")
    train = value(watched.textfile, "stage_commit_time_seconds", stage="train")
    assert began - 0.01 <= ingest <= train <= ended + 0.01


def test_the_lake_tells_the_same_without_a_run(watched: Watched) -> None:
    lone = parsed(text(standing(watched.pipeline.lake)))
    live = {key: number for key, number in watched.textfile.items() if not key[0].startswith("gristmill_run")}
    assert {key: live[key] for key in live if key in lone} == {key: lone[key] for key in lone if key in live}
    assert {name for name, _ in lone} <= {name for name, _ in watched.textfile}
    assert value(lone, "table_rows", table="_drops") > 0  # all tables, not the pipeline's alone


def test_another_batch_and_a_compaction(few, caplog) -> None:
    folder = Path(few.config.base)
    few.run()
    labels = {"pipeline": "small"}
    assert value(parsed(text(waiting(few.config))), "files_waiting", **labels) == 0
    new = folder / "texts" / "late.jsonl"
    new.write_text(json.dumps({"text": "one more text that nobody has seen", "label": "1"}) + "\n")
    os.utime(new, (time.time() + 100, time.time() + 100))
    found = parsed(text(waiting(few.config)))
    assert value(found, "files_waiting", **labels) == 1
    assert value(found, "oldest_waiting_file_time_seconds", **labels) == pytest.approx(new.stat().st_mtime)
    kept = Standing(few.lake, keep=3600)
    before = kept.samples()
    few.run()
    assert kept.samples() is before
    kept.forget()
    assert value(parsed(text(kept.samples())), "table_version", table="raw") == 2
    for name in ("_runs", "_files"):
        maintenance.compact(few.lake, name)
        assert len(few.lake.table(name).parts()) == 1
        reports = last_reports(few.lake)
        assert set(reports) == {("small", "ingest"), ("small", "train")}
        for (pipeline, stage), (row, _) in reports.items():
            last = ledger.last_run(few.lake, pipeline, stage)
            assert last is not None
            assert row["version"] == last["version"] == 2
        assert newest_files(few.lake)["small"] == pytest.approx(new.stat().st_mtime)
    assert last_reports(few.lake, "other") == {}


def test_only_the_newest_rows_of_runs_are_read(few, monkeypatch) -> None:
    from lake.table import Table

    few.run()
    runs = few.lake.table("_runs")
    asked: list[str] = []
    real = Table.read_part

    def counted(self, part, columns=None):
        asked.append(part.path)
        return real(self, part, columns)

    monkeypatch.setattr(Table, "read_part", counted)
    last_reports(few.lake)
    assert len(asked) == len(runs.parts()) == 2
    (Path(few.config.base) / "texts" / "more.jsonl").write_text('{"text": "more words than before"}\n')
    few.run()
    asked.clear()
    last_reports(few.lake)
    assert len(asked) == 2 < len(runs.parts())


def test_a_lake_that_is_none_is_down(tmp_path: Path, caplog) -> None:
    (tmp_path / "something").write_text("else")
    assert [(each.name, each.value) for each in Standing(Lake(tmp_path)).samples()] == [("lake_up", 0.0)]


def test_a_lake_that_is_not_there_yet_is_up_and_empty(tmp_path: Path) -> None:
    samples = Standing(Lake(tmp_path / "none")).samples()
    assert [(each.name, each.value) for each in samples] == [("lake_up", 0.0)]


def test_a_push_gateway_gets_one_group_a_pipeline(watched: Watched, service) -> None:
    pushed = exporter(Gateway(service.url.replace("http://", "http://me:secret%40pw@")), Live())
    for event in watched.recorder.events:
        pushed.on(event)
    pushed.close()
    method, path, headers, body = service.requests[-1]
    assert (method, path) == ("PUT", "/metrics/job/gristmill/pipeline/small")
    assert headers["Authorization"] == "Basic bWU6c2VjcmV0QHB3"
    assert value(parsed(body), "run_success") == 1
    assert len(service.requests) < 10  # not one an event


def test_a_taken_port_is_a_warning(few, caplog) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        served = exporter(Address("127.0.0.1", taken.getsockname()[1]), Live())
        assert few.run(observers=[served]).status == "ok"
        served.close()
    assert [record.levelno for record in caplog.records if "cannot be served" in record.message] == [
        logging.WARNING
    ]


def test_a_second_run_follows_the_first(watched: Watched, tmp_path: Path) -> None:
    live = Live()
    for event in (*watched.recorder.events, watched.recorder.events[0]):
        live.on(event)
    found = parsed(text(live.samples()))
    assert value(found, "run_active") == 1
    assert not any(name == "gristmill_run_end_time_seconds" for name, _ in found)


@pytest.mark.parametrize(
    ("given_text", "meant"),
    [
        ("/var/lib/x.prom", TextFile("/var/lib/x.prom")),
        (":9464", Address("127.0.0.1", 9464)),
        ("0.0.0.0:1", Address("0.0.0.0", 1)),
        ("[::1]:9464", Address("::1", 9464)),
        ("https://gate:9091/", Gateway("https://gate:9091")),
    ],
)
def test_where_metrics_go(given_text: str, meant: object) -> None:
    assert target(given_text) == meant


@pytest.mark.parametrize(
    "wrong", ["", "localhost", "out.txt", ":99999", "http://", "ftp://me:secret@host:9", "a b:1"]
)
def test_where_metrics_cannot_go(wrong: str) -> None:
    with pytest.raises(ConfigError) as error:
        target(wrong)
    assert "secret" not in str(error.value)


def test_a_text_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "out.prom"
    write_textfile(str(place), b"old")
    with pytest.raises(TypeError):
        write_textfile(str(place), "not bytes")  # type: ignore[arg-type]
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]
    with pytest.raises(OSError, match="No such file"):
        write_textfile(str(tmp_path / "none" / "out.prom"), b"new")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats(allow_nan=False))
def test_any_label_and_value_survive_the_text_format(label: str, number: float) -> None:
    found = parsed(text([Sample("table_rows", number, {"lake": "l", "table": label})]))
    assert found == {("gristmill_table_rows", (("lake", "l"), ("table", label))): number}
