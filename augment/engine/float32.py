"""Stages on float32 images of 0 .. 1, without a cast to 8 or 16 bits.

The same definitions as for integers (:mod:`augment.engine.cpu`) with white at 1.0, and without rounding.
What is counted in levels needs a word:

- Posterize to b bits gives the 2 ** b values k / 2 ** b; to 8 or more it does nothing.
- Thresholds and amounts in levels of 255 (Solarize, SolarizeAdd) are divided by 255.
- AutoContrast stretches the least and the greatest value of a channel to 0 and 1.
- Equalize moves a value with its level of 255: by as much as Pillow's table moves the level.

Tables, colours and stencils clip to 0 .. 1; warps, flips and noise do not.

Each stage is worked out in float64 and rounded once, by additions, multiplications and divisions of single
values in a fixed order: ``programs.cu`` finds the same bits. Hence no product of matrices (BLAS adds up in an
order of the machine's), no power of a library, and a mean of whole numbers: L in units of 2**-24, whose sum is
exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.engine.compile import MATRIX, WARP
from augment.ops import OPS

__all__ = ["run"]

Image = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_LUMA = np.array([19595, 38470, 7471], np.float64) / 65536
_RGB, _LEVELS, _DEPTH, _STENCIL = 3, 255.0, 8, 3
_UNIT, _MOST = float(1 << 24), float(1 << 15)  # of sums of L: their grain, and what none is beyond


def run(image: Image, codes: npt.NDArray[np.int64], values: F64, *, bilinear: bool) -> Image:
    """Carry out the stages of one image (h, w, c); a new one comes back."""
    for code, numbers in zip(codes, values, strict=True):
        if code >= 0:
            image = (
                _warp(image, numbers, bilinear=bilinear) if code == WARP else _STAGES[int(code)](image, numbers)
            )
    return np.array(image, np.float32, order="C")


def _clip(image: npt.NDArray[Any]) -> Image:
    made: Image = np.clip(image, 0.0, 1.0).astype(np.float32)
    return made


def _luma(image: Image) -> F64:
    channels = [image[..., k].astype(np.float64) for k in range(image.shape[2])]
    if len(channels) == _RGB:
        channels = [weight * channel for weight, channel in zip(_LUMA, channels, strict=True)]
        return channels[0] + channels[1] + channels[2]
    total = channels[0]
    for channel in channels[1:]:
        total = total + channel
    return total / len(channels)


def _blend(base: F64 | float, image: Image, factor: float) -> Image:
    return _clip(base + factor * (image.astype(np.float64) - base))


def _contrast(image: Image, values: F64) -> Image:
    whole = np.floor(np.clip(_luma(image), -_MOST, _MOST) * _UNIT + 0.5).astype(np.int64)
    mean = np.float32(float(whole.sum()) / _UNIT / float(whole.size))
    return _blend(float(mean), image, values[0])


def _colour(image: Image, values: F64) -> Image:
    return _blend(_luma(image)[..., None], image, values[0])


def _sharpen(image: Image, values: F64) -> Image:
    h, w = image.shape[:2]
    if min(h, w) < _STENCIL:
        return image
    wide = image.astype(np.float64)
    columns = wide[:-2] + wide[1:-1] + wide[2:]
    total = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:] + 4 * wide[1:-1, 1:-1]
    out = image.copy()
    out[1:-1, 1:-1] = _blend(total / 13, image[1:-1, 1:-1], values[0])
    return out


def _posterize(image: Image, values: F64) -> Image:
    bits = max(int(values[0]), 1)
    if bits >= _DEPTH:
        return image
    steps = float(1 << bits)
    made: Image = (np.minimum(np.floor(_clip(image) * steps), steps - 1) / steps).astype(np.float32)
    return made


def _solarize(image: Image, values: F64) -> Image:
    wide = image.astype(np.float64)
    return _clip(np.where(wide < values[0] / _LEVELS, wide, 1.0 - wide))


def _solarize_add(image: Image, values: F64) -> Image:
    wide = image.astype(np.float64)
    return _clip(np.where(wide < 128 / _LEVELS, wide + values[0] / _LEVELS, wide))


def _autocontrast(image: Image, _values: F64) -> Image:
    low, high = image.min(axis=(0, 1)).astype(np.float64), image.max(axis=(0, 1)).astype(np.float64)
    span = np.where(high > low, high - low, 1.0)
    made: Image = np.where(high > low, _clip((image.astype(np.float64) - low) / span), image)
    return made


def _equalize(image: Image, _values: F64) -> Image:
    out = image.copy()
    for k in range(image.shape[2]):
        level = np.floor(np.clip(image[..., k], 0, 1) * np.float32(_LEVELS) + np.float32(0.5)).astype(np.int64)
        counts = np.bincount(level.ravel(), minlength=256)
        used = counts[counts > 0]
        step = int(used.sum() - used[-1]) // 255
        if len(used) > 1 and step > 0:
            below = np.concatenate([[0], np.cumsum(counts)[:-1]])
            moved = np.minimum((below + step // 2) // step, 255) - np.arange(256)
            shift = (moved / _LEVELS).astype(np.float32).astype(np.float64)[level]
            out[..., k] = np.where(shift == 0, image[..., k], _clip(image[..., k] + shift))
    return out


def _gamma(image: Image, values: F64) -> Image:
    from augment.engine import _kernels

    out = np.empty_like(image)
    _kernels.power_of(np.clip(image, 0, 1).reshape(-1), float(values[0]), out.reshape(-1))
    return out


def _window(image: Image, values: F64) -> Image:
    return _clip((image.astype(np.float64) - values[0]) / (values[1] - values[0]))


def _mix(image: Image, values: F64) -> Image:
    red, green, blue = (image[..., k].astype(np.float64) for k in range(_RGB))
    out = np.empty_like(image)
    for k, row in enumerate(values.reshape(3, 4)):
        out[..., k] = _clip(row[0] * red + row[1] * green + row[2] * blue + row[3])
    return out


def _erase(image: Image, values: F64) -> Image:
    out = image.copy()
    x0, y0, x1, y1 = (int(v) for v in values[:4])
    out[y0:y1, x0:x1] = 0.5
    return out


def _warp(image: Image, m: F64, *, bilinear: bool) -> Image:
    h, w, _ = image.shape
    if not bilinear:  # the integer kernel moves 32 bits as well as 8: the same pixels
        from augment.engine import _kernels

        out = np.empty_like(image)
        _kernels.move(image, np.ascontiguousarray(m), out)
        return out
    y, x = np.mgrid[:h, :w] + 0.5
    u, v = m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]
    if m[6] or m[7]:
        below = m[6] * x + m[7] * y + m[8]
        with np.errstate(divide="ignore", invalid="ignore"):  # on the horizon: outside
            u, v = u / below, v / below
    inside = (u >= 0) & (v >= 0) & (u < w) & (v < h)
    u, v = np.where(inside, u, 0.5), np.where(inside, v, 0.5)
    left, up = np.floor(u - 0.5).astype(int), np.floor(v - 0.5).astype(int)
    dx, dy = (u - 0.5 - left)[..., None], (v - 0.5 - up)[..., None]
    x0, x1 = np.maximum(left, 0), np.minimum(left + 1, w - 1)
    y0, y1 = np.maximum(up, 0), np.minimum(up + 1, h - 1)
    wide = image.astype(np.float64)
    first = wide[y0, x0] + (wide[y0, x1] - wide[y0, x0]) * dx
    second = wide[y1, x0] + (wide[y1, x1] - wide[y1, x0]) * dx
    return np.where(inside[..., None], first + (second - first) * dy, 0.0).astype(np.float32)


_BY_NAME: dict[str, Callable[[Image, F64], Image]] = {
    "Brightness": lambda image, values: _blend(0.0, image, values[0]),
    "Color": _colour,
    "Contrast": _contrast,
    "Sharpness": _sharpen,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": lambda image, _values: _clip(1.0 - image.astype(np.float64)),
    "Cutout": _erase,
    "Gamma": _gamma,
    "SolarizeAdd": _solarize_add,
    "Window": _window,
}
_STAGES = {OPS[name].code: function for name, function in _BY_NAME.items()} | {MATRIX: _mix}
