"""The compiled loops of the exact join by postings. The method stands in :mod:`dedup.text.postings`."""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from lake.jit import kernel, values_at

__all__ = ["choose", "pair", "tally"]

_SPREAD = np.uint32(0x9E3779B1)  # odd, 2**32 / golden ratio: multiplying by it moves entropy to the top bits
_FULL = np.uint16(0xFFFF)

_hashes_at = values_at(types.uint32, 4)


@kernel
def tally(addresses: Any, sizes: Any, shift: Any, counts: Any) -> None:
    """Count in how many sets each hash is; a counter that is full stays so."""
    for row in range(sizes.size):
        own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
        for k in range(own.size):
            slot = np.int64(np.uint32(own[k] * _SPREAD) >> np.uint32(shift))
            if counts[slot] != _FULL:
                counts[slot] += np.uint16(1)


@kernel
def choose(
    addresses: Any, sizes: Any, lengths: Any, shift: Any, counts: Any, tokens: Any, rows: Any, places: Any
) -> Any:
    """Write the rarest ``lengths[row]`` hashes of each set that another set may have; gives how many.

    With each its row, and its place among the hashes of the row by their count and then by value.
    """
    held = 0
    for row in range(sizes.size):
        own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
        ranked = np.empty(own.size, np.uint64)
        for k in range(own.size):
            slot = np.int64(np.uint32(own[k] * _SPREAD) >> np.uint32(shift))
            ranked[k] = np.uint64(counts[slot]) << np.uint64(32) | np.uint64(own[k])
        ranked.sort()
        for k in range(lengths[row]):
            if ranked[k] >> np.uint64(32) > np.uint64(1):  # else it is in no other
                tokens[held] = np.uint32(ranked[k] & np.uint64(0xFFFFFFFF))
                rows[held] = row
                places[held] = k
                held += 1
    return held


@kernel
def pair(
    start: Any,
    tokens: Any,
    rows: Any,
    sizes: Any,
    places: Any,
    least: Any,
    indexed: Any,
    ratio: Any,
    left: Any,
    right: Any,
) -> Any:
    """Write the pairs of postings that may be similar, from posting ``start`` on, for as long as there is room.

    Postings are in the order of ``tokens`` and then of ``sizes``. ``least`` is the size that a smaller partner
    has at least, ``indexed`` the length of the prefix in which it has the hash. Gives the posting to go on
    with, and how many pairs there are.
    """
    count = 0
    for j in range(start, tokens.size):
        before = count
        i = j - 1
        while i >= 0 and tokens[i] == tokens[j] and sizes[i] >= least[j]:
            # Were this the first hash that the two share, so many could be common; if another was, it speaks.
            room = min(sizes[i] - places[i], sizes[j] - places[j])
            if places[i] < indexed[i] and room >= np.int64(np.ceil(ratio * (sizes[i] + sizes[j]))):
                if count == left.size:
                    return j, before
                left[count], right[count] = min(rows[i], rows[j]), max(rows[i], rows[j])
                count += 1
            i -= 1
    return tokens.size, count
