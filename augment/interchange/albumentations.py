"""albumentations' dictionaries: what ``A.to_dict`` gives and ``A.save`` writes (2.0.8, MIT).

A pipeline becomes the list of sequences that can come about, each with its probability: ``OneOf``, ``SomeOf``,
``RandomOrder``, ``OneOrOther`` and ``Sequential`` say which. Transforms that do what one of our ops does become
that op (:mod:`augment.interchange.transforms`), with the parameter in place of a magnitude; every other one
becomes ``albumentations.NAME`` with its arguments as ``options``, for the bridge to albumentations.

Not kept: parameters of boxes and keypoints, additional targets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, combinations_with_replacement, permutations, product
from math import factorial, prod
from typing import Any

from augment.interchange import transforms
from augment.interchange.errors import InterchangeError
from augment.interchange.numbers import check_same, tidy
from augment.policy import Policy
from augment.policy.choices import Choice, SubPolicy
from augment.policy.schedule import Schedule

__all__ = ["dump", "load"]

Transform = Mapping[str, Any]
Sequences = list[tuple[float, tuple[Choice, ...]]]

_VERSION = "2.0.8"
_MOST = 1024  # sequences; beyond it a pipeline is no sensible policy


def load(data: object) -> Policy:
    """The policy of a dictionary.

    Raises:
        InterchangeError: it is none, or draws in a way that a policy cannot; the message names the transform.

    >>> flip = {"__class_fullname__": "HorizontalFlip", "p": 0.5}
    >>> compose = {"__class_fullname__": "Compose", "p": 1.0, "transforms": [flip]}
    >>> load({"__version__": "2.0.8", "transform": compose}).subpolicies[0].choices
    (Choice(op='FlipX', probability=0.5, magnitude=0.0),)
    """
    root = data.get("transform", data) if isinstance(data, Mapping) else data
    if not isinstance(root, Mapping) or "__class_fullname__" not in root:
        raise InterchangeError("a dictionary of albumentations has a `transform` with a `__class_fullname__`")
    reading = transforms.Reading()
    several = _drawn(root, reading)
    if several is None:
        sequences, draws, distinct = _merged(_expand(root, reading, forced=False)), 1, False
    else:
        sequences, draws, distinct = several
    most = max(weight for weight, _ in sequences)
    return Policy(
        name="albumentations",
        subpolicies=tuple(
            SubPolicy(choices=choices or (Choice(op="Identity"),), weight=tidy(weight / most))
            for weight, choices in sequences
        ),
        draws=draws,
        distinct=distinct,
        bins=None,
        space=reading.space,
        resampling=reading.resampling,
    )


def _name(transform: Transform) -> str:
    return str(transform["__class_fullname__"]).rsplit(".", maxsplit=1)[-1]


def _chance(transform: Transform) -> float:
    p = transform.get("p", 1.0 if _name(transform) in {"Compose", "Sequential"} else 0.5)
    if not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise InterchangeError(f"{_name(transform)}: p is {p!r}")
    return float(p)


def _children(transform: Transform) -> list[Transform]:
    children = transform.get("transforms")
    if not isinstance(children, Sequence) or not children:
        raise InterchangeError(f"{_name(transform)} without transforms")
    if not all(isinstance(child, Mapping) and "__class_fullname__" in child for child in children):
        raise InterchangeError(f"{_name(transform)}: one of its transforms has no `__class_fullname__`")
    return list(children)


def _drawn(root: Transform, reading: transforms.Reading) -> tuple[Sequences, int, bool] | None:
    """A RandomOrder alone is a policy with several draws: it need not be expanded."""
    while _name(root) in {"Compose", "Sequential"} and _chance(root) == 1 and len(_children(root)) == 1:
        root = _children(root)[0]
    if _name(root) != "RandomOrder" or _chance(root) < 1:
        return None
    sequences = []
    for child in _children(root):
        ways = _expand(child, reading, forced=False)
        if len(ways) != 1:
            return None
        sequences.append((1.0, ways[0][1]))
    replace = bool(root.get("replace", False))
    draws = int(root.get("n", 1))
    return sequences, draws if replace else min(draws, len(sequences)), not replace


def _expand(transform: Transform, reading: transforms.Reading, *, forced: bool) -> Sequences:
    """The sequences that can come about, with their probabilities, which sum to 1."""
    name = _name(transform)
    p = 1.0 if forced else _chance(transform)
    if name in {"Compose", "Sequential", "ReplayCompose"}:
        return _sometimes(p, _joined([_expand(child, reading, forced=False) for child in _children(transform)]))
    if name == "OneOf":
        pair = transforms.mirrored(_children(transform), p, reading)
        return [(1.0, (pair,))] if pair is not None else _sometimes(p, _one_of(transform, reading))
    if name in {"SomeOf", "RandomOrder"}:
        return _sometimes(_chance(transform), _some_of(transform, reading))
    if name == "OneOrOther":
        first, other = _children(transform)[0], _children(transform)[-1]
        ways = [(_chance(transform), first), (1 - _chance(transform), other)]
        return _weighed((share, _expand(child, reading, forced=True)) for share, child in ways)
    if "transforms" in transform:
        raise InterchangeError(f"{name}: a policy cannot express this composition")
    return [(1.0, (transforms.read({**transform, "__class_fullname__": name}, p, reading),))]


def _sometimes(p: float, ways: Sequences) -> Sequences:
    if p == 1:
        return ways
    if len(ways) == 1 and len(ways[0][1]) == 1:
        only = ways[0][1][0]
        assert isinstance(only.probability, float)  # noqa: S101  (no schedules come from a dictionary)
        return [(1.0, (only.model_copy(update={"probability": tidy(p * only.probability)}),))]
    return [*_weighed([(p, ways)]), (1 - p, ())]


def _weighed(parts: Iterable[tuple[float, Sequences]]) -> Sequences:
    return [(share * weight, choices) for share, ways in parts for weight, choices in ways if share > 0]


def _joined(parts: list[Sequences]) -> Sequences:
    if prod(len(part) for part in parts) > _MOST:
        raise InterchangeError(f"more than {_MOST} sequences can come about: too many for a policy")
    return [
        (prod(weight for weight, _ in ways), tuple(choice for _, choices in ways for choice in choices))
        for ways in product(*parts)
    ]


def _one_of(transform: Transform, reading: transforms.Reading) -> Sequences:
    children = _children(transform)
    total = sum(_chance(child) for child in children)
    if total == 0:
        raise InterchangeError("OneOf: all of its transforms have p=0")
    return _weighed((_chance(child) / total, _expand(child, reading, forced=True)) for child in children)


def _some_of(transform: Transform, reading: transforms.Reading) -> Sequences:
    children = [_expand(child, reading, forced=False) for child in _children(transform)]
    replace, n = bool(transform.get("replace", False)), int(transform.get("n", 1))
    n = n if replace else min(n, len(children))
    places = range(len(children))
    picks: list[tuple[float, tuple[int, ...]]]
    if _name(transform) == "RandomOrder":
        found = list(product(places, repeat=n)) if replace else list(permutations(places, n))
        picks = [(1 / len(found), pick) for pick in found]
    elif replace:
        ways = {
            pick: factorial(n) / prod(factorial(count) for count in Counter(pick).values())
            for pick in combinations_with_replacement(places, n)
        }
        picks = [(count / len(children) ** n, pick) for pick, count in ways.items()]
    else:
        subsets = list(combinations(places, n))
        picks = [(1 / len(subsets), pick) for pick in subsets]
    if len(picks) > _MOST:
        raise InterchangeError(f"{_name(transform)}: {len(picks)} selections are too many for a policy")
    return _weighed((share, _joined([children[place] for place in pick])) for share, pick in picks)


def _merged(sequences: Sequences) -> Sequences:
    """Each sequence once, those that never come about left out."""
    made: list[tuple[float, tuple[Choice, ...]]] = []
    places: dict[tuple[Choice, ...], int] = {}
    for weight, choices in sequences:
        if weight <= 0:
            continue
        if choices in places:
            place = places[choices]
            made[place] = (made[place][0] + weight, choices)
        else:
            places[choices] = len(made)
            made.append((weight, choices))
    if len(made) > _MOST:
        raise InterchangeError(f"{len(made)} sequences can come about: too many for a policy")
    return made


def dump(policy: Policy) -> dict[str, Any]:
    """The dictionary that ``albumentations.from_dict`` loads.

    Raises:
        InterchangeError: albumentations has no words for a part of the policy; the message names it.
    """
    for field, wrong in {"schedules": policy.scheduled, "draws of 0": policy.draws == 0}.items():
        if wrong:
            raise InterchangeError(f"albumentations has no {field}")
    if policy.bins is not None and any(
        isinstance(choice.extent, tuple) for sub in policy.subpolicies for choice in sub.choices
    ):
        raise InterchangeError(
            f"albumentations has no {policy.bins} bins: its ranges are drawn from continuously"
        )
    made = {"__version__": _VERSION, "transform": _composed("Compose", _body(policy), 1.0)}
    check_same(policy, load(made))
    return made


def _body(policy: Policy) -> list[dict[str, Any]]:
    sequences = [
        [transforms.write(choice, policy.space, policy.resampling) for choice in sub.choices]
        for sub in policy.subpolicies
    ]
    weights = [sub.weight for sub in policy.subpolicies if not isinstance(sub.weight, Schedule)]
    if policy.draws == 1 and len(sequences) == 1:
        return sequences[0]
    if policy.draws == 1:
        shares = [weight / max(weights) for weight in weights]
        kids = [_composed("Sequential", s, w) for s, w in zip(sequences, shares, strict=True)]
        return [_composed("OneOf", kids, 1.0)]
    if len(set(weights)) > 1:
        raise InterchangeError("albumentations draws several only with equal weights")
    kids = [_composed("Sequential", sequence, 1.0) for sequence in sequences]
    order = _composed("RandomOrder", kids, 1.0)
    return [{**order, "n": policy.draws, "replace": not policy.distinct}]


def _composed(name: str, kids: list[dict[str, Any]], p: float) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": p, "transforms": kids}
