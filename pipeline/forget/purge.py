"""Deleting what earlier versions of the tables still hold of forgotten rows, at once instead of by age."""

from __future__ import annotations

from lake.delta.bounds import without_bounds
from lake.lake import Lake
from lake.maintenance import LOCK
from lake.storage import TEMPORARY, Entry
from pipeline.forget.proof import Proof, Search, prove
from pipeline.matching.index import TABLES

__all__ = ["purge"]

_BANDS, _SKETCHES, _ = TABLES


def purge(search: Search) -> Proof:
    """Delete every file that no table needs and that names a forgotten id; then search the whole lake.

    Versions of a table that consist of such a file cannot be read afterwards; all others can. May be killed and
    repeated at any moment.

    Raises:
        ConcurrentRunError: another maintenance runs.
    """
    lake = search.lake
    with lake.lock(LOCK):
        for table in lake.tables():
            for entry in _useless(lake, table):
                # Sketches have no ids of their own: those whose keys are gone cannot be told any more.
                bands = entry.path.replace(_SKETCHES, _BANDS, 1) if table.startswith(_SKETCHES) else None
                alone = lake.storage.size(bands) is None if bands else search.holds(entry)
                if alone or _half(entry):
                    _delete(lake, table, entry)
        for table in lake.tables():
            without_bounds(lake.storage, table)
        return prove(search)


def _half(entry: Entry) -> bool:
    """Whether a writer was killed in the middle of a file: what it holds cannot be decoded."""
    return entry.path.rpartition("/")[2].startswith(TEMPORARY)


def _useless(lake: Lake, table: str) -> list[Entry]:
    """Files in a table's folder that its newest version does not consist of."""
    needed = {f"{table}/{part.path}" for part in lake.table(table).parts()}
    log = f"{table}/_delta_log/"
    return [
        entry
        for entry in lake.storage.entries(table)
        if entry.path not in needed and not entry.path.startswith(log)
    ]


def _delete(lake: Lake, table: str, entry: Entry) -> None:
    if table.startswith(_BANDS):
        # The sketches first: their keys are what tells that they must go.
        twin = f"{_SKETCHES}{entry.path.removeprefix(_BANDS)}"
        name = twin.partition("/")[0]
        live = (
            {f"{name}/{part.path}" for part in lake.table(name).parts()} if lake.table(name).exists else set()
        )
        if twin not in live:
            lake.storage.delete(twin)
    lake.storage.delete(entry.path)
