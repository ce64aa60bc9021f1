"""The families of a match, from the pairs that its index stores and the ledger of the last run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from dedup.families import clusters
from dedup.match import Match
from lake import ledger
from lake.errors import LakeError
from lake.lake import Lake
from pipeline.stages.stage import Stage

__all__ = ["stored_clusters"]


def stored_clusters(lake: Lake, stage: Stage, at: int, code: str) -> Iterator[pa.Table]:
    """List families, batch by batch; what is held is proportional to the rows that have a twin.

    Args:
        lake: where the pipeline ran.
        stage: that of the match.
        at: the place of the match among its steps.
        code: version of the code.

    Returns:
        Tables of schema :data:`dedup.result.CLUSTERS`, in the order of ``family`` and ``_id``.

    Raises:
        LakeError: the last run had other steps, or none with an index.
    """
    label, match = stage.steps[at]
    index = stage.index(lake, at, code)
    last = ledger.last_run(lake, stage.pipeline, stage.name)
    ran = json.loads(last["report"])["inputs"]["steps"] if last else []
    same = ran[: at + 1] == stage.steps_json()[: at + 1]
    if index is None or not isinstance(match, Match) or not same or not lake.table(index.edges).exists:
        raise LakeError(
            f"there are no pairs of step {label!r} as it is configured now",
            where=str(lake.uri),
            hint="run the pipeline first: gristmill run",
        )
    drops = lake.table(ledger.DROPS_TABLE)
    mine = (pc.field("pipeline") == stage.pipeline) & (pc.field("stage") == stage.name)
    earlier = [name for name, step in stage.steps[:at] if isinstance(step, Match)]

    def dropped(labels: list[str], *columns: str) -> pa.Table:
        return drops.to_table(
            columns=columns, filter=mine & pc.field("step").isin(pa.array(labels, pa.string()))
        )

    return clusters(
        lambda: lake.table(index.edges).scan(columns=["left", "right", "exact"]),
        dropped([label], "_id", "twin", "exact"),
        gone=dropped(earlier, "_id").column("_id"),
        copies=match.copies,
    )
