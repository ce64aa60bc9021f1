"""A run's report: what Python, the terminal, a notebook and a browser see of it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake.errors import ExitCode, InputError
from pipeline.report import words
from pipeline.report.figures import Figures, figures
from pipeline.report.samples import Samples

if TYPE_CHECKING:
    from lake.lake import Lake
    from pipeline.report.audits import Made

__all__ = ["FOLDER", "HTML", "JSON", "Report", "refresh"]

FOLDER = "_reports"
HTML = "report.html"
JSON = "run.json"

_EXIT = {"ok": ExitCode.OK, "unchanged": ExitCode.OK, "rejects": ExitCode.REJECTS}


@dataclass(frozen=True)
class Report:
    """What a run did.

    Args:
        run: the run as ``run.json`` holds it.
        samples: records to show in the page; none unless given.
        audits: of its steps, to show in the page; none unless given.
        path: where the page was written, if it was.

    >>> step = {"stage": "ingest", "step": "lake.Files", "rows_in": 5, "rows_kept": 3, "rows_made": 0,
    ...         "drops": {"exact-duplicate": 2}, "seconds": 0.1}
    >>> report = Report({"run": "r1", "pipeline": "docs", "status": "ok", "seconds": 0.25, "steps": [step]})
    >>> print(report.summary())
    docs  ok  250 ms
    <BLANKLINE>
    stage   step               in  kept  dropped
    ingest  lake.Files          5     3        2
              exact-duplicate                  2
    <BLANKLINE>
    5 rows read, 3 kept, 40.0 % removed, 2 labels saved
    """

    run: Mapping[str, Any]
    samples: Samples = field(default_factory=Samples)
    audits: Sequence[Made] = ()
    path: str | None = None

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """The report of a ``run.json``, or of the folder that holds one; without samples.

        Raises:
            InputError: there is none, or it is not one.
        """
        file = Path(path) / JSON if Path(path).is_dir() else Path(path)
        try:
            run = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError("not a run's record", where=str(file), why=str(error)) from error
        if not isinstance(run, dict) or "steps" not in run:
            raise InputError("not a run's record", where=str(file), why="it has no `steps`")
        page = file.with_name(HTML)
        return cls(run, path=str(page) if page.exists() else None)

    @property
    def status(self) -> str:
        """``ok``, ``rejects`` (more unreadable rows than allowed) or ``unchanged`` (nothing to do)."""
        return str(self.run.get("status", "ok"))

    @property
    def exit_code(self) -> ExitCode:
        """What the command line answers."""
        return _EXIT.get(self.status, ExitCode.FAILED)

    @cached_property
    def figures(self) -> Figures:
        """The run in numbers."""
        return figures(self.run)

    def to_dict(self) -> dict[str, Any]:
        """The run as ``run.json`` holds it: no record's content."""
        return dict(self.run)

    def to_html(self) -> str:
        """The whole page: one file, no scripts, nothing fetched."""
        from pipeline.report.html import build

        return build(self.run, self.samples, self.audits)

    def summary(self) -> str:
        """The funnel for a terminal; no record's content."""
        return _summary(self)

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from pipeline.report.html import fragment

        return fragment(self.run)

    def write(self, folder: str | Path, *, put: Callable[[str, bytes], object] | None = None) -> Report:
        """Write ``report.html`` and ``run.json``; gives the report with its ``path``.

        Args:
            folder: where; made if it is not there. With ``put``, the beginning of the names it is given.
            put: writes bytes under a name, atomically (an object store). Otherwise files are written
                beside their place and renamed, so that nobody sees half of one.
        """
        page, record = f"{str(folder).rstrip('/')}/{HTML}", f"{str(folder).rstrip('/')}/{JSON}"
        write = put or _write_file
        write(page, self.to_html().encode())
        write(
            record, (json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
        )
        return replace(self, path=page)

    def settle(self, lake: Lake) -> Report:
        """Save it; where nothing changed, only if a killed run could not save its own."""
        if self.status != "unchanged":
            return self.save(lake)
        if self.run["steps"] and lake.storage.size(f"{_folder(self)}/{JSON}") is None:
            replace(self, run={**self.run, "status": self.run["outcome"]}).save(lake)
        return replace(self, path=lake.storage.address(f"{_folder(self)}/{HTML}"))

    def save(self, lake: Lake, *, private: bool = False) -> Report:
        """Collect samples from the lake, and write both files into its ``_reports/<run>/``.

        Args:
            lake: the lake that the run filled.
            private: show no record's content.
        """
        from pipeline.report.samples import collect

        samples = Samples.withheld() if private else collect(lake, self.run)
        report = replace(self, samples=samples, audits=_audits(lake, self.run))
        return _store(report, lake)


def refresh(lake: Lake, pipeline: str) -> str | None:
    """Put the audits that were made since into the page of a pipeline's last report; all else stays as it is.

    Returns:
        Where the page is; None if there is none that shows audits.
    """
    from pipeline.report.html import SECTION, with_audits

    names = lake.storage.folders(FOLDER)  # a run's name begins with its time, to the second
    second = [name for name in names if name.partition("-")[0] == names[-1].partition("-")[0]]
    second.sort(key=lambda name: lake.storage.modified(f"{FOLDER}/{name}/{JSON}"))
    for name in reversed([*names[: len(names) - len(second)], *second]):
        try:
            run = json.loads(lake.storage.read(f"{FOLDER}/{name}/{JSON}"))
            page = lake.storage.read(f"{FOLDER}/{name}/{HTML}").decode()
        except (FileNotFoundError, ValueError):
            continue
        if run.get("pipeline") == pipeline:
            shown = with_audits(page, audits := _audits(lake, run))
            if shown != page:
                lake.storage.write(f"{FOLDER}/{name}/{HTML}", shown.encode())
            return lake.storage.address(f"{FOLDER}/{name}/{HTML}") if audits and SECTION in shown else None
    return None


def _audits(lake: Lake, run: Mapping[str, Any]) -> Sequence[Made]:
    """Those of a run's steps; the module is loaded only where the lake has any."""
    if not lake.table("_audits").exists:
        return ()
    from pipeline.report.audits import of_run

    return of_run(lake, run)


def _store(report: Report, lake: Lake) -> Report:
    written = report.write(_folder(report), put=lake.storage.write)
    return replace(written, path=lake.storage.address(str(written.path)))


def _folder(report: Report) -> str:
    return f"{FOLDER}/{report.run['run']}"


def _write_file(name: str, content: bytes) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    number, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(beside).chmod(0o644)  # mkstemp's 0o600 would hide the report from the team
        Path(beside).replace(path)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise


def _summary(report: Report) -> str:
    found, run = report.figures, report.run
    head = [str(run.get("pipeline", "")), report.status, words.seconds(float(run.get("seconds") or 0.0))]
    lines = ["  ".join(part for part in [*head, str(run.get("runner") or "")] if part), ""]
    if found.steps:
        lines += [*_funnel(found), ""]
    lines.append(_closing(found))
    if left := run.get("left"):
        told = ", ".join(f"{words.count(number)} {rule}" for rule, number in left.items())
        lines.append(f"places that are no more: {told}")
        rows, before = _rows_of(run), int(run.get("rows_before") or 0)
        if 2 * rows < before:
            lines.append(
                f"warning: {words.count(rows)} rows are left of {words.count(before)}; was everything mounted?"
            )
    if not found.adds_up:
        lines.append("warning: a step does not account for all its rows")
    if report.path:
        lines.append(f"report: {report.path}")
    return "\n".join(lines)


def _rows_of(run: Mapping[str, Any]) -> int:
    """How many rows the table of the rows as read has."""
    name = run.get("config", {}).get("raw", "raw")
    return int(run.get("tables", {}).get(name, {}).get("rows", 0))


def _funnel(found: Figures) -> list[str]:
    """The table: a line per step, and one per reason under it."""
    made = any(step.rows_made for step in found.steps)
    rows: list[tuple[str, ...]] = [("stage", "step", "in", "kept", "dropped", "copies")]
    for step in found.steps:
        numbers = (words.count(n) for n in (step.rows_in, step.rows_kept, step.dropped, step.rows_made))
        rows.append((step.stage if step.first else "", step.name, *numbers))
        rows += [("", f"  {rule}", "", "", words.count(number), "") for rule, number in step.drops.items()]
    if not made:
        rows = [row[:5] for row in rows]
    wide = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)  # noqa: PLR2004  (two columns of names, then numbers)
            for at, (cell, width) in enumerate(zip(row, wide, strict=True))
        ).rstrip()
        for row in rows
    ]


def _closing(found: Figures) -> str:
    if not found.entered:
        return "no rows"
    parts = [f"{words.count(found.read)} rows read"]
    if found.before:
        parts.append(f"{words.count(found.before)} from earlier runs")
    parts.append(f"{words.count(found.kept)} kept")
    if found.made:
        parts.append(f"{words.count(found.kept + found.made)} training rows")
    parts.append(f"{words.percent(found.dropped, found.entered)} removed")
    if found.repeats:
        parts.append(f"{words.count(found.repeats)} labels saved")
    return ", ".join(parts)
