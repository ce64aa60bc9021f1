"""Any offline augmenter of nlpaug as an op: ``nlpaug.KeyboardAug``, with its arguments as options.

nlpaug (MIT) draws from the global ``random`` and ``numpy.random``. Here both are seeded for every row from its
key and put back behind it, under a lock: what happens to a text depends on its id, seed, epoch and place in the
program. The magnitude is the share of words (``aug_p``, of the ops on characters ``aug_word_p``) from 0 to 0.5.
What :class:`augment.text.Protect` names is kept from it by :mod:`augment.text.called`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.custom import CustomOp
from augment.ops.table import Range

__all__ = ["AUGMENTERS", "TextOp", "find"]

AUGMENTERS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("KeyboardAug", "OcrAug", "RandomCharAug"), "char")
    | dict.fromkeys(
        ("AntonymAug", "RandomWordAug", "ReservedAug", "SpellingAug", "SplitAug", "SynonymAug", "TfIdfAug"),
        "word",
    )
)
"""Those that work offline, and their module. Synonyms and antonyms need NLTK with data, TfIdfAug a folder."""

_SHARE = Range(0.0, 0.5, "{p:.0f} % of the words", scale=100.0)
_LEVEL = {"char": "aug_word_p", "word": "aug_p"}
_NO_LIMIT = {"char": "aug_word_max", "word": "aug_max"}
_lock = threading.RLock()


@dataclass(frozen=True, slots=True, eq=False)
class TextOp(CustomOp):
    """An augmenter as an op of kind ``text``."""

    def text(self, text: str, share: float, key: npt.ArrayLike) -> str:
        """Carry it out on one text; what comes out empty stays as it was."""
        path = self.name.partition("{")[0].rpartition(".")[2]
        kind = AUGMENTERS[path]
        if share <= 0:
            return text
        seed = int(rng.generator(key).integers(1 << 32))
        with _lock:
            augmenter = _made(path, _frozen(self.options))
            setattr(augmenter, _LEVEL[kind], share)
            before, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002  (nlpaug draws from these)
            try:
                random.seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                found = augmenter.augment(text)
            except Exception as error:
                error.add_note(f"in {self.name} at {share:g}")
                raise
            finally:
                random.setstate(before)
                np.random.set_state(numbers)  # noqa: NPY002
        made = found[0] if isinstance(found, list) and found else found
        return made if isinstance(made, str) and made else text


def find(name: str, augmenter: str, options: Mapping[str, Any]) -> TextOp:
    """The op that carries out an augmenter.

    Raises:
        ValueError: nlpaug is missing, has no such offline augmenter, or it does not take such options.
    """
    if augmenter not in AUGMENTERS:
        close = get_close_matches(augmenter, AUGMENTERS, n=1)
        hint = f"did you mean nlpaug.{close[0]}?" if close else f"there are {', '.join(AUGMENTERS)}"
        raise ValueError(f"nlpaug has no offline augmenter {augmenter!r}: {hint}")
    _made(augmenter, _frozen(options))  # complains about the options here and not in the middle of a run
    words = f"nlpaug's {augmenter}"
    return TextOp(
        name, 0, "text", _SHARE, _SHARE, neutral=0.0, targets=frozenset({"text"}), words=words,
        options=MappingProxyType(dict(options)),
    )  # fmt: skip


def _frozen(options: Mapping[str, Any]) -> str:
    import json

    return json.dumps(dict(options), sort_keys=True)


@cache
def _made(path: str, options: str) -> Any:
    import json

    kind = AUGMENTERS[path]
    try:
        from nlpaug.augmenter import char, word
    except ImportError as error:
        raise ValueError(
            f"ops of nlpaug need the package ({error}): pip install 'gristmill[text]', or pip install nlpaug"
        ) from error
    given = {_NO_LIMIT[kind]: None} | json.loads(options)
    if {_LEVEL[kind], "name", "verbose"} & set(given):
        raise ValueError(
            f"nlpaug.{path}: {_LEVEL[kind]} is what the magnitude says; name and verbose mean nothing here"
        )
    try:
        made = getattr(char if kind == "char" else word, path)(**given)
    except Exception as error:
        # It raises whatever comes: TypeError for arguments, LookupError and OSError for missing data.
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"nlpaug.{path} does not work with {given}: {said}") from error
    if path == "SpellingAug":
        # Its lists come out of sets: in another order in every process.
        made.model.dict = {word: sorted(others) for word, others in made.model.dict.items()}
    return made
