"""What is decided about due fires: laws, on records that are built without a lake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.schedule.book import Event, Record, Standing
from pipeline.schedule.decide import MOST_LOST, decide, next_start
from pipeline.schedule.spec import Schedule
from pipeline.schedule.times import fires

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class InMemory(Record):
    """A record whose events are not committed anywhere."""

    def __init__(self) -> None:
        super().__init__(None, "a")
        self.events: list[Event] = []

    def add(self, happened):
        for event in happened:
            self._apply(event)
            self.events.append(event)
        return True


def standing(**settings: object) -> Standing:
    return Standing(Schedule(**{"name": "a", "cron": "*/10 * * * *", **settings}), "active", START, START)


def act(it: Standing, record: InMemory, now: datetime) -> list[str]:
    """Write what is decided at a moment; what became of which fire, in minutes."""
    decision = decide(it, record, now)
    record.add(decision.events)
    return [f"{event.state} {(event.fire - START) // MINUTE}" for event in decision.events]


def end(record: InMemory, minute: int, now: datetime, state: str = "done", **more: object) -> None:
    record.add([Event(START + minute * MINUTE, state, now, attempt=1, **more)])


def test_a_fire_starts_when_it_is_due_and_not_before():
    it, record = standing(), InMemory()
    assert act(it, record, START + 9 * MINUTE) == []
    assert next_start(it, record, START + 9 * MINUTE) == START + 10 * MINUTE
    assert act(it, record, START + 10 * MINUTE) == ["claimed 10"]
    end(record, 10, START + 12 * MINUTE)
    assert act(it, record, START + 15 * MINUTE) == []


def test_late_fires():
    at = START + 35 * MINUTE
    assert act(standing(), InMemory(), at) == ["skipped 10", "skipped 20", "claimed 30"]
    assert act(standing(catch_up="all"), InMemory(), at) == ["claimed 10"]
    assert act(standing(catch_up="none"), InMemory(), at) == ["skipped 10", "skipped 20", "skipped 30"]
    assert act(standing(catch_up="all", catch_up_limit=2), InMemory(), at) == ["skipped 10", "claimed 20"]
    assert act(standing(catch_up="none"), InMemory(), at - 5 * MINUTE + MINUTE / 2) == [
        "skipped 10",
        "skipped 20",
        "claimed 30",
    ]


@pytest.mark.parametrize(
    ("overlap", "then"), [("skip", ["skipped 20", "skipped 30"]), ("wait", ["claimed 20"])]
)
def test_fires_during_a_run(overlap, then):
    it, record = standing(overlap=overlap, catch_up="all"), InMemory()
    assert act(it, record, START + 10 * MINUTE) == ["claimed 10"]
    end(record, 10, START + 34 * MINUTE)
    assert act(it, record, START + 34 * MINUTE) == then


def test_a_claim_of_a_dead_scheduler_is_taken_over_then_given_up():
    it, record = standing(), InMemory()
    now = START + 10 * MINUTE
    told = [act(it, record, now) for _ in range(MOST_LOST + 1)]
    assert told == [*[["claimed 10"]] * MOST_LOST, ["failed 10"]]
    assert record.events[-2].attempt == 1
    assert "died under it" in record.events[-1].detail


def test_a_retry_waits_and_then_is_the_next_attempt():
    it, record = standing(), InMemory()
    now = START + 10 * MINUTE
    act(it, record, now)
    end(record, 10, now, "retry", again_at=now + MINUTE)
    assert act(it, record, now + MINUTE / 2) == []
    assert next_start(it, record, now + MINUTE / 2) == now + MINUTE
    assert act(it, record, now + MINUTE) == ["claimed 10"]
    assert record.events[-1].attempt == 2


def test_a_retry_does_not_wait_for_ever_when_the_clock_is_put_back():
    it, record = standing(), InMemory()
    now = START + timedelta(days=30)
    act(it, record, now)
    fire = record.events[-1].fire
    record.add([Event(fire, "retry", now, attempt=1, again_at=now + MINUTE)])
    assert [event.state for event in decide(it, record, now - timedelta(days=20)).events] == ["claimed"]


def test_a_clock_that_goes_back_fires_nothing_again():
    it, record = standing(), InMemory()
    act(it, record, START + 30 * MINUTE)
    end(record, 30, START + 31 * MINUTE)
    for minute in range(30, 0, -1):
        assert act(it, record, START + minute * MINUTE) == []
    assert act(it, record, START + 40 * MINUTE) == ["claimed 40"]


def test_a_backfill_runs_when_nothing_is_due():
    it, record = standing(), InMemory()
    record.add([Event(START - 20 * MINUTE, "queued", START), Event(START - 10 * MINUTE, "queued", START)])
    assert act(it, record, START + 10 * MINUTE) == ["claimed 10"]
    end(record, 10, START + 11 * MINUTE)
    assert act(it, record, START + 11 * MINUTE) == ["claimed -20"]
    end(record, -20, START + 12 * MINUTE)
    assert record.decided == START + 10 * MINUTE
    assert act(it, record, START + 12 * MINUTE) == ["claimed -10"]


@pytest.mark.parametrize("catch_up", ["latest", "all"])
def test_a_fire_during_a_backfill_is_late_and_not_skipped(catch_up):
    """Somebody asked for the backfill; a day of the schedule must not be lost by it."""
    it, record = standing(overlap="skip", catch_up=catch_up), InMemory()
    record.add([Event(START - 20 * MINUTE, "queued", START), Event(START - 10 * MINUTE, "queued", START)])
    assert act(it, record, START + 5 * MINUTE) == ["claimed -20"]
    end(record, -20, START + 15 * MINUTE)
    assert act(it, record, START + 15 * MINUTE) == ["claimed 10"]
    end(record, 10, START + 16 * MINUTE)
    assert act(it, record, START + 16 * MINUTE) == ["claimed -10"]


def test_nothing_starts_while_paused():
    it = standing()
    paused = Standing(it.spec, "paused", it.since, it.at)
    assert act(paused, InMemory(), START + 50 * MINUTE) == []
    assert next_start(paused, InMemory(), START) is None


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["latest", "all", "none"]),
    st.sampled_from(["skip", "wait"]),
    st.integers(1, 4),
    st.sampled_from([0, 120, 540]),
    st.lists(st.tuples(st.integers(0, 45), st.integers(0, 60), st.booleans()), min_size=1, max_size=25),
)
def test_every_fire_is_decided_once(catch_up, overlap, limit, jitter, story):
    """Whenever the scheduler looks, however long runs take, and whether it dies under them."""
    it = standing(catch_up=catch_up, overlap=overlap, catch_up_limit=limit, jitter=jitter)
    record, now = InMemory(), START
    for pause, length, dies in story:
        now += pause * MINUTE
        decision = decide(it, record, now)
        record.add(decision.events)
        if decision.run and not dies:
            now += length * MINUTE
            record.add([Event(decision.run.time, "done", now, attempt=decision.run.attempt)])
    while (decision := decide(it, record, now)).events:
        record.add(decision.events)
        if decision.run:
            record.add([Event(decision.run.time, "done", now, attempt=1)])
    wanted = [fire for fire in fires(it.spec, START, now) if it.spec.due(fire) <= now]
    ended = [event.fire for event in record.events if event.state in {"done", "skipped", "failed"}]
    assert sorted(ended) == wanted
    started = {event.fire: event.at for event in record.events if event.state == "claimed"}
    assert all(at >= it.spec.due(fire) for fire, at in started.items())
