"""Small parts into larger ones, by an ordinary strict commit that changes no row."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import MappingProxyType

import pyarrow as pa

from lake.delta.commit import Change
from lake.delta.parts import Part
from lake.delta.scan import part_tables
from lake.delta.snapshot import Snapshot
from lake.lake import Lake

__all__ = [
    "LOCK",
    "PATIENCE",
    "TARGET_BYTES",
    "Compaction",
    "Companions",
    "Group",
    "compact",
    "groups",
    "merge",
    "rewrite",
    "turn",
]

LOCK = "maintenance"
"""The lock of whoever maintains a lake."""
PATIENCE = 30.0
"""Seconds that a compaction waits at most for the run that is at its table, and the next run for its turn."""
TARGET_BYTES = 128 << 20
"""The size of file that a compaction aims at."""

_PIPELINE = "pipeline"  # the partition column that names the pipeline whose parts these are

_log = logging.getLogger(__name__)

Group = tuple[Part, ...]
"""Parts that become one."""

Companions = Callable[[Group, Part], Sequence[tuple[Part, Group]]]
"""What goes along with a group and the part made of it: of other tables new parts, and those they replace."""

_NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did: files and bytes before and after, and the version that it made (None: nothing)."""

    parts_before: int
    parts_after: int
    bytes_before: int
    bytes_after: int
    version: int | None


_NOTHING = Compaction(0, 0, 0, 0, None)


def compact(lake: Lake, table: str, target_bytes: int = TARGET_BYTES) -> Compaction:
    """Rewrite small neighbouring parts into larger ones, in one commit that changes no row.

    Parts are gathered in the order of their commits, within a partition, so that "the last row counts"
    stays true. Readers, and earlier versions, keep the old files until :func:`lake.maintenance.vacuum`.

    Args:
        lake: the lake.
        table: the table's name.
        target_bytes: file size to aim at; parts over half of it stay as they are.

    Raises:
        MissingTableError: there is no such table.
        ConcurrentRunError: another maintenance or a run is at the table; nothing is changed.
        StorageError: no space; nothing is changed.
    """
    with lake.lock(LOCK):
        found = lake.table(table).snapshot()
        return merge(lake, found, groups(found.parts(), target_bytes))


def groups(parts: Sequence[Part], target_bytes: int = TARGET_BYTES, at_least: int = 0) -> list[Group]:
    """Which parts a compaction would join.

    Args:
        parts: of a table.
        target_bytes: file size to aim at; parts over half of it stay as they are.
        at_least: only where it pays. A group then has so many parts, and none that is larger than all that
            follow it: a large part waits until enough small ones have come, and a byte is written
            again log(n) times, not n times.
    """
    found = list(_runs(parts, target_bytes))
    if not at_least:
        return found
    return [group for group in map(_worth, found) if len(group) >= at_least]


def _worth(group: Group) -> Group:
    """The group without leading parts that are larger than all that follow."""
    rest = sum(part.bytes for part in group)
    for at, part in enumerate(group):
        rest -= part.bytes
        if part.bytes <= rest:
            return group[at:]
    return ()


def _runs(parts: Sequence[Part], target_bytes: int) -> Iterator[Group]:
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
                    yield tuple(group)
                group, size = [], 0
            if small:
                group.append(part)
                size += part.bytes
        if len(group) > 1:
            yield tuple(group)


