"""Runs that are watched in every way at once, and what a scrape says."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pipeline import Pipeline, engine
from pipeline.report import Report
from pipeline.telemetry.events import Event, StepAdvanced
from pipeline.telemetry.lineage import Lineage
from pipeline.telemetry.live import Live
from pipeline.telemetry.logs import LogObserver, Place, logging_to
from pipeline.telemetry.metrics import TextFile, exporter, target

CONFIG = """\
name: small
lake: ./lake
allowed_rejects: 0.2
source: {lake.Files: {paths: texts/*.jsonl, split_bytes: 20000}}
steps:
  - pipeline.filters.Quality: {preset: plain}
  - dedup.MinHash: {threshold: 0.8}
"""

Key = tuple[str, tuple[tuple[str, str], ...]]


def parsed(text: bytes | str) -> dict[Key, float]:
    """Samples by name and labels, as Prometheus' own parser reads them."""
    content = text.decode() if isinstance(text, bytes) else text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(content)
        for sample in family.samples
    }


def value(found: dict[Key, float], name: str, **labels: str) -> float:
    """The one sample that has these labels among others."""
    [only] = [
        number
        for (each, has), number in found.items()
        if each == f"gristmill_{name}" and labels.items() <= dict(has).items()
    ]
    return only


@dataclass
class Recorder:
    """Keeps the events; at each part it scrapes, as Prometheus would."""

    port: int | None = None
    events: list[Event] = field(default_factory=list)
    scrapes: list[bytes] = field(default_factory=list)

    def on(self, event: Event) -> None:
        self.events.append(event)
        if self.port is not None and isinstance(event, StepAdvanced):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                self.scrapes.append(answer.read())

    def close(self) -> None:
        pass


@dataclass
class Watched:
    """A run that was watched in every way at once."""

    folder: Path
    report: Report
    recorder: Recorder

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline.load(self.folder / "small.yaml")

    @property
    def textfile(self) -> dict[Key, float]:
        return parsed((self.folder / "out.prom").read_bytes())

    @property
    def lineage(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "lineage.jsonl").read_text().splitlines()]

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]


def watched_run(folder: Path) -> Watched:
    """One run with every observer."""
    place = Place()
    served = exporter(target("127.0.0.1:0"), Live())
    recorder = Recorder(served.port)  # type: ignore[attr-defined]
    observers = [
        served,
        exporter(TextFile(str(folder / "out.prom")), Live()),
        Lineage(str(folder / "lineage.jsonl")),
        LogObserver(place),
        recorder,
    ]
    runner = engine.local(2)
    try:
        with logging_to(place, "json", str(folder / "log.jsonl")):
            report = Pipeline.load(folder / "small.yaml").run(runner=runner, observers=observers)
    finally:
        runner.close()
        for observer in observers:
            observer.close()
    return Watched(folder, report, recorder)
