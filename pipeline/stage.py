"""A stage: one table in, steps, one table out.

It runs in passes over the parts of the input table, and stages everything it makes under names
that depend on content alone:

1. for each :class:`~lake.op.Barrier` in turn, a *survey* (parallel: one sketch per part) and a
   decision (once, from all sketches);
2. the *emit* pass (parallel: one output part and one part of drops per input part), in which all
   steps, the bound barriers among them, are plain row-local ops.

The ops before a barrier run again in later passes. They are pure, so this gives the same rows, and
it spares the lake a copy of every payload between steps.

A killed run finds what it had staged when it comes back, and goes on from there. The names also hold the
version of the commit that is to come: it moves with the commit alone, so a retry agrees with the first try,
and what was committed once is never written again.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from lake.errors import EngineError
from lake.lake import Lake, Part, Table
from lake.op import Barrier, Op, Outcome, Step
from lake.schema import DROPS, LEDGER
from pipeline.context import Context

__all__ = ["Decision", "Emitted", "Stage", "StepCount", "by_rule", "ledger_part", "stage_key"]


@dataclass
class StepCount:
    """What a step did to the rows; ``rows_in = rows_kept + sum(drops)``, copies count as made."""

    step: str
    rows_in: int = 0
    rows_kept: int = 0
    rows_made: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: StepCount) -> None:
        """Add another part's count of the same step."""
        self.rows_in += other.rows_in
        self.rows_kept += other.rows_kept
        self.rows_made += other.rows_made
        self.seconds += other.seconds
        for rule, number in other.drops.items():
            self.drops[rule] = self.drops.get(rule, 0) + number


@dataclass(frozen=True)
class Emitted:
    """What one input part became."""

    rows: Part | None
    drops: tuple[Part, ...]
    counts: list[StepCount]
    refused: tuple[str, ...] = ()  # files that could not be opened, by uri: they are not taken

    def to_bytes(self) -> bytes:
        """JSON; ``from_bytes`` gives an equal value."""
        return json.dumps(asdict(self)).encode()

    def whole(self, lake: Lake) -> bool:
        """Whether all its parts are still there; they are marked as in use."""
        parts = (*self.drops, *((self.rows,) if self.rows else ()))
        return all(lake.still_there(part) for part in parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Emitted:
        """The inverse of :meth:`to_bytes`."""
        raw = json.loads(data)
        return cls(
            rows=Part(**raw["rows"]) if raw["rows"] else None,
            drops=tuple(Part(**part) for part in raw["drops"]),
            counts=[StepCount(**count) for count in raw["counts"]],
            refused=tuple(raw["refused"]),
        )


@dataclass(frozen=True)
class Decision:
    """What a barrier decided, and how long the survey and the decision took."""

    state: pa.Table
    seconds: float


@dataclass(frozen=True)
class Stage:
    """Steps from one table to the next.

    Args:
        pipeline: name of the pipeline.
        name: of the stage, ``clean`` or ``train``.
        source: the table it reads.
        target: the table it replaces.
        steps: labels (``1 dedup.MinHash``) and steps, in order.
    """

    pipeline: str
    name: str
    source: str
    target: str
    steps: tuple[tuple[str, Step], ...]

    def steps_json(self) -> list[list[Any]]:
        """The steps as JSON values: what a key is made of, and what the next plan compares with."""
        return [[label, step.model_dump(mode="json")] for label, step in self.steps]

    def run(self, context: Context, key: str) -> tuple[list[Emitted], dict[str, Decision]]:
        """Stage all parts; give them and the decisions of the barriers by step label."""
        decisions: dict[str, Decision] = {}
        for index, (label, step) in enumerate(self.steps):
            if isinstance(step, Barrier):
                started = time.perf_counter()
                state = self._decide(context, key, index, step)
                decisions[label] = Decision(state, time.perf_counter() - started)
        lake = context.lake
        schema, parts = self.schema(lake, key), lake.table(self.source).parts()
        tasks = [_Task(self, lake, key, len(self.steps), part, schema) for part in parts]
        return context.gather(f"{self.name}: write {self.target}", _emit, tasks, _rows), decisions

    def _decide(self, context: Context, key: str, index: int, step: Barrier) -> pa.Table:
        """Survey all parts and resolve; a decision that a killed run had staged is taken as it is."""
        scratch = context.lake.scratch(key)
        name = f"{index}-state.arrow"
        if not scratch.exists(name):
            parts = context.lake.table(self.source).parts()
            tasks = [_Task(self, context.lake, key, index, part) for part in parts]
            names = context.gather(f"{self.name}: {self.steps[index][0]}", _survey, tasks, _rows)
            with context.step(f"{self.name}: {self.steps[index][0]}, decision"):
                scratch.write_arrow(name, step.resolve([scratch.read_arrow(each) for each in names]))
        return scratch.read_arrow(name)

    def schema(self, lake: Lake, key: str) -> pa.Schema:
        """The schema of the target: what the ops make of no rows at all."""
        table = lake.table(self.source).schema().empty_table()
        for op in _ops(self, lake, key, len(self.steps)):
            table = op(table)
        return table.schema


@dataclass(frozen=True)
class _Task:
    """One part to survey or to emit; `upto` is the number of steps that act on it."""

    stage: Stage
    lake: Lake
    key: str  # of the stage, and the version of its commit to come: no committed file is written again
    upto: int
    part: Part
    schema: pa.Schema | None = None

    @property
    def name(self) -> str:
        return hashlib.blake2b(self.part.path.encode(), digest_size=12).hexdigest()


def _rows(task: _Task, _: object) -> int:
    return task.part.rows


_OURS = frozenset({"augment", "dedup", "lake", "pipeline"})
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


def _ops(stage: Stage, lake: Lake, key: str, upto: int) -> list[Op]:
    """The first steps of a stage as ops: barriers are bound to what was decided."""
    ops: list[Op] = []
    for index, (_, step) in enumerate(stage.steps[:upto]):
        if isinstance(step, Barrier):
            ops.append(_bound(lake, key, index, step))
        elif isinstance(step, Op):
            ops.append(step)
    return ops


def _survey(task: _Task) -> str:
    """Sketch one part for the barrier at `task.upto`; gives the sketch's name in the scratch."""
    scratch = task.lake.scratch(task.key)
    name = f"{task.upto}-{task.name}.arrow"
    if scratch.exists(name):
        return name
    barrier = task.stage.steps[task.upto][1]
    ops = _ops(task.stage, task.lake, task.key, task.upto)
    sketches = []
    source = task.lake.table(task.stage.source)
    for batch in _or_empty(source.read_part(task.part), source):
        rows = batch
        for op in ops:
            rows = op(rows)
        sketches.append(barrier.sketch(rows))  # type: ignore[attr-defined]
    scratch.write_arrow(name, pa.concat_tables(sketches))
    return name


def _emit(task: _Task) -> Emitted:
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


def _through(task: _Task, counts: list[StepCount], dropped: list[pa.Table]) -> Iterator[pa.Table]:
    """The batches of a part after all steps; counts and drops are filled in passing."""
    stage = task.stage
    ops = _ops(stage, task.lake, task.key, len(stage.steps))
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


def by_rule(drops: pa.Table) -> dict[str, int]:
    """How many rows each rule dropped."""
    counted = drops.column("rule").combine_chunks().value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in counted}


