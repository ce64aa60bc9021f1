"""Ops that mix an image with a partner: MixUp and CutMix.

The partner is given, image by image, by whoever knows the whole set (a loader takes the next row in the order
of the epoch), so that it does not depend on how a set is cut into batches. The label is mixed as the image is:
:func:`shares` says how much of it belongs to the partner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from augment.engine.compile import Compiled
from augment.ops import by_code

__all__ = ["cutmix", "mixup", "shares"]

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]


def mixup(image: Array, partner: Array, values: F64) -> Array:
    """Give ``values[0]`` of the weight to the partner, rounded half up (Zhang et al., ICLR 2018)."""
    share = np.float32(values[0])
    mixed = (np.float32(1.0) - share) * image.astype(np.float32) + share * partner.astype(np.float32)
    if image.dtype.kind == "u":
        mixed = np.floor(mixed + np.float32(0.5))
    return mixed.astype(image.dtype)


def cutmix(image: Array, partner: Array, values: F64) -> Array:
    """Put a rectangle of the partner in the same place (Yun et al., ICCV 2019)."""
    x0, y0, x1, y1 = (int(v) for v in values[:4])
    made = image.copy()
    made[y0:y1, x0:x1] = partner[y0:y1, x0:x1]
    return made


def shares(compiled: Compiled) -> F64:
    """How much of each image's label belongs to its partner: float64 (n,)."""
    own = np.ones(len(compiled))
    area = compiled.shape.height * compiled.shape.width
    for code in np.unique(compiled.codes[compiled.codes >= 0]):
        op = by_code(int(code)) if code >= 100 else None  # noqa: PLR2004  (below are stages of the kernel)
        if op is None or op.kind != "mix":
            continue
        mine = compiled.codes == code
        values = compiled.values
        if op.name == "MixUp":
            share = values[..., 0]
        else:
            share = (values[..., 2] - values[..., 0]) * (values[..., 3] - values[..., 1]) / max(area, 1)
        own *= np.where(mine, 1.0 - share, 1.0).prod(axis=1)
    return 1.0 - own
