"""Loops that Numba compiles: hashing payloads, the table of ids, line ends. All free of the interpreter lock.

Compiled on first use and kept on disk beside this file, or in the user's cache folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

__all__ = ["blake2b_rows", "insert", "line_ends"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _kernel(function: _F) -> _F:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: _F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder at all that it may write
        compiled = numba.njit(**options)(function)
    return compiled


# BLAKE2b (RFC 7693) with a digest of 16 bytes, no key and the personalisation "gristmill1". The compression
# is written with sixteen scalars, which LLVM keeps in registers; the message words come by the schedule.

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
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.int64,
)
_BLOCK = 128
_LINE_FEED = 10
_STRIDE = 256


@numba.njit(inline="always")
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


@_kernel
def _compress(h: Any, m: Any, length: Any, last: Any) -> None:
    v0, v1, v2, v3, v4, v5, v6, v7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    v8, v9, v10, v11 = _IV[0], _IV[1], _IV[2], _IV[3]
    v12, v13, v14, v15 = _IV[4] ^ np.uint64(length), _IV[5], _IV[6], _IV[7]
    if last:
        v14 = ~v14
    for turn in range(12):
        s = _SIGMA[turn]
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, m[s[0]], m[s[1]])
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, m[s[2]], m[s[3]])
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, m[s[4]], m[s[5]])
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, m[s[6]], m[s[7]])
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, m[s[8]], m[s[9]])
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, m[s[10]], m[s[11]])
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, m[s[12]], m[s[13]])
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, m[s[14]], m[s[15]])
    h[0] ^= v0 ^ v8
    h[1] ^= v1 ^ v9
    h[2] ^= v2 ^ v10
    h[3] ^= v3 ^ v11
    h[4] ^= v4 ^ v12
    h[5] ^= v5 ^ v13
    h[6] ^= v6 ^ v14
    h[7] ^= v7 ^ v15


@_kernel
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
        block[filled:] = 0
        _compress(h, words, done, True)  # noqa: FBT003
        out[row, 0], out[row, 1] = h[0], h[1]


@_kernel
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


@_kernel
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
