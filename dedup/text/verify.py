"""The exact similarity of a candidate pair."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lake.native import kernels

__all__ = ["jaccard"]

_verify_kernels = kernels("dedup.text._verify_kernels")


def jaccard(x: npt.NDArray[np.uint32], y: npt.NDArray[np.uint32], threshold: float = 0.0) -> float | None:
    """Give the Jaccard similarity of two sets, or None if it is below the threshold.

    >>> jaccard(np.array([1, 2, 3], np.uint32), np.array([2, 3, 4], np.uint32))
    0.5
    >>> jaccard(np.array([1, 2, 3], np.uint32), np.array([2, 3, 4], np.uint32), threshold=0.8) is None
    True

    Args:
        x: sorted, distinct.
        y: sorted, distinct.
        threshold: as soon as it cannot be reached any more, the comparison ends.

    Returns:
        The similarity, computed as one float64 division. None also for two empty sets.
    """
    similarity = float(
        _verify_kernels.jaccard(np.ascontiguousarray(x), np.ascontiguousarray(y), float(threshold))
    )
    return None if similarity < 0.0 else similarity
