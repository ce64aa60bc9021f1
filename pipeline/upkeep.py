"""Keeping a lake small and sound, all of it at once: what ``gristmill maintain run`` does.

It may run at any time, beside runs and readers, and be killed at any moment. One process in a lake does it at a
time. A table that a run is at is left for next time.

What is known here and not in :mod:`lake.maintenance` is what follows what. The index of a table (see
:mod:`pipeline.matching.index`) has a part for each part of the table: both are compacted in one commit, so that
no row is sketched again. The tables that a run derives have a part for each part of the table that they are
made of: they are not compacted, since the next run would make them anew; it joins them, as their source was.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake import ledger
from lake.delta import locks
from lake.delta.commit import Change
from lake.delta.parts import Part, load_part
from lake.errors import ConcurrentRunError, MissingPartError
from lake.lake import MARKER, Lake
from lake.maintenance import LOCK, Retention, check_age
from lake.maintenance.checking import is_there
from lake.maintenance.cleaning import cutoff_of, delete, homeless, leftovers, useless
from lake.maintenance.compaction import Group, groups, merge, rewrite
from lake.maintenance.dropping import drop, droppable
from lake.maintenance.logs import CHECKPOINT_EVERY, checkpoint, cut, expired, log_of
from lake.storage import Entry
from pipeline.forget.forget import alone
from pipeline.matching.index import FOLLOWING, TABLES, part_name
from pipeline.report.report import FOLDER as REPORTS
from pipeline.stages.emitted import TABLE as EMITTED
from pipeline.stages.ingest import STAGE as INGEST

__all__ = ["Action", "Upkeep", "maintain", "worth_compacting"]

_log = logging.getLogger(__name__)

_DAY = 86400.0
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that was done, or would be.

    Args:
        what: recover, compact, checkpoint, forget-runs, log, files, staging, index, reports, trial or locks.
        where: the table or the folder.
        files: that went.
        bytes: of them.
        note: more about it, for a person.
    """

    what: str
    where: str
    files: int = 0
    bytes: int = 0
    note: str = ""


@dataclass(frozen=True)
class Upkeep:
    """What maintenance did, or would do."""

    lake: str
    dry_run: bool
    actions: tuple[Action, ...]
    busy: tuple[str, ...]
    """What a run was at: left for next time."""
    damaged: tuple[str, ...]
    """Tables that lack a file, which was found when they were to be compacted: `maintain verify` tells more."""
    seconds: float

    @property
    def bytes(self) -> int:
        """Bytes that were freed, or would be; a compaction frees none until its old files go."""
        return sum(each.bytes for each in self.actions)

    def to_dict(self) -> dict[str, Any]:
        """As ``gristmill maintain run --json`` prints it."""
        return {**asdict(self), "actions": [asdict(each) for each in self.actions], "bytes": self.bytes}

    def render(self) -> str:
        """In words, for a terminal."""
        from lake.show import bytes_text

        lines = [f"{'would tidy' if self.dry_run else 'tidied'} {self.lake}"]
        for each in self.actions:
            size = f"{each.files:,} files, {bytes_text(each.bytes)}" if each.files else ""
            lines.append(
                f"  {each.what:<12} {each.where:<28} {'; '.join(filter(None, (size, each.note)))}".rstrip()
            )
        lines += [f"  busy         {name}: a run is at it, next time" for name in self.busy]
        lines += [
            f"  damaged      {name}: a file is gone, see `gristmill maintain verify`" for name in self.damaged
        ]
        if not self.actions:
            lines.append("  nothing to do")
        return "\n".join(lines)


def maintain(
    lake: Lake,
    retention: Retention | None = None,
    *,
    dry_run: bool = False,
    force: bool = False,
    wait: float = 0.0,
) -> Upkeep:
    """Bring a lake into order: recover, compact, cut logs, and delete what nobody needs.

    Args:
        lake: the lake.
        retention: how long what stays; see :class:`~lake.maintenance.Retention` for what holds unless given.
        dry_run: change nothing, and say what would be done. What follows from a compaction (its old files go,
            some day) is not foreseen.
        force: allow ``files_hours`` below :data:`lake.maintenance.SAFE_HOURS`, while nobody reads.
        wait: seconds to wait for another maintenance, and (up to half a minute) for a run that is at a table.

    Raises:
        ConcurrentRunError: another maintenance is at work.
        NotALakeError: the folder holds something else.
        LakeError: ``files_hours`` is not safe.
        StorageError: the disk is full, or the object store refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     maintain(Lake(folder)).actions
    ()
    """
    kept = retention or Retention()
    check_age(kept.files_hours, force=force)
    began = time.perf_counter()
    lake.tables()  # raises where something else is there
    if lake.storage.size(MARKER) is None:
        return Upkeep(str(lake.uri), dry_run, (), (), (), 0.0)  # looking after a lake does not make one
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(lake.lock(LOCK, wait=wait))
        work = _Work(lake, kept, dry_run, wait)
        actions = tuple(work.all())
    seconds = round(time.perf_counter() - began, 3)
    return Upkeep(str(lake.uri), dry_run, actions, tuple(work.busy), tuple(work.damaged), seconds)


