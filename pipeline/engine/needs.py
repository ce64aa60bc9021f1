"""What a task asks of the machine that runs it, and how many such tasks a cluster holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

__all__ = ["Needs", "Pool", "options", "slots"]

_TASK_BYTES = 384 << 20
_TIMES = 9
"""Of a worker with our libraries, and of what it holds of a part: both from benchmarks/results/scaling.md."""


@dataclass(frozen=True)
class Pool:
    """Stateful actors in place of plain tasks: for work on a device, whose kernels and streams stay warm.

    Args:
        actors: at most so many; 0: as many as the cluster holds.
        concurrency: calls that an actor works on at a time: while one waits for the device, another decodes.
        idle_seconds: after so long without work the actors end, and the cluster may take the machine away.
        call_seconds: small items are put together into calls that take about so long.
        call_bytes: and that are not larger than this.
    """

    actors: int = 0
    concurrency: int = 2
    idle_seconds: float = 60.0
    call_seconds: float = 1.0
    call_bytes: int = 256 << 20


@dataclass(frozen=True)
class Needs:
    """What one task, or one actor of a pool, asks for.

    Args:
        cpus: cores; may be a fraction.
        gpus: GPUs; may be a fraction.
        memory: bytes, as the user said; 0: nothing was said.
        custom: other resources of the cluster, by name.
        part: bytes of the file that it works on; memory that nobody set is expected to grow with them.
        pool: do the work by actors.

    >>> Needs(gpus=0.5).join(Needs(cpus=2, part=10))
    Needs(cpus=2, gpus=0.5, memory=0, custom=(), part=10, pool=None)
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    custom: tuple[tuple[str, float], ...] = ()
    part: int = 0
    pool: Pool | None = None

    def join(self, *others: Needs) -> Needs:
        """The needs of a task that does the work of all of them, one after the other."""
        return reduce(_join, others, self)

    def holding(self, size: int) -> Needs:
        """The same for a task that works on a part of so many bytes."""
        return replace(self, part=size)

    @property
    def expected(self) -> int:
        """The bytes that a task likely takes.

        Rounded up to a power of two, so that the parts of a table have few different requests: a worker is
        handed on to the next task with an equal one.
        """
        return 1 << (_TASK_BYTES + _TIMES * self.part - 1).bit_length()

    def request(self, most: float = float("inf")) -> dict[str, float]:
        """By the names that Ray has for them; what is asked for without a need is left out.

        Args:
            most: memory of the largest node; a mere expectation never asks for more.
        """
        memory = self.memory or int(min(self.expected, most))
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": memory, **dict(self.custom)}
        return {name: amount for name, amount in asked.items() if amount}


def _join(one: Needs, other: Needs) -> Needs:
    mine, theirs = dict(one.custom), dict(other.custom)
    return Needs(
        max(one.cpus, other.cpus),
        max(one.gpus, other.gpus),
        max(one.memory, other.memory),
        tuple((name, max(mine.get(name, 0.0), theirs.get(name, 0.0))) for name in sorted({*mine, *theirs})),
        max(one.part, other.part),
        one.pool or other.pool,
    )


def slots(request: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> int:
    """How many tasks of a request run at a time on nodes with these resources.

    >>> slots({"CPU": 1, "GPU": 0.5}, [{"CPU": 8, "GPU": 1}, {"CPU": 8}])
    2
    """
    return (
        sum(
            int(min((node.get(name, 0.0) + 1e-9) / amount for name, amount in request.items()))
            for node in nodes
        )
        if request
        else 1_000_000
    )


def options(request: dict[str, float]) -> dict[str, Any]:
    """A request by the names of Ray's options."""
    rest = dict(request)
    return {
        "num_cpus": rest.pop("CPU", 0),
        "num_gpus": rest.pop("GPU", 0),
        "memory": int(rest.pop("memory", 0)) or None,
        "resources": rest,
    }
