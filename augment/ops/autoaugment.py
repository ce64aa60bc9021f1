"""The sixteen ops of AutoAugment and its successors.

Ranges: ``autoaugment`` are those of the paper (Cubuk et al., CVPR 2019, table 7; Solarize 256 to 0,
translations and Cutout as shares of 331 pixels), ``wide`` those of TrivialAugment Wide (Müller and
Hutter, ICCV 2021), each as torchvision reads them: enhancements are blends with factor 1 ± magnitude,
and signed magnitudes are negated for half of the draws.
"""

from __future__ import annotations

import numpy as np

from augment.ops import geometry
from augment.ops.table import F64, GEOMETRY, Op, Placed, Range

__all__ = ["ROWS"]

# A share times a side may come out just below a whole pixel.
_SLACK = 1e-6


def square(placed: Placed) -> F64:
    """The rectangle x0, y0, x1, y1 of a Cutout: a square about a place, cut off at the edges."""
    h, w = placed.shape[:2]
    side = np.floor(placed.parameter * min(h, w) + _SLACK)
    left, top = np.floor(placed.x * w) - side // 2, np.floor(placed.y * h) - side // 2
    made: F64 = np.clip(np.stack([left, top, left + side, top + side], axis=1), 0, [w, h, w, h])
    return made


def _shear(full: float) -> Range:
    return Range(0.0, full, "{p:+.2f}", signed=True)


def _factor(span: float) -> Range:
    return Range(1.0, 1.0 + span, "x{p:.2f}", signed=True)


def _share(full: float, of: str, *, signed: bool) -> Range:
    return Range(0.0, full, f"{{p:{'+' if signed else ''}.0f}} % of the {of}", signed=signed, scale=100.0)


_PIXELS = Range(0.0, 32.0, "{p:+.0f} px", signed=True)
_DEGREES = Range(0.0, 30.0, "{p:.1f}°", signed=True)
_ROTATE = (_DEGREES, Range(0.0, 135.0, "{p:.1f}°", signed=True))
_BITS = (Range(8, 4, "{p:.0f} bits", whole=True), Range(8, 2, "{p:.0f} bits", whole=True))
_ABOVE = (Range(256.0, 0.0, "from {p:.0f} on"), Range(255.0, 0.0, "from {p:.0f} on"))
_ENHANCE = (_factor(0.9), _factor(0.99))
# Wide has no Cutout; Fast AutoAugment's 0.2 of the side stands in for it.
_PATCH = (_share(60 / 331, "side", signed=False), _share(0.2, "side", signed=False))


def _warp(name: str, code: int, mild: Range, wide: Range) -> Op:
    return Op(name, code, "warp", mild, wide, place=geometry.matrices(name), targets=GEOMETRY)


ROWS = (
    Op("Identity", 0, "identity"),
    _warp("ShearX", 1, _shear(0.3), _shear(0.99)),
    _warp("ShearY", 2, _shear(0.3), _shear(0.99)),
    _warp("TranslateX", 3, _share(150 / 331, "width", signed=True), _PIXELS),
    _warp("TranslateY", 4, _share(150 / 331, "height", signed=True), _PIXELS),
    _warp("Rotate", 5, *_ROTATE),
    Op("Brightness", 6, "lut", *_ENHANCE, neutral=1.0),
    Op("Color", 7, "colour", *_ENHANCE, neutral=1.0),
    Op("Contrast", 8, "lut", *_ENHANCE, statistics=True, neutral=1.0),
    Op("Sharpness", 9, "stencil", *_ENHANCE, neutral=1.0),
    Op("Posterize", 10, "lut", *_BITS, neutral=8.0),
    Op("Solarize", 11, "lut", *_ABOVE),
    Op("AutoContrast", 12, "lut", statistics=True),
    Op("Equalize", 13, "lut", statistics=True),
    Op("Invert", 14, "lut"),
    Op("Cutout", 15, "erase", *_PATCH, place=square),
)
"""The rows; their codes are 0 .. 15."""
