"""What the log says of files that are gone: the bounds of their columns quote the rows that were in them.

Delta's statistics hold the least and the greatest value of each column, of a text its first 32 characters.
They stay in the log when the file is gone. Nobody can need them then.
"""

from __future__ import annotations

import json
from typing import Any

from lake.delta.snapshot import snapshot
from lake.storage import Storage

__all__ = ["without_bounds"]


def without_bounds(storage: Storage, table: str) -> list[str]:
    """Take the bounds of files that are gone out of a table's log; what each version consists of stays.

    Log entries are written anew, each atomically, and a checkpoint of the newest version takes the place of all
    earlier ones. The same again changes nothing. Nobody may commit to the table meanwhile.

    Returns:
        The paths of the log's files that were changed, made or deleted.
    """
    there = {entry.path for entry in storage.entries(table)}
    changed = []
    for path in sorted(there):
        name = path.rpartition("/")[2]
        if path.startswith(f"{table}/_delta_log/") and name.endswith(".json") and name[:-5].isdigit():
            before = storage.read(path)
            after = b"".join(_line(line, table, there) for line in before.splitlines(keepends=True))
            if after != before:
                storage.write(path, after)
                changed.append(path)
    checkpoints = [path for path in there if "/_delta_log/" in path and ".checkpoint" in path]
    if changed and checkpoints:
        current = snapshot(storage, table, fresh=True)
        if current is not None:
            current.delta.create_checkpoint()
            newest = f"{table}/_delta_log/{current.version:020d}.checkpoint"
            # The new one first: whoever reads meanwhile finds a whole log at every moment.
            for path in checkpoints:
                if not path.startswith(newest):
                    storage.delete(path)
            changed += checkpoints
    return changed


def _line(line: bytes, table: str, there: set[str]) -> bytes:
    action: dict[str, Any] = json.loads(line) if line.startswith(b'{"add"') else {}
    add = action.get("add")
    if not add or f"{table}/{add['path']}" in there or not add.get("stats"):
        return line
    stats = json.loads(add["stats"])
    bare = {"numRecords": stats.get("numRecords", 0), "minValues": {}, "maxValues": {}, "nullCount": {}}
    if stats == bare:
        return line
    add["stats"] = json.dumps(bare)
    return json.dumps(action, separators=(",", ":")).encode() + (b"\n" if line.endswith(b"\n") else b"")
