"""Config, plan, engine, report and command line: the only package that knows Ray.

>>> from pipeline import Pipeline
>>> Pipeline.load("configs/quickstart.yaml").config.name
'quickstart'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.loader import Loader as Loader
    from pipeline.loader import load as load
    from pipeline.pipeline import Pipeline as Pipeline
    from pipeline.plan import Plan as Plan
    from pipeline.report import Report as Report

__version__ = "0.1.0"

_HOME = {
    "Loader": "pipeline.loader",
    "Pipeline": "pipeline.pipeline",
    "Plan": "pipeline.plan",
    "Report": "pipeline.report",
    "load": "pipeline.loader",
}

__all__ = ["Loader", "Pipeline", "Plan", "Report", "load"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'pipeline' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
