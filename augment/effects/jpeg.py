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
def _transform(block: Any, m: Any, work: Any, back: Any) -> None:
    """Turn a block into m block m', or m' block m on the way back."""
    for i in range(8):
        for j in range(8):
            total = 0.0
            for k in range(8):
                total += (m[k, i] if back else m[i, k]) * block[k, j]
            work[i, j] = total
    for i in range(8):
        for j in range(8):
            total = 0.0
            for k in range(8):
                total += work[i, k] * (m[k, j] if back else m[j, k])
            block[i, j] = total


@kernel
def _colours(block: Any, back: Any) -> None:
    """RGB to YCbCr of JFIF (centred at 0) and back, for 3 x 8 x 8 values."""
    for i in range(8):
        for j in range(8):
            a, b, c = block[0, i, j], block[1, i, j], block[2, i, j]
            if back:
                block[0, i, j] = a + 1.402 * c
                block[1, i, j] = a - 0.344136286 * b - 0.714136286 * c
                block[2, i, j] = a + 1.772 * b
            else:
                y = 0.299 * a + 0.587 * b + 0.114 * c
                block[0, i, j] = y
                block[1, i, j] = (c - y) / 1.772
                block[2, i, j] = (a - y) / 1.402


@kernel
def _pass(src: Any, quantum: Any, m: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: C901, PLR0912, PLR0917  (compiled code: loops in full)
    h, w, c = src.shape
    colours = c == 3  # noqa: PLR2004  (RGB)
    block, work = np.empty((c, 8, 8)), np.empty((8, 8))
    middle = 128.0 * (top / 255.0)
    for y in range(0, h, 8):
        for x in range(0, w, 8):
            for k in range(c):
                for i in range(8):
                    for j in range(8):
                        block[k, i, j] = np.float64(src[min(y + i, h - 1), min(x + j, w - 1), k])
            if colours:
                _colours(block, 0)
            for k in range(c):
                table = quantum[1 if colours and k > 0 else 0]
                shift = 0.0 if colours and k > 0 else middle
                for i in range(8):
                    for j in range(8):
                        block[k, i, j] -= shift
                _transform(block[k], m, work, 0)
                for i in range(8):
                    for j in range(8):
                        block[k, i, j] = np.floor(block[k, i, j] / table[i, j] + 0.5) * table[i, j]
                _transform(block[k], m, work, 1)
                for i in range(8):
                    for j in range(8):
                        block[k, i, j] += shift
            if colours:
                _colours(block, 1)
            for k in range(c):
                for i in range(min(8, h - y)):
                    for j in range(min(8, w - x)):
                        value = min(max(block[k, i, j], 0.0), top)
                        dst[y + i, x + j, k] = np.floor(value + 0.5) if whole else value


def artefacts(image: Image, values: F64, _key: object) -> Image:
    """What JPEG of quality ``values[0]`` leaves; of three channels as YCbCr, of others each alone."""
    whole = image.dtype.kind == "u"
    top = float(np.iinfo(image.dtype).max) if whole else 1.0
    out = np.empty_like(image)
    _pass(image, tables(int(values[0])) * (top / 255.0), basis(), out, top, whole)
    return out
