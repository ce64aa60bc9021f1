"""Following a job through a bad network."""

from __future__ import annotations

import pytest

from pipeline.jobs import job as module
from pipeline.jobs.client import Record, UnreachableError
from pipeline.jobs.job import Job


class Clock:
    """Time passes when one sleeps, and when the network says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Wire:
    """The edge of the machine: a cluster behind a network that breaks where it is told to."""

    address = "http://head:8265"

    def __init__(self, clock: Clock, log: str, breaks: list[int], down: float) -> None:
        self.clock, self.log_text, self.breaks, self.down = clock, log, breaks, down
        self.back = 0.0

    def job(self, name: str) -> Record:
        if self.clock.now < self.back:
            raise UnreachableError("no answer")
        return Record(name, "RUNNING" if self.breaks else "SUCCEEDED", exit_code=0)

    def tail(self, _name: str):
        until = self.breaks.pop(0) if self.breaks else len(self.log_text)
        for at in range(0, until, 7):
            yield self.log_text[at : min(at + 7, until)]
        self.clock.now += 3600  # it has nothing to say for an hour
        if self.breaks or until < len(self.log_text):
            self.back = self.clock.now + self.down
            raise ConnectionError("broke off")

    def unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(str(error))


LOG = "".join(f"line {n}\n" for n in range(50))


def test_a_log_is_told_once_however_often_the_connection_breaks(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    wire = Wire(clock, LOG, [0, 10, 10, 33, 200, 5], down=30.0)
    assert "".join(Job(wire, "a").logs(follow=True)) == LOG


def test_a_cluster_that_stays_away_is_given_up(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    wire = Wire(clock, LOG, [20], down=1e9)
    told = []
    with pytest.raises(UnreachableError):
        told.extend(Job(wire, "a").logs(follow=True))
    assert "".join(told) == LOG[:20]
    assert clock.now < 3600 + 2 * module._SILENCE


def test_waiting_bears_silence_too(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    wire = Wire(clock, LOG, [], down=0)
    wire.back = 50.0
    assert Job(wire, "a").wait() == 0
    wire.back = 1e9
    with pytest.raises(UnreachableError):
        Job(wire, "a").wait()
