"""The compiled loops from text to shingles, signatures and band keys.

The definition of tokens, shingles and hashes stands in :mod:`dedup.text.shingle`, the arithmetic of the
permutations in :mod:`dedup.text.signatures`. What a kernel calls lives in the same file: see :mod:`lake.jit`.

A document goes through in chunks that stay in the first-level cache, each in four short loops:

1. *fold*: copy it, letters folded, so that each token is a run of bytes between zeros. ASCII goes 64 bytes
   at a time through vector instructions; the rest code point by code point.
2. *edges*: the places where runs of non-zero bytes start and stop, from one bit a byte.
3. *hash*: the tokens, and the polynomial that rolls over them.
4. *lower*: the signature, 32 permutations at a time, in registers.

The vector code is LLVM's, written out: see :mod:`dedup.text._instructions`. Addresses are of arrays that the
caller holds.
"""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments
# ruff: noqa: C901, PLR0912, PLR0915  one pass over the bytes is one loop: calls within it would cost its speed
# ruff: noqa: PLR2004  the bounds of UTF-8 are the format

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from dedup.text._instructions import instruction, pointer, same
from lake.jit import kernel

__all__ = ["band_keys", "characters", "sign_batch", "sketch_batch", "sort_batch"]

_CHUNK = 2048  # bytes of text; with all that is made of them 40 KB (benchmarks/minhash.py)
_SCRATCH = 2 * _CHUNK + 512  # folding makes 3 bytes of 2 at most, a block overshoots by 63, a token waits in 17
_TOKENS = _SCRATCH // 2
_APART = 1 << 14  # hashes: of more, too many share their upper 16 bits
_LANES = 32  # permutations that are lowered together: two 512-bit or four 256-bit registers
_BASE = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial over a shingle's tokens: odd, 2**64 / golden ratio
_KEY_LOW = np.uint64(0xFFD6E8FEB86659FD)  # with a byte 0xFF, so that no token can make it zero
_KEY_HIGH = np.uint64(0xFFCA2BE5AB7E9D65)
_FINISH = np.uint64(0xD6E8FEB86659FD93)
_SEPARATOR, _WORD, _ALONE, _EXTEND, _IGNORED = 0, 1, 2, 3, 4
_UNKNOWN = -1
_BAD = 0xFFFD  # what a byte stands for that is not UTF-8: a separator

# The first and the second eight bytes of a token of 0 to 16: what of a word that was read is its own.
_LOW = np.array([(1 << 8 * min(size, 8)) - 1 for size in range(17)], np.uint64)
_HIGH = np.array([(1 << 8 * max(size - 8, 0)) - 1 for size in range(17)], np.uint64)


def _token_hash(word: int) -> int:
    """Hash a token of one byte, as the definition says."""
    product = (word ^ int(_KEY_LOW)) * int(_KEY_HIGH)
    return (product >> 64) ^ (product & 0xFFFFFFFFFFFFFFFF)


# Of each byte of ASCII as a character: its hash, folded, a separator's being that of the space.
_ASCII_SEPARATES = np.array([not chr(byte).isalnum() for byte in range(128)], np.int64)
_ASCII_TOKENS = np.array(
    [_token_hash(ord(chr(byte).lower()) if chr(byte).isalnum() else 32) for byte in range(128)], np.uint64
)


# ---------------------------------------------------------------- instructions

_I8, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (8, 32, 64, 128))
_BYTES = ir.VectorType(_I8, 64)
_WORDS = ir.VectorType(_I32, _LANES)


