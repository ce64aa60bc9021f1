from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lake.errors import ConfigError, ExitCode
from pipeline.config.model import InvalidConfigError
from pipeline.schedule.spec import Schedule, duration, standard, words


@pytest.mark.parametrize(
    ("cron", "column", "says"),
    [
        ("0 0 31 2 *", 5, "never fires"),
        ("0 0 30 FEB *", 5, "never fires"),
        ("0 0 31 2,4,6,9,11 *", 5, "never fires"),
        ("61 * * * *", 1, "'61' is no minute"),
        ("0 24 * * *", 3, "'24' is no hour"),
        ("0 0 0 * *", 5, "'0' is no day-of-month"),
        ("0 0 * 13 *", 7, "'13' is no month"),
        ("0 0 * * MON#6", 9, "'MON#6' is no day-of-week"),
        ("0 2 * *", 1, "not 4 fields"),
        ("0 0 2 * * *", 1, "not 6 fields"),
        ("@fortnightly", 1, "not 1 field"),
        ("", 1, "not 0 fields"),
        ("0 5-2 * * *", 3, "'5-2' is no hour"),
        ("*/0 * * * *", 1, "'*/0' is no minute"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_column(cron, column, says):
    with pytest.raises(InvalidConfigError) as caught:
        Schedule(name="a", cron=cron)
    (problem,) = caught.value.errors
    assert (problem.line, problem.column) == (1, column)
    assert says in problem.message
    assert problem.hint
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("cron", ["0 0 29 2 *", "0 0 31 2 MON", "0 0 31 2,3 *", "0 0 * 2 MON#5", "0 0 L * *"])
def test_what_is_rare_is_not_refused(cron):
    assert standard(cron) == cron


def test_macros_and_spaces():
    assert standard("@daily") == "0 0 * * *"
    assert standard("  0   2 *  * * ") == "0 2 * * *"


def test_an_unknown_time_zone():
    for name in ("Europe/Berlni", "", "../etc/passwd"):
        with pytest.raises(ConfigError, match="there is no time zone"):
            Schedule(name="a", cron="@daily", timezone=name)


def test_no_other_field_and_no_negative_time():
    for wrong in ({"jitter": -1}, {"max_run_time": 0}, {"retries": -1}, {"catch_up": "some"}, {"tz": "UTC"}):
        with pytest.raises(ValidationError):
            Schedule(name="a", cron="@daily", **wrong)


@given(st.integers(0, 10**10), st.floats(0.001, 10**5))
def test_jitter_is_below_its_bound_and_the_same_everywhere(second, jitter):
    spec = Schedule(name="a", cron="@daily", jitter=jitter)
    fire = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second % 10**9)
    assert 0 <= spec.delay(fire) < jitter
    assert spec.delay(fire) == Schedule.model_validate_json(spec.model_dump_json()).delay(fire)


def test_jitter_spreads():
    spec = Schedule(name="a", cron="@daily", jitter=100)
    delays = [spec.delay(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)) for day in range(1000)]
    assert 45 < sum(delays) / 1000 < 55
    other = spec.model_copy(update={"name": "b"})
    assert other.delay(datetime(2026, 1, 1, tzinfo=UTC)) != delays[0]


def test_back_off_doubles_up_to_its_limit():
    spec = Schedule(name="a", cron="@daily", backoff=10, backoff_limit=60)
    assert [spec.pause_before(attempt) for attempt in (2, 3, 4, 5, 100)] == [10, 20, 40, 60, 60]


def test_overrides_take_the_time_in_the_zone_of_the_schedule():
    spec = Schedule(
        name="a",
        cron="@daily",
        timezone="Europe/Berlin",
        overrides=("source.paths=in/{fire:%Y/%m/%d}/*", "steps.1={dedup.Exact: {}}", "seed={fire:%d}"),
    )
    assert spec.overrides_at(datetime(2026, 2, 28, 23, tzinfo=UTC)) == (
        "source.paths=in/2026/03/01/*",
        "steps.1={dedup.Exact: {}}",
        "seed=01",
    )


@given(st.integers(0, 10**7))
def test_durations_come_back(seconds):
    assert duration(words(seconds)) == seconds


def test_what_is_no_duration():
    for text in ("", "5 minutes", "-5s", "1w", "h"):
        with pytest.raises(ValueError, match="is no duration"):
            duration(text)
