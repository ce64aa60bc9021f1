"""From positions of an epoch to rows in memory: which windows to read, in what order, and a little ahead.

A *visit* is a stay in one window: the rows that some batches in a row need from it. They are known before
anything is read, so that a rank (or a worker) holds only its own rows of a window, and skipped rows are not
read where nobody needs their row group, and never decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.loader.order import Order
from pipeline.loader.source import Held, Source

__all__ = ["Loads", "Piece", "Reading", "feed"]

I64 = npt.NDArray[np.int64]

_READERS = 4  # row groups read at once
_MOST_AHEAD = 16  # visits, where windows are tiny


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows of a batch: ``rows`` of ``table``."""

    table: pa.Table
    rows: I64


@dataclass(eq=False)
class _Visit:
    window: int
    places: list[I64] = field(default_factory=list)  # positions within the window, a piece of a batch each
    ends: list[bool] = field(default_factory=list)  # whether the piece is its batch's last


class Loads(Protocol):
    """What gives rows by number, now or a little later."""

    def load(self, rows: I64) -> Held:
        """The rows with these numbers."""
        ...


class Reading:
    """Rows read from the table's files, row groups on threads, ahead of their use."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="gristmill-read")

    def start(self, rows: I64) -> tuple[int, Callable[[], Held]]:
        """Begin to read: an estimate of the bytes, and what waits for the rows."""
        distinct, place = np.unique(rows, return_inverse=True)
        starts, counts, sizes = self.source.starts, self.source.counts, self.source.sizes
        group_of = np.searchsorted(starts, distinct, side="right") - 1
        groups, first = np.unique(group_of, return_index=True)
        edges = np.append(first, len(distinct))
        futures: list[Future[pa.Table]] = []
        size = 0
        for i, group in enumerate(groups.tolist()):
            mine = distinct[edges[i] : edges[i + 1]] - starts[group]
            size += int(sizes[group]) * len(mine) // max(1, int(counts[group]))
            futures.append(self._pool.submit(self.source.read, group, mine))

        def wait() -> Held:
            return Held(pa.concat_tables([future.result() for future in futures]), place)

        return size, wait

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(cancel_futures=True)


def feed(
    batches: Iterable[I64], order: Order, start: Callable[[I64], tuple[int, Callable[[], Held]]], ahead: int
) -> Iterator[list[Piece]]:
    """The rows of each batch, in order, in one or several pieces.

    Args:
        batches: positions of the epoch, int64, one array per batch.
        order: of the epoch.
        start: begins to load rows by number (see :meth:`Reading.start`).
        ahead: bytes up to which more than the next visit is read.
    """
    waiting = _visits(batches, order)
    loading: deque[tuple[_Visit, int, Callable[[], Held]]] = deque()
    held = 0
    pieces: list[Piece] = []
    while True:
        # The one in use, the next one, and more where they are small.
        while len(loading) <= 1 or (held < ahead and len(loading) < _MOST_AHEAD):
            visit = next(waiting, None)
            if visit is None:
                break
            wanted = np.concatenate(visit.places) if visit.places else np.empty(0, np.int64)
            size, wait = start(order.rows(visit.window)[wanted])
            loading.append((visit, size, wait))
            held += size
        if not loading:
            return
        visit, size, wait = loading.popleft()
        rows = wait()
        begin = 0
        for places, ends in zip(visit.places, visit.ends, strict=True):
            pieces.append(Piece(rows.table, rows.place[begin : begin + len(places)]))
            begin += len(places)
            if ends:
                yield pieces
                pieces = []
        held -= size
        del rows  # before more is read


def _visits(batches: Iterable[I64], order: Order) -> Iterator[_Visit]:
    visit: _Visit | None = None
    for positions in batches:
        windows = np.searchsorted(order.starts, positions, side="right") - 1
        cuts = [0, *(np.flatnonzero(np.diff(windows)) + 1).tolist(), len(positions)]
        for i in range(len(cuts) - 1):
            # An empty batch (all ranks must have one) stays in whatever window is at hand.
            window = int(windows[cuts[i]]) if len(positions) else (visit.window if visit else 0)
            if visit is None or window != visit.window:
                if visit is not None:
                    yield visit
                visit = _Visit(window)
            visit.places.append(positions[cuts[i] : cuts[i + 1]] - order.starts[window])
            visit.ends.append(i == len(cuts) - 2)
    if visit is not None:
        yield visit
