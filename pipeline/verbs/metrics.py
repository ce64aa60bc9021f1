"""What a lake has to tell Prometheus: metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pipeline.verbs.common import CONFIG, common, emit_json, lake_options, open_lake, say
from pipeline.verbs.observe import price_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.config import Config
    from pipeline.telemetry.cost import Prices
    from pipeline.telemetry.metrics import Address
    from pipeline.telemetry.samples import Sample

__all__ = ["metrics"]


@click.command(short_help="Print a lake's metrics for Prometheus.")
@lake_options
@click.option(
    "--output",
    metavar="FILE",
    help="Write to FILE.prom, for node_exporter; whole or not at all.",
)
@click.option("--serve", metavar="HOST:PORT", help="Answer scrapes here until interrupted. :PORT is loopback.")
@click.option("--waiting", is_flag=True, help="Count the files of the configuration that no run has read, too.")
@price_option
@common
def metrics(
    *,
    lake_uri: str | None,
    config: str | None,
    output: str | None,
    serve: str | None,
    waiting: bool,
    prices: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print a lake's metrics in Prometheus' text format: rows, drops by rule, times of the last commits, cost.

    No run and no daemon is needed: they are read from the lake.
    """
    if output and serve:
        raise click.UsageError("--output and --serve exclude each other.")
    from pipeline.telemetry.cost import Prices
    from pipeline.telemetry.metrics import Address, TextFile, target, write_textfile
    from pipeline.telemetry.samples import text

    where = target(output or serve or ":0")
    if not isinstance(where, TextFile if output else Address):
        raise click.UsageError("--output takes FILE.prom." if output else "--serve takes HOST:PORT.")
    ask = _asking(lake_uri, config, Prices.parse(prices), waiting=waiting)
    if isinstance(where, TextFile):
        _write(where.path, text(ask()), write_textfile)
    elif serve:
        _serve(where, ask)
    elif as_json:
        emit_json([{"name": each.name, "labels": dict(each.labels), "value": each.value} for each in ask()])
    else:
        click.echo(text(ask()), nl=False)


def _asking(
    lake_uri: str | None, config: str | None, prices: Prices, *, waiting: bool
) -> Callable[[], list[Sample]]:
    from pipeline.telemetry.standing import Standing
    from pipeline.telemetry.standing import waiting as waiting_of

    read = _config(lake_uri, config) if waiting else None
    standing = Standing(open_lake(lake_uri, config), prices=prices)
    return lambda: [*standing.samples(), *(waiting_of(read) if read is not None else ())]


def _config(lake_uri: str | None, config: str | None) -> Config:
    """The configuration whose files are meant.

    Raises:
        click.UsageError: there is none.
    """
    from pipeline.config import load

    if lake_uri is not None and config is None:
        raise click.UsageError("--waiting needs --config.")
    if config is None and not os.path.isfile(CONFIG):  # noqa: PTH113  (pathlib is not worth its import here)
        raise click.UsageError(f"--waiting needs --config, or a {CONFIG} in this folder.")
    return load(config or CONFIG)


def _write(path: str, content: bytes, write: Callable[[str, bytes], None]) -> None:
    from lake.errors import InputError

    try:
        write(path, content)
    except OSError as error:
        raise InputError("cannot be written", where=path, why=error.strerror) from error
    say(f"wrote {path}")


def _serve(where: Address, ask: Callable[[], list[Sample]]) -> None:
    """Answer scrapes until Control-C or SIGTERM."""
    import signal
    import threading

    from lake.errors import InputError
    from pipeline.telemetry.metrics import serve

    try:
        server = serve(ask, where)
    except OSError as error:
        at = f"{where.host}:{where.port}"
        raise InputError("metrics cannot be served", where=at, why=error.strerror) from error
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    say(f"metrics at http://{where.host}:{server.port}/metrics")
    done.wait()
    server.stop()
