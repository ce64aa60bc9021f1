"""The numbers of a run, read from its ``run.json``: the funnel, the headline, what a policy search saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Figures", "Screen", "ScreenOp", "Step", "figures", "screens"]

DUPLICATE = "duplicate"  # rules that end in this word name a kept twin


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the funnel; ``rows_in = rows_kept + sum(drops)``."""

    stage: str
    name: str
    rows_in: int
    rows_kept: int
    rows_made: int
    drops: dict[str, int]  # by rule, the largest first
    seconds: float
    first: bool  # of its stage

    @property
    def dropped(self) -> int:
        """Rows that ended here."""
        return sum(self.drops.values())

    @property
    def adds_up(self) -> bool:
        """Whether every row is accounted for."""
        return self.rows_in == self.rows_kept + self.dropped


@dataclass(frozen=True, slots=True)
class Figures:
    """A run in numbers.

    Attributes:
        steps: in the order in which rows meet them.
        read: rows read from files by this run.
        before: rows that earlier runs had left in the lake.
        kept: rows that passed all steps.
        made: training copies made of them.
        dropped: rows that a step dropped.
        repeats: those among them that repeat a kept row: nobody needs to label them.
    """

    steps: tuple[Step, ...]
    read: int
    before: int
    kept: int
    made: int
    dropped: int
    repeats: int

    @property
    def entered(self) -> int:
        """Rows that the steps saw in all."""
        return self.read + self.before

    @property
    def widest(self) -> int:
        """The scale of the funnel's bars; at least 1."""
        return max([1, self.before, *(step.rows_in for step in self.steps)])

    @property
    def adds_up(self) -> bool:
        """Whether every step accounts for every row."""
        return all(step.adds_up for step in self.steps)


def figures(run: Mapping[str, Any]) -> Figures:
    """Read the numbers of a run.

    >>> step = {"stage": "ingest", "step": "files", "rows_in": 5, "rows_kept": 3,
    ...         "drops": {"exact-duplicate": 2}}
    >>> found = figures({"steps": [step]})
    >>> found.read, found.kept, found.repeats, found.adds_up
    (5, 3, 2, True)
    """
    steps = tuple(_steps(run.get("steps") or []))
    ingest = [step for step in steps if step.stage == "ingest"]
    later = [step for step in steps if step.stage != "ingest"]
    before = int(run.get("rows_before") or 0)
    drops = [(rule, number) for step in steps for rule, number in step.drops.items()]
    return Figures(
        steps=steps,
        read=sum(step.rows_in for step in ingest),
        before=before,
        kept=later[-1].rows_kept if later else before + sum(step.rows_kept for step in ingest),
        made=sum(step.rows_made for step in steps),
        dropped=sum(number for _, number in drops),
        repeats=sum(number for rule, number in drops if rule.endswith(DUPLICATE)),
    )


def _steps(raw: list[Mapping[str, Any]]) -> Iterator[Step]:
    stage = None
    for one in raw:
        drops = {rule: int(number) for rule, number in (one.get("drops") or {}).items() if number}
        yield Step(
            stage=one["stage"],
            name=one["step"],
            rows_in=int(one["rows_in"]),
            rows_kept=int(one["rows_kept"]),
            rows_made=int(one.get("rows_made") or 0),
            drops=dict(sorted(drops.items(), key=lambda item: (-item[1], item[0]))),
            seconds=float(one.get("seconds") or 0.0),
            first=one["stage"] != stage,
        )
        stage = one["stage"]


@dataclass(frozen=True, slots=True)
class ScreenOp:
    """What the screen saw of one augmentation.

    Attributes:
        op: its name.
        losses: accuracy lost at each level, as a share; none where the level was not tried.
        errors: the standard error of each.
        ceiling: the index of the last level that is kept; none where there is no limit, or nothing is kept.
        kept: whether the policy may use it.
        magnitude: whether it has levels; without, the first loss stands for all.
        why: the verdict in words.
    """

    op: str
    losses: tuple[float | None, ...]
    errors: tuple[float | None, ...]
    ceiling: int | None
    kept: bool
    magnitude: bool
    why: str


@dataclass(frozen=True, slots=True)
class Screen:
    """What a policy search learned from the data.

    Attributes:
        step: of the pipeline.
        learned: false where the base policy was left as it is.
        why: the outcome in words.
        classes: labels that took part.
        left_out: labels with too few rows.
        rows: that took part.
        folds: models that were trained.
        tolerance: share of the accuracy that an augmentation may cost; 0 where it is not told.
        clean: accuracy on untouched rows.
        levels: that were tried.
        ops: the augmentations.
    """

    step: str
    learned: bool
    why: str
    classes: int
    left_out: int
    rows: int
    folds: int
    tolerance: float
    clean: float | None
    levels: tuple[str, ...]
    ops: tuple[ScreenOp, ...]

    @property
    def pruned(self) -> int:
        """Augmentations that the policy may not use."""
        return sum(not op.kept for op in self.ops)

    @property
    def limited(self) -> int:
        """Augmentations that are kept up to a ceiling."""
        last = len(self.levels) - 1
        return sum(op.kept and op.magnitude and op.ceiling is not None and op.ceiling < last for op in self.ops)


def screens(run: Mapping[str, Any]) -> tuple[Screen, ...]:
    """What each learned step of the run saw."""
    learned = run.get("learned") or {}
    return tuple(_screen(step, found) for step, found in learned.items() if found)


def _screen(step: str, found: Mapping[str, Any]) -> Screen:
    levels = list(found.get("levels") or [])
    ops = found.get("ops") or []
    return Screen(
        step=step,
        learned=bool(found.get("learned", True)),
        why=str(found.get("why") or ""),
        classes=_number_of(found.get("classes")),
        left_out=_number_of(found.get("left_out")),
        rows=int(found.get("rows") or 0),
        folds=int(found.get("folds") or 0),
        tolerance=float(found.get("tolerance") or 0.0),
        clean=found.get("clean_accuracy"),
        levels=tuple(_level(level) for level in levels),
        ops=tuple(_screen_op(op, levels) for op in ops),
    )


def _number_of(given: Any) -> int:
    """A number, or a list of what is counted."""
    return given if isinstance(given, int) else len(given or ())


def _screen_op(op: Mapping[str, Any], levels: list[Any]) -> ScreenOp:
    width = max(1, len(levels))
    kept = bool(op.get("kept", True))
    ceiling = op.get("ceiling")
    return ScreenOp(
        op=str(op["op"]),
        losses=_padded(op.get("loss"), width),
        errors=_padded(op.get("stderr"), width),
        ceiling=_index(levels, ceiling) if kept and ceiling is not None else None,
        kept=kept,
        magnitude=bool(op.get("magnitude", True)),
        why=str(op.get("why") or ""),
    )


def _padded(numbers: Any, width: int) -> tuple[float | None, ...]:
    given = list(numbers or [])[:width]
    return tuple(None if n is None or n != n else float(n) for n in given + [None] * (width - len(given)))  # noqa: PLR0124  (NaN is the number that differs from itself)


def _index(levels: list[Any], ceiling: Any) -> int | None:
    """The last level that is not above the ceiling; -1 where all are."""
    below = [at for at, level in enumerate(levels) if level is not None and level <= ceiling]
    return below[-1] if below else -1


def _level(level: Any) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)
