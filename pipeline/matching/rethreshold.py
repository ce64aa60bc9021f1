"""What another threshold would decide, from the pairs that are stored: nothing is hashed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dedup.match import Match
from dedup.reselect import reselect
from lake.errors import ConfigError
from pipeline.matching.index import stored
from pipeline.matching.places import Place

if TYPE_CHECKING:
    from lake import Lake
    from pipeline.config import Config

__all__ = ["retried"]


def retried(
    config: Config, lake: Lake, place: Place, threshold: float
) -> tuple[dict[str, Any], pa.Table, pa.Table]:
    """What is decided now and at another threshold: the counts, the rows that come back, and all drops.

    Raises:
        ConfigError: the threshold is lower than the one that the pairs were verified with; or the step does not
            store all pairs.
        LakeError: the pairs are not stored.
    """
    match = place.match
    if match.walks:
        raise ConfigError(
            f"step {place.label} stores too few pairs to try another threshold",
            where=config.name,
            why="with pairs: twins a row that goes is stored with its kept twin alone; what else it resembles "
            "is not known",
            hint=f"write threshold: {threshold:g} into the configuration and start `gristmill run`; or write "
            "pairs: all, where all pairs fit, run, and try then",
        )
    if threshold < match.threshold:
        raise ConfigError(
            f"{threshold:g} is lower than the threshold of step {place.label}, {match.threshold:g}",
            why="pairs below that were not verified, so nothing is known of them",
            hint=f"write threshold: {threshold:g} into the configuration and start `gristmill run`",
        )
    gone: list[pa.Array] = []
    for label, step in place.stage.steps[: place.at]:
        if isinstance(step, Match):
            earlier = reselect(*stored(config, lake, label), step, gone=_ids(gone))
            gone += earlier.column("_id").chunks
    edges, nodes = stored(config, lake, place.label)
    rows = nodes.num_rows
    if gone:
        rows -= pc.sum(pc.is_in(nodes.column("_id"), value_set=_ids(gone))).as_py() or 0
    among = edges
    for name in ("left", "right") if gone else ():
        among = among.filter(pc.invert(pc.is_in(among.column(name), value_set=_ids(gone))))
    now = reselect(edges, nodes, match, gone=_ids(gone))
    then = reselect(edges, nodes, match, threshold, gone=_ids(gone))
    back = now.filter(pc.invert(pc.is_in(now.column("_id"), value_set=then.column("_id"))))
    fresh = pc.invert(pc.is_in(then.column("_id"), value_set=now.column("_id")))
    told = {
        "step": place.label,
        "rows": rows,
        "now": _counts(among, now, rows, match.threshold),
        "then": _counts(among, then, rows, threshold),
        "back": back.num_rows,
        "newly_dropped": pc.sum(fresh).as_py() or 0,
    }
    return told, back, then


def _ids(chunks: list[pa.Array]) -> pa.ChunkedArray:

    return pa.chunked_array(chunks, pa.string())


def _counts(edges: pa.Table, state: pa.Table, rows: int, threshold: float) -> dict[str, Any]:

    similar = pc.sum(pc.greater_equal(edges.column("exact"), threshold)).as_py() or 0
    return {
        "threshold": threshold,
        "pairs": similar,
        "kept": rows - state.num_rows,
        "dropped": state.num_rows,
    }
