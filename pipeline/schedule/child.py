"""The process of one attempt: reads its job from stdin, runs it, and tells on stdout how it ended.

It is `gristmill run` for a configuration that is given as text: the file may have been edited since.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lake.errors import ConfigError, ExitCode, GristmillError
from pipeline.schedule.work import Job, Outcome

if TYPE_CHECKING:
    from lake.lake import Lake
    from pipeline.config import Config

__all__ = ["main", "run"]

_PATIENCE = 90.0  # seconds: in an object store the lease of a process that was killed lasts for 60


def main() -> None:
    """Run the job that stands on stdin."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a runner is closed, locks are freed
    answer = _own_stdout()
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(ExitCode.INTERRUPTED)
    threading.Thread(target=_die_with_the_daemon, daemon=True).start()
    raw: dict[str, Any] = json.loads(line)
    job = Job(**{**raw, "overrides": tuple(raw["overrides"])})
    try:
        outcome = run(job)
    except KeyboardInterrupt:
        outcome = Outcome(ExitCode.INTERRUPTED, detail="stopped")
    except GristmillError as error:
        sys.stderr.write(f"{error}\n")
        outcome = Outcome(error.exit_code, detail=f"{type(error).__name__}: {error.what}")
    except Exception as error:  # noqa: BLE001  (the border of the process)
        # The text of a foreign error may quote a record; where it was raised does not.
        sys.stderr.write("".join([*traceback.format_tb(error.__traceback__), type(error).__name__, "\n"]))
        outcome = Outcome(ExitCode.FAILED, detail=f"internal error: {type(error).__name__}")
    answer.write(json.dumps({"run": outcome.run, "detail": outcome.detail}))
    answer.flush()
    sys.exit(int(outcome.exit_code))


def _own_stdout() -> TextIO:
    """What was stdout, for the answer alone: what steps and Ray print goes to stderr from now on."""
    sys.stdout.flush()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answer


def _die_with_the_daemon() -> None:
    """The daemon holds the other end of stdin open for as long as it lives."""
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def run(job: Job) -> Outcome:
    """Run a pipeline once, here, on Ray, or as a job of a cluster."""
    from lake.lake import Lake
    from pipeline import Pipeline, engine
    from pipeline.config.model import loads

    path = Path(job.config)
    config = loads(job.text, str(path), job.overrides, path.parent)
    lake = Lake(job.lake)
    if Lake(config.lake).uri != lake.uri:
        raise ConfigError(
            "the configuration names another lake than its schedule",
            where=str(path),
            why=f"the schedule is kept in {lake.uri}",
            hint="stop the schedule, and start it anew",
        )
    # An earlier attempt whose scheduler was killed may still be dying.
    with lake.lock(f"fire.{job.schedule}", wait=_PATIENCE):
        if job.address and job.address.startswith(("http://", "https://")):
            outcome = _submitted(job, config)
            detail = _maintained(lake) if job.maintain and outcome.finished else None
            return replace(outcome, detail=detail or outcome.detail)
        local = job.address is None
        runner = engine.local(job.workers) if local else engine.ray(_address(job), job.workers)
        try:
            report = Pipeline.of(config).run(runner=runner, wait=_PATIENCE)
        finally:
            runner.close()
        detail = "there was nothing to do" if report.status == "unchanged" else None
        if job.maintain:
            detail = _maintained(lake) or detail
    return Outcome(report.exit_code, str(report.run["run"]), detail)


def _maintained(lake: Lake) -> str | None:
    """Look after the lake; what went wrong with that, which does not undo the run."""
    from pipeline.upkeep import maintain

    try:
        maintain(lake, wait=_PATIENCE)
    except GristmillError as error:
        sys.stderr.write(f"{error}\n")
        return f"the run is done, its maintenance is not: {error.what}"
    return None


def _address(job: Job) -> str | None:
    return None if job.address == "local" else job.address


def _submitted(job: Job, config: Config) -> Outcome:
    """Let a cluster do it, and wait. Who takes a fire over finds the job that its first scheduler sent."""
    from pipeline import jobs
    from pipeline.jobs.tokens import token_of

    token = token_of()
    occasion = datetime.fromisoformat(job.fire).strftime("%Y%m%dT%H%M%SZ")
    if job.again is not None:  # asked for: what ran at this time before is another occasion
        occasion += f"-{job.again}"
    known = {"env_vars": {"GRISTMILL_FIRE": job.fire}}
    sent = jobs.submit(config, str(job.address), token, once=occasion, workers=job.workers, runtime_env=known)
    try:
        return Outcome(sent.wait(), detail=f"job {sent.id}")
    except KeyboardInterrupt:
        sent.stop()
        sent.wait()  # or the next attempt would find it going on, and end with it
        raise
