"""The compiled loop of a round of selection, over a block of rows. The rule stands in :mod:`dedup.select`."""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np

from lake.jit import kernel

__all__ = ["settle"]


@kernel
def settle(starts: Any, earlier: Any, same: Any, low: Any, before: Any, mine: Any) -> None:
    """Decide the open rows of a block, as far as the rows are decided that they have an edge with.

    ``mine`` is the status of rows ``low`` and on, ``before`` that of all rows as the last round left it;
    ``earlier[starts[i]:starts[i + 1]]`` are the earlier rows that row ``low + i`` has an edge with.
    """
    for i in range(mine.size):
        if mine[i] != 0:
            continue
        decided = 1
        for k in range(starts[i], starts[i + 1]):
            other = np.int64(earlier[k])
            status = mine[other - low] if other >= low else before[other]
            if status == 1 or (same[k] and status == -1):
                decided = -1
                break
            if status == 0:
                decided = 0
        mine[i] = decided
