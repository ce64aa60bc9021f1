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
        if first == last:
            for c in range(channels):
                sums[c, k] = np.int64(row[first * channels + c]) * width
            continue
        head, tail = (first + 1) * _SIDE - low, high - last * _SIDE
        if channels == 1:
            total = np.int64(0)
            for x in range(first + 1, last):
                total += np.int64(row[x])
            sums[0, k] = total * _SIDE + np.int64(row[first]) * head + np.int64(row[last]) * tail
            continue
        red, green, blue = np.int64(0), np.int64(0), np.int64(0)
        for x in range(first + 1, last):
            red += np.int64(row[3 * x])
            green += np.int64(row[3 * x + 1])
            blue += np.int64(row[3 * x + 2])
        sums[0, k] = red * _SIDE + np.int64(row[3 * first]) * head + np.int64(row[3 * last]) * tail
        sums[1, k] = green * _SIDE + np.int64(row[3 * first + 1]) * head + np.int64(row[3 * last + 1]) * tail
        sums[2, k] = blue * _SIDE + np.int64(row[3 * first + 2]) * head + np.int64(row[3 * last + 2]) * tail


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
def _by_rows(fine: Any, rows: Any, line: Any, out: Any) -> None:
    """``rows @ fine``: (8, 32), (32, 32)."""
    for u in range(8):
        line[:] = 0.0
        for y in range(_SIDE):
            for x in range(_SIDE):
                line[x] += rows[u, y] * np.float64(fine[y, x])
        for x in range(_SIDE):
            out[u, x] = np.int64(line[x])


@kernel
def _by_columns(half: Any, columns: Any, line: Any, out: Any) -> None:
    """``half @ columns``: (8, 32), (32, v); in two parts of 20 bits and the rest, or float64 would not do."""
    count = columns.shape[1]
    for u in range(8):
        line[:] = 0.0
        high, low = line[:count], line[16 : 16 + count]
        for x in range(_SIDE):
            upper = half[u, x] >> 20
            first, second = np.float64(upper), np.float64(half[u, x] - (upper << 20))
            for v in range(count):
                high[v] += first * columns[x, v]
                low[v] += second * columns[x, v]
        for v in range(count):
            out[u, v] = (np.int64(high[v]) << 20) + np.int64(low[v])


@kernel
def _frequencies(low: Any, order: Any) -> Any:
    """The bits of coefficients above the median of all but the first."""
    for k in range(1, 64):
        value, at = low[k // 8, k % 8], k - 1
        while at > 0 and order[at - 1] > value:
            order[at] = order[at - 1]
            at -= 1
        order[at] = value
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
def _hash(fine: Any, how: Any, room: Any, out: Any) -> None:
    """Write the hashes: of the whole in each orientation, then of each further window."""
    gradient, rows, columns, turns, windows = how
    _, _, turned, line, half, low, order = room
    for k in range(turns.size):
        _turn(fine, turns[k], turned)
        _by_rows(turned, rows[0], line, half)
        _by_columns(half, columns[0], line, low)
        out[k] = _gradients(low) if gradient else _frequencies(low, order)
    for k in range(1, windows + 1):
        if k == 1 or k % 4 == 0:
            _by_rows(fine, rows[k // 4], line, half)
        _by_columns(half, columns[k % 4], line, low)
        out[turns.size + k - 1] = _gradients(low) if gradient else _frequencies(low, order)


@kernel
def _room(columns: Any) -> Any:
    return (
        np.empty((5, _SIDE, _SIDE), np.int64),
        np.empty((_SIDE, _SIDE), np.int64),
        np.empty((_SIDE, _SIDE), np.int64),
        np.empty(_SIDE),
        np.empty((8, _SIDE), np.int64),
        np.empty((8, columns.shape[2]), np.int64),
        np.empty(63, np.int64),
    )


@kernel
def _describe(pixels: Any, shape: Any, scale: Any, how: Any, room: Any, hashes: Any, thumb: Any) -> Any:
    height, width, channels = shape[0], shape[1], shape[2]
    if height * width == 0:
        return False
    sums, fine = room[0], room[1]
    _areas(pixels, height, width, channels, sums[4, :3], sums)
    if not _stretch(sums, channels, height * width, scale, fine, thumb):
        return False
    _hash(fine, how, room, hashes)
    return True


@kernel
def describe_bytes(places: Any, shapes: Any, how: Any, good: Any, hashes: Any, thumbs: Any) -> None:
    """Describe images of 8 bits that stand at ``places``; ``good`` is False for those that are flat.

    ``how``: whether gradients are hashed; weights of rows, of columns; orientations; number of further windows.
    """
    room = _room(how[2])
    for k in range(places.size):
        pixels = _bytes_at(places[k], np.int64(shapes[k, 0] * shapes[k, 1] * shapes[k, 2]))
        good[k] = _describe(pixels, shapes[k], np.int64(255), how, room, hashes[k], thumbs[k])


@kernel
def describe_words(places: Any, shapes: Any, how: Any, good: Any, hashes: Any, thumbs: Any) -> None:
    """Describe images of 16 bits: the scale by which they are flat is their own range."""
    room = _room(how[2])
    for k in range(places.size):
        pixels = _words_at(places[k], np.int64(shapes[k, 0] * shapes[k, 1] * shapes[k, 2]))
        least, most = np.int64(65535), np.int64(0)
        for value in pixels:
            least, most = min(least, np.int64(value)), max(most, np.int64(value))
        good[k] = _describe(pixels, shapes[k], max(1, most - least), how, room, hashes[k], thumbs[k])
