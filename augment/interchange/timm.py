"""timm's strings: ``rand-m9-mstd0.5-inc1``, ``original-mstd0.5``, ``v0``, ``3a``.

What they mean was read in timm 1.0.31 (``timm/data/auto_augment.py``, Apache-2.0), and ``w0`` in 0.4: a
magnitude is a tenth of ``m``, clipped to 0 .. 1 (``mmax`` / 10); every op of RandAugment is applied with
probability 0.5; the weighted sets are drawn without replacement. Without ``inc`` several ops weaken as m grows:
Posterize keeps ``int(0.4 m)`` bits, Solarize inverts from ``int(25.6 m)`` on, and Color, Contrast, Brightness
and Sharpness go from 0.1 to 1.9 with no mirroring; all that is kept.

Not kept: timm fills with its mean colour and draws bilinear or bicubic resampling, a policy has one resampling
and fills black; 0 bits become 1; Blur is a Gaussian, not Pillow's three boxes of the same sigma.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from augment.interchange.errors import InterchangeError, warn
from augment.interchange.numbers import BITS_FLOOR, Spread, choice_of, difference, one_bit, tidy
from augment.ops import OPS
from augment.policy import Policy
from augment.policy.choices import Choice, SubPolicy
from augment.policy.levels import Normal
from augment.policy.schedule import Schedule

__all__ = ["dump", "load", "speaks"]

_DENOMINATOR = 10.0
_UNIFORM_ABOVE = 100  # mstd beyond it means uniform
_TRANSLATE = 0.45
_RARE = 6.0  # standard deviations beyond which nothing is said
_ENHANCE = ("Color", "Contrast", "Brightness", "Sharpness")

_RAND = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
)  # fmt: skip
_INCREASING = {"Posterize", "Solarize", *_ENHANCE}
_RAND_INCREASING = tuple(f"{name}Increasing" if name in _INCREASING else name for name in _RAND)
_SETS: Mapping[str, Mapping[str, float]] = {
    "3a": dict.fromkeys(("SolarizeIncreasing", "Desaturate", "GaussianBlur"), 1.0),
    "3aw": {
        "SolarizeIncreasing": 6, "Desaturate": 6, "GaussianBlur": 6, "Rotate": 3, "ShearX": 2, "ShearY": 2,
        "PosterizeIncreasing": 1, "AutoContrast": 1, "ColorIncreasing": 1, "SharpnessIncreasing": 1,
        "ContrastIncreasing": 1, "BrightnessIncreasing": 1, "Equalize": 1, "Invert": 1,
    },
    "weights": {
        "Rotate": 3, "ShearX": 2, "ShearY": 2, "TranslateXRel": 1, "TranslateYRel": 1, "ColorIncreasing": 0.25,
        "SharpnessIncreasing": 0.25, "AutoContrast": 0.25, "SolarizeIncreasing": 0.05, "SolarizeAdd": 0.05,
        "ContrastIncreasing": 0.05, "BrightnessIncreasing": 0.05, "Equalize": 0.05, "PosterizeIncreasing": 0.05,
        "Invert": 0.05,
    },
}  # fmt: skip
_WEIGHTED = ("3aw", "weights")
# The `w0` of old releases, for the names without "Increasing"; Posterize and Invert had the weight 0.
_W0 = {
    "Rotate": 0.3, "ShearX": 0.2, "ShearY": 0.2, "TranslateXRel": 0.1, "TranslateYRel": 0.1, "Color": 0.025,
    "Sharpness": 0.025, "AutoContrast": 0.025, "Solarize": 0.005, "SolarizeAdd": 0.005, "Contrast": 0.005,
    "Brightness": 0.005, "Equalize": 0.005,
}  # fmt: skip

# Sub-policies between semicolons: op, probability in tenths, magnitude. P is the variant's Posterize.
_V0 = """
    Equalize 8 1, ShearY 8 4; Color 4 9, Equalize 6 3; Color 4 1, Rotate 6 8; Solarize 8 3, Equalize 4 7;
    Solarize 4 2, Solarize 6 2; Color 2 0, Equalize 8 8; Equalize 4 8, SolarizeAdd 8 3; ShearX 2 9, Rotate 6 8;
    Color 6 1, Equalize 10 2; Invert 4 9, Rotate 6 0; Equalize 10 9, ShearY 6 3; Color 4 7, Equalize 6 0;
    P 4 6, AutoContrast 4 7; Solarize 6 8, Color 6 9; Solarize 2 4, Rotate 8 9;
    Rotate 10 7, TranslateYRel 8 9; ShearX 0 0, Solarize 8 4; ShearY 8 0, Color 6 4; Color 10 0, Rotate 6 2;
    Equalize 8 4, Equalize 0 8; Equalize 10 4, AutoContrast 6 2; ShearY 4 7, SolarizeAdd 6 7;
    P 8 2, Solarize 6 10; Solarize 6 8, Equalize 6 1; Color 8 6, Rotate 4 5"""
_ORIGINAL = """
    P 4 8, Rotate 6 9; Solarize 6 5, AutoContrast 6 5; Equalize 8 8, Equalize 6 3; P 6 7, P 6 6;
    Equalize 4 7, Solarize 2 4; Equalize 4 4, Rotate 8 8; Solarize 6 3, Equalize 6 7; P 8 5, Equalize 10 2;
    Rotate 2 3, Solarize 6 8; Equalize 6 8, P 4 6; Rotate 8 8, Color 4 0; Rotate 4 9, Equalize 6 2;
    Equalize 0 7, Equalize 8 8; Invert 6 4, Equalize 10 8; Color 6 4, Contrast 10 8; Rotate 8 8, Color 10 2;
    Color 8 8, Solarize 8 7; Sharpness 4 7, Invert 6 8; ShearX 6 5, Equalize 10 9; Color 4 0, Equalize 6 3;
    Equalize 4 7, Solarize 2 4; Solarize 6 5, AutoContrast 6 5; Invert 6 4, Equalize 10 8;
    Color 6 4, Contrast 10 8; Equalize 8 8, Equalize 6 3"""
_POLICIES = {
    "v0": (_V0, "Posterize"),
    "v0r": (_V0, "PosterizeIncreasing"),
    "original": (_ORIGINAL, "PosterizeOriginal"),
    "originalr": (_ORIGINAL, "PosterizeIncreasing"),
    "3a": ("Solarize 10 5; Desaturate 10 10; GaussianBlurRand 10 10", ""),
}
_RENAMED = {"Desaturate": "Color", "GaussianBlur": "Blur"}
_KNOWN = ("rand", "augmix", *_POLICIES)


def speaks(text: str) -> bool:
    """Whether a string is in this language, right or wrong.

    >>> speaks("rand-m9"), speaks("randaugment")
    (True, False)
    """
    return text.split("-", maxsplit=1)[0] in _KNOWN


@dataclass(frozen=True, slots=True)
class _Rand:
    """What a ``rand`` string says."""

    m: float = _DENOMINATOR
    n: int = 2
    p: float = 0.5
    mstd: float = 0.0
    mmax: float | None = None
    inc: bool = False
    t: str = ""
    w0: bool = False

    def __str__(self) -> str:
        parts = ["rand", f"m{self.m:g}", f"n{self.n}"]
        parts += [f"p{self.p:g}"] if self.p != 0.5 else []  # noqa: PLR2004  (timm's default)
        parts += [f"mstd{_UNIFORM_ABOVE + 1 if math.isinf(self.mstd) else self.mstd:g}"] if self.mstd else []
        parts += [f"mmax{self.mmax:g}"] if self.mmax is not None else []
        parts += ["inc1"] if self.inc else []
        parts += [f"t{self.t}"] if self.t else []
        return "-".join([*parts, "w0"] if self.w0 else parts)

    @property
    def weights(self) -> Mapping[str, float]:
        if self.w0:
            return {f"{op}Increasing" if self.inc and op in _INCREASING else op: w for op, w in _W0.items()}
        if self.t in _SETS:
            return _SETS[self.t]
        return dict.fromkeys(_RAND_INCREASING if self.inc else _RAND, 1.0)


def load(text: str) -> Policy:
    """The policy of a string.

    Raises:
        InterchangeError: for a section that timm does not have either, for ``augmix``, and for the increasing
            enhancements beyond magnitude 10, where timm's two directions differ.

    >>> policy = load("rand-m9-n2-mstd0.5")
    >>> policy.draws, len(policy.subpolicies), policy.subpolicies[3].choices[0]
    (2, 15, Choice(op='Rotate', probability=0.5, magnitude=Normal(mean=0.9, std=0.05, low=None, high=None)))
    """
    kind, *sections = text.strip().split("-")
    if kind == "augmix":
        raise InterchangeError(
            f"{text!r}: AugMix blends several chains into one image, and a policy is one chain; "
            "a `rand` string with the same magnitude comes nearest"
        )
    if kind == "rand":
        return _randaugment(_rand(text, sections))
    if kind not in _POLICIES:
        raise InterchangeError(f"{text!r}: timm's strings begin with {', '.join(_KNOWN)}")
    std = 0.0
    for section in sections:
        key, value = _section(text, section)
        if key != "mstd":
            raise InterchangeError(f"{text!r}: {kind} takes mstd only, not {section!r}")
        std = value
    return _autoaugment(kind, std)


def _section(text: str, section: str) -> tuple[str, float]:
    found = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", section)
    if not found:
        raise InterchangeError(f"{text!r}: {section!r} is not letters followed by a number, such as m9")
    return found[1], float(found[2])


def _rand(text: str, sections: list[str]) -> _Rand:
    said: dict[str, object] = {}
    for section in sections:
        if section.startswith("t"):
            said["t"] = section[1:] if section[1:] in _SETS else ""
            continue
        key, value = _section(text, section)
        if key == "w" and value == 0:
            said["w0"] = True
        elif key == "mstd":
            said[key] = math.inf if value > _UNIFORM_ABOVE else value
        elif key in {"m", "mmax", "n"} and value.is_integer():
            said[key] = int(value) if key == "n" else value
        elif key == "inc":
            said[key] = value > 0
        elif key == "p" and value <= 1:
            said[key] = value
        else:
            raise InterchangeError(
                f"{text!r}: {section!r} is not a section of `rand`: m, n, p, mstd, mmax, inc, t, w0"
            )
    if said.get("mmax") == 0:
        del said["mmax"]  # as timm does
    return _Rand(**said)  # type: ignore[arg-type]  # checked above


def _randaugment(said: _Rand) -> Policy:
    top = (said.mmax or _DENOMINATOR) / _DENOMINATOR
    spread = Spread(said.m / _DENOMINATOR, said.mstd / _DENOMINATOR, top)
    subpolicies = []
    for name, weight in said.weights.items():
        choice = _choice(name, spread, said.p)
        if choice is not None:
            subpolicies.append(SubPolicy(choices=(choice,), weight=weight))
    distinct = said.w0 or said.t in _WEIGHTED
    if distinct and said.n > len(subpolicies):
        raise InterchangeError(f"{said}: {said.n} different ops of {len(subpolicies)}")
    return _policy(str(said), subpolicies, draws=said.n, distinct=distinct)


def _autoaugment(kind: str, std: float) -> Policy:
    lines, posterize = _POLICIES[kind]
    subpolicies = []
    for line in lines.split(";"):
        choices = []
        for words in line.split(","):
            name, tenths, magnitude = words.split()
            spread = Spread(int(magnitude) / _DENOMINATOR, std / _DENOMINATOR)
            choice = _choice(posterize if name == "P" else name, spread, int(tenths) / 10)
            choices += [] if choice is None else [choice]
        if choices:
            subpolicies.append(SubPolicy(choices=tuple(choices)))
    return _policy(f"{kind}-mstd{std:g}" if std else kind, subpolicies)


def _policy(name: str, subpolicies: list[SubPolicy], *, draws: int = 1, distinct: bool = False) -> Policy:
    return Policy(
        name=name, subpolicies=tuple(subpolicies), draws=draws, distinct=distinct, bins=None,
        space="autoaugment", resampling="bilinear",
    )  # fmt: skip


def _choice(name: str, spread: Spread, p: float) -> Choice | None:
    """One of timm's ops as a choice; None, and a warning, where there is none here."""
    base = name.removesuffix("Increasing").removesuffix("Original").removesuffix("Rel").removesuffix("Rand")
    op = _RENAMED.get(base, base)
    if op not in OPS:
        warn(f"{name}: no such op here; it is left out")
        return None
    if not OPS[op].has_magnitude:
        return Choice(op=op, probability=p)
    special = {"Posterize": _posterize, "Solarize": _solarize, "SolarizeAdd": _solarize, "Blur": _blur}
    if op in special:
        return special[op](name, spread, p)
    zero, full, signed = _span(name, op, spread)
    if base == "Desaturate":
        spread = Spread(spread.level, spread.std, min(spread.top, 1.0))
    return choice_of(op, spread, zero, full, signed=signed, probability=p)


