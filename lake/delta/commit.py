"""One table of the Delta log: snapshots, and commits that happen exactly once.

delta-rs neither validates what is committed nor enforces application transactions. So every commit here is
strict: load the newest snapshot, check, and write the next log entry or nothing (``max_commit_retries=0``);
when somebody else was quicker, load and check again.

Each commit of ours carries two application transactions: ``(app, version)`` and ``(app + "#wal", mark)``,
where the mark is 62 bits of the write-ahead id. So whether a version was taken, and by whom, is answered by
the snapshot alone; both survive checkpoints and our compaction.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lake.delta.parts import Part, canonical
from lake.delta.snapshot import Snapshot, commit_info, entry_path, first_line, reread, snapshot, was_cut
from lake.errors import ConcurrentRunError, MissingTableError, SchemaError, StorageError
from lake.storage import BusyError, Storage, refused

if TYPE_CHECKING:
    from deltalake import CommitProperties

__all__ = [
    "Change",
    "Stamp",
    "State",
    "commit_table",
    "find_commit",
    "new_columns",
    "prepare",
    "refuse",
    "state",
]

# A checkpoint every 10 commits is delta-rs's own habit for readers' sake; log entries are never expired on
# the side, because a training set's version must stay readable until `vacuum` is asked to remove it.
_CONFIGURATION = {"delta.checkpointInterval": "10", "delta.enableExpiredLogCleanup": "false"}
_PATIENCE = 300.0  # seconds of losing every race before a commit gives up
_LONGEST_PAUSE = 0.2
_UNANSWERED = 7  # attempts that may end without an answer: of an object store, in about half a minute

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does to one table.

    ``schema`` is the whole table's, partition columns included; nullable columns that the table lacks are
    added to it. ``data_change`` is False where the rows stay the same (compaction).
    """

    table: str
    schema: pa.Schema
    add: tuple[Part, ...] = ()
    remove: tuple[Part, ...] = ()
    partition_by: tuple[str, ...] = ()
    data_change: bool = True


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who commits: the application, its version, the id of the write-ahead file, and notes for the history."""

    app: str
    version: int
    wal: str
    info: Mapping[str, str]

    @property
    def mark(self) -> int:
        """The write-ahead id as a transaction version: Delta keeps those as signed 64-bit numbers."""
        return int(self.wal[:16], 16) >> 2


class State(Enum):
    """What a table's log says of a commit."""

    NEW = "not committed yet"
    OURS = "committed"
    FOREIGN = "somebody else committed this version or a later one"


def state(storage: Storage, current: Snapshot | None, stamp: Stamp) -> State:
    """Whether ``current`` contains the commit already."""
    if current is None:
        return State.NEW
    last = current.delta.transaction_version(stamp.app)
    if last is None or last < stamp.version:
        return State.NEW
    if last == stamp.version and current.delta.transaction_version(f"{stamp.app}#wal") == stamp.mark:
        return State.OURS
    # A later version of the application is there: the log tells whether ours came before it.
    return State.OURS if find_commit(storage, current, stamp) is not None else State.FOREIGN


def find_commit(storage: Storage, current: Snapshot, stamp: Stamp) -> int | None:
    """The table's version that the commit made, by reading the log backwards; None if it is not there."""
    for version in range(current.version, -1, -1):
        found = commit_info(storage, current.name, version)
        if found is None:
            return None
        if found.get("gristmill.wal") == stamp.wal:
            return version
    return None


