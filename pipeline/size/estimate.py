"""From a workload and a cluster to hours, memory, disk and cost, with what was assumed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lake.errors import ConfigError
from pipeline.size.model import MOST_ROWS, Cluster, Workload, memory_of_driver, passes, shuffles
from pipeline.size.rates import MEASURED, Rates
from pipeline.size.simulate import Simulated, simulate

__all__ = ["Estimate", "estimate", "smallest"]

_KEPT = {"text": 0.75, "image": 1.0}  # bytes of the lake for a byte of source: raw, clean and train, packed
_INDEX_BYTES = {"text": 900.0, "image": 1100.0}  # of a row: sketches, keys, ids
_MOST_NODES = 4096


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Args:
        work: what.
        cluster: on what.
        run: the simulated run.
        core_hours: that are computed.
        driver_bytes: memory of the driver's node at its fullest.
        lake_bytes: that the lake holds at the end, without old versions.
        warnings: what stands against it.
    """

    work: Workload
    cluster: Cluster
    run: Simulated
    core_hours: float
    driver_bytes: float
    lake_bytes: float
    warnings: tuple[str, ...]

    @property
    def hours(self) -> float:
        """By the clock."""
        return self.run.seconds / 3600

    @property
    def cost(self) -> float:
        """Of all nodes, from the start to the end."""
        return self.hours * self.cluster.nodes * self.cluster.price

    def to_dict(self) -> dict[str, Any]:
        """As ``gristmill size --json`` prints it."""
        return {
            "kind": self.work.kind,
            "bytes": self.work.size,
            "rows": self.work.rows,
            "parts": self.work.parts,
            "nodes": self.cluster.nodes,
            "cores": self.cluster.slots,
            "gpus": self.cluster.nodes * self.cluster.gpus,
            "hours": round(self.hours, 4),
            "core_hours": round(self.core_hours, 2),
            "driver_share": round(self.run.alone / self.run.seconds, 4),
            "driver_bytes": round(self.driver_bytes),
            "lake_bytes": round(self.lake_bytes),
            "cost": round(self.cost, 2),
            "warnings": list(self.warnings),
        }


def estimate(work: Workload, cluster: Cluster, rates: Rates = MEASURED, seed: int = 0) -> Estimate:
    """What a run from nothing takes on a cluster."""
    run = simulate(passes(work, cluster, rates), cluster, seed)
    driver = memory_of_driver(work, shuffled=shuffles(work, cluster))
    images = 1 + work.copies if work.kind == "image" else 0
    lake = work.size * (_KEPT[work.kind] + images) + work.rows * _INDEX_BYTES[work.kind]
    warnings = []
    if driver > cluster.memory:
        warnings.append(
            f"the driver needs {driver / 2**30:,.0f} GiB, a node has {cluster.memory / 2**30:,.0f}: ingest in "
            f"{-(-driver // cluster.memory):,.0f} runs or more (a run holds what is new), or give the head a "
            "larger node"
        )
    if work.rows > MOST_ROWS:
        warnings.append(
            f"a match takes {MOST_ROWS:,} rows at most: cut the rows into {-(-work.rows // MOST_ROWS):,.0f} "
            "pipelines or more, by language, source or date; near-duplicates between them stay"
        )
    if (share := run.alone / run.seconds) > 0.5:  # noqa: PLR2004  (half)
        warnings.append(f"only the driver works for {share:.0%} of the time: more nodes bring little")
    return Estimate(work, cluster, run, run.busy / 3600, driver, lake, tuple(warnings))


def smallest(work: Workload, cluster: Cluster, hours: float, rates: Rates = MEASURED) -> Estimate:
    """The smallest number of nodes that is done in time.

    Args:
        work: what.
        cluster: what a node is; its number of nodes does not matter.
        hours: until the deadline.
        rates: what a gigabyte costs.

    Raises:
        ConfigError: no number of nodes is enough.
    """

    def on(nodes: int) -> Estimate:
        return estimate(work, replace(cluster, nodes=nodes), rates)

    plan = passes(work, cluster, rates)
    least = sum(each.alone + each.tasks * cluster.dispatch for each in plan) / 3600
    most = 1
    while least < hours and on(most).hours > hours and most < _MOST_NODES:
        most *= 2
    if least >= hours or (most >= _MOST_NODES and on(most).hours > hours):
        raise ConfigError(
            f"no number of nodes up to {_MOST_NODES:,} is done in {hours:g} hours",
            why=f"what only the driver does takes {least:,.1f} hours",
            hint="take a later deadline, or cut the rows into several pipelines",
        )
    low, high = most // 2, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if on(middle).hours <= hours else (middle, high)
    return on(high)
