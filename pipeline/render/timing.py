"""A cron expression in the words of others: exactly, or refused with the reason.

Ours is Debian's: where day of month and day of week are both restricted a day that fits either fires, unless
one of the two begins with ``*``; then both must fit. The readers in Kubernetes, KubeRay, Airflow and Dagster
differ from it, and from each other, in steps with a star, in 7 for Sunday, and in ``L``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lake.errors import ConfigError
from pipeline.schedule.spec import standard

__all__ = ["Fields", "calendars", "portable"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # systemd's order
_WEEK, _MONTH, _YEAR, _HOURS, _MINUTES = range(7), range(1, 32), range(1, 13), range(24), range(60)


@dataclass(frozen=True)
class Fields:
    """The sets that a cron expression stands for. Sunday is 0.

    Args:
        minutes: 0 to 59.
        hours: 0 to 23.
        days: of the month, 1 to 31.
        months: 1 to 12.
        weekdays: 0 to 6.
        last: the last day of the month too.
        both: a day must be in ``days`` and in ``weekdays``; otherwise in one of them.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    last: bool
    both: bool

    @classmethod
    def of(cls, cron: str) -> Fields:
        """Read an expression.

        Raises:
            ConfigError: it is wrong, or has `#`, `LW` or `5L`, which only cronsim knows.
        """
        from cronsim import CronSim

        read = CronSim(standard(cron), datetime(2024, 1, 1))  # noqa: DTZ001  (a wall clock; never asked for a time)
        days: set[int] = set(read.days)
        if CronSim.LAST_WEEKDAY in days or any(isinstance(each, tuple) for each in read.weekdays):
            raise _refused(cron, "other schedulers have no word for LW, 5L and 5#2", "use days of the month")
        weekdays = frozenset(int(each) % 7 for each in read.weekdays if not isinstance(each, tuple))
        every = days >= set(_MONTH) or len(weekdays) == len(_WEEK)
        if every and not read.day_and:  # either fits, and one of them always does
            days, weekdays = set(_MONTH), frozenset(_WEEK)
        last = CronSim.LAST in days
        return cls(
            frozenset(read.minutes),
            frozenset(read.hours),
            frozenset(days - {CronSim.LAST}),
            frozenset(read.months),
            weekdays,
            last,
            # Where one of them is not restricted, "both" and "either" would differ by that one alone.
            both=read.day_and,
        )

    @property
    def every_day(self) -> bool:
        """Whether the day of the month does not matter."""
        return self.days >= set(_MONTH)

    @property
    def every_weekday(self) -> bool:
        """Whether the day of the week does not matter."""
        return len(self.weekdays) == len(_WEEK)


def portable(cron: str, reader: str) -> str:
    """An expression that every reader of cron takes for the same times.

    Args:
        cron: of five fields, or a macro.
        reader: who will read it, for the message.

    Raises:
        ConfigError: there is none.

    >>> portable("*/15 2 * * SUN,7", "Kubernetes")
    '*/15 2 * * 0'
    """
    found = Fields.of(cron)
    if found.last:
        raise _refused(cron, f"{reader} does not know L, the last day of the month", "use the first: 0 0 1 * *")
    if found.both and not found.every_day and not found.every_weekday:
        why = f"here a day must fit both its day of month and its day of week; {reader} takes either"
        raise _refused(cron, why, "restrict one of the two")
    return " ".join(
        [
            _cron(found.minutes, _MINUTES, steps=True),
            _cron(found.hours, _HOURS, steps=True),
            _cron(found.days, _MONTH),
            _cron(found.months, _YEAR),
            _cron(found.weekdays, _WEEK),
        ]
    )


def calendars(cron: str, timezone: str) -> list[str]:
    """The expressions of systemd's ``OnCalendar`` that together elapse when a cron expression fires.

    Raises:
        ConfigError: there are none.

    >>> calendars("30 2 1,15 * MON", "Europe/Berlin")
    ['*-*-01,15 02:30:00 Europe/Berlin', 'Mon *-*-* 02:30:00 Europe/Berlin']
    """
    found = Fields.of(cron)
    time = f"{_list(found.hours, _HOURS)}:{_list(found.minutes, _MINUTES)}:00 {timezone}"
    months = _list(found.months, _YEAR)
    weekdays = sorted((each - 1) % 7 for each in found.weekdays)
    week = "" if found.every_weekday else ",".join(_DAYS[each] for each in weekdays) + " "
    dates = [f"-{_list(found.days, _MONTH)}"] if found.days else []
    dates += ["~01"] if found.last and not found.every_day else []
    if found.both or found.every_weekday:
        return [f"{week}*-{months}{date} {time}" for date in dates]
    return [f"*-{months}{date} {time}" for date in dates] + [f"{week}*-{months}-* {time}"]


def _cron(values: Iterable[int], whole: range, *, steps: bool = False) -> str:
    found = sorted(values)
    if found == list(whole):
        return "*"
    step = found[1] - found[0] if len(found) > 1 else 0
    if steps and step > 1 and found == list(whole)[::step]:
        return f"*/{step}"
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in _runs(found))


def _list(values: Iterable[int], whole: range) -> str:
    found = sorted(values)
    if found == list(whole):
        return "*"
    return ",".join(f"{a:02d}" if a == b else f"{a:02d}..{b:02d}" for a, b in _runs(found))


def _runs(values: list[int]) -> list[tuple[int, int]]:
    """Neighbours as first and last; two of them stay two."""
    found: list[tuple[int, int]] = []
    for value in values:
        if found and value == found[-1][1] + 1:
            found[-1] = (found[-1][0], value)
        else:
            found.append((value, value))
    return [one for a, b in found for one in ([(a, a), (b, b)] if b == a + 1 else [(a, b)])]


def _refused(cron: str, why: str, hint: str) -> ConfigError:
    return ConfigError("this time cannot be rendered", where=f'--cron "{cron}"', why=why, hint=hint)
