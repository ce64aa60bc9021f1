from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from lake.lake import Lake
from pipeline.cli import cli
from pipeline.schedule import book, control
from pipeline.schedule.book import Event, Standing
from pipeline.schedule.spec import Schedule
from pipeline.schedule.times import following

BERLIN = ZoneInfo("Europe/Berlin")  # three of its midnights have passed since, at any time of the day elsewhere
THEN = datetime.now(BERLIN).replace(hour=1, minute=0, second=0, microsecond=0) - timedelta(days=3)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A schedule with three days of history, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_LAKE", raising=False)
    Path("gristmill.yaml").write_text("name: some\nlake: ./lake\nsource: {lake.Files: {paths: '*.jsonl'}}\n")
    made = Lake(tmp_path / "lake")
    spec = Schedule(name="some", cron="0 0 * * *", timezone="Europe/Berlin", config="gristmill.yaml")
    assert book.put(made, Standing(spec, "active", THEN.astimezone(UTC), THEN.astimezone(UTC)))
    mine = following(spec, THEN, 3)
    record = book.Record(made, "some")
    record.add([Event(mine[0], "skipped", mine[0], detail="late")])
    record.add([Event(mine[1], "claimed", mine[1], attempt=1, text="name: some", config="abcdef012345")])
    record.add([Event(mine[1], "done", mine[1] + timedelta(seconds=90), attempt=1, exit_code=0, run="run-1")])
    record.add([Event(mine[2], "claimed", mine[2], attempt=1)])
    record.add([Event(mine[2], "failed", mine[2], attempt=1, exit_code=2)])
    yield made
    logging.getLogger("pipeline.schedule").setLevel(logging.NOTSET)


def gristmill(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["schedule", *arguments])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


def told(*arguments: str, code: int = 0):
    return json.loads(gristmill(*arguments, "--json", code=code).stdout)


def test_list_next_and_history():
    assert [line.split()[0] for line in gristmill("list").stdout.splitlines()] == ["schedule", "some"]
    (one,) = told("list")
    assert (one["state"], one["last"]["state"], one["queued"]) == ("active", "failed", 0)
    coming = told("next", "--count", "3")["fires"]
    assert [fire["local"][11:16] for fire in coming] == ["00:00"] * 3
    assert [fire["state"] for fire in told("history")] == ["failed", "done", "skipped"]
    lines = gristmill("history", "some", "--limit", "2").stdout.splitlines()
    assert ["done" in lines[2], "90 s" in lines[2], "run-1" in lines[2], len(lines)] == [True, True, True, 3]
    assert "name: some" not in json.dumps(told("history"))


def test_next_tries_an_expression_without_a_lake():
    out = gristmill("next", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--count", "2").stdout
    assert out.count("02:30") == 2
    error = told("next", "--cron", "0 0 31 2 *", code=2)["error"]
    assert (error["errors"][0]["column"], error["where"]) == (5, "--cron:1:5")


def test_pause_resume_stop(lake):
    for verb, state in [("pause", "paused"), ("pause", "paused"), ("resume", "active"), ("stop", "stopped")]:
        assert told(verb) == {"schedule": "some", "state": state}
        assert book.standing(lake, "some").state == state
    assert "none of these starts" in gristmill("next").stderr


def test_backfill(lake):
    done = told("backfill", f"{THEN - 2 * DAY:%Y-%m-%d}..{THEN + 9 * DAY:%Y-%m-%d}")
    assert len(done["left_out"]) == 1  # it has run
    assert len(done["queued"]) == 5  # three before it began, the skipped and the failed one
    (one,) = told("list")
    assert one["queued"] == 5
    assert "1 fires queued" in gristmill("backfill", f"{THEN + 2 * DAY:%Y-%m-%d}", "--again").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["histroy"], "Did you mean 'history'?"),
        (["pause", "sone"], "did you mean 'some'?"),
        (["backfill", "yesterday"], "is no time"),
        (["backfill", "2026-03-02..2026-03-01"], "ends before it begins"),
        (["gristmill.yaml", "--cron", "0 0 * * *", "--jitter", "1d"], "jitter"),
        (["gristmill.yaml", "--cron", "0 0 * * *", "--backoff", "soon"], "is no duration"),
        (["gristmill.yaml", "--cron", "0 0 * * *", "--timezone", "Berlin"], "no time zone"),
        (["gristmill.yaml", "--cron", "0 0 * * *", "--max-run-time", "0s"], "max_run_time"),
        (["gristmill.yaml", "--cron", "0 0 * * *", "--name", "No Name"], "name"),
        (["gristmill.yaml", "--retries", "5"], "--retries is part of a schedule"),
        (["gristmill.yaml", "--name", "other"], "give --cron"),
        (["missing.yaml", "--cron", "@daily"], "no such file"),
        (["gristmill.yaml", "--cron", "@daily", "--address", "http://head"], "the cluster does not see"),
    ],
)
def test_what_is_wrong_is_said_and_exits_with_2(arguments, says):
    assert says in gristmill(*arguments, code=2).output


def test_which_schedule(lake):
    control.register(lake, Schedule(name="b", cron="@daily"), THEN)
    assert "Which schedule: b, some" in gristmill("history", code=2).output
    assert told("history", "b") == []
    assert "There is no schedule yet" in gristmill("history", "--lake", "elsewhere", code=2).output


def test_once_does_what_is_due_and_tells_each_event(lake):
    Path("a.jsonl").write_text('{"text": "some words"}\n')
    control.backfill(lake, "some", THEN - 2 * DAY, THEN - DAY, datetime.now(UTC))
    Path("gristmill.yaml").write_text(Path("gristmill.yaml").read_text() + "seed: wrong\n")
    assert gristmill("--once", code=2).output  # a configuration that is wrong from the start
    Path("gristmill.yaml").write_text("name: some\nlake: ./lake\nsource: {lake.Files: {paths: '*.jsonl'}}\n")
    done = gristmill("start", "--once", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["state"] for event in events][-2:] == ["claimed", "done"]
    assert "text" not in events[0]
