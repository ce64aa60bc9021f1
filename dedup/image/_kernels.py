"""The compiled loops from pixels to hashes and thumbnails. The definition stands in :mod:`dedup.image.hashes`.

``dedup/image/hashes.cu`` is the same for a GPU. All is whole numbers: where a loop is in float64, for the
vector instructions, every product and sum stays below 2**53, and so is exact in any order.
"""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from lake.jit import kernel, values_at

__all__ = ["describe_bytes", "describe_words"]

_SIDE = 32
_COLOURS = 8
_RED, _GREEN, _BLUE = 19595, 38470, 7471
_FINE = 20  # bits of a stretched mean
_KEPT = 40  # bits of a difference of sums that go into it

_bytes_at = values_at(types.uint8, 1)
_words_at = values_at(types.uint16, 2)


@kernel
def _add_row(row: Any, width: Any, channels: Any, sums: Any) -> None:
    """Add up 32 stretches of a row of pixels, by channel, in units of 1/32 of a pixel."""
    for k in range(_SIDE):
        low, high = k * width, (k + 1) * width
        first, last = low // _SIDE, (high - 1) // _SIDE
        for c in range(channels):
            if first == last:
                sums[c, k] = np.int64(row[first * channels + c]) * width
                continue
            total = np.int64(0)
            for x in range(first + 1, last):
                total += np.int64(row[x * channels + c])
            total *= _SIDE
            total += np.int64(row[first * channels + c]) * ((first + 1) * _SIDE - low)
            total += np.int64(row[last * channels + c]) * (high - last * _SIDE)
            sums[c, k] = total


