"""Cron for others: the same instants, by systemd's own reckoning, or a refusal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from pipeline.render.timing import Fields, calendars, portable
from pipeline.schedule.times import instants

BASE = datetime(2026, 1, 7, 11, 13, tzinfo=UTC)
systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")

EXACT = [
    "0 2 * * *",
    "*/15 * * * *",
    "7-59/13 1,5-8 * * *",
    "30 2 1,15 * MON",  # either
    "30 2 */2 * MON",  # both: day of month begins with a star
    "0 0 L * *",
    "0 0 L * FRI",  # either
    "0 0 15,L 2,6 *",
    "0 12 * JAN-MAR SUN,7",
    "59 23 31 * *",
    "0 0 29 2 *",
    "5 4 * * 1-5",
    "0 0 1-31 * 1",  # either, and one always fits
    "0 0 1-31/2 */3 0-6",
]


def elapses(expressions: list[str], count: int) -> list[datetime]:
    """When systemd says that a timer with these lines elapses."""
    found: set[datetime] = set()
    for each in expressions:
        done = subprocess.run(
            [
                "systemd-analyze",
                "calendar",
                f"--base-time={BASE:%Y-%m-%d %H:%M:%S} UTC",
                f"--iterations={count}",
                each,
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TZ": "UTC"},
        )
        times = re.findall(r"(?:Next elapse|Iter(?:ation|\.) #\d+): \w+ ([\d-]+ [\d:]+) UTC", done.stdout)
        found |= {datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times}
    return sorted(found)[:count]


@systemd
@pytest.mark.parametrize("cron", EXACT)
def test_systemd_elapses_when_cron_fires(cron: str) -> None:
    ours = list(islice(instants(cron, ZoneInfo("UTC"), BASE), 40))
    assert elapses(calendars(cron, "UTC"), 40) == ours


@systemd
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_systemd_elapses_when_cron_fires_across_daylight_saving(zone: str) -> None:
    ours = list(islice(instants("30 6 * * *", ZoneInfo(zone), BASE), 365))
    assert elapses(calendars("30 6 * * *", zone), 365) == ours


def values(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    step = st.tuples(st.one_of(st.just("*"), span), st.integers(1, 9)).map(lambda two: f"{two[0]}/{two[1]}")
    return st.one_of(
        st.just("*"), st.lists(st.one_of(number.map(str), span, step), min_size=1, max_size=3).map(",".join)
    )


CRONS = st.tuples(values(0, 59), values(0, 23), values(1, 28), values(1, 12), values(0, 7)).map(" ".join)


@given(CRONS)
@settings(max_examples=150, deadline=None)
def test_what_is_portable_names_the_same_times_in_plain_words(cron: str) -> None:
    try:
        written = portable(cron, "another")
    except ConfigError:
        read = Fields.of(cron)
        assert read.both
        assert not read.every_day
        assert not read.every_weekday
        return
    # What all readers agree on: no letters, no 7, a star in the two fields of days means all of them.
    assert re.fullmatch(r"[\d*,/-]+( [\d*,/-]+){4}", written)
    assert "/" not in "".join(written.split()[2:])
    assert "7" not in written.split()[4]
    zone = ZoneInfo("UTC")
    assert list(islice(instants(written, zone, BASE), 25)) == list(islice(instants(cron, zone, BASE), 25))


@systemd
@given(CRONS)
@settings(max_examples=12, deadline=None)
def test_any_cron_is_the_same_to_systemd(cron: str) -> None:
    ours = list(islice(instants(cron, ZoneInfo("UTC"), BASE), 12))
    assert elapses(calendars(cron, "UTC"), 12) == ours


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("0 0 L * *", "last day"),
        ("0 0 */2 * MON", "takes either"),
        ("0 0 * * 5#2", "no word"),
        ("0 0 LW * *", "no word"),
    ],
)
def test_what_others_would_take_otherwise_is_refused_with_the_reason(cron: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        portable(cron, "Kubernetes")
    assert why in str(caught.value)
    assert cron in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("cron", ["0 0 LW * *", "0 0 * * 5#2", "0 0 * * 5L"])
def test_systemd_refuses_what_it_has_no_word_for(cron: str) -> None:
    with pytest.raises(ConfigError, match="cannot be rendered"):
        calendars(cron, "UTC")
