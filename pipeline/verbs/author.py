"""Writing a configuration: init, check, ops, schema."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from pipeline.verbs.common import common, config_argument, emit_json, say, sets

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from pipeline.config.catalog import Entry

__all__ = ["check", "init", "ops", "schema"]


@click.command(short_help="Write a commented configuration to begin with.")
@click.argument("folder", default=".", type=click.Path(file_okay=False))
@click.option("--quickstart", is_flag=True, help="Write an example that runs, with its sample data.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@common
def init(folder: str, quickstart: bool, force: bool, as_json: bool) -> None:
    """Write a commented gristmill.yaml, and the schema.json that helps editors with it.

    With --quickstart the configuration comes with data, and `gristmill run` works at once.
    """
    import json
    from pathlib import Path

    from pipeline.config.jsonschema import json_schema

    target = Path(folder)
    home = configs()
    files: dict[str, bytes] = {}
    template = home / ("quickstart.yaml" if quickstart else "gristmill.yaml")
    files["gristmill.yaml"] = template.read_bytes()
    files["schema.json"] = (json.dumps(json_schema(), indent=2) + "\n").encode()
    if quickstart:
        files |= {f"samples/{each.name}": each.read_bytes() for each in (home / "samples").iterdir()}
    there = [name for name in files if (target / name).exists()]
    if there and not force:
        raise click.UsageError(
            f"{', '.join(there)} exists in {target}. Nothing was written; --force overwrites."
        )
    written = [_write(target / name, data) for name, data in files.items()]
    if as_json:
        emit_json({"written": written})
    else:
        say("\n".join(f"wrote {name}" for name in written))
        say(f"next: gristmill {'plan' if quickstart else 'check'} {target / 'gristmill.yaml'}")


def configs() -> Traversable:
    """The folder of example configurations: inside the package in a wheel, beside it in a checkout.

    Raises:
        InputError: the installation lacks it.
    """
    from importlib.resources import files
    from pathlib import Path

    from lake.errors import InputError

    inside = files("pipeline") / "configs"
    beside = Path(__file__).resolve().parents[2] / "configs"
    for home in (inside, beside):
        if (home / "gristmill.yaml").is_file():
            return home
    raise InputError("this installation has no example configurations", hint="install gristmill again")


def _write(path: Path, data: bytes) -> str:
    from lake.errors import InputError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise InputError("cannot be written", where=str(path), why=error.strerror) from error
    return str(path)


@click.command(short_help="Check a configuration: all errors at once.")
@config_argument
@sets
@click.option("--dump", is_flag=True, help="Print the configuration as Gristmill understands it.")
@common
def check(config: str, overrides: tuple[str, ...], dump: bool, as_json: bool) -> None:
    """Check a configuration: all errors at once, each with its line and column.

    Nothing is read but the file itself.
    """
    from pipeline import config as configuration

    loaded = configuration.load(config, overrides)
    if as_json:
        emit_json({"ok": True, "config": loaded.to_dict()})
        return
    if dump:
        click.echo(configuration.dump(loaded), nl=False)
    sources, steps = len(loaded.source), len(loaded.steps)
    say(
        f"{config}: ok: {loaded.name}, {sources} source{'s' * (sources != 1)}, "
        f"{steps} step{'s' * (steps != 1)}, into {loaded.lake}"
    )


@click.command(short_help="List the steps there are, or explain one.")
@click.argument("name", required=False)
@click.option(
    "--plugin", "plugins", multiple=True, metavar="MODULE", help="Look into this module too. Repeatable."
)
@common
def ops(name: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List the steps that a configuration can name; with NAME, all about one."""
    from lake.errors import ConfigError
    from pipeline.config import catalog

    try:
        for module in plugins:
            catalog.plugin(module)
        found = [catalog.entry(name, plugins)] if name else catalog.steps(plugins)
    except catalog.UnknownNameError as error:
        raise ConfigError(str(error), hint=error.hint or None) from error
    if as_json:
        described = [_about(each) for each in found]
        emit_json(described[0] if name else described)
    elif name:
        click.echo(_manual(found[0]))
    else:
        from pipeline.config.jsonschema import prose

        wide = max(len(each.key) for each in found)
        for each in found:
            click.echo(f"{each.key:<{wide}}  {each.kind:<7}  {prose(each.summary)}")


def _about(entry: Entry) -> dict[str, Any]:
    from pipeline.config.jsonschema import fields

    return {
        "name": entry.key,
        "kind": entry.kind,
        "summary": entry.summary,
        "augments": entry.augments,
        "fields": [each._asdict() for each in fields(entry.cls)],
    }


def _manual(entry: Entry) -> str:
    import inspect

    from pipeline.config.jsonschema import example, fields, unmarked

    kind = {"barrier": "a step that sees all rows before it acts", "op": "a step that acts row by row"}
    lines = [f"{entry.key}: {kind.get(entry.kind, f'a {entry.kind}')}", ""]
    lines += [unmarked(inspect.getdoc(entry.cls) or ""), ""]
    for each in fields(entry.cls):
        default = "required" if each.required else f"default {each.shown}"
        lines.append(f"  {each.name}: {each.type}, {default}")
        lines += [f"      {each.description}"] if each.description else []
    return "\n".join([*lines, "", "In YAML:", "", example(entry), ""]).rstrip("\n")


@click.command()
@click.option(
    "--plugin", "plugins", multiple=True, metavar="MODULE", help="Include this module's steps. Repeatable."
)
@common
def schema(plugins: tuple[str, ...], as_json: bool) -> None:  # noqa: ARG001  (the output is JSON in any case)
    """Print the JSON Schema of configurations, for editors.

    Name it in the first line of a YAML file: # yaml-language-server: $schema=./schema.json
    """
    import json

    from lake.errors import ConfigError
    from pipeline.config import catalog
    from pipeline.config.jsonschema import json_schema

    try:
        for module in plugins:
            catalog.plugin(module)
    except catalog.UnknownNameError as error:
        raise ConfigError(str(error), hint=error.hint or None) from error
    json.dump(json_schema(plugins), sys.stdout, indent=2)
    click.echo()
