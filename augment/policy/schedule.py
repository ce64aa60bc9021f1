"""Numbers that depend on the epoch: warm-ups, ramps, steps.

A schedule is a value like the number in whose place it stands: :meth:`augment.policy.Policy.at` replaces it by
the number of one epoch. Epochs count from 0; in :class:`augment.apply.Apply` the originals are epoch 0 and
copy n is epoch n.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Schedule"]

Number = Annotated[float, Field(allow_inf_nan=False)]
Epoch = Annotated[int, Field(ge=0, lt=1 << 32)]


class Schedule(BaseModel):
    """A number, or a range (low, high), for every epoch.

    Attributes:
        epochs: at which a value is given, ascending; before the first one its value holds.
        values: one per epoch: numbers, or pairs.
        between: ``step``: a value holds until the next; ``linear``: straight lines go from one to the next, and
            the last one holds.

    >>> warm = Schedule.ramp(0.0, 0.9, over=10)
    >>> warm.at(0), warm.at(5), warm.at(99)
    (0.0, 0.45, 0.9)
    >>> Schedule.model_validate_json(warm.model_dump_json()) == warm
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Annotated[tuple[Epoch, ...], Field(min_length=1)]
    values: tuple[Number | tuple[Number, Number], ...]
    between: Literal["step", "linear"] = "step"

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if len(self.epochs) != len(self.values):
            raise ValueError(f"{len(self.epochs)} epochs but {len(self.values)} values: give one per epoch")
        if any(a >= b for a, b in pairwise(self.epochs)):
            raise ValueError("the epochs of a schedule ascend")
        if self.between == "linear" and len({isinstance(value, tuple) for value in self.values}) > 1:
            raise ValueError("no line goes from a number to a range: give numbers only, or ranges only")
        return self

    @classmethod
    def ramp(cls, start: float, stop: float, *, over: int, first: int = 0) -> Schedule:
        """A line from ``start`` at epoch ``first`` to ``stop``, ``over`` epochs later; then ``stop``."""
        return cls(epochs=(first, first + over), values=(start, stop), between="linear")

    @classmethod
    def steps(cls, values: Mapping[int, float | tuple[float, float]]) -> Schedule:
        """By the epoch from which each value holds.

        >>> Schedule.steps({0: 0.1, 30: 0.5}).at(29)
        0.1
        """
        return cls(epochs=tuple(sorted(values)), values=tuple(values[epoch] for epoch in sorted(values)))

    @classmethod
    def lasting(cls, parts: Iterable[tuple[int, float | tuple[float, float]]]) -> Schedule:
        """By how many epochs each value holds, as in Population Based Augmentation; the last one goes on.

        >>> Schedule.lasting([(10, 0.1), (20, 0.3), (5, 0.0)]).epochs
        (0, 10, 30)
        """
        start, values = 0, {}
        for duration, value in parts:
            if duration < 1:
                raise ValueError(f"a value lasts one epoch or more, not {duration}")
            values[start] = value
            start += duration
        return cls.steps(values)

    def at(self, epoch: int) -> float | tuple[float, float]:
        """The value of one epoch."""
        place = max(bisect_right(self.epochs, epoch) - 1, 0)
        value = self.values[place]
        last = place + 1 == len(self.epochs)
        if self.between == "step" or last or epoch <= self.epochs[place]:
            return value
        share = (epoch - self.epochs[place]) / (self.epochs[place + 1] - self.epochs[place])
        after = self.values[place + 1]
        if isinstance(value, tuple) and isinstance(after, tuple):
            return (_between(value[0], after[0], share), _between(value[1], after[1], share))
        assert not isinstance(value, tuple)  # noqa: S101  (the validator's promise)
        assert not isinstance(after, tuple)  # noqa: S101
        return _between(value, after, share)

    def number(self, epoch: int) -> float:
        """The value of one epoch, of a schedule of numbers.

        Raises:
            TypeError: it is a range.
        """
        value = self.at(epoch)
        if isinstance(value, tuple):
            raise TypeError(f"a range {value} where a number must stand")
        return value

    def mapped(self, change: Callable[[float], float]) -> Schedule:
        """The schedule with every number changed; a change must keep the order of a range."""
        values = tuple(
            (change(value[0]), change(value[1])) if isinstance(value, tuple) else change(value)
            for value in self.values
        )
        return Schedule(epochs=self.epochs, values=values, between=self.between)

    @property
    def reach(self) -> tuple[float, float]:
        """The lowest and the highest number of all epochs."""
        ends = [end for value in self.values for end in (value if isinstance(value, tuple) else (value,))]
        return min(ends), max(ends)

    def words(self, say: Callable[[float | tuple[float, float]], str]) -> str:
        """The schedule in words, a value as ``say`` says it.

        >>> Schedule.ramp(0.0, 0.9, over=10).words(str)
        '0.0 at epoch 0, in a line to 0.9 at epoch 10'
        """
        first, *rest = zip(self.epochs, self.values, strict=True)
        if self.between == "linear":
            return f"{say(first[1])} at epoch {first[0]}" + "".join(
                f", in a line to {say(value)} at epoch {epoch}" for epoch, value in rest
            )
        return say(first[1]) + "".join(f", from epoch {epoch} {say(value)}" for epoch, value in rest)


def _between(a: float, b: float, share: float) -> float:
    return a + (b - a) * share
