"""One run of a plan: stages that have work are staged and committed, one after the other."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lake import ledger
from lake.errors import ConcurrentRunError
from lake.formats.splits import UNREADABLE, Taken
from lake.lake import Change, Lake, Part, Table
from lake.ledger import DROPS_BY
from lake.schema import LEDGER, MANIFEST, RUNS
from pipeline import learned as policies
from pipeline.config import Config
from pipeline.forget import known as forgotten
from pipeline.intake import check_leaving, take_in
from pipeline.matching.index import emptied
from pipeline.plan import Plan, columns_of, is_current, manifest_key, raw_schema, stages_of
from pipeline.sources import Seen, noted
from pipeline.stages import emitted as emission
from pipeline.stages.context import Context
from pipeline.stages.emitted import StepCount
from pipeline.stages.ingest import STAGE as INGEST
from pipeline.stages.ingest import Job
from pipeline.stages.stage import Made, Stage, plugin_code, stage_key
from pipeline.telemetry.watch import workers_of

__all__ = ["Run", "run_id"]

_log = logging.getLogger(__name__)
_Json = dict[str, Any]

_NO_REJECTS = frozenset({"exact-duplicate", "unknown-format", forgotten.RULE})
"""Drops of ingest that are no bad rows: a content that is kept already or forgotten, a file that is no data."""


def run_id(moment: datetime) -> str:
    """A new id: ids in their order are runs in theirs, also those of one second.

    The first four digits after the second are its 65,536ths; four more tell runs that begin together apart.
    """
    return f"{moment:%Y%m%dT%H%M%S}-{moment.microsecond * 65536 // 1_000_000:04x}{uuid.uuid4().hex[:4]}"


@dataclass
class Run:
    """A run under way.

    Args:
        config: what to run.
        context: the lake (for a trial another one than the configuration's), the runner, the progress.
        version: of the code.
        limit: rows of each source, for a trial.
    """

    config: Config
    context: Context
    version: str
    limit: int | None = None
    id: str = field(default_factory=lambda: run_id(datetime.now(UTC)))
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    version_of_ingest: int = field(init=False)
    forgot: int | None = field(init=False)

    def __post_init__(self) -> None:
        # Before anything is looked at: if another run ingests meanwhile, or rows are forgotten, ours ends.
        self.version_of_ingest = self._next(INGEST)
        self.forgot = forgotten.times(self.lake)

    @property
    def lake(self) -> Lake:
        """Where the run works."""
        return self.context.lake

    def execute(self, plan: Plan) -> dict[str, Any]:
        """Do what the plan says; gives the run as ``run.json`` holds it."""
        clock = time.perf_counter()
        work = False
        if plan.seen.work:
            self.ingest(plan.jobs, plan.seen)
            work = True
        for stage in stages_of(self.config):
            work |= self._derive(stage)
        return self._summary(unchanged=not work, seconds=time.perf_counter() - clock)

    def ingest(self, jobs: tuple[Job, ...], seen: Seen | None = None) -> None:
        """Read the splits of new and grown files, and commit their rows to ``raw``.

        Args:
            jobs: what is to be read.
            seen: the files as they are, where rows follow them.
        """
        clock = time.perf_counter()
        self.context.watch.stage(INGEST, jobs=jobs)
        raw = self.lake.table(self.config.raw)
        before = raw.count() if raw.exists else 0
        version = self.version_of_ingest
        key = f"{self.config.name}-{INGEST}-{version}"
        done = take_in(self.context, self.config, jobs, seen, key, limit=self.limit)
        reads = done.reads
        check_leaving(self.config, done, before)
        refused = {uri for read in reads for uri in read.refused}
        changes = [
            Change(
                self.config.raw,
                raw_schema(self.config),
                (*_parts(r.rows for r in reads), *done.raw.new),
                done.raw.old,
            ),
            Change(
                "_drops",
                LEDGER,
                (*(p for r in reads for p in r.drops), *done.ledger.new),
                done.ledger.old,
                partition_by=DROPS_BY,
            ),
            Change("_files", MANIFEST, self._manifest(done.jobs, refused, done.gone)),
        ]
        report = {
            "steps": _totals(INGEST, (r.counts for r in reads)),
            "rows_before": before,
            "left": done.left,
            "files": seen.counts() if seen else {},
            "seconds": time.perf_counter() - clock,
        }
        self._commit(INGEST, version, f"{self.id}-{INGEST}", changes, report, derived=None)
        self.lake.scratch(key).clear()

    def _columns(self) -> dict[str, Any]:
        """Which columns were taken by this and by earlier settings of the sources."""
        last = ledger.last_run(self.lake, self.config.name, INGEST)
        before = json.loads(last["report"])["inputs"]["columns"] if last else {}
        return {**before, **columns_of(self.config)}

    def _next(self, stage: str) -> int:
        """The version of a stage's next commit; it moves with the commit alone."""
        return (self.lake.table("_runs").transaction_version(f"{self.config.name}/{stage}") or 0) + 1

    def _manifest(self, jobs: tuple[Job, ...], refused: set[str], gone: tuple[Taken, ...]) -> tuple[Part, ...]:
        """What was taken of each file, as it was when the run was planned; what could not be opened was not."""
        of_source: dict[str, list[Job]] = {}
        for job in jobs:
            of_source.setdefault(job.label, []).append(job)
        rows = [
            asdict(
                replace(
                    taken,
                    pipeline=manifest_key(self.config),
                    fingerprint=UNREADABLE if taken.uri in refused else taken.fingerprint,
                )
            )
            for mine in of_source.values()
            for taken in mine[0].source.taken(job.split for job in mine)
        ] + [asdict(each) for each in gone]
        if not rows:
            return ()
        table = pa.Table.from_pylist(rows, schema=MANIFEST)
        return (self.lake.write_part("_files", f"files-{self.id}", [table], MANIFEST),)

    def _derive(self, stage: Stage) -> bool:
        """Bring a derived table up to date; false where it is."""
        version = self._next(stage.name)  # first of all, see __post_init__
        source = self.lake.table(stage.source)
        if not source.exists:
            return False  # no file has been found yet
        key = stage_key(stage, source.data_version, self.version)
        if is_current(self.lake, stage, key):
            return False
        clock = time.perf_counter()
        self.context.watch.stage(stage.name, source=stage.source)
        staged = f"{key}-{version}"
        made = stage.run(self.context, staged, self.version)
        learned = {
            label: {name: json.loads(decided.state.column(name)[0].as_py()) for name in ("policy", "evidence")}
            for label, decided in made.decisions.items()
            if "policy" in decided.state.schema.names
        }
        schema = stage.schema(self.lake, staged)
        target, drops = self.lake.table(stage.target), self.lake.table("_drops")
        self._check_reused(made.reused, [target, drops])
        # Its own drops go, and those of a stage that the configuration has no more.
        live = {INGEST, *(other.name for other in stages_of(self.config))} - {stage.name}
        changes = [
            Change(
                stage.target,
                schema,
                _without(made.reused, _parts(e.rows for e in made.emitted)),
                _without(made.reused, _present(target)),
            ),
            Change(
                "_drops",
                LEDGER,
                _without(made.reused, (part for e in made.emitted for part in e.drops)),
                _without(
                    made.reused,
                    (
                        part
                        for part in _present(drops)
                        if part.partition["pipeline"] == stage.pipeline and part.partition["stage"] not in live
                    ),
                ),
                partition_by=DROPS_BY,
            ),
            self._emitted(stage, staged, made.note),
            *(change for decided in made.decisions.values() for change in decided.changes),
            *self._unused(stage, made),
        ]
        if found := learned | policies.pinned(stage):
            changes.append(policies.change(self.lake, self.id, self.config.name, key, found))
        report = {
            "steps": _totals(
                stage.name,
                [
                    [StepCount(label) for label, _ in stage.steps],
                    [StepCount(label, seconds=each.seconds) for label, each in made.decisions.items()],
                    *(each.counts for each in made.emitted),
                ],
            ),
            "indexes": sorted({each.index for each in made.decisions.values() if each.index}),
            "learned": {label: found["evidence"] for label, found in learned.items()},
            "accelerators": self.context.runner.usage(),
            "seconds": time.perf_counter() - clock,
        }
        self._commit(stage.name, version, key, changes, report, derived=stage)
        self.lake.scratch(staged).clear()
        return True

    def _check_reused(self, reused: frozenset[str], tables: list[Table]) -> None:
        """Raise where parts that are to stay have been replaced meanwhile: what replaced them would go.

        The lock of the tables keeps maintenance away; in an object store a frozen process may lose it.
        """
        gone = reused - {part.path for table in tables for part in _present(table)}
        if gone:
            raise ConcurrentRunError(
                f"{len(gone)} of the parts that stay are gone, the first is {min(gone)}",
                where=self.lake.uri,
                why="the tables were compacted during the run",
                hint="run again",
            )

    def _unused(self, stage: Stage, made: Made) -> list[Change]:
        """Empty the indexes that the last run of the stage left and this one has no use for."""
        last = ledger.last_run(self.lake, stage.pipeline, stage.name)
        before = json.loads(last["report"]).get("indexes", []) if last else []
        now = {decided.index for decided in made.decisions.values()}
        return [change for name in before if name not in now for change in emptied(self.lake, name)]

    def _emitted(self, stage: Stage, key: str, note: pa.Table) -> Change:
        """What became of each input part, in place of what the last run wrote of them."""
        partition = {"pipeline": stage.pipeline, "stage": stage.name}
        part = self.lake.write_part(
            emission.TABLE, f"emitted-{key}", [note], emission.EMITTED, partition=partition
        )
        table = self.lake.table(emission.TABLE)
        old = tuple(part for part in _present(table) if part.partition == partition)
        return Change(emission.TABLE, emission.EMITTED, (part,), old, partition_by=emission.EMITTED_BY)

    def _commit(
        self, stage: str, version: int, key: str, changes: list[Change], report: _Json, *, derived: Stage | None
    ) -> None:
        """Commit a stage's tables and its row of ``_runs``: all of them or, if killed before, none."""
        forgotten.check(self.lake, self.forgot)
        app = f"{self.config.name}/{stage}"
        report["workers"] = workers_of(self.context.runner)
        report["inputs"] = {
            "code": self.version,
            "steps": derived.steps_json() if derived else [],
            "target": derived.target if derived else self.config.raw,
            "columns": {} if derived else self._columns(),
            "sources": {} if derived else noted(self.config),
            "plugins": plugin_code(derived) if derived else {},
            "source_version": self.lake.table(derived.source).data_version if derived else 0,
        }
        row = {
            "run": self.id,
            "pipeline": self.config.name,
            "stage": stage,
            "version": version,
            "key": key,
            "report": json.dumps(report, sort_keys=True),
            "started": self.started,
        }
        silent = {name for name in ("_drops", "_files") if self.lake.table(name).exists}
        # No version of these where nothing is said.
        changes = [each for each in changes if each.add or each.remove or each.table not in silent]
        part = self.lake.write_part(
            "_runs", f"run-{self.id}-{stage}", [pa.Table.from_pylist([row], schema=RUNS)], RUNS
        )
        changes.append(Change("_runs", RUNS, (part,)))
        versions = self.lake.commit(changes, app=app, version=version, info={"run": self.id, "stage": stage})
        self.context.watch.committed(stage, versions, changes, report)

    def _summary(self, *, unchanged: bool, seconds: float) -> dict[str, Any]:
        """The run as JSON: stages that had nothing to do are told as their last run left them.

        A run that had nothing to do at all is told as the last one that had.
        """
        stages = [INGEST, *(stage.name for stage in stages_of(self.config))]
        last = {name: row for name in stages if (row := ledger.last_run(self.lake, self.config.name, name))}
        if unchanged and last:
            newest = max(last.values(), key=lambda row: row["started"])
            self.id, self.started = newest["run"], newest["started"]
        reports = {name: json.loads(row["report"]) for name, row in last.items()}
        steps = [step for report in reports.values() for step in report["steps"]]
        learned = {
            label: found for report in reports.values() for label, found in report.get("learned", {}).items()
        }
        names = [self.config.raw, *(stage.target for stage in stages_of(self.config)), "_drops"]
        tables = {name: self.lake.table(name) for name in dict.fromkeys(names)}
        return {
            "run": self.id,
            "pipeline": self.config.name,
            "lake": str(self.lake.uri),
            "version": self.version,
            "status": "unchanged" if unchanged else self._status(last, reports),
            "outcome": self._status(last, reports),  # of the run that made the tables what they are
            "runner": self.context.runner.name,
            "limit": self.limit,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "config": self.config.model_dump(mode="json"),
            "rows_before": reports.get(INGEST, {}).get("rows_before", 0),
            "left": reports.get(INGEST, {}).get("left", {}),  # rows that went with their files, by rule
            "steps": steps,
            "tables": {
                name: {
                    "version": table.version,
                    "rows": table.count(),
                    "bytes": table.size_bytes,
                    "files": len(table.parts()),
                }
                for name, table in tables.items()
                if table.exists
            },
            "learned": learned,
        }

    def _status(self, last: dict[str, dict[str, Any]], reports: dict[str, Any]) -> str:
        """``rejects`` where this run read more bad rows than its configuration allows."""
        if INGEST not in last or last[INGEST]["run"] != self.id:
            return "ok"
        read = sum(step["rows_in"] for step in reports[INGEST]["steps"])
        bad = sum(
            number
            for step in reports[INGEST]["steps"]
            for rule, number in step["drops"].items()
            if rule not in _NO_REJECTS
        )
        return "rejects" if bad > self.config.allowed_rejects * read else "ok"


def _totals(stage: str, counts: Iterable[list[StepCount]]) -> list[dict[str, Any]]:
    """Counts of all parts, summed by step."""
    totals: dict[str, StepCount] = {}
    for of_part in counts:
        for count in of_part:
            totals.setdefault(count.step, StepCount(count.step)).add(count)
    return [{"stage": stage} | asdict(count) for count in totals.values()]


def _parts(parts: Iterable[Part | None]) -> tuple[Part, ...]:
    return tuple(part for part in parts if part is not None)


def _without(reused: frozenset[str], parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(part for part in parts if part.path not in reused)


def _present(table: Any) -> tuple[Part, ...]:
    return tuple(table.parts()) if table.exists else ()
