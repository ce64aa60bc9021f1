"""A table of the Delta log at one version: its columns and its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lake.delta.parts import Part
from lake.errors import LakeError, MissingTableError
from lake.storage import Storage

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Snapshot", "commit_info", "first_line", "log_entry", "snapshot", "version_range"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table at one version."""

    name: str
    version: int
    schema: pa.Schema
    partition_by: tuple[str, ...]
    delta: DeltaTable

    def parts(self) -> list[Part]:
        """The table's parts, sorted by path."""
        actions = pa.table(self.delta.get_add_actions(flatten=False))
        rows = actions.select([c for c in _ACTIONS if c in actions.column_names]).to_pylist()
        return sorted((self._part(row) for row in rows), key=lambda part: part.path)

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


def snapshot(storage: Storage, name: str, version: int | None = None) -> Snapshot | None:
    """The table at ``version`` (the newest if None); None if there is no such table.

    Raises:
        MissingTableError: the table is there, that version is not.
    """
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
        table = DeltaTable(where, version=version, storage_options=storage.options or None)
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


def log_entry(storage: Storage, name: str, version: int) -> list[dict[str, Any]] | None:
    """The actions of one commit; None if its log entry is gone.

    Read by ourselves: deltalake's ``history()`` reads every entry there is, and holds the interpreter's lock
    while it waits for the storage.
    """
    try:
        log = storage.read(f"{name}/_delta_log/{version:020d}.json")
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
        number, _, ending = entry.path.rpartition("/")[2].partition(".")
        if not number.isdigit():
            continue
        if ending == "json":
            logs.append(int(number))
        if "checkpoint" in ending or (ending == "json" and int(number) == 0):
            starts.append(int(number))
    return (min(starts), max(logs, default=max(starts))) if starts else None


def first_line(error: BaseException) -> str:
    """delta-rs appends a backtrace to some of its messages: leave it out."""
    return str(error).partition("\n")[0]
