"""Looking at schedules: schedule list, next, history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.verbs.common import common, emit_json, lake_options, open_lake, say

if TYPE_CHECKING:
    from datetime import datetime

    from lake import Lake

__all__ = ["history", "list_", "named", "next_"]


def named(lake: Lake, name: str | None) -> str:
    """The schedule that is meant: the only one, unless one is named."""
    from pipeline.schedule import control

    if name is not None:
        return name
    every = control.names(lake)
    if len(every) != 1:
        known = f": {', '.join(every)}" if every else " yet; `gristmill schedule start` makes one"
        raise click.UsageError(f"{'Which schedule' if every else 'There is no schedule'}{known}.")
    return every[0]


@click.command(name="list", short_help="List the schedules of a lake.")
@lake_options
@common
def list_(lake_uri: str | None, config: str | None, as_json: bool) -> None:
    """List the schedules of a lake: times, state, the last fire and the next."""
    from pipeline.schedule import book, control

    lake = open_lake(lake_uri, config)
    found = [control.describe(lake, name, book.now()) for name in control.names(lake)]
    if as_json:
        emit_json(found)
        return
    rows = [
        [
            each["schedule"],
            f"{each['cron']} {each['timezone']}",
            each["state"],
            f"{_utc(each['last']['time'])} {each['last']['state']}" if each["last"] else "-",
            _utc(each["next"]),
            str(each["queued"]),
        ]
        for each in found
    ]
    click.echo(_table(["schedule", "times", "state", "last", "next", "queued"], rows))


@click.command(name="next", short_help="Show the next fire times.")
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--count", type=click.IntRange(1, 10_000), default=5, show_default=True, metavar="N", help="How many."
)
@click.option("--cron", metavar="EXPR", help="Of this expression, without a lake.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="With --cron.")
@lake_options
@common
def next_(
    *,
    name: str | None,
    count: int,
    cron: str | None,
    timezone: str,
    lake_uri: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Show the next fire times of a schedule, in its time zone and in UTC; or try a cron expression."""
    from pipeline.schedule import book, control
    from pipeline.schedule.spec import Schedule

    now = book.now()
    if cron is not None:
        standing = book.Standing(Schedule(name="trial", cron=cron, timezone=timezone), "active", now, now)
    else:
        lake = open_lake(lake_uri, config)
        standing = control.known(lake, named(lake, name))
    coming = control.upcoming(standing, now, count)
    if as_json:
        emit_json({"state": standing.state, "fires": coming})
        return
    rows = [
        [f"{each['local']:%a %Y-%m-%d %H:%M %Z}", _utc(each["fire"]), _utc(each["starts"])] for each in coming
    ]
    click.echo(_table(["fire", "in UTC", "starts"], rows))
    if standing.state != "active":
        say(f"{standing.spec.name} is {standing.state}: none of these starts")


@click.command(short_help="Show what became of the fires.")
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="So many, the newest."
)
@lake_options
@common
def history(*, name: str | None, limit: int, lake_uri: str | None, config: str | None, as_json: bool) -> None:
    """Show the fires of a schedule and what became of each, the newest first."""
    from pipeline.schedule import control

    lake = open_lake(lake_uri, config)
    found = control.history(lake, named(lake, name), limit)
    if as_json:
        emit_json([each.to_dict() for each in found])
        return
    rows = [
        [
            _utc(each.time),
            each.state,
            str(each.attempt or "-"),
            f"{(each.ended - each.began).total_seconds():.0f} s" if each.ended and each.began else "-",
            each.run or "-",
            (each.config or "-")[:8],
            each.detail or "",
        ]
        for each in found
    ]
    click.echo(_table(["fire", "state", "attempt", "took", "run", "config", "detail"], rows))


def _utc(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Columns of equal width."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    )
    return "\n".join(line.rstrip() for line in lines)
