"""Shares with intervals, where what is counted comes in families."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dedup.cluster import components
from dedup.select import Edges

__all__ = ["Share", "percent", "share_of"]

_Z = 1.959963984540054  # the 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with Wilson's 95 % interval (Wilson 1927).

    >>> share = Share(98, 100)
    >>> share.value, round(share.low, 4), round(share.high, 4)
    (0.98, 0.93, 0.9945)

    Pairs of one family are found or missed together: all pages with one boilerplate share its hashes. So the
    interval is that of fewer, ``independent`` ones: the square of their number by the sum of the squares of the
    families' numbers (Kish 1965). That supposes families which agree entirely, and so it is rather too wide.
    """

    hits: int
    of: int
    independent: float = -1.0
    """All of them, unless given."""

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.hits / self.of if self.of else None

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self._ends()[0]

    @property
    def high(self) -> float:
        """The upper end."""
        return self._ends()[1]

    def _ends(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        size = self.of if self.independent < 0 else self.independent
        share, z2 = self.hits / self.of, _Z * _Z
        middle = (size * share + z2 / 2) / (size + z2)
        half = _Z / (size + z2) * math.sqrt(size * share * (1 - share) + z2 / 4)
        return (
            middle - half if self.hits else 0.0,
            middle + half if self.hits < self.of else 1.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """With share and interval."""
        told = {name: getattr(self, name) for name in ("hits", "of", "low", "high")}
        return told | {
            "share": self.value,
            "independent": self.of if self.independent < 0 else self.independent,
        }

    def __str__(self) -> str:
        if not self.of:
            return "none"
        ends = f"{percent(self.low)} to {percent(self.high)}"
        return f"{percent(self.hits / self.of)} ({self.hits:,} of {self.of:,}; {ends})"


def share_of(hits: npt.NDArray[np.bool_], pairs: Edges) -> Share:
    """The share of pairs; those that one chain of pairs connects are a family."""
    _, ends = np.unique(np.concatenate([pairs.left, pairs.right]), return_inverse=True)
    left, right = ends[: len(pairs)], ends[len(pairs) :]
    sizes = np.bincount(components(left, right, len(ends))[left])
    squares = float((sizes.astype(np.float64) ** 2).sum())
    return Share(int(hits.sum()), len(pairs), len(pairs) ** 2 / squares if squares else 0.0)


def percent(share: float | None) -> str:
    """With one decimal; never 0 or 100 for what is not."""
    if share is None:
        return "-"
    text = f"{100 * share:.1f} %"
    if text == "100.0 %":
        return "100 %" if share == 1.0 else ">99.9 %"
    if text == "0.0 %":
        return "0 %" if share == 0.0 else "<0.1 %"
    return text
