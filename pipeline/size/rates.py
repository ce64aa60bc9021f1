"""What a pass costs, and where that number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["MEASURED", "Kind", "Rate", "Rates"]

Kind = Literal["text", "image"]


@dataclass(frozen=True)
class Rate:
    """Processor seconds of a pass for a gigabyte (10**9 bytes) of source files.

    Args:
        kind: of the rows.
        name: of the pass: ``ingest``, ``sketch``, ``write``; ``driver`` is what no worker can take over.
        seconds: of one core, a gigabyte.
        fixed: seconds that a run costs whatever its size.
        source: where the number was measured.
    """

    kind: Kind
    name: str
    seconds: float
    fixed: float
    source: str


@dataclass(frozen=True)
class Rates:
    """All of them."""

    every: tuple[Rate, ...]

    def of(self, kind: Kind, name: str) -> Rate:
        """One by its names; zero where nothing was measured, so that a lake without pictures has none."""
        found = [rate for rate in self.every if (rate.kind, rate.name) == (kind, name)]
        return found[0] if found else Rate(kind, name, 0.0, 0.0, "not measured")


_SOURCE = "benchmarks/results/scaling.md"

MEASURED = Rates(
    (
        Rate("text", "ingest", 15.9, 0.08, _SOURCE),
        Rate("text", "sketch", 71.7, 0.00, _SOURCE),
        Rate("text", "write", 58.3, 0.06, _SOURCE),
        Rate("text", "driver", 7.8, 0.26, _SOURCE),
        Rate("image", "ingest", 50.5, 0.08, _SOURCE),
        Rate("image", "sketch", 57.9, 0.00, _SOURCE),
        Rate("image", "write", 424.8, 0.19, _SOURCE),
        Rate("image", "driver", 3.2, 0.30, _SOURCE),
    )
)
"""By ``gristmill size --measure`` on the machine that the source names."""
