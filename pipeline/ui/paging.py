"""Pages of a table: at a pinned version, a part at a time, within the time that a page may take."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.delta.parts import Part
from lake.delta.snapshot import Snapshot
from lake.errors import ConfigError
from lake.lake import Table

__all__ = ["Deadline", "Page", "Place", "newest_first", "page", "parts_of"]

SECONDS = 0.4
"""What looking for rows may take; a page says so where it stopped before the end."""

_PLACE = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to stop looking."""

    at: float = field(default_factory=lambda: time.monotonic() + SECONDS)

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() > self.at


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins.

    >>> str(Place.read("7.0.50"))
    '7.0.50'

    Attributes:
        version: of the table; it stays the same from page to page.
        part: number in the order of the parts.
        row: number in that part.
    """

    version: int
    part: int = 0
    row: int = 0

    @classmethod
    def read(cls, text: str) -> Place:
        """The place that an address names.

        Raises:
            ConfigError: it is none.
        """
        found = _PLACE.fullmatch(text)
        if not found:
            raise ConfigError("this is no place in a table", hint="go to the first page, without `at`")
        return cls(*(int(number) for number in found.groups()))

    def __str__(self) -> str:
        return f"{self.version}.{self.part}.{self.row}"


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a table.

    Attributes:
        rows: one mapping each.
        version: of the table.
        next: where the next page begins; None at the end.
        searched: rows that were looked at for it, of the table's ``total``, those of earlier pages included.
        total: rows of the table at that version.
        whole: false where time ran out before the page was full: the next page goes on from there.
    """

    rows: list[dict[str, Any]]
    version: int
    next: str | None
    searched: int
    total: int
    whole: bool


def newest_first(parts: Sequence[Part]) -> list[Part]:
    """The parts of the last commits first."""
    return sorted(parts, key=lambda part: (-part.added, part.path))


def parts_of(table: Table, version: int | None = None) -> tuple[Snapshot, list[Part]]:
    """A table's log at a version (the newest unless told) and the parts that have rows."""
    # The newest is kept in memory by the lake; asked for by number it would be read anew.
    found = table.snapshot()
    if version not in {None, found.version}:
        found = table.snapshot(version)
    return found, [part for part in found.parts() if part.rows]


def page(
    table: Table,
    at: Place | None,
    columns: Sequence[str],
    *,
    keep: Mapping[str, str] | None = None,
    size: int = 50,
    order: Callable[[Sequence[Part]], list[Part]] = list,
    deadline: Deadline | None = None,
) -> Page:
    """The rows from a place on.

    Args:
        table: which must be there.
        at: where to begin; the first row of the newest version if None.
        columns: of the rows.
        keep: only rows with these values, by column.
        size: so many rows at most.
        order: of the parts.
        deadline: when to stop looking; at least one part is looked at.

    Raises:
        MissingTableError: that version is not there any more.
        MissingPartError: a file of it was vacuumed.
    """
    keep, deadline = keep or {}, deadline or Deadline()
    found, every = parts_of(table, at.version if at else None)
    parts = order(every)
    start = at or Place(found.version)
    rows: list[dict[str, Any]] = []
    behind: Place | None = None
    for number in range(start.part, len(parts)):
        part = parts[number]
        first = start.row if number == start.part else 0
        if number > start.part and deadline.over:
            behind = Place(found.version, number)
            break
        if not _may_hold(part, keep):
            continue
        matching = _matching(table, part, keep)
        chosen = matching[np.searchsorted(matching, first) :][: size - len(rows)]
        if len(chosen):
            rows += table.read_rows(part, chosen, columns).to_pylist()
        if len(rows) == size:
            last = int(chosen[-1]) + 1
            more = last < part.rows or number + 1 < len(parts)
            behind = Place(found.version, *((number, last) if last < part.rows else (number + 1, 0)))
            behind = behind if more else None
            break
    before = sum(part.rows for part in parts[: behind.part]) + behind.row if behind else None
    total = sum(part.rows for part in parts)
    return Page(
        rows,
        found.version,
        str(behind) if behind else None,
        total if before is None else before,
        total,
        behind is None or len(rows) == size,
    )


def _may_hold(part: Part, keep: Mapping[str, str]) -> bool:
    """Whether a part may have such a row, by what the log says of it alone."""
    stats = json.loads(part.stats) if keep else {}
    lows, highs = stats.get("minValues") or {}, stats.get("maxValues") or {}
    for column, value in keep.items():
        if column in part.partition:
            if part.partition[column] != value:
                return False
        elif column in lows and column in highs and not lows[column] <= value <= highs[column]:
            return False
    return True


def _matching(table: Table, part: Part, keep: Mapping[str, str]) -> npt.NDArray[np.int64]:
    """The numbers of the rows with these values."""
    left = {column: value for column, value in keep.items() if column not in part.partition}
    if not left:
        return np.arange(part.rows)
    masks = []
    for group in table.read_part(part, list(left)):
        mask: Any = None
        for column, value in left.items():
            one = pc.equal(group.column(column), pa.scalar(value, group.schema.field(column).type))
            mask = one if mask is None else pc.and_(mask, one)
        masks.append(np.asarray(pc.fill_null(mask, fill_value=False)))
    return np.flatnonzero(np.concatenate(masks)) if masks else np.empty(0, np.int64)
