"""The compiled loops from text to shingles, signatures and band keys.

The definition of tokens, shingles and hashes stands in :mod:`dedup.shingle`, the arithmetic of the
permutations in :mod:`dedup.minhash`. What a kernel calls lives in the same file: see :mod:`lake.jit`.
"""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments
# ruff: noqa: C901, PLR0912, PLR0915  one pass over the bytes is one loop: calls within it would cost its speed
# ruff: noqa: PLR1714, SIM109  numba compiles `==` of integers; a set or a tuple it would build each time
# ruff: noqa: PLR2004  the bounds of UTF-8 are the format

from __future__ import annotations

from typing import Any

import numpy as np

from lake.jit import kernel

__all__ = ["band_keys", "sign_batch", "sketch_batch"]

_BLOCK = 512  # hashes that are permuted together: they stay in the first-level cache
_WIDE = 48  # from this many hashes on, one permutation at a time is quicker (benchmarks/minhash.py)
_OFFSET = np.uint64(0xCBF29CE484222325)  # FNV-1a, 64 bit
_PRIME = np.uint64(0x100000001B3)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial over a shingle's tokens: odd, 2**64 / golden ratio
_NOT_ASCII = np.uint8(255)
_SEPARATOR, _WORD, _ALONE, _EXTEND, _IGNORED = 0, 1, 2, 3, 4
_BAD = 0xFFFD  # what a byte stands for that is not UTF-8: a separator


# ---------------------------------------------------------------- hashes


@kernel
def _mix64(h: Any) -> Any:
    """Finish a hash as MurmurHash3's 64-bit finaliser does."""
    h = np.uint64(h)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@kernel
def _mix32(h: Any) -> Any:
    """Finish a hash as MurmurHash3's 32-bit finaliser does."""
    h = np.uint32(h)
    h = np.uint32(h ^ (h >> np.uint32(16)))
    h = np.uint32(h * np.uint32(0x85EBCA6B))
    h = np.uint32(h ^ (h >> np.uint32(13)))
    h = np.uint32(h * np.uint32(0xC2B2AE35))
    return np.uint32(h ^ (h >> np.uint32(16)))


@kernel
def _decode(data: Any, i: Any, end: Any) -> Any:
    """Read the code point at ``i`` and its length; one byte that is not UTF-8 gives U+FFFD, length 1."""
    first = np.int32(data[i])
    size = 1
    low = 0x80
    point = np.int32(_BAD)
    if first < 0xC2 or first > 0xF4:
        return point, 1
    if first < 0xE0:
        size, point, low = 2, np.int32(first & 0x1F), 0x80
    elif first < 0xF0:
        size, point, low = 3, np.int32(first & 0x0F), 0x800
    else:
        size, point, low = 4, np.int32(first & 0x07), 0x10000
    if i + size > end:
        return np.int32(_BAD), 1
    for k in range(1, size):
        byte = np.int32(data[i + k])
        if byte & 0xC0 != 0x80:
            return np.int32(_BAD), 1
        point = np.int32((point << 6) | (byte & 0x3F))
    if point < low or point > 0x10FFFF:
        return np.int32(_BAD), 1
    return point, size


# ---------------------------------------------------------------- signatures


@kernel
def _sign(hashes: Any, count: Any, mixed: Any, a: Any, b: Any, signature: Any) -> None:
    """Lower the signature by ``count`` shingle hashes: min of (a * mix(h) + b) mod 2**32."""
    perms = a.size
    for start in range(0, count, _BLOCK):
        m = min(_BLOCK, count - start)
        for j in range(m):
            mixed[j] = _mix32(hashes[start + j])
        if m >= _WIDE:
            for k in range(perms):
                least, ak, bk = signature[k], a[k], b[k]
                for j in range(m):
                    least = min(least, np.uint32(ak * mixed[j] + bk))
                signature[k] = least
        else:
            for j in range(m):
                h = mixed[j]
                for k in range(perms):
                    signature[k] = min(signature[k], np.uint32(a[k] * h + b[k]))


# ---------------------------------------------------------------- shingles