def _span(name: str, op: str, spread: Spread) -> tuple[float, float, bool]:
    """The parameters at magnitude 0 and 10, and whether it is mirrored."""
    if name == "Desaturate":
        return 0.5, 0.0, False
    if op not in _ENHANCE:
        return 0.0, {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3}.get(op, _TRANSLATE), True
    if name == op:
        return 0.1, 1.9, False
    if (spread.clipped if spread.fixed else spread.top) > 1:
        raise InterchangeError(f"{name} above magnitude 10: timm's two directions differ there")
    return 1.0, 1.9, True


def _posterize(name: str, spread: Spread, p: float) -> Choice:
    rising = name == "PosterizeIncreasing"
    offset = 4 if name == "PosterizeOriginal" else 0
    if spread.fixed:
        kept = int(spread.clipped * 4)
        bits = 4 - kept if rising else kept + offset
        return Choice(op="Posterize", probability=p, parameter=one_bit(min(bits, 8), name))
    # int() cuts off, a parameter is rounded: hence half a bit of shift.
    zero, full = (4 + BITS_FLOOR, BITS_FLOOR) if rising else (offset - BITS_FLOOR, offset + 4 - BITS_FLOOR)
    choice = choice_of("Posterize", spread, zero, full, signed=False, probability=p)
    law = choice.parameter
    if isinstance(law, Normal) and round(law.low or 0) < 1:
        law = law.model_copy(update={"low": 1.0})
        assert isinstance(law.mean, float)  # noqa: S101  (made above)
        if law.mean - 1.0 < _RARE * law.std:
            one_bit(0, name)
        return choice.model_copy(update={"parameter": law})
    if isinstance(law, tuple) and round(law[0]) < 1:
        one_bit(0, name)
    return choice


