"""Coordinates of the drawings: the flow of the rows, and bars over time. Text stays HTML: it can wrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.ui.data.costs import Cost
from pipeline.ui.data.lineage import Lineage, Stop

__all__ = ["Band", "Bar", "bars", "flow"]

WIDE = 1000.0
HIGH = 48.0
LEAST = 4.0  # of a band: a single row must be seen


@dataclass(frozen=True, slots=True)
class Band:
    """What flows into a table, on a canvas of 1000 by 48.

    Attributes:
        stop: the table.
        before: rows that come in.
        kept: path of what goes through.
        dropped: path of what goes away to the right; empty if nothing does.
        made: path of the copies that come on top; empty if there are none.
    """

    stop: Stop
    before: int
    kept: str
    dropped: str
    made: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: where it begins, how wide and how high it is, and what it says."""

    x: float
    width: float
    y: float
    height: float
    title: str


def flow(found: Lineage) -> list[Band]:
    """The way of the rows, as wide as there are rows."""
    read = sum(stop.rows for stop in found.sources)
    came = [read, *(stop.rows for stop in found.stops)]
    # Rows of earlier runs are in the first table too: there what comes in is what it has and what went.
    entered = [
        (stop.rows - stop.made + stop.dropped) if number == 0 else came[number]
        for number, stop in enumerate(found.stops)
    ]
    widest = max([1, *came, *entered])
    return [_band(stop, before, widest) for stop, before in zip(found.stops, entered, strict=True)]


def _band(stop: Stop, before: int, widest: int) -> Band:
    scale = WIDE / widest
    kept = stop.rows - stop.made
    left = max(LEAST, kept * scale) if kept else 0.0
    top = max(left, before * scale)
    end = max(left, stop.rows * scale)
    half = HIGH / 2
    lost, more = "", ""
    if stop.dropped:
        right = max(top, left + LEAST)
        lost = (
            f"M{left:.1f},0 L{right:.1f},0 C{right:.1f},{half} {right + 30:.1f},{half} {right + 30:.1f},{HIGH} "
            f"L{left + 30:.1f},{HIGH} C{left + 30:.1f},{half} {left:.1f},{half} {left:.1f},0 Z"
        )
    if stop.made:
        more = f"M{left:.1f},0 C{left:.1f},{half} {end:.1f},{half} {end:.1f},{HIGH} L{left:.1f},{HIGH} Z"
    return Band(stop, before, f"M0,0 H{left:.1f} V{HIGH} H0 Z", lost, more)


def bars(rows: Sequence[Cost], of: str) -> list[Bar]:
    """Bars of one number of each run, the oldest first, on a canvas of 1000 by 100.

    Args:
        rows: newest first.
        of: ``seconds``, ``bytes`` or ``repeats``.
    """
    numbers = [float(row.bytes if of == "bytes" else getattr(row.line, of)) for row in reversed(rows)]
    most = max([*numbers, 0.0]) or 1.0
    step = WIDE / max(len(numbers), 12)
    return [
        Bar(
            round(at * step, 2),
            round(step * 0.8, 2),
            round(100 - (high := max(1.5, 98 * number / most)), 2),
            round(high, 2),
            row.line.run,
        )
        for at, (number, row) in enumerate(zip(numbers, reversed(rows), strict=True))
    ]