@kernel
def _words(data: Any, i: Any, end: Any, tables: Any, ring: Any, sink: Any) -> Any:
    """Hash the word n-grams of one document into ``sink``; give back how many are left in its buffer."""
    ascii_class, class_of, fold_of = tables
    buffer, mixed, a, b, signature = sink
    n = ring.size
    drop = np.uint64(1)  # _BASE ** n: the weight of the token that leaves the window
    for _ in range(n):
        drop *= _BASE
    window = np.uint64(0)
    h = _OFFSET
    tokens = 0
    slot = 0
    held = 0
    kind_open: Any = 0
    more = True
    while more:
        kind, point, size = np.int64(0), np.int32(0), 1
        if i < end:
            folded = ascii_class[data[i]]
            if folded == _NOT_ASCII:
                point, size = _decode(data, i, end)
                kind = np.int64(class_of[point])
                if kind == _WORD and point < fold_of.size:
                    point = fold_of[point]
            elif folded != 0:
                kind, point = np.int64(_WORD), np.int32(folded)
        else:
            more = False
        if kind_open != 0 and (kind == _SEPARATOR or kind == _ALONE or (kind == _WORD and kind_open == _ALONE)):
            token = _mix64(h)
            window = window * _BASE + token
            if tokens >= n:
                window -= ring[slot] * drop
            ring[slot] = token
            slot = slot + 1 if slot + 1 < n else 0
            tokens += 1
            kind_open = 0
            if tokens >= n:
                buffer[held] = np.uint32(_mix64(window) >> np.uint64(32))
                held += 1
                if held == buffer.size:
                    _sign(buffer, held, mixed, a, b, signature)
                    held = 0
        i += size
        if kind == _WORD or kind == _ALONE:
            if kind_open == 0:
                h = _OFFSET
                kind_open = kind
            h = (h ^ np.uint64(point)) * _PRIME
            if kind == _WORD:  # the rest of an ASCII word, in the tightest loop
                while i < end:
                    folded = ascii_class[data[i]]
                    if folded == 0 or folded == _NOT_ASCII:
                        break
                    h = (h ^ np.uint64(folded)) * _PRIME
                    i += 1
        elif kind == _EXTEND and kind_open != 0:
            h = (h ^ np.uint64(point)) * _PRIME
    if 0 < tokens < n:
        buffer[0] = np.uint32(_mix64(window) >> np.uint64(32))
        held = 1
    return held


@kernel
def _characters(data: Any, i: Any, end: Any, tables: Any, ring: Any, sink: Any) -> Any:
    """Hash the character n-grams of one document: as :func:`_words`, with every character a token."""
    ascii_class, class_of, fold_of = tables
    buffer, mixed, a, b, signature = sink
    n = ring.size
    drop = np.uint64(1)
    for _ in range(n):
        drop *= _BASE
    window = np.uint64(0)
    tokens = 0
    slot = 0
    held = 0
    gap = False  # separators stood since the last character
    joins = False  # a mark belongs to the character before it
    while i < end:
        folded = ascii_class[data[i]]
        point, size = np.int32(folded), 1
        kind = np.int64(_WORD if folded != 0 else _SEPARATOR)
        if folded == _NOT_ASCII:
            point, size = _decode(data, i, end)
            kind = np.int64(class_of[point])
            if kind == _WORD and point < fold_of.size:
                point = fold_of[point]
        i += size
        if kind == _SEPARATOR:
            gap = tokens > 0
            joins = False
            continue
        if kind == _IGNORED or (kind == _EXTEND and not joins):
            continue
        joins = True
        for turn in range(2):
            if turn == 0 and not gap:
                continue
            token = _mix64((_OFFSET ^ np.uint64(32 if turn == 0 else point)) * _PRIME)
            gap = False
            window = window * _BASE + token
            if tokens >= n:
                window -= ring[slot] * drop
            ring[slot] = token
            slot = slot + 1 if slot + 1 < n else 0
            tokens += 1
            if tokens >= n:
                buffer[held] = np.uint32(_mix64(window) >> np.uint64(32))
                held += 1
                if held == buffer.size:
                    _sign(buffer, held, mixed, a, b, signature)
                    held = 0
    if 0 < tokens < n:
        buffer[0] = np.uint32(_mix64(window) >> np.uint64(32))
        held = 1
    return held


