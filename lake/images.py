"""Image files to pixels and back: 8 bit stays 8, 16 bit stays 16, and bombs are refused unopened.

Read are PNG, JPEG (also MPO), WebP, GIF, TIFF, BMP, PPM, JPEG 2000, and DICOM where pydicom is
installed; of several frames the first. Pixels are as stored: an EXIF orientation, a DICOM rescale
slope or window is not applied, and ``MONOCHROME1`` is not inverted.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["BadImageError", "Pixels", "decode", "encode", "header", "is_dicom"]

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# EPS starts Ghostscript, and others have no business in a data set: what is not here is not tried.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")
_DIRECT = {"L": "L", "LA": "L", "La": "L", "1": "L"}
_TO_RGB = {"RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "P", "PA"}
_READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
)


class BadImageError(ValueError):
    """These bytes are no image that can be read; ``rule`` says in one word why.

    ``corrupt-image``: broken or cut off. ``decompression-bomb``: more pixels than allowed.
    ``unsupported-image``: whole, but of a kind that cannot be held in 8 or 16 bits.
    """

    def __init__(self, reason: str, rule: str = "corrupt-image") -> None:
        super().__init__(reason, rule)
        self.reason = reason
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}"


_QUIET = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings: an image is good or it is bad. The list of filters is global, hence the lock."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _ready() -> None:
    Image.init()


def _open(blob: bytes) -> Image.Image:
    """Parse the header; not ``Image.open``, which warns of (or refuses) sizes by its own limit."""
    _ready()
    start = bytes(blob[:16])
    for name in _FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(start) is not True:
            continue
        try:
            with quiet():
                return factory(io.BytesIO(blob), "")
        except _READ_ERRORS as error:
            raise BadImageError(f"the {name} header cannot be read ({type(error).__name__})") from error
    raise BadImageError("not an image, or not one of a known format", "unsupported-image")


def header(blob: bytes) -> tuple[int, int, str, str]:
    """Width, height, Pillow's mode and format, without decoding a pixel.

    >>> header(encode(np.zeros((2, 3, 1), np.uint8)))
    (3, 2, 'L', 'PNG')

    Raises:
        BadImageError: not an image.
    """
    if is_dicom(blob):
        from lake.formats import dicom

        data = dicom.tags(blob)
        mode = "L" if data.get("BitsAllocated") == 8 else "I;16"  # noqa: PLR2004 (bits)
        if data.get("SamplesPerPixel") == 3:  # noqa: PLR2004 (channels)
            mode = "RGB"
        return dicom.count(data.get("Columns")), dicom.count(data.get("Rows")), mode, "DICOM"
    image = _open(blob)
    return image.width, image.height, image.mode, image.format or ""


def is_dicom(blob: bytes) -> bool:
    """A DICOM file: ``DICM`` after a preamble of 128 bytes (PS3.10, section 7.1)."""
    return blob[128:132] == b"DICM"


def decode(blob: bytes, *, max_pixels: int = 100_000_000) -> Pixels:
    """The pixels of an encoded image.

    Returns:
        uint8 or uint16, shape (h, w, c): c = 1 for grey, 3 for RGB. Palette and CMYK images become
        RGB, alpha is left out. Signed 16-bit DICOM values come as ``value + 32768`` (order kept).

    Raises:
        BadImageError: see its rules. Sizes are read from the header before a pixel is decoded.

    >>> decode(encode(np.full((2, 3, 3), 7, np.uint8))).shape
    (2, 3, 3)
    """
    if is_dicom(blob):
        from lake.formats import dicom

        return dicom.pixels(blob, max_pixels=max_pixels)
    image = _open(blob)
    if image.width * image.height > max_pixels:
        reason = f"{image.width} x {image.height} pixels, over the limit of {max_pixels}"
        raise BadImageError(reason, "decompression-bomb")
    if image.width < 1 or image.height < 1:
        raise BadImageError("no pixels")
    if image.format == "PNG" and blob[24:25] == b"\x10" and blob[25:26] != b"\0":
        from lake.formats import png16  # Pillow would round these to 8 bit

        return png16.decode(blob)
    if image.format == "TIFF" and image.mode in _TO_RGB and ";16" in str(getattr(image, "tile", "")):
        raise BadImageError("TIFF with 16-bit colour; PNG can hold it", "unsupported-image")
    try:
        if image.format == "TIFF":
            with quiet():  # tags are parsed, and complained of, while loading
                image.load()
        else:
            image.load()
        return _pixels(image)
    except BadImageError:
        raise
    except _READ_ERRORS as error:
        raise BadImageError(f"{image.format} data broken or cut off ({type(error).__name__})") from error


def _pixels(image: Image.Image) -> Pixels:
    mode = image.mode
    if mode in _DIRECT:
        grey = image if mode == "L" else image.convert("L")
        return np.asarray(grey, dtype=np.uint8)[:, :, None].copy()
    if mode in _TO_RGB:
        if mode in {"P", "PA", "RGBa"}:
            image = image.convert("RGBA")  # via RGBA, or a transparent palette entry makes Pillow warn
        return np.asarray(image.convert("RGB") if image.mode != "RGB" else image, dtype=np.uint8).copy()
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[:, :, None]
    if mode == "I":
        wide = np.asarray(image)
        if wide.min() >= 0 and wide.max() <= np.iinfo(np.uint16).max:
            return wide.astype(np.uint16)[:, :, None]
    raise BadImageError(f"pixels of mode {mode} do not fit 8 or 16 bits", "unsupported-image")


def encode(array: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    r"""A PNG file, lossless, 8 or 16 bits a channel, grey or RGB; ``decode`` gives the array back.

    Args:
        array: uint8 or uint16, shape (h, w), (h, w, 1) or (h, w, 3), not empty.

    Raises:
        ValueError: another shape or type.

    >>> encode(np.zeros((1, 1, 3), np.uint16))[:4]
    b'\x89PNG'
    """
    if array.ndim == 3 and array.shape[2] == 1:  # noqa: PLR2004 (h, w, c)
        array = array[:, :, 0]
    good = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)  # noqa: PLR2004 (h, w, c)
    if not good or array.dtype not in (np.uint8, np.uint16) or array.size == 0:
        raise ValueError(f"cannot encode {array.dtype} of shape {array.shape}")
    if array.dtype == np.uint16 and array.ndim == 3:  # noqa: PLR2004 (h, w, c)
        from lake.formats import png16

        return png16.encode(array.astype(np.uint16))
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(out, "PNG", compress_level=6)
    return out.getvalue()
