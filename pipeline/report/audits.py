"""Audits that were made of a lake's tables: kept in ``_audits``, and shown in the reports of runs.

``gristmill dedup audit`` adds a row for each step that it measured: the numbers as JSON, the version of the
table, the settings of the step, the time. A report shows the last one of each of its steps, if it was made with
the settings of the run; where the table has changed since, it says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dedup.audit import Audit, Share
from dedup.audit.report import Bin, Level
from lake.lake import Change

if TYPE_CHECKING:
    from lake.lake import Lake

__all__ = ["AUDITS", "TABLE", "Made", "keep", "last", "of_run"]

TABLE = "_audits"
AUDITS = pa.schema(
    [
        pa.field("pipeline", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),  # its label, such as `2 dedup.MinHash`
        pa.field("source", pa.string(), nullable=False),  # the table that was measured
        pa.field("source_version", pa.int64(), nullable=False),  # of it, the newest that changed rows
        pa.field("settings", pa.string(), nullable=False),  # JSON: the step
        pa.field("code", pa.string(), nullable=False),  # version of Gristmill
        pa.field("made", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("audit", pa.string(), nullable=False),  # JSON: Audit.to_dict()
    ]
)
"""The ``_audits`` table: one row for each step that was measured. It holds no record's content."""

_WAIT = 60.0  # seconds for another audit to write its row


@dataclass(frozen=True, slots=True)
class Made:
    """An audit, and what it was made of.

    Attributes:
        step: the label of the step in its pipeline.
        source: the table that it reads.
        version: of that table, the newest that changed rows.
        settings: of the step, as JSON values.
        made: when.
        audit: what was measured.
        changed: whether the table has other rows now.
    """

    step: str
    source: str
    version: int
    settings: Mapping[str, Any]
    made: datetime
    audit: Audit
    changed: bool = False


def keep(lake: Lake, pipeline: str, audits: Sequence[Made], code: str) -> None:
    """Add audits to the table.

    Args:
        lake: the lake that was measured.
        pipeline: the name of the pipeline.
        audits: of its steps.
        code: version of the code.

    Raises:
        StorageError: no space, no permission.
        ConcurrentRunError: another audit of the pipeline does not come to an end.
    """
    rows = [
        {
            "pipeline": pipeline,
            "step": each.step,
            "source": each.source,
            "source_version": each.version,
            "settings": json.dumps(each.settings, sort_keys=True),
            "code": code,
            "made": each.made,
            "audit": json.dumps(each.audit.to_dict()),
        }
        for each in audits
    ]
    app = f"{pipeline}/audit"
    with lake.lock(f"audit-{pipeline}", wait=_WAIT):
        version = (lake.table(TABLE).transaction_version(app) or 0) + 1
        name = f"audit-{audits[0].made:%Y%m%dT%H%M%S%f}-{version}"
        part = lake.write_part(TABLE, name, [pa.Table.from_pylist(rows, schema=AUDITS)], AUDITS)
        lake.commit([Change(TABLE, AUDITS, (part,))], app=app, version=version)


def last(lake: Lake, pipeline: str, settings: Mapping[str, Any]) -> list[Made]:
    """The last audit of each step that was made with its settings, in the order of the steps.

    Args:
        lake: the lake.
        pipeline: the name of the pipeline.
        settings: of each step, by label.
    """
    table = lake.table(TABLE)
    if not settings or not table.exists:
        return []
    columns = [name for name in AUDITS.names if name != "audit"]
    rows = table.to_table(columns=columns, filter=pc.field("pipeline") == pipeline).to_pylist()
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["made"]):
        if row["step"] in settings and json.loads(row["settings"]) == settings[row["step"]]:
            found[row["step"]] = row
    return [_read(lake, pipeline, found[label]) for label in settings if label in found]


def of_run(lake: Lake, run: Mapping[str, Any]) -> list[Made]:
    """The audits that belong to a run, as ``run.json`` holds it."""
    steps = (run.get("config") or {}).get("steps") or []
    labelled = {
        f"{number} {name}": settings
        for number, step in enumerate(steps, start=1)
        for name, settings in step.items()
    }
    return last(lake, str(run.get("pipeline", "")), labelled)


def _read(lake: Lake, pipeline: str, row: Mapping[str, Any]) -> Made:
    """One of them whole: the numbers of an audit take more room than all that is said about it."""
    same = (pc.field("pipeline") == pipeline) & (pc.field("step") == row["step"])
    whole = lake.table(TABLE).to_table(columns=["made", "audit"], filter=same)
    audit = whole.filter(pc.field("made") == pa.scalar(row["made"], AUDITS.field("made").type))["audit"][-1]
    source = lake.table(row["source"])
    return Made(
        step=row["step"],
        source=row["source"],
        version=row["source_version"],
        settings=json.loads(row["settings"]),
        made=row["made"].astimezone(UTC),
        audit=_audit(json.loads(audit.as_py())),
        changed=not source.exists or source.data_version != row["source_version"],
    )


def _audit(told: Mapping[str, Any]) -> Audit:
    """The inverse of :meth:`dedup.audit.Audit.to_dict`."""
    shares = {name: _share(told[name]) for name in ("recall", "complete", "precision")}
    fields: dict[str, Any] = {**told, **shares}
    return Audit(
        **{name: value for name, value in fields.items() if name not in _NESTED},
        curve=tuple(Bin(**(each | {"share": _share(each["share"])})) for each in told["curve"]),
        theory=tuple((each["similarity"], each["probability"]) for each in told["theory"]),
        histogram=tuple((each["low"], each["pairs"]) for each in told["histogram"]),
        sweep=tuple(Level(**each) for each in told["sweep"]),
        limits=tuple(told["limits"]),
    )


_NESTED = ("curve", "theory", "histogram", "sweep", "limits")


def _share(told: Mapping[str, Any]) -> Share:
    return Share(told["hits"], told["of"], float(told["independent"]))
