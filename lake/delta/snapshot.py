"""A table of the Delta log at one version: its columns and its parts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pyarrow as pa

from lake.delta.parts import Part
from lake.errors import LakeError, MissingTableError
from lake.storage import Storage, refused

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = [
    "Snapshot",
    "commit_info",
    "entry_path",
    "first_line",
    "log_entry",
    "log_file",
    "reread",
    "snapshot",
    "version_range",
    "was_cut",
]

P = ParamSpec("P")
T = TypeVar("T")

# A checkpoint in several files, which delta-rs never writes, is none: one of them may be missing.
_LOG_FILE = re.compile(r"(\d{20})\.(?:json|(checkpoint)(?:\.[0-9a-f-]{36})?\.(?:parquet|json))")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table at one version."""

    name: str
    version: int
    schema: pa.Schema
    partition_by: tuple[str, ...]
    delta: DeltaTable
    _listed: list[Part] = field(default_factory=list, repr=False, compare=False)

    def parts(self) -> list[Part]:
        """The table's parts, sorted by path."""
        if not self._listed:
            actions = pa.table(self.delta.get_add_actions(flatten=False))
            rows = actions.select([c for c in _ACTIONS if c in actions.column_names]).to_pylist()
            # At once: another thread may be listing them too.
            self._listed[:] = sorted((self._part(row) for row in rows), key=lambda part: part.path)
        return list(self._listed)

    def _part(self, row: Mapping[str, Any]) -> Part:
        stats = {
            "numRecords": row["num_records"],
            "minValues": _filled(row.get("min")),
            "maxValues": _filled(row.get("max")),
            "nullCount": _filled(row.get("null_count")),
        }
        partition = {key: _text(value) for key, value in (row.get("partition") or {}).items()}
        return Part(
            table=self.name,
            path=row["path"],
            rows=row["num_records"],
            bytes=row["size_bytes"],
            partition=partition,
            stats=json.dumps(stats, default=_text),
            added=row["modification_time"],
        )


_ACTIONS = ("path", "size_bytes", "modification_time", "num_records", "null_count", "min", "max", "partition")


def _filled(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        key: value for key, value in (values or {}).items() if value is not None and not isinstance(value, dict)
    }