def _fold_ascii(builder: Any, source: Any, target: Any) -> Any:
    """Copy 64 bytes, letters folded, zero for what separates; give the bits of those that are not ASCII."""
    text = builder.load(pointer(builder, source, _BYTES), align=1)
    upper = builder.icmp_unsigned("<", builder.sub(text, same(_BYTES, 65)), same(_BYTES, 26))
    text_low = builder.select(upper, builder.or_(text, same(_BYTES, 32)), text)
    letter = builder.icmp_unsigned("<", builder.sub(text_low, same(_BYTES, 97)), same(_BYTES, 26))
    digit = builder.icmp_unsigned("<", builder.sub(text, same(_BYTES, 48)), same(_BYTES, 10))
    folded = builder.select(builder.or_(letter, digit), text_low, same(_BYTES, 0))
    builder.store(folded, pointer(builder, target, _BYTES), align=1)
    return builder.bitcast(builder.icmp_signed("<", text, same(_BYTES, 0)), _I64)


def _mark_nonzero(builder: Any, source: Any) -> Any:
    text = builder.load(pointer(builder, source, _BYTES), align=1)
    return builder.bitcast(builder.icmp_unsigned("!=", text, same(_BYTES, 0)), _I64)


def _multiply(builder: Any, x: Any, y: Any) -> Any:
    """Give the upper half of the 128-bit product xor the lower."""
    product = builder.mul(builder.zext(x, _I128), builder.zext(y, _I128))
    upper = builder.trunc(builder.lshr(product, ir.Constant(_I128, 64)), _I64)
    return builder.xor(upper, builder.trunc(product, _I64))


def _lower_lanes(builder: Any, hashes: Any, count: Any, a: Any, b: Any, signature: Any) -> None:
    """Lower _LANES values of a signature by ``count`` hashes, at least one: min of a * h + b."""
    place = pointer(builder, signature, _WORDS)
    first, factor, shift = (
        builder.load(each, align=4)
        for each in (place, pointer(builder, a, _WORDS), pointer(builder, b, _WORDS))
    )
    start = builder.block
    loop, done = builder.append_basic_block("hashes"), builder.append_basic_block("lowered")
    builder.branch(loop)
    builder.position_at_end(loop)
    index, least = builder.phi(_I64), builder.phi(_WORDS)
    index.add_incoming(ir.Constant(_I64, 0), start)
    least.add_incoming(first, start)
    here = builder.add(hashes, builder.shl(index, ir.Constant(_I64, 2)))
    one = builder.load(pointer(builder, here, _I32), align=4)
    lane = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), one, ir.Constant(_I32, 0))
    zero = ir.Constant(ir.VectorType(_I32, _LANES), [0] * _LANES)
    every = builder.shuffle_vector(lane, ir.Constant(_WORDS, ir.Undefined), zero)
    value = builder.add(builder.mul(factor, every), shift)
    lower = builder.select(builder.icmp_unsigned("<", value, least), value, least)
    following = builder.add(index, ir.Constant(_I64, 1))
    index.add_incoming(following, loop)
    least.add_incoming(lower, loop)
    builder.cbranch(builder.icmp_unsigned("<", following, count), loop, done)
    builder.position_at_end(done)
    builder.store(lower, place, align=4)


def _load(what: Any) -> Callable[..., Any]:
    def generate(builder: Any, address: Any) -> Any:
        found = builder.load(pointer(builder, address, what), align=1)
        return builder.zext(found, _I64) if what is not _I64 else found

    return generate


def _store(what: Any) -> Callable[..., Any]:
    def generate(builder: Any, address: Any, value: Any) -> None:
        value = builder.trunc(value, what) if what is not _I64 else value
        builder.store(value, pointer(builder, address, what), align=1)

    return generate


def _count_following(builder: Any, source: Any) -> Any:
    """Count the bytes of 64 that begin no character: 10xxxxxx."""
    text = builder.load(pointer(builder, source, _BYTES), align=1)
    return builder.ctpop(builder.bitcast(builder.icmp_signed("<", text, same(_BYTES, -64)), _I64))


