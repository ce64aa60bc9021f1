"""The Delta log of a table: it grows by an entry with every commit, and by a checkpoint with every tenth.

A table opens from its newest checkpoint and the entries after it, however many came before. The log may
be cut at a checkpoint: versions before it cannot be read any more, all others can, and the application
transactions that exactly-once stands on are in the checkpoint. It is never cut above the newest commit that
changed rows: that one tells a run whether it has work (:attr:`lake.table.Table.data_version`).

Files go in an order in which every prefix leaves a log that can be read: superseded checkpoints first, then
entries from the oldest on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lake.delta.pending import pending
from lake.delta.snapshot import commit_info, log_file, reread, snapshot
from lake.lake import Lake
from lake.storage import Entry

__all__ = ["CHECKPOINT_EVERY", "THIN", "Log", "checkpoint", "cut", "expired", "log_of"]

CHECKPOINT_EVERY = 10
"""Commits after which a table has a checkpoint; delta-rs writes it after the commit, unless it is killed."""
THIN = 100
"""Versions of which one has a checkpoint that stays: enough to go back in time, and not n² bytes."""

_SETTLED = 60.0  # seconds after which nobody is still opening the checkpoint before a new one


@dataclass(frozen=True)
class Log:
    """The files of a table's log by version, as one listing gave them."""

    entries: dict[int, Entry]
    checkpoints: dict[int, tuple[Entry, ...]]

    @property
    def newest(self) -> int:
        """The newest version."""
        return max([*self.entries, *self.checkpoints], default=-1)

    @property
    def lag(self) -> int:
        """Commits since the newest checkpoint."""
        return self.newest - max(self.checkpoints, default=-1)


def log_of(lake: Lake, table: str) -> Log:
    """List the log of a table."""
    entries: dict[int, Entry] = {}
    checkpoints: dict[int, tuple[Entry, ...]] = {}
    for entry in lake.storage.entries(f"{table}/_delta_log", recursive=False):
        if (found := log_file(entry.path)) is None:
            continue
        version, is_checkpoint = found
        if is_checkpoint:
            checkpoints[version] = (*checkpoints.get(version, ()), entry)
        else:
            entries[version] = entry
    return Log(entries, checkpoints)


@reread
def checkpoint(lake: Lake, table: str) -> int | None:
    """Write a checkpoint of the newest version; returns the version."""
    current = snapshot(lake.storage, table, fresh=True)
    if current is None:
        return None
    current.delta.create_checkpoint()
    return current.version


def expired(lake: Lake, table: str, cutoff: float, now: float) -> list[Entry]:
    """Files of the log that may go, in the order in which they must.

    Args:
        lake: the lake.
        table: the table's name.
        cutoff: versions that were the newest at some moment since then stay, in seconds since the epoch.
        now: the present.
    """
    log = log_of(lake, table)
    # What a checkpoint supersedes may be being opened by whoever looked before it was there.
    settled = [v for v, files in log.checkpoints.items() if all(f.modified < now - _SETTLED for f in files)]
    base = _base(lake, table, log, settled, cutoff)
    thin: dict[int, int] = {}
    for version in sorted(settled):
        if version >= base:
            thin.setdefault(version // THIN, version)
    stay = {base, max(settled, default=0), *thin.values()}
    superseded = [
        entry for version in sorted(settled) if version not in stay for entry in log.checkpoints[version]
    ]
    return [*superseded, *(log.entries[version] for version in sorted(log.entries) if version < base)]


def cut(lake: Lake, table: str, old: Sequence[Entry]) -> None:
    """Delete files of the log that :func:`expired` gave."""
    for files in log_of(lake, table).checkpoints.values():
        for entry in files:
            lake.storage.sync(entry.path)  # delta-rs does not, and what is cut stands there alone
    for entry in old:
        lake.storage.delete(entry.path)


def _base(lake: Lake, table: str, log: Log, settled: Sequence[int], cutoff: float) -> int:
    """The checkpoint at which the log may be cut; 0 where it may not."""
    storage = lake.storage
    # A commit under way is looked for in the log, back to when it began.
    cutoff = min([cutoff, *(one.created for one in pending(storage))])
    keep = log.newest
    # The storage's own time counts too: the clock of who committed may be slow.
    while (
        keep > 0
        and (entry := log.entries.get(keep))
        and max(_time(lake, table, keep), entry.modified) >= cutoff
    ):
        keep -= 1  # the version before a young commit was the newest when that came
    keep = min(keep, lake.table(table).data_version)
    return max((version for version in settled if version <= keep), default=0)


def _time(lake: Lake, table: str, version: int) -> float:
    info = commit_info(lake.storage, table, version)
    return float("inf") if info is None else info.get("timestamp", 0) / 1000
