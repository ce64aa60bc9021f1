"""Bounds on a text's length."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from lake.op import Op, Outcome
from lake.schema import drops, no_drops

__all__ = ["Length"]


class Length(Op):
    """Keep the texts of a certain length; rows without text pass.

    Drops: ``too-short``, ``too-long``, with the length and the bound.

    >>> import pyarrow as pa
    >>> rows = pa.table({"_id": ["a", "b"], "text": ["猫猫猫", "a cat"]})
    >>> Length(min=3, unit="words")(rows).column("_id").to_pylist()
    ['a']
    """

    min: int | None = Field(default=None, ge=0, description="The shortest length that is kept.")
    max: int | None = Field(default=None, ge=0, description="The greatest length that is kept.")
    unit: Literal["chars", "words", "bytes"] = Field(
        default="chars",
        description="Count Unicode code points, words (a character of a script without blanks is a word), "
        "or bytes of UTF-8.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Length:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both: without a bound nothing is filtered")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"no text can pass: min {self.min} is above max {self.max}")
        return self

    def apply(self, table: pa.Table) -> Outcome:
        """Drop what is too short or too long."""
        if "text" not in table.schema.names:
            return Outcome(table, no_drops())
        texts = table.column("text")
        lengths = self._lengths(texts)
        present = texts.is_valid()
        dropped = []
        keep = pa.chunked_array([pa.repeat(pa.scalar(value=True), table.num_rows)])
        for rule, limit, outside in (
            ("too-short", self.min, pc.less),
            ("too-long", self.max, pc.greater),
        ):
            if limit is not None:
                fails = pc.and_(present, pc.fill_null(outside(lengths, limit), fill_value=False))
                dropped.append(
                    drops(
                        table.filter(fails),
                        rule,
                        value=lengths.filter(fails).cast(pa.float64()),
                        threshold=float(limit),
                        detail=f"length in {self.unit}",
                    )
                )
                keep = pc.and_(keep, pc.invert(fails))
        return Outcome(table.filter(keep), pa.concat_tables(dropped))

    def _lengths(self, texts: pa.ChunkedArray) -> pa.ChunkedArray:
        if self.unit == "words":
            from pipeline.filters.measures import word_counts

            return pa.chunked_array([pa.array(word_counts(texts))])
        return pc.utf8_length(texts) if self.unit == "chars" else pc.binary_length(texts)
