"""Schedulers with real runs in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from killing import children
from small import write_texts

from lake.errors import StorageError
from lake.lake import Lake
from pipeline.schedule import book, child, control, daemon
from pipeline.schedule.book import Event, Standing
from pipeline.schedule.daemon import Daemon, Stop, ahead_of
from pipeline.schedule.spec import Schedule
from pipeline.schedule.work import Job, Outcome

CONFIG = """\
name: small
lake: ./lake
allowed_rejects: 0.2
source: {lake.Files: {paths: texts/*.jsonl}}
"""
NOW = datetime(2026, 3, 1, 0, 0, 30, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_texts(tmp_path / "texts", files=1, rows=6)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


class Still:
    """A clock whose wall time moves only when told; waiting takes no time."""

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(0.001)


class Scripted:
    """Work that ends as it is told, at once, or never (None)."""

    def __init__(self, *outcomes: Outcome | None) -> None:
        self.outcomes = list(outcomes)
        self.jobs: list[Job] = []
        self.told: list[str] = []

    def __call__(self, job: Job) -> Scripted:
        self.jobs.append(job)
        self.outcome = self.outcomes.pop(0)
        return self

    def wait(self, seconds: float) -> Outcome | None:
        if self.outcome is None and self.told:
            return Outcome(-15)
        time.sleep(0.001)
        return self.outcome

    def terminate(self) -> None:
        self.told.append("terminate")

    def kill(self) -> None:
        self.told.append("kill")


def make(project: Path, spec: dict[str, object] | None = None, **more: object) -> Daemon:
    lake = Lake(project / "lake")
    control.register(lake, Schedule(name="small", cron="* * * * *", **(spec or {})), NOW)
    return Daemon(lake, "small", project / "small.yaml", **{"clock": Still(NOW), "poll": 0.01, **more})


def states(served: Daemon) -> list[str]:
    return [event.state for event in book.events(served.lake, "small")]


def advance(served: Daemon, minutes: float = 1) -> None:
    served.clock.time += timedelta(minutes=minutes)


def test_a_run_in_its_own_process_and_its_row_in_the_history(project):
    served = make(project)
    advance(served)
    served.run(once=True)
    (fire,) = control.history(served.lake, "small")
    assert (fire.state, fire.exit_code, fire.attempt) == ("done", 0, 1)
    assert fire.run in served.lake.table("_runs").to_table()["run"].to_pylist()
    assert served.lake.table("train").count() > 0


def test_an_edit_while_a_run_goes_on_counts_from_the_next_fire(project):
    path = project / "small.yaml"

    class Editing(Scripted):
        def __call__(self, job: Job) -> Scripted:
            path.write_text(CONFIG + "seed: 7\n")
            return super().__call__(job)

    work = Editing(Outcome(1), Outcome(0), Outcome(0))
    served = make(project, {"backoff": 0}, work=work)
    advance(served)
    served.run(once=True)
    advance(served)
    served.run(once=True)
    assert ["seed" in job.text for job in work.jobs] == [False, False, True]  # the retry runs what was claimed
    after, before = control.history(served.lake, "small")
    assert before.config != after.config
    assert states(served) == ["claimed", "retry", "claimed", "done", "claimed", "done"]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        pytest.param(CONFIG.replace("Files", "Flies"), "InvalidConfigError", id="wrong"),
        pytest.param(None, "cannot be read", id="gone"),
        pytest.param(CONFIG.replace("./lake", "./other"), "another lake", id="elsewhere"),
    ],
)
def test_an_edit_that_breaks_the_configuration_fails_the_fire_without_a_retry(project, edit, says):
    served = make(project)
    (project / "small.yaml").unlink()
    if edit is not None:
        (project / "small.yaml").write_text(edit)
    advance(served)
    served.run(once=True)
    (fire,) = control.history(served.lake, "small")
    assert (fire.state, fire.exit_code, fire.attempt) == ("failed", 2, 1)
    assert says in fire.detail
    assert not (project / "other").exists()


def test_retries_back_off_and_end(project):
    served = make(project, {"retries": 2, "backoff": 60, "overlap": "skip"}, work=Scripted(*[Outcome(1)] * 3))
    waits = []
    advance(served)
    for _ in range(3):
        served._step(book.standing(served.lake, "small"))
        (fire,) = served._record.open.values() or (None,)
        if fire is None:
            break
        waits.append((fire.again_at - served.clock.now()).total_seconds())
        assert not served._step(book.standing(served.lake, "small"))
        served.clock.time = fire.again_at
    assert waits == [60, 120]
    served._step(book.standing(served.lake, "small"))
    assert [fire.state for fire in control.history(served.lake, "small")][-1] == "failed"


def test_more_bad_rows_than_allowed_is_done_not_failed(project):
    (project / "small.yaml").write_text(CONFIG.replace("0.2", "0.0"))
    served = make(project)
    advance(served)
    served.run(once=True)
    (fire,) = control.history(served.lake, "small")
    assert (fire.state, fire.exit_code) == ("done", 3)


def test_a_run_that_takes_too_long_is_stopped_and_tried_again(project):
    work = Scripted(None, Outcome(0))
    served = make(project, {"max_run_time": 0.05, "backoff": 0}, work=work)
    advance(served)
    served.run(once=True)
    assert work.told == ["terminate"]
    assert states(served) == ["claimed", "retry", "claimed", "done"]
    assert "max_run_time" in next(e.detail for e in book.events(served.lake, "small") if e.state == "retry")


def test_a_stop_gives_grace_and_the_next_scheduler_goes_on(project):
    stop = Stop()

    class Stopping(Scripted):
        def __call__(self, job: Job) -> Scripted:
            stop.asked = True
            return super().__call__(job)

    work = Stopping(None)
    served = make(project, work=work, stop=stop, grace=0.05)
    advance(served)
    served.run()
    assert work.told == ["terminate"]
    assert states(served) == ["claimed", "released"]
    following = make(project, work=Scripted(Outcome(0)))
    following.clock.time = served.clock.time + timedelta(hours=1)
    following.run(once=True)
    assert states(following)[:4] == ["claimed", "released", "claimed", "done"]


def test_a_run_that_ends_in_its_grace_is_done(project):
    stop = Stop(asked=False)

    class Stopping(Scripted):
        def __call__(self, job: Job) -> Scripted:
            stop.asked = True
            return super().__call__(job)

    served = make(project, work=Stopping(Outcome(0)), stop=stop, grace=60)
    advance(served, 5)
    served.run()
    assert states(served)[-1] == "done"


def test_stopped_from_anywhere(project):
    served = make(project)
    control.stop(served.lake, "small", NOW)
    served.run()  # returns
    assert states(served) == []


def test_a_clock_that_is_ahead_fires_nothing(project, caplog):
    served = make(project, work=Scripted(), ahead=lambda: 86_400.0)
    advance(served, 1440)
    served.run(once=True)
    served.run(once=True)
    assert states(served) == []
    assert [record.message for record in caplog.records if "ahead of the lake's" in record.message] == [
        "small: nothing is fired: this clock is 1d ahead of the lake's; set it right (NTP)"
    ]


def test_the_clocks_of_this_machine_and_its_disk_agree(project):
    assert abs(ahead_of(Lake(project / "lake"))) < 5


def test_a_fire_that_was_taken_over_is_not_settled_twice(project):
    """A scheduler that was frozen for longer than its lease: another one went on meanwhile."""
    served = make(project)

    class Frozen(Scripted):
        def wait(self, seconds: float) -> Outcome | None:
            other = book.Record(served.lake, "small").refresh()
            (fire,) = other.open.values()
            assert other.add([Event(fire.time, "claimed", NOW, attempt=1, by="another")])
            assert other.add([Event(fire.time, "done", NOW, attempt=1, by="another")])
            return Outcome(0)

    served.work = Frozen(Outcome(0))
    advance(served)
    served.run(once=True)
    assert states(served) == ["claimed", "claimed", "done"]
    assert [event.by for event in book.events(served.lake, "small")][-1] == "another"


def test_the_record_is_compacted_on_the_way(project, monkeypatch):
    monkeypatch.setattr(daemon, "_COMPACT_EVERY", 4)
    served = make(project, work=Scripted(*[Outcome(0)] * 6))
    for _ in range(6):
        advance(served)
        served.run(once=True)
    assert states(served) == ["claimed", "done"] * 6
    assert len(served.lake.table("_fires").parts()) < 8


# The real command, and real signals


@pytest.fixture
def command(project: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `gristmill schedule` in the project; what is left of it at the end is killed."""
    program = Path(sys.executable).with_name("gristmill")
    started = []

    def start(*more: str) -> subprocess.Popen[str]:
        started.append(_start(program, project, *more))
        return started[-1]

    yield start
    for each in started:
        if each.poll() is None:
            each.kill()
            each.communicate()


def _start(program: Path, project: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(program), "schedule", *more],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(there: Callable[[], object], patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


def overdue(project: Path) -> Lake:
    """A schedule with a fire that is due already."""
    lake = Lake(project / "lake")
    spec = Schedule(name="small", cron="0 0 * * *", config=str(project / "small.yaml"))
    then = datetime.now(UTC) - timedelta(days=1)
    assert book.put(lake, Standing(spec, "active", then, then))
    return lake


SLOW = """\
import time
from lake.op import Op, Outcome
from lake.schema import no_drops
__all__ = ["Slow"]
class Slow(Op):
    \"\"\"Takes its time.\"\"\"
    def apply(self, table):
        open("begun", "w").close()
        time.sleep(60)
        return Outcome(table, no_drops())
"""


@pytest.fixture
def slow(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (project / "plugins").mkdir()  # beside it lies a folder `lake`, which would hide the package
    (project / "plugins" / "slowly.py").write_text(SLOW)
    (project / "small.yaml").write_text(CONFIG + "plugins: [slowly]\nsteps: [slowly.Slow]\n")
    monkeypatch.setenv("PYTHONPATH", str(project / "plugins"))
    return project


def test_sigterm_stops_the_run_in_a_way_that_it_resumes(slow, command):
    lake = overdue(slow)
    served = command("small.yaml", "--grace", "0s", "--json")
    until((slow / "begun").exists)
    served.send_signal(signal.SIGTERM)
    out, err = served.communicate(timeout=60)
    assert served.returncode == 0, err
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["claimed", "released"]
    assert "stopping; the run has" in err
    (slow / "plugins" / "slowly.py").write_text(SLOW.replace("60", "0"))
    done = command("small.yaml", "--once")
    assert done.communicate(timeout=60)
    assert done.returncode == 0
    assert control.history(lake, "small")[0].state == "done"


def test_the_run_dies_with_its_scheduler_and_is_taken_over(slow, command):
    lake = overdue(slow)
    served = command("start", "small.yaml")
    until((slow / "begun").exists)
    (run,) = children(served.pid)
    served.kill()
    served.communicate()
    until(lambda: not Path(f"/proc/{run}").exists() or "Z" in Path(f"/proc/{run}/stat").read_text().split()[2])
    (slow / "plugins" / "slowly.py").write_text(SLOW.replace("60", "0"))
    done = command("small.yaml", "--once")
    done.communicate(timeout=60)
    (fire,) = control.history(lake, "small")
    assert (fire.state, fire.attempt, fire.lost) == ("done", 1, 1)
    assert (slow / "lake" / "train").exists()


def test_a_backfill_reads_each_its_own_day(project):
    for day in ("2026-02-26", "2026-02-27", "2026-02-28"):
        (project / "in" / day).mkdir(parents=True)
        (project / "in" / day / "a.jsonl").write_text(json.dumps({"text": f"what came on {day}"}) + "\n")
    lake = Lake(project / "lake")
    spec = Schedule(name="small", cron="@daily", overrides=("source.paths=in/{fire:%Y-%m-%d}/*.jsonl",))
    control.register(lake, spec, NOW)
    control.backfill(lake, "small", NOW - timedelta(days=3), NOW - timedelta(days=1), NOW)
    Daemon(lake, "small", project / "small.yaml", clock=Still(NOW), poll=0.01).run(once=True)
    assert [(f"{fire.time:%d}", fire.state) for fire in control.history(lake, "small")] == [
        ("28", "done"),
        ("27", "done"),
    ]
    texts = lake.table("train").to_table()["text"].to_pylist()
    assert sorted(texts) == ["what came on 2026-02-27", "what came on 2026-02-28"]


def test_a_process_that_cannot_be_started_is_a_failed_attempt(project):
    class Full(Scripted):
        def __call__(self, job: Job) -> Scripted:
            if not self.jobs:
                self.jobs.append(job)
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return super().__call__(job)

    served = make(project, {"backoff": 0}, work=Full(Outcome(0)))
    advance(served)
    served.run(once=True)
    assert states(served) == ["claimed", "retry", "claimed", "done"]
    assert "cannot be started" in next(book.events(served.lake, "small", 1)).detail


def test_once_does_not_end_well_where_the_lake_is_away(project, monkeypatch):
    @contextmanager
    def away(*_: object, **__: object) -> Iterator[None]:
        raise StorageError("the lake is away")
        yield

    served = make(project, work=Scripted())
    advance(served)
    monkeypatch.setattr(served.lake, "lock", away)
    with pytest.raises(StorageError):
        served.run(once=True)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """A cluster where every job succeeds: what was submitted there."""
    found: list[dict[str, object]] = []

    class Done:
        id = "a-job"

        def wait(self) -> int:
            return 0

    def submit(config: object, address: str, token: str | None = None, **options: object) -> Done:
        found.append({**options, "token": token})
        return Done()

    monkeypatch.setenv("RAY_AUTH_TOKEN", "sesame\n")  # a mounted secret may end so

    monkeypatch.setattr("pipeline.jobs.submit", submit, raising=False)
    return found


class Here(Scripted):
    """What the process of a run does, in this one."""

    def __call__(self, job: Job) -> Scripted:
        self.outcomes.append(child.run(job))
        return super().__call__(job)


def test_a_job_of_a_cluster_has_the_options_of_its_schedule(project, sent, monkeypatch):
    looked_after = []
    monkeypatch.setattr("pipeline.upkeep.maintain", lambda *_, **__: looked_after.append(True))
    served = make(project, {"address": "http://head:8265", "workers": 3, "maintain": True}, work=Here())
    advance(served)
    served.run(once=True)
    assert states(served) == ["claimed", "done"]
    assert sent == [
        {
            "once": "20260301T000100Z",
            "workers": 3,
            "runtime_env": {"env_vars": {"GRISTMILL_FIRE": "2026-03-01T00:01:00+00:00"}},
            "token": "sesame",
        }
    ]
    assert looked_after == [True]


def test_a_backfill_of_what_has_run_is_another_job(project, sent):
    """A job that succeeded under a name is not run again: the fire would be done without a run."""
    served = make(project, {"address": "http://head:8265"}, work=Here())
    advance(served)
    served.run(once=True)
    fire = NOW.replace(second=0) + timedelta(minutes=1)
    advance(served, 0.1)
    control.backfill(served.lake, "small", fire, fire, served.clock.now(), again=True)
    served.run(once=True)
    assert [each["once"] for each in sent] == ["20260301T000100Z", "20260301T000100Z-20260301T000136Z"]


def test_a_job_that_is_stopped_is_over_before_the_next_attempt(project, monkeypatch):
    """Or that one would find it under way, attach to it, and end with it."""
    told = []

    class Stopped:
        id = "a-job"

        def wait(self) -> int:
            told.append("wait")
            if told.count("wait") == 1:
                raise KeyboardInterrupt
            return 130

        def stop(self) -> bool:
            told.append("stop")
            return True

    monkeypatch.setattr("pipeline.jobs.submit", lambda *_, **__: Stopped(), raising=False)
    job = Job("small", NOW.isoformat(), 1, str(project / "lake"), str(project / "small.yaml"), CONFIG)
    with pytest.raises(KeyboardInterrupt):
        child.run(replace(job, address="http://head:8265"))
    assert told == ["wait", "stop", "wait"]


@pytest.mark.slow
def test_a_schedule_that_maintains_looks_after_the_lake(project, command):
    """The real command: what nobody needs any more is gone after the run."""
    lake = overdue(project)
    leftover = project / "lake" / "train" / "part-of-nobody.parquet"
    leftover.parent.mkdir()
    leftover.write_bytes(b"left by a run that died")
    os.utime(leftover, (0, 0))
    done = command("small.yaml", "--cron", "0 0 * * *", "--maintain", "--once")
    _, err = done.communicate(timeout=100)
    assert done.returncode == 0, err
    (fire,) = control.history(lake, "small")
    assert (fire.state, fire.exit_code, fire.detail) == ("done", 0, None)
    assert not leftover.exists()
    assert lake.table("train").count() > 0
