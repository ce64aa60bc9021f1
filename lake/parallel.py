"""Work on threads: the kernels leave the interpreter alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead", "in_chunks", "in_order"]

T = TypeVar("T")
R = TypeVar("R")


def in_chunks(threads: int, count: int, size: int, work: Callable[[int, int], object]) -> None:
    """Call ``work(start, stop)`` for stretches of ``count`` items, on threads."""
    starts = range(0, count, size)
    if threads == 1 or len(starts) < 2:  # noqa: PLR2004  (one stretch needs no thread)
        for start in starts:
            work(start, min(start + size, count))
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, start, min(start + size, count)) for start in starts]:
            done.result()


def in_order(threads: int, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Give ``work(item)`` of each item, in their order, made on threads; without any where one is enough.

    >>> list(in_order(2, len, ["a", "bb", "ccc"]))
    [1, 2, 3]
    """
    return map(work, items) if threads == 1 else ahead(threads, work, items)


def ahead(threads: int, work: Callable[[T], R], items: Iterable[T], more: int = 1) -> Iterator[R]:
    """The same on threads in any case: the caller's own is free meanwhile.

    Args:
        threads: how many.
        work: what they do.
        items: taken one by one.
        more: how many items may wait beside those that are at work.
    """
    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="gristmill-ahead") as pool:
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) == threads + more:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
