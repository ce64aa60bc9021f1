"""What happens in a run, as values, and those who are told of it.

Every event is a frozen value that holds counts, names and versions, never a record's content. An
:class:`Observer` takes them one by one; :class:`pipeline.telemetry.watch.Watch` tells several at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa

__all__ = [
    "Dataset",
    "Event",
    "Observer",
    "RunFailed",
    "RunFinished",
    "RunStarted",
    "StageCommitted",
    "StageStarted",
    "StepAdvanced",
    "StepFinished",
    "StepStarted",
]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Files that a stage reads, or a table at one version.

    Attributes:
        uri: where it is: an absolute path or a URL, without credentials.
        table: its name in the lake; none for files.
        version: the table's Delta version.
        rows: read or written by the stage; none where nobody knows yet.
        bytes: read or written by the stage.
        files: read or written by the stage.
        schema: the table's columns.
    """

    uri: str
    table: str | None = None
    version: int | None = None
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None
    schema: pa.Schema | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every event says: of which run, and when."""

    run: str
    pipeline: str
    time: datetime = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run holds its locks and begins. ``workers`` is none where the cluster decides."""

    lake: str
    runner: str
    workers: int | None
    code: str


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """A stage has work; ``inputs`` are what it reads, at the versions that it reads."""

    stage: str
    inputs: tuple[Dataset, ...]


@dataclass(frozen=True, kw_only=True)
class StepStarted(Event):
    """A pass over ``parts`` parts begins; none where their number is not known."""

    step: str
    parts: int | None


@dataclass(frozen=True, kw_only=True)
class StepAdvanced(Event):
    """So many more parts of the pass are done, with so many rows."""

    step: str
    parts: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class StepFinished(Event):
    """The pass is over, well or badly."""

    step: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class StageCommitted(Event):
    """The tables of a stage are visible at the versions of ``outputs``.

    ``steps`` are the counts of the stage as the report holds them; ``seconds`` is wall time.
    """

    stage: str
    inputs: tuple[Dataset, ...]
    outputs: tuple[Dataset, ...]
    steps: tuple[Mapping[str, Any], ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The run is over. ``status`` is the report's: ``ok``, ``unchanged`` or ``rejects``."""

    status: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The run ended with an error.

    Attributes:
        stage: where; none between stages.
        inputs: of that stage.
        error: the error's class.
        message: its first sentence, where it is one of ours: these never quote a record.
        interrupted: by Control-C or a signal, not by a fault.
        seconds: since the run began.
    """

    stage: str | None
    inputs: tuple[Dataset, ...]
    error: str
    message: str
    interrupted: bool
    seconds: float


class Observer(Protocol):
    """Told of each event, in order, from one thread at a time.

    It should return at once. One that raises is told nothing more, with a warning: the run goes on.
    """

    def on(self, event: Event) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """Deliver what is still on the way, within a second or two; there will be no more events."""
        ...
