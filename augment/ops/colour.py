"""Ops that mix channels: a 3x4 matrix, and Pillow's grey.

Consecutive ones are multiplied into one matrix and applied once, with one rounding. On images without three
channels they do nothing.
"""

from __future__ import annotations

import numpy as np

from augment import rng
from augment.ops.table import F64, Op, Placed, Range

__all__ = ["ROWS"]

# NTSC's YIQ; its grey is the luma that Pillow's L has.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_RGB = np.linalg.inv(_YIQ)
_ORDERS = np.array([[1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2], [2, 1, 0]])


def _with_offset(mix: F64) -> F64:
    made = np.zeros((len(mix), 3, 4))
    made[:, :, :3] = mix
    return made.reshape(-1, 12)


def hue(placed: Placed) -> F64:
    """A rotation of I and Q by ``parameter`` turns; grey stays grey."""
    angle = 2 * np.pi * placed.parameter
    cos, sin = np.round(np.cos(angle), 12), np.round(np.sin(angle), 12)
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1.0
    turn[:, 1, 1], turn[:, 1, 2] = cos, -sin
    turn[:, 2, 1], turn[:, 2, 2] = sin, cos
    return _with_offset(_RGB @ turn @ _YIQ)


def shuffle(placed: Placed) -> F64:
    """One of the five other orders of the channels, drawn by x."""
    chosen = _ORDERS[np.minimum((placed.x * len(_ORDERS)).astype(int), len(_ORDERS) - 1)]
    return _with_offset(np.eye(3)[chosen])


def drop(placed: Placed) -> F64:
    """One channel becomes black, drawn by x."""
    keep = np.repeat(np.eye(3)[None], len(placed.x), axis=0)
    keep[np.arange(len(placed.x)), np.minimum((placed.x * 3).astype(int), 2)] = 0.0
    return _with_offset(keep)


def cast(placed: Placed) -> F64:
    """Each channel gets a factor from ``1 - parameter`` to ``1 + parameter``: another light."""
    factor = 1.0 + placed.parameter[:, None] * (2.0 * rng.of_keys(placed.keys, 3) - 1.0)
    return _with_offset(factor[:, :, None] * np.eye(3))


def grey(placed: Placed) -> F64:
    """Pillow's Color with the factor 0."""
    return np.zeros((len(placed.parameter), 1))


ROWS = (
    Op("Grey", 27, "colour", place=grey, words="L in all channels"),
    Op(
        "Hue", 28, "matrix", Range(0.0, 0.1, "{p:+.0f}° of hue", signed=True, scale=360.0),
        Range(0.0, 0.5, "{p:+.0f}° of hue", signed=True, scale=360.0), place=hue, neutral=0.0,
        words="the hues turn, grey stays",
    ),
    Op("ChannelShuffle", 29, "matrix", place=shuffle, words="the channels in another order"),
    Op("ChannelDrop", 30, "matrix", place=drop, words="one channel becomes black"),
    Op(
        "Cast", 31, "matrix", Range(0.0, 0.2, "channels by up to {p:.0f} %", scale=100.0),
        Range(0.0, 0.5, "channels by up to {p:.0f} %", scale=100.0), place=cast, neutral=0.0,
        words="each channel gets a factor: another light",
    ),
)  # fmt: skip
