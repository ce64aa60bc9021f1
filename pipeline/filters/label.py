"""Which labels may pass."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from lake.op import Op, Outcome
from lake.schema import drops

__all__ = ["Label"]


class Label(Op):
    """Keep the rows with a label, or with one of a list.

    A label of blanks only counts as none. Drops: ``no-label``, ``unlisted-label``, ``short-label``; the label
    itself stands in the drop's own column ``label``.

    >>> import pyarrow as pa
    >>> rows = pa.table({"_id": ["a", "b", "c"], "label": ["cat", None, "dgo"]})
    >>> Label(allowed=["cat", "dog"]).apply(rows).drops.column("rule").to_pylist()
    ['no-label', 'unlisted-label']
    """

    required: bool = Field(default=True, description="Drop the rows without a label; otherwise they pass.")
    allowed: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="The labels that may pass, written exactly so; unset: any."
    )
    min_length: int = Field(
        default=1, ge=1, description="The fewest characters of a label, blanks around it aside."
    )

    @field_validator("allowed")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for place, label in enumerate(labels or ()):
            if not label.strip():
                raise ValueError(
                    f"allowed label {place + 1} is blank: use required=false to let rows without label pass"
                )
            if label in (labels or ())[:place]:
                raise ValueError(f"allowed names {label!r} twice")
        return labels

    def apply(self, table: pa.Table) -> Outcome:
        """Drop the rows whose label may not pass."""
        if "label" in table.schema.names:
            labels = table.column("label").combine_chunks().cast(pa.string())
        else:
            labels = pa.nulls(table.num_rows, pa.string())
        sizes = pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(labels)), 0)
        absent = pc.equal(sizes, 0)
        present = pc.invert(absent)
        short = pc.and_(present, pc.less(sizes, self.min_length))
        broken = []
        if self.required:
            broken.append(drops(table.filter(absent), "no-label", detail="a label is required"))
        if self.allowed is not None:
            unlisted = pc.and_(
                pc.and_not(present, short), pc.invert(pc.is_in(labels, pa.array(self.allowed, pa.string())))
            )
            broken.append(
                drops(
                    table.filter(unlisted),
                    "unlisted-label",
                    detail=f"not among the {len(self.allowed)} allowed labels",
                )
            )
        else:
            unlisted = pa.array([False] * table.num_rows, pa.bool_())
        broken.append(
            drops(
                table.filter(short),
                "short-label",
                value=sizes.filter(short).cast(pa.float64()),
                threshold=float(self.min_length),
                detail="characters of the label",
            )
        )
        fails = pc.or_(short, unlisted)
        if self.required:
            fails = pc.or_(fails, absent)
        return Outcome(table.filter(pc.invert(fails)), pa.concat_tables(broken))
