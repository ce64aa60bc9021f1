"""Ops that need a partner: see :mod:`augment.engine.mix`."""

from __future__ import annotations

import numpy as np

from augment.ops.table import F64, Op, Placed, Range

__all__ = ["ROWS"]


def patch(placed: Placed) -> F64:
    """The rectangle of a CutMix: ``parameter`` of the area in the image's aspect, about a place, cut off."""
    h, w = placed.shape[:2]
    side = np.sqrt(placed.parameter)
    wide, high = np.floor(w * side + 0.5), np.floor(h * side + 0.5)
    left, top = np.floor(placed.x * w) - wide // 2, np.floor(placed.y * h) - high // 2
    made: F64 = np.clip(np.stack([left, top, left + wide, top + high], axis=1), 0, [w, h, w, h])
    return made


_SHARE = "{p:.0f} % of a partner"
ROWS = (
    Op(
        "MixUp", 120, "mix", Range(0.0, 0.2, _SHARE, scale=100.0), Range(0.0, 0.5, _SHARE, scale=100.0),
        neutral=0.0, least=0.0, most=1.0, run="augment.engine.mix:mixup",
        words="a weighted mean with a partner, of the labels too",
    ),
    Op(
        "CutMix", 121, "mix", Range(0.0, 0.2, _SHARE, scale=100.0), Range(0.0, 0.5, _SHARE, scale=100.0),
        place=patch, neutral=0.0, least=0.0, most=1.0, run="augment.engine.mix:cutmix",
        words="a rectangle of a partner, of the labels too",
    ),
)  # fmt: skip