def prepare(storage: Storage, name: str, schema: pa.Schema, partition_by: Sequence[str]) -> None:
    """Create the table, or add the columns it lacks. Safe to repeat, and under a race.

    Raises:
        SchemaError: a column has another type there, or the table is partitioned otherwise.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError

    known = snapshot(storage, name)
    if known is not None and not new_columns(known, schema, partition_by, storage.address(name)):
        return
    unanswered: list[Exception] = []
    for pause in _pauses(storage.address(name)):
        current = snapshot(storage, name, fresh=True)
        missing = (
            schema if current is None else new_columns(current, schema, partition_by, storage.address(name))
        )
        if not missing:
            return
        try:
            with _translated(storage, name):
                if current is None:
                    _create(storage, name, schema, partition_by)
                else:
                    current.delta.alter.add_columns(_fields(missing), commit_properties=_strict())
        except CommitFailedError:
            time.sleep(pause)
        except (BusyError, DeltaError, FileNotFoundError) as error:
            # It may have been done all the same, by us or by another: look again.
            _synced(storage, name, current)
            unanswered.append(error)
            _wait_or_raise(unanswered, pause if storage.local else None)
        else:
            _synced(storage, name, current)
            return


def _synced(storage: Storage, name: str, before: Snapshot | None) -> None:
    """Make the log entry after a snapshot survive a power cut, if it is there."""
    storage.sync(entry_path(name, 0 if before is None else before.version + 1))
    if before is None:
        storage.sync(f"{name}/_delta_log")


def _create(storage: Storage, name: str, schema: pa.Schema, partition_by: Sequence[str]) -> None:
    from deltalake import DeltaTable

    # Without `max_commit_retries=0` a racing second create would replace the metadata.
    DeltaTable.create(
        storage.address(name),
        schema,
        partition_by=list(partition_by),
        configuration=_CONFIGURATION,
        storage_options=storage.delta_options,
        commit_properties=_strict(),
    )


def new_columns(current: Snapshot, schema: pa.Schema, partition_by: Sequence[str], where: str) -> pa.Schema:
    """The columns of ``schema`` that the table lacks; :class:`SchemaError` where the two contradict."""
    if tuple(partition_by) != current.partition_by:
        why = f"it has {list(current.partition_by)}, the change has {list(partition_by)}"
        raise SchemaError("the table is partitioned otherwise", where=where, why=why)
    for column in current.schema:
        if not column.nullable and column.name not in schema.names:
            raise SchemaError(
                f"column {column.name!r} is missing and may not be null in the table", where=where
            )
    missing = []
    for column in schema:
        index = current.schema.get_field_index(column.name)
        if index < 0:
            if not column.nullable:
                why = "rows that are there already have no value for it"
                raise SchemaError(f"new column {column.name!r} must be nullable", where=where, why=why)
            missing.append(column)
        elif not current.schema.field(index).type.equals(column.type):
            why = f"it is {current.schema.field(index).type} there, {column.type} here"
            raise SchemaError(
                f"column {column.name!r} has another type in the table",
                where=where,
                why=why,
                hint="give the new column another name, or write to another table",
            )
        elif column.nullable and not current.schema.field(index).nullable:
            raise SchemaError(f"column {column.name!r} may not be null in the table", where=where)
    return pa.schema(missing)


def commit_table(storage: Storage, stamp: Stamp, change: Change, *, deciding: bool) -> int:
    """Commit one table's share of a change; returns the table's version that holds it.

    ``deciding`` is true for the first table: while it has not been committed the whole change may still be
    refused; afterwards it can only be carried through.

    Raises:
        ConcurrentRunError: (deciding) somebody else has taken the version, or a part to remove is gone.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError

    where = storage.address(change.table)
    unanswered: list[Exception] = []
    for pause in _pauses(where):
        current, done = _look(storage, stamp, change, deciding=deciding)
        if done is not None:
            storage.sync(entry_path(change.table, done))  # who wrote it may have been killed before he did
            return done
        there = {part.path: part for part in current.parts()}
        try:
            with _translated(storage, change.table):
                current.delta.create_write_transaction(
                    _actions(change, there),
                    mode="append",
                    schema=current.delta.schema(),
                    partition_by=list(current.partition_by),
                    commit_properties=_properties(current, stamp, change),
                )
        except CommitFailedError:
            time.sleep(pause)
        except (BusyError, DeltaError, FileNotFoundError) as error:
            # An object store may fail after the entry was written; and delta-rs, which reads the log again for
            # every tenth checkpoint, may miss what was cut meanwhile. The log tells whether it was written.
            unanswered.append(error)
            _wait_or_raise(unanswered, pause if storage.local else None)
        else:
            _synced(storage, change.table, current)
            return current.version + 1
    raise AssertionError  # pragma: no cover  (_pauses raises when patience ends)


@reread
def _look(storage: Storage, stamp: Stamp, change: Change, *, deciding: bool) -> tuple[Snapshot, int | None]:
    """The newest snapshot, and its version that holds the commit; raises where it must not be committed."""
    where = storage.address(change.table)
    current = snapshot(storage, change.table, fresh=True)
    if current is None:
        raise MissingTableError("the table vanished during a commit", where=where)
    if state(storage, current, stamp) is State.OURS:
        return current, find_commit(storage, current, stamp) or current.version
    if deciding:
        refuse(storage, current, stamp, change, {part.path: part for part in current.parts()})
    return current, None


