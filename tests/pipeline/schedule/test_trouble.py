"""A lake that is away, a race at the record, runs that print: what a scheduler must bear."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small import write_texts

from lake.errors import GristmillError, StorageError
from lake.lake import Lake
from pipeline.schedule import book, control
from pipeline.schedule.book import Event, Record
from pipeline.schedule.daemon import Daemon
from pipeline.schedule.spec import Schedule
from pipeline.schedule.work import Job, Outcome, Process

NOW = datetime(2026, 3, 1, 0, 1, 30, tzinfo=UTC)
CONFIG = """\
name: small
lake: ./lake
allowed_rejects: 0.2
source: {lake.Files: {paths: texts/*.jsonl}}
"""


class Clock:
    """A wall clock that stands still; ``at_sleep`` is called instead of waiting, with how often that was."""

    def __init__(self, at_sleep: Callable[[int], object] = lambda _: None) -> None:
        self.seconds = 0.0
        self.slept = 0
        self.at_sleep = at_sleep

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.slept += 1
        self.at_sleep(self.slept)


class Ends:
    """Work that ends at once, as told."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> Ends:
        self.jobs.append(job)
        return self

    def wait(self, _seconds: float) -> Outcome:
        return self.outcomes.pop(0)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_texts(tmp_path / "texts", files=1, rows=6)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def serving(project: Path, **more: object) -> Daemon:
    """A scheduler that has a fire to run."""
    lake = Lake(project / "lake")
    control.register(lake, Schedule(name="small", cron="* * * * *", backoff=0), NOW - timedelta(minutes=1))
    return Daemon(lake, "small", project / "small.yaml", **{"clock": Clock(), "poll": 1.0, **more})


def states(served: Daemon) -> list[str]:
    return [event.state for event in book.events(served.lake, "small")]


def away(project: Path) -> None:
    """What stays of a network disk that is gone: an empty folder."""
    (project / "lake").rename(project / "elsewhere")
    (project / "lake").mkdir()


def refusing(project: Path) -> None:
    """A lake that can be read, and takes no new fires."""
    (project / "lake" / "_fires").write_text("in the way")


def back(project: Path) -> None:
    if (project / "elsewhere").exists():
        shutil.rmtree(project / "lake")
        (project / "elsewhere").rename(project / "lake")
    else:
        (project / "lake" / "_fires").unlink()


@pytest.mark.parametrize("trouble", [away, refusing])
def test_a_lake_that_is_away_for_a_while_is_waited_for(project, trouble):
    def at_sleep(count: int) -> None:
        if count == 3:
            back(project)
        served.stop.asked = count > 3 and states(served)[-1:] == ["done"]

    served = serving(project, work=Ends(Outcome(0)), clock=Clock(at_sleep))
    trouble(project)
    served.run()
    assert states(served) == ["claimed", "done"]


@pytest.mark.parametrize("trouble", [away, refusing])
def test_once_says_that_the_lake_is_away(project, trouble):
    served = serving(project, work=Ends())
    trouble(project)
    with pytest.raises((GristmillError, OSError)):
        served.run(once=True)


def test_how_a_run_ended_is_recorded_when_the_lake_is_back(project, monkeypatch):
    """Not forgotten, and the run not begun anew."""
    refused = []
    real = Record.add

    def add(self: Record, happened: list[Event]) -> bool:
        if happened[0].state == "failed" and len(refused) < 3:
            refused.append(happened)
            raise StorageError("the lake is away")
        return real(self, happened)

    def at_sleep(_count: int) -> None:
        served.stop.asked = states(served)[-1:] == ["failed"]

    work = Ends(Outcome(2, detail="the configuration is wrong"), Outcome(0))
    served = serving(project, work=work, clock=Clock(at_sleep))
    monkeypatch.setattr(Record, "add", add)
    served.run()
    assert len(refused) == 3
    assert states(served) == ["claimed", "failed"]
    assert len(work.jobs) == 1


def test_once_runs_what_is_due_though_somebody_else_writes_first(project, monkeypatch):
    """A backfill that is queued between the look and the claim."""
    earlier = NOW - timedelta(days=1)
    real = Record.add

    def add(self: Record, happened: list[Event]) -> bool:
        monkeypatch.setattr(Record, "add", real)
        assert control.backfill(self.lake, "small", earlier, earlier + timedelta(seconds=59), NOW).queued
        return real(self, happened)

    served = serving(project, work=Ends(Outcome(0), Outcome(0)))
    monkeypatch.setattr(Record, "add", add)
    served.run(once=True)
    assert states(served) == ["queued", "claimed", "done", "claimed", "done"]


def test_what_a_plugin_prints_does_not_hide_how_the_run_ended(project, monkeypatch):
    (project / "plugins").mkdir()
    (project / "plugins" / "talkative.py").write_text("print('here I am')\n__all__ = []\n")
    monkeypatch.setenv("PYTHONPATH", str(project / "plugins"))
    text = CONFIG + "plugins: [talkative]\n"  # which offers nothing: a mistake, and found after the printing
    job = Job("small", NOW.isoformat(), 1, str(project / "lake"), str(project / "small.yaml"), text)
    running = Process(job)
    while (outcome := running.wait(1.0)) is None:
        pass
    assert outcome.exit_code == 2
    assert "talkative" in (outcome.detail or "")
