"""Deduplication: MinHash for texts, perceptual hashes for images; candidates are verified exactly."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dedup.image.phash import PHash as PHash
    from dedup.result import Result as Result
    from dedup.result import deduplicate as deduplicate
    from dedup.text.jaccard import Jaccard as Jaccard
    from dedup.text.minhash import MinHash as MinHash
    from dedup.text.signatures import signatures as signatures

# Name -> module. Imported on first use: `gristmill --help` must not load Arrow.
_HOME = {
    "Jaccard": "dedup.text.jaccard",
    "MinHash": "dedup.text.minhash",
    "PHash": "dedup.image.phash",
    "Result": "dedup.result",
    "deduplicate": "dedup.result",
    "signatures": "dedup.text.signatures",
}

__all__ = ["Jaccard", "MinHash", "PHash", "Result", "deduplicate", "signatures"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'dedup' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