def _solarize(name: str, spread: Spread, p: float) -> Choice:
    op, full, most = ("SolarizeAdd", 110, 128) if name == "SolarizeAdd" else ("Solarize", 256, 256)
    if spread.fixed:
        value = min(most, int(spread.clipped * full))
        return Choice(op=op, probability=p, parameter=256 - value if name.endswith("Increasing") else value)
    # Pixels are whole: v < floor(x) is v < x - 1 + a little, and v < 256 - floor(x) is v < 256 - x.
    shift = BITS_FLOOR if op == "SolarizeAdd" else 2 * BITS_FLOOR
    zero, end = (256.0, 0.0) if name.endswith("Increasing") else (-shift, full - shift)
    choice = choice_of(op, spread, zero, end, signed=False, probability=p)
    law = choice.parameter
    if isinstance(law, Normal) and spread.top > 1:
        law = law.within(0.0, 256.0) if op == "Solarize" else law.within(-shift, most + 0.0)
        return choice.model_copy(update={"parameter": law})
    return choice


def _blur(name: str, spread: Spread, p: float) -> Choice:
    held = Spread(min(spread.level, 1.0) if spread.fixed else spread.level, spread.std, min(spread.top, 1.0))
    if not name.endswith("Rand"):
        return choice_of("Blur", held, 0.1, 2.0, signed=False, probability=p)
    if not held.fixed:
        raise InterchangeError(f"{name}: a radius drawn up to a drawn radius")
    return Choice(op="Blur", probability=p, parameter=(0.1, tidy(2.0 * held.level)))


