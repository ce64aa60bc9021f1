"""Programs carried out on the CPU, exactly.

Pillow 13 is the reference for uint8, bit for bit:

- L = (19595 R + 38470 G + 7471 B + 32768) >> 16.
- blend(d, a, f) = trunc(clip(d + f (a - d), 0, 255)) in float32. Brightness: d = 0. Color: d = L. Contrast:
  d = int(mean(L) + 0.5). Sharpness: d = the 3x3 sum of [1 1 1; 1 5 1; 1 1 1] over 13, rounded half up; the
  border of one pixel stays.
- Posterize keeps the upper bits; 0 bits, which old published policies contain and Pillow refuses, count as 1.
  Solarize inverts from a threshold on. AutoContrast stretches each channel in float64. Equalize as in
  ``PIL.ImageOps``.
- Affine ops: nearest neighbour in 16.16 fixed point or bilinear, black outside. Shears are about the top-left
  corner, rotations about the centre, translations by whole pixels.
- Cutout (not in Pillow): a square of ``int(parameter * min(h, w))`` pixels of mid-grey, 128, about a place
  drawn uniformly over the image, cut off at its edges (DeVries and Taylor, 2017).

uint16 is the same over 0 .. 65535, never a cast to 8 bits: thresholds of Solarize are multiplied by 257;
Posterize to b < 8 bits keeps the b highest (8 changes nothing, on either depth); Equalize needs more than
65,535 pixels to do anything, as its integer step is 0 below. Images that are neither grey nor RGB take the
rounded mean of their channels for L.

Runs of lookup-table ops are fused into one table; AutoContrast and Equalize see the histogram that they would
have seen (it is pushed through the tables), so the fusion is exact. Geometric ops are *not* merged: two
resamplings stay two, as in Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from augment.ops import NAMES, Applied, Program, Space, find
from lake.errors import DeviceError

__all__ = ["ABSENT", "Programs", "check_device", "execute", "matrix"]

ABSENT = -1
"""The code of a slot in which nothing happens (Identity, 0, is an op that was chosen)."""

Resampling = Literal["nearest", "bilinear"]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

_TOPS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
# A share times a side may come out just below a whole pixel.
_SLACK = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Programs(Sequence[tuple[Applied, ...]]):
    """One program per image, as arrays; reads like a sequence of tuples of ``Applied``.

    Attributes:
        codes: int64 (n, slots); ``ABSENT`` where a slot is not used.
        parameters: float64 (n, slots).
        x: float64 (n, slots): the places of Cutouts, shares of the width.
        y: float64 (n, slots): shares of the height.

    >>> Programs.of([[Applied("Rotate", 12.4)], []])[0][0].op
    'Rotate'
    """

    codes: I64
    parameters: F64
    x: F64
    y: F64

    @classmethod
    def empty(cls, n: int, slots: int) -> Programs:
        """Programs in which nothing happens."""
        return cls(
            np.full((n, slots), ABSENT, np.int64), np.zeros((n, slots)), np.full((n, slots), 0.5),
            np.full((n, slots), 0.5),
        )  # fmt: skip

    @classmethod
    def of(cls, programs: Sequence[Program]) -> Programs:
        """The arrays of programs given as sequences of ``Applied``."""
        if isinstance(programs, cls):
            return programs
        made = cls.empty(len(programs), max((len(p) for p in programs), default=0))
        for i, program in enumerate(programs):
            for slot, step in enumerate(program):
                made.codes[i, slot] = find(step.op).code
                made.parameters[i, slot], made.x[i, slot], made.y[i, slot] = step.parameter, step.x, step.y
        return made

    def take(self, index: Sequence[int] | I64) -> Programs:
        """The programs at these positions."""
        i = np.asarray(index, np.int64)
        return Programs(self.codes[i], self.parameters[i], self.x[i], self.y[i])

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return self.take(np.arange(len(self))[i])
        return tuple(
            Applied(NAMES[code], float(p), float(x), float(y))
            for code, p, x, y in zip(self.codes[i], self.parameters[i], self.x[i], self.y[i], strict=True)
            if code != ABSENT
        )

    def __iter__(self) -> Iterator[tuple[Applied, ...]]:
        return (self[i] for i in range(len(self)))


def check_device(device: str) -> None:
    """Refuse every device but the CPU, clearly and never silently.

    Raises:
        lake.errors.DeviceError: for any other device.
    """
    if device != "cpu":
        raise DeviceError(
            f"device {device!r} was asked for, but this release augments on the CPU only",
            hint='pass device="cpu"; the bytes are defined by the ops, not by the device',
        )


def execute(
    images: Any, programs: Sequence[Program], *, space: Space = "wide", resampling: Resampling = "nearest"
) -> Any:
    """Carry out one program per image.

    Args:
        images: uint8 or uint16, (n, h, w, c) or (n, h, w); or a sequence of (h, w, c) or (h, w) arrays of
            any sizes.
        programs: as many; parameters are those of ``space``.
        space: in which translations are pixels ("wide") or shares of the side ("autoaugment").
        resampling: of the affine ops.

    Returns:
        New images: an array for an array, a list for a sequence.

    Raises:
        ValueError: the numbers differ, or a shape is none of those above.
        TypeError: the dtype is neither uint8 nor uint16.

    >>> execute(np.array([[[1, 2], [3, 4]]], np.uint8), [[Applied("Invert", 0.0)]]).tolist()
    [[[254, 253], [252, 251]]]
    """
    if len(images) != len(programs):
        raise ValueError(f"{len(images)} images but {len(programs)} ids or programs: give one per image")
    made = Programs.of(programs)
    if isinstance(images, np.ndarray):
        return _batch(images, made, space, resampling)
    arrays = [np.asarray(image) for image in images]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, array in enumerate(arrays):
        groups.setdefault((array.shape, array.dtype), []).append(i)
    result: list[Array] = [np.empty(0)] * len(arrays)
    for positions in groups.values():
        stacked = np.stack([arrays[i] for i in positions])
        for i, image in zip(positions, _batch(stacked, made.take(positions), space, resampling), strict=True):
            result[i] = image
    return result


def _batch(images: Array, programs: Programs, space: Space, resampling: Resampling) -> Array:
    if images.dtype not in _TOPS:
        raise TypeError(f"images of dtype {images.dtype}: only uint8 and uint16 have exact definitions here")
    if images.ndim not in (3, 4):
        raise ValueError(f"images of shape {images.shape}: give (n, h, w, c), (n, h, w), or a list of images")
    if images.size == 0:
        return images.copy()
    # The kernel is compiled for writable C order; a read-only or strided array is copied here.
    four = np.require(images if images.ndim == 4 else images[..., None], requirements=["C", "W"])  # noqa: PLR2004
    from augment import _kernels

    _, h, w, _ = four.shape
    out = np.empty_like(four)
    _kernels.run(
        four, out, np.ascontiguousarray(programs.codes), np.ascontiguousarray(programs.parameters),
        _geometry(programs, w, h, space), _TOPS[images.dtype], resampling == "bilinear",
    )  # fmt: skip
    return out.reshape(images.shape)


def _geometry(programs: Programs, w: int, h: int, space: Space) -> F64:
    """Inverse matrices of the affine ops and boxes of the Cutouts: float64 (n, slots, 6)."""
    made = np.zeros((*programs.codes.shape, 6))
    for code in np.unique(programs.codes[programs.codes > 0]):
        op = find(NAMES[code])
        mine = programs.codes == code
        if op.kind == "affine":
            values, inverse = np.unique(programs.parameters[mine], return_inverse=True)
            made[mine] = np.array([matrix(op.name, float(v), w, h, space) for v in values])[inverse]
        elif op.kind == "erase":
            side = np.floor(programs.parameters[mine] * min(h, w) + _SLACK)
            left = np.floor(programs.x[mine] * w) - side // 2
            top = np.floor(programs.y[mine] * h) - side // 2
            box = np.stack([left, top, left + side, top + side], axis=1)
            made[mine, :4] = np.clip(box, 0, [w, h, w, h])
    return made


@lru_cache(maxsize=4096)
def matrix(
    name: str, parameter: float, w: int, h: int, space: Space = "wide"
) -> tuple[float, float, float, float, float, float]:
    """The inverse matrix of an affine op: the output pixel (x, y) shows (a x + b y + c, d x + e y + f).

    >>> matrix("TranslateX", 3.0, 10, 10)
    (1.0, 0.0, -3.0, 0.0, 1.0, 0.0)
    """
    if name == "ShearX":
        return (1.0, parameter, 0.0, 0.0, 1.0, 0.0)
    if name == "ShearY":
        return (1.0, 0.0, 0.0, parameter, 1.0, 0.0)
    if name in ("TranslateX", "TranslateY"):
        side = 1.0 if space == "wide" else float(w if name == "TranslateX" else h)
        pixels = float(math.trunc(parameter * side + math.copysign(_SLACK, parameter)))
        return (
            (1.0, 0.0, -pixels, 0.0, 1.0, 0.0) if name == "TranslateX" else (1.0, 0.0, 0.0, 0.0, 1.0, -pixels)
        )
    if name == "Rotate":
        angle = -math.radians(parameter % 360.0)
        cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
        x, y = -w / 2, -h / 2
        return (cos, sin, cos * x + sin * y + w / 2, -sin, cos, -sin * x + cos * y + h / 2)
    raise ValueError(f"{name} is not an affine op")
