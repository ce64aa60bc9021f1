"""The Python face of a configuration: load it, plan it, run it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from lake.lake import Lake
from lake.maintenance import PATIENCE, turn
from pipeline import __version__, engine
from pipeline.config import Config, load
from pipeline.forget.forget import Forgotten, carry_over, forget
from pipeline.forget.known import APP as FORGETTING
from pipeline.plan import Plan, make_plan, tables_of
from pipeline.progress import Progress, Silent
from pipeline.report import Report
from pipeline.run import Run
from pipeline.stages.context import Context
from pipeline.telemetry.events import Observer
from pipeline.telemetry.watch import Watch

__all__ = ["Pipeline"]

_A_MOMENT = 3.0  # seconds; maintenance holds the locks of a run for the length of a commit


class Pipeline:
    """A configuration that can be planned and run.

    Its arguments are the keys of the YAML file:

    >>> import lake, dedup
    >>> Pipeline(name="docs", lake="./lake", source=lake.Files(paths="*.jsonl"),
    ...          steps=[dedup.MinHash(threshold=0.8)]).config.sink.name
    'train'

    Raises:
        ConfigError: all that is wrong with them, at once.
    """

    def __init__(self, **settings: Any) -> None:
        self.config = Config(**settings)

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Pipeline:
        """Read a configuration file.

        Args:
            path: the YAML file; paths in it are relative to its folder.
            overrides: ``path=value`` each, as ``gristmill run --set`` takes them.
        """
        return cls.of(load(path, overrides))

    @classmethod
    def of(cls, config: Config) -> Pipeline:
        """The pipeline of a configuration that is already there."""
        pipeline = cls.__new__(cls)
        pipeline.config = config
        return pipeline

    @property
    def lake(self) -> Lake:
        """The lake that it fills."""
        return Lake(self.config.lake)

    def plan(self) -> Plan:
        """What a run would do, and why. Reads the lake's log and lists files; changes nothing."""
        return make_plan(self.config, __version__)

    def run(
        self,
        limit: int | None = None,
        runner: engine.Runner | None = None,
        progress: Progress | None = None,
        observers: Sequence[Observer] = (),
        wait: float = 0.0,
    ) -> Report:
        """Bring the lake's tables up to date with the files and the steps.

        Killed at any moment and run again, it ends with the tables of an undisturbed run.

        Args:
            limit: try it on the first rows of each source, in a lake of its own beside the real one
                (``<lake>-trial``), which is emptied first.
            runner: ``engine.local()`` unless given; a runner that is given is not closed.
            progress: told of each part.
            observers: told of stages and commits (:mod:`pipeline.telemetry`); none of them can end the run.
            wait: seconds to wait where the same pipeline runs in this lake at this moment; the run then
                starts from what that one left.

        Raises:
            ConcurrentRunError: it still runs after that time.
        """
        mine = runner is None
        runner = runner or engine.local()
        lake = self.lake if limit is None else self._trial()
        config = self.config if limit is None else self.config.model_copy(update={"lake": str(lake.uri)})
        try:
            lake.ensure()
            with ExitStack() as held:
                # The tables too: another pipeline may be about to fill one of them for the first time.
                with lake.lock(turn(config.name), wait=max(wait, PATIENCE + _A_MOMENT)):
                    pass  # somebody who tidies up may be waiting for the run before this one
                until = time.monotonic() + max(wait, _A_MOMENT)
                for name in (config.name, *sorted(f"table-{each}" for each in tables_of(config))):
                    held.enter_context(lake.lock(name, wait=max(0.0, until - time.monotonic())))
                if not lake.table(config.raw).exists:
                    # Whoever is forgetting rows has locked the tables that he found: not this one.
                    with lake.lock(FORGETTING, wait=max(0.0, until - time.monotonic())):
                        pass
                if limit is not None:
                    lake.clear()
                    carry_over(self.lake, lake)
                lake.recover()
                watch = Watch(observers)
                told = watch.progress(progress or Silent())
                context = Context(lake, runner, told, config.resources, watch=watch)
                run = Run(config, context, __version__, limit)
                held.enter_context(watch.running(run.id, config, lake, runner))
                report = Report(run.execute(make_plan(config, __version__))).settle(lake)
                watch.finished(report.status)
                return report
        finally:
            if mine:
                runner.close()

    def forget(
        self,
        ids: Iterable[str] = (),
        source: str | None = None,
        reason: str | None = None,
        *,
        purge: bool = False,
    ) -> Forgotten:
        """Take rows out of the lake for good: see :func:`pipeline.forget.forget.forget`.

        They stay away when their file is read again. Rows that were dropped for their sake come back with the
        next :meth:`run`.

        Raises:
            ConfigError: nothing was named, or what was named is no ``_id``.
            MissingTableError: no row was ever read from the source.
            ConcurrentRunError: a run, or maintenance, is under way in the lake.
        """
        return forget(self.lake, ids, source, reason, purge=purge)

    def _trial(self) -> Lake:
        if self.config.lake.endswith("-trial"):
            raise ConfigError("a trial of a trial lake", hint="name the lake otherwise, or run without a limit")
        return Lake(f"{self.config.lake.rstrip('/')}-trial")

    def __repr__(self) -> str:
        return f"Pipeline({self.config.name!r}, lake={self.config.lake!r}, {len(self.config.steps)} steps)"

    def _repr_html_(self) -> str:
        return self.plan()._repr_html_()