@kernel
def _areas(pixels: Any, height: Any, width: Any, channels: Any, row: Any, out: Any) -> None:
    """Sum over 32 x 32 areas: height x width times the mean of each; ``out``: (channels, 32, 32)."""
    out[:channels] = 0
    stride = width * channels
    for y in range(height):
        _add_row(pixels[y * stride : (y + 1) * stride], width, channels, row)
        low, high = y * _SIDE, (y + 1) * _SIDE  # of this row, in units in which an area is `height` high
        for k in range(low // height, (high - 1) // height + 1):
            weight = min(high, (k + 1) * height) - max(low, k * height)
            for c in range(channels):
                for x in range(_SIDE):
                    out[c, k, x] += weight * row[c, x]


@kernel
def _bits(value: Any) -> Any:
    count = 0
    while value:
        count += 1
        value >>= 1
    return count


@kernel
def _stretch(sums: Any, channels: Any, unit: Any, scale: Any, fine: Any, thumb: Any) -> Any:
    """Make stretched means and a thumbnail of the sums over areas; False for a flat image."""
    grey = sums[0]
    if channels > 1:
        unit *= 65536
        for y in range(_SIDE):
            for x in range(_SIDE):
                sums[3, y, x] = _RED * sums[0, y, x] + _GREEN * sums[1, y, x] + _BLUE * sums[2, y, x]
        grey = sums[3]
    darkest, brightest = grey[0, 0], grey[0, 0]
    for y in range(_SIDE):
        for x in range(_SIDE):
            darkest, brightest = min(darkest, grey[y, x]), max(brightest, grey[y, x])
    spread = brightest - darkest
    if spread == 0 or spread <= (scale * unit - 1) // 255:  # spread * 255 < scale * unit, within 63 bits
        return False
    shift = max(0, _bits(spread) - _KEPT)
    share = spread >> shift
    for y in range(_SIDE):
        for x in range(_SIDE):
            value = (((grey[y, x] - darkest) >> shift) << _FINE) // share
            fine[y, x] = value
            thumb[_SIDE * y + x] = (value * 255 + (1 << (_FINE - 1))) >> _FINE
    thumb[_SIDE * _SIDE :] = 128
    if channels > 1:
        _colour(sums, spread, shift, thumb[_SIDE * _SIDE :])
    return True


@kernel
def _colour(sums: Any, spread: Any, shift: Any, out: Any) -> None:
    """Write R - G and B - G of 8 x 8 areas, as a share of the spread."""
    each = _SIDE // _COLOURS
    share = spread >> shift
    for c in range(2):
        for y in range(_COLOURS):
            for x in range(_COLOURS):
                total = np.int64(0)
                for v in range(each * y, each * (y + 1)):
                    for u in range(each * x, each * (x + 1)):
                        total += sums[2 * c, v, u] - sums[1, v, u]
                # 16 areas of 1/32 are one of 1/8; a difference beyond the spread is cut off in any case
                total = min(max(total // (each * each), -(spread >> 16) - 1), (spread >> 16) + 1) * 65536
                half = ((total >> shift) * 255) // (2 * share)
                out[_COLOURS * (_COLOURS * c + y) + x] = min(max(half + 128, 0), 255)


@kernel
def _transform(fine: Any, rows: Any, columns: Any, half: Any, out: Any) -> None:
    """``rows @ fine @ columns.T``: (8, 32), (32, 32), (v, 32)."""
    for u in range(8):
        half[:] = 0.0
        for y in range(_SIDE):
            weight = np.float64(rows[u, y])
            for x in range(_SIDE):
                half[x] += weight * np.float64(fine[y, x])
        for v in range(columns.shape[0]):
            total = np.int64(0)
            for x in range(_SIDE):
                total += np.int64(half[x]) * columns[v, x]
            out[u, v] = total


@kernel
def _frequencies(low: Any, order: Any) -> Any:
    """The bits of coefficients above the median of all but the first."""
    for k in range(63):
        order[k] = low[(k + 1) // 8, (k + 1) % 8]
    order.sort()
    code = np.uint64(0)
    for k in range(1, 64):
        if low[k // 8, k % 8] > order[31]:
            code |= np.uint64(1) << np.uint64(k)
    return code


@kernel
def _gradients(low: Any) -> Any:
    """The bits of areas that are darker than the next to the right."""
    code = np.uint64(0)
    for k in range(64):
        if low[k // 8, k % 8] < low[k // 8, k % 8 + 1]:
            code |= np.uint64(1) << np.uint64(k)
    return code


@kernel
def _turn(fine: Any, turn: Any, out: Any) -> None:
    """Draw a square in another orientation: transposed (4), then upside down (2), then mirrored (1)."""
    for y in range(_SIDE):
        for x in range(_SIDE):
            v = _SIDE - 1 - y if turn & 2 else y
            u = _SIDE - 1 - x if turn & 1 else x
            out[y, x] = fine[u, v] if turn & 4 else fine[v, u]


@kernel
def _hash(
    fine: Any, gradient: Any, rows: Any, columns: Any, turns: Any, windows: Any, turned: Any, half: Any, out: Any
) -> None:
    """Write the hashes: of the whole in each orientation, then of each further window."""
    low, order = np.empty((8, columns.shape[1]), np.int64), np.empty(63, np.int64)
    for k in range(turns.size + windows):
        window = 0 if k < turns.size else k - turns.size + 1
        source = fine
        if k < turns.size and turns[k]:
            _turn(fine, turns[k], turned)
            source = turned
        _transform(source, rows[window // 4], columns[window % 4], half, low)
        out[k] = _gradients(low) if gradient else _frequencies(low, order)


@kernel
def _describe(
    pixels: Any, shape: Any, scale: Any, gradient: Any, rows: Any, columns: Any, turns: Any, windows: Any,
    sums: Any, fine: Any, turned: Any, half: Any, hashes: Any, thumb: Any,
) -> Any:  # fmt: skip
    height, width, channels = shape[0], shape[1], shape[2]
    if height * width == 0:
        return False
    _areas(pixels, height, width, channels, sums[4, :3], sums)
    if not _stretch(sums, channels, height * width, scale, fine, thumb):
        return False
    _hash(fine, gradient, rows, columns, turns, windows, turned, half, hashes)
    return True


@kernel
def describe_bytes(
    places: Any, shapes: Any, gradient: Any, rows: Any, columns: Any, turns: Any, windows: Any,
    good: Any, hashes: Any, thumbs: Any,
) -> None:  # fmt: skip
    """Describe images of 8 bits that stand at ``places``; ``good`` is False for those that are flat."""
    sums, half = np.empty((5, _SIDE, _SIDE), np.int64), np.empty(_SIDE)
    fine, turned = np.empty((_SIDE, _SIDE), np.int64), np.empty((_SIDE, _SIDE), np.int64)
    for k in range(places.size):
        pixels = _bytes_at(places[k], np.int64(shapes[k, 0] * shapes[k, 1] * shapes[k, 2]))
        good[k] = _describe(
            pixels, shapes[k], np.int64(255), gradient, rows, columns, turns, windows,
            sums, fine, turned, half, hashes[k], thumbs[k],
        )  # fmt: skip


@kernel
def describe_words(
    places: Any, shapes: Any, gradient: Any, rows: Any, columns: Any, turns: Any, windows: Any,
    good: Any, hashes: Any, thumbs: Any,
) -> None:  # fmt: skip
    """Describe images of 16 bits: the scale by which they are flat is their own range."""
    sums, half = np.empty((5, _SIDE, _SIDE), np.int64), np.empty(_SIDE)
    fine, turned = np.empty((_SIDE, _SIDE), np.int64), np.empty((_SIDE, _SIDE), np.int64)
    for k in range(places.size):
        pixels = _words_at(places[k], np.int64(shapes[k, 0] * shapes[k, 1] * shapes[k, 2]))
        least, most = np.uint16(65535), np.uint16(0)
        for value in pixels:
            least, most = min(least, value), max(most, value)
        good[k] = _describe(
            pixels, shapes[k], np.int64(max(1, np.int64(most) - np.int64(least))), gradient, rows, columns,
            turns, windows, sums, fine, turned, half, hashes[k], thumbs[k],
        )  # fmt: skip
