"""The step that makes training copies of texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, field_validator

from augment.policy import Policy
from augment.text import fitted as corpus
from augment.text.presets import preset
from augment.text.protect import Protect
from augment.text.table import FITTED, LABELLED
from lake import schema
from lake.errors import ConfigError
from lake.op import Barrier, Op, Outcome

__all__ = ["COPY_FIELDS", "ApplyText", "CopyTexts"]

COPY_FIELDS = (pa.field("_copy", pa.int32()), pa.field("_augmented", pa.string()))
"""The columns that the step adds: 0 and null for an original; n and what was done, for its n-th copy."""


class ApplyText(Barrier):
    """Give on every row, each one with a text followed by augmented copies of it.

    The originals pass untouched, with ``_copy`` = 0. Copy n is the policy's epoch n: the same row, id, label
    and metadata, with an augmented text and ``_augmented``, what was done, in words. What a copy looks like
    depends on the row's ``_id``, ``seed`` and n, and, for the ops that have seen the corpus, on all its rows
    together; on nothing else. A row without a text passes alone.

    Attributes:
        policy: ``eda``, ``uda``, or a policy of text ops (in a configuration, its fields).
        copies: how many per text.
        seed: of the draws.
        protect: what is never deleted, replaced, swapped or split.
        lexicon: for ops with synonyms: ``wordnet``, ``cilin``, a path, or several of these.
        max_words: how many words the fitted vocabulary holds.
        min_documents: in how many texts a word of it occurs at least.
        partners: how many texts of each label are kept to be mixed in.

    >>> ApplyText(copies=2).resolved.name
    'eda-0.1'
    """

    augments: ClassVar[bool] = True

    policy: str | Policy = "eda"
    copies: Annotated[int, Field(ge=0, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0
    protect: Protect = Protect()
    lexicon: str | tuple[str, ...] = "wordnet"
    max_words: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    min_documents: Annotated[int, Field(ge=1)] = 2
    partners: Annotated[int, Field(ge=1, le=100_000)] = 1000

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str | Policy) -> str | Policy:
        from augment.text.execute import check

        try:
            check(preset(value) if isinstance(value, str) else value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def resolved(self) -> Policy:
        """The policy itself."""
        return preset(self.policy) if isinstance(self.policy, str) else self.policy

    def preflight(self) -> None:
        """Look for the lexicon.

        Raises:
            lake.errors.ConfigError: an op needs it, and it is not installed or cannot be read.
        """
        _ = self._lexicon

    def sketch(self, table: pa.Table) -> pa.Table:
        """How often words occur, and texts to mix in; nothing where no op asks for it.

        Returns:
            Rows of :data:`augment.text.fitted.SCHEMA`.
        """
        ops = set(self.resolved.ops)
        if not ops & FITTED or "text" not in table.column_names:
            return corpus.SCHEMA.empty_table()
        labelled = ops & LABELLED and "label" in table.column_names
        return corpus.count(
            table.column("text"),
            table.column("_id").combine_chunks() if labelled else None,
            corpus.label_names(table.column("label")) if labelled else None,
            protect=self.protect,
            lexicon=self._lexicon,
            partners=self.partners,
        )

    def resolve(self, sketches: Sequence[pa.Table]) -> pa.Table:
        """The vocabulary and the texts to mix in, whatever the order and cutting of the sketches."""
        return corpus.merge(
            sketches, max_words=self.max_words, min_documents=self.min_documents, partners=self.partners
        )

    def bind(self, state: pa.Table) -> Op:
        """The step that makes the copies."""
        return CopyTexts(step=self, state=state)

    @property
    def _lexicon(self) -> Any:
        from augment.text.execute import lexicon_of

        # A default that no op needs is not looked for; one that was named is: it also says what a Chinese word
        # is.
        return lexicon_of(self.resolved, None if self.lexicon == "wordnet" else self.lexicon)


class CopyTexts(Op):
    """Make the copies with what was fitted."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    augments: ClassVar[bool] = True

    step: ApplyText
    state: pa.Table
    """Of schema :data:`augment.text.fitted.SCHEMA`."""

    def apply(self, table: pa.Table) -> Outcome:
        """Keep, and multiply, the rows.

        Raises:
            lake.errors.ConfigError: the rows are copies of an earlier step already, or have no labels to mix
            by.
        """
        if "_copy" in table.column_names:
            raise ConfigError(
                "augment.ApplyText after a step that has made copies already",
                hint="make the copies in one step: a policy can draw several ops (`draws`) for one text",
            )
        n, copies = table.num_rows, self.step.copies
        if "text" not in table.column_names or copies == 0 or n == 0:
            return Outcome(
                _with_copies(table, np.zeros(n, np.int32), pa.nulls(n, pa.string())), schema.no_drops()
            )
        column = table.column("text")
        made = [self._copy(table, epoch) for epoch in range(1, copies + 1)]
        has = column.is_valid().to_numpy()
        # Row i of each copy stands at i + n epoch in all texts, one behind the other.
        order = np.arange(n)[:, None] + n * np.arange(copies + 1)
        keep = np.ones((n, copies + 1), np.bool_)
        keep[:, 1:] = has[:, None]
        order, number = order[keep], np.broadcast_to(np.arange(copies + 1, dtype=np.int32), keep.shape)[keep]
        texts = pa.chunked_array([*column.chunks, *(text.cast(column.type) for text, _ in made)]).take(
            pa.array(order)
        )
        words = pa.chunked_array([pa.nulls(n, pa.string()), *(said for _, said in made)]).take(pa.array(order))
        place = table.column_names.index("text")
        rest = table.drop_columns(["text"]).take(pa.array(order % n))
        rows = rest.add_column(place, table.schema.field("text"), texts)
        return Outcome(_with_copies(rows, number, words), schema.no_drops())

    @cached_property
    def fitted(self) -> corpus.Fitted:
        """What the ops have seen."""
        return corpus.Fitted(self.state)

    def _copy(self, table: pa.Table, epoch: int) -> tuple[pa.Array, pa.Array]:
        """One copy of each row, and what was done."""
        from augment import rng
        from augment.text.execute import execute

        step, policy = self.step, self.step.resolved
        ids = rng.halves(table.column("_id").combine_chunks())
        labels = table.column("label") if "label" in table.column_names else None
        if labels is None and LABELLED & set(policy.ops):
            raise ConfigError("SameClassMix needs labels", hint="name the label under columns: of the source")
        programs = policy.draw(ids, step.seed, epoch)
        texts = execute(
            table.column("text"), programs, fitted=self.fitted if FITTED & set(policy.ops) else None,
            labels=labels, ids=ids, protect=step.protect, lexicon=step._lexicon,  # noqa: SLF001  (the same file)
        )  # fmt: skip
        words = _said(policy, programs)
        same = pc.equal(texts.cast(pa.large_string()), table.column("text").cast(pa.large_string()))
        return texts, pc.if_else(same.combine_chunks(), "unchanged", words)


def _said(policy: Policy, programs: Any) -> pa.Array:
    """What is done to each row, in words; equal programs are described once."""
    from augment.ops import Applied, by_code

    n = len(programs.codes)
    both = np.concatenate([programs.codes.astype(np.float64), programs.parameters], axis=1)
    found, which = np.unique(both, axis=0, return_inverse=True)
    slots = programs.codes.shape[1]
    words = [
        policy.describe(
            [
                Applied(by_code(int(code)).name, float(p))
                for code, p in zip(row[:slots], row[slots:], strict=True)
                if code >= 0
            ]
        )
        for row in found
    ]
    return pa.array(words, pa.string()).take(pa.array(which.reshape(n)))


def _with_copies(rows: pa.Table, numbers: npt.NDArray[np.int32], words: Any) -> pa.Table:
    copy, augmented = COPY_FIELDS
    return rows.append_column(copy, pa.array(numbers, pa.int32())).append_column(augmented, words)
