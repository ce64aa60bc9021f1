"""One match measured on a sample of what reaches it: what ``gristmill dedup audit`` reports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dedup.audit import Sampler, measure
from lake.errors import MissingTableError
from pipeline.matching.places import Place, reaching
from pipeline.report.audits import Made

if TYPE_CHECKING:
    from lake import Lake

__all__ = ["measured"]


def measured(lake: Lake, place: Place, rows: int, say: Callable[[str], None]) -> Made:
    """Audit a step on what reaches it.

    Args:
        lake: holds the table that the step reads.
        place: of the step.
        rows: of the sample.
        say: is told of what takes long.

    Raises:
        MissingTableError: there is no such table yet.
    """
    source = lake.table(place.stage.source)
    if not source.exists:
        raise MissingTableError(
            f"there is no table {place.stage.source!r} to measure on",
            where=str(lake.uri),
            hint="start `gristmill run` first",
        )
    version = source.data_version  # before the first row is read: what comes later is a change
    say(f"{place.label}: {source.count():,} rows of {place.stage.source}")
    sampler = Sampler(place.match, rows)
    few = source.count() <= rows
    held = []
    for table in reaching(lake, place):
        sampler.add(table)
        if few:
            held.append(table)
    ids = sampler.draw()
    say(f"{place.label}: comparing all pairs of {len(ids):,}")
    parts = held if few else [t.filter(pc.is_in(t.column("_id"), value_set=ids)) for t in reaching(lake, place)]
    found = measure(pa.concat_tables(parts, promote_options="permissive"), place.match, sampler)
    settings = place.match.model_dump(mode="json")
    return Made(place.label, source.name, version, settings, datetime.now(UTC), found)
