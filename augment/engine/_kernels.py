"""The pixels' arithmetic, compiled: every op on uint8 and uint16, for batches of one size.

Numba comes in with this module, so it is imported only inside functions. All arithmetic is integer, or
float32 and float64 in a fixed order (no fast-math, hence no fused multiply-add): the bytes do not depend
on the machine. The GIL is released throughout. What the formulas mean stands in :mod:`augment.engine.cpu`.

One file, although it is long: Numba's cache of ``run`` would not notice a change of what it calls elsewhere.

What an optimiser does not find by itself is said to LLVM in three intrinsics: three interleaved channels into
planes and back (a shuffle, on any machine), 64 lookups at once (where the processor has AVX-512 VBMI; elsewhere
one by one), and a pixel of three bytes moved as four.

Names: ``src`` and ``dst`` are images (h, w, c) that do not overlap, ``tables`` (c, top + 1) maps values per
channel, ``top`` is 255 or 65535.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from lake.jit import kernel

# The codes of augment.ops; a test holds the two together.
BRIGHTNESS, COLOR, CONTRAST, SHARPNESS, POSTERIZE, SOLARIZE = 6, 7, 8, 9, 10, 11
AUTOCONTRAST, EQUALIZE, INVERT, CUTOUT = 12, 13, 14, 15
GAMMA, SOLARIZEADD, WINDOW = 16, 17, 18
WARP, MATRIX = 1, 19  # the codes of stages, see augment.engine.compile

_UNIT = 1 << 16  # 1 in 16.16 fixed point
_REACH = 32768.0  # coordinates beyond this do not fit into 16.16
_RGB = 3
_STENCIL = 3  # an image with a shorter side is all border
_BLOCK = 1024  # pixels whose planes are held at once: they stay in the innermost cache
_GROUP = 64  # pixels that one shuffle takes


@kernel
def _blend(base: Any, value: Any, factor: Any, top: Any) -> Any:
    mixed = np.float32(base) + factor * np.float32(value - base)
    return np.int32(min(max(mixed, np.float32(0.0)), np.float32(top)))  # int32: vectorises


@kernel
def _luma(r: Any, g: Any, b: Any) -> Any:
    # uint32 just suffices: 65536 * 65535 + 32768 < 2**32.
    total = np.uint32(19595) * np.uint32(r) + np.uint32(38470) * np.uint32(g) + np.uint32(7471) * np.uint32(b)
    return np.uint32(total + np.uint32(32768)) >> np.uint32(16)


@kernel
def _mean_of(values: Any) -> Any:
    """L of a pixel that is neither grey nor RGB: the rounded mean of its channels."""
    total = np.int64(0)
    for value in values:
        total += np.int64(value)
    return (2 * total + values.size) // (2 * values.size)


@kernel
def _copy(values: Any, into: Any) -> None:
    """One dimension to another; a slice assignment would test for overlap, and takes seconds to compile."""
    for x in range(values.size):
        into[x] = values[x]


@kernel
def _fill(into: Any, value: Any) -> None:
    for x in range(into.size):
        into[x] = value


# --- said to LLVM -------------------------------------------------------------------------------------


def _said(function: Any) -> Any:
    """Numba's decorator; its type does not know that callers leave out the context."""
    return intrinsic(function)


