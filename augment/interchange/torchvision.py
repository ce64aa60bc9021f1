"""torchvision's names: ``ra``, ``ta_wide``, ``autoaugment(cifar10)``, and its classes with arguments.

Read in torchvision 0.29.1 (``torchvision/transforms/autoaugment.py``, BSD-3). The magnitudes are those of the
presets but for Solarize, which goes from 255 and not from 256.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from augment import presets
from augment.interchange.errors import InterchangeError
from augment.interchange.numbers import difference, tidy
from augment.policy import Policy
from augment.policy.choices import Choice

__all__ = ["NAMES", "dump", "load", "speaks"]

_TOP = 255.0
_DATASETS = ("imagenet", "cifar10", "svhn")


def _augmix(**_: object) -> Policy:
    raise InterchangeError("augmix blends several chains into one image, and a policy is one chain")


def _rand(num_ops: int = 2, magnitude: int = 9, num_magnitude_bins: int = 31) -> Policy:
    return presets.randaugment(num_ops, magnitude, num_magnitude_bins)


def _wide(num_magnitude_bins: int = 31) -> Policy:
    return presets.trivial_augment_wide(num_magnitude_bins)


def _auto(policy: str = "imagenet") -> Policy:
    return presets.autoaugment(policy)  # type: ignore[arg-type]  # checked by the caller


_MAKERS: Mapping[str, tuple[Callable[..., Policy], tuple[str, ...]]] = {
    "ra": (_rand, ("num_ops", "magnitude", "num_magnitude_bins")),
    "ta_wide": (_wide, ("num_magnitude_bins",)),
    "autoaugment": (_auto, ("policy",)),
    "augmix": (_augmix, ("severity", "mixture_width", "chain_depth", "alpha", "all_ops")),
}
_ALIASES = {
    "randaugment": "ra", "trivialaugment": "ta_wide", "trivialaugmentwide": "ta_wide", "ta": "ta_wide",
    "aa": "autoaugment",
}  # fmt: skip
NAMES = (*_MAKERS, *_ALIASES)
"""What a string of this language begins with, in lower case."""


def speaks(text: str) -> bool:
    """Whether a string is in this language, right or wrong.

    >>> speaks("ra"), speaks("AutoAugment(cifar10)"), speaks("rand-m9")
    (True, True, False)
    """
    return text.split("(", maxsplit=1)[0].strip().lower() in NAMES


def load(text: str) -> Policy:
    """The policy of a name, with arguments in parentheses where they are not the defaults.

    Raises:
        InterchangeError: for another name, an argument that the class does not have, and AugMix.

    >>> load("ra(magnitude=7)").name
    'ra(magnitude=7)'
    """
    found = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    name = found[1].lower() if found else ""
    name = _ALIASES.get(name, name)
    if found is None or name not in _MAKERS:
        raise InterchangeError(f"{text!r}: torchvision's names are {', '.join(NAMES)}")
    maker, names = _MAKERS[name]
    said = dict(_arguments(text, found[2] or "", names))
    resampling = str(said.pop("interpolation", "nearest")).rsplit(".", maxsplit=1)[-1].lower()
    if name == "autoaugment" and said:
        said["policy"] = str(said["policy"]).rsplit(".", maxsplit=1)[-1].lower()
        if said["policy"] not in _DATASETS:
            raise InterchangeError(f"{text!r}: AutoAugment has policies for {', '.join(_DATASETS)}")
    if resampling not in {"nearest", "bilinear"}:
        raise InterchangeError(f"{text!r}: a policy resamples by nearest or bilinear, not {resampling}")
    try:
        policy = maker(**said)
    except InterchangeError:
        raise
    except (TypeError, ValueError) as error:
        raise InterchangeError(f"{text!r}: {error}") from error
    exact = policy._mapped(_from_255)  # noqa: SLF001  (of this package)
    inner = ", ".join(f"{key}={value}" for key, value in said.items())
    return exact.model_copy(update={"name": f"{name}({inner})" if inner else name, "resampling": resampling})


def _from_255(choice: Choice) -> Choice:
    if choice.op != "Solarize" or isinstance(choice.magnitude, tuple):
        return choice  # TrivialAugment's range is torchvision's
    assert isinstance(choice.magnitude, float)  # noqa: S101  (the presets' promise)
    return Choice(op="Solarize", probability=choice.probability, parameter=tidy(_TOP - _TOP * choice.magnitude))


def _arguments(text: str, inside: str, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    made: list[tuple[str, Any]] = []
    for place, part in enumerate(part.strip() for part in inside.split(",") if part.strip()):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = names[place] if place < len(names) else "", part
        key = key.strip()
        if key not in (*names, "interpolation"):
            raise InterchangeError(f"{text!r}: {part!r} is none of {', '.join((*names, 'interpolation'))}")
        made.append((key, _value(value.strip())))
    return made


def _value(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word  # a name such as cifar10


def dump(policy: Policy) -> str:
    """The name, with arguments, that means this policy.

    Raises:
        InterchangeError: there is none; the message says what differs from the nearest.

    >>> dump(load("RandAugment(3)"))
    'ra(num_ops=3)'
    """
    texts = [policy.name] if speaks(policy.name) else []
    texts += ["ta_wide", *(f"autoaugment(policy={name})" for name in _DATASETS)]
    if policy.bins is not None:
        texts += [f"ta_wide(num_magnitude_bins={policy.bins})"]
        bins = "" if policy.bins == presets.DEFAULT_BINS else f", num_magnitude_bins={policy.bins}"
        texts += [f"ra(num_ops={policy.draws}, magnitude={m}{bins})" for m in range(policy.bins)]
    resampled = "" if policy.resampling == "nearest" else f"interpolation={policy.resampling}"
    nearest = ""
    for text in texts:
        said = text if not resampled or resampled in text else _with(text, resampled)
        try:
            missing = difference(policy, load(said))
        except InterchangeError:
            continue
        if not missing:
            return load(said).name if not resampled else said
        nearest = nearest or f"from {said!r} it differs: {missing}"
    raise InterchangeError(f"torchvision has no name for this policy: {nearest}")


def _with(text: str, argument: str) -> str:
    return f"{text[:-1]}, {argument})" if text.endswith(")") else f"{text}({argument})"
