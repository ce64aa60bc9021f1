"""Looking into deduplication: how good it is on one's own data, what a higher threshold would do, families."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from pipeline.verbs.common import common, config_argument, emit_json, say, sets

if TYPE_CHECKING:
    import pyarrow as pa

    from lake import Lake
    from pipeline.config import Config
    from pipeline.matching.places import Place
    from pipeline.report.audits import Made

__all__ = ["dedup"]

BACK, DROPS = "kept-again.parquet", "drops.parquet"
ROWS = 20
"""Families are shown by so many rows."""


def _step(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--step",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"The N-th step of the configuration. {default}",
    )


@click.group(short_help="Measure deduplication on your own data; try thresholds; list families.")
def dedup() -> None:
    """Measure deduplication on your own data, try thresholds, list families. Changes no rows in the lake."""


@dedup.command(short_help="Measure recall and precision on a sample.")
@config_argument
@sets
@_step("Default: every one that deduplicates.")
@click.option(
    "--rows",
    type=click.IntRange(min=2),
    default=2000,
    show_default=True,
    metavar="N",
    help="Rows of the sample. Time grows with the square.",
)
@click.option(
    "--html", "page", type=click.Path(dir_okay=False), metavar="PATH", help="Write a page with plots too."
)
@common
def audit(
    *, config: str, overrides: tuple[str, ...], step: int | None, rows: int, page: str | None, as_json: bool
) -> None:
    """Measure recall and precision on a sample of the lake, against brute force.

    The lake must have been filled by `gristmill run`; the steps themselves are taken from CONFIG, so that
    other settings can be tried with --set. What was measured is kept in the lake; the report of the last run
    shows it, if the settings are those of the run.
    """
    from pipeline.config import load
    from pipeline.matching.measure import measured
    from pipeline.matching.places import places

    loaded = load(config, overrides)
    lake = _lake(loaded)
    made = [measured(lake, place, rows, say) for place in places(loaded, step)]
    found = [(each.step, each.audit) for each in made]
    _keep(lake, loaded.name, made)
    if page is not None:
        from pipeline.report.audit import build

        _write(page, build(found, loaded.name, str(lake.uri)))
        say(f"wrote {page}")
    if as_json:
        told = [{"label": label, **each.to_dict()} for label, each in found]
        emit_json({"pipeline": loaded.name, "lake": str(lake.uri), "audits": told})
    else:
        click.echo("\n\n".join(f"step {label}\n{each.render()}" for label, each in found))


@dedup.command(short_help="Say what a higher threshold would do.")
@config_argument
@sets
@_step("Needed where several deduplicate.")
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, max=1, min_open=True),
    required=True,
    metavar="T",
    help="The threshold to try; not below that of the step.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help=f"Write {BACK} and {DROPS} into this folder.",
)
@common
def rethreshold(
    *,
    config: str,
    overrides: tuple[str, ...],
    step: int | None,
    threshold: float,
    output: str | None,
    as_json: bool,
) -> None:
    """Say what a higher threshold would keep and drop, from the pairs that the last run verified.

    Nothing is hashed or compared again, and nothing is changed: to keep it, write it into the configuration.
    """
    from pipeline.config import load
    from pipeline.matching.rethreshold import retried

    loaded = load(config, overrides)
    lake = _lake(loaded)
    told, back, drops = retried(loaded, lake, _place(loaded, step), threshold)
    if output is not None:
        _write_tables(output, {BACK: back, DROPS: drops})
        say(f"wrote {BACK} and {DROPS} into {output}")
    if as_json:
        emit_json(told)
    else:
        click.echo(_render(told))


@dedup.command(short_help="List the families of similar rows.")
@config_argument
@sets
@_step("Needed where several deduplicate.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"So many rows. Default: {ROWS}; with --json or --output all.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write them into this Parquet file."
)
@common
def clusters(
    *,
    config: str,
    overrides: tuple[str, ...],
    step: int | None,
    limit: int | None,
    output: str | None,
    as_json: bool,
) -> None:
    """List the families of rows that verified pairs connect, from the pairs that the last run stored.

    A row stays or has a twin that does; a family may have several that stay. With --json every row is one line.
    """
    import json

    from pipeline import __version__
    from pipeline.config import load
    from pipeline.matching.families import stored_clusters

    loaded = load(config, overrides)
    place = _place(loaded, step)
    most = limit if limit or as_json or output else ROWS
    tables = _first(stored_clusters(_lake(loaded), place.stage, place.at, __version__), most)
    if output is not None:
        _write_rows(output, tables)
        say(f"wrote {output}")
        return
    empty = True
    for table in tables:
        for row in table.to_pylist():
            if empty and not as_json:
                click.echo(f"{'family':<32}  {'_id':<32}  state    {'twin':<32}  exact")
            click.echo(json.dumps(row) if as_json else _line(row))
            empty = False
    if empty:
        say("no families")


def _lake(config: Config) -> Lake:
    from lake import Lake

    return Lake(config.lake)


def _place(config: Config, number: int | None) -> Place:
    """The one match that is meant."""
    from pipeline.matching.places import places

    found = places(config, number)
    if len(found) > 1:
        numbers = ", ".join(place.label for place in found)
        raise click.UsageError(f"Which step? Give --step N, for one of: {numbers}.")
    return found[0]


# ------------------------------------------------------------------------------------------------ audit


def _keep(lake: Lake, pipeline: str, made: list[Made]) -> None:
    """Store audits, and show them in the last report; a lake that may only be read is measured all the same."""
    from lake.errors import ConcurrentRunError, StorageError
    from pipeline import __version__
    from pipeline.report.audits import keep
    from pipeline.report.report import refresh

    try:
        keep(lake, pipeline, made, __version__)
        if (page := refresh(lake, pipeline)) is not None:
            say(f"the report shows it: {page}")
    except (StorageError, ConcurrentRunError) as error:
        say(f"not kept in the lake: {error.what}")


def _render(told: dict[str, Any]) -> str:
    now, then = told["now"], told["then"]
    lines = [f"step {told['step']}, {told['rows']:,} rows", f"{'':<12}{'now':>14}{'then':>14}"]
    lines.append(f"{'threshold':<12}{now['threshold']:>14g}{then['threshold']:>14g}")
    lines += [f"{name:<12}{now[name]:>14,}{then[name]:>14,}" for name in ("pairs", "kept", "dropped")]
    lines.append(f"{told['back']:,} rows come back; {told['newly_dropped']:,} go that stay now")
    if told["newly_dropped"]:
        lines.append("(they resemble rows that come back)")
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------- families


def _first(tables: Iterator[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    """No more rows than ``limit``."""
    for table in tables:
        yield table if limit is None else table.slice(0, limit)
        if limit is not None:
            limit -= table.num_rows
            if limit <= 0:
                return


def _line(row: dict[str, Any]) -> str:
    state = "kept" if row["kept"] else f"dropped  {row['twin']}  {row['exact']:.3f}"
    return f"{row['family']}  {row['_id']}  {state}"


# -------------------------------------------------------------------------------------------------- files


def _write(path: str, text: str) -> None:
    from pathlib import Path

    from lake.errors import InputError

    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError("cannot be written", where=path, why=error.strerror) from error


def _write_rows(path: str, tables: Iterator[pa.Table]) -> None:
    import pyarrow.parquet as pq

    from dedup.result import CLUSTERS
    from lake.errors import InputError

    try:
        with pq.ParquetWriter(path, CLUSTERS) as writer:
            for table in tables:
                writer.write_table(table)
    except OSError as error:
        raise InputError("cannot be written", where=path, why=error.strerror) from error


def _write_tables(folder: str, tables: dict[str, pa.Table]) -> None:
    from pathlib import Path

    import pyarrow.parquet as pq

    from lake.errors import InputError

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            pq.write_table(table, Path(folder) / name)
    except OSError as error:
        raise InputError("cannot be written", where=folder, why=error.strerror) from error
