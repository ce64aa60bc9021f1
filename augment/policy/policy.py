"""Augmentation policies as values.

One shape expresses them all: *sub-policies* with weights, of which ``draws`` are drawn for an image,
independently and with replacement, and carried out one after the other. A sub-policy is a tuple of
*choices*: an op, the probability with which it is carried out, and its magnitude, fixed or drawn from a
range.

- AutoAugment: 25 sub-policies of two choices with fixed magnitudes, one draw.
- RandAugment(n, m): 14 sub-policies of one choice with the fixed magnitude m, n draws.
- TrivialAugment: 14 sub-policies of one choice with magnitudes from all 31 bins, one draw.

A magnitude is a *level* in 0 .. 1 of the op's range in the policy's ``space`` (:mod:`augment.ops`).
Magnitudes, probabilities and weights may depend on the epoch (:mod:`augment.policy.schedule`).
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from augment import rng
from augment.ops import NAMES, Program, Space, describe, find
from augment.policy.choices import Choice, SubPolicy, Value
from augment.policy.memo import Memo
from augment.policy.schedule import Schedule

if TYPE_CHECKING:
    import pyarrow as pa

    from augment.engine.compile import Compiled
    from augment.engine.output import Output
    from augment.engine.programs import Programs
    from augment.targets import Targets
    from augment.text.fitted import Fitted
    from augment.text.protect import Protect

__all__ = ["Choice", "Policy", "SubPolicy"]

_EPOCHS = 8  # whose policies are kept
_VERSION = b"policy-3"  # part of the digest, at most 16 bytes: a change of what a policy means changes its name


class Policy(Value):
    """What to do to images, at random but reproducibly: a value that goes to JSON and back.

    Attributes:
        subpolicies: what is drawn from.
        draws: how many sub-policies are drawn for an image (independently, with replacement).
        distinct: no sub-policy is drawn twice for one image.
        until: from that epoch on nothing is drawn; None: no end.
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

    _later = ("distinct", "until")

    subpolicies: Annotated[tuple[SubPolicy, ...], Field(min_length=1)]
    draws: Annotated[int, Field(ge=0, le=64)] = 1
    bins: Annotated[int, Field(ge=2, le=1 << 16)] | None = 31
    space: Space = "wide"
    resampling: Literal["nearest", "bilinear"] = "nearest"
    name: str = ""
    distinct: bool = False
    until: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.distinct and self.draws > len(self.subpolicies):
            raise ValueError(f"{self.draws} distinct draws from {len(self.subpolicies)} sub-policies")
        rows = [find(choice.spelt) for sub in self.subpolicies for choice in sub.choices]
        if len({op.kind == "text" for op in rows if op.kind != "identity"}) > 1:
            raise ValueError("ops for images and ops for texts in one policy: write two policies")
        return self

    def __hash__(self) -> int:
        return hash((self.subpolicies, self.draws, self.bins, self.space))  # the digest tells 1 from 1.0

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that name what the policy does (whatever it is called)."""
        payload = json.dumps(self.model_dump(mode="json", exclude={"name"}), sort_keys=True)
        return blake2b(payload.encode(), digest_size=16, person=_VERSION).hexdigest()

    @property
    def modality(self) -> Literal["image", "text"]:
        """What it is for; the ops of one policy are all for the same."""
        return "text" if _texts(self) else "image"

    @property
    def mixes(self) -> bool:
        """Whether some op needs a partner for each image: MixUp or CutMix."""
        return bool(self.mixing)

    @property
    def mixing(self) -> tuple[str, ...]:
        """The ops that need a partner for each image."""
        return _mixing(self)

    @property
    def ops(self) -> tuple[str, ...]:
        """The ops that can occur, in the table's order."""
        seen = {choice.spelt for sub in self.subpolicies for choice in sub.choices}
        return (*(name for name in NAMES if name in seen), *sorted(seen - set(NAMES)))

    @property
    def scheduled(self) -> bool:
        """Whether the policy is another one in another epoch."""
        return _scheduled(self)

    def at(self, epoch: int) -> Policy:
        """The policy of one epoch, without schedules: what :meth:`draw` draws from in that epoch.

        Args:
            epoch: 0 .. 2**32 - 1.

        >>> warm = Schedule.ramp(0.0, 0.5, over=10)
        >>> policy = Policy(subpolicies=[[Choice(op="Rotate", magnitude=warm)]], until=90)
        >>> policy.at(5).subpolicies[0].choices[0].magnitude, policy.at(90).draws
        (0.25, 0)
        """
        if not self.scheduled:
            return self
        known = _known(self)
        if (now := known.get(epoch)) is None:
            if len(known) >= _EPOCHS:
                known.clear()
            now = known[epoch] = self._at(epoch)
        return now

    def _at(self, epoch: int) -> Policy:
        live = tuple(sub.at(epoch) for sub in self.subpolicies if sub.weight_at(epoch) > 0)
        ended = self.until is not None and epoch >= self.until
        draws = 0 if ended or not live else min(self.draws, len(live)) if self.distinct else self.draws
        idle = (SubPolicy(choices=(Choice(op="Identity"),)),)
        return self.model_copy(update={"subpolicies": live or idle, "draws": draws, "until": None})

    def off_for_last(self, epochs: int, *, of: int) -> Policy:
        """The policy that does nothing in the last ``epochs`` of a training of ``of`` epochs.

        >>> Policy(subpolicies=[[Choice(op="Invert")]]).off_for_last(15, of=300).until
        285
        """
        if not 0 <= epochs <= of:
            raise ValueError(f"the last {epochs} of {of} epochs: give 0 .. {of}")
        return self.model_copy(update={"until": of - epochs})

    def weighted(self, weights: Mapping[str, float]) -> Policy:
        """The policy with each sub-policy's weight multiplied by those of its ops; a weight of 0 takes it out.

        >>> policy = Policy(subpolicies=[[Choice(op="Rotate")], [Choice(op="Invert")]])
        >>> [sub.weight for sub in policy.weighted({"Rotate": 3}).subpolicies]
        [3.0, 1.0]
        """
        factors = {_named(name): weight for name, weight in weights.items()}
        for name, factor in factors.items():
            if not 0.0 <= factor < math.inf:
                raise ValueError(f"the weight of {name} must be 0 or more, not {factor}")
        kept = []
        for sub in self.subpolicies:
            factor = math.prod(factors.get(c.spelt, factors.get(c.op, 1.0)) for c in sub.choices)
            old = sub.weight
            if isinstance(old, Schedule):
                new: float | Schedule = old.mapped(partial(operator.mul, factor))
            else:
                new = old * factor
            if factor > 0:
                kept.append(sub.model_copy(update={"weight": new}))
        return self._of(kept)

    def draw(self, ids: object, seed: int = 0, epoch: int = 0) -> Programs:
        """What happens to each image: a sequence with one program (a tuple of ``Applied``) per id.

        Args:
            ids: what :func:`augment.rng.halves` takes.
            seed: 0 .. 2**64 - 1.
            epoch: 0 .. 2**32 - 1; another epoch, another draw.
        """
        from augment.engine.draw import draw

        return draw(self.at(epoch), rng.Stream(ids, seed, epoch))

    def compile(
        self,
        ids: object,
        *,
        size: tuple[int, ...],
        seed: int = 0,
        epoch: int = 0,
        bits: int = 8,
        fuse: bool = True,
    ) -> Compiled:
        """What an executor would do to images of one size: ``.explain()`` says what was fused.

        Args:
            ids: what :func:`augment.rng.halves` takes.
            size: (height, width) or (height, width, channels); three channels unless said.
            seed: 0 .. 2**64 - 1.
            epoch: 0 .. 2**32 - 1.
            bits: 8 or 16.
            fuse: False: every op on its own.

        Raises:
            ValueError: a size or a number of bits that images do not have.
        """
        from augment.engine.compile import compile_programs
        from augment.ops import Shape

        given: tuple[Any, ...] = tuple(np.atleast_1d(size).tolist())
        if len(given) not in {2, 3} or not all(isinstance(side, int) and side >= 0 for side in given):
            raise ValueError(f"size={size!r}: give (height, width) or (height, width, channels)")
        if bits not in {8, 16}:
            raise ValueError(f"bits={bits}: give 8 or 16")
        h, w, c = (*given, 3)[:3]
        shape = Shape(h, w, c, (1 << bits) - 1)
        programs = self.draw(ids, seed, epoch)
        return compile_programs(programs, shape, space=self.space, resampling=self.resampling, fuse=fuse)

    def apply(
        self,
        images: Any,
        ids: object,
        *,
        seed: int = 0,
        epoch: int = 0,
        targets: Targets | None = None,
        partners: Any = None,
        output: Output | None = None,
        device: str = "cpu",
    ) -> Any:
        """Augment images: what happens to one depends on its id, seed and epoch, on nothing else.

        Args:
            images: uint8, uint16, or float32 in 0 .. 1, (n, h, w, c) or (n, h, w); or a list of (h, w, c) or
                (h, w) arrays of any sizes.
            ids: one per image; what :func:`augment.rng.halves` takes.
            seed: 0 .. 2**64 - 1.
            epoch: 0 .. 2**32 - 1.
            targets: masks, boxes and keypoints, which geometric ops move along.
            partners: as many images of the same shapes, for MixUp and CutMix (:mod:`augment.engine.mix`).
            output: how the images are handed over, see :class:`augment.Output`; None: as they were given.
            device: "cpu" or "cuda": the same bytes. On the GPU images and masks stay where they are.

        Returns:
            New images, the same kind as given. With targets: the images, and the targets as they are now. With
            partners: the images, and of each label the share that is the partner's, float64 (n,).

        Raises:
            lake.errors.DeviceError: for any other device, or where there is none.
            ValueError: the numbers of images and ids differ, or a shape is none of those above.
            TypeError: for another dtype.
        """
        from augment.engine import cpu

        cpu.check_device(device)
        if self.modality == "text":
            raise ValueError("a policy for texts: apply it with apply_texts")
        if partners is None and (now := self.at(epoch)).draws and now.mixing:
            raise ValueError(
                f"{now.mixing[0]} mixes an image with another one: give partners=, one for each image"
            )
        if device == "cuda":
            from augment.engine import cuda

            return cuda.apply(
                self, images, ids, seed=seed, epoch=epoch, targets=targets, partners=partners, output=output
            )
        return cpu.execute(
            images, self.draw(ids, seed, epoch), space=self.space, resampling=self.resampling, targets=targets,
            partners=partners, output=output,
        )  # fmt: skip

    def apply_texts(
        self,
        texts: Any,
        ids: object,
        *,
        seed: int = 0,
        epoch: int = 0,
        fitted: Fitted | None = None,
        labels: Any = None,
        protect: Protect | None = None,
        lexicon: Any = None,
    ) -> pa.Array:
        """Augment texts: what happens to one depends on its id, seed and epoch, on nothing else.

        See :func:`augment.text.apply_texts` for the arguments.
        """
        from augment.text import apply_texts

        return apply_texts(
            self, texts, ids, seed=seed, epoch=epoch, fitted=fitted, labels=labels, protect=protect,
            lexicon=lexicon,
        )  # fmt: skip

    def describe(self, program: Program) -> str:
        """A drawn program in words, such as ``Rotate 12.4° · Posterize 5 bits``."""
        return describe(program, self.space)

    def without(self, ops: Iterable[str]) -> Policy:
        """The policy with these ops taken out; sub-policies left empty go, and if all go, Identity stays."""
        banned = {_named(name) for name in ([ops] if isinstance(ops, str) else ops)}
        return self._mapped(lambda choice: None if {choice.op, choice.spelt} & banned else choice)

    def with_ceilings(self, ceilings: Mapping[str, float]) -> Policy:
        """The policy with no level of an op above its ceiling.

        >>> policy = Policy(subpolicies=[[Choice(op="Rotate", magnitude=(0, 1))]])
        >>> policy.with_ceilings({"Rotate": 0.25}).subpolicies[0].choices[0].magnitude
        (0.0, 0.25)
        """
        limits = {_named(name): ceiling for name, ceiling in ceilings.items()}
        for name, ceiling in limits.items():
            if not 0.0 <= ceiling <= 1.0:
                raise ValueError(f"the ceiling of {name} must lie in 0 .. 1, not {ceiling}")

        def limited(choice: Choice) -> Choice:
            ceiling = limits.get(choice.spelt, limits.get(choice.op))
            if ceiling is None or not find(choice.spelt).has_magnitude:
                return choice
            return choice.below(ceiling, self.space)

        return self._mapped(limited)

    def restricted(
        self, *, only: Iterable[str] | None = None, ceilings: Mapping[str, float] | None = None
    ) -> Policy:
        """The policy with only these ops, each up to its ceiling: what a screen has found harmless."""
        if only is None:
            return self.with_ceilings(ceilings or {})
        wanted = {_named(name) for name in only}
        kept = self._mapped(lambda choice: choice if {choice.op, choice.spelt} & wanted else None)
        return kept.with_ceilings(ceilings or {})

    def _mapped(self, change: Callable[[Choice], Choice | None]) -> Policy:
        subpolicies = []
        for sub in self.subpolicies:
            choices = tuple(new for choice in sub.choices if (new := change(choice)) is not None)
            if choices:
                subpolicies.append(sub.model_copy(update={"choices": choices}))
        return self._of(subpolicies)

    def _of(self, subpolicies: list[SubPolicy]) -> Policy:
        if not subpolicies:
            subpolicies = [SubPolicy(choices=(Choice(op="Identity"),))]
        draws = min(self.draws, len(subpolicies)) if self.distinct else self.draws
        return self.model_copy(update={"subpolicies": tuple(subpolicies), "draws": draws})

    def explain(self) -> str:
        """The policy in words, one line per sub-policy (or op, where each has one choice).

        >>> print(Policy(name="spin", subpolicies=[[Choice(op="Rotate", magnitude=(0, 1))]]).explain())
        spin: 1 of 1 sub-policy per image, magnitudes of the wide space in 31 bins, nearest resampling
          100.0 %  Rotate: always, 0.0° to ±135.0°
        """
        from augment.policy import words

        return words.explain(self)

    def preview(self, image: Any, id_: str | int = 0, *, seed: int = 0, epochs: int = 8, **more: Any) -> Any:
        """What it makes of one image, or text, for a notebook: see :func:`augment.preview.preview`.

        >>> import numpy as np
        >>> policy = Policy(name="flip", subpolicies=[[Choice(op="FlipX")]])
        >>> policy.preview(np.zeros((8, 8), np.uint8), epochs=2)
        <Preview of flip, id 0, seed 0: 2 samples; FlipX>
        """
        from augment.preview import preview

        return preview(self, image, id_, seed, epochs, **more)

    def _repr_html_(self) -> str:
        from augment.policy import words

        return words.table(self)


_scheduled = Memo(lambda policy: policy.until is not None or any(s.at(0) is not s for s in policy.subpolicies))
_known: Memo[dict[int, Policy]] = Memo(lambda _policy: {})  # by epoch
_mixing = Memo(lambda policy: tuple(name for name in policy.ops if find(name).kind == "mix"))
_texts = Memo(lambda policy: any(find(name).kind == "text" for name in policy.ops))
# All are asked for each batch, and a batch may be one image.


def _named(name: str) -> str:
    """The name of an op as policies have it; custom ones may stand for all their options."""
    return name if "." in name else find(name).name
