"""The Ray runner: plain core tasks, as many in flight as the cluster has cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

from lake.errors import EngineError, GristmillError

__all__ = ["RayRunner"]

T = TypeVar("T")
R = TypeVar("R")

_RETRIES = 10  # of a task whose worker or node died; an error raised by our own code is never retried
_AHEAD = 2  # tasks in flight per core: one running, one waiting


class RayRunner:
    """Runs items as Ray tasks.

    Args:
        address: of a running cluster (``auto``, ``ray://host:10001``); none: a local one is
            started, and stopped by :meth:`close`.
        workers: CPUs of the local cluster; on a running one, the most tasks at a time.
    """

    name = "ray"

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address = address
        self.workers = workers
        self._owner = False

    @cached_property
    def _ray(self) -> Any:
        # On first use: a run that finds nothing to do must not wait for a cluster.
        ray = _import_ray()
        if not ray.is_initialized():
            _connect(ray, self.address, self.workers)
            self._owner = True
        return ray

    @cached_property
    def _slots(self) -> int:
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        return min(self.workers or cores, cores)

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R]]:
        """See :class:`pipeline.engine.Runner`."""
        call = self._ray.remote(num_cpus=1, max_retries=_RETRIES, retry_exceptions=False)(_call)
        function = self._ray.put(work)
        waiting = iter(enumerate(items))
        running: dict[Any, int] = {}
        try:
            while True:
                while len(running) < _AHEAD * self._slots and (entry := next(waiting, None)) is not None:
                    running[call.remote(function, entry[1])] = entry[0]
                if not running:
                    return
                finished, _ = self._ray.wait(list(running), num_returns=1)
                for reference in finished:
                    yield running.pop(reference), self._result(reference)
        finally:
            for reference in running:
                self._ray.cancel(reference)

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, GristmillError):
                raise cause from None
            raise EngineError("a Ray task failed", why=f"{type(cause).__name__}: {cause}") from error
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"a Ray task was lost after {_RETRIES} retries",
                why=(str(error) or type(error).__name__).splitlines()[0],
                hint="look for workers killed for memory; start the same command again to resume",
            ) from error

    def close(self) -> None:
        """See :class:`pipeline.engine.Runner`."""
        if self._owner:
            self._ray.shutdown()
            self._owner = False
            del self._ray


def _call(work: Callable[[T], R], item: T) -> R:
    return work(item)


def _import_ray() -> Any:
    # Before the import: both are read then. We send no usage reports from a user's machine.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise EngineError(
            "Ray is not installed", hint="pip install 'gristmill[ray]', or run with --local"
        ) from error
    return ray


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    try:
        if address is None:
            ray.init(
                num_cpus=workers or len(os.sched_getaffinity(0)),
                include_dashboard=False,
                _node_ip_address="127.0.0.1",  # nobody else's business
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # a node that does not start is a bare Exception in Ray
        raise EngineError(
            f"no Ray cluster answers at {address or 'this machine'}",
            why=(str(error) or type(error).__name__).splitlines()[0],
            hint="check the address with `ray status --address ...`, or run with --local",
        ) from error