_following = instruction(types.uint64, 1, _count_following)
_fold_block = instruction(types.uint64, 2, _fold_ascii)
_nonzero = instruction(types.uint64, 1, _mark_nonzero)
_mix128 = instruction(types.uint64, 2, _multiply)
_lower = instruction(types.void, 5, _lower_lanes)
_first_bit = instruction(types.uint64, 1, lambda builder, x: builder.cttz(x, ir.Constant(ir.IntType(1), 0)))
_bits = instruction(types.uint64, 1, lambda builder, x: builder.ctpop(x))
_load8, _load64 = (instruction(types.uint64, 1, _load(what)) for what in (_I8, _I64))
_store8, _store32, _store64 = (instruction(types.void, 2, _store(what)) for what in (_I8, _I32, _I64))
_clear64 = instruction(
    types.void, 1, lambda builder, at: builder.store(same(_BYTES, 0), pointer(builder, at, _BYTES), align=1)
)


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
def _decode(text: Any, end: Any) -> Any:
    """Read the code point at an address and its length; one byte that is not UTF-8 gives U+FFFD, length 1."""
    first = np.int64(_load8(text))
    room = np.int64(end) - np.int64(text)
    if 0xE0 <= first < 0xF0:
        if room >= 3:
            second = np.int64(_load8(text + np.uint64(1)))
            third = np.int64(_load8(text + np.uint64(2)))
            point = ((first & 15) << 12) | ((second & 63) << 6) | (third & 63)
            if second & 0xC0 == 0x80 and third & 0xC0 == 0x80 and point >= 0x800:
                return point, np.int64(3)
    elif 0xC2 <= first < 0xE0:
        if room >= 2:
            second = np.int64(_load8(text + np.uint64(1)))
            if second & 0xC0 == 0x80:
                return ((first & 31) << 6) | (second & 63), np.int64(2)
    elif 0xF0 <= first < 0xF5 and room >= 4:
        second = np.int64(_load8(text + np.uint64(1)))
        third = np.int64(_load8(text + np.uint64(2)))
        fourth = np.int64(_load8(text + np.uint64(3)))
        point = ((first & 7) << 18) | ((second & 63) << 12) | ((third & 63) << 6) | (fourth & 63)
        follow = second & 0xC0 == 0x80 and third & 0xC0 == 0x80 and fourth & 0xC0 == 0x80
        if follow and 0x10000 <= point <= 0x10FFFF:
            return point, np.int64(4)
    return np.int64(_BAD), np.int64(1)


@kernel
def _encode(point: Any) -> Any:
    """Give the UTF-8 of a code point as a little-endian word, and its length."""
    last = 0x80 | (point & 63)
    if point < 0x80:
        return point, np.int64(1)
    if point < 0x800:
        return (0xC0 | (point >> 6)) | (last << 8), np.int64(2)
    middle = 0x80 | ((point >> 6) & 63)
    if point < 0x10000:
        return (0xE0 | (point >> 12)) | (middle << 8) | (last << 16), np.int64(3)
    upper = 0x80 | ((point >> 12) & 63)
    return (0xF0 | (point >> 18)) | (upper << 8) | (middle << 16) | (last << 24), np.int64(4)


@kernel
def characters(data: Any, offsets: Any, out: Any) -> None:
    """Write how many characters each text has."""
    text = np.uint64(data.ctypes.data)
    for row in range(out.size):
        i, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        count = end - i
        while i + 64 <= end:
            count -= np.int64(_following(text + np.uint64(i)))
            i += 64
        for k in range(i, end):
            count -= np.int64(data[k] & 0xC0 == 0x80)
        out[row] = count


# ---------------------------------------------------------------- fold


