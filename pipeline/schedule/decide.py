"""What is to be done now: a pure function of the schedule, the record of its fires, and the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.schedule.book import Event, Fire, Record, Standing
from pipeline.schedule.spec import Schedule
from pipeline.schedule.times import fires, following

__all__ = ["MOST_LOST", "Decision", "decide", "next_start", "undecided"]

MOST_LOST = 20
"""Daemons that may die under one fire before it is given up: it may be the fire that kills them."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Events to write, in one commit; ``run`` is the fire to start when they are written."""

    events: tuple[Event, ...] = ()
    run: Fire | None = None


def decide(standing: Standing, record: Record, now: datetime) -> Decision:
    """Decide what is next. Nobody else may be running a fire of this schedule: an open claim is a dead one's.

    First comes what was begun, then the fires that are due, then what somebody asked for. Of the due fires
    every one up to the one that runs is decided here, each with a reason in the record.
    """
    if standing.state != "active":
        return Decision()
    spec = standing.spec
    begun = [fire for fire in record.open.values() if fire.state != "queued"]
    if begun:
        return _resume(min(begun, key=lambda fire: fire.time), spec, now)
    skipped: list[Event] = []
    waiting = list(undecided(standing, record, now))
    run = _runnable(spec, record, waiting, now)
    for fire in waiting:
        if fire not in run:
            skipped.append(Event(fire, "skipped", now, detail=_reason(spec, record, fire)))
            continue
        claim = Event(fire, "claimed", now, attempt=1)
        return Decision((*skipped, claim), Fire(fire, "new").after(claim))
    if not skipped and record.open:
        return _claim(min(record.open.values(), key=lambda fire: fire.time), 1, now)
    return Decision(tuple(skipped))


def undecided(
    standing: Standing, record: Record, now: datetime, *, waiting: bool = False
) -> Iterator[datetime]:
    """The fire times that are due at ``now`` and not settled yet, oldest first.

    With ``waiting`` those too whose time has come, but whose jitter has not passed.
    """
    after = max(standing.since, record.decided or standing.since)
    for fire in fires(standing.spec, after, now):
        if not waiting and standing.spec.due(fire) > now:
            return
        yield fire


def next_start(standing: Standing, record: Record, now: datetime) -> datetime | None:
    """When something is to be done, as far as it can be known; in the past where it is to be done now."""
    if standing.state != "active":
        return None
    begun = [fire for fire in record.open.values() if fire.state != "queued"]
    if begun:
        first = min(begun, key=lambda fire: fire.time)
        return first.again_at or now
    if record.open:
        return now
    after = max(standing.since, record.decided or standing.since)
    coming = following(standing.spec, after)
    return standing.spec.due(coming[0]) if coming else None


def _runnable(spec: Schedule, record: Record, waiting: list[datetime], now: datetime) -> frozenset[datetime]:
    """Those of the due fires that run."""
    left = [fire for fire in waiting if spec.overlap == "wait" or not _overlapped(spec, record, fire)]
    if spec.catch_up == "none":
        late = timedelta(seconds=spec.late_after)
        left = [fire for fire in left if now - spec.due(fire) <= late]
    return frozenset(left[-spec.catch_up_limit :] if spec.catch_up == "all" else left[-1:])


def _overlapped(spec: Schedule, record: Record, fire: datetime) -> bool:
    due = spec.due(fire)
    return any(began < due <= ended for began, ended in record.runs)


def _reason(spec: Schedule, record: Record, fire: datetime) -> str:
    if spec.overlap == "skip" and _overlapped(spec, record, fire):
        return "overlap: an earlier run was going on"
    return {
        "none": f"late: catch_up is none, and it is over {spec.late_after:g} s late",
        "latest": "late: a later fire was due too, and catch_up is latest",
        "all": f"late: more than {spec.catch_up_limit} fires were due",
    }[spec.catch_up]


def _resume(fire: Fire, spec: Schedule, now: datetime) -> Decision:
    """Go on with a fire that was begun: after a stop, a failure, or a daemon's death."""
    # A clock that was put back must not make a retry wait for longer than was meant.
    left = fire.again_at - now if fire.state == "retry" and fire.again_at else timedelta(0)
    if timedelta(0) < left <= timedelta(seconds=spec.pause_before(fire.attempt + 1)):
        return Decision()
    if fire.state == "claimed" and fire.lost + 1 >= MOST_LOST:
        detail = f"given up: the daemon died under it {MOST_LOST} times"
        return Decision((Event(fire.time, "failed", now, fire.attempt, detail=detail),))
    return _claim(fire, fire.attempt + (fire.state == "retry"), now)


def _claim(fire: Fire, attempt: int, now: datetime) -> Decision:
    claim = Event(fire.time, "claimed", now, attempt=attempt)
    return Decision((claim,), fire.after(claim))
