"""A step that takes far too much memory the first time, and writes down each attempt."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa

from lake.op import Op, Outcome
from lake.schema import no_drops

__all__ = ["Hungry"]


class Hungry(Op):
    """Takes ``gigabytes`` at its first attempt."""

    marks: str
    gigabytes: int = 0

    def apply(self, table: pa.Table) -> Outcome:
        folder = Path(self.marks)
        first = not any(folder.iterdir())
        (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        if first:
            held = [
                b"x" * (1 << 26) for _ in range(16 * self.gigabytes)
            ]  # written, so that the pages are there
            time.sleep(20)  # the monitor looks every few milliseconds
            del held
        return Outcome(table, no_drops())