@kernel
def _fold(text: Any, i: Any, span: Any, tables: Any, scratch: Any, o: Any, kind_open: Any) -> Any:
    """Copy text from ``i`` on to ``scratch``: tokens folded, zeros between them.

    Args:
        text: the address of the buffer.
        i: where to read.
        span: (where to stop, about; the document's end; the last place of which 64 bytes may be read).
        tables: of :func:`dedup.text.shingle.tables`.
        scratch: its address; 64 bytes for a copy of the end of the buffer lie before it.
        o: where to write in scratch.
        kind_open: the class of the token before, where a mark that comes now would touch it.

    Returns:
        The new ``i``, ``o`` and ``kind_open``.
    """
    stop, end, last = span
    class_of, fold_of = tables
    kind: Any = kind_open
    while i < stop:
        source = text + np.uint64(i)
        if i > last:
            for k in range(end - i):
                _store8(scratch - np.uint64(64 - k), _load8(source + np.uint64(k)))
            source = scratch - np.uint64(64)
        other = _fold_block(source, scratch + np.uint64(o))
        if end - i < 64:
            other &= (np.uint64(1) << np.uint64(end - i)) - np.uint64(1)
        if other == 0:
            run = min(np.int64(64), end - i)
            i += run
            o += run
            kind = _UNKNOWN
            continue
        run = np.int64(_first_bit(other))
        if run > 0:
            i += run
            o += run
            kind = _UNKNOWN
        if kind == _UNKNOWN:
            kind = _WORD if _load8(scratch + np.uint64(o - 1)) != 0 else _SEPARATOR
        while True:
            if kind != _WORD:  # the common ideographs, which need no table
                fast = min(stop, end - 2, last + 1)
                while i < fast:
                    three = _load64(text + np.uint64(i)) & np.uint64(0xFFFFFF)
                    point = np.int64(((three & 15) << 12) | ((three >> 2) & 0xFC0) | ((three >> 16) & 63))
                    if three & 0xC0C0F0 != 0x8080E0 or point < 0x4E00 or point >= 0xA000:
                        break
                    _store64(scratch + np.uint64(o), three)  # and the zero behind it
                    i += 3
                    o += 4
                    kind = _ALONE
                if i >= stop or _load8(text + np.uint64(i)) < 128:
                    break
            point, size = _decode(text + np.uint64(i), text + np.uint64(end))
            i += size
            found = _ALONE if 0x4E00 <= point < 0xA000 else np.int64(class_of[point])
            if found == _ALONE:
                if kind == _WORD:
                    _store8(scratch + np.uint64(o), np.uint64(0))
                    o += 1
                word, size = _encode(point)
                _store64(scratch + np.uint64(o), np.uint64(word))  # and the zero behind it
                o += size + 1
                kind = _ALONE
            elif found == _WORD:
                word, size = _encode(np.int64(fold_of[point]) if point < fold_of.size else point)
                _store32(scratch + np.uint64(o), np.uint64(word))
                o += size
                kind = _WORD
            elif found == _EXTEND:
                if kind != _SEPARATOR:
                    o -= np.int64(kind == _ALONE)
                    word, size = _encode(point)
                    _store64(scratch + np.uint64(o), np.uint64(word))
                    o += size + np.int64(kind == _ALONE)
            elif found == _SEPARATOR:
                if kind == _WORD:
                    _store8(scratch + np.uint64(o), np.uint64(0))
                    o += 1
                kind = _SEPARATOR
            if i >= stop or _load8(text + np.uint64(i)) < 128:
                break
    if kind == _UNKNOWN:
        kind = _WORD if _load8(scratch + np.uint64(o - 1)) != 0 else _SEPARATOR
    return i, o, kind


@kernel
def _edges(scratch: Any, o: Any, edges: Any) -> Any:
    """Give the number of tokens in ``scratch[:o]``; token k is scratch[edges[2 k]:edges[2 k + 1]]."""
    _clear64(scratch + np.uint64(o))
    count: Any = 0
    before = np.uint64(0)
    for base in range(0, o + 1, 64):
        inside = _nonzero(scratch + np.uint64(base))
        turns = inside ^ ((inside << np.uint64(1)) | before)
        before = inside >> np.uint64(63)
        place = count
        count += np.int64(_bits(turns))
        while place < count:  # eight at a time, some for nothing: a branch for each would be mispredicted
            for k in range(8):
                edges[place + k] = np.int32(base) + np.int32(_first_bit(turns))
                turns &= turns - np.uint64(1)
            place += 8
    return count >> 1


