"""What a run did: counts by reason, samples, one HTML file and ``run.json``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.report.html import build as build
    from pipeline.report.report import Report as Report
    from pipeline.report.samples import Samples as Samples
    from pipeline.report.samples import collect as collect

_HOME = {
    "Report": "pipeline.report.report",
    "Samples": "pipeline.report.samples",
    "build": "pipeline.report.html",
    "collect": "pipeline.report.samples",
}

__all__ = ["Report", "Samples", "build", "collect"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'pipeline.report' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
