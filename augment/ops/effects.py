"""Ops carried out by a function of their own: noise, blur, artefacts, local contrast, medical images."""

from __future__ import annotations

import math

import numpy as np

from augment.ops.table import F64, GEOMETRY, PIXELS, Op, Place, Placed, Range, parameter_only

__all__ = ["ROWS"]

_FAIR = 0.5


def loss_of_resolution(placed: Placed) -> F64:
    """Factors of rows and columns: both, or (by x) one of the two, as where slices are thick."""
    p, one = placed.parameter, np.ones_like(placed.parameter)
    rows = np.where(placed.x < 2 / 3, p, one)
    columns = np.where((placed.x < 1 / 3) | (placed.x >= 2 / 3), p, one)
    return np.stack([rows, columns], axis=1)


def ghosting(placed: Placed) -> F64:
    """Strength, two to five ghosts by x, and the axis by y."""
    ghosts = 2 + np.floor(np.minimum(placed.x, 0.999) * 4)
    return np.stack([placed.parameter, ghosts, placed.y < _FAIR], axis=1)


def _call(  # noqa: PLR0917  (a row of the table)
    name: str,
    code: int,
    run: str,
    mild: float,
    wide: float,
    words: str,
    *,
    zero: float = 0.0,
    scale: float = 1.0,
    whole: bool = False,
    place: Place = parameter_only,
    points: str = "",
    neutral: float | None = 0.0,
    what: str = "",
    least: float = -math.inf,
    most: float = math.inf,
) -> Op:
    ranges = (
        Range(zero, mild, words, scale=scale, whole=whole),
        Range(zero, wide, words, scale=scale, whole=whole),
    )
    return Op(
        name, code, "call", *ranges, place=place, targets=GEOMETRY if points else PIXELS, neutral=neutral,
        run=f"augment.effects.{run}", points=points, words=what, least=least, most=most,
    )  # fmt: skip


ROWS = (
    _call("Blur", 100, "blur:gaussian", 1.5, 4.0, "sigma {p:.1f} px", what="Gaussian blur"),
    _call(
        "GaussianNoise", 101, "noise:gaussian", 0.1, 0.25, "{p:.0f} % of white", scale=100.0,
        what="normal noise",
    ),
    _call(
        "PoissonNoise", 102, "noise:poisson", 0.15, 0.4, "{p:.0f} % at white", scale=100.0,
        what="too few photons",
    ),
    _call(
        "RicianNoise", 103, "noise:rician", 0.1, 0.25, "{p:.0f} % of white", scale=100.0,
        what="the noise of magnitude images of MRI",
    ),
    _call(
        "Jpeg", 104, "jpeg:artefacts", 30.0, 5.0, "quality {p:.0f}", zero=95.0, whole=True, neutral=None,
        what="artefacts of compression", least=1.0, most=100.0,
    ),
    _call(
        "Clahe", 105, "clahe:clahe", 4.0, 8.0, "up to x{p:.1f}", zero=1.0, neutral=None,
        what="contrast limited adaptive histogram equalisation",
    ),
    _call(
        "Elastic", 106, "elastic:deform", 0.4, 0.9, "up to {p:.0f} % of a cell", scale=100.0,
        points="augment.effects.elastic:points",
        what="a smooth deformation",
    ),
    _call(
        "Downscale", 107, "medical:downscale", 3.0, 6.0, "1/{p:.1f}", zero=1.0, neutral=1.0,
        place=loss_of_resolution, what="loss of resolution in one or both directions", least=1.0,
    ),
    _call(
        "Ghosting", 108, "medical:ghosts", 0.5, 1.0, "{p:.0f} %", scale=100.0, place=ghosting,
        what="ghosts of a movement during an MRI",
    ),
    _call(
        "BiasField", 109, "medical:bias_field", 0.2, 0.4, "up to ±{p:.2f}", what="the uneven gain of MRI coils"
    ),
)  # fmt: skip
"""The rows; their codes are 100 .. 109."""
