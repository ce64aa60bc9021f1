from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from lake.errors import ConfigError
from lake.lake import Lake
from lake.maintenance import compact
from pipeline.schedule import book, control
from pipeline.schedule.book import Event, Record
from pipeline.schedule.spec import Schedule

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SPEC = Schedule(name="a", cron="0 0 * * *")


@pytest.fixture
def lake(tmp_path) -> Lake:
    made = Lake(tmp_path / "lake")
    control.register(made, SPEC, START)
    return made


def states(lake: Lake, name: str = "a") -> list[str]:
    return [f"{fire.time:%m-%d} {fire.state}" for fire in control.history(lake, name)[::-1]]


def test_an_event_is_refused_where_the_record_has_moved_on(lake):
    mine, theirs = Record(lake, "a"), Record(lake, "a")
    assert mine.add([Event(START, "claimed", START, attempt=1)])
    assert not theirs.add([Event(START, "claimed", START, attempt=1, pid=1)])
    assert theirs.refresh().open[START].pid == mine.open[START].pid
    assert theirs.add([Event(START, "done", START, attempt=1)])
    assert not mine.add([Event(START, "done", START, attempt=1, pid=1)])


def test_processes_with_one_name_and_one_number_are_two(lake):
    """Two containers may have the same host name, and both are process 1."""
    mine, theirs = Record(lake, "a"), Record(lake, "a")
    assert mine.add([Event(START, "claimed", START, attempt=1, by="one")])
    assert not theirs.add([Event(START, "claimed", START, attempt=1, by="other")])


def test_of_many_who_claim_one_fire_one_gets_it(lake):
    won = []

    def claim(number: int) -> None:
        if Record(lake, "a").add([Event(START, "claimed", START, attempt=1, pid=number)]):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.pid for event in book.events(lake, "a")] == won
    assert len(won) == 1


def test_a_record_that_follows_is_one_that_begins_anew_also_after_a_compaction(lake):
    mine, follower = Record(lake, "a"), Record(lake, "a")
    for day in range(6):
        fire = START + day * DAY
        assert mine.add([Event(fire, "claimed", fire, attempt=1), Event(fire - DAY / 2, "skipped", fire)])
        if day == 3:
            compact(lake, "_fires")
        follower.refresh()
        assert mine.add([Event(fire, "done", fire + DAY / 3, attempt=1)])
    afresh = Record(lake, "a").refresh()
    for each in (follower.refresh(), mine):
        assert (each.seq, each.decided, each.open, each.runs) == (
            afresh.seq,
            afresh.decided,
            afresh.open,
            afresh.runs,
        )
    assert len(control.history(lake, "a")) == 12


def test_schedules_of_one_lake_do_not_disturb_each_other(lake):
    control.register(lake, SPEC.model_copy(update={"name": "b"}), START)
    one, other = Record(lake, "a"), Record(lake, "b")
    assert one.add([Event(START, "skipped", START)])
    assert other.add([Event(START, "skipped", START)])
    assert control.names(lake) == ["a", "b"]
    assert states(lake, "b") == ["03-01 skipped"]


def test_pause_and_resume_account_for_each_fire(lake):
    assert control.pause(lake, "a", START + DAY / 2).state == "paused"
    assert control.resume(lake, "a", START + 3.5 * DAY).state == "active"
    assert states(lake) == ["03-02 skipped", "03-03 skipped", "03-04 skipped"]
    assert {fire.detail for fire in control.history(lake, "a")} == {"paused"}
    assert control.resume(lake, "a", START + 9 * DAY).state == "active"
    assert len(states(lake)) == 3


def test_other_times_begin_anew_and_leave_none_behind(lake):
    later = START + 2.5 * DAY
    control.register(lake, SPEC.model_copy(update={"cron": "0 6 * * *"}), later)
    assert states(lake) == ["03-02 skipped", "03-03 skipped"]
    assert book.standing(lake, "a").since == later
    control.register(lake, SPEC.model_copy(update={"cron": "0 6 * * *", "retries": 5}), later + DAY)
    assert book.standing(lake, "a").since == later
    assert len(states(lake)) == 2


def test_a_paused_schedule_stays_paused_and_a_stopped_one_starts(lake):
    control.pause(lake, "a", START)
    assert control.register(lake, SPEC, START).state == "paused"
    control.stop(lake, "a", START)
    assert control.register(lake, SPEC, START).state == "active"


def test_a_backfill_queues_what_has_not_run(lake):
    record = Record(lake, "a")
    record.add([Event(START + DAY, "claimed", START + DAY, attempt=1)])
    record.add([Event(START + DAY, "done", START + DAY, attempt=1)])
    record.add([Event(START + 2 * DAY, "skipped", START + 2 * DAY)])
    now = START + 3.5 * DAY
    done = control.backfill(lake, "a", START - 2 * DAY, START + 9 * DAY, now)
    assert [f"{fire:%m-%d}" for fire in done.queued] == ["02-27", "02-28", "03-01", "03-03"]
    assert [f"{fire:%m-%d}" for fire in done.left_out] == ["03-02", "03-04"]  # it ran; it is due anyway
    assert control.backfill(lake, "a", START - 2 * DAY, START + 9 * DAY, now).queued == ()
    again = control.backfill(lake, "a", START + DAY, START + DAY, now, again=True)
    assert len(again.queued) == 1


def test_wrong_ranges_names_and_jitter(lake):
    with pytest.raises(ConfigError, match="ends before it begins"):
        control.backfill(lake, "a", START, START - DAY, START)
    with pytest.raises(ConfigError, match="no schedule 'aa'") as caught:
        control.pause(lake, "aa", START)
    assert "'a'" in caught.value.hint
    with pytest.raises(ConfigError, match="jitter"):
        control.register(lake, SPEC.model_copy(update={"jitter": 86400.0}), START)


def test_dates_are_days_of_the_schedule():
    assert control.instant("2026-03-29", "Europe/Berlin") == datetime(2026, 3, 28, 23, tzinfo=UTC)
    end = control.instant("2026-03-29", "Europe/Berlin", end=True)
    assert end == datetime(2026, 3, 29, 22, tzinfo=UTC) - timedelta(microseconds=1)
    assert control.instant("2026-03-29T12:00Z", "Europe/Berlin") == datetime(2026, 3, 29, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="is no time"):
        control.instant("yesterday", "UTC")


def _with_jitter(lake: Lake) -> tuple[Schedule, datetime]:
    """A schedule with a fire whose time has come, but whose jitter has not passed; and that moment."""
    spec = Schedule(name="late", cron="0 0 * * *", jitter=DAY.total_seconds() - 1)
    control.register(lake, spec, START)
    assert spec.due(START + DAY) > START + DAY + timedelta(seconds=1)
    return spec, START + DAY + timedelta(seconds=1)


def test_a_backfill_leaves_a_fire_whose_jitter_has_not_passed_to_the_schedule(lake):
    """Both would run it."""
    _, now = _with_jitter(lake)
    done = control.backfill(lake, "late", START + DAY, START + DAY, now)
    assert (done.queued, done.left_out) == ((), (START + DAY,))


def test_a_fire_whose_jitter_has_not_passed_does_not_vanish_with_the_old_times(lake):
    spec, now = _with_jitter(lake)
    control.register(lake, spec.model_copy(update={"cron": "30 0 * * *"}), now)
    assert states(lake, "late") == ["03-02 skipped"]


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31"])
def test_a_day_at_the_end_of_the_calendar_is_no_time(text):
    with pytest.raises(ValueError, match="is no time"):
        control.instant(text, "Asia/Tokyo", end=True)
