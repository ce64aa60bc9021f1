"""Which rows go.

Walking in keep order, a row is dropped if and only if a *kept* row is within the threshold. That is the
lexicographically first maximal independent set of the graph of verified edges: so every dropped row has a kept
twin that really is similar, no family disappears, a chain removes nothing, and neither order nor partitioning
of the input matters. The twin is the first such row in keep order.

:func:`first` walks over all edges at once. :func:`rounds` finds the same set in parallel rounds over edges
that are cut in any way: a row is kept once all its earlier neighbours are dropped, and dropped once one of
them is kept (Blelloch, Fineman and Shun 2012: the number of rounds grows with the logarithm of the graph).
Where a part has all edges of a block of rows with earlier ones, it can :func:`settle` the block in one walk:
then there are never more rounds than blocks. The twins of the dropped rows follow once all rows are decided:
each block gives the :func:`stars` of its rows, and :func:`nearest` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lake.native import kernels

__all__ = ["Edges", "Selection", "Status", "first", "look", "nearest", "rounds", "settle", "stars", "without"]

_pair_kernels = kernels("dedup._pair_kernels")
_select_kernels = kernels("dedup._select_kernels")

P = TypeVar("P")

Status = npt.NDArray[np.int8]
"""Of each row: 0 while it is open, 1 once it is kept, -1 once it is dropped."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Verified pairs of rows; rows are numbered in keep order, and ``left < right``."""

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    exact: npt.NDArray[np.float64]
    """Their similarity."""
    estimated: npt.NDArray[np.float64]
    """What the sketch made of it."""

    @classmethod
    def none(cls) -> Edges:
        """No edges."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))

    def __len__(self) -> int:
        return len(self.left)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Edges:
        """Some of them, by mask or number."""
        return Edges(self.left[which], self.right[which], self.exact[which], self.estimated[which])

    def join(self, *others: Edges) -> Edges:
        """These and others."""
        all_of = (self, *others)
        return Edges(
            *(
                np.concatenate([getattr(each, name) for each in all_of])
                for name in ("left", "right", "exact", "estimated")
            )
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """What the walk found, by position in keep order."""

    dropped: npt.NDArray[np.int64]
    """Positions of the dropped rows, ascending; shape (d,)."""
    twin: npt.NDArray[np.int64]
    """The position of the kept twin of each; shape (d,)."""
    edge: npt.NDArray[np.int64]
    """The number of the edge between the two; shape (d,)."""


def first(edges: Edges, count: int, same: npt.NDArray[np.bool_] | None = None) -> Selection:
    """Walk over ``count`` rows in keep order.

    >>> chain = Edges(np.array([0, 1]), np.array([1, 2]), np.array([0.9, 0.9]), np.array([0.9, 0.9]))
    >>> chosen = first(chain, 3)
    >>> chosen.dropped.tolist(), chosen.twin.tolist()
    ([1], [0])

    Args:
        edges: the verified pairs.
        count: rows.
        same: which edges join copies; their further edges need to be given for the first of them only.
    """
    copies = np.zeros(len(edges), np.bool_) if same is None else same

    order = np.argsort(edges.right, kind="stable")
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(edges.right, minlength=count), out=starts[1:])
    twin, edge = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    _pair_kernels.walk(starts, edges.left[order], copies[order], twin, edge)
    dropped = np.flatnonzero(twin >= 0)
    return Selection(dropped, twin[dropped], order[edge[dropped]])


def look(
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    same: npt.NDArray[np.bool_],
    status: Status,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """One part's share of a round: the open rows that an edge drops, and those that one still holds open.

    Args:
        left: the earlier row of each edge of this part.
        right: the later one.
        same: whether they are copies: a copy of a dropped row goes as well.
        status: of all rows, as the last round left it.
    """
    waiting = status[right] == 0
    left, right, same = left[waiting], right[waiting], same[waiting]
    decided = status[left]
    return np.unique(right[(decided == 1) | (same & (decided != 0))]), np.unique(right[decided == 0])


Part = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]
Looked = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _here(parts: Sequence[Part], status: Status) -> Iterable[Looked]:
    return (look(*part, status) for part in parts)


def settle(
    edges: Edges, same: npt.NDArray[np.bool_], status: Status, low: int, high: int
) -> npt.NDArray[np.int8]:
    """One round of a block of rows: decide each, as far as the earlier ones it has an edge with are decided.

    >>> edges = Edges(np.array([0, 2]), np.array([2, 3]), np.ones(2), np.ones(2))
    >>> settle(edges, np.array([False, False]), np.array([1, 1, 0, 0], np.int8), 2, 4).tolist()
    [-1, 1]

    Args:
        edges: all whose later row is in the block, in the order of the later rows.
        same: whether they are copies, as in :func:`look`.
        status: of all rows, as the last round left it.
        low: the first row of the block.
        high: the first one after it.

    Returns:
        int8, shape (high - low,): the status of the block.
    """
    starts = np.searchsorted(edges.right, np.arange(low, high + 1))
    mine = status[low:high].copy()
    _select_kernels.settle(starts, edges.left, same, low, status, mine)
    return mine


def stars(edges: Edges, same: npt.NDArray[np.bool_], status: Status) -> tuple[Edges, Edges]:
    """Of each dropped row the edge with its first kept neighbour, and that with its first copy that is dropped.

    >>> edges = Edges(np.array([0, 1]), np.array([1, 2]), np.array([0.9, 1.0]), np.array([0.9, 1.0]))
    >>> kept, copies = stars(edges, edges.exact == 1.0, np.array([1, -1, -1], np.int8))
    >>> kept.right.tolist(), copies.right.tolist()
    ([1], [2])

    Args:
        edges: all that some rows have with earlier ones.
        same: whether they are copies.
        status: of all rows; none is open.
    """
    edges, same = edges.take(goes := status[edges.right] == -1), same[goes]
    order = np.lexsort((edges.left, edges.right))
    edges, same = edges.take(order), same[order]
    kept = status[edges.left] == 1
    found = []
    for some in (edges.take(kept), edges.take(same & ~kept)):
        _, once = np.unique(some.right, return_index=True)
        found.append(some.take(once))
    return found[0], found[1]


def nearest(kept: Edges, copies: Edges) -> Edges:
    """Give the edge of each dropped row with its twin, from the stars of all blocks.

    A row that is a copy of a dropped one has the twin of that, if it comes before the row's own.

    >>> kept = Edges(np.array([0]), np.array([1]), np.array([0.9]), np.array([0.8]))
    >>> copies = Edges(np.array([1]), np.array([2]), np.ones(1), np.ones(1))
    >>> found = nearest(kept, copies)
    >>> found.left.tolist(), found.right.tolist(), found.exact.tolist()
    ([0, 0], [1, 2], [0.9, 0.9])

    Args:
        kept: the first of what :func:`stars` gives, of all rows.
        copies: the second.
    """
    rows = np.unique(np.concatenate([kept.right, copies.right]))
    edge = np.full(len(rows), -1, np.int64)
    twin = np.full(len(rows), np.iinfo(np.int64).max)
    own = np.searchsorted(rows, kept.right)
    edge[own], twin[own] = np.arange(len(kept)), kept.left
    later, first_of = np.searchsorted(rows, copies.right), np.searchsorted(rows, copies.left)
    while (better := twin[first_of] < twin[later]).any():  # once, but for copies of copies
        edge[later[better]], twin[later[better]] = edge[first_of[better]], twin[first_of[better]]
    return Edges(twin, rows, kept.exact[edge], kept.estimated[edge])


def without(edges: Edges, alive: npt.NDArray[np.bool_], *, copies: bool) -> Edges:
    """Take the edges among the rows that are still there.

    Where the edges of copies are given for the first of them only, the first that is left takes its place.

    >>> star = Edges(np.array([0, 1]), np.array([1, 2]), np.array([0.9, 1.0]), np.array([0.9, 1.0]))
    >>> left = without(star, np.array([True, False, True]), copies=True)  # 2 is a copy of 1, which 0 resembles
    >>> left.left.tolist(), left.right.tolist(), left.exact.tolist()
    ([0], [2], [0.9])

    Args:
        edges: the verified pairs.
        alive: of each row whether it is there.
        copies: rows of similarity 1 are copies, see :class:`dedup.match.Match`.
    """
    if not copies:
        return edges.take(alive[edges.left] & alive[edges.right])
    from dedup.cluster import components

    same = edges.exact == 1.0
    group = components(edges.left[same], edges.right[same], len(alive))
    here = np.flatnonzero(alive)
    lead = np.full(len(alive), -1, np.int64)
    lead[group[here][::-1]] = here[::-1]  # the last to be written is the first row
    ends = np.stack([lead[group[edges.left]], lead[group[edges.right]]])
    across = Edges(ends.min(axis=0), ends.max(axis=0), edges.exact, edges.estimated)
    across = across.take((across.left >= 0) & (across.left < across.right))
    _, once = np.unique(across.left * len(alive) + across.right, return_index=True)
    others = here[lead[group[here]] != here]
    ones = np.ones(len(others))
    return across.take(once).join(Edges(lead[group[others]], others, ones, ones))


def rounds(
    parts: Sequence[P],
    count: int,
    look_at: Callable[[Sequence[P], Status], Iterable[Looked]] = _here,  # type: ignore[assignment]
) -> Status:
    """Give the same selection as :func:`first`, from edges that are cut into parts in any way.

    >>> no = np.array([False])
    >>> rounds([(np.array([0]), np.array([1]), no), (np.array([1]), np.array([2]), no)], 3).tolist()
    [1, -1, 1]

    It holds two bytes for each row, and none of the edges.

    Args:
        parts: ``(left, right, same)`` of each, as :func:`look` takes them, or what ``look_at`` knows them by.
        count: rows.
        look_at: does :func:`look` (or :func:`settle`) for the parts, somewhere: gives the rows that go, and
            those that stay open. It may pass over parts that have no open row.

    Returns:
        int8, shape (count,): 1 for kept rows, -1 for dropped ones.
    """
    status = np.zeros(count, np.int8)
    while not status.all():
        held = np.zeros(count, np.bool_)
        for dropped, waiting in look_at(parts, status):
            status[dropped] = -1  # whoever looks later in this round may know it: it is true
            held[waiting] = True
        status[(status == 0) & ~held] = 1
    return status
