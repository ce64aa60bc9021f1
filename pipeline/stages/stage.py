"""A stage: one table in, steps, one table out.

It runs in passes over the parts of the input table, and stages everything it makes under names
that depend on content alone:

1. for each :class:`~lake.op.Barrier` in turn, a *survey* (parallel: one sketch per part) and a
   decision (once, from all sketches);
2. the *emit* pass (parallel: one output part and one part of drops per input part), in which all
   steps, the bound barriers among them, are plain row-local ops.

A match keeps its sketches and pairs in the lake (:mod:`pipeline.matching.index`), and what became of each input
part is written down (``_emitted``): so a run surveys the new parts alone, and emits those and the ones whose
rows are decided otherwise than before.

The ops before a barrier run again in later passes. They are pure, so this gives the same rows, and
it spares the lake a copy of every payload between steps.

A killed run finds what it had staged when it comes back, and goes on from there. The names also hold the
version of the commit that is to come: it moves with the commit alone, so a retry agrees with the first try,
and what was committed once is never written again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dedup.match import Match
from lake.lake import Lake
from lake.op import Op, Step
from pipeline.matching.index import Index
from pipeline.stages import emitted as emission
from pipeline.stages.context import Context
from pipeline.stages.decide import Decider, Decision
from pipeline.stages.emitted import Emitted
from pipeline.stages.tasks import Task, emit, ops_of, rows_of, size_of

__all__ = ["Made", "Stage", "plugin_code", "plugins", "stage_key"]

_OURS = frozenset({"augment", "dedup", "lake", "pipeline"})


@dataclass(frozen=True)
class Made:
    """What a stage staged: of each input part what it became, and which of these stand from the last run."""

    emitted: list[Emitted]
    decisions: dict[str, Decision]
    reused: frozenset[str]
    """Paths of the parts, of rows and of drops, that stay in their tables."""
    note: pa.Table
    """For the table ``_emitted``, see :data:`pipeline.stages.emitted.EMITTED`."""


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

    def run(self, context: Context, key: str, code: str) -> Made:
        """Stage what has to be made anew.

        Args:
            context: where, and who does it.
            key: names what is staged.
            code: version of the code.
        """
        lake = context.lake
        parts = lake.table(self.source).parts()
        decisions = Decider(self, context, key, code, parts).all()
        schema = self.schema(lake, key)
        lake.table(self.target).check(schema)  # before the work instead of after it
        digests = emission.digests(self, code, schema, parts, [each.digests for each in decisions.values()])
        before = emission.standing(self, lake, digests)
        todo = [
            Task(self, lake, key, len(self.steps), part, schema) for part in parts if part.path not in before
        ]
        # A match does its work in passes of its own; here it is a filter.
        asked = [(label, step) for label, step in self.steps if not isinstance(step, Match)]
        title = f"{self.name}: write {self.target}"
        fresh = context.asking(asked).gather(title, emit, todo, rows_of, size_of)
        emitted = before | {task.part.path: each for task, each in zip(todo, fresh, strict=True)}
        return Made(
            [emitted[part.path] for part in parts],
            decisions,
            frozenset(part.path for each in before.values() for part in each.parts),
            emission.note(self, digests, emitted),
        )

    def index(self, lake: Lake, at: int, code: str) -> Index | None:
        """Give the index of the match at a place among the steps; None where there can be none.

        Its sketches are those of all rows that the ops before it give on, whatever earlier matches drop: so
        they stay as they are when an earlier match decides otherwise. After a barrier that changes rows there
        is no such thing.
        """
        step = self.steps[at][1]
        earlier = [(each, value) for (_, each), (_, value) in zip(self.steps, self.steps_json(), strict=True)][
            :at
        ]
        if not isinstance(step, Match) or not all(isinstance(each, (Op, Match)) for each, _ in earlier):
            return None
        ops = [[type(each).__name__, value] for each, value in earlier if isinstance(each, Op)]
        about = [self.pipeline, self.source, ops, code, *plugins(self)]
        return Index(lake, step, json.dumps(about, sort_keys=True))

    def schema(self, lake: Lake, key: str) -> pa.Schema:
        """The schema of the target: what the ops make of no rows at all."""
        table = lake.table(self.source).schema().empty_table()
        for op in ops_of(self, lake, key, len(self.steps)):
            table = op(table)
        return table.schema


def plugins(stage: Stage) -> list[str]:
    """Digests of the files that a user's own steps stand in: our version does not speak for them."""
    return list(plugin_code(stage).values())


def plugin_code(stage: Stage) -> dict[str, str]:
    """The same by the name of the module, which a plan can tell; in the order of the files."""
    names = {type(step).__module__ for _, step in stage.steps}
    files = {
        str(file): name
        for name in names
        if name.split(".")[0] not in _OURS and (file := getattr(sys.modules[name], "__file__", None))
    }
    return {
        files[file]: hashlib.blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()
        for file in sorted(files)
    }


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
        "code": [code, *plugins(stage)],
    }
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
