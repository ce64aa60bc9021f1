"""The compiled comparison of two thumbnails. The definition stands in :mod:`dedup.image.phash`."""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from lake.jit import kernel, values_at

__all__ = ["equal", "likeness", "verify"]

_SIDE = 32
_GREY = _SIDE * _SIDE  # bytes of the grey thumbnail; 2 x 64 bytes of colour differences follow it
_CELLS = 8
_COLOUR = 2 * _CELLS * _CELLS
_INSET = 32  # what a window leaves out on a side, in sixteenths of a pixel of the thumbnail
_OUTSIDE = 8  # how far a centre may lie outside those of the other, in sixteenths
_QUARTERS = (5, 6)  # the orientations that undo each other; the others undo themselves
_STEP = 16  # the first by which edges move: a pixel of the thumbnail
_COARSE = 2  # stages that look at every fourth pixel only
# What each stage and those after it add to the correlation at most, but for about 1 % of the pairs that are
# alike to 0.97 in CIFAR-10 (benchmarks/results/phash.md): a pair that needs more is given up.
_HOPES = np.array([0.35, 0.05, 0.015, 0.005])
# In which directions the edges (left, right, top, bottom) are moved: shifts, zooms, single edges.
_MOVES = np.array(
    [
        [1, 1, 0, 0], [0, 0, 1, 1], [-1, 1, -1, 1], [-1, 1, 0, 0], [0, 0, -1, 1], [1, 0, 0, 0], [0, 1, 0, 0],
        [0, 0, 1, 0], [0, 0, 0, 1],
    ],
    np.int64,
)  # fmt: skip

_bytes_at = values_at(types.uint8, 1)


@kernel
def _axis(low: Any, high: Any, count: Any, places: Any, parts: Any) -> None:
    """Where the centres of ``count`` stretches lie, if the whole reaches from ``low`` to the end + ``high``.

    ``places`` and ``parts`` (sixteenths) say between which two of ``count`` values; -1: too far out.
    """
    unit = 16 * _SIDE // count  # sixteenths of a pixel of the thumbnail in a stretch
    span = 16 * _SIDE + high - low
    for k in range(count):
        at = (
            (2 * low * count + (2 * k + 1) * span - unit * count) * 8 // (unit * count)
        )  # sixteenths, from a centre
        if at < -_OUTSIDE or at > 16 * (count - 1) + _OUTSIDE:
            places[k] = -1
            continue
        at = min(max(at, 0), 16 * (count - 1))
        places[k] = min(at >> 4, count - 2)
        parts[k] = at - (places[k] << 4)


@kernel
def _sums(x: Any, y: Any, edges: Any, stride: Any, room: Any, out: Any) -> Any:
    """Correlation of ``x`` with the part of ``y`` in which its edges lie; ``out``: the two variances."""
    columns, shares, rows, parts, line = room
    _axis(edges[0], edges[1], _SIDE, columns, shares)
    _axis(edges[2], edges[3], _SIDE, rows, parts)
    n, sx, sy, sxx, syy, sxy = np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for v in range(0, _SIDE, stride):
        row = rows[v]
        if row < 0:
            continue
        for k in range(_SIDE):
            upper, lower = np.int64(y[_SIDE * row + k]), np.int64(y[_SIDE * row + _SIDE + k])
            line[k] = upper * (16 - parts[v]) + lower * parts[v]
        for u in range(0, _SIDE, stride):
            place = columns[u]
            if place < 0:
                continue
            one = np.int64(x[_SIDE * v + u])
            two = line[place] * (16 - shares[u]) + line[place + 1] * shares[u]
            n += 1
            sx += one
            sy += two
            sxx += one * one
            syy += two * two
            sxy += one * two
    out[0], out[1] = np.float64(n * sxx - sx * sx), np.float64(n * syy - sy * sy) / 65536.0
    if out[0] <= 0.0 or out[1] <= 0.0:
        return 0.0
    return np.float64(n * sxy - sx * sy) / (256.0 * np.sqrt(out[0] * out[1]))


@kernel
def _colours(x: Any, y: Any, edges: Any, room: Any, variances: Any) -> Any:
    """Agreement of the colours there, those of one brought to the contrast of the other."""
    columns, shares, rows, parts, _ = room
    _axis(edges[0], edges[1], _CELLS, columns, shares)
    _axis(edges[2], edges[3], _CELLS, rows, parts)
    first, second = np.sqrt(np.sqrt(variances[1] / variances[0])), np.sqrt(np.sqrt(variances[0] / variances[1]))
    total, n = 0.0, 0
    for plane in range(_GREY, _GREY + _COLOUR, _CELLS * _CELLS):
        for v in range(_CELLS):
            for u in range(_CELLS):
                if rows[v] < 0 or columns[u] < 0:
                    continue
                at = plane + _CELLS * rows[v] + columns[u]
                upper = np.int64(y[at]) * (16 - shares[u]) + np.int64(y[at + 1]) * shares[u]
                lower = np.int64(y[at + _CELLS]) * (16 - shares[u]) + np.int64(y[at + _CELLS + 1]) * shares[u]
                two = np.float64(upper * (16 - parts[v]) + lower * parts[v]) / 256.0 - 128.0
                one = np.float64(x[plane + _CELLS * v + u]) - 128.0
                total += abs(one * first - two * second)
                n += 1
    return 1.0 - total / (255.0 * n)


