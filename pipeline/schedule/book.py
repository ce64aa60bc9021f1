"""The record of schedules in the lake: what was decided about each fire time, by whom, and what came of it.

``_fires`` is a list of events, partitioned by schedule. All events of a schedule are numbered, and the number
is the version of the application transaction of the commit that brings them (``schedule/<name>``). So an event
is added to exactly the record that it was decided on, or refused: catch-up, overlap and double fire are this
one check, whatever locks and clocks say.

``_schedules`` holds the schedules themselves, one row per change; the last row counts.
"""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import ConcurrentRunError, ConfigError
from lake.lake import Change, Lake
from pipeline.schedule.spec import Schedule

__all__ = ["FIRES", "SCHEDULES", "Event", "Fire", "Record", "Standing", "append", "events", "folded", "names"]
__all__ += ["put", "standing"]

FIRES_TABLE = "_fires"
SCHEDULES_TABLE = "_schedules"
_BY = ("schedule",)
_ME = uuid.uuid4().hex[:12]
_TIME = pa.timestamp("us", tz="UTC")

FIRES = pa.schema(
    [
        pa.field("schedule", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),  # of the commit; several events may share one
        pa.field("fire", _TIME, nullable=False),  # the time that the cron expression names
        pa.field(
            "state", pa.string(), nullable=False
        ),  # queued, skipped, claimed, released, retry, done, failed
        pa.field("attempt", pa.int64(), nullable=False),  # 1, 2, ...; 0 where nothing was started
        pa.field("at", _TIME, nullable=False),  # by the clock of whoever wrote it
        pa.field("host", pa.string(), nullable=False),
        pa.field("pid", pa.int64(), nullable=False),
        pa.field("by", pa.string(), nullable=False),  # tells processes apart whose host and pid are the same
        pa.field("config", pa.string()),  # digest of the configuration that the run was started with
        pa.field("text", pa.string()),  # that configuration, with the claim of the first attempt
        pa.field("run", pa.string()),  # the run's id in `_runs`
        pa.field("exit_code", pa.int64()),
        pa.field("detail", pa.string()),  # why, in words
        pa.field("again_at", _TIME),  # of retry: not before
    ]
)
"""The ``_fires`` table: one row per event of a fire."""

SCHEDULES = pa.schema(
    [
        pa.field("schedule", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),  # active, paused, stopped
        pa.field("spec", pa.string(), nullable=False),  # JSON, see spec.Schedule
        pa.field("since", _TIME, nullable=False),  # fires after this instant count
        pa.field("at", _TIME, nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("pid", pa.int64(), nullable=False),
    ]
)
"""The ``_schedules`` table: one row per change of a schedule."""

OPEN = frozenset({"queued", "claimed", "released", "retry"})
"""States of fires whose story has not ended."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a fire; a row of ``_fires``. ``seq`` is 0 until it is committed."""

    fire: datetime
    state: str
    at: datetime
    attempt: int = 0
    seq: int = 0
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    by: str = _ME
    config: str | None = None
    text: str | None = field(default=None, repr=False)
    run: str | None = None
    exit_code: int | None = None
    detail: str | None = None
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fire:
    """A fire as its events left it.

    ``began`` and ``ended`` are when its first attempt was claimed and its last one ended; ``lost`` counts
    attempts whose daemon died; ``backfill`` marks those that somebody asked for.
    """

    time: datetime
    state: str
    attempt: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    lost: int = 0
    backfill: bool = False
    host: str = ""
    pid: int = 0
    by: str = ""
    config: str | None = None
    text: str | None = field(default=None, repr=False)
    run: str | None = None
    exit_code: int | None = None
    detail: str | None = None
    again_at: datetime | None = None

    def after(self, event: Event) -> Fire:
        """What one more event makes of it."""
        taken_over = event.state == "claimed" and self.state == "claimed"
        new_story = event.state == "queued"
        return Fire(
            self.time,
            event.state,
            event.attempt,
            began=None if new_story else self.began or (event.at if event.state == "claimed" else None),
            ended=event.at if event.state in {"done", "failed"} else None,
            lost=self.lost + taken_over,
            backfill=self.backfill or new_story,
            host=event.host,
            pid=event.pid,
            by=event.by,
            config=event.config if new_story or event.config is not None else self.config,
            text=event.text if new_story or event.text is not None else self.text,
            run=event.run,
            exit_code=event.exit_code,
            detail=event.detail,
            again_at=event.again_at,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, without the configuration's text."""
        return {key: value for key, value in asdict(self).items() if key != "text"}


class Record:
    """What the events of a schedule add up to. :meth:`refresh` reads only what is new.

    ``decided`` is the last fire time about which the schedule itself decided (None: none yet): fires up to it
    are settled, or open. ``runs`` are the times in which its fires ran, as far as they matter to later ones;
    a backfill is none of them: what falls due during one is late, and not lost.
    """

    def __init__(self, lake: Lake, name: str) -> None:
        self.lake = lake
        self.name = name
        self.seq = 0
        self.decided: datetime | None = None
        self.open: dict[datetime, Fire] = {}
        self.runs: list[tuple[datetime, datetime]] = []

    def refresh(self) -> Record:
        """Read the events that were committed since the last time."""
        for event in events(self.lake, self.name, self.seq):
            self._apply(event)
        return self

    def add(self, happened: Sequence[Event]) -> bool:
        """Commit events that were decided on this record; false, and nothing is changed, if it has moved on."""
        if not append(self.lake, self.name, self.seq, happened):
            return False
        for event in happened:
            self._apply(replace(event, seq=self.seq + (event is happened[0])))
        return True

    def _apply(self, event: Event) -> None:
        before = self.open.pop(event.fire, Fire(event.fire, "new"))
        fire = before.after(event)
        if fire.state in OPEN:
            self.open[event.fire] = fire
        if not fire.backfill and (self.decided is None or event.fire > self.decided):
            self.decided = event.fire
        if fire.ended and fire.began and not fire.backfill:
            self.runs.append((fire.began, max(fire.began, fire.ended)))
            if self.decided is not None:
                self.runs = [each for each in self.runs if each[1] >= self.decided]
        self.seq = event.seq


def events(lake: Lake, name: str, beyond: int = 0) -> Iterator[Event]:
    """The events of a schedule in the order in which they happened, after the commit numbered ``beyond``."""
    table = lake.table(FIRES_TABLE)
    if not table.exists or (beyond and table.transaction_version(_app(name)) == beyond):
        return
    condition = (pc.field("schedule") == name) & (pc.field("seq") > beyond)
    rows = table.to_table(filter=condition).drop_columns(["schedule"]).to_pylist()
    rows.sort(key=lambda row: (row["seq"], row["fire"]))
    for row in rows:
        yield Event(**row)


def folded(happened: Iterable[Event]) -> dict[datetime, Fire]:
    """The fires that events add up to, by their time."""
    found: dict[datetime, Fire] = {}
    for event in happened:
        found[event.fire] = found.get(event.fire, Fire(event.fire, "new")).after(event)
    return dict(sorted(found.items()))


def append(lake: Lake, name: str, seq: int, happened: Sequence[Event]) -> bool:
    """Commit events after the commit numbered ``seq``, if that one is the last; false otherwise."""
    rows = [{"schedule": name, **_row(each), "seq": seq + 1} for each in happened]
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["fire"]), schema=FIRES)
    return _commit(lake, FIRES_TABLE, table, app=_app(name), version=seq + 1, schedule=name)


