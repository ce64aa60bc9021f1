"""Looking after things: maintain, doctor, completion."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pipeline.verbs.common import CONFIG, common, emit_json, lake_options, open_lake, say, table_of

if TYPE_CHECKING:
    from lake import Lake

__all__ = ["completion", "doctor", "maintain"]


@click.group(short_help="Compact, vacuum or verify a lake.")
def maintain() -> None:
    """Keep a lake small and sound. No row is changed by any of these."""


def _tables(lake: Lake, names: tuple[str, ...]) -> list[str]:
    """The tables that are meant: those named, which must be there, or all."""
    return [table_of(lake, name).name for name in names] or lake.tables()


@maintain.command()
@click.argument("table", nargs=-1)
@lake_options
@click.option(
    "--target-mib",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    metavar="N",
    help="File size to aim at, in MiB; files over half of it stay as they are.",
)
@common
def compact(
    *, table: tuple[str, ...], lake_uri: str | None, config: str | None, target_mib: int, as_json: bool
) -> None:
    """Rewrite small files into larger ones; of each TABLE, or of all.

    The old files stay for readers and earlier versions until `maintain vacuum`.
    """
    from dataclasses import asdict

    from lake import maintenance
    from pipeline.matching.index import FOLLOWING

    lake = open_lake(lake_uri, config)
    # A part of these belongs to a part of the table that they follow: merged, it would be made anew.
    names = [name for name in _tables(lake, table) if table or not name.startswith(FOLLOWING)]
    done = {name: maintenance.compact(lake, name, target_mib << 20) for name in names}
    if as_json:
        emit_json({name: asdict(each) for name, each in done.items()})
    for name, each in () if as_json else done.items():
        made = f"{each.parts_before} files into {each.parts_after}, version {each.version}"
        say(f"{name}: {made if each.version is not None else 'nothing to compact'}")


@maintain.command()
@click.argument("table", nargs=-1)
@lake_options
@click.option(
    "--keep-hours",
    type=click.FloatRange(min=0),
    default=168.0,
    show_default=True,
    metavar="N",
    help="Files that were removed from the table more recently stay.",
)
@common
def vacuum(
    *, table: tuple[str, ...], lake_uri: str | None, config: str | None, keep_hours: float, as_json: bool
) -> None:
    """Delete files that no table needs any more; of each TABLE, or of all.

    Versions of a table that are older than --keep-hours cannot be read afterwards.
    """
    from lake import maintenance

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


@click.command(short_help="Check the installation and the machine.")
@lake_options
@click.option("--ray", is_flag=True, help="Try Ray too: takes seconds.")
@click.option("--address", metavar="ADDR", help="Try the Ray cluster at this address.")
@common
def doctor(lake_uri: str | None, config: str | None, ray: bool, address: str | None, as_json: bool) -> int:
    """Check the installation, the machine, and a lake if one is named. Exits with 1 where something fails."""
    from pipeline.doctor import checks

    if lake_uri is not None or config is not None or os.environ.get("GRISTMILL_LAKE") or _configured():
        uri: str | None = lake_uri or str(open_lake(lake_uri, config).uri)
    else:
        uri = None
    found = checks(uri, ray=ray, address=address)
    failed = any(each.status == "fail" for each in found)
    if as_json:
        emit_json({"ok": not failed, "checks": [each.to_dict() for each in found]})
        return int(failed)
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for each in found:
        text = str(each)
        click.echo(click.style(text[:4], fg=colours[each.status]) + text[4:])
    return int(failed)


def _configured() -> bool:
    return os.path.isfile(CONFIG)  # noqa: PTH113  (pathlib is not worth its import here)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
def completion(shell: str, as_json: bool) -> None:
    r"""Print the completion script of a shell.

    \b
    bash  eval "$(gristmill completion bash)"     in ~/.bashrc
    zsh   eval "$(gristmill completion zsh)"      in ~/.zshrc
    fish  gristmill completion fish > ~/.config/fish/completions/gristmill.fish
    """
    from click.shell_completion import get_completion_class

    from pipeline.cli import cli

    cls = get_completion_class(shell)
    if cls is None:
        raise click.UsageError(f"No completion for {shell}.")
    script = cls(cli, {}, "gristmill", "_GRISTMILL_COMPLETE").source()
    if as_json:
        emit_json({"shell": shell, "script": script})
    else:
        click.echo(script)
