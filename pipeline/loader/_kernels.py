"""One pass over the pixels: look every value up, and put the channels where they are wanted."""

from __future__ import annotations

from typing import Any

from lake.jit import kernel

__all__ = ["look_up"]


@kernel
def look_up(image: Any, table: Any, planes: bool, out: Any) -> None:
    """``out[c, y, x] = table[c, image[y, x, c]]``, or ``out[y, x, c]`` where ``planes`` is false.

    Args:
        image: uint8 or uint16 (h, w, c).
        table: the bits of float16 or float32, as uint16 or uint32 (c, 256 or 65536).
        planes: whether channels come first.
        out: (c, h, w) or (h, w, c), of the table's type.
    """
    h, w, channels = image.shape
    if planes:
        for c in range(channels):
            for y in range(h):
                for x in range(w):
                    out[c, y, x] = table[c, image[y, x, c]]
    else:
        for y in range(h):
            for x in range(w):
                for c in range(channels):
                    out[y, x, c] = table[c, image[y, x, c]]
