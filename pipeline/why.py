"""Why a row is where it is: the answer of ``gristmill why``, from the tables alone."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import MissingTableError
from lake.lake import Lake
from lake.schema import DROPS
from pipeline.forget.known import RULE, Known, digest

__all__ = ["Fate", "why"]

_ID = re.compile(r"[0-9a-f]{6,32}")
_DIGITS = 32
_SOURCE = re.compile(r"(?P<uri>.+):(?P<row>\d+)")
_SHOWN = 20  # rows that were dropped for this one: so many are listed, the rest counted


@dataclass(frozen=True)
class Fate:
    """What became of one content.

    Attributes:
        id: its ``_id``; none where the row could not be read.
        tables: rows in each table, training copies counted.
        sources: ``file:row`` of every place it was read at.
        drops: each drop, as the ledger has it (step, rule, value, threshold, twin, estimated, exact, detail).
        stands_for: rows that were dropped because this one was kept, the most similar first.
    """

    id: str | None
    tables: dict[str, int]
    sources: list[str]
    drops: list[dict[str, Any]]
    stands_for: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)

    def render(self) -> str:
        """In words, for a terminal."""
        lines = [f"row {self.id or '(unreadable, no id)'}"]
        lines += [f"  read at    {source}" for source in self.sources]
        lines += [f"  in {table:<8}{rows} row{'s' if rows != 1 else ''}" for table, rows in self.tables.items()]
        lines += [f"  dropped    {_words(drop)}" for drop in self.drops]
        if self.stands_for:
            lines.append(f"  stands for {len(self.stands_for)} dropped row(s):")
            lines += [f"    {_words(drop)} ({drop['_id']})" for drop in self.stands_for[:_SHOWN]]
            if len(self.stands_for) > _SHOWN:
                lines.append(f"    and {len(self.stands_for) - _SHOWN} more")
        return "\n".join(lines)


def why(lake: Lake, row: str) -> list[Fate]:
    """The fate of a row.

    Args:
        lake: the lake.
        row: an ``_id``, the first six or more digits of one, or ``file:row`` as in ``_source``.

    Returns:
        One fate per content that matches.

    Raises:
        MissingTableError: nothing matches.
    """
    if not _ID.fullmatch(row):
        by_place = _ids_at(lake, row)
        if by_place:
            return [fate for each in by_place for fate in why(lake, each)]
    drops = _ledger(lake, _matches(row, "_id"))
    names = [name for name in lake.tables() if not name.startswith("_")]
    ids: dict[str | None, None] = dict.fromkeys(drops.column("_id").to_pylist())
    rows = {}
    for name in names:
        columns = [column for column in ("_id", "_source") if column in lake.table(name).schema().names]
        if "_id" in columns:
            rows[name] = lake.table(name).to_table(columns=columns, filter=_matches(row, "_id"))
            ids |= dict.fromkeys(rows[name].column("_id").to_pylist())
    if not ids and (forgotten := _forgotten(lake, row)):
        return [forgotten]
    if not ids:
        raise MissingTableError(
            f"no row {row!r} in this lake",
            where=str(lake.uri),
            hint="give an _id, six or more of its first digits, or file:row as in `_source`",
        )
    return [_fate(lake, each, drops, rows) for each in ids]


def _forgotten(lake: Lake, row: str) -> Fate | None:
    """The fate of a content of which the lake knows nothing but that it was to be forgotten."""
    known = Known.of(lake) if len(row) == _DIGITS else Known({})
    if row not in known:
        return None
    made, reason = known.digests[digest(row)]
    detail = f"on {made:%Y-%m-%d}" + (f", for {reason}" if reason else "")
    nothing = dict.fromkeys(["stage", "step", *DROPS.names])
    drop = nothing | {"_id": row, "stage": "ingest", "step": "forget", "rule": RULE, "detail": detail}
    return Fate(row, {}, [], [drop], [])


def _ids_at(lake: Lake, row: str) -> list[str]:
    """The contents that were read at ``file:row``: what became of them may stand under other places."""
    ids = _ledger(lake, _matches(row, "_id")).column("_id").to_pylist()
    for name in lake.tables():
        if not name.startswith("_") and {"_id", "_source"} <= set(lake.table(name).schema().names):
            ids += lake.table(name).to_table(["_id"], filter=_matches(row, "_id")).column("_id").to_pylist()
    return sorted({each for each in ids if each is not None})


def _fate(lake: Lake, id_: str | None, drops: pa.Table, rows: dict[str, pa.Table]) -> Fate:
    mine = drops.filter(pc.is_null(pc.field("_id")) if id_ is None else pc.field("_id") == id_).to_pylist()
    tables, sources = {}, []
    for name, table in rows.items():
        found = table.filter(pc.field("_id") == pa.scalar(id_, pa.string()))
        if found.num_rows:
            tables[name] = found.num_rows
            sources += [_place(source) for source in found.column("_source").to_pylist()]
    sources += [_place(drop["_source"]) for drop in mine]
    twins = [] if id_ is None else _ledger(lake, pc.field("twin") == id_).to_pylist()
    twins = [drop for drop in twins if drop["_id"] != id_]
    twins.sort(key=lambda drop: (-(drop["exact"] or 0.0), drop["_id"]))
    return Fate(id_, tables, list(dict.fromkeys(filter(None, sources))), mine, twins)


def _matches(row: str, column: str) -> pc.Expression:
    if _ID.fullmatch(row):
        return pc.field(column) == row if len(row) == _DIGITS else pc.starts_with(pc.field(column), row)
    if place := _SOURCE.fullmatch(row):
        uri, number = pc.field("_source", "uri"), pc.field("_source", "row")
        return (uri == place["uri"]) & (number == int(place["row"]))
    return pc.field(column) == row


def _ledger(lake: Lake, condition: pc.Expression) -> pa.Table:
    table = lake.table("_drops")
    if not table.exists:
        return pa.schema([pa.field("stage", pa.string()), pa.field("step", pa.string()), *DROPS]).empty_table()
    return table.to_table(columns=["stage", "step", *DROPS.names], filter=condition)


def _place(source: dict[str, Any] | None) -> str | None:
    if source is None:
        return None
    return source["uri"] if source["row"] is None else f"{source['uri']}:{source['row']}"


def _words(drop: dict[str, Any]) -> str:
    words = [f"at {drop['stage']}, step {drop['step']}: {drop['rule']}"]
    if drop["exact"] is not None:
        words.append(f"similarity {drop['exact']:.3f}, estimated {_number(drop['estimated'])}")
    elif drop["value"] is not None:
        words.append(f"value {_number(drop['value'])}")
    if drop["threshold"] is not None:
        words.append(f"threshold {_number(drop['threshold'])}")
    if drop["twin"] is not None:
        same = "the same content is kept" if drop["twin"] == drop["_id"] else f"twin {drop['twin']}"
        words.append(same)
    if drop["detail"]:
        words.append(drop["detail"])
    return ", ".join(words)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
