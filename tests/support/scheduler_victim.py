"""Schedulers in simulated time, to be killed: a nursery that forks one for each line on its stdin.

A line is the JSON of `serve`'s arguments; the answer is the pid. The nursery has imported everything and has
started no thread, so a scheduler is there in milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from lake.lake import Change, Lake
from pipeline.schedule.daemon import Daemon
from pipeline.schedule.work import Job, Outcome

EFFECT = pa.schema([("fire", pa.string())])


@dataclass(frozen=True)
class SimulatedClock:
    """Real time since `origin`, `scale` times as fast, from `start` on; it stands still at `end`."""

    start: datetime
    end: datetime
    origin: float
    scale: float
    skew: float = 0.0
    nursery: int = field(default_factory=os.getppid)

    def now(self) -> datetime:
        return min(self.end, self.start + timedelta(seconds=self.monotonic() + self.skew))

    def monotonic(self) -> float:
        return (time.monotonic() - self.origin) * self.scale

    def sleep(self, seconds: float) -> None:
        if os.getppid() != self.nursery:  # the test itself was killed
            os._exit(1)
        time.sleep(min(0.05, max(0.0, seconds / self.scale)))


class Effect:
    """The work of a fire: notes that it began, then adds its row to a table, once as a pipeline does."""

    def __init__(self, lake: Lake, log: Path) -> None:
        self.lake = lake
        self.log = log

    def __call__(self, job: Job) -> Effect:
        with self.log.open("a") as file:  # one short write: whole or not at all
            file.write(f"{job.fire} {job.attempt} {os.getpid()}\n")
        self.job = job
        return self

    def wait(self, seconds: float) -> Outcome:
        name = "fire-" + datetime.fromisoformat(self.job.fire).strftime("%Y%m%dT%H%M%S")
        part = self.lake.write_part("effect", name, [pa.table({"fire": [self.job.fire]})], EFFECT)
        self.lake.commit([Change("effect", EFFECT, add=(part,))], app=f"effect/{self.job.fire}", version=1)
        return Outcome(0, run=name)

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


def serve(
    *,
    lake: str,
    name: str,
    config: str,
    log: str,
    start: str,
    end: str,
    origin: float,
    scale: float,
    skew: float,
) -> None:
    """Run a scheduler until it is killed."""
    clock = SimulatedClock(datetime.fromisoformat(start), datetime.fromisoformat(end), origin, scale, skew)
    place = Lake(lake)
    Daemon(place, name, Path(config), Effect(place, Path(log)), clock, poll=60.0).run()


class Nursery:
    """The parent of schedulers that a test kills."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, **arguments: object) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    import deltalake  # noqa: F401  (warm)

    import lake.maintenance  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            serve(**json.loads(line))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
