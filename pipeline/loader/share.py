"""Which positions of an epoch are whose: the cutting into batches, and the dealing of batches to ranks.

The epoch's order is one list of positions. ``by="batch"`` deals batches of it in turn: step s of R ranks is
the stretch of R batches from s R b on, so that R ranks with batches of b see, step for step, the rows that one
process with batches of R b sees. ``by="stretch"`` gives each rank one R-th of the list, in one piece: a rank
then reads that part of the table alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["By", "Last", "Share"]

I64 = npt.NDArray[np.int64]
By = Literal["batch", "stretch"]
Last = Literal["keep", "drop", "pad"]
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Share:
    """What one rank takes of the positions in ``spans``.

    ``last``: ``"keep"``: every position once; ranks may differ by a batch, the last of which may be short.
    ``"drop"``: whole batches only, as many for each rank. ``"pad"``: the same number of whole batches for each
    rank, with positions repeated at the end.

    >>> shares = [Share(((0, 7),), batch=2, rank=rank, world=2) for rank in range(2)]
    >>> [[share.positions(k)[0].tolist() for k in range(len(share))] for share in shares]
    [[[0, 1], [4, 5]], [[2, 3], [6]]]
    """

    spans: Spans
    batch: int
    rank: int = 0
    world: int = 1
    by: By = "batch"
    last: Last = "keep"

    @property
    def total(self) -> int:
        """Positions of all ranks."""
        return sum(stop - start for start, stop in self.spans)

    def __len__(self) -> int:
        n, b, world = self.total, self.batch, self.world
        if self.by == "stretch":
            low, high = self._piece(self.rank)
            count = {"keep": high - low, "drop": n // world, "pad": -(-n // world)}[self.last]
            return count // b if self.last == "drop" else -(-count // b)
        whole, rest = divmod(n, world * b)
        if self.last == "keep":
            return whole + (rest > self.rank * b)
        return whole + (rest > 0 and self.last == "pad")

    def positions(self, number: int) -> tuple[I64, npt.NDArray[np.bool_]]:
        """The positions of a batch, int64, and which of them are repeats, bool."""
        n, b = self.total, self.batch
        if self.by == "stretch":
            low, high = self._piece(self.rank)
            start = low + number * b
        else:
            low, high = 0, n
            start = (number * self.world + self.rank) * b
        places = np.arange(start, start + b, dtype=np.int64)
        if self.last != "pad":
            places = places[places < high]
            return self._epoch(places), np.zeros(len(places), np.bool_)
        repeated = places >= high
        # A rank without a position of its own (fewer rows than ranks) repeats those of others.
        wrapped = low + (places - low) % (high - low) if high > low else places % n
        return self._epoch(np.where(repeated, wrapped, places)), repeated

    def left(self, step: int) -> Spans:
        """The positions that are left when every rank has taken ``step`` batches."""
        n, b = self.total, self.batch
        if self.by == "stretch":
            pieces = [self._piece(rank) for rank in range(self.world)]
            rest = [(min(low + step * b, high), high) for low, high in pieces]
        else:
            rest = [(min(step * self.world * b, n), n)]
        return tuple(span for low, high in rest for span in self._cut(low, high))

    def _piece(self, rank: int) -> tuple[int, int]:
        return rank * self.total // self.world, (rank + 1) * self.total // self.world

    def _epoch(self, places: I64) -> I64:
        """From places in the list of spans to positions of the epoch."""
        starts = np.array([start for start, _ in self.spans] or [0], np.int64)
        lengths = np.array([stop - start for start, stop in self.spans] or [0], np.int64)
        before = np.cumsum(lengths) - lengths
        span = np.searchsorted(before, places, side="right") - 1
        return starts[span] + places - before[span]

    def _cut(self, low: int, high: int) -> list[tuple[int, int]]:
        """The spans between two places of the list."""
        found, before = [], 0
        for start, stop in self.spans:
            a, z = max(low - before, 0), min(high - before, stop - start)
            if a < z:
                found.append((start + a, start + z))
            before += stop - start
        return found
