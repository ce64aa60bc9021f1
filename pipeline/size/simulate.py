"""A run on N nodes, task by task.

The simulation is a list scheduler with a clock:

- the driver hands tasks out one after the other, ``dispatch`` seconds each, to the slot that is free first;
- a task takes its compute time, times a log-normal factor (stragglers), or the time that its bytes need where
  that is longer: a node's bandwidth is shared by its slots, the storage's by all slots;
- a node dies at random (exponential). Its task is lost, noticed after a while, and done again;
- a pass ends with its last task, and then the driver works alone.

A pass of very many tasks is simulated for some rounds of all slots; the rounds between go on at the same rate.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.size.model import Cluster, Pass

__all__ = ["Point", "Simulated", "curve", "simulate"]

_MOST = 20_000  # tasks of a pass that are simulated one by one
_ROUNDS = 6  # and at least so many for each slot


@dataclass(frozen=True)
class Simulated:
    """What came of it.

    Args:
        seconds: from the start to the last commit.
        of_pass: the same for each pass, without the driver's time alone.
        alone: seconds in which only the driver worked.
        busy: core seconds of computing, lost work included.
        lost: tasks that were done again.
    """

    seconds: float
    of_pass: tuple[tuple[str, float], ...]
    alone: float
    busy: float
    lost: float


@dataclass(frozen=True)
class Point:
    """One number of nodes on an efficiency curve."""

    nodes: int
    hours: float
    efficiency: float
    """Against the smallest number of nodes of the curve; 1 is perfect."""
    driver: float
    """Share of the time in which only the driver works."""


def simulate(plan: Sequence[Pass], cluster: Cluster, seed: int = 0) -> Simulated:
    """Run passes on a cluster.

    Args:
        plan: the passes, in order.
        cluster: who does them.
        seed: of the stragglers and failures; equal seeds give equal times.
    """
    draw = np.random.default_rng(seed)
    seconds, busy, lost, of_pass = cluster.start, 0.0, 0.0, []
    for each in plan:
        took, worked, again = _pass(each, cluster, draw)
        of_pass.append((each.name, took))
        seconds += took + each.alone
        busy += worked
        lost += again
    return Simulated(seconds, tuple(of_pass), sum(each.alone for each in plan), busy, lost)


def _pass(each: Pass, cluster: Cluster, draw: np.random.Generator) -> tuple[float, float, float]:
    """Seconds of a pass, core seconds of its tasks, and how many were lost."""
    slots = cluster.slots
    number = min(each.tasks, max(_MOST, _ROUNDS * slots))
    at_a_time = min(slots, each.tasks)
    width = min(cluster.bandwidth / cluster.cores, cluster.storage / at_a_time)
    floor = each.moved / width
    factors = np.exp(draw.normal(-0.5 * cluster.spread**2, cluster.spread, number))  # of mean 1
    times = np.maximum(each.compute * factors, floor)
    risk = 1.0 - np.exp(-times * cluster.failures / 3600.0)
    fails = draw.random(number) < risk
    wasted = np.where(fails, draw.random(number) * times + cluster.notice, 0.0)
    spent = times + wasted
    end = _scheduled(spent.tolist(), at_a_time, cluster.dispatch)
    worked, again = float(spent.sum()), float(fails.sum())
    if number < each.tasks:
        more, mean = each.tasks - number, worked / number
        end += more * max(cluster.dispatch, mean / at_a_time)
        worked, again = worked + more * mean, again * each.tasks / number
    return end, worked, again


def _scheduled(times: Sequence[float], slots: int, dispatch: float) -> float:
    """When the last of the tasks is done."""
    free = [0.0] * slots
    end = 0.0
    for number, seconds in enumerate(times, start=1):
        done = max(free[0], number * dispatch) + seconds
        heapq.heapreplace(free, done)
        end = max(end, done)
    return end


def curve(plan: Sequence[Pass], cluster: Cluster, nodes: Sequence[int], seed: int = 0) -> tuple[Point, ...]:
    """The same run on several numbers of nodes.

    Args:
        plan: the passes.
        cluster: what a node is.
        nodes: how many, ascending.
        seed: see :func:`simulate`.
    """
    points: list[Point] = []
    for count in nodes:
        made = simulate(plan, _of(cluster, count), seed)
        first = points[0] if points else None
        hours = made.seconds / 3600
        better = first.hours / hours * first.nodes / count if first else 1.0
        points.append(Point(count, hours, better if math.isfinite(better) else 0.0, made.alone / made.seconds))
    return tuple(points)


def _of(cluster: Cluster, nodes: int) -> Cluster:
    from dataclasses import replace

    return replace(cluster, nodes=nodes)
