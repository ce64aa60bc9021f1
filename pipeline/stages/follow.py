"""Rows follow their files: what is in no file any more leaves the lake (``on_change: follow``).

The lake knows every place of every content: the row in ``raw`` stands where it comes first in the order of the
files, and each other place is an ``exact-duplicate`` in ``_drops``. A run takes out the places of files that
are gone, and of the part of a file that is read again; then for each content the first place that is left is
the row. If that one is a drop so far, its file is read again too, since the ledger has no payloads.

So the tables depend on the files that are there, and on nothing that was.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.delta.scan import part_tables
from lake.lake import Lake, Part
from lake.ledger import DROPS_TABLE
from lake.machine import cores
from lake.schema import LEDGER, SOURCE, drops
from pipeline.matching.sieve import Ids
from pipeline.stages.context import Context
from pipeline.stages.emitted import Emitted, StepCount, by_rule, ledger_part
from pipeline.stages.ingest import (
    REPEAT,
    STAGE,
    UNOPENED,
    Job,
    Mask,
    read,
    repeats,
    rewritten,
    write_records,
)
from pipeline.stages.leaving import CHANGED, GONE, LEFT, Leaving, in_files, split_source

__all__ = ["NOTHING", "Followed", "Leaving", "Replaced", "follow", "promoted"]

STEP = "follow"
_PLACE = pa.schema([pa.field("_id", pa.string()), pa.field("_source", SOURCE)])

Still = frozenset[tuple[str, str]]

_ORDER = [("_id", "ascending"), ("source", "ascending"), ("uri", "ascending"), ("row", "ascending")]


@dataclass(frozen=True)
class Followed:
    """What is to be committed.

    Attributes:
        reads: of each job what was read, without the rows that come later than another of the same content.
        raw: of the rows' table the parts that others take the place of, and these others.
        ledger: of ``_drops`` the same.
        left: places that are no more, by rule.
        refused: files that could not be opened; what was read of them before stays.
    """

    reads: list[Emitted]
    raw: Replaced
    ledger: Replaced
    left: dict[str, int]
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Replaced:
    """Parts that go, and parts that come for them."""

    old: tuple[Part, ...] = ()
    new: tuple[Part, ...] = ()


NOTHING = Replaced()


def promoted(lake: Lake, pipeline: str, table: str, leaving: Leaving, closed: Collection[str] = ()) -> set[str]:
    """Files to be read again because a content that they repeated so far is theirs now.

    That is where its row leaves; and where it stands at a later place, as in a lake that did not follow its
    files up to now. Of files that cannot be opened (``closed``) nothing can be read: the next one has the row.
    """
    target = lake.table(table)
    repeats = [
        rows.filter(pa.array(~leaving.mask(rows.column("_source"))))
        for part in _ledger_parts(lake, pipeline)
        for rows in part_tables(lake.storage, part, LEDGER)
        for rows in [rows.filter(pc.equal(rows.column("rule"), REPEAT)).select(_PLACE.names)]
    ]
    there = pa.concat_tables([_PLACE.empty_table(), *repeats])
    if closed:
        there = there.filter(pa.array(~in_files(there.column("_source"), closed)))
    if not there.num_rows or not target.exists:
        return set()
    few = Ids(there.column("_id"))
    kept = [_PLACE.empty_table()]
    for rows in _each(lake, target.parts(), _PLACE):
        mine = rows.take(pa.array(few.find(rows.column("_id"))))
        kept.append(mine.filter(pa.array(~leaving.mask(mine.column("_source")))))
    rows = leaving.places(pa.concat_tables(kept))
    every = pa.concat_tables(
        [
            leaving.places(there).append_column("repeat", pa.repeat(True, there.num_rows)),  # noqa: FBT003
            rows.append_column("repeat", pa.repeat(False, rows.num_rows)),  # noqa: FBT003
        ]
    ).sort_by(_ORDER)
    first = every.filter(pa.array(_firsts(every)))
    return set(first.filter(pc.field("repeat")).column("uri").to_pylist()) & set(leaving.sources)


def _firsts(ordered: pa.Table) -> Mask:
    """Of rows sorted by id, those that are the first of theirs."""
    ids = ordered.column("_id").combine_chunks()
    if not len(ids):
        return np.zeros(0, np.bool_)
    same = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([[True], ~same.astype(np.bool_)])


def _each(lake: Lake, parts: Sequence[Part], schema: pa.Schema) -> Iterator[pa.Table]:
    """Some columns of parts, one table a part, in order; read on all cores."""

    def of(part: Part) -> pa.Table:
        return pa.concat_tables([schema.empty_table(), *part_tables(lake.storage, part, schema)])

    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(of, parts)


def _ledger_parts(lake: Lake, pipeline: str) -> list[Part]:
    table, mine = lake.table(DROPS_TABLE), {"pipeline": pipeline, "stage": STAGE}
    return [part for part in table.parts() if part.partition == mine] if table.exists else []


@dataclass(frozen=True)
class _Shed:
    """A part of the rows' table that loses some."""

    lake: Lake
    pipeline: str
    part: Part
    key: str
    leaving: Leaving
    still: Still  # places in files that leave, or a part of which does, that were read again just now
    lose: bytes  # one bit a row, 1 = goes
    overtaken: bytes  # of these, 1 = another place comes first


