"""What a run under way looks like to a scraper."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from lake.lake import Lake
from pipeline.telemetry.cost import Prices
from pipeline.telemetry.datasets import plain_uri
from pipeline.telemetry.events import (
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    StageCommitted,
    StageStarted,
    StepAdvanced,
    StepFinished,
    StepStarted,
)
from pipeline.telemetry.gpu import gpus
from pipeline.telemetry.samples import Sample
from pipeline.telemetry.standing import Standing

__all__ = ["Live"]


@dataclass
class _Pass:
    """One pass over parts."""

    parts: int | None
    done: int = 0
    rows: int = 0
    seconds: float | None = None


@dataclass
class _State:
    """A run so far."""

    started: RunStarted
    heartbeat: float
    stage: str | None = None
    passes: dict[str, _Pass] = field(default_factory=dict)
    current: str | None = None
    ended: RunFinished | RunFailed | None = None


class Live:
    """Follows the events of runs, and gives the samples of the present or last one with those of its lake.

    Args:
        prices: for the cost.
    """

    def __init__(self, prices: Prices | None = None) -> None:
        self._prices = prices or Prices()
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._standing: Standing | None = None

    def on(self, event: Event) -> None:
        """See :class:`pipeline.telemetry.events.Observer`."""
        with self._lock:
            if isinstance(event, RunStarted):
                self._state = _State(event, event.time.timestamp())
                self._standing = Standing(Lake(event.lake), event.pipeline, self._prices)
            elif self._state is not None:
                self._state.heartbeat = event.time.timestamp()
                _follow(self._state, event)
                if isinstance(event, StageCommitted) and self._standing is not None:
                    self._standing.forget()

    def close(self) -> None:
        """Nothing is on the way."""

    def samples(self) -> Iterator[Sample]:
        """Those of the moment; none before the first run."""
        with self._lock:
            state, lake = self._state, self._standing
            found = [] if state is None else list(_samples(state))
        yield from found
        if state is not None and lake is not None:
            uri = {"lake": plain_uri(state.started.lake)}
            for gpu in gpus():
                labels = {**uri, "gpu": str(gpu.index)}
                yield Sample("gpu_busy_ratio", gpu.busy, labels)
                yield Sample("gpu_memory_used_bytes", gpu.memory_used, labels)
            yield from lake.samples()


def _follow(state: _State, event: Event) -> None:
    if isinstance(event, StageStarted):
        state.stage = event.stage
    elif isinstance(event, StepStarted):
        state.passes[event.step] = _Pass(event.parts)
        state.current = event.step
    elif isinstance(event, StepAdvanced):
        found = state.passes.setdefault(event.step, _Pass(None))
        found.done += event.parts
        found.rows += event.rows
    elif isinstance(event, StepFinished):
        state.passes.setdefault(event.step, _Pass(None)).seconds = event.seconds
        state.current = None
    elif isinstance(event, StageCommitted):
        state.stage = None
    elif isinstance(event, RunFinished | RunFailed):
        state.ended, state.stage, state.current = event, None, None


def _samples(state: _State) -> Iterator[Sample]:
    started, ended = state.started, state.ended
    labels = {"lake": plain_uri(started.lake), "pipeline": started.pipeline}
    begun = started.time.timestamp()
    yield Sample("run_active", float(ended is None), labels)
    yield Sample("run_start_time_seconds", begun, labels)
    yield Sample("run_heartbeat_time_seconds", state.heartbeat, labels)
    yield Sample("run_seconds", time.time() - begun if ended is None else ended.seconds, labels)
    if started.workers is not None:
        yield Sample("run_workers", started.workers, labels)
    if ended is not None:
        yield Sample("run_end_time_seconds", ended.time.timestamp(), labels)
        yield Sample("run_success", float(isinstance(ended, RunFinished)), labels)
        rejects = isinstance(ended, RunFinished) and ended.status == "rejects"
        yield Sample("run_rejects", float(rejects), labels)
    if state.stage is not None:
        yield Sample("stage_active", 1.0, {**labels, "stage": state.stage})
    yield Sample("queue_parts", _queue(state), labels)
    for name, found in state.passes.items():
        mine = {**labels, "pass": name}
        yield Sample("pass_parts_done", found.done, mine)
        yield Sample("pass_rows", found.rows, mine)
        if found.seconds is not None:
            yield Sample("pass_seconds", found.seconds, mine)


def _queue(state: _State) -> float:
    current = state.passes.get(state.current) if state.current is not None else None
    return max(0, (current.parts or 0) - current.done) if current is not None else 0
