"""The text ops: rows of the same kind as those of the image ops.

A magnitude is a share: of the tokens (words) of a text that are replaced, inserted, moved, deleted, misspelt or
cut off, or of its sentences that are moved or mixed in. EDA's ``alpha`` 0.1 (Wei and Zou, EMNLP 2019) is level
0.2. A share above 0 concerns at least one token or sentence, as in EDA.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from augment.ops.table import Op, Range

__all__ = ["BY_NAME", "FITTED", "LABELLED", "ROWS", "SYNONYMS"]

_TARGETS = frozenset({"text"})


def _row(name: str, code: int, full: float, of: str, words: str) -> Op:
    span = Range(0.0, full, f"{{p:.0f}} % of the {of}", scale=100.0)
    return Op(name, code, "text", span, span, neutral=0.0, targets=_TARGETS, words=words)


ROWS: tuple[Op, ...] = (
    _row("SynonymReplacement", 500, 0.5, "words", "replace words by synonyms"),
    _row("RandomInsertion", 501, 0.5, "words", "insert synonyms of words of the text"),
    _row("RandomSwap", 502, 0.5, "words", "swap words"),
    _row("RandomDeletion", 503, 0.5, "words", "delete words"),
    _row("KeyboardNoise", 504, 0.3, "words", "hit the key beside the right one"),
    _row("OcrNoise", 505, 0.3, "words", "misread letters, as optical character recognition does"),
    _row("TfIdfInsert", 506, 0.5, "words", "insert words that say little in the corpus"),
    _row("TfIdfSubstitute", 507, 0.5, "words", "replace words that say little by others that do"),
    _row("SentenceShuffle", 508, 1.0, "sentences", "swap sentences"),
    _row("SpanCrop", 509, 0.7, "words", "cut off both ends"),
    _row("SameClassMix", 510, 0.5, "sentences", "put in sentences of a text of the same label"),
)
"""The rows; codes are never reused."""

BY_NAME: Mapping[str, Op] = MappingProxyType({op.name: op for op in ROWS})
"""The rows, by name."""

SYNONYMS = frozenset({"SynonymReplacement", "RandomInsertion"})
"""Those that need a lexicon."""

FITTED = frozenset({"TfIdfInsert", "TfIdfSubstitute", "SameClassMix"})
"""Those that must have seen the corpus."""

LABELLED = frozenset({"SameClassMix"})
"""Those that need labels."""
