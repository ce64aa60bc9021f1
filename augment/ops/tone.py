"""Lookup tables beyond AutoAugment's: gamma, window and level, added light."""

from __future__ import annotations

import numpy as np

from augment.ops.table import F64, Op, Placed, Range

__all__ = ["ROWS"]


def gamma(placed: Placed) -> F64:
    """The exponent: ``parameter``, or one over it for negative ones."""
    p = placed.parameter
    return np.where(p < 0, 1.0 / (1.0 + np.abs(p)), 1.0 + p)[:, None]


def window(placed: Placed) -> F64:
    """What becomes black and what white: a part of ``1 - parameter`` of the range, which x places."""
    top = placed.shape.top
    low = placed.x * placed.parameter * top
    return np.stack([low, low + (1.0 - placed.parameter) * top], axis=1)


ROWS = (
    Op(
        "Gamma", 16, "lut", Range(0.0, 0.5, "by {p:+.2f}", signed=True),
        Range(0.0, 1.5, "by {p:+.2f}", signed=True), place=gamma, neutral=0.0,
        words="the range to the power of 1 + p, or of 1 / (1 + p)",
    ),
    Op(
        "SolarizeAdd", 17, "lut", Range(0.0, 110.0, "{p:+.0f} below 128", whole=True),
        Range(0.0, 128.0, "{p:+.0f} below 128", whole=True), neutral=0.0,
        words="adds to the values below the middle",
    ),
    Op(
        "Window", 18, "lut", Range(0.0, 0.4, "{p:.0f} % of the range cut off", scale=100.0),
        Range(0.0, 0.8, "{p:.0f} % of the range cut off", scale=100.0), place=window, neutral=0.0, least=0.0,
        most=1.0 - 1e-6,
        words="window and level: a part of the range is stretched to all of it",
    ),
)  # fmt: skip
