"""Augmentation: policies as values, exact kernels, training copies, and policies learned from the data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from augment import presets as presets
    from augment.apply import Apply as Apply
    from augment.custom import op as op
    from augment.engine.output import Output as Output
    from augment.policy import Policy as Policy
    from augment.search import Learned as Learned
    from augment.targets import Targets as Targets
    from augment.text.step import ApplyText as ApplyText

# Name -> module. Imported on first use: `gristmill --help` must not load Arrow.
_HOME = {
    "Apply": "augment.apply",
    "ApplyText": "augment.text.step",
    "Learned": "augment.search",
    "Output": "augment.engine.output",
    "Policy": "augment.policy",
    "Targets": "augment.targets",
    "op": "augment.custom",
}

__all__ = ["Apply", "ApplyText", "Learned", "Output", "Policy", "Targets", "op", "presets"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "presets":
        return import_module("augment.presets")
    msg = f"module 'augment' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
