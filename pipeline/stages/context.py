"""What every stage of a run works with: the lake, the runner and the progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lake.lake import Lake
from pipeline.config.resources import Resources, needs_of
from pipeline.engine import Needs, Pool, Runner
from pipeline.engine.threads import LocalRunner
from pipeline.progress import Progress
from pipeline.telemetry.watch import NOBODY, Watch

__all__ = ["Context"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Context:
    """Where a run works, who does the work, and who is told."""

    lake: Lake
    runner: Runner
    progress: Progress
    resources: Mapping[str, Resources] = field(default_factory=dict)
    """What the steps ask of a cluster, as the configuration says it."""
    needs: Needs = field(default_factory=Needs)
    """What a task asks for where nothing else is said."""
    watch: Watch = NOBODY
    """Tells observers what the run does."""

    def asking(self, steps: Iterable[tuple[str, object]]) -> Context:
        """The same for tasks that carry these steps out, one after the other.

        Args:
            steps: their labels, and the steps; one whose ``device`` is ``cuda`` asks for a GPU by itself.
        """
        said = [needs_of(self.resources, label) or _by_itself(step) for label, step in steps]
        return replace(self, needs=said[0].join(*said[1:]) if said else Needs())

    def gather(
        self,
        title: str,
        work: Callable[[T], R],
        tasks: Sequence[T],
        rows: Callable[[T, R], int],
        size: Callable[[T], int] | None = None,
    ) -> list[R]:
        """Do all tasks; the results are in the order of the tasks, whatever the order they came in.

        Args:
            title: what the progress calls it.
            work: a function of a module, so that any process finds it.
            tasks: its arguments, small and picklable.
            rows: how many rows a task had, for the progress.
            size: how many bytes of a file a task works on, where its memory grows with them.
        """
        needs = self.needs if size is None else [self.needs.holding(size(task)) for task in tasks]
        results: dict[int, R] = {}
        self.progress.start_step(title, len(tasks))
        try:
            for index, result in self.runner.map(work, tasks, needs):
                results[index] = result
                self.progress.advance(title, 1, rows(tasks[index], result))
        finally:
            self.progress.finish()
        return [results[index] for index in range(len(tasks))]

    def threads(self, tasks: int) -> int:
        """How many threads each of so many tasks may use: in this process those that the others leave."""
        return max(1, self.runner.workers // max(tasks, 1)) if isinstance(self.runner, LocalRunner) else 1

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Tell of work that is done here, in one piece."""
        self.progress.start_step(title, 1)
        try:
            yield
            self.progress.advance(title, 1)
        finally:
            self.progress.finish()


def _by_itself(step: object) -> Needs:
    """What a step asks for of which nothing is said."""
    return Needs(gpus=1.0, pool=Pool()) if getattr(step, "device", "cpu") == "cuda" else Needs()
