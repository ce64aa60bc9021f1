"""How good a match is on one's own data: see :mod:`dedup.audit.measure`."""

from __future__ import annotations

from dedup.audit.measure import audit, measure
from dedup.audit.report import Audit, Bin, Level
from dedup.audit.sampling import Sampler
from dedup.audit.share import Share

__all__ = ["Audit", "Bin", "Level", "Sampler", "Share", "audit", "measure"]