@kernel
def _search(x: Any, y: Any, edges: Any, reach: Any, threshold: Any, room: Any, variances: Any) -> Any:
    """Move the edges of ``x`` within ``y`` uphill, in halving steps; stop where the finer ones cannot help."""
    tried = np.empty(4, np.int64)
    step = _STEP
    best = _sums(x, y, edges, 2, room, variances)
    for stage in range(_HOPES.size):
        if best < threshold - _HOPES[stage]:
            return best
        stride = 2 if stage < _COARSE else 1
        if stage == _COARSE:
            best = _sums(x, y, edges, 1, room, variances)
        moved = True
        while moved:
            moved = False
            for m in range(2 * _MOVES.shape[0]):
                inside = True
                for k in range(4):
                    tried[k] = edges[k] + (step if m & 1 else -step) * _MOVES[m >> 1, k]
                    inside &= abs(tried[k]) <= reach
                if not inside:
                    continue
                found = _sums(x, y, tried, stride, room, variances)
                if found > best:
                    best, moved = found, True
                    edges[:] = tried
        step //= 2
    return _sums(x, y, edges, 1, room, variances)


@kernel
def _room() -> Any:
    return (
        np.empty(_SIDE, np.int64), np.empty(_SIDE, np.int64), np.empty(_SIDE, np.int64),
        np.empty(_SIDE, np.int64), np.empty(_SIDE, np.int64),
    )  # fmt: skip


@kernel
def _compare(x: Any, y: Any, window: Any, reach: Any, threshold: Any, edges: Any, room: Any) -> Any:
    """The greater likeness: of two thumbnails as they are, and of ``x`` and the part of ``y`` under it."""
    variances = np.empty(2)
    edges[:] = 0
    grey = _sums(x, y, edges, 1, room, variances)
    if variances[0] <= 0.0 or variances[1] <= 0.0:
        return 0.0
    best = min(grey, _colours(x, y, edges, room, variances))
    if reach == 0:
        return best
    edges[0], edges[1] = _INSET * (window & 1), -_INSET * ((window >> 1) & 1)
    edges[2], edges[3] = _INSET * ((window >> 2) & 1), -_INSET * ((window >> 3) & 1)
    grey = _search(x, y, edges, reach, threshold, room, variances)
    if grey < threshold:
        return best
    return max(best, min(grey, _colours(x, y, edges, room, variances)))


@kernel
def likeness(x: Any, y: Any) -> Any:
    """Likeness of two thumbnails, edge on edge: the lesser of grey correlation and colour agreement."""
    return _compare(x, y, 0, 0, 0.0, np.empty(4, np.int64), _room())


@kernel
def _ones(value: Any) -> Any:
    """Count bits; the compiler makes one instruction of it."""
    value -= (value >> np.uint64(1)) & np.uint64(0x5555555555555555)
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _nearest(turned: Any, whole: Any, turns: Any) -> Any:
    """The window of ``whole`` whose hash is nearest to ``turned``: bits apart, and which."""
    best, window = _ones(turned ^ whole[0]), 0
    for k in range(turns, whole.size):
        apart = _ones(turned ^ whole[k])
        if apart < best:
            best, window = apart, k - turns + 1
    return best, window


@kernel
def _turn(thumb: Any, turn: Any, out: Any) -> None:
    """Draw a thumbnail in another orientation, as the hashes do."""
    for plane in range(3):
        side = _SIDE if plane == 0 else _CELLS
        start = 0 if plane == 0 else _GREY + (plane - 1) * _CELLS * _CELLS
        for y in range(side):
            for x in range(side):
                v = side - 1 - y if turn & 2 else y
                u = side - 1 - x if turn & 1 else x
                out[start + side * y + x] = thumb[start + (side * u + v if turn & 4 else side * v + u)]


@kernel
def verify(
    left: Any, right: Any, places: Any, hashes: Any, turns: Any, radius: Any, reach: Any, threshold: Any,
    exact: Any, apart: Any,
) -> None:  # fmt: skip
    """Compare pairs of rows: likeness (-1 below the threshold), and bits between their hashes.

    ``hashes``: (rows, k) of each orientation in ``turns``, then of the further windows. Orientation 5 undoes 6.
    """
    edges, room, turned = np.empty(4, np.int64), _room(), np.empty(_GREY + _COLOUR, np.uint8)
    size = np.int64(_GREY + _COLOUR)
    for k in range(left.size):
        exact[k], apart[k] = -1.0, 64
        for d in range(turns.size):
            back = d
            for e in range(turns.size):
                if turns[e] == (11 - turns[d] if turns[d] in _QUARTERS else turns[d]):
                    back = e
            one, two = left[k], right[k]
            near, window = _nearest(hashes[two, d], hashes[one], turns.size)
            other, inner = _nearest(hashes[one, back], hashes[two], turns.size)
            turn = turns[d]
            if other < near:
                near, window, turn = other, inner, turns[back]
                one, two = two, one
            if near > radius:
                continue
            whole = _bytes_at(np.uint64(places[one]), size)
            part = _bytes_at(np.uint64(places[two]), size)
            if turn:
                _turn(part, turn, turned)
                part = turned
            found = _compare(part, whole, window, reach, threshold, edges, room)
            apart[k] = min(apart[k], near)
            if found >= threshold:
                exact[k] = max(exact[k], found)


@kernel
def equal(left: Any, right: Any, places: Any, size: Any, same: Any) -> None:
    """Compare the ``size`` bytes of pairs of rows."""
    for k in range(left.size):
        x, y = _bytes_at(np.uint64(places[left[k]]), size), _bytes_at(np.uint64(places[right[k]]), size)
        same[k] = True
        for at in range(size):
            if x[at] != y[at]:
                same[k] = False
                break
