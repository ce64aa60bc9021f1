"""Commits over several tables, all or nothing in effect, by a write-ahead file.

The protocol, for a change over tables t1, t2, ...:

1. check the parts, and that no table has ``(app, version)`` from somebody else;
2. claim ``_pending/<app>-<version>.json`` with the whole change in it (the claim is atomic: of two changes
   with the same app and version one gets it, and the other completes that one, then gives up);
3. check again, make the parts young so that no vacuum takes them, create missing tables, add missing columns;
4. commit t1: from here on the change counts;
5. commit t2, ...; each table's log says whether it has the change, so anybody can carry it through, twice,
   or at once with its owner;
6. delete the write-ahead file.

A process killed before 2 leaves nothing but unreferenced files, after 2 a file that the next ``recover()``,
or the next commit of the same app, carries through. The id of a change is a digest of what it does, so a
retry of the same commit is the same change. While it is under way a reader may see t1 without t2.

Changes that *remove* parts also hold the lock "rewrite": a removed part must still be there when its table's
turn comes. In an object store that lock is a lease, and the one hole left is a rewrite over two or more
tables whose process is frozen for over a minute in the middle.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import pyarrow as pa

from lake.delta.commit import (
    Change,
    Stamp,
    State,
    commit_table,
    find_commit,
    new_columns,
    prepare,
    refuse,
    state,
)
from lake.delta.locks import lock
from lake.delta.parts import Part, canonical, check_part, file_schema
from lake.delta.snapshot import reread, snapshot
from lake.errors import ConcurrentRunError, LakeError, MissingPartError, SchemaError
from lake.storage import Storage

__all__ = ["FOLDER", "Pending", "commit", "pending", "recover"]

FOLDER = "_pending"
_FORMAT = 1
_PARTITION_TYPES = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_date)
_ABANDONED = 3600.0  # seconds after which a refused change is certainly nobody's any more
_READERS = 16  # footers read at once: latency in an object store, not work

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Pending:
    """A change over several tables, as the write-ahead file holds it."""

    app: str
    version: int
    info: Mapping[str, str]
    changes: tuple[Change, ...]
    created: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        """A digest of what the change does; ``info`` and the time are not part of it."""
        what = [
            self.app,
            self.version,
            [
                [
                    c.table,
                    str(c.schema),
                    list(c.partition_by),
                    sorted([p.path, p.bytes, p.rows] for p in c.add),
                    sorted(p.path for p in c.remove),
                ]
                for c in self.changes
            ],
        ]
        return hashlib.blake2b(json.dumps(what).encode(), digest_size=16, person=b"gristmill-wal").hexdigest()

    @property
    def stamp(self) -> Stamp:
        """What each table's log entry carries."""
        return Stamp(self.app, self.version, self.id, self.info)

    @property
    def path(self) -> str:
        """The write-ahead file."""
        return f"{FOLDER}/{_slug(self.app)}-{self.version}.json"

    @property
    def rewrites(self) -> bool:
        """Whether parts are removed."""
        return any(change.remove for change in self.changes)

    def dump(self) -> bytes:
        """JSON."""
        tables = [
            {
                "table": c.table,
                "schema": b64encode(c.schema.serialize().to_pybytes()).decode(),
                "partition_by": list(c.partition_by),
                "data_change": c.data_change,
                "add": [asdict(part) for part in c.add],
                "remove": [asdict(part) for part in c.remove],
            }
            for c in self.changes
        ]
        head = {"format": _FORMAT, "app": self.app, "version": self.version, "created": self.created}
        return json.dumps({**head, "info": dict(self.info), "tables": tables}).encode()

    @classmethod
    def load(cls, data: bytes, where: str) -> Pending:
        """The inverse of :meth:`dump`."""
        raw = json.loads(data)
        if raw["format"] > _FORMAT:
            raise LakeError(
                "a pending commit was written by a newer version", where=where, hint="upgrade gristmill"
            )
        changes = tuple(
            Change(
                table=t["table"],
                schema=pa.ipc.read_schema(pa.py_buffer(b64decode(t["schema"]))),
                add=tuple(Part(**part) for part in t["add"]),
                remove=tuple(Part(**part) for part in t["remove"]),
                partition_by=tuple(t["partition_by"]),
                data_change=t["data_change"],
            )
            for t in raw["tables"]
        )
        return cls(raw["app"], raw["version"], raw["info"], changes, raw["created"])


