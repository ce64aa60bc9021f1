"""Published policies for texts, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from augment.policy import Policy

__all__ = ["PRESETS", "eda", "preset", "uda"]

_EDA = ("SynonymReplacement", "RandomInsertion", "RandomSwap", "RandomDeletion")


def _level(op: str, share: float) -> float:
    from augment.text.table import BY_NAME

    full = BY_NAME[op].wide.full
    if not 0.0 <= share <= full:
        raise ValueError(f"the share of {op} lies in 0 .. {full}, not {share}")
    return share / full


def eda(alpha: float = 0.1) -> Policy:
    """EDA (Wei and Zou, EMNLP 2019): one of its four ops, on a share ``alpha`` of the words.

    >>> eda(0.05).draws
    1
    """
    return Policy(
        name=f"eda-{alpha:g}",
        subpolicies=[[{"op": op, "magnitude": _level(op, alpha)}] for op in _EDA],
        bins=None,
    )


def uda(share: float = 0.2) -> Policy:
    """Unsupervised data augmentation's word replacement (Xie et al., NeurIPS 2020).

    >>> uda().ops
    ('TfIdfSubstitute',)
    """
    op = "TfIdfSubstitute"
    return Policy(name=f"uda-{share:g}", subpolicies=[[{"op": op, "magnitude": _level(op, share)}]], bins=None)


PRESETS: Mapping[str, Callable[[], Policy]] = MappingProxyType({"eda": eda, "uda": uda})
"""The names that a configuration may use."""


def preset(name: str) -> Policy:
    """The policy of that name in :data:`PRESETS`.

    Raises:
        ValueError: there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"no policy for texts is called {name!r}: known are {', '.join(PRESETS)}")
    return PRESETS[name]()
