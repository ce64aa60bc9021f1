"""Pools of actors: work on a device, by processes that stay.

A process that has worked on a GPU holds what the next call needs: the driver's context, compiled kernels, a
stream for each thread, memory of the device. An actor keeps that from part to part and from pass to pass, and
gives it back, with its GPU, once it has had nothing to do for a while.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from lake.errors import EngineError
from pipeline.engine.needs import Needs, Pool, options
from pipeline.engine.nvml import Gauge

if TYPE_CHECKING:
    from pipeline.engine.ray_tasks import _Watch

__all__ = ["ActorPools", "Batcher"]

T = TypeVar("T")
R = TypeVar("R")

_RETRIES = 10  # of an item whose actor died
_SMOOTH = 0.3  # weight of the newest measurement of the throughput


@dataclass
class Batcher:
    """Puts small items together into calls of about equal length.

    A call costs a few milliseconds whatever is in it, and a GPU wants much at once; but a call that takes
    minutes is lost as a whole with its actor. So a call holds what is done in ``seconds``, by the throughput
    that is measured, and never more than ``most`` bytes.

    >>> batcher = Batcher(seconds=1.0, most=100)
    >>> batcher.cut([10] * 5)  # nothing is known yet: one item
    1
    >>> batcher.learn(10, 0.25)  # 40 bytes a second
    >>> batcher.cut([10] * 5)
    4
    """

    seconds: float
    most: int
    rate: float | None = None
    """Bytes a second, of one call."""

    def cut(self, sizes: Sequence[int]) -> int:
        """How many of the next items go into one call: at least one."""
        budget = 0.0 if self.rate is None else min(float(self.most), self.rate * self.seconds)
        taken = 0.0
        for number, size in enumerate(sizes):
            taken += size
            if taken > budget:
                return max(1, number)
        return max(1, len(sizes))

    def learn(self, size: int, seconds: float) -> None:
        """A call of so many bytes took so long."""
        now = size / max(seconds, 1e-6)
        self.rate = now if self.rate is None else (1 - _SMOOTH) * self.rate + _SMOOTH * now


@dataclass
class _Served:
    """What an actor says with the results of a call."""

    results: list[Any]
    seconds: float


class _Actor:
    """What runs in the process; Ray makes an actor of it."""

    def __init__(self) -> None:
        self._gauge = Gauge()
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0
        self._busy = 0.0
        self._began = time.monotonic()

    def serve(self, work: Callable[[T], R], items: list[T]) -> _Served:
        """Do the items of a call, one after the other."""
        self._enter()
        started = time.monotonic()
        try:
            return _Served([work(item) for item in items], time.monotonic() - started)
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._since = time.monotonic()
            self._inside += 1

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._busy += time.monotonic() - self._since

    def spent(self) -> dict[str, float | None]:
        """Seconds at work and in all since the last question; the device's own share where it has a gauge."""
        with self._lock:
            now = time.monotonic()
            if self._inside:
                self._busy += now - self._since
                self._since = now
            said = {"busy": self._busy, "wall": now - self._began, "device": self._gauge.share()}
            self._busy, self._began = 0.0, now
        return said


@dataclass
class _Pool:
    """The actors for one kind of needs."""

    needs: Pool
    batcher: Batcher
    actors: list[Any] = field(default_factory=list)
    """Those that have answered: only they get work, so that none waits for a node that never comes."""
    coming: dict[Any, Any] = field(default_factory=dict)
    """The others, by their first answer to come."""
    timer: threading.Timer | None = None


