"""Structured logs: one JSON object a line, with run, stage and step, and never a record or a secret."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lake.errors import GristmillError, InputError
from pipeline.telemetry import events
from pipeline.telemetry.datasets import plain_uri
from pipeline.telemetry.events import Event

__all__ = ["FIELDS", "JsonFormatter", "LogObserver", "Place", "Redactor", "logging_to"]

_log = logging.getLogger("pipeline.run")

FIELDS = ("time", "level", "event", "run", "pipeline", "stage", "step", "logger", "message")
"""The keys of a line, in order; those of its event follow. What is not known is left out."""

_OURS = ("augment", "dedup", "lake", "pipeline")
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@]+@")
_SHORTEST = 6  # characters of a secret; shorter values would blot out words
_EVERY = 10.0  # seconds between two lines of one pass


class Redactor:
    """Takes secrets out of a line: values of the environment whose names say so, and logins in addresses.

    A second net: nothing of ours writes a secret in the first place.

    >>> Redactor({"AWS_SECRET_ACCESS_KEY": "abcdefgh"})("key abcdefgh at s3://me:pw@host/x")
    'key [secret] at s3://[secret]@host/x'
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        values = {
            value
            for name, value in environment.items()
            if _SECRET_NAME.search(name) and len(value) >= _SHORTEST
        }
        # The longest first, since one may hold another.
        joined = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True))
        self._values = re.compile(joined) if joined else None

    def __call__(self, line: str) -> str:
        """The line without them."""
        line = _IN_ADDRESS.sub(r"\g<scheme>[secret]@", line)
        return line if self._values is None else self._values.sub("[secret]", line)


class Place:
    """Where the run of this process is: kept by a :class:`LogObserver`, read for every line."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}

    def follow(self, event: Event) -> None:
        """Move on."""
        if isinstance(event, events.RunStarted):
            self.fields = {"run": event.run, "pipeline": event.pipeline}
        elif isinstance(event, events.StageStarted):
            self.fields = {**self.fields, "stage": event.stage}
        elif isinstance(event, events.StepStarted):
            self.fields = {**self.fields, "step": event.step}

    def leave(self, event: Event) -> None:
        """Forget what is over; after the event's own line."""
        over = {
            events.StepFinished: {"step"},
            events.StageCommitted: {"stage", "step"},
            events.RunFinished: {"run", "pipeline", "stage", "step"},
            events.RunFailed: {"run", "pipeline", "stage", "step"},
        }.get(type(event), set())
        self.fields = {key: value for key, value in self.fields.items() if key not in over}


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON. Of a foreign error its class and where it was raised, not its text."""

    def __init__(self, place: Place, redact: Redactor) -> None:
        super().__init__()
        self._place, self._redact = place, redact

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        about: dict[str, Any] = getattr(record, "telemetry", {})
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "log",
            **self._place.fields,
            "logger": record.name,
            "message": record.getMessage(),
            **about,
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= _error(record.exc_info[1])
        ordered = {key: line[key] for key in (*FIELDS, *line) if key in line}
        return json.dumps(self._clean(ordered))

    def _clean(self, value: object) -> object:
        """The value as JSON has it, every string in it without secrets."""
        if isinstance(value, Mapping):
            return {str(key): self._clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        return value if value is None or isinstance(value, int | float) else self._redact(str(value))


class TextFormatter(logging.Formatter):
    """The line for a person, as ``--verbose`` has it, without secrets."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return self._redact(super().format(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  (logging's own name)
        """The error's class and where it was raised; its text may quote a record."""
        return " ".join(f"{key}={value}" for key, value in _error(ei[1]).items() if key != "frames")


