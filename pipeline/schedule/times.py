"""The instants that a cron expression names, in a time zone with daylight saving.

The expression names times on the wall clock; each of them is then one instant, two, or none. What happens to
those that a clock skips or repeats is Debian cron's rule:

- a job at fixed times (neither minute nor hour begins with ``*``) runs once for each: a time that is skipped
  runs when the clock has jumped, a time that comes twice runs the first time;
- a job at intervals (``*/15 * * * *``, ``0 * * * *``) runs whenever the wall clock shows such a time: not in
  the hour that is skipped, and in both of the hours that look alike.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from pipeline.schedule.spec import Schedule, zone

__all__ = ["fires", "following", "instants", "shortest_gap"]

# No clock has ever been moved by more than a day (Samoa and Tokelau, 2011, across the date line).
_FURTHEST = timedelta(hours=25)


def fires(spec: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """The fire times in ``(after, until]``, in UTC, strictly growing."""
    for fire in instants(spec.cron, zone(spec.timezone), after):
        if fire > until:
            return
        yield fire


def following(spec: Schedule, after: datetime, count: int = 1) -> list[datetime]:
    """The next ``count`` fire times after an instant; fewer where the calendar ends."""
    return list(islice(instants(spec.cron, zone(spec.timezone), after), count))


def instants(cron: str, place: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """All instants after ``after`` that a cron expression of five fields names, in UTC, strictly growing.

    >>> from itertools import islice, pairwise
    >>> berlin = ZoneInfo("Europe/Berlin")
    >>> [f"{t:%d %H:%M}" for t in islice(instants("30 2 * * *", berlin, datetime(2026, 3, 28, tzinfo=UTC)), 3)]
    ['28 01:30', '29 01:00', '30 00:30']
    """
    minute, hour = cron.split()[:2]
    at_intervals = minute.startswith("*") or hour.startswith("*")
    waiting: list[datetime] = []
    last = after.astimezone(UTC)
    begin = last if _calm(last, place) else last - _FURTHEST
    for wall in _walls(cron, begin.astimezone(place).replace(tzinfo=None, fold=0)):
        for found in _meant(wall, place, at_intervals=at_intervals):
            heapq.heappush(waiting, found)
        # Where a clock is put back the order is mixed: there only what lies a day behind is certain.
        certain = wall.replace(tzinfo=place).astimezone(UTC)
        if not _calm(certain, place):
            certain -= _FURTHEST
        while waiting and waiting[0] <= certain:
            found = heapq.heappop(waiting)
            if found > last:
                yield (last := found)
    for found in sorted(waiting):
        if found > last:
            yield (last := found)


def _calm(moment: datetime, place: ZoneInfo) -> bool:
    """Whether no clock is moved within a day of a moment, so that wall clocks tell the order."""
    offset = moment.astimezone(place).utcoffset()
    return all((moment + way * _FURTHEST).astimezone(place).utcoffset() == offset for way in (-1, 1))


def _walls(cron: str, after: datetime) -> Iterator[datetime]:
    """The times on a wall clock without a zone, to the end of the calendar."""
    from cronsim import CronSim

    try:
        yield from CronSim(cron, after)
    except OverflowError:
        return


def _meant(wall: datetime, place: ZoneInfo, *, at_intervals: bool) -> Iterator[datetime]:
    """The instants at which the wall clock shows a time: one, two where it is put back, none where it jumps."""
    first, second = (wall.replace(tzinfo=place, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first.astimezone(place).replace(tzinfo=None) != wall:  # the clock never shows it
        if not at_intervals:
            yield _jump(place, second, first)
        return
    yield first
    if at_intervals and second != first:
        yield second


def _jump(place: ZoneInfo, before: datetime, behind: datetime) -> datetime:
    """The instant between two, at which the clock jumps."""
    low, high = before, behind
    offset = high.astimezone(place).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(place).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return high.replace(microsecond=0)


def shortest_gap(spec: Schedule, after: datetime, among: int = 50) -> timedelta:
    """The least time between two of the next fires; a century where there is only one."""
    found = following(spec, after, among)
    return min((b - a for a, b in pairwise(found)), default=timedelta(days=36525))
