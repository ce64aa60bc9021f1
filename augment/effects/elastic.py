"""Elastic deformation: a smooth field of displacements moves the pixels.

Random displacements stand at the nodes of a grid of about a sixth of the shorter side (uniform in a square
around 0), and a cubic B-spline makes a field of them, as free-form deformations in medical imaging (Rueckert et
al., 1999). The image is then sampled at the displaced places, nearest or bilinear, black outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from augment import rng
from lake.jit import kernel

__all__ = ["CELLS", "deform", "field", "nodes", "points"]

Image = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]

CELLS = 6  # along the shorter side
_ROUNDS = 60  # to find where a point goes


def nodes(values: F64, key: U32, height: int, width: int) -> tuple[F64, float]:
    """Displacements (x, y) in pixels at the nodes, (rows + 3, columns + 3, 2), and a cell's side."""
    side = max(min(height, width) / CELLS, 1.0)
    rows, columns = int(np.ceil(height / side)), int(np.ceil(width / side))
    count = (rows + 3) * (columns + 3) * 2
    span = float(values[0]) * side
    draws = rng.of_keys(np.asarray(key, np.uint32)[None], count)[0]
    return ((2.0 * draws - 1.0) * span).reshape(rows + 3, columns + 3, 2), side


@kernel
def _bases(t: Any, out: Any) -> None:
    """The four cubic B-splines at 0 <= t < 1."""
    s = 1.0 - t
    out[0] = s * s * s / 6.0
    out[1] = (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0
    out[2] = (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0
    out[3] = t * t * t / 6.0


@kernel
def displacement(grid: Any, side: Any, x: Any, y: Any, across: Any, down: Any) -> Any:  # noqa: PLR0917  (compiled code has no keywords)
    """The displacement at the point (x, y), by the sixteen nodes around it; two buffers (4,) to work in."""
    u, v = x / side, y / side
    j, i = min(max(int(np.floor(u)), 0), grid.shape[1] - 4), min(max(int(np.floor(v)), 0), grid.shape[0] - 4)
    _bases(min(max(u - j, 0.0), 1.0), across)
    _bases(min(max(v - i, 0.0), 1.0), down)
    dx, dy = 0.0, 0.0
    for a in range(4):
        for b in range(4):
            weight = down[a] * across[b]
            dx += weight * grid[i + a, j + b, 0]
            dy += weight * grid[i + a, j + b, 1]
    return dx, dy


@kernel
def _weights(count: Any, cells: Any, side: Any, first: Any, out: Any) -> None:
    """For each row or column its first node and its four weights, as in :func:`displacement`."""
    for x in range(count):
        u = (x + 0.5) / side
        first[x] = min(max(int(np.floor(u)), 0), cells - 4)
        _bases(min(max(u - first[x], 0.0), 1.0), out[x])


@kernel
def _row(grid: Any, i: Any, down: Any, first: Any, across: Any, dx: Any, dy: Any) -> None:  # noqa: PLR0917  (compiled code has no keywords)
    """The displacements of one row: node by node, a stretch of columns with the same nodes at a time."""
    w, start = first.size, 0
    _clear(dx)
    _clear(dy)
    while start < w:
        j, stop = first[start], start
        while stop < w and first[stop] == j:
            stop += 1
        # Slices: indices that may be negative would keep the loop from being vectorised.
        right, below = dx[start:stop], dy[start:stop]
        for a in range(4):
            for b in range(4):
                share = across[b, start:stop]
                weight, gx, gy = down[a], grid[i + a, j + b, 0], grid[i + a, j + b, 1]
                for x in range(share.size):
                    both = weight * share[x]
                    right[x] += both * gx
                    below[x] += both * gy
        start = stop


@kernel
def _clear(values: Any) -> None:
    for x in range(values.size):
        values[x] = 0.0


@kernel
def _sample(src: Any, grid: Any, side: Any, dst: Any, bilinear: Any, whole: Any) -> None:  # noqa: C901, PLR0917  (compiled code has no keywords)
    h, w, c = src.shape
    columns, lines = np.empty(w, np.int64), np.empty(h, np.int64)
    upright, down = np.empty((w, 4)), np.empty((h, 4))
    _weights(w, grid.shape[1], side, columns, upright)
    _weights(h, grid.shape[0], side, lines, down)
    across = np.empty((4, w))
    for b in range(4):
        for x in range(w):
            across[b, x] = upright[x, b]
    us, vs = np.empty(w), np.empty(w)
    for y in range(h):
        _row(grid, lines[y], down[y], columns, across, us, vs)
        for x in range(w):
            us[x] = x + 0.5 + us[x]
            vs[x] = y + 0.5 + vs[x]
        for x in range(w):
            u, v = us[x], vs[x]
            if not (u >= 0.0 and v >= 0.0 and u < w and v < h):
                for k in range(c):
                    dst[y, x, k] = 0
                continue
            if not bilinear:
                row, column = np.uint64(v), np.uint64(u)
                for k in range(c):
                    dst[y, x, k] = src[row, column, k]
                continue
            left, up = int(np.floor(u - 0.5)), int(np.floor(v - 0.5))
            fx, fy = u - 0.5 - left, v - 0.5 - up
            x0, x1 = max(left, 0), min(left + 1, w - 1)
            y0, y1 = max(up, 0), min(up + 1, h - 1)
            for k in range(c):
                p, q = np.float64(src[y0, x0, k]), np.float64(src[y0, x1, k])
                r, s = np.float64(src[y1, x0, k]), np.float64(src[y1, x1, k])
                first, second = p + (q - p) * fx, r + (s - r) * fx
                value = first + (second - first) * fy
                dst[y, x, k] = np.floor(value) if whole else value


@kernel
def _field(grid: Any, side: Any, points: Any, out: Any) -> None:
    across, down = np.empty(4), np.empty(4)
    for p in range(points.shape[0]):
        out[p, 0], out[p, 1] = displacement(grid, side, points[p, 0], points[p, 1], across, down)


def field(values: F64, key: U32, height: int, width: int, points: F64) -> F64:
    """The displacements at points (x, y): float64 (n, 2) each."""
    grid, side = nodes(values, key, height, width)
    out = np.empty((len(points), 2))
    _field(grid, side, np.ascontiguousarray(points, np.float64), out)
    return out


def points(given: F64, values: F64, key: U32, height: int, width: int) -> F64:
    """Where points of the source stand in the output.

    The output at q shows the source at q + d(q), so that q = p - d(q) is looked for, step by step; half steps,
    since a strong field may be steeper than 1 in places.
    """
    found = given
    for _ in range(_ROUNDS):
        found = found + 0.5 * (given - field(values, key, height, width, found) - found)
    return found


def deform(image: Image, values: F64, key: U32) -> Image:
    """Deform by up to ``values[0]`` of a cell; ``values[11]`` other than 0: bilinear."""
    grid, side = nodes(values, key, image.shape[0], image.shape[1])
    out = np.empty_like(image)
    _sample(image, grid, side, out, values[11] != 0, image.dtype.kind == "u")
    return out
