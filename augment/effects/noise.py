"""Noise: Gaussian, Poisson (photons) and Rician (magnitude images of MRI).

Every value of an image has its own random bits: value j (row by row, channels last) takes 16 bits (Gaussian) or
32 (Poisson, Rician) out of the blocks ``philox(counter=(block, 0, k2, k3), key=(k0, k1))``, low words first.
Integer images are rounded half up and clipped; float32 ones are neither.

Parameters are in units of white: a sigma of 0.1 is 25.5 of 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from augment.effects._random import normal_table
from lake.jit import kernel

__all__ = ["gaussian", "poisson", "rician"]

Image = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]

_MANY = 32.0  # photons from which on a normal distribution stands in


@kernel
def _block(index: Any, key: Any, out: Any) -> None:
    """Philox4x32-10, see :mod:`augment.rng`."""
    c0, c1, c2, c3 = np.uint64(index), np.uint64(0), np.uint64(key[2]), np.uint64(key[3])
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for turn in range(10):
        if turn:
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
    out[0], out[1], out[2], out[3] = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


@kernel
def _finish(value: Any, top: Any, whole: Any) -> Any:
    """Round half up and clip; floats stay as they are."""
    if not whole:
        return value
    return np.floor(min(max(value, np.float32(0.0)), top) + np.float32(0.5))


@kernel
def _gaussian(src: Any, sigma: Any, key: Any, table: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    words = np.empty(4, np.uint32)
    for first in range(0, src.size, 8):
        _block(first >> 3, key, words)
        for lane in range(min(8, src.size - first)):
            bits = (words[lane >> 1] >> np.uint32(16 * (lane & 1))) & np.uint32(0xFFFF)
            value = np.float32(src[first + lane]) + sigma * table[bits]
            dst[first + lane] = _finish(value, top, whole)


@kernel
def _rician(src: Any, sigma: Any, key: Any, table: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    words = np.empty(4, np.uint32)
    for first in range(0, src.size, 4):
        _block(first >> 2, key, words)
        for lane in range(min(4, src.size - first)):
            real = np.float32(src[first + lane]) + sigma * table[words[lane] & np.uint32(0xFFFF)]
            imaginary = sigma * table[words[lane] >> np.uint32(16)]
            value = np.sqrt(real * real + imaginary * imaginary)
            dst[first + lane] = _finish(np.float32(value), top, whole)


@kernel
def _exp(x: Any) -> Any:
    """exp(-x) for 0 <= x <= 32 by + - * / alone: the series at x / 1024, squared ten times."""
    small, term, total = -x / 1024.0, 1.0, 1.0
    for step in range(1, 12):
        term = term * small / step
        total += term
    for _ in range(10):
        total *= total
    return total


@kernel
def _poisson(src: Any, photon: Any, key: Any, table: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    words = np.empty(4, np.uint32)
    for first in range(0, src.size, 4):
        _block(first >> 2, key, words)
        for lane in range(min(4, src.size - first)):
            mean = max(np.float64(src[first + lane]), 0.0) / photon
            if mean < 32.0:  # noqa: PLR2004  (_MANY)
                # Sequential search through the distribution function.
                u = (np.float64(words[lane]) + 0.5) / 4294967296.0
                count, chance = 0, _exp(mean)
                below = chance
                while u > below and count < 200:  # noqa: PLR2004  (never reached but by rounding)
                    count += 1
                    chance *= mean / count
                    below += chance
                value = count * photon
            else:
                z = np.float64(table[words[lane] & np.uint32(0xFFFF)])
                value = np.floor(mean + np.sqrt(mean) * z + 0.5) * photon
            dst[first + lane] = _finish(np.float32(value), top, whole)


def gaussian(image: Image, values: F64, key: U32) -> Image:
    """Add normal noise of standard deviation ``values[0]``."""
    return _made(_gaussian, image, np.float32(values[0] * _top(image)), key)


def rician(image: Image, values: F64, key: U32) -> Image:
    """The magnitude of the value plus complex normal noise of standard deviation ``values[0]``."""
    return _made(_rician, image, np.float32(values[0] * _top(image)), key)


def poisson(image: Image, values: F64, key: U32) -> Image:
    """Count photons: white has ``1 / values[0] ** 2`` of them, so that its noise is ``values[0]``."""
    return _made(_poisson, image, np.float64(values[0] * values[0] * _top(image)), key)


def _top(image: Image) -> float:
    return float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0


def _made(run: Any, image: Image, scale: np.floating[Any], key: U32) -> Image:
    if scale == 0:
        return image.copy()
    out = np.empty_like(image)
    whole = image.dtype.kind == "u"
    run(
        image.reshape(-1), scale, np.ascontiguousarray(key), normal_table(), out.reshape(-1),
        np.float32(_top(image)), whole,
    )  # fmt: skip
    return out
