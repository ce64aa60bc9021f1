"""Taking rows out of every table of a lake, by ``_id``, in one commit.

A part that names a forgotten id is written again without it. What the derived tables and the index make of that
is the next run's business: it finds parts that it has not seen, and decides anew about the rows that are left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.delta.scan import part_tables
from lake.lake import Change, Lake, Part
from lake.ledger import DROPS_BY, DROPS_TABLE
from lake.machine import cores
from lake.schema import LEDGER
from pipeline.forget.known import ledger_rows
from pipeline.matching.index import TABLES
from pipeline.matching.sieve import Ids
from pipeline.stages.ingest import STAGE as INGEST
from pipeline.stages.ingest import write_records
from pipeline.stages.leaving import LEFT

__all__ = ["Scrubbed", "named_in", "scrubbed"]

STEP = "forget"
NAMING = ("_id", "twin", "left", "right")
"""Columns that hold ids."""
_OWN = ("_id", "left", "right")  # where one of these is forgotten, the row goes
_BANDS, _SKETCHES, _ = TABLES

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scrubbed:
    """What is to be committed, and what it takes out.

    Attributes:
        changes: one for each table that names a forgotten id.
        rows: rows that go, by table.
        since: by table, the time of the commit that brought the oldest of the parts (milliseconds).
    """

    changes: list[Change] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)


def named_in(schema: pa.Schema) -> list[str]:
    """The columns of a table that hold ids."""
    return [name for name in NAMING if name in schema.names and pa.types.is_string(schema.field(name).type)]


def scrubbed(lake: Lake, ids: Sequence[str], owners: dict[str, str], tag: str) -> Scrubbed:
    """Stage all tables without some ids.

    Args:
        lake: the lake; nobody else may be at work in it.
        ids: what is to go.
        owners: the pipeline that fills a table with the rows of files, by table.
        tag: of the commit to come and of the ids; it is part of the names of what is staged.
    """
    few = Ids(pa.array(sorted(ids), pa.string()))
    found = Scrubbed()
    account: dict[str, list[pa.Table]] = {}
    for name in lake.tables():
        if name.startswith(_SKETCHES) or name == DROPS_TABLE:
            continue  # with the keys they belong to; last
        table = _Table(lake, name, few, tag, owners.get(name))
        table.into(found, account)
        if name.startswith(_BANDS):
            _twins(lake, table, found)
    _drops(lake, few, tag, account, found)
    return found


@dataclass
class _Table:
    """One table, and which of its rows go."""

    lake: Lake
    name: str
    few: Ids
    tag: str
    owner: str | None = None
    masks: dict[str, Mask] = field(default_factory=dict)  # of the rows that stay, by part

    def into(self, found: Scrubbed, account: dict[str, list[pa.Table]]) -> None:
        """Stage the parts again that name one of the ids."""
        current = self.lake.table(self.name).snapshot()
        columns = named_in(current.schema)
        own = [name for name in columns if name in _OWN]
        if not own:
            return
        hit = _parts_naming(self.lake, current.parts(), current.schema, columns, self.few)
        add, gone = [], 0
        for part in hit:
            made, mask, lost = self._again(part, current.schema, own, columns)
            self.masks[part.path] = mask
            gone += int((~mask).sum())
            # An index part that comes out empty stays: the next run must learn that rows have gone.
            add += [made] if made.rows or self.name.startswith(_BANDS) else []
            if self.owner is not None and lost.num_rows:
                account.setdefault(self.owner, []).append(lost)
        if hit:
            found.changes.append(
                Change(self.name, current.schema, tuple(add), tuple(hit), partition_by=current.partition_by)
            )
            found.rows[self.name] = gone
            found.since[self.name] = min(part.added for part in hit)

    def _again(
        self, part: Part, schema: pa.Schema, own: Sequence[str], columns: Sequence[str]
    ) -> tuple[Part, Mask, pa.Table]:
        """A part without the rows; gives also which stay, and for the ledger the place of those that go."""
        masks: list[Mask] = [np.empty(0, np.bool_)]
        lost: list[pa.Table] = []

        def rows() -> Iterator[pa.Table]:
            for batch in part_tables(self.lake.storage, part, _in_file(schema, part)):
                gone = _any(batch, own, self.few)
                masks.append(~gone)
                if self.owner is not None and "_source" in batch.schema.names:
                    lost.append(ledger_rows(batch.filter(pa.array(gone)).select(["_id", "_source"])))
                yield _blank(
                    batch.filter(pa.array(~gone)), [name for name in columns if name not in own], self.few
                )

        made = write_records(
            self.lake,
            self.name,
            _name(part, self.tag),
            rows(),
            _in_file(schema, part),
            partition=part.partition,
        )
        none = ledger_rows(pa.table({"_id": pa.array([], pa.string()), "_source": pa.nulls(0)}))
        return made, np.concatenate(masks), pa.concat_tables([none, *lost])


def _in_file(schema: pa.Schema, part: Part) -> pa.Schema:
    return pa.schema([column for column in schema if column.name not in part.partition])


def _name(part: Part, tag: str) -> str:
    digest = hashlib.blake2b(f"{part.table}/{part.path}".encode(), digest_size=12).hexdigest()
    return f"forget-{tag}-{digest}"


def _any(batch: pa.Table, columns: Sequence[str], few: Ids) -> Mask:
    hit = np.zeros(batch.num_rows, np.bool_)
    for name in columns:
        hit[few.find(batch.column(name))] = True
    return hit


def _blank(rows: pa.Table, columns: Sequence[str], few: Ids) -> pa.Table:
    """The rows, with nothing where a column names a forgotten row that they do not consist of."""
    for name in columns:
        hit = _any(rows, [name], few)
        if hit.any():
            column = pc.if_else(pa.array(hit), pa.scalar(None, pa.string()), rows.column(name))
            rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    return rows


def _parts_naming(
    lake: Lake, parts: Sequence[Part], schema: pa.Schema, columns: Sequence[str], few: Ids
) -> list[Part]:
    """The parts that name one of the ids; only the columns of ids are read."""
    out = pa.schema([schema.field(name) for name in columns])

    def names(part: Part) -> bool:
        return any(_any(batch, columns, few).any() for batch in part_tables(lake.storage, part, out))

    with ThreadPoolExecutor(cores()) as pool:
        hit = list(pool.map(names, parts))
    return [part for part, yes in zip(parts, hit, strict=True) if yes]


def _twins(lake: Lake, bands: _Table, found: Scrubbed) -> None:
    """The sketches that stand beside keys, row by row: those of the same rows go."""
    name = f"{_SKETCHES}{bands.name.removeprefix(_BANDS)}"
    table = lake.table(name)
    if not bands.masks or not table.exists:
        return
    current = table.snapshot()
    old = [part for part in current.parts() if part.path in bands.masks]
    add = []
    for part in old:
        mask = bands.masks[part.path]

        def rows(part: Part = part, mask: Mask = mask) -> Iterator[pa.Table]:
            start = 0
            for batch in part_tables(lake.storage, part, current.schema):
                yield batch.filter(pa.array(mask[start : start + batch.num_rows]))
                start += batch.num_rows

        add.append(
            write_records(lake, name, _name(replace(part, table=bands.name), bands.tag), rows(), current.schema)
        )
    found.changes.append(Change(name, current.schema, tuple(add), tuple(old)))
    found.rows[name] = sum(int((~bands.masks[part.path]).sum()) for part in old)


def _drops(lake: Lake, few: Ids, tag: str, account: dict[str, list[pa.Table]], found: Scrubbed) -> None:
    """The ledger: what it says of the rows goes; that a file's row was forgotten is written down.

    So the rows that were read from files still add up. Derived stages lose their row and its drop alike.
    """
    table = lake.table(DROPS_TABLE)
    parts = table.parts() if table.exists else []
    hit = _parts_naming(lake, parts, LEDGER, ["_id", "twin"], few)
    add, gone = [], 0
    for part in hit:
        kept, mine, lost = [LEDGER.empty_table()], [], 0
        for batch in part_tables(lake.storage, part, LEDGER):
            forgotten = _any(batch, ["_id"], few)
            lost += int(forgotten.sum())
            kept.append(_blank(batch.filter(pa.array(~forgotten)), ["twin"], few))
            # Of a place that is no more nothing is left to account for.
            there = batch.filter(pa.array(forgotten)).filter(~pc.field("rule").isin(LEFT))
            mine.append(ledger_rows(there.select(["_id", "_source"])))
        gone += lost
        rows = pa.concat_tables(kept)
        if part.partition["stage"] == INGEST:
            rows = pa.concat_tables([rows, _full(pa.concat_tables(mine), part.partition["pipeline"])])
        if rows.num_rows:
            add.append(lake.write_part(DROPS_TABLE, _name(part, tag), [rows], LEDGER, partition=part.partition))
    for pipeline, tables in account.items():
        rows, partition = _full(pa.concat_tables(tables), pipeline), {"pipeline": pipeline, "stage": INGEST}
        if rows.num_rows:
            name = f"forget-{tag}-rows"
            add.append(lake.write_part(DROPS_TABLE, name, [rows], LEDGER, partition=partition))
    if hit or add:
        found.changes.append(Change(DROPS_TABLE, LEDGER, tuple(add), tuple(hit), partition_by=DROPS_BY))
        found.rows[DROPS_TABLE] = gone


def _full(drops: pa.Table, pipeline: str) -> pa.Table:
    told: list[Any] = [pa.repeat(each, drops.num_rows) for each in (pipeline, INGEST, STEP)]
    return pa.table([*told, *drops.columns], schema=LEDGER)
