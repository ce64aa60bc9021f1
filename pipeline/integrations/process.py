"""`gristmill` as a child process: its log line by line, its answer as a value, and an end on demand."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONFIG_IS_WRONG", "REJECTS", "Call", "Outcome"]

CONFIG_IS_WRONG, REJECTS = 2, 3
"""Exit codes that a second attempt does not change."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Args:
        code: exit code of the process; of the job, where one was submitted.
        answer: what it printed as JSON.
    """

    code: int
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of a run without its configuration and policy; of a job its name and state."""
        steps = ("stage", "step", "rows_in", "rows_kept", "rows_made", "drops")
        names = ("run", "pipeline", "lake", "status", "started", "finished", "seconds", "job", "exit_code")
        found = {name: self.answer[name] for name in names if name in self.answer}
        if "steps" in self.answer:
            found["steps"] = [{name: each.get(name) for name in steps} for each in self.answer["steps"]]
        if "tables" in self.answer:
            found["tables"] = {
                name: {"version": each.get("version"), "rows": each.get("rows")}
                for name, each in self.answer["tables"].items()
            }
        return found

    @property
    def complaint(self) -> str:
        """What went wrong, in one line."""
        error = self.answer.get("error") or {}
        parts = [error.get("where"), error.get("message"), error.get("why"), error.get("hint")]
        if not any(parts) and self.code == REJECTS:
            return "finished, with more unreadable rows than `allowed_rejects`"
        told = ": ".join(str(each) for each in parts if each)
        return f"gristmill ended with exit code {self.code}" + (f": {told}" if told else "")


@dataclass
class Call:
    """A run of a configuration, here or on a cluster. It may be carried out once.

    Args:
        config: path of the configuration.
        overrides: ``path=value`` each, as ``--set`` takes them.
        address: of a Ray cluster's dashboard: submit the run there.
        once: with an address: a name for this occasion; what succeeded under it is not run again.
        command: how the program is called; several words are split as by a shell.
        options: further words for ``gristmill run`` or ``gristmill submit``.
        env: variables of the process beside those that are there.
        patience: seconds that it gets to end when it is stopped.
    """

    config: str
    overrides: Sequence[str] = ()
    address: str | None = None
    once: str | None = None
    command: str = "gristmill"
    options: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    patience: float = 60.0

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._job: str | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def carry_out(self, say: Callable[[str], object]) -> Outcome:
        """Run it to its end.

        Args:
            say: is given each line that it logs.
        """
        sets = [word for each in self.overrides for word in ("--set", each)]
        try:
            if self.address is None:
                return self._ask(["run", self.config, "--quiet", "--json", *sets, *self.options], say)
            return self._submitted(sets, say)
        except BaseException:  # whoever interrupts us means the run too
            self.stop()
            raise

    def stop(self) -> None:
        """End it, as by control-C; what it has done stays, and the next run goes on from there."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None and process.poll() is None:
            _end(process, self.patience)
        if self._job is not None and self.address is not None:
            job, self._job = self._job, None
            words = [*shlex.split(self.command), "jobs", "stop", job, "--address", self.address]
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(  # noqa: S603  (the caller's own command)
                    words, env=self._environment(), capture_output=True, timeout=self.patience, check=False
                )

    def _submitted(self, sets: Sequence[str], say: Callable[[str], object]) -> Outcome:
        where = ["--address", str(self.address)]
        once = [] if self.once is None else ["--once", _key(self.once)]
        begun = self._ask(
            ["submit", self.config, *where, "--no-wait", "--json", *once, *sets, *self.options], say
        )
        if begun.code or "job" not in begun.answer:
            return begun
        self._job = str(begun.answer["job"])
        self._ask(["jobs", "logs", self._job, *where, "--follow"], say, log=True)
        ended = self._ask(["jobs", "status", self._job, *where, "--json"], say)
        if ended.code:
            return ended
        job, self._job = self._job, None
        code = ended.answer.get("exit_code")
        well = ended.answer.get("status") == "SUCCEEDED"
        return Outcome(int(code) if code is not None else 0 if well else 1, {"job": job, **ended.answer})

    def _ask(self, words: Sequence[str], say: Callable[[str], object], *, log: bool = False) -> Outcome:
        """Start `gristmill`, and wait; its stdout is the answer, or with ``log`` more of the log."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
            with self._lock:
                if self._stopped:
                    return Outcome(130)
                self._process = process = subprocess.Popen(  # noqa: S603  (the caller's own command)
                    [*shlex.split(self.command), *words],
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if log else answer,
                    stderr=subprocess.STDOUT if log else subprocess.PIPE,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,  # so that its workers end with it
                )
            with process:
                for line in (process.stdout if log else process.stderr) or ():
                    say(line.rstrip("\n"))
            answer.seek(0)
            return Outcome(process.returncode, _parsed(answer.read()))

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "NO_COLOR": "1", **self.env}


def _end(process: subprocess.Popen[str], patience: float) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _key(occasion: str) -> str:
    """An occasion as ``--once`` takes it: the names of others have colons and pluses."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "-" for each in occasion)[
        :64
    ]


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
