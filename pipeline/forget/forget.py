"""Forgetting rows: out of all tables in one commit, noted for ever, and out of pages, scratch and trials.

The order makes it exactly once. The commit takes the rows out and notes their digests, both or neither
(:mod:`lake.delta.pending`). All that follows looks for digests that are noted, so that a second try finds what
the first one left, whoever killed it and when.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake import ledger
from lake.errors import ConfigError, MissingTableError, StorageError
from lake.lake import MARKER, Change, Lake
from lake.scratch import FOLDER as STAGING
from lake.storage import BusyError
from pipeline.forget.known import APP, FORGOTTEN, RULE, TABLE, Known, digest
from pipeline.forget.proof import Proof, Search
from pipeline.forget.scrub import Scrubbed, scrubbed
from pipeline.stages.ingest import STAGE as INGEST
from pipeline.stages.leaving import LEFT

__all__ = ["Forgotten", "alone", "carry_over", "forget"]

_ID = re.compile(r"[0-9a-f]{32}\Z")
_SHOWN = 20


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten.

    Attributes:
        ids: contents that were asked for.
        new: of them those that had not been forgotten before.
        rows: rows that went, by table.
        places: ``file:row`` where they were read. They have to go there too, which is not for us to do.
        policies: learned from tables that held them, as ``pipeline: step (key)``; the next run learns anew.
        pages: reports that were written again without records, or deleted.
        proof: of a purge; None without one.
        unseen: the lake of trials, where it could not be looked at, with the reason; it may hold them too.
    """

    ids: int
    new: int
    rows: dict[str, int]
    places: tuple[str, ...]
    policies: tuple[str, ...]
    pages: tuple[str, ...]
    proof: Proof | None = None
    unseen: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)

    def render(self) -> str:
        """In words, for a terminal; the rows themselves are not named."""
        lines = [f"forgot {self.ids} content(s), {self.new} of them for the first time"]
        lines += [f"  {rows:>8,} row(s) out of {table}" for table, rows in sorted(self.rows.items()) if rows]
        lines += [f"  page    {page}" for page in self.pages]
        lines += [
            f"  policy  {each}: learned from tables that held a row; the next run learns anew"
            for each in self.policies
        ]
        if self.places:
            lines.append("  still to be taken out of the files they were read from:")
            lines += [f"    {place}" for place in self.places[:_SHOWN]]
            lines += [f"    and {len(self.places) - _SHOWN} more"] if len(self.places) > _SHOWN else []
        if self.proof is None:
            lines.append(
                "  earlier versions of the tables hold them until `gristmill maintain vacuum`, or --purge"
            )
        else:
            lines.append(f"  {self.proof}")
        if self.unseen is not None:
            lines.append(f"  not looked at: {self.unseen}; if `run --limit` was ever used, clear it by hand")
        lines.append("Rows that were dropped for their sake come back with the next `gristmill run`.")
        return "\n".join(lines)


def forget(
    lake: Lake,
    ids: Iterable[str] = (),
    source: str | None = None,
    reason: str | None = None,
    *,
    purge: bool = False,
) -> Forgotten:
    """Take rows out of a lake for good: they stay away even where a file that has them is read again.

    Killed at any moment and started again, it ends in the same state.

    Args:
        lake: the lake; no run may be under way in it.
        ids: contents, by ``_id`` (32 hex digits).
        source: the file, as in ``_source``, all of whose contents are meant, wherever else they stand.
        reason: kept with the digests: a ticket's number, not a name.
        purge: delete at once what earlier versions of the tables hold of the rows, and prove it.

    Raises:
        ConfigError: nothing was named, or what was named is no ``_id``.
        MissingTableError: no row was ever read from the source.
        ConcurrentRunError: a run, or maintenance, is under way.
    """
    wanted = _checked(ids)
    if not wanted and source is None:
        raise ConfigError("nothing to forget was named", hint="give an _id, or a source")
    lake.ensure()
    with alone(lake):
        lake.recover()
        known = Known.of(lake)
        if source is not None:
            wanted |= _of_source(lake, source)
        places = _places(lake, wanted)
        # Before the commit: a run that finds what a killed one had read would bring the rows back.
        lake.storage.delete_folder(STAGING)
        found, new = _commit(lake, wanted, known, reason)
        return _clean(lake, wanted, new, places, found, purge=purge)


