"""All pairs of similar sets, exactly.

**Equal sets are one.** Rows with equal sets form a group, and its *representative* is its lowest row. The
pairs are those among representatives, and a star for each group: its representative with each other row. So
a million copies of a text give a million pairs and not half a million million; what the others resemble,
the representative says.

**The method** is that of AllPairs and PPJoin (Bayardo and others 2007; Xiao and others 2008), with integer
bounds. Of two sets that share ``o`` hashes, any ``|x| - o + 1`` of the one and ``|y| - o + 1`` of the other
that come first in one order of all hashes share one. With the rarest first, few do that are not similar:

- *order*: by the number of rows that hold a hash, in 256 levels, then by value. Counters are shared by few
  hashes: that any order is right allows it. A hash that one row alone holds is never looked up;
- *size*: ``|y| >= t |x|``, for the smaller ``y`` of a pair;
- *prefix*: of ``x``, the larger, ``|x| - ceil(t |x|) + 1`` hashes are looked up; of ``y``
  ``|y| - ceil(2t / (1 + t) |y|) + 1`` are in the index;
- *position*: the first common hash must leave room for ``ceil(t / (1 + t) (|x| + |y|))`` in both sets;
- *verification*: both sets are merged, for as long as that many can still be common.

**Who goes** (:func:`twins`) takes less. Walking over the rows in order, one goes if a row that *stays* is
similar (:mod:`dedup.select`). So it is looked up among those alone: a row that goes enters no index, and is
compared with no later one. A hundred thousand similar pages are then as many comparisons with the first of
them, where their pairs are five thousand million. Rows come in keep order here and not by size; so both
prefixes have the length that either may need, ``|x| - ceil(t |x|) + 1``. Pages of one template that are *not*
similar enough share prefixes all the same. So before two sets are merged their *shadows* are compared, 1,024
bits of which each hash has turned one over (after Sandes, Teodoro and de Melo 2020, Bitmap Filter): where these
differ in more bits than similar sets differ in hashes, nothing is to be merged.

Each bound is lowered by a 10**12th before it is rounded up. Where the similarity, as a float64, reaches the
threshold, the exact one is below it by no more than a few 10**16ths: no pair is lost to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lake.errors import InputError
from lake.machine import free_memory
from lake.native import kernels

__all__ = ["Pairs", "cost", "join", "twins"]

_kernels = kernels("dedup.text._join_kernels")

_LESS = 1.0 - 1e-12
_FEW = 16  # if at most one row of so many is new, it pays to sift the old ones (benchmarks/join.py)
_SAMPLE = 16
_SHADOW = 16  # words of 64 bits: enough to tell pages of one template apart, of up to about 2,000 words
_BYTES_A_PAIR = 128  # while all are put together
_SHARE = 0.6  # of the memory that is free
_ROOM = 1 << 12  # pairs that are looked for at first
_SAMPLED = 512  # sets whose pairs are counted first, where there are a hundred times as many
_ENOUGH = 1000  # of their pairs, and
_SURELY = 4.0  # times more than fit by them: that is no chance
_MEASURED = 221.7e6  # bytes of text of benchmarks/join.py, and the seconds for them by threshold
_COST = ((0.15, 11.4), (0.3, 6.0), (0.5, 1.86), (0.6, 1.16), (0.7, 0.79), (0.8, 0.54), (0.9, 0.48), (1.0, 0.47))
_Ints = npt.NDArray[np.int64]
_Pairs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float64]]


class Pairs(NamedTuple):
    """Similar rows, sorted by ``left``, then by ``right``; each of shape (pairs,)."""

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    """Greater than ``left``."""
    similarity: npt.NDArray[np.float64]
    """One division, common by union. 1.0 if and only if the sets are equal, that is for the edges of stars."""


class _Sets(NamedTuple):
    """One set of each group, by rank: by size, then by row."""

    addresses: npt.NDArray[np.uint64]
    sizes: _Ints
    fresh: npt.NDArray[np.bool_]

    def take(self, ranks: _Ints) -> _Sets:
        """Some of them."""
        return _Sets(self.addresses[ranks], self.sizes[ranks], self.fresh[ranks])


class _Prefixes(NamedTuple):
    """The rarest hashes of each rank, from ``hashes[offsets[rank]]`` on."""

    hashes: npt.NDArray[np.uint32]
    offsets: _Ints
    singles: _Ints
    """How many of them no other row has. They are not written."""
    lengths: _Ints


class _Index(NamedTuple):
    """Which ranks hold a hash in their prefix."""

    heads: _Ints
    entries: npt.NDArray[np.uint32]
    shift: int


def join(
    addresses: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.int64],
    threshold: float,
    *,
    new: npt.NDArray[np.bool_] | None = None,
    threads: int = 1,
) -> Pairs:
    """Find every pair of sets whose Jaccard similarity reaches the threshold.

    >>> sets = np.array([1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 5], np.uint32)
    >>> starts = np.uint64(sets.ctypes.data) + np.array([0, 16, 32], np.uint64)
    >>> pairs = join(starts, np.array([4, 4, 4]), 0.6)
    >>> pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist()
    ([0, 0], [1, 2], [1.0, 0.6])

    Rows 1 and 2 are as similar, but row 0 stands for row 1: see the module.

    Args:
        addresses: where in memory each row's sorted distinct uint32 hashes start; shape (n,). The caller
            keeps them alive. The speed, not the result, supposes that the values spread over all 32 bits.
        sizes: how many they are; shape (n,). An empty set is similar to none.
        threshold: above 0, at most 1.
        new: if given, only the pairs of which a row is new; shape (n,). All sets are read a few times
            over, but only new ones are looked up. Where the new rows come last, those pairs and the pairs
            of the old rows alone make up all pairs. Otherwise they hold all pairs, and those of
            representatives that a new row has replaced.
        threads: the result does not depend on it.

    Returns:
        The pairs, sorted. Beside them, memory takes at most 25 bytes a hash (4 at a threshold of 0.8), 150
        a row, and 24 a row and thread. The sets themselves are read up to 128 times: they should fit too.

    Raises:
        ValueError: the threshold is out of range, or the arrays differ in length.
        InputError: there are more pairs than fit into the memory that is free.
    """
    sizes = _checked(addresses, sizes, threshold, new)
    fresh = np.ones(len(sizes), np.bool_) if new is None else new.astype(np.bool_, copy=False)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        workers = _Workers(pool, max(1, threads))
        first = _representatives(addresses, sizes, workers)
        rows = np.flatnonzero(first == np.arange(len(sizes)))
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        sets = _Sets(addresses[rows].astype(np.uint64, copy=False), sizes[rows], fresh[rows])
        if _FEW * np.count_nonzero(sets.fresh) < len(rows):
            near = _near(sets, float(threshold), workers)
            rows, sets = rows[near], sets.take(near)
        if sets.fresh.all():
            _foresee(sets, float(threshold), workers)
        low, high, similarity = _pairs(sets, float(threshold), workers)
    copies = _copies(first)
    copies = copies[fresh[copies] | fresh[first[copies]]]
    x, y = rows[low], rows[high]
    return _with_stars(np.minimum(x, y), np.maximum(x, y), similarity, copies, first)


def twins(
    addresses: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.int64],
    threshold: float,
    *,
    kept: int | None = None,
    threads: int = 1,
) -> Pairs:
    """Find of each row that goes the first row that stays and is similar: enough to select by, and to say why.

    >>> sets = np.array([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3, 6], np.uint32)
    >>> starts = np.uint64(sets.ctypes.data) + np.array([0, 16, 32], np.uint64)
    >>> found = twins(starts, np.array([4, 4, 4]), 0.6)
    >>> found.left.tolist(), found.right.tolist()
    ([0, 0], [1, 2])

    Rows 1 and 2 are as similar, but both go.

    Args:
        addresses: as :func:`join` takes them, in keep order.
        sizes: how many hashes they are.
        threshold: above 0, at most 1.
        kept: if given, so many of the first rows are known to stay, no two of them similar, and the others are
            compared with these alone; whether they stay for each other is left open.
        threads: the result does not depend on it. The walk itself takes one.

    Returns:
        Some of the pairs of :func:`join`: of each representative at most one, and the stars of equal sets;
        with ``kept``, also stars of rows that are left open.
        :func:`dedup.select.first` makes of them what it makes of all.

    Raises:
        ValueError: the threshold is out of range, or the arrays differ in length.
    """
    sizes = _checked(addresses, sizes, threshold)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        workers = _Workers(pool, max(1, threads))
        first = _representatives(addresses, sizes, workers)
        rows = np.flatnonzero(first == np.arange(len(sizes)))
        sets = _Sets(addresses[rows].astype(np.uint64, copy=False), sizes[rows], np.ones(len(rows), np.bool_))
        least = _up(threshold, sets.sizes)
        most = np.floor(sets.sizes / (threshold * _LESS)).astype(np.int64)
        lengths = sets.sizes - least + 1
        prefixes = _prefixes(sets, lengths, workers)
        known, last = 0, len(rows)
        if kept is not None:
            known = last = int(np.searchsorted(rows, kept))
        indexed = np.where(np.arange(len(rows)) < last, lengths, 0)
        heads, entries, shift = _room(prefixes, indexed, workers)
        shadow = _shadows(sets, workers)
    twin, similarity = np.full(len(rows), -1, np.int64), np.empty(len(rows))
    _kernels.walk(
        *(sets.addresses, sets.sizes, threshold, threshold / (1.0 + threshold) * _LESS, least, most),
        *(*prefixes, heads, entries, shift, shadow, known, last, twin, similarity),
    )
    goes = np.flatnonzero(twin >= 0)
    return _with_stars(rows[twin[goes]], rows[goes], similarity[goes], _copies(first), first)


def cost(bytes_of_text: float, threshold: float) -> float:
    """Estimate the seconds that :func:`join` takes with one thread, once the shingle sets are there.

    >>> round(cost(1e9, 0.8), 1), cost(2e9, 0.8) == 2 * cost(1e9, 0.8)
    (2.4, True)

    It is that of the Debian documentation (benchmarks/join.py), for word 5-grams, in proportion to the size:
    right where more text brings more families. Where it makes the families larger instead, the pairs, and
    at low thresholds the seconds with them, grow with the square.

    Args:
        bytes_of_text: UTF-8.
        threshold: above 0, at most 1.
    """
    thresholds, seconds = zip(*_COST, strict=True)
    return bytes_of_text / _MEASURED * float(np.exp(np.interp(threshold, thresholds, np.log(seconds))))


def _checked(
    addresses: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.int64],
    threshold: float,
    new: npt.NDArray[np.bool_] | None = None,
) -> _Ints:
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"a threshold of {threshold} is not above 0 and at most 1")
    if len(addresses) != len(sizes) or (new is not None and len(new) != len(sizes)):
        raise ValueError("addresses, sizes and new differ in length")
    return sizes.astype(np.int64, copy=False)


def _copies(first: _Ints) -> _Ints:
    """The rows with the set of an earlier one."""
    return np.flatnonzero((first >= 0) & (first != np.arange(len(first))))


def _with_stars(
    left: _Ints, right: _Ints, similarity: npt.NDArray[np.float64], copies: _Ints, first: _Ints
) -> Pairs:
    """Add the pairs of copies with their representatives, and sort."""
    left, right = np.concatenate([left, first[copies]]), np.concatenate([right, copies])
    similarity = np.concatenate([similarity, np.ones(len(copies))])
    order = np.argsort((left << 32) | right)
    return Pairs(left[order], right[order], similarity[order])


class _Workers(NamedTuple):
    """Threads. The kernels leave the interpreter lock alone."""

    pool: ThreadPoolExecutor
    number: int

    def each(self, work: Callable[[int, int], Any], stretches: list[tuple[int, int]]) -> list[Any]:
        """Do the work for each stretch from low to high."""
        return list(self.pool.map(lambda stretch: work(*stretch), stretches))


def _representatives(addresses: npt.NDArray[np.uint64], sizes: _Ints, workers: _Workers) -> _Ints:
    """Name the first row with the same set; -1 where it is empty."""
    prints = np.zeros(len(sizes), np.uint64)

    def work(low: int, high: int) -> None:
        _kernels.fingerprints(addresses, sizes, low, high, prints)

    workers.each(work, _parts(sizes, workers.number))
    rows = np.flatnonzero(sizes > 0)
    rows = rows[np.argsort(prints[rows], kind="stable")]
    first = np.full(len(sizes), -1, np.int64)
    _kernels.group(rows, prints, addresses, sizes, first)
    return first


def _near(sets: _Sets, threshold: float, workers: _Workers) -> _Ints:
    """Leave out the old sets that hold nothing of the new ones' prefixes: one look at each hash.

    Any order will do for the prefixes. That of a sample of the old sets is nearly as good as that of all.
    """
    some = np.flatnonzero(sets.fresh | (np.arange(len(sets.sizes)) % _SAMPLE == 0))
    sample = sets.take(some)
    lengths = np.where(sample.fresh, sample.sizes - _up(threshold, sample.sizes) + 1, 0)
    keys = np.sort(_prefixes(sample, lengths, workers, alone=False).hashes)
    keys = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    bits = max(1, len(keys).bit_length())
    heads = _starts(np.bincount(keys >> np.uint32(32 - bits), minlength=1 << bits))
    near = sets.fresh.copy()

    def work(low: int, high: int) -> None:
        _kernels.touch(sets.addresses, sets.sizes, low, high, keys, heads, 32 - bits, near)

    workers.each(work, _parts(sets.sizes, workers.number))
    return np.flatnonzero(near)


def _foresee(sets: _Sets, threshold: float, workers: _Workers) -> None:
    """Raise where a sample has many times the pairs that fit: to find that out among all takes minutes."""
    number = len(sets.sizes)
    if number < 100 * _SAMPLED:
        return
    some = np.sort(np.random.default_rng(0).choice(number, _SAMPLED, replace=False))
    found = len(_pairs(sets.take(some), threshold, workers)[0])
    told = found * (number / _SAMPLED) ** 2
    if found >= _ENOUGH and told > _SURELY * _most():
        raise _too_many(f"{found:,} pairs among {_SAMPLED} of {number:,} different texts, so about {told:,.0f}")


def _most() -> int:
    """Pairs that fit into memory."""
    return int(_SHARE * free_memory()) // _BYTES_A_PAIR


def _too_many(why: str) -> InputError:
    return InputError(
        "too many similar texts: all their pairs do not fit into memory",
        why=why,
        hint="a pipeline with `pairs: twins` stores one pair for each row that goes; dedup.MinHash pairs each "
        "of a crowd with the first of it only; or raise the threshold",
    )


def _pairs(sets: _Sets, threshold: float, workers: _Workers) -> tuple[_Ints, _Ints, npt.NDArray[np.float64]]:
    """Find the pairs among representatives, by rank."""
    sizes, ranks = sets.sizes, np.flatnonzero(sets.fresh)
    least = _up(threshold, sizes)  # what a partner that is no larger must hold
    looked_up = sizes - least + 1
    below = np.searchsorted(sizes, least)
    if len(ranks) == len(sizes):  # each looks for those before it: of these fewer hashes will do
        indexed, above = sizes - _up(2.0 * threshold / (1.0 + threshold), sizes) + 1, np.arange(len(sizes))
    else:
        indexed, above = looked_up, np.searchsorted(sizes, np.floor(sizes / (threshold * _LESS)), "right")
    prefixes = _prefixes(sets, looked_up, workers)
    index = _index(prefixes, indexed, ranks, workers)

    most, held, done = _most(), 0, 0

    def work(low: int, high: int) -> list[_Pairs]:
        nonlocal held, done
        found, room = [], _ROOM
        while low < high:
            pairs = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room)
            looked, count = _kernels.probe(
                ranks[low:high],
                *(sets.addresses, sizes, threshold, threshold / (1.0 + threshold) * _LESS),
                *(prefixes.hashes, prefixes.offsets, prefixes.singles, looked_up),
                *(below, above, sets.fresh, index.heads, index.entries, index.shift, *pairs),
            )
            found.append((pairs[0][:count].copy(), pairs[1][:count].copy(), pairs[2][:count].copy()))
            low, done = low + looked, done + looked
            there = held + (room if low < high else count)  # where it stopped, there was one more than room
            if there >= most:
                told = f"{there:,} pairs at {100 * done // len(ranks)} % of {len(sizes):,} different texts"
                raise _too_many(told)
            held, room = held + count, 2 * room
        return found

    found = [
        each for part in workers.each(work, _parts(looked_up[ranks], 16 * workers.number)) for each in part
    ]
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    one, other, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    return one, other, similarity


def _prefixes(sets: _Sets, lengths: _Ints, workers: _Workers, *, alone: bool = True) -> _Prefixes:
    """Take the rarest ``lengths`` hashes of each set."""
    starts = _starts(sets.sizes)
    total = int(starts[-1])
    level = np.empty(total, np.uint8)
    slices = _slices(total, len(sets.sizes), workers.number)
    # Twice as many counters as hashes: most are then not shared, and a lone hash is seen to be one.
    shift = 32 - min(31, max(4, (2 * total // slices).bit_length()))
    offsets = _starts(lengths)
    singles = np.zeros(len(lengths), np.int64)
    hashes = np.empty(int(offsets[-1]), np.uint32)

    def rank_hashes(low: int, high: int) -> None:
        _kernels.levels(sets.addresses, sets.sizes, starts, low, high, slices, shift, level)

    def choose(low: int, high: int) -> None:
        _kernels.prefixes(
            *(sets.addresses, sets.sizes, starts, level, lengths, offsets, low, high, alone, singles, hashes)
        )

    workers.each(rank_hashes, _even(slices, workers.number))
    workers.each(choose, _parts(sets.sizes, workers.number))
    return _Prefixes(hashes, offsets, singles, lengths)


def _slices(total: int, rows: int, threads: int) -> int:
    """Choose into how many slices the values are cut: a power of two, at least one for each thread.

    Four hashes of a row in each, or walking over the rows costs more than the cache gives.
    """
    wanted = max(threads, min(128, total // max(1, 4 * rows)))
    return 1 << (wanted - 1).bit_length()


def _index(prefixes: _Prefixes, lengths: _Ints, ranks: _Ints, workers: _Workers) -> _Index:
    """Index the first ``lengths`` hashes of each prefix, or of them what the prefixes of ``ranks`` hold."""
    hashes, offsets, singles, looked_up = prefixes
    slots, shift = _slots(prefixes, lengths)
    marks = np.zeros(0, np.bool_)
    if len(ranks) < len(lengths):
        marks = np.zeros(slots, np.bool_)
        _kernels.mark(hashes, offsets, singles, looked_up, ranks, shift, marks)
    index = _room(prefixes, lengths, workers, marks)

    def fill(low: int, high: int) -> None:
        _kernels.index_fill(
            hashes, offsets, singles, lengths, shift, marks, low, high, index.heads, index.entries
        )

    workers.each(fill, _even(slots, workers.number))
    return index


def _room(
    prefixes: _Prefixes, lengths: _Ints, workers: _Workers, marks: npt.NDArray[np.bool_] | None = None
) -> _Index:
    """Make an index with room for the first ``lengths`` hashes of each prefix, in marked slots or in all."""
    hashes, offsets, singles, _ = prefixes
    slots, shift = _slots(prefixes, lengths)
    some = np.zeros(0, np.bool_) if marks is None else marks
    heads = np.zeros(slots + 1, np.int64)

    def count(low: int, high: int) -> None:
        _kernels.index_count(hashes, offsets, singles, lengths, shift, some, low, high, heads)

    workers.each(count, _even(slots, workers.number))
    np.cumsum(heads, out=heads)
    return _Index(heads, np.empty((int(heads[-1]), 3), np.uint32), shift)


def _shadows(sets: _Sets, workers: _Workers) -> npt.NDArray[np.uint64]:
    """Fold the sets into a few bits, see :func:`dedup.text._join_kernels.shadows`."""
    shadow = np.zeros((len(sets.sizes), _SHADOW), np.uint64)

    def fold(low: int, high: int) -> None:
        _kernels.shadows(sets.addresses, sets.sizes, low, high, shadow)

    workers.each(fold, _parts(sets.sizes, workers.number))
    return shadow


def _slots(prefixes: _Prefixes, lengths: _Ints) -> tuple[int, int]:
    """Choose how many slots an index has, and the shift of a hash to its slot."""
    entries = int(np.maximum(lengths - prefixes.singles, 0).sum())
    bits = min(31, max(4, entries.bit_length() - 1))
    return 1 << bits, 32 - bits


def _up(share: float, sizes: _Ints) -> _Ints:
    """Round a share of the sizes up, after lowering it by more than float64 may have raised it."""
    bound: _Ints = np.ceil(share * _LESS * sizes).astype(np.int64)
    return bound


def _starts(lengths: _Ints) -> _Ints:
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def _even(count: int, parts: int) -> list[tuple[int, int]]:
    """Cut a range into ``parts`` stretches."""
    return [(count * part // parts, count * (part + 1) // parts) for part in range(parts)]


def _parts(weights: _Ints, parts: int) -> list[tuple[int, int]]:
    """Cut rows into at most ``parts`` stretches of about the same weight."""
    ends = np.cumsum(weights)
    if not len(ends):
        return []
    wanted = np.arange(1, parts + 1) * (int(ends[-1]) / parts)
    stops = np.unique(np.minimum(np.searchsorted(ends, wanted) + 1, len(ends)))
    stops[-1] = len(ends)  # whatever weighs nothing at the end
    return list(zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))
