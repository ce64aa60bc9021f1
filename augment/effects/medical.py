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
def _downscale(src: Any, rows: Any, columns: Any, dst: Any, whole: Any) -> None:
    h, w, c = src.shape
    small = np.empty((rows, columns, c))
    for i in range(rows):
        y0, y1 = i * h // rows, -(-(i + 1) * h // rows)
        for j in range(columns):
            x0, x1 = j * w // columns, -(-(j + 1) * w // columns)
            for k in range(c):
                total = 0.0
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        total += src[y, x, k]
                mean = total / ((y1 - y0) * (x1 - x0))
                small[i, j, k] = np.floor(mean + 0.5) if whole else mean
    for y in range(h):
        for x in range(w):
            for k in range(c):
                dst[y, x, k] = small[y * rows // h, x * columns // w, k]


def downscale(image: Image, values: F64, _key: object) -> Image:
    """Average down by ``values[0]`` (rows) and ``values[1]`` (columns), and repeat pixels back to the size."""
    h, w = image.shape[:2]
    out = np.empty_like(image)
    rows, columns = max(int(h / values[0] + 0.5), 1), max(int(w / values[1] + 0.5), 1)
    _downscale(image, min(rows, h), min(columns, w), out, image.dtype.kind == "u")
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
