"""What an op is: a magnitude range, the parameter that comes out of it, and who touches the pixels.

Three things are kept apart: a *magnitude range* (what a normalised level 0..1 means), the *parameter* that
comes out of it (degrees, bits, a blending factor), and how a parameter becomes *values* for a kernel in an
image of a given size (a matrix, a rectangle). Nothing here touches a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "GEOMETRY",
    "NONE",
    "PIXELS",
    "VALUES",
    "Applied",
    "Kind",
    "Op",
    "Program",
    "Range",
    "Shape",
    "Space",
]

Space = Literal["autoaugment", "wide"]
Kind = Literal["identity", "lut", "warp", "colour", "matrix", "stencil", "erase", "call", "mix", "text"]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
Array = npt.NDArray[Any]

VALUES = 12
"""How many numbers a kernel gets for one op on one image."""

PIXELS = frozenset({"image"})
GEOMETRY = frozenset({"image", "mask", "boxes", "keypoints"})


class Applied(NamedTuple):
    """One op as it was applied to one image.

    Attributes:
        op: its name.
        parameter: what the level came to.
        x: a share of the width: where a Cutout lies, which part a Crop shows.
        y: a share of the height.
        key: 128 bits from which all further random numbers are made.
    """

    op: str
    parameter: float
    x: float = 0.5
    y: float = 0.5
    key: tuple[int, int, int, int] = (0, 0, 0, 0)


Program = Sequence[Applied]
"""What happens to one image, in order."""


class Shape(NamedTuple):
    """Of the images that an op is placed in; ``top`` is the value of white."""

    height: int
    width: int
    channels: int
    top: float


@dataclass(frozen=True, slots=True)
class Range:
    """What the levels 0 and 1 mean: the parameter goes linearly from ``zero`` to ``full``.

    Attributes:
        zero: the parameter at level 0: the op does nothing, or least.
        full: the parameter at level 1.
        signed: half of the draws go from ``zero`` the other way.
        whole: the parameter is rounded (half to even) to an integer.
        words: how to say a parameter, with ``{p}`` in it.
        scale: what to multiply the parameter by before saying it.
    """

    zero: float
    full: float
    words: str
    signed: bool = False
    whole: bool = False
    scale: float = 1.0

    def parameter(self, level: npt.ArrayLike, sign: npt.ArrayLike = 1.0) -> F64:
        """Levels in [0, 1] and signs (+1 or -1) to parameters, float64 of their common shape."""
        span = (self.full - self.zero) * np.asarray(level, np.float64)
        value: F64 = self.zero + (span * np.asarray(sign, np.float64) if self.signed else span)
        return np.rint(value) if self.whole else value


NONE = Range(0.0, 0.0, "")
"""Of the ops that are on or off."""


class Placed(NamedTuple):
    """What a ``place`` function gets: m applications of one op to images of one shape.

    Attributes:
        parameter: float64 (m,).
        x: float64 (m,), in 0 .. 1.
        y: float64 (m,), in 0 .. 1.
        keys: uint32 (m, 4), for further random numbers, see :func:`augment.rng.of_keys`.
        shape: of the images.
        space: which magnitude range the parameter comes from.
    """

    parameter: F64
    x: F64
    y: F64
    keys: U32
    shape: Shape
    space: Space


Place = Callable[[Placed], F64]
"""Gives float64 (m, k), k <= ``VALUES``: what the kernel gets."""


def parameter_only(placed: Placed) -> F64:
    """The parameter, as it is."""
    return placed.parameter[:, None]


@dataclass(frozen=True, slots=True)
class Op:
    """One row of the table.

    Attributes:
        name: as in the literature.
        code: the number by which kernels know it; never reused.
        kind: how it is carried out: a lookup table, a warp (resampling through an inverse 3x3 matrix), Pillow's
            colour blend, a 3x4 channel matrix, a 3x3 stencil, an erased rectangle, or a call of ``run``.
        autoaugment: the range of the AutoAugment paper, or the mild one.
        wide: TrivialAugment Wide's range, or the wide one.
        place: parameters to values.
        statistics: the table depends on the image's histogram or mean.
        neutral: the parameter at which nothing happens.
        targets: what it moves: pixels only, or masks, boxes and keypoints too.
        run: of kind ``call``: ``module:function``, which takes an image (h, w, c), values (12,) and a key (4,),
            and gives a new image.
        points: of kind ``call``, if it moves pixels: ``module:function``, which takes points (n, 2), values,
            key, height and width, and says where they stand in the output.
        words: what it does, in a few words.
        least: of the parameters that make sense.
        most: likewise.
    """

    name: str
    code: int
    kind: Kind
    autoaugment: Range = NONE
    wide: Range = NONE
    place: Place = parameter_only
    statistics: bool = False
    neutral: float | None = None
    targets: frozenset[str] = PIXELS
    run: str = ""
    points: str = ""
    words: str = ""
    least: float = -math.inf
    most: float = math.inf

    def legal(self, space: Space, *, mirrored: bool = False) -> tuple[float, float]:
        """Between which numbers a parameter makes sense; ``mirrored``: also where it goes the other way."""
        span = self.range(space)
        if not (mirrored and span.signed):
            return self.least, self.most
        return max(self.least, 2 * span.zero - self.most), min(self.most, 2 * span.zero - self.least)

    def range(self, space: Space) -> Range:
        """The magnitude range in a space."""
        return self.wide if space == "wide" else self.autoaugment

    @property
    def has_magnitude(self) -> bool:
        """False for the ops that are on or off: Identity, AutoContrast, Equalize, Invert."""
        return self.wide is not NONE

    @property
    def moves(self) -> bool:
        """Whether masks, boxes and keypoints move with the pixels."""
        return self.targets == GEOMETRY

    def call(self, image: Array, values: F64, key: U32) -> Array:
        """Carry out an op of kind ``call`` on one image (h, w, c); a new one comes back."""
        made: Array = _load(self.run)(image, values, key)
        return made

    def mix(self, image: Array, partner: Array, values: F64) -> Array:
        """Carry out an op of kind ``mix``; a new image comes back."""
        made: Array = _load(self.run)(image, partner, values)
        return made

    def move_mask(self, mask: Array, values: F64, key: U32) -> Array:
        """Move a mask (h, w, k) with the image, by the nearest neighbour."""
        nearest = values.copy()
        nearest[-1] = 0.0
        return self.call(mask, nearest, key)

    def move_points(self, points: F64, values: F64, key: U32, size: tuple[int, int]) -> F64:
        """Where points (n, 2) of the source stand in the output.

        Raises:
            ValueError: the op does not say.
        """
        if not self.points:
            raise ValueError(f"{self.name} moves pixels, but does not say where boxes and keypoints go")
        made: F64 = _load(self.points)(points, values, key, *size)
        return made


@cache
def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