def _or_empty(batches: Iterator[pa.Table], table: Table) -> Iterator[pa.Table]:
    """The batches, or one empty batch where there is none: a sketch needs a schema."""
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        yield table.schema().empty_table()


def ledger_part(lake: Lake, pipeline: str, stage: str, name: str, dropped: list[pa.Table]) -> tuple[Part, ...]:
    """Stage drops (``DROPS`` and a ``step`` column) as a part of ``_drops``; no drops, no part."""
    if not dropped:
        return ()
    table = pa.concat_tables([each.select(["step", *DROPS.names]) for each in dropped])
    full = pa.table(
        [pa.repeat(pipeline, table.num_rows), pa.repeat(stage, table.num_rows), *table.columns], schema=LEDGER
    )
    return (lake.write_part("_drops", name, [full], LEDGER, partition={"pipeline": pipeline, "stage": stage}),)


def _plugins(stage: Stage) -> list[str]:
    """Digests of the files that a user's own steps stand in: our version does not speak for them."""
    names = {type(step).__module__ for _, step in stage.steps}
    files = {getattr(sys.modules[name], "__file__", None) for name in names if name.split(".")[0] not in _OURS}
    return [
        hashlib.blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()
        for file in sorted(filter(None, files))
    ]


def stage_key(stage: Stage, source_version: int, code: str) -> str:
    """Names what a stage will make: equal inputs, steps and code give an equal key.

    Args:
        stage: the stage.
        source_version: of its source table, the newest that changed rows.
        code: version of the code.
    """
    value = {
        "pipeline": stage.pipeline,
        "stage": stage.name,
        "source": [stage.source, source_version],
        "target": stage.target,
        "steps": stage.steps_json(),
        "code": [code, *_plugins(stage)],
    }
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
