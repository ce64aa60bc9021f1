"""The in-process runner: threads, since Arrow, Numba, Pillow and hashing all release the GIL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from lake.machine import cores
from pipeline.engine.needs import Needs

__all__ = ["LocalRunner"]

T = TypeVar("T")
R = TypeVar("R")


class LocalRunner:
    """Runs items on threads of this process.

    Args:
        workers: threads; by default the cores that this process may use.
    """

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or cores()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="gristmill")

    def map(
        self,
        work: Callable[[T], R],
        items: Sequence[T],
        needs: Needs | Sequence[Needs] | None = None,  # noqa: ARG002  (a machine is not asked: it is there)
    ) -> Iterator[tuple[int, R]]:
        """See :class:`pipeline.engine.Runner`."""
        if self.workers == 1 or len(items) == 1:  # no thread: tracebacks and profiles stay readable
            yield from ((index, work(item)) for index, item in enumerate(items))
            return
        waiting = iter(enumerate(items))
        running: dict[Future[R], int] = {}
        try:
            while True:
                # One item more than there are threads: no thread waits for this loop, and
                # an error leaves little to wind up.
                while len(running) <= self.workers and (entry := next(waiting, None)) is not None:
                    running[self._pool.submit(work, entry[1])] = entry[0]
                if not running:
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()
            wait(running)  # who is at work still writes: the lake's lock must outlast that

    def usage(self) -> dict[str, Any]:
        """Nothing: threads are no pool of actors."""
        return {}

    def close(self) -> None:
        """See :class:`pipeline.engine.Runner`."""
        self._pool.shutdown(cancel_futures=True)
