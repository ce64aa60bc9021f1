"""The ``_policies`` table: every policy that was learned, and from what; and those for loaders to apply."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lake.lake import Change, Lake
from pipeline.stages.stage import Stage

__all__ = ["POLICIES", "TABLE", "change", "pinned"]

TABLE = "_policies"

POLICIES = pa.schema(
    [
        pa.field("pipeline", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),  # of the stage that learned it
        pa.field("policy", pa.string(), nullable=False),  # JSON, see augment.Policy
        pa.field("evidence", pa.string(), nullable=False),  # JSON, see augment.search
    ]
)

Found = Mapping[str, Mapping[str, Any]]
"""By step, ``policy`` and ``evidence`` as plain values."""


def change(lake: Lake, run: str, pipeline: str, key: str, found: Found) -> Change:
    """Stage the policies of a stage.

    Args:
        lake: where.
        run: its name is part of the file's.
        pipeline: whose.
        key: of the stage.
        found: what there is to say.
    """
    rows = [
        {"pipeline": pipeline, "step": label, "key": key}
        | {name: json.dumps(value, sort_keys=True) for name, value in each.items()}
        for label, each in found.items()
    ]
    table = pa.Table.from_pylist(rows, schema=POLICIES)
    return Change(TABLE, POLICIES, (lake.write_part(TABLE, f"policies-{run}", [table], POLICIES),))


def pinned(stage: Stage) -> dict[str, dict[str, Any]]:
    """The policies that the stage's rows name for a loader to apply."""
    if "augment.apply" not in sys.modules:  # no step is one of it, and to load it takes a tenth of a second
        return {}
    from augment import Apply

    return {
        label: {"policy": json.loads(step.resolved.model_dump_json()), "evidence": {}}
        for label, step in stage.steps
        if isinstance(step, Apply) and step.late
    }
