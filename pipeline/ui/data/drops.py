"""Why rows went: the ledger, page by page, and one row's whole story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from lake.errors import InputError
from lake.ledger import DROPS_TABLE
from pipeline.report.samples import place
from pipeline.ui.paging import Deadline, Place, page, parts_of
from pipeline.ui.site import Site
from pipeline.why import Fate, why

__all__ = ["FILTERS", "Count", "Drop", "Drops", "Fates", "drops", "fates"]

FILTERS = ("pipeline", "stage", "step", "rule")
"""What the ledger may be narrowed to."""

_COLUMNS = (
    *("pipeline", "stage", "step", "_id", "_source", "rule"),
    *("value", "threshold", "twin", "estimated", "exact", "detail"),
)
_CONTENT = ("label", "meta")


@dataclass(frozen=True, slots=True)
class Drop:
    """A row of the ledger as ``gristmill why`` tells it; label and metadata where content may be shown."""

    id: str | None
    source: str
    pipeline: str
    stage: str
    step: str
    rule: str
    value: float | None
    threshold: float | None
    twin: str | None
    estimated: float | None
    exact: float | None
    detail: str | None
    label: str | None = None
    meta: str | None = None

    @property
    def same(self) -> bool:
        """Whether what is kept is this very content."""
        return self.twin is not None and self.twin == self.id


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows a rule of a step dropped."""

    pipeline: str
    stage: str
    step: str
    rule: str
    rows: int


@dataclass(frozen=True, slots=True)
class Drops:
    """A page of the ledger.

    Attributes:
        rows: of this page.
        counts: by step and rule, of the whole ledger.
        counted: rows that the counts are of; fewer than ``total`` where time ran out.
        next: where the following page begins.
        searched: rows that were looked at up to here.
        total: rows of the ledger at ``version``.
        whole: false where time ran out before the page was full.
        pending: while the rows are being counted.
    """

    rows: list[Drop]
    counts: list[Count]
    counted: int
    version: int
    next: str | None
    searched: int
    total: int
    whole: bool
    pending: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


def drops(site: Site, at: Place | None = None, keep: Mapping[str, str] | None = None, size: int = 50) -> Drops:
    """A page of the ledger.

    Args:
        site: whose.
        at: where it begins.
        keep: only rows with these values of :data:`FILTERS`.
        size: so many rows.
    """
    table = site.lake.table(DROPS_TABLE)
    if not table.exists:
        return Drops([], [], 0, 0, None, 0, 0, whole=True)
    columns = (*_COLUMNS, *(_CONTENT if site.show_content else ()))
    found = page(table, at, columns, keep=keep, size=size)
    counted = site.memory.soon(("drops", found.version), lambda: _counts(site, found.version))
    return Drops(
        [_drop(row) for row in found.rows],
        *(counted or ([], 0)),
        found.version,
        found.next,
        found.searched,
        found.total,
        found.whole,
        pending=counted is None,
    )


def _drop(row: Mapping[str, Any]) -> Drop:
    return Drop(
        id=row["_id"],
        source=place(row["_source"]),
        **{name: row.get(name) for name in (*_COLUMNS, *_CONTENT) if not name.startswith("_")},  # type: ignore[arg-type]
    )


_Key = tuple[str, str, str, str]


def _counts(site: Site, version: int) -> tuple[list[Count], int]:
    """Rows by step and rule, within the time of a page; and of how many rows."""
    table, deadline = site.lake.table(DROPS_TABLE), Deadline()
    found: dict[_Key, int] = {}
    counted = 0
    for part in parts_of(table, version)[1]:
        for group in table.read_part(part, FILTERS):
            by = group.group_by(list(FILTERS)).aggregate([([], "count_all")])
            for row in by.to_pylist():
                key = (row["pipeline"], row["stage"], row["step"], row["rule"])
                found[key] = found.get(key, 0) + row["count_all"]
            counted += group.num_rows
            if deadline.over:
                return _sorted(found), counted
    return _sorted(found), counted


def _sorted(found: Mapping[_Key, int]) -> list[Count]:
    return [Count(*key, rows) for key, rows in sorted(found.items(), key=lambda item: (-item[1], item[0]))]


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of a row: one fate per content that matches; ``pending`` while it is looked for."""

    row: str
    fates: list[Fate]
    pending: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


def fates(site: Site, row: str) -> Fates:
    """What became of a row, see :func:`pipeline.why.why`; labels and metadata only where content may be shown.

    Raises:
        InputError: that cannot be the name of a row.
        MissingTableError: no row matches.
    """
    if not row or len(row) > 1000:  # noqa: PLR2004  (longer than any path)
        raise InputError("this names no row", hint="give an _id, six or more of its first digits, or file:row")
    lake = site.lake
    versions = tuple((name, lake.table(name).version) for name in lake.tables())
    try:
        found = site.memory.soon(("why", row, versions), lambda: why(lake, row))
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        raise InputError("this names no row", hint="give an _id or file:row") from error
    if found is None:
        return Fates(row, [], pending=True)
    if not site.show_content:
        found = [
            Fate(each.id, each.tables, each.sources, _bare(each.drops), _bare(each.stands_for))
            for each in found
        ]
    return Fates(row, found)


def _bare(drops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in drop.items() if name not in _CONTENT} for drop in drops]