def dump(policy: Policy) -> str:
    """The string that means this policy.

    Raises:
        InterchangeError: there is none; the message says what differs from the nearest.

    >>> dump(load("rand-n3-m5-mstd0.5-inc1"))
    'rand-m5-n3-mstd0.5-inc1'
    """
    import warnings

    nearest, best = "", -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in _candidates(policy):
            try:
                made = load(text)
            except InterchangeError:
                continue
            missing = difference(policy, made)
            if not missing:
                return text
            same = sum(a == b for a, b in zip(policy.subpolicies, made.subpolicies, strict=False))
            if same > best:
                nearest, best = f"nearest is {text!r}, but {missing}", same
    raise InterchangeError(f"timm has no string for this policy: {nearest or 'it has no set of these ops'}")


def _candidates(policy: Policy) -> Iterator[str]:
    if speaks(policy.name):
        yield policy.name
    stds = sorted({0.0} | {std for _, std, _ in _scales(policy)} - {math.inf})
    for kind, std in product(_POLICIES, stds):
        yield f"{kind}-mstd{std:g}" if std else kind
    p = policy.subpolicies[0].choices[0].probability
    for inc, t, w0, scale in product((False, True), ("", *_SETS), (False, True), sorted(set(_scales(policy)))):
        m, std, mmax = scale
        said = _Rand(m, policy.draws, p if isinstance(p, float) else 1.0, std, mmax or None, inc, t, w0)
        if len(said.weights) >= len(policy.subpolicies):
            yield str(said)


