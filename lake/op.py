"""What a step is: a frozen value that maps Arrow tables to Arrow tables.

Two kinds, and no third:

- an :class:`Op` is row-local. What it does to a row depends on that row alone, so that any
  partitioning, order, batch size and number of workers gives the same rows.
- a :class:`Barrier` must see all rows before it can act on one (duplicates, a policy learned
  from the data). It summarises each batch (``sketch``, row-local), decides once (``resolve``,
  global), and from then on is a plain op (``bind``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

__all__ = ["Barrier", "Op", "Outcome", "Step"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows that an op gives on, and those it dropped with their reasons (``schema.DROPS``)."""

    table: pa.Table
    drops: pa.Table


class Step(BaseModel):
    """A frozen, validated value; its fields are what stands under its name in the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    augments: ClassVar[bool] = False
    """True for steps that make training copies: everything before the first one is ``clean``."""

    def preflight(self) -> None:
        """Look for what the step needs beside the rows: a plan asks each step that has work.

        Raises:
            lake.errors.ConfigError: this machine lacks it; the run would end with that.
        """


class Op(Step, ABC):
    """A row-local step."""

    @abstractmethod
    def apply(self, table: pa.Table) -> Outcome:
        """Keep, change, drop or multiply rows.

        ``rows in = distinct (_id) rows kept + rows dropped``: a row that is not given on
        must appear among the drops.
        """

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows that :meth:`apply` keeps."""
        return self.apply(table).table


class Barrier(Step, ABC):
    """A step that decides about a row only after it has seen all of them."""

    @abstractmethod
    def sketch(self, table: pa.Table) -> pa.Table:
        """What the decision needs to know of these rows: row-local, small, with their ``_id``."""

    @abstractmethod
    def resolve(self, sketches: Sequence[pa.Table]) -> pa.Table:
        """The decision, from all sketches. Must not depend on their order or their cutting."""

    @abstractmethod
    def bind(self, state: pa.Table) -> Op:
        """The row-local op that carries the decision out."""
