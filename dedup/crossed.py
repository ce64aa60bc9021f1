"""Pairs across two sides: a training row with a test row, never two of one side.

A bucket is paired across the sides; the pairs inside one of them, which may be most of all, are not made. In a
large bucket each row still gets partners, so that every row that has a twin on the other side, as far as the
keys tell, is compared with one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup.cluster import components
from dedup.match import Match
from dedup.pairs import MOST, Keys
from dedup.select import Edges
from dedup.sketch import Corpus
from lake.machine import cores

__all__ = ["cross_edges", "crossed"]

_Ints = npt.NDArray[np.int64]
_Keys = npt.NDArray[np.integer]


def cross_edges(match: Match, corpus: Corpus, test: npt.NDArray[np.bool_]) -> tuple[_Ints, _Ints, Edges]:
    """Find and verify the pairs of a training row and a test row.

    A match may have its own way, ``cross(corpus, test, threads)``. Otherwise its keys are paired here; where it
    has none, its candidates with a test row are taken. If even these are its own affair, it is asked for all
    edges; of equal rows they may name one only, so what is said of it is spread to the others.

    Args:
        match: what is similar.
        corpus: the rows of both sides.
        test: of each row whether it is a test row; shape (n,).

    Returns:
        The training row and the test row of each pair, and the edges.
    """
    threads = cores()
    own = getattr(match, "cross", None)
    if own is not None:
        edges: Edges = own(corpus, test, threads)
    elif match.key_count:
        edges = match.verify(corpus, *narrow(*crossed(corpus.keys, match.key_count, test)), threads)
    elif type(match).edges is Match.edges:
        edges = match.verify(corpus, *narrow(*_asked(match, corpus, test, threads)), threads)
    else:
        edges = spread(match.edges(corpus, None, threads), test)
    first = test[edges.left]
    return np.where(first, edges.right, edges.left), np.where(first, edges.left, edges.right), edges


def _asked(match: Match, corpus: Corpus, test: npt.NDArray[np.bool_], threads: int) -> tuple[_Ints, _Ints]:
    """Give the candidates of a match that are a training row and a test row, each pair once.

    Of very many equal rows a match looks at the first only: so it is asked once more, training rows first.
    """
    left, right, largest = match.candidates(corpus, test, threads)
    if largest > MOST:
        order = np.argsort(test, kind="stable")
        x, y, _ = match.candidates(Corpus.of(corpus.pieces, corpus.order[order]), test[order], threads)
        left, right = np.concatenate([left, order[x]]), np.concatenate([right, order[y]])
    apart = test[left] != test[right]
    low, high = np.minimum(left, right)[apart], np.maximum(left, right)[apart]
    found = np.divmod(np.unique(low.astype(np.int64) * len(test) + high), max(len(test), 1))
    return found[0], found[1]


def narrow(train: _Ints, test: _Ints) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Pairs as :meth:`dedup.match.Match.verify` takes them: the earlier row first.

    >>> [each.tolist() for each in narrow(np.array([3, 1]), np.array([2, 5]))]
    [[2, 1], [3, 5]]
    """
    return np.minimum(train, test).astype(np.int32), np.maximum(train, test).astype(np.int32)


