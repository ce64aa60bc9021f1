"""Runs, from the records that they leave in ``_reports``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lake.errors import InputError
from pipeline.report import words
from pipeline.report.figures import Figures, figures
from pipeline.report.report import FOLDER, HTML, JSON
from pipeline.ui.site import Site

__all__ = ["Run", "RunLine", "Runs", "latest", "newest", "report_page", "run", "runs"]
__all__ += ["without_labels"]

MOST = 25  # runs of a page

_RUN = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")
_COUNTED = ("classes", "left_out")  # of a policy's evidence: labels, which are content


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list.

    Attributes:
        run: its name, which begins with its time in UTC.
        read: rows read from files.
        kept: rows that passed all steps.
        made: training copies.
        dropped: rows that a step dropped.
        repeats: those among them that repeat a kept row: labels saved.
        seconds: it took.
    """

    run: str
    pipeline: str
    status: str
    started: str
    seconds: float
    read: int
    kept: int
    made: int
    dropped: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Runs:
    """A page of runs, newest first; ``next`` is where the following page begins."""

    lines: list[RunLine]
    total: int
    next: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        record: as ``run.json`` holds it, credentials masked; labels are counted unless content may be shown.
        figures: it in numbers.
        line: it in a list.
    """

    record: Mapping[str, Any]
    figures: Figures
    line: RunLine

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return dict(self.record)


def runs(site: Site, before: str | None = None, most: int = MOST) -> Runs:
    """The runs, newest first.

    Args:
        site: whose.
        before: only those older than this one.
        most: so many at most.
    """
    names = _names(site)
    left = names if before is None else [name for name in names if name < before]
    shown = left[:most]
    lines = [_line(record) for name in shown if (record := _record(site, name)) is not None]
    return Runs(lines, len(names), shown[-1] if len(left) > len(shown) else None)


def newest(site: Site, most: int) -> Iterator[tuple[Mapping[str, Any], RunLine]]:
    """The records of the last runs, newest first."""
    for name in _names(site)[:most]:
        if (record := _record(site, name)) is not None:
            yield record, _line(record)


def latest(site: Site) -> Run | None:
    """The last run that left a record."""
    return next((_run(site, record) for record, _ in newest(site, MOST)), None)


def run(site: Site, name: str) -> Run:
    """One run.

    Raises:
        InputError: there is none of that name.
    """
    record = _record(site, name) if _RUN.fullmatch(name) else None
    if record is None:
        raise InputError(
            "there is no record of such a run",
            where=words.cut(name, 100),
            hint="choose one from the list of runs; retention may have removed its report",
        )
    return _run(site, record)


def report_page(site: Site, name: str) -> bytes:
    """The report of a run as one HTML page; without samples of records unless content may be shown."""
    found = run(site, name)
    if site.show_content:
        try:
            return site.lake.storage.read(f"{FOLDER}/{name}/{HTML}")
        except FileNotFoundError as error:
            raise InputError("this run has no report", where=name, hint="look at the run itself") from error
    from pipeline.report.html import build
    from pipeline.report.samples import Samples

    return build(found.record, Samples.withheld()).encode()


def _names(site: Site) -> list[str]:
    return sorted(site.lake.storage.folders(FOLDER), reverse=True)


def _record(site: Site, name: str) -> dict[str, Any] | None:
    """A run's record; None where there is none, or only half of one."""
    try:
        found = json.loads(site.lake.storage.read(f"{FOLDER}/{name}/{JSON}"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("steps"), list) else None


def _run(site: Site, record: Mapping[str, Any]) -> Run:
    shown = dict(record) | {"config": words.masked(record.get("config") or {})}
    if not site.show_content:
        shown["learned"] = {
            step: without_labels(found) for step, found in (record.get("learned") or {}).items() if found
        }
    return Run(shown, figures(shown), _line(record))


def without_labels(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's evidence with its labels counted, not named."""
    return {
        name: len(value) if name in _COUNTED and isinstance(value, list) else value
        for name, value in evidence.items()
    }


def _line(record: Mapping[str, Any]) -> RunLine:
    found = figures(record)
    return RunLine(
        run=str(record.get("run") or ""),
        pipeline=str(record.get("pipeline") or ""),
        status=str(record.get("status") or "ok"),
        started=str(record.get("started") or ""),
        seconds=float(record.get("seconds") or 0.0),
        read=found.read,
        kept=found.kept,
        made=found.made,
        dropped=found.dropped,
        repeats=found.repeats,
    )
