"""How large a cluster a run needs, how long it takes, and what more nodes would bring.

>>> plan = passes(Workload("text", size=100 * 10**9, rows=100_000_000))
>>> few, many = (simulate(plan, Cluster(nodes=n)).seconds for n in (1, 8))
>>> few > many
True
"""

from __future__ import annotations

from pipeline.size.estimate import Estimate, estimate, smallest
from pipeline.size.model import Cluster, Pass, Workload, passes
from pipeline.size.rates import MEASURED, Rate, Rates
from pipeline.size.simulate import Simulated, curve, simulate

__all__ = [
    "MEASURED",
    "Cluster",
    "Estimate",
    "Pass",
    "Rate",
    "Rates",
    "Simulated",
    "Workload",
    "curve",
    "estimate",
    "passes",
    "simulate",
    "smallest",
]
