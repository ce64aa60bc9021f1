"""Planning, running, and what came of it: plan, run, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.verbs.common import common, config_argument, emit_json, lake_options, open_lake, say, sets
from pipeline.verbs.observe import Observed, observed

if TYPE_CHECKING:
    from lake import Lake
    from pipeline.report import Report

__all__ = ["plan", "report", "run"]

WORK = 4
"""Exit code of ``plan --detailed-exitcode`` where there is work; Terraform's 2 is a usage error here."""


@click.command()
@config_argument
@sets
@click.option(
    "--detailed-exitcode", is_flag=True, help=f"Exit with {WORK} where there is work, 0 where there is none."
)
@common
def plan(config: str, overrides: tuple[str, ...], detailed_exitcode: bool, as_json: bool) -> int:
    """Show what a run would do, and why. Changes nothing."""
    from pipeline import Pipeline

    planned = Pipeline.load(config, overrides).plan()
    if as_json:
        emit_json(planned.to_dict())
    else:
        click.echo(planned.render())
    return WORK if detailed_exitcode and planned.changes else 0


@click.command(short_help="Bring the lake up to date.")
@config_argument
@sets
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Try it on the first N rows of each source, in a lake of its own (<lake>-trial).",
)
@click.option("--local", is_flag=True, help="Run in this process. The default.")
@click.option("--address", metavar="ADDR", help="Run on Ray: auto, local, ray://HOST:10001 or HOST:6379.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Parallel workers. Default: one per core."
)
@click.option(
    "--autoscaling/--no-autoscaling",
    default=None,
    help="Whether the cluster adds nodes when more is asked for. Default: ask it.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another run of the same pipeline to end, then plan anew.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@observed
@common
def run(
    *,
    config: str,
    overrides: tuple[str, ...],
    limit: int | None,
    local: bool,
    address: str | None,
    workers: int | None,
    autoscaling: bool | None,
    wait: float,
    quiet: bool,
    observe: Observed,
    as_json: bool,
) -> int:
    """Bring the lake up to date with the files and the steps.

    A run that was interrupted goes on where it stopped when it is started again.
    """
    if local and address:
        raise click.UsageError("--local and --address exclude each other.")
    from pipeline import Pipeline, engine, progress

    pipeline = Pipeline.load(config, overrides)
    if address is None:
        runner = engine.local(workers)
    else:
        runner = engine.ray(None if address == "local" else address, workers, autoscaling=autoscaling)
    try:
        shown = progress.choose(quiet=quiet or observe.instead_of_progress, json_lines=as_json)
        with observe.observers() as observers:
            done = pipeline.run(limit, runner, shown, wait=wait, observers=observers)
    finally:
        runner.close()
    cost = observe.cost(done, runner)
    if as_json:
        emit_json(done.to_dict() | ({"cost": cost.to_dict()} if cost else {}))
    else:
        click.echo(done.summary())
        if cost:
            click.echo(cost.render())
    return int(done.exit_code)


@click.command(short_help="Show the report of a run.")
@click.argument("run_id", metavar="[RUN]", required=False)
@lake_options
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write the page (HTML) to this file."
)
@common
def report(
    *,
    run_id: str | None,
    lake_uri: str | None,
    config: str | None,
    in_browser: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Show the report of a RUN, the last one unless given."""
    lake = open_lake(lake_uri, config)
    found, page = _report_of(lake, run_id)
    if output is not None:
        _save(output, page)
        say(f"wrote {output}")
    if in_browser:
        _browse(found, page, output)
    if as_json:
        emit_json(found.to_dict())
    elif output is None and not in_browser:
        click.echo(found.summary())


def _report_of(lake: Lake, run_id: str | None) -> tuple[Report, bytes]:
    """A stored report and its page.

    Raises:
        InputError: the lake has no such run.
    """
    import difflib
    import json

    from lake.errors import InputError
    from lake.storage import open_storage
    from pipeline.report import Report
    from pipeline.report.report import FOLDER, HTML, JSON

    storage = open_storage(lake.uri)
    runs = storage.folders(FOLDER)
    if not runs:
        raise InputError(
            "no run has left a report here", where=str(lake.uri), hint="start one with `gristmill run`"
        )
    name = runs[-1] if run_id is None else run_id  # a run's name begins with its time
    if name not in runs:
        close = difflib.get_close_matches(name, runs, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the last one is {runs[-1]!r}"
        raise InputError(f"there is no report of the run {name!r}", where=str(lake.uri), hint=hint)
    try:
        record: dict[str, Any] = json.loads(storage.read(f"{FOLDER}/{name}/{JSON}"))
        page = storage.read(f"{FOLDER}/{name}/{HTML}")
    except (FileNotFoundError, ValueError) as error:
        where = storage.address(f"{FOLDER}/{name}")
        raise InputError("the report is not whole", where=where, why=str(error)) from error
    return Report(record, path=storage.address(f"{FOLDER}/{name}/{HTML}")), page


def _save(output: str, page: bytes) -> None:
    from pathlib import Path

    from lake.errors import InputError

    try:
        Path(output).write_bytes(page)
    except OSError as error:
        raise InputError("cannot be written", where=output, why=error.strerror) from error


def _browse(found: Report, page: bytes, output: str | None) -> None:
    import tempfile
    import webbrowser
    from pathlib import Path

    path = output or found.path or ""
    if "://" in path:  # an object store: the browser has no key to it
        with tempfile.NamedTemporaryFile(prefix="gristmill-", suffix=".html", delete=False) as file:
            file.write(page)
        path = file.name
    address = Path(path).absolute().as_uri()
    if not webbrowser.open(address):
        say(f"no browser could be started; the page is at {address}")
