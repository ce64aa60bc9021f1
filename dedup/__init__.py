"""Deduplication: MinHash for texts, perceptual hashes for images; candidates are verified exactly."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dedup.image import PHash as PHash
    from dedup.match import MinHash as MinHash
    from dedup.minhash import signatures as signatures
    from dedup.result import Result as Result
    from dedup.result import deduplicate as deduplicate

# Name -> module. Imported on first use: `gristmill --help` must not load Arrow.
_HOME = {
    "MinHash": "dedup.match",
    "PHash": "dedup.image",
    "Result": "dedup.result",
    "deduplicate": "dedup.result",
    "signatures": "dedup.minhash",
}

__all__ = ["MinHash", "PHash", "Result", "deduplicate", "signatures"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'dedup' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
