"""Metrics of a lake as it stands, read from its log and its newest rows of ``_runs``: no run is needed."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lake.errors import GristmillError
from lake.lake import Lake, Part
from lake.ledger import FILES_TABLE, RUNS_TABLE
from pipeline.report.figures import figures
from pipeline.telemetry.cost import Prices, cost
from pipeline.telemetry.datasets import plain_uri
from pipeline.telemetry.samples import Sample

if TYPE_CHECKING:
    from pipeline.config import Config

__all__ = ["Standing", "last_reports", "newest_files", "standing", "waiting"]

_log = logging.getLogger(__name__)

_NANOSECONDS = 1e9
_NO_PRICES = Prices()


def standing(lake: Lake, *, pipeline: str | None = None, prices: Prices = _NO_PRICES) -> Iterator[Sample]:
    """All samples of a lake.

    Args:
        lake: the lake; one that does not exist yet has none but ``lake_up 0``.
        pipeline: this one alone, and its tables; all where none is named.
        prices: for the cost; nothing without.

    Raises:
        LakeError: the lake cannot be read.
    """
    uri = {"lake": plain_uri(str(lake.uri))}
    reports = last_reports(lake, pipeline)
    targets = {report["inputs"]["target"] for _, report in reports.values()}
    tables = lake.tables()
    for name in tables:
        if pipeline is None or name in targets:
            yield from _table(lake, name, uri)
    for (owner, stage), (row, report) in reports.items():
        labels = {**uri, "pipeline": owner, "stage": stage}
        yield Sample("stage_commit_time_seconds", row["committed"], labels)
        yield Sample("stage_seconds", float(report["seconds"]), labels)
        for name, key in (("stage_gpu_busy_ratio", "device_busy"), ("stage_pool_busy_ratio", "busy")):
            if (share := report.get("accelerators", {}).get(key)) is not None:
                yield Sample(name, float(share), labels)
        for step in report["steps"]:
            yield from _step(step, labels)
    for owner in dict.fromkeys(owner for owner, _ in reports):
        mine = [report for (name, _), (_, report) in reports.items() if name == owner]
        yield from _pipeline(lake, mine, prices, {**uri, "pipeline": owner})
    for owner, modified in newest_files(lake, pipeline).items():
        yield Sample("newest_file_time_seconds", modified, {**uri, "pipeline": owner})
    yield Sample("lake_up", float(bool(tables)), uri)


def _table(lake: Lake, name: str, uri: Mapping[str, str]) -> Iterator[Sample]:
    current = lake.table(name).snapshot()
    parts = current.parts()
    labels = {**uri, "table": name}
    yield Sample("table_rows", sum(part.rows for part in parts), labels)
    yield Sample("table_bytes", sum(part.bytes for part in parts), labels)
    yield Sample("table_files", len(parts), labels)
    yield Sample("table_version", current.version, labels)


def _step(step: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[Sample]:
    mine = {**labels, "step": step["step"]}
    yield Sample("step_rows_in", step["rows_in"], mine)
    yield Sample("step_rows_kept", step["rows_kept"], mine)
    yield Sample("step_rows_made", step["rows_made"], mine)
    yield Sample("step_busy_seconds", step["seconds"], mine)
    for rule, rows in step["drops"].items():
        yield Sample("step_rows_dropped", rows, {**mine, "rule": rule})


def _pipeline(
    lake: Lake, reports: list[dict[str, Any]], prices: Prices, labels: Mapping[str, str]
) -> Iterator[Sample]:
    """What all stages of a pipeline say together: the labels saved, and the cost."""
    steps = [step for report in reports for step in report["steps"]]
    yield Sample("labels_saved", figures({"steps": steps}).repeats, labels)
    if not prices.known:
        return
    tables = {report["inputs"]["target"] for report in reports}
    sizes = {name: {"bytes": lake.table(name).size_bytes} for name in tables if lake.table(name).exists}
    record = {"steps": steps, "seconds": sum(report["seconds"] for report in reports), "tables": sizes}
    workers = [report.get("workers") for report in reports]
    known = max((each for each in workers if each), default=None) if all(workers) else None
    for line in cost(record, prices, workers=known).lines:
        yield Sample("cost", line.amount, {**labels, "kind": line.kind, "currency": prices.currency})


def last_reports(
    lake: Lake, pipeline: str | None = None
) -> dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]]:
    """The row of ``_runs`` and its report by pipeline and stage, each the newest.

    Of parts that hold one pipeline's stage alone, as a commit leaves them, the newest alone is read: a
    lake of ten thousand runs costs as many reads as it has stages.
    """
    found: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
    table = lake.table(RUNS_TABLE)
    if not table.exists:
        return found
    for part in sorted(table.parts(), key=lambda each: (each.added, each.path), reverse=True):
        only = (_only(part, "pipeline"), _only(part, "stage"))
        if only in found or (pipeline is not None and only[0] not in {None, pipeline}):
            continue
        rows = [row for batch in table.read_part(part) for row in batch.to_pylist()]
        for row in reversed(rows):
            key = (row["pipeline"], row["stage"])
            if key not in found and pipeline in {None, row["pipeline"]}:
                # The commit's own time; a compaction keeps it for the part.
                row["committed"] = part.added / 1000 if part.added else row["started"].timestamp()
                found[key] = row, json.loads(row["report"])
    return dict(sorted(found.items()))


_LONGEST_BOUND = 31
"""A bound of so many characters or more may be cut off in the log, and says nothing of equality."""


def _only(part: Part, column: str) -> str | None:
    """The one value of a column in a part, as the log tells it; none where there may be several."""
    stats = json.loads(part.stats)
    low, high = (stats.get(side, {}).get(column) for side in ("minValues", "maxValues"))
    return low if low == high and isinstance(low, str) and len(low) < _LONGEST_BOUND else None


def newest_files(lake: Lake, pipeline: str | None = None) -> dict[str, float]:
    """The newest modification time (Unix seconds) of the files that each pipeline has read."""
    found: dict[str, float] = {}
    table = lake.table(FILES_TABLE)
    for part in table.parts() if table.exists else ():
        owner = _only(part, "pipeline")
        newest = json.loads(part.stats).get("maxValues", {}).get("modified")
        if owner is not None and newest is not None:
            pairs: Collection[tuple[str, int]] = [(owner, newest)]
        else:
            batches = table.read_part(part, ["pipeline", "modified"])
            pairs = [(row["pipeline"], row["modified"]) for batch in batches for row in batch.to_pylist()]
        for key, modified in pairs:
            name = key.partition("/")[0]  # of the manifest: the pipeline, and the table where it is not `raw`
            if pipeline in {None, name}:
                found[name] = max(found.get(name, 0.0), modified / _NANOSECONDS)
    return found


def waiting(config: Config) -> Iterator[Sample]:
    """How many files of a pipeline's sources wait for a run, and since when. Lists the sources.

    Raises:
        InputError: a source cannot be listed.
    """
    from pipeline.plan import jobs_of

    lake = Lake(config.lake)
    labels = {"lake": plain_uri(str(lake.uri)), "pipeline": config.name}
    files = {piece.file.uri: piece.file.modified for job in jobs_of(config, lake) for piece in job.split.pieces}
    yield Sample("files_waiting", len(files), labels)
    if files:
        yield Sample("oldest_waiting_file_time_seconds", min(files.values()) / _NANOSECONDS, labels)


class Standing:
    """The samples of a lake, kept for a while: many scrapes are one look.

    Args:
        lake: the lake.
        pipeline: this one alone, and its tables.
        prices: for the cost.
        keep: seconds for which an answer stands.
    """

    def __init__(
        self, lake: Lake, pipeline: str | None = None, prices: Prices = _NO_PRICES, keep: float = 15.0
    ) -> None:
        self._lake, self._pipeline, self._prices, self._keep = lake, pipeline, prices, keep
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._until = 0.0

    def forget(self) -> None:
        """The lake has changed: the next scrape looks anew."""
        self._until = 0.0

    def samples(self) -> list[Sample]:
        """Those of the moment; of a lake that cannot be read ``lake_up 0`` alone."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._until = time.monotonic() + self._keep
                try:
                    self._samples = list(standing(self._lake, pipeline=self._pipeline, prices=self._prices))
                except (GristmillError, OSError) as error:
                    _log.warning("the lake's metrics cannot be read: %s", type(error).__name__)
                    self._samples = [Sample("lake_up", 0.0, {"lake": plain_uri(str(self._lake.uri))})]
            return self._samples
