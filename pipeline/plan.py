"""The plan: what ``gristmill plan`` prints and ``gristmill run`` executes, the same object.

Stages: ``ingest`` (files into ``raw``), ``clean`` (the steps before the first one that makes training
copies) and ``train`` (the rest). A pipeline without such a step goes from ``raw`` straight to its sink.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lake import ledger
from lake.errors import ConfigError, SchemaError
from lake.lake import Lake, Table
from pipeline.config import Config
from pipeline.forget.known import APP as FORGET
from pipeline.sources import Seen, label_of, look, manifest_key
from pipeline.stages.ingest import Job
from pipeline.stages.stage import Stage, plugin_code, stage_key

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
_COMMITS_READ = 50  # of a table's history: what is older is told by its number alone


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
    seen: Seen

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What is to be read."""
        return self.seen.jobs

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
    return look(config, lake).jobs


def make_plan(config: Config, version: str) -> Plan:
    """Compare the configuration and the sources with what the lake holds."""
    lake = Lake(config.lake)
    _check_owner(config, lake)
    _check_schema(config, lake)
    seen = look(config, lake)
    jobs = seen.jobs
    _check_settings(config, lake, jobs)
    todos = [_ingest_todo(config, seen)]
    told = ", ".join(f"{number} {state}" for state, number in seen.counts().items())
    changing = f"changes: {told} files" if told else f"may change: {_SETTLED}"
    upstream = f"{config.raw} {changing}" if seen.work else ""
    for stage in stages_of(config):
        work, why = _reason(lake, stage, version, upstream)
        if work:
            _preflight(stage)
        labels = tuple(label for label, _ in stage.steps)
        notes = _notes(lake, stage, jobs, version)
        todos.append(Todo(stage.name, stage.source, stage.target, labels, work, why, notes))
        upstream = f"{stage.target} changes" if work else ""
    return Plan(config, tuple(todos), seen)


def _preflight(stage: Stage) -> None:
    """Raise if a step lacks something on this machine: the run would end with that, not begin."""
    for label, step in stage.steps:
        try:
            step.preflight()
        except ConfigError as error:
            raise ConfigError(error.what, where=f"step {label}", why=error.why, hint=error.hint) from error


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


def _check_schema(config: Config, lake: Lake) -> None:
    """Raise if the rows' table has a column of another type: the run would end with that, not begin.

    Raises:
        ConfigError: two sources, or a source and the table, give one column two types.
    """
    schema = raw_schema(config)
    try:
        lake.table(config.raw).check(schema)
    except SchemaError as error:
        raise ConfigError(
            f"{error.what}: {config.raw}",
            where=config.name,
            why=error.why,
            hint=f"name the column otherwise under columns:, or read into another table (raw: {config.raw}2)",
        ) from error


def _check_settings(config: Config, lake: Lake, jobs: Sequence[Job]) -> None:
    """Raise if files were read with other columns before, and their rows would stay as they are."""
    if all(source.on_change == "follow" for source in config.source):
        return  # they leave, and come back with the columns of now
    last = ledger.last_run(lake, config.name, "ingest")
    if last is None:
        return
    now, before = columns_of(config), json.loads(last["report"])["inputs"]["columns"]
    taken = ledger.taken(lake, manifest_key(config))
    for job in jobs:
        for piece in job.split.pieces:
            reader = taken.get(piece.file.uri, {}).get("reader")
            if reader in before and reader not in now and before[reader] != now[job.source.reader]:
                change = _changes([["", before[reader]]], [["", now[job.source.reader]]])[0]
                raise ConfigError(
                    "files that are in the lake were read with other settings",
                    where=piece.file.uri,
                    why=f"{change.removeprefix('step : ')}; rows that are there keep what they came with",
                    hint=f"read them anew into another table (raw: {config.raw}2), or let rows follow their "
                    "files (on_change: follow)",
                )


