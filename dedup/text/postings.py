"""The exact join of :mod:`dedup.text.join`, cut so that no process needs to hold all sets.

Its bounds are the same: two similar sets share one of the few hashes that come first in one order of all
hashes, the rarest first. So these few, the *prefix* of a set, are keys, and rows with an equal key candidates:

- *equal sets are one*: rows are brought together by a fingerprint, and named by the first of them;
- *order*: hashes are counted, in a table of counters that several may share, and the prefixes are chosen by it;
- *postings*: a hash of a prefix, its row, the size of the set and the place of the hash in the prefix. Those of
  one hash come together wherever they are from, and are paired as far as sizes and places allow it.

What comes out are candidates: each pair that is similar is among them, and verification leaves no other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.shuffle import carry, distinct
from dedup.text.join import _LESS, _up
from lake.native import kernels

__all__ = ["POSTINGS", "counters", "equals", "joined", "paired", "postings", "prints", "tallied"]

_join_kernels = kernels("dedup.text._join_kernels")
_kernels = kernels("dedup.text._postings_kernels")

POSTINGS = pa.schema([("token", pa.uint32()), ("row", pa.int32()), ("size", pa.int32()), ("place", pa.int32())])
"""A hash of the prefix of a row's set."""

_MOST_BITS = 26  # of the table of counters: 128 MiB
_FULL = np.uint16(0xFFFF)
_ROOM = 1 << 22  # pairs that are held before those that come twice are left out
_Places = npt.NDArray[np.uint64]
_Ints = npt.NDArray[np.int64]
_Rows = npt.NDArray[np.int32]
_Counts = npt.NDArray[np.uint16]


def prints(places: _Places, sizes: _Ints) -> npt.NDArray[np.uint64]:
    """A fingerprint of each set: equal sets have equal ones. ``places`` and ``sizes`` as in the join."""
    out = np.zeros(len(sizes), np.uint64)
    _join_kernels.fingerprints(places, sizes, 0, len(sizes), out)
    return out


def equals(places: _Places, sizes: _Ints) -> _Ints:
    """Name for each row the first one with an equal set; -1 where it is empty."""
    found = np.full(len(sizes), -1, np.int64)
    own = prints(places, sizes)
    rows = np.flatnonzero(sizes > 0)
    _join_kernels.group(rows[np.argsort(own[rows], kind="stable")], own, places, sizes, found)
    return found


def counters(hashes: int) -> _Counts:
    """A table of counters for so many hashes: a power of two."""
    return np.zeros(1 << min(_MOST_BITS, max(10, (2 * hashes).bit_length())), np.uint16)


def tallied(places: _Places, sizes: _Ints, counts: _Counts) -> None:
    """Count the hashes of some sets, each of which is there once."""
    _kernels.tally(places, sizes, _shift(counts), counts)


def joined(counts: _Counts, more: _Counts) -> None:
    """Add the counts of other sets."""
    counts += np.minimum(more, _FULL - counts)


def postings(places: _Places, sizes: _Ints, rows: _Ints, counts: _Counts, threshold: float) -> pa.RecordBatch:
    """Give the prefixes of some sets, without the hashes that no other set has.

    Args:
        places: where in memory the sorted distinct hashes of each set start.
        sizes: how many they are.
        rows: the numbers of the rows.
        counts: of the hashes of all sets, each once.
        threshold: above 0, at most 1.

    Returns:
        Of schema :data:`POSTINGS`.
    """
    lengths = np.where(sizes > 0, sizes - _up(threshold, sizes) + 1, 0)
    most = int(lengths.sum())
    tokens, of, at = np.empty(most, np.uint32), np.empty(most, np.int32), np.empty(most, np.int32)
    held = _kernels.choose(places, sizes, lengths, _shift(counts), counts, tokens, of, at)
    tokens, of, at = tokens[:held], of[:held], at[:held]
    columns = [tokens, rows[of].astype(np.int32), sizes[of].astype(np.int32), at]
    return pa.record_batch(columns, schema=POSTINGS)


def paired(batches: Sequence[pa.RecordBatch], threshold: float) -> tuple[_Rows, _Rows]:
    """Pair the rows of postings that have a hash in common and may be similar; each pair once, in order.

    Args:
        batches: of schema :data:`POSTINGS`; of a hash that is there all postings are.
        threshold: that of the prefixes.
    """
    token, row, size, place = (
        np.concatenate([np.empty(0, kind), *(batch.column(name).to_numpy() for batch in batches)])
        for name, kind in zip(POSTINGS.names, (np.uint32, np.int32, np.int32, np.int32), strict=True)
    )
    order = np.lexsort((row, size, token))
    token, row, size, place = token[order], row[order], size[order], place[order]
    sizes = size.astype(np.int64)
    least = _up(threshold, sizes)
    indexed = sizes - _up(2.0 * threshold / (1.0 + threshold), sizes) + 1
    ratio = threshold / (1.0 + threshold) * _LESS
    found, start, room = [np.empty(0, np.int64)], 0, _ROOM
    while start < len(token):
        left, right = np.empty(room, np.int32), np.empty(room, np.int32)
        after, count = _kernels.pair(start, token, row, sizes, place, least, indexed, ratio, left, right)
        if after == start:
            room *= 2  # one posting alone has more partners
        carry(found, left[:count].astype(np.int64) << 32 | right[:count])
        start = after
    once = distinct(np.concatenate(found))
    return (once >> 32).astype(np.int32), (once & 0xFFFFFFFF).astype(np.int32)


def _shift(counts: _Counts) -> int:
    return 33 - len(counts).bit_length()
