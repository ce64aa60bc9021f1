"""Looking into a lake: show, why, history."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from pipeline.verbs.common import common, emit_json, lake_options, open_lake, plain, say, table_of

if TYPE_CHECKING:
    import pyarrow as pa

    from lake import Table

__all__ = ["history", "show", "why"]

_CELL = 48
_DETAILS = {"wal", "info"}  # of a commit, for programs only
_CONDITION = re.compile(r"\s*([\w.]+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*\Z", re.DOTALL)


@click.command()
@click.argument("table")
@lake_options
@click.option(
    "--version", type=click.IntRange(min=0), metavar="N", help="As of this version. Default: the last."
)
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Rows.")
@click.option("--columns", metavar="A,B", help="Only these columns.")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only rows with column=value; also != < <= > >=. Repeatable: all must hold.",
)
@common
def show(
    *,
    table: str,
    lake_uri: str | None,
    config: str | None,
    version: int | None,
    limit: int,
    columns: str | None,
    conditions: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show rows of a TABLE. This prints records.

    With --json every row is one line; bytes are told by their number.
    """
    lake = open_lake(lake_uri, config)
    found = table_of(lake, table)
    schema = found.schema(version) if version is not None else found.schema()
    names = [name.strip() for name in columns.split(",")] if columns else schema.names
    for name in names:
        _known(name, schema.names, table)
    rows = _first(found, names, version, _filter(conditions, schema, table), limit)
    if as_json:
        import json

        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False, default=plain))
    elif rows:
        click.echo(_grid(names, [[_cell(row[name]) for name in names] for row in rows]))
    else:
        say("no rows")


def _known(name: str, names: list[str], table: str) -> None:
    from lake.errors import ConfigError
    from pipeline.config.strictyaml import suggest

    if name not in names:
        hint = suggest(name, names) or f"columns: {', '.join(names)}"
        raise ConfigError(f"{table} has no column {name!r}", hint=hint)


def _first(
    table: Table, names: list[str], version: int | None, condition: Any, limit: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for batch in table.scan(columns=names, version=version, filter=condition):
        rows += batch.slice(0, limit - len(rows)).to_pylist()
        if len(rows) >= limit:
            break
    return rows


def _filter(conditions: tuple[str, ...], schema: pa.Schema, table: str) -> Any:
    """The conditions as one Arrow expression; values are read as the column's type."""
    import operator

    import pyarrow as pa
    import pyarrow.compute as pc

    from lake.errors import ConfigError

    signs = ("=", "!=", "<", "<=", ">", ">=")
    functions = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
    compare = dict(zip(signs, functions, strict=True))
    whole = None
    for text in conditions:
        match = _CONDITION.match(text)
        if match is None:
            raise ConfigError(f"{text!r} is not a condition", hint="write it as in --where 'label=tops'")
        name, sign, value = match.groups()
        _known(name, schema.names, table)
        kind = schema.field(name).type
        try:
            scalar = pa.scalar(value).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(f"{value!r} cannot be compared with {name}, which is {kind}") from error
        part = compare[sign](pc.field(name), scalar)
        whole = part if whole is None else whole & part
    return whole


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, dict) and set(value) == {"uri", "row"}:
        return _shorten(f"{value['uri']}:{value['row']}", head=False)
    # Control characters of a record must not reach the terminal.
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return _shorten(" ".join(text.split()))


def _shorten(text: str, *, head: bool = True) -> str:
    if len(text) <= _CELL:
        return text
    return f"{text[: _CELL - 1]}…" if head else f"…{text[1 - _CELL :]}"


def _grid(names: list[str], rows: list[list[str]]) -> str:
    wide = [max(len(name), *(len(row[at]) for row in rows)) for at, name in enumerate(names)]
    lines = [names, *rows]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, wide, strict=True)).rstrip() for line in lines
    )


@click.command(short_help="Say what became of a row.")
@click.argument("row_id", metavar="ID")
@lake_options
@common
def why(row_id: str, lake_uri: str | None, config: str | None, as_json: bool) -> None:
    """Say what became of a row: where it was read, where it is, why it went.

    ID is an _id, its first digits (six at least), or file:row.
    """
    from pipeline.why import why as fates_of

    fates = fates_of(open_lake(lake_uri, config), row_id)
    if as_json:
        emit_json([fate.to_dict() for fate in fates])
    else:
        click.echo("\n\n".join(fate.render() for fate in fates))


@click.command(short_help="List the tables, or one table's versions.")
@click.argument("table", required=False)
@lake_options
@common
def history(table: str | None, lake_uri: str | None, config: str | None, as_json: bool) -> None:
    """List the tables of a lake; with TABLE, its versions, the last one first."""
    from dataclasses import asdict

    lake = open_lake(lake_uri, config)
    if table is None:
        rows = [_summary(name, lake.table(name)) for name in lake.tables()]
    else:
        rows = [asdict(each) for each in table_of(lake, table).history()]
    if as_json:
        emit_json(rows)
    elif rows:
        names = [name for name in rows[0] if name not in _DETAILS]
        click.echo(_grid(names, [[_cell(plain_cell(row.get(name))) for name in names] for row in rows]))
    else:
        say(f"{lake.uri} has no tables yet")


def plain_cell(value: object) -> object:
    """Times in ISO 8601, mappings as ``key=value``."""
    if isinstance(value, dict):
        return " ".join(f"{key}={inner}" for key, inner in value.items())
    return plain(value) if hasattr(value, "isoformat") else value


def _summary(name: str, table: Table) -> dict[str, Any]:
    return {
        "table": name,
        "version": table.version,
        "rows": table.count(),
        "files": len(table.parts()),
        "bytes": table.size_bytes,
    }
