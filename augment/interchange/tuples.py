"""Published policies as lists of sub-policies of tuples (op, probability, magnitude).

- ``fast``: Fast AutoAugment's (Lim et al., NeurIPS 2019): magnitudes 0 .. 1, over the ranges of its
  ``augmentations.py`` (MIT). A level goes from the lowest to the highest value, so that 0.5 of a mirrored op
  does nothing, and 0.67 of Contrast is the factor 1.306.
- ``autoaugment``: the paper's (Cubuk et al., CVPR 2019): magnitudes 0 .. 9, as in :mod:`augment.presets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from augment.interchange.errors import InterchangeError
from augment.interchange.numbers import check_same, one_bit, tidy
from augment.ops import OPS
from augment.policy import Policy
from augment.policy.choices import Choice, SubPolicy
from augment.policy.schedule import Schedule

__all__ = ["dump_autoaugment", "dump_fast", "load_autoaugment", "load_fast", "triples"]

Triple = tuple[str, float, float]
Triples = list[list[Triple]]

_BINS = 10
_ENHANCE = ("Color", "Contrast", "Brightness", "Sharpness")
_MIRRORED = {"ShearX": 0.3, "ShearY": 0.3, "TranslateX": 0.45, "TranslateY": 0.45, "Rotate": 30.0}
_LINES = {**dict.fromkeys(_ENHANCE, (0.1, 1.9)), "Solarize": (0.0, 256.0), "Cutout": (0.0, 0.2)}
_ON_OFF = {"AutoContrast": "AutoContrast", "Equalize": "Equalize", "Invert": "Invert", "Flip": "FlipX"}
_PIXELS = {
    "TranslateXAbs": ("TranslateX", 10.0),
    "TranslateYAbs": ("TranslateY", 10.0),
    "CutoutAbs": ("Cutout", 20.0),
}


def triples(data: object) -> Triples:
    """The list, checked: sub-policies of (op, probability in 0 .. 1, magnitude or None).

    Raises:
        InterchangeError: it is something else; the message says where.
    """
    if not isinstance(data, Sequence) or isinstance(data, (str, bytes)) or not data:
        raise InterchangeError(
            "a list of sub-policies is expected, each a list of (op, probability, magnitude)"
        )
    made: Triples = []
    for number, sub in enumerate(data, 1):
        if not isinstance(sub, Sequence) or isinstance(sub, (str, bytes)) or not sub:
            raise InterchangeError(f"sub-policy {number} is not a list of (op, probability, magnitude)")
        made.append([_triple(number, item) for item in sub])
    return made


def _triple(number: int, item: object) -> Triple:
    match item:
        case [str(op), int() | float() as p, magnitude] if 0 <= p <= 1:
            if magnitude is None:
                return op, float(p), 0
            if isinstance(magnitude, (int, float)) and math.isfinite(magnitude):
                return op, float(p), magnitude
    raise InterchangeError(f"sub-policy {number}: {item!r} is not (op, probability in 0 .. 1, magnitude)")


def load_fast(data: object, *, side: int | None = None) -> Policy:
    """A Fast AutoAugment list.

    Args:
        data: the list.
        side: of the images, in pixels; only ``CutoutAbs``, ``TranslateXAbs`` and ``TranslateYAbs`` need it.

    >>> load_fast([[("Contrast", 0.8, 0.75), ("Posterize", 0.2, 0.1)]]).subpolicies[0].choices[0]
    Choice(op='Contrast', probability=0.8, magnitude=0.0, parameter=1.45)
    """
    subpolicies = [
        SubPolicy(choices=tuple(_fast(op, p, level, side) for op, p, level in sub)) for sub in triples(data)
    ]
    return Policy(name="fast", subpolicies=tuple(subpolicies), bins=None, space="autoaugment")


def _fast(name: str, p: float, level: float, side: int | None) -> Choice:
    if not 0 <= level <= 1:
        raise InterchangeError(f"{name}: a magnitude of Fast AutoAugment lies in 0 .. 1, not {level}")
    if name in _ON_OFF:
        return Choice(op=_ON_OFF[name], probability=p)
    if name in _MIRRORED:
        full = OPS[name].range("autoaugment").full
        return Choice(op=name, probability=p, magnitude=tidy(abs(2 * level - 1) * _MIRRORED[name] / full))
    if name in _LINES:
        zero, full = _LINES[name]
        return Choice(op=name, probability=p, parameter=tidy(zero + (full - zero) * level))
    if name in {"Posterize", "Posterize2"}:
        bits = int(tidy(4 * level)) + (4 if name == "Posterize" else 0)
        return Choice(op="Posterize", probability=p, parameter=one_bit(bits, name))
    return _in_pixels(name, p, level, side)


def _in_pixels(name: str, p: float, level: float, side: int | None) -> Choice:
    if name not in _PIXELS:
        raise InterchangeError(f"{name}: Fast AutoAugment has no such op")
    if side is None:
        raise InterchangeError(f"{name} is in pixels: say the images' side, such as side=32 for CIFAR-10")
    op, most = _PIXELS[name]
    share = tidy(most * level / side)
    if op == "Cutout":
        return Choice(op=op, probability=p, parameter=share)
    return Choice(op=op, probability=p, magnitude=tidy(share / OPS[op].range("autoaugment").full))


def dump_fast(policy: Policy) -> Triples:
    """The Fast AutoAugment list of a policy.

    Raises:
        InterchangeError: the format has no words for a part of it; the message names it.

    >>> dump_fast(load_fast([[("Rotate", 0.5, 0.9)]]))
    [[('Rotate', 0.5, 0.9)]]
    """
    made = _dumped(policy, _to_fast)
    check_same(policy, load_fast(made))
    return made


def _to_fast(choice: Choice) -> Triple:
    p, op, value = float(choice.probability), choice.op, choice.extent  # type: ignore[arg-type]  # no schedules
    for name, ours in _ON_OFF.items():
        if op == ours:
            return name, p, 0.0
    if op not in _MIRRORED and op not in _LINES and op != "Posterize":
        raise InterchangeError(f"{op}: Fast AutoAugment has no such op")
    if not isinstance(value, (int, float)):
        raise InterchangeError(f"{op}: this format has fixed magnitudes only, not {value!r}")
    span = OPS[op].range("autoaugment")
    if choice.parameter is None:
        value = span.zero + (span.full - span.zero) * value
    if span.signed and choice.signed != (op in _MIRRORED):
        how = "mirrors it in half of the draws" if op in _MIRRORED else "does not mirror it"
        raise InterchangeError(f"{op}: this format {how}")
    if op in _MIRRORED and abs(value) > _MIRRORED[op]:
        raise InterchangeError(f"{op}: this format goes up to {_MIRRORED[op]:g}, not {abs(value):g}")
    if op in _MIRRORED:
        return op, p, tidy((1 + abs(value) / _MIRRORED[op]) / 2)
    if op == "Posterize":
        least = 4 if value >= 4 else 0  # noqa: PLR2004  (what Posterize2 is for)
        return "Posterize" if least else "Posterize2", p, tidy((round(value) - least) / 4)
    zero, full = _LINES[op]
    return op, p, tidy((value - zero) / (full - zero))


def load_autoaugment(data: object) -> Policy:
    """A list of the AutoAugment paper's kind, with magnitudes 0 .. 9, None where an op has none.

    >>> load_autoaugment([[("Rotate", 0.6, 9), ("Equalize", 0.4, None)]]).subpolicies[0].choices[0].magnitude
    1.0
    """
    subpolicies = [
        SubPolicy(choices=tuple(_paper(op, p, level) for op, p, level in sub)) for sub in triples(data)
    ]
    return Policy(name="autoaugment", subpolicies=tuple(subpolicies), bins=_BINS, space="autoaugment")


def _paper(name: str, p: float, level: float) -> Choice:
    if name not in OPS or OPS[name].code > OPS["Cutout"].code:
        raise InterchangeError(f"{name}: the AutoAugment paper has no such op")
    if not 0 <= level <= _BINS - 1:
        raise InterchangeError(f"{name}: a magnitude of AutoAugment lies in 0 .. {_BINS - 1}, not {level}")
    return Choice(op=name, probability=p, magnitude=level / (_BINS - 1) if OPS[name].has_magnitude else 0.0)


def dump_autoaugment(policy: Policy) -> list[list[tuple[str, float, int | None]]]:
    """The list of the AutoAugment paper's kind.

    Raises:
        InterchangeError: the format has no words for a part of it; the message names it.
    """
    made = _dumped(policy, _to_paper)
    check_same(policy, load_autoaugment(made))
    return [[(op, p, int(level) if OPS[op].has_magnitude else None) for op, p, level in sub] for sub in made]


def _to_paper(choice: Choice) -> Triple:
    if choice.parameter is not None or not isinstance(choice.magnitude, float):
        raise InterchangeError(f"{choice.op}: this format has magnitudes 0 .. 9 only, not {choice.extent!r}")
    level = round(choice.magnitude * (_BINS - 1))
    if abs(level - choice.magnitude * (_BINS - 1)) > 1e-9:  # noqa: PLR2004  (a rounding error)
        raise InterchangeError(f"{choice.op}: the level {choice.magnitude} is none of this format's ten")
    return choice.op, float(choice.probability), level  # type: ignore[arg-type]  # no schedules: checked before


def _dumped(policy: Policy, change: Callable[[Choice], Triple]) -> Triples:
    if policy.scheduled:
        raise InterchangeError("schedules: this format knows no epochs; take Policy.at(epoch)")
    if policy.draws != 1:
        raise InterchangeError(f"draws: this format draws one sub-policy, not {policy.draws}")
    weights = {sub.weight for sub in policy.subpolicies if not isinstance(sub.weight, Schedule)}
    if len(weights) > 1:
        raise InterchangeError(f"weights: this format draws all sub-policies equally often, not by {weights}")
    return [[change(choice) for choice in sub.choices] for sub in policy.subpolicies]
