"""Spans that no op may touch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["NEGATIONS", "Protect"]

_NEGATIONS = """
    no not none nobody nothing nowhere never neither nor non without cannot cant dont doesnt didnt isnt
    arent wasnt werent wont wouldnt shouldnt couldnt hasnt havent hadnt aint hardly scarcely barely lack
    lacks lacking fails fail failed 无 無 未 非 别 別 莫 勿 毋 没 沒 不 弗 否 甭 休 并非 並非 从未 從未
    毫无 毫無 尚未 并未 未必 未曾 无法 無法 绝非 絕非 决非 否则 缺乏 切勿 请勿
"""

NEGATIONS: frozenset[str] = frozenset(_NEGATIONS.split())
"""Whole words. Beside them: English words that end in n't, and Chinese words with 不 or 没 (沒) in them."""


class Protect(BaseModel):
    """What is never deleted, replaced, swapped or split, whatever the policy says.

    Whole sentences may still move with all that is in them, and whole sentences without anything protected may
    give way to others.

    Attributes:
        negations: words that turn a sentence round (:data:`NEGATIONS`).
        numbers: tokens with a digit, and Chinese numerals.
        entities: capitalised words that do not begin a sentence, with their neighbours of the same kind ("New
            York"), web and mail addresses, @mentions and #tags.
        words: more words and phrases, in whatever case (of ASCII).

    >>> Protect(words=("acid reflux",)).numbers
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    negations: bool = True
    numbers: bool = True
    entities: bool = True
    words: tuple[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], ...] = Field(
        default=()
    )
