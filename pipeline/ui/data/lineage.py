"""Where rows come from and go to: files, tables and the versions that each run made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lake.ledger import DROPS_TABLE, FILES_TABLE
from pipeline.ui.data.runs import Run, RunLine, newest, run
from pipeline.ui.paging import Place, newest_first, page
from pipeline.ui.site import Site

__all__ = ["Files", "Lineage", "Made", "Stop", "files", "lineage"]

RUNS = 20
"""Runs whose versions are compared."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A place on the way of the rows.

    Attributes:
        kind: ``source`` or ``table``.
        name: the table's, or the paths of the source.
        version: of the table after the run.
        rows: in it; of a source those that the run read.
        dropped: rows that went on the way to here.
        steps: that they passed on the way to here.
        made: training copies that came on top.
    """

    kind: str
    name: str
    version: int | None
    rows: int
    dropped: int = 0
    steps: tuple[str, ...] = ()
    made: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """The versions of the tables after a run, and which of them it made."""

    line: RunLine
    versions: dict[str, int]
    new: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """The way of the rows in one run, and the versions of the last runs."""

    run: str | None
    sources: list[Stop]
    stops: list[Stop]
    tables: list[str]
    made: list[Made]

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Files:
    """A page of the files that were read, the last ones first."""

    rows: list[dict[str, Any]]
    total: int
    next: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


def lineage(site: Site, name: str | None = None) -> Lineage:
    """The way of the rows in a run (the last one unless named) and the versions of the last runs.

    Raises:
        InputError: there is no such run.
    """
    last = list(newest(site, RUNS))
    made = _made(last)
    shown = run(site, name) if name else run(site, last[0][1].run) if last else None
    tables = list(dict.fromkeys(table for each in made for table in each.versions))
    if shown is None:
        return Lineage(None, [], [], [], [])
    return Lineage(shown.line.run, _sources(shown), _stops(shown), tables, made)


def _made(last: list[tuple[Mapping[str, Any], RunLine]]) -> list[Made]:
    """Newest first; a version is new that the run before (of any pipeline) had not."""
    out, before = [], dict[str, int]()
    for record, line in reversed(last):
        found = record.get("tables") or {}
        versions = {table: int(of["version"]) for table, of in found.items() if table != DROPS_TABLE}
        new = tuple(table for table, version in versions.items() if before.get(table) != version)
        out.append(Made(line, versions, new))
        before |= versions
    return out[::-1]


def _sources(shown: Run) -> list[Stop]:
    given = (shown.record.get("config") or {}).get("source") or []
    steps = [step for step in shown.figures.steps if step.stage == "ingest"]
    sources = given if isinstance(given, list) else [given]
    out = []
    for number, source in enumerate(sources):
        [(kind, settings)] = source.items() if len(source) == 1 else [("source", {})]
        paths = settings.get("paths") if isinstance(settings, Mapping) else None
        text = ", ".join(paths) if isinstance(paths, list) else str(paths or kind)
        read = steps[number].rows_in if number < len(steps) else 0
        out.append(Stop("source", text, None, read, steps=(str(kind),)))
    return out


def _stops(shown: Run) -> list[Stop]:
    """The tables in the order in which rows meet them: one for each stage that has steps."""
    config, tables = shown.record.get("config") or {}, shown.record.get("tables") or {}
    sink: Any = next(iter((config.get("sink") or {}).values()), {})
    names = {
        "ingest": config.get("raw", "raw"),
        "clean": config.get("clean", "clean"),
        "train": sink.get("name", "train") if isinstance(sink, Mapping) else "train",
    }
    found = shown.figures
    stages = list(dict.fromkeys(["ingest", *(step.stage for step in found.steps)]))
    out = []
    for stage in stages:
        name = str(names.get(stage, stage))
        # Where no filter comes before the copies there is one derived stage, and it has the sink's name.
        if name not in tables and stage == stages[-1]:
            name = next((each for each in reversed(tables) if each != DROPS_TABLE), name)
        if name not in tables:
            continue
        mine = [step for step in found.steps if step.stage == stage]
        out.append(
            Stop(
                "table",
                name,
                int(tables[name]["version"]),
                int(tables[name]["rows"]),
                sum(step.dropped for step in mine),
                tuple(step.name for step in mine) if stage != "ingest" else (),
                sum(step.rows_made for step in mine),
            )
        )
    return out


def files(site: Site, at: Place | None = None, size: int = 50) -> Files:
    """The files that were read, as the manifest has them: the last commits first."""
    table = site.lake.table(FILES_TABLE)
    if not table.exists:
        return Files([], 0, None)
    columns = ("pipeline", "uri", "size", "modified", "rows")
    found = page(table, at, columns, size=size, order=newest_first)
    return Files(found.rows, found.total, found.next)
