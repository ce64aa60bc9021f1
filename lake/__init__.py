"""Arrow and Delta: records, ids, sources, exactly-once commits and the ledger of drops."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lake.files import Files as Files
    from lake.lake import Lake as Lake
    from lake.lake import Table as Table

# Name -> module. Imported on first use: `gristmill --help` must not load Arrow.
_HOME = {"Files": "lake.files", "Lake": "lake.lake", "Table": "lake.lake"}

__all__ = ["Files", "Lake", "Table"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'lake' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
