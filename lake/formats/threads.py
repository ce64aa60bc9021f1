"""A few threads over a stream, results in its order, never more than a handful in flight."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from threading import Lock
from typing import TypeVar

__all__ = ["in_order"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")

# Arrow and BLAKE2 let go of the interpreter; the caller's thread (which writes) has a core to itself.
_THREADS = max(1, min(4, len(os.sched_getaffinity(0)) - 1))
_AHEAD = 3  # results that may wait while the caller is busy


_alone = Lock()  # held by the one stream of this process that has threads


def in_order(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """``map(work, items)``, with a few items taken ahead of the result.

    While one stream has the threads, others do without: more would only take turns on the cores.
    """
    source = iter(items)
    ahead = list(islice(source, 2))
    if len(ahead) < 2 or not _alone.acquire(blocking=False):  # noqa: PLR2004 (one item needs no thread)
        for item in chain(ahead, source):
            yield work(item)
        return
    try:
        yield from _threaded(work, ahead, source)
    finally:
        _alone.release()


def _threaded(work: Callable[[_In], _Out], ahead: list[_In], source: Iterator[_In]) -> Iterator[_Out]:
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="gristmill-read") as pool:
        running: deque[Future[_Out]] = deque(pool.submit(work, item) for item in ahead)
        try:
            while running:
                for item in islice(source, _THREADS + _AHEAD - len(running)):
                    running.append(pool.submit(work, item))
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