def _error(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    found: dict[str, Any] = {
        "error": type(error).__name__,
        "frames": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, GristmillError):
        found["what"] = error.what
    return found


class LogObserver:
    """Writes a log line for each event; of a pass under way one every few seconds."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._passes: dict[str, list[float]] = {}  # parts done, rows, when a line was last written

    def on(self, event: Event) -> None:
        """See :class:`pipeline.telemetry.events.Observer`."""
        self._place.follow(event)
        described = self._describe(event)
        if described is not None:
            name, level, message, about = described
            _log.log(level, message, extra={"telemetry": {"event": name, **about}})
        self._place.leave(event)

    def close(self) -> None:
        """Nothing is on the way."""

    def _describe(self, event: Event) -> tuple[str, int, str, dict[str, Any]] | None:
        if isinstance(event, events.StepStarted | events.StepAdvanced | events.StepFinished):
            return self._step(event)
        return _described(event)

    def _step(
        self, event: events.StepStarted | events.StepAdvanced | events.StepFinished
    ) -> tuple[str, int, str, dict[str, Any]] | None:
        now = event.time.timestamp()
        if isinstance(event, events.StepStarted):
            self._passes[event.step] = [0, 0, now]
            return "step.started", logging.INFO, f"{event.step} begins", {"parts": event.parts}
        found = self._passes.setdefault(event.step, [0, 0, now])
        if isinstance(event, events.StepAdvanced):
            found[0] += event.parts
            found[1] += event.rows
            if now - found[2] < _EVERY:
                return None
            found[2] = now
        about: dict[str, Any] = {"parts": int(found[0]), "rows": int(found[1])}
        done = f"{event.step}: {about['parts']} parts, {about['rows']:,} rows"
        if isinstance(event, events.StepAdvanced):
            return "step.advanced", logging.INFO, done, about
        about["seconds"] = round(event.seconds, 3)
        return "step.finished", logging.INFO, f"{done} in {event.seconds:.1f} s", about


def _described(event: Event) -> tuple[str, int, str, dict[str, Any]] | None:
    """Name, level, sentence and figures of an event of a run or a stage."""
    about: dict[str, Any]
    if isinstance(event, events.RunStarted):
        about = {"lake": plain_uri(event.lake), "runner": event.runner, "workers": event.workers}
        return "run.started", logging.INFO, f"run {event.run} begins", {**about, "code": event.code}
    if isinstance(event, events.StageStarted):
        about = {"inputs": {each.table or each.uri: each.version for each in event.inputs}}
        return "stage.started", logging.INFO, f"{event.stage} begins", about
    if isinstance(event, events.StageCommitted):
        return _committed(event)
    if isinstance(event, events.RunFinished):
        about = {"status": event.status, "seconds": round(event.seconds, 3)}
        return "run.finished", logging.INFO, f"run {event.run}: {event.status}", about
    if isinstance(event, events.RunFailed):
        about = {"error": event.error, "what": event.message, "seconds": round(event.seconds, 3)}
        return "run.failed", logging.ERROR, f"run {event.run} failed: {event.error}", about
    return None


def _committed(event: events.StageCommitted) -> tuple[str, int, str, dict[str, Any]]:
    about = {
        "versions": {each.table: each.version for each in event.outputs},
        "seconds": round(event.seconds, 3),
        "steps": [
            {key: each[key] for key in ("step", "rows_in", "rows_kept", "drops")} for each in event.steps
        ],
    }
    versions = ", ".join(f"{each.table} {each.version}" for each in event.outputs)
    return "stage.committed", logging.INFO, f"{event.stage} is committed: {versions}", about


class _File(logging.FileHandler):
    """A log in a file that cannot end a run, nor fill the terminal, where the disk is full."""

    def __init__(self, path: str) -> None:
        # Names of files may be any bytes.
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  (logging's own)
        """Say it once."""
        error = sys.exc_info()[1]
        if not self._warned:
            self._warned = True
            why = (isinstance(error, OSError) and error.strerror) or type(error).__name__
            sys.stderr.write(f"the log cannot be written to {self.baseFilename}: {why}; the run goes on\n")

    def close(self) -> None:
        """Close it; what could not be written is lost, and was told of."""
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(
    place: Place, format_: Literal["json", "text"], file: str | None = None
) -> Iterator[logging.Handler]:
    """Send the logs of this process to stderr, or to a file, until the end of the block.

    Lines of ours come from level INFO, or lower where ``--verbose`` asked for it; those of libraries from
    WARNING.

    Raises:
        InputError: the file cannot be opened.
    """
    redact = Redactor()
    handler: logging.Handler
    try:
        handler = logging.StreamHandler(sys.stderr) if file is None else _File(file)
    except OSError as error:
        raise InputError("the log cannot be written", where=file, why=error.strerror) from error
    handler.setFormatter(JsonFormatter(place, redact) if format_ == "json" else TextFormatter(redact))
    handler.addFilter(lambda record: record.name.split(".")[0] in _OURS or record.levelno >= logging.WARNING)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = [handler] if file is None else [*before, handler]
    root.setLevel(min(logging.INFO, level or logging.WARNING))
    try:
        yield handler
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        handler.close()