def refuse(
    storage: Storage, current: Snapshot, stamp: Stamp, change: Change, there: Mapping[str, Part]
) -> None:
    """Raise :class:`ConcurrentRunError` if the change no longer fits the table it was made for."""
    where = storage.address(change.table)
    if state(storage, current, stamp) is State.FOREIGN:
        raise ConcurrentRunError(
            f"version {stamp.version} of {stamp.app!r} was committed by another run",
            where=where,
            hint="run again: the new run starts from what the other one committed",
        )
    gone = [part.path for part in change.remove if part.path not in there]
    if gone:
        raise ConcurrentRunError(
            f"{len(gone)} of the parts to replace are gone, the first is {gone[0]}",
            where=where,
            why="another run replaced them first",
            hint="run again",
        )
    twice = [part.path for part in change.add if part.path in there]
    if twice:
        raise ConcurrentRunError(
            f"{len(twice)} of the new parts are in the table already, the first is {twice[0]}",
            where=where,
            hint="a part's name must tell its content apart: add the run or a hash of the inputs to it",
        )


def _actions(change: Change, there: Mapping[str, Part]) -> list[Any]:
    from deltalake.transaction import AddAction, RemoveAction

    moved = change.data_change
    now = time.time_ns() // 1_000_000
    # Strictly growing from commit to commit whatever the clocks say: readers order rows by it.
    tick = max([now, *(part.added + 1 for part in there.values())])
    gone = [there[part.path] for part in change.remove if part.path in there]
    if len(gone) < len(change.remove):
        _log.warning("%s: parts to remove are gone already, while a commit is carried through", change.table)
    return [
        *(RemoveAction(p.path, moved, now, p.bytes, dict(p.partition)) for p in gone),
        *(
            # What stands for rows that were there keeps their place.
            AddAction(p.path, p.bytes, p.partition, p.added or tick, moved, p.stats)
            for p in change.add
            if p.path not in there
        ),
    ]


def _properties(current: Snapshot, stamp: Stamp, change: Change) -> CommitProperties:
    from deltalake import CommitProperties, Transaction

    last = current.delta.transaction_version(stamp.app)
    late = last is not None and last > stamp.version
    transactions = [Transaction(stamp.app, stamp.version), Transaction(f"{stamp.app}#wal", stamp.mark)]
    return CommitProperties(
        max_commit_retries=0,
        # A change that is carried through after its successor must not turn the version back.
        app_transactions=[] if late else transactions,
        custom_metadata={
            "gristmill.app": stamp.app,
            "gristmill.version": stamp.version,
            "gristmill.wal": stamp.wal,
            "gristmill.rows_added": sum(part.rows for part in change.add),
            "gristmill.rows_removed": sum(part.rows for part in change.remove),
            "gristmill.info": dict(stamp.info),
        },
    )


def _strict() -> CommitProperties:
    from deltalake import CommitProperties

    return CommitProperties(max_commit_retries=0)


def _fields(columns: pa.Schema) -> list[Any]:
    from deltalake import Schema

    return list(Schema.from_arrow(canonical(columns)).fields)


def _pauses(where: str) -> Iterator[float]:
    """Growing random pauses between attempts, until patience ends."""
    deadline = time.monotonic() + _PATIENCE
    longest = 0.005
    while time.monotonic() < deadline:
        yield random.uniform(0, longest)  # noqa: S311  (spreads racers out; no secret)
        longest = min(2 * longest, _LONGEST_PAUSE)
    raise ConcurrentRunError(
        f"the table changed under every attempt to commit, for {_PATIENCE:g} seconds",
        where=where,
        hint="let fewer writers commit to it at once, then run again",
    )


def _wait_or_raise(unanswered: Sequence[Exception], pause: float | None = None) -> None:
    """Wait, ever longer unless told how long, until too many attempts had no answer."""
    if len(unanswered) >= _UNANSWERED:
        raise unanswered[-1]
    if pause is None:
        longest = min(2.0 ** (len(unanswered) - 1), 8.0)
        pause = random.uniform(longest / 2, longest)  # noqa: S311  (spreads racers out; no secret)
    time.sleep(pause)


@contextmanager
def _translated(storage: Storage, name: str) -> Iterator[None]:
    """A full disk or a refusing store, as delta-rs reports it, is a :class:`StorageError` and no lost race."""
    from deltalake.exceptions import DeltaError

    where = storage.address(name)
    try:
        yield
    except (DeltaError, OSError) as error:
        if any(f"os error {number}" in str(error) for number in (13, 27, 28, 30, 122)):
            raise StorageError(
                "the table's log cannot be written",
                where=where,
                why=first_line(error),
                hint="free some space or check the permissions, then run again",
            ) from error
        if isinstance(error, OSError) and not storage.local and not was_cut(error):
            raise refused(error, where, storage.options) from error
        raise
