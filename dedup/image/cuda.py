"""Images to hashes and thumbnails on a GPU: the same bits as :mod:`dedup.image.hashes`.

One launch describes a whole batch of images. The kernel and how it works: ``hashes.cu``. CuPy is imported when
a function is called, and NVRTC compiles for the GPU that is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.image.hashes import BYTES, WINDOWS, Described, Hash, Image, tables
from lake.gpu import cupy as _cupy

__all__ = ["BLOCK", "Packed", "describe_all", "pack"]

BLOCK = 128
_PIECE = 1 << 28  # bytes of pixels that go to the device at a time
_ALIGNED = 16  # where an image starts, in bytes


class Packed(NamedTuple):
    """Images one after the other, as the kernel takes them."""

    data: npt.NDArray[np.uint8]
    places: npt.NDArray[np.int64]
    """Where in ``data`` each starts; shape (n,)."""
    shapes: npt.NDArray[np.int64]
    """Height, width, channels and bytes a value; shape (n, 4)."""


def pack(images: Sequence[Image]) -> Packed:
    """Lay images one after the other.

    >>> pack([np.zeros((1, 2, 3), np.uint8), np.zeros((1, 1, 1), np.uint16)]).places.tolist()
    [0, 16]
    """
    ends = np.cumsum([0, *(-(-image.nbytes // _ALIGNED) * _ALIGNED for image in images)], dtype=np.int64)
    data = np.zeros(int(ends[-1]), np.uint8)
    for image, start in zip(images, ends.tolist(), strict=False):
        data[start : start + image.nbytes] = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
    shapes = np.array([[*image.shape, image.dtype.itemsize] for image in images], np.int64).reshape(-1, 4)
    return Packed(data, ends[:-1], shapes)


def describe_all(
    images: Sequence[Image], kind: Hash = "phash", *, turns: Sequence[int] = (0,), windows: bool = False
) -> Described:
    """Describe images on the current device: see :func:`dedup.image.hashes.describe_all`.

    Raises:
        DeviceError: there is no GPU, or no CuPy.
    """
    cupy = _cupy()
    several = len(turns) + (WINDOWS - 1 if windows else 0)
    parts = [Described(np.zeros(0, bool), np.zeros((0, several), np.uint64), np.zeros((0, BYTES), np.uint8))]
    kernel = _module(cupy.cuda.Device().id).get_function("describe")
    for piece in _pieces(images):
        count = len(piece.places)
        good = cupy.zeros(count, np.uint8)
        hashes, thumbs = cupy.zeros((count, several), np.uint64), cupy.zeros((count, BYTES), np.uint8)
        rows, columns = (cupy.asarray(table) for table in tables(kind))
        asked = cupy.asarray(np.array(turns, np.int32))
        kernel(
            (count,),
            (BLOCK,),
            (
                cupy.asarray(piece.data), cupy.asarray(piece.places), cupy.asarray(piece.shapes), rows, columns,
                np.int32(kind == "dhash"), asked, np.int32(len(turns)), np.int32(several - len(turns)), good,
                hashes, thumbs,
            ),
        )  # fmt: skip
        parts.append(Described(good.get() != 0, hashes.get(), thumbs.get()))
    return Described(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _pieces(images: Sequence[Image]) -> Iterator[Packed]:
    start = held = 0
    for at, image in enumerate(images):
        if held and held + image.nbytes > _PIECE:
            yield pack(images[start:at])
            start, held = at, 0
        held += image.nbytes
    if start < len(images):
        yield pack(images[start:])


@cache
def _module(_device: int) -> Any:
    source = files("dedup.image").joinpath("hashes.cu").read_text("utf-8")
    return _cupy().RawModule(code=source, options=("--std=c++14", f"-DBLOCK={BLOCK}"))
