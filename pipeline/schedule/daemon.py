"""The scheduler: waits for fire times, claims them in the lake, and runs them.

Any number of schedulers may serve one schedule. Who holds its lock works; the lock of a dead process frees
itself, and whoever gets it next takes over what was begun. That only saves work: what is true is decided by
the commits of :mod:`pipeline.schedule.book`, so a scheduler that was frozen, or whose clock is wrong, can
claim no fire a second time.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from lake.errors import ConcurrentRunError, ExitCode, GristmillError, StorageError
from lake.lake import Lake
from pipeline.schedule import book
from pipeline.schedule.book import Event, Fire, Record, Standing
from pipeline.schedule.decide import decide, next_start
from pipeline.schedule.spec import Schedule, words
from pipeline.schedule.work import Job, Outcome, Process, Running, Work

__all__ = ["Clock", "Daemon", "Stop", "SystemClock", "ahead_of"]

MOST_AHEAD = 120.0
"""Seconds by which a clock may be ahead of the lake's before it fires nothing: that would be too early."""

_COMPACT_EVERY = 64  # commits: a table of many small files is slow to open
_log = logging.getLogger(__name__)


class Clock(Protocol):
    """The time, as an argument."""

    def now(self) -> datetime:
        """The wall clock, in UTC. It may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment. They never jump."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(slots=True)
class Stop:
    """Asks a scheduler to stop: with ``asked`` a run under way has its grace time, with ``now`` it has none."""

    asked: bool = False
    now: bool = False


def ahead_of(lake: Lake) -> float:
    """Seconds by which this machine's clock is ahead of the one that dates the lake's files."""
    lake.ensure()
    probe = f"_staging/clock-{socket.gethostname()}-{os.getpid()}"
    before = time.time()
    lake.storage.write(probe, b"")
    after = time.time()
    stored = lake.storage.modified(probe)
    lake.storage.delete(probe)
    # The file was dated between the two; object stores cut the time to seconds.
    return before - stored - 1 if before > stored + 1 else min(0.0, after - stored)


@dataclass
class Daemon:
    """Serves one schedule of a lake.

    Args:
        lake: where the schedule is.
        name: the schedule's.
        config: the configuration file on this machine.
        work: starts the runs.
        clock: tells the time.
        grace: seconds that a run may go on for after a stop was asked for.
        poll: seconds between two looks at the lake.
        stop: asks for an end.
        ahead: tells by how many seconds this machine's clock is ahead of the lake's.
        tell: is told of every event.
    """

    lake: Lake
    name: str
    config: Path
    work: Work = Process
    clock: Clock = field(default_factory=SystemClock)
    grace: float = 60.0
    poll: float = 15.0
    stop: Stop = field(default_factory=Stop)
    ahead: Callable[[], float] = lambda: 0.0
    tell: Callable[[Event], None] = lambda _event: None

    def __post_init__(self) -> None:
        self._record = Record(self.lake, self.name)
        self._commits = 0
        self._warned = False
        self._once = False

    def run(self, *, once: bool = False) -> None:
        """Serve until asked to stop; with ``once``, until nothing is left to do at this moment.

        Raises:
            GristmillError: with ``once``: the lake cannot be read or written. Otherwise it is tried again.
            OSError: the same.
        """
        self._once = once
        standing: Standing | None = None
        while not self.stop.asked:
            try:
                standing = self._standing()
                if standing.state == "stopped":
                    _log.info("%s: stopped by whoever looks after the schedule", self.name)
                    break
                busy = self._step(standing)
            except (GristmillError, OSError) as error:
                if once:
                    raise
                # A lake that is away for a while comes back, and nothing is lost meanwhile.
                _log.error("%s: %s", self.name, error)
                busy = False
            if busy:
                continue
            if once and not any(fire.state == "retry" for fire in self._record.open.values()):
                break
            self._sleep(self._until_next(standing))

    def _standing(self) -> Standing:
        """The schedule as it is now. It was there when this scheduler began, and none is ever deleted."""
        found = book.standing(self.lake, self.name)
        if found is None:
            raise StorageError(
                f"the schedule {self.name!r} is not in its lake any more",
                where=str(self.lake.uri),
                why="the lake is away, or another folder lies in its place",
                hint="is the disk mounted?",
            )
        return found

    def _step(self, standing: Standing) -> bool:
        """Do what is to be done next; false where there is nothing to do."""
        decision = decide(standing, self._record.refresh(), self.clock.now())
        if not decision.events or not self._clock_is_right():
            return False
        try:
            with self.lake.lock(f"schedule.{self.name}"):
                # Now that nobody else is at it: once more.
                decision = decide(standing, self._record.refresh(), self.clock.now())
                seq = self._record.seq
                if decision.events and not self._add(decision.events):
                    return self._record.refresh().seq != seq  # if somebody has written meanwhile: look again
                if decision.run is not None:
                    self._fire(self._record.open[decision.run.time], standing.spec)
        except ConcurrentRunError:
            return False  # another scheduler is at it
        return True

    def _until_next(self, standing: Standing | None) -> float:
        """Seconds to sleep for: to the next fire, but no longer than to the next look at the lake."""
        now = self.clock.now()
        at = next_start(standing, self._record, now) if standing else None
        return min(self.poll, (at - now).total_seconds()) if at is not None and at > now else self.poll

    def _sleep(self, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        while not self.stop.asked and (left := end - self.clock.monotonic()) > 0:
            self.clock.sleep(min(left, 0.5))

    def _clock_is_right(self) -> bool:
        ahead = self.ahead()
        right = ahead <= MOST_AHEAD
        if not right and not self._warned:
            _log.error(
                "%s: nothing is fired: this clock is %s ahead of the lake's; set it right (NTP)",
                self.name,
                words(round(ahead)),
            )
        self._warned = not right
        return right

    # One fire

    def _fire(self, fire: Fire, spec: Schedule) -> None:
        """Run a fire that has just been claimed, and record how that ended."""
        outcome: Outcome | None = Outcome(ExitCode.USAGE, detail=f"{self.config} cannot be read")
        if fire.text is not None:
            try:
                running = self.work(self._job(fire, spec, fire.text))
            except OSError as error:  # no process, no memory or no temporary file to be had: for now
                outcome = Outcome(ExitCode.FAILED, detail=f"cannot be started: {error.strerror}")
            else:
                outcome = self._attend(running, spec)
        self._settle(_ending(fire, spec, outcome, self.clock.now()))

    def _job(self, fire: Fire, spec: Schedule, text: str) -> Job:
        return Job(
            schedule=self.name,
            fire=fire.time.isoformat(),
            attempt=fire.attempt,
            lake=str(self.lake.uri),
            config=str(self.config),
            text=text,
            overrides=spec.overrides_at(fire.time),
            address=spec.address,
            workers=spec.workers,
            maintain=spec.maintain,
            again=f"{fire.began:%Y%m%dT%H%M%SZ}" if fire.backfill and fire.began else None,
        )

    def _text(self) -> str | None:
        try:
            return self.config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _attend(self, running: Running, spec: Schedule) -> Outcome | None:
        """Wait for a run; None if it was stopped because this scheduler stops."""
        started, asked = self.clock.monotonic(), None
        while (outcome := running.wait(0.05 if self.stop.asked else 0.2)) is None:
            now = self.clock.monotonic()
            if spec.max_run_time is not None and now - started > spec.max_run_time:
                self._end(running)
                detail = f"stopped after max_run_time, {words(spec.max_run_time)}"
                return Outcome(ExitCode.FAILED, detail=detail)
            if self.stop.asked and asked is None:
                asked = now
                _log.info("%s: stopping; the run has %s to end", self.name, words(self.grace))
            if self.stop.now or (asked is not None and now - asked >= self.grace):
                self._end(running)
                return None
        return outcome

    @staticmethod
    def _end(running: Running) -> None:
        running.terminate()
        if running.wait(10.0) is None:
            running.kill()
            while running.wait(1.0) is None:
                pass

    # The record

    def _settle(self, event: Event) -> None:
        """Record how an attempt ended, unless somebody has taken the fire over meanwhile."""
        while True:
            try:
                if self._add([event]):
                    return
                fire = self._record.refresh().open.get(event.fire)
            except (GristmillError, OSError) as error:
                if self._once or self.stop.asked:
                    raise
                # The run is over, and only this process knows how: it waits for the lake to come back.
                _log.error("%s: the end of %s is not recorded yet: %s", self.name, _named(event.fire), error)
                self._sleep(self.poll)
                continue
            if fire is None or (fire.by, fire.pid, fire.attempt) != (event.by, event.pid, event.attempt):
                # Whoever took it over has its end to tell.
                _log.warning("%s: %s was taken over by another scheduler", self.name, _named(event.fire))
                return
            self.clock.sleep(0.1)

    def _add(self, happened: Iterable[Event]) -> bool:
        events = [self._pinned(event) for event in happened]
        if not self._record.add(events):
            return False
        for event in events:
            self.tell(event)
            level = logging.WARNING if event.state in {"failed", "retry"} else logging.INFO
            why = f": {event.detail}" if event.detail else ""
            attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
            _log.log(level, "%s: %s %s%s%s", self.name, _named(event.fire), event.state, attempt, why)
        self._commits += 1
        if self._commits % _COMPACT_EVERY == 0:
            self._compact()
        return True

    def _pinned(self, event: Event) -> Event:
        """The claim of a first attempt holds the configuration: later attempts run the same, on any machine."""
        begun = self._record.open.get(event.fire)
        if event.state != "claimed" or (begun is not None and begun.text is not None):
            return event
        text = self._text()
        digest = None if text is None else blake2b(text.encode(), digest_size=8).hexdigest()
        return replace(event, text=text, config=digest)

    def _compact(self) -> None:
        from lake import maintenance

        with suppress(GristmillError):  # somebody else looks after the lake at this moment
            maintenance.compact(self.lake, book.FIRES_TABLE)


def _ending(fire: Fire, spec: Schedule, outcome: Outcome | None, now: datetime) -> Event:
    """What is recorded of an attempt that has ended."""
    if outcome is None:
        return Event(
            fire.time, "released", now, fire.attempt, config=fire.config, detail="the scheduler was stopped"
        )
    known = Event(
        fire.time,
        "done" if outcome.finished else "failed",
        now,
        fire.attempt,
        config=fire.config,
        run=outcome.run,
        exit_code=int(outcome.exit_code),
        detail=outcome.detail,
    )
    if outcome.finished or not outcome.retryable or fire.attempt > spec.retries:
        return known
    pause = spec.pause_before(fire.attempt + 1)
    detail = f"{outcome.detail or f'exit code {outcome.exit_code}'}; again in {words(pause)}"
    return replace(known, state="retry", detail=detail, again_at=now + timedelta(seconds=pause))


def _named(fire: datetime) -> str:
    return f"{fire:%Y-%m-%dT%H:%MZ}"
