"""Thumbnails that are safe to put into a page: decoded, scaled and encoded again, without metadata."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lake.images import BadImageError, decode

__all__ = ["MOST", "Picture", "picture"]

MOST = 192  # pixels of the longer side
_PHOTO = 64  # a colour picture with a side longer than this is kept as JPEG: a tenth of the bytes of PNG


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail as a data URI, with the size of the original; ``uri`` is none where it cannot be shown."""

    uri: str | None
    width: int
    height: int
    why: str = ""

    @property
    def shown_width(self) -> int:
        """Pixels on the page: small pictures are enlarged by a whole number."""
        longest = max(self.width, self.height, 1)
        if longest >= MOST // 2:
            return max(1, round(self.width * min(1.0, MOST / longest)))
        return self.width * (112 // longest or 1)

    @property
    def small(self) -> bool:
        """Whether the page enlarges it."""
        return max(self.width, self.height) < MOST // 2


def picture(blob: bytes) -> Picture:
    """The thumbnail of an encoded image; one without a ``uri`` where the image cannot be decoded.

    16-bit images are windowed from their darkest to their lightest value.
    """
    try:
        pixels = decode(blob)
    except BadImageError as error:
        return Picture(None, 0, 0, str(error))
    height, width = pixels.shape[:2]
    image = Image.fromarray(_eight_bit(pixels).squeeze(axis=2) if pixels.shape[2] == 1 else _eight_bit(pixels))
    image.thumbnail((MOST, MOST))
    out = io.BytesIO()
    if image.mode == "RGB" and max(image.size) > _PHOTO:
        kind = "jpeg"
        image.save(out, "JPEG", quality=85)
    else:
        kind = "png"
        image.save(out, "PNG", optimize=True)
    return Picture(f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}", width, height)


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = int(pixels.min()), int(pixels.max())
    return ((pixels.astype(np.float64) - low) * (255 / max(1, high - low))).round().astype(np.uint8)
