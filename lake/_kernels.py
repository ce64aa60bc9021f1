"""Loops that Numba compiles: hashing payloads, the table of ids, line ends. All free of the interpreter lock.

Compiled on first use and kept on disk beside this file, or in the user's cache folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lake.jit import kernel

__all__ = ["blake2b_rows", "insert", "line_ends", "most_opened"]

# BLAKE2b (RFC 7693) with a digest of 16 bytes, no key and the personalisation "gristmill1". hashlib has the
# same, one row at a time and holding the interpreter lock. The state is sixteen scalars, for LLVM's registers.

_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_PERSON = np.frombuffer(b"gristmill1".ljust(16, b"\0"), np.uint64)
_START = _IV.copy()
_START[0] ^= np.uint64(0x01010000 ^ 16)  # fan-out 1, depth 1, no key, digest of 16 bytes
_START[6:] ^= _PERSON
_BLOCK = 128
_LINE_FEED, _BRACKET, _BRACE = 10, 91, 123
_STRIDE = 256


@kernel
def _mix(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:  # noqa: PLR0917  (RFC 7693, section 3.1)
    a = a + b + x
    d ^= a
    d = (d >> np.uint64(32)) | (d << np.uint64(32))
    c += d
    b ^= c
    b = (b >> np.uint64(24)) | (b << np.uint64(40))
    a = a + b + y
    d ^= a
    d = (d >> np.uint64(16)) | (d << np.uint64(48))
    c += d
    b ^= c
    b = (b >> np.uint64(63)) | (b << np.uint64(1))
    return a, b, c, d


# fmt: off
@kernel
def _round(  # noqa: PLR0917  (sixteen words of the message, in the order of the schedule)
    v: Any, ma: Any, mb: Any, mc: Any, md: Any, me: Any, mf: Any, mg: Any, mh: Any,
    mi: Any, mj: Any, mk: Any, ml: Any, mm: Any, mn: Any, mo: Any, mp: Any,
) -> Any:
    v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15 = v
    v0, v4, v8, v12 = _mix(v0, v4, v8, v12, ma, mb)
    v1, v5, v9, v13 = _mix(v1, v5, v9, v13, mc, md)
    v2, v6, v10, v14 = _mix(v2, v6, v10, v14, me, mf)
    v3, v7, v11, v15 = _mix(v3, v7, v11, v15, mg, mh)
    v0, v5, v10, v15 = _mix(v0, v5, v10, v15, mi, mj)
    v1, v6, v11, v12 = _mix(v1, v6, v11, v12, mk, ml)
    v2, v7, v8, v13 = _mix(v2, v7, v8, v13, mm, mn)
    v3, v4, v9, v14 = _mix(v3, v4, v9, v14, mo, mp)
    return v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15


@kernel
def _compress(h: Any, m: Any, length: Any, last: Any) -> None:
    """Section 3.2. The schedule is written out: looked up in a table, it costs a third of the speed."""
    flag = np.uint64(0xFFFFFFFFFFFFFFFF) if last else np.uint64(0)
    m0, m1, m2, m3, m4, m5, m6, m7 = m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7]
    m8, m9, m10, m11, m12, m13, m14, m15 = m[8], m[9], m[10], m[11], m[12], m[13], m[14], m[15]
    v = (
        h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], _IV[0], _IV[1], _IV[2], _IV[3],
        _IV[4] ^ np.uint64(length), _IV[5], _IV[6] ^ flag, _IV[7],
    )
    v = _round(v, m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15)
    v = _round(v, m14, m10, m4, m8, m9, m15, m13, m6, m1, m12, m0, m2, m11, m7, m5, m3)
    v = _round(v, m11, m8, m12, m0, m5, m2, m15, m13, m10, m14, m3, m6, m7, m1, m9, m4)
    v = _round(v, m7, m9, m3, m1, m13, m12, m11, m14, m2, m6, m5, m10, m4, m0, m15, m8)
    v = _round(v, m9, m0, m5, m7, m2, m4, m10, m15, m14, m1, m11, m12, m6, m8, m3, m13)
    v = _round(v, m2, m12, m6, m10, m0, m11, m8, m3, m4, m13, m7, m5, m15, m14, m1, m9)
    v = _round(v, m12, m5, m1, m15, m14, m13, m4, m10, m0, m7, m6, m3, m9, m2, m8, m11)
    v = _round(v, m13, m11, m7, m14, m12, m1, m3, m9, m5, m0, m15, m4, m8, m6, m2, m10)
    v = _round(v, m6, m15, m14, m9, m11, m3, m0, m8, m12, m2, m13, m7, m1, m4, m10, m5)
    v = _round(v, m10, m2, m8, m4, m7, m6, m1, m5, m15, m11, m9, m14, m3, m12, m13, m0)
    v = _round(v, m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15)
    v = _round(v, m14, m10, m4, m8, m9, m15, m13, m6, m1, m12, m0, m2, m11, m7, m5, m3)
    for k in range(8):
        h[k] ^= v[k] ^ v[k + 8]
# fmt: on


@kernel
def blake2b_rows(tag: Any, data: Any, offsets: Any, out: Any) -> None:
    """Hash ``tag``, the length and the bytes of each row.

    Args:
        tag: uint8, one for all rows.
        data: uint8; row i is ``data[offsets[i]:offsets[i + 1]]``.
        offsets: int64, shape (n + 1,).
        out: uint64, shape (n, 2), little-endian digests.
    """
    block = np.empty(_BLOCK, np.uint8)
    words = block.view(np.uint64)
    h = np.empty(8, np.uint64)
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        size = end - begin
        h[:] = _START
        block[0] = tag
        for k in range(8):
            block[1 + k] = (size >> (8 * k)) & 255
        filled, done, at = 9, 0, begin
        while True:
            step = min(_BLOCK - filled, end - at)
            block[filled : filled + step] = data[at : at + step]
            filled += step
            at += step
            done += filled
            if at == end:
                break
            _compress(h, words, done, False)  # noqa: FBT003  (Numba kernels take no keywords here)
            filled = 0
            while end - at > _BLOCK:  # whole blocks, where they lie
                done += _BLOCK
                _compress(h, data[at : at + _BLOCK].view(np.uint64), done, False)  # noqa: FBT003
                at += _BLOCK
        block[filled:] = 0
        _compress(h, words, done, True)  # noqa: FBT003
        out[row, 0], out[row, 1] = h[0], h[1]


@kernel
def insert(slots: Any, keys: Any, new: Any) -> Any:
    """Put ids into an open-addressing table, and mark those that were not in it.

    Args:
        slots: uint64, shape (a power of two, 2); zeros are free.
        keys: uint64, shape (n, 2); the id zero is left to the caller.
        new: bool, shape (n,), set where an id came first.

    Returns:
        How many were new.
    """
    mask = np.uint64(len(slots) - 1)
    zero, one = np.uint64(0), np.uint64(1)
    added = 0
    for i in range(len(keys)):
        high, low = keys[i, 0], keys[i, 1]
        if high == zero and low == zero:
            continue
        at = low & mask
        while True:
            if slots[at, 0] == high and slots[at, 1] == low:
                break
            if slots[at, 0] == zero and slots[at, 1] == zero:
                slots[at, 0] = high
                slots[at, 1] = low
                new[i] = True
                added += 1
                break
            at = (at + one) & mask
    return added


@kernel
def line_ends(data: Any) -> Any:
    """Where the line feeds of a uint8 array are: int64, ascending."""
    count = np.int64(0)
    for k in range(len(data)):
        count += np.int64(data[k] == _LINE_FEED)
    found = np.empty(count, np.int64)
    number = 0
    for begin in range(0, len(data), _STRIDE):
        end = min(begin + _STRIDE, len(data))
        here = np.int64(0)  # most strides hold none, and this loop is the one that vectorises
        for k in range(begin, end):
            here += np.int64(data[k] == _LINE_FEED)
        k = begin
        while here:
            if data[k] == _LINE_FEED:
                found[number] = k
                number += 1
                here -= 1
            k += 1
    return found


@kernel
def most_opened(data: Any, ends: Any, enough: Any) -> Any:
    """The most ``[`` and ``{`` in one line, which bounds how deeply it can be nested.

    If all lines together have no more than ``enough`` of them, their number is the answer.
    """
    total = np.int64(0)
    for k in range(len(data)):
        total += np.int64((data[k] == _BRACKET) | (data[k] == _BRACE))
    if total <= enough:
        return total
    most, begin = np.int64(0), np.int64(0)
    for index in range(len(ends) + 1):
        end = np.int64(len(data))
        if index < len(ends):
            end = ends[index]
        opened = np.int64(0)
        for k in range(begin, end):
            opened += np.int64((data[k] == _BRACKET) | (data[k] == _BRACE))
        most = max(most, opened)
        begin = end
    return most
