"""Which policy is applied to which row, and with which seed.

A table that was made with a late policy names it row by row (:mod:`augment.late`). The policy itself is looked
up by its digest: in the lake's ``_policies`` table, then among the presets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.late import unpin
from lake.errors import ConfigError
from lake.lake import Lake
from pipeline.loader.beside import Beside, Columns

__all__ = ["Augmentation", "known_policies", "resolve"]

Pixels = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]


@dataclass
class Augmentation:
    """The policy of each row.

    Attributes:
        lake: where pinned policies are looked up.
        fixed: applied to all rows, whatever they name; None: what each row names.
        seed: takes the place of the seeds that rows name; None: those.
        known: policies by digest, looked up already.
    """

    lake: Lake | None
    fixed: Any | None
    seed: int | None
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def mixes(self) -> bool:
        """Whether a row may need a partner: some policy that rows may name has MixUp or CutMix."""
        policies = self.known.values() if self.fixed is None else [self.fixed]
        return any(getattr(policy, "mixes", False) for policy in policies)

    def images(
        self, epoch: int, images: list[Pixels], ids: Sequence[str], pins: Sequence[str | None]
    ) -> list[Pixels]:
        """The images of an epoch; as they are where the policy is one for texts."""
        return self._each("image", epoch, images, ids, pins)

    def mixed(
        self,
        epoch: int,
        images: list[Pixels],
        ids: Sequence[str],
        pins: Sequence[str | None],
        partner: Sequence[int],
    ) -> tuple[list[Pixels], F64]:
        """The same with a partner for each image, by its place; and the partners' shares, float64 (n,)."""
        result, shares = list(images), np.zeros(len(images))
        for pin in dict.fromkeys(pins):
            policy, seed = self._of(pin)
            mine = [i for i, each in enumerate(pins) if each == pin]
            if policy is None or "image" not in _modalities(policy):
                continue
            some, some_ids = [images[i] for i in mine], [ids[i] for i in mine]
            if getattr(policy, "mixes", False):
                others = [images[partner[i]] for i in mine]
                if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(some, others, strict=True)):
                    raise ConfigError(
                        "the policy mixes images, and these differ in shape",
                        hint='give size=, mode= and augment_at="size"',
                    )
                some, shares[mine] = policy.apply(some, some_ids, seed=seed, epoch=epoch, partners=others)
            else:
                some = policy.apply(some, some_ids, seed=seed, epoch=epoch)
            for i, image in zip(mine, some, strict=True):
                result[i] = image
        return result, shares

    def moved(
        self,
        epoch: int,
        images: list[Pixels],
        ids: Sequence[str],
        pins: Sequence[str | None],
        beside: tuple[Columns, Sequence[Beside]],
    ) -> tuple[list[Pixels], list[Beside]]:
        """The images of an epoch, and what belongs to each of them."""
        columns, result, along = beside[0], list(images), list(beside[1])
        for pin in dict.fromkeys(pins):
            policy, seed = self._of(pin)
            if policy is None or "image" not in _modalities(policy):
                continue
            mine = [i for i, each in enumerate(pins) if each == pin]
            theirs = [along[i] for i in mine]
            changed, made = policy.apply(
                [images[i] for i in mine],
                [ids[i] for i in mine],
                seed=seed,
                epoch=epoch,
                targets=columns.targets(theirs),
            )
            for i, image, each in zip(mine, changed, columns.moved(theirs, made), strict=True):
                result[i], along[i] = image, each
        return result, along

    def texts(self, epoch: int, texts: list[str], ids: Sequence[str], pins: Sequence[str | None]) -> list[str]:
        """The texts of an epoch; as they are where the policy is one for images."""
        return self._each("text", epoch, texts, ids, pins)

    def _each(
        self, what: str, epoch: int, items: list[Any], ids: Sequence[str], pins: Sequence[str | None]
    ) -> list[Any]:
        result = list(items)
        for pin in dict.fromkeys(pins):
            policy, seed = self._of(pin)
            if policy is None or what not in _modalities(policy):
                continue
            apply = policy.apply if what == "image" else _texts_of(policy)
            mine = [i for i, each in enumerate(pins) if each == pin]
            changed = apply([items[i] for i in mine], [ids[i] for i in mine], seed=seed, epoch=epoch)
            for i, item in zip(mine, changed, strict=True):
                result[i] = item
        return result

    def _of(self, pin: str | None) -> tuple[Any | None, int]:
        if self.fixed is not None:
            return self.fixed, self.seed or 0
        if pin is None:
            return None, 0
        digest, seed = unpin(pin)
        unreadable: list[str] = []
        if digest not in self.known and self.lake is not None:
            self.known.update(known_policies(self.lake, unreadable))
        if digest not in self.known:
            raise ConfigError(
                f"rows name the policy {digest}, which neither _policies nor the presets have",
                where=self.lake.uri if self.lake else None,
                why=f"policies that cannot be read here: {'; '.join(unreadable)}" if unreadable else None,
                hint="give policy= (or policy=None: no augmentation)",
            )
        return self.known[digest], seed if self.seed is None else self.seed


def _modalities(policy: Any) -> tuple[str, ...]:
    """What the policy is for; a policy of another make says it by what it can do."""
    said = getattr(policy, "modality", None)
    return (said,) if said else ("image", *(["text"] if hasattr(policy, "apply_texts") else []))


def _texts_of(policy: Any) -> Callable[..., list[str]]:
    def apply(*given: Any, **named: Any) -> list[str]:
        made = policy.apply_texts(*given, **named)
        found: list[str] = made.to_pylist() if hasattr(made, "to_pylist") else list(made)
        return found

    return apply


def resolve(policy: Any) -> Any:
    """A policy from its name, its fields, or itself; what has an ``apply`` is taken as it is.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(policy, str):
        from augment.presets import preset

        try:
            policy = preset(policy)
        except (KeyError, ValueError) as error:
            raise ConfigError(f"there is no policy {policy!r}", why=str(error)) from error
    if hasattr(policy, "apply"):
        return policy
    raise ConfigError(
        f"policy= is a {type(policy).__name__}",
        hint='give an augment.Policy, the name of a preset, None, or "table" for what the rows name',
    )


def known_policies(lake: Lake, unreadable: list[str] | None = None) -> dict[str, Any]:
    """The lake's policies and the presets, by digest; why others cannot be read goes to ``unreadable``."""
    unreadable = [] if unreadable is None else unreadable
    from augment.policy import Policy as Written
    from augment.presets import PRESETS, preset

    found = {made.digest: made for made in (preset(name) for name in PRESETS)}
    table = lake.table("_policies")
    if table.exists:
        for text in np.unique(table.to_table(["policy"])["policy"].to_pylist()):
            try:
                policy = Written.model_validate_json(text)
            except ValueError as error:  # of another release, or its ops are not imported: said if rows name it
                unreadable.append(str(error))
                continue
            found[policy.digest] = policy
    return found
