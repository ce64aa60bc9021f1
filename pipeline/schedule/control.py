"""Looking at schedules and steering them, from any machine that sees the lake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lake.errors import ConcurrentRunError, ConfigError
from lake.lake import Lake
from pipeline.schedule import book
from pipeline.schedule.book import Event, Fire, Record, Standing, known, names
from pipeline.schedule.decide import next_start, undecided
from pipeline.schedule.spec import Schedule, words, zone
from pipeline.schedule.times import fires, following, shortest_gap

__all__ = ["Backfill", "backfill", "describe", "history", "instant", "known", "names", "pause", "register"]
__all__ += ["resume", "stop", "upcoming"]

_TRIES = 50  # against others who change the same schedule at once
_MOST = 10_000
_FIRST_YEAR, _LAST_YEAR = 1900, 9998  # a day from the ends of the calendar there is no other time zone


def register(lake: Lake, spec: Schedule, now: datetime) -> Standing:
    """Write a schedule into the lake, or change it; a paused one stays paused.

    Fires count from now on. Where the times change, fires of the old times that are still undecided are
    recorded as skipped.

    Raises:
        ConfigError: the jitter is not shorter than the time between two fires.
    """
    gap = shortest_gap(spec, now).total_seconds()
    if spec.jitter >= gap:
        raise ConfigError(
            f"the jitter of {words(spec.jitter)} is not shorter than the time between two fires, {words(gap)}",
            where="--jitter",
            hint="shorten it",
        )

    def change(current: Standing | None) -> Standing:
        if current is None:
            return Standing(spec, "active", now, now)
        state = "active" if current.state == "stopped" else current.state
        if current.spec.with_timing_of(spec):
            return replace(current, spec=spec, state=state, at=now)
        _skip(lake, current, now, "the times of the schedule were changed", waiting=True)
        return replace(current, spec=spec, state=state, since=now, at=now)

    return _change(lake, spec.name, change)


def pause(lake: Lake, name: str, now: datetime) -> Standing:
    """No fire starts until :func:`resume`; a run that is going on ends as usual.

    Raises:
        ConfigError: there is no such schedule.
    """
    known(lake, name)
    return _change(lake, name, lambda current: replace(_there(current), state="paused", at=now))


def resume(lake: Lake, name: str, now: datetime) -> Standing:
    """Fire again. What fell due during the pause is recorded as skipped.

    Raises:
        ConfigError: there is no such schedule.
    """
    known(lake, name)

    def change(current: Standing | None) -> Standing:
        found = _there(current)
        if found.state == "paused":
            _skip(lake, found, now, "paused")
        return replace(found, state="active", at=now)

    return _change(lake, name, change)


def stop(lake: Lake, name: str, now: datetime) -> Standing:
    """End the schedulers of a schedule, wherever they run; `schedule start` starts it again.

    Raises:
        ConfigError: there is no such schedule.
    """
    known(lake, name)
    return _change(lake, name, lambda current: replace(_there(current), state="stopped", at=now))


@dataclass(frozen=True, slots=True)
class Backfill:
    """The fire times that were queued, and those left out: they have run, or are still due."""

    queued: tuple[datetime, ...]
    left_out: tuple[datetime, ...]


def backfill(
    lake: Lake, name: str, first: datetime, last: datetime, now: datetime, *, again: bool = False
) -> Backfill:
    """Queue the fire times from ``first`` to ``last``, both included, that have not run.

    A scheduler runs them, the oldest first, whenever no other fire is due.

    Args:
        lake: the lake.
        name: of the schedule.
        first: the beginning of the range.
        last: its end.
        now: the time; later fires are not queued.
        again: queue those too that have run.

    Raises:
        ConfigError: there is no such schedule, or the range is empty or too long.
    """
    standing = known(lake, name)
    if last < first:
        raise ConfigError("the range ends before it begins", where="TO", hint="give the earlier time first")
    wanted = []
    for fire in fires(standing.spec, first - timedelta(microseconds=1), min(last, now)):
        wanted.append(fire)
        if len(wanted) > _MOST:
            raise ConfigError(
                f"the range has more than {_MOST:,} fire times", where="TO", hint="queue it in pieces"
            )
    for _ in range(_TRIES):
        record = Record(lake, name).refresh()
        settled = book.folded(book.events(lake, name))
        # What the schedule has still to decide by itself is left to it, be it that its jitter has not passed.
        coming = set(undecided(standing, record, now, waiting=True))
        run = {"done"} if not again else set()
        left_out = [
            fire
            for fire in wanted
            if fire in coming or (fire in settled and settled[fire].state in run | book.OPEN)
        ]
        queued = [fire for fire in wanted if fire not in set(left_out)]
        if not queued or record.add([Event(fire, "queued", now, detail="backfill") for fire in queued]):
            return Backfill(tuple(queued), tuple(left_out))
    raise _busy(name, lake)


def upcoming(standing: Standing, now: datetime, count: int = 5) -> list[dict[str, Any]]:
    """The next fire times: in UTC, in the schedule's zone, and when each starts (with its jitter)."""
    place = zone(standing.spec.timezone)
    return [
        {"fire": fire, "local": fire.astimezone(place), "starts": standing.spec.due(fire)}
        for fire in following(standing.spec, max(now, standing.since), count)
    ]


