"""Keeping a lake small and sound: maintain run, compact, vacuum, verify."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.verbs.common import common, emit_json, lake_options, open_lake, say, table_of

if TYPE_CHECKING:
    from lake import Lake

__all__ = ["maintain"]

F = TypeVar("F", bound=Callable[..., Any])

WORK = 4
"""Exit code of ``run --dry-run --detailed-exitcode`` where there is something to do, as of ``plan``."""

_FORCE = click.option(
    "--force", is_flag=True, help="Allow less than an hour. Only while nobody reads older versions."
)


def _least(flag: str, default: float, help: str, least: int = 0) -> Callable[[F], F]:  # noqa: A002  (click's word)
    """An option that takes a number from ``least`` on: a whole one where its default is."""
    kind = click.IntRange(min=least) if isinstance(default, int) else click.FloatRange(min=least)
    return click.option(flag, type=kind, default=default, show_default=True, metavar="N", help=help)


@click.group(short_help="Compact, vacuum or verify a lake.")
def maintain() -> None:
    """Keep a lake small and sound. No row is changed by any of these."""


@maintain.command(short_help="All of it, as far as it pays.")
@lake_options
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be done.")
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help=f"With --dry-run: exit with {WORK} where there is something to do.",
)
@_least(
    "--keep-hours",
    168.0,
    "Files that a table no longer consists of, or that nobody has committed, stay so long.",
)
@_least("--log-days", 30.0, "Earlier versions stay in the history of a table so long.")
@_least("--runs-days", 365.0, "The accounts of runs stay so long; that of the last one for ever.")
@_least("--reports-days", 90.0, "Reports stay so long; that of the last run for ever.")
@_least("--trials-days", 7.0, "The lake of `run --limit` stays so long.")
@_least("--small-files", 8, "So many small neighbouring files are worth a compaction.", 2)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long for another maintenance of the lake, and (up to 30 s) for a run that is at a table.",
)
@_FORCE
@common
def run(
    *,
    lake_uri: str | None,
    config: str | None,
    dry_run: bool,
    detailed_exitcode: bool,
    keep_hours: float,
    log_days: float,
    runs_days: float,
    reports_days: float,
    trials_days: float,
    small_files: int,
    wait: float,
    force: bool,
    as_json: bool,
) -> int:
    """Bring a lake into order: compact where it pays, cut old history, delete what nobody needs.

    Safe at any time, beside runs and readers. What a run is at is left for next time. Exits with 1 where a
    table turns out to lack a file.
    """
    from lake.maintenance import Retention
    from pipeline.upkeep import maintain as tidy

    retention = Retention(
        files_hours=keep_hours,
        log_days=log_days,
        runs_days=runs_days,
        reports_days=reports_days,
        trials_days=trials_days,
        small_files=small_files,
    )
    done = tidy(open_lake(lake_uri, config), retention, dry_run=dry_run, force=force, wait=wait)
    if as_json:
        emit_json(done.to_dict())
    else:
        click.echo(done.render())
    if done.damaged:
        return 1
    return WORK if dry_run and detailed_exitcode and done.actions else 0


def _tables(lake: Lake, names: tuple[str, ...]) -> list[str]:
    """The tables that are meant: those named, which must be there, or all."""
    return [table_of(lake, name).name for name in names] or lake.tables()


@maintain.command()
@click.argument("table", nargs=-1)
@lake_options
@_least("--target-mib", 128, "File size to aim at, in MiB; files over half of it stay as they are.", 1)
@common
def compact(
    *, table: tuple[str, ...], lake_uri: str | None, config: str | None, target_mib: int, as_json: bool
) -> None:
    """Rewrite small files into larger ones; of each TABLE, or of all.

    The old files stay for readers and earlier versions until `maintain vacuum`. Of all means: but for tables
    whose files belong to files of other tables (indexes, what runs derive): merged, they would be made anew.
    """
    from dataclasses import asdict

    from lake import maintenance
    from pipeline.upkeep import worth_compacting

    lake = open_lake(lake_uri, config)
    names = _tables(lake, table) if table else worth_compacting(lake)
    done = {name: maintenance.compact(lake, name, target_mib << 20) for name in names}
    if as_json:
        emit_json({name: asdict(each) for name, each in done.items()})
    for name, each in () if as_json else done.items():
        made = f"{each.parts_before} files into {each.parts_after}, version {each.version}"
        say(f"{name}: {made if each.version is not None else 'nothing to compact'}")


@maintain.command()
@click.argument("table", nargs=-1)
@lake_options
@_least("--keep-hours", 168.0, "Files that were removed from the table more recently stay.")
@_FORCE
@common
def vacuum(
    *,
    table: tuple[str, ...],
    lake_uri: str | None,
    config: str | None,
    keep_hours: float,
    force: bool,
    as_json: bool,
) -> None:
    """Delete files that no table needs any more; of each TABLE, or of all.

    Versions of a table that are older than --keep-hours cannot be read afterwards.
    """
    from lake import maintenance

    maintenance.check_age(keep_hours, force=force)
    lake = open_lake(lake_uri, config)
    done = {name: maintenance.vacuum(lake, name, keep_hours) for name in _tables(lake, table)}
    if as_json:
        emit_json(done)
    for name, paths in () if as_json else done.items():
        say(f"{name}: {len(paths)} files deleted")


@maintain.command()
@lake_options
@common
def verify(lake_uri: str | None, config: str | None, as_json: bool) -> int:
    """Check that every file of every table is there and whole. Exits with 1 where one is not."""
    from dataclasses import asdict

    from lake import maintenance

    lake = open_lake(lake_uri, config)
    found = maintenance.verify(lake)
    if as_json:
        emit_json({"ok": not found, "findings": [asdict(each) for each in found]})
        return int(bool(found))
    for each in found:
        click.echo(f"{each.table}: {each.path}: {each.rule}: {each.detail}")
    say(f"{len(lake.tables())} tables, {len(found) or 'no'} problems")
    return int(bool(found))
