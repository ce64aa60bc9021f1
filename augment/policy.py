"""Augmentation policies as values.

One shape expresses them all: *sub-policies* with weights, of which ``draws`` are drawn for an image,
independently and with replacement, and carried out one after the other. A sub-policy is a tuple of
*choices*: an op, the probability with which it is carried out, and its magnitude, fixed or drawn from a
range.

- AutoAugment: 25 sub-policies of two choices with fixed magnitudes, one draw.
- RandAugment(n, m): 14 sub-policies of one choice with the fixed magnitude m, n draws.
- TrivialAugment: 14 sub-policies of one choice with magnitudes from all 31 bins, one draw.

A magnitude is a *level* in 0 .. 1 of the op's range in the policy's ``space`` (:mod:`augment.ops`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from html import escape
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from augment import rng
from augment.ops import NAMES, Program, Space, describe, find

if TYPE_CHECKING:
    from augment.cpu import Programs

__all__ = ["Choice", "Policy", "SubPolicy"]

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]

_MOST_CHOICES = 12  # what the draw indices of one drawn sub-policy have room for, see augment.draw
_VERSION = "gristmill-policy-1"  # part of the digest: a change of what a policy means changes its name


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(_Value):
    """One op of a sub-policy.

    Attributes:
        op: a name of :data:`augment.ops.NAMES`.
        probability: with which it is carried out.
        magnitude: a level in 0 .. 1, or (low, high) to draw one from; always 0 where the op has none.

    >>> Choice(op="Rotate", probability=0.7, magnitude=(0, 0.5))
    Choice(op='Rotate', probability=0.7, magnitude=(0.0, 0.5))
    """

    op: str
    probability: Share = 1.0
    magnitude: Share | tuple[Share, Share] = 0.0

    @field_validator("op")
    @classmethod
    def _known(cls, name: str) -> str:
        return find(name).name

    @model_validator(mode="before")
    @classmethod
    def _no_magnitude(cls, data: object) -> object:
        # Equal behaviour, equal value: an op without magnitude has exactly one spelling.
        if isinstance(data, Mapping) and data.get("op") in NAMES and not find(data["op"]).has_magnitude:
            return {**data, "magnitude": 0.0}
        return data

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.levels
        if low > high:
            raise ValueError(f"magnitude {low} .. {high}: the lower level comes first")
        return self

    @property
    def levels(self) -> tuple[float, float]:
        """The lowest and the highest level."""
        return self.magnitude if isinstance(self.magnitude, tuple) else (self.magnitude, self.magnitude)

    def below(self, ceiling: float) -> Choice:
        """The same choice with no level above ``ceiling``."""
        low, high = (min(level, ceiling) for level in self.levels)
        return self.model_copy(update={"magnitude": (low, high) if isinstance(self.magnitude, tuple) else low})


class SubPolicy(_Value):
    """Choices that are carried out one after the other, and how often they are drawn.

    In place of the mapping a plain list of choices may stand.
    """

    choices: Annotated[tuple[Choice, ...], Field(min_length=1, max_length=_MOST_CHOICES)]
    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _plain_list(cls, data: object) -> object:
        if isinstance(data, (list, tuple)):
            return {"choices": data}
        return {"choices": (data,)} if isinstance(data, Choice) else data


class Policy(_Value):
    """What to do to images, at random but reproducibly: a value that goes to JSON and back.

    Attributes:
        subpolicies: what is drawn from.
        draws: how many sub-policies are drawn for an image (independently, with replacement).
        bins: a level drawn from (low, high) is one of that many evenly spaced ones; None: any.
        space: which magnitude ranges the levels refer to.
        resampling: of the geometric ops.
        name: for people; not part of the digest.

    >>> policy = Policy(subpolicies=[[Choice(op="Rotate", magnitude=(0, 1))], [Choice(op="Invert")]])
    >>> Policy.model_validate_json(policy.model_dump_json()) == policy
    True
    >>> import numpy as np
    >>> images = np.zeros((2, 8, 8, 3), np.uint8)
    >>> policy.apply(images, ids=[0, 1], seed=3).shape
    (2, 8, 8, 3)
    """

    subpolicies: Annotated[tuple[SubPolicy, ...], Field(min_length=1)]
    draws: Annotated[int, Field(ge=0, le=64)] = 1
    bins: Annotated[int, Field(ge=2, le=1 << 16)] | None = 31
    space: Space = "wide"
    resampling: Literal["nearest", "bilinear"] = "nearest"
    name: str = ""

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that name what the policy does (whatever it is called)."""
        payload = json.dumps(self.model_dump(mode="json", exclude={"name"}), sort_keys=True)
        return blake2b(payload.encode(), digest_size=16, person=_VERSION[:16].encode()).hexdigest()

    @property
    def ops(self) -> tuple[str, ...]:
        """The ops that can occur, in the table's order."""
        seen = {choice.op for sub in self.subpolicies for choice in sub.choices}
        return tuple(name for name in NAMES if name in seen)

    def draw(self, ids: object, seed: int = 0, epoch: int = 0) -> Programs:
        """What happens to each image: a sequence with one program (a tuple of ``Applied``) per id.

        Args:
            ids: what :func:`augment.rng.halves` takes.
            seed: 0 .. 2**64 - 1.
            epoch: 0 .. 2**32 - 1; another epoch, another draw.
        """
        from augment.draw import draw

        return draw(self, rng.Stream(ids, seed, epoch))

    def apply(self, images: Any, ids: object, *, seed: int = 0, epoch: int = 0, device: str = "cpu") -> Any:
        """Augment images: what happens to one depends on its id, seed and epoch, on nothing else.

        Args:
            images: uint8 or uint16, (n, h, w, c) or (n, h, w); or a list of (h, w, c) or (h, w)
                arrays of any sizes.
            ids: one per image; what :func:`augment.rng.halves` takes.
            seed: 0 .. 2**64 - 1.
            epoch: 0 .. 2**32 - 1.
            device: "cpu".

        Returns:
            New images, the same kind as given.

        Raises:
            lake.errors.DeviceError: for any other device.
            ValueError: the numbers of images and ids differ, or a shape is none of those above.
            TypeError: for another dtype.
        """
        from augment import cpu

        cpu.check_device(device)
        return cpu.execute(images, self.draw(ids, seed, epoch), space=self.space, resampling=self.resampling)

    def describe(self, program: Program) -> str:
        """A drawn program in words, such as ``Rotate 12.4° · Posterize 5 bits``."""
        return describe(program, self.space)

    def without(self, ops: Iterable[str]) -> Policy:
        """The policy with these ops taken out; sub-policies left empty go, and if all go, Identity stays."""
        banned = {find(name).name for name in ([ops] if isinstance(ops, str) else ops)}
        return self._mapped(lambda choice: None if choice.op in banned else choice)

    def with_ceilings(self, ceilings: Mapping[str, float]) -> Policy:
        """The policy with no level of an op above its ceiling.

        >>> policy = Policy(subpolicies=[[Choice(op="Rotate", magnitude=(0, 1))]])
        >>> policy.with_ceilings({"Rotate": 0.25}).subpolicies[0].choices[0].magnitude
        (0.0, 0.25)
        """
        limits = {find(name).name: ceiling for name, ceiling in ceilings.items()}
        for name, ceiling in limits.items():
            if not 0.0 <= ceiling <= 1.0:
                raise ValueError(f"the ceiling of {name} must lie in 0 .. 1, not {ceiling}")
        return self._mapped(
            lambda c: c.below(limits[c.op]) if c.op in limits and find(c.op).has_magnitude else c
        )

    def restricted(
        self, *, only: Iterable[str] | None = None, ceilings: Mapping[str, float] | None = None
    ) -> Policy:
        """The policy with only these ops, each up to its ceiling: what a screen has found harmless."""
        kept = self if only is None else self.without(set(NAMES) - {find(name).name for name in only})
        return kept.with_ceilings(ceilings or {})

    def _mapped(self, change: Callable[[Choice], Choice | None]) -> Policy:
        subpolicies = []
        for sub in self.subpolicies:
            choices = tuple(new for choice in sub.choices if (new := change(choice)) is not None)
            if choices:
                subpolicies.append(sub.model_copy(update={"choices": choices}))
        if not subpolicies:
            subpolicies = [SubPolicy(choices=(Choice(op="Identity"),))]
        return self.model_copy(update={"subpolicies": tuple(subpolicies)})

    def explain(self) -> str:
        """The policy in words, one line per sub-policy (or op, where each has one choice).

        >>> print(Policy(name="spin", subpolicies=[[Choice(op="Rotate", magnitude=(0, 1))]]).explain())
        spin: 1 of 1 sub-policy per image, magnitudes of the wide space in 31 bins, nearest resampling
          100.0 %  Rotate: always, 0.0° to ±135.0°
        """
        many = len(self.subpolicies)
        bins = (
            "any levels" if self.bins is None else f"magnitudes of the {self.space} space in {self.bins} bins"
        )
        noun = "sub-policy" if many == 1 else "sub-policies"
        what = f"{self.name or 'policy'}: {self.draws} of {many} {noun} per image"
        head = f"{what}, {bins}, {self.resampling} resampling"
        total = sum(sub.weight for sub in self.subpolicies)
        lines = [
            f"  {100 * sub.weight / total:5.1f} %  " + "; then ".join(self._words(c) for c in sub.choices)
            for sub in self.subpolicies
        ]
        return "\n".join([head, *lines])

    def _words(self, choice: Choice) -> str:
        often = "always" if choice.probability == 1 else f"{100 * choice.probability:.0f} % of the time"
        return f"{choice.op}: {often}{', ' if find(choice.op).has_magnitude else ''}{self._reach(choice)}"

    def _reach(self, choice: Choice) -> str:
        op = find(choice.op)
        if not op.has_magnitude:
            return ""
        span = op.range(self.space)
        ends = []
        for level in dict.fromkeys(choice.levels):
            values = [
                float(span.parameter(level, sign)) * span.scale for sign in ((-1, 1) if span.signed else (1,))
            ]
            if span.signed and span.zero == 0 and values[1]:
                ends.append("±" + span.words.replace(":+", ":").format(p=values[1]))
            else:
                ends.append(" or ".join(dict.fromkeys(span.words.format(p=v) for v in values)))
        return " to ".join(ends).replace("+0", "0")

    def _repr_html_(self) -> str:
        total = sum(sub.weight for sub in self.subpolicies)
        rows = []
        for number, sub in enumerate(self.subpolicies, 1):
            for place, c in enumerate(sub.choices):
                first = (f"{number}", f"{100 * sub.weight / total:.1f} %") if place == 0 else ("", "")
                cells = (*first, c.op, f"{c.probability:.2f}", self._reach(c))
                rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        heads = "".join(f"<th>{h}</th>" for h in ("#", "share", "op", "p", "magnitude"))
        caption = escape(self.explain().splitlines()[0])
        return f"<table><caption>{caption}</caption><tr>{heads}</tr>{''.join(rows)}</table>"
