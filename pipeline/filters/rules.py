"""The table of text rules: what is measured, on which side of the threshold a row is kept, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["MEASURES", "PRESETS", "RULES", "SCRIPTS", "Preset", "Rule", "markdown"]

Preset = Literal["fineweb", "gopher", "c4", "plain", "none"]
PRESETS: tuple[Preset, ...] = ("fineweb", "gopher", "c4", "plain", "none")

SCRIPTS = ("latin", "hangul", "cjk", "southeast", "other")
"""A text's script, as the kernel numbers it. `cjk` is Chinese and Japanese, `southeast` is Thai, Lao, Khmer
and Burmese: in both, every character is a word."""

MEASURES = (
    "words",
    "mean_word_length",
    "hash_signs",
    "ellipses",
    "bullet_lines",
    "ellipsis_lines",
    "alphabetic_words",
    "stop_words",
    "letters",
    "duplicate_lines",
    "duplicate_line_characters",
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    "top_2_gram",
    "top_3_gram",
    "top_4_gram",
    "duplicate_5_grams",
    "duplicate_6_grams",
    "duplicate_7_grams",
    "duplicate_8_grams",
    "duplicate_9_grams",
    "duplicate_10_grams",
    "lorem_ipsum",
    "curly_braces",
    "sentences",
    "prose_sentences",
    "punctuated_lines",
    "short_lines",
)
"""The columns that the kernel fills, in its order."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; it keeps the rows whose measure is at least (`min`) or at most (`max`) the threshold.

    Args:
        name: the drop reason.
        side: `min` or `max`.
        measure: one of ``MEASURES``.
        words: the measure in words.
        thresholds: by preset; a preset that is not named does not have the rule.
        source: where the published thresholds stand.
        not_for: the scripts that the rule does not apply to.
        share: whether the measure lies between 0 and 1.
    """

    name: str
    side: Literal["min", "max"]
    measure: str
    words: str
    thresholds: Mapping[Preset, float]
    source: str
    not_for: frozenset[str] = frozenset()
    share: bool = True

    @property
    def option(self) -> str:
        """The field of ``Quality`` that overrides the threshold."""
        return f"{self.side}_{self.measure}"

    @property
    def sentence(self) -> str:
        """What a row must satisfy, without the number."""
        return f"{self.words}, at {'least' if self.side == 'min' else 'most'}"


_GOPHER = "Rae et al. 2021, A1.1"
_C4 = "Raffel et al. 2020, 2.2"
_FINEWEB = "Penedo et al. 2024"
_OURS = "Gristmill"
_UNSPACED = frozenset({"cjk", "southeast"})


def _gopher(limit: float) -> dict[Preset, float]:
    return {"fineweb": limit, "gopher": limit}


RULES: tuple[Rule, ...] = (
    Rule("too-few-words", "min", "words", "words", {**_gopher(50), "plain": 2}, _GOPHER, share=False),
    Rule("too-many-words", "max", "words", "words", _gopher(100_000), _GOPHER, share=False),
    Rule(
        "short-words",
        "min",
        "mean_word_length",
        "mean characters of a word",
        _gopher(3),
        _GOPHER,
        _UNSPACED | {"hangul"},
        share=False,
    ),
    Rule(
        "long-words",
        "max",
        "mean_word_length",
        "mean characters of a word",
        _gopher(10),
        _GOPHER,
        _UNSPACED,
        share=False,
    ),
    Rule("hash-signs", "max", "hash_signs", "hash signs per word", _gopher(0.1), _GOPHER, share=False),
    Rule("ellipses", "max", "ellipses", "ellipses per word", _gopher(0.1), _GOPHER, share=False),
    Rule(
        "bullet-lines", "max", "bullet_lines", "share of lines that begin with a bullet", _gopher(0.9), _GOPHER
    ),
    Rule(
        "ellipsis-lines",
        "max",
        "ellipsis_lines",
        "share of lines that end in an ellipsis",
        _gopher(0.3),
        _GOPHER,
    ),
    Rule(
        "non-alphabetic-words",
        "min",
        "alphabetic_words",
        "share of words with a letter in them",
        _gopher(0.8),
        _GOPHER,
    ),
    Rule(
        "few-stop-words",
        "min",
        "stop_words",
        "different stop words of the language that has most of them",
        _gopher(2),
        _GOPHER,
        frozenset(SCRIPTS) - {"latin"},
        share=False,
    ),
    Rule(
        "symbols",
        "min",
        "letters",
        "share of letters, digits and their marks among the characters that are not blank",
        {"plain": 0.5},
        _OURS,
    ),
    Rule(
        "duplicate-lines",
        "max",
        "duplicate_lines",
        "share of lines that repeat an earlier one",
        {**_gopher(0.3), "plain": 0.5},
        _GOPHER,
    ),
    Rule(
        "duplicate-line-characters",
        "max",
        "duplicate_line_characters",
        "share of characters in lines that repeat an earlier one",
        {"fineweb": 0.1, "gopher": 0.2, "plain": 0.5},
        f"{_GOPHER}; fineweb: {_FINEWEB}",
    ),
    Rule(
        "duplicate-paragraphs",
        "max",
        "duplicate_paragraphs",
        "share of paragraphs that repeat an earlier one",
        _gopher(0.3),
        _GOPHER,
    ),
    Rule(
        "duplicate-paragraph-characters",
        "max",
        "duplicate_paragraph_characters",
        "share of characters in paragraphs that repeat an earlier one",
        _gopher(0.2),
        _GOPHER,
    ),
    *(
        Rule(
            f"top-{n}-gram",
            "max",
            f"top_{n}_gram",
            f"share of characters in the most frequent {n}-gram of words",
            _gopher(limit),
            f"{_GOPHER}, Table A1",
        )
        for n, limit in ((2, 0.20), (3, 0.18), (4, 0.16))
    ),
    *(
        Rule(
            f"duplicate-{n}-grams",
            "max",
            f"duplicate_{n}_grams",
            f"share of characters in {n}-grams of words that repeat an earlier one",
            _gopher(limit),
            f"{_GOPHER}, Table A1",
        )
        for n, limit in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    ),
    Rule("lorem-ipsum", "max", "lorem_ipsum", "times `lorem ipsum`", {"fineweb": 0, "c4": 0}, _C4, share=False),
    Rule(
        "curly-braces", "max", "curly_braces", "opening curly braces", {"fineweb": 0, "c4": 0}, _C4, share=False
    ),
    Rule(
        "few-sentences",
        "min",
        "sentences",
        "sentences in lines of 3 words or more without `javascript` or a cookie or policy notice",
        {"fineweb": 5},
        f"{_C4}, as {_FINEWEB} apply it",
        frozenset({"southeast"}),
        share=False,
    ),
    Rule(
        "few-prose-sentences",
        "min",
        "prose_sentences",
        "sentences as above, in lines of 5 words or more that end in a terminal mark",
        {"c4": 3},
        _C4,
        frozenset({"southeast"}),
        share=False,
    ),
    Rule(
        "unpunctuated-lines",
        "min",
        "punctuated_lines",
        "share of lines that end in a terminal mark",
        {"fineweb": 0.12},
        _FINEWEB,
        frozenset({"southeast"}),
    ),
    Rule(
        "short-lines",
        "max",
        "short_lines",
        "share of lines of at most 30 columns",
        {"fineweb": 0.67},
        _FINEWEB,
    ),
)
"""In this order: the first rule that a row breaks is its drop reason."""


def markdown() -> str:
    """The table of rules as Markdown, as `docs/filters.md` prints it.

    >>> print(markdown().splitlines()[2])
    | `too-few-words` | words, at least | 50 | 50 | | 2 | `min_words` | Rae et al. 2021, A1.1 |
    """
    columns = [preset for preset in PRESETS if preset != "none"]
    head = ["Rule", "Keeps rows with", *(f"`{preset}`" for preset in columns), "Option", "Source"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for rule in RULES:
        limits = [f"{rule.thresholds[preset]:,g}" if preset in rule.thresholds else "" for preset in columns]
        cells = [f"`{rule.name}`", rule.sentence, *limits, f"`{rule.option}`", rule.source]
        lines.append("|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|")
    return "\n".join(lines)
