"""The lake at a glance: its tables, and its last run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lake.delta.snapshot import snapshot
from pipeline.matching.index import TABLES as INDEX
from pipeline.ui.data.runs import Run, latest
from pipeline.ui.site import Site

__all__ = ["Overview", "TableLine", "overview", "tables"]

_BOOKS = "_"  # what the names of the lake's own tables begin with


@dataclass(frozen=True, slots=True)
class TableLine:
    """A table in a list; ``kind`` is ``data``, ``books`` (the lake's own) or ``index`` (of deduplication)."""

    name: str
    kind: str
    version: int
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The lake at a glance."""

    tables: list[TableLine]
    run: Run | None

    @property
    def bytes(self) -> int:
        """Of the newest versions of all tables."""
        return sum(table.bytes for table in self.tables)

    def of(self, kind: str) -> list[TableLine]:
        """The tables of a kind."""
        return [table for table in self.tables if table.kind == kind]

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        last = asdict(self.run.line) if self.run else None
        return {"tables": [asdict(table) for table in self.tables], "bytes": self.bytes, "last_run": last}


def overview(site: Site) -> Overview:
    """The tables, from their logs alone, and the last run."""
    return Overview(tables(site), latest(site))


def tables(site: Site) -> list[TableLine]:
    """All tables at their newest versions."""
    lines = []
    for name in site.lake.tables():
        found = snapshot(site.lake.storage, name)
        if found is not None:
            parts = found.parts()
            rows, size = sum(part.rows for part in parts), sum(part.bytes for part in parts)
            lines.append(TableLine(name, _kind(name), found.version, rows, len(parts), size))
    return lines


def _kind(name: str) -> str:
    if not name.startswith(_BOOKS):
        return "data"
    return "index" if name.startswith(INDEX) else "books"
