"""How far a run is: bars on a terminal, lines in a log, JSON lines for a program, or nothing.

Progress goes to stderr and never shows a record. A step is announced with its number of parts,
advanced part by part, and finished; steps follow one another.

>>> import io
>>> stream = io.StringIO()
>>> progress = JsonLines(stream)
>>> progress.start_step("clean: 1 dedup.MinHash", 2)
>>> progress.advance("clean: 1 dedup.MinHash", 1, 500)
>>> stream.getvalue().splitlines()[1]
'{"event": "advance", "step": "clean: 1 dedup.MinHash", "done": 1, "total": 2, "rows": 500}'
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Bars", "JsonLines", "Lines", "Progress", "Silent", "choose"]

_SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """What an engine tells while it works."""

    def start_step(self, name: str, total: int | None) -> None:
        """A step begins; ``total`` parts are to do, where that is known."""
        ...

    def advance(self, name: str, n: int = 1, rows: int = 0) -> None:
        """``n`` more parts of the step are done, with so many rows."""
        ...

    def finish(self) -> None:
        """The current step is over, well or badly."""
        ...


class Silent:
    """Says nothing."""

    def start_step(self, name: str, total: int | None) -> None:
        """Ignored."""

    def advance(self, name: str, n: int = 1, rows: int = 0) -> None:
        """Ignored."""

    def finish(self) -> None:
        """Ignored."""


class _Counting:
    """Counts parts and rows of the current step; the others say it in their own way."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.step: str | None = None
        self.total: int | None = None
        self.done = 0
        self.rows = 0
        self.started = 0.0

    def start_step(self, name: str, total: int | None) -> None:
        """Begin to count anew."""
        self.step, self.total, self.done, self.rows = name, total, 0, 0
        self.started = time.monotonic()

    def advance(self, name: str, n: int = 1, rows: int = 0) -> None:
        """Count."""
        if name != self.step:
            self.start_step(name, None)
        self.done += n
        self.rows += rows

    def finish(self) -> None:
        """Forget the step."""
        self.step = None

    @property
    def seconds(self) -> float:
        """Since the step began."""
        return time.monotonic() - self.started


class Lines(_Counting):
    """A line per step, and one every few seconds while it runs."""

    def __init__(self, stream: TextIO | None = None, every: float = _SECONDS_BETWEEN_LINES) -> None:
        super().__init__(stream)
        self.every = every
        self._last = 0.0

    def start_step(self, name: str, total: int | None) -> None:
        """Nothing yet: a step that takes no time needs one line only."""
        super().start_step(name, total)
        self._last = time.monotonic()

    def advance(self, name: str, n: int = 1, rows: int = 0) -> None:
        """A line, if the last one is old enough."""
        super().advance(name, n, rows)
        now = time.monotonic()
        if now - self._last >= self.every:
            self._last = now
            self._say("")

    def finish(self) -> None:
        """The step's last line."""
        if self.step is not None and (self.done or self.total):
            self._say(f" in {self.seconds:.1f} s")
        super().finish()

    def _say(self, tail: str) -> None:
        of = f"/{self.total}" if self.total is not None else ""
        print(f"{self.step}: {self.done}{of} parts, {self.rows:,} rows{tail}", file=self.stream, flush=True)


class JsonLines(_Counting):
    """One JSON object per event."""

    def start_step(self, name: str, total: int | None) -> None:
        """``{"event": "start", "step": ..., "total": ...}``."""
        super().start_step(name, total)
        self._say({"event": "start", "step": name, "total": total})

    def advance(self, name: str, n: int = 1, rows: int = 0) -> None:
        """``{"event": "advance", "step", "done", "total", "rows"}``, counted since the start."""
        super().advance(name, n, rows)
        event = {"event": "advance", "step": name, "done": self.done, "total": self.total, "rows": self.rows}
        self._say(event)

    def finish(self) -> None:
        """``{"event": "finish", ...}``."""
        if self.step is not None:
            event = {"event": "finish", "step": self.step, "done": self.done, "rows": self.rows}
            self._say({**event, "seconds": round(self.seconds, 3)})
        super().finish()

    def _say(self, event: dict[str, object]) -> None:
        print(json.dumps(event), file=self.stream, flush=True)


class Bars(_Counting):
    """A bar per step, for a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._bars: RichProgress | None = None
        self._task: TaskID | None = None

    def start_step(self, name: str, total: int | None) -> None:
        """Open a bar; the one before stays above it."""
        self.finish()
        super().start_step(name, total)
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        console = Console(file=self.stream, no_color=bool(os.environ.get("NO_COLOR")))
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rows]} rows", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._bars.start()
        self._task = self._bars.add_task(name, total=total, rows="0")

    def advance(self, name: str, n: int = 1, rows: int = 0) -> None:
        """Move the bar."""
        super().advance(name, n, rows)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=n, rows=f"{self.rows:,}")

    def finish(self) -> None:
        """Leave the bar as it stands, and give the terminal back."""
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = None
        super().finish()


def choose(*, quiet: bool = False, json_lines: bool = False, stream: TextIO | None = None) -> Progress:
    """The progress that fits: silent, JSON lines, bars where ``stream`` (stderr) is a terminal, else lines."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        return Silent()
    if json_lines:
        return JsonLines(stream)
    return Bars(stream) if stream.isatty() else Lines(stream)
