"""Schedules: when they fire next, and what became of the fires before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from lake.errors import InputError
from pipeline.report import words
from pipeline.ui.site import Site

__all__ = ["Line", "One", "Schedules", "change", "schedule", "schedules"]

FIRES = 50
"""Fires of a schedule that are shown."""
NEXT = 5

_TABLES = ("_schedules", "_fires")


@dataclass(frozen=True, slots=True)
class Line:
    """A schedule in a list; ``state`` is active, paused or stopped."""

    name: str
    cron: str
    timezone: str
    state: str
    config: str
    next: datetime | None
    last: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Schedules:
    """All schedules; ``pending`` while their histories are read."""

    lines: list[Line]
    pending: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class One:
    """A schedule.

    Attributes:
        line: it in a list.
        spec: its settings, credentials masked.
        next: the next fire times: in UTC, in the schedule's zone, and when each starts.
        fires: the last ones, newest first.
        total: of them.
        pending: while its history is read.
    """

    line: Line
    spec: dict[str, Any]
    next: list[dict[str, Any]]
    fires: list[dict[str, Any]]
    total: int
    pending: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


def schedules(site: Site) -> Schedules:
    """All schedules of the lake."""
    if not site.lake.table(_TABLES[0]).exists:
        return Schedules([])
    from pipeline.schedule import control

    lines, pending = [], False
    for name in control.names(site.lake):
        found = _one(site, name, most=1)
        lines.append(found.line)
        pending |= found.pending
    return Schedules(lines, pending)


def schedule(site: Site, name: str) -> One:
    """One schedule.

    Raises:
        InputError: there is none of that name.
    """
    _check(site, name)
    return _one(site, name, most=FIRES)


def change(site: Site, name: str, action: str) -> None:
    """Pause or resume a schedule.

    Raises:
        InputError: there is no such schedule or action.
        ConcurrentRunError: others change it all the time.
    """
    _check(site, name)
    from pipeline.schedule import control

    actions: dict[str, Callable[..., object]] = {"pause": control.pause, "resume": control.resume}
    if action not in actions:
        raise InputError("there is no such action", hint=f"there are {' and '.join(actions)}")
    actions[action](site.lake, name, datetime.now(UTC))


def _check(site: Site, name: str) -> None:
    if site.lake.table(_TABLES[0]).exists:
        from pipeline.schedule import control

        if name in control.names(site.lake):
            return
    raise InputError(
        "there is no such schedule", where=words.cut(name, 80), hint="choose one from the list of schedules"
    )


def _one(site: Site, name: str, most: int) -> One:
    from pipeline.schedule import control

    lake, now = site.lake, datetime.now(UTC)
    known = control.known(lake, name)
    table = lake.table(_TABLES[1])
    version = table.version if table.exists else -1
    # Read whole, as a fire may have events far apart; so in the background where there are many.
    fires = site.memory.soon(("fires", name, version), lambda: control.history(lake, name))
    coming = control.upcoming(known, now, NEXT) if known.state == "active" else []
    shown = [fire.to_dict() for fire in (fires or [])[:most]]
    spec = known.spec
    line = Line(
        spec.name,
        spec.cron,
        spec.timezone,
        known.state,
        spec.config,
        coming[0]["starts"] if coming else None,
        shown[0] if shown else None,
    )
    settings = words.masked(spec.model_dump(mode="json", exclude_defaults=True))
    return One(line, settings, coming, shown, len(fires or []), pending=fires is None)
