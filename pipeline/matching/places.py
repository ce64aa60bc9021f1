"""Where the matches of a pipeline stand, and which rows reach one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from dedup.match import Match
from lake.errors import ConfigError
from lake.ids import IdSet
from lake.op import Op
from pipeline.plan import stages_of

if TYPE_CHECKING:
    from lake import Lake
    from pipeline.config import Config
    from pipeline.stages.stage import Stage

__all__ = ["Place", "places", "reaching"]


class Place(NamedTuple):
    """Where a match stands in a pipeline."""

    label: str
    match: Match
    stage: Stage
    at: int


def places(config: Config, number: int | None) -> list[Place]:
    """The matches of a pipeline, or the one that is meant.

    Raises:
        ConfigError: there is none, or the step of that number is none.
    """
    steps = [(stage, at) for stage in stages_of(config) for at in range(len(stage.steps))]
    every, found = [], []
    for number_of, (stage, at) in enumerate(steps, start=1):
        label, step = stage.steps[at]
        if isinstance(step, Match):
            every.append(label)
            if number in {None, number_of}:
                found.append(Place(label, step, stage, at))
    if not found:
        raise ConfigError(
            "no step finds similar rows" if number is None else f"step {number} finds no similar rows",
            where=config.name,
            hint=f"these do: {', '.join(every)}" if every else "add one under steps:, such as dedup.MinHash",
        )
    return found


def reaching(lake: Lake, place: Place) -> Iterator[pa.Table]:
    """The rows that the row-local steps before a match give on, each ``_id`` once.

    Matches before it are passed over: what they drop is decided by all rows.
    """
    before = [step for _, step in place.stage.steps[: place.at]]
    for (label, _), step in zip(place.stage.steps, before, strict=False):
        if not isinstance(step, (Op, Match)):
            raise ConfigError(
                f"step {place.label} cannot be measured alone",
                why=f"what reaches it is learned from the data by step {label}",
                hint="measure it as the first step of a pipeline of its own",
            )
    source = lake.table(place.stage.source)
    seen = IdSet(source.count())
    empty = True
    for part in source.parts():
        for table in source.read_part(part):
            given = table
            for op in before:
                given = op(given) if isinstance(op, Op) else given
            first = seen.add(given.column("_id").combine_chunks())
            empty = False
            yield given if first.all() else given.filter(pa.array(first))
    if empty:
        yield source.schema().empty_table()
