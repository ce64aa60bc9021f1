"""Keeping a lake small and sound: compaction, vacuum, verification.

Never Delta's own ``optimize``: two of those at once double rows (1.6.4 to 1.6.6), and one alone loses the
application transactions that exactly-once stands on. Here a compaction is an ordinary strict commit.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lake.delta.commit import Change
from lake.delta.parts import Part, read_footer
from lake.delta.pending import pending
from lake.delta.scan import part_tables
from lake.delta.snapshot import log_entry, snapshot, version_range
from lake.lake import Lake
from lake.scratch import FOLDER as STAGING
from lake.storage import TEMPORARY, Storage

__all__ = ["Compaction", "Finding", "compact", "vacuum", "verify"]

_log = logging.getLogger(__name__)
_LOCK = "maintenance"


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did: files and bytes before and after, and the version that it made (None: nothing)."""

    parts_before: int
    parts_after: int
    bytes_before: int
    bytes_after: int
    version: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: ``rule`` is missing-part, wrong-size, wrong-rows, torn-part or duplicate-path."""

    table: str
    path: str
    rule: str
    detail: str


def compact(lake: Lake, table: str, target_bytes: int = 128 << 20) -> Compaction:
    """Rewrite small neighbouring parts into larger ones, in one commit that changes no row.

    Parts are gathered in the order of their commits, within a partition, so that "the last row counts"
    stays true. Readers, and earlier versions, keep the old files until :func:`vacuum`.

    Args:
        lake: the lake.
        table: the table's name.
        target_bytes: file size to aim at; parts over half of it stay as they are.

    Raises:
        MissingTableError: there is no such table.
        ConcurrentRunError: another maintenance runs, or the parts were replaced meanwhile; nothing is changed.
        StorageError: no space; nothing is changed.
    """
    with lake.lock(_LOCK):
        current = lake.table(table).snapshot()
        groups = list(_groups(current.parts(), target_bytes))
        if not groups:
            return Compaction(0, 0, 0, 0, None)
        made = [_rewrite(lake, table, group, current.schema) for group in groups]
        old = [part for group in groups for part in group]
        app = f"compact/{table}"
        last = current.delta.transaction_version(app)
        change = Change(
            table,
            current.schema,
            add=tuple(made),
            remove=tuple(old),
            partition_by=current.partition_by,
            data_change=False,
        )
        versions = lake.commit([change], app=app, version=0 if last is None else last + 1)
        before, after = sum(part.bytes for part in old), sum(part.bytes for part in made)
        _log.info("%s: compacted %d parts into %d", table, len(old), len(made))
        return Compaction(len(old), len(made), before, after, versions[table])


def _groups(parts: Sequence[Part], target_bytes: int) -> Iterator[list[Part]]:
    """Runs of two or more small parts, in commit order, that fit into one file."""
    by_partition: dict[tuple[tuple[str, str], ...], list[Part]] = {}
    for part in sorted(parts, key=lambda part: (part.added, part.path)):
        by_partition.setdefault(tuple(part.partition.items()), []).append(part)
    for members in by_partition.values():
        group: list[Part] = []
        size = 0
        for part in members:
            small = part.bytes <= target_bytes // 2
            if group and (not small or size + part.bytes > target_bytes):
                if len(group) > 1:
                    yield group
                group, size = [], 0
            if small:
                group.append(part)
                size += part.bytes
        if len(group) > 1:
            yield group


def _rewrite(lake: Lake, table: str, group: Sequence[Part], schema: pa.Schema) -> Part:
    digest = hashlib.blake2b("\n".join(part.path for part in group).encode(), digest_size=16).hexdigest()
    partition = group[0].partition
    columns = pa.schema([column for column in schema if column.name not in partition])
    rows = (piece for part in group for piece in part_tables(lake.storage, part, columns))
    made = lake.write_part(table, f"compact-{digest}", rows, columns, partition=partition)
    # The rows keep their place in the order of commits.
    return Part(made.table, made.path, made.rows, made.bytes, made.partition, made.stats, {}, group[-1].added)


def vacuum(lake: Lake, table: str, keep_hours: float = 168.0) -> list[str]:
    """Delete files that nobody needs; returns their paths in the lake.

    Kept are: every file of the newest version and of the versions that were the newest at some moment of the
    last ``keep_hours``; parts named by a pending commit; files younger than ``keep_hours`` (parts that a
    run has staged and not committed yet). Leftovers in ``_staging`` and half-written files go by age too.
    Reading a version whose files are gone raises ``MissingTableError``.

    Raises:
        ConcurrentRunError: another maintenance runs.
    """
    with lake.lock(_LOCK):
        storage, cutoff = lake.storage, time.time() - keep_hours * 3600
        current = lake.table(table).snapshot()
        # Age first, needs second: a part that is committed between the two is found needed.
        old = [entry for entry in _leftovers(storage, table) if entry[1] < cutoff]
        needed = {f"{table}/{part.path}" for part in current.parts()}
        needed |= {f"{table}/{path}" for path in _removed_since(storage, table, cutoff)}
        needed |= {
            f"{change.table}/{part.path}"
            for one in pending(storage)
            for change in one.changes
            for part in (*change.add, *change.remove)
        }
        newest = snapshot(storage, table)
        needed |= {f"{table}/{part.path}" for part in (newest or current).parts()}
        gone = []
        for path, _ in old:
            # Its age once more: `find_part` renews it for whoever is about to commit the part.
            if path not in needed and storage.modified(path) < cutoff:
                storage.delete(path)
                gone.append(path)
        return gone


def _leftovers(storage: Storage, table: str) -> Iterator[tuple[str, float]]:
    """Files that may be deleted once they are old: path and time of the last change."""
    for entry in storage.entries(table):
        name = entry.path.rpartition("/")[2]
        in_log = entry.path.startswith(f"{table}/_delta_log/")
        # What a writer killed in the middle of a log entry leaves: never a numbered file.
        half = name.startswith((TEMPORARY, "_commit_")) or ".json#" in name
        if half or (not in_log and name.endswith(".parquet")):
            yield entry.path, entry.modified
    for folder in (STAGING, "_pending", "_locks"):
        for entry in storage.entries(folder):
            if folder == STAGING or entry.path.rpartition("/")[2].startswith(TEMPORARY):
                yield entry.path, entry.modified


def _removed_since(storage: Storage, table: str, cutoff: float) -> set[str]:
    """Parts removed by commits younger than ``cutoff``: the version before such a commit is still kept."""
    removed: set[str] = set()
    known = version_range(storage, table)
    for version in range(known[1], -1, -1) if known else ():
        actions = log_entry(storage, table, version)
        if actions is None:
            break
        stamps = [action["commitInfo"]["timestamp"] for action in actions if "commitInfo" in action]
        if stamps and stamps[0] / 1000 < cutoff:
            break
        removed |= {action["remove"]["path"] for action in actions if "remove" in action}
    return removed


def verify(lake: Lake) -> list[Finding]:
    """Check that every part of every table is there, whole, and as large as the log says.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     verify(Lake(folder))
    []
    """
    return [finding for table in lake.tables() for finding in _verify(lake.storage, table, lake)]


def _verify(storage: Storage, table: str, lake: Lake) -> Iterator[Finding]:
    parts = lake.table(table).parts()
    for path, times in Counter(part.path for part in parts).items():
        if times > 1:
            yield Finding(table, path, "duplicate-path", f"the log names it {times} times")
    sizes = {entry.path: entry.size for entry in storage.entries(table)}
    for part in parts:
        where = f"{table}/{part.path}"
        size = sizes.get(where)
        if size is None:
            yield Finding(table, part.path, "missing-part", "the file is gone")
        elif size != part.bytes:
            yield Finding(table, part.path, "wrong-size", f"{size} bytes, the log says {part.bytes}")
        elif (footer := read_footer(storage, where)) is None:
            yield Finding(table, part.path, "torn-part", "its Parquet footer cannot be read")
        elif footer[0].num_rows != part.rows:
            yield Finding(
                table, part.path, "wrong-rows", f"{footer[0].num_rows} rows, the log says {part.rows}"
            )
