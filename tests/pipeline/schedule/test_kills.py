"""Schedulers that are killed at random, in simulated time: no fire is lost, none comes twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from scheduler_victim import Nursery

from lake.lake import Lake
from pipeline.schedule import book, control
from pipeline.schedule.spec import Schedule

START = datetime(2026, 3, 1, tzinfo=UTC)
EVERY = timedelta(minutes=5)


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


class Trial:
    def __init__(self, folder: Path, nursery: Nursery, fires: int, *, scale: float) -> None:
        self.lake = Lake(folder / "lake")
        self.log = folder / "log"
        self.log.touch()
        self.config = folder / "some.yaml"
        self.config.write_text("name: some\n")
        self.nursery = nursery
        self.scale = scale
        self.fires = [START + number * EVERY for number in range(1, fires + 1)]
        spec = Schedule(name="some", cron="*/5 * * * *", catch_up="all", catch_up_limit=10**6, overlap="wait")
        control.register(self.lake, spec, START)
        self.origin = time.monotonic()

    def start(self, skew: float = 0.0) -> int:
        return self.nursery.start(
            lake=str(self.lake.uri),
            name="some",
            config=str(self.config),
            log=str(self.log),
            start=START.isoformat(),
            end=self.fires[-1].isoformat(),
            origin=self.origin,
            scale=self.scale,
            skew=skew,
        )

    def begun(self) -> list[tuple[str, int]]:
        """Fire and pid of each execution, in the order in which they began."""
        lines = (line.split() for line in self.log.read_text().splitlines())
        return [(fire, int(pid)) for fire, _, pid in lines]

    def done(self) -> int:
        return self.lake.table("effect").count() if self.lake.table("effect").exists else 0

    def over(self) -> bool:
        """Whether the record says of the last fire that it has ended."""
        record = book.Record(self.lake, "some").refresh()
        return record.decided == self.fires[-1] and not record.open

    def wait(self) -> None:
        while not (self.done() == len(self.fires) and self.over()):
            time.sleep(0.05)

    def check(self, killed: set[int]) -> None:
        ended = Counter(event.fire for event in book.events(self.lake, "some") if event.state == "done")
        assert ended == Counter(self.fires)
        rows = Counter(self.lake.table("effect").to_table()["fire"].to_pylist())
        assert rows == Counter(fire.isoformat() for fire in self.fires)
        assert [fire.time for fire in control.history(self.lake, "some")[::-1]] == self.fires
        # Only a fire whose scheduler was killed is begun again.
        last: dict[str, int] = {}
        for fire, pid in self.begun():
            assert fire not in last or last[fire] in killed
            last[fire] = pid


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def killing(trial: Trial, rng: random.Random, most: int) -> set[int]:
    """Keep two schedulers alive, and kill one again and again, some fires and some milliseconds later."""
    alive, killed = [trial.start(), trial.start()], set()
    try:
        begun = 0
        while trial.done() < len(trial.fires):
            begun += rng.randint(0, most)
            while len(trial.begun()) < begun and trial.done() < len(trial.fires):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))
            victim = alive.pop(rng.randrange(2))
            kill(victim)
            killed.add(victim)
            alive.append(trial.start())
            begun = max(begun, len(trial.begun()))
        trial.wait()
        return killed
    finally:
        for pid in alive:
            kill(pid)


@pytest.mark.parametrize(
    "fires",
    [
        pytest.param(20, id="20"),
        pytest.param(200, id="200", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_each_fire_once_whoever_is_killed(fires, tmp_path, nursery):
    trial = Trial(tmp_path, nursery, fires, scale=20_000)
    killed = killing(trial, random.Random(5), 8)
    assert len(killed) >= fires // 8
    trial.check(killed)


@pytest.mark.parametrize("skew", [0.0, 420.0])
def test_two_schedulers_for_one_config(skew, tmp_path, nursery):
    trial = Trial(tmp_path, nursery, 12, scale=3_000)
    alive = [trial.start(skew=skew), trial.start(skew=-skew)]
    try:
        trial.wait()
    finally:
        for pid in alive:
            kill(pid)
    trial.check(set())