def worth_compacting(lake: Lake) -> list[str]:
    """The tables of which small files may be joined: all but those whose parts belong to parts of others."""
    derived = {target for target, stage in _targets(ledger.runs(lake)).items() if stage != INGEST}
    return [
        name
        for name in lake.tables()
        if name not in derived and name != EMITTED and not name.startswith(FOLLOWING)
    ]


def _targets(runs: pa.Table) -> dict[str, str]:
    """The tables that runs filled, with the stage that did it last."""
    return {
        json.loads(row["report"])["inputs"]["target"]: row["stage"]
        for row in runs.select(["stage", "report"]).to_pylist()
    }


@dataclass
class _Work:
    """Maintenance under way."""

    lake: Lake
    kept: Retention
    dry_run: bool
    wait: float = 0.0
    busy: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    now: float = field(default_factory=time.time)

    def all(self) -> Iterator[Action]:
        """Everything, in an order in which each step finds what the one before has left."""
        steps: tuple[Callable[[], Iterable[Action]], ...] = (
            self.recover,
            self.runs,
            self.compact,
            self.indexes,
            self.logs,
            self.files,
            self.reports,
            self.trial,
            self.locks,
        )
        for step in steps:
            yield from step()

    @cached_property
    def last(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The last run of each stage, by pipeline and stage."""
        rows = ledger.runs(self.lake).to_pylist()
        return {(row["pipeline"], row["stage"]): row for row in rows}

    def recover(self) -> Iterator[Action]:
        """Commits that dead processes left half done."""
        if not self.dry_run:
            for done in self.lake.recover():
                yield Action("recover", "_pending", note=done)

    # Rows and parts

    def runs(self) -> Iterator[Action]:
        """Rows of ``_runs`` that are old; the last ones of each stage stay."""
        table = self.lake.table(ledger.RUNS_TABLE)
        if not table.exists:
            return
        found = table.snapshot()
        parts = sorted(found.parts(), key=lambda part: (part.added, part.path))
        stay = pa.array([row["run"] for row in self.last.values()], pa.string())
        cutoff = pa.scalar(datetime.fromtimestamp(self.now - self.kept.runs_days * _DAY, UTC))

        def keep(rows: pa.Table) -> pa.Table:
            return rows.filter(
                pc.or_(pc.greater_equal(rows["started"], cutoff), pc.is_in(rows["run"], value_set=stay))
            )

        old = table.to_table(columns=["run", "started"])
        gone = old.num_rows - keep(old).num_rows
        if not gone:
            return
        yield Action("forget-runs", ledger.RUNS_TABLE, note=f"{gone} rows")
        if not self.dry_run:
            name = f"runs-{found.version}-{self.now * 1000:.0f}"  # another who had our lease keeps other rows
            made = rewrite(self.lake, found, parts, name=name, keep=keep)
            # No run removes a part of this table, so that none is disturbed; what is appended meanwhile stays.
            change = Change(table.name, found.schema, (made,), tuple(parts))
            app = f"retain/{table.name}"
            self.lake.commit([change], app=app, version=(table.transaction_version(app) or 0) + 1)

    def compact(self) -> Iterator[Action]:
        """Small files, where it pays."""
        for name in worth_compacting(self.lake):
            found = self.lake.table(name).snapshot()
            parts = [part for part in found.parts() if part.partition.get("stage", INGEST) == INGEST]
            chosen = groups(parts, self.kept.target_bytes, self.kept.small_files)
            if not chosen:
                continue
            before = sum(len(group) for group in chosen)
            note = f"{before} files into {len(chosen)}"
            if not self.dry_run:
                try:
                    merge(
                        self.lake,
                        found,
                        chosen,
                        companions=self._companions,
                        locks=self._owners(name),
                        patience=self.wait,
                    )
                except ConcurrentRunError as error:
                    _log.info("%s: %s", name, error.what)
                    self.busy.append(name)
                    continue
                except MissingPartError as error:  # no reason to let all else grow
                    _log.warning("%s: %s", name, error)
                    self.damaged.append(name)
                    continue
            yield Action("compact", name, note=note)

    def _owners(self, table: str) -> list[str]:
        """The pipelines that fill a table, or to whose index it belongs."""
        index = next((table.removeprefix(p) for p in TABLES if table.startswith(p)), None)
        mine = {owner for (owner, _), names in self._indexes().items() if index in names}
        mine |= {
            owner
            for (owner, _), row in self.last.items()
            if json.loads(row["report"])["inputs"]["target"] == table
        }
        return sorted(mine)

    def _indexes(self) -> dict[tuple[str, str], list[str]]:
        return {key: json.loads(row["report"]).get("indexes", []) for key, row in self.last.items()}

    def _companions(self, group: Group, made: Part) -> list[tuple[Part, Group]]:
        """The parts of indexes that belong to the parts of a group, joined in the same order."""
        along = []
        for name in self.lake.tables():
            if name.startswith(FOLLOWING):
                found = self.lake.table(name).snapshot()
                there = {part.path: part for part in found.parts()}
                wanted = [f"{part_name(part)}.parquet" for part in group]
                if all(path in there for path in wanted):
                    mine = tuple(there[path] for path in wanted)
                    along.append((self._join(name, mine, made), mine))
        return along

    def _join(self, name: str, mine: Group, made: Part) -> Part:
        """One part of an index for what its source's became; the footer's notes are those of the first."""
        first = load_part(self.lake.storage, name, mine[0].path, {})
        notes: Mapping[str, str] = first.notes if first else {}
        joined = rewrite(self.lake, self.lake.table(name).snapshot(), mine, name=part_name(made), notes=notes)
        return replace(joined, added=mine[-1].added)

    def indexes(self) -> Iterator[Action]:
        """Indexes that no stage uses any more: their tables are empty, and go when they are old."""
        used = {name for names in self._indexes().values() for name in names}
        cutoff = self.now - self.kept.files_hours * _HOUR
        owners = {pipeline for pipeline, _ in self.last}
        for table in self.lake.tables():
            prefix = next((each for each in TABLES if table.startswith(each)), None)
            if prefix is None or table.removeprefix(prefix) in used or not droppable(self.lake, table, cutoff):
                continue
            size = self.lake.storage.entries(table)
            if not self.dry_run:
                try:
                    with ExitStack() as stack:
                        for owner in sorted(owners):  # whose it was is not written down
                            stack.enter_context(self.lake.lock(owner))
                        if not droppable(self.lake, table, cutoff):
                            continue  # a run has filled it since we looked
                        drop(self.lake, table)
                except ConcurrentRunError:
                    self.busy.append(table)
                    continue
            yield _went("index", table, size)

    # Files

    def logs(self) -> Iterator[Action]:
        """Checkpoints that are missing, and what of the logs is old."""
        cutoff = self.now - self.kept.log_days * _DAY
        for table in self.lake.tables():
            if log_of(self.lake, table).lag > CHECKPOINT_EVERY:
                made = None if self.dry_run else checkpoint(self.lake, table)
                yield Action("checkpoint", table, note="" if made is None else f"of version {made}")
            if old := expired(self.lake, table, cutoff, self.now):
                if not self.dry_run:
                    cut(self.lake, table, old)
                yield _went("log", table, old)

    def files(self) -> Iterator[Action]:
        """Files that no table needs, and what dead runs left."""
        cutoff = cutoff_of(self.lake, self.kept.files_hours)
        for table in self.lake.tables():
            yield from self._delete("files", table, useless(self.lake, table, cutoff), cutoff)
        yield from self._delete("staging", "_staging", leftovers(self.lake, cutoff), cutoff)
        yield from self._delete("staging", "tables without a log", homeless(self.lake, cutoff), cutoff)

    def _delete(self, what: str, where: str, old: Sequence[Entry], cutoff: float) -> Iterator[Action]:
        gone = {entry.path for entry in old} if self.dry_run else set(delete(self.lake, old, cutoff))
        if gone:
            yield _went(what, where, [entry for entry in old if entry.path in gone])

    def reports(self) -> Iterator[Action]:
        """Reports that are old; that of the last run of each stage stays."""
        cutoff = self.now - self.kept.reports_days * _DAY
        stay = {row["run"] for row in self.last.values()}
        for run in self.lake.storage.folders(REPORTS):
            files = self.lake.storage.entries(f"{REPORTS}/{run}")
            if run not in stay and all(entry.modified < cutoff for entry in files):
                if not self.dry_run:
                    self.lake.storage.delete_folder(f"{REPORTS}/{run}")
                yield _went("reports", run, files)

    def trial(self) -> Iterator[Action]:
        """The lake of trials beside this one."""
        trial = Lake(f"{str(self.lake.uri).rstrip('/')}-trial", self.lake.storage.options)
        if not is_there(trial):
            return
        folders = [folder for folder in trial.storage.folders() if folder != locks.FOLDER]
        files = [entry for folder in folders for entry in trial.storage.entries(folder)]
        cutoff = self.now - self.kept.trials_days * _DAY
        if files and all(entry.modified < cutoff for entry in files) and not locks.holders(trial.storage):
            if not self.dry_run:
                try:
                    with alone(trial):
                        trial.clear()
                except ConcurrentRunError:  # a trial has just begun
                    self.busy.append(str(trial.uri))
                    return
            yield _went("trial", str(trial.uri), files)

    def locks(self) -> Iterator[Action]:
        """The files of locks that nobody takes any more."""
        cutoff = self.now - self.kept.locks_days * _DAY
        gone = locks.unused(self.lake.storage, cutoff, dry_run=self.dry_run)
        if gone:
            yield Action("locks", locks.FOLDER, len(gone))


def _went(what: str, where: str, files: Sequence[Entry]) -> Action:
    return Action(what, where, len(files), sum(entry.size for entry in files))
