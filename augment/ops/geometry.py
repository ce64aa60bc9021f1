"""Where pixels come from: the inverse matrices of the geometric ops.

A matrix is row-major 3x3, of homogeneous coordinates: the point (x, y) of the output (pixel (0, 0) has its
centre at (0.5, 0.5)) shows the source at (u / q, v / q) with (u, v, q) = M (x, y, 1). Affine ones end in
(0, 0, 1). Boxes and keypoints go through the inverse of the same matrix (:mod:`augment.targets`).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from augment import rng
from augment.ops.table import F64, GEOMETRY, NONE, Op, Place, Placed, Range, Space

__all__ = ["ROWS", "matrices", "matrix"]

# A share times a side may come out just below a whole pixel.
_SLACK = 1e-6
_FLAT = (0.0, 0.0, 1.0)
_QUARTER = 4
_HALF = 0.5


@lru_cache(maxsize=4096)
def matrix(
    name: str, parameter: float, w: int, h: int, space: Space = "wide"
) -> tuple[float, float, float, float, float, float]:
    """The inverse matrix of an affine op: the output pixel (x, y) shows (a x + b y + c, d x + e y + f).

    >>> matrix("TranslateX", 3.0, 10, 10)
    (1.0, 0.0, -3.0, 0.0, 1.0, 0.0)
    """
    if name == "ShearX":
        return (1.0, parameter, 0.0, 0.0, 1.0, 0.0)
    if name == "ShearY":
        return (1.0, 0.0, 0.0, parameter, 1.0, 0.0)
    if name in ("TranslateX", "TranslateY"):
        side = 1.0 if space == "wide" else float(w if name == "TranslateX" else h)
        pixels = float(math.trunc(parameter * side + math.copysign(_SLACK, parameter)))
        return (
            (1.0, 0.0, -pixels, 0.0, 1.0, 0.0) if name == "TranslateX" else (1.0, 0.0, 0.0, 0.0, 1.0, -pixels)
        )
    if name == "Rotate":
        angle = -math.radians(parameter % 360.0)
        cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
        x, y = -w / 2, -h / 2
        return (cos, sin, cos * x + sin * y + w / 2, -sin, cos, -sin * x + cos * y + h / 2)
    raise ValueError(f"{name} is not an affine op")


def matrices(name: str) -> Place:
    """The matrices of one of the five affine ops of AutoAugment."""

    def place(placed: Placed) -> F64:
        h, w = placed.shape[:2]
        values, inverse = np.unique(placed.parameter, return_inverse=True)
        made = np.array([(*matrix(name, float(v), w, h, placed.space), *_FLAT) for v in values])
        found: F64 = made.reshape(-1, 9)[inverse]
        return found

    return place


def _affine(a: F64, b: F64, c: F64, d: F64, e: F64, f: F64) -> F64:  # noqa: PLR0917  (a matrix, row by row)
    zero, one = np.zeros_like(a), np.ones_like(a)
    return np.stack([a, b, c, d, e, f, zero, zero, one], axis=1)


def flip_x(placed: Placed) -> F64:
    """Left becomes right."""
    one = np.ones_like(placed.parameter)
    return _affine(-one, 0 * one, placed.shape.width * one, 0 * one, one, 0 * one)


def flip_y(placed: Placed) -> F64:
    """Top becomes bottom."""
    one = np.ones_like(placed.parameter)
    return _affine(one, 0 * one, 0 * one, 0 * one, -one, placed.shape.height * one)


def quarter_turns(placed: Placed) -> F64:
    """One to three quarter turns, drawn by x; an image that is not square only turns by two, or not at all."""
    h, w = placed.shape[:2]
    x = np.minimum(placed.x, 1.0 - _SLACK)
    turns = 1 + np.floor(x * (_QUARTER - 1)) if h == w else 2 * np.floor(2 * x)
    cos, sin = np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.0, 1.0, 0.0, -1.0])
    c, s = cos[turns.astype(int)], sin[turns.astype(int)]
    x0, y0 = w / 2, h / 2
    return _affine(c, -s, x0 - c * x0 + s * y0, s, c, y0 - s * x0 - c * y0)


def _stretched(sx: F64, x: F64, sy: F64, y: F64) -> F64:
    """Scales, and where the source begins, on the grid of 16.16 numbers.

    There every sum of them is exact, so it does not matter how they are added up: Pillow's running sums of
    doubles, a multiplication, and fixed point see the same source pixel.
    """
    sx, sy = _grid(sx), _grid(sy)
    zero = 0 * sx
    return _affine(sx, zero, _grid(x + sx / 2) - sx / 2, zero, sy, _grid(y + sy / 2) - sy / 2)


def _grid(values: F64) -> F64:
    found: F64 = np.round(values * 65536) / 65536
    return found


def zoom(placed: Placed) -> F64:
    """Larger (factor above 1) or smaller about the centre."""
    h, w = placed.shape[:2]
    scale = 1.0 / placed.parameter
    return _stretched(scale, (1 - scale) * w / 2, scale, (1 - scale) * h / 2)


def crop(placed: Placed) -> F64:
    """A part with ``1 - parameter`` of the area, resized to the whole; x and y place it.

    Its aspect is within 3/4 .. 4/3 of the image's: the random resized crop of Szegedy et al., "Going deeper
    with convolutions" (CVPR 2015).
    """
    h, w = placed.shape[:2]
    stretch = rng.of_keys(placed.keys, 1)[:, 0]
    area = 1.0 - placed.parameter
    # Rational instead of exponential: symmetric in its logarithm to two digits, and the same on every machine.
    limit = np.minimum(4 / 3, 1.0 / area)
    aspect = np.where(
        stretch < _HALF, 1.0 / (limit - 2 * stretch * (limit - 1)), 1 + (2 * stretch - 1) * (limit - 1)
    )
    sx, sy = np.sqrt(area * aspect), np.sqrt(area / aspect)
    sx, sy = np.minimum(sx, 1.0), np.minimum(sy, 1.0)
    return _stretched(sx, placed.x * (1 - sx) * w, sy, placed.y * (1 - sy) * h)


def perspective(placed: Placed) -> F64:
    """Four points near the corners become the corners: up to ``parameter`` of half a side away from them."""
    h, w = placed.shape[:2]
    share = 0.5 * placed.parameter[:, None] * rng.of_keys(placed.keys, 8)
    dx, dy = share[:, :4] * w, share[:, 4:] * h
    # Corners in the source of the output's (0, 0), (w, 0), (w, h), (0, h).
    x = np.stack([dx[:, 0], w - dx[:, 1], w - dx[:, 2], dx[:, 3]], axis=1)
    y = np.stack([dy[:, 0], dy[:, 1], h - dy[:, 2], h - dy[:, 3]], axis=1)
    return _from_corners(x, y, float(w), float(h))


def _from_corners(x: F64, y: F64, w: float, h: float) -> F64:
    """The homography that takes the corners of a w x h rectangle to (x, y); Heckbert 1989, section 2.2."""
    sum_x, sum_y = x[:, 0] - x[:, 1] + x[:, 2] - x[:, 3], y[:, 0] - y[:, 1] + y[:, 2] - y[:, 3]
    dx1, dx2 = x[:, 1] - x[:, 2], x[:, 3] - x[:, 2]
    dy1, dy2 = y[:, 1] - y[:, 2], y[:, 3] - y[:, 2]
    below = dx1 * dy2 - dx2 * dy1
    g, i = (sum_x * dy2 - dx2 * sum_y) / below, (dx1 * sum_y - sum_x * dy1) / below
    a, b = x[:, 1] - x[:, 0] + g * x[:, 1], x[:, 3] - x[:, 0] + i * x[:, 3]
    d, e = y[:, 1] - y[:, 0] + g * y[:, 1], y[:, 3] - y[:, 0] + i * y[:, 3]
    return np.stack([a / w, b / h, x[:, 0], d / w, e / h, y[:, 0], g / w, i / h, np.ones_like(g)], axis=1)


def _warp(  # noqa: PLR0917  (a row of the table)
    name: str,
    code: int,
    place: Place,
    mild: Range = NONE,
    wide: Range = NONE,
    words: str = "",
    legal: tuple[float, float] = (-math.inf, math.inf),
) -> Op:
    least, most = legal
    return Op(
        name, code, "warp", mild, wide, place=place, targets=GEOMETRY, words=words, least=least, most=most
    )  # fmt: skip


def _both(mild: float, wide: float, words: str) -> tuple[Range, Range]:
    return Range(0.0, mild, words, scale=100.0), Range(0.0, wide, words, scale=100.0)


ROWS = (
    _warp("FlipX", 20, flip_x, words="left and right change places"),
    _warp("FlipY", 21, flip_y, words="top and bottom change places"),
    _warp("Turn", 22, quarter_turns, words="one to three quarter turns; by a half turn only where not square"),
    _warp(
        "Zoom", 23, zoom, Range(1.0, 1.2, "x{p:.2f}", signed=True), Range(1.0, 1.5, "x{p:.2f}", signed=True),
        words="larger or smaller about the centre", legal=(0.01, 100.0),
    ),
    _warp(
        "Crop", 24, crop, *_both(0.36, 0.92, "{p:.0f} % of the area cut off"), "random resized crop",
        (0.0, 1.0 - _SLACK),
    ),
    _warp(
        "Perspective", 25, perspective, *_both(0.3, 0.6, "corners moved by up to {p:.0f} % of half the side"),
        "seen from another angle", (0.0, 0.66),  # from 2 / 3 on the four corners may be no convex shape
    ),
)  # fmt: skip
