"""Policies learned from the data: which ops, and how far, the labels can bear."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from augment.search.evidence import Evidence as Evidence
    from augment.search.evidence import OpEvidence as OpEvidence
    from augment.search.learned import Learned as Learned

# Name -> module. Imported on first use: `gristmill --help` must not load Arrow.
_HOME = {
    "Evidence": "augment.search.evidence",
    "Learned": "augment.search.learned",
    "OpEvidence": "augment.search.evidence",
}

__all__ = ["Evidence", "Learned", "OpEvidence"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'augment.search' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
