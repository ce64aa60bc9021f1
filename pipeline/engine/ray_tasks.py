"""The Ray runner: plain core tasks, or pools of actors, and never more in flight than the cluster can chew."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

from lake.errors import EngineError, GristmillError
from lake.machine import cores
from pipeline.engine.actors import ActorPools
from pipeline.engine.needs import Needs, options, slots

__all__ = ["RayRunner"]

T = TypeVar("T")
R = TypeVar("R")

_RETRIES = 10  # of a task whose worker or node died; an error raised by our own code is never retried
_AHEAD = 2  # tasks in flight per slot: one running, one waiting. It is what an autoscaler sees as demand.
_LOOK_SECONDS = 2.0  # between two looks at the cluster: nodes come and go, and it may vanish
_GONE_SECONDS = 20.0  # without an answer of the head, the cluster is gone for good
_SETTINGS = {
    # Before the import: all are read then. We send no usage reports from a user's machine.
    "RAY_USAGE_STATS_ENABLED": "0",
    # A task without a GPU of its own sees the GPUs all the same: it is we who decide about devices.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A task that is killed for memory is tried again for ever by default, on a node where it never fits.
    "RAY_task_oom_retries": str(_RETRIES),
}


class RayRunner:
    """Runs items as Ray tasks.

    Args:
        address: of a running cluster (``auto``, ``ray://host:10001``); none: a local one is
            started, and stopped by :meth:`close`.
        workers: CPUs of the local cluster; on a running one, the most tasks at a time.
        autoscaling: whether the cluster grows when it is asked for more; none: find out.
    """

    name = "ray"

    def __init__(
        self, address: str | None = None, workers: int | None = None, *, autoscaling: bool | None = None
    ) -> None:
        self.address = address
        self.workers = workers
        self._autoscaling = autoscaling
        self._owner = False
        self._lost = False

    @cached_property
    def _ray(self) -> Any:
        # On first use: a run that finds nothing to do must not wait for a cluster.
        ray = _import_ray()
        if not ray.is_initialized():
            _connect(ray, self.address, self.workers)
            self._owner = True
        return ray

    @cached_property
    def _pools(self) -> ActorPools:
        return ActorPools(self._ray)

    @cached_property
    def autoscaling(self) -> bool:
        """Whether the cluster adds machines on demand."""
        return self._grows() if self._autoscaling is None else self._autoscaling

    def _grows(self) -> bool:
        self._ray.nodes()  # connects the state below
        from ray._private.state import state

        try:
            return state.get_max_resources_from_cluster_config() is not None
        except Exception:  # noqa: BLE001  (not Ray's public face: what it cannot tell is no)
            return False

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each living node, as they are at this moment."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def map(
        self, work: Callable[[T], R], items: Sequence[T], needs: Needs | Sequence[Needs] | None = None
    ) -> Iterator[tuple[int, R]]:
        """See :class:`pipeline.engine.Runner`."""
        if not items:
            return
        each = [needs or Needs()] * len(items) if needs is None or isinstance(needs, Needs) else list(needs)
        watch = _Watch(self)
        requests = [one.request(watch.most_memory) for one in each]
        watch.check(requests, self.autoscaling)
        try:
            if self.autoscaling:
                self._hint(requests)
            if each[0].pool is not None:
                yield from self._pools.map(work, items, each, requests, watch)
            else:
                yield from self._tasks(work, items, requests, watch)
        finally:
            if self.autoscaling and not self._lost:
                self._hint([])

    def _hint(self, requests: list[dict[str, float]]) -> None:
        """Tell the autoscaler what is coming, so that it need not grow by doubling; nothing: it may shrink."""
        from ray.autoscaler.sdk import request_resources

        most = self.workers or 10_000  # demand beyond this says nothing more
        request_resources(bundles=[{k: v for k, v in one.items() if k != "memory"} for one in requests[:most]])

    def _tasks(
        self, work: Callable[[T], R], items: Sequence[T], requests: list[dict[str, float]], watch: _Watch
    ) -> Iterator[tuple[int, R]]:
        call = self._ray.remote(max_retries=_RETRIES, retry_exceptions=False)(_call)
        function = self._ray.put(work)
        running: dict[Any, int] = {}
        following = 0
        try:
            while following < len(items) or running:
                while following < len(items) and len(running) < _AHEAD * watch.slots(requests[following]):
                    running[call.options(**options(requests[following])).remote(function, items[following])] = (
                        following
                    )
                    following += 1
                for reference in watch.wait(list(running)):
                    yield running.pop(reference), self.result(reference)
        finally:
            if not self._lost:
                for reference in running:
                    self._ray.cancel(reference)

    def result(self, reference: Any) -> Any:
        """What a task gave, or our own error for its failure."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, GristmillError):
                raise cause from None
            raise EngineError("a Ray task failed", why=f"{type(cause).__name__}: {cause}") from error
        except self._ray.exceptions.OutOfMemoryError as error:
            raise EngineError(
                f"a worker was killed for memory {_RETRIES + 1} times at one part",
                hint="give the step more under `resources:` (memory: 4GiB), so that fewer of its tasks share a "
                "node, or take larger nodes; the same command goes on where it stopped",
            ) from error
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"a Ray task was lost after {_RETRIES} retries",
                why=(str(error) or type(error).__name__).splitlines()[0],
                hint="look for workers killed for memory; start the same command again to resume",
            ) from error

    def lost(self, why: str) -> EngineError:
        """The error for a cluster that is gone; from here on nothing waits for it any more."""
        self._lost = True
        return EngineError(
            f"the Ray cluster at {self.address or 'this machine'} has gone",
            why=why,
            hint="when it is back, the same command goes on where it stopped",
        )

    def usage(self) -> dict[str, Any]:
        """See :class:`pipeline.engine.Runner`."""
        return self.__dict__["_pools"].usage() if "_pools" in self.__dict__ else {}

    def close(self) -> None:
        """See :class:`pipeline.engine.Runner`."""
        if "_pools" in self.__dict__:
            if not self._lost:
                self._pools.close()
            del self._pools
        if self._owner:
            self._ray.shutdown()
            self._owner = False
            del self._ray


