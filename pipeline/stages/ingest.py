"""Ingest: new and grown files become parts of ``raw``, each content once.

Three passes, all of them free to be repeated:

1. *read* (parallel): one split becomes one part; a content that comes twice in it is kept once.
2. *settle* (driver, ids only, about 100 bytes a new row): walking the parts in the order of the files, the
   first row of each ``_id`` stays, and rows that the lake already has go.
3. *rewrite* (parallel): parts that lost rows are written again without them; the rest stay as read.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.delta.scan import part_tables
from lake.files import Files, Split
from lake.ids import IdSet
from lake.lake import Lake, Part, Table
from lake.machine import cores
from lake.schema import RECORD, drops, no_drops
from pipeline.forget.known import TABLE as FORGOTTEN
from pipeline.forget.known import Known, ledger_rows
from pipeline.matching.sieve import Ids
from pipeline.stages.context import Context
from pipeline.stages.emitted import Emitted, StepCount, by_rule, ledger_part

__all__ = ["REPEAT", "STAGE", "UNOPENED", "Job", "ingest", "read", "repeats", "rewritten", "write_records"]

STAGE = "ingest"

REPEAT = "exact-duplicate"
"""The rule of a row whose content is kept elsewhere."""

UNOPENED = "unreadable-file"
"""The rule of a file that is there and cannot be opened."""

Mask = npt.NDArray[np.bool_]

_IDS = pa.schema([RECORD.field("_id")])
_RECORD_BYTES = 1 << 20  # of a row group: what is read for the sake of one record
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Job:
    """A split to read, by one of the pipeline's sources."""

    label: str
    source: Files
    split: Split


@dataclass(frozen=True)
class _Task:
    lake: Lake
    pipeline: str
    table: str
    key: str  # holds the version of the commit to come: no committed file is written again
    job: Job
    limit: int | None = None
    forgets: bool = (
        False  # whether the lake has forgotten anything: each task looks what, where there is a need
    )


def ingest(
    context: Context, pipeline: str, table: str, jobs: Sequence[Job], key: str, *, limit: int | None = None
) -> list[Emitted]:
    """Stage the parts of all jobs; nothing is committed yet.

    Args:
        context: the lake where the parts are staged, and who reads.
        pipeline: its name.
        table: the table for the rows, usually ``raw``.
        jobs: splits in the order in which a first occurrence is decided.
        key: names what is staged, together with the split it comes from.
        limit: at most so many rows of each source.
    """
    tasks, reads = read(context, pipeline, table, jobs, key, limit=limit)
    return rewritten(context, tasks, reads, _settle(context.lake, table, reads))


def read(
    context: Context, pipeline: str, table: str, jobs: Sequence[Job], key: str, *, limit: int | None = None
) -> tuple[list[_Task], list[Emitted]]:
    """The first pass: the tasks, and the part of each; arguments as of :func:`ingest`."""
    forgets = context.lake.table(FORGOTTEN).exists
    tasks = [_Task(context.lake, pipeline, table, key, job, limit, forgets) for job in jobs]
    if limit is not None:
        return _read_some(tasks, limit)
    return tasks, context.gather("ingest: read", _read, tasks, _rows) if tasks else []


def rewritten(
    context: Context, tasks: Sequence[_Task], reads: Sequence[Emitted], masks: Sequence[Mask | None]
) -> list[Emitted]:
    """The parts, those that have a mask without the rows that it leaves out: they are repeats."""
    done = list(reads)
    again = {index: mask for index, mask in enumerate(masks) if mask is not None}
    work = [_Rewrite(tasks[index], reads[index], np.packbits(mask).tobytes()) for index, mask in again.items()]
    if work:
        for index, made in zip(again, context.gather("ingest: repeats", _rewrite, work, _rows), strict=True):
            done[index] = made
    return done


def _rows(_: object, read: Emitted) -> int:
    return read.counts[0].rows_in


def _read_some(tasks: list[_Task], limit: int) -> tuple[list[_Task], list[Emitted]]:
    """Read splits one by one until each source has given `limit` rows; gives those that were read."""
    left: dict[str, int] = {}
    done, reads = [], []
    for task in tasks:
        rows = left.get(task.job.label, limit)
        if rows > 0:
            read = _read(replace(task, limit=rows))
            left[task.job.label] = rows - read.counts[0].rows_in
            done.append(task)
            reads.append(read)
    return done, reads


def _read(task: _Task) -> Emitted:
    """Read one split, and stage its rows and drops."""
    scratch = task.lake.scratch(task.key)
    name = f"{task.key}-{task.job.split.key}"
    marker = f"read-{name}.json"
    if task.limit is None and scratch.exists(marker):
        known = Emitted.from_bytes(scratch.read_bytes(marker))
        if known.whole(task.lake):
            return known
    count = StepCount(task.job.label)
    dropped: list[pa.Table] = []
    rows = _write(task, name, _records(task, count, dropped))
    drop_parts = ledger_part(task.lake, task.pipeline, STAGE, name, dropped)
    refused = tuple(place["uri"] for each in dropped for place in _unopened(each))
    read = Emitted(rows if rows.rows else None, drop_parts, [count], refused)
    if task.limit is None and not refused:  # a file that could not be opened may be open to the next try
        scratch.write_bytes(marker, read.to_bytes())
    return read


def _write(task: _Task, name: str, records: Iterator[pa.Table]) -> Part:
    return write_records(task.lake, task.table, name, records, task.job.source.schema())


def write_records(
    lake: Lake,
    table: str,
    name: str,
    records: Iterator[pa.Table],
    schema: pa.Schema,
    *,
    partition: Mapping[str, str] = _NOTHING,
) -> Part:
    """Stage records: every later run looks through their ids, and a report reads a few of them."""
    return lake.write_part(
        table, name, records, schema, partition=partition, record_bytes=_RECORD_BYTES, plain={"_id"}
    )


