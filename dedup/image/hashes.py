"""The perceptual hash of an image, and the thumbnail that verifies it. Whole numbers only: the same everywhere.

- *Grey.* Of three channels ``(19595 R + 38470 G + 7471 B) / 65536``, as Pillow weighs them, unrounded.
- *Thumbnail.* 32 x 32 means over areas, by exact fractions of pixels (an image smaller than that is drawn
  larger by the same rule), then stretched so that the darkest is 0 and the brightest 255. So neither the
  number of bits nor the exposure matters.
- *Flat.* If darkest and brightest mean differ by less than 1/255 of the image's scale (255 for 8 bits, the
  image's own range for 16), there is nothing to compare: such an image has no hash, and is never a duplicate
  by similarity, as a text without a token is not.
- *pHash.* The 8 x 8 lowest frequencies of the two-dimensional DCT-II of the thumbnail, with cosines in units
  of 2**-14; bit ``8 u + v`` is set where coefficient (u, v) is above the median of the 63 without the mean;
  that of the mean is 0. (Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions.)
- *dHash.* 8 rows of 9 means over areas of the thumbnail; bit ``8 u + v`` is set where area (u, v) is darker
  than (u, v + 1). (Krawetz 2013, Kind of Like That.)
- *Windows.* The same hash is also taken of 15 windows of the thumbnail: each axis whole, without its first 2
  of 32 pixels, without its last 2, or without both. The hash of a copy from which a little was cut off is
  near to that of a window of the whole one.
- *Orientations.* The same hash of the thumbnail transposed (4), then upside down (2), then mirrored (1), for
  those numbers that are asked for.
- *Colour.* R - G and B - G of 8 x 8 means over areas, as a share of the stretch of the grey thumbnail, cut
  off where it is greater: so exposure does not matter here either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lake.native import kernels
from lake.parallel import in_chunks

__all__ = ["BYTES", "INSET", "SIDE", "Described", "Hash", "Image", "describe", "describe_all", "tables"]

_kernels = kernels("dedup.image._kernels")

SIDE = 32
"""Height and width of the grey thumbnail."""
_COLOUR_SIDE = 8
BYTES = SIDE * SIDE + 2 * _COLOUR_SIDE * _COLOUR_SIDE
"""Of a stored thumbnail: the grey values, then R - G and B - G, halved, plus 128, cut off at 0 and 255."""
INSET = 2
"""Pixels of the thumbnail that a window leaves out on one side."""
WINDOWS = 16
"""Windows, the whole among them: number ``4 y + x``, by what is left out: 0 none, 1 first, 2 last, 3 both."""
_LOW = 8
_UNIT = 1 << 14
_BATCH = 64  # images that a thread describes at a time

Hash = Literal["phash", "dhash"]
Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class Described(NamedTuple):
    """What was made of a batch of images."""

    good: npt.NDArray[np.bool_]
    """False for flat and empty images, of which the others hold nothing; shape (n,)."""
    hashes: npt.NDArray[np.uint64]
    """Of each orientation, then of each further window; shape (n, k)."""
    thumbnails: npt.NDArray[np.uint8]
    """Shape (n, BYTES)."""


@cache
def tables(kind: Hash) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give the weights by which a hash looks at rows and at columns, for each of the four insets.

    Returns:
        int64, shape (4, 8, 32), and (4, 8, 32) or for ``dhash`` (4, 9, 32).
    """
    spans = [(0, SIDE), (INSET, SIDE), (0, SIDE - INSET), (INSET, SIDE - INSET)]
    if kind == "phash":
        cosines = np.array([_cosines(*span) for span in spans], np.int64)
        return cosines, cosines
    rows, columns = ([_stretches(*span, count) for span in spans] for count in (_LOW, _LOW + 1))
    return np.array(rows, np.int64), np.array(columns, np.int64)


