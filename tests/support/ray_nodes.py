"""Ray clusters of several nodes on this machine, and a run in which a node dies at a chosen pass."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import engine
from pipeline.progress import Silent

ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
}


@contextmanager
def cluster(
    nodes: int, *, env: dict[str, str] | None = None, head: dict[str, Any] | None = None
) -> Iterator[Any]:
    """So many nodes of one core each beside a head without any."""
    before = dict(os.environ)
    os.environ.update(ENV | {"PYTHONPATH": str(Path(__file__).parent)} | (env or {}))
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **(head or {})}
    )
    try:
        for _ in range(nodes):
            add_node(made)
        yield made
    finally:
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


def add_node(made: Any, tries: int = 3, **kinds: Any) -> Any:
    """One more node; Ray gives a node half a minute to start, which a busy machine may need twice."""
    for left in reversed(range(tries)):
        try:
            return made.add_node(**{"num_cpus": 1, **kinds})
        except Exception:  # a bare one
            if not left:
                raise
    raise AssertionError


@contextmanager
def runner(made: Any, *, autoscaling: bool | None = None) -> Iterator[engine.Runner]:
    """A runner on a cluster, closed at the end."""
    one = engine.ray(made.address, autoscaling=autoscaling)
    try:
        yield one
    finally:
        one.close()


class NodeDies(Silent):
    """Kills a node of the cluster when the first part of a pass is done, and starts another in its place.

    Args:
        made: the cluster.
        passes: words in the titles of the passes; none: each pass of more than two parts.
    """

    def __init__(self, made: Any, passes: tuple[str, ...] = ()) -> None:
        self.made = made
        self.passes = passes
        self.killed: list[str] = []
        self._parts: dict[str, int] = {}

    def start_step(self, name: str, total: int | None) -> None:
        self._parts[name] = total or 0

    def advance(self, name: str, n: int = 1, rows: int = 0) -> None:
        wanted = any(word in name for word in self.passes) if self.passes else self._parts[name] > 2
        if wanted and name not in self.killed:
            self.killed.append(name)
            self.made.remove_node(min(self.made.worker_nodes, key=str), allow_graceful=False)
            add_node(self.made)


def kill_head(made: Any) -> None:
    """Kill the head and every node of a cluster: it does not come back."""
    for node in [*made.worker_nodes, made.head_node]:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def used_share() -> tuple[int, int]:
    """Bytes of memory that are in use on this machine, and all of them."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    found = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    return found["MemTotal"] - found["MemAvailable"], found["MemTotal"]
