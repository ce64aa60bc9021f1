"""The page: one HTML file with everything in it, that fetches nothing and runs nothing.

Its Content-Security-Policy forbids scripts and every address; the one style block is allowed by its
hash. All values go through jinja2's autoescape, and records' texts lose characters that HTML forbids.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from pipeline.report import words
from pipeline.report.figures import Figures, Screen, ScreenOp, Step, figures, screens
from pipeline.report.samples import Cluster, Example, Samples, Twin

if TYPE_CHECKING:
    from pipeline.report.audits import Made

__all__ = ["SECTION", "TEMPLATES", "build", "compared", "environment", "fragment", "with_audits"]

SECTION = '<section id="audits">'
TEMPLATES = Path(__file__).parent / "templates"
_BAR = 1000.0  # width of a bar's coordinate system
_STEPS = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)  # accuracy lost or won at which the heat map's colour changes
_SHOWN = ("run", "pipeline", "version", "runner", "started", "lake", "limit")
_AUDITS = ("<!-- audits -->", "<!-- /audits -->")  # around their section: no value can hold these
_TEXT = 900  # characters of a text that stands alone

_STATUS = {
    "ok": ("ok", ""),
    "rejects": (
        "too many rejects",
        "More rows could not be read than the configuration allows. They are listed under “Why rows went”.",
    ),
    "unchanged": (
        "unchanged",
        "No file, step or version had changed: nothing was done. The numbers are those of the last run.",
    ),
}


def build(run: Mapping[str, Any], samples: Samples | None = None, audits: Sequence[Made] = ()) -> str:
    """The whole page.

    Args:
        run: the run as ``run.json`` holds it.
        samples: the records to show.
        audits: of its steps, if they were measured.
    """
    # With the styles of audits even where there are none: see `with_audits`.
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "audit.css"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = environment().get_template("page.html.j2")
    return page.render(
        **_values(run, samples or Samples()),
        audits=_section(audits),
        style=Markup(style),  # noqa: S704  (our own file)
        digest=digest,
    )


def _section(audits: Sequence[Made]) -> Markup:
    if not audits:
        return Markup()
    from pipeline.report.audit import section

    return Markup(section(audits))  # noqa: S704  (a template of ours made it)


def with_audits(page: str, audits: Sequence[Made]) -> str:
    """A page that was written before, with these audits instead of those that it shows."""
    head, begin, rest = page.partition(_AUDITS[0])
    _, end, tail = rest.partition(_AUDITS[1])
    return f"{head}{begin}{_section(audits)}{end}{tail}" if begin and end else page


def fragment(run: Mapping[str, Any]) -> str:
    """The funnel and the tables for a notebook; no record's content."""
    style = (TEMPLATES / "fragment.css").read_text(encoding="utf-8")
    part = environment().get_template("fragment.html.j2")
    return part.render(**_values(run, Samples()), style=Markup(style))  # noqa: S704  (our own file)


