"""What scanners do: loss of resolution, ghosts, and a bias field.

Integer images are rounded half up and clipped; float32 ones are neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from augment import rng
from lake.jit import kernel

__all__ = ["bias_field", "downscale", "ghosts"]

Image = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]

_TERMS = 9  # x, y, xx, xy, yy, xxx, xxy, xyy, yyy


@kernel
def _finish(value: Any, top: Any, whole: Any) -> Any:
    return np.floor(min(max(value, 0.0), top) + 0.5) if whole else value


@kernel
def _clear(values: Any) -> None:
    for x in range(values.size):
        values[x] = 0


@kernel
def _windows(side: Any, count: Any) -> Any:
    """Where the ``count`` windows of a side begin and end: they overlap where it is no multiple."""
    begin, end = np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count):
        begin[i], end[i] = i * side // count, -(-(i + 1) * side // count)
    return begin, end


@kernel
def _mean(src: Any, begin: Any, end: Any, left: Any, right: Any, sums: Any, out: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """The rounded means of the windows in rows begin .. end - 1 of whole numbers: columns first."""
    c = src.shape[2]
    _clear(sums)
    for y in range(begin, end):
        row = src[y].reshape(sums.size)
        for x in range(sums.size):
            sums[x] += sums.dtype.type(row[x])
    channels, one, two = np.uint64(c), np.uint64(1), np.uint64(2)  # unsigned, or indices would be tested
    for j in range(left.size):
        low, high = np.uint64(left[j]), np.uint64(right[j])
        # (2 total + n) / 2 n is never nearer than 1 / 2 n to a whole number that it is not: a quarter more
        # than the half is safe from the rounding of the reciprocal.
        size = np.float64((end - begin) * (right[j] - left[j]))
        inverse, half, to = 1.0 / size, 0.5 * size + 0.25, np.uint64(j) * channels
        if c == 3:  # noqa: PLR2004  (RGB: three sums at once)
            red, green, blue = np.int64(0), np.int64(0), np.int64(0)
            for x in range(low, high):
                at = x * channels
                red += sums[at]
                green += sums[at + one]
                blue += sums[at + two]
            out[to] = np.int64((np.float64(red) + half) * inverse)
            out[to + one] = np.int64((np.float64(green) + half) * inverse)
            out[to + two] = np.int64((np.float64(blue) + half) * inverse)
            continue
        for k in range(np.uint64(0), channels):
            total = np.int64(0)
            for x in range(low, high):
                total += sums[x * channels + k]
            out[to + k] = np.int64((np.float64(total) + half) * inverse)


@kernel
def _mean_in_order(src: Any, begin: Any, end: Any, left: Any, right: Any, out: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """The means, of floats: a sum's order matters."""
    c = src.shape[2]
    for j in range(left.size):
        for k in range(c):
            total = 0.0
            for y in range(begin, end):
                for x in range(left[j], right[j]):
                    total += src[y, x, k]
            out[j * c + k] = total / ((end - begin) * (right[j] - left[j]))


@kernel
def _downscale(src: Any, rows: Any, columns: Any, sums: Any, dst: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    h, w, c = src.shape
    top, bottom = _windows(h, rows)
    left, right = _windows(w, columns)
    small = np.empty(columns * c, src.dtype)
    places, y = np.empty(w * c, np.uint32), 0
    for x in range(w):
        for k in range(c):
            places[x * c + k] = x * columns // w * c + k
    for i in range(rows):
        if whole:
            _mean(src, top[i], bottom[i], left, right, sums, small)
        else:
            _mean_in_order(src, top[i], bottom[i], left, right, small)
        row = dst[y].reshape(w * c)
        for x in range(w * c):
            row[x] = small[places[x]]
        y += 1
        while y < h and y * rows // h == i:
            again = dst[y].reshape(w * c)
            for x in range(w * c):
                again[x] = row[x]
            y += 1


def downscale(image: Image, values: F64, _key: object) -> Image:
    """Average down by ``values[0]`` (rows) and ``values[1]`` (columns), and repeat pixels back to the size."""
    h, w = image.shape[:2]
    out = np.empty_like(image)
    rows, columns = max(int(h / values[0] + 0.5), 1), max(int(w / values[1] + 0.5), 1)
    short = image.dtype == np.uint8 and h < 1 << 23  # of a column; 32 bits go twice as fast
    sums = np.empty(w * image.shape[2], np.int32 if short else np.int64)
    _downscale(image, min(rows, h), min(columns, w), sums, out, image.dtype.kind == "u")
    return out


@kernel
def _ghosts(src: Any, strength: Any, count: Any, upright: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    h, w, c = src.shape
    side = h if upright else w
    for y in range(h):
        for x in range(w):
            for k in range(c):
                total = 0.0
                for ghost in range(count):
                    shift = ghost * side // count
                    total += src[(y + shift) % h, x, k] if upright else src[y, (x + shift) % w, k]
                value = np.float64(src[y, x, k]) - strength / count * total
                dst[y, x, k] = _finish(abs(value), top, whole)


def ghosts(image: Image, values: F64, _key: object) -> Image:
    """Ghosts of a movement during an MRI: every n-th line of k-space is weaker by ``values[0]``.

    In the image that is the sum of n copies, shifted by n-ths of the side (``values[1]`` = n), along the rows
    (``values[2]`` = 0) or columns, subtracted; the magnitude is taken. As TorchIO's RandomGhosting does in
    k-space (Pérez-García et al., 2021), but for whole shifts, and without its spared centre.
    """
    out = np.empty_like(image)
    _ghosts(image, float(values[0]), int(values[1]), values[2] != 0, out, _top(image), image.dtype.kind == "u")
    return out


@kernel
def _bias(src: Any, a: Any, dst: Any, top: Any, whole: Any) -> None:
    h, w, c = src.shape
    for y in range(h):
        v = (2.0 * y + 1.0) / h - 1.0
        for x in range(w):
            u = (2.0 * x + 1.0) / w - 1.0
            linear = a[0] * u + a[1] * v
            square = a[2] * u * u + a[3] * u * v + a[4] * v * v
            cubic = a[5] * u * u * u + a[6] * u * u * v + a[7] * u * v * v + a[8] * v * v * v
            factor = max(1.0 + (linear + square + cubic), 0.0)
            for k in range(c):
                dst[y, x, k] = _finish(src[y, x, k] * factor, top, whole)


def bias_field(image: Image, values: F64, key: U32) -> Image:
    """Multiply by 1 + a cubic polynomial of the place, its nine coefficients uniform within ± ``values[0]``.

    The slowly varying gain of MRI coils; a polynomial as in Van Leemput et al. (1999).
    """
    draws = rng.of_keys(np.asarray(key, np.uint32)[None], _TERMS)[0]
    out = np.empty_like(image)
    _bias(image, (2.0 * draws - 1.0) * float(values[0]), out, _top(image), image.dtype.kind == "u")
    return out


def _top(image: Image) -> float:
    return float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0