def _ingest_todo(config: Config, seen: Seen) -> Todo:
    counts = seen.counts()
    megabytes = sum(piece.size for job in seen.jobs for piece in job.split.pieces) / 1e6
    number = sum(counts.values())
    files = "file" if number == 1 else "files"
    told = ", ".join(f"{each} {state}" for state, each in counts.items())
    why = f"{number} {files} ({told}), {megabytes:,.1f} MB to read" if counts else "no new files"
    if seen.unsettled:
        why += f"; {_SETTLED}"
    notes = [
        f"{uri}: {_MEANS[seen.follow].get(state, state)}"
        for uri, state in sorted(seen.states.items())
        if seen.follow or state != "gone"
    ]
    more = [f"and {len(notes) - _FILES_SHOWN} more"] if len(notes) > _FILES_SHOWN else []
    kept = sum(state == "gone" for state in seen.states.values())
    if kept and not seen.follow:
        more.append(f"{kept} files are gone; their rows stay (on_change: keep)")
    if seen.follow and 2 * len(seen.gone) > (taken := seen.taken):
        more.append(f"careful: {len(seen.gone)} of the {taken} files that were taken are gone; is all mounted?")
    return Todo("ingest", "files", config.raw, (), seen.work, why, (*notes[:_FILES_SHOWN], *more))


_SETTLED = "rows are put in the order of the sources"
_MEANS = {
    False: {"changed": "changed, read again; rows that are in it no more stay (on_change: keep)"},
    True: {
        "changed": "changed, read again; rows that are in it no more leave",
        "gone": "gone, its rows leave",
        "reread": "taken with other settings, or while rows stayed: read again",
        "unreadable": "cannot be opened; rows that came from it stay",
    },
}


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
            again = "all are walked over anew" if index.match.walks else "new ones are compared with them"
            notes.append(f"{known:,} rows are in the index; {again}")
    return tuple(notes)


def _reason(lake: Lake, stage: Stage, version: str, upstream: str) -> tuple[bool, str]:
    """Whether a stage has work, and why: all the reasons there are.

    Args:
        lake: where its tables are.
        stage: the stage.
        version: of the code.
        upstream: why its source is about to change; empty where it is not.
    """
    last = ledger.last_run(lake, stage.pipeline, stage.name)
    if last is None:
        return True, "never run"
    before = json.loads(last["report"])["inputs"]
    source = lake.table(stage.source)
    if not source.exists and not upstream:
        return False, f"there is no {stage.source} yet"
    why = _own_reasons(stage, before, version) + ([upstream] if upstream else [])
    if source.exists and not upstream and not _seen(source, before):
        why.append(f"{stage.source} has changed: {_commits(source, before['source_version'])}")
    if not why and stage_key(stage, source.data_version, version) != last["key"]:
        why.append(f"{stage.source} has changed")
    if not why and not is_current(lake, stage, last["key"]):
        why.append(f"{stage.target} or its drops are not what the last run left")
    return bool(why), "; ".join(why) or "up to date"


def _own_reasons(stage: Stage, before: Mapping[str, Any], version: str) -> list[str]:
    """What is otherwise of the stage itself than when it ran last."""
    why = _changes(before["steps"], stage.steps_json())
    if before["code"] != version:
        why.append(f"made by version {before['code']}, this is {version}")
    for module, digest in plugin_code(stage).items():
        if before.get("plugins", {}).get(module, digest) != digest:
            why.append(f"the code of {module} has changed")
    if before["target"] != stage.target:
        why.append(f"it goes to {stage.target}, it went to {before['target']}")
    return why


def _seen(source: Table, before: Mapping[str, Any]) -> bool:
    """Whether the last run read the rows that are there now; what older versions wrote does not tell."""
    return before.get("source_version") in {None, source.data_version}


def _commits(table: Table, since: int) -> str:
    """Who changed a table since a version, and by how many rows."""
    told = []
    for commit in table.history(max(1, min(table.version - since, _COMMITS_READ))):
        rows = commit.rows_removed - commit.rows_added
        if commit.version <= since or not (commit.rows_added or commit.rows_removed or not commit.app):
            continue
        if commit.app == FORGET:
            told.append(f"{rows} {'row' if rows == 1 else 'rows'} forgotten")
        elif not commit.app.startswith("compact/"):
            told.append(f"{commit.app or commit.operation.lower()} (version {commit.version})")
    return ", ".join(dict.fromkeys(reversed(told))) or "its version was turned back"


def _changes(before: list[list[Any]], now: list[list[Any]]) -> list[str]:
    """The differences between two lists of steps, in words."""
    found = []
    for (old_label, old), (label, new) in zip(before, now, strict=False):
        if old_label != label:
            found.append(f"step {old_label} became {label}")
            continue
        found += [
            f"step {label}: {field} {old.get(field)} → {new.get(field)}"
            for field in {**old, **new}
            if old.get(field) != new.get(field)
        ]
    found += [f"step {label} is new" for label, _ in now[len(before) :]]
    found += [f"step {label} is gone" for label, _ in before[len(now) :]]
    return found
