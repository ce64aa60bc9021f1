"""The perceptual hash of an image, and the thumbnail that verifies it. Integers only: the same everywhere.

- *Grey.* Of three channels ``(19595 R + 38470 G + 7471 B) / 65536``, as Pillow weighs them, unrounded.
- *Thumbnail.* 32 x 32 means over areas, by exact fractions of pixels (an image smaller than that is drawn
  larger by the same rule), then stretched so that the darkest is 0 and the brightest 255. So neither the
  number of bits nor the exposure matters.
- *Flat.* If darkest and brightest mean differ by less than 1/255 of the image's scale (255 for 8 bits, the
  image's own range for 16), there is nothing to compare: such an image has no hash, and is never a duplicate
  by similarity, as a text without a token is not.
- *Hash.* The 8 x 8 lowest frequencies of the two-dimensional DCT-II of the thumbnail, with cosines in units
  of 2**-14; bit ``8 u + v`` is set where coefficient (u, v) is above the median of the 63 without the mean;
  that of the mean is 0. (Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions.)
- *Colour.* R - G and B - G of 8 x 8 means over areas, as a share of the stretch of the grey thumbnail: so
  exposure does not matter here either.
- *Likeness* of two thumbnails, by which a candidate is verified: the lesser of Pearson's correlation of the
  grey values, and 1 - the mean absolute difference of the colour values. So the same garment in red and in
  blue are two.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["BYTES", "SIDE", "describe"]

SIDE = 32
"""Height and width of the grey thumbnail."""
_COLOUR_SIDE = 8
BYTES = SIDE * SIDE + 2 * _COLOUR_SIDE * _COLOUR_SIDE
"""Of a stored thumbnail: the grey values, then R - G and B - G, halved, plus 128, cut off at 0 and 255."""
_LOW = 8
_UNIT = 1 << 14
_RED, _GREEN, _BLUE = 19595, 38470, 7471  # of 65536: ITU-R 601, as in Pillow


@cache
def _cosines() -> npt.NDArray[np.int64]:
    angles = [[math.pi * u * (2 * x + 1) / (2 * SIDE) for x in range(SIDE)] for u in range(_LOW)]
    return np.array([[round(_UNIT * math.cos(angle)) for angle in row] for row in angles], np.int64)


def _areas(values: npt.NDArray[np.integer], side: int) -> npt.NDArray[np.float64]:
    """Add up ``side`` equal stretches of the first axis, in units of 1/side of a pixel.

    The sums are whole numbers below 2**53, and so exact in float64 in whatever order they are added.
    """
    size = values.shape[0]
    out = np.empty((side, *values.shape[1:]), np.float64)
    for k in range(side):
        low, high = k * size, (k + 1) * size  # in units of 1/side pixel
        first, last = low // side, -(-high // side)
        edges = np.clip(np.arange(first, last + 1) * side, low, high)
        weights = np.diff(edges).astype(np.float64)
        out[k] = np.tensordot(weights, values[first:last].astype(np.float64), axes=(0, 0))
    return out


def _means(image: npt.NDArray[np.integer], side: int) -> npt.NDArray[np.int64]:
    """Sum over ``side`` x ``side`` areas of (h, w, c): h w times the mean of each area."""
    by_row = _areas(image, side)
    by_both = _areas(by_row.transpose(1, 0, 2), side)  # type: ignore[arg-type]  # whole numbers in float64
    return by_both.transpose(1, 0, 2).astype(np.int64)


def describe(image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> tuple[int, npt.NDArray[np.uint8]] | None:
    """Give the hash and the thumbnail of an image, or None if it is flat.

    >>> describe(np.zeros((28, 28, 1), np.uint8)) is None
    True
    >>> ramp = np.arange(784, dtype=np.uint8).reshape(28, 28, 1)
    >>> describe(ramp)[0] == describe(ramp.astype(np.uint16) * 257)[0]
    True

    Args:
        image: uint8 or uint16 of shape (h, w, 1) or (h, w, 3).

    Returns:
        The hash, below 2**64, and :data:`BYTES` uint8.
    """
    height, width, channels = image.shape
    area = height * width
    if area == 0:
        return None
    sums = _means(image, SIDE)
    if channels == 1:
        grey, unit = sums[:, :, 0], area
    else:
        # (h w 65535) 65536 < 2**59 for the largest image that is read
        grey, unit = sums @ np.array([_RED, _GREEN, _BLUE], np.int64), area * 65536
    darkest, brightest = int(grey.min()), int(grey.max())
    scale = 255 if image.dtype == np.uint8 else max(1, int(image.max()) - int(image.min()))
    spread = brightest - darkest
    if spread == 0 or spread * 255 < scale * unit:
        return None
    # 8 bits would do for the likeness; the hash sees 12 more, so that no coefficient hangs on a rounding
    fine = ((grey - darkest) >> max(0, spread.bit_length() - 40)) * (1 << 20)
    fine //= max(1, spread >> max(0, spread.bit_length() - 40))
    low = _cosines() @ fine @ _cosines().T
    order = np.sort(low.ravel()[1:])
    bits = low.ravel() > order[len(order) // 2]
    bits[0] = False
    code = sum(1 << k for k in np.flatnonzero(bits).tolist())
    thumb = ((fine * 255 + (1 << 19)) >> 20).astype(np.uint8).ravel()
    return code, np.concatenate([thumb, _colours(image, spread)])


def _colours(image: npt.NDArray[np.integer], spread: int) -> npt.NDArray[np.uint8]:
    if image.shape[2] == 1:
        return np.full(2 * _COLOUR_SIDE * _COLOUR_SIDE, 128, np.uint8)
    sums = _means(image, _COLOUR_SIDE)
    differences = np.stack([sums[:, :, 0] - sums[:, :, 1], sums[:, :, 2] - sums[:, :, 1]]).ravel().tolist()
    # Python's integers: with 16 bits and a hundred million pixels the product has 67 bits
    halves = [each * 255 * 65536 // (2 * spread) for each in differences]
    return np.asarray(np.clip(np.array(halves) + 128, 0, 255), np.uint8)
