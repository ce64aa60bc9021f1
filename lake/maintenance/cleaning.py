"""Deleting files that nobody needs: of tables, of runs that are long dead, and of writers killed half-way.

What may go is decided by age and by need. A file of a table is needed by the versions that were the newest at
some moment of the time to keep; by a commit that is under way; and, while it is staged, by a run at work that
found it or wrote it. All else that is old enough belongs to nobody.

Deleting cannot be taken back, and in an object store the lease of a process that was frozen may have gone to
another. So what is needed is read again after :data:`_FRESH` seconds: whoever wakes up looks before he deletes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator

from lake.delta import locks
from lake.delta.parts import NOTES, read_footer
from lake.delta.pending import pending
from lake.delta.snapshot import entry_path, log_entry, snapshot, version_range
from lake.errors import LakeError
from lake.lake import Lake
from lake.maintenance.compaction import LOCK
from lake.scratch import FOLDER as STAGING
from lake.storage import TEMPORARY, Entry, Storage

__all__ = ["SAFE_HOURS", "check_age", "cutoff_of", "delete", "homeless", "leftovers", "useless", "vacuum"]

SAFE_HOURS = 1.0
"""Files younger than that go only where somebody insists: a reader may be at them."""

_HALF_OF_DELTA = re.compile(r"(?:\d{20}\.(?:json|checkpoint\.parquet)|_last_checkpoint)#\d+")
_FRESH = 30.0  # seconds for which it is known what is needed
# By how many seconds the stamp of a file may lag behind the clock: kernels tick, object stores cut to seconds.
_TICK, _OBJECT_TICK = 0.02, 1.0


def vacuum(lake: Lake, table: str, keep_hours: float = 168.0) -> list[str]:
    """Delete files that nobody needs; returns their paths in the lake.

    Kept are: every file of the newest version and of the versions that were the newest at some moment of the
    last ``keep_hours``; parts named by a pending commit; files younger than ``keep_hours``, or that were so
    when the oldest run that is at work began (parts that are staged and not committed yet). Leftovers in
    ``_staging`` and half-written files go by age too. Reading a version whose files are gone raises
    ``MissingTableError``.

    Args:
        lake: the lake.
        table: the table's name.
        keep_hours: age in hours below which nothing goes; below :data:`SAFE_HOURS` readers may lose what they
            are at. The verbs refuse that unless it is forced.

    Raises:
        ConcurrentRunError: another maintenance runs.
    """
    with lake.lock(LOCK):
        lake.table(table).snapshot()  # raises where there is no such table
        cutoff = cutoff_of(lake, keep_hours)
        # Age first, needs second: a part that is committed between the two is found needed.
        old = [*useless(lake, table, cutoff), *leftovers(lake, cutoff)]
        return delete(lake, old, cutoff)


def cutoff_of(lake: Lake, keep_hours: float) -> float:
    """The time before which files are old: ``keep_hours`` ago, or before the oldest run that is at work began.

    So a run keeps what it has found of a killed one, as well as what it stages. What comes later is younger:
    the answer holds for as long as one likes.
    """
    now = time.time()
    # A run that begins after the look below is not in it: its files must be stamped later than `now`.
    if keep_hours < SAFE_HOURS:
        time.sleep(_TICK if lake.storage.local else _OBJECT_TICK)
    began = [since for name, since in locks.holders(lake.storage) if name != LOCK]
    return min([now, *began]) - keep_hours * 3600


def check_age(keep_hours: float, *, force: bool) -> None:
    """Raise :class:`LakeError` for an age at which files may still be in use."""
    if keep_hours < SAFE_HOURS and not force:
        raise LakeError(
            f"files younger than {SAFE_HOURS:g} h are not deleted",
            why="a reader may be at them, and earlier versions of the table could not be read any more",
            hint="keep more hours, or force it while nothing else uses the lake",
        )


def useless(lake: Lake, table: str, cutoff: float) -> list[Entry]:
    """Files in the folder of a table that are old enough to go, and that nobody needs."""
    old = [entry for entry in _files(lake.storage, table) if entry.modified < cutoff]
    needed = _needed(lake.storage, table, cutoff) if old else set()
    return [entry for entry in old if entry.path not in needed]


def leftovers(lake: Lake, cutoff: float) -> list[Entry]:
    """Intermediates of dead runs, and half-written files outside of tables, that are old enough to go."""
    storage = lake.storage
    found = storage.entries(STAGING)
    for folder in ("_pending", locks.FOLDER):
        found += [entry for entry in storage.entries(folder) if _half(entry)]
    found += [entry for entry in storage.entries(recursive=False) if _half(entry)]
    return [entry for entry in found if entry.modified < cutoff]


def homeless(lake: Lake, cutoff: float) -> list[Entry]:
    """Parts that were staged, long ago, for tables that never came to be."""
    storage = lake.storage
    tables = set(lake.tables())
    waiting = _waiting(storage)
    return [
        entry
        for folder in storage.folders()
        if folder not in tables and folder not in {STAGING, "_pending", locks.FOLDER}
        for entry in storage.entries(folder)
        if entry.modified < cutoff and entry.path not in waiting and (_half(entry) or _ours(storage, entry))
    ]


def delete(lake: Lake, chosen: Iterable[Entry], cutoff: float) -> list[str]:
    """Delete files of which none was needed a moment ago, unless one has become young or needed."""
    storage, gone = lake.storage, []
    known: dict[str, tuple[float, set[str]]] = {}
    for entry in chosen:
        table = entry.path.partition("/")[0]
        since, needed = known.get(table, (0.0, set()))
        if time.time() - since > _FRESH:
            needed = _needed(storage, table, cutoff)
            known[table] = time.time(), needed
        # Its age once more: `find_part` renews it for whoever is about to commit the part.
        if entry.path not in needed and storage.modified(entry.path) < cutoff:
            storage.delete(entry.path)
            gone.append(entry.path)
    for folder in sorted({path.rpartition("/")[0] for path in gone if path.startswith(f"{STAGING}/")}):
        storage.delete_empty(folder)
    return gone


def _half(entry: Entry) -> bool:
    """What a writer killed in the middle leaves: never a numbered log entry or checkpoint, never a part."""
    name = entry.path.rpartition("/")[2]
    # delta-rs fills `<name>#<number>`, then gives it its name.
    return name.startswith((TEMPORARY, "_commit_")) or _HALF_OF_DELTA.fullmatch(name) is not None


def _is_part(entry: Entry) -> bool:
    return entry.path.endswith(".parquet") and "/_delta_log/" not in entry.path


def _ours(storage: Storage, entry: Entry) -> bool:
    """Whether a file is a part that we wrote: somebody may have laid other things into the lake's folder."""
    footer = read_footer(storage, entry.path) if _is_part(entry) else None
    return footer is not None and NOTES in (footer[0].metadata or {})


