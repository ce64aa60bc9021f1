"""From decoded pixels to what a model takes: channels, size, numbers, layout. Every image by itself.

- ``mode``: ``"RGB"`` repeats a grey channel; ``"L"`` is Pillow's luma,
  (19595 R + 38470 G + 7471 B + 32768) >> 16.
- ``size=(h, w)``: ``PIL.ImageOps.fit(image, (w, h), BILINEAR)``: the largest centred box of that shape, resized
  in one step with Pillow's antialiased bilinear filter (fixed point for 8 bits; 16 bits in float32, rounded).
  ``resize="opencv"``: the same box, its edges rounded to whole pixels, by ``cv2.resize`` with INTER_AREA where
  it shrinks in both directions, INTER_LINEAR otherwise; other bytes, and they may change with OpenCV.
- numbers: ``(value / top - mean[c]) / std[c]`` with top = 255 or 65535, in float64, rounded once to float32 or
  float16. A table of all values gives exactly that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from lake.errors import ConfigError

__all__ = ["Crop", "Finish", "Layout", "Number", "Resize"]

Pixels = npt.NDArray[Any]
Number = Literal["float32", "float16"]
Layout = Literal["NHWC", "NCHW"]
Resize = Literal["pillow", "opencv"]
Means = tuple[tuple[float, ...], tuple[float, ...]]


class Crop(NamedTuple):
    """A box in an image, in pixels: what is resized to the size that was asked for."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Finish:
    """What is done to each image after decoding and augmentation.

    >>> finish = Finish(size=(2, 2), mode="RGB", dtype="float32", layout="NCHW")
    >>> finish(np.full((4, 6, 1), 255, np.uint8)).tolist()[0]
    [[1.0, 1.0], [1.0, 1.0]]
    """

    mode: Literal["RGB", "L"] | None = None
    size: tuple[int, int] | None = None
    resize: Resize = "pillow"
    dtype: Number | None = None
    normalize: Means | None = None
    layout: Layout = "NHWC"

    def shape(self, image: Pixels) -> Pixels:
        """Channels and size."""
        image = _channels(image, self.mode)
        if self.size is None or image.shape[:2] == self.size:
            return image
        return _opencv(image, self.size) if self.resize == "opencv" else _pillow(image, self.size)

    def crop(self, height: int, width: int) -> Crop | None:
        """What :meth:`shape` takes of an image of this size; None: it stays as it is."""
        if self.size is None or (height, width) == self.size:
            return None
        return (
            _whole_box(height, width, self.size) if self.resize == "opencv" else _box(height, width, self.size)
        )

    def numbers(self, image: Pixels) -> Pixels:
        """Type, scale and layout."""
        planes = self.layout == "NCHW"
        if self.dtype is None:
            return np.ascontiguousarray(image.transpose(2, 0, 1)) if planes else image
        from pipeline.loader import _kernels

        h, w, c = image.shape
        mean, std = self.normalize or ((0.0,), (1.0,))
        table = _table(image.dtype.str, c, self.dtype, mean, std)
        out = np.empty((c, h, w) if planes else (h, w, c), table.dtype)
        _kernels.look_up(np.ascontiguousarray(image), table, planes, out)
        return out.view(self.dtype)

    def __call__(self, image: Pixels) -> Pixels:
        """Both."""
        return self.numbers(self.shape(image))


@lru_cache(maxsize=16)
def _table(kind: str, channels: int, dtype: str, mean: Sequence[float], std: Sequence[float]) -> Pixels:
    """The number for each value of each channel, as bits."""
    if len(mean) not in (1, channels):
        raise ConfigError(
            f"normalize= has {len(mean)} means, an image has {channels} channels",
            hint='give one of each per channel, or mode="RGB" (or "L") where images differ',
        )
    top = np.iinfo(np.dtype(kind)).max
    values = np.arange(top + 1, dtype=np.float64) / top
    m, s = (np.broadcast_to(np.array(each, np.float64), channels)[:, None] for each in (mean, std))
    numbers: Pixels = ((values - m) / s).astype(dtype)
    return numbers.view(np.uint16 if dtype == "float16" else np.uint32)


def _channels(image: Pixels, mode: str | None) -> Pixels:
    if mode == "RGB" and image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    if mode == "L" and image.shape[2] == 3:  # noqa: PLR2004  (RGB)
        wide = image.astype(np.uint32)
        luma = (19595 * wide[..., 0] + 38470 * wide[..., 1] + 7471 * wide[..., 2] + 32768) >> np.uint32(16)
        return luma.astype(image.dtype)[:, :, None]
    return image


def _box(height: int, width: int, size: tuple[int, int]) -> Crop:
    """The largest centred box of that shape, as ``PIL.ImageOps.fit`` has it."""
    ratio = size[1] / size[0]
    wide, high = float(width), float(height)
    if width / height > ratio:
        wide = ratio * height
    elif width / height < ratio:
        high = width / ratio
    return Crop((width - wide) * 0.5, (height - high) * 0.5, wide, high)


def _whole_box(height: int, width: int, size: tuple[int, int]) -> Crop:
    """The same with its edges at whole pixels."""
    scale = min(height / size[0], width / size[1])
    high, wide = (max(1, round(side * scale)) for side in size)
    return Crop((width - wide) // 2, (height - high) // 2, wide, high)


def _pillow(image: Pixels, size: tuple[int, int]) -> Pixels:
    h, w = size
    if image.dtype == np.uint8 and image.shape[2] in (1, 3):
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
        return np.array(ImageOps.fit(picture, (w, h), Image.Resampling.BILINEAR)).reshape(h, w, -1)
    channels = [
        np.asarray(
            ImageOps.fit(Image.fromarray(image[:, :, c].astype(np.float32)), (w, h), Image.Resampling.BILINEAR)
        )
        for c in range(image.shape[2])
    ]
    top = np.iinfo(image.dtype).max
    found: Pixels = np.clip(np.rint(np.stack(channels, axis=2)), 0, top).astype(image.dtype)
    return found


def _opencv(image: Pixels, size: tuple[int, int]) -> Pixels:
    cv2 = import_module("cv2")
    h, w = size
    left, top, wide, high = (int(each) for each in _whole_box(image.shape[0], image.shape[1], size))
    box = np.ascontiguousarray(image[top : top + high, left : left + wide])
    how = cv2.INTER_AREA if high >= h and wide >= w else cv2.INTER_LINEAR
    found: Pixels = cv2.resize(box, (w, h), interpolation=how).reshape(h, w, -1)
    return found
