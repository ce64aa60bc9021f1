"""The operations of AutoAugment and its successors, as a table.

An op is three things kept apart: a *magnitude range* (what a normalised level 0..1 means), the
*parameter* that comes out of it (degrees, bits, a blending factor), and a *kernel* that applies a
parameter to pixels (:mod:`augment.cpu`). This module knows the first two; nothing here touches a pixel
except :func:`apply_op`, which calls the kernels.

Ranges: ``autoaugment`` are those of the paper (Cubuk et al., CVPR 2019, table 7; Solarize 256 to 0,
translations and Cutout as shares of 331 pixels), ``wide`` those of TrivialAugment Wide (Müller and
Hutter, ICCV 2021), each as torchvision reads them: enhancements are blends with factor 1 ± magnitude,
and signed magnitudes are negated for half of the draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["NAMES", "OPS", "Applied", "Op", "Program", "Range", "Space", "apply_op", "describe", "find"]

Space = Literal["autoaugment", "wide"]
Kind = Literal["identity", "lut", "affine", "colour", "stencil", "erase"]
F64 = npt.NDArray[np.float64]


class Applied(NamedTuple):
    """One op as it was applied to one image; ``x`` and ``y`` (shares of the sides) place a Cutout."""

    op: str
    parameter: float
    x: float = 0.5
    y: float = 0.5


Program = Sequence[Applied]
"""What happens to one image, in order."""


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


_NONE = Range(0.0, 0.0, "")
_DEGREES = Range(0.0, 30.0, "{p:.1f}°", signed=True)


@dataclass(frozen=True, slots=True)
class Op:
    """One row of the table.

    Attributes:
        name: as in the literature.
        code: the number by which kernels know it; never reused.
        kind: which kernel: a lookup table, a resampling, a per-pixel colour blend, a 3x3 stencil, or
            an erased rectangle.
        autoaugment: the paper's range.
        wide: TrivialAugment Wide's range.
        statistics: the table depends on the image's histogram or mean.
    """

    name: str
    code: int
    kind: Kind
    autoaugment: Range = _NONE
    wide: Range = _NONE
    statistics: bool = False

    def range(self, space: Space) -> Range:
        """The magnitude range in a space."""
        return self.wide if space == "wide" else self.autoaugment

    @property
    def has_magnitude(self) -> bool:
        """False for the ops that are on or off: Identity, AutoContrast, Equalize, Invert."""
        return self.wide is not _NONE


def _shear(full: float) -> Range:
    return Range(0.0, full, "{p:+.2f}", signed=True)


def _factor(span: float) -> Range:
    return Range(1.0, 1.0 + span, "x{p:.2f}", signed=True)


def _share(full: float, of: str, *, signed: bool) -> Range:
    return Range(0.0, full, f"{{p:{'+' if signed else ''}.0f}} % of the {of}", signed=signed, scale=100.0)


_PIXELS = Range(0.0, 32.0, "{p:+.0f} px", signed=True)
_ROTATE = (_DEGREES, Range(0.0, 135.0, "{p:.1f}°", signed=True))
_BITS = (Range(8, 4, "{p:.0f} bits", whole=True), Range(8, 2, "{p:.0f} bits", whole=True))
_ABOVE = (Range(256.0, 0.0, "from {p:.0f} on"), Range(255.0, 0.0, "from {p:.0f} on"))
_ENHANCE = (_factor(0.9), _factor(0.99))
# Wide has no Cutout; Fast AutoAugment's 0.2 of the side stands in for it.
_PATCH = (_share(60 / 331, "side", signed=False), _share(0.2, "side", signed=False))

_TABLE = (
    Op("Identity", 0, "identity"),
    Op("ShearX", 1, "affine", _shear(0.3), _shear(0.99)),
    Op("ShearY", 2, "affine", _shear(0.3), _shear(0.99)),
    Op("TranslateX", 3, "affine", _share(150 / 331, "width", signed=True), _PIXELS),
    Op("TranslateY", 4, "affine", _share(150 / 331, "height", signed=True), _PIXELS),
    Op("Rotate", 5, "affine", *_ROTATE),
    Op("Brightness", 6, "lut", *_ENHANCE),
    Op("Color", 7, "colour", *_ENHANCE),
    Op("Contrast", 8, "lut", *_ENHANCE, statistics=True),
    Op("Sharpness", 9, "stencil", *_ENHANCE),
    Op("Posterize", 10, "lut", *_BITS),
    Op("Solarize", 11, "lut", *_ABOVE),
    Op("AutoContrast", 12, "lut", statistics=True),
    Op("Equalize", 13, "lut", statistics=True),
    Op("Invert", 14, "lut"),
    Op("Cutout", 15, "erase", *_PATCH),
)

OPS: Mapping[str, Op] = MappingProxyType({op.name: op for op in _TABLE})
"""The table, by name."""

NAMES: tuple[str, ...] = tuple(OPS)
"""The names, in the order of the codes: ``NAMES[op.code] == op.name``."""


def find(name: str) -> Op:
    """The op of that name.

    Raises:
        ValueError: there is none; the message says which one may be meant.

    >>> find("Rotate").kind
    'affine'
    """
    if name in OPS:
        return OPS[name]
    close = get_close_matches(name.lower(), [n.lower() for n in NAMES], n=1)
    known = {n.lower(): n for n in NAMES}
    hint = f"did you mean {known[close[0]]!r}?" if close else f"known are {', '.join(NAMES)}"
    raise ValueError(f"no op is called {name!r}: {hint}")


def describe(program: Program, space: Space = "wide") -> str:
    """A program in words.

    >>> describe([Applied("Rotate", 12.4), Applied("Posterize", 5)])
    'Rotate 12.4° · Posterize 5 bits'
    >>> describe([])
    'unchanged'
    """
    parts = []
    for step in program:
        span = find(step.op).range(space)
        words = span.words.format(p=span.scale * step.parameter)
        parts.append(f"{step.op} {words}".rstrip())
    return " · ".join(parts) or "unchanged"


def apply_op(
    name: str,
    images: Any,
    level: float,
    *,
    ids: object = None,
    signs: npt.ArrayLike | None = None,
    seed: int = 0,
    space: Space = "wide",
) -> Any:
    """Apply one op at one normalised magnitude to every image of a batch.

    Args:
        name: an op.
        images: uint8 or uint16, (n, h, w, c) or (n, h, w), or a list of (h, w, c) or (h, w) arrays.
        level: 0 .. 1 of the op's range.
        ids: what :func:`augment.rng.halves` takes; they draw the signs and the places of a Cutout.
            Without ids the positions 0 .. n - 1 stand for them.
        signs: +1 or -1 per image (or one for all) instead of drawn ones.
        seed: of the draws.
        space: which magnitude range.

    Returns:
        New images, the same kind as given.

    >>> import numpy as np
    >>> apply_op("Invert", np.zeros((1, 2, 2, 1), np.uint8), 0.0).max()
    np.uint8(255)
    """
    from augment import cpu, rng

    op = find(name)
    if not 0.0 <= level <= 1.0:
        raise ValueError(f"a level lies in 0 .. 1, not {level}")
    n = len(images)
    stream = rng.Stream(range(n) if ids is None else ids, seed, 0)
    draws = stream.uniforms([0, 1, 2])
    sign = np.where(draws[:, 0] < 0.5, 1.0, -1.0) if signs is None else np.broadcast_to(signs, (n,))  # noqa: PLR2004  (a fair coin)
    programs = cpu.Programs(
        codes=np.full((n, 1), op.code, np.int64),
        parameters=np.broadcast_to(op.range(space).parameter(level, sign), (n,)).reshape(n, 1),
        x=draws[:, 1:2],
        y=draws[:, 2:3],
    )
    return cpu.execute(images, programs, space=space)