def _records(task: _Task, count: StepCount, dropped: list[pa.Table]) -> Iterator[pa.Table]:
    """The first rows of each content in a split; the count and the drops are filled in passing."""
    started = time.perf_counter()
    seen, forgotten = IdSet(), Known.of(task.lake) if task.forgets else Known({})
    left = task.limit
    for outcome in task.job.source.read(task.job.split):
        rows, unreadable = outcome.table, outcome.drops
        if left is not None:
            rows = rows.slice(0, left)
            unreadable = unreadable.slice(0, left - rows.num_rows)
            left -= rows.num_rows + unreadable.num_rows
        rows, again = _without(forgotten, rows)
        first = seen.add(rows.column("_id"))
        kept, gone = _split_by(rows, first)
        for each in (unreadable, gone, again):
            if each.num_rows:
                dropped.append(each.append_column("step", pa.repeat(task.job.label, each.num_rows)))
            count.add(StepCount(count.step, rows_in=each.num_rows, drops=by_rule(each)))
        count.add(StepCount(count.step, rows_in=kept.num_rows, rows_kept=kept.num_rows))
        yield kept
        if left is not None and left <= 0:
            break
    count.seconds += time.perf_counter() - started


def _without(forgotten: Known, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows that nobody asked to forget, and the drops of the others: a place and a digest, no more."""
    if not forgotten:
        return rows, no_drops()
    gone = pa.array(forgotten.mask(rows.column("_id")))
    return rows.filter(pc.invert(gone)), ledger_rows(rows.filter(gone).select(["_id", "_source"]))


def _unopened(drops: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = drops.filter(pc.field("rule") == UNOPENED)["_source"].to_pylist()
    return found


def _split_by(rows: pa.Table, first: np.ndarray) -> tuple[pa.Table, pa.Table]:
    """Rows to keep, and the drops of the others: repeats of a content that is kept."""
    if first.all():
        return rows, repeats(rows.slice(0, 0))
    return rows.filter(pa.array(first)), repeats(rows.filter(pa.array(~first)))


def repeats(rows: pa.Table) -> pa.Table:
    """The drops of rows whose content is kept elsewhere."""
    said = rows.select(["_id", "_source", "label", "meta"])
    return drops(said, REPEAT, twin=said.column("_id"), value=1.0, threshold=1.0, estimated=1.0, exact=1.0)


def _settle(lake: Lake, table: str, reads: Sequence[Emitted]) -> list[Mask | None]:
    """For each part: which of its rows come first in the lake; none where all do."""
    parts = [read.rows for read in reads if read.rows is not None]
    seen = _known(lake.table(table), lake, parts)
    masks: list[Mask | None] = []
    for read in reads:
        mask = None
        if read.rows is not None:
            batches = part_tables(lake.storage, read.rows, _IDS)
            first = np.concatenate([seen.add(batch.column("_id")) for batch in batches])
            mask = None if first.all() else first
        masks.append(mask)
    return masks


def _known(target: Table, lake: Lake, parts: Sequence[Part]) -> IdSet:
    """Ids of the lake: those that the new parts have too, or all where that is less to hold."""
    seen = IdSet()
    there = target.parts() if target.exists and parts else []
    few = None
    if sum(part.rows for part in parts) <= sum(part.rows for part in there):
        batches = [batch.column("_id") for part in parts for batch in part_tables(lake.storage, part, _IDS)]
        few = Ids(pa.chunked_array([chunk for column in batches for chunk in column.chunks], pa.string()))

    def of(part: Part) -> list[pa.ChunkedArray]:
        columns = [batch.column("_id") for batch in target.read_part(part, ["_id"])]
        return columns if few is None else [column.take(pa.array(few.find(column))) for column in columns]

    with ThreadPoolExecutor(cores()) as pool:
        for columns in pool.map(of, there):
            for column in columns:
                seen.add(column)
    return seen


@dataclass(frozen=True)
class _Rewrite:
    task: _Task
    read: Emitted
    mask: bytes  # one bit a row, 1 = keep

    @property
    def name(self) -> str:
        digest = hashlib.blake2b(self.mask, digest_size=6).hexdigest()
        return f"{self.task.key}-{self.task.job.split.key}-{digest}"


def _rewrite(work: _Rewrite) -> Emitted:
    """Write a part again without the rows that the lake, or an earlier part, already has."""
    task, part = work.task, work.read.rows
    assert part is not None  # noqa: S101  (for the type checker: only parts with rows are rewritten)
    mask = np.unpackbits(np.frombuffer(work.mask, np.uint8), count=part.rows).astype(bool)
    count = StepCount(task.job.label)
    count.add(work.read.counts[0])
    lost: list[pa.Table] = []
    schema = task.job.source.schema()

    def kept() -> Iterator[pa.Table]:
        start = 0
        for batch in part_tables(task.lake.storage, part, schema):
            rows, gone = _split_by(batch, mask[start : start + batch.num_rows])
            start += batch.num_rows
            if gone.num_rows:
                lost.append(gone.append_column("step", pa.repeat(task.job.label, gone.num_rows)))
            yield rows

    rows = _write(task, work.name, kept())
    number = int((~mask).sum())
    count.rows_kept -= number
    count.drops[REPEAT] = count.drops.get(REPEAT, 0) + number
    extra = ledger_part(task.lake, task.pipeline, STAGE, work.name, lost)
    return Emitted(rows if rows.rows else None, work.read.drops + extra, [count], work.read.refused)