@kernel
def sign_batch(data: Any, offsets: Any, valid: Any, tables: Any, shape: Any, a: Any, b: Any, out: Any) -> None:
    """Text to signatures in one pass: ``shape`` is (n of the n-gram, 1 for characters)."""
    n, characters = shape
    ring = np.empty(n, np.uint64)
    buffer = np.empty(_BLOCK, np.uint32)
    mixed = np.empty(_BLOCK, np.uint32)
    for row in range(out.shape[0]):
        signature = out[row]
        signature[:] = np.uint32(0xFFFFFFFF)
        if valid[row]:
            sink = (buffer, mixed, a, b, signature)
            low, high = np.int64(offsets[row]), np.int64(offsets[row + 1])
            if characters:
                held = _characters(data, low, high, tables, ring, sink)
            else:
                held = _words(data, low, high, tables, ring, sink)
            _sign(buffer, held, mixed, a, b, signature)


@kernel
def _sort_unique(values: Any, spare: Any) -> Any:
    """Sort in place, least significant byte first, and move the distinct values to the front."""
    m = values.size
    if m < 64:
        for i in range(1, m):
            v = values[i]
            j = i - 1
            while j >= 0 and values[j] > v:
                values[j + 1] = values[j]
                j -= 1
            values[j + 1] = v
    else:
        counts = np.zeros((4, 256), np.int64)
        for i in range(m):
            v = values[i]
            for digit in range(4):
                counts[digit, (v >> np.uint32(8 * digit)) & np.uint32(255)] += 1
        source, target = values, spare[:m]
        for digit in range(4):
            place = 0
            for k in range(256):
                place, counts[digit, k] = place + counts[digit, k], place
            for i in range(m):
                v = source[i]
                k = (v >> np.uint32(8 * digit)) & np.uint32(255)
                target[counts[digit, k]] = v
                counts[digit, k] += 1
            source, target = target, source
    kept = min(m, 1)
    for i in range(1, m):
        if values[i] != values[i - 1]:
            values[kept] = values[i]
            kept += 1
    return kept


@kernel
def sketch_batch(
    data: Any,
    offsets: Any,
    valid: Any,
    tables: Any,
    shape: Any,
    a: Any,
    b: Any,
    out: Any,
    shingles: Any,
    ends: Any,
) -> None:
    """Text to sorted distinct shingle hashes, and from them to signatures (none where ``a`` is empty).

    ``shingles`` must have room for every token; ``ends[row + 1]`` tells where a row's stop.
    """
    n, characters = shape
    ring = np.empty(n, np.uint64)
    mixed = np.empty(_BLOCK, np.uint32)
    spare = np.empty(0, np.uint32)
    stop = 0
    for row in range(valid.size):
        signature = out[row]
        signature[:] = np.uint32(0xFFFFFFFF)
        if valid[row]:
            buffer = shingles[stop:]
            low, high = np.int64(offsets[row]), np.int64(offsets[row + 1])
            sink = (buffer, mixed, a, b, signature)
            if characters:
                held = _characters(data, low, high, tables, ring, sink)
            else:
                held = _words(data, low, high, tables, ring, sink)
            if spare.size < held:
                spare = np.empty(2 * held, np.uint32)
            held = _sort_unique(buffer[:held], spare)
            _sign(buffer, held, mixed, a, b, signature)
            stop += held
        ends[row + 1] = stop


# ---------------------------------------------------------------- bands


@kernel
def band_keys(signatures: Any, first: Any, rows: Any, out: Any) -> None:
    """One 64-bit key of the ``rows`` signature values from ``first`` on, for every signature."""
    for i in range(signatures.shape[0]):
        h = np.uint64(first) * _BASE
        for k in range(rows):
            h = _mix64(h ^ np.uint64(signatures[i, first + k])) + _BASE
        out[i] = h