# ---------------------------------------------------------------- shingles


@kernel
def _emit(windows: Any, first: Any, count: Any, sink: Any, held: Any) -> Any:
    """Finish ``count`` windows: lower the signature by them, keep their hashes where the sink has room."""
    mixed, a, b, signature, kept = sink
    for j in range(count):
        w = windows[first + j]
        mixed[j] = np.uint32(((w ^ (w >> np.uint64(32))) * _FINISH) >> np.uint64(32))
    if kept.size:
        for j in range(count):
            kept[held + j] = mixed[j]
    if a.size and count:
        for j in range(count):
            mixed[j] = _mix32(mixed[j])
        at = np.uint64(mixed.ctypes.data)
        lows = np.uint64(signature.ctypes.data)
        factors, shifts = np.uint64(a.ctypes.data), np.uint64(b.ctypes.data)
        for k in range(0, 4 * a.size, 4 * _LANES):
            k8 = np.uint64(k)
            _lower(at, np.uint64(count), factors + k8, shifts + k8, lows + k8)
    return held + count


@kernel
def _words(data: Any, i: Any, end: Any, tables: Any, n: Any, work: Any, sink: Any) -> Any:
    """Hash the word n-grams of one document into ``sink``; give back how many there are."""
    room, edges, tokens, windows = work
    text = np.uint64(data.ctypes.data)
    scratch = np.uint64(room.ctypes.data) + np.uint64(64)
    drop = np.uint64(1)  # _BASE ** n: the weight of the token that leaves the window
    for _ in range(n):
        drop *= _BASE
    tokens[:n] = np.uint64(0)
    window = np.uint64(0)
    chain = np.uint64(0)  # of a token that began in an earlier chunk
    seen, held = np.int64(0), np.int64(0)
    o: Any = np.int64(0)
    kind: Any = _SEPARATOR
    while i < end:
        i, o, kind = _fold(text, i, (min(end, i + _CHUNK), end, data.size - 64), tables, scratch, o, kind)
        count = np.int64(_edges(scratch, o, edges))
        waits = i < end and kind != _SEPARATOR and count > 0
        if waits:
            count -= 1
        for k in range(count):
            at = scratch + np.uint64(edges[2 * k])
            size: Any = np.int64(edges[2 * k + 1]) - np.int64(edges[2 * k])
            while size > 16:
                chain = _mix128(_load64(at) ^ _KEY_LOW ^ chain, _load64(at + np.uint64(8)) ^ _KEY_HIGH)
                at += np.uint64(16)
                size -= 16
            low, high = _load64(at) & _LOW[size], _load64(at + np.uint64(8)) & _HIGH[size]
            token = _mix128(low ^ _KEY_LOW ^ chain, high ^ _KEY_HIGH)
            chain = np.uint64(0)
            window = window * _BASE + token - tokens[k] * drop
            tokens[n + k] = token
            windows[k] = window
        o = 0
        if waits:
            at = scratch + np.uint64(edges[2 * count])
            rest = np.int64(edges[2 * count + 1]) - np.int64(edges[2 * count])
            while rest > 16:
                chain = _mix128(_load64(at) ^ _KEY_LOW ^ chain, _load64(at + np.uint64(8)) ^ _KEY_HIGH)
                at += np.uint64(16)
                rest -= 16
            low, high = _load64(at), _load64(at + np.uint64(8))
            _store64(scratch, low)
            _store64(scratch + np.uint64(8), high)
            o = rest
            if kind == _ALONE:
                _store8(scratch + np.uint64(o), np.uint64(0))
                o += 1
        for k in range(n):
            tokens[k] = tokens[count + k]
        skip = min(count, max(0, n - 1 - seen))
        seen += count
        held = _emit(windows, skip, count - skip, sink, held)
    if 0 < seen < n:
        windows[0] = window
        held = _emit(windows, 0, 1, sink, held)
    return held


