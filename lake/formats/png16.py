"""PNG with 16 bits a channel and colour (or grey with alpha): Pillow would round it to 8 bits.

Only what is needed for that: no interlacing. See the PNG specification, third edition (W3C, 2025).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from lake.images import BadImageError

__all__ = ["decode", "encode"]

_MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # colour type -> samples a pixel
_SUB = 1


def encode(array: npt.NDArray[np.uint16]) -> bytes:
    """A PNG of ``array`` (uint16, shape (h, w, 3)), every line with the filter Sub."""
    height, width, channels = array.shape
    lines = array.astype(">u2").view(np.uint8).reshape(height, width * channels * 2)
    step = channels * 2
    body = np.empty((height, 1 + lines.shape[1]), dtype=np.uint8)
    body[:, 0] = _SUB
    body[:, 1 : 1 + step] = lines[:, :step]
    body[:, 1 + step :] = lines[:, step:] - lines[:, :-step]  # modulo 256, as the format wants it
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = zlib.compress(body.tobytes(), 6)
    return _MAGIC + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def decode(blob: bytes) -> npt.NDArray[np.uint16]:
    """The pixels, uint16, shape (h, w, 1 or 3), without alpha. The caller has checked the size.

    Raises:
        BadImageError: broken, or interlaced.
    """
    width, height, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", blob[16:29])
    if interlace or bits != 16 or colour not in _CHANNELS:  # noqa: PLR2004 (bits)
        raise BadImageError("interlaced PNG with 16-bit colour", "unsupported-image")
    step = 2 * _CHANNELS[colour]
    size = height * (1 + width * step)
    unpack = zlib.decompressobj()
    try:
        packed = b"".join(_data(blob))
        raw = unpack.decompress(packed, size)
    except (zlib.error, struct.error) as error:
        raise BadImageError("PNG data broken") from error
    if len(raw) < size:
        raise BadImageError("PNG data cut off")
    lines = np.frombuffer(raw, dtype=np.uint8).reshape(height, 1 + width * step).copy()
    if lines[:, 0].max() > 4:  # noqa: PLR2004 (filters 0 to 4)
        raise BadImageError("PNG data broken")
    _unfilter()(lines, step)
    pixels = np.ascontiguousarray(lines[:, 1:]).view(">u2").astype(np.uint16).reshape(height, width, -1)
    keep = 3 if pixels.shape[2] > 2 else 1  # noqa: PLR2004 (channels)
    return np.ascontiguousarray(pixels[:, :, :keep])


def _data(blob: bytes) -> list[bytes]:
    found, at = [], len(_MAGIC)
    while at + 8 <= len(blob):
        (length,) = struct.unpack_from(">I", blob, at)
        name, data = blob[at + 4 : at + 8], blob[at + 8 : at + 8 + length]
        if name == b"IEND":
            break
        if name == b"IDAT":
            if blob[at + 8 + length : at + 12 + length] != struct.pack(">I", zlib.crc32(name + data)):
                raise BadImageError("PNG data broken or cut off")
            found.append(data)
        at += 12 + length
    return found


@cache
def _unfilter() -> Callable[[npt.NDArray[np.uint8], int], None]:
    import numba

    def unfilter(lines: npt.NDArray[np.uint8], step: int) -> None:
        height, width = lines.shape
        for y in range(height):
            kind = lines[y, 0]
            for x in range(1, width):
                left = int(lines[y, x - step]) if x > step else 0
                up = int(lines[y - 1, x]) if y > 0 else 0
                corner = int(lines[y - 1, x - step]) if y > 0 and x > step else 0
                value = int(lines[y, x])
                if kind == 1:
                    value += left
                elif kind == 2:  # noqa: PLR2004 (filter Up)
                    value += up
                elif kind == 3:  # noqa: PLR2004 (filter Average)
                    value += (left + up) // 2
                elif kind == 4:  # noqa: PLR2004 (filter Paeth)
                    guess = left + up - corner
                    a, b, c = abs(guess - left), abs(guess - up), abs(guess - corner)
                    value += left if a <= b and a <= c else (up if b <= c else corner)
                lines[y, x] = value & 255

    compiled: Callable[[npt.NDArray[np.uint8], int], None]
    compiled = numba.njit("void(uint8[:,::1], int64)", nogil=True)(unfilter)
    return compiled
