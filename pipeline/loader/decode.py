"""From image files to pixels: Pillow's bytes, by a quicker way where that gives the same ones.

``lake.images.decode`` (Pillow) says what the pixels are. Two libraries are asked first, if they are installed:

- JPEG: simplejpeg (libjpeg-turbo), strict: whatever it warns of goes to Pillow. Grey and YCbCr files only.
- PNG: OpenCV (libpng), 8 bits, grey and RGB without transparency.

Both are libraries of the same family as Pillow's own, and on 12,000 files, most of them damaged,
they never gave other bytes, and never took a file that Pillow refuses (``benchmarks/results/loader.md``). That
was with one set of versions: so each is held against Pillow on a few files when it is first used, and left
aside if a byte differs. :attr:`Decoder.name` says what decodes, and with which versions.

nvJPEG on a GPU (``"nvjpeg"``) has an inverse DCT of its own: other bytes. It is never chosen silently.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lake.errors import ConfigError, DeviceError
from lake.images import BadImageError, decode

__all__ = ["Decoder", "DecoderName", "decoder"]

Pixels = npt.NDArray[Any]
DecoderName = Literal["auto", "pillow", "nvjpeg"]
Quick = Callable[[bytes], Pixels | None]

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_KIND = slice(24, 26)  # of a PNG: its bit depth and colour type
_GREY, _RGB = b"\x08\x00", b"\x08\x02"
_MOST_PIXELS = 100_000_000  # as in lake.images


class Decoder:
    """Decodes image files.

    Attributes:
        name: what decodes, with versions; part of what makes two runs equal.
    """

    def __init__(self, name: str, quick: Sequence[tuple[bytes, Quick]] = ()) -> None:
        self.name = name
        self._quick = tuple(quick)

    def __call__(self, blob: bytes) -> Pixels:
        """The pixels, uint8 or uint16 (h, w, c).

        Raises:
            lake.images.BadImageError: these bytes are no image that can be read.
        """
        for start, quick in self._quick:
            if blob.startswith(start):
                found = quick(blob)
                if found is not None:
                    return found
        return decode(blob)

    def many(self, blobs: Sequence[bytes]) -> list[Pixels | BadImageError]:
        """The pixels of each, or what is wrong with it."""
        return [_or_error(self, blob) for blob in blobs]


def _or_error(one: Callable[[bytes], Pixels], blob: bytes) -> Pixels | BadImageError:
    try:
        return one(blob)
    except BadImageError as error:
        return error


def decoder(name: DecoderName = "auto") -> Decoder:
    """The decoder of that name.

    Raises:
        ConfigError: no such decoder.
        DeviceError: nvJPEG without its package or without a GPU.

    >>> decoder("pillow").name.startswith("Pillow ")
    True
    """
    if name == "pillow":
        return Decoder(_pillow())
    if name == "auto":
        return _auto()
    if name == "nvjpeg":
        return _Nvjpeg()
    raise ConfigError(f"there is no decoder {name!r}", hint="auto, pillow or nvjpeg")


def _pillow() -> str:
    from PIL import __version__, features

    return f"Pillow {__version__} (libjpeg-turbo {features.version('libjpeg_turbo') or 'none'})"


@cache
def _auto() -> Decoder:
    quick, names = [], [_pillow()]
    for start, module, make, samples in (
        (_JPEG, "simplejpeg", _turbo, _jpegs),
        (_PNG, "cv2", _opencv, _pngs),
    ):
        try:
            library = import_module(module)
        except ImportError:
            continue
        found = make(library)
        if all(_same(found(blob), blob) for blob in samples()):
            quick.append((start, found))
            names.append(f"{module} {library.__version__}")
        else:
            warnings.warn(f"{module} does not give Pillow's bytes here: it is not used", stacklevel=2)
    return Decoder(", ".join(names), quick)


def _same(found: Pixels | None, blob: bytes) -> bool:
    return found is not None and np.array_equal(found, decode(blob))


def _turbo(library: Any) -> Quick:
    def quick(blob: bytes) -> Pixels | None:
        try:
            height, width, colours, _ = library.decode_jpeg_header(blob)
            if colours not in {"YCbCr", "Gray"} or height * width > _MOST_PIXELS:
                return None
            space = "RGB" if colours == "YCbCr" else "GRAY"
            found: Pixels = library.decode_jpeg(blob, colorspace=space, strict=True)
        except ValueError:  # Pillow judges, and finds the words
            return None
        return found

    return quick


def _opencv(library: Any) -> Quick:

    def quick(blob: bytes) -> Pixels | None:
        kind = blob[_KIND]
        whole = blob.endswith(_PNG_END)  # otherwise Pillow judges, and OpenCV would write on stderr
        if not whole or kind not in (_GREY, _RGB) or _pixels(blob) > _MOST_PIXELS:
            return None
        try:
            found = library.imdecode(np.frombuffer(blob, np.uint8), library.IMREAD_UNCHANGED)
        except library.error:
            return None
        if found is None or found.dtype != np.uint8:
            return None
        if kind == _GREY:
            return found[:, :, None] if found.ndim == 2 else None  # noqa: PLR2004  (h, w)
        if found.shape[2:] != (3,):
            return None
        turned: Pixels = library.cvtColor(found, library.COLOR_BGR2RGB)
        return turned

    return quick


def _pixels(png: bytes) -> int:
    return int.from_bytes(png[16:20], "big") * int.from_bytes(png[20:24], "big")


def _picture(height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    y, x, c = np.mgrid[:height, :width, :channels]
    grain = (y * 7919 + x * 104729 + c * 1299709) % 41
    values: Pixels = (128 + 80 * np.sin(x / (3 + c) + y / 5) + grain) % 256
    return values.astype(np.uint8)


def _jpegs() -> list[bytes]:
    """JPEG files of the kinds that differ in decoding: subsampling, progressive, odd sizes, grey."""
    from PIL import Image

    files = []
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            out = io.BytesIO()
            Image.fromarray(_picture(37, 53, 3)).save(
                out, "JPEG", quality=40 + 25 * subsampling, subsampling=subsampling, progressive=progressive
            )
            files.append(out.getvalue())
    out = io.BytesIO()
    Image.fromarray(_picture(19, 22, 1)[:, :, 0]).save(out, "JPEG", quality=90)
    return [*files, out.getvalue()]


def _pngs() -> list[bytes]:
    from lake.images import encode

    return [encode(_picture(21, 18, 3)), encode(_picture(9, 14, 1))]


class _Nvjpeg(Decoder):
    """Colour JPEG files on a GPU, in batches; the pixels come back to the host. All others go to Pillow."""

    def __init__(self) -> None:
        self._codec, self._decoder = _nvimgcodec()
        kinds = self._codec
        self._params = kinds.DecodeParams(apply_exif_orientation=False, color_spec=kinds.ColorSpec.SRGB)
        super().__init__(f"nvImageCodec {kinds.__version__} (not Pillow's bytes), {_pillow()}")

    def many(self, blobs: Sequence[bytes]) -> list[Pixels | BadImageError]:
        streams = {i: self._stream(blob) for i, blob in enumerate(blobs) if blob.startswith(_JPEG)}
        colour = {i: stream for i, stream in streams.items() if stream is not None}
        images = self._decoder.decode(list(colour.values()), params=self._params)
        found = {i: np.array(image.cpu()) for i, image in zip(colour, images, strict=True) if image is not None}
        return [found[i] if i in found else _or_error(decode, blob) for i, blob in enumerate(blobs)]

    def _stream(self, blob: bytes) -> Any | None:
        try:
            stream = self._codec.CodeStream(blob)
        except RuntimeError:  # Pillow judges
            return None
        fits = stream.num_channels == 3 and stream.height * stream.width <= _MOST_PIXELS  # noqa: PLR2004  (RGB)
        return stream if fits else None


def _nvimgcodec() -> tuple[Any, Any]:
    try:
        codec = import_module("nvidia.nvimgcodec")
    except ImportError as error:
        raise DeviceError(
            'decoder "nvjpeg" needs nvImageCodec, which is not installed',
            why=str(error),
            hint="pip install nvidia-nvimgcodec-cu12[all], or choose decoder auto",
        ) from error
    try:
        return codec, codec.Decoder(
            backends=[codec.Backend(codec.GPU_ONLY), codec.Backend(codec.HYBRID_CPU_GPU)]
        )
    except RuntimeError as error:
        raise DeviceError(
            'decoder "nvjpeg" was asked for, but there is no GPU that it can use',
            why=str(error).partition("\n")[0],
            hint="choose decoder auto, or start where a GPU is",
        ) from error
