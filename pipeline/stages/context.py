"""What every stage of a run works with: the lake, the runner and the progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from lake.lake import Lake
from pipeline.engine import Runner
from pipeline.progress import Progress

__all__ = ["Context"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Context:
    """Where a run works, who does the work, and who is told."""

    lake: Lake
    runner: Runner
    progress: Progress

    def gather(
        self, title: str, work: Callable[[T], R], tasks: Sequence[T], rows: Callable[[T, R], int]
    ) -> list[R]:
        """Do all tasks; the results are in the order of the tasks, whatever the order they came in.

        Args:
            title: what the progress calls it.
            work: a function of a module, so that any process finds it.
            tasks: its arguments, small and picklable.
            rows: how many rows a task had, for the progress.
        """
        results: dict[int, R] = {}
        self.progress.start_step(title, len(tasks))
        try:
            for index, result in self.runner.map(work, tasks):
                results[index] = result
                self.progress.advance(title, 1, rows(tasks[index], result))
        finally:
            self.progress.finish()
        return [results[index] for index in range(len(tasks))]

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Tell of work that is done here, in one piece."""
        self.progress.start_step(title, 1)
        try:
            yield
            self.progress.advance(title, 1)
        finally:
            self.progress.finish()
