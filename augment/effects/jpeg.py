"""JPEG artefacts, without a JPEG file: the transform, the quantisation, and back.

Blocks of 8 x 8, the tables of the JPEG standard's annex K scaled for a quality as libjpeg does, no subsampling
of the colours. uint16 images: tables times 257. All in float64 with sums in a fixed order, hence the same bytes
everywhere, which no two JPEG libraries promise.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.jit import kernel

__all__ = ["artefacts", "basis", "tables"]

Image = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]

_LUMINANCE = """
    16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92
    49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_CHROMINANCE = """
    17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
    99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
_HALF_QUALITY = 50


@lru_cache(maxsize=128)
def tables(quality: int) -> F64:
    """The two quantisation tables at a quality of 1 .. 100: float64 (2, 8, 8).

    >>> tables(50)[0, 0, :4].tolist()
    [16.0, 11.0, 10.0, 16.0]
    """
    scale = 5000 // quality if quality < _HALF_QUALITY else 200 - 2 * quality
    base = np.array([_LUMINANCE.split(), _CHROMINANCE.split()], np.int64).reshape(2, 8, 8)
    return np.clip((base * scale + 50) // 100, 1, 255).astype(np.float64)


@cache
def basis() -> F64:
    """The orthonormal discrete cosine transform of 8 values, rounded to 15 digits: float64 (8, 8)."""
    angle = np.outer(np.arange(8), 2 * np.arange(8) + 1) * np.pi / 16
    made = np.cos(angle) / 2
    made[0] = np.sqrt(0.125)
    return np.round(made, 15)


@kernel
def _sums(m: Any, values: Any, out: Any) -> None:
    """``out[i] = sum over k of m[i, k] values[k]``, in the order of k, for eight rows of any length."""
    v0, v1, v2, v3, v4, v5, v6, v7 = (
        values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7],
    )  # fmt: skip
    for i in range(8):
        m0, m1, m2, m3, m4, m5, m6, m7 = m[i, 0], m[i, 1], m[i, 2], m[i, 3], m[i, 4], m[i, 5], m[i, 6], m[i, 7]
        into = out[i]
        for x in range(into.size):
            first = 0.0 + m0 * v0[x] + m1 * v1[x] + m2 * v2[x] + m3 * v3[x]
            into[x] = first + m4 * v4[x] + m5 * v5[x] + m6 * v6[x] + m7 * v7[x]


@kernel
def _turn(strip: Any, out: Any) -> None:
    """Eight rows of blocks side by side: ``out[column of a block, row, block] = strip[row, column of all]``."""
    for k in range(8):
        for i in range(8):
            for b in range(out.shape[2]):
                out[k, i, b] = strip[i, 8 * b + k]


@kernel
def _turn_back(columns: Any, out: Any) -> None:
    for i in range(8):
        for b in range(columns.shape[2]):
            for k in range(8):
                out[i, 8 * b + k] = columns[k, i, b]


@kernel
def _quantise(values: Any, step: Any) -> None:
    for x in range(values.size):
        values[x] = np.floor(values[x] / step + 0.5) * step


@kernel
def _code(strip: Any, table: Any, shift: Any, m: Any, turned: Any, work: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """Blocks side by side, (8, n): transform (columns, then rows), quantise, and back in that order."""
    n = strip.shape[1]
    one, two = work[0], work[1]
    blocks = one.reshape(8, 8, n // 8)
    for i in range(8):
        for x in range(n):
            strip[i, x] -= shift
    _sums(m, strip, two)
    _turn(two, blocks)
    _sums(m, one, two)
    found = two.reshape(8, 8, n // 8)
    for j in range(8):
        for i in range(8):
            _quantise(found[j, i], table[i, j])
        _sums(turned, found[j], blocks[j])
    _sums(turned, one, two)
    _turn_back(found, strip)
    for i in range(8):
        for x in range(n):
            strip[i, x] += shift


@kernel
def _to_luma(a: Any, b: Any, c: Any) -> None:
    """RGB to YCbCr of JFIF (centred at 0), in place."""
    for x in range(a.size):
        y = 0.299 * a[x] + 0.587 * b[x] + 0.114 * c[x]
        a[x], b[x], c[x] = y, (c[x] - y) / 1.772, (a[x] - y) / 1.402


@kernel
def _from_luma(a: Any, b: Any, c: Any) -> None:
    for x in range(a.size):
        y, blue, red = a[x], b[x], c[x]
        a[x] = y + 1.402 * red
        b[x] = y - 0.344136286 * blue - 0.714136286 * red
        c[x] = y + 1.772 * blue


@kernel
def _read(src: Any, top: Any, strip: Any) -> None:
    """Eight rows from ``top`` on into planes (c, 8, n); the last row and the last column are repeated."""
    h, w, c = src.shape
    for i in range(8):
        y = min(top + i, h - 1)
        for k in range(c):
            into = strip[k, i]
            for x in range(w):
                into[x] = np.float64(src[y, x, k])
            for x in range(w, into.size):
                into[x] = into[w - 1]


@kernel
def _write(strip: Any, top: Any, dst: Any, most: Any, whole: Any) -> None:
    h, w, c = dst.shape
    for i in range(min(8, h - top)):
        for k in range(c):
            values = strip[k, i]
            for x in range(w):
                value = min(max(values[x], 0.0), most)
                dst[top + i, x, k] = np.floor(value + 0.5) if whole else value


@kernel
def _pass(src: Any, quantum: Any, m: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    h, w, c = src.shape
    colours = c == 3  # noqa: PLR2004  (RGB)
    n = (w + 7) // 8 * 8
    strip, work, turned = np.empty((c, 8, n)), np.empty((2, 8, n)), np.empty((8, 8))
    for i in range(8):
        for j in range(8):
            turned[i, j] = m[j, i]
    middle = 128.0 * (top / 255.0)
    for y in range(0, h, 8):
        _read(src, y, strip)
        if colours:
            _to_luma(strip[0].reshape(8 * n), strip[1].reshape(8 * n), strip[2].reshape(8 * n))
        for k in range(c):
            other = colours and k > 0
            _code(strip[k], quantum[1 if other else 0], 0.0 if other else middle, m, turned, work)
        if colours:
            _from_luma(strip[0].reshape(8 * n), strip[1].reshape(8 * n), strip[2].reshape(8 * n))
        _write(strip, y, dst, top, whole)


def artefacts(image: Image, values: F64, _key: object) -> Image:
    """What JPEG of quality ``values[0]`` leaves; of three channels as YCbCr, of others each alone."""
    whole = image.dtype.kind == "u"
    top = float(np.iinfo(image.dtype).max) if whole else 1.0
    out = np.empty_like(image)
    _pass(image, tables(int(values[0])) * (top / 255.0), basis(), out, top, whole)
    return out