def follow(
    context: Context,
    jobs: Sequence[Job],
    leaving: Leaving,
    *,
    pipeline: str,
    table: str,
    key: str,
    limit: int | None = None,
) -> Followed:
    """Read what is to be read, and settle it against what the lake has; nothing is committed yet.

    Args:
        context: the lake, and who reads and writes.
        jobs: splits, in any order.
        leaving: which places are no more.
        pipeline: its name.
        table: the table of the rows, usually ``raw``.
        key: names what is staged.
        limit: at most so many rows of each source.
    """
    lake = context.lake
    target = lake.table(table)
    old = target.parts() if target.exists else []
    tasks, reads = read(context, pipeline, table, jobs, key, limit=limit)
    leaving = leaving.without(uri for each in reads for uri in each.refused)
    new = [_places(lake, each.rows) for each in reads]
    stay, lose = _settle(lake, old, new, leaving)
    still = frozenset(place for rows in new for place in _named(rows) if place[1] in leaving.first)
    # What is said of rows that leave depends on these, and a name tells content apart.
    of = f"{key}-{_digest(repr((sorted(leaving.gone), sorted(still))).encode())}"
    sheds = [
        _Shed(
            lake, pipeline, part, of, leaving, still, np.packbits(goes).tobytes(), np.packbits(later).tobytes()
        )
        for part, (goes, later) in zip(old, lose, strict=True)
        if goes.any()
    ]
    shed = context.gather("ingest: rows that leave", _shed, sheds, _rows_of) if sheds else []
    told = _ledger(lake, pipeline, leaving, key, still)
    left = Counter(told.counts)
    for each in shed:
        left.update(each.counts[0].drops)
    return Followed(
        rewritten(context, tasks, reads, stay),
        Replaced(tuple(each.part for each in sheds), tuple(each.rows for each in shed if each.rows)),
        Replaced(told.old, (*told.new, *(part for each in shed for part in each.drops))),
        {rule: left[rule] for rule in LEFT if left[rule]},
        leaving.refused,
    )


def _places(lake: Lake, part: Part | None) -> pa.Table:
    return _PLACE.empty_table() if part is None else next(_each(lake, [part], _PLACE))


def _named(rows: pa.Table) -> list[tuple[str, str]]:
    """Of each place the content and the file."""
    uris = split_source(rows.column("_source"))[0]
    return list(zip(rows.column("_id").to_pylist(), uris.to_pylist(), strict=True))


def _settle(
    lake: Lake, old: Sequence[Part], new: Sequence[pa.Table], leaving: Leaving
) -> tuple[list[Mask | None], list[tuple[Mask, Mask]]]:
    """Find the first place of each content.

    Returns:
        Of each new part which rows stay, None where all do; of each old part which rows go, and which of these
        because another place comes first.
    """
    fresh = pa.concat_tables([_PLACE.empty_table(), *new])
    few = Ids(fresh.column("_id"))
    masks: list[Mask] = []
    rivals, where = [_PLACE.empty_table()], [np.empty((0, 2), np.int64)]
    for number, rows in enumerate(_each(lake, old, _PLACE)):
        goes = leaving.mask(rows.column("_source"))
        masks.append(goes)
        at = few.find(rows.column("_id")) if fresh.num_rows else np.empty(0, np.int64)
        at = at[~goes[at]]
        rivals.append(rows.take(pa.array(at)))
        where.append(np.stack([np.full(len(at), number), at], axis=1))
    against = pa.concat_tables(rivals)
    every = pa.concat_tables([leaving.places(fresh), leaving.places(against)])
    every = every.append_column("at", pa.array(np.arange(every.num_rows))).sort_by(_ORDER)
    first = np.zeros(every.num_rows, np.bool_)
    first[every.column("at").to_numpy()[_firsts(every)]] = True
    later = [np.zeros(len(mask), np.bool_) for mask in masks]
    for number, at in np.concatenate(where)[~first[fresh.num_rows :]]:
        later[number][at] = True
    stay: list[Mask | None] = []
    start = 0
    for rows in new:
        mask = first[start : start + rows.num_rows]
        stay.append(None if mask.all() else mask)
        start += rows.num_rows
    return stay, [(goes | after, after) for goes, after in zip(masks, later, strict=True)]


