"""The compiled loops of the exact join.

The method and its filters stand in :mod:`dedup.text.join`. What a kernel calls lives in the same file: see
:mod:`lake.jit`. Rows are named by their *rank* here, their place in ascending order of size.
"""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from dedup.text._instructions import BLOCK, matches
from lake.jit import kernel, values_at

__all__ = [
    "fingerprints",
    "group",
    "index_count",
    "index_fill",
    "levels",
    "mark",
    "prefixes",
    "probe",
    "shadows",
    "touch",
    "walk",
]

LEVELS = 256
"""Levels of frequency; level 0 is a hash that surely no other row has."""

_SPREAD = np.uint32(0x9E3779B1)  # odd, 2**32 / golden ratio: multiplying by it moves entropy to the top bits
_FEW = 128  # up to this many rows each number is a level of its own
_LONG = 16  # a shorter list is read faster than it is searched


_hashes_at = values_at(types.uint32, 4)


@kernel
def _slot(token: Any, shift: Any) -> Any:
    """Give the slot of a hash in a table of 2**(32 - shift) slots."""
    return np.int64(np.uint32(np.uint32(token) * _SPREAD) >> np.uint32(shift))


# ---------------------------------------------------------------- equal sets


@kernel
def fingerprints(addresses: Any, sizes: Any, low: Any, high: Any, out: Any) -> None:
    """Sum a mix of the hashes of each set of rows ``low`` to ``high - 1``: equal sets have equal sums."""
    for row in range(low, high):
        own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
        total = np.uint64(0)
        for k in range(own.size):
            h = np.uint64(own[k]) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(32)
            h *= np.uint64(0xFF51AFD7ED558CCD)
            total += h ^ (h >> np.uint64(29))
        out[row] = total


@kernel
def _same(x: Any, y: Any) -> Any:
    """Tell whether two sets are equal."""
    if x.size != y.size:
        return False
    for k in range(x.size):  # noqa: SIM110  (numba compiles no generator)
        if x[k] != y[k]:
            return False
    return True


@kernel
def group(order: Any, prints: Any, addresses: Any, sizes: Any, first: Any) -> None:
    """Name for each row the first one with an equal set.

    ``order`` sorts the rows by print and then by number. Different sets of one print are kept apart: the
    first rows of the sets that a stretch of equal prints holds are remembered and compared one by one.
    """
    heads = np.empty(order.size, np.int64)
    held = np.int64(0)
    for k in range(order.size):
        row = order[k]
        if k and prints[row] != prints[order[k - 1]]:
            held = np.int64(0)
        own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
        first[row] = row
        for h in range(held):
            head = heads[h]
            if _same(own, _hashes_at(np.uint64(addresses[head]), np.int64(sizes[head]))):
                first[row] = head
                break
        if first[row] == row:
            heads[held] = row
            held += 1


# ---------------------------------------------------------------- how rare a hash is


@kernel
def _level(count: Any) -> Any:
    """Order counts in 256 steps: exact up to 128, then in four steps to each doubling."""
    if count <= _FEW:
        return np.uint8(count - 1)
    power = np.int64(0)
    while (count >> power) >= 8:  # noqa: PLR2004  (leaves 4 to 7: the first three bits)
        power += 1
    return np.uint8(_FEW + (power - 5) * 4 + ((count >> power) - 4))


@kernel
def levels(
    addresses: Any, sizes: Any, starts: Any, first: Any, last: Any, slices: Any, shift: Any, out: Any
) -> None:
    """Find how common each hash is whose value lies in the slices ``first`` to ``last - 1`` of ``slices``.

    One slice of the values at a time: its counters stay in the cache, and the sets being sorted, each has
    its hashes of a slice in one piece. A counter may serve several hashes.
    """
    rows = sizes.size
    cursor = np.zeros(rows, np.int64)
    before = np.zeros(rows, np.int64)
    counts = np.zeros(1 << (32 - shift), np.uint32)
    width = (np.int64(1) << np.int64(32)) // slices
    if first:
        for row in range(rows):
            own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
            cursor[row] = np.searchsorted(own, np.uint32(first * width))
    for part in range(first, last):
        end = np.int64(part + 1) * width
        counts[:] = np.uint32(0)
        for row in range(rows):
            own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
            k = cursor[row]
            before[row] = k
            while k < own.size and np.int64(own[k]) < end:
                counts[_slot(own[k], shift)] += np.uint32(1)
                k += 1
            cursor[row] = k
        for row in range(rows):
            own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
            for k in range(before[row], cursor[row]):
                out[starts[row] + k] = _level(np.int64(counts[_slot(own[k], shift)]))


