"""Deduplication of texts, images and embeddings: candidates are verified, and a repeat names its twin."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dedup.families import clusters as clusters
    from dedup.image.phash import PHash as PHash
    from dedup.image.pixels import Pixels as Pixels
    from dedup.labels import Conflicts as Conflicts
    from dedup.labels import conflicts as conflicts
    from dedup.leaks import Leakage as Leakage
    from dedup.leaks import Leaks as Leaks
    from dedup.leaks import leakage as leakage
    from dedup.result import Result as Result
    from dedup.result import deduplicate as deduplicate
    from dedup.spreading import Spread as Spread
    from dedup.spreading import spread as spread
    from dedup.text.jaccard import Jaccard as Jaccard
    from dedup.text.minhash import MinHash as MinHash
    from dedup.text.signatures import signatures as signatures
    from dedup.vector.cosine import Cosine as Cosine

# Name -> module. Imported on first use: `gristmill --help` must not load Arrow.
_HOME = {
    "Conflicts": "dedup.labels",
    "Cosine": "dedup.vector.cosine",
    "Jaccard": "dedup.text.jaccard",
    "Leakage": "dedup.leaks",
    "Leaks": "dedup.leaks",
    "MinHash": "dedup.text.minhash",
    "PHash": "dedup.image.phash",
    "Pixels": "dedup.image.pixels",
    "Result": "dedup.result",
    "Spread": "dedup.spreading",
    "clusters": "dedup.families",
    "conflicts": "dedup.labels",
    "deduplicate": "dedup.result",
    "leakage": "dedup.leaks",
    "signatures": "dedup.text.signatures",
    "spread": "dedup.spreading",
}

__all__ = [
    "Conflicts",
    "Cosine",
    "Jaccard",
    "Leakage",
    "Leaks",
    "MinHash",
    "PHash",
    "Pixels",
    "Result",
    "Spread",
    "clusters",
    "conflicts",
    "deduplicate",
    "leakage",
    "signatures",
    "spread",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'dedup' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
