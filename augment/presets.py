"""The published policies, as values.

AutoAugment's sub-policies are those of its paper's appendix (Cubuk et al., CVPR 2019), with the levels
0 .. 9 of its ten magnitude bins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from augment.ops import find
from augment.policy import Choice, Policy, SubPolicy

__all__ = ["DEFAULT_BINS", "PRESETS", "autoaugment", "preset", "randaugment", "trivial_augment_wide"]

# One sub-policy per field between semicolons: op, probability in tenths, level 0 .. 9 (where it has one).
_AUTOAUGMENT = {
    "imagenet": """
        Posterize 4 8, Rotate 6 9; Solarize 6 5, AutoContrast 6; Equalize 8, Equalize 6;
        Posterize 6 7, Posterize 6 6; Equalize 4, Solarize 2 4; Equalize 4, Rotate 8 8;
        Solarize 6 3, Equalize 6; Posterize 8 5, Equalize 10; Rotate 2 3, Solarize 6 8;
        Equalize 6, Posterize 4 6; Rotate 8 8, Color 4 0; Rotate 4 9, Equalize 6;
        Equalize 0, Equalize 8; Invert 6, Equalize 10; Color 6 4, Contrast 10 8;
        Rotate 8 8, Color 10 2; Color 8 8, Solarize 8 7; Sharpness 4 7, Invert 6;
        ShearX 6 5, Equalize 10; Color 4 0, Equalize 6; Equalize 4, Solarize 2 4;
        Solarize 6 5, AutoContrast 6; Invert 6, Equalize 10; Color 6 4, Contrast 10 8;
        Equalize 8, Equalize 6""",
    "cifar10": """
        Invert 1, Contrast 2 6; Rotate 7 2, TranslateX 3 9; Sharpness 8 1, Sharpness 9 3;
        ShearY 5 8, TranslateY 7 9; AutoContrast 5, Equalize 9; ShearY 2 7, Posterize 3 7;
        Color 4 3, Brightness 6 7; Sharpness 3 9, Brightness 7 9; Equalize 6, Equalize 5;
        Contrast 6 7, Sharpness 6 5; Color 7 7, TranslateX 5 8; Equalize 3, AutoContrast 4;
        TranslateY 4 3, Sharpness 2 6; Brightness 9 6, Color 2 8; Solarize 5 2, Invert 0;
        Equalize 2, AutoContrast 6; Equalize 2, Equalize 6; Color 9 9, Equalize 6;
        AutoContrast 8, Solarize 2 8; Brightness 1 3, Color 7 0; Solarize 4 5, AutoContrast 9;
        TranslateY 9 9, TranslateY 7 9; AutoContrast 9, Solarize 8 3; Equalize 8, Invert 1;
        TranslateY 7 9, AutoContrast 9""",
    "svhn": """
        ShearX 9 4, Invert 2; ShearY 9 8, Invert 7; Equalize 6, Solarize 6 6;
        Invert 9, Equalize 6; Equalize 6, Rotate 9 3; ShearX 9 4, AutoContrast 8;
        ShearY 9 8, Invert 4; ShearY 9 5, Solarize 2 6; Invert 9, AutoContrast 8;
        Equalize 6, Rotate 9 3; ShearX 9 4, Solarize 3 3; ShearY 8 8, Invert 7;
        Equalize 9, TranslateY 6 6; Invert 9, Equalize 6; Contrast 3 3, Rotate 8 4;
        Invert 8, TranslateY 0 2; ShearY 7 6, Solarize 4 8; Invert 6, Rotate 8 4;
        ShearY 3 7, TranslateX 9 3; ShearX 1 6, Invert 6; Solarize 7 2, TranslateY 6 7;
        ShearY 8 4, Invert 8; ShearX 7 9, TranslateY 8 3; ShearY 8 5, AutoContrast 7;
        ShearX 7 2, Invert 1""",
}
_TOP_LEVEL = 9
DEFAULT_BINS = 31
"""Of RandAugment and TrivialAugment."""

# RandAugment's and TrivialAugment's ops: no Invert, no Cutout.
_FOURTEEN = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color",
    "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip


def _choice(words: str) -> Choice:
    op, tenths, *level = words.split()
    return Choice(op=op, probability=int(tenths) / 10, magnitude=int(level[0]) / _TOP_LEVEL if level else 0.0)


def autoaugment(dataset: Literal["imagenet", "cifar10", "svhn"] = "imagenet") -> Policy:
    """AutoAugment's published policy for a data set (Cubuk et al., CVPR 2019).

    >>> len(autoaugment("cifar10").subpolicies)
    25
    """
    if dataset not in _AUTOAUGMENT:
        raise ValueError(f"no AutoAugment policy for {dataset!r}; there are {', '.join(_AUTOAUGMENT)}")
    subpolicies = tuple(
        SubPolicy(choices=tuple(_choice(words) for words in line.split(",")))
        for line in _AUTOAUGMENT[dataset].split(";")
    )
    return Policy(
        name=f"autoaugment-{dataset}", subpolicies=subpolicies, bins=_TOP_LEVEL + 1, space="autoaugment"
    )


def randaugment(num_ops: int = 2, magnitude: int = 9, bins: int = DEFAULT_BINS) -> Policy:
    """RandAugment (Cubuk et al., NeurIPS 2020): ``num_ops`` ops at one magnitude out of ``bins``.

    >>> randaugment(num_ops=3).draws
    3
    """
    if bins < 2:  # noqa: PLR2004  (the lowest and the highest)
        raise ValueError(f"a magnitude takes two bins or more, not {bins}")
    if not 0 <= magnitude < bins:
        raise ValueError(f"the magnitude lies in 0 .. {bins - 1}, not {magnitude}")
    level = magnitude / (bins - 1)
    return Policy(
        name=f"randaugment-{num_ops}-{magnitude}",
        subpolicies=tuple(SubPolicy(choices=(Choice(op=op, magnitude=level),)) for op in _FOURTEEN),
        draws=num_ops,
        bins=bins,
        space="autoaugment",
    )


def trivial_augment_wide(bins: int = DEFAULT_BINS) -> Policy:
    """TrivialAugment Wide (Müller and Hutter, ICCV 2021): one op, uniform, at a uniform magnitude.

    >>> trivial_augment_wide().draws
    1
    """
    subpolicies = (
        SubPolicy(choices=(Choice(op=op, magnitude=(0.0, 1.0) if find(op).has_magnitude else 0.0),))
        for op in _FOURTEEN
    )
    return Policy(name="trivial-augment-wide", subpolicies=tuple(subpolicies), bins=bins, space="wide")


PRESETS: Mapping[str, Callable[[], Policy]] = MappingProxyType(
    {
        "autoaugment": autoaugment,
        "autoaugment_imagenet": autoaugment,
        "autoaugment_cifar10": lambda: autoaugment("cifar10"),
        "autoaugment_svhn": lambda: autoaugment("svhn"),
        "randaugment": randaugment,
        "trivial_augment_wide": trivial_augment_wide,
    }
)
"""The names that a configuration may use."""


def preset(name: str) -> Policy:
    """The policy of that name in :data:`PRESETS`, or of a timm or torchvision string.

    Raises:
        ValueError: there is none; the message says which one may be meant, or what is wrong with the string.

    >>> preset("trivial_augment_wide").name
    'trivial-augment-wide'
    >>> preset("rand-m7-n3").draws
    3
    """
    from difflib import get_close_matches

    if name in PRESETS:
        return PRESETS[name]()
    from augment.interchange import named

    if (policy := named(name)) is not None:
        return policy
    close = get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(PRESETS)}, and strings of timm"
    raise ValueError(f"no policy is called {name!r}: {hint}")
