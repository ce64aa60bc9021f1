"""Random numbers for kernels: bell-shaped ones from a table, so that every device finds the same."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["normal_table"]


@cache
def normal_table() -> npt.NDArray[np.float32]:
    """Quantiles of the normal distribution at (i + 1/2) / 65536: float32 (65536,).

    Sixteen random bits look up a number; the tails end at 4.3 standard deviations, the variance is 0.9999.

    >>> float(normal_table()[0]), float(normal_table()[-1])
    (-4.3249192237854, 4.3249192237854)
    """
    inverse = NormalDist().inv_cdf
    half = np.array([inverse((i + 0.5) / 65536) for i in range(32768)], np.float32)
    table = np.concatenate([half, -half[::-1]])
    table.flags.writeable = False
    return table
