"""Text quality: published heuristics as one table of rules, measured in compiled loops."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from lake.op import Op, Outcome
from lake.schema import drops, no_drops
from pipeline.filters.characters import STOP_WORDS
from pipeline.filters.measures import Measures, measure
from pipeline.filters.rules import RULES, SCRIPTS, Preset, Rule

__all__ = ["Quality"]


def _limit(option: str) -> Any:
    """The field that overrides a rule's threshold."""
    rule = next(rule for rule in RULES if rule.option == option)
    presets = ", ".join(f"{name} {limit:g}" for name, limit in rule.thresholds.items())
    return Field(
        default=None,
        ge=0,
        le=1 if rule.share else None,
        description=f"{rule.sentence} this ({presets}). Unset: as the preset has it. Rule: {rule.name}.",
    )


class Quality(Op):
    """Keep the texts that pass a set of heuristic rules, and score them in the column ``quality``.

    The rules, their order and their thresholds stand in ``pipeline.filters.rules.RULES``. A row is dropped by
    the first rule that it breaks, with the measured value and the threshold. A field set here overrides the
    preset's threshold, or adds a rule that the preset lacks.

    ``quality`` (float64, 0 to 1, three decimals) is the mean margin by which a row passes the rules that apply
    to it: 0 at a threshold, 1 at the best possible value. For `at most t` the margin is 1 - v/t; for
    `at least t` it is 1 - t/v, or (v - t)/(1 - t) where v is a share. Without any rule it is 1. Rows without
    text pass untouched, with a null ``quality``.

    Sources: Rae et al. 2021 (Gopher), appendix A1.1; Raffel et al. 2020 (C4), section 2.2; Penedo et al. 2024
    (FineWeb).

    >>> import pyarrow as pa
    >>> rows = pa.table({"_id": ["a", "b"], "text": ["A fine film, and well played.", "!!! *** !!! *** !!!"]})
    >>> out = Quality(preset="plain").apply(rows)
    >>> out.table.column("_id").to_pylist(), out.drops.column("rule").to_pylist()
    (['a'], ['symbols'])
    """

    preset: Preset = Field(
        default="fineweb",
        description="The thresholds to begin with: fineweb and gopher for long web prose, c4 its page rules, "
        "plain a mild set for short texts such as reviews, none no rule at all.",
    )
    skip: tuple[str, ...] = Field(default=(), description="Rules of the preset to leave out, by name.")
    languages: tuple[str, ...] = Field(
        default=tuple(STOP_WORDS), min_length=1, description="Languages whose stop words count (ISO 639-1)."
    )
    min_words: int | None = _limit("min_words")
    max_words: int | None = _limit("max_words")
    min_mean_word_length: float | None = _limit("min_mean_word_length")
    max_mean_word_length: float | None = _limit("max_mean_word_length")
    max_hash_signs: float | None = _limit("max_hash_signs")
    max_ellipses: float | None = _limit("max_ellipses")
    max_bullet_lines: float | None = _limit("max_bullet_lines")
    max_ellipsis_lines: float | None = _limit("max_ellipsis_lines")
    min_alphabetic_words: float | None = _limit("min_alphabetic_words")
    min_stop_words: int | None = _limit("min_stop_words")
    min_letters: float | None = _limit("min_letters")
    max_duplicate_lines: float | None = _limit("max_duplicate_lines")
    max_duplicate_line_characters: float | None = _limit("max_duplicate_line_characters")
    max_duplicate_paragraphs: float | None = _limit("max_duplicate_paragraphs")
    max_duplicate_paragraph_characters: float | None = _limit("max_duplicate_paragraph_characters")
    max_top_2_gram: float | None = _limit("max_top_2_gram")
    max_top_3_gram: float | None = _limit("max_top_3_gram")
    max_top_4_gram: float | None = _limit("max_top_4_gram")
    max_duplicate_5_grams: float | None = _limit("max_duplicate_5_grams")
    max_duplicate_6_grams: float | None = _limit("max_duplicate_6_grams")
    max_duplicate_7_grams: float | None = _limit("max_duplicate_7_grams")
    max_duplicate_8_grams: float | None = _limit("max_duplicate_8_grams")
    max_duplicate_9_grams: float | None = _limit("max_duplicate_9_grams")
    max_duplicate_10_grams: float | None = _limit("max_duplicate_10_grams")
    max_lorem_ipsum: int | None = _limit("max_lorem_ipsum")
    max_curly_braces: int | None = _limit("max_curly_braces")
    min_sentences: int | None = _limit("min_sentences")
    min_prose_sentences: int | None = _limit("min_prose_sentences")
    min_punctuated_lines: float | None = _limit("min_punctuated_lines")
    max_short_lines: float | None = _limit("max_short_lines")

    @field_validator("skip")
    @classmethod
    def _known_rules(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known(names, [rule.name for rule in RULES], "rule")

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known(names, list(STOP_WORDS), "language")

    @model_validator(mode="after")
    def _possible(self) -> Quality:
        limits = {rule.option: limit for rule, limit in self.rules()}
        for measured in ("words", "mean_word_length"):
            least, most = limits.get(f"min_{measured}"), limits.get(f"max_{measured}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"no text can pass: min_{measured} {least:g} is above max_{measured} {most:g}")
        return self

    def rules(self) -> list[tuple[Rule, float]]:
        """The rules in force with their thresholds, in the order in which they are tried.

        >>> [(rule.name, limit) for rule, limit in Quality(preset="none", min_words=5).rules()]
        [('too-few-words', 5.0)]
        """
        found = []
        for rule in RULES:
            limit = getattr(self, rule.option)
            if limit is None:
                limit = rule.thresholds.get(self.preset)
            if limit is not None and rule.name not in self.skip:
                found.append((rule, float(limit)))
        return found

    def apply(self, table: pa.Table) -> Outcome:
        """Drop the texts that break a rule; the others get their ``quality``."""
        if "text" not in table.schema.names:
            return Outcome(_with_quality(table, pa.nulls(table.num_rows, pa.float64())), no_drops())
        texts = table.column("text")
        rules = self.rules()
        measures = measure(texts, self.languages, grams=any("_gram" in rule.measure for rule, _ in rules))
        broken = np.full(table.num_rows, -1, np.int16)
        margins = np.zeros(table.num_rows)
        applied = np.zeros(table.num_rows, np.int32)
        for place, (rule, limit) in enumerate(rules):
            values = _applicable(measures, rule)
            fails = values < limit if rule.side == "min" else values > limit
            broken[fails & (broken < 0)] = place
            present = ~np.isnan(values)
            margins[present] += _margins(values[present], rule, limit)
            applied += present
        quality = np.round(np.where(applied > 0, margins / np.maximum(applied, 1), 1.0), 3)
        column = pa.array(quality, mask=texts.is_null().to_numpy())
        kept = _with_quality(table, column).filter(pa.array(broken < 0))
        return Outcome(kept, self._drops(table, broken, measures, rules))

    def _drops(
        self,
        table: pa.Table,
        broken: npt.NDArray[np.int16],
        measures: Measures,
        rules: list[tuple[Rule, float]],
    ) -> pa.Table:
        places = np.flatnonzero(broken >= 0)
        if not places.size:
            return no_drops()
        why = [rules[broken[place]] for place in places]
        return drops(
            table.take(pa.array(places)),
            pa.array([rule.name for rule, _ in why]),
            value=pa.array(
                [float(measures.column(rule.measure)[row]) for row, (rule, _) in zip(places, why, strict=True)]
            ),
            threshold=pa.array([limit for _, limit in why]),
            detail=pa.array([rule.sentence for rule, _ in why]),
        )


def _known(names: tuple[str, ...], choices: list[str], what: str) -> tuple[str, ...]:
    for name in names:
        if name not in choices:
            close = difflib.get_close_matches(name, choices, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(choices)}"
            raise ValueError(f"no {what} {name!r}: {hint}")
    return names


def _applicable(measures: Measures, rule: Rule) -> npt.NDArray[np.float64]:
    """The rule's measure, NaN on the rows whose script it is not for."""
    values = measures.column(rule.measure)
    if rule.not_for:
        others = [place for place, script in enumerate(SCRIPTS) if script in rule.not_for]
        values = np.where(np.isin(measures.scripts, others), np.nan, values)
    return values


def _margins(values: npt.NDArray[np.float64], rule: Rule, limit: float) -> npt.NDArray[np.float64]:
    """How far inside the rule each value is, 0 at the threshold and 1 at the best; 0 outside."""
    if rule.side == "max":
        margin = 1 - values / limit if limit else np.where(values > 0, 0.0, 1.0)
    elif rule.share:
        margin = (values - limit) / (1 - limit) if limit < 1 else np.where(values < 1, 0.0, 1.0)
    else:
        margin = 1 - limit / np.maximum(values, limit) if limit else np.ones(values.shape)
    return np.clip(margin, 0.0, 1.0)


def _with_quality(table: pa.Table, column: pa.Array) -> pa.Table:
    if "quality" in table.schema.names:
        return table.set_column(table.schema.get_field_index("quality"), "quality", column)
    return table.append_column("quality", column)
