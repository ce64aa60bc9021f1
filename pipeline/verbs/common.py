"""What the verbs share: options, the lake they mean, and how things are printed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lake import Lake, Table

__all__ = [
    "CONFIG",
    "common",
    "config_argument",
    "emit_json",
    "lake_options",
    "open_lake",
    "say",
    "sets",
    "table_of",
]

CONFIG = "gristmill.yaml"
"""The configuration that is meant where none is named."""

F = TypeVar("F", bound=Callable[..., Any])


def common(function: F) -> F:
    """``--json`` and ``--verbose``, which every verb has."""
    function = click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout.")(
        function
    )
    return click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_logging,
        help="Log to stderr; twice for more. Errors come with their traceback.",
    )(function)


def config_argument(function: F) -> F:
    """The configuration file, ``gristmill.yaml`` unless given."""
    return click.argument("config", default=CONFIG, type=click.Path())(function)


def sets(function: F) -> F:
    """``--set path=value``, as often as wanted."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Change a value of the configuration: steps.1.threshold=0.7. Repeatable.",
    )(function)


def lake_options(function: F) -> F:
    """``--lake`` or ``--config``: which lake is meant."""
    function = click.option(
        "--config",
        "config",
        type=click.Path(),
        metavar="FILE",
        help=f"Take the lake of this configuration. Default: {CONFIG}, where it exists.",
    )(function)
    return click.option(
        "--lake",
        "lake_uri",
        metavar="URI",
        help="Folder or URL of the lake. Default: $GRISTMILL_LAKE, then --config.",
    )(function)


def open_lake(lake_uri: str | None, config: str | None) -> Lake:
    """The lake that the options, the environment or the working folder name.

    Raises:
        click.UsageError: nothing names one.
    """
    uri = lake_uri
    if uri is None and config is None:
        uri = os.environ.get("GRISTMILL_LAKE") or None
    if uri is None:
        if config is None and not os.path.isfile(CONFIG):  # noqa: PTH113  (pathlib is not worth its import here)
            raise click.UsageError(
                f"Which lake? Give --lake URI or --config FILE, set GRISTMILL_LAKE, or go where a {CONFIG} is."
            )
        from pipeline.config import load

        uri = load(config or CONFIG).lake
    from lake import Lake

    return Lake(uri)


def table_of(lake: Lake, name: str) -> Table:
    """A table that is there.

    Raises:
        MissingTableError: it is not; the names of the others are in the hint.
    """
    from lake.errors import MissingTableError
    from pipeline.config.strictyaml import suggest

    names = lake.tables()
    if name not in names:
        hint = suggest(name, names) or (
            f"tables: {', '.join(names)}" if names else "start `gristmill run` first"
        )
        raise MissingTableError(f"there is no table {name!r}", where=str(lake.uri), hint=hint)
    return lake.table(name)


def say(text: str) -> None:
    """A line for a person."""
    click.echo(text, err=True)


def emit_json(value: object) -> None:
    """A JSON document for a program."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=plain))


def plain(value: object) -> object:
    """JSON for what tables and reports hold beyond JSON: times in ISO 8601, bytes by their number."""
    if isinstance(value, (bytes, memoryview)):
        return {"bytes": len(value)}
    isoformat = getattr(value, "isoformat", None)
    if isoformat is not None:
        return isoformat()
    to_dict = getattr(value, "to_dict", None)
    return to_dict() if to_dict is not None else str(value)


def _logging(ctx: click.Context, _parameter: click.Parameter, value: int) -> None:
    if not ctx.resilient_parsing and value:
        import logging

        level = logging.DEBUG if value > 1 else logging.INFO
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