def _slug(app: str) -> str:
    digest = hashlib.blake2b(app.encode(), digest_size=4).hexdigest()
    return f"{re.sub('[^A-Za-z0-9.]', '_', app)[:80]}-{digest}"


def commit(
    storage: Storage, changes: Sequence[Change], app: str, version: int, info: Mapping[str, str]
) -> dict[str, int]:
    """See :meth:`lake.lake.Lake.commit`."""
    wanted = Pending(app, version, dict(info), tuple(_normal(change) for change in changes))
    _check_shape(wanted)
    done = _committed(storage, wanted)
    if done is not None:
        storage.unclaim(wanted.path)
        return done
    with _rewriting(storage, wanted):
        # Versions of one app go one after the other; so do rewrites.
        for other in pending(storage, None if wanted.rewrites else app):
            if other.id != wanted.id and (other.app == app or other.rewrites):
                _complete(storage, other)
        _check_parts(storage, wanted)
        _check_tables(storage, wanted)
        while not storage.claim(wanted.path, wanted.dump()):
            data = storage.claimed(wanted.path)
            if data is None:
                continue  # its owner has just finished; the check after the claim will see it
            other = Pending.load(data, storage.address(wanted.path))
            if other.id == wanted.id:
                break
            _complete(storage, other)
            raise _taken(storage, wanted)
        try:
            return _carry_out(storage, wanted)
        except (ConcurrentRunError, SchemaError, MissingPartError):
            if _hopeless(storage, wanted):
                storage.unclaim(wanted.path)
            raise


def recover(storage: Storage) -> list[str]:
    """See :meth:`lake.lake.Lake.recover`."""
    return [f"{found.app} {found.version}" for found in pending(storage) if _complete(storage, found)]


def pending(storage: Storage, app: str | None = None) -> list[Pending]:
    """The changes (of ``app``) that are under way or were left by a dead process, oldest first."""
    found = []
    for path in storage.claims(FOLDER):
        mine = app is None or path.startswith(f"{FOLDER}/{_slug(app)}-")
        data = storage.claimed(path) if mine else None
        if data is not None:
            found.append(Pending.load(data, storage.address(path)))
    return sorted(found, key=lambda one: (one.created, one.app, one.version))


def _complete(storage: Storage, found: Pending) -> bool:
    """Carry somebody else's change through; False if it was refused before it had begun."""
    try:
        _carry_out(storage, found)
    except (ConcurrentRunError, SchemaError, MissingPartError) as error:
        # Nothing of it is committed and nobody can commit it any more, but its owner may be about to find
        # that out: leave a young file to him.
        _log.warning(
            "a pending commit of %s %d cannot be carried out: %s", found.app, found.version, error.what
        )
        if time.time() - found.created > _ABANDONED and not _begun(storage, found):
            storage.unclaim(found.path)
        return False
    return True


def _carry_out(storage: Storage, change: Pending) -> dict[str, int]:
    """Steps 3 to 6. May be repeated, and run by several processes at once."""
    if not _begun(storage, change):
        _check_tables(storage, change)
        _keep_parts(storage, change)
    for one in change.changes:
        prepare(storage, one.table, one.schema, one.partition_by)
    versions = {
        one.table: commit_table(storage, change.stamp, one, deciding=index == 0)
        for index, one in enumerate(change.changes)
    }
    storage.unclaim(change.path)
    return versions


@reread
def _begun(storage: Storage, change: Pending) -> bool:
    """Whether the first table has it, so that it must be carried through."""
    return state(storage, snapshot(storage, change.changes[0].table), change.stamp) is State.OURS


def _hopeless(storage: Storage, change: Pending) -> bool:
    """Whether nothing of it is committed and nobody can commit it any more.

    Only then may its file go: after a mere lack of patience somebody else may be carrying it through.
    """
    if _begun(storage, change):
        return False
    try:
        _check_tables(storage, change)
        _keep_parts(storage, change)
    except (ConcurrentRunError, SchemaError, MissingPartError):
        return True
    return False


