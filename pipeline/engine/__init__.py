"""The seam between a plan and the machine: one `Runner`, two implementations.

A stage hands a runner a function and a list of items. The function stages its own output under
names that depend on the item alone, so that running an item twice, anywhere, changes nothing:
that is all that retries, killed workers and restarts need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from pipeline.engine.needs import Needs, Pool

__all__ = ["Needs", "Pool", "Runner", "local", "ray"]

T = TypeVar("T")
R = TypeVar("R")


class Runner(Protocol):
    """Runs a function over items, somewhere."""

    name: str

    def map(
        self, work: Callable[[T], R], items: Sequence[T], needs: Needs | Sequence[Needs] | None = None
    ) -> Iterator[tuple[int, R]]:
        """Yield ``(index, result)`` as results come, in any order.

        The first error ends it: items not yet started are not started, and the error is raised.

        Args:
            work: a function of a module.
            items: its arguments.
            needs: what a task asks of its machine: one value for all, or one for each item.
        """
        ...

    def usage(self) -> dict[str, Any]:
        """What pools of actors did since the last call, for a report; nothing where there is none."""
        ...

    def close(self) -> None:
        """Give back what the runner holds (threads, a local cluster)."""
        ...


def local(workers: int | None = None) -> Runner:
    """A runner in this process: threads, one per core unless told."""
    from pipeline.engine.threads import LocalRunner

    return LocalRunner(workers)


def ray(address: str | None = None, workers: int | None = None, *, autoscaling: bool | None = None) -> Runner:
    """A runner on Ray: the cluster at ``address``, or a local one started for the purpose.

    Args:
        address: of a running cluster; none: start one here.
        workers: CPUs of the local cluster; on a running one, the most tasks at a time.
        autoscaling: whether the cluster adds machines when more is asked for. Unless told, the cluster is
            asked, which only an autoscaler of version 2 (KubeRay's default) answers.
    """
    from pipeline.engine.ray_tasks import RayRunner

    return RayRunner(address, workers, autoscaling=autoscaling)
