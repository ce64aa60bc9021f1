"""Loops that Numba compiles: hashing payloads, the table of ids, line ends. All free of the interpreter lock.

Compiled on first use and kept on disk beside this file, or in the user's cache folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lake.jit import kernel

__all__ = ["blake2b_rows", "insert", "line_ends", "most_opened"]

# BLAKE2b (RFC 7693) with a digest of 16 bytes, no key and the personalisation "gristmill1". hashlib has the
# same, one row at a time and holding the interpreter lock. Here eight rows go through together, one in each
# lane of a vector. The vector code is LLVM's, written out, and runs on any processor: one with narrower
# registers takes a vector in parts. Addresses are of arrays that the caller holds.

_IV = (
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
)  # fmt: skip
_PERSON = np.frombuffer(b"gristmill1".ljust(16, b"\0"), np.uint64)
_START = np.array(_IV, np.uint64)
_START[0] ^= np.uint64(0x01010000 ^ 16)  # fan-out 1, depth 1, no key, digest of 16 bytes
_START[6:] ^= _PERSON
_SCHEDULE = tuple(  # a word of the message is a hexadecimal digit
    tuple(int(word, 16) for word in order)
    for order in (
        "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
        "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
    )
)  # fmt: skip
_ROUNDS = 12  # the schedule begins again after ten
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
_LANES = 8
_BLOCK = 128
_HEADER = 9  # the tag, and the length in eight bytes
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_LINE_FEED, _BRACKET, _BRACE = 10, 91, 123
_STRIDE = 256

_I64 = ir.IntType(64)
_VECTOR = ir.VectorType(_I64, _LANES)


def _place(builder: Any, address: Any, number: int) -> Any:
    """Point to the vector that lies ``number`` vectors behind an address."""
    here = builder.add(address, ir.Constant(_I64, 8 * _LANES * number))
    return builder.inttoptr(here, _VECTOR.as_pointer())


def _same(value: int) -> Any:
    return ir.Constant(_VECTOR, [value] * _LANES)


def _turn(builder: Any, x: Any, bits: int) -> Any:
    """Rotate to the right."""
    return builder.or_(builder.lshr(x, _same(bits)), builder.shl(x, _same(64 - bits)))


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Swap lanes and words of eight vectors, in three rounds of pairs."""
    for apart in (1, 2, 4):
        low = [k if not k & apart else _LANES + k - apart for k in range(_LANES)]
        high = [k + apart if not k & apart else _LANES + k for k in range(_LANES)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), _LANES), each) for each in (low, high)]
        pairs = [(k, k + apart) for k in range(_LANES) if not k & apart]
        swapped = {}
        for x, y in pairs:
            swapped[x] = builder.shuffle_vector(rows[x], rows[y], masks[0])
            swapped[y] = builder.shuffle_vector(rows[x], rows[y], masks[1])
        rows = [swapped[k] for k in range(_LANES)]
    return rows


def _compress_lanes(builder: Any, blocks: Any, state: Any, count: Any, last: Any) -> None:
    """Section 3.2, for eight blocks at once, each of another row."""
    words: list[Any] = []
    addresses = [
        builder.load(builder.inttoptr(builder.add(blocks, ir.Constant(_I64, 8 * lane)), _I64.as_pointer()))
        for lane in range(_LANES)
    ]
    for half in range(2):
        words += _transposed(
            builder, [builder.load(_place(builder, each, half), align=1) for each in addresses]
        )
    h = [builder.load(_place(builder, state, k), align=8) for k in range(8)]
    v = [*h, *(_same(each) for each in _IV)]
    v[12] = builder.xor(v[12], builder.load(_place(builder, count, 0), align=8))
    v[14] = builder.xor(v[14], builder.load(_place(builder, last, 0), align=8))
    for number in range(_ROUNDS):
        order = _SCHEDULE[number % len(_SCHEDULE)]
        for step, (a, b, c, d) in enumerate((*_COLUMNS, *_DIAGONALS)):
            for word, turn_d, turn_b in ((order[2 * step], 32, 24), (order[2 * step + 1], 16, 63)):
                v[a] = builder.add(builder.add(v[a], v[b]), words[word])
                v[d] = _turn(builder, builder.xor(v[d], v[a]), turn_d)
                v[c] = builder.add(v[c], v[d])
                v[b] = _turn(builder, builder.xor(v[b], v[c]), turn_b)
    for k in range(8):
        builder.store(builder.xor(h[k], builder.xor(v[k], v[k + 8])), _place(builder, state, k), align=8)


def _typed(_context: Any, _blocks: Any, _state: Any, _count: Any, _last: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _compress_lanes(builder, *arguments)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 4), generate


_compress: Any = intrinsic(_typed)


@kernel
def blake2b_rows(tag: Any, data: Any, offsets: Any, out: Any) -> None:  # noqa: C901  (one loop over lanes)
    """Hash ``tag``, the length and the bytes of each row.

    Args:
        tag: uint8, one for all rows.
        data: uint8; row i is ``data[offsets[i]:offsets[i + 1]]``.
        offsets: int64, shape (n + 1,).
        out: uint64, shape (n, 2), little-endian digests.
    """
    count = len(offsets) - 1
    state = np.zeros((8, _LANES), np.uint64)
    blocks, hashed, last = np.empty(_LANES, np.uint64), np.zeros(_LANES, np.uint64), np.zeros(_LANES, np.uint64)
    row, at = np.full(_LANES, -1, np.int64), np.zeros(_LANES, np.int64)
    own = np.zeros((_LANES, _BLOCK), np.uint8)  # first and last blocks; a lane without a row hashes its own
    for lane in range(_LANES):
        blocks[lane] = np.uint64(own.ctypes.data) + np.uint64(_BLOCK * lane)
    taken, done = 0, 0
    while done < count:
        for lane in range(_LANES):
            mine = own[lane]
            if row[lane] >= 0:
                rest = offsets[row[lane] + 1] - at[lane]
                if rest > _BLOCK:  # where it lies
                    blocks[lane] = np.uint64(data.ctypes.data) + np.uint64(at[lane])
                    at[lane] += _BLOCK
                    hashed[lane] += np.uint64(_BLOCK)
                    continue
                filled = 0
            elif taken < count:
                row[lane] = taken
                at[lane] = offsets[taken]
                state[:, lane] = _START
                hashed[lane] = 0
                size = offsets[taken + 1] - offsets[taken]
                mine[0] = tag
                for k in range(8):
                    mine[1 + k] = (size >> (8 * k)) & 255
                taken += 1
                rest, filled = size + _HEADER, _HEADER
            else:
                continue
            blocks[lane] = np.uint64(own.ctypes.data) + np.uint64(_BLOCK * lane)
            size = min(_BLOCK, rest) - filled
            mine[filled : filled + size] = data[at[lane] : at[lane] + size]
            mine[filled + size :] = 0
            at[lane] += size
            hashed[lane] += np.uint64(filled + size)
            if rest <= _BLOCK:
                last[lane] = _ALL
        _compress(
            np.uint64(blocks.ctypes.data),
            np.uint64(state.ctypes.data),
            np.uint64(hashed.ctypes.data),
            np.uint64(last.ctypes.data),
        )
        for lane in range(_LANES):
            if last[lane]:
                out[row[lane], 0], out[row[lane], 1] = state[0, lane], state[1, lane]
                row[lane] = -1
                last[lane] = 0
                done += 1


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
def line_ends(data: Any, found: Any) -> None:
    """Write where the line feeds of a uint8 array are, ascending, into ``found`` (int64, one for each)."""
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
