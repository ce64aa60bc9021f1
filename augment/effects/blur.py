"""Gaussian blur, in integers: weights are whole numbers of 1 / 32768, edges are repeated.

Both passes are exact; the result is rounded once, half up. float32 images: the same weights in float64.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.jit import kernel

__all__ = ["gaussian", "weights"]

Image = npt.NDArray[Any]

_UNIT = 1 << 15


@lru_cache(maxsize=256)
def weights(sigma: float) -> npt.NDArray[np.int64]:
    """The weights of one side and the centre: int64 (r + 1,), r = ceil(3 sigma); all 2 r + 1 add up to 32768.

    >>> weights(0.5).tolist()
    [25774, 3488, 9]
    """
    sigma = max(sigma, 0.05)  # already nothing, and the squares stay finite
    radius = int(np.ceil(3.0 * sigma))
    bell = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    share = bell / (bell[0] + 2 * bell[1:].sum())
    side = np.floor(share[1:] * _UNIT + 0.5).astype(np.int64)
    made = np.concatenate([[_UNIT - 2 * side.sum()], side])
    made.flags.writeable = False
    return made


@kernel
def _down(flat: Any, y: Any, taps: Any, sums: Any) -> None:
    """``sums``: the sums of one column pass for row y; at most 65535 * 32768, which fits 32 bits."""
    word, h = sums.dtype.type, flat.shape[0]
    here = flat[y]
    first = word(taps[0])
    for x in range(sums.size):
        sums[x] = word(first * word(here[x]))
    for r in range(1, taps.size):
        above, below, tap = flat[max(y - r, 0)], flat[min(y + r, h - 1)], word(taps[r])
        for x in range(sums.size):
            sums[x] += word(tap * word(word(above[x]) + word(below[x])))


@kernel
def _along(padded: Any, c: Any, taps: Any, totals: Any) -> None:
    """The row pass; ``padded`` has repeated edges of ``taps.size - 1`` pixels."""
    word, wide, size = padded.dtype.type, totals.dtype.type, totals.size
    radius = taps.size - 1
    middle, first = padded[radius * c : radius * c + size], wide(taps[0])
    for x in range(size):
        totals[x] = first * wide(middle[x])
    for r in range(1, taps.size):
        left = padded[(radius - r) * c : (radius - r) * c + size]
        right = padded[(radius + r) * c : (radius + r) * c + size]
        tap = wide(taps[r])
        for x in range(size):
            totals[x] += tap * wide(word(left[x] + right[x]))


@kernel
def _blur(src: Any, taps: Any, padded: Any, totals: Any, dst: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """``padded``: one row's sums with edges; ``totals``: (w * c,). Integers, or float64 both."""
    h, w, c = src.shape
    flat, result = src.reshape(h, w * c), dst.reshape(h, w * c)
    edge = (taps.size - 1) * c
    sums = padded[edge : edge + w * c]
    half, unit = np.uint64(1 << 29), np.float64(1 << 30)
    for y in range(h):
        _down(flat, y, taps, sums)
        for x in range(edge):
            padded[x] = sums[x % c]
            padded[edge + w * c + x] = sums[(w - 1) * c + x % c]
        _along(padded, c, taps, totals)
        into = result[y]
        if whole:
            for x in range(w * c):
                into[x] = (np.uint64(totals[x]) + half) >> np.uint64(30)
        else:
            for x in range(w * c):
                into[x] = totals[x] / unit


def gaussian(image: Image, values: npt.NDArray[np.float64], _key: object) -> Image:
    """Blur with a standard deviation of ``values[0]`` pixels."""
    sigma = float(values[0])
    if sigma <= 0:
        return image.copy()
    whole = image.dtype.kind == "u"
    taps = weights(sigma).astype(np.uint32 if whole else np.float64)
    out = np.empty_like(image)
    size, edge = image.shape[1] * image.shape[2], (len(taps) - 1) * image.shape[2]
    padded = np.empty(size + 2 * edge, taps.dtype)
    _blur(image, taps, padded, np.empty(size, np.uint64 if whole else np.float64), out, whole)
    return out
