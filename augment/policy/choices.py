"""What a policy is made of: choices, and the sub-policies that carry them out one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from augment.custom import spell, split, trust
from augment.ops import OPS, Op, Range, Space, find
from augment.policy.levels import Law, Normal, clamped, law_of_magnitude, law_of_parameter
from augment.policy.schedule import Number, Schedule

__all__ = ["Choice", "Share", "SubPolicy", "Value"]

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]

_MOST_CHOICES = 12  # what the draw indices of one drawn sub-policy have room for, see augment.engine.draw


class Value(BaseModel):
    """A frozen model; fields that came later are left out of its JSON and its digest while they say nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        for name in self._later:
            if getattr(self, name) == type(self).model_fields[name].default:
                data.pop(name, None)
        return data

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if name not in self._later or value != type(self).model_fields[name].default:
                yield name, value


class Choice(Value):
    """One op of a sub-policy, and how far it goes: by a magnitude, or by its own parameter.

    Attributes:
        op: a name of :data:`augment.ops.NAMES`, or the import path of a custom op.
        probability: with which it is carried out; a number or a :class:`~augment.policy.schedule.Schedule`.
        magnitude: a level in 0 .. 1; (low, high) to draw one from; a
            :class:`~augment.policy.levels.Normal`; or a schedule. Always 0 where the op has none. Where the
            op's range is signed, half of the draws go the
            other way.
        parameter: in place of the magnitude: degrees, bits, a factor, in the op's own unit and with its sign,
            whatever the space (translations: pixels in ``wide``, shares of the side in ``autoaugment``).
        mirrored: half of the draws of ``parameter`` go the other way, as those of a magnitude do.
        options: arguments of an op that is not in the table, such as ``albumentations.CLAHE``.

    >>> Choice(op="Rotate", probability=0.7, magnitude=(0, 0.5))
    Choice(op='Rotate', probability=0.7, magnitude=(0.0, 0.5))
    >>> Choice(op="Rotate", parameter=(-10, 25))
    Choice(op='Rotate', probability=1.0, magnitude=0.0, parameter=(-10.0, 25.0))
    """

    _later = ("parameter", "mirrored", "options")

    op: str
    probability: Share | Schedule = 1.0
    magnitude: Share | tuple[Share, Share] | Normal | Schedule = 0.0
    parameter: Number | tuple[Number, Number] | Normal | Schedule | None = None
    mirrored: bool = False
    options: dict[str, JsonValue] = Field(default={})

    def __hash__(self) -> int:
        # Options are left out: equal ones are written in many ways (1 and 1.0, any order of the keys).
        return hash((self.op, self.probability, self.magnitude, self.parameter, self.mirrored))

    @field_validator("op")
    @classmethod
    def _known(cls, name: str) -> str:
        return name if "." in name else find(name).name  # others are looked for with their options

    @model_validator(mode="before")
    @classmethod
    def _no_magnitude(cls, data: object) -> object:
        # Equal behaviour, equal value: an op without magnitude has exactly one spelling.
        if isinstance(data, Mapping) and isinstance(data.get("op"), str) and "{" in data["op"]:
            path, options = split(data["op"])
            more = data.get("options", {})
            data = {**data, "op": path, "options": {**options, **more} if isinstance(more, Mapping) else more}
        if isinstance(data, Mapping) and (op := _found(data)) and not op.has_magnitude:
            return {**data, "magnitude": 0.0, "parameter": None, "mirrored": False}
        return data

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if isinstance(self.probability, Schedule):
            _inside("probability", self.probability, ranges=False)
        if isinstance(self.magnitude, (Normal, Schedule)):
            _inside("magnitude", self.magnitude)
        if isinstance(self.magnitude, Normal):
            clips = [end for end in (self.magnitude.low, self.magnitude.high) if end is not None]
            if clips and not 0.0 <= min(clips) <= max(clips) <= 1.0:
                raise ValueError("a magnitude's low and high lie in 0 .. 1")
        if self.options and self.op in OPS:
            raise ValueError(f"{self.op} takes no options: it goes as far as its magnitude or parameter says")
        find(self.spelt)  # options that it does not take
        if self.parameter is None:
            if self.mirrored:
                raise ValueError(
                    "`mirrored` goes with `parameter`; magnitudes of signed ranges are mirrored anyway"
                )
        elif self.magnitude != 0.0:
            raise ValueError("give a magnitude or a parameter, not both")
        for value in (self.magnitude, self.parameter):
            _ordered(value)
        self._makes_sense()
        return self

    def _makes_sense(self) -> None:
        """Hold the parameter against what the op can do with."""
        value, row = self.parameter, find(self.spelt)
        if value is None:
            return
        if isinstance(value, Normal):
            given = [end for end in (*value.means, value.low, value.high) if end is not None]
        else:
            ends = value.reach if isinstance(value, Schedule) else value
            given = [*ends] if isinstance(ends, tuple) else [ends]
        least, most = row.legal("wide", mirrored=self.mirrored)
        if not least <= min(given) <= max(given) <= most:
            wrong = min(given) if min(given) < least else max(given)
            raise ValueError(f"{self.op} takes a parameter in {least:g} .. {most:g}, not {wrong:g}")

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        trust(self.op)

    @property
    def spelt(self) -> str:
        """The op's name with its options: what :func:`augment.ops.find` and programs call it."""
        return spell(self.op, self.options)

    @property
    def extent(self) -> float | tuple[float, float] | Normal | Schedule:
        """The parameter where there is one, else the magnitude."""
        return self.magnitude if self.parameter is None else self.parameter

    @property
    def levels(self) -> tuple[float, float]:
        """The lowest and the highest magnitude, of all epochs; of a normal one those of its mean."""
        if isinstance(self.magnitude, Normal):
            return self.magnitude.means
        if isinstance(self.magnitude, Schedule):
            return self.magnitude.reach
        return self.magnitude if isinstance(self.magnitude, tuple) else (self.magnitude, self.magnitude)

    def law(self, space: Space) -> Law:
        """From which levels of the space's range its level is drawn; see :data:`augment.policy.levels.Law`."""
        value = self.extent
        if isinstance(value, Schedule):
            raise TypeError("a choice with schedules has no draws of its own: take Policy.at(epoch)")
        if self.parameter is None:
            return law_of_magnitude(value)
        low, high = find(self.spelt).legal(space, mirrored=self.mirrored)
        if isinstance(value, Normal) and (low, high) != (-math.inf, math.inf):
            value = value.within(low, high)
        return law_of_parameter(value, self._range(space))

    @property
    def signed(self) -> bool:
        """Whether half of the draws go the other way, where the op's range is signed."""
        return self.parameter is None or self.mirrored

    def at(self, epoch: int) -> Choice:
        """The choice of one epoch, without schedules."""
        new: dict[str, Any] = {}
        for name in ("probability", "magnitude", "parameter"):
            value = getattr(self, name)
            if isinstance(value, (Schedule, Normal)) and (now := value.at(epoch)) is not value:
                new[name] = now
        return self.model_copy(update=new) if new else self

    def below(self, ceiling: float, space: Space = "wide") -> Choice:
        """The same choice with no level above ``ceiling``; a parameter stays on its side of it."""
        if self.parameter is None:
            return self.model_copy(update={"magnitude": clamped(self.magnitude, 0.0, ceiling)})
        span = self._range(space)
        edge = span.zero + ceiling * (span.full - span.zero)
        low, high = sorted((2 * span.zero - edge if span.signed else span.zero, edge))
        return self.model_copy(update={"parameter": clamped(self.parameter, low, high)})

    def _range(self, space: Space) -> Range:
        return find(self.spelt).range(space)


