"""Contrast limited adaptive histogram equalisation: OpenCV's, to the bit, on each channel.

Zuiderveld, "Contrast limited adaptive histogram equalization" (Graphics Gems IV, 1994), on a grid of 8 x 8
tiles; OpenCV's ``createCLAHE(clipLimit, (8, 8))`` is the reference for uint8 and uint16. float32 images of
0 .. 1 are done over 65,536 levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lake.jit import kernel

__all__ = ["clahe"]

Image = npt.NDArray[Any]

_GRID = 8


@kernel
def _reflect(at: Any, size: Any) -> Any:
    """Beyond the edge the image is mirrored, without repeating the edge (OpenCV's BORDER_REFLECT_101)."""
    if size == 1:
        return 0
    while at >= size:
        at = 2 * (size - 1) - at if at < 2 * size - 1 else at - 2 * (size - 1)
    return at


@kernel
def _table(src: Any, tile: Any, limit: Any, counts: Any, table: Any) -> None:
    """The lookup table of one tile: clip the histogram, deal out the excess, add up."""
    h, w = src.shape
    top, left, high, wide = tile
    counts[:] = 0
    for y in range(top, top + high):
        for x in range(left, left + wide):
            counts[src[_reflect(y, h), _reflect(x, w)]] += 1
    size = counts.size
    if limit > 0:
        excess = 0
        for v in range(size):
            if counts[v] > limit:
                excess += counts[v] - limit
                counts[v] = limit
        each = excess // size
        rest = excess - each * size
        for v in range(size):
            counts[v] += each
        if rest > 0:
            step = max(size // rest, 1)
            v = 0
            while v < size and rest > 0:
                counts[v] += 1
                v += step
                rest -= 1
    total = 0
    scale = np.float32(size - 1) / np.float32(high * wide)
    for v in range(size):
        total += counts[v]
        table[v] = min(np.rint(np.float32(total) * scale), size - 1)


@kernel
def _channel(src: Any, clip: Any, levels: Any, dst: Any) -> None:
    h, w = src.shape
    grid = 8
    # OpenCV pads only if a side is not a multiple of the grid, and then both sides, to the next multiple.
    odd = h % grid != 0 or w % grid != 0
    high = (h + (grid - h % grid if odd else 0)) // grid
    wide = (w + (grid - w % grid if odd else 0)) // grid
    limit = 0
    if clip > 0.0:
        limit = max(int(clip * (high * wide) / levels), 1)
    tables = np.empty((grid, grid, levels), np.float32)
    counts = np.empty(levels, np.int64)
    for i in range(grid):
        for j in range(grid):
            _table(src, (i * high, j * wide, high, wide), limit, counts, tables[i, j])
    down, across = np.float32(1.0) / np.float32(high), np.float32(1.0) / np.float32(wide)
    one = np.float32(1.0)
    for y in range(h):
        ty = np.float32(y) * down - np.float32(0.5)
        y1 = int(np.floor(ty))
        ya = np.float32(ty - np.float32(y1))
        y2, y1 = min(y1 + 1, grid - 1), max(y1, 0)
        for x in range(w):
            tx = np.float32(x) * across - np.float32(0.5)
            x1 = int(np.floor(tx))
            xa = np.float32(tx - np.float32(x1))
            x2, x1 = min(x1 + 1, grid - 1), max(x1, 0)
            v = src[y, x]
            upper = tables[y1, x1, v] * (one - xa) + tables[y1, x2, v] * xa
            lower = tables[y2, x1, v] * (one - xa) + tables[y2, x2, v] * xa
            dst[y, x] = np.rint(upper * (one - ya) + lower * ya)


def clahe(image: Image, values: npt.NDArray[np.float64], _key: object) -> Image:
    """Equalise locally, no slope of a tile's table above ``values[0]``."""
    clip = float(values[0])
    if image.dtype.kind == "f":
        whole = np.floor(np.clip(image, 0, 1) * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
        return (clahe(whole, values, _key).astype(np.float32) / np.float32(65535)).astype(image.dtype)
    out = np.empty_like(image)
    levels = int(np.iinfo(image.dtype).max) + 1
    for k in range(image.shape[2]):
        plane = np.ascontiguousarray(image[:, :, k])
        made = np.empty_like(plane)
        _channel(plane, clip, levels, made)
        out[:, :, k] = made
    return out
