"""The plan: what ``gristmill plan`` prints and ``gristmill run`` executes, the same object.

Stages: ``ingest`` (files into ``raw``), ``clean`` (the steps before the first one that makes training
copies) and ``train`` (the rest). A pipeline without such a step goes from ``raw`` straight to its sink.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from lake import ledger
from lake.errors import ConfigError
from lake.files import Taken
from lake.lake import Lake
from lake.op import Step
from pipeline.config import Config
from pipeline.stages.ingest import Job
from pipeline.stages.stage import Stage, stage_key

__all__ = [
    "Plan",
    "Todo",
    "columns_of",
    "is_current",
    "jobs_of",
    "label_of",
    "make_plan",
    "manifest_key",
    "raw_schema",
    "stages_of",
    "tables_of",
]

_FILES_SHOWN = 5


@dataclass(frozen=True)
class Todo:
    """A stage, whether it has work, and why."""

    stage: str
    reads: str
    writes: str
    steps: tuple[str, ...]
    work: bool
    why: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run would do, and why."""

    config: Config
    todos: tuple[Todo, ...]
    jobs: tuple[Job, ...]

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return any(todo.work for todo in self.todos)

    def to_dict(self) -> dict[str, Any]:
        """As ``gristmill plan --json`` prints it."""
        return {
            "pipeline": self.config.name,
            "lake": str(self.config.lake),
            "changes": self.changes,
            "stages": [
                {
                    "stage": todo.stage,
                    "reads": todo.reads,
                    "writes": todo.writes,
                    "steps": list(todo.steps),
                    "work": todo.work,
                    "why": todo.why,
                    "notes": list(todo.notes),
                }
                for todo in self.todos
            ],
        }

    def render(self) -> str:
        """In words, for a terminal."""
        lines = [f"{self.config.name} in {self.config.lake}"]
        for todo in self.todos:
            lines.append(
                f"{'+' if todo.work else '='} {todo.stage:<7} {todo.reads} → {todo.writes}: {todo.why}"
            )
            lines += [f"    {step}" for step in todo.steps]
            lines += [f"    · {note}" for note in todo.notes]
        lines.append("Nothing to do." if not self.changes else "Start it with `gristmill run`.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from markupsafe import escape

        return f"<pre>{escape(self.render())}</pre>"


def label_of(index: int, step: Step) -> str:
    """How a step is called in the ledger and the report: ``2 dedup.MinHash``."""
    from pipeline.config.catalog import key_of

    return f"{index} {key_of(type(step))}"


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The derived stages of a configuration."""
    labelled = tuple((label_of(index, step), step) for index, step in enumerate(config.steps, start=1))
    cut = next((at for at, (_, step) in enumerate(labelled) if step.augments), None)
    sink = config.sink.name
    if cut is None:
        return (Stage(config.name, "train", config.raw, sink, labelled),)
    return (
        Stage(config.name, "clean", config.raw, config.clean, labelled[:cut]),
        Stage(config.name, "train", config.clean, sink, labelled[cut:]),
    )


def manifest_key(config: Config) -> str:
    """Under what the files are listed: those that went into another table are still to be read."""
    return config.name if config.raw == "raw" else f"{config.name}/{config.raw}"


def is_current(lake: Lake, stage: Stage, key: str) -> bool:
    """Whether a stage's table and drops are what its last run left, and that run had the same key."""
    last = ledger.last_run(lake, stage.pipeline, stage.name)
    if last is None or last["key"] != key or not lake.table(stage.target).exists:
        return False
    drops = lake.table(ledger.DROPS_TABLE)
    mine = {"pipeline": stage.pipeline, "stage": stage.name}
    listed = sum(part.rows for part in drops.parts() if part.partition == mine) if drops.exists else 0
    counted = sum(sum(step["drops"].values()) for step in json.loads(last["report"])["steps"])
    return bool(listed == counted)


def raw_schema(config: Config) -> pa.Schema:
    """The columns of all sources.

    Raises:
        ConfigError: two sources give one column two types.
    """
    try:
        return pa.unify_schemas([source.schema() for source in config.source])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ConfigError(
            "two sources give one column two types", where=config.name, why=str(error), hint="see columns:"
        ) from error


def tables_of(config: Config) -> set[str]:
    """The tables that a configuration fills."""
    return {config.raw, *(stage.target for stage in stages_of(config))}


def jobs_of(config: Config, lake: Lake) -> tuple[Job, ...]:
    """The splits that no earlier run has taken, in the order in which first occurrences count."""
    jobs: list[Job] = []
    for number, source in enumerate(config.source, start=1):
        label = label_of(0, source) + (f" {number}" if len(config.source) > 1 else "")
        rows = ledger.taken(lake, manifest_key(config), source.reader)
        taken = {uri: Taken.of(row) for uri, row in rows.items()}
        # A file that an earlier source of the same settings is about to take is not for this one.
        twin = [job.split for job in jobs if job.source.reader == source.reader]
        taken |= {each.uri: each for each in source.taken(twin)}
        jobs += [Job(label, source, split) for split in source.discover(taken, base=Path(config.base))]
    return tuple(jobs)


def make_plan(config: Config, version: str) -> Plan:
    """Compare the configuration and the sources with what the lake holds."""
    lake = Lake(config.lake)
    _check_owner(config, lake)
    raw_schema(config)
    jobs = jobs_of(config, lake)
    _check_settings(config, lake, jobs)
    todos = [_ingest_todo(config, jobs)]
    upstream = bool(jobs)
    for stage in stages_of(config):
        work, why = _reason(lake, stage, version, upstream=upstream)
        labels = tuple(label for label, _ in stage.steps)
        notes = _notes(lake, stage, jobs, version)
        todos.append(Todo(stage.name, stage.source, stage.target, labels, work, why, notes))
        upstream = upstream or work
    return Plan(config, tuple(todos), jobs)


def _check_owner(config: Config, lake: Lake) -> None:
    """Raise if another pipeline fills one of the tables: it would be mixed, or replaced."""
    mine = tables_of(config)
    for row in ledger.runs(lake).select(["pipeline", "report"]).to_pylist():
        target = json.loads(row["report"])["inputs"]["target"]
        if row["pipeline"] != config.name and target in mine:
            raise ConfigError(
                f"the table {target!r} belongs to the pipeline {row['pipeline']!r}",
                where=lake.uri,
                hint="name other tables under raw:, clean: and sink:, or use another lake",
            )


def columns_of(config: Config) -> dict[str, dict[str, Any]]:
    """Which columns each source takes, by the hash of its settings."""
    fields = {"text", "image", "label", "columns"}
    return {source.reader: source.model_dump(mode="json", include=fields) for source in config.source}


def _check_settings(config: Config, lake: Lake, jobs: Sequence[Job]) -> None:
    """Raise if files were read with other columns before: their rows would stay as they are."""
    last = ledger.last_run(lake, config.name, "ingest")
    if last is None:
        return
    now, before = columns_of(config), json.loads(last["report"])["inputs"]["columns"]
    taken = ledger.taken(lake, manifest_key(config))
    for job in jobs:
        for piece in job.split.pieces:
            reader = taken.get(piece.file.uri, {}).get("reader")
            if reader in before and reader not in now and before[reader] != now[job.source.reader]:
                change = _first_change([["", before[reader]]], [["", now[job.source.reader]]]) or ""
                raise ConfigError(
                    "files that are in the lake were read with other settings",
                    where=piece.file.uri,
                    why=f"{change.removeprefix('step : ')}; rows that are there keep what they came with",
                    hint=f"read them anew into another table (raw: {config.raw}2), or into another lake",
                )


def _ingest_todo(config: Config, jobs: tuple[Job, ...]) -> Todo:
    files = {piece.file.uri for job in jobs for piece in job.split.pieces}
    megabytes = sum(piece.size for job in jobs for piece in job.split.pieces) / 1e6
    why = f"{len(files)} new or grown files, {megabytes:,.1f} MB" if files else "no new files"
    shown = tuple(sorted(files)[:_FILES_SHOWN])
    more = (f"and {len(files) - _FILES_SHOWN} more",) if len(files) > _FILES_SHOWN else ()
    return Todo("ingest", "files", config.raw, (), bool(jobs), why, shown + more)


_PACKED = 3  # bytes of text for one of a Parquet part, about


def _notes(lake: Lake, stage: Stage, jobs: Sequence[Job], version: str) -> tuple[str, ...]:
    """What the steps have to say: their chances to find a duplicate, and what of the rows is indexed."""
    source = lake.table(stage.source)
    parts = source.parts() if source.exists else []
    size = sum(piece.size for job in jobs for piece in job.split.pieces)
    size += _PACKED * sum(part.bytes for part in parts)
    notes = []
    for at, (_, step) in enumerate(stage.steps):
        if callable(explain := getattr(step, "explain", None)):
            notes.append(explain())
        if size and callable(advise := getattr(step, "advise", None)):
            notes.append(advise(float(size)))
        if parts and (index := stage.index(lake, at, version)) is not None:
            known = sum(part.rows for part in index.known(parts).parts.values())
            notes.append(f"{known:,} rows are in the index; new ones are compared with them")
    return tuple(notes)


def _reason(  # noqa: PLR0911  (a return for each reason)
    lake: Lake, stage: Stage, version: str, *, upstream: bool
) -> tuple[bool, str]:
    """Whether a stage has work, and why."""
    last = ledger.last_run(lake, stage.pipeline, stage.name)
    if last is None:
        return True, "never run"
    before = json.loads(last["report"])["inputs"]
    if before["code"] != version:
        return True, f"made by version {before['code']}, this is {version}"
    if change := _first_change(before["steps"], stage.steps_json()):
        return True, change
    if upstream:
        return True, f"{stage.source} changes"
    if not lake.table(stage.source).exists:
        return False, f"there is no {stage.source} yet"
    if stage_key(stage, lake.table(stage.source).data_version, version) != last["key"]:
        return True, f"{stage.source} has changed"
    if not is_current(lake, stage, last["key"]):
        return True, f"{stage.target} or its drops are not what the last run left"
    return False, "up to date"


def _first_change(before: list[list[Any]], now: list[list[Any]]) -> str | None:
    """The first difference between two lists of steps, in words."""
    for (old_label, old), (label, new) in zip(before, now, strict=False):
        if old_label != label:
            return f"step {old_label} became {label}"
        for field in {**old, **new}:
            if old.get(field) != new.get(field):
                return f"step {label}: {field} {old.get(field)} → {new.get(field)}"
    if len(before) != len(now):
        return f"{len(before)} steps before, {len(now)} now"
    return None