@reread
def _committed(storage: Storage, change: Pending) -> dict[str, int] | None:
    """The versions, if all tables have the change already."""
    versions = {}
    for one in change.changes:
        current = snapshot(storage, one.table)
        if current is None or state(storage, current, change.stamp) is not State.OURS:
            return None
        versions[one.table] = find_commit(storage, current, change.stamp) or current.version
    return versions


@reread
def _check_tables(storage: Storage, change: Pending) -> None:
    """Raise if any table refuses its share: before the first one is committed."""
    for one in change.changes:
        current = snapshot(storage, one.table)
        if current is None:
            if one.remove:
                raise ConcurrentRunError("the table to rewrite is gone", where=storage.address(one.table))
            continue
        new_columns(current, one.schema, one.partition_by, storage.address(one.table))
        if state(storage, current, change.stamp) is not State.OURS:
            there = {part.path: part for part in current.parts()}
            refuse(storage, current, change.stamp, one, there)


def _check_parts(storage: Storage, change: Pending) -> None:
    """Raise unless every part to add is there, whole, and fits its table."""
    todo = [(part, file_schema(one.schema, one.partition_by)) for one in change.changes for part in one.add]
    _each(storage, lambda pair: check_part(storage, *pair), todo)


def _keep_parts(storage: Storage, change: Pending) -> None:
    """Make the parts to add young, and raise where one is gone.

    A vacuum spares what a claim names, if it reads the claim. One that looked a moment before may be deleting
    them now, where our process was frozen for days since it checked them; it looks at their age, though.
    """
    parts = [part for one in change.changes for part in one.add]
    sizes = _each(storage, lambda part: storage.renew(f"{part.table}/{part.path}"), parts)
    gone = [part for part, size in zip(parts, sizes, strict=True) if size != part.bytes]
    if gone and not _begun(storage, change):  # else another one was quicker, and they were compacted since
        raise MissingPartError(
            f"{len(gone)} of the staged parts are gone or have changed",
            where=storage.address(f"{gone[0].table}/{gone[0].path}"),
            why="they were deleted after they had been checked",
            hint="run again: the parts are made anew",
        )


def _each(storage: Storage, work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    if storage.local:
        return [work(item) for item in items]
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(work, items))


def _normal(change: Change) -> Change:
    return Change(
        change.table,
        canonical(change.schema),
        tuple(change.add),
        tuple(change.remove),
        tuple(change.partition_by),
        change.data_change,
    )


def _check_shape(change: Pending) -> None:
    """Programming errors of the caller."""
    names = [one.table for one in change.changes]
    if not names or len(set(names)) < len(names):
        msg = f"a commit needs at least one change, and one per table; got {names}"
        raise ValueError(msg)
    if change.version < 0:
        msg = f"a transaction's version is not negative, got {change.version}"
        raise ValueError(msg)
    for one in change.changes:
        for name in one.partition_by:
            index = one.schema.get_field_index(name)
            if index < 0 or not any(test(one.schema.field(index).type) for test in _PARTITION_TYPES):
                why = "a partition column must be in the schema, as string, integer, bool or date"
                raise SchemaError(f"cannot partition {one.table!r} by {name!r}", why=why)
        paths = [part.path for part in (*one.add, *one.remove)]
        if len(set(paths)) < len(paths):
            msg = f"a part is named twice in a change of {one.table!r}"
            raise ValueError(msg)
        for part in (*one.add, *one.remove):
            if part.table != one.table or set(part.partition) != set(one.partition_by):
                msg = (
                    f"part {part.path} of {part.table!r} does not belong in {one.table!r} by {one.partition_by}"
                )
                raise ValueError(msg)


@contextmanager
def _rewriting(storage: Storage, change: Pending) -> Iterator[None]:
    if not change.rewrites:
        yield
        return
    with lock(storage, "rewrite", wait=600.0):
        yield


def _taken(storage: Storage, change: Pending) -> ConcurrentRunError:
    return ConcurrentRunError(
        f"version {change.version} of {change.app!r} was taken by another run",
        where=storage.address(change.path),
        hint="run again: the new run starts from what the other one committed",
    )