# ---------------------------------------------------------------- prefixes


@kernel
def prefixes(
    addresses: Any,
    sizes: Any,
    starts: Any,
    level: Any,
    lengths: Any,
    offsets: Any,
    low: Any,
    high: Any,
    alone: Any,
    singles: Any,
    out: Any,
) -> None:
    """Give the rarest ``lengths[rank]`` hashes of each set, by level and then by value.

    Where ``alone``, those of level 0 are known to be in no other row: the first ``singles[rank]``, which
    count but are not written.
    """
    place = np.empty(LEVELS, np.int64)
    for rank in range(low, high):
        own = _hashes_at(np.uint64(addresses[rank]), np.int64(sizes[rank]))
        start, length, offset = starts[rank], lengths[rank], offsets[rank]
        place[:] = 0
        for k in range(own.size):
            place[level[start + k]] += 1
        single = min(place[0], length) if alone else np.int64(0)
        singles[rank] = single
        total = np.int64(0)
        for k in range(LEVELS):
            total, place[k] = total + place[k], total
        for k in range(own.size):
            step = level[start + k]
            at = place[step]
            place[step] = at + 1
            if single <= at < length:
                out[offset + at] = own[k]


@kernel
def touch(addresses: Any, sizes: Any, low: Any, high: Any, keys: Any, heads: Any, shift: Any, out: Any) -> None:
    """Set ``out`` of each rank whose set holds one of the sorted keys.

    The keys whose top bits are ``slot`` stand from ``heads[slot]`` to ``heads[slot + 1] - 1``.
    """
    for rank in range(low, high):
        if out[rank]:
            continue
        own = _hashes_at(np.uint64(addresses[rank]), np.int64(sizes[rank]))
        for k in range(own.size):
            slot = np.int64(own[k] >> np.uint32(shift))
            for e in range(heads[slot], heads[slot + 1]):
                if keys[e] == own[k]:
                    out[rank] = True
            if out[rank]:
                break


@kernel
def mark(prefix: Any, offsets: Any, singles: Any, lengths: Any, ranks: Any, shift: Any, marks: Any) -> None:
    """Mark the slots of the prefixes of some ranks."""
    for rank in ranks:
        for k in range(singles[rank], lengths[rank]):
            marks[_slot(prefix[offsets[rank] + k], shift)] = True


@kernel
def index_count(
    prefix: Any,
    offsets: Any,
    singles: Any,
    lengths: Any,
    shift: Any,
    marks: Any,
    low: Any,
    high: Any,
    heads: Any,
) -> None:
    """Count in ``heads[slot + 1]`` the entries of the slots ``low`` to ``high - 1``."""
    for rank in range(lengths.size):
        for k in range(singles[rank], lengths[rank]):
            slot = _slot(prefix[offsets[rank] + k], shift)
            if low <= slot < high and (marks.size == 0 or marks[slot]):
                heads[slot + 1] += 1


@kernel
def index_fill(
    prefix: Any,
    offsets: Any,
    singles: Any,
    lengths: Any,
    shift: Any,
    marks: Any,
    low: Any,
    high: Any,
    heads: Any,
    entries: Any,
) -> None:
    """Write the entries (hash, rank, place in the prefix) slot by slot, each slot by ascending rank."""
    place = heads[low:high].copy()
    for rank in range(lengths.size):
        for k in range(singles[rank], lengths[rank]):
            token = prefix[offsets[rank] + k]
            slot = _slot(token, shift)
            if low <= slot < high and (marks.size == 0 or marks[slot]):
                at = place[slot - low]
                place[slot - low] = at + 1
                entries[at, 0] = token
                entries[at, 1] = np.uint32(rank)
                entries[at, 2] = np.uint32(k)


# ---------------------------------------------------------------- pairs


@kernel
def _common(x: Any, y: Any, need: Any) -> Any:
    """Count the common hashes of two sorted sets, or give -1 once they cannot be ``need`` any more."""
    nx, ny = x.size, y.size
    i, j, common = np.int64(0), np.int64(0), np.int64(0)
    at_x, at_y = np.uint64(x.ctypes.data), np.uint64(y.ctypes.data)
    while i + BLOCK <= nx and j + BLOCK <= ny:  # the block that ends lower has met all that could equal it
        if common + min(nx - i, ny - j) < need:
            return np.int64(-1)
        common += np.int64(matches(at_x + np.uint64(4 * i), at_y + np.uint64(4 * j)))
        u, v = x[i + BLOCK - 1], y[j + BLOCK - 1]
        i += BLOCK * np.int64(u <= v)
        j += BLOCK * np.int64(v <= u)
    while i < nx and j < ny:
        if common + min(nx - i, ny - j) < need:
            return np.int64(-1)
        u, v = x[i], y[j]
        common += np.int64(u == v)
        i += np.int64(u <= v)
        j += np.int64(v <= u)
    return common


