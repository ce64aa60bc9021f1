"""Rectangles that are erased."""

from __future__ import annotations

import numpy as np

from augment import rng
from augment.ops.table import F64, Op, Placed, Range

__all__ = ["ROWS"]

_SLACK = 1e-6
_HALF = 0.5


def rectangle(placed: Placed) -> F64:
    """x0, y0, x1, y1 of ``parameter`` of the area, its aspect in 0.3 .. 3.3, wholly inside; placed by x and y.

    Random Erasing (Zhong et al., AAAI 2020), filled with mid-grey.
    """
    h, w = placed.shape[:2]
    u = rng.of_keys(placed.keys, 1)[:, 0]
    aspect = np.where(u < _HALF, 0.3 + 1.4 * u, 1.0 / (1.0 - 1.4 * (u - _HALF)))
    area = placed.parameter * h * w
    wide = np.minimum(np.floor(np.sqrt(area * aspect) + _SLACK), w)
    high = np.minimum(np.floor(np.sqrt(area / aspect) + _SLACK), h)
    left, top = np.floor(placed.x * (w - wide + 1)), np.floor(placed.y * (h - high + 1))
    made: F64 = np.stack([left, top, left + wide, top + high], axis=1)
    return made


_AREA = "{p:.0f} % of the area"
ROWS = (
    Op(
        "Erase", 26, "erase", Range(0.0, 0.2, _AREA, scale=100.0), Range(0.0, 0.4, _AREA, scale=100.0),
        place=rectangle, neutral=0.0, least=0.0, most=1.0, words="a rectangle becomes grey",
    ),
)  # fmt: skip
