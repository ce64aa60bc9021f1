"""Text augmentation: keyed ops on words and sentences, protected spans, lexicons, and fitted vocabularies."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from augment.text.execute import apply_texts as apply_texts
    from augment.text.fitted import Fitted as Fitted
    from augment.text.fitted import fit as fit
    from augment.text.lexicon import Lexicon as Lexicon
    from augment.text.lexicon import load as load
    from augment.text.presets import eda as eda
    from augment.text.presets import uda as uda
    from augment.text.protect import Protect as Protect
    from augment.text.step import ApplyText as ApplyText
    from augment.text.tokens import split as split

# Name -> module. Imported on first use: `gristmill --help` must not load Arrow.
_HOME = {
    "ApplyText": "step", "Fitted": "fitted", "Lexicon": "lexicon", "Protect": "protect",
    "apply_texts": "execute", "eda": "presets", "fit": "fitted", "load": "lexicon",
    "split": "tokens", "uda": "presets",
}  # fmt: skip

__all__ = [
    "ApplyText", "Fitted", "Lexicon", "Protect", "apply_texts", "eda", "fit", "load", "split", "uda",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"augment.text.{_HOME[name]}"), name)
    msg = f"module 'augment.text' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
