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
    [25772, 3488, 10]
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
def _blur(src: Any, taps: Any, rows: Any, dst: Any, unit: Any, whole: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """``rows``: the sums of one column pass, (w * c,); every row of the output needs one."""
    h, w, c = src.shape
    flat, result = src.reshape(h, w * c), dst.reshape(h, w * c)
    half = unit * unit // 2
    for y in range(h):
        for x in range(w * c):
            rows[x] = taps[0] * rows.dtype.type(flat[y, x])
        for r in range(1, taps.size):
            above, below = flat[max(y - r, 0)], flat[min(y + r, h - 1)]
            for x in range(w * c):
                rows[x] += taps[r] * (rows.dtype.type(above[x]) + rows.dtype.type(below[x]))
        for x in range(w):
            for k in range(c):
                total = taps[0] * rows[x * c + k]
                for r in range(1, taps.size):
                    total += taps[r] * (rows[max(x - r, 0) * c + k] + rows[min(x + r, w - 1) * c + k])
                result[y, x * c + k] = (total + half) // (unit * unit) if whole else total / (unit * unit)


def gaussian(image: Image, values: npt.NDArray[np.float64], _key: object) -> Image:
    """Blur with a standard deviation of ``values[0]`` pixels."""
    sigma = float(values[0])
    if sigma <= 0:
        return image.copy()
    whole = image.dtype.kind == "u"
    taps = weights(sigma).astype(np.int64 if whole else np.float64)
    out = np.empty_like(image)
    rows = np.empty(image.shape[1] * image.shape[2], taps.dtype)
    _blur(image, taps, rows, out, _UNIT if whole else float(_UNIT), whole)
    return out