@kernel
def _first_from(entries: Any, low: Any, high: Any, rank: Any) -> Any:
    """Find the first entry of a slot whose rank is at least ``rank``."""
    while low < high:
        middle = (low + high) >> 1
        if np.int64(entries[middle, 1]) < rank:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _candidates(
    rank: Any,
    sizes: Any,
    ratio: Any,
    prefix: Any,
    singles: Any,
    length: Any,
    bounds: Any,
    fresh: Any,
    heads: Any,
    entries: Any,
    shift: Any,
    seen: Any,
    found: Any,
) -> Any:
    """Collect the ranks that share a hash of the prefix; ``seen`` is -1 where the first comes too late.

    A pair of fresh ranks is left to the greater one.
    """
    low, high = bounds
    count = 0
    for i in range(singles, length):
        token = prefix[i]
        slot = _slot(token, shift)
        start, stop = heads[slot], heads[slot + 1]
        if stop - start > _LONG:
            start = _first_from(entries, start, stop, low)
        for e in range(start, stop):
            other = np.int64(entries[e, 1])
            if other >= high:
                break
            if other < low or entries[e, 0] != token or seen[other] != 0 or (other >= rank and fresh[other]):
                continue
            need = np.int64(np.ceil(ratio * (sizes[rank] + sizes[other])))
            # Both prefixes being in one order, this is the first hash that the two sets share at all.
            room = min(sizes[rank] - i, sizes[other] - np.int64(entries[e, 2]))
            seen[other] = np.int8(1 if room >= need else -1)
            found[count] = other
            count += 1
    return count


@kernel
def probe(
    ranks: Any,
    addresses: Any,
    sizes: Any,
    threshold: Any,
    ratio: Any,
    prefix: Any,
    offsets: Any,
    singles: Any,
    lengths: Any,
    below: Any,
    above: Any,
    fresh: Any,
    heads: Any,
    entries: Any,
    shift: Any,
    one: Any,
    two: Any,
    similarity: Any,
) -> Any:
    """Find the pairs of some ranks with the indexed ones from ``below[rank]`` to ``above[rank] - 1``.

    Gives how many ranks have been looked up, and their pairs; it stops before one whose pairs find no room.
    """
    seen = np.zeros(sizes.size, np.int8)
    found = np.empty(sizes.size, np.int32)
    pairs = 0
    for place in range(ranks.size):
        rank, before = ranks[place], pairs
        size = sizes[rank]
        own = _hashes_at(np.uint64(addresses[rank]), np.int64(size))
        held = prefix[offsets[rank] :]
        single, length, bounds = singles[rank], lengths[rank], (below[rank], above[rank])
        count = _candidates(
            rank, sizes, ratio, held, single, length, bounds, fresh, heads, entries, shift, seen, found
        )
        for k in range(count):
            other = np.int64(found[k])
            late = seen[other] < 0
            seen[other] = np.int8(0)
            if late:
                continue
            need = np.int64(np.ceil(ratio * (size + sizes[other])))
            common = _common(own, _hashes_at(np.uint64(addresses[other]), np.int64(sizes[other])), need)
            if common < 0:
                continue
            value = common / (size + sizes[other] - common)
            if value < threshold:
                continue
            if pairs == one.size:
                return place, before
            one[pairs], two[pairs], similarity[pairs] = rank, other, value
            pairs += 1
    return ranks.size, pairs


# ---------------------------------------------------------------- who goes


@kernel
def shadows(addresses: Any, sizes: Any, low: Any, high: Any, out: Any) -> None:
    """Fold each set into bits: each hash turns one over; ``out``: (rows, words), zero.

    Of what two sets share the same bits are turned in both: so their shadows differ in no more bits than the
    sets have hashes that the other one has not.
    """
    words = np.uint32(out.shape[1])
    for row in range(low, high):
        own = _hashes_at(np.uint64(addresses[row]), np.int64(sizes[row]))
        for k in range(own.size):
            mixed = np.uint32(own[k] * _SPREAD)
            word = np.int64((np.uint64(mixed >> np.uint32(6)) * np.uint64(words)) >> np.uint64(26))
            out[row, word] ^= np.uint64(1) << np.uint64(mixed & np.uint32(63))