def _clean(
    lake: Lake, wanted: set[str], new: int, places: tuple[str, ...], found: Scrubbed, *, purge: bool
) -> Forgotten:
    """All that follows the commit: nothing of it is asked to be done only once."""
    search = Search(lake, frozenset(wanted), Known.of(lake))
    unseen = _clear_trial(lake)
    pages = _pages(search)
    proof = None
    if purge:
        from pipeline.forget.purge import purge as purged

        proof = purged(search)
    return Forgotten(len(wanted), new, found.rows, places, _policies(lake, found), pages, proof, unseen)


def _clear_trial(lake: Lake) -> str | None:
    """A trial's lake is scratch too: the next trial makes it anew. Says which one a key was not good for."""
    trial = Lake(f"{lake.uri}-trial", lake.storage.options)
    try:
        there = trial.storage.size(MARKER) is not None
    except BusyError:
        raise
    except StorageError as error:  # a key for the lake's own prefix is enough for all else
        return f"{trial.uri} ({error.what})"
    if there:
        with alone(trial):
            trial.clear()
    return None


def _checked(ids: Iterable[str]) -> set[str]:
    found = {each.strip() for each in ids if each.strip()}
    for number, each in enumerate(sorted(found), start=1):
        if not _ID.match(each):
            raise ConfigError(
                f"name {number} of {len(found)} is no _id",
                why=f"an _id is 32 lower-case hex digits, this has {len(each)} characters",
                hint="find it with `gristmill why FILE:ROW`",
            )
    return found


@contextmanager
def alone(lake: Lake) -> Iterator[None]:
    """Hold the locks of all pipelines and of all their tables: a run under way has read what is to go."""
    with ExitStack() as stack:
        # First: a run that makes a new table takes this one too, once it holds those that are looked for now.
        stack.enter_context(lake.lock(APP))
        runs = set(ledger.runs(lake, None).column("pipeline").to_pylist())
        tables = {f"table-{name}" for name in lake.tables() if not name.startswith("_")}
        held = [entry.path for entry in lake.storage.entries("_locks", recursive=False)]
        held += lake.storage.folders("_locks")
        first = {name.rpartition("/")[2] for name in held}  # also of a pipeline that has not committed yet
        for name in sorted(runs | tables | {name for name in first if name.startswith("table-")}):
            stack.enter_context(lake.lock(name))
        yield


def _sourced(lake: Lake) -> Iterator[tuple[str, pa.Schema]]:
    """The tables whose rows say where they were read: those of records, and the ledger."""
    for name in lake.tables():
        schema = lake.table(name).schema()
        if {"_id", "_source"} <= set(schema.names) and pa.types.is_struct(schema.field("_source").type):
            yield name, schema


def _of_source(lake: Lake, source: str) -> set[str]:
    """The contents of a file, by all that any table says of it."""
    found: set[str] = set()
    uri, seen = pc.field("_source", "uri"), False
    for name, _ in _sourced(lake):
        mine = lake.table(name).to_table(columns=["_id"], filter=uri == source)
        found |= {each for each in mine.column("_id").to_pylist() if each is not None}
        seen = seen or mine.num_rows > 0
    if not seen:
        raise MissingTableError(
            f"no row was read from {source!r}",
            where=lake.uri,
            hint="give the file as `_source` names it: see `gristmill show raw`",
        )
    return found