class SubPolicy(Value):
    """Choices that are carried out one after the other, and how often they are drawn.

    In place of the mapping a plain list of choices may stand.

    Attributes:
        choices: at most 12.
        weight: above 0; or a schedule, whose values may be 0 but not all.
    """

    choices: Annotated[tuple[Choice, ...], Field(min_length=1, max_length=_MOST_CHOICES)]
    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | Schedule = 1.0

    @model_validator(mode="before")
    @classmethod
    def _plain_list(cls, data: object) -> object:
        if isinstance(data, (list, tuple)):
            return {"choices": data}
        return {"choices": (data,)} if isinstance(data, Choice) else data

    @model_validator(mode="after")
    def _weighed(self) -> Self:
        if isinstance(self.weight, Schedule):
            if any(isinstance(value, tuple) for value in self.weight.values):
                raise ValueError("a weight is a number in every epoch, not a range")
            if self.weight.reach[0] < 0 or self.weight.reach[1] == 0:
                raise ValueError("the weights of a schedule are 0 or more, and not all 0")
        return self

    def weight_at(self, epoch: int) -> float:
        """The weight of one epoch."""
        return self.weight.number(epoch) if isinstance(self.weight, Schedule) else self.weight

    def at(self, epoch: int) -> SubPolicy:
        """The sub-policy of one epoch, without schedules; its weight must not be 0 then."""
        choices = tuple(choice.at(epoch) for choice in self.choices)
        same = all(new is old for new, old in zip(choices, self.choices, strict=True))
        if same and not isinstance(self.weight, Schedule):
            return self
        return self.model_copy(update={"choices": choices, "weight": self.weight_at(epoch)})


def _found(data: Mapping[str, Any]) -> Op | None:
    try:
        return find(spell(data["op"], data.get("options", {})))
    except (KeyError, TypeError, ValueError):
        return None  # the field's own validator says so, with a hint


def _inside(what: str, value: Normal | Schedule, *, ranges: bool = True) -> None:
    low, high = value.means if isinstance(value, Normal) else value.reach
    if low < 0.0 or high > 1.0:
        raise ValueError(f"a {what} lies in 0 .. 1 in every epoch, not at {low if low < 0 else high}")
    if isinstance(value, Schedule) and not ranges and any(isinstance(v, tuple) for v in value.values):
        raise ValueError(f"a {what} is a number in every epoch, not a range")


def _ordered(value: object) -> None:
    pairs = value.values if isinstance(value, Schedule) else (value,)
    for pair in pairs:
        if isinstance(pair, tuple) and pair[0] > pair[1]:
            raise ValueError(f"magnitude {pair[0]} .. {pair[1]}: the lower level comes first")