def _files(storage: Storage, table: str) -> Iterator[Entry]:
    return (entry for entry in storage.entries(table) if _half(entry) or _is_part(entry))


def _needed(storage: Storage, table: str, cutoff: float) -> set[str]:
    """The files that versions since ``cutoff``, or commits under way, consist of."""
    before = snapshot(storage, table)
    needed = {f"{table}/{part.path}" for part in (before.parts() if before else ())}
    needed |= {f"{table}/{path}" for path in _removed_since(storage, table, cutoff)}
    needed |= _waiting(storage)
    after = snapshot(storage, table)  # a commit that was under way may be through by now
    return needed | {f"{table}/{part.path}" for part in (after.parts() if after else ())}


def _waiting(storage: Storage) -> set[str]:
    """The parts that commits under way name."""
    return {
        f"{change.table}/{part.path}"
        for one in pending(storage)
        for change in one.changes
        for part in (*change.add, *change.remove)
    }


def _removed_since(storage: Storage, table: str, cutoff: float) -> set[str]:
    """Parts removed by commits younger than ``cutoff``: the version before such a commit is still kept."""
    removed: set[str] = set()
    known = version_range(storage, table)
    for version in range(known[1], -1, -1) if known else ():
        actions = log_entry(storage, table, version)
        if actions is None:
            break
        stamps = [action["commitInfo"]["timestamp"] for action in actions if "commitInfo" in action]
        # The storage's own time counts too: the clock of who committed may be slow.
        if stamps and stamps[0] / 1000 < cutoff and storage.modified(entry_path(table, version)) < cutoff:
            break
        removed |= {action["remove"]["path"] for action in actions if "remove" in action}
    return removed