def _text(value: object) -> str:
    """A value as Delta writes it in partition values and statistics."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).replace("+00:00", "Z")
    return str(value)


_Entry = tuple[int, int, int]  # of a file: its number, its size, when it was written
_kept: dict[str, tuple[_Entry, Snapshot]] = {}
_MOST_KEPT = 32
_TRIES = 5  # at a log that is cut meanwhile


def snapshot(
    storage: Storage, name: str, version: int | None = None, *, fresh: bool = False
) -> Snapshot | None:
    """The table at ``version`` (the newest if None); None if there is no such table.

    A newest version that was read before is given again while its log entry is what it was and none follows it:
    a run asks a hundred times, and reading a log takes a hundred times as long as looking for its next entry.

    Args:
        storage: of the lake.
        name: of the table.
        version: the newest unless given.
        fresh: give one that nobody else holds. Whoever commits needs that, since it moves on with the commit.

    Raises:
        MissingTableError: the table is there, that version is not.
    """
    if version is not None or fresh or not storage.local:
        return _load(storage, name, version)
    where = storage.address(name)
    entry, found = _kept.get(where, (None, None))
    if found is not None and _entry(where, found.version) == entry and _entry(where, found.version + 1) is None:
        return found
    found = _load(storage, name, None)
    # The entry may be gone (a log that was cut after a checkpoint): then there is nothing to hold on to.
    if found is not None and (entry := _entry(where, found.version)) is not None:
        _kept.pop(where, None)
        # Of a list: other threads keep theirs at the same time.
        for old in list(_kept)[: max(0, len(_kept) - _MOST_KEPT + 1)]:
            _kept.pop(old, None)
        _kept[where] = entry, found
    return found


def _entry(where: str, version: int) -> _Entry | None:
    """What tells a log entry from another one of the same version, in a table that was made anew."""
    try:
        found = Path(f"{where}/_delta_log/{version:020d}.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def reread(read: Callable[P, T]) -> Callable[P, T]:
    """Have ``read`` look into a log anew where a file of it was cut between the look for it and its reading.

    A table that is open has its parts in memory. For a transaction, or a checkpoint, delta-rs reads the files
    of the log once more, however long ago it opened the table.
    """

    @wraps(read)
    def again(*given: P.args, **named: P.kwargs) -> T:
        from deltalake.exceptions import DeltaError

        for _ in range(_TRIES - 1):
            try:
                return read(*given, **named)
            except (OSError, DeltaError) as error:
                if not was_cut(error):
                    raise
                _kept.clear()  # what is held was opened from files that are gone
        return read(*given, **named)

    return again


def was_cut(error: BaseException) -> bool:
    """Whether delta-rs missed a file of a log, in whichever words: read, or looked for beside a checkpoint."""
    text = str(error)
    return ("_delta_log/" in text and "not found" in text) or "Invalid Checkpoint:" in text


def _load(storage: Storage, name: str, version: int | None) -> Snapshot | None:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    where = storage.address(name)
    if (
        storage.local
        and not storage.folders(f"{name}/_delta_log")
        and not storage.entries(f"{name}/_delta_log")
    ):
        return None
    try:
        table = reread(DeltaTable)(where, version=version, storage_options=storage.delta_options)
    except OSError as error:
        if storage.local:
            raise
        raise refused(error, where, storage.options) from error
    except (TableNotFoundError, DeltaError) as error:
        if version is not None and (known := version_range(storage, name)):
            raise MissingTableError(
                f"table {name!r} has no version {version}",
                where=where,
                why=f"versions {known[0]} to {known[1]} are known",
                hint="see the table's history()",
            ) from error
        if isinstance(error, TableNotFoundError):
            return None
        raise LakeError("the table's log cannot be read", where=where, why=first_line(error)) from error
    schema = pa.schema([column.remove_metadata() for column in pa.schema(table.schema().to_arrow())])
    return Snapshot(name, table.version(), schema, tuple(table.metadata().partition_columns), table)


def log_file(path: str) -> tuple[int, bool] | None:
    """The version of a file in a log, and whether it is a checkpoint; None for all that is neither.

    >>> log_file("t/_delta_log/00000000000000000009.checkpoint.parquet")
    (9, True)
    >>> log_file("t/_delta_log/00000000000000000009.checkpoint.parquet#1")  # its writer was killed
    """
    found = _LOG_FILE.fullmatch(path.rpartition("/")[2])
    return None if found is None else (int(found[1]), found[2] is not None)


def entry_path(name: str, version: int) -> str:
    """Where the log entry of a version lies."""
    return f"{name}/_delta_log/{version:020d}.json"


def log_entry(storage: Storage, name: str, version: int) -> list[dict[str, Any]] | None:
    """The actions of one commit; None if its log entry is gone.

    Read by ourselves: deltalake's ``history()`` reads every entry there is, and holds the interpreter's lock
    while it waits for the storage.
    """
    try:
        log = storage.read(entry_path(name, version))
    except FileNotFoundError:
        return None
    return [json.loads(line) for line in log.splitlines() if line]


def commit_info(storage: Storage, name: str, version: int) -> dict[str, Any] | None:
    """What a commit says of itself; None if its log entry is gone."""
    actions = log_entry(storage, name, version)
    return None if actions is None else next((a["commitInfo"] for a in actions if "commitInfo" in a), {})


def version_range(storage: Storage, name: str) -> tuple[int, int] | None:
    """The oldest and the newest version that the log can still rebuild."""
    logs, starts = [], []
    for entry in storage.entries(f"{name}/_delta_log", recursive=False):
        if (found := log_file(entry.path)) is None:
            continue
        version, is_checkpoint = found
        if not is_checkpoint:
            logs.append(version)
        if is_checkpoint or version == 0:
            starts.append(version)
    return (min(starts), max(logs, default=max(starts))) if starts else None


def first_line(error: BaseException) -> str:
    """delta-rs appends a backtrace to some of its messages: leave it out."""
    return str(error).partition("\n")[0]
