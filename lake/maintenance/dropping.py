"""Taking a table out of a lake."""

from __future__ import annotations

from lake.delta.pending import pending
from lake.lake import Lake
from lake.maintenance.logs import checkpoint, log_of
from lake.storage import Entry

__all__ = ["drop", "droppable"]


def droppable(lake: Lake, table: str, cutoff: float) -> bool:
    """Whether an empty table, which nobody has touched since ``cutoff``, may go."""
    if lake.table(table).count() or any(c.table == table for one in pending(lake.storage) for c in one.changes):
        return False
    return all(entry.modified < cutoff for entry in lake.storage.entries(table))


def drop(lake: Lake, table: str) -> list[str]:
    """Delete an empty table: its files, its log, its folder; returns the paths.

    The newest checkpoint goes last, so that at every moment there is an empty table, or none. The caller sees
    to it that nobody is about to write to it.
    """
    storage = lake.storage
    checkpoint(lake, table)
    log = log_of(lake, table)
    last = log.checkpoints[log.newest]
    keep = {entry.path for entry in last} | {f"{table}/_delta_log/_last_checkpoint"}
    # Newer entries after older ones: without its beginning a log is read from the checkpoint alone.
    first = [entry for entry in storage.entries(table) if entry.path not in keep]
    hint = [Entry(f"{table}/_delta_log/_last_checkpoint", 0, 0.0)]
    order = [*sorted(first, key=lambda entry: "/_delta_log/" in entry.path), *hint, *last]
    for entry in order:
        storage.delete(entry.path)
    storage.delete_folder(table)
    return [entry.path for entry in order]
