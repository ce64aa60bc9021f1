"""Row-local filters: which records are worth keeping, and for each of the others the rule that it broke."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.filters.image import Image as Image
    from pipeline.filters.label import Label as Label
    from pipeline.filters.length import Length as Length
    from pipeline.filters.quality import Quality as Quality
    from pipeline.filters.where import Keep as Keep

# Name -> module. Imported on first use: `gristmill --help` must not load Arrow.
_HOME = {
    "Image": "pipeline.filters.image",
    "Keep": "pipeline.filters.where",
    "Label": "pipeline.filters.label",
    "Length": "pipeline.filters.length",
    "Quality": "pipeline.filters.quality",
}

__all__ = ["Image", "Keep", "Label", "Length", "Quality"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'pipeline.filters' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
