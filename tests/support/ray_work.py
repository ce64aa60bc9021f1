"""What the tests let a cluster do: functions that its workers can import."""

from __future__ import annotations

import os
import time


def pid(item: int) -> tuple[int, int]:
    time.sleep(0.1)
    return item, os.getpid()


def fails(item: int) -> int:
    raise ValueError(f"no {item}")


def mark(item: tuple[str, int]) -> int:
    folder, number = item
    with open(os.path.join(folder, f"{number}"), "x"):  # noqa: PTH118, PTH123  (short)
        return number


def where(_: int) -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def slow_where(item: int) -> str:
    time.sleep(0.25)
    return where(item)
