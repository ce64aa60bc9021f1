"""What a worker does with one part of a stage's input: sketch it for a barrier, or emit it.

Everything here is staged under names that the part and the stage's key give: whoever does it again, anywhere,
writes the same file.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dedup.match import Drop
from lake.errors import EngineError
from lake.lake import Lake, Part, Table
from lake.op import Barrier, Op, Outcome, Step
from lake.parallel import in_order
from pipeline.stages.emitted import Emitted, StepCount, by_rule, ledger_part

if TYPE_CHECKING:
    from pipeline.stages.stage import Stage

__all__ = ["Task", "emit", "ops_of", "rows_of", "size_of", "sketch", "survey", "unpack"]


@dataclass(frozen=True)
class Task:
    """One part to survey or to emit; `upto` is the number of steps that act on it."""

    stage: Stage
    lake: Lake
    key: str  # of the stage, and the version of its commit to come: no committed file is written again
    upto: int
    part: Part
    schema: pa.Schema | None = None
    code: str = ""
    threads: int = 1

    @property
    def name(self) -> str:
        """Tells the part apart among those of its table."""
        return hashlib.blake2b(self.part.path.encode(), digest_size=12).hexdigest()


def rows_of(task: Task, _: object) -> int:
    """How many rows a task reads, for the progress."""
    return task.part.rows


def size_of(task: Task) -> int:
    """How many bytes the part has that a task reads."""
    return task.part.bytes


_COPY_BYTES = 64 << 20  # rows and their copies that a step may hold at a time
_binding = Lock()
_bound_ops: dict[tuple[str, str, str, float], Op] = {}
_MOST_BOUND = 8


def _bound(lake: Lake, key: str, index: int, step: Barrier) -> Op:
    """The op of a decision; kept, since every part of a stage needs the same few."""
    scratch, state = lake.scratch(key), f"{index}-state.arrow"
    # The time is part of the name: another lake may have stood at the same place, with the same key.
    name = (lake.uri, key, state, scratch.modified(state))
    with _binding:
        op = _bound_ops.get(name)
        if op is None:
            op = step.bind(scratch.read_arrow(state))
            while len(_bound_ops) >= _MOST_BOUND:
                _bound_ops.pop(next(iter(_bound_ops)))
            _bound_ops[name] = op
        return op


def ops_of(stage: Stage, lake: Lake, key: str, upto: int) -> list[Op]:
    """The first steps of a stage as ops: barriers are bound to what was decided."""
    ops: list[Op] = []
    for index, (_, step) in enumerate(stage.steps[:upto]):
        if isinstance(step, Barrier):
            ops.append(_bound(lake, key, index, step))
        elif isinstance(step, Op):
            ops.append(step)
    return ops


def sketch(task: Task) -> tuple[str, tuple[Part, Part]]:
    """Sketch one part for the match at `task.upto`: in the scratch, to be mapped, and as an index part."""
    scratch = task.lake.scratch(task.key)
    name = f"{task.upto}-{task.name}.arrow"
    index = task.stage.index(task.lake, task.upto, task.code)
    if index is None:
        raise AssertionError  # who calls has made sure
    if scratch.exists(name) and (staged := index.find(task.part)):
        return name, staged
    ops = [step for _, step in task.stage.steps[: task.upto] if isinstance(step, Op)]
    source, match = task.lake.table(task.stage.source), index.match

    def one(rows: pa.Table) -> pa.Table:
        for op in ops:
            rows = op(rows)
        return match.sketch(rows)

    batches = _or_empty(source.read_part(task.part), source)
    slices = (piece for batch in batches for piece in _slices(batch, task.threads))
    whole = pa.concat_tables(in_order(task.threads, one, slices))
    scratch.write_arrow(name, whole)
    return name, index.write(task.part, whole)


def _slices(rows: pa.Table, count: int) -> Iterator[pa.Table]:
    size = max(1, math.ceil(rows.num_rows / count))
    for start in range(0, max(1, rows.num_rows), size):  # at least one, for what is empty has a schema
        yield rows.slice(start, size)


def unpack(task: Task) -> str:
    """Lay the sketches of a part that is indexed out as :func:`sketch` does; gives the name in the scratch."""
    scratch = task.lake.scratch(task.key)
    name = f"{task.upto}-{task.name}.arrow"
    if not scratch.exists(name):
        index = task.stage.index(task.lake, task.upto, task.code)
        if index is None:
            raise AssertionError  # who calls has made sure
        scratch.write_arrow(name, index.whole(task.part))
    return name


def survey(task: Task) -> str:
    """Sketch one part for the barrier at `task.upto`; gives the sketch's name in the scratch."""
    scratch = task.lake.scratch(task.key)
    name = f"{task.upto}-{task.name}.arrow"
    if scratch.exists(name):
        return name
    barrier = task.stage.steps[task.upto][1]
    ops = ops_of(task.stage, task.lake, task.key, task.upto)
    repeats = getattr(barrier, "sees_repeats", False)
    sketches = []
    source = task.lake.table(task.stage.source)
    for batch in _or_empty(source.read_part(task.part), source):
        rows = _with_repeats(task, barrier, ops, batch) if repeats else _in_turn(ops, batch)
        sketches.append(barrier.sketch(rows))  # type: ignore[attr-defined]
    scratch.write_arrow(name, pa.concat_tables(sketches))
    return name