@cache
def _weights(kind: Hash) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give :func:`tables` as the kernels take them."""
    rows, columns = tables(kind)
    return rows.astype(np.float64), np.ascontiguousarray(columns.transpose(0, 2, 1), np.float64)


def _cosines(low: int, high: int) -> list[list[int]]:
    size = high - low
    angles = [[math.pi * u * (2 * (x - low) + 1) / (2 * size) for x in range(SIDE)] for u in range(_LOW)]
    return [
        [round(_UNIT * math.cos(angle)) if low <= x < high else 0 for x, angle in enumerate(row)]
        for row in angles
    ]


def _stretches(low: int, high: int, count: int) -> list[list[int]]:
    """How much of each pixel lies in each of ``count`` equal stretches, in units of 1/count of a pixel."""
    size = high - low
    starts = [count * (x - low) for x in range(SIDE)]
    return [
        [max(0, min(start + count, (k + 1) * size) - max(start, k * size)) for start in starts]
        for k in range(count)
    ]


def describe_all(
    images: Sequence[Image],
    kind: Hash = "phash",
    *,
    turns: Sequence[int] = (0,),
    windows: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
    threads: int = 1,
) -> Described:
    """Describe images of any sizes: hashes and thumbnails.

    >>> ramp = np.arange(784, dtype=np.uint8).reshape(28, 28, 1)
    >>> found = describe_all([ramp, np.zeros((28, 28, 3), np.uint8), ramp.astype(np.uint16) * 257])
    >>> found.good.tolist(), bool(found.hashes[0] == found.hashes[2])
    ([True, False, True], True)

    Args:
        images: uint8 or uint16 of shape (h, w, 1) or (h, w, 3).
        kind: which hash.
        turns: the orientations to hash.
        windows: whether to hash the further windows too.
        device: ``cuda`` computes the same on the current GPU, see :mod:`dedup.image.cuda`.
        threads: the result is the same for any number.

    Raises:
        DeviceError: ``cuda`` without a GPU or without CuPy.
    """
    if device == "cuda":
        from dedup.image import cuda

        return cuda.describe_all(images, kind, turns=turns, windows=windows)

    count = len(images)
    how = (kind == "dhash", *_weights(kind), np.array(turns, np.int64), WINDOWS - 1 if windows else 0)
    good = np.zeros(count, np.bool_)
    hashes = np.zeros((count, len(turns) + how[-1]), np.uint64)
    thumbnails = np.zeros((count, BYTES), np.uint8)
    held = [np.ascontiguousarray(image) for image in images]
    places = np.array([image.ctypes.data for image in held], np.uint64)
    shapes = np.array([image.shape for image in held], np.int64).reshape(count, 3)
    wide = np.array([image.dtype == np.uint16 for image in held], np.bool_)

    def work(low: int, high: int) -> None:
        for run, mine in (
            (_kernels.describe_bytes, ~wide[low:high]),
            (_kernels.describe_words, wide[low:high]),
        ):
            at = low + np.flatnonzero(mine)
            if len(at):
                part = (np.zeros(len(at), np.bool_), hashes[at], thumbnails[at])
                run(places[at], shapes[at], how, *part)
                good[at], hashes[at], thumbnails[at] = part

    in_chunks(threads, count, _BATCH, work)
    return Described(good, hashes, thumbnails)


def describe(image: Image, kind: Hash = "phash") -> tuple[int, npt.NDArray[np.uint8]] | None:
    """Give the hash and the thumbnail of an image, or None if it is flat.

    >>> describe(np.zeros((28, 28, 1), np.uint8)) is None
    True
    >>> ramp = np.arange(784, dtype=np.uint8).reshape(28, 28, 1)
    >>> describe(ramp)[0] == describe(ramp.astype(np.uint16) * 257)[0]
    True

    Args:
        image: uint8 or uint16 of shape (h, w, 1) or (h, w, 3).
        kind: which hash.

    Returns:
        The hash, below 2**64, and :data:`BYTES` uint8.
    """
    found = describe_all([image], kind)
    return (int(found.hashes[0, 0]), found.thumbnails[0]) if found.good[0] else None