def _start(context: Any, builder: Any, kind: Any, array: Any, item: Any) -> Any:
    """The address of item ``item`` of an array in C order."""
    from llvmlite import ir

    size = ir.Constant(ir.IntType(64), kind.dtype.bitwidth // 8)
    data = builder.bitcast(context.make_array(kind)(context, builder, array).data, ir.IntType(8).as_pointer())
    return builder.gep(data, [builder.mul(item, size)])


def _vector(builder: Any, kind: Any, count: int, address: Any, offset: Any) -> tuple[Any, Any]:
    """The type of ``count`` items, and a pointer to such a vector ``offset`` bytes behind an address."""
    from llvmlite import ir

    made = ir.VectorType(ir.IntType(kind.dtype.bitwidth), count)
    where = offset if isinstance(offset, ir.Value) else ir.Constant(ir.IntType(64), offset)
    return made, builder.bitcast(builder.gep(address, [where]), made.as_pointer())


@_said
def _split(_context: Any, flat: Any, first: Any, planes: Any, groups: Any) -> Any:
    """``groups`` times 64 pixels of three values, from pixel ``first`` on, into three planes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        kind, _, into, _ = signature.args
        size, word = kind.dtype.bitwidth // 8, ir.IntType(64)
        source = _start(context, builder, kind, arguments[0], builder.mul(arguments[1], word(3)))
        target = _start(context, builder, into, arguments[2], word(0))
        with cgutils.for_range(builder, arguments[3]) as loop:
            every, at = _vector(
                builder, kind, 3 * _GROUP, source, builder.mul(loop.index, word(3 * _GROUP * size))
            )
            pixels = builder.load(at, align=size, typ=every)
            for k in range(3):
                chosen = ir.Constant(ir.VectorType(ir.IntType(32), _GROUP), [3 * j + k for j in range(_GROUP)])
                plane = builder.shuffle_vector(pixels, ir.Constant(every, ir.Undefined), chosen)
                offset = builder.add(builder.mul(loop.index, word(_GROUP * size)), word(k * _BLOCK * size))
                builder.store(plane, _vector(builder, into, _GROUP, target, offset)[1], align=size)
        return context.get_dummy_value()

    return types.void(flat, first, planes, groups), generate


@_said
def _join(_context: Any, planes: Any, flat: Any, first: Any, groups: Any) -> Any:
    """The way back."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        kind, into, _, _ = signature.args
        size, word, lane = kind.dtype.bitwidth // 8, ir.IntType(64), ir.IntType(32)
        source = _start(context, builder, kind, arguments[0], word(0))
        target = _start(context, builder, into, arguments[1], builder.mul(arguments[2], word(3)))
        with cgutils.for_range(builder, arguments[3]) as loop:
            planes = []
            for k in range(3):
                offset = builder.add(builder.mul(loop.index, word(_GROUP * size)), word(k * _BLOCK * size))
                each, at = _vector(builder, kind, _GROUP, source, offset)
                planes.append(builder.load(at, align=size, typ=each))
            none = ir.Constant(each, ir.Undefined)
            side = ir.Constant(ir.VectorType(lane, 2 * _GROUP), list(range(2 * _GROUP)))
            two = builder.shuffle_vector(planes[0], planes[1], side)
            one = builder.shuffle_vector(planes[2], none, side)
            order = [k * _GROUP + j for j in range(_GROUP) for k in range(3)]
            pixels = builder.shuffle_vector(two, one, ir.Constant(ir.VectorType(lane, 3 * _GROUP), order))
            offset = builder.mul(loop.index, word(3 * _GROUP * size))
            builder.store(pixels, _vector(builder, into, 3 * _GROUP, target, offset)[1], align=size)
        return context.get_dummy_value()

    return types.void(planes, flat, first, groups), generate


@_said
def _look_up_many(_context: Any, flat: Any, tables: Any, into: Any) -> Any:
    """Values of three channels in turn through three tables of 256, 192 at a time; says how many were done.

    Four permutes hold a table of 256 bytes. Numba's cache knows for which processor it was compiled.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        kind, table, target = signature.args
        word, values = ir.IntType(64), ir.VectorType(ir.IntType(8), 64)
        features = context.codegen().magic_tuple()[2].split(",")
        if "+avx512vbmi" not in features or any(k.dtype.bitwidth != 8 for k in signature.args):  # noqa: PLR2004
            return word(0)
        permute = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(values, [values] * 3), "llvm.x86.avx512.vpermi2var.qi.512"
        )
        base = _start(context, builder, table, arguments[1], word(0))
        parts = [
            builder.load(_vector(builder, table, 64, base, 64 * q)[1], align=1, typ=values) for q in range(12)
        ]
        source = _start(context, builder, kind, arguments[0], word(0))
        result = _start(context, builder, target, arguments[2], word(0))
        size = cgutils.unpack_tuple(builder, context.make_array(kind)(context, builder, arguments[0]).shape)[0]  # type: ignore[no-untyped-call]
        rounds = builder.sdiv(size, word(192))
        with cgutils.for_range(builder, rounds) as loop:
            for third in range(3):
                offset = builder.add(builder.mul(loop.index, word(192)), word(64 * third))
                at = builder.load(_vector(builder, kind, 64, source, offset)[1], align=1, typ=values)
                upper = builder.icmp_signed("<", at, ir.Constant(values, [0] * 64))
                found = None
                for k in range(3):
                    a, b, c, d = parts[4 * k : 4 * k + 4]
                    one = builder.select(
                        upper, builder.call(permute, [c, at, d]), builder.call(permute, [a, at, b])
                    )
                    mine = [int((64 * third + j) % 3 == k) for j in range(64)]
                    mask = ir.Constant(ir.VectorType(ir.IntType(1), 64), mine)
                    found = one if found is None else builder.select(mask, one, found)
                builder.store(found, _vector(builder, target, 64, result, offset)[1], align=1)
        return builder.mul(rounds, word(192))

    return types.int64(flat, tables, into), generate


@_said
def _move_four(_context: Any, flat: Any, at: Any, into: Any, to: Any) -> Any:
    """Four values from ``flat[at:]`` to ``into[to:]``, at once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, _, target, _ = signature.args
        size = kind.dtype.bitwidth // 8
        source = _start(context, builder, kind, arguments[0], arguments[1])
        result = _start(context, builder, target, arguments[2], arguments[3])
        four, where = _vector(builder, kind, 4, source, 0)
        value = builder.load(where, align=size, typ=four)
        builder.store(value, _vector(builder, target, 4, result, 0)[1], align=size)
        return context.get_dummy_value()

    return types.void(flat, at, into, to), generate


@_said
def _eight(_context: Any, flat: Any, at: Any) -> Any:
    """The eight bytes ``flat[at : at + 8]`` as a number, the first one lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        source = _start(context, builder, signature.args[0], arguments[0], arguments[1])
        word = ir.IntType(64)
        return builder.load(builder.bitcast(source, word.as_pointer()), align=1, typ=word)

    return types.uint64(flat, at), generate


@kernel
def _apart(flat: Any, first: Any, count: Any, planes: Any) -> None:
    """Pixels ``first`` .. ``first + count - 1`` of three values into planes (3, _BLOCK)."""
    groups = count // _GROUP
    _split(flat, first, planes, groups)
    for p in range(groups * _GROUP, count):
        for k in range(3):
            planes[k, p] = flat[3 * (first + p) + k]


@kernel
def _together(planes: Any, flat: Any, first: Any, count: Any) -> None:
    groups = count // _GROUP
    _join(planes, flat, first, groups)
    for p in range(groups * _GROUP, count):
        for k in range(3):
            flat[3 * (first + p) + k] = planes[k, p]


# --- lookup tables ------------------------------------------------------------------------------------


@kernel
def _count_three(flat: Any, even: Any, odd: Any) -> None:
    """Two counts in turn: neighbours are often equal, and an increment would wait for the one before."""
    red, green, blue = even[0], even[1], even[2]
    red_too, green_too, blue_too = odd[0], odd[1], odd[2]
    half = flat.size // 6
    left, right = flat[: 3 * half], flat[3 * half :]
    for p in range(half):
        red[left[3 * p]] += np.uint32(1)
        red_too[right[3 * p]] += np.uint32(1)
        green[left[3 * p + 1]] += np.uint32(1)
        green_too[right[3 * p + 1]] += np.uint32(1)
        blue[left[3 * p + 2]] += np.uint32(1)
        blue_too[right[3 * p + 2]] += np.uint32(1)
    if right.size > 3 * half:
        for k in range(3):
            even[k, right[3 * half + k]] += np.uint32(1)


@kernel
def _count(src: Any, tables: Any, histogram: Any) -> None:
    """The histogram of ``src`` as it will be once ``tables`` have been applied."""
    c = src.shape[2]
    even, odd = np.zeros(histogram.shape, np.uint32), np.zeros(histogram.shape, np.uint32)
    if c == _RGB:
        _count_three(src.reshape(-1), even, odd)
    else:
        flat = src.reshape(-1, c)
        half = flat.shape[0] // 2
        for p in range(half):
            for k in range(c):
                even[k, flat[p, k]] += np.uint32(1)
                odd[k, flat[half + p, k]] += np.uint32(1)
        if flat.shape[0] % 2:
            for k in range(c):
                even[k, flat[flat.shape[0] - 1, k]] += np.uint32(1)
    for k in range(c):
        _fill(histogram[k], 0)
        for v in range(histogram.shape[1]):
            histogram[k, tables[k, v]] += np.int64(even[k, v]) + np.int64(odd[k, v])


@kernel
def _sum_luma(planes: Any, count: Any) -> Any:
    red, green, blue = planes[0], planes[1], planes[2]
    total = np.uint32(0)  # a block's sum fits: 1024 * 65535
    for p in range(count):
        total = np.uint32(total + _luma(red[p], green[p], blue[p]))
    return np.int64(total)


@kernel
def _mean_luma(src: Any, tables: Any, fresh: Any) -> Any:
    """int(mean(L) + 0.5) of ``src`` as it will be once ``tables`` (if ``fresh``: no change) are applied."""
    c = src.shape[2]
    flat = src.reshape(-1, c)
    total = np.int64(0)
    if c == _RGB:
        values, pixels = src.reshape(-1), flat.shape[0]
        planes, found = np.empty((3, _BLOCK), src.dtype), np.empty(3 * _BLOCK, src.dtype)
        for first in range(0, pixels, _BLOCK):
            count = min(_BLOCK, pixels - first)
            if fresh:
                _apart(values, first, count, planes)
            else:
                _look_up_three(values[3 * first : 3 * (first + count)], tables, found)
                _apart(found, 0, count, planes)
            total += _sum_luma(planes, count)
    elif c == 1:
        for p in range(flat.shape[0]):
            total += np.int64(tables[0, flat[p, 0]])
    else:
        pixel = np.empty(c, np.int64)
        for p in range(flat.shape[0]):
            for k in range(c):
                pixel[k] = tables[k, flat[p, k]]
            total += _mean_of(pixel)
    return np.int64(np.float64(total) / np.float64(flat.shape[0]) + 0.5)


@kernel
def _widen(values: Any, low: Any, high: Any) -> Any:
    """The least and the greatest of some values and two more."""
    least, most = values.dtype.type(low), values.dtype.type(high)
    for x in range(values.size):
        least, most = min(least, values[x]), max(most, values[x])
    return np.int64(least), np.int64(most)


@kernel
def _extremes(src: Any, lows: Any, highs: Any, top: Any) -> None:
    """The least and the greatest value of each channel; for one or three channels."""
    c = src.shape[2]
    _fill(lows, top)
    _fill(highs, 0)
    flat = src.reshape(-1)
    if c == 1:
        lows[0], highs[0] = _widen(flat, lows[0], highs[0])
        return
    planes = np.empty((3, _BLOCK), src.dtype)
    pixels = flat.size // 3
    for first in range(0, pixels, _BLOCK):
        count = min(_BLOCK, pixels - first)
        _apart(flat, first, count, planes)
        for k in range(3):
            lows[k], highs[k] = _widen(planes[k, :count], lows[k], highs[k])


@kernel
def _ends(counts: Any, top: Any) -> Any:
    """The least and the greatest value that occur."""
    low, high = 0, top
    while low < top and counts[low] == 0:
        low += 1
    while high > 0 and counts[high] == 0:
        high -= 1
    return low, high


@kernel
def _autocontrast(low: Any, high: Any, table: Any, top: Any) -> None:
    for v in range(top + 1):
        table[v] = v
    if high > low:
        scale = np.float64(top) / np.float64(high - low)
        offset = -np.float64(low) * scale
        for v in range(top + 1):
            stretched = np.int64(np.float64(v) * scale + offset)
            table[v] = 0 if stretched < 0 else min(stretched, top)


@kernel
def _equalize(counts: Any, table: Any, top: Any) -> None:
    total, used, last = np.int64(0), 0, np.int64(0)
    for v in range(top + 1):
        if counts[v] != 0:
            total += counts[v]
            used += 1
            last = counts[v]
    step = (total - last) // top
    below = step // 2
    for v in range(top + 1):
        table[v] = v
        if used > 1 and step > 0:
            table[v] = min(below // step, top)
            below += counts[v]


@kernel
def _power(base: Any, exponent: Any) -> Any:
    """Raise 0 < base <= 1 to an exponent > 0 by + - * / alone, so that a GPU finds the same double.

    The logarithm by the series of artanh, the exponential by Taylor's: good to about 1e-15.
    """
    whole = 0
    while base < 0.7071067811865476:  # noqa: PLR2004  (sqrt 1/2)
        base *= 2.0
        whole -= 1
    z = (base - 1.0) / (base + 1.0)
    square, term, total = z * z, z, 0.0
    for odd in range(1, 24, 2):
        total += term / odd
        term *= square
    scaled = exponent * (whole + 2.0 * total * 1.4426950408889634)
    if scaled < -1000.0:  # noqa: PLR2004  (below the smallest double that matters)
        return 0.0
    turns = np.floor(scaled + 0.5)
    rest = (scaled - turns) * 0.6931471805599453
    term, total = 1.0, 1.0
    for step in range(1, 20):
        term = term * rest / step
        total += term
    for _ in range(int(-turns)):
        total *= 0.5
    return total


@kernel
def power_of(values: Any, exponent: Any, into: Any) -> None:
    """Raise floats of 0 .. 1 to an exponent: the series of `_power`, as long as 32 bits need."""
    for x in range(values.size):
        base, whole = np.float64(values[x]), 0
        if base <= 0.0:
            into[x] = np.float32(0.0)
            continue
        while base < 0.7071067811865476:  # noqa: PLR2004  (sqrt 1/2)
            base *= 2.0
            whole -= 1
        z = (base - 1.0) / (base + 1.0)
        square, total = z * z, 1.0 / 13.0
        for odd in range(11, 0, -2):
            total = total * square + 1.0 / odd
        scaled = exponent * (whole + 2.0 * z * total * 1.4426950408889634)
        if scaled < -160.0:  # noqa: PLR2004  (below the smallest float)
            into[x] = np.float32(0.0)
            continue
        turns = np.floor(scaled + 0.5)
        rest = (scaled - turns) * 0.6931471805599453
        total = 1.0
        for step in range(11, 0, -1):
            total = total * (rest * (1.0 / step)) + 1.0
        for _ in range(int(-turns)):
            total *= 0.5
        into[x] = np.float32(total)


@kernel
def _plain(code: Any, values: Any, base: Any, table: Any, top: Any) -> None:  # noqa: C901, PLR0912  (one branch an op)
    """The tables that need no histogram."""
    parameter = values[0]
    if code in (BRIGHTNESS, CONTRAST):
        factor = np.float32(parameter)
        for v in range(top + 1):
            table[v] = _blend(base, v, factor, top)
    elif code == POSTERIZE:
        depth = 8 if top == 255 else 16  # noqa: PLR2004  (the two depths)
        bits: Any = np.int64(parameter)
        # 8 bits are "all of them" on either depth; 0 bits, an error in Pillow, count as 1.
        bits = depth if bits >= 8 else max(bits, 1)  # noqa: PLR2004
        mask = (top + 1) - (1 << (depth - bits))
        for v in range(top + 1):
            table[v] = v & mask
    elif code == SOLARIZE:
        threshold = parameter * (top // 255)
        for v in range(top + 1):
            table[v] = v if v < threshold else top - v
    elif code == GAMMA:
        for v in range(top + 1):
            share = _power(v / np.float64(top), parameter) if v else 0.0
            table[v] = min(np.int64(share * top + 0.5), top)
    elif code == SOLARIZEADD:
        unit = top // 255
        for v in range(top + 1):
            table[v] = v if v >= 128 * unit else min(max(v + np.int64(parameter) * unit, 0), top)
    elif code == WINDOW:
        low, high = values[0], values[1]
        for v in range(top + 1):
            share = (v - low) / (high - low)
            table[v] = np.int64(min(max(share, 0.0), 1.0) * top + 0.5)
    else:  # INVERT
        for v in range(top + 1):
            table[v] = top - v


@kernel
def _append(  # noqa: C901, PLR0917  (compiled code has no keywords)
    code: Any, values: Any, src: Any, tables: Any, histogram: Any, state: Any, step: Any, top: Any
) -> Any:
    """Put one more op behind ``tables``; True if ``histogram`` is now that of the result.

    ``state``: whether the tables do nothing as yet, and whether the histogram is that of what they make.
    """
    fresh, counted = state
    c = src.shape[2]
    # To stretch an image as it is, its extremes are enough.
    short = code == AUTOCONTRAST and fresh and c in (1, _RGB)
    statistics = code == EQUALIZE or (code == AUTOCONTRAST and not short)
    lows, highs = np.empty(c, np.int64), np.empty(c, np.int64)
    if short:
        _extremes(src, lows, highs, top)
    elif statistics and not counted:
        _count(src, tables, histogram)
    base = _mean_luma(src, tables, fresh) if code == CONTRAST else 0
    moved = np.zeros(top + 1 if counted or statistics else 0, np.int64)
    for k in range(tables.shape[0]):
        if code == AUTOCONTRAST:
            if not short:
                lows[k], highs[k] = _ends(histogram[k], top)
            _autocontrast(lows[k], highs[k], step, top)
        elif code == EQUALIZE:
            _equalize(histogram[k], step, top)
        elif k == 0:
            _plain(code, values, base, step, top)
        for v in range(top + 1):
            tables[k, v] = step[tables[k, v]]
        if moved.size:
            _fill(moved, 0)
            for v in range(top + 1):
                moved[step[v]] += histogram[k, v]
            _copy(moved, histogram[k])
    return counted or statistics


@kernel
def _look_up_three(flat: Any, tables: Any, into: Any) -> None:
    """Values of three channels in turn through their tables (3, top + 1); ``into`` may be ``flat``."""
    red, green, blue = tables[0], tables[1], tables[2]
    done = _look_up_many(flat, tables, into)
    for p in range(done // 3, flat.size // 3):
        at = np.uint64(3 * p)
        into[at] = red[flat[at]]
        into[at + np.uint64(1)] = green[flat[at + np.uint64(1)]]
        into[at + np.uint64(2)] = blue[flat[at + np.uint64(2)]]


@kernel
def _look_up(src: Any, tables: Any, dst: Any) -> None:
    """Apply the tables; ``dst`` may be ``src``."""
    c = src.shape[2]
    if c == _RGB:
        _look_up_three(src.reshape(-1), tables, dst.reshape(-1))
        return
    if c == 1:
        one, into = src.reshape(-1), dst.reshape(-1)
        done = 0
        if tables.shape[1] == 256:  # noqa: PLR2004  (8 bits; a copy of 65,536 would cost more than it saves)
            three = np.empty((3, 256), tables.dtype)
            for k in range(3):
                _copy(tables[0], three[k])
            done = _look_up_many(one, three, into)
        for p in range(done, one.size):
            into[p] = tables[0, one[p]]
        return
    flat, result = src.reshape(-1, c), dst.reshape(-1, c)
    for p in range(flat.shape[0]):
        for k in range(c):
            result[p, k] = tables[k, flat[p, k]]


# --- colour, stencil, erase ---------------------------------------------------------------------------


@kernel
def _blend_luma(planes: Any, count: Any, factor: Any, top: Any) -> None:
    reds, greens, blues = planes[0], planes[1], planes[2]
    for p in range(count):
        red, green, blue = np.int32(reds[p]), np.int32(greens[p]), np.int32(blues[p])
        grey = np.int32(_luma(red, green, blue))
        reds[p] = _blend(grey, red, factor, top)
        greens[p] = _blend(grey, green, factor, top)
        blues[p] = _blend(grey, blue, factor, top)


@kernel
def _colour(src: Any, factor: Any, dst: Any, top: Any) -> None:
    c = src.shape[2]
    flat, result = src.reshape(-1, c), dst.reshape(-1, c)
    if c == _RGB:
        planes, pixels = np.empty((3, _BLOCK), src.dtype), flat.shape[0]
        for first in range(0, pixels, _BLOCK):
            count = min(_BLOCK, pixels - first)
            _apart(src.reshape(-1), first, count, planes)
            _blend_luma(planes, count, factor, top)
            _together(planes, dst.reshape(-1), first, count)
        return
    for p in range(flat.shape[0]):
        grey = np.int32(_mean_of(flat[p]))
        for k in range(c):
            result[p, k] = _blend(grey, np.int32(flat[p, k]), factor, top)


@kernel
def _mix_planes(planes: Any, m: Any, count: Any, top: Any) -> None:
    reds, greens, blues = planes[0], planes[1], planes[2]
    m0, m1, m2, m3, m4, m5 = m[0], m[1], m[2], m[3] * top, m[4], m[5]
    m6, m7, m8, m9, m10, m11 = m[6], m[7] * top, m[8], m[9], m[10], m[11] * top
    most = np.float64(top)
    for p in range(count):
        red, green, blue = np.float64(reds[p]), np.float64(greens[p]), np.float64(blues[p])
        one = m0 * red + m1 * green + m2 * blue + m3
        two = m4 * red + m5 * green + m6 * blue + m7
        three = m8 * red + m9 * green + m10 * blue + m11
        reds[p] = np.int32(min(max(one, 0.0), most) + 0.5)
        greens[p] = np.int32(min(max(two, 0.0), most) + 0.5)
        blues[p] = np.int32(min(max(three, 0.0), most) + 0.5)


@kernel
def _mix(src: Any, m: Any, dst: Any, top: Any) -> None:
    """A 3x4 matrix on the channels of RGB; the last column is in units of white."""
    planes, pixels = np.empty((3, _BLOCK), src.dtype), src.shape[0] * src.shape[1]
    for first in range(0, pixels, _BLOCK):
        count = min(_BLOCK, pixels - first)
        _apart(src.reshape(-1), first, count, planes)
        _mix_planes(planes, m, count, top)
        _together(planes, dst.reshape(-1), first, count)


@kernel
def _sharpen(src: Any, factor: Any, dst: Any, top: Any) -> None:
    h, w, c = src.shape
    rows, result = src.reshape(h, w * c), dst.reshape(h, w * c)
    _copy(src.reshape(h * w * c), dst.reshape(h * w * c))
    if h < _STENCIL or w < _STENCIL:
        return
    inner = (w - 2) * c
    columns = np.empty(w * c, np.uint32)
    # Slices instead of offsets: indices that may be negative would keep the loops from being vectorised.
    left, centre, right = columns[:inner], columns[c : c + inner], columns[2 * c :]
    for y in range(1, h - 1):
        above, here, below = rows[y - 1], rows[y], rows[y + 1]
        for x in range(w * c):
            columns[x] = np.uint32(above[x]) + np.uint32(here[x]) + np.uint32(below[x])
        middle, into = rows[y, c : c + inner], result[y, c : c + inner]
        for x in range(inner):
            total = np.uint32(left[x] + centre[x] + right[x] + np.uint32(4) * np.uint32(middle[x]))
            smooth = np.uint32(np.uint32(2) * total + np.uint32(13)) // np.uint32(26)
            into[x] = _blend(np.int32(smooth), np.int32(middle[x]), factor, top)


@kernel
def _erase(src: Any, box: Any, dst: Any, grey: Any) -> None:
    h, w, c = src.shape
    _copy(src.reshape(h * w * c), dst.reshape(h * w * c))
    for y in range(int(box[1]), int(box[3])):
        _fill(dst[y].reshape(w * c)[int(box[0]) * c : int(box[2]) * c], grey)


# --- resampling ---------------------------------------------------------------------------------------


@kernel
def _fix(value: Any) -> Any:
    return np.int64(np.floor(value * _UNIT + 0.5))


@kernel
def _fits(m: Any, x: Any, y: Any) -> Any:
    return abs(x * m[0] + y * m[1] + m[2]) < _REACH and abs(x * m[3] + y * m[4] + m[5]) < _REACH


@kernel
def _inside(start: Any, step: Any, limit: Any, low: Any, high: Any) -> Any:
    """The part of low .. high - 1 where 0 <= start + x * step < limit."""
    if step == 0:
        return (low, high) if 0 <= start < limit else (0, 0)
    if step < 0:  # mirror the interval: 0 <= (limit - 1 - start) + x * -step < limit
        start, step = limit - 1 - start, -step
    return max(low, -(start // step)), min(high, -((start - limit) // step))


@kernel
def _gather(src: Any, into: Any, span: Any, start: Any, step: Any) -> None:
    """Output pixels low .. high - 1 of one row, from the source pixels on a straight line (16.16)."""
    h, w, c = src.shape
    flat, row = src.reshape(h * w * c), into.reshape(w * c)
    # Unsigned, or every index would be tested for being negative.
    u, v = np.uint64(start[0]), np.uint64(start[1])
    du, dv = np.uint64(step[0]), np.uint64(step[1])
    half, width, channels = np.uint64(16), np.uint64(w), np.uint64(c)
    for x in range(span[0], span[1]):
        at = ((v >> half) * width + (u >> half)) * channels
        to = np.uint64(x) * channels
        for k in range(c):
            row[to + np.uint64(k)] = flat[at + np.uint64(k)]
        u += du
        v += dv


@kernel
def _gather_three(flat: Any, out: Any, to: Any, count: Any, start: Any, step: Any, places: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """The same for three channels, ``out`` from ``to`` on: first all places, then four values at once.

    The next pixel writes over the fourth; behind the last one there is none, and behind the image's last pixel
    nothing to read. ``start`` ends in the width.
    """
    u, v, w = np.uint32(start[0]), np.uint32(start[1]), np.uint32(start[2])
    du, dv, half = np.uint32(step[0]), np.uint32(step[1]), np.uint32(16)
    most = np.uint32(0)
    for i in range(count):  # modulo 2**32, in vectors
        column = np.uint32(u + np.uint32(np.uint32(i) * du)) >> half
        line = np.uint32(v + np.uint32(np.uint32(i) * dv)) >> half
        place = np.uint32(np.uint32(3) * np.uint32(np.uint32(line * w) + column))
        places[i] = place
        most = max(most, place)
    done = count - 1 if np.int64(most) + 4 <= flat.size else 0
    for i in range(done):
        _move_four(flat, np.int64(places[i]), out, to + 3 * i)
    for i in range(done, count):
        at = np.int64(places[i])
        for k in range(3):
            out[to + 3 * i + k] = flat[at + k]


@kernel
def _nearest(src: Any, m: Any, dst: Any) -> None:
    """Nearest neighbour in 16.16 fixed point; source pixel = (m0 x + m1 y + m2, m3 x + m4 y + m5)."""
    h, w, c = src.shape
    a0, a1, a3, a4 = _fix(m[0]), _fix(m[1]), _fix(m[3]), _fix(m[4])
    xx = _fix(m[2] + m[0] * 0.5 + m[1] * 0.5)
    yy = _fix(m[5] + m[3] * 0.5 + m[4] * 0.5)
    rows, result = src.reshape(h, w * c), dst.reshape(h, w * c)
    flat, out = src.reshape(h * w * c), dst.reshape(h * w * c)
    places = np.empty(w, np.uint32)
    small = c == _RGB and h * w < 1 << 30
    for y in range(h):
        low, high = _inside(xx, a0, w << 16, 0, w)
        low, high = _inside(yy, a3, h << 16, low, high)
        low = min(low, w)
        high = max(low, high)
        # Slices count references, which costs as much as some dozen pixels.
        if low > 0:
            _fill(result[y, : low * c], 0)
        if high < w:
            _fill(result[y, high * c :], 0)
        u, v = xx + low * a0, yy + low * a3
        if a0 == _UNIT and a3 == 0 and high > low:  # a piece of a row, as it is
            first = (u >> 16) * c
            _copy(rows[v >> 16, first : first + (high - low) * c], result[y, low * c : high * c])
        elif small and high > low:
            _gather_three(flat, out, (y * w + low) * 3, high - low, (u, v, w), (a0, a3), places)
        elif high > low:
            _gather(src, dst[y], (low, high), (u, v), (a0, a3))
        xx += a1
        yy += a4


@kernel
def _nearest_float(src: Any, m: Any, dst: Any) -> None:
    """The same where 16.16 overflows (sides from about 32,768): Pillow's running sums in float64."""
    h, w, c = src.shape
    x0 = m[2] + m[0] * 0.5 + m[1] * 0.5
    y0 = m[5] + m[3] * 0.5 + m[4] * 0.5
    for y in range(h):
        u, v = x0, y0
        for x in range(w):
            inside = u >= 0.0 and v >= 0.0 and u < w and v < h
            for k in range(c):
                dst[y, x, k] = src[int(v), int(u), k] if inside else 0
            u += m[0]
            v += m[3]
        x0 += m[1]
        y0 += m[4]


@kernel
def _nearest_projective(src: Any, m: Any, dst: Any) -> None:
    """Nearest neighbour through a homography, in float64, as Pillow's PERSPECTIVE."""
    h, w, c = src.shape
    for y in range(h):
        for x in range(w):
            below = m[6] * (x + 0.5) + m[7] * (y + 0.5) + m[8]
            u = (m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2]) / below
            v = (m[3] * (x + 0.5) + m[4] * (y + 0.5) + m[5]) / below
            inside = u >= 0.0 and v >= 0.0 and u < w and v < h
            for k in range(c):
                dst[y, x, k] = src[int(v), int(u), k] if inside else 0