def history(lake: Lake, name: str, limit: int | None = None) -> list[Fire]:
    """The fires of a schedule and what became of them, the newest first.

    Raises:
        ConfigError: there is no such schedule.
    """
    known(lake, name)
    found = list(book.folded(book.events(lake, name)).values())[::-1]
    return found[:limit]


def describe(lake: Lake, name: str, now: datetime) -> dict[str, Any]:
    """A schedule in one line: times, state, the last fire and the next."""
    standing = known(lake, name)
    record = Record(lake, name).refresh()
    past = history(lake, name)
    ran = next((fire for fire in past if fire.state != "queued"), None)
    coming = next_start(standing, record, now)
    return {
        "schedule": name,
        "cron": standing.spec.cron,
        "timezone": standing.spec.timezone,
        "state": standing.state,
        "config": standing.spec.config,
        "since": standing.since,
        "last": ran.to_dict() if ran else None,
        "next": coming,
        "queued": sum(fire.state == "queued" for fire in record.open.values()),
    }


def instant(text: str, timezone: str, *, end: bool = False) -> datetime:
    """A date or a time in a time zone; of a date its first or its last moment.

    >>> instant("2026-03-01", "Europe/Berlin").isoformat()
    '2026-02-28T23:00:00+00:00'

    Raises:
        ValueError: it is neither.
    """
    msg = f"{text!r} is no time: write 2026-03-01 or 2026-03-01T02:00"
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(msg) from error
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise ValueError(msg)
    if end and len(text.strip()) <= len("2026-03-01"):
        found += timedelta(days=1, microseconds=-1)
    return (found if found.tzinfo else found.replace(tzinfo=zone(timezone))).astimezone(UTC)


def _there(current: Standing | None) -> Standing:
    assert current is not None  # noqa: S101  (schedules are never deleted)
    return current


def _change(lake: Lake, name: str, change: Callable[[Standing | None], Standing]) -> Standing:
    for _ in range(_TRIES):
        current = book.standing(lake, name)
        wanted = change(current)
        if current is not None and replace(wanted, at=current.at) == current:
            return current
        if book.put(lake, wanted):
            return replace(wanted, seq=wanted.seq + 1)
    raise _busy(name, lake)


def _skip(lake: Lake, standing: Standing, now: datetime, why: str, *, waiting: bool = False) -> None:
    """Record what fell due and was not decided, so that no fire vanishes without a word."""
    for _ in range(_TRIES):
        record = Record(lake, standing.spec.name).refresh()
        left: Sequence[datetime] = list(undecided(standing, record, now, waiting=waiting))
        if not left or record.add([Event(fire, "skipped", now, detail=why) for fire in left]):
            return
    raise _busy(standing.spec.name, lake)


def _busy(name: str, lake: Lake) -> ConcurrentRunError:
    return ConcurrentRunError(
        f"the schedule {name!r} changed under every attempt to change it", where=str(lake.uri), hint="try again"
    )
