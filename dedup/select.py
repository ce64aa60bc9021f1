"""Which rows go.

Walking in keep order, a row is dropped if and only if a *kept* row is within the threshold. That is the
lexicographically first maximal independent set of the graph of verified edges: so every dropped row has a kept
twin that really is similar, no family disappears, a chain removes nothing, and neither order nor partitioning
of the input matters. The twin is the first such row in keep order.

:func:`first` walks over all edges at once. :func:`rounds` finds the same set in parallel rounds over edges
that are cut in any way: a row is kept once all its earlier neighbours are dropped, and dropped once one of
them is kept (Blelloch, Fineman and Shun 2012: the number of rounds grows with the logarithm of the graph).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Edges", "Selection", "first", "look", "rounds", "without"]

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
    from dedup._pair_kernels import walk

    copies = np.zeros(len(edges), np.bool_) if same is None else same

    order = np.argsort(edges.right, kind="stable")
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(edges.right, minlength=count), out=starts[1:])
    twin, edge = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    walk(starts, edges.left[order], copies[order], twin, edge)
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
Look = Callable[[Sequence[Part], Status], Iterable[Looked]]


def _here(parts: Sequence[Part], status: Status) -> Iterable[Looked]:
    return (look(*part, status) for part in parts)


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


def rounds(parts: Sequence[Part], count: int, look_at: Look = _here) -> Status:
    """Give the same selection as :func:`first`, from edges that are cut into parts in any way.

    >>> no = np.array([False])
    >>> rounds([(np.array([0]), np.array([1]), no), (np.array([1]), np.array([2]), no)], 3).tolist()
    [1, -1, 1]

    Args:
        parts: ``(left, right, same)`` of each, as :func:`look` takes them.
        count: rows.
        look_at: does :func:`look` for all parts, somewhere.

    Returns:
        int8, shape (count,): 1 for kept rows, -1 for dropped ones.
    """
    status = np.zeros(count, np.int8)
    while not status.all():
        held = np.zeros(count, np.bool_)
        gone = np.zeros(count, np.bool_)
        for dropped, waiting in look_at(parts, status):
            gone[dropped] = True
            held[waiting] = True
        status[gone] = -1
        status[(status == 0) & ~held] = 1
    return status
