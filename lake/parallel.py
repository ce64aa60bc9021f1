"""Work on threads, the kernels leave the interpreter alone; and what the machine has for it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

__all__ = ["cores", "free_memory", "in_chunks", "in_order"]

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def free_memory() -> int:
    """Give the bytes that may still be used, as the system estimates them; 8 GiB where it does not say."""
    told = Path("/proc/meminfo")
    for line in told.read_text("ascii").splitlines() if told.exists() else []:
        if line.startswith("MemAvailable"):
            return 1024 * int(line.split()[1])
    return 8 << 30


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
    """Give ``work(item)`` of each item, in their order, made on threads; no more than one item a thread waits.

    >>> list(in_order(2, len, ["a", "bb", "ccc"]))
    [1, 2, 3]
    """
    if threads == 1:
        yield from map(work, items)
        return
    ahead: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