class _Compiled(FileSystemBytecodeCache):
    """Compiled templates, where Python keeps compiled modules: what cannot be read or kept is compiled anew.

    To compile the page takes longer than to fill it: a tenth of a second of every run.
    """

    def __init__(self) -> None:
        folder = Path(cache_from_source(os.fspath(TEMPLATES / "page.py"))).parent
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        super().__init__(os.fspath(folder))

    def load_bytecode(self, bucket: Bucket) -> None:
        try:
            super().load_bytecode(bucket)
        except Exception:  # noqa: BLE001  (whatever a damaged file makes of itself)
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().dump_bytecode(bucket)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """What all pages are rendered with: values are escaped, names that are missing are errors."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        bytecode_cache=None if sys.dont_write_bytecode else _Compiled(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "count": words.count,
        "seconds": words.seconds,
        "bytes": words.bytes_,
        "clean": lambda value: words.clean(str(value)),
        "cut": words.cut,
        "number": lambda value: f"{value:.4g}",
    }
    made.globals |= {
        "percent": words.percent,
        "segments": _segments,
        "cells": _cells,
        "verdict": _verdict,
        "pair": _pair,
        "text_limit": _TEXT,
    }
    return made


def _values(run: Mapping[str, Any], samples: Samples) -> dict[str, Any]:
    found = figures(run)
    status = str(run.get("status") or "ok")
    pill, note = _STATUS.get(status, (status, ""))
    return {
        "run": dict.fromkeys(_SHOWN) | dict(run),
        "status": status,
        "pill": pill,
        "note": note,
        "figures": found,
        "tables": run.get("tables") or {},
        "samples": samples,
        "clusters": [cluster for cluster in samples.clusters if cluster.twins],
        "screens": screens(run),
        "reasons": _reasons(found, samples),
        "timings": _timings(found),
        "seeds": _seeds(run.get("config") or {}),
        "config": _config(run.get("config") or {}),
        "swept": found.entered > 0,
    }


# -------------------------------------------------------------------------------------------- funnel


def _segments(step: Step, found: Figures) -> dict[str, Any]:
    """A step's bar: x and width of what was kept, dropped and made, on the funnel's scale."""
    scale = _BAR / found.widest
    kept = step.rows_kept * scale
    drops, at = [], kept
    for rule, number in step.drops.items():
        wide = max(number * scale, 1.5)  # a single row must be seen
        drops.append({"rule": rule, "number": number, "x": round(at, 2), "width": round(wide, 2)})
        at += number * scale
    return {"kept": round(kept, 2), "end": round(step.rows_in * scale, 2), "drops": drops}


@dataclass(frozen=True, slots=True)
class _Reason:
    stage: str
    step: str
    rule: str
    number: int
    examples: tuple[Example, ...]


def _reasons(found: Figures, samples: Samples) -> list[_Reason]:
    """Every reason with its number and a few places, the most frequent first within a step."""
    return [
        _Reason(
            step.stage,
            step.name,
            rule,
            number,
            tuple(e for e in samples.examples if (e.stage, e.step, e.rule) == (step.stage, step.name, rule)),
        )
        for step in found.steps
        for rule, number in step.drops.items()
    ]


def _timings(found: Figures) -> list[dict[str, Any]]:
    longest = max([step.seconds for step in found.steps], default=0.0)
    return [
        {
            "stage": step.stage,
            "step": step.name,
            "seconds": step.seconds,
            "width": _BAR * step.seconds / longest,
        }
        for step in found.steps
        if longest > 0
    ]


# ------------------------------------------------------------------------------------------ heat map


def _cells(op: ScreenOp, screen: Screen) -> Iterator[dict[str, Any]]:
    """One cell per level: the change of accuracy in points, its colour's class, its place about the ceiling."""
    spread = zip(op.losses, op.errors, strict=True) if op.magnitude else [(op.losses[0], op.errors[0])]
    for at, (loss, error) in enumerate(spread):
        if loss is None:
            yield {"text": "", "class": "none", "title": "not tried", "span": 1}
            continue
        size = sum(abs(loss) >= step for step in _STEPS)
        shade = "z" if not size else f"{'l' if loss > 0 else 'g'}{size}"
        over = not op.kept or (op.magnitude and op.ceiling is not None and at > op.ceiling)
        edge = op.kept and op.magnitude and op.ceiling == at and at < len(screen.levels) - 1
        points = f"{-100 * loss:+.1f}".replace("-", "\u2212").replace("+0.0", "0.0").replace("\u22120.0", "0.0")
        level = f"level {screen.levels[at]}: " if op.magnitude and screen.levels else ""
        title = f"{level}{points} points" + (f" \u00b1 {100 * error:.1f}" if error is not None else "")
        yield {
            "text": points,
            "span": 1 if op.magnitude else max(1, len(screen.levels)),
            "class": " ".join(part for part in (shade, "over" if over else "", "edge" if edge else "") if part),
            "title": title + (", not used" if over else ""),
        }


def _verdict(op: ScreenOp, screen: Screen) -> str:
    if not op.kept:
        return "pruned"
    if not op.magnitude or op.ceiling is None or op.ceiling >= len(screen.levels) - 1:
        return "kept"
    return f"up to {screen.levels[op.ceiling]}" if op.ceiling >= 0 else "pruned"


# ------------------------------------------------------------------------------------------- samples


def _pair(cluster: Cluster, twin: Twin) -> dict[str, Any] | None:
    """The kept and the dropped text with what they do not share; none where one of them is missing."""
    return compared(cluster.kept.text, twin.row.text)


def compared(left: str | None, right: str | None) -> dict[str, Any] | None:
    """Two texts with what they do not share, in pieces, and a note; none where one of them is missing."""
    if left is None or right is None:
        return None
    found = words.difference(left, right)
    return {"left": found.left, "right": found.right, "note": _difference_note(found)}


def _difference_note(found: words.Difference) -> str:
    if not found.changes:
        return "the same words" if found.whole else "the same words as far as they were compared"
    places = "1 place differs" if found.changes == 1 else f"{found.changes} places differ"
    if found.shown < found.changes:
        places += f", the first {found.shown} are shown"
    return places if found.whole else f"{places} in the parts that were compared"


# ------------------------------------------------------------------------------------- configuration


def _config(config: Mapping[str, Any]) -> str:
    """As YAML, credentials masked."""
    if not config:
        return ""
    masked = words.masked(config)
    return words.clean(yaml.safe_dump(masked, sort_keys=False, allow_unicode=True, width=100))


def _seeds(config: Any) -> dict[str, int]:
    """Step name -> seed, of the steps that make copies."""
    found: dict[str, int] = {}
    for step in config.get("steps") or [] if isinstance(config, Mapping) else []:
        if isinstance(step, Mapping):
            for name, settings in step.items():
                if isinstance(settings, Mapping) and {"seed", "copies"} <= set(settings):
                    found[str(name)] = settings["seed"]
    return found