_UNITS = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3}


def _scales(policy: Policy) -> Iterator[tuple[float, float, float]]:
    """What m, mstd and mmax may have been, by the ops that say it best."""
    for sub in policy.subpolicies:
        for choice in sub.choices:
            extent = choice.extent
            if isinstance(extent, Schedule) or extent is None:
                continue
            if choice.op in _UNITS:
                yield _scale(extent, _UNITS[choice.op] if choice.parameter is not None else 1.0)
            elif choice.op == "Solarize":
                yield _scale(_turned(extent), 256.0)


def _scale(extent: float | tuple[float, float] | Normal, unit: float) -> tuple[float, float, float]:
    def tenths(number: float) -> float:
        return round(number / unit * _DENOMINATOR, 6)

    if isinstance(extent, Normal):
        high = _DENOMINATOR if extent.high is None else tenths(extent.high)
        mean = extent.mean if isinstance(extent.mean, float) else 0.0
        return round(tenths(mean)), tenths(extent.std), 0.0 if high == _DENOMINATOR else round(high)
    if isinstance(extent, tuple):
        return round(tenths(extent[1])), math.inf, _above(tenths(extent[1]))
    return round(tenths(extent)), 0.0, _above(tenths(extent))


def _above(magnitude: float) -> float:
    return math.ceil(magnitude) if magnitude > _DENOMINATOR else 0.0


def _turned(extent: float | tuple[float, float] | Normal) -> float | tuple[float, float] | Normal:
    """A threshold as how far it lies under 256, which is what SolarizeIncreasing raises."""
    if isinstance(extent, Normal):
        mean = extent.mean if isinstance(extent.mean, float) else 0.0
        return Normal(mean=256 - mean, std=extent.std, high=256 - (extent.low or 0.0))
    return (256 - extent[1], 256 - extent[0]) if isinstance(extent, tuple) else 256 - extent