def _places(lake: Lake, ids: set[str]) -> tuple[str, ...]:
    """Where the rows were read, and still are."""
    found: set[tuple[str, int]] = set()
    mine = pc.field("_id").isin(pa.array(sorted(ids), pa.string()))
    for name, _ in _sourced(lake):
        there = ~pc.field("rule").isin(pa.array(LEFT)) if name == ledger.DROPS_TABLE else pc.scalar(True)  # noqa: FBT003
        rows = lake.table(name).to_table(columns=["_source"], filter=mine & there)
        found |= {
            (each["uri"], each["row"] or 0)
            for each in rows.column("_source").to_pylist()
            if each and each["uri"]
        }
    return tuple(f"{uri}:{row}" if row else uri for uri, row in sorted(found))


def _commit(lake: Lake, ids: set[str], known: Known, reason: str | None) -> tuple[Scrubbed, int]:
    """Take the rows out and note their digests, in one commit; nothing where both was done before."""
    version = (lake.table(TABLE).transaction_version(APP) or 0) + 1
    new = sorted(each for each in ids if each not in known)
    # Two who forget at once, since one had lost its leases, write different files.
    found = scrubbed(lake, sorted(ids), _owners(lake), f"{version}-{digest(repr(sorted(ids)))[:12]}")
    changes = list(found.changes)
    if new:
        rows = [{"digest": digest(each), "reason": reason, "made": datetime.now(UTC)} for each in new]
        changes.insert(0, _noted(lake, rows, version))
    elif changes:
        # A table of somebody else's has it again: the version stands in ours.
        changes.insert(0, Change(TABLE, FORGOTTEN))
    if changes:
        lake.commit(changes, app=APP, version=version, info={"stage": APP})
    return found, len(new)


def _noted(lake: Lake, rows: Sequence[dict[str, Any]], version: int) -> Change:
    name = f"{RULE}-{version}-{digest(repr(rows))[:12]}"
    part = lake.write_part(TABLE, name, [pa.Table.from_pylist(list(rows), schema=FORGOTTEN)], FORGOTTEN)
    return Change(TABLE, FORGOTTEN, (part,))


def _owners(lake: Lake) -> dict[str, str]:
    """By table, the pipeline that fills it from files."""
    rows = ledger.runs(lake).select(["pipeline", "stage", "report"]).to_pylist()
    return {
        json.loads(row["report"])["inputs"]["target"]: row["pipeline"] for row in rows if row["stage"] == INGEST
    }


def _policies(lake: Lake, found: Scrubbed) -> tuple[str, ...]:
    """The policies that were learned by pipelines whose tables held a row."""
    rows = ledger.runs(lake).select(["pipeline", "report"]).to_pylist()
    mine = {row["pipeline"] for row in rows if found.rows.get(json.loads(row["report"])["inputs"]["target"])}
    table = lake.table("_policies")
    learned = (
        table.to_table(columns=["pipeline", "step", "key", "evidence"]).to_pylist() if table.exists else []
    )
    return tuple(
        sorted(
            f"{row['pipeline']}: {row['step']} ({row['key'][:12]})"
            for row in learned
            if row["pipeline"] in mine and row["evidence"] != "{}"
        )
    )


def _pages(search: Search) -> tuple[str, ...]:
    """Write reports again that show a forgotten row, without records; other files that name one are deleted."""
    from pipeline.report.report import FOLDER, HTML, JSON, Report
    from pipeline.report.samples import Samples

    storage, done = search.lake.storage, []
    for entry in storage.entries(FOLDER):
        folder, _, name = entry.path.rpartition("/")
        if search.holds(entry):
            if name == HTML and storage.size(f"{folder}/{JSON}") is not None:
                run = json.loads(storage.read(f"{folder}/{JSON}"))
                storage.write(entry.path, Report(run, Samples.withheld()).to_html().encode())
            else:
                storage.delete(entry.path)
            done.append(entry.path)
    return tuple(done)


def carry_over(lake: Lake, trial: Lake) -> None:
    """Let a trial's lake, which is empty, know what the real one has forgotten."""
    table = lake.table(TABLE)
    if table.exists and (rows := table.to_table().to_pylist()):
        trial.commit([_noted(trial, rows, 1)], app=APP, version=1)
