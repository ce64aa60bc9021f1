"""A pipeline for a scheduler that is there already: render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.verbs.common import CONFIG, common, emit_json, say, sets

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render"]

_TARGETS = ("rayjob", "cronjob", "raycronjob", "systemd", "airflow", "dagster")


@click.command(short_help="Write it for Kubernetes, systemd, Airflow or Dagster.")
@click.argument("target", type=click.Choice(_TARGETS), metavar="TARGET")
@click.argument("config", default=CONFIG, type=click.Path())
@sets
@click.option("--cron", metavar="EXPR", help='When: "0 2 * * *", or @daily and so on.')
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="Of the cron expression.")
@click.option("--jitter", default="0s", metavar="TIME", help="systemd: spread starts over it, as in 10m.")
@click.option("--retries", type=click.IntRange(0, 100), metavar="N", help="Starts after a failed one.")
@click.option(
    "--rejects",
    type=click.Choice(["fail", "skip", "pass"]),
    default="fail",
    show_default=True,
    help="What exit code 3, too many unreadable rows, is there.",
)
@click.option("--command", metavar="CMD", help="How `gristmill` is called there.")
@click.option("--address", metavar="URL", help="Submit it to this Ray cluster. Airflow, cronjob, systemd.")
@click.option("--user", metavar="NAME", help="systemd: whom it runs as. Default: who owns CONFIG.")
@click.option("--image", metavar="IMAGE", help="Kubernetes: the image, with Gristmill in it.")
@click.option("--namespace", default="default", show_default=True, metavar="NAME", help="Kubernetes.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="NAME", help="Kubernetes: a Secret whose keys are variables."
)
@click.option("--service-account", metavar="NAME", help="Kubernetes: of the pods.")
@click.option("--claim", metavar="NAME:/PATH", help="Kubernetes: a volume that all pods see at this path.")
@click.option(
    "--cpus", type=click.FloatRange(min=0.1), default=4.0, show_default=True, metavar="N", help="Of a pod."
)
@click.option("--memory", default="16GiB", show_default=True, metavar="SIZE", help="Of a pod.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=4, show_default=True, metavar="N", help="Most pods of Ray."
)
@click.option("--output", type=click.Path(), metavar="PATH", help="A folder, or the file where there is one.")
@common
def render(
    *,
    target: str,
    config: str,
    overrides: tuple[str, ...],
    jitter: str,
    memory: str,
    output: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write CONFIG as TARGET: rayjob, cronjob, raycronjob, systemd, airflow or dagster.

    Without --output the files go to stdout. Keys of the storage are never rendered, only where they are found.
    """
    from lake.errors import ConfigError
    from pipeline.config.resources import size
    from pipeline.render import render as rendered
    from pipeline.schedule.spec import duration

    try:
        sizes = {"jitter": duration(jitter), "memory": size(memory)}
    except ValueError as error:
        raise ConfigError(str(error), where="--jitter or --memory") from error
    files = rendered(config, target, overrides, **options, **sizes)
    written = {} if output is None else _write(files, Path(output))
    if as_json:
        emit_json({"target": target, "files": files, "written": list(written.values())})
    elif output is None:
        for name, text in files.items():
            click.echo(f"# {name}\n{text}" if len(files) > 1 else text, nl=False)
    for path in written.values():
        say(f"wrote {path}")


def _write(files: Mapping[str, str], output: Path) -> dict[str, str]:
    """Write the files, a single one under the name that is given unless that is a folder; their paths.

    Raises:
        ConfigError: they cannot be written.
    """
    from lake.errors import ConfigError

    single = len(files) == 1 and bool(output.suffix) and not output.is_dir()
    paths = {name: output if single else output / name for name in files}
    try:
        for name, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name], encoding="utf-8")
    except OSError as error:
        raise ConfigError("cannot be written", where=error.filename, why=error.strerror) from error
    return {name: str(path) for name, path in paths.items()}