class _Watch:
    """What one pass knows of the cluster: looked at again every few seconds, since nodes come and go."""

    def __init__(self, runner: RayRunner) -> None:
        self.runner = runner
        self.ray = runner._ray  # noqa: SLF001  (the other half of the same thing)
        self.nodes = runner.nodes()
        self._looked = time.monotonic()
        self._answered = self._looked
        self._slots: dict[tuple[tuple[str, float], ...], int] = {}

    @property
    def most_memory(self) -> float:
        """Of the node that has most."""
        return max((node.get("memory", 0.0) for node in self.nodes), default=0.0)

    def slots(self, request: dict[str, float]) -> int:
        """How many tasks of this kind the cluster runs now; at least one, since a node may come."""
        key = tuple(request.items())
        if key not in self._slots:
            self._slots[key] = slots(request, self.nodes)
        return max(1, min(self._slots[key], self.runner.workers or self._slots[key]))

    def check(self, requests: list[dict[str, float]], autoscaling: bool) -> None:
        """End the run where a task would wait for ever.

        Raises:
            EngineError: no node of the cluster has what a task asks for, and none will come.
        """
        if autoscaling:
            return
        for request in {tuple(one.items()): one for one in requests}.values():
            if slots(request, self.nodes) == 0:
                raise EngineError(
                    f"no node of the cluster has {_words(request)}",
                    why=f"the nodes have {'; '.join(sorted({_words(node, request) for node in self.nodes}))}",
                    hint="ask for less under `resources:`, or start a node that has it; "
                    "--autoscaling says that the cluster adds nodes by itself",
                )

    def wait(self, references: list[Any]) -> list[Any]:
        """Those that are done, at least one if any is within the time of a look at the cluster.

        Raises:
            EngineError: the cluster has gone.
        """
        done, _ = self.ray.wait(references, num_returns=1, timeout=_LOOK_SECONDS)
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self.look()
        return list(done)

    def look(self) -> None:
        """See what nodes there are now."""
        if self._head_answers():
            self.nodes = self.runner.nodes()
            self._slots.clear()
            self._answered = time.monotonic()
        elif (silent := time.monotonic() - self._answered) > _GONE_SECONDS:
            raise self.runner.lost(f"its head has not answered for {silent:.0f} s")
        self._looked = time.monotonic()

    def _head_answers(self) -> bool:
        # Not by a question to Ray: without its head it waits for a minute, and then ends this process.
        try:
            return _answers(self.ray.get_runtime_context().gcs_address)
        except AttributeError:  # ray://: its own connection breaks
            return True


def _words(resources: dict[str, float], only: dict[str, float] | None = None) -> str:
    said = {name: resources.get(name, 0.0) for name in only or resources}
    return ", ".join(
        f"{amount / 2**30:.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in said.items()
    )


def _call(work: Callable[[T], R], item: T) -> R:
    return work(item)


def _import_ray() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise EngineError(
            "Ray is not installed", hint="pip install 'gristmill[ray]', or run with --local"
        ) from error
    return ray


def _answers(address: str) -> bool:
    """Whether something listens at ``host:port``; true of an address of another form."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in host:
        return True
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=3.0):
            return True
    except OSError:
        return False


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    try:
        if address is not None and not _answers(address):  # Ray itself would try for minutes
            raise ConnectionError("nobody listens there")  # noqa: TRY301  (told as all other failures)
        if address is None:
            ray.init(
                address="local",  # without it Ray joins any cluster that it finds on this machine
                num_cpus=workers or cores(),
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
