"""Between a run and its observers: a run says what happens in a line, and nothing here can end it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from lake.errors import GristmillError
from pipeline.telemetry import events
from pipeline.telemetry.datasets import Written, files_of, outputs_of, table_of

if TYPE_CHECKING:
    from lake.lake import Change, Lake
    from pipeline.config import Config
    from pipeline.engine import Runner
    from pipeline.progress import Progress
    from pipeline.stages.ingest import Job
    from pipeline.telemetry.events import Dataset, Event, Observer

__all__ = ["NOBODY", "Watch", "workers_of"]

P = ParamSpec("P")

_log = logging.getLogger(__name__)


def workers_of(runner: Runner) -> int | None:
    """How many workers a runner was told to have; none where the cluster decides."""
    found = getattr(runner, "workers", None)
    return found if isinstance(found, int) else None


def _harmless(method: Callable[P, None]) -> Callable[P, None]:
    """Turn every error into a warning: a run must not end for what is said of it."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  (the border to what may fail without harm)
            _log.warning("telemetry left out an event: %s", type(error).__name__)

    return call


@dataclass(frozen=True, slots=True)
class _Run:
    id: str
    config: Config
    lake: Lake
    began: float


class Watch:
    """Tells observers what a run does.

    Args:
        observers: each is told of every event, until it raises.

    >>> class Printer:
    ...     def on(self, event): print(type(event).__name__)
    ...     def close(self): pass
    >>> watch = Watch([Printer()])
    >>> watch.tell(events.RunFinished(run="r", pipeline="p", status="ok", seconds=1.0))
    RunFinished
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = list(observers)
        self._run: _Run | None = None
        self._stage: str | None = None
        self._inputs: tuple[Dataset, ...] = ()

    def tell(self, event: Event) -> None:
        """Tell all observers; one that raises is left out from now on."""
        for observer in tuple(self._observers):
            try:
                observer.on(event)
            except Exception as error:  # noqa: BLE001  (an observer is not part of the run)
                self._observers.remove(observer)
                _log.warning("%s is told no more: %s", type(observer).__name__, type(error).__name__)

    @contextmanager
    def running(self, run: str, config: Config, lake: Lake, runner: Runner) -> Iterator[None]:
        """Tell of the run's beginning and, where an error passes, of its end."""
        if not self._observers:
            yield
            return
        self._run = _Run(run, config, lake, time.perf_counter())
        self._stage, self._inputs = None, ()
        self._started(runner)
        try:
            yield
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._run = None

    @_harmless
    def _started(self, runner: Runner) -> None:
        from pipeline import __version__

        run = self._known()
        lake = str(run.lake.uri)
        self.tell(
            events.RunStarted(
                **self._whose(), lake=lake, runner=runner.name, workers=workers_of(runner), code=__version__
            )
        )

    @_harmless
    def stage(self, name: str, *, jobs: Sequence[Job] = (), source: str | None = None) -> None:
        """Tell that a stage begins, and note what it reads: files, or a table as it is now."""
        if self._run is None:
            return
        self._stage = name
        run = self._run
        self._inputs = files_of(run.config, jobs) if source is None else (table_of(run.lake, source),)
        self.tell(events.StageStarted(**self._whose(), stage=name, inputs=self._inputs))

    @_harmless
    def committed(
        self, name: str, versions: Mapping[str, int], changes: Sequence[Change], report: Mapping[str, Any]
    ) -> None:
        """Tell what a stage's commit made visible."""
        if self._run is None:
            return
        outputs = outputs_of(self._run.lake, [Written(change, versions) for change in changes])
        self.tell(
            events.StageCommitted(
                **self._whose(),
                stage=name,
                inputs=self._inputs,
                outputs=outputs,
                steps=tuple(report["steps"]),
                seconds=float(report["seconds"]),
            )
        )
        self._stage, self._inputs = None, ()

    @_harmless
    def finished(self, status: str) -> None:
        """Tell that the run has come to its end."""
        if self._run is not None:
            seconds = time.perf_counter() - self._run.began
            self.tell(events.RunFinished(**self._whose(), status=status, seconds=seconds))

    @_harmless
    def _failed(self, error: BaseException) -> None:
        self.tell(
            events.RunFailed(
                **self._whose(),
                stage=self._stage,
                inputs=self._inputs,
                error=type(error).__name__,
                message=error.what if isinstance(error, GristmillError) else "",
                interrupted=not isinstance(error, Exception),
                seconds=time.perf_counter() - self._known().began,
            )
        )

    def progress(self, inner: Progress) -> Progress:
        """A progress that tells the observers too."""
        return _Told(inner, self) if self._observers else inner

    def step(self, kind: type[Event], **about: object) -> None:
        """Tell of a pass."""
        if self._run is not None:
            self.tell(kind(**self._whose(), **about))  # type: ignore[arg-type]  # the callers below know the fields

    def _known(self) -> _Run:
        if self._run is None:
            raise RuntimeError("no run is under way")
        return self._run

    def _whose(self) -> dict[str, Any]:
        run = self._known()
        return {"run": run.id, "pipeline": run.config.name}


class _Told:
    """Hands a run's progress on, and tells a watch of it."""

    def __init__(self, inner: Progress, watch: Watch) -> None:
        self._inner, self._watch = inner, watch
        self._step: str | None = None
        self._began = 0.0

    def start_step(self, name: str, total: int | None) -> None:
        """See :class:`pipeline.progress.Progress`."""
        self._inner.start_step(name, total)
        self._step, self._began = name, time.perf_counter()
        self._watch.step(events.StepStarted, step=name, parts=total)

    def advance(self, name: str, n: int = 1, rows: int = 0) -> None:
        """See :class:`pipeline.progress.Progress`."""
        self._inner.advance(name, n, rows)
        self._watch.step(events.StepAdvanced, step=name, parts=n, rows=rows)

    def finish(self) -> None:
        """See :class:`pipeline.progress.Progress`."""
        self._inner.finish()
        if self._step is not None:
            seconds = time.perf_counter() - self._began
            self._watch.step(events.StepFinished, step=self._step, seconds=seconds)
        self._step = None


NOBODY = Watch()
"""Tells nobody: what a run has unless observers are given."""
