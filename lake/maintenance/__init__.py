"""Keeping a lake small and sound: compaction, vacuum, verification, retention.

Never Delta's own ``optimize``: two of those at once double rows (1.6.4 to 1.6.6), and one alone loses the
application transactions that exactly-once stands on. Here a compaction is an ordinary strict commit.

All of it at once, for a whole lake: :func:`pipeline.upkeep.maintain`.
"""

from lake.maintenance.checking import Finding, verify
from lake.maintenance.cleaning import SAFE_HOURS, check_age, vacuum
from lake.maintenance.compaction import LOCK, PATIENCE, Compaction, compact, turn
from lake.maintenance.retention import Retention

__all__ = [
    "LOCK",
    "PATIENCE",
    "SAFE_HOURS",
    "Compaction",
    "Finding",
    "Retention",
    "check_age",
    "compact",
    "turn",
    "vacuum",
    "verify",
]