def _in_turn(ops: list[Op], rows: pa.Table) -> pa.Table:
    for op in ops:
        rows = op(rows)
    return rows


def _with_repeats(task: Task, barrier: Any, ops: list[Op], rows: pa.Table) -> pa.Table:
    """The rows, also those that matches have dropped; what was gone before its own match decided is marked."""
    from dedup.spreading import GONE

    gone: set[str] = set()
    own = False
    for op, (_, step) in zip(ops, task.stage.steps, strict=False):
        own = own or step == barrier.match
        if not isinstance(op, Drop):
            rows = op(rows)
        elif not own:
            gone |= set(rows.column("_id").to_pylist()).difference(op(rows).column("_id").to_pylist())
    marked = [_id in gone for _id in rows.column("_id").to_pylist()]
    return rows.append_column(GONE, pa.array(marked, pa.bool_()))


def emit(task: Task) -> Emitted:
    """Run all steps over one part, and stage what is kept and what is dropped."""
    scratch = task.lake.scratch(task.key)
    marker = f"emitted-{task.name}.json"
    stage, lake = task.stage, task.lake
    if scratch.exists(marker) and (known := Emitted.from_bytes(scratch.read_bytes(marker))).whole(lake):
        return known
    counts = [StepCount(label) for label, _ in stage.steps]
    dropped: list[pa.Table] = []
    name = f"{stage.name}-{task.key}-{task.name}"
    rows = lake.write_part(stage.target, name, _through(task, counts, dropped), task.schema)
    drops = ledger_part(lake, stage.pipeline, stage.name, name, dropped)
    emitted = Emitted(rows if rows.rows else None, drops, counts)
    scratch.write_bytes(marker, emitted.to_bytes())
    return emitted


def _through(task: Task, counts: list[StepCount], dropped: list[pa.Table]) -> Iterator[pa.Table]:
    """The batches of a part after all steps; counts and drops are filled in passing."""
    stage = task.stage
    ops = ops_of(stage, task.lake, task.key, len(stage.steps))
    for batch in _portions(task.lake.table(stage.source).read_part(task.part), stage):
        rows = batch
        for op, count, (label, step) in zip(ops, counts, stage.steps, strict=True):
            started = time.perf_counter()
            outcome = op.apply(rows)
            if outcome.table.num_rows + outcome.drops.num_rows != rows.num_rows:
                _check(rows, outcome, step, f"stage {stage.name}, step {label}, part {task.part.path}")
            count.add(_counted(label, rows, outcome))
            count.seconds += time.perf_counter() - started
            if outcome.drops.num_rows:
                dropped.append(outcome.drops.append_column("step", pa.repeat(label, outcome.drops.num_rows)))
            rows = outcome.table
        yield rows


def _portions(batches: Iterator[pa.Table], stage: Stage) -> Iterator[pa.Table]:
    """The batches, cut so that what they become fits: forty copies of a batch are forty times its size."""
    times = math.prod(1 + getattr(step, "copies", 0) for _, step in stage.steps)
    for batch in batches:
        rows = max(1, batch.num_rows * _COPY_BYTES // max(1, batch.nbytes * times))
        yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))


def _check(before: pa.Table, outcome: Outcome, step: Step, where: str) -> None:
    """End the run where a step lost a row without saying so, or made one that it should not."""
    kept = before.num_rows - outcome.drops.num_rows
    if outcome.table.num_rows < kept or not step.augments:
        raise EngineError(
            f"{before.num_rows} rows went in, {outcome.table.num_rows} came out and "
            f"{outcome.drops.num_rows} were accounted for",
            where=where,
            hint="the step must return every row that it does not keep among the drops",
        )


def _counted(label: str, before: pa.Table, outcome: Outcome) -> StepCount:
    kept = before.num_rows - outcome.drops.num_rows
    return StepCount(label, before.num_rows, kept, outcome.table.num_rows - kept, by_rule(outcome.drops))


def _or_empty(batches: Iterator[pa.Table], table: Table) -> Iterator[pa.Table]:
    """The batches, or one empty batch where there is none: a sketch needs a schema."""
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        yield table.schema().empty_table()
