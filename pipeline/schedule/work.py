"""Runs in processes of their own, so that they can be stopped, and give their memory back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any, Protocol

from lake.errors import ExitCode

__all__ = ["Job", "Outcome", "Process", "Running", "Work"]

_COMMAND = (sys.executable, "-P", "-c", "from pipeline.schedule.child import main; main()")


@dataclass(frozen=True, slots=True)
class Job:
    """What one attempt at a fire is to run: a configuration as it was when the fire was claimed."""

    schedule: str
    fire: str  # ISO 8601, UTC
    attempt: int
    lake: str
    config: str  # the file's path, for messages and for relative paths
    text: str
    overrides: tuple[str, ...] = ()
    address: str | None = None
    workers: int | None = None
    maintain: bool = False
    again: str | None = None  # of a backfill: tells it from earlier runs of the same fire, not from its retries


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the exit code of `gristmill run` (negative: the signal that ended it)."""

    exit_code: int
    run: str | None = None
    detail: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end; with more bad rows than allowed it did too."""
        return self.exit_code in {ExitCode.OK, ExitCode.REJECTS}

    @property
    def retryable(self) -> bool:
        """Whether another attempt may help; not where the configuration is wrong."""
        return self.exit_code != ExitCode.USAGE


class Running(Protocol):
    """An attempt under way."""

    def wait(self, seconds: float) -> Outcome | None:
        """How it ended, or None where it goes on after so many (real) seconds."""

    def terminate(self) -> None:
        """Ask it to stop."""

    def kill(self) -> None:
        """Stop it."""


class Work(Protocol):
    """Starts attempts."""

    def __call__(self, job: Job) -> Running:
        """Start one."""


class Process:
    """A run in a child process, which dies with this one.

    The job goes to the child's stdin, which then stays open: the child takes its end for the daemon's death.
    The child's stdout, one JSON document, goes to a file without a name.
    """

    def __init__(self, job: Job, environment: Mapping[str, str] | None = None) -> None:
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process runs)
        self._child = subprocess.Popen(  # noqa: S603  (our own module)
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=self._out,
            env={**os.environ, **(environment or {}), "GRISTMILL_FIRE": job.fire},
            start_new_session=True,  # Control-C is for the daemon, which lets the run end
        )
        with suppress(BrokenPipeError):
            assert self._child.stdin is not None  # noqa: S101  (for the type checker)
            self._child.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            self._child.stdin.flush()

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def wait(self, seconds: float) -> Outcome | None:
        """See :class:`Running`."""
        try:
            code = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        if self._child.stdin:
            with suppress(OSError):
                self._child.stdin.close()
        self._out.seek(0)
        told = self._out.read()
        self._out.close()
        return _outcome(code, told)

    def terminate(self) -> None:
        """See :class:`Running`."""
        self._child.terminate()

    def kill(self) -> None:
        """See :class:`Running`; what the run has started goes with it."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)


def _outcome(code: int, told: bytes) -> Outcome:
    try:
        found: dict[str, Any] = json.loads(told)
    except ValueError:
        found = {}
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return Outcome(code, detail=f"ended by signal {name}")
    return Outcome(code, found.get("run"), found.get("detail"))