def _rows_of(work: _Shed, _: object) -> int:
    return work.part.rows


def _shed(work: _Shed) -> Emitted:
    """Write a part again without the rows that go, and say where each of them was."""
    part, lake = work.part, work.lake
    lose, overtaken = (
        np.unpackbits(np.frombuffer(bits, np.uint8), count=part.rows).astype(bool)
        for bits in (work.lose, work.overtaken)
    )
    schema = lake.table(part.table).schema()
    name = f"{work.key}-{_digest(part.path.encode(), work.lose, work.overtaken)}"
    dropped: list[pa.Table] = []

    def rows() -> Iterator[pa.Table]:
        start = 0
        for batch in part_tables(lake.storage, part, schema):
            end = start + batch.num_rows
            later = batch.filter(pa.array(overtaken[start:end]))
            left = batch.filter(pa.array(lose[start:end] & ~overtaken[start:end]))
            dropped.extend(
                each for each in (repeats(later), _left(left, work.leaving, work.still)) if each.num_rows
            )
            yield batch.filter(pa.array(~lose[start:end]))
            start = end

    made = write_records(lake, part.table, name, rows(), schema)
    told = [each.append_column("step", pa.repeat(STEP, each.num_rows)) for each in dropped]
    count = StepCount(STEP)
    for each in dropped:
        count.add(StepCount(STEP, drops=by_rule(each)))
    return Emitted(made if made.rows else None, ledger_part(lake, work.pipeline, STAGE, name, told), [count])


def _digest(*values: bytes) -> str:
    state = hashlib.blake2b(digest_size=12)
    for value in values:
        state.update(len(value).to_bytes(8, "little") + value)
    return state.hexdigest()


def _left(rows: pa.Table, leaving: Leaving, still: Still) -> pa.Table:
    """What is said of places that are no more; nothing where the content is in the same file still."""
    said = rows.select(["_id", "_source", "label", "meta"])
    said = said.filter(pa.array([place not in still for place in _named(said)], pa.bool_()))
    rules = [GONE if uri in leaving.gone else CHANGED for _, uri in _named(said)]
    return drops(said, pa.array(rules, pa.string()))


class _Told(NamedTuple):
    """What becomes of the ledger: parts that go, parts that come, and what these say more."""

    old: tuple[Part, ...]
    new: tuple[Part, ...]
    counts: Counter[str]


def _ledger(lake: Lake, pipeline: str, leaving: Leaving, key: str, still: Still) -> _Told:
    """Write the parts of the ledger again that say something of places that are no more.

    That a file was refused is said once: a refusal of now takes the place of earlier ones.
    """
    old, new, counts = [], [], Counter[str]()
    for part in _ledger_parts(lake, pipeline):
        rows = pa.concat_tables([LEDGER.empty_table(), *part_tables(lake.storage, part, LEDGER)])
        history = pc.is_in(rows.column("rule"), value_set=pa.array(LEFT)).to_numpy()
        came_back = np.array([place in still for place in _named(rows)], np.bool_)
        stays = np.where(history, ~came_back, ~leaving.mask(rows.column("_source")))
        if leaving.refused:
            refusal = pc.equal(rows.column("rule"), UNOPENED).to_numpy()
            stays &= ~(refusal & in_files(rows.column("_source"), leaving.refused))
        if stays.all():
            continue
        repeat = pc.equal(rows.column("rule"), REPEAT).to_numpy()
        left = _left(rows.filter(pa.array(~stays & ~history & repeat)), leaving, still)
        counts.update(by_rule(left))
        told = [pa.repeat(each, left.num_rows) for each in (pipeline, STAGE, STEP)]
        whole = pa.concat_tables(
            [rows.filter(pa.array(stays)), pa.table([*told, *left.columns], schema=LEDGER)]
        )
        old.append(part)
        if whole.num_rows:
            # A name tells content apart: a run that lost its lease writes into no file of another one.
            said = repr(left.select(["_id", "rule"]).to_pylist()).encode()
            name = f"{key}-{_digest(part.path.encode(), np.packbits(stays).tobytes(), said)}"
            new.append(lake.write_part(DROPS_TABLE, name, [whole], LEDGER, partition=part.partition))
    return _Told(tuple(old), tuple(new), counts)