def merge(
    lake: Lake,
    found: Snapshot,
    chosen: Sequence[Group],
    *,
    companions: Companions = lambda _group, _made: (),
    locks: Sequence[str] = (),
    patience: float = 0.0,
) -> Compaction:
    """Carry out a compaction. The caller holds :data:`LOCK`.

    The new files are written beside the old ones with nothing locked. The commit alone holds the locks that a
    run holds from its first look to its last commit: so no run finds its parts replaced under it, and none
    waits for longer than a commit takes. The table that a run is at is left for next time.

    Args:
        lake: the lake.
        found: the table as it is.
        chosen: what becomes one part each.
        companions: parts of other tables that are to follow in the same commit.
        locks: further locks, of the pipelines that fill the table or replace parts of it.
        patience: seconds to wait for a run that is at the table, at most :data:`PATIENCE`; the next run of the
            pipeline then waits for its turn. Where runs follow each other without a pause, it would never come.

    Raises:
        ConcurrentRunError: a run is at the table, or replaced its parts meanwhile; nothing is changed.
    """
    if not chosen:
        return _NOTHING
    names = _locks(found.name, chosen, locks)
    patience = min(patience, PATIENCE)
    with _held(lake, names, patience):
        pass  # not worth writing a byte while a run is at it
    made = [rewrite(lake, found, group) for group in chosen]
    along = [pair for group, part in zip(chosen, made, strict=True) for pair in companions(group, part)]
    changes = [_change(lake, found.name, list(zip(made, chosen, strict=True)))]
    changes += [
        _change(lake, name, [pair for pair in along if pair[0].table == name])
        for name in dict.fromkeys(part.table for part, _ in along)
    ]
    app = f"compact/{found.name}"
    last = lake.table(found.name).transaction_version(app)
    with _held(lake, names, patience):
        versions = lake.commit(changes, app=app, version=0 if last is None else last + 1)
    old = [part for change in changes for part in change.remove]
    new = [part for change in changes for part in change.add]
    _log.info("%s: compacted %d parts into %d", found.name, len(old), len(new))
    before, after = sum(part.bytes for part in old), sum(part.bytes for part in new)
    return Compaction(len(old), len(new), before, after, versions[found.name])


def _locks(table: str, chosen: Sequence[Group], more: Sequence[str]) -> list[str]:
    """What a run holds that may replace these parts, in the order in which runs take them."""
    pipelines = {part.partition[_PIPELINE] for group in chosen for part in group if _PIPELINE in part.partition}
    return [*sorted(pipelines | set(more)), f"table-{table}"]


def turn(pipeline: str) -> str:
    """The lock that a run of a pipeline passes through before it takes its own.

    Whoever holds it is the next one, as soon as the run that is at work has ended.
    """
    return f"turn.{pipeline}"


def _held(lake: Lake, names: Sequence[str], patience: float) -> ExitStack:
    """Hold all of these, or none."""
    until = time.monotonic() + patience

    def wait() -> float:
        return max(0.0, until - time.monotonic())

    with ExitStack() as stack, ExitStack() as turns:
        for name in names if patience else ():
            if not name.startswith("table-"):
                turns.enter_context(lake.lock(turn(name), wait=wait()))
        for name in names:
            stack.enter_context(lake.lock(name, wait=wait()))
        return stack.pop_all()


def _change(lake: Lake, name: str, pairs: Sequence[tuple[Part, Group]]) -> Change:
    current = lake.table(name).snapshot()
    return Change(
        name,
        current.schema,
        add=tuple(part for part, _ in pairs),
        remove=tuple(part for _, group in pairs for part in group),
        partition_by=current.partition_by,
        data_change=False,
    )


def rewrite(
    lake: Lake,
    found: Snapshot,
    group: Sequence[Part],
    *,
    name: str | None = None,
    notes: Mapping[str, str] = _NOBODY,
    keep: Callable[[pa.Table], pa.Table] = lambda rows: rows,
) -> Part:
    """Stage one part with the rows of a group, which keep their place in the order of commits.

    Args:
        lake: the lake.
        found: the table.
        group: the parts, in the order of their commits.
        name: of the new part; otherwise made of the names of the old ones.
        notes: for its footer.
        keep: of the rows those that stay.
    """
    digest = hashlib.blake2b("\n".join(part.path for part in group).encode(), digest_size=16).hexdigest()
    partition = group[0].partition
    columns = pa.schema([column for column in found.schema if column.name not in partition])
    rows = (keep(piece) for part in group for piece in part_tables(lake.storage, part, columns))
    made = lake.write_part(
        found.name, name or f"compact-{digest}", rows, columns, partition=partition, notes=notes
    )
    return replace(made, notes={}, added=group[-1].added)
