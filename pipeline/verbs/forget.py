"""The right to be forgotten: forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.verbs.common import common, emit_json, lake_options, open_lake

if TYPE_CHECKING:
    from io import TextIOWrapper

__all__ = ["forget"]


@click.command(short_help="Take rows out for good.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@lake_options
@click.option(
    "--from",
    "listed",
    type=click.File(encoding="ascii", errors="replace"),
    metavar="FILE",
    help="A file with an _id a line; - for stdin.",
)
@click.option("--source", metavar="URI", help="All contents of this file, named as in the column _source.")
@click.option("--reason", metavar="TEXT", help="Kept in the lake: a ticket's number, say, and nobody's name.")
@click.option(
    "--purge", is_flag=True, help="Delete it from earlier versions at once, search every file, print the proof."
)
@common
def forget(
    *,
    ids: tuple[str, ...],
    lake_uri: str | None,
    config: str | None,
    listed: TextIOWrapper | None,
    source: str | None,
    reason: str | None,
    purge: bool,
    as_json: bool,
) -> int:
    """Take rows out of a lake for good, by ID: from all tables, the index, reports and scratch.

    They stay away when their file is read again. Rows that were dropped for their sake come back with the next
    `gristmill run`, and policies are learned anew. Earlier versions hold the rows until `gristmill maintain
    vacuum`, or --purge; exits with 1 where a purge finds one left.
    """
    wanted = [*ids, *(line.strip() for line in listed or () if line.strip())]
    if not wanted and source is None:
        raise click.UsageError("Nothing to forget: give an ID, --from FILE or --source URI.")
    from pipeline.forget.forget import forget as forget_rows

    done = forget_rows(open_lake(lake_uri, config), wanted, source, reason, purge=purge)
    if as_json:
        emit_json(done.to_dict())
    else:
        click.echo(done.render())
    return int(done.proof is not None and not done.proof.clean)