def crossed(keys: Keys, bands: int, test: npt.NDArray[np.bool_], most: int = MOST) -> tuple[_Ints, _Ints]:
    """Give the pairs of a training row and a test row that share a bucket, each once.

    In a bucket with more test rows than ``most``, each training row is paired with the first ``most`` of
    them, and each test row with the first ``most`` training rows: so no row is left without a partner, and
    the number of pairs grows with the bucket and not with its square.

    >>> bucket = np.array([7, 7, 7, 9], np.uint64)
    >>> found = crossed(lambda band: (bucket, np.arange(4)), 1, np.array([True, False, False, True]))
    >>> found[0].tolist(), found[1].tolist()
    ([1, 2], [0, 0])

    Args:
        keys: gives a band's keys and their rows, see :func:`dedup.pairs.banded`.
        bands: how many there are.
        test: of each row whether it is a test row; shape (n,).
        most: see above.

    Returns:
        The training rows and the test rows of the pairs, in order.
    """
    count = len(test)
    codes = np.empty(0, np.int64)
    for band in range(bands):
        key, rows = keys(band)
        side = test[rows]
        goal, asked = _ordered(key[side], rows[side]), (key[~side], rows[~side])
        first, sizes = _bucket(goal[0], asked[0])
        met = sizes > 0
        mine, theirs = _paired(asked[1][met], first[met], np.minimum(sizes[met], most), goal[1])
        found = [mine * count + theirs]
        if (sizes > most).any():
            source = _ordered(asked[0][sizes > most], asked[1][sizes > most])
            first, sizes = _bucket(source[0], goal[0])
            theirs, mine = _paired(goal[1], first, np.minimum(sizes, most), source[1])
            found.append(mine * count + theirs)
        codes = np.unique(np.concatenate([codes, *found]))
    train, tested = np.divmod(codes, max(count, 1))
    return train, tested


def _ordered(key: _Keys, rows: _Ints) -> tuple[_Keys, _Ints]:
    order = np.lexsort((rows, key))
    return key[order], rows[order]


def _bucket(goal: _Keys, key: _Keys) -> tuple[_Ints, _Ints]:
    """Where in sorted keys those that equal each of ``key`` begin, and how many they are."""
    first = np.searchsorted(goal, key)
    return first, np.searchsorted(goal, key, side="right") - first


def _paired(rows: _Ints, first: _Ints, sizes: _Ints, others: _Ints) -> tuple[_Ints, _Ints]:
    """Each row with ``sizes`` of the others, from its ``first`` on."""
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(rows, sizes), others[np.repeat(first, sizes) + within]


def spread(edges: Edges, test: npt.NDArray[np.bool_]) -> Edges:
    """Give the pairs across the sides, from edges that name one of several equal rows only.

    Rows that edges of similarity 1 connect are a group. Where two groups are similar, or one has rows of both
    sides, each training row is paired with the first test row, and each test row with the first training row.

    >>> edges = Edges(np.array([0, 0]), np.array([1, 2]), np.array([1.0, 0.9]), np.array([1.0, 0.9]))
    >>> found = spread(edges, np.array([False, False, True]))
    >>> found.left.tolist(), found.right.tolist()
    ([0, 1], [2, 2])
    """
    count = len(test)
    equal = edges.exact == 1.0
    group = components(edges.left[equal], edges.right[equal], count)
    every = np.arange(count)
    # Both ways round, and each group with itself.
    x = np.concatenate([group[edges.left], group[edges.right], np.unique(group)])
    y = np.concatenate([group[edges.right], group[edges.left], np.unique(group)])
    more = len(x) - 2 * len(edges)
    exact, estimated = (
        np.concatenate([values, values, np.ones(more)]) for values in (edges.exact, edges.estimated)
    )
    _, once = np.unique(x * count + y, return_index=True)
    x, y, exact, estimated = x[once], y[once], exact[once], estimated[once]
    pairs, of = [], []
    for mine, theirs in ((~test, test), (test, ~test)):
        members = _ordered(group[mine], every[mine])
        head = np.full(count, -1, np.int64)
        np.maximum.at(head, group[theirs], count - every[theirs])  # the first has the greatest
        start, sizes = _bucket(members[0], x)
        sizes[head[y] < 0] = 0
        row, edge = _paired(np.arange(len(x)), start, sizes, members[1])[::-1]
        other = count - head[y][edge]
        pairs.append(np.where(test[row], other, row) * count + np.where(test[row], row, other))
        of.append(edge)
    codes, first = np.unique(np.concatenate(pairs), return_index=True)
    left, right = narrow(*np.divmod(codes, max(count, 1)))
    edge = np.concatenate(of)[first]
    return Edges(left.astype(np.int64), right.astype(np.int64), exact[edge], estimated[edge])
