"""Looking after things: doctor, completion."""

from __future__ import annotations

import os

import click

from pipeline.verbs.common import CONFIG, common, emit_json, lake_options, open_lake

__all__ = ["completion", "doctor"]


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