class ActorPools:
    """All pools of a runner, by what their actors ask for.

    Args:
        ray: the module, connected.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._pools: dict[tuple[object, ...], _Pool] = {}
        self._lock = threading.Lock()
        self._spent: list[dict[str, Any]] = []

    def map(
        self,
        work: Callable[[T], R],
        items: Sequence[T],
        needs: Sequence[Needs],
        requests: Sequence[dict[str, float]],
        watch: _Watch,
    ) -> Iterator[tuple[int, R]]:
        """See :class:`pipeline.engine.Runner`. A pool lasts: the next pass finds its actors warm."""
        first = needs[0].pool
        if first is None:
            raise AssertionError  # who calls has made sure
        request = max(requests, key=lambda one: one.get("memory", 0.0))
        pool = self._open(first, request)
        sizes = [max(1, one.part) for one in needs]
        function = self._ray.put(work)
        waiting, running = deque(range(len(items))), dict[Any, tuple[Any, list[int]]]()
        load, tries = Counter[Any](), Counter[int]()
        self._ask(pool.actors)  # from here on their time counts
        try:
            while waiting or running:
                self._fit(pool, request, watch, len(waiting) + len(running))
                for actor in pool.actors:
                    while waiting and load[actor] <= first.concurrency:  # one call more waits there
                        taken = [waiting.popleft() for _ in range(_share(pool, sizes, waiting))]
                        reference = actor.serve.remote(function, [items[index] for index in taken])
                        running[reference] = (actor, taken)
                        load[actor] += 1
                for reference in watch.wait([*running, *pool.coming]):
                    if reference in pool.coming:
                        self._welcome(pool, reference)
                        continue
                    actor, taken = running.pop(reference)
                    load[actor] -= 1
                    served = self._served(reference, watch)
                    if served is None:  # it has died: others do its work
                        pool.actors = [other for other in pool.actors if other is not actor]
                        _again(taken, waiting, tries)
                        continue
                    pool.batcher.learn(sum(sizes[index] for index in taken), served.seconds)
                    yield from zip(taken, served.results, strict=True)
        except BaseException:
            self._end(pool)  # whatever its actors still do, nobody waits for it
            raise
        self._spent += self._ask(pool.actors)
        self._rest(pool)

    def _served(self, reference: Any, watch: _Watch) -> _Served | None:
        """What a call gave; None where its actor died."""
        dead = self._ray.exceptions.RayActorError, self._ray.exceptions.OutOfMemoryError
        try:
            served: _Served = self._ray.get(reference)
        except dead:
            return None
        except self._ray.exceptions.RayError:
            watch.runner.result(reference)  # says it in our own words
            raise
        return served

    def _open(self, needs: Pool, request: dict[str, float]) -> _Pool:
        key = (needs, *sorted((name, amount) for name, amount in request.items() if name != "memory"))
        with self._lock:
            pool = self._pools.setdefault(key, _Pool(needs, Batcher(needs.call_seconds, needs.call_bytes)))
            if pool.timer is not None:
                pool.timer.cancel()
                pool.timer = None
            return pool

    def _fit(self, pool: _Pool, request: dict[str, float], watch: _Watch, work: int) -> None:
        """As many actors as the cluster holds now, and as there is work for."""
        room = watch.slots(request)
        most = min(room, pool.needs.actors or room, max(1, work))
        while pool.coming and len(pool.actors) + len(pool.coming) > most:  # its node has gone meanwhile
            _, actor = pool.coming.popitem()
            self._ray.kill(actor)
        while len(pool.actors) + len(pool.coming) < most:
            kind = self._ray.remote(_Actor).options(
                max_restarts=0, max_concurrency=pool.needs.concurrency, **options(request)
            )
            actor = kind.remote()
            pool.coming[actor.spent.remote()] = actor

    def _welcome(self, pool: _Pool, reference: Any) -> None:
        actor = pool.coming.pop(reference)
        with suppress(self._ray.exceptions.RayError):  # one that died at once is replaced
            self._ray.get(reference)
            pool.actors.append(actor)

    def _rest(self, pool: _Pool) -> None:
        """Let the actors go after a while, unless the next pass comes first."""
        with self._lock:
            pool.timer = threading.Timer(pool.needs.idle_seconds, self._idle, [pool])
            pool.timer.daemon = True
            pool.timer.start()

    def _idle(self, pool: _Pool) -> None:
        with self._lock:
            if pool.timer is None:  # a pass has come in the same moment
                return
        self._end(pool)

    def _end(self, pool: _Pool) -> None:
        with self._lock:
            actors, coming = pool.actors, list(pool.coming.values())
            pool.actors, pool.coming, pool.timer = [], {}, None
        for actor in [*actors, *coming]:
            with suppress(Exception):  # it is gone already, or the cluster is
                self._ray.kill(actor)

    def _ask(self, actors: Sequence[Any]) -> list[dict[str, Any]]:
        """What the actors spent; one that does not answer at once is left out."""
        asked = [actor.spent.remote() for actor in actors]
        try:
            done, _ = self._ray.wait(asked, num_returns=len(asked), timeout=2.0) if asked else ([], [])
            return [self._ray.get(reference) for reference in done]
        except Exception:  # noqa: BLE001  (a figure for a report is not worth a run)
            return []

    def usage(self) -> dict[str, Any]:
        """Of the passes since the last question: their actors, the busy share of these, and of the devices."""
        spent, self._spent = self._spent, []
        if not spent:
            return {}
        shares = [one["device"] for one in spent if one["device"] is not None]
        return {
            "actors": len(spent),
            "busy": round(sum(one["busy"] for one in spent) / max(sum(one["wall"] for one in spent), 1e-9), 4),
            "device_busy": round(sum(shares) / len(shares), 4) if shares else None,
        }

    def close(self) -> None:
        """End all actors."""
        for pool in list(self._pools.values()):
            if pool.timer is not None:
                pool.timer.cancel()
            self._end(pool)
        self._pools.clear()


def _again(taken: list[int], waiting: deque[int], tries: Counter[int]) -> None:
    """Put the items of a call whose actor died before all others."""
    for index in reversed(taken):
        tries[index] += 1
        if tries[index] > _RETRIES:
            raise EngineError(
                f"an actor died {tries[index]} times at one part",
                hint="give the step more memory under `resources:`; the same command goes on where it stopped",
            )
        waiting.appendleft(index)


def _share(pool: _Pool, sizes: Sequence[int], waiting: Sequence[int]) -> int:
    """How many of the waiting items the next call takes: every actor shall have some of the last ones."""
    fair = -(-len(waiting) // max(1, len(pool.actors) * pool.needs.concurrency))
    return min(fair, pool.batcher.cut([sizes[index] for index in list(waiting)[:fair]]))
