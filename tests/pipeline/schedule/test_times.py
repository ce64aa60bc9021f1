"""Fire times against oracles: cronsim with its own zones, and a walk over every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.schedule.spec import Schedule
from pipeline.schedule.times import fires, following, instants, shortest_gap

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
KOLKATA, APIA = "Asia/Kolkata", "Pacific/Apia"
CHANGES = {  # a day before each is where a window begins
    BERLIN: [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)],
    NEW_YORK: [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)],
    LORD_HOWE: [datetime(2026, 10, 3, 15, 30, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC)],
    KOLKATA: [datetime(2026, 3, 29, tzinfo=UTC)],
    APIA: [datetime(2011, 12, 30, 10, tzinfo=UTC)],  # the day that Samoa left out
}
WINDOWS = [(zone, change) for zone, changes in CHANGES.items() for change in changes]
CRONS = ["* * * * *", "*/15 * * * *", "0 * * * *", "30 */2 * * *", "*/5 2 * * *", "30 2 * * *", "0 2,3 * * *"]
CRONS += ["15,45 1-3 * * *", "0 0 * * *", "10 4 * * SUN", "0 12 L * *"]


def spec(cron: str, zone: str = "UTC") -> Schedule:
    return Schedule(name="a", cron=cron, timezone=zone)


def walk(cron: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """Debian's rule, minute by minute of real time."""
    place, walls = ZoneInfo(zone), set()
    for wall in CronSim(cron, begin.replace(tzinfo=None) - timedelta(days=3)):
        if wall > end.replace(tzinfo=None) + timedelta(days=3):
            break
        walls.add(wall)
    minute, hour = cron.split()[:2]
    at_intervals = minute.startswith("*") or hour.startswith("*")
    found, seen = [], set()
    now = begin - timedelta(days=2)
    shown = now.astimezone(place).replace(tzinfo=None, fold=0)
    while now <= end:
        now += timedelta(minutes=1)
        before, shown = shown, now.astimezone(place).replace(tzinfo=None, fold=0)
        if at_intervals:
            hit = shown in walls
        else:
            # All that the clock has passed over since the last minute, each of them once.
            passed = {wall for wall in walls if before < wall <= shown} - seen
            seen |= passed
            hit = bool(passed)
        if hit and begin < now <= end:
            found.append(now)
    return found


@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize(("zone", "change"), WINDOWS)
def test_a_walk_over_every_minute_agrees(cron, zone, change):
    begin, end = change - timedelta(hours=30), change + timedelta(hours=30)
    assert list(fires(spec(cron, zone), begin, end)) == walk(cron, zone, begin, end)


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, KOLKATA])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 1,2,3 * * *", "0 * * * *", "0 3 * * 1-5"])
def test_cronsim_agrees_over_a_year(zone, cron):
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    end = begin + timedelta(days=366)
    oracle = []
    for local in CronSim(cron, begin.astimezone(ZoneInfo(zone))):
        if local > end:
            break
        oracle.append(local.astimezone(UTC))
    assert list(fires(spec(cron, zone), begin, end)) == oracle


def test_the_hour_that_is_skipped_and_the_one_that_comes_twice():
    def shown(cron: str, zone: str, day: datetime, count: int) -> list[str]:
        place = ZoneInfo(zone)
        return [f"{t.astimezone(place):%d %H:%M %Z}" for t in islice(instants(cron, place, day), count)]

    assert shown("30 2 * * *", BERLIN, datetime(2026, 3, 28, tzinfo=UTC), 3) == [
        "28 02:30 CET",
        "29 03:00 CEST",
        "30 02:30 CEST",
    ]
    assert shown("30 2 * * *", BERLIN, datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "25 02:30 CEST",
        "26 02:30 CET",
    ]
    assert shown("0 * * * *", BERLIN, datetime(2026, 10, 24, 23, 30, tzinfo=UTC), 3) == [
        "25 02:00 CEST",
        "25 02:00 CET",
        "25 03:00 CET",
    ]
    # Lord Howe's clocks move by half an hour: 02:15 is skipped, and 01:45 comes twice.
    assert shown("15 2 * * *", LORD_HOWE, datetime(2026, 10, 3, tzinfo=UTC), 1) == ["04 02:30 +11"]
    assert shown("45 * * * *", LORD_HOWE, datetime(2026, 4, 4, 14, 0, tzinfo=UTC), 3) == [
        "05 01:45 +11",
        "05 01:45 +1030",
        "05 02:45 +1030",
    ]


FIELD = st.sampled_from(["*", "0", "30", "*/15", "10-20/5"])
CRON = st.builds(
    lambda minute, hour, day, dow: f"{minute} {hour} {day} * {dow}",
    FIELD,
    st.sampled_from(["*", "2", "*/6", "1-3", "0,12"]),
    st.sampled_from(["*", "1", "L", "*/2"]),
    st.sampled_from(["*", "1-5", "SUN"]),
)
ZONE = st.sampled_from([*CHANGES, "UTC"])
MOMENT = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001


@settings(max_examples=60, deadline=None)
@given(CRON, ZONE, MOMENT, st.lists(st.integers(0, 72 * 60), max_size=4))
def test_pieces_are_the_whole(cron, zone, begin, cuts):
    """However a stretch of time is cut into pieces, the pieces have the same fires, each once, in order."""
    it = spec(cron, zone)
    edges = [begin, *(begin + timedelta(minutes=cut) for cut in sorted(cuts)), begin + timedelta(days=3)]
    whole = list(fires(it, edges[0], edges[-1]))
    assert all(a < b for a, b in pairwise(whole))
    assert all(edges[0] < fire <= edges[-1] for fire in whole)
    assert [fire for a, b in pairwise(edges) for fire in fires(it, a, b)] == whole


@settings(max_examples=40, deadline=None)
@given(CRON, ZONE, MOMENT)
def test_following_is_the_first_of_all(cron, zone, moment):
    it = spec(cron, zone)
    found = following(it, moment, 3)
    assert found == list(islice(instants(it.cron, ZoneInfo(zone), moment), 3))
    assert following(it, found[0] - timedelta(microseconds=1)) == found[:1]
    assert following(it, found[0]) == found[1:2]


def test_the_shortest_gap():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert shortest_gap(spec("0 2 * * *"), now) == timedelta(days=1)
    assert shortest_gap(spec("0,5 2 * * *"), now) == timedelta(minutes=5)


def test_a_rare_time_is_found_at_once():
    assert following(spec("0 0 * 2 MON#5"), datetime(2026, 1, 1, tzinfo=UTC)) == [
        datetime(2044, 2, 29, tzinfo=UTC)
    ]


@pytest.mark.parametrize("cron", ["*/15 * * * *", "0 * * * *", "15,45 1-3 * * *"])
@pytest.mark.parametrize(("zone", "change"), WINDOWS)
def test_pieces_are_the_whole_where_clocks_are_moved(cron, zone, change):
    edges = [change + timedelta(minutes=10 * number) for number in range(-15, 16)]
    pieces = [fire for a, b in pairwise(edges) for fire in fires(spec(cron, zone), a, b)]
    assert pieces == list(fires(spec(cron, zone), edges[0], edges[-1]))
