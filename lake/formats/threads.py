"""A few threads over a stream, results in its order, never more than a handful in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from threading import Lock
from typing import TypeVar

from lake.machine import cores
from lake.parallel import ahead

__all__ = ["in_order"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_AHEAD = 3  # results that may wait while the caller is busy


_alone = Lock()  # held by the one stream of this process that has threads


def in_order(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """``map(work, items)``, with a few items taken ahead of the result.

    While one stream has the threads, others do without: more would only take turns on the cores.
    """
    source = iter(items)
    first = list(islice(source, 2))
    if len(first) < 2 or not _alone.acquire(blocking=False):  # noqa: PLR2004 (one item needs no thread)
        yield from map(work, chain(first, source))
        return
    try:
        yield from ahead(_threads(), work, chain(first, source), _AHEAD)
    finally:
        _alone.release()


def _threads() -> int:
    """Arrow and BLAKE2 let go of the interpreter; the caller's thread (which writes) has a core to itself."""
    return max(1, min(4, cores() - 1))
