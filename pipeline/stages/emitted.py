"""What became of each part of a stage's input.

It is written down in the lake (``_emitted``), so that a later run makes anew only what comes out otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.sketch import Piece
from lake.lake import Lake, Part
from lake.schema import DROPS, LEDGER
from pipeline.matching.stored import some_of

if TYPE_CHECKING:
    from pipeline.stages.stage import Stage

__all__ = [
    "EMITTED",
    "EMITTED_BY",
    "TABLE",
    "Emitted",
    "StepCount",
    "by_rule",
    "digests",
    "ledger_part",
    "note",
    "of_rows",
    "standing",
    "whole",
]

TABLE = "_emitted"
EMITTED_BY = ("pipeline", "stage")
EMITTED = pa.schema(
    [
        pa.field("pipeline", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # path of the input part
        pa.field("digest", pa.string(), nullable=False),  # of all that its outcome depends on
        pa.field("outcome", pa.string(), nullable=False),  # JSON, see pipeline.stages.stage.Emitted
    ]
)
"""The ``_emitted`` table: replaced, for a stage, by each of its commits."""


@dataclass
class StepCount:
    """What a step did to the rows; ``rows_in = rows_kept + sum(drops)``, copies count as made."""

    step: str
    rows_in: int = 0
    rows_kept: int = 0
    rows_made: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: StepCount) -> None:
        """Add another part's count of the same step."""
        self.rows_in += other.rows_in
        self.rows_kept += other.rows_kept
        self.rows_made += other.rows_made
        self.seconds += other.seconds
        for rule, number in other.drops.items():
            self.drops[rule] = self.drops.get(rule, 0) + number


@dataclass(frozen=True)
class Emitted:
    """What one input part became."""

    rows: Part | None
    drops: tuple[Part, ...]
    counts: list[StepCount]
    refused: tuple[str, ...] = ()  # files that could not be opened, by uri: they are not taken

    def to_bytes(self) -> bytes:
        """JSON; ``from_bytes`` gives an equal value."""
        return json.dumps(asdict(self)).encode()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Those of rows and of drops."""
        return (*self.drops, *((self.rows,) if self.rows else ()))

    def noted(self) -> Emitted:
        """As it is written down: without the seconds that it took, and without bounds, which quote rows."""
        bare = {part.path: replace(part, stats="{}") for part in self.parts}
        return Emitted(
            rows=bare[self.rows.path] if self.rows else None,
            drops=tuple(bare[part.path] for part in self.drops),
            counts=[replace(count, seconds=0.0) for count in self.counts],
            refused=self.refused,
        )

    def whole(self, lake: Lake) -> bool:
        """Whether all its parts are still there; they are marked as in use."""
        return all(lake.still_there(part) for part in self.parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Emitted:
        """The inverse of :meth:`to_bytes`."""
        raw = json.loads(data)
        return cls(
            rows=Part(**raw["rows"]) if raw["rows"] else None,
            drops=tuple(Part(**part) for part in raw["drops"]),
            counts=[StepCount(**count) for count in raw["counts"]],
            refused=tuple(raw["refused"]),
        )


def by_rule(drops: pa.Table) -> dict[str, int]:
    """How many rows each rule dropped."""
    counted = drops.column("rule").combine_chunks().value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in counted}


def ledger_part(lake: Lake, pipeline: str, stage: str, name: str, dropped: list[pa.Table]) -> tuple[Part, ...]:
    """Stage drops (``DROPS`` and a ``step`` column) as a part of ``_drops``; no drops, no part."""
    if not dropped:
        return ()
    table = pa.concat_tables([each.select(["step", *DROPS.names]) for each in dropped])
    full = pa.table(
        [pa.repeat(pipeline, table.num_rows), pa.repeat(stage, table.num_rows), *table.columns], schema=LEDGER
    )
    return (lake.write_part("_drops", name, [full], LEDGER, partition={"pipeline": pipeline, "stage": stage}),)


def _hash(*values: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        digest.update(len(value).to_bytes(8, "little"))
        digest.update(value)
    return digest.hexdigest()


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    written: bytes = sink.getvalue().to_pybytes()
    return written


def whole(state: pa.Table, parts: int) -> tuple[str, ...]:
    """The digests of a decision that says the same of every part, such as a policy."""
    return (_hash(_bytes(state)),) * parts


def of_rows(state: pa.Table, pieces: Sequence[Piece]) -> tuple[str, ...]:
    """The digests of a decision about rows: of each part by what is said of its own.

    Args:
        state: with ``_id``, sorted by it.
        pieces: of each part the sketches of its rows.
    """
    ids = [some_of(piece).column("_id") for piece in pieces]
    every = pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())
    places = pc.fill_null(pc.index_in(every, value_set=state.column("_id")), -1).to_numpy()
    parts = np.split(places, np.cumsum([len(column) for column in ids])[:-1])
    return tuple(_hash(_bytes(state.take(pa.array(np.sort(mine[mine >= 0]))))) for mine in parts)


def digests(
    stage: Stage, code: str, schema: pa.Schema, parts: Sequence[Part], decided: Sequence[Sequence[str]]
) -> dict[str, str]:
    """Name the outcome of each part: equal digest, equal rows and drops."""
    from pipeline.stages.stage import plugins

    about = json.dumps([stage.pipeline, stage.name, stage.steps_json(), code, *plugins(stage)], sort_keys=True)
    return {
        part.path: _hash(
            about.encode(), str(schema).encode(), part.path.encode(), *(d[at].encode() for d in decided)
        )
        for at, part in enumerate(parts)
    }


def standing(stage: Stage, lake: Lake, digests: Mapping[str, str]) -> dict[str, Emitted]:
    """Of the parts whose outcome is what it was, and still in its tables: that outcome."""
    table, target, drops = lake.table(TABLE), lake.table(stage.target), lake.table("_drops")
    if not (table.exists and target.exists):
        return {}
    mine = (pc.field("pipeline") == stage.pipeline) & (pc.field("stage") == stage.name)
    there = {part.path for each in (target, drops) if each.exists for part in each.parts()}
    found = {}
    for row in table.to_table(filter=mine).to_pylist():
        if digests.get(row["source"]) == row["digest"]:
            outcome = Emitted.from_bytes(row["outcome"].encode())
            if all(part.path in there for part in outcome.parts):
                found[row["source"]] = outcome
    return found


def note(stage: Stage, digests: Mapping[str, str], emitted: Mapping[str, Emitted]) -> pa.Table:
    """The rows of ``_emitted`` for a stage."""
    rows = [
        {
            "pipeline": stage.pipeline,
            "stage": stage.name,
            "source": source,
            "digest": digest,
            "outcome": emitted[source].noted().to_bytes().decode(),
        }
        for source, digest in digests.items()
    ]
    return pa.Table.from_pylist(rows, schema=EMITTED)
