"""Looking at augmentation before it is run: preview."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pipeline.verbs.common import common, config_argument, emit_json, say, sets

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.preview import Looked

__all__ = ["preview"]

PAGE = "preview.html"
"""Where the page goes unless told."""


@click.command(short_help="Show what augmentation does to rows.")
@config_argument
@sets
@click.option(
    "--id",
    "ids",
    multiple=True,
    metavar="ID",
    help="A row: its _id, six or more of its first digits, or file:row. Repeatable.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1, max=200),
    default=4,
    show_default=True,
    metavar="N",
    help="Without --id so many rows, of different classes.",
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=(1 << 64) - 1), metavar="S", help="Default: that of the step."
)
@click.option(
    "--epochs",
    type=click.IntRange(min=0, max=64),
    default=8,
    show_default=True,
    metavar="N",
    help="Samples of each row.",
)
@click.option("--op", "ops", multiple=True, metavar="NAME", help="Show the levels of this op only. Repeatable.")
@click.option(
    "--output",
    type=click.Path(),
    default=PAGE,
    show_default=True,
    metavar="PATH",
    help="Write a page (FILE.html), one picture (FILE.png), or both for every row (a folder).",
)
@common
def preview(
    *,
    config: str,
    overrides: tuple[str, ...],
    ids: tuple[str, ...],
    count: int,
    seed: int | None,
    epochs: int,
    ops: tuple[str, ...],
    output: str,
    as_json: bool,
) -> None:
    """Show what the augment step of CONFIG does to rows: its samples, and each op at a few levels.

    Rows are those that reach the step, as the lake has them; before the first run they are read from the
    sources. The page that is written shows contents of records. The lake is not changed.
    """
    from pathlib import Path

    from pipeline.config import load
    from pipeline.preview import look

    looked = look(load(config, overrides), ids=ids, count=count, seed=seed, epochs=epochs, ops=ops or None)
    written = _written(looked, Path(output))
    if as_json:
        emit_json({**looked.to_dict(), "written": [str(path) for path in written]})
    else:
        click.echo(looked.render(colour=sys.stdout.isatty() and not _plain()))
        say("\n".join(f"wrote {path}" for path in written))


def _plain() -> bool:
    import os

    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _written(looked: Looked, target: Path) -> list[Path]:
    """Write what the ending asks for.

    Raises:
        ConfigError: there is no picture of texts.
        InputError: it cannot be written.
    """
    from lake.errors import ConfigError, InputError
    from pipeline.preview.page import page, pictures

    ending = target.suffix.lower()
    files: dict[Path, bytes] = {}
    if ending == ".png":
        sheet = pictures(looked)
        if not sheet:
            raise ConfigError(
                "there is no picture of texts", hint=f"--output {target.with_suffix('.html').name}"
            )
        files[target] = sheet[""]
    elif ending in {".html", ".htm"}:
        files[target] = page(looked).encode()
    else:
        files[target / PAGE] = page(looked).encode()
        files |= {target / f"{name}.png": data for name, data in pictures(looked).items() if name}
    try:
        for path, data in files.items():
            if path.parent == target:
                path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    except OSError as error:
        raise InputError("cannot be written", where=str(target), why=error.strerror) from error
    return list(files)