# Bilinear, row by row: what does not depend on a channel first, each loop over few enough arrays for vectors.


@kernel
def _aim(m: Any, y: Any, start: Any, shape: Any, projective: Any, us: Any, vs: Any, kept: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """Where pixels from ``start`` on of row ``y`` come from; 0 in ``kept`` where that is outside."""
    m0, m3, m6, m2, m5, m8 = m[0], m[3], m[6], m[2], m[5], m[8]
    my, ny, oy = m[1] * (y + 0.5), m[4] * (y + 0.5), m[7] * (y + 0.5)
    width, height = np.float64(shape[1]), np.float64(shape[0])
    for i in range(us.size):
        x = np.float64(start + i) + 0.5
        u, v = m0 * x + my + m2, m3 * x + ny + m5
        if projective:
            below = m6 * x + oy + m8
            u, v = u / below, v / below
        inside = (u >= 0.0) & (u < width) & (v >= 0.0) & (v < height)
        us[i], vs[i] = (u if inside else 0.5) - 0.5, (v if inside else 0.5) - 0.5
        kept[i] = np.int32(inside)


@kernel
def _neighbours(us: Any, vs: Any, shape: Any, above: Any, beneath: Any) -> None:
    """The places of the left neighbours above and below."""
    last, most = np.float64(shape[0] - 1), np.float64(max(shape[1] - 2, 0))
    width, c = np.float64(shape[1]), np.float64(shape[2])
    for i in range(us.size):
        column, up = min(max(np.floor(us[i]), 0.0), most), np.floor(vs[i])
        above[i] = np.int64((max(up, 0.0) * width + column) * c)
        beneath[i] = np.int64((min(up + 1.0, last) * width + column) * c)


@kernel
def _shares(us: Any, vs: Any, most: Any) -> None:
    """The shares of the right and of the lower neighbours, in the place of the coordinates.

    At a side both neighbours are one pixel, which 0 or 1 picks out of the pair at the side: p + (q - p) is q,
    as they are whole numbers.
    """
    for i in range(us.size):
        left = np.floor(us[i])
        us[i] = 0.0 if left < 0.0 else 1.0 if left > most else us[i] - left
        vs[i] -= np.floor(vs[i])


@kernel
def _between(p: Any, q: Any, r: Any, s: Any, dx: Any, dy: Any) -> Any:  # noqa: PLR0917  (compiled code has no keywords)
    """Between four neighbours, truncated."""
    first, second = p + (q - p) * dx, r + (s - r) * dx
    return np.int32(first + (second - first) * dy)


@kernel
def _byte(pair: Any, number: Any) -> Any:
    return np.float64(np.int32((pair >> np.uint64(8 * number)) & np.uint64(255)))


@kernel
def _between_bytes(tops: Any, lows: Any, k: Any, dx: Any, dy: Any, kept: Any, into: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """Channel ``k`` of RGB: two neighbours are six of the eight bytes."""
    for i in range(kept.size):
        p, q, r, s = _byte(tops[i], k), _byte(tops[i], k + 3), _byte(lows[i], k), _byte(lows[i], k + 3)
        into[i] = _between(p, q, r, s, dx[i], dy[i]) * kept[i]


@kernel
def _read_pairs(flat: Any, places: Any) -> None:
    """Eight bytes instead of where they are."""
    for i in range(places.size):
        places[i] = np.int64(_eight(flat, places[i]))


@kernel
def _between_any(  # noqa: PLR0917  (compiled code has no keywords)
    flat: Any, above: Any, beneath: Any, us: Any, vs: Any, kept: Any, into: Any, beside: Any
) -> None:
    """The same for any type and number of channels; ``into`` is (pixels, channels)."""
    channels = np.uint64(into.shape[1])  # unsigned, or indices would be tested
    for i in range(kept.size):
        a, b, dx, dy = np.uint64(above[i]), np.uint64(beneath[i]), us[i], vs[i]
        for k in range(np.uint64(0), channels):
            p, q = np.float64(flat[a + k]), np.float64(flat[a + beside + k])
            r, s = np.float64(flat[b + k]), np.float64(flat[b + beside + k])
            into[i, k] = _between(p, q, r, s, dx, dy) * kept[i]


@kernel
def _most(values: Any) -> Any:
    found = values[0]
    for x in range(values.size):
        found = max(found, values[x])
    return found


@kernel
def _ends_of(kept: Any) -> Any:
    """The first and the last pixel that is not outside, and one more."""
    low, high = 0, kept.size
    while low < high and kept[low] == 0:
        low += 1
    while high > low and kept[high - 1] == 0:
        high -= 1
    return low, high


@kernel
def _bilinear(src: Any, m: Any, dst: Any, projective: Any) -> None:
    """Bilinear in float64: outside is judged before the half-pixel shift, neighbours are clamped, truncated."""
    h, w, c = src.shape
    flat, out = src.reshape(h * w * c), dst.reshape(h * w * c)
    coordinates, places = np.empty((2, _BLOCK)), np.empty((2, _BLOCK), np.int64)
    inside, planes = np.empty(_BLOCK, np.int32), np.empty((3, _BLOCK), src.dtype)
    pairs, beside = c == _RGB and w > 1 and src.itemsize == 1, np.uint64(c if w > 1 else 0)
    for y in range(h):
        for start in range(0, w, _BLOCK):
            count, to = min(_BLOCK, w - start), y * w + start
            us, vs = coordinates[0, :count], coordinates[1, :count]
            _aim(m, y, start, src.shape, projective, us, vs, inside)
            low, high = _ends_of(inside[:count])
            _fill(out[to * c : (to + low) * c], 0)
            _fill(out[(to + high) * c : (to + count) * c], 0)
            if low == high:
                continue
            us, vs, kept = us[low:high], vs[low:high], inside[low:high]
            above, beneath = places[0, : high - low], places[1, : high - low]
            _neighbours(us, vs, src.shape, above, beneath)
            _shares(us, vs, max(w - 2, 0))
            # Behind the image's last pixels there are no eight bytes.
            if pairs and max(_most(above), _most(beneath)) + 8 <= flat.size:
                _read_pairs(flat, above)
                _read_pairs(flat, beneath)
                for k in range(3):
                    _between_bytes(above, beneath, k, us, vs, kept, planes[k])
                _together(planes, out, to + low, high - low)
            else:
                _between_any(flat, above, beneath, us, vs, kept, dst[y, start + low : start + high], beside)


@kernel
def move(src: Any, m: Any, dst: Any) -> None:
    """Nearest neighbour for pixels of any type (labels of a mask, floats)."""
    h, w, _ = src.shape
    if m[6] != 0.0 or m[7] != 0.0:
        _nearest_projective(src, m, dst)
    elif _fits(m, 0, 0) and _fits(m, w, h) and _fits(m, 0, h) and _fits(m, w, 0):
        _nearest(src, m, dst)
    else:
        _nearest_float(src, m, dst)


@kernel
def _warp(src: Any, m: Any, dst: Any, bilinear: Any) -> None:
    if bilinear:
        _bilinear(src, m, dst, m[6] != 0.0 or m[7] != 0.0)
    else:
        move(src, m, dst)


# --- programs -----------------------------------------------------------------------------------------


@kernel
def _stage(code: Any, values: Any, src: Any, dst: Any, top: Any, bilinear: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """One stage that is not a table."""
    if code == COLOR:
        _colour(src, np.float32(values[0]), dst, top)
    elif code == SHARPNESS:
        _sharpen(src, np.float32(values[0]), dst, top)
    elif code == CUTOUT:
        _erase(src, values, dst, (top + 1) // 2)
    elif code == MATRIX:
        _mix(src, values, dst, top)
    else:
        _warp(src, values, dst, bilinear)


@kernel
def _wanders(code: Any, values: Any) -> Any:
    """A resampling that crosses rows. It pays to bring the image into the cache in one sweep before that."""
    return code == WARP and values[3] != 0.0


@kernel
def _is_table(code: Any) -> Any:
    return code in (BRIGHTNESS, CONTRAST) or (POSTERIZE <= code <= INVERT) or (GAMMA <= code <= WINDOW)


@kernel
def _reset(tables: Any) -> None:
    for k in range(tables.shape[0]):
        for v in range(tables.shape[1]):
            tables[k, v] = v


@kernel
def run(images: Any, out: Any, codes: Any, values: Any, top: Any, bilinear: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """Carry out the stages of each image.

    Args:
        images: (n, h, w, c), C order.
        out: the same shape and dtype.
        codes: int64 (n, k), negative where nothing is done.
        values: float64 (n, k, 12), see :class:`augment.engine.compile.Compiled`.
        top: 255 or 65535.
        bilinear: how warps resample.

    Runs of lookup tables are composed and applied once. The image wanders between ``out`` and one
    scratch image, so that nothing is ever read where it is being written.
    """
    n, h, w, c = images.shape
    scratch = np.empty((h, w, c), images.dtype)
    tables = np.empty((c, top + 1), images.dtype)
    step = np.empty(top + 1, images.dtype)
    histogram = np.empty((c, top + 1), np.int64)
    for i in range(n):
        src, result = images[i], out[i]
        where = 0  # 0: still in `images`, 1: in `out`, 2: in `scratch`
        pending, counted = False, False
        for slot in range(codes.shape[1]):
            code = codes[i, slot]
            if code < 0:
                continue
            if _is_table(code):
                fresh = not pending
                if fresh:
                    _reset(tables)
                    pending, counted = True, False
                counted = _append(code, values[i, slot], src, tables, histogram, (fresh, counted), step, top)
                continue
            if pending:
                into = result if where == 0 else src
                _look_up(src, tables, into)
                src, where, pending = into, max(where, 1), False
            if where == 0 and _wanders(code, values[i, slot]):
                _copy(src.reshape(h * w * c), scratch.reshape(h * w * c))
                src, where = scratch, 2
            dst = scratch if where == 1 else result
            _stage(code, values[i, slot], src, dst, top, bilinear)
            src, where = dst, 2 if where == 1 else 1
        if pending:
            _look_up(src, tables, result)
        elif where != 1:
            _copy(src.reshape(h * w * c), result.reshape(h * w * c))
