"""What the screen found and decided, as a value that goes to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["Evidence", "OpEvidence"]


@dataclass(frozen=True, slots=True)
class OpEvidence:
    """One row of the heat map.

    Attributes:
        op: its name.
        accuracy: held-out accuracy per level, mean over the classes, 0 .. 1.
        loss: clean accuracy less that.
        stderr: standard error of the loss.
        magnitude: whether the op has one; without, all levels show the same measurement.
        ceiling: the highest level allowed; 0 where the op is dropped.
        kept: False where the op is dropped.
        why: the decision, in words.
    """

    op: str
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    stderr: tuple[float, ...]
    magnitude: bool
    ceiling: float
    kept: bool
    why: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The screen's account of itself; it holds no record contents but the names of the classes.

    Attributes:
        learned: False where the base policy was left as it is.
        why: the outcome, in words.
        base: the name of the policy that was screened.
        classes: labels, ascending, that took part.
        left_out: labels with too few rows.
        rows: images that took part.
        folds: models trained.
        tolerance: share of the accuracy that an op may cost.
        space: what the levels refer to, see :mod:`augment.ops`.
        clean_accuracy: of the models on held-out images, mean over the classes; None if none was trained.
        levels: the levels that were tried.
        ops: one entry per op of the base policy.
        policy: the policy that came out, as JSON data.

    >>> empty = Evidence(learned=False, why="no labels", base="trivial-augment-wide", policy={})
    >>> Evidence.from_json(empty.to_json()) == empty
    True
    """

    learned: bool
    why: str
    base: str
    policy: dict[str, Any]
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    rows: int = 0
    folds: int = 0
    tolerance: float = 0.0
    space: str = "wide"
    clean_accuracy: float | None = None
    levels: tuple[float, ...] = ()
    ops: tuple[OpEvidence, ...] = field(default=())

    def to_json(self) -> str:
        """The same value, the same bytes."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Evidence:
        """Read back what :meth:`to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            data = json.loads(text)
            data["ops"] = tuple(OpEvidence(**_tuples(row)) for row in data["ops"])
            return cls(**_tuples(data))
        except (TypeError, KeyError) as cause:
            names = ", ".join(part.name for part in fields(cls))
            raise ValueError(f"this is no evidence of the screen ({cause}); its fields are {names}") from cause


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