@kernel
def _characters(data: Any, i: Any, end: Any, tables: Any, n: Any, work: Any, sink: Any) -> Any:
    """Hash the character n-grams of one document: as :func:`_words`, with every character a token.

    A separator is a space at once, more of them add nothing; one that no character follows is taken back. So
    the loop over ASCII has no branch that text could make a processor mispredict.
    """
    _, _, tokens, windows = work
    class_of, fold_of = tables
    text = np.uint64(data.ctypes.data)
    drop = np.uint64(1)
    for _ in range(n):
        drop *= _BASE
    tokens[:n] = np.uint64(0)
    window, before = np.uint64(0), np.uint64(0)  # before: the space
    seen, held = np.int64(0), np.int64(0)
    spaced = np.int64(1)  # the last was a separator, or there was none yet
    while i < end:
        stop = min(end, i + _CHUNK)
        count = np.int64(0)
        again = seen > 0 and spaced == 1  # the space that was taken back at the end of the last chunk
        while i < stop or again:
            point, size = np.int64(32), np.int64(0)
            if again:
                spaced = np.int64(0)
                again = False
            else:
                point, size = np.int64(_load8(text + np.uint64(i))), np.int64(1)
            if point < 128:
                separates = _ASCII_SEPARATES[point]
                token = _ASCII_TOKENS[point]
                following = window * _BASE + token - tokens[count] * drop
                tokens[n + count] = token
                windows[count] = following
                adds = np.int64(1) - (separates & spaced)
                before = window if separates & adds else before
                window = following if adds else window
                count += adds
                spaced = separates
                i += size
                continue
            point, size = _decode(text + np.uint64(i), text + np.uint64(end))
            i += size
            kind = np.int64(class_of[point])
            if kind == _IGNORED or (kind == _EXTEND and spaced == 1):
                continue
            if kind == _SEPARATOR:
                if spaced == 1:
                    continue
                before = window
                point = np.int64(32)
            elif kind == _WORD and point < fold_of.size:
                point = np.int64(fold_of[point])
            word, size = _encode(point)
            token = _mix128(np.uint64(word) ^ _KEY_LOW, _KEY_HIGH)
            window = window * _BASE + token - tokens[count] * drop
            tokens[n + count] = token
            windows[count] = window
            count += 1
            spaced = np.int64(kind == _SEPARATOR)
        if spaced == 1 and count > 0:
            count -= 1
            window = before
        for k in range(n):
            tokens[k] = tokens[count + k]
        skip = min(count, max(0, n - 1 - seen))
        seen += count
        held = _emit(windows, skip, count - skip, sink, held)
    if 0 < seen < n:
        windows[0] = window
        held = _emit(windows, 0, 1, sink, held)
    return held


@kernel
def _hash(data: Any, low: Any, high: Any, tables: Any, shape: Any, work: Any, sink: Any) -> Any:
    if shape[1]:
        return _characters(data, low, high, tables, shape[0], work, sink)
    return _words(data, low, high, tables, shape[0], work, sink)


@kernel
def _workplace(n: Any) -> Any:
    """Give the arrays of one chunk: folded text, edges, token hashes after the n before, windows."""
    return (
        np.zeros(64 + _SCRATCH, np.uint8),
        np.empty(_SCRATCH + 8, np.int32),
        np.empty(_TOKENS + n, np.uint64),
        np.empty(_TOKENS, np.uint64),
    )


@kernel
def sign_batch(
    data: Any, offsets: Any, valid: Any, rows: Any, tables: Any, shape: Any, a: Any, b: Any, out: Any
) -> None:
    """Text to signatures in one pass: ``shape`` is (n of the n-gram, 1 for characters).

    ``a`` and ``b`` have a whole number of lanes: more than a signature that is not a multiple of them.
    """
    work = _workplace(shape[0])
    mixed = np.empty(_TOKENS, np.uint32)
    signature = np.empty(a.size, np.uint32)
    sink = (mixed, a, b, signature, np.empty(0, np.uint32))
    perms = out.shape[1]
    for place in range(rows.size):
        row = rows[place]
        signature[:] = np.uint32(0xFFFFFFFF)
        if valid[row]:
            _hash(data, np.int64(offsets[row]), np.int64(offsets[row + 1]), tables, shape, work, sink)
        out[place, :] = signature[:perms]


