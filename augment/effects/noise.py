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
_MOST = 200  # that are searched for; never reached but by rounding
_ALL = 0xFFFFFFFF  # the greatest word
_BLOCKS = 256  # of random bits that are drawn at once


@kernel
def _words(first: Any, key: Any, out: Any) -> None:
    """The four words of blocks ``first``, ``first + 1``, ... in columns of ``out``; see :mod:`augment.rng`."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    one, two, three, four = out[0], out[1], out[2], out[3]
    for b in range(one.size):  # a column is independent of the next: in vectors
        c0, c1, c2, c3 = np.uint64(first + b), np.uint64(0), np.uint64(key[2]), np.uint64(key[3])
        k0, k1 = np.uint64(key[0]), np.uint64(key[1])
        for turn in range(10):
            if turn:
                k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
            p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
            c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
        one[b], two[b], three[b], four[b] = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


@kernel
def _finish(value: Any, top: Any, whole: Any) -> Any:
    """Round half up and clip; floats stay as they are."""
    if not whole:
        return value
    return np.floor(min(max(value, np.float32(0.0)), top) + np.float32(0.5))


@kernel
def _gaussian(src: Any, sigma: Any, key: Any, table: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    words = np.empty((4, _BLOCKS), np.uint32)
    for first in range(0, src.size, 8 * _BLOCKS):
        _words(first >> 3, key, words)
        values, into = src[first : first + 8 * _BLOCKS], dst[first : first + 8 * _BLOCKS]
        for x in range(values.size):
            bits = (words[(x & 7) >> 1, x >> 3] >> np.uint32(16 * (x & 1))) & np.uint32(0xFFFF)
            into[x] = _finish(np.float32(values[x]) + sigma * table[bits], top, whole)


@kernel
def _rician(src: Any, sigma: Any, key: Any, table: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    words = np.empty((4, _BLOCKS), np.uint32)
    for first in range(0, src.size, 4 * _BLOCKS):
        _words(first >> 2, key, words)
        values, into = src[first : first + 4 * _BLOCKS], dst[first : first + 4 * _BLOCKS]
        for x in range(values.size):
            word = words[x & 3, x >> 2]
            real = np.float32(values[x]) + sigma * table[word & np.uint32(0xFFFF)]
            imaginary = sigma * table[word >> np.uint32(16)]
            into[x] = _finish(np.float32(np.sqrt(real * real + imaginary * imaginary)), top, whole)


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
def _bell(mean: Any, root: Any, photon: Any, z: Any) -> Any:
    """Many photons: the normal distribution's; ``root`` is that of the mean."""
    return np.float32(np.floor(mean + root * np.float64(z) + 0.5) * photon)


@kernel
def _poisson(src: Any, photon: Any, key: Any, table: Any, dst: Any, top: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    words, means, none = np.empty((4, _BLOCKS), np.uint32), np.empty(4 * _BLOCKS), np.empty(4 * _BLOCKS)
    for first in range(0, src.size, 4 * _BLOCKS):
        _words(first >> 2, key, words)
        values, into = src[first : first + 4 * _BLOCKS], dst[first : first + 4 * _BLOCKS]
        for x in range(values.size):  # in vectors; the divisions of the series are what takes long
            means[x] = max(np.float64(values[x]), 0.0) / photon
            none[x] = _exp(min(means[x], _MANY))
        for x in range(values.size):
            mean, word = means[x], words[x & 3, x >> 2]
            if mean < _MANY:
                # Sequential search through the distribution function.
                u = (np.float64(word) + 0.5) / 4294967296.0
                count, chance = 0, none[x]
                below = chance
                while u > below and count < _MOST:
                    count += 1
                    chance *= mean / count
                    below += chance
                made = np.float32(count * photon)
            else:
                made = _bell(mean, np.sqrt(mean), photon, table[word & np.uint32(0xFFFF)])
            into[x] = _finish(made, top, whole)


@kernel
def _limits(mean: Any, last: Any, guide: Any) -> None:
    """The search of :func:`_poisson` for all words at once.

    ``count`` photons are too few where word > last[count]: u > below is word + 1/2 > 2**32 below, and all of
    it exact. The search may begin at guide[word >> 24].
    """
    count, chance = 0, _exp(mean)
    below = chance
    last[0] = np.int64(np.floor(below * 4294967296.0 - 0.5))
    while last[count] < _ALL and count < _MOST:
        count += 1
        chance *= mean / count
        below += chance
        last[count] = np.int64(np.floor(below * 4294967296.0 - 0.5))
    last[count] = _ALL
    count = 0
    for high in range(256):
        while high << 24 > last[count]:
            count += 1
        guide[high] = count


@kernel
def _poisson_bytes(src: Any, photon: Any, key: Any, table: Any, dst: Any, top: Any, _whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """The same for uint8, whose values are few: each one's distribution is made when it is first seen."""
    words = np.empty((4, _BLOCKS), np.uint32)
    seen, last = np.zeros(256, np.bool_), np.empty((256, _MOST + 1), np.int64)
    guide = np.empty((256, 256), np.uint8)
    means, roots, whole = np.empty(256), np.empty(256), np.empty(_MOST + 1, np.uint8)
    for v in range(256):
        means[v] = np.float64(v) / photon
        roots[v] = np.sqrt(means[v])
    for count in range(_MOST + 1):
        whole[count] = np.uint8(_finish(np.float32(count * photon), top, True))  # noqa: FBT003
    for first in range(0, src.size, 4 * _BLOCKS):
        _words(first >> 2, key, words)
        values, into = src[first : first + 4 * _BLOCKS], dst[first : first + 4 * _BLOCKS]
        for x in range(values.size):
            v, word = values[x], words[x & 3, x >> 2]
            if means[v] < _MANY:
                if not seen[v]:
                    seen[v] = True
                    _limits(means[v], last[v], guide[v])
                count = int(guide[v, word >> np.uint32(24)])
                while np.int64(word) > last[v, count]:
                    count += 1
                into[x] = whole[count]
            else:
                made = _bell(means[v], roots[v], photon, table[word & np.uint32(0xFFFF)])
                into[x] = np.uint8(_finish(made, top, True))  # noqa: FBT003


def gaussian(image: Image, values: F64, key: U32) -> Image:
    """Add normal noise of standard deviation ``values[0]``."""
    return _made(_gaussian, image, np.float32(values[0] * _top(image)), key)


def rician(image: Image, values: F64, key: U32) -> Image:
    """The magnitude of the value plus complex normal noise of standard deviation ``values[0]``."""
    return _made(_rician, image, np.float32(values[0] * _top(image)), key)


def poisson(image: Image, values: F64, key: U32) -> Image:
    """Count photons: white has ``1 / values[0] ** 2`` of them, so that its noise is ``values[0]``."""
    run = _poisson_bytes if image.dtype == np.uint8 else _poisson
    return _made(run, image, np.float64(values[0] * values[0] * _top(image)), key)


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