def _row(event: Event) -> dict[str, Any]:
    return {each.name: getattr(event, each.name) for each in fields(event)}


def _app(name: str) -> str:
    return f"schedule/{name}"


def _commit(lake: Lake, name: str, rows: pa.Table, *, app: str, version: int, schedule: str) -> bool:
    # Two who claim the same number write different rows, so different parts: one of them is refused.
    content = hashlib.blake2b(repr(rows.to_pylist()).encode(), digest_size=8).hexdigest()
    partition = {"schedule": schedule}
    columns = pa.schema([column for column in rows.schema if column.name not in partition])
    part = lake.write_part(
        name, f"{version:09d}-{content}", [rows.select(columns.names)], columns, partition=partition
    )
    try:
        lake.commit([Change(name, rows.schema, (part,), partition_by=_BY)], app=app, version=version)
    except ConcurrentRunError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule as the lake has it. ``state`` is active, paused or stopped."""

    spec: Schedule
    state: str
    since: datetime
    at: datetime
    seq: int = 0


def standing(lake: Lake, name: str) -> Standing | None:
    """The schedule of this name, or None."""
    return _standings(lake, name).get(name)


def known(lake: Lake, name: str) -> Standing:
    """The schedule of this name.

    Raises:
        ConfigError: there is none.
    """
    every = _standings(lake)
    if name not in every:
        from pipeline.config.strictyaml import suggest

        hint = suggest(name, list(every)) or (
            f"schedules: {', '.join(sorted(every))}" if every else "`gristmill schedule start` makes one"
        )
        raise ConfigError(f"there is no schedule {name!r}", where=str(lake.uri), hint=hint)
    return every[name]


def names(lake: Lake) -> list[str]:
    """The schedules of a lake, sorted."""
    return sorted(_standings(lake))


def put(lake: Lake, changed: Standing) -> bool:
    """Commit a change of a schedule that was read as number ``changed.seq``; false if it has moved on."""
    row = {
        "schedule": changed.spec.name,
        "seq": changed.seq + 1,
        "state": changed.state,
        "spec": changed.spec.model_dump_json(exclude_defaults=True),
        "since": changed.since,
        "at": changed.at,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    rows = pa.Table.from_pylist([row], schema=SCHEDULES)
    app = f"{_app(changed.spec.name)}/spec"
    return _commit(lake, SCHEDULES_TABLE, rows, app=app, version=changed.seq + 1, schedule=changed.spec.name)


def _standings(lake: Lake, name: str | None = None) -> dict[str, Standing]:
    table = lake.table(SCHEDULES_TABLE)
    if not table.exists:
        return {}
    condition = None if name is None else pc.field("schedule") == name
    rows = table.to_table(filter=condition).to_pylist()
    return {
        row["schedule"]: Standing(
            Schedule.model_validate_json(row["spec"]), row["state"], row["since"], row["at"], row["seq"]
        )
        for row in sorted(rows, key=lambda row: int(row["seq"]))
    }


def now() -> datetime:
    """The time of this machine's clock, in UTC."""
    return datetime.now(UTC)