@kernel
def _sort_unique(values: Any, spare: Any) -> Any:
    """Sort in place, and move the distinct values to the front.

    Least significant byte first, of those bytes that tell so many values apart: hashes that share the two upper
    ones are few, and stand next to each other then.
    """
    m = values.size
    if m >= 64:
        first = 2 if m <= _APART else 0
        counts = np.zeros((4, 256), np.int64)
        for i in range(m):
            v = values[i]
            for digit in range(first, 4):
                counts[digit, (v >> np.uint32(8 * digit)) & np.uint32(255)] += 1
        source, target = values, spare[:m]
        for digit in range(first, 4):
            place = 0
            for k in range(256):
                place, counts[digit, k] = place + counts[digit, k], place
            for i in range(m):
                v = source[i]
                k = (v >> np.uint32(8 * digit)) & np.uint32(255)
                target[counts[digit, k]] = v
                counts[digit, k] += 1
            source, target = target, source
    for i in range(1, m):
        v = values[i]
        j = i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v
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
    rows: Any,
    tables: Any,
    shape: Any,
    a: Any,
    b: Any,
    out: Any,
    shingles: Any,
    ends: Any,
    sets: Any = True,
) -> None:
    """Text to shingle hashes, and to signatures (none where ``a`` is empty).

    ``shingles`` must have room for every token; ``ends[i]`` tells where those of ``rows[i]`` stop. As ``sets``
    they are sorted and distinct, otherwise as they come: see :func:`sort_batch`.
    """
    work = _workplace(shape[0])
    mixed = np.empty(_TOKENS, np.uint32)
    signature = np.empty(a.size, np.uint32)
    spare = np.empty(0, np.uint32)
    perms = out.shape[1]
    stop = 0
    for place in range(rows.size):
        row = rows[place]
        signature[:] = np.uint32(0xFFFFFFFF)
        if valid[row]:
            kept = shingles[stop:]
            sink = (mixed, a, b, signature, kept)
            low, high = np.int64(offsets[row]), np.int64(offsets[row + 1])
            held = _hash(data, low, high, tables, shape, work, sink)
            if sets and spare.size < held:
                spare = np.empty(2 * held, np.uint32)
            stop += _sort_unique(kept[:held], spare) if sets else held
        ends[place] = stop
        out[place, :] = signature[:perms]


@kernel
def sort_batch(hashes: Any, offsets: Any, rows: Any, sets: Any, ends: Any) -> None:
    """Make sets of the hashes of some rows that :func:`sketch_batch` left as they came; ``sets`` has room."""
    spare = np.empty(0, np.uint32)
    stop = 0
    for place in range(rows.size):
        held = offsets[rows[place] + 1] - offsets[rows[place]]
        if spare.size < held:
            spare = np.empty(2 * held, np.uint32)
        mine = sets[stop : stop + held]
        mine[:] = hashes[offsets[rows[place]] : offsets[rows[place] + 1]]
        stop += _sort_unique(mine, spare)
        ends[place] = stop


# ---------------------------------------------------------------- bands


@kernel
def band_keys(signatures: Any, rows: Any, out: Any) -> None:
    """One 64-bit key of each band of ``rows`` values, for every signature; shape (bands, signatures)."""
    for i in range(signatures.shape[0]):
        for band in range(out.shape[0]):  # of one signature: they do not wait for each other
            first = band * rows
            h = np.uint64(first) * _BASE
            for k in range(rows):
                h = _mix64(h ^ np.uint64(signatures[i, first + k])) + _BASE
            out[band, i] = h