@kernel
def _ones(value: Any) -> Any:
    """Count bits; the compiler makes one instruction of it."""
    value -= (value >> np.uint64(1)) & np.uint64(0x5555555555555555)
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _apart(x: Any, y: Any) -> Any:
    """In how many bits two shadows differ."""
    total = np.int64(0)
    for k in range(x.size):
        total += _ones(x[k] ^ y[k])
    return total


@kernel
def _kept_candidates(
    size: Any,
    sizes: Any,
    least: Any,
    most: Any,
    ratio: Any,
    prefix: Any,
    singles: Any,
    length: Any,
    heads: Any,
    ends: Any,
    entries: Any,
    shift: Any,
    seen: Any,
    found: Any,
) -> Any:
    """Collect the indexed ranks, of ``least`` to ``most`` hashes, that share one of the prefix early enough."""
    count, touched = 0, 0
    for i in range(singles, length):
        token = prefix[i]
        slot = _slot(token, shift)
        for e in range(heads[slot], ends[slot]):
            other = np.int64(entries[e, 1])
            if entries[e, 0] != token or seen[other]:
                continue
            seen[other] = True
            touched += 1
            found[found.size - touched] = other  # all that were seen, from the end
            theirs = sizes[other]
            if theirs < least or theirs > most:
                continue
            need = np.int64(np.ceil(ratio * (size + theirs)))
            if min(size - i, theirs - np.int64(entries[e, 2])) >= need:
                found[count] = other
                count += 1
    for k in range(touched):
        seen[found[found.size - 1 - k]] = False
    return count


@kernel
def _sort(values: Any, first: Any, last: Any) -> None:
    """Sort ``values[first:last]`` in place (Shell's way; NumPy's own needs a list, and so Numba's runtime)."""
    gap = 1
    while gap < (last - first) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(first + gap, last):
            value, j = values[i], i
            while j >= first + gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value
        gap //= 3


@kernel
def _look_up(
    rank: Any,
    addresses: Any,
    sizes: Any,
    threshold: Any,
    ratio: Any,
    least: Any,
    most: Any,
    held: Any,
    singles: Any,
    length: Any,
    heads: Any,
    ends: Any,
    entries: Any,
    shift: Any,
    shadow: Any,
    seen: Any,
    found: Any,
    twin: Any,
    similarity: Any,
) -> None:
    """Write down the first indexed rank that is similar to this one, if there is any."""
    size = sizes[rank]
    own = _hashes_at(np.uint64(addresses[rank]), np.int64(size))
    count = _kept_candidates(
        size, sizes, least, most, ratio, held, singles, length, heads, ends, entries, shift, seen, found
    )
    _sort(found, 0, count)
    for k in range(count):
        other = np.int64(found[k])
        need = np.int64(np.ceil(ratio * (size + sizes[other])))
        if _apart(shadow[rank], shadow[other]) > size + sizes[other] - 2 * need:
            continue
        theirs = _hashes_at(np.uint64(addresses[other]), np.int64(sizes[other]))
        common = _common(own, theirs, need)
        if common >= 0 and common / (size + theirs.size - common) >= threshold:
            twin[rank], similarity[rank] = other, common / (size + theirs.size - common)
            return


@kernel
def walk(
    addresses: Any,
    sizes: Any,
    threshold: Any,
    ratio: Any,
    least: Any,
    most: Any,
    prefix: Any,
    offsets: Any,
    singles: Any,
    lengths: Any,
    heads: Any,
    entries: Any,
    shift: Any,
    shadow: Any,
    first: Any,
    last: Any,
    twin: Any,
    similarity: Any,
) -> None:
    """Find for each rank, in order, the first kept one that is similar; a rank without one is kept and indexed.

    Ranks below ``first`` are kept without a look; those from ``last`` on are looked up, and never indexed.
    ``twin`` begins as -1. ``entries`` has room from ``heads[slot]`` on for all prefixes below ``last``.
    """
    ends = heads[:-1].copy()
    seen = np.zeros(sizes.size, np.bool_)
    found = np.empty(2 * sizes.size, np.int32)
    for rank in range(sizes.size):
        held = prefix[offsets[rank] :]
        if rank >= first:
            _look_up(
                rank,
                addresses,
                sizes,
                threshold,
                ratio,
                least[rank],
                most[rank],
                held,
                singles[rank],
                lengths[rank],
                heads,
                ends,
                entries,
                shift,
                shadow,
                seen,
                found,
                twin,
                similarity,
            )
        if rank >= last or twin[rank] >= 0:
            continue
        for k in range(singles[rank], lengths[rank]):
            slot = _slot(held[k], shift)
            at = ends[slot]
            ends[slot] = at + 1
            entries[at, 0], entries[at, 1], entries[at, 2] = held[k], np.uint32(rank), np.uint32(k)
