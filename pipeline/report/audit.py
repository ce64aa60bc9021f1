"""The page of an audit: numbers and plots in one HTML file, that fetches nothing and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from dedup.audit import Audit, Share
from dedup.audit.share import percent
from pipeline.report.html import TEMPLATES, environment

if TYPE_CHECKING:
    from pipeline.report.audits import Made

__all__ = ["build", "section"]

WIDTH, HEIGHT = 720.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 18.0, 44.0

_PERCENT = "\N{NO-BREAK SPACE}%"

Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class _Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the plots have in common: ticks, and where the threshold stands."""

    x: tuple[_Tick, ...]
    y: tuple[_Tick, ...]
    threshold: float
    label: str
    turned: bool
    """The threshold's label stands to the left of its line, which is near the right end."""


def build(audits: Sequence[tuple[str, Audit]], pipeline: str, lake: str) -> str:
    """The whole page.

    Args:
        audits: of each step, with its label.
        pipeline: its name.
        lake: where the rows are.
    """
    names = ("page.css", "audit.css")
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = environment().get_template("audit.html.j2")
    return page.render(
        audits=[_shown(label, each) for label, each in audits],
        pipeline=pipeline,
        lake=lake,
        style=Markup(style),  # noqa: S704  (our own file)
        digest=digest,
        size=_size(),
    )


def section(audits: Sequence[Made]) -> str:
    """The section of a run's report: the shares with their intervals, and the S-curve, of each step."""
    part = environment().get_template("audits.html.j2")
    return part.render(audits=[_shown(made.step, made.audit) | {"made": made} for made in audits], size=_size())


def _size() -> dict[str, float]:
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "base": _y(0.0),
    }


def _shown(label: str, audit: Audit) -> dict[str, Any]:
    """One step's numbers in words, and its plots in coordinates."""
    return {
        "label": label,
        "audit": audit,
        "explained": audit.explained.replace(" %", _PERCENT),
        "headline": [
            _figure("Duplicates dropped", audit.complete, "of the rows that have a kept twin"),
            _figure("Recall of pairs", audit.recall, _theory(audit)),
            _figure("Right drops", audit.precision, "each compared once more, by other code"),
        ],
        "curve": _curve(audit),
        "histogram": _histogram(audit),
        "sweep": _sweep(audit),
        "bins": [
            {
                "range": f"{each.low:g} to {each.high:g}",
                "pairs": each.share.of,
                "share": percent(each.share.value),
                "ends": f"{percent(each.share.low)} to {percent(each.share.high)}" if each.share.of else "",
                "theory": percent(each.theory),
                "agrees": each.agrees,
                "counts": each.low >= audit.threshold,
            }
            for each in audit.curve
        ],
    }


def _theory(audit: Audit) -> str:
    return "" if audit.expected is None else f"theory {percent(audit.expected)}"


def _figure(name: str, share: Share, note: str) -> dict[str, str]:
    if not share.of:
        return {"name": name, "value": "none", "note": "nothing to measure in this sample"}
    ends = f"{share.hits:,} of {share.of:,}; 95 %: {percent(share.low)} to {percent(share.high)}"
    text = f"{ends}; {note}" if note else ends
    return {"name": name, "value": percent(share.value), "note": text.replace(" %", _PERCENT)}


# -------------------------------------------------------------------------------------------------- plots


def _x_scale(low: float, high: float = 1.0) -> Scale:
    return lambda value: round(LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low), 2)


def _y(share: float) -> float:
    """Of a share of the height."""
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share), 2)


def _frame(audit: Audit, x: Scale, low: float, y: Iterable[_Tick]) -> _Frame:
    step = 0.1 if 1.0 - low > 0.3 else 0.05 if 1.0 - low > 0.12 else 0.01  # noqa: PLR2004  (some eight ticks)
    first = math.ceil(low / step - 1e-9)
    ticks = [round(k * step, 2) for k in range(first, round(1.0 / step) + 1)]
    at = x(audit.threshold)
    return _Frame(
        tuple(_Tick(x(tick), f"{tick:g}") for tick in ticks),
        tuple(y),
        at,
        f"threshold {audit.threshold:g}",
        at > WIDTH * 0.8,
    )


def _curve(audit: Audit) -> dict[str, Any]:
    """The S-curve: theory as a line, what was measured as points with their intervals."""
    low = audit.floor
    x = _x_scale(low)
    points = [
        {
            "x": x(each.mean),
            "y": _y(each.share.hits / each.share.of),
            "low": _y(each.share.low),
            "high": _y(each.share.high),
            "off": each.high <= audit.threshold,
            "title": f"{each.low:g} to {each.high:g}: {each.share}; theory {percent(each.theory)}",
        }
        for each in audit.curve
        if each.mean is not None
    ]
    line = " ".join(f"{x(at)},{_y(chance)}" for at, chance in audit.theory)
    y = [_Tick(_y(share), f"{100 * share:g} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return {"points": points, "line": line, "frame": _frame(audit, x, low, y)}


def _histogram(audit: Audit) -> dict[str, Any]:
    """Pairs by similarity, on a logarithmic scale: the dissimilar ones are many."""
    lows = [low for low, _ in audit.histogram]
    width = (1.0 - lows[0]) / len(lows)
    x = _x_scale(lows[0])
    most = max([9, *(pairs for _, pairs in audit.histogram)])
    full = 1.06 * math.log10(most + 1)
    bars = []
    for low, pairs in audit.histogram:
        top = _y(math.log10(pairs + 1) / full)
        bars.append(
            {
                "x": round(x(low) + 0.75, 2),
                "width": round(max(1.0, x(low + width) - x(low) - 1.5), 2),
                "y": top,
                "height": round(_y(0.0) - top, 2),
                "over": low >= audit.threshold - width / 2,
                "title": f"{low:.3g} to {low + width:.3g}: {pairs:,} pairs",
            }
        )
    decades = range(int(math.log10(most)) + 1)
    ticks = [_Tick(_y(math.log10(10**k + 1) / full), f"{10**k:,}") for k in decades]
    return {"bars": bars, "frame": _frame(audit, x, lows[0], [_Tick(_y(0.0), "0"), *ticks])}


def _sweep(audit: Audit) -> dict[str, Any]:
    """Rows that go by threshold: by brute force, and by the pairs that the match found."""
    low = min([each.threshold for each in audit.sweep], default=0.5)
    x = _x_scale(low)
    top = _round_up(max([1, *(each.rows for each in audit.sweep)]))
    line = " ".join(f"{x(each.threshold)},{_y(each.rows / top)}" for each in audit.sweep)
    points = [
        {
            "x": x(each.threshold),
            "y": _y(each.found / top),
            "title": f"{each.threshold:g}: {each.found:,} of {each.rows:,} rows go",
        }
        for each in audit.sweep
        if each.found is not None
    ]
    ticks = [_Tick(_y(k / 4), f"{top * k / 4:,.0f}") for k in range(5)]
    return {"line": line, "points": points, "frame": _frame(audit, x, low, ticks)}


def _round_up(number: int) -> int:
    """To a number that quarters well."""
    size: int = 10 ** max(0, len(str(number)) - 2)
    return 4 * size * math.ceil(number / (4 * size))
